//! Conditions after the kstatus conventions: `Ready` always, `Reconciling` and `Stalled` only while
//! they are true.

use k8s_openapi::apimachinery::pkg::apis::meta::v1::{Condition, Time};
use k8s_openapi::jiff::Timestamp;
use schemars::Schema;
use serde_json::{Value, json};

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

/// Makes the schema of conditions a list by type, of which each is written as a whole: the API server notes one owner
/// for a condition, and not one for each of its fields, which was a tenth of its work in a burst.
pub(super) fn each_as_a_whole(schema: &mut Schema) {
    schema.insert("x-kubernetes-list-type".to_owned(), json!("map"));
    schema.insert("x-kubernetes-list-map-keys".to_owned(), json!(["type"]));
    if let Some(Value::Object(condition)) = schema.get_mut("items") {
        condition.insert("x-kubernetes-map-type".to_owned(), json!("atomic"));
    }
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
    let claimed = claims.iter().map(|claim| Condition {
        type_: claim.kind.to_owned(),
        status: claim.status.to_owned(),
        reason: claim.reason.as_str().to_owned(),
        message: claim.message.clone(),
        observed_generation: Some(generation.max(0)),
        last_transition_time: Time(now),
    });
    let mut conditions: Vec<Condition> = claimed.collect();
    keep_transitions(&mut conditions, recorded);
    conditions
}

/// Takes over the transition times of those whose status is what was recorded.
pub fn keep_transitions(conditions: &mut [Condition], recorded: &[Condition]) {
    for condition in conditions {
        let same =
            |one: &&Condition| one.type_ == condition.type_ && one.status == condition.status;
        if let Some(before) = recorded.iter().find(same) {
            condition.last_transition_time = before.last_transition_time.clone();
        }
    }
}
