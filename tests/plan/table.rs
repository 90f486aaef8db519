//! Rows of the decision table: a case, the step, and what the status says.

use jiff::ToSpan;
use orginvite_operator::astro::Role;
use orginvite_operator::plan::{State, Step};
use orginvite_operator::resources::reason::About;

use crate::case::{Case, found, now};

pub fn table(rows: Vec<(&str, Case, Step, &str)>) {
    for (name, case, step, reason) in rows {
        assert_eq!(decide(&case), (step, reason.to_owned()), "{name}");
    }
}

/// The step, and the reason that the status gives: `Unchanged`, `Invited` or the reason.
fn decide(case: &Case) -> (Step, String) {
    let plan = case.plan();
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

pub fn send(replaces: Option<&str>) -> Step {
    resend(replaces, 0, None)
}

pub fn resend(replaces: Option<&str>, resends: u32, request: Option<&str>) -> Step {
    Step::Send {
        replaces: replaces.map(str::to_owned),
        unseen: false,
        resends,
        request: request.map(str::to_owned),
    }
}

/// In place of an invitation that an earlier attempt may have deleted.
pub fn replace_unseen(id: &str, resends: u32) -> Step {
    Step::Send {
        replaces: Some(id.to_owned()),
        unseen: true,
        resends,
        request: None,
    }
}

pub fn adopt(id: &str, role: Role) -> Step {
    Step::Adopt {
        found: found(id, Some(role)),
        role,
    }
}

/// When what [`found`] finds is over.
pub fn over() -> Step {
    Step::AwaitTime(now() + 24.hours() + 5.minutes())
}
