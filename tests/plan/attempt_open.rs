//! An attempt is open: nobody knows yet what became of it.

use jiff::ToSpan;
use orginvite_operator::plan::{Own, Sight, State, Step};
use orginvite_operator::resources::Reason;
use orginvite_operator::resources::org_invite::Attempt;

use crate::case::{ADMIN, Case, MEMBER, OWNER, attempt, found, member, now, pending, recorded};
use crate::table::{adopt, over, replace_unseen, send, table};

#[test]
fn attempt_open() {
    let first = || Case {
        open: attempt(None),
        ..Case::default()
    };
    let replacing = || Case {
        open: attempt(Some("x1")),
        record: recorded(),
        ..Case::default()
    };
    let underway = || Own {
        underway: Some("a2".to_owned()),
        ..Own::default()
    };
    table(vec![
        (
            "not known yet",
            Case {
                sight: Sight::NotYet,
                ..first()
            },
            Step::AwaitPass,
            "Settling",
        ),
        (
            "absent, not settled",
            Case {
                settled: false,
                ..first()
            },
            Step::AwaitPass,
            "Settling",
        ),
        (
            "pending, not settled",
            Case {
                settled: false,
                sight: pending("x2"),
                ..first()
            },
            Step::AwaitPass,
            "Settling",
        ),
        ("absent", first(), send(None), "Unchanged"),
        (
            "found",
            Case {
                sight: pending("x2"),
                ..first()
            },
            adopt("x2", MEMBER),
            "Unchanged",
        ),
        (
            "found, without a role: the attempt's, not the spec's",
            Case {
                role: ADMIN,
                sight: Sight::Pending(vec![found("x2", None)]),
                ..first()
            },
            Step::Adopt {
                found: found("x2", None),
                role: MEMBER,
            },
            "Unchanged",
        ),
        (
            "member",
            Case {
                sight: member(MEMBER),
                ..first()
            },
            Step::Close,
            "AlreadyMember",
        ),
        (
            "barred",
            Case {
                sight: Sight::Barred,
                ..first()
            },
            Step::Close,
            "PersonInactive",
        ),
        (
            "held by another",
            Case {
                held: true,
                ..first()
            },
            Step::Close,
            "Conflict",
        ),
        (
            "not permitted any more",
            Case {
                role: OWNER,
                ..first()
            },
            Step::Close,
            "NotPermitted",
        ),
        (
            "replaced: only the old one is left",
            Case {
                sight: pending("x1"),
                ..replacing()
            },
            send(Some("x1")),
            "Unchanged",
        ),
        (
            "replaced: a new one as well",
            Case {
                sight: Sight::Pending(vec![found("x2", Some(MEMBER)), found("x1", Some(MEMBER))]),
                ..replacing()
            },
            Step::Drop("x1".to_owned()),
            "Unchanged",
        ),
        (
            "replaced: another object has it",
            Case {
                shared: true,
                sight: pending("x1"),
                ..replacing()
            },
            send(None),
            "Unchanged",
        ),
        (
            "replaced: only the old one is left, and the Organization is being deleted",
            Case {
                closing: true,
                sight: pending("x1"),
                ..replacing()
            },
            adopt("x1", MEMBER),
            "Unchanged",
        ),
        (
            "replaced: only the old one is left, by one that is not permitted any more",
            Case {
                role: OWNER,
                sight: pending("x1"),
                ..replacing()
            },
            adopt("x1", MEMBER),
            "Unchanged",
        ),
        (
            "deletion, not settled",
            Case {
                deleting: true,
                settled: false,
                ..first()
            },
            Step::AwaitPass,
            "Settling",
        ),
        (
            "deletion, nothing found",
            Case {
                deleting: true,
                ..first()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "deletion, found: recorded first",
            Case {
                deleting: true,
                sight: pending("x2"),
                ..first()
            },
            adopt("x2", MEMBER),
            "Unchanged",
        ),
        (
            "deletion, listed as invited without an invitation",
            Case {
                deleting: true,
                sight: Sight::Unidentified,
                ..first()
            },
            Step::Rest,
            "InviteUnidentified",
        ),
        (
            "deletion, inactive",
            Case {
                deleting: true,
                sight: Sight::Barred,
                ..first()
            },
            Step::Rest,
            "PersonInactive",
        ),
        (
            "under way and deleted, listed as invited without an invitation",
            Case {
                own: underway(),
                deleting: true,
                sight: Sight::Unidentified,
                ..replacing()
            },
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "deletion, the old one left",
            Case {
                deleting: true,
                sight: pending("x1"),
                ..replacing()
            },
            Step::Drop("x1".to_owned()),
            "Unchanged",
        ),
        (
            "under way, the look shows nobody",
            Case {
                own: underway(),
                settled: false,
                ..replacing()
            },
            Step::Post,
            "Unchanged",
        ),
        (
            "under way, the term is too young",
            Case {
                own: underway(),
                settled: false,
                term_settled: false,
                ..replacing()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "under way, the person accepted",
            Case {
                own: underway(),
                sight: member(MEMBER),
                ..replacing()
            },
            Step::Close,
            "Accepted",
        ),
        (
            "under way, somebody else invited",
            Case {
                own: underway(),
                sight: pending("x7"),
                ..replacing()
            },
            adopt("x7", MEMBER),
            "Unchanged",
        ),
        (
            "under way, the role edited again",
            Case {
                own: underway(),
                role: ADMIN,
                ..replacing()
            },
            replace_unseen("x1", 0),
            "Unchanged",
        ),
        (
            "replaced: nothing is left",
            replacing(),
            replace_unseen("x1", 0),
            "Unchanged",
        ),
        (
            "under way, deleted meanwhile",
            Case {
                own: underway(),
                deleting: true,
                ..replacing()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "unreadable",
            Case {
                sight: Sight::Unreadable("503".to_owned()),
                ..first()
            },
            Step::AwaitPass,
            "AstroUnavailable",
        ),
    ]);
}

/// The annotation may be forged: who may not invite the person is told nothing of it.
#[test]
fn attempt_open_of_who_may_not_invite() {
    let case = |sight| Case {
        open: attempt(None).map(|attempt| Attempt {
            role: OWNER,
            ..attempt
        }),
        role: OWNER,
        sight,
        ..Case::default()
    };
    let told = |sight, step| {
        let plan = case(sight).plan();
        let State::Stalled(saying) = plan.state else {
            panic!("{:?}", plan.state);
        };
        assert_eq!((plan.step, saying.reason), (step, Reason::NotPermitted));
        saying.message
    };
    let message = told(Sight::Absent, Step::Close);
    for sight in [
        member(MEMBER),
        member(OWNER),
        Sight::Barred,
        Sight::Unidentified,
    ] {
        assert_eq!(told(sight, Step::Close), message);
    }
    let held = Case {
        held: true,
        ..case(Sight::Absent)
    };
    assert!(matches!(held.plan().state, State::Stalled(saying) if saying.message == message));
    for sight in [Sight::Barred, Sight::Unidentified] {
        let gone = Case {
            deleting: true,
            ..case(sight)
        };
        assert_eq!(gone.plan().step, Step::Release);
    }
    // Where it was allowed, something may have been sent: it is left alone, and recorded when it is allowed again.
    for role in [None, Some(OWNER)] {
        let pending = Sight::Pending(vec![found("x1", role)]);
        assert_eq!(told(pending, over()), message);
    }
}

/// Nor does a forged one send an e-mail before its time.
#[test]
fn attempt_open_soon_after_an_e_mail() {
    let soon = now() + 1.minute();
    table(vec![(
        "absent",
        Case {
            open: attempt(None),
            own: Own {
                not_before: Some(soon),
                ..Own::default()
            },
            ..Case::default()
        },
        Step::AwaitTime(soon),
        "Spacing",
    )]);
}
