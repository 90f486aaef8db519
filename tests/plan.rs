//! The decision table, row by row. Pure: no cluster, no Astro, no clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::too_many_lines,
    clippy::struct_excessive_bools,
    clippy::unnecessary_wraps,
    reason = "a table is as long as its rows, and a case as wide as the facts"
)]

use std::time::Duration;

use jiff::{Timestamp, ToSpan};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;
use orginvite_operator::astro::Role;
use orginvite_operator::claims::{Heir, Standing};
use orginvite_operator::plan::{
    Doubt, Facts, Found, Lookup, Named, Observation, Own, Saying, Sight, State, Step, plan,
};
use orginvite_operator::resources::OrgInviteStatus;
use orginvite_operator::resources::org_invite::{Attempt, ResendWhen};
use orginvite_operator::resources::reason::About;

const MEMBER: Role = Role::OrganizationMember;
const ADMIN: Role = Role::OrganizationBillingAdmin;
const OWNER: Role = Role::OrganizationOwner;

fn now() -> Timestamp {
    "2026-11-24T12:00:00Z".parse().unwrap()
}

/// A situation; its default is a new object for an address that is settled to be absent.
#[derive(Clone)]
struct Case {
    deleting: bool,
    role: Role,
    open: Option<Attempt>,
    record: OrgInviteStatus,
    heir: Heir,
    held: bool,
    inherits: bool,
    shared: bool,
    sight: Sight,
    settled: bool,
    term_settled: bool,
    lookup: Lookup,
    own: Own,
    own_invite: bool,
    retain: bool,
    closing: bool,
    doubt: Option<Doubt>,
    copied: bool,
    named: Option<Named>,
    resend_when: ResendWhen,
    request: Option<&'static str>,
}

impl Default for Case {
    fn default() -> Self {
        Self {
            deleting: false,
            role: MEMBER,
            open: None,
            record: OrgInviteStatus::default(),
            heir: Heir::None,
            held: false,
            inherits: false,
            shared: false,
            sight: Sight::Absent,
            settled: true,
            term_settled: true,
            lookup: Lookup::NotAsked,
            own: Own::default(),
            own_invite: true,
            retain: false,
            closing: false,
            doubt: None,
            copied: false,
            named: None,
            resend_when: ResendWhen::Expired,
            request: None,
        }
    }
}

/// The step, and the reason that the status gives: `Unchanged`, `Invited` or the reason.
fn decide(case: &Case) -> (Step, String) {
    let other: orginvite_operator::resources::OrgInvite =
        serde_json::from_value(serde_json::json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": "other", "namespace": "elsewhere"},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        }))
        .unwrap();
    let standing = Standing {
        held_by: case.held.then_some(&other),
        heir: case.heir,
        inherits: case.inherits.then_some(&other),
        shared: if case.shared { vec!["x1"] } else { vec![] },
    };
    let observed = Observation {
        sight: case.sight.clone(),
        settled: case.settled,
        term_settled: case.term_settled,
        lookup: case.lookup.clone(),
        named: case.named.clone(),
        next_look: Some(now() + 5.minutes()),
        doubt: case.doubt,
    };
    let own_invite = case.own_invite;
    let plan = plan(&Facts {
        deleting: case.deleting,
        retain: case.retain,
        closing: case.closing,
        copied: case.copied,
        role: case.role,
        resend_when: case.resend_when,
        max_resends: 3,
        request: case.request,
        spacing: Duration::from_mins(10),
        open: case.open.as_ref(),
        record: &case.record,
        permits: &|role| role != OWNER,
        own_invite: &|_| own_invite,
        standing: &standing,
        observed: &observed,
        own: &case.own,
        now: now(),
        namespace: "here",
    });
    let told_by = match &plan.state {
        State::Member { .. } => "Ready",
        State::Progressing(_) | State::Obscured(_) => "Reconciling",
        _ => "Stalled",
    };
    let reason = match plan.state {
        State::Unchanged => "Unchanged".to_owned(),
        State::Invited => "Invited".to_owned(),
        State::Member { saying, .. }
        | State::Progressing(saying)
        | State::Stalled(saying)
        | State::Gone(saying)
        | State::Obscured(saying) => {
            assert!(
                !saying.message.contains("elsewhere"),
                "names a holder in another namespace"
            );
            let known = saying.reason.told_by();
            assert!(
                known.contains(&(About::OrgInvite, told_by)),
                "{} is not told by {told_by}",
                saying.reason
            );
            saying.reason.to_string()
        }
    };
    (plan.step, reason)
}

fn found(id: &str, role: Option<Role>) -> Found {
    Found {
        id: id.to_owned(),
        role,
        expires_at: Some(now() + 24.hours()),
        inviter: None,
    }
}

fn pending(id: &str) -> Sight {
    Sight::Pending(vec![found(id, Some(MEMBER))])
}

/// When what [`found`] finds is over.
fn over() -> Step {
    Step::AwaitTime(now() + 24.hours() + 5.minutes())
}

fn member(role: Role) -> Sight {
    Sight::Member {
        user_id: "u".to_owned(),
        role: Some(role),
    }
}

/// The status of an object that invited with invite x1.
fn recorded() -> OrgInviteStatus {
    OrgInviteStatus {
        invite_id: Some("x1".to_owned()),
        attempt_id: Some("a1".to_owned()),
        role: Some(MEMBER),
        expires_at: Some(Time(now() + 24.hours())),
        ..OrgInviteStatus::default()
    }
}

fn attempt(replaces: Option<&str>) -> Option<Attempt> {
    Some(Attempt {
        id: "a2".to_owned(),
        uid: None,
        email: "jane@example.com".to_owned(),
        role: MEMBER,
        replaces: replaces.map(str::to_owned),
        resends: 0,
        request: None,
    })
}

fn send(replaces: Option<&str>) -> Step {
    resend(replaces, 0, None)
}

/// In place of an invitation that an earlier attempt may have deleted.
fn replace_unseen(id: &str, resends: u32) -> Step {
    Step::Send {
        replaces: Some(id.to_owned()),
        unseen: true,
        resends,
        request: None,
    }
}

fn resend(replaces: Option<&str>, resends: u32, request: Option<&str>) -> Step {
    Step::Send {
        replaces: replaces.map(str::to_owned),
        unseen: false,
        resends,
        request: request.map(str::to_owned),
    }
}

fn adopt(id: &str, role: Role) -> Step {
    Step::Adopt {
        found: found(id, Some(role)),
        role,
    }
}

fn table(rows: Vec<(&str, Case, Step, &str)>) {
    for (name, case, step, reason) in rows {
        assert_eq!(decide(&case), (step, reason.to_owned()), "{name}");
    }
}

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
            Step::AwaitPass,
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
                request: Some("now"),
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
                request: Some("now"),
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
                request: Some("now"),
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
                request: Some("now"),
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
                request: Some("now"),
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

/// A record of an invitation whose time is over.
fn expired() -> OrgInviteStatus {
    OrgInviteStatus {
        expires_at: Some(Time(now() - 1.hours())),
        ..recorded()
    }
}

/// The token may not list users.
fn blind() -> Case {
    Case {
        sight: Sight::Blind,
        settled: false,
        term_settled: false,
        ..Case::default()
    }
}

#[test]
fn blind_nothing_recorded_or_watched() {
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
    let member_before = |request| Case {
        record: OrgInviteStatus {
            user_id: Some("u".to_owned()),
            ..recorded()
        },
        request,
        lookup: Lookup::Gone,
        ..blind()
    };
    let member_gone = |request| {
        let case = member_before(request);
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
            "gone early: nobody can tell why",
            watched(Lookup::GoneOnce),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "gone early, and Gone does not help: it may be accepted",
            Case {
                resend_when: ResendWhen::Gone,
                ..watched(Lookup::GoneOnce)
            },
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "gone, and a person asks",
            Case {
                request: Some("r"),
                ..watched(Lookup::GoneOnce)
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "there, and a person asks",
            Case {
                request: Some("r"),
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
                ..watched(Lookup::GoneOnce)
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
        (
            "expired, gone",
            past(Lookup::GoneOnce),
            Step::Rest,
            "Expired",
        ),
        (
            "expired, and a person asks",
            Case {
                request: Some("r"),
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
                request: Some("r"),
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

#[test]
fn blind_attempt_open_or_deletion() {
    let open = || Case {
        open: attempt(None),
        ..blind()
    };
    let asked_before = || Case {
        open: attempt(None).map(|attempt| Attempt {
            request: Some("r".to_owned()),
            ..attempt
        }),
        ..blind()
    };
    let deleting = |lookup, own| Case {
        deleting: true,
        record: recorded(),
        lookup,
        own,
        ..blind()
    };
    let refused = || Own {
        revoke_refused: true,
        ..Own::default()
    };
    let absent = Own {
        revoke_answered_absent: true,
        ..Own::default()
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
                request: Some("r"),
                ..open()
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "a person's wish is not seen to twice",
            Case {
                request: Some("r"),
                ..asked_before()
            },
            Step::Rest,
            "OutcomeUnknown",
        ),
        (
            "again, as what is not allowed",
            Case {
                request: Some("r"),
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
                request: Some("r"),
                ..open()
            },
            Step::Rest,
            "OutcomeUnknown",
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
            "deletion trusts a 404",
            deleting(Lookup::NotAsked, absent),
            Step::Release,
            "Unchanged",
        ),
        (
            "after a 400, gone",
            deleting(Lookup::GoneOnce, refused()),
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
            "also of a member",
            braked(member_before),
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
                request: Some("r"),
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

#[test]
fn the_organization_is_being_deleted() {
    let closing = |record: OrgInviteStatus| Case {
        closing: true,
        record,
        ..Case::default()
    };
    table(vec![
        (
            "nothing new is sent",
            closing(OrgInviteStatus::default()),
            Step::Rest,
            "OrganizationDeleting",
        ),
        (
            "nor again",
            Case {
                sight: Sight::Absent,
                ..closing(expired())
            },
            Step::Rest,
            "OrganizationDeleting",
        ),
        (
            "an attempt that left nothing is closed",
            Case {
                open: attempt(None),
                ..closing(OrgInviteStatus::default())
            },
            Step::Close,
            "OrganizationDeleting",
        ),
        (
            "what is out is watched",
            Case {
                sight: pending("x1"),
                ..closing(recorded())
            },
            Step::AwaitTime(now() + 24.hours() + 5.minutes()),
            "Invited",
        ),
        (
            "and taken back",
            Case {
                deleting: true,
                sight: pending("x1"),
                ..closing(recorded())
            },
            Step::Revoke("x1".to_owned()),
            "Unchanged",
        ),
    ]);
}

#[test]
fn restored_from_a_backup() {
    let unread = |record: OrgInviteStatus| Case {
        doubt: Some(Doubt::Unread),
        record,
        ..Case::default()
    };
    let copied = || Case {
        copied: true,
        ..Case::default()
    };
    table(vec![
        (
            "after a long gap nobody of before is written to",
            unread(OrgInviteStatus::default()),
            Step::Rest,
            "LongUnread",
        ),
        (
            "nor again",
            Case {
                ..unread(expired())
            },
            Step::Rest,
            "LongUnread",
        ),
        (
            "nor for an attempt that left nothing",
            Case {
                open: attempt(None),
                ..unread(OrgInviteStatus::default())
            },
            Step::Rest,
            "LongUnread",
        ),
        (
            "what is there is found",
            Case {
                sight: pending("x1"),
                ..unread(OrgInviteStatus::default())
            },
            adopt("x1", MEMBER),
            "Unchanged",
        ),
        (
            "what is gone is told as gone",
            Case {
                lookup: Lookup::Gone,
                ..unread(recorded())
            },
            Step::Rest,
            "InvitationWithdrawn",
        ),
        (
            "copied with an attempt of another object",
            copied(),
            Step::Rest,
            "Restored",
        ),
        (
            "the same, and a person asks",
            Case {
                request: Some("r"),
                ..copied()
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "the same, found",
            Case {
                sight: pending("x1"),
                ..copied()
            },
            adopt("x1", MEMBER),
            "Unchanged",
        ),
        (
            "the same, where nobody can look",
            Case {
                sight: Sight::Blind,
                ..copied()
            },
            Step::Rest,
            "Restored",
        ),
    ]);
}

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
                request: Some("monday"),
                ..declined(Lookup::Gone)
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
            hidden(declined(Lookup::GoneOnce)),
            Step::Rest,
            "InvitationEnded",
        ),
        (
            "blind, gone within the grace",
            hidden(Case {
                record: in_the_grace.clone(),
                lookup: Lookup::GoneOnce,
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

/// Nobody knows whether the DELETE of the replaced invite x1 went out, or what became of the POST.
#[test]
fn blind_attempt_open_for_a_replacement() {
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
                request: Some("r"),
                ..open(recorded())
            },
            resend(Some("x1"), 0, Some("r")),
            "Unchanged",
        ),
        (
            "again, but another object records the replaced one",
            Case {
                request: Some("r"),
                shared: true,
                ..open(recorded())
            },
            resend(None, 0, Some("r")),
            "Unchanged",
        ),
        (
            "again, but the replaced one is not to be touched",
            Case {
                request: Some("r"),
                ..open(OrgInviteStatus {
                    role: Some(OWNER),
                    ..recorded()
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
