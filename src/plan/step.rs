//! The one step of a plan, and the steps that several states end with.

use jiff::Timestamp;

use super::facts::{Facts, Found, expires_at, listed_role};
use super::say::{ASK, braked, closing, not_permitted, saying};
use crate::astro::{EXPIRY_GRACE, Role, later};
use crate::resources::Reason;

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
    /// Close the open attempt, whose POST was never sent: the record stays.
    Abandon,
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

impl State {
    /// The same while an invitation is `replaced`: whether the last truth is still one is not known, because of what the
    /// operator itself did.
    #[must_use]
    pub fn while_replaced(self, replaced: bool) -> Self {
        match self {
            Self::Obscured(saying) if replaced => Self::Progressing(saying),
            other => other,
        }
    }
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
            | Self::Abandon
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
    pub(super) fn act(step: Step) -> Self {
        Self {
            step,
            state: State::Unchanged,
        }
    }
    pub(super) fn stalled(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            step: Step::Rest,
            state: State::Stalled(saying(reason, message)),
        }
    }
    pub(super) fn gone(reason: Reason, message: impl Into<String>) -> Self {
        Self {
            step: Step::Rest,
            state: State::Gone(saying(reason, message)),
        }
    }
    /// What it would change in Astro at a later time, for a person.
    #[must_use]
    pub fn later(&self) -> Option<String> {
        match (&self.step, &self.state) {
            (Step::AwaitTime(time), State::Progressing(saying))
                if saying.reason == Reason::Spacing =>
            {
                Some(format!("send an invitation after {time}"))
            }
            _ => None,
        }
    }
    pub(super) fn await_pass() -> Self {
        Self::act(Step::AwaitPass)
    }
}

/// One more e-mail in place of the recorded invite, when the person may be touched.
pub(super) fn again(facts: &Facts<'_>, invite: &str, by_itself: bool) -> Plan {
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

/// Sends, unless something speaks against any e-mail now: the Organization goes, too many people are
/// missing, nobody knows who was written to before, Astro refused just that, or the last e-mail to the
/// address is too young.
pub(super) fn send(facts: &Facts<'_>, replaces: Option<String>, by_itself: bool) -> Plan {
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

pub(super) fn spaced(time: Timestamp) -> Plan {
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
pub(super) fn adopt(facts: &Facts<'_>, found: &Found, guess: Role) -> Plan {
    // Once it is over, it stands in nobody's way any more.
    let hands_off = |refusal| {
        let refusal = if facts.deleting {
            saying(
                Reason::NotPermitted,
                "The address has a pending invitation that this namespace may not touch, so that nobody can tell whether it is to be taken back. Allow the role in the Organization, revoke the invitation in Astro, or set deletionPolicy to Retain",
            )
        } else {
            refusal
        };
        Plan {
            step: once_over(facts, found.expires_at),
            state: State::Stalled(refusal),
        }
    };
    let role = match found.role {
        Some(role) if (facts.permits)(role) => role,
        // Which role others gave is told only to who may invite the person.
        Some(role) if (facts.permits)(facts.role) => return hands_off(not_permitted(role)),
        Some(_) => return hands_off(not_permitted(facts.role)),
        None if (facts.own_invite)(found) && (facts.permits)(guess) => guess,
        None if (facts.own_invite)(found) => return hands_off(not_permitted(guess)),
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

pub(super) fn at_expiry(facts: &Facts<'_>) -> Step {
    once_over(facts, expires_at(facts))
}

/// Waits until an invite that expires then is over.
pub(super) fn once_over(facts: &Facts<'_>, expires_at: Option<Timestamp>) -> Step {
    expires_at
        .map(|time| later(time, EXPIRY_GRACE))
        .filter(|time| *time >= facts.now)
        .map_or(Step::Rest, Step::AwaitTime)
}
