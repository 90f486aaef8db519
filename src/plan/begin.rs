//! *Nothing recorded*: the first invitation of an object, or none.

use super::facts::{Doubt, Facts, Sight};
use super::invite::last_seen;
use super::say::{
    ASK, barred, braked, conflict, member_state, not_permitted, settling, unreadable,
};
use super::step::{Plan, State, Step, adopt, send};
use crate::resources::Reason;
use crate::resources::org_invite::DeletionPolicy;

/// *Nothing recorded*, not in deletion.
pub(super) fn begin(facts: &Facts<'_>) -> Plan {
    // Before anything that would tell this namespace about the person.
    let known =
        matches!(facts.observed.sight, Sight::Member { .. }) && facts.record.user_id.is_some();
    if !known && !(facts.permits)(facts.role) {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(not_permitted(facts.role)),
        };
    }
    match &facts.observed.sight {
        // One that is kept is no call's concern.
        Sight::Unreadable(_)
            if facts
                .standing
                .inherits
                .is_some_and(|holder| holder.spec.deletion_policy == DeletionPolicy::Retain) =>
        {
            return Plan::act(Step::Inherit);
        }
        Sight::Unreadable(why) => return unreadable(why),
        Sight::NotYet => return Plan::await_pass(),
        // What was recorded of it goes along, also for when nobody can look.
        Sight::Member { .. }
            if facts.standing.inherits.is_some() && facts.record.user_id.is_none() =>
        {
            return Plan::act(Step::Inherit);
        }
        Sight::Member { user_id, role } => {
            if let Some(holder) = facts
                .standing
                .held_by
                .filter(|_| facts.record.user_id.is_none())
            {
                return Plan {
                    step: Step::Rest,
                    state: State::Stalled(conflict(facts, holder)),
                };
            }
            return Plan {
                step: Step::Rest,
                state: member_state(facts, user_id, *role),
            };
        }
        Sight::Absent
            if facts.record.user_id.is_some() && facts.observed.doubt == Some(Doubt::Missing) =>
        {
            return braked(facts);
        }
        Sight::Blind => {
            let user_id = facts.record.user_id.as_deref();
            if let Some(plan) = user_id.and_then(|user_id| last_seen(facts, user_id)) {
                return plan;
            }
        }
        Sight::Absent if facts.record.user_id.is_some() && facts.request.is_none() => {
            return Plan::gone(
                Reason::MemberRemoved,
                format!(
                    "The person was a member and is no longer. Nobody is invited again by itself. {ASK}"
                ),
            );
        }
        Sight::Barred | Sight::Unidentified | Sight::Pending(_) | Sight::Absent => {}
    }
    if facts.standing.inherits.is_some() {
        return Plan::act(Step::Inherit);
    }
    if let Some(holder) = facts.standing.held_by {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(conflict(facts, holder)),
        };
    }
    if let Some(refusal) = barred(&facts.observed.sight) {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(refusal),
        };
    }
    if let Sight::Pending(found) = &facts.observed.sight {
        return match found.first() {
            Some(found) if facts.observed.settled => adopt(facts, found, facts.role),
            _ => settling(),
        };
    }
    send(facts, None, false)
}
