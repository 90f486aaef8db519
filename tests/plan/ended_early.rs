//! An invitation that ended before its expiry.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::plan::{Lookup, Own, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;
use orginvite_operator::resources::org_invite::ResendWhen;

use crate::case::{Case, expired, now, recorded};
use crate::table::{resend, table};

/// Who declined is not written to because the invitation would have expired by now.
#[test]
fn an_invitation_that_ended_before_its_expiry() {
    let declined = |lookup| Case {
        record: OrgInviteStatus {
            gone_since: Some(Time(now() - 48.hours())),
            ..expired()
        },
        lookup,
        ..Case::default()
    };
    let unlisted = |record, lookup| Case {
        record,
        lookup,
        own: Own {
            unlisted: true,
            ..Own::default()
        },
        ..Case::default()
    };
    let in_the_grace = OrgInviteStatus {
        expires_at: Some(Time(now() - 4.minutes())),
        ..recorded()
    };
    let hidden = |case: Case| Case {
        sight: Sight::Blind,
        ..case
    };
    let watching = Step::AwaitTime(now() + 5.minutes());
    table(vec![
        (
            "declined, and past its expiry",
            declined(Lookup::Gone),
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "declined, past its expiry, and get-invite shows an old body",
            declined(Lookup::Exists),
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "declined, past its expiry, and a person asks",
            Case {
                asked: Some("monday"),
                ..declined(Lookup::Gone)
            },
            resend(Some("x1"), 0, Some("monday")),
            "Unchanged",
        ),
        (
            "declined, past its expiry, get-invite shows an old body, and a person asks",
            Case {
                asked: Some("monday"),
                ..declined(Lookup::Exists)
            },
            resend(Some("x1"), 0, Some("monday")),
            "Unchanged",
        ),
        (
            "declined, past its expiry, and the spec asks for another one",
            Case {
                resend_when: ResendWhen::Gone,
                ..declined(Lookup::Gone)
            },
            resend(Some("x1"), 1, None),
            "Unchanged",
        ),
        (
            "the list does not show it, get-invite does",
            unlisted(recorded(), Lookup::Exists),
            Step::AwaitTime(recorded().expires_at.unwrap().0 + 5.minutes()),
            "Invited",
        ),
        (
            "the list did not show it, and it expired just now",
            unlisted(in_the_grace.clone(), Lookup::Exists),
            Step::AwaitTime(now() + 1.minutes()),
            "Unchanged",
        ),
        (
            "the list did not show it, and it is past its expiry",
            unlisted(expired(), Lookup::Exists),
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "blind, ended before, and past its expiry",
            hidden(declined(Lookup::Gone)),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "blind, ended before, past its expiry, and get-invite shows an old body",
            hidden(declined(Lookup::Exists)),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "blind, the list did not show it, it is past its expiry, and get-invite shows an old body",
            hidden(unlisted(expired(), Lookup::Exists)),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "blind, the list did not show it, and past its expiry it is said once to be gone",
            hidden(unlisted(expired(), Lookup::GoneOnce)),
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "blind, the list did not show it, and it is gone past its expiry",
            hidden(unlisted(expired(), Lookup::Gone)),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "blind, gone within the grace",
            hidden(Case {
                record: in_the_grace.clone(),
                lookup: Lookup::Gone,
                ..Case::default()
            }),
            Step::Rest,
            "Expired",
        ),
        (
            "blind, there within the grace",
            hidden(Case {
                record: in_the_grace,
                lookup: Lookup::Exists,
                ..Case::default()
            }),
            Step::AwaitTime(now() + 1.minutes()),
            "Invited",
        ),
        (
            "blind, and no answer",
            hidden(Case {
                record: expired(),
                lookup: Lookup::Unknown("500".to_owned()),
                ..Case::default()
            }),
            watching,
            "AstroUnavailable",
        ),
    ]);
}
