//! Nothing is recorded, and no attempt is open.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::plan::{Own, Saying, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;

use crate::case::{ADMIN, Case, MEMBER, OWNER, found, member, now, pending};
use crate::table::{adopt, over, send, table};

#[test]
fn nothing_recorded() {
    let new = Case::default;
    let refusal = Saying {
        reason: orginvite_operator::resources::Reason::Refused,
        message: String::new(),
    };
    let gone_member = OrgInviteStatus {
        user_id: Some("u".to_owned()),
        ..OrgInviteStatus::default()
    };
    table(vec![
        ("absent", new(), send(None), "Unchanged"),
        (
            "not known yet",
            Case {
                sight: Sight::NotYet,
                ..new()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "unreadable",
            Case {
                sight: Sight::Unreadable("401".to_owned()),
                ..new()
            },
            Step::AwaitPass,
            "AstroUnavailable",
        ),
        (
            "absent, not settled: a first send does not wait",
            Case {
                settled: false,
                term_settled: false,
                ..new()
            },
            send(None),
            "Unchanged",
        ),
        (
            "not permitted",
            Case {
                role: OWNER,
                ..new()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "not permitted, and a member: not told",
            Case {
                role: OWNER,
                sight: member(MEMBER),
                ..new()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "pending",
            Case {
                sight: pending("x9"),
                ..new()
            },
            adopt("x9", MEMBER),
            "Unchanged",
        ),
        (
            "pending, not settled",
            Case {
                sight: pending("x9"),
                settled: false,
                ..new()
            },
            Step::AwaitPass,
            "Settling",
        ),
        (
            "pending as what is not allowed",
            Case {
                sight: Sight::Pending(vec![found("x9", Some(OWNER))]),
                ..new()
            },
            over(),
            "NotPermitted",
        ),
        (
            "pending as who knows what, of somebody else",
            Case {
                sight: Sight::Pending(vec![found("x9", None)]),
                own_invite: false,
                ..new()
            },
            over(),
            "NotPermitted",
        ),
        (
            "pending as who knows what, our own",
            Case {
                sight: Sight::Pending(vec![found("x9", None)]),
                ..new()
            },
            Step::Adopt {
                found: found("x9", None),
                role: MEMBER,
            },
            "Unchanged",
        ),
        (
            "member, whom another object hands over",
            Case {
                sight: member(MEMBER),
                inherits: true,
                held: true,
                ..new()
            },
            Step::Inherit,
            "Unchanged",
        ),
        (
            "a member who is known already, and a role that is not allowed any longer",
            Case {
                sight: member(MEMBER),
                role: OWNER,
                record: OrgInviteStatus {
                    user_id: Some("u".to_owned()),
                    ..OrgInviteStatus::default()
                },
                ..new()
            },
            Step::Rest,
            "RoleDiffers",
        ),
        (
            "who accepted an invitation that was to be replaced",
            Case {
                sight: member(MEMBER),
                record: OrgInviteStatus {
                    invited_at: Some(Time(now())),
                    ..OrgInviteStatus::default()
                },
                ..new()
            },
            Step::Rest,
            "Accepted",
        ),
        (
            "member",
            Case {
                sight: member(MEMBER),
                ..new()
            },
            Step::Rest,
            "AlreadyMember",
        ),
        (
            "member with another role",
            Case {
                sight: member(ADMIN),
                ..new()
            },
            Step::Rest,
            "RoleDiffers",
        ),
        (
            "was a member",
            Case {
                record: gone_member,
                ..new()
            },
            Step::Rest,
            "MemberRemoved",
        ),
        (
            "barred",
            Case {
                sight: Sight::Barred,
                ..new()
            },
            Step::Rest,
            "PersonInactive",
        ),
        (
            "unidentified",
            Case {
                sight: Sight::Unidentified,
                ..new()
            },
            Step::Rest,
            "InviteUnidentified",
        ),
        (
            "held by another",
            Case {
                held: true,
                ..new()
            },
            Step::Rest,
            "Conflict",
        ),
        (
            "held by another, pending",
            Case {
                held: true,
                sight: pending("x1"),
                ..new()
            },
            Step::Rest,
            "Conflict",
        ),
        (
            "a holder hands over",
            Case {
                held: true,
                inherits: true,
                sight: pending("x1"),
                ..new()
            },
            Step::Inherit,
            "Unchanged",
        ),
        (
            "a holder hands over, but Astro cannot be reached",
            Case {
                held: true,
                inherits: true,
                sight: Sight::Unreadable("503".to_owned()),
                ..new()
            },
            Step::AwaitPass,
            "AstroUnavailable",
        ),
        (
            "the same, and the holder calls nobody",
            Case {
                held: true,
                inherits: true,
                from_retain: true,
                sight: Sight::Unreadable("503".to_owned()),
                ..new()
            },
            Step::Inherit,
            "Unchanged",
        ),
        (
            "a holder hands over what is gone",
            Case {
                held: true,
                inherits: true,
                ..new()
            },
            Step::Inherit,
            "Unchanged",
        ),
        (
            "refused before",
            Case {
                own: Own {
                    refused: Some(refusal),
                    ..Own::default()
                },
                ..new()
            },
            Step::Rest,
            "Refused",
        ),
        (
            "too soon",
            Case {
                own: Own {
                    not_before: Some(now() + 1.minute()),
                    ..Own::default()
                },
                ..new()
            },
            Step::AwaitTime(now() + 1.minute()),
            "Spacing",
        ),
        (
            "soon enough",
            Case {
                own: Own {
                    not_before: Some(now()),
                    ..Own::default()
                },
                ..new()
            },
            send(None),
            "Unchanged",
        ),
    ]);
}
