//! The operator's way to the API server: a real client over the one in memory.

use std::sync::Arc;

use http::{Method, Request, Response};
use kube::Client;
use kube::client::Body;
use orginvite_operator::resources::org_invite::ATTEMPT_ANNOTATION;
use serde_json::{Value, json};
use tower::BoxError;

use crate::api_server::{Key, Refusal, Write, not_found};
use crate::network::{Call, Failure, send};
use crate::world::{State, World};

/// A client of the process `who`.
pub fn client(world: &Arc<World>, who: &str) -> Client {
    let world = Arc::clone(world);
    let who = who.to_owned();
    let service = tower::service_fn(move |request: Request<Body>| {
        let world = Arc::clone(&world);
        let who = who.clone();
        // On its way at once, whoever waits for the answer.
        let answer = tokio::spawn(async move { answer(&world, who, request).await });
        async move { answer.await? }
    });
    Client::new(service, "default")
}

async fn answer(
    world: &Arc<World>,
    who: String,
    request: Request<Body>,
) -> Result<Response<Body>, BoxError> {
    let (parts, body) = request.into_parts();
    let body = body.collect_bytes().await?;
    let path: Vec<&str> = parts.uri.path().trim_matches('/').split('/').collect();
    let (key, status) = match path.as_slice() {
        [
            "apis",
            "iam.astronomer.io",
            "v1alpha1",
            "namespaces",
            namespace,
            "orginvites",
            name,
            rest @ ..,
        ] => (
            ((*namespace).to_owned(), (*name).to_owned()),
            !rest.is_empty(),
        ),
        [.., kind @ ("orginvites" | "organizations" | "namespaces")] => {
            let kind = (*kind).to_owned();
            let list = send(world, Call::Read, move |state| Ok(list(state, &kind)));
            return heard(list.await);
        }
        // Whatever else it writes, such as events: taken and forgotten.
        _ => return ok(&serde_json::from_slice(&body).unwrap_or(Value::Null)),
    };
    let outcome = if [Method::PATCH, Method::PUT].contains(&parts.method) {
        let call = classify(status, &body);
        let write = if parts.method == Method::PUT {
            Write::Status(serde_json::from_slice(&body)?)
        } else {
            Write::Patch(serde_json::from_slice(&body)?)
        };
        send(world, call, move |state| {
            state.operator_writes(&who, call, &key, status, write)
        })
        .await
    } else {
        send(world, Call::Read, move |state| read(state, &key)).await
    };
    heard(outcome)
}

fn heard(outcome: Result<Result<Value, Refusal>, Failure>) -> Result<Response<Body>, BoxError> {
    match outcome {
        Ok(Ok(object)) => ok(&object),
        Ok(Err(refusal)) => refuse(&refusal),
        Err(Failure::Status(status)) => refuse(&Refusal(
            status,
            "ServiceUnavailable",
            "the server is not able to handle the request".to_owned(),
        )),
        Err(Failure::Silence) => Err("the connection broke".into()),
    }
}

/// What a patch does, by what is in it.
fn classify(status: bool, body: &[u8]) -> Call {
    if status {
        return Call::WriteStatus;
    }
    let patch: Value = serde_json::from_slice(body).unwrap_or_default();
    if patch["metadata"]["annotations"][ATTEMPT_ANNOTATION].is_string() {
        Call::PatchAttempt
    } else if patch["metadata"]["finalizers"] == json!([]) {
        Call::PatchRelease
    } else {
        Call::PatchHold
    }
}

fn read(state: &mut State, key: &Key) -> Result<Value, Refusal> {
    state
        .api
        .get(key)
        .map(|object| json!(object))
        .ok_or_else(|| not_found(key))
}

/// The metadata of all objects of a kind. Of Organizations and namespaces there is one each, always the
/// same.
fn list(state: &State, kind: &str) -> Value {
    let metadata: Vec<Value> = match kind {
        "orginvites" => state
            .api
            .all()
            .map(|object| json!(object.metadata))
            .collect(),
        "organizations" => {
            vec![json!({"name": "default", "uid": "organization", "resourceVersion": "1"})]
        }
        _ => vec![json!({"name": "team", "uid": "team", "resourceVersion": "1"})],
    };
    let items: Vec<Value> = metadata
        .into_iter()
        .map(|metadata| json!({"metadata": metadata}))
        .collect();
    json!({
        "apiVersion": "meta.k8s.io/v1", "kind": "PartialObjectMetadataList",
        "metadata": {"resourceVersion": state.api.version().to_string()},
        "items": items,
    })
}

fn ok(object: &Value) -> Result<Response<Body>, BoxError> {
    Ok(Response::builder()
        .status(200)
        .body(Body::from(serde_json::to_vec(object)?))?)
}

fn refuse(Refusal(status, reason, message): &Refusal) -> Result<Response<Body>, BoxError> {
    let body = json!({
        "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure",
        "message": message, "reason": reason, "code": status,
    });
    Ok(Response::builder()
        .status(*status)
        .body(Body::from(serde_json::to_vec(&body)?))?)
}
