//! From a plan's state to the status that says so.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

use crate::plan::{Saying, State};
use crate::resources::conditions::{self, Claim};
use crate::resources::{OrgInviteStatus, Reason};

/// A time as a status holds it: whole seconds, like every time of the Kubernetes API, so that what is
/// read back is what was written.
#[must_use]
pub fn time(time: Timestamp) -> Time {
    Time(Timestamp::from_second(time.as_second()).unwrap_or(time))
}

/// The status that says `state`, starting from what is recorded. `blind`: the token may not list
/// users, so that nobody can tell whether a person accepted.
#[must_use]
pub fn status(
    recorded: &OrgInviteStatus,
    state: &State,
    blind: bool,
    generation: i64,
    now: Timestamp,
) -> OrgInviteStatus {
    let mut status = OrgInviteStatus {
        planned_action: None,
        ..recorded.clone()
    };
    let accepted = |value, reason, message: &str| Claim {
        kind: "Accepted",
        status: value,
        reason,
        message: message.to_owned(),
    };
    let claim = |kind, value, saying: &Saying| Claim {
        kind,
        status: value,
        reason: saying.reason,
        message: saying.message.clone(),
    };
    let pending = if blind {
        accepted(
            "Unknown",
            Reason::NotVisible,
            "The token may not list users, so that nobody can tell whether the person accepted",
        )
    } else {
        accepted(
            "False",
            Reason::Pending,
            "The person has not accepted the invitation yet",
        )
    };
    let claims = match state {
        State::Unchanged => return status,
        State::Invited => {
            let message = status.expires_at.as_ref().map_or_else(
                || "The invitation is out".to_owned(),
                |time| format!("The invitation is out and expires at {}", time.0),
            );
            vec![
                Claim {
                    kind: "Ready",
                    status: "True",
                    reason: Reason::Invited,
                    message,
                },
                pending,
            ]
        }
        State::Member { user_id, saying } => {
            status.user_id = Some(user_id.clone());
            vec![
                claim("Ready", "True", saying),
                accepted(
                    "True",
                    Reason::Member,
                    "The person is a member of the organization",
                ),
            ]
        }
        State::Progressing(saying) => {
            let mut claims = vec![
                claim("Ready", "False", saying),
                claim("Reconciling", "True", saying),
            ];
            claims.extend(status.invite_id.is_some().then_some(pending));
            claims
        }
        State::Stalled(saying) | State::Gone(saying) => {
            let mut claims = vec![
                claim("Ready", "False", saying),
                claim("Stalled", "True", saying),
            ];
            claims.extend(status.invite_id.is_some().then_some(pending));
            claims
        }
        State::Obscured(saying) => {
            return obscured(status, saying, generation, now);
        }
    };
    status.gone_since = match state {
        State::Gone(_) => status.gone_since.or_else(|| Some(time(now))),
        State::Invited | State::Member { .. } => None,
        // Nothing that is said meanwhile brings it back.
        _ => status.gone_since,
    };
    let settled = !matches!(state, State::Progressing(_));
    if settled {
        status.observed_generation = generation;
    }
    status.conditions = conditions::merge(&recorded.conditions, &claims, generation, now);
    status
}

/// The last truth holds until the invitation expires; then nobody knows.
fn obscured(
    mut status: OrgInviteStatus,
    saying: &Saying,
    generation: i64,
    now: Timestamp,
) -> OrgInviteStatus {
    let expired = status.expires_at.as_ref().is_some_and(|time| time.0 < now);
    let mut kept: Vec<_> = status
        .conditions
        .iter()
        .filter(|condition| {
            condition.type_ == "Accepted"
                || (condition.type_ == "Ready" && condition.status == "True" && !expired)
        })
        .cloned()
        .collect();
    let mut claims = vec![Claim {
        kind: "Reconciling",
        status: "True",
        reason: saying.reason,
        message: saying.message.clone(),
    }];
    if !kept.iter().any(|condition| condition.type_ == "Ready") {
        claims.insert(
            0,
            Claim {
                kind: "Ready",
                status: "Unknown",
                reason: saying.reason,
                message: saying.message.clone(),
            },
        );
    }
    kept.extend(conditions::merge(
        &status.conditions,
        &claims,
        generation,
        now,
    ));
    kept.sort_by_key(|condition| {
        ["Ready", "Reconciling", "Stalled", "Accepted"]
            .iter()
            .position(|kind| *kind == condition.type_)
    });
    status.conditions = kept;
    status
}
