//! The decision table: from what is declared, recorded and observed to one step and what to say.
//!
//! Pure: no clock, no client. The numbered rules are those of "Exactly one e-mail" in
//! `docs/design.md`.

use std::time::Duration;

use jiff::Timestamp;

use crate::astro::{EXPIRY_GRACE, Role, is_over, later};
use crate::claims::{Heir, Standing};
use crate::resources::Reason;
use crate::resources::org_invite::{Attempt, OrgInviteStatus, ResendWhen};

/// How a person asks for one more e-mail.
const ASK: &str =
    "To send one more, set the annotation iam.astronomer.io/resend-requested-at to a new value";

/// A pending invite, as the directory shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// ID of the invite.
    pub id: String,
    /// The role of the person's row; whether pending rows have one is not known.
    pub role: Option<Role>,
    /// When it expires.
    pub expires_at: Option<Timestamp>,
    /// Who sent it.
    pub inviter: Option<crate::resources::org_invite::Inviter>,
}

/// What is observed of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sight {
    /// Nothing that counts is known yet: the last pass began too early, or there was none.
    NotYet,
    /// The organization cannot be read, and why.
    Unreadable(String),
    /// The token may not list users: only get-invite tells, and only of an invite whose ID is known.
    Blind,
    /// No invite and no member.
    Absent,
    /// Pending invites, the latest expiry first. Never empty.
    Pending(Vec<Found>),
    /// A member.
    Member {
        /// ID of the user.
        user_id: String,
        /// Present role.
        role: Option<Role>,
    },
    /// A person who was switched off or banned.
    Barred,
    /// A pending row without any invite ID.
    Unidentified,
}

/// What get-invite says of an invite that a person named as the one that an attempt sent.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Not asked yet: the place in line is for that moment.
    InLine(Timestamp),
    /// It is for the address and the organization.
    Found(Found),
    /// It is not, or there is no answer, and why.
    Refused(String),
}

/// What get-invite says of the recorded invite, asked where the directory shows nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lookup {
    /// Not asked.
    NotAsked,
    /// Not asked yet: the place in line is for that moment.
    InLine(Timestamp),
    /// It still answers with the invite.
    Exists,
    /// Astro itself says that there is none, and two complete passes agree.
    Gone,
    /// The same, after one pass so far.
    GoneOnce,
    /// No answer that says anything, and why.
    Unknown(String),
}

/// Everything that is observed for one plan.
#[derive(Clone, Debug)]
pub struct Observation {
    /// The address in the directory, by a pass begun a listing delay after our last call on it.
    pub sight: Sight,
    /// Rule 3: the pass began a settle time after the beginning of the term and after the end of our
    /// last call on the address, and another one came before it.
    pub settled: bool,
    /// Rule 4: the pass began a settle time after the beginning of the term.
    pub term_settled: bool,
    /// get-invite of the recorded invite.
    pub lookup: Lookup,
    /// get-invite of the invite that a person named, while an attempt is open and nobody can look.
    pub named: Option<Named>,
    /// When the recorded invite is asked for again, where nobody can look.
    pub next_look: Option<Timestamp>,
    /// Why nobody is written to, whatever is seen.
    pub doubt: Option<Doubt>,
}

/// Why what is seen is not enough to write to somebody.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Doubt {
    /// More people went at once than is believed.
    Missing,
    /// The object was there before a time that nobody read the organization in, and who was written to
    /// in that time is not known.
    Unread,
}

/// What this process knows of its own doings on the address, in this term.
#[derive(Clone, Debug, Default)]
pub struct Own {
    /// ID of an attempt of this term that is patched, with the replaced invite's DELETE answered,
    /// and whose POST was not sent.
    pub underway: Option<String>,
    /// The same, whatever became of that DELETE.
    pub unsent: Option<String>,
    /// Rule 10: a DELETE of the recorded invite, sent in this term, answered that it is not there.
    pub revoke_answered_absent: bool,
    /// The same, answered with 400: only a look can tell whether the invite is still pending.
    pub revoke_refused: bool,
    /// Why Astro refused the last POST for this spec, policy and token.
    pub refused: Option<Saying>,
    /// Until when an e-mail whose outcome is unknown may still take effect.
    pub settles_at: Option<Timestamp>,
    /// Not before this moment may another e-mail go to the address.
    pub not_before: Option<Timestamp>,
    /// Before its expiry the list did not show the recorded invite, though get-invite answered with
    /// it: an answer that it may give for one that was declined or revoked.
    pub unlisted: bool,
}

/// All that a plan is made from.
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
pub struct Facts<'a> {
    /// Whether the object is being deleted.
    pub deleting: bool,
    /// Whether deletion leaves the invitation alone.
    pub retain: bool,
    /// Whether the Organization is being deleted: nothing new is sent for it.
    pub closing: bool,
    /// The role that the spec asks for.
    pub role: Role,
    /// When a new invitation is sent by itself.
    pub resend_when: ResendWhen,
    /// How many of them.
    pub max_resends: u32,
    /// The annotation's value, when it asks for an e-mail that was not seen to yet.
    pub request: Option<&'a str>,
    /// The least time between two e-mails.
    pub spacing: Duration,
    /// Whether the object came with a record of an e-mail that another object sent, and has none of
    /// its own.
    pub copied: bool,
    /// The open attempt, if there is one.
    pub open: Option<&'a Attempt>,
    /// What the status records.
    pub record: &'a OrgInviteStatus,
    /// Whether the policy lets this namespace give that role to this address.
    pub permits: &'a dyn Fn(Role) -> bool,
    /// Whether the operator's own token sent that invite, as far as is known.
    pub own_invite: &'a dyn Fn(&Found) -> bool,
    /// Where the object stands among those for its address.
    pub standing: &'a Standing<'a>,
    /// What is observed.
    pub observed: &'a Observation,
    /// What this process did on the address.
    pub own: &'a Own,
    /// Astro's clock.
    pub now: Timestamp,
    /// The object's own namespace: holders in others are not named.
    pub namespace: &'a str,
}

/// The one step to take.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing: what would change the plan triggers another one.
    Rest,
    /// Nothing until a pass that counts.
    AwaitPass,
    /// Nothing until that moment.
    AwaitTime(Timestamp),
    /// Send an e-mail as a new attempt; with `replaces`, that invite is deleted first.
    Send {
        /// The invite whose place the new one takes.
        replaces: Option<String>,
        /// No pass shows that invite, and an earlier attempt may have deleted it: the record is no proof of it.
        unseen: bool,
        /// How many were sent by themselves, with this one.
        resends: u32,
        /// The last request, with the one that this e-mail sees to.
        request: Option<String>,
    },
    /// Send the POST of the attempt that this term has under way.
    Post,
    /// Record that invite as the object's own.
    Adopt {
        /// The invite.
        found: Found,
        /// The role to record.
        role: Role,
    },
    /// Copy the record of the object in deletion that hands over.
    Inherit,
    /// Close the open attempt: nothing of it is left.
    Close,
    /// Delete an invite that an attempt was to replace and that is left over.
    Drop(String),
    /// Delete the recorded invite, then let the object go.
    Revoke(String),
    /// Let the object go.
    Release,
}

/// A reason and a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saying {
    /// The reason.
    pub reason: Reason,
    /// What is so, what happens next, what the user can do.
    pub message: String,
}

/// What the status says after the step.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum State {
    /// As before: the step's own outcome will tell, or nothing is known.
    Unchanged,
    /// The invitation is out.
    Invited,
    /// The person is a member.
    Member {
        /// ID of the user.
        user_id: String,
        /// What to say of it.
        saying: Saying,
    },
    /// Work is under way or waits for something that will come by itself.
    Progressing(Saying),
    /// A person has to do something.
    Stalled(Saying),
    /// The same, since the invitation or the member is gone.
    Gone(Saying),
    /// The last truth holds, and this is why nothing newer is known.
    Obscured(Saying),
}

impl Step {
    /// What the step would change in Astro, for a person; `None` for one that changes nothing there.
    #[must_use]
    pub fn describe(&self) -> Option<String> {
        match self {
            Self::Send { replaces: None, .. } | Self::Post => Some("send an invitation".to_owned()),
            Self::Send {
                replaces: Some(id), ..
            } => Some(format!("replace invitation {id}")),
            Self::Drop(id) => Some(format!("delete invitation {id}, which was replaced")),
            Self::Revoke(id) => Some(format!("revoke invitation {id}")),
            Self::Rest
            | Self::AwaitPass
            | Self::AwaitTime(_)
            | Self::Adopt { .. }
            | Self::Inherit
            | Self::Close
            | Self::Release => None,
        }
    }
}

/// A step and what to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The step.
    pub step: Step,
    /// What the status says.
    pub state: State,
}

impl Plan {
    fn act(step: Step) -> Self {
        Self {
            step,
            state: State::Unchanged,
        }
    }
    fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            step: Step::Rest,
            state: State::Stalled(saying(reason, message)),
        }
    }
    fn gone(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            step: Step::Rest,
            state: State::Gone(saying(reason, message)),
        }
    }
    fn await_pass() -> Self {
        Self::act(Step::AwaitPass)
    }
}

fn saying(reason: Reason, message: impl Into<String>) -> Saying {
    Saying {
        reason,
        message: message.into(),
    }
}

/// The decision table.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    if facts.deleting && facts.retain {
        return let_go(facts);
    }
    if let Some(attempt) = facts.open {
        return if facts.observed.sight == Sight::Blind {
            ask(facts, attempt)
        } else {
            settle(facts, attempt)
        };
    }
    if facts.deleting {
        return take_back(facts);
    }
    if let Some(invite) = facts.record.invite_id.as_deref() {
        return look_after(facts, invite);
    }
    begin(facts)
}

/// The invite that an open attempt was to replace. The annotation is in the hands of whoever may edit the
/// object, the record is not: what the object does not record is not its own to delete.
fn replaced<'a>(facts: &Facts<'_>, attempt: &'a Attempt) -> Option<&'a str> {
    let recorded = facts.record.invite_id.as_ref();
    attempt
        .replaces
        .as_deref()
        .filter(|id| recorded.is_some_and(|one| one == id))
}

/// *Attempt open*: its outcome is not known, or its POST is still to be sent.
fn settle(facts: &Facts<'_>, attempt: &Attempt) -> Plan {
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
    let old = pending
        .iter()
        .find(|found| Some(found.id.as_str()) == replaces && !is_over(found.expires_at, facts.now));
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
        return Plan::act(Step::Release);
    }
    if let Sight::Member { user_id, role } = &facts.observed.sight {
        return Plan {
            step: Step::Close,
            state: member_state(facts, user_id, *role),
        };
    }
    if let Some(refusal) = barred(&facts.observed.sight) {
        return Plan {
            step: Step::Close,
            state: State::Stalled(refusal),
        };
    }
    if let Some(old) = left_over
        && (facts.closing || !(facts.permits)(facts.role))
    {
        // It is not replaced after all, and must not be left without an owner.
        return adopt(facts, old, facts.record.role.unwrap_or(attempt.role));
    }
    if let Some(holder) = facts.standing.held_by {
        return Plan {
            step: Step::Close,
            state: State::Stalled(conflict(facts, holder)),
        };
    }
    if !(facts.permits)(facts.role) {
        return Plan {
            step: Step::Close,
            state: State::Stalled(not_permitted(facts.role)),
        };
    }
    if facts.closing {
        return Plan {
            step: Step::Close,
            state: State::Stalled(closing()),
        };
    }
    if facts.observed.doubt.is_some() {
        return braked(facts);
    }
    if underway && attempt.role == facts.role {
        return Plan::act(Step::Post);
    }
    let replaces = replaces.filter(|id| !facts.standing.shared.contains(id));
    Plan::act(Step::Send {
        replaces: replaces.map(str::to_owned),
        unseen: replaces.is_some() && old.is_none(),
        resends: attempt.resends,
        request: attempt.request.clone(),
    })
}

/// *Attempt open*, and nobody can look: a person has to tell what became of it. When this term did not send
/// its POST, only the DELETE of what it replaces is in question: it is repeated while get-invite shows that one.
fn ask(facts: &Facts<'_>, attempt: &Attempt) -> Plan {
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
    let asked = facts
        .request
        .is_some_and(|request| unsent || Some(request) != attempt.request.as_deref());
    let left_over = replaced(facts, attempt).filter(|id| !facts.standing.shared.contains(id));
    let in_question = left_over.filter(|_| unsent);
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
                    "The call that was to delete the invitation, for a new one in its place, had no answer, and now the invitation is gone: it was deleted, or the person accepted or declined it. The token may not list users, so that nobody can look.{answered} Look in Astro whether the person is a member. {ASK}"
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

/// *Deletion* with Retain: whatever there is in Astro stays there.
fn let_go(facts: &Facts<'_>) -> Plan {
    if facts.open.is_some() {
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
    match &facts.observed.sight {
        // The way out when Astro cannot be reached.
        Sight::Unreadable(_) | Sight::Member { .. } => Plan::act(Step::Release),
        _ if facts.record.invite_id.is_some() && facts.standing.heir == Heir::Waiting => {
            handing_over()
        }
        _ => Plan::act(Step::Release),
    }
}

/// Another object for the address copies the record: one that was declined is not sent again.
fn handing_over() -> Plan {
    Plan {
        step: Step::Rest,
        state: State::Progressing(saying(
            Reason::HandingOver,
            "Another OrgInvite for the address takes the invitation over",
        )),
    }
}

/// *Deletion*, no attempt open, or one that sent nothing.
fn take_back(facts: &Facts<'_>) -> Plan {
    let Some(invite) = facts.record.invite_id.as_deref() else {
        return Plan::act(Step::Release);
    };
    match &facts.observed.sight {
        Sight::NotYet => return Plan::await_pass(),
        Sight::Unreadable(why) => {
            return Plan {
                step: Step::AwaitPass,
                state: State::Progressing(saying(
                    Reason::AstroUnavailable,
                    format!(
                        "The invitation cannot be taken back while the organization cannot be read: {why}. It is tried again"
                    ),
                )),
            };
        }
        Sight::Member { .. } => return Plan::act(Step::Release),
        // It was accepted when one could look.
        Sight::Blind if facts.record.user_id.is_some() => return Plan::act(Step::Release),
        _ => {}
    }
    match facts.standing.heir {
        Heir::Recorded => return Plan::act(Step::Release),
        Heir::Waiting if facts.open.is_none() => return handing_over(),
        // What may be deleted already is not handed over.
        Heir::Waiting | Heir::None => {}
    }
    // Rule 10: the sight counts only when its pass began a listing delay after that answer.
    let shown = matches!(&facts.observed.sight, Sight::Pending(found) if found.iter().any(|found| found.id == invite));
    if facts.standing.shared.contains(&invite) {
        return Plan::act(Step::Release);
    }
    let blind = facts.observed.sight == Sight::Blind;
    if facts.own.revoke_answered_absent || (facts.own.revoke_refused && !shown && !blind) {
        // An answer that comes with such a list says nothing either.
        return if facts.observed.doubt == Some(Doubt::Missing) {
            braked(facts)
        } else {
            Plan::act(Step::Release)
        };
    }
    if facts.own.revoke_refused && blind {
        match &facts.observed.lookup {
            Lookup::Gone | Lookup::GoneOnce => return Plan::act(Step::Release),
            // Whatever get-invite answers then, it is not pending.
            Lookup::Exists if is_over(expires_at(facts), facts.now) => {
                return Plan::act(Step::Release);
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

/// *Invite recorded*, no attempt open, not in deletion.
fn look_after(facts: &Facts<'_>, invite: &str) -> Plan {
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
        Sight::NotYet if wanted || expired(facts) => Plan::await_pass(),
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
fn watch(facts: &Facts<'_>, invite: &str, wanted: bool) -> Plan {
    const BLIND: &str = "The token may not list users, so that nobody can tell whether the person accepted, and nobody is written to again by itself";
    let expired_unseen = || {
        Plan::stalled(
            Reason::Expired,
            format!("The invitation is past its expiry. {BLIND}. {ASK}"),
        )
    };
    if let Some(user_id) = &facts.record.user_id {
        return last_seen(facts, user_id).unwrap_or_else(|| again(facts, invite, false));
    }
    match &facts.observed.lookup {
        Lookup::InLine(time) => Plan::act(Step::AwaitTime(*time)),
        Lookup::NotAsked => looking(facts, State::Unchanged),
        Lookup::Unknown(why) => looking(facts, unreadable(why).state),
        Lookup::Gone | Lookup::GoneOnce if facts.request.is_some() => {
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
        Lookup::Gone | Lookup::GoneOnce if !over(facts) => Plan::gone(
            Reason::InvitationEnded,
            format!(
                "The invitation is gone before its expiry: it was accepted, declined or revoked. {BLIND}. {ASK}"
            ),
        ),
        // Nothing is sent because of it, so that it needs no grace.
        Lookup::Gone | Lookup::GoneOnce => expired_unseen(),
        Lookup::Exists if expired(facts) => expired_unseen(),
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
fn looking(facts: &Facts<'_>, state: State) -> Plan {
    Plan {
        step: facts.observed.next_look.map_or(Step::Rest, Step::AwaitTime),
        state,
    }
}

/// *Member recorded*, and nobody can look any longer: what was seen last. A member is not written to;
/// `None` when the person was gone and somebody asks for an invitation.
fn last_seen(facts: &Facts<'_>, user_id: &str) -> Option<Plan> {
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
fn after_expiry(facts: &Facts<'_>, invite: &str) -> Plan {
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
fn disappeared(facts: &Facts<'_>, invite: &str, invited: Plan) -> Plan {
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
                step: Step::AwaitPass,
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
        Lookup::Unknown(why) => unreadable(why),
        Lookup::InLine(time) => Plan::act(Step::AwaitTime(*time)),
        Lookup::GoneOnce | Lookup::NotAsked => Plan::await_pass(),
    }
}

/// One more e-mail in place of the recorded invite, when the person may be touched.
fn again(facts: &Facts<'_>, invite: &str, by_itself: bool) -> Plan {
    let present = listed_role(facts, invite).or(facts.record.role);
    for role in [Some(facts.role), present].into_iter().flatten() {
        if !(facts.permits)(role) {
            return Plan {
                step: Step::Rest,
                state: State::Stalled(not_permitted(role)),
            };
        }
    }
    send(facts, Some(invite.to_owned()), by_itself)
}

/// *Nothing recorded*, not in deletion.
fn begin(facts: &Facts<'_>) -> Plan {
    // Before anything that would tell this namespace about the person.
    if !(facts.permits)(facts.role) {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(not_permitted(facts.role)),
        };
    }
    match &facts.observed.sight {
        Sight::Unreadable(why) => return unreadable(why),
        Sight::NotYet => return Plan::await_pass(),
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

/// Sends, unless something speaks against any e-mail now: the Organization goes, too many people are
/// missing, nobody knows who was written to before, Astro refused just that, or the last e-mail to the
/// address is too young.
fn send(facts: &Facts<'_>, replaces: Option<String>, by_itself: bool) -> Plan {
    if facts.closing {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(closing()),
        };
    }
    if facts.observed.doubt.is_some() {
        return braked(facts);
    }
    if facts.copied && facts.request.is_none() {
        return Plan::stalled(
            Reason::Restored,
            format!(
                "The object was restored from a backup or copied from another place, and Astro shows no invitation: the person may have had one and declined. {ASK}"
            ),
        );
    }
    if let Some(refusal) = &facts.own.refused {
        return Plan {
            step: Step::Rest,
            state: State::Stalled(refusal.clone()),
        };
    }
    if let Some(time) = facts.own.not_before.filter(|time| *time > facts.now) {
        return spaced(time);
    }
    let (resends, request) = match facts.request {
        Some(request) => (0, Some(request.to_owned())),
        None => (
            facts.record.resends + u32::from(by_itself),
            facts.record.last_resend_request.clone(),
        ),
    };
    Plan::act(Step::Send {
        replaces,
        unseen: false,
        resends,
        request,
    })
}

fn closing() -> Saying {
    saying(
        Reason::OrganizationDeleting,
        "The Organization is being deleted, so that nothing new is sent. Delete this object as well, or create the Organization again once it is gone",
    )
}

/// Nobody is written to while more people are missing than is believed, or told as gone; nor while
/// nobody knows who was written to before. The end of that plans everybody again.
fn braked(facts: &Facts<'_>) -> Plan {
    let saying = if facts.observed.doubt == Some(Doubt::Missing) {
        saying(
            Reason::PeopleMissing,
            "More people are missing from the organization at once than is believed, so that nobody is written to. It goes on when a later reading shows them again, or when somebody acknowledges the loss on the Organization",
        )
    } else {
        saying(
            Reason::LongUnread,
            "The organization was not read for so long that the person may have been written to meanwhile, by what a restored backup does not know of. It goes on when somebody acknowledges that on the Organization",
        )
    };
    let settled = facts.record.invite_id.is_some() || facts.record.user_id.is_some();
    let wanted = facts.deleting
        || facts.open.is_some()
        || facts.request.is_some()
        || (facts.record.invite_id.is_some() && facts.record.role != Some(facts.role))
        || expired(facts);
    let state = match (settled, wanted) {
        // The last truth holds, and a thousand objects need not say that it is doubted.
        (true, false) => State::Unchanged,
        (true, true) => State::Obscured(saying),
        (false, _) => State::Progressing(saying),
    };
    Plan {
        step: Step::Rest,
        state,
    }
}

fn spaced(time: Timestamp) -> Plan {
    Plan {
        step: Step::AwaitTime(time),
        state: State::Progressing(saying(
            Reason::Spacing,
            format!(
                "The next e-mail to this address goes out after {time}, so that nobody gets several at once"
            ),
        )),
    }
}

/// Adopts `found`; `guess` is its role where the directory does not tell.
fn adopt(facts: &Facts<'_>, found: &Found, guess: Role) -> Plan {
    // Once it is over, it stands in nobody's way any more.
    let hands_off = |saying| Plan {
        step: once_over(facts, found.expires_at),
        state: State::Stalled(saying),
    };
    let role = match found.role {
        Some(role) if (facts.permits)(role) => role,
        Some(role) => return hands_off(not_permitted(role)),
        None if (facts.own_invite)(found) => guess,
        None => {
            return hands_off(saying(
                Reason::NotPermitted,
                "The person has a pending invitation that this operator did not send, and Astro does not show its role, so that nobody can tell whether this namespace may touch it. Revoke it in Astro, and a new one is sent",
            ));
        }
    };
    Plan::act(Step::Adopt {
        found: found.clone(),
        role,
    })
}

fn member_state(facts: &Facts<'_>, user_id: &str, role: Option<Role>) -> State {
    let (mut message, mut reason) = if facts.record.invite_id.is_some() {
        (
            "The person accepted and is a member of the organization".to_owned(),
            Reason::Accepted,
        )
    } else {
        (
            "The person is a member of the organization already; no e-mail is sent".to_owned(),
            Reason::AlreadyMember,
        )
    };
    if let Some(role) = role.filter(|role| *role != facts.role) {
        let (present, wanted) = (name(role), name(facts.role));
        message = format!("{message} with the role {present}, not {wanted}: change it in Astro");
        reason = Reason::RoleDiffers;
    }
    message.push_str(". Deleting this object does not remove the person");
    State::Member {
        user_id: user_id.to_owned(),
        saying: saying(reason, message),
    }
}

fn barred(sight: &Sight) -> Option<Saying> {
    match sight {
        Sight::Barred => Some(saying(
            Reason::PersonInactive,
            "Astro lists the person as inactive or banned. No e-mail is sent until somebody changes that in Astro",
        )),
        Sight::Unidentified => Some(saying(
            Reason::InviteUnidentified,
            "Astro lists the person as invited but does not show the invitation. Nothing is sent, since it may be pending: revoke it in Astro, and a new one is sent",
        )),
        _ => None,
    }
}

fn conflict(facts: &Facts<'_>, holder: &crate::resources::OrgInvite) -> Saying {
    let here = holder.metadata.namespace.as_deref() == Some(facts.namespace);
    let who = match &holder.metadata.name {
        Some(name) if here => format!("OrgInvite {name}"),
        _ => "An OrgInvite in another namespace".to_owned(),
    };
    saying(
        Reason::Conflict,
        format!(
            "{who} is for the same address, and one address gets one invitation. Delete one of the two"
        ),
    )
}

fn not_permitted(role: Role) -> Saying {
    saying(
        Reason::NotPermitted,
        format!(
            "The Organization does not allow this namespace to give the role {} to this address. Ask who looks after the Organization to allow it, or change the role",
            name(role)
        ),
    )
}

fn unreadable(why: &str) -> Plan {
    Plan {
        step: Step::AwaitPass,
        state: State::Obscured(saying(
            Reason::AstroUnavailable,
            format!(
                "The organization cannot be read: {why}. Nothing is sent or changed meanwhile, and it is tried again"
            ),
        )),
    }
}

fn settling() -> Plan {
    Plan {
        step: Step::AwaitPass,
        state: State::Obscured(saying(
            Reason::Settling,
            "It is not known whether an invitation is on its way. Nothing is sent until it has had time to arrive and the organization was read again",
        )),
    }
}

/// Whether the recorded invite expired. One that is known to have ended before does not expire any more,
/// or a person who declined would be written to in the end.
fn expired(facts: &Facts<'_>) -> bool {
    let ended_before = facts.record.gone_since.is_some() || facts.own.unlisted;
    !ended_before && is_over(expires_at(facts), facts.now)
}

/// Past its expiry without any grace, and not recorded to have ended before.
fn over(facts: &Facts<'_>) -> bool {
    facts.record.gone_since.is_none() && expires_at(facts).is_some_and(|time| facts.now > time)
}

fn at_expiry(facts: &Facts<'_>) -> Step {
    once_over(facts, expires_at(facts))
}

/// Waits until an invite that expires then is over.
fn once_over(facts: &Facts<'_>, expires_at: Option<Timestamp>) -> Step {
    expires_at
        .map(|time| later(time, EXPIRY_GRACE))
        .filter(|time| *time >= facts.now)
        .map_or(Step::Rest, Step::AwaitTime)
}

/// When the recorded invite expires: as the directory shows it now, else as recorded.
fn expires_at(facts: &Facts<'_>) -> Option<Timestamp> {
    let recorded = facts.record.invite_id.as_deref()?;
    match &facts.observed.sight {
        Sight::Pending(found) => found
            .iter()
            .find(|found| found.id == recorded)
            .and_then(|found| found.expires_at),
        _ => None,
    }
    .or_else(|| facts.record.expires_at.as_ref().map(|time| time.0))
}

fn listed_role(facts: &Facts<'_>, invite: &str) -> Option<Role> {
    match &facts.observed.sight {
        Sight::Pending(found) => found
            .iter()
            .find(|found| found.id == invite)
            .and_then(|found| found.role),
        _ => None,
    }
}

/// The role as users write it.
#[must_use]
pub fn name(role: Role) -> String {
    serde_json::to_value(role)
        .ok()
        .and_then(|value| value.as_str().map(str::to_owned))
        .unwrap_or_default()
}
