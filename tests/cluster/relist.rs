//! Watches that the API server does not resume: what happened meanwhile shows in a new list only.

use std::collections::HashSet;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::body::{Body, to_bytes};
use axum::extract::{Request, State};
use axum::response::Response;
use futures::StreamExt as _;
use futures::future::join_all;
use http::StatusCode;
use http::header::{CONTENT_TYPE, HOST};
use kube::api::{DeleteParams, Patch, PatchParams};
use kube::{Api, Client};
use orginvite_operator::resources::{OrgInvite, Organization};
use parking_lot::Mutex;
use serde_json::json;
use tokio::net::TcpListener;
use tokio::sync::watch;

use crate::world::World;

/// More than a page of a list has.
const PEOPLE: u32 = 40;

/// A way to the API server on which watches end and cannot be resumed.
struct Way {
    address: SocketAddr,
    state: Arc<Passage>,
}

struct Passage {
    client: Client,
    /// Whether nothing is listed or watched just now.
    closed: watch::Sender<bool>,
    /// What was not watched since.
    missed: Mutex<HashSet<String>>,
    /// Objects of which one goes after each list of OrgInvites, before it is answered.
    passing: Mutex<Vec<String>>,
    namespace: String,
}

impl Way {
    /// Requests go on as those of the client's user.
    async fn of(client: Client, namespace: &str) -> Self {
        let state = Arc::new(Passage {
            client,
            closed: watch::Sender::new(false),
            missed: Mutex::default(),
            passing: Mutex::default(),
            namespace: namespace.to_owned(),
        });
        let router = axum::Router::new()
            .fallback(pass)
            .with_state(Arc::clone(&state));
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async move { axum::serve(listener, router).await });
        Self { address, state }
    }

    /// Ends what is watched. Nothing is listed or watched before [`Way::open`].
    fn close(&self) {
        let watched = ["organizations", "orginvites"];
        let paths = watched.map(|one| format!("/apis/iam.astronomer.io/v1alpha1/{one}"));
        self.state.missed.lock().extend(paths);
        self.state.closed.send_replace(true);
    }

    /// Lets all pass again.
    fn open(&self) {
        self.state.closed.send_replace(false);
    }

    /// Whether somebody was told that a watch cannot be resumed, of each kind.
    fn told(&self) -> bool {
        self.state.missed.lock().is_empty()
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
}

async fn pass(State(state): State<Arc<Passage>>, request: Request) -> Response {
    let (mut parts, body) = request.into_parts();
    let path = parts.uri.path().to_owned();
    let watches = parts.uri.query().unwrap_or_default().contains("watch=true");
    let collection = path.ends_with("/orginvites") || path.ends_with("/organizations");
    let mut closed = state.closed.subscribe();
    if collection && parts.method == http::Method::GET {
        closed.wait_for(|closed| !closed).await.unwrap();
        if watches && state.missed.lock().remove(&path) {
            let gone = json!({"type": "ERROR", "object": {
                "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
                "message": "too old resource version: 1 (2)", "reason": "Expired", "code": 410,
            }});
            let answer = Response::builder().header(CONTENT_TYPE, "application/json");
            return answer.body(Body::from(format!("{gone}\n"))).unwrap();
        }
    }
    // The client has the API server's own.
    parts.headers.remove(HOST);
    let body = to_bytes(body, usize::MAX).await.unwrap();
    let request = http::Request::from_parts(parts, kube::client::Body::from(body.to_vec()));
    let Ok(answer) = state.client.send(request).await else {
        let answer = Response::builder().status(StatusCode::BAD_GATEWAY);
        return answer.body(Body::empty()).unwrap();
    };
    let answer = answer.map(Body::new);
    if !watches {
        if path.ends_with("/orginvites") {
            state.one_passes().await;
        }
        return answer;
    }
    answer.map(|body| {
        let ended = async move { closed.wait_for(|closed| *closed).await.map(|_| ()) };
        Body::from_stream(body.into_data_stream().take_until(Box::pin(ended)))
    })
}

async fn start(spec: serde_json::Value) -> (World, Way) {
    let mut world = World::prepare(spec).await;
    let way = Way::of(world.client_in_masters().await, &world.namespace).await;
    world.start_operator_through(way.address);
    world.organization_is("Connected").await;
    (world, way)
}

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_nobody_watched_is_seen_to_after_a_list_of_several_pages() {
    let (world, way) = start(json!({})).await;
    let name = |number: u32| format!("p{number}");
    join_all((0..PEOPLE).map(|number| {
        let world = &world;
        async move {
            world
                .apply(&name(number), &format!("p{number}@example.com"))
                .await;
            world.state(&name(number), "Invited").await;
        }
    }))
    .await;
    world.apply("twin", "p0@example.com").await;
    world.state("twin", "Conflict").await;

    way.close();
    // One goes, one comes, one is edited, and one is to go.
    let api = world.invites();
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("p0", &PatchParams::default(), &free)
        .await
        .unwrap();
    api.delete("p0", &DeleteParams::default()).await.unwrap();
    world.apply("new", "new@example.com").await;
    world.edit_role("p1", "ORGANIZATION_OBSERVE_MEMBER").await;
    api.delete("p2", &DeleteParams::default()).await.unwrap();
    way.open();

    world.state("twin", "Invited").await;
    world.state("new", "Invited").await;
    world
        .until("the role is replaced", || {
            world.astro.emails_to("p1@example.com") == 2
        })
        .await;
    world
        .until("the invitation is taken back", || {
            world.astro.live_invites("p2@example.com").is_empty()
        })
        .await;
    world.until("both are told", || way.told()).await;
    assert_eq!(
        world.astro.emails_to("p0@example.com"),
        1,
        "it is taken over"
    );
    assert_eq!(world.astro.emails().values().sum::<u32>(), PEOPLE + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_went_while_nobody_watched_is_gone() {
    let (world, way) = start(json!({})).await;
    let owner = world.manifest("boss", "boss@example.com", "ORGANIZATION_OWNER");
    world.create(&owner).await;
    world.state("boss", "NotPermitted").await;

    way.close();
    let api: Api<Organization> = Api::all(world.client.clone());
    api.delete(&world.organization, &DeleteParams::default())
        .await
        .unwrap();
    world
        .edit_organization(json!({"metadata": {"finalizers": null}}))
        .await;
    way.open();

    world.state("boss", "OrganizationNotFound").await;
    world.until("both are told", || way.told()).await;
}

/// Whoever creates and deletes objects all the time would keep a new leader from planning anything.
#[tokio::test(flavor = "multi_thread")]
async fn deletions_that_go_on_hold_no_new_leader_up() {
    let (mut world, way) = start(json!({})).await;
    let names: Vec<String> = (0..PEOPLE).map(|number| format!("p{number}")).collect();
    for name in &names {
        // Nothing holds what is not allowed.
        let email = format!("{name}@example.com");
        let object = world.manifest(name, &email, "ORGANIZATION_OWNER");
        world.create(&object).await;
    }
    world.kill_operator();
    world.apply("jane", "jane@example.com").await;
    *way.state.passing.lock() = names;
    world.start_operator_through(way.address);
    world.state("jane", "Invited").await;
    let passing = way.state.passing.lock().len();
    assert!(passing > 0, "otherwise it may have waited for the end");
}
