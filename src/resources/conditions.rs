//! Conditions after the kstatus conventions: `Ready` always, `Reconciling` and `Stalled` only while
//! they are true.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;

use super::{OrgInvite, Organization, Reason};

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

impl OrgInvite {
    /// What its status says.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        let status = self.status.as_ref();
        status.map_or(&[], |status| &status.conditions)
    }
}

impl Organization {
    /// What its status says.
    #[must_use]
    pub fn conditions(&self) -> &[Condition] {
        let status = self.status.as_ref();
        status.map_or(&[], |status| &status.conditions)
    }
}

/// The condition of that kind.
#[must_use]
pub fn find<'a>(conditions: &'a [Condition], kind: &str) -> Option<&'a Condition> {
    conditions.iter().find(|condition| condition.type_ == kind)
}

/// Whether that is so.
#[must_use]
pub fn is_true(conditions: &[Condition], kind: &str) -> bool {
    find(conditions, kind).is_some_and(|condition| condition.status == "True")
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
                observed_generation: Some(generation.max(0)),
                last_transition_time: before.map_or_else(
                    || Time(now),
                    |condition| condition.last_transition_time.clone(),
                ),
            }
        })
        .collect()
}
