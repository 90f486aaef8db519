//! *Deletion*: taking back what is recorded, handing it over, or leaving it.

use super::facts::{Doubt, Facts, Lookup, Sight, expires_at, listed_role};
use super::say::{braked, name, saying, settling};
use super::step::{Plan, State, Step};
use crate::astro::is_over;
use crate::claims::Heir;
use crate::resources::Reason;

/// *Deletion* with Retain: whatever there is in Astro stays there.
pub(super) fn let_go(facts: &Facts<'_>) -> Plan {
    if let Some(attempt) = facts.open {
        let unsent = facts.own.unsent.as_ref() == Some(&attempt.id);
        let waits = facts.standing.would_send;
        if facts.observed.sight == Sight::Blind && waits && unsent {
            // What is recorded is handed over then, and else nobody was sent anything.
            return Plan::act(Step::Abandon);
        }
        if facts.observed.sight == Sight::Blind && waits {
            return Plan::stalled(
                Reason::OutcomeUnknown,
                "It is not known whether the last e-mail went out, the token may not list users, so that nobody can look, and another OrgInvite for the address would send one more. Delete that one first, or set deletionPolicy to Delete and name the invitation with the annotation iam.astronomer.io/invite-id",
            );
        }
        if let Sight::Unreadable(why) = &facts.observed.sight
            && waits
        {
            // Should nobody be able to look once Astro answers again, that one would send beside this one's e-mail.
            return Plan {
                step: Step::AwaitPass,
                state: State::Progressing(saying(
                    Reason::AstroUnavailable,
                    format!(
                        "It is not known whether the last e-mail went out, and another OrgInvite for the address would send one more, while the organization cannot be read: {why}. It is tried again. Delete that one first to let this one go"
                    ),
                )),
            };
        }
        let can_look = !matches!(facts.observed.sight, Sight::Unreadable(_) | Sight::Blind);
        return match facts.own.settles_at.filter(|time| *time > facts.now) {
            // Else the next object for the address could send while this one's e-mail is on its way.
            Some(time) => Plan {
                step: Step::AwaitTime(time),
                state: settling().state,
            },
            // Nor by a pass that began before it had arrived.
            None if can_look && !facts.observed.settled => settling(),
            None => Plan::act(Step::Release),
        };
    }
    // Also while Astro cannot be reached: to copy a record, nobody has to look.
    if is_recorded(facts) && facts.standing.heir == Heir::Waiting {
        handing_over()
    } else {
        Plan::act(Step::Release)
    }
}

/// Whether there is anything to hand over.
fn is_recorded(facts: &Facts<'_>) -> bool {
    facts.record.invite_id.is_some() || facts.record.user_id.is_some()
}

/// Another object for the address copies the record: one that was declined is not sent again.
pub(super) fn handing_over() -> Plan {
    Plan {
        step: Step::Rest,
        state: State::Progressing(saying(
            Reason::HandingOver,
            "Another OrgInvite for the address takes over what is recorded here",
        )),
    }
}

/// *Deletion*, no attempt open, or one that sent nothing.
pub(super) fn take_back(facts: &Facts<'_>) -> Plan {
    let heir_waits = facts.standing.heir == Heir::Waiting;
    let invite = facts.record.invite_id.as_deref();
    if invite.is_none() && !(heir_waits && is_recorded(facts)) {
        return Plan::act(Step::Release);
    }
    match &facts.observed.sight {
        Sight::NotYet => return Plan::await_pass(),
        Sight::Unreadable(why) => {
            let what = if invite.is_some() {
                "The invitation cannot be taken back"
            } else {
                "Another OrgInvite for the address cannot take over from this one"
            };
            return Plan {
                step: Step::AwaitPass,
                state: State::Progressing(saying(
                    Reason::AstroUnavailable,
                    format!(
                        "{what} while the organization cannot be read: {why}. It is tried again"
                    ),
                )),
            };
        }
        Sight::Member { .. } if heir_waits && facts.open.is_none() => return handing_over(),
        Sight::Member { .. } => return Plan::act(Step::Release),
        _ => {}
    }
    match facts.standing.heir {
        Heir::Recorded => return Plan::act(Step::Release),
        Heir::Waiting if facts.open.is_none() => return handing_over(),
        // What may be deleted already is not handed over before its own DELETE is answered.
        Heir::Waiting | Heir::None => {}
    }
    let blind = facts.observed.sight == Sight::Blind;
    let ended = if heir_waits {
        // The person may have accepted it: its record goes to the heir, so that nobody is written to for it.
        Step::Abandon
    } else {
        Step::Release
    };
    let Some(invite) = invite else {
        return Plan::act(ended);
    };
    // It was accepted when one could look.
    if blind && facts.record.user_id.is_some() {
        return Plan::act(ended);
    }
    // Rule 10: the sight counts only when its pass began a listing delay after that answer.
    let shown = matches!(&facts.observed.sight, Sight::Pending(found) if found.iter().any(|found| found.id == invite))
        && !is_over(expires_at(facts), facts.now);
    if facts.standing.shared.contains(&invite) {
        return Plan::act(Step::Release);
    }
    // One that is still shown is deleted again: such an answer was not about it.
    let (absent, refused) = (facts.own.revoke_answered_absent, facts.own.revoke_refused);
    if !shown && (absent || (refused && !blind)) {
        // An answer that comes with such a list says nothing either.
        return if facts.observed.doubt == Some(Doubt::Missing) {
            braked(facts)
        } else {
            Plan::act(ended)
        };
    }
    if facts.own.revoke_refused && blind {
        match &facts.observed.lookup {
            Lookup::Gone | Lookup::GoneOnce => return Plan::act(ended),
            // Whatever get-invite answers then, it is not pending.
            Lookup::Exists if is_over(expires_at(facts), facts.now) => {
                return Plan::act(ended);
            }
            Lookup::InLine(time) => return Plan::act(Step::AwaitTime(*time)),
            Lookup::NotAsked | Lookup::Exists | Lookup::Unknown(_) => {}
        }
    }
    if let Some(role) = listed_role(facts, invite)
        && facts.record.role != Some(role)
        && !(facts.permits)(role)
    {
        return Plan::stalled(
            Reason::NotPermitted,
            format!(
                "The invitation now gives the role {}, which this namespace may not touch. Take it back in Astro, or allow the role in the Organization",
                name(role)
            ),
        );
    }
    Plan::act(Step::Revoke(invite.to_owned()))
}
