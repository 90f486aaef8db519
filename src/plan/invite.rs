//! *Invite recorded*: looking after it until its person accepted, or it ended.

use super::facts::{Doubt, Facts, Found, Lookup, Sight, expired, expires_at, over};
use super::say::{ASK, barred, braked, conflict, member_state, not_permitted, saying, unreadable};
use super::step::{Plan, State, Step, adopt, again, at_expiry, send, spaced};
use crate::astro::{is_over, later};
use crate::resources::Reason;
use crate::resources::conditions::is_true;
use crate::resources::org_invite::ResendWhen;

/// *Invite recorded*, no attempt open, not in deletion.
pub(super) fn look_after(facts: &Facts<'_>, invite: &str) -> Plan {
    if let Some(holder) = facts.standing.held_by {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(conflict(facts, holder)),
        };
    }
    let edited = facts.record.role != Some(facts.role);
    let wanted = edited || facts.request.is_some();
    let invited = Plan {
        step: at_expiry(facts),
        state: State::Invited,
    };
    match &facts.observed.sight {
        Sight::Unreadable(why) => unreadable(why),
        Sight::Blind => watch(facts, invite, wanted),
        // What was told may be over, such as an Organization that was not ready: the pass tells, also when it fails.
        Sight::NotYet
            if wanted || expired(facts) || is_true(&facts.record.conditions, "Reconciling") =>
        {
            Plan::await_pass()
        }
        // The answer to our POST is younger than any pass: it holds until the next one.
        Sight::NotYet => Plan::act(at_expiry(facts)),
        Sight::Member { user_id, role } => Plan {
            step: Step::Rest,
            state: member_state(facts, user_id, *role),
        },
        Sight::Barred | Sight::Unidentified => Plan {
            step: Step::Rest,
            state: barred(&facts.observed.sight).map_or(State::Unchanged, State::Stalled),
        },
        Sight::Pending(found) => {
            let shown = found.iter().any(|found| found.id == invite);
            let live = |found: &&Found| found.id != invite && !is_over(found.expires_at, facts.now);
            match found.iter().find(live) {
                _ if shown && !expired(facts) && wanted => again(facts, invite, false),
                _ if shown && !expired(facts) => invited,
                Some(other) if facts.observed.settled => adopt(facts, other, facts.role),
                Some(_) => Plan::await_pass(),
                None if expired(facts) => after_expiry(facts, invite),
                None => disappeared(facts, invite, invited),
            }
        }
        Sight::Absent if facts.observed.doubt == Some(Doubt::Missing) => braked(facts),
        Sight::Absent if facts.record.user_id.is_some() && facts.request.is_some() => {
            again(facts, invite, false)
        }
        Sight::Absent if facts.record.user_id.is_some() => Plan::gone(
            Reason::MemberRemoved,
            format!(
                "The person accepted and is no longer a member of the organization. Nobody is invited again by itself. {ASK}"
            ),
        ),
        Sight::Absent if expired(facts) => after_expiry(facts, invite),
        Sight::Absent if facts.request.is_some() && is_over(expires_at(facts), facts.now) => {
            again(facts, invite, false)
        }
        Sight::Absent => disappeared(facts, invite, invited),
    }
}

/// *Invite recorded*, and nobody can look: get-invite tells whether it is still there, not whether
/// the person accepted.
pub(super) fn watch(facts: &Facts<'_>, invite: &str, wanted: bool) -> Plan {
    const BLIND: &str = "The token may not list users, so that nobody can tell whether the person accepted, and nobody is written to again by itself";
    let expired_unseen = || {
        Plan::stalled(
            Reason::Expired,
            format!("The invitation is past its expiry. {BLIND}. {ASK}"),
        )
    };
    let ended = || {
        Plan::gone(
            Reason::InvitationEnded,
            format!(
                "The invitation is gone before its expiry: it was accepted, declined or revoked. {BLIND}. {ASK}"
            ),
        )
    };
    if let Some(user_id) = &facts.record.user_id {
        return last_seen(facts, user_id).unwrap_or_else(|| again(facts, invite, false));
    }
    match &facts.observed.lookup {
        Lookup::InLine(time) => Plan::act(Step::AwaitTime(*time)),
        Lookup::NotAsked => looking(facts, State::Unchanged),
        Lookup::Unknown(why) => looking(facts, unreadable(why).state),
        Lookup::GoneOnce if facts.request.is_some() || facts.own.unlisted || !over(facts) => {
            Plan::await_pass()
        }
        Lookup::Gone if facts.request.is_some() => {
            if (facts.permits)(facts.role) {
                send(facts, None, false)
            } else {
                Plan {
                    step: Step::Rest,
                    state: State::Stalled(not_permitted(facts.role)),
                }
            }
        }
        Lookup::Exists if facts.request.is_some() => again(facts, invite, false),
        Lookup::Gone if !over(facts) || facts.own.unlisted => ended(),
        // Nothing is sent because of it, so that it needs no grace.
        Lookup::Gone | Lookup::GoneOnce => expired_unseen(),
        Lookup::Exists if expired(facts) => expired_unseen(),
        // What is known to have ended before may be answered with an old body.
        Lookup::Exists if is_over(expires_at(facts), facts.now) => ended(),
        Lookup::Exists if wanted => again(facts, invite, false),
        Lookup::Exists => Plan {
            step: match (at_expiry(facts), looking(facts, State::Invited).step) {
                (Step::AwaitTime(a), Step::AwaitTime(b)) => Step::AwaitTime(a.min(b)),
                (_, other) => other,
            },
            state: State::Invited,
        },
    }
}

/// Says `state` until get-invite is asked again.
pub(super) fn looking(facts: &Facts<'_>, state: State) -> Plan {
    Plan {
        step: facts.observed.next_look.map_or(Step::Rest, Step::AwaitTime),
        state,
    }
}

/// *Member recorded*, and nobody can look any longer: what was seen last. A member is not written to;
/// `None` when the person was gone and somebody asks for an invitation.
pub(super) fn last_seen(facts: &Facts<'_>, user_id: &str) -> Option<Plan> {
    const BLIND: &str =
        "The token may not list users any longer, so that nobody can see what became of it";
    if facts.record.gone_since.is_none() {
        let reason = if facts.record.invite_id.is_none() {
            Reason::AlreadyMember
        } else {
            Reason::Accepted
        };
        let message = format!(
            "The person was a member when the organization was last read. {BLIND}. Deleting this object does not remove the person; to invite one who left since, delete it and create it again"
        );
        return Some(Plan {
            step: Step::Rest,
            state: State::Member {
                user_id: user_id.to_owned(),
                saying: saying(reason, message),
            },
        });
    }
    facts.request.is_none().then(|| {
        Plan::gone(
            Reason::MemberRemoved,
            format!(
                "The person was a member, and no longer when the organization was last read. {BLIND}. {ASK}"
            ),
        )
    })
}

/// The recorded invite is past its expiry, and the person is no member.
pub(super) fn after_expiry(facts: &Facts<'_>, invite: &str) -> Plan {
    if facts.request.is_some() {
        return again(facts, invite, false);
    }
    let when = expires_at(facts)
        .map(|time| format!(" at {time}"))
        .unwrap_or_default();
    if facts.resend_when == ResendWhen::Never {
        return Plan::stalled(
            Reason::Expired,
            format!(
                "The invitation expired{when} and was not accepted, and resendWhen is Never. {ASK}"
            ),
        );
    }
    if facts.record.resends >= facts.max_resends {
        return Plan::stalled(
            Reason::ResendLimitReached,
            format!(
                "The invitation expired{when} and was not accepted, after {} that were sent by themselves; maxResends allows no more. {ASK}",
                facts.record.resends
            ),
        );
    }
    again(facts, invite, true)
}

/// The directory does not show the recorded invite, which is not past its expiry or was not shown
/// before it.
pub(super) fn disappeared(facts: &Facts<'_>, invite: &str, invited: Plan) -> Plan {
    let withdrawn = || {
        Plan::gone(
            Reason::InvitationWithdrawn,
            format!(
                "The invitation is gone before its expiry: it was declined, or somebody revoked it in Astro. Nobody is written to again by itself. {ASK}"
            ),
        )
    };
    // Within the grace, Astro may have dropped it just because it expired.
    if over(facts) && !is_over(expires_at(facts), facts.now) {
        return Plan::act(at_expiry(facts));
    }
    match &facts.observed.lookup {
        Lookup::Exists
            if facts.record.gone_since.is_some() || is_over(expires_at(facts), facts.now) =>
        {
            withdrawn()
        }
        Lookup::Exists if facts.record.role != Some(facts.role) || facts.request.is_some() => {
            Plan {
                step: Step::Rest,
                state: State::Progressing(saying(
                    Reason::NotListed,
                    "A new invitation is asked for, but Astro's list does not show the pending one. It is replaced once the list shows it",
                )),
            }
        }
        Lookup::Exists => invited,
        Lookup::Gone if facts.request.is_some() => again(facts, invite, false),
        Lookup::Gone
            if facts.resend_when == ResendWhen::Gone
                && facts.record.resends < facts.max_resends =>
        {
            // Somebody may be declining them one by one: each waits twice as long as the one before.
            let wait = facts
                .spacing
                .saturating_mul(1 << facts.record.resends.min(10));
            let last = facts
                .record
                .invited_at
                .as_ref()
                .map(|time| later(time.0, wait));
            match last.filter(|time| *time > facts.now) {
                Some(time) => spaced(time),
                None => again(facts, invite, true),
            }
        }
        Lookup::Gone => withdrawn(),
        // The next pass asks again, and nobody wants one for it.
        Lookup::Unknown(why) => Plan {
            step: Step::Rest,
            state: unreadable(why).state,
        },
        Lookup::InLine(time) => Plan::act(Step::AwaitTime(*time)),
        Lookup::GoneOnce | Lookup::NotAsked => Plan::await_pass(),
    }
}
