//! Objects of a backup, and organizations that nobody read for long.

use orginvite_operator::plan::{Doubt, Lookup, Sight, Step};
use orginvite_operator::resources::OrgInviteStatus;

use crate::case::{Case, MEMBER, attempt, expired, pending, recorded};
use crate::table::{adopt, resend, table};

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
                asked: Some("r"),
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
