//! One address, one claim: which of several objects for an address acts, and who takes over.

use std::cmp::Ordering;

use jiff::Timestamp;
use kube::ResourceExt;
use serde::Deserialize;

use crate::astro::Role;
use crate::resources::org_invite::{ATTEMPT_ANNOTATION, Attempt};
use crate::resources::{Address, OrgInvite, OrgInviteStatus};

/// The attempt in an object's annotation; `Some(Err)` when the annotation cannot be read, unless it is known by its ID
/// alone to be one whose outcome is recorded: such as one for a role that only a later version knows.
#[must_use]
pub fn annotated(object: &OrgInvite) -> Option<Result<Attempt, serde_json::Error>> {
    #[derive(Deserialize)]
    struct Named {
        id: String,
    }
    let text = object.annotations().get(ATTEMPT_ANNOTATION)?;
    let read = serde_json::from_str(text);
    if read.is_err()
        && let Ok(Named { id }) = serde_json::from_str(text)
        && let Some(status) = &object.status
        && status.attempt_id == Some(id)
    {
        return None;
    }
    Some(read)
}

/// The object's last attempt: the annotated one, or the one that the status knows to be open where somebody removed the
/// annotation or wrote an old one back.
#[must_use]
pub fn attempt(object: &OrgInvite) -> Option<Result<Attempt, serde_json::Error>> {
    match annotated(object) {
        Some(Ok(attempt)) if is_own(&attempt, object) => Some(Ok(attempt)),
        Some(Err(error)) => Some(Err(error)),
        other => lost(object).map(Ok).or(other),
    }
}

/// The attempt that the status knows to be open.
#[must_use]
pub fn lost(object: &OrgInvite) -> Option<Attempt> {
    let attempt = object.status.as_ref()?.open_attempt.as_deref()?;
    is_own(attempt, object).then(|| attempt.clone())
}

/// Whether the attempt is the object's own and its outcome is not recorded.
#[must_use]
pub fn is_own(attempt: &Attempt, object: &OrgInvite) -> bool {
    !is_copied(attempt, object) && !is_closed(attempt, object)
}

/// Whether the outcome of the object's last attempt is not known: rule 2 of the one-e-mail protocol.
#[must_use]
pub fn is_open(object: &OrgInvite) -> bool {
    match attempt(object) {
        None => false,
        Some(Err(_)) => true,
        Some(Ok(attempt)) => is_own(&attempt, object),
    }
}

/// Whether the annotation is not what this operator wrote, so that nothing settles it.
fn is_broken(object: &OrgInvite) -> bool {
    attempt(object).is_some_and(|attempt| {
        let named = attempt
            .ok()
            .and_then(|attempt| Address::parse(&attempt.email).ok());
        named.is_none() || named != Address::parse(&object.spec.email).ok()
    })
}

/// Whether the outcome of the attempt is recorded: from then on it says nothing.
#[must_use]
pub fn is_closed(attempt: &Attempt, object: &OrgInvite) -> bool {
    let status = object.status.as_ref();
    status.is_some_and(|status| is_ended(attempt, status))
}

/// The same by what is recorded.
#[must_use]
pub fn is_ended(attempt: &Attempt, record: &OrgInviteStatus) -> bool {
    let recorded = record.attempt_id.as_deref().unwrap_or_default();
    let after = attempt.after.as_deref();
    recorded == attempt.id || after.is_some_and(|after| after != recorded)
}

/// Whether the attempt came with the object from somewhere else: a backup that was restored, a
/// manifest that was read from a cluster and applied. It says nothing of what this object did.
#[must_use]
pub fn is_copied(attempt: &Attempt, object: &OrgInvite) -> bool {
    attempt.uid.is_some() && attempt.uid != object.metadata.uid
}

/// The invite that the object records.
#[must_use]
pub fn invite(object: &OrgInvite) -> Option<&str> {
    object.status.as_ref()?.invite_id.as_deref()
}

/// The member that the object records: somebody who was one when it was last seen.
fn member(object: &OrgInvite) -> Option<&str> {
    object.status.as_ref()?.user_id.as_deref()
}

/// What the object records of its person: the invite, or the member that no invite of its own made.
#[must_use]
pub fn recorded(object: &OrgInvite) -> Option<&str> {
    invite(object).or_else(|| member(object))
}

fn is_deleting(object: &OrgInvite) -> bool {
    object.metadata.deletion_timestamp.is_some()
}

/// Whether the object holds its address: by an open attempt, a recorded invite or a recorded member.
#[must_use]
pub fn holds(object: &OrgInvite) -> bool {
    is_open(object) || recorded(object).is_some()
}

fn waits(object: &OrgInvite) -> bool {
    !is_deleting(object) && !holds(object)
}

/// Whether a new e-mail is under way in place of the invite that `record` holds: the operator may have deleted that one.
#[must_use]
pub fn is_replacing(object: &OrgInvite, record: &OrgInviteStatus) -> bool {
    let Some(Ok(attempt)) = attempt(object) else {
        return false;
    };
    !is_copied(&attempt, object)
        && !is_ended(&attempt, record)
        && attempt.replaces.is_some()
        && attempt.replaces == record.invite_id
}

/// Oldest first, then by namespace and name.
fn age(a: &OrgInvite, b: &OrgInvite) -> Ordering {
    fn key(object: &OrgInvite) -> (Option<Timestamp>, Option<&str>, Option<&str>) {
        let metadata = &object.metadata;
        (
            metadata.creation_timestamp.as_ref().map(|time| time.0),
            metadata.namespace.as_deref(),
            metadata.name.as_deref(),
        )
    }
    key(a).cmp(&key(b))
}

/// Where an object stands among those for the same address of the same organization.
#[derive(Clone, Debug, Default)]
pub struct Standing<'a> {
    /// The object that keeps this one from acting, if any.
    pub held_by: Option<&'a OrgInvite>,
    /// For an object in deletion: who takes its record over.
    pub heir: Heir,
    /// For an object in deletion: whether another one would send once this one lets go, though it may take nothing over.
    pub would_send: bool,
    /// For an object with nothing recorded: the object in deletion whose record it takes over.
    pub inherits: Option<&'a OrgInvite>,
    /// Invites that another live object records: they must not be deleted.
    pub shared: Vec<&'a str>,
}

/// Who takes over from an object in deletion.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Heir {
    /// Nobody: an invitation is taken back.
    #[default]
    None,
    /// An object waits and has not recorded the same yet: hold on to it.
    Waiting,
    /// A live object records the same: let go without touching it.
    Recorded,
}

/// Finds where `own` stands among `others`, the other objects for its address.
///
/// `permits(object, role)` tells whether the policy lets the object's namespace give that role to the
/// address: who may not give its own waits in nobody's way, and who may not give that of the holder's
/// invite is no heir, unless its person is a member. The invite `taken_back` is nobody's any more,
/// whoever records it.
pub fn standing<'a>(
    own: &OrgInvite,
    others: &'a [impl AsRef<OrgInvite>],
    permits: impl Fn(&OrgInvite, Role) -> bool,
    taken_back: Option<&str>,
) -> Standing<'a> {
    let others: Vec<&OrgInvite> = others.iter().map(AsRef::as_ref).collect();
    let is_older = |other: &OrgInvite| age(other, own) == Ordering::Less;
    // One that nobody understands does nothing.
    let may_act = |object: &OrgInvite| {
        object.spec.not_understood().is_none() && permits(object, object.spec.role)
    };
    let is_in_line = |object: &OrgInvite| waits(object) && may_act(object);
    let may_inherit = |heir: &OrgInvite, holder: &OrgInvite| {
        let role = holder.status.as_ref().and_then(|status| status.role);
        let may_have = |id| taken_back != Some(id) && role.is_some_and(|role| permits(heir, role));
        // Of a member, it is known whose role counts: nobody's invite.
        is_in_line(heir) && (member(holder).is_some() || invite(holder).is_none_or(may_have))
    };
    // Whoever may invite nobody has nothing on its way that could not be read.
    let is_forged = |object: &OrgInvite| {
        is_broken(object) && recorded(object).is_none() && !permits(object, object.spec.role)
    };
    let hands_over =
        |holder: &OrgInvite| is_deleting(holder) && !is_open(holder) && recorded(holder).is_some();

    let held_by = if holds(own) {
        others.iter().copied().find(|other| {
            holds(other) && !is_forged(other) && !is_deleting(other) && is_older(other)
        })
    } else {
        others
            .iter()
            .copied()
            .find(|other| holds(other) && !is_forged(other))
            .or_else(|| {
                others
                    .iter()
                    .copied()
                    .find(|other| is_older(other) && is_in_line(other))
            })
    };

    // Whether a live object records the same.
    let is_recorded = |holder: &OrgInvite| {
        // Who may not have the invitation that was accepted took over that there is a member.
        let same = |other: &OrgInvite| {
            (invite(holder).is_some() && invite(other) == invite(holder))
                || (member(holder).is_some() && member(other) == member(holder))
        };
        others
            .iter()
            .any(|other| !is_deleting(other) && !is_open(other) && same(other))
    };

    let inherits = others.iter().copied().find(|holder| {
        let is_before = |other: &&OrgInvite| is_older(other) && may_inherit(other, holder);
        hands_over(holder)
            && !is_recorded(holder)
            && may_inherit(own, holder)
            && !others.iter().any(is_before)
    });

    let leaves = is_deleting(own) && holds(own);
    let recorded = leaves && is_recorded(own);
    let may_come = |other: &OrgInvite| is_open(other) && !is_broken(other) && may_act(other);
    let comes = |waits: &dyn Fn(&OrgInvite) -> bool| {
        let mut live = others.iter().filter(|other| !is_deleting(other));
        leaves && !recorded && live.any(|other| may_come(other) || waits(other))
    };
    let heir = if recorded {
        Heir::Recorded
    } else if comes(&|other| may_inherit(other, own)) {
        Heir::Waiting
    } else {
        Heir::None
    };
    let would_send = comes(&is_in_line);

    let shared = others
        .iter()
        .copied()
        .filter(|other| !is_deleting(other))
        .filter_map(invite)
        .collect();
    Standing {
        held_by,
        heir,
        would_send,
        inherits,
        shared,
    }
}
