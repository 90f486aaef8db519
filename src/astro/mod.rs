//! The Astro API in domain types. [`http`] is the only place that speaks HTTP.

pub mod budget;
pub mod directory;
pub mod http;
mod wire;

use std::time::Duration;

use async_trait::async_trait;
use jiff::Timestamp;
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

/// Grace after `expiresAt` before an invitation counts as expired: Astro's clock and ours are read
/// at different moments.
pub const EXPIRY_GRACE: Duration = Duration::from_mins(5);

/// A role in an organization.
#[derive(
    Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord,
)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
#[allow(missing_docs)]
pub enum Role {
    OrganizationOwner,
    OrganizationMember,
    OrganizationBillingAdmin,
    OrganizationObserveAdmin,
    OrganizationObserveMember,
    // One that an object names and this version does not know. Doc comments would show in the schema.
    #[serde(skip)]
    #[schemars(skip)]
    Unknown,
}

/// What kind of subject acts: a person or an API token.
#[derive(Serialize, Deserialize, JsonSchema, Clone, Copy, Debug, PartialEq, Eq)]
#[serde(rename_all = "UPPERCASE")]
pub enum SubjectKind {
    /// A person.
    User,
    /// An API token.
    ServiceKey,
}

/// A user or API token as an invite names it. Source: `SubjectProfile` of the v1alpha1 API.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Subject {
    /// ID of the user or of the token.
    pub id: String,
    /// Absent, or of a kind that this version does not know: `None`.
    pub kind: Option<SubjectKind>,
    /// Full name of a user, name of a token.
    pub name: Option<String>,
    /// E-mail address of a user.
    pub username: Option<String>,
}

/// An invitation. Source: `Invite` of the v1alpha1 API; it carries no role. `ticketId` and
/// `oAuthInviteId` are left out on purpose: who holds one can join.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Invite {
    /// ID of the invite.
    pub id: String,
    /// ID of the organization that it invites to.
    pub organization_id: String,
    /// When it expires; `None` when Astro's text is no time that we can read.
    pub expires_at: Option<Timestamp>,
    /// Whom it invites.
    pub invitee: Option<Subject>,
    /// Who sent it.
    pub inviter: Option<Subject>,
}

/// Status of a person in an organization.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UserStatus {
    /// A member.
    Active,
    /// A person that was switched off.
    Inactive,
    /// A person that was invited.
    Pending,
    /// A person that is kept out.
    Banned,
    /// A status that this version does not know.
    Unknown,
}

/// A person of an organization, as listing its users shows it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct User {
    /// ID of the user.
    pub id: String,
    /// E-mail address, in whatever case Astro keeps it.
    pub username: String,
    /// Whether a member, invited, or neither.
    pub status: UserStatus,
    /// Role in the organization; whether the row of a pending person has one is not known.
    pub role: Option<Role>,
    /// The pending invites of the person.
    pub invites: Vec<Invite>,
}

/// One page of an organization's users.
#[derive(Clone, Debug)]
pub struct UserPage {
    /// The rows from `offset` on, in the order asked for.
    pub users: Vec<User>,
    /// How many rows there are in all.
    pub total: usize,
}

/// Which of an organization's users to list.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Listing {
    /// As the API lists by default; whether pending people are among them is not known.
    Everybody,
    /// Only people with a pending invite (`hasInvites=true`).
    WithInvites,
}

/// What an invitee answers to an invitation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum InviteAnswer {
    /// Join.
    Accept,
    /// Do not join.
    Reject,
}

/// Why a call to Astro did not give what was asked for.
///
/// Only [`Error::Refused`] proves that a call had no effect.
#[derive(Clone, Debug, thiserror::Error)]
pub enum Error {
    /// Astro read the request and refused it.
    #[error("{0}")]
    Refused(Refusal),
    /// The outcome is unknown: no answer, an answer of the server's failure, or one that cannot be
    /// read. The request may have taken effect.
    #[error("{message}")]
    Unknown {
        /// What happened, without addresses or tokens.
        message: String,
        /// HTTP status, when there was an answer.
        status: Option<u16>,
        /// Astro's name for the request, for a support case.
        request_id: Option<String>,
    },
}

/// An answer of Astro that refuses a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    /// HTTP status.
    pub status: u16,
    /// Whether the body was the API's own error body. A gateway's page says nothing about an invite.
    pub from_api: bool,
    /// The API's message.
    pub message: String,
    /// What is wrong with which field.
    pub field_errors: Vec<FieldError>,
    /// Astro's name for the request, for a support case.
    pub request_id: Option<String>,
    /// How long to wait, from `Retry-After` of a 429.
    pub retry_after: Option<Duration>,
}

/// What is wrong with one field of a request.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub struct FieldError {
    /// Name of the field.
    #[serde(default)]
    pub field: String,
    /// What is wrong with it.
    #[serde(default)]
    pub message: String,
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.summary())?;
        if let Some(id) = &self.request_id {
            write!(f, " (request {id})")?;
        }
        Ok(())
    }
}

impl Refusal {
    /// For how long nobody makes such a call after a 429.
    #[must_use]
    pub fn pause(&self) -> Duration {
        self.retry_after.unwrap_or(Duration::from_secs(1))
    }

    /// What was answered, without the name of the request: the same for each time that it is tried.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut text = format!("Astro answered {}: {}", self.status, self.message);
        for error in &self.field_errors {
            text.extend(["; ", &error.field, ": ", &error.message]);
        }
        text
    }
}

impl Error {
    /// What happened, without the name of the request: the same for each time that it is tried, so
    /// that a status that repeats it does not change.
    #[must_use]
    pub fn summary(&self) -> String {
        match self {
            Self::Refused(refusal) => refusal.summary(),
            Self::Unknown { message, .. } => message.clone(),
        }
    }

    /// HTTP status, when there was an answer.
    #[must_use]
    pub fn status(&self) -> Option<u16> {
        match self {
            Self::Refused(refusal) => Some(refusal.status),
            Self::Unknown { status, .. } => *status,
        }
    }

    /// Astro's name for the request, for a support case.
    #[must_use]
    pub fn request_id(&self) -> Option<&str> {
        match self {
            Self::Refused(refusal) => refusal.request_id.as_deref(),
            Self::Unknown { request_id, .. } => request_id.as_deref(),
        }
    }

    /// Whether Astro itself calls the request bad: one of the answers for an ended invite.
    #[must_use]
    pub fn says_bad_request(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 400 && refusal.from_api)
    }

    /// Whether Astro itself says that the token may not do that.
    #[must_use]
    pub fn says_forbidden(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 403 && refusal.from_api)
    }

    /// Whether Astro itself says that what was asked for does not exist. A 404 without the API's
    /// own error body may come from a wrong URL or a gateway and says nothing.
    #[must_use]
    pub fn says_absent(&self) -> bool {
        matches!(self, Self::Refused(refusal) if refusal.status == 404 && refusal.from_api)
    }
}

/// That moment and as much later, or the end of time: a status or Astro may name any moment.
#[must_use]
pub fn later(time: Timestamp, by: Duration) -> Timestamp {
    time.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// Whether an invite that expires then can no longer be accepted at `now`, by Astro's clock.
#[must_use]
pub fn is_over(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_some_and(|time| now > later(time, EXPIRY_GRACE))
}

/// The calls to Astro for one organization with one token.
#[async_trait]
pub trait Astro: Send + Sync {
    /// Invites a person: one e-mail. Not idempotent.
    async fn create_invite(&self, email: &str, role: Role) -> Result<Invite, Error>;
    /// An invite by its ID. Answers of ended invites are not known: 404, 400, or the old body.
    async fn get_invite(&self, id: &str) -> Result<Invite, Error>;
    /// Takes an invitation back.
    async fn delete_invite(&self, id: &str) -> Result<(), Error>;
    /// One page of the organization's users, oldest first.
    async fn list_users(
        &self,
        listing: Listing,
        offset: usize,
        limit: usize,
    ) -> Result<UserPage, Error>;
    /// Astro's clock, from the `Date` header of its last answer, as far as it is believed; `None` before
    /// the first.
    fn server_time(&self) -> Option<Timestamp>;
}
