//! What the documentation leaves open.
//!
//! Each field of [`Behaviour`] is a question that neither the API's reference nor its models answer, and each variant
//! an answer that a client has to be right under. The default is the first variant.

use std::time::Duration;

/// The answers to what is unverified about the Astro API. It may be exchanged at any time and counts from the next
/// request on.
///
/// One row of the table needs no field: an address with several invites always has one user row with all of them in
/// `invites`. Another is a script and not a setting: rows that shift between pages are
/// [`after_list_pages`](super::Control::after_list_pages).
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Behaviour {
    /// POST for an address with a pending invite.
    pub post_pending: PostPending,
    /// POST for a member.
    pub post_member: PostMember,
    /// GET of an invite that was accepted, rejected or deleted, or is past its expiry.
    pub get_ended: GetEnded,
    /// DELETE of an accepted invite.
    pub delete_accepted: DeleteAccepted,
    /// DELETE of an expired invite.
    pub delete_expired: DeleteExpired,
    /// The user row of an address whose last invite expired.
    pub row_after_expiry: RowAfterExpiry,
    /// The user row of an address whose last invite was deleted or rejected.
    pub row_after_withdrawal: RowAfterWithdrawal,
    /// The spelling of an e-mail address in answers.
    pub email_case: EmailCase,
    /// Changing the role of a `PENDING` user.
    pub role_of_pending: RoleOfPending,
    /// Whether tokens may list users.
    pub list_users: ListUsers,
    /// Whether the list without `hasInvites` shows people who are still invited.
    pub default_list: DefaultList,
    /// What `search` finds.
    pub search: Search,
    /// Whether v1alpha1 is still served.
    pub api: Api,
    /// How much later than GET by id the lists show a change of an invite or a member.
    pub list_delay: Duration,
    /// Whether the row of a `PENDING` user has `orgRole` in the list without `hasInvites`.
    pub pending_role: Shown,
    /// Whether the row of a `PENDING` user has `orgRole` in the list with `hasInvites`.
    pub pending_role_with_invites: Shown,
    /// Which lists show `invites` in a user's row.
    pub invites_shown: InvitesShown,
    /// What an invite names as its `inviter`.
    pub inviter: InviterKind,
    /// How `expiresAt` is written.
    pub expires_at: ExpiresAt,
}

/// POST for an address with a pending invite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostPending {
    /// 200 with the same invite, whose role stays as it was; no second e-mail.
    #[default]
    SameInvite,
    /// 200 with a new invite beside the old one; a second e-mail.
    NewInvite,
    /// 400, already invited.
    BadRequest,
    /// 409.
    Conflict,
}

/// POST for a member.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum PostMember {
    /// 400.
    #[default]
    BadRequest,
    /// 409.
    Conflict,
    /// 200 with an invite that changes nothing for the member; an e-mail all the same.
    UselessInvite,
}

/// GET of an invite that ended.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum GetEnded {
    /// 404.
    #[default]
    NotFound,
    /// 200 with the body that it had.
    OldBody,
    /// 400.
    BadRequest,
}

/// DELETE of an accepted invite. None of them changes the membership.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeleteAccepted {
    /// 404.
    #[default]
    NotFound,
    /// 400, already accepted.
    BadRequest,
    /// 204.
    NoContent,
}

/// DELETE of an expired invite.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DeleteExpired {
    /// 204.
    #[default]
    NoContent,
    /// 404.
    NotFound,
}

/// The user row of an address whose last invite expired.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowAfterExpiry {
    /// Still `PENDING`, with the old invite.
    #[default]
    WithOldInvite,
    /// `PENDING` without invites, so that `hasInvites=true` does not list it.
    WithoutInvites,
    /// No row.
    Gone,
}

/// The user row of an address whose last invite was deleted or rejected.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RowAfterWithdrawal {
    /// No row.
    #[default]
    Gone,
    /// `PENDING` without invites, so that `hasInvites=true` does not list it.
    WithoutInvites,
}

/// The spelling of an e-mail address in answers.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EmailCase {
    /// As it was sent.
    #[default]
    Kept,
    /// In lower case.
    Lowered,
}

/// Changing the role of a `PENDING` user.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum RoleOfPending {
    /// 400.
    #[default]
    BadRequest,
    /// 404.
    NotFound,
}

/// Whether tokens may list users.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ListUsers {
    /// They may.
    #[default]
    Allowed,
    /// 403.
    Forbidden,
}

/// Whether the list without `hasInvites` shows people who are still invited.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum DefaultList {
    /// It shows them.
    #[default]
    WithPending,
    /// It shows members only.
    WithoutPending,
}

/// What `search` finds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Search {
    /// The row whose address is the search term, in any case.
    #[default]
    Exact,
    /// Rows whose address or full name contains the term, in any case.
    Substring,
    /// As `Substring`, but nothing for a term with a `+`.
    MissesPlus,
    /// As `Substring`, but only rows that are not `PENDING`.
    MissesPending,
}

/// Whether v1alpha1 is still served.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Api {
    /// It is.
    #[default]
    Served,
    /// Every request is answered 404 with an HTML body.
    NotFound,
    /// Every request is answered 404, with the documented error body.
    Missing,
    /// Every request is answered 410, with the documented error body.
    Gone,
}

/// Whether something is in an answer.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Shown {
    /// It is.
    #[default]
    Yes,
    /// The field is absent.
    No,
}

/// Which lists show `invites` in a user's row. With any of these, `hasInvites=true` selects the same rows.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InvitesShown {
    /// Every list.
    #[default]
    Always,
    /// Only the list with `hasInvites=true`.
    WithHasInvites,
    /// None: that a person is invited can be seen, but not with which invite.
    Never,
}

/// What an invite names as its `inviter`.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum InviterKind {
    /// `USER`: the token belongs to a person.
    #[default]
    User,
    /// `SERVICEKEY`: the token belongs to the organization.
    ServiceKey,
}

/// How `expiresAt` is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum ExpiresAt {
    /// RFC 3339 with fractions of a second.
    #[default]
    Rfc3339,
    /// `YYYY-MM-DDTHH:MM:SSZ`.
    WholeSeconds,
}
