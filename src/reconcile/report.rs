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
    let member = accepted(
        "True",
        Reason::Member,
        "The person is a member of the organization",
    );
    let left = accepted(
        "False",
        Reason::Left,
        "The person accepted and is no longer a member of the organization",
    );
    let gone = status.gone_since.is_some() || matches!(state, State::Gone(_));
    let acceptance = match (&status.user_id, &status.invite_id) {
        (Some(_), _) if gone => Some(left),
        (Some(_), _) => Some(member.clone()),
        (None, Some(_)) => Some(pending.clone()),
        (None, None) => None,
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
            vec![claim("Ready", "True", saying), member]
        }
        State::Progressing(saying) => {
            let mut claims = vec![
                claim("Ready", "False", saying),
                claim("Reconciling", "True", saying),
            ];
            claims.extend(acceptance);
            claims
        }
        State::Stalled(saying) | State::Gone(saying) => {
            let mut claims = vec![
                claim("Ready", "False", saying),
                claim("Stalled", "True", saying),
            ];
            claims.extend(acceptance);
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
    let expires_at = status.expires_at.as_ref();
    // A member's invitation is over, whenever it would have expired.
    let expired = status.user_id.is_none() && expires_at.is_some_and(|time| time.0 < now);
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

#[cfg(test)]
mod tests {
    use jiff::ToSpan;

    use super::*;

    fn now() -> Timestamp {
        "2026-11-24T12:00:00Z".parse().unwrap()
    }

    fn why() -> Saying {
        Saying {
            reason: Reason::Settling,
            message: "why".to_owned(),
        }
    }

    fn member() -> State {
        State::Member {
            user_id: "u".to_owned(),
            saying: why(),
        }
    }

    /// Of a spec of generation 1, with an invite that expires in an hour.
    fn recorded() -> OrgInviteStatus {
        OrgInviteStatus {
            observed_generation: 1,
            invite_id: Some("x1".to_owned()),
            expires_at: Some(Time(now() + 1.hour())),
            ..OrgInviteStatus::default()
        }
    }

    fn says(recorded: &OrgInviteStatus, state: &State) -> OrgInviteStatus {
        status(recorded, state, false, 2, now())
    }

    /// The conditions, as `Ready=True Accepted=False`.
    fn conditions(status: &OrgInviteStatus) -> String {
        let conditions = status.conditions.iter();
        let conditions = conditions.map(|one| format!("{}={}", one.type_, one.status));
        conditions.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn every_state_has_its_conditions() {
        let new = OrgInviteStatus::default();
        let invited = recorded();
        let joined = says(&invited, &member());
        let left = says(&joined, &State::Gone(why()));
        for (record, state, expected) in [
            (&invited, State::Invited, "Ready=True Accepted=False"),
            (&invited, member(), "Ready=True Accepted=True"),
            (&new, member(), "Ready=True Accepted=True"),
            (
                &invited,
                State::Progressing(why()),
                "Ready=False Reconciling=True Accepted=False",
            ),
            (
                &new,
                State::Progressing(why()),
                "Ready=False Reconciling=True",
            ),
            (
                &joined,
                State::Progressing(why()),
                "Ready=False Reconciling=True Accepted=True",
            ),
            (
                &left,
                State::Progressing(why()),
                "Ready=False Reconciling=True Accepted=False",
            ),
            (
                &invited,
                State::Stalled(why()),
                "Ready=False Stalled=True Accepted=False",
            ),
            (&new, State::Stalled(why()), "Ready=False Stalled=True"),
            (
                &invited,
                State::Gone(why()),
                "Ready=False Stalled=True Accepted=False",
            ),
            (&new, State::Gone(why()), "Ready=False Stalled=True"),
        ] {
            let status = says(record, &state);
            assert_eq!(conditions(&status), expected, "{state:?}");
        }
        let blind = status(&invited, &State::Invited, true, 2, now());
        assert_eq!(conditions(&blind), "Ready=True Accepted=Unknown");
        assert_eq!(
            says(&invited, &member()).user_id,
            Some("u".to_owned()),
            "who it is"
        );
    }

    #[test]
    fn a_generation_is_observed_when_its_plan_is_settled_or_stalled() {
        for (state, observed) in [
            (State::Unchanged, 1),
            (State::Progressing(why()), 1),
            (State::Obscured(why()), 1),
            (State::Invited, 2),
            (member(), 2),
            (State::Stalled(why()), 2),
            (State::Gone(why()), 2),
        ] {
            let status = says(&recorded(), &state);
            assert_eq!(status.observed_generation, observed, "{state:?}");
        }
    }

    #[test]
    fn what_is_gone_is_gone_until_it_is_seen() {
        let since = Some(Time(now() - 1.hour()));
        let gone = OrgInviteStatus {
            gone_since: since.clone(),
            ..recorded()
        };
        for state in [
            State::Gone(why()),
            State::Stalled(why()),
            State::Progressing(why()),
            State::Obscured(why()),
            State::Unchanged,
        ] {
            assert_eq!(says(&gone, &state).gone_since, since, "{state:?}");
        }
        assert_eq!(says(&gone, &State::Invited).gone_since, None);
        assert_eq!(says(&gone, &member()).gone_since, None);
        let first = says(&recorded(), &State::Gone(why())).gone_since;
        assert_eq!(first, Some(Time(now())));
        let stalled = says(&recorded(), &State::Stalled(why())).gone_since;
        assert_eq!(stalled, None);
    }

    #[test]
    fn the_last_truth_holds_until_the_expiry() {
        let obscured = State::Obscured(why());
        let told = |state| OrgInviteStatus {
            conditions: says(&recorded(), state).conditions,
            ..recorded()
        };
        let until = |expires_at: Option<Timestamp>| OrgInviteStatus {
            expires_at: expires_at.map(Time),
            ..told(&State::Invited)
        };
        let kept = "Ready=True Reconciling=True Accepted=False";
        let unknown = "Ready=Unknown Reconciling=True Accepted=False";
        for (record, expected) in [
            (until(Some(now() + 1.hour())), kept),
            (until(Some(now())), kept),
            (until(None), kept),
            (until(Some(now() - 1.second())), unknown),
            (told(&State::Stalled(why())), unknown),
            (told(&State::Progressing(why())), unknown),
            (recorded(), "Ready=Unknown Reconciling=True"),
            (
                OrgInviteStatus {
                    expires_at: Some(Time(now() - 1.second())),
                    ..says(&recorded(), &member())
                },
                "Ready=True Reconciling=True Accepted=True",
            ),
        ] {
            let status = says(&record, &obscured);
            assert_eq!(conditions(&status), expected, "{record:?}");
            let again = says(&status, &obscured);
            assert_eq!(conditions(&again), expected, "{record:?}, again");
        }
    }

    #[test]
    fn what_was_planned_while_suspended_is_not_told_any_longer() {
        let suspended = OrgInviteStatus {
            planned_action: Some("send an invitation".to_owned()),
            ..recorded()
        };
        assert_eq!(says(&suspended, &State::Unchanged), recorded());
        assert_eq!(says(&suspended, &State::Invited).planned_action, None);
    }

    #[test]
    fn a_time_has_whole_seconds() {
        assert_eq!(time(now() + 999.milliseconds()), Time(now()));
    }
}
