//! More people are missing at once than is believed.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::plan::{Doubt, Found, Lookup, Own, Sight, Step};
use orginvite_operator::resources::conditions::{self, Claim};
use orginvite_operator::resources::{OrgInviteStatus, Reason};

use crate::case::{ADMIN, Case, MEMBER, attempt, expired, found, now, pending, recorded};
use crate::table::{adopt, table};

#[test]
fn more_people_are_missing_than_is_believed() {
    let braked = |record: OrgInviteStatus| Case {
        doubt: Some(Doubt::Missing),
        record,
        lookup: Lookup::Gone,
        ..Case::default()
    };
    let member_before = OrgInviteStatus {
        user_id: Some("u".to_owned()),
        ..recorded()
    };
    let told = |kind, reason, record| OrgInviteStatus {
        conditions: conditions::merge(
            &[],
            &[Claim {
                kind,
                status: "True",
                reason,
                message: String::new(),
            }],
            1,
            now(),
        ),
        ..record
    };
    let gone = OrgInviteStatus {
        gone_since: Some(Time(now())),
        ..member_before.clone()
    };
    let absent = Own {
        revoke_answered_absent: true,
        ..Own::default()
    };
    table(vec![
        (
            "no first e-mail: the person may be among them",
            braked(OrgInviteStatus::default()),
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "the last truth holds",
            braked(recorded()),
            Step::Rest,
            "Unchanged",
        ),
        (
            "but not what kept it from going on before",
            braked(told("Reconciling", Reason::WriteRefused, recorded())),
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "nor what a person has seen to meanwhile",
            braked(told("Stalled", Reason::Conflict, recorded())),
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "who had gone before has gone",
            braked(told("Stalled", Reason::MemberRemoved, gone)),
            Step::Rest,
            "Unchanged",
        ),
        (
            "also of a member",
            braked(member_before),
            Step::Rest,
            "Unchanged",
        ),
        (
            "also of one to whom nothing was sent",
            braked(OrgInviteStatus {
                user_id: Some("u".to_owned()),
                ..OrgInviteStatus::default()
            }),
            Step::Rest,
            "Unchanged",
        ),
        ("no resend", braked(expired()), Step::Rest, "PeopleMissing"),
        (
            "no resend of one that the list shows",
            Case {
                sight: Sight::Pending(vec![Found {
                    expires_at: Some(now() - 1.hours()),
                    ..found("x1", Some(MEMBER))
                }]),
                ..braked(expired())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "not for a person's wish either",
            Case {
                asked: Some("r"),
                ..braked(recorded())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "no replacement",
            Case {
                role: ADMIN,
                ..braked(recorded())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "an attempt is not believed to have left nothing",
            Case {
                open: attempt(None),
                ..braked(OrgInviteStatus::default())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "nor released",
            Case {
                deleting: true,
                open: attempt(None),
                ..braked(OrgInviteStatus::default())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "no POST between a replacement's DELETE and its end",
            Case {
                open: attempt(Some("x1")),
                own: Own {
                    underway: Some("a2".to_owned()),
                    ..Own::default()
                },
                ..braked(recorded())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "deletion goes on",
            Case {
                deleting: true,
                ..braked(recorded())
            },
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "a 404 releases nothing",
            Case {
                deleting: true,
                own: absent,
                ..braked(recorded())
            },
            Step::Rest,
            "PeopleMissing",
        ),
        (
            "what is shown is as ever",
            Case {
                sight: pending("x1"),
                ..braked(recorded())
            },
            Step::AwaitTime(now() + 24.hours() + 5.minutes()),
            "Invited",
        ),
        (
            "who is found is adopted",
            Case {
                sight: pending("x1"),
                ..braked(OrgInviteStatus::default())
            },
            adopt("x1", MEMBER),
            "Unchanged",
        ),
    ]);
}
