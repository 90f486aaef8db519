//! An invite is recorded, and nothing is to be sent by itself.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::plan::{Found, Lookup, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;
use orginvite_operator::resources::org_invite::ResendWhen;

use crate::case::{ADMIN, Case, MEMBER, OWNER, found, member, now, pending, recorded};
use crate::table::{adopt, resend, send, table};

#[test]
fn invite_recorded() {
    let has = || Case {
        record: recorded(),
        sight: pending("x1"),
        ..Case::default()
    };
    let old = OrgInviteStatus {
        expires_at: Some(Time(now() - 1.hour())),
        ..recorded()
    };
    let accepted = || OrgInviteStatus {
        user_id: Some("u".to_owned()),
        ..recorded()
    };
    let expiry = Step::AwaitTime(now() + 24.hours() + 5.minutes());
    table(vec![
        ("pending", has(), expiry.clone(), "Invited"),
        (
            "not known yet",
            Case {
                sight: Sight::NotYet,
                ..has()
            },
            expiry.clone(),
            "Unchanged",
        ),
        (
            "unreadable",
            Case {
                sight: Sight::Unreadable("503".to_owned()),
                ..has()
            },
            Step::AwaitPass,
            "AstroUnavailable",
        ),
        (
            "role edited",
            Case {
                role: ADMIN,
                ..has()
            },
            send(Some("x1")),
            "Unchanged",
        ),
        (
            "role edited, not known yet",
            Case {
                role: ADMIN,
                sight: Sight::NotYet,
                ..has()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "role edited to what is not allowed",
            Case {
                role: OWNER,
                ..has()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "role edited, but now it gives what is not allowed",
            Case {
                role: ADMIN,
                sight: Sight::Pending(vec![found("x1", Some(OWNER))]),
                ..has()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "another invite",
            Case {
                sight: pending("x2"),
                ..has()
            },
            adopt("x2", MEMBER),
            "Unchanged",
        ),
        (
            "another invite, not settled",
            Case {
                sight: pending("x2"),
                settled: false,
                ..has()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "member",
            Case {
                sight: member(MEMBER),
                ..has()
            },
            Step::Rest,
            "Accepted",
        ),
        (
            "member with another role: told, not changed",
            Case {
                sight: member(ADMIN),
                ..has()
            },
            Step::Rest,
            "RoleDiffers",
        ),
        (
            "member after the expiry",
            Case {
                record: old.clone(),
                sight: member(MEMBER),
                ..has()
            },
            Step::Rest,
            "Accepted",
        ),
        (
            "expired",
            Case {
                record: old.clone(),
                sight: Sight::Absent,
                resend_when: ResendWhen::Never,
                ..has()
            },
            Step::Rest,
            "Expired",
        ),
        (
            "listed until later than recorded",
            Case {
                record: old,
                ..has()
            },
            expiry.clone(),
            "Invited",
        ),
        (
            "missed by the list only",
            Case {
                sight: Sight::Absent,
                lookup: Lookup::Exists,
                ..has()
            },
            expiry,
            "Invited",
        ),
        (
            "missed by the list only, the role edited",
            Case {
                role: ADMIN,
                sight: Sight::Absent,
                lookup: Lookup::Exists,
                ..has()
            },
            Step::Rest,
            "NotListed",
        ),
        (
            "missed by the list only, and a person asks",
            Case {
                asked: Some("now"),
                sight: Sight::Absent,
                lookup: Lookup::Exists,
                ..has()
            },
            Step::Rest,
            "NotListed",
        ),
        (
            "not listed, and a person asks: get-invite tells first",
            Case {
                asked: Some("now"),
                sight: Sight::Absent,
                ..has()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "gone, and only another that is over is listed",
            Case {
                sight: Sight::Pending(vec![Found {
                    expires_at: Some(now() - 1.hour()),
                    ..found("x2", Some(MEMBER))
                }]),
                lookup: Lookup::Gone,
                ..has()
            },
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "accepted, and no member any more",
            Case {
                record: accepted(),
                sight: Sight::Absent,
                lookup: Lookup::Gone,
                ..has()
            },
            Step::Rest,
            "MemberRemoved",
        ),
        (
            "accepted, no member any more, and a person asks",
            Case {
                record: accepted(),
                sight: Sight::Absent,
                asked: Some("now"),
                ..has()
            },
            resend(Some("x1"), 0, Some("now")),
            "Unchanged",
        ),
        (
            "gone, one pass",
            Case {
                sight: Sight::Absent,
                lookup: Lookup::GoneOnce,
                ..has()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "gone, two passes",
            Case {
                sight: Sight::Absent,
                lookup: Lookup::Gone,
                ..has()
            },
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "no answer from get-invite",
            Case {
                sight: Sight::Absent,
                lookup: Lookup::Unknown("500".to_owned()),
                ..has()
            },
            Step::Rest,
            "AstroUnavailable",
        ),
        (
            "barred",
            Case {
                sight: Sight::Barred,
                ..has()
            },
            Step::Rest,
            "PersonInactive",
        ),
        (
            "an older object holds it",
            Case {
                held: true,
                ..has()
            },
            Step::Rest,
            "Conflict",
        ),
    ]);
}
