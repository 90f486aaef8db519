//! What a plan is made from: what is declared, recorded and observed, and what this term knows.

use std::time::Duration;

use jiff::Timestamp;

use super::step::Saying;
use crate::astro::{Role, is_over};
use crate::claims::Standing;
use crate::resources::org_invite::{Attempt, OrgInviteStatus, ResendWhen};

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
    /// Astro itself says that there is none, and two complete passes agree; where nobody can look, it says so twice, with
    /// a pass between that it refused itself.
    Gone,
    /// It says so, and no later pass agrees so far.
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
    /// Rule 10: a DELETE of the recorded invite, sent in this term, answered that it is not there; where nobody can look,
    /// twice.
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

/// Whether the recorded invite expired. One that is known to have ended before does not expire any more,
/// or a person who declined would be written to in the end.
pub(super) fn expired(facts: &Facts<'_>) -> bool {
    let ended_before = facts.record.gone_since.is_some() || facts.own.unlisted;
    !ended_before && is_over(expires_at(facts), facts.now)
}

/// Past its expiry without any grace, and not recorded to have ended before.
pub(super) fn over(facts: &Facts<'_>) -> bool {
    facts.record.gone_since.is_none() && expires_at(facts).is_some_and(|time| facts.now > time)
}

/// When the recorded invite expires: as the directory shows it now, else as recorded.
pub(super) fn expires_at(facts: &Facts<'_>) -> Option<Timestamp> {
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

pub(super) fn listed_role(facts: &Facts<'_>, invite: &str) -> Option<Role> {
    match &facts.observed.sight {
        Sight::Pending(found) => found
            .iter()
            .find(|found| found.id == invite)
            .and_then(|found| found.role),
        _ => None,
    }
}
