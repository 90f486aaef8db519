//! The fake's controls over HTTP, for poking it with curl.

use std::time::Duration;

use axum::{
    Json, Router,
    extract::{Path, State},
    http::StatusCode,
    routing::{get, post},
};
use serde::Deserialize;
use serde_json::{Value, json};

use super::{
    Control,
    faults::{Answer, Fault, HoldPoint, Target, Times},
    journal::Operation,
};

/// What POST `/fake/faults` takes, such as
/// `{"operation": "CreateInvite", "when": "afterEffect", "answer": {"status": 500}, "times": 1}`.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct NewFault {
    /// Every operation when absent.
    operation: Option<Operation>,
    when: HoldPoint,
    answer: Option<Answer>,
    delay_ms: Option<u64>,
    /// Until cleared when absent.
    times: Option<u32>,
}

pub(super) fn routes(control: Control) -> Router {
    Router::new()
        .route(
            "/emails",
            get(async |State(control): State<Control>| Json(control.emails())),
        )
        .route(
            "/invites",
            get(async |State(control): State<Control>| Json(control.invites())),
        )
        .route(
            "/users",
            get(async |State(control): State<Control>| Json(control.users())),
        )
        .route(
            "/calls",
            get(async |State(control): State<Control>| Json(control.calls())),
        )
        .route(
            "/violations",
            get(async |State(control): State<Control>| Json(control.violations())),
        )
        .route("/invites/{id}/{action}", post(act))
        .route("/faults", post(add_fault).delete(clear_faults))
        .with_state(control)
}

async fn act(
    State(control): State<Control>,
    Path((id, action)): Path<(String, String)>,
) -> (StatusCode, Json<Value>) {
    let done = match action.as_str() {
        "accept" => control.accept(&id),
        "reject" => control.reject(&id),
        "revoke" => control.revoke(&id),
        "expire" => control.expire(&id),
        _ => Err(anyhow::anyhow!(
            "no such action: accept, reject, revoke, expire"
        )),
    };
    match done {
        Ok(()) => (StatusCode::OK, Json(json!(control.invite(&id)))),
        Err(error) => (
            StatusCode::BAD_REQUEST,
            Json(json!({"message": error.to_string()})),
        ),
    }
}

async fn add_fault(State(control): State<Control>, Json(new): Json<NewFault>) -> StatusCode {
    let target = new.operation.map_or(Target::Every, Target::Only);
    let times = new.times.map_or(Times::UntilCleared, Times::Next);
    if let Some(delay) = new.delay_ms {
        control.fault(
            target,
            Fault::Delay(new.when, Duration::from_millis(delay)),
            times,
        );
    }
    if let Some(answer) = new.answer {
        control.fault(target, Fault::Answer(new.when, answer), times);
    }
    StatusCode::NO_CONTENT
}

async fn clear_faults(State(control): State<Control>) -> StatusCode {
    control.clear_faults();
    StatusCode::NO_CONTENT
}
