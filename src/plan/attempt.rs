//! *Attempt open*: the outcome of an e-mail is not known, or its POST is still to be sent.

use super::deletion::take_back;
use super::facts::{Doubt, Facts, Lookup, Named, Sight, expires_at};
use super::invite::looking;
use super::say::{
    ASK, barred, braked, closing, conflict, member_state, not_permitted, settling, unreadable,
};
use super::step::{Plan, State, Step, adopt, again, send, spaced};
use crate::astro::is_over;
use crate::resources::Reason;
use crate::resources::org_invite::Attempt;

/// Of one that is deleted: its row in the list shows no invitation.
const UNSEEN: &str = "Astro does not show whether the last e-mail left a pending invitation. Revoke it in Astro if there is one, and set deletionPolicy to Retain, which lets the object go";

/// The invite that an open attempt was to replace. The annotation is in the hands of whoever may edit the
/// object, the record is not: what the object does not record is not its own to delete.
pub(super) fn replaced<'a>(facts: &Facts<'_>, attempt: &'a Attempt) -> Option<&'a str> {
    let recorded = facts.record.invite_id.as_ref();
    attempt
        .replaces
        .as_deref()
        .filter(|id| recorded.is_some_and(|one| one == id))
}

/// *Attempt open*: its outcome is not known, or its POST is still to be sent.
pub(super) fn settle(facts: &Facts<'_>, attempt: &Attempt) -> Plan {
    let underway = facts.own.underway.as_deref() == Some(attempt.id.as_str());
    let pending = match &facts.observed.sight {
        Sight::Unreadable(why) => return unreadable(why),
        Sight::NotYet => {
            return if underway {
                Plan::await_pass()
            } else {
                settling()
            };
        }
        Sight::Pending(found) => found.as_slice(),
        _ => &[],
    };
    let replaces = replaced(facts, attempt);
    // What is replaced, when it can still be accepted.
    let old = pending.iter().find(|found| {
        Some(found.id.as_str()) == replaces && !is_over(expires_at(facts), facts.now)
    });
    // Whatever the DELETE answered, it did not end: the attempt settles like any other.
    let underway = underway && old.is_none();
    // Rule 4 for an attempt of our own whose POST was never sent, rule 3 for any other.
    if !(if underway {
        facts.observed.term_settled
    } else {
        facts.observed.settled
    }) {
        return if underway {
            Plan::await_pass()
        } else {
            settling()
        };
    }
    let left_over = old.filter(|old| !facts.standing.shared.contains(&old.id.as_str()));
    let found = pending
        .iter()
        .find(|found| Some(found.id.as_str()) != replaces);
    let member = matches!(facts.observed.sight, Sight::Member { .. });
    if let Some(old) = left_over
        && (facts.deleting || member || found.is_some() || facts.standing.held_by.is_some())
    {
        return Plan::act(Step::Drop(old.id.clone()));
    }
    if found.is_some_and(|found| facts.standing.shared.contains(&found.id.as_str())) {
        // Another object's: no e-mail of this attempt.
        return Plan::act(Step::Close);
    }
    if let Some(found) = found {
        // Also in deletion: what was sent is recorded first, so that it can be handed over or revoked.
        return adopt(facts, found, attempt.role);
    }
    if facts.observed.doubt == Some(Doubt::Missing) && facts.observed.sight == Sight::Absent {
        return braked(facts);
    }
    if facts.deleting {
        return match &facts.observed.sight {
            // Such a row shows no invitation, whether there is one or not.
            Sight::Unidentified | Sight::Barred if underway => take_back(facts),
            Sight::Unidentified if may_be_told(facts) => {
                Plan::stalled(Reason::InviteUnidentified, UNSEEN)
            }
            Sight::Barred if may_be_told(facts) => Plan::stalled(Reason::PersonInactive, UNSEEN),
            _ => Plan::act(Step::Release),
        };
    }
    if let Some(old) = left_over
        && (facts.closing || !(facts.permits)(facts.role))
    {
        // It is not replaced after all, and must not be left without an owner.
        return adopt(facts, old, facts.record.role.unwrap_or(attempt.role));
    }
    let unseen = old.is_none();
    send_or_close(facts, attempt, underway, unseen)
}

/// The annotation may be forged: who may not invite the person is told nothing, unless it is known already.
fn may_be_told(facts: &Facts<'_>) -> bool {
    let is_known = facts.record.invite_id.is_some() || facts.record.user_id.is_some();
    is_known || (facts.permits)(facts.role)
}

/// The attempt left nothing. Unless something speaks against any e-mail, it is sent again; `unseen`: no pass shows what
/// it replaces.
fn send_or_close(facts: &Facts<'_>, attempt: &Attempt, underway: bool, unseen: bool) -> Plan {
    let close = |saying| Plan {
        step: Step::Close,
        state: State::Stalled(saying),
    };
    if !may_be_told(facts) {
        return close(not_permitted(facts.role));
    }
    if let Sight::Member { user_id, role } = &facts.observed.sight {
        return Plan {
            step: Step::Close,
            state: member_state(facts, user_id, *role),
        };
    }
    if let Some(refusal) = barred(&facts.observed.sight) {
        return close(refusal);
    }
    if let Some(holder) = facts.standing.held_by {
        return close(conflict(facts, holder));
    }
    if !(facts.permits)(facts.role) {
        return close(not_permitted(facts.role));
    }
    if facts.closing {
        return close(closing());
    }
    if facts.observed.doubt.is_some() {
        return braked(facts);
    }
    if underway && attempt.role == facts.role {
        return Plan::act(Step::Post);
    }
    if let Some(time) = facts.own.not_before.filter(|time| *time > facts.now) {
        return spaced(time);
    }
    let replaces = replaced(facts, attempt).filter(|id| !facts.standing.shared.contains(id));
    Plan::act(Step::Send {
        replaces: replaces.map(str::to_owned),
        unseen: replaces.is_some() && unseen,
        resends: attempt.resends,
        request: attempt.request.clone(),
    })
}

/// *Attempt open*, and nobody can look: a person has to tell what became of it. When this term did not send
/// its POST, only the DELETE of what it replaces is in question: it is repeated while get-invite shows that one.
pub(super) fn ask(facts: &Facts<'_>, attempt: &Attempt) -> Plan {
    let unsent = facts.own.unsent.as_ref() == Some(&attempt.id);
    let answered = match &facts.observed.named {
        Some(Named::Found(found)) if facts.standing.shared.contains(&found.id.as_str()) => {
            return Plan::act(Step::Close);
        }
        Some(Named::Found(found)) => {
            // The one that was to be replaced has the role that it was sent with.
            let is_old = replaced(facts, attempt) == Some(&found.id);
            let sent_with = facts.record.role.filter(|_| is_old);
            return adopt(facts, found, sent_with.unwrap_or(attempt.role));
        }
        Some(Named::InLine(time)) => {
            return Plan {
                step: Step::AwaitTime(*time),
                state: State::Unchanged,
            };
        }
        Some(Named::Refused(why)) => format!(" The invitation that was named is not it: {why}."),
        None => String::new(),
    };
    if unsent && facts.deleting {
        return take_back(facts);
    }
    if unsent && attempt.replaces.is_none() {
        // The answer to its patch was lost, and nothing else is under way.
        return Plan::act(Step::Abandon);
    }
    let left_over = replaced(facts, attempt).filter(|id| !facts.standing.shared.contains(id));
    let in_question = left_over.filter(|_| unsent);
    if in_question.is_some() && facts.observed.lookup == Lookup::GoneOnce {
        return Plan::await_pass();
    }
    // A wish from before is no answer to what was not told yet.
    let known = facts.record.open_attempt.as_deref();
    let told = known
        .filter(|known| known.id == attempt.id)
        .and_then(|known| known.told.as_deref());
    let answers = |request| told.is_some_and(|told| told != request);
    let asked = facts.request.is_some_and(|request| {
        unsent || (answers(request) && Some(request) != attempt.request.as_deref())
    });
    let there = in_question.is_some()
        && facts.observed.lookup == Lookup::Exists
        && !is_over(expires_at(facts), facts.now);
    if (asked || there) && !facts.deleting {
        if let Some(holder) = facts.standing.held_by {
            return Plan {
                step: Step::Rest,
                state: State::Stalled(conflict(facts, holder)),
            };
        }
        // Nobody knows whether its DELETE took effect.
        if let Some(invite) = left_over {
            let mut plan = again(facts, invite, false);
            if let Step::Send { unseen, .. } = &mut plan.step {
                *unseen = true;
            }
            return plan;
        }
        if !(facts.permits)(facts.role) {
            return Plan {
                step: Step::Rest,
                state: State::Stalled(not_permitted(facts.role)),
            };
        }
        return send(facts, None, false);
    }
    if in_question.is_some() {
        return match &facts.observed.lookup {
            Lookup::InLine(time) => Plan::act(Step::AwaitTime(*time)),
            Lookup::Unknown(why) => looking(facts, unreadable(why).state),
            _ => Plan::stalled(
                Reason::OutcomeUnknown,
                format!(
                    "The invitation was to be replaced by a new one, and is over now: the operator deleted it, or before that the person accepted or declined it, or it expired. The token may not list users, so that nobody can look.{answered} Look in Astro whether the person is a member. {ASK}"
                ),
            ),
        };
    }
    let way_out = if facts.deleting {
        "set iam.astronomer.io/invite-id to the invitation's ID if there is one, which is then taken back, or set deletionPolicy to Retain if there is none"
    } else {
        "set the annotation iam.astronomer.io/invite-id to the invitation's ID if there is one, or iam.astronomer.io/resend-requested-at to a new value to send again if there is none"
    };
    Plan::stalled(
        Reason::OutcomeUnknown,
        format!(
            "It is not known whether the last e-mail went out, and the token may not list users, so that nobody can look.{answered} Look in Astro, then {way_out}"
        ),
    )
}
