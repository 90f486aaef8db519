//! Traces go where the standard variables say, and an Astro call that fails can be found again.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value::Value};
use opentelemetry_proto::tonic::trace::v1::{Span, span::SpanKind, status::StatusCode};
use parking_lot::Mutex;
use prost::Message as _;
use serde_json::json;
use support::fake_astro::{Answer, Fault, Operation, SECRET_PREFIX, Times};

use crate::world::World;

/// A collector of traces that keeps what it gets.
struct Collector {
    address: SocketAddr,
    bodies: Arc<Mutex<Vec<Bytes>>>,
}

impl Collector {
    async fn start() -> Self {
        let bodies: Arc<Mutex<Vec<Bytes>>> = Arc::default();
        let keep = async |State(bodies): State<Arc<Mutex<Vec<Bytes>>>>, body: Bytes| {
            bodies.lock().push(body);
        };
        let router = Router::new()
            .route("/v1/traces", post(keep))
            .with_state(Arc::clone(&bodies));
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        tokio::spawn(async { axum::serve(listener, router).await });
        Self { address, bodies }
    }

    fn requests(&self) -> Vec<ExportTraceServiceRequest> {
        let bodies = self.bodies.lock();
        let decoded = bodies
            .iter()
            .map(|body| ExportTraceServiceRequest::decode(body.clone()));
        decoded.map(Result::unwrap).collect()
    }

    fn spans(&self) -> Vec<Span> {
        let requests = self.requests().into_iter();
        let resources = requests.flat_map(|request| request.resource_spans);
        let scopes = resources.flat_map(|resource| resource.scope_spans);
        scopes.flat_map(|scope| scope.spans).collect()
    }
}

fn attribute(attributes: &[KeyValue], key: &str) -> Option<String> {
    let found = attributes.iter().find(|attribute| attribute.key == key)?;
    Some(match found.value.as_ref()?.value.as_ref()? {
        Value::StringValue(text) => text.clone(),
        Value::IntValue(number) => number.to_string(),
        other => panic!("{other:?}"),
    })
}

async fn terminate(world: &mut World) {
    let mut operator = world.operator.take().unwrap();
    operator.terminate().unwrap();
    let ended = async {
        loop {
            if let Some(status) = operator.ended().unwrap() {
                break status;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let status = world.in_time("the operator stops", ended).await;
    assert!(status.success());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_reconcile_and_its_calls_are_one_trace_that_is_sent_before_the_end() {
    let collector = Collector::start().await;
    let mut world = World::prepare(json!({"syncInterval": "1h"})).await;
    world.environment = [
        (
            "OTEL_EXPORTER_OTLP_ENDPOINT",
            format!("http://{}", collector.address),
        ),
        // Longer than the test: what arrives is sent when the operator stops.
        ("OTEL_BSP_SCHEDULE_DELAY", "600000".to_owned()),
    ]
    .map(|(name, value)| (name.to_owned(), value))
    .to_vec();
    world.start_operator();
    world.organization_is("Connected").await;
    let refused = Fault::before(Answer::Status(403));
    world
        .astro
        .fault(Operation::CreateInvite, refused, Times::Next(1));
    world.apply("ann", "ann@example.com").await;
    world.state("ann", "TokenNotAllowed").await;
    world.edit_role("ann", "ORGANIZATION_BILLING_ADMIN").await;
    world.state("ann", "Invited").await;
    terminate(&mut world).await;

    let spans = collector.spans();
    let posts: Vec<&Span> = spans
        .iter()
        .filter(|span| span.name == "create invite")
        .collect();
    assert_eq!(posts.len(), 2);
    for (post, status) in posts.iter().zip(["403", "200"]) {
        assert_eq!(post.kind, SpanKind::Client as i32);
        let answered = attribute(&post.attributes, "http.response.status_code");
        assert_eq!(answered.as_deref(), Some(status));
        let failed = post
            .status
            .as_ref()
            .is_some_and(|status| status.code == StatusCode::Error as i32);
        assert_eq!(failed, status == "403");
        let parents: Vec<&Span> = spans
            .iter()
            .filter(|span| span.span_id == post.parent_span_id)
            .collect();
        let [parent] = parents.as_slice() else {
            panic!("{parents:?}");
        };
        assert_eq!(parent.name, "reconcile");
        assert_eq!(parent.trace_id, post.trace_id);
        assert!(parent.parent_span_id.is_empty());
        for (key, value) in [
            ("object.kind", "OrgInvite"),
            ("object.name", "ann"),
            ("object.namespace", &world.namespace),
        ] {
            assert_eq!(attribute(&parent.attributes, key).as_deref(), Some(value));
        }
    }
    let list = spans.iter().find(|span| span.name == "list users").unwrap();
    let pass = spans
        .iter()
        .find(|span| span.span_id == list.parent_span_id)
        .unwrap();
    assert_eq!(pass.name, "directory_pass");
    assert_eq!(
        attribute(&pass.attributes, "organization").as_ref(),
        Some(&world.organization)
    );
    let resource = collector
        .requests()
        .remove(0)
        .resource_spans
        .remove(0)
        .resource
        .unwrap();
    assert_eq!(
        attribute(&resource.attributes, "service.name").as_deref(),
        Some("orginvite-operator")
    );

    // The name that a support case needs is on the failed call, and on its line of the log.
    let request = attribute(&posts[0].attributes, "astro.request_id").unwrap();
    let lines: Vec<serde_json::Value> = world
        .log()
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let line = lines
        .iter()
        .find(|line| line["request_id"] == request.as_str())
        .unwrap();
    assert_eq!(
        (&line["operation"], &line["status"], &line["level"]),
        (&json!("create invite"), &json!(403), &json!("INFO"))
    );
    assert_eq!(attribute(&posts[1].attributes, "astro.request_id"), None);

    for body in collector.bodies.lock().iter() {
        let text = String::from_utf8_lossy(body);
        assert!(!text.contains("@example.com") && !text.contains(SECRET_PREFIX));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_collector_that_is_away_harms_nothing() {
    let mut world = World::prepare(json!({})).await;
    world.environment = [
        ("OTEL_EXPORTER_OTLP_ENDPOINT", "http://127.0.0.1:1"),
        ("OTEL_BSP_SCHEDULE_DELAY", "50"),
    ]
    .map(|(name, value)| (name.to_owned(), value.to_owned()))
    .to_vec();
    world.start_operator();
    world.organization_is("Connected").await;
    world.apply("ann", "ann@example.com").await;
    world.state("ann", "Invited").await;
    world
        .until("the log tells", || {
            world.log().contains("BatchSpanProcessor.ExportError")
        })
        .await;
    assert_eq!(world.astro.emails_to("ann@example.com"), 1);
    terminate(&mut world).await;
}
