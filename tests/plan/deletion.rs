//! The object is being deleted.

use jiff::ToSpan;
use orginvite_operator::claims::Heir;
use orginvite_operator::plan::{Own, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;

use crate::case::{Case, MEMBER, OWNER, attempt, found, member, now, pending, recorded};
use crate::table::table;

#[test]
fn deletion() {
    let has = || Case {
        deleting: true,
        record: recorded(),
        sight: pending("x1"),
        ..Case::default()
    };
    let revoke = Step::Revoke("x1".to_owned());
    let absent = || Own {
        revoke_answered_absent: true,
        ..Own::default()
    };
    let refused = || Own {
        revoke_refused: true,
        ..Own::default()
    };
    table(vec![
        (
            "nothing sent",
            Case {
                deleting: true,
                sight: Sight::NotYet,
                ..Case::default()
            },
            Step::Release,
            "Unchanged",
        ),
        ("pending", has(), revoke.clone(), "Unchanged"),
        (
            "absent",
            Case {
                sight: Sight::Absent,
                ..has()
            },
            revoke.clone(),
            "Unchanged",
        ),
        (
            "somebody else's invite beside it",
            Case {
                sight: pending("x9"),
                ..has()
            },
            revoke.clone(),
            "Unchanged",
        ),
        (
            "member",
            Case {
                sight: member(MEMBER),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "not known yet",
            Case {
                sight: Sight::NotYet,
                ..has()
            },
            Step::AwaitPass,
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
            "404, and a look",
            Case {
                own: absent(),
                sight: Sight::Absent,
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "404, and a look that shows it",
            Case {
                own: absent(),
                ..has()
            },
            revoke.clone(),
            "Unchanged",
        ),
        (
            "404, and a look that shows it past its expiry",
            Case {
                own: absent(),
                now: now() + (30 * 24).hours(),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "404, and no look yet",
            Case {
                own: absent(),
                sight: Sight::NotYet,
                ..has()
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "400, and not pending",
            Case {
                own: refused(),
                sight: Sight::Absent,
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "400, and still pending",
            Case {
                own: refused(),
                ..has()
            },
            revoke.clone(),
            "Unchanged",
        ),
        (
            "somebody waits for it",
            Case {
                heir: Heir::Waiting,
                ..has()
            },
            Step::Rest,
            "HandingOver",
        ),
        (
            "somebody recorded it",
            Case {
                heir: Heir::Recorded,
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "another live object records it",
            Case {
                shared: true,
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "now it gives what is not allowed",
            Case {
                sight: Sight::Pending(vec![found("x1", Some(OWNER))]),
                ..has()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "sent when it was allowed",
            Case {
                role: OWNER,
                record: OrgInviteStatus {
                    role: Some(OWNER),
                    ..recorded()
                },
                sight: Sight::Pending(vec![found("x1", Some(OWNER))]),
                ..has()
            },
            revoke,
            "Unchanged",
        ),
    ]);
}

#[test]
fn deletion_with_retain() {
    let has = || Case {
        deleting: true,
        retain: true,
        record: recorded(),
        sight: pending("x1"),
        ..Case::default()
    };
    let soon = || Own {
        settles_at: Some(now() + 1.minute()),
        ..Own::default()
    };
    let over = || Own {
        settles_at: Some(now()),
        ..Own::default()
    };
    table(vec![
        ("pending", has(), Step::Release, "Unchanged"),
        (
            "somebody waits for it",
            Case {
                heir: Heir::Waiting,
                ..has()
            },
            Step::Rest,
            "HandingOver",
        ),
        (
            "somebody waits for nothing",
            Case {
                record: OrgInviteStatus::default(),
                heir: Heir::Waiting,
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "somebody waits, and the person accepted",
            Case {
                heir: Heir::Waiting,
                sight: member(MEMBER),
                ..has()
            },
            Step::Rest,
            "HandingOver",
        ),
        (
            "somebody waits, but Astro cannot be reached",
            Case {
                heir: Heir::Waiting,
                sight: Sight::Unreadable("503".to_owned()),
                ..has()
            },
            Step::Rest,
            "HandingOver",
        ),
        (
            "nobody knows whether an e-mail is on its way, and somebody would send another one",
            Case {
                open: attempt(None),
                record: OrgInviteStatus::default(),
                heir: Heir::Waiting,
                sight: Sight::Blind,
                own: over(),
                ..has()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "the same, though that one may take nothing over",
            Case {
                open: attempt(None),
                record: OrgInviteStatus::default(),
                would_send: true,
                sight: Sight::Blind,
                own: over(),
                ..has()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "the same while Astro cannot be read",
            Case {
                open: attempt(None),
                record: OrgInviteStatus::default(),
                would_send: true,
                sight: Sight::Unreadable("503".to_owned()),
                own: over(),
                ..has()
            },
            Step::AwaitPass,
            "AstroUnavailable",
        ),
        (
            "nobody can look, and this term knows that no e-mail is on its way",
            Case {
                open: attempt(Some("x1")),
                heir: Heir::Waiting,
                sight: Sight::Blind,
                own: Own {
                    unsent: Some("a2".to_owned()),
                    ..over()
                },
                ..has()
            },
            Step::Abandon,
            "Unchanged",
        ),
        (
            "the same, and nobody would",
            Case {
                open: attempt(None),
                record: OrgInviteStatus::default(),
                sight: Sight::Blind,
                own: over(),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "unreadable",
            Case {
                sight: Sight::Unreadable("503".to_owned()),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "not known yet",
            Case {
                sight: Sight::NotYet,
                own: soon(),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "attempt open",
            Case {
                open: attempt(None),
                own: soon(),
                ..has()
            },
            Step::AwaitTime(now() + 1.minute()),
            "Settling",
        ),
        (
            "attempt open long enough",
            Case {
                open: attempt(None),
                own: over(),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "attempt open long enough, and no pass since",
            Case {
                open: attempt(None),
                own: over(),
                settled: false,
                ..has()
            },
            Step::AwaitPass,
            "Settling",
        ),
        (
            "attempt open long enough, unreadable",
            Case {
                open: attempt(None),
                own: over(),
                settled: false,
                sight: Sight::Unreadable("503".to_owned()),
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "attempt open long enough, and nobody can look",
            Case {
                open: attempt(None),
                own: over(),
                settled: false,
                sight: Sight::Blind,
                ..has()
            },
            Step::Release,
            "Unchanged",
        ),
    ]);
}

#[test]
fn deletion_of_who_was_a_member() {
    let was = |heir, sight| Case {
        deleting: true,
        record: OrgInviteStatus {
            user_id: Some("u".to_owned()),
            ..OrgInviteStatus::default()
        },
        heir,
        sight,
        ..Case::default()
    };
    let invited = |heir| Case {
        record: OrgInviteStatus {
            user_id: Some("u".to_owned()),
            ..recorded()
        },
        ..was(heir, Sight::Blind)
    };
    let retained = |sight| Case {
        retain: true,
        ..was(Heir::Waiting, sight)
    };
    let unreadable = || Sight::Unreadable("503".to_owned());
    let release = || (Step::Release, "Unchanged");
    let hand_over = || (Step::Rest, "HandingOver");
    let rows = [
        ("nobody waits", was(Heir::None, Sight::Blind), release()),
        ("nor who can look", was(Heir::None, unreadable()), release()),
        ("still one", was(Heir::Waiting, member(MEMBER)), hand_over()),
        (
            "still one, and nobody waits",
            was(Heir::None, member(MEMBER)),
            release(),
        ),
        (
            "nobody can look",
            was(Heir::Waiting, Sight::Blind),
            hand_over(),
        ),
        (
            "who is gone",
            was(Heir::Waiting, Sight::Absent),
            hand_over(),
        ),
        (
            "it is recorded",
            was(Heir::Recorded, Sight::Blind),
            release(),
        ),
        (
            "not known yet",
            was(Heir::Waiting, Sight::NotYet),
            (Step::AwaitPass, "Unchanged"),
        ),
        (
            "unreadable",
            was(Heir::Waiting, unreadable()),
            (Step::AwaitPass, "AstroUnavailable"),
        ),
        ("who had accepted", invited(Heir::None), release()),
        ("and somebody waits", invited(Heir::Waiting), hand_over()),
        ("with Retain", retained(Sight::Absent), hand_over()),
        (
            "nor is Astro needed for it",
            retained(unreadable()),
            hand_over(),
        ),
        (
            "who was asked again",
            Case {
                open: attempt(Some("x1")),
                own: Own {
                    unsent: Some("a2".to_owned()),
                    ..Own::default()
                },
                ..invited(Heir::Waiting)
            },
            (Step::Abandon, "Unchanged"),
        ),
    ];
    let rows = rows.map(|(name, case, (step, says))| (name, case, step, says));
    table(Vec::from(rows));
}
