//! The Organization is being deleted.

use jiff::ToSpan;
use orginvite_operator::plan::{Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;

use crate::case::{Case, attempt, expired, now, pending, recorded};
use crate::table::table;

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
