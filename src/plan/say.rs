//! What a person is told.

use super::facts::{Doubt, Facts, Sight, expired};
use super::step::{Plan, Saying, State, Step};
use crate::astro::Role;
use crate::resources::Reason;
use crate::resources::conditions::is_true;

/// How a person asks for one more e-mail.
pub(super) const ASK: &str =
    "To send one more, set the annotation iam.astronomer.io/resend-requested-at to a new value";

pub(super) fn saying(reason: Reason, message: impl Into<String>) -> Saying {
    Saying {
        reason,
        message: message.into(),
    }
}

pub(super) fn closing() -> Saying {
    saying(
        Reason::OrganizationDeleting,
        "The Organization is being deleted, so that nothing new is sent. Delete this object as well, or create the Organization again once it is gone",
    )
}

/// Nobody is written to while more people are missing than is believed, or told as gone; nor while
/// nobody knows who was written to before. The end of that plans everybody again.
pub(super) fn braked(facts: &Facts<'_>) -> Plan {
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
    // Such as an Organization that was not ready, or a conflict: this is what keeps everything from going on now.
    let told = &facts.record.conditions;
    let outdated = is_true(told, "Reconciling")
        || (is_true(told, "Stalled") && facts.record.gone_since.is_none());
    let state = match (settled, wanted || outdated) {
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

pub(super) fn member_state(facts: &Facts<'_>, user_id: &str, role: Option<Role>) -> State {
    // Also of an invitation that was to be replaced when it was accepted.
    let was_invited = facts.record.invite_id.is_some() || facts.record.invited_at.is_some();
    let (mut message, mut reason) = if was_invited {
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

pub(super) fn barred(sight: &Sight) -> Option<Saying> {
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

pub(super) fn conflict(facts: &Facts<'_>, holder: &crate::resources::OrgInvite) -> Saying {
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

pub(super) fn not_permitted(role: Role) -> Saying {
    saying(
        Reason::NotPermitted,
        format!(
            "The Organization does not allow this namespace to give the role {} to this address. Ask who looks after the Organization to allow it, or change the role",
            name(role)
        ),
    )
}

pub(super) fn unreadable(why: &str) -> Plan {
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

pub(super) fn settling() -> Plan {
    Plan {
        step: Step::AwaitPass,
        state: State::Obscured(saying(
            Reason::Settling,
            "It is not known whether an invitation is on its way. Nothing is sent until it has had time to arrive and the organization was read again",
        )),
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
