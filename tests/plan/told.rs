//! What a person is told beyond the reason.

use jiff::ToSpan;
use orginvite_operator::plan::{State, Step};
use orginvite_operator::resources::OrgInviteStatus;

use crate::case::{Case, MEMBER, OWNER, member, now, recorded};
use crate::table::{adopt, replace_unseen, send};

#[test]
fn a_holder_is_named_to_its_own_namespace_only() {
    let told = |namespace| {
        let held = Case {
            held: true,
            namespace,
            ..Case::default()
        };
        match held.plan().state {
            State::Stalled(saying) => saying.message,
            other => panic!("{other:?}"),
        }
    };
    let same = told("elsewhere");
    assert!(same.starts_with("OrgInvite other-elsewhere is"), "{same}");
    let another = told("here");
    assert!(another.starts_with("An OrgInvite in another"), "{another}");
}

#[test]
fn of_a_member_it_is_told_how_they_came_what_role_they_have_and_what_deleting_does_not_do() {
    let told = |record, role| match (Case {
        record,
        sight: member(role),
        ..Case::default()
    })
    .plan()
    .state
    {
        State::Member { saying, .. } => saying.message,
        other => panic!("{other:?}"),
    };
    let accepted = "The person accepted and is a member of the organization";
    let already = "The person is a member of the organization already; no e-mail is sent";
    let differs = " with the role ORGANIZATION_OWNER, not ORGANIZATION_MEMBER: change it in Astro";
    let end = ". Deleting this object does not remove the person";
    for (record, came) in [
        (recorded(), accepted),
        (OrgInviteStatus::default(), already),
    ] {
        assert_eq!(told(record.clone(), MEMBER), format!("{came}{end}"));
        assert_eq!(told(record, OWNER), format!("{came}{differs}{end}"));
    }
}

/// What `plannedAction` says while the Organization is suspended.
#[test]
fn a_step_tells_what_it_would_change_in_astro() {
    let id = || "x1".to_owned();
    for (step, told) in [
        (send(None), Some("send an invitation")),
        (Step::Post, Some("send an invitation")),
        (send(Some("x1")), Some("replace invitation x1")),
        (replace_unseen("x1", 1), Some("replace invitation x1")),
        (
            Step::Drop(id()),
            Some("delete invitation x1, which was replaced"),
        ),
        (Step::Revoke(id()), Some("revoke invitation x1")),
        (Step::Rest, None),
        (Step::AwaitPass, None),
        (Step::AwaitTime(now() + 1.hour()), None),
        (adopt("x1", MEMBER), None),
        (Step::Inherit, None),
        (Step::Close, None),
        (Step::Abandon, None),
        (Step::Release, None),
    ] {
        assert_eq!(step.describe().as_deref(), told, "{step:?}");
    }
}
