//! What a person is told beyond the reason.

use jiff::ToSpan;
use orginvite_operator::plan::{State, Step};

use crate::case::{Case, MEMBER, now};
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
        (Step::Release, None),
    ] {
        assert_eq!(step.describe().as_deref(), told, "{step:?}");
    }
}
