//! The token may not list users.

use jiff::ToSpan;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::claims::Heir;
use orginvite_operator::plan::{Found, Lookup, Named, Own, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};

use crate::case::{ADMIN, Case, MEMBER, OWNER, attempt, expired, found, now, recorded};
use crate::table::{over, resend, send, table};

/// The token may not list users.
fn blind() -> Case {
    Case {
        sight: Sight::Blind,
        settled: false,
        term_settled: false,
        ..Case::default()
    }
}

/// In place of x1, which an earlier attempt may have deleted.
fn replace_again(request: Option<&str>) -> Step {
    Step::Send {
        replaces: Some("x1".to_owned()),
        unseen: true,
        resends: 0,
        request: request.map(str::to_owned),
    }
}

/// The DELETE was refused.
fn refused() -> Own {
    Own {
        revoke_refused: true,
        ..Own::default()
    }
}

/// The DELETE was answered that the invitation is not there.
fn absent() -> Own {
    Own {
        revoke_answered_absent: true,
        ..Own::default()
    }
}

#[test]
fn nothing_recorded_or_watched() {
    let next_look = Step::AwaitTime(now() + 5.minutes());
    let watched = |lookup| Case {
        record: recorded(),
        lookup,
        ..blind()
    };
    let past = |lookup| Case {
        record: expired(),
        lookup,
        ..blind()
    };
    let member_before = |asked| Case {
        record: OrgInviteStatus {
            user_id: Some("u".to_owned()),
            ..recorded()
        },
        asked,
        lookup: Lookup::Gone,
        ..blind()
    };
    let member_gone = |asked| {
        let case = member_before(asked);
        Case {
            record: OrgInviteStatus {
                gone_since: Some(Time(now() - 1.hour())),
                ..case.record
            },
            ..case
        }
    };
    let in_line = now() + 3.seconds();
    table(vec![
        (
            "a first e-mail needs no look",
            blind(),
            send(None),
            "Unchanged",
        ),
        (
            "not permitted",
            Case {
                role: OWNER,
                ..blind()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "held",
            Case {
                held: true,
                ..blind()
            },
            Step::Rest,
            "Conflict",
        ),
        (
            "takes over",
            Case {
                held: true,
                inherits: true,
                ..blind()
            },
            Step::Inherit,
            "Unchanged",
        ),
        (
            "there",
            watched(Lookup::Exists),
            next_look.clone(),
            "Invited",
        ),
        (
            "asked when its place in line comes",
            watched(Lookup::InLine(in_line)),
            Step::AwaitTime(in_line),
            "Unchanged",
        ),
        (
            "no answer",
            watched(Lookup::Unknown("timeout".to_owned())),
            next_look.clone(),
            "AstroUnavailable",
        ),
        (
            "gone, says one answer",
            watched(Lookup::GoneOnce),
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "gone, says one answer, and a person asks: it may be there, and would be left behind",
            Case {
                asked: Some("r"),
                ..watched(Lookup::GoneOnce)
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "gone, says one answer, and it has expired: nothing is sent for it",
            past(Lookup::GoneOnce),
            Step::Rest,
            "Expired",
        ),
        (
            "gone early: nobody can tell why",
            watched(Lookup::Gone),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "gone early, and Gone does not help: it may be accepted",
            Case {
                resend_when: ResendWhen::Gone,
                ..watched(Lookup::Gone)
            },
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "gone, and a person asks",
            Case {
                asked: Some("r"),
                ..watched(Lookup::Gone)
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "there, and a person asks",
            Case {
                asked: Some("r"),
                ..watched(Lookup::Exists)
            },
            resend(Some("x1"), 0, Some("r")),
            "Unchanged",
        ),
        (
            "role edited, still there",
            Case {
                role: ADMIN,
                ..watched(Lookup::Exists)
            },
            send(Some("x1")),
            "Unchanged",
        ),
        (
            "role edited, gone: it may be accepted",
            Case {
                role: ADMIN,
                ..watched(Lookup::Gone)
            },
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "role edited to one that is not allowed",
            Case {
                role: OWNER,
                ..watched(Lookup::Exists)
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "expired, old body",
            past(Lookup::Exists),
            Step::Rest,
            "Expired",
        ),
        ("expired, gone", past(Lookup::Gone), Step::Rest, "Expired"),
        (
            "expired, and a person asks",
            Case {
                asked: Some("r"),
                ..past(Lookup::Exists)
            },
            resend(Some("x1"), 0, Some("r")),
            "Unchanged",
        ),
        (
            "a member when one could look: the last truth holds",
            member_before(None),
            Step::Rest,
            "Accepted",
        ),
        (
            "the same, and a person asks: no e-mail to a member",
            member_before(Some("r")),
            Step::Rest,
            "Accepted",
        ),
        (
            "a member before anything was sent, and a person asks",
            Case {
                record: OrgInviteStatus {
                    user_id: Some("u".to_owned()),
                    ..OrgInviteStatus::default()
                },
                asked: Some("r"),
                ..blind()
            },
            Step::Rest,
            "AlreadyMember",
        ),
        (
            "a member who was gone when one could look",
            member_gone(None),
            Step::Rest,
            "MemberRemoved",
        ),
        (
            "the same, and a person asks",
            member_gone(Some("r")),
            resend(Some("x1"), 0, Some("r")),
            "Unchanged",
        ),
    ]);
}

/// The status since it tells that the outcome of the attempt is unknown, when there was that wish.
fn told(record: OrgInviteStatus, wish: &str) -> OrgInviteStatus {
    let known = attempt(None).map(|attempt| Attempt {
        told: Some(wish.to_owned()),
        ..attempt
    });
    OrgInviteStatus {
        open_attempt: known.map(Box::new),
        ..record
    }
}

#[test]
fn attempt_open_or_deletion() {
    let open = || Case {
        open: attempt(None),
        record: told(OrgInviteStatus::default(), ""),
        ..blind()
    };
    let asked_before = || Case {
        open: attempt(None).map(|attempt| Attempt {
            request: Some("r".to_owned()),
            ..attempt
        }),
        ..open()
    };
    let deleting = |lookup, own| Case {
        deleting: true,
        record: recorded(),
        lookup,
        own,
        ..blind()
    };
    let named = Found {
        role: None,
        ..found("x9", None)
    };
    table(vec![
        ("nobody can tell", open(), Step::Rest, "OutcomeUnknown"),
        (
            "a person names the invitation",
            Case {
                named: Some(Named::Found(named.clone())),
                ..open()
            },
            Step::Adopt {
                found: named.clone(),
                role: MEMBER,
            },
            "Unchanged",
        ),
        (
            "a person names somebody else's",
            Case {
                named: Some(Named::Found(named.clone())),
                own_invite: false,
                ..open()
            },
            over(),
            "NotPermitted",
        ),
        (
            "a person names a wrong one",
            Case {
                named: Some(Named::Refused("404".to_owned())),
                ..open()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "a person says: again",
            Case {
                asked: Some("r"),
                ..open()
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "a wish from before that was told",
            Case {
                asked: Some("r"),
                record: told(OrgInviteStatus::default(), "r"),
                ..open()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "a wish that is there when it is told",
            Case {
                asked: Some("r"),
                record: OrgInviteStatus::default(),
                ..open()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "a person's wish is not seen to twice",
            Case {
                asked: Some("r"),
                ..asked_before()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "again, as what is not allowed",
            Case {
                asked: Some("r"),
                role: OWNER,
                ..open()
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "in deletion nothing is sent",
            Case {
                deleting: true,
                asked: Some("r"),
                ..open()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "a person names one that another object records",
            Case {
                named: Some(Named::Found(found("x1", None))),
                shared: true,
                ..open()
            },
            Step::Close,
            "Unchanged",
        ),
        (
            "in deletion, named: recorded first",
            Case {
                deleting: true,
                named: Some(Named::Found(named.clone())),
                ..open()
            },
            Step::Adopt {
                found: named,
                role: MEMBER,
            },
            "Unchanged",
        ),
        (
            "deletion",
            deleting(Lookup::NotAsked, Own::default()),
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "deletion of one that get-invite does not show: only a DELETE tells",
            deleting(Lookup::Gone, Own::default()),
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "deletion trusts a 404",
            deleting(Lookup::NotAsked, absent()),
            Step::Release,
            "Unchanged",
        ),
        (
            "after a 400, gone",
            deleting(Lookup::Gone, refused()),
            Step::Release,
            "Unchanged",
        ),
        (
            "after a 400, still there",
            deleting(Lookup::Exists, refused()),
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "after a 400, still there, but past its expiry",
            Case {
                record: expired(),
                ..deleting(Lookup::Exists, refused())
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "deletion of who was a member when one could look",
            Case {
                record: OrgInviteStatus {
                    user_id: Some("u".to_owned()),
                    ..recorded()
                },
                ..deleting(Lookup::NotAsked, Own::default())
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "an heir waits",
            Case {
                heir: Heir::Waiting,
                ..deleting(Lookup::NotAsked, Own::default())
            },
            Step::Rest,
            "HandingOver",
        ),
    ]);
}

/// Nobody knows whether the DELETE of the replaced invite x1 went out, or what became of the POST.
#[test]
fn attempt_open_for_a_replacement() {
    let open = |record| Case {
        open: attempt(Some("x1")).map(|attempt| Attempt {
            role: ADMIN,
            ..attempt
        }),
        role: ADMIN,
        record,
        ..blind()
    };
    let named = |id: &str| Some(Named::Found(found(id, None)));
    let adopted = |id: &str, role| Step::Adopt {
        found: found(id, None),
        role,
    };
    table(vec![
        (
            "a person says: again",
            Case {
                asked: Some("r"),
                ..open(told(recorded(), ""))
            },
            replace_again(Some("r")),
            "Unchanged",
        ),
        (
            "again, but another object records the replaced one",
            Case {
                asked: Some("r"),
                shared: true,
                ..open(told(recorded(), ""))
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "again, but the replaced one is not to be touched",
            Case {
                asked: Some("r"),
                ..open(OrgInviteStatus {
                    role: Some(OWNER),
                    ..told(recorded(), "")
                })
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "the replaced one is named",
            Case {
                named: named("x1"),
                ..open(recorded())
            },
            adopted("x1", MEMBER),
            "Unchanged",
        ),
        (
            "the new one is named",
            Case {
                named: named("x2"),
                ..open(recorded())
            },
            adopted("x2", ADMIN),
            "Unchanged",
        ),
    ]);
}

/// Nobody can look, and this term did not send the POST of the open attempt, which replaces x1: only the
/// outcome of its DELETE is not known.
#[test]
fn attempt_open_whose_post_was_not_sent() {
    let unsent = |lookup| Case {
        open: attempt(Some("x1")).map(|attempt| Attempt {
            role: ADMIN,
            ..attempt
        }),
        role: ADMIN,
        record: recorded(),
        lookup,
        own: Own {
            unsent: Some("a2".to_owned()),
            ..Own::default()
        },
        ..blind()
    };
    let asked = |request| Case {
        open: attempt(Some("x1")).map(|attempt| Attempt {
            request: Some("r".to_owned()),
            ..attempt
        }),
        asked: request,
        ..unsent(Lookup::Gone)
    };
    let deleting = |own| Case {
        deleting: true,
        heir: Heir::Waiting,
        own: Own {
            unsent: Some("a2".to_owned()),
            ..own
        },
        ..unsent(Lookup::NotAsked)
    };
    let in_line = now() + 3.seconds();
    table(vec![
        (
            "nothing is replaced: the answer to its patch was lost",
            Case {
                open: attempt(None),
                record: OrgInviteStatus::default(),
                ..unsent(Lookup::NotAsked)
            },
            Step::Abandon,
            "Unchanged",
        ),
        (
            "still there",
            unsent(Lookup::Exists),
            replace_again(None),
            "Unchanged",
        ),
        (
            "still there, and another attempt is under way",
            Case {
                own: Own {
                    unsent: Some("a1".to_owned()),
                    ..Own::default()
                },
                ..unsent(Lookup::Exists)
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "still there, but the object does not record it",
            Case {
                record: OrgInviteStatus {
                    invite_id: Some("x7".to_owned()),
                    ..recorded()
                },
                ..unsent(Lookup::Exists)
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "still there, but past its expiry",
            Case {
                record: expired(),
                ..unsent(Lookup::Exists)
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "still there, and the role is no longer allowed",
            Case {
                role: OWNER,
                ..unsent(Lookup::Exists)
            },
            Step::Rest,
            "NotPermitted",
        ),
        (
            "still there, and the Organization is being deleted",
            Case {
                closing: true,
                ..unsent(Lookup::Exists)
            },
            Step::Rest,
            "OrganizationDeleting",
        ),
        (
            "still there, and an older object holds the address",
            Case {
                held: true,
                ..unsent(Lookup::Exists)
            },
            Step::Rest,
            "Conflict",
        ),
        (
            "gone, says one answer",
            unsent(Lookup::GoneOnce),
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "gone, says one answer, and a person asks",
            Case {
                asked: Some("r"),
                ..unsent(Lookup::GoneOnce)
            },
            Step::AwaitPass,
            "Unchanged",
        ),
        (
            "gone: accepted, or the DELETE took it",
            unsent(Lookup::Gone),
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "no answer",
            unsent(Lookup::Unknown("timeout".to_owned())),
            Step::AwaitTime(now() + 5.minutes()),
            "AstroUnavailable",
        ),
        (
            "asked when its place in line comes",
            unsent(Lookup::InLine(in_line)),
            Step::AwaitTime(in_line),
            "Unchanged",
        ),
        (
            "gone, and a person asks",
            Case {
                asked: Some("r"),
                ..unsent(Lookup::Gone)
            },
            replace_again(Some("r")),
            "Unchanged",
        ),
        (
            "gone, and a person had asked: that is not seen to yet",
            asked(Some("r")),
            replace_again(Some("r")),
            "Unchanged",
        ),
        (
            "the same, and nobody asks any more",
            asked(None),
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "deleted: taken back, and not handed over",
            deleting(Own::default()),
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "deleted, and it is gone, and nobody waits",
            Case {
                heir: Heir::None,
                ..deleting(absent())
            },
            Step::Release,
            "Unchanged",
        ),
        (
            "and somebody waits: it may have been accepted, so that it is handed over",
            deleting(absent()),
            Step::Abandon,
            "Unchanged",
        ),
        (
            "the DELETE was refused, and it is pending",
            Case {
                lookup: Lookup::Exists,
                ..deleting(refused())
            },
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
        (
            "the DELETE was refused, since it is gone",
            Case {
                lookup: Lookup::Gone,
                ..deleting(refused())
            },
            Step::Abandon,
            "Unchanged",
        ),
    ]);
}
