//! One more e-mail: after the expiry, after it is gone, or for a person's wish.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::plan::{Found, Lookup, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};

use crate::case::{ADMIN, Case, MEMBER, OWNER, attempt, found, member, now, pending, recorded};
use crate::table::{adopt, replace_unseen, resend, table};

#[test]
fn resends() {
    let old = || OrgInviteStatus {
        expires_at: Some(Time(now() - 1.hour())),
        invited_at: Some(Time(now() - 48.hours())),
        ..recorded()
    };
    let after = |resends| OrgInviteStatus { resends, ..old() };
    let listed = || {
        Sight::Pending(vec![Found {
            expires_at: Some(now() - 1.hour()),
            ..found("x1", Some(MEMBER))
        }])
    };
    let expired = || Case {
        record: old(),
        ..Case::default()
    };
    let gone = |resends| Case {
        record: OrgInviteStatus {
            resends,
            invited_at: Some(Time(now() - 15.minutes())),
            ..recorded()
        },
        lookup: Lookup::Gone,
        resend_when: ResendWhen::Gone,
        ..Case::default()
    };
    let first = resend(Some("x1"), 1, None);
    table(vec![
        ("expired, no row", expired(), first.clone(), "Unchanged"),
        (
            "expired, the old row is still there",
            Case {
                sight: listed(),
                ..expired()
            },
            first.clone(),
            "Unchanged",
        ),
        (
            "expired, a row without an invite",
            Case {
                sight: Sight::Unidentified,
                ..expired()
            },
            Step::Rest,
            "InviteUnidentified",
        ),
        (
            "expired, and banned",
            Case {
                sight: Sight::Barred,
                ..expired()
            },
            Step::Rest,
            "PersonInactive",
        ),
        (
            "expired, not known yet",
            Case {
                sight: Sight::NotYet,
                ..expired()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "expired within the grace",
            Case {
                record: OrgInviteStatus {
                    expires_at: Some(Time(now() - 4.minutes())),
                    ..recorded()
                },
                sight: Sight::Absent,
                lookup: Lookup::Gone,
                ..Case::default()
            },
            Step::AwaitTime(now() + 1.minutes()),
            "Unchanged",
        ),
        (
            "expired, somebody invited anew",
            Case {
                sight: pending("x2"),
                ..expired()
            },
            adopt("x2", MEMBER),
            "Unchanged",
        ),
        (
            "expired, the last that may be sent",
            Case {
                record: after(2),
                ..expired()
            },
            resend(Some("x1"), 3, None),
            "Unchanged",
        ),
        (
            "expired, no more",
            Case {
                record: after(3),
                ..expired()
            },
            Step::Rest,
            "ResendLimitReached",
        ),
        (
            "expired, no more, but asked for",
            Case {
                record: after(3),
                asked: Some("now"),
                ..expired()
            },
            resend(Some("x1"), 0, Some("now")),
            "Unchanged",
        ),
        (
            "expired, never",
            Case {
                resend_when: ResendWhen::Never,
                ..expired()
            },
            Step::Rest,
            "Expired",
        ),
        (
            "expired, never, but asked for",
            Case {
                resend_when: ResendWhen::Never,
                asked: Some("now"),
                ..expired()
            },
            resend(Some("x1"), 0, Some("now")),
            "Unchanged",
        ),
        (
            "expired, not permitted any more",
            Case {
                role: OWNER,
                ..expired()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "expired, the role edited",
            Case {
                role: ADMIN,
                ..expired()
            },
            first,
            "Unchanged",
        ),
        ("gone", gone(0), resend(Some("x1"), 1, None), "Unchanged"),
        (
            "gone again: it waits twice as long",
            gone(1),
            Step::AwaitTime(now() + 5.minutes()),
            "Spacing",
        ),
        (
            "gone again, long enough ago to the second",
            Case {
                record: OrgInviteStatus {
                    invited_at: Some(Time(now() - 20.minutes())),
                    ..gone(1).record
                },
                ..gone(1)
            },
            resend(Some("x1"), 2, None),
            "Unchanged",
        ),
        ("gone, no more", gone(3), Step::Rest, "InvitationWithdrawn"),
        (
            "gone, by default nobody is written to",
            Case {
                resend_when: ResendWhen::Expired,
                ..gone(0)
            },
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "gone, but asked for",
            Case {
                resend_when: ResendWhen::Expired,
                asked: Some("now"),
                ..gone(0)
            },
            resend(Some("x1"), 0, Some("now")),
            "Unchanged",
        ),
        (
            "pending, and asked for",
            Case {
                record: recorded(),
                sight: pending("x1"),
                asked: Some("now"),
                ..Case::default()
            },
            resend(Some("x1"), 0, Some("now")),
            "Unchanged",
        ),
        (
            "a member is not written to, asked for or not",
            Case {
                record: recorded(),
                sight: member(MEMBER),
                asked: Some("now"),
                ..Case::default()
            },
            Step::Rest,
            "Accepted",
        ),
        (
            "an attempt that left nothing is sent as what it was",
            Case {
                open: Some(Attempt {
                    resends: 2,
                    ..attempt(Some("x1")).unwrap()
                }),
                record: after(1),
                ..Case::default()
            },
            replace_unseen("x1", 2),
            "Unchanged",
        ),
    ]);
}
