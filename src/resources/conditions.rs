//! Conditions after the kstatus conventions: `Ready` always, `Reconciling` and `Stalled` only while
//! they are true.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::Reason;

/// A condition without its times: what a plan says.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Claim {
    /// `Ready`, `Reconciling`, `Stalled`, `Accepted` or `Suspicious`.
    pub kind: &'static str,
    /// `True`, `False` or `Unknown`.
    pub status: &'static str,
    /// Why.
    pub reason: Reason,
    /// What is so, what happens next, and what the user can do.
    pub message: String,
}

/// The conditions for `claims`, in the order given. A condition's transition time changes only when
/// its status does.
#[must_use]
pub fn merge(
    recorded: &[Condition],
    claims: &[Claim],
    generation: i64,
    now: Timestamp,
) -> Vec<Condition> {
    claims
        .iter()
        .map(|claim| {
            let before = recorded.iter().find(|condition| {
                condition.type_ == claim.kind && condition.status == claim.status
            });
            Condition {
                type_: claim.kind.to_owned(),
                status: claim.status.to_owned(),
                reason: claim.reason.as_str().to_owned(),
                message: claim.message.clone(),
                observed_generation: Some(generation),
                last_transition_time: before.map_or_else(
                    || Time(now),
                    |condition| condition.last_transition_time.clone(),
                ),
            }
        })
        .collect()
}
