//! A way to the API server on which requests are seen, held up and refused.

use std::collections::{HashMap, HashSet};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use http::header::{ACCEPT, CONTENT_LENGTH, CONTENT_TYPE, HOST, RETRY_AFTER};
use http::request::Parts;
use http::{Method, StatusCode};
use kube::api::DeleteParams;
use kube::{Api, Client};
use orginvite_operator::resources::OrgInvite;
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::world::World;

/// What an operator asks of the API server passes here.
pub struct Way {
    pub address: SocketAddr,
    state: Arc<Passage>,
}

/// Which requests are meant.
pub type Which = fn(&Parts) -> bool;

struct Passage {
    client: Client,
    /// What is not watched just now, by the plural.
    closed: watch::Sender<&'static [&'static str]>,
    /// What was not watched since.
    missed: Mutex<HashSet<&'static str>>,
    /// Objects of which one goes after each list of OrgInvites, before it is answered.
    passing: Mutex<Vec<String>>,
    /// Which requests wait, and how many do.
    held: watch::Sender<Option<Which>>,
    waiting: watch::Sender<usize>,
    /// Whether finalizers of Organizations are removed as they are set.
    strips: AtomicBool,
    /// How many more patches of OrgInvites are refused.
    refusals: Mutex<u32>,
    /// What each list and watch asked to be answered with, by its path.
    accepts: Mutex<HashMap<String, HashSet<String>>>,
    namespace: String,
}

impl Way {
    /// A world whose operator has only this way.
    pub async fn start() -> (World, Self) {
        Self::start_with(&[]).await
    }

    /// The same with more options.
    pub async fn start_with(more: &[&str]) -> (World, Self) {
        let mut world = World::prepare(json!({})).await;
        let way = Self::of(&world).await;
        world.start_operator_through(way.address, more);
        world.organization_is("Connected").await;
        (world, way)
    }

    /// Requests go on as those of the world's operator.
    pub async fn of(world: &World) -> Self {
        let state = Arc::new(Passage {
            client: world.client_in_masters().await,
            closed: watch::Sender::new(&[]),
            missed: Mutex::default(),
            passing: Mutex::default(),
            held: watch::Sender::new(None),
            waiting: watch::Sender::new(0),
            strips: AtomicBool::new(false),
            refusals: Mutex::default(),
            accepts: Mutex::default(),
            namespace: world.namespace.clone(),
        });
        let router = axum::Router::new()
            .fallback(pass)
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    /// Ends what is watched. Nothing is watched before [`Way::open`], and then no watch is resumed.
    pub fn close(&self) {
        self.close_only(&["organizations", "orginvites"]);
    }

    /// The same for some of them.
    pub fn close_only(&self, watched: &'static [&'static str]) {
        self.state.missed.lock().extend(watched);
        self.state.closed.send_replace(watched);
    }

    /// Lets all pass again.
    pub fn open(&self) {
        self.state.closed.send_replace(&[]);
    }

    /// Whether somebody was told that a watch cannot be resumed, of each kind.
    pub fn told(&self) -> bool {
        self.state.missed.lock().is_empty()
    }

    /// One of these OrgInvites goes after each list of them, before it is answered.
    pub fn delete_after_lists(&self, names: Vec<String>) {
        *self.state.passing.lock() = names;
    }

    /// How many of them there are still.
    pub fn to_delete(&self) -> usize {
        self.state.passing.lock().len()
    }

    /// Such requests wait from now on.
    pub fn hold(&self, which: Which) {
        self.state.held.send_replace(Some(which));
    }

    /// How many wait.
    pub fn held(&self) -> usize {
        *self.state.waiting.borrow()
    }

    /// They go on.
    pub fn release(&self) {
        self.state.held.send_replace(None);
    }

    /// Finalizers of Organizations are removed as they are set, as by an admission webhook.
    pub fn strip_finalizers(&self) {
        self.state.strips.store(true, Ordering::Relaxed);
    }

    /// So many patches of OrgInvites are answered as by an API server that is busy.
    pub fn refuse_writes(&self, times: u32) {
        *self.state.refusals.lock() = times;
    }

    /// How many of them are still to come.
    pub fn to_refuse(&self) -> u32 {
        *self.state.refusals.lock()
    }

    /// What the lists and watches of that path asked to be answered with.
    pub fn accepted(&self, path: &str) -> HashSet<String> {
        self.state
            .accepts
            .lock()
            .get(path)
            .cloned()
            .unwrap_or_default()
    }
}

impl Passage {
    async fn one_passes(&self) {
        let next = self.passing.lock().pop();
        if let Some(name) = next {
            let api: Api<OrgInvite> = Api::namespaced(self.client.clone(), &self.namespace);
            api.delete(&name, &DeleteParams::default()).await.unwrap();
            // Longer than a watch takes to show it.
            tokio::time::sleep(Duration::from_millis(500)).await;
        }
    }

    /// Waits while such requests are held.
    async fn hold(&self, request: &Parts) {
        let mut held = self.held.subscribe();
        if (*held.borrow_and_update()).is_some_and(|which| which(request)) {
            self.waiting.send_modify(|waiting| *waiting += 1);
            held.wait_for(Option::is_none).await.unwrap();
            self.waiting.send_modify(|waiting| *waiting -= 1);
        }
    }

    fn refuses(&self) -> bool {
        let mut left = self.refusals.lock();
        let refuses = *left > 0;
        *left = left.saturating_sub(1);
        refuses
    }

    fn note(&self, request: &Parts) {
        if let Some(accept) = request.headers.get(ACCEPT) {
            let path = request.uri.path().to_owned();
            let accept = accept.to_str().unwrap().to_owned();
            self.accepts.lock().entry(path).or_default().insert(accept);
        }
    }
}

pub fn is_write_to_an_org_invite(request: &Parts) -> bool {
    [Method::PATCH, Method::PUT].contains(&request.method)
        && request.uri.path().contains("/orginvites/")
}

async fn pass(State(state): State<Arc<Passage>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let plural = path.rsplit('/').next().unwrap_or_default().to_owned();
    let watches = parts.uri.query().unwrap_or_default().contains("watch=true");
    let mut closed = state.closed.subscribe();
    if parts.method == Method::GET {
        state.note(&parts);
    }
    state.hold(&parts).await;
    if watches {
        let is_open = |closed: &&[&str]| !closed.contains(&plural.as_str());
        closed.wait_for(is_open).await.unwrap();
        if state.missed.lock().remove(plural.as_str()) {
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
            }});
            let answer = Response::builder().header(CONTENT_TYPE, "application/json");
            return answer.body(Body::from(format!("{gone}\n"))).unwrap();
        }
    }
    if is_write_to_an_org_invite(&parts) && state.refuses() {
        let answer = Response::builder().status(StatusCode::SERVICE_UNAVAILABLE);
        return answer.header(RETRY_AFTER, "1").body(Body::empty()).unwrap();
    }
    // The client has the API server's own.
    parts.headers.remove(HOST);
    let mut body = to_bytes(body, usize::MAX).await.unwrap();
    if state.strips.load(Ordering::Relaxed)
        && parts.method == Method::PATCH
        && path.contains("/organizations/")
    {
        let mut patch: Value = serde_json::from_slice(&body).unwrap();
        if patch["metadata"]["finalizers"].is_array() {
            patch["metadata"]["finalizers"] = json!([]);
            parts.headers.remove(CONTENT_LENGTH);
            body = patch.to_string().into();
        }
    }
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let Ok(answer) = state.client.send(request).await else {
        let answer = Response::builder().status(StatusCode::BAD_GATEWAY);
        return answer.body(Body::empty()).unwrap();
    };
    let answer = answer.map(Body::new);
    if !watches {
        if plural == "orginvites" {
            state.one_passes().await;
        }
        return answer;
    }
    answer.map(|body| {
        let ended = async move {
            let is_closed = |closed: &&[&str]| closed.contains(&plural.as_str());
            closed.wait_for(is_closed).await.map(|_| ())
        };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)))
    })
}
