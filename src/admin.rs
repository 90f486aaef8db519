//! What the process tells over HTTP: `/livez`, `/readyz` and `/metrics`.

use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use axum::Router;
use axum::extract::State;
use axum::http::header::{ACCEPT, CONTENT_TYPE};
use axum::http::{HeaderMap, StatusCode};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use prometheus_client::encoding::{prometheus_text, text};
use prometheus_client::registry::Registry;
use tokio::net::TcpListener;

use crate::reconcile::cache::{Filled, Kind};

const OPEN_METRICS: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";
const PROMETHEUS: &str = "text/plain; version=0.0.4; charset=utf-8";

/// What the server tells.
pub struct Admin {
    /// The caches that the process needs to be ready.
    pub filled: Arc<Filled>,
    /// What is scraped.
    pub registry: Registry,
}

/// Takes the address.
pub async fn bind(address: SocketAddr) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await?;
    let address = listener.local_addr()?;
    tracing::info!(%address, "serving /livez, /readyz and /metrics");
    Ok(listener)
}

/// Answers for ever.
pub fn serve(listener: TcpListener, admin: Admin) -> impl Future<Output = ()> {
    let router = Router::new()
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .with_state(Arc::new(admin));
    async {
        // It retries what goes wrong with a connection and never ends.
        axum::serve(listener, router).await.ok();
    }
}

/// The process lives; whether Kubernetes and Astro answer does not get better by a restart.
async fn livez() -> &'static str {
    "ok\n"
}

/// The caches are filled. Of replicas that stand by, too: they take over at any time.
async fn readyz(State(admin): State<Arc<Admin>>) -> (StatusCode, String) {
    let mut status = StatusCode::OK;
    let mut lines = String::new();
    for kind in Kind::ALL {
        let line = if admin.filled.is(kind) {
            format!("[+]{} synced\n", kind.plural())
        } else {
            status = StatusCode::SERVICE_UNAVAILABLE;
            format!("[-]{} not synced\n", kind.plural())
        };
        lines.push_str(&line);
    }
    (status, lines)
}

async fn metrics(State(admin): State<Arc<Admin>>, headers: HeaderMap) -> Response {
    let accepted = headers.get(ACCEPT).and_then(|accept| accept.to_str().ok());
    let old = accepted
        .is_some_and(|accept| !accept.contains("openmetrics") && accept.contains("text/plain"));
    let mut body = String::new();
    let (kind, outcome) = if old {
        (
            PROMETHEUS,
            prometheus_text::encode(&mut body, &admin.registry),
        )
    } else {
        (OPEN_METRICS, text::encode(&mut body, &admin.registry))
    };
    match outcome {
        Ok(()) => ([(CONTENT_TYPE, kind)], body).into_response(),
        Err(error) => {
            tracing::error!(%error, "the metrics cannot be written");
            StatusCode::INTERNAL_SERVER_ERROR.into_response()
        }
    }
}
