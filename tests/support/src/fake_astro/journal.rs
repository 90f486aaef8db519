//! What happened: the calls, the e-mails, and the breaches of the contract.

use std::time::Instant;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The calls of the API.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub enum Operation {
    /// POST `/organizations/{organizationId}/invites`.
    CreateInvite,
    /// GET `/auth/invites/{inviteId}`.
    GetInvite,
    /// DELETE `/organizations/{organizationId}/invites/{inviteId}`.
    DeleteInvite,
    /// POST `/users/self/invites/{inviteId}`.
    AnswerInvite,
    /// GET `/organizations/{organizationId}/users`.
    ListUsers,
    /// GET `/organizations/{organizationId}/users/{userId}`.
    GetUser,
    /// POST `/organizations/{organizationId}/users/{userId}/role`.
    ChangeRole,
    /// DELETE `/organizations/{organizationId}/users/{userId}`.
    RemoveMember,
    /// Any other method and path: a breach of the contract.
    Unknown,
}

impl Operation {
    /// Whether the call can change anything in the organization.
    #[must_use]
    pub fn changes_something(self) -> bool {
        !matches!(
            self,
            Self::GetInvite | Self::ListUsers | Self::GetUser | Self::Unknown
        )
    }
}

/// How a call ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum Outcome {
    /// It is still being worked on.
    Open,
    /// It was answered with this status. Whether the client was still there to read it is not known.
    Status(u16),
    /// The connection was closed without an answer.
    Cut,
}

/// One request, in the order of arrival.
#[derive(Debug, Clone, Serialize)]
pub struct Call {
    /// Counts up from 1.
    pub sequence: u64,
    /// When it arrived, by the monotonic clock.
    #[serde(skip)]
    pub at: Instant,
    /// When it arrived, by the fake's wall clock.
    pub wall: Timestamp,
    /// Which call of the API it is.
    pub operation: Operation,
    /// The HTTP method.
    pub method: String,
    /// The path, with the base path.
    pub path: String,
    /// The query as it was sent, without the question mark.
    pub query: String,
    /// The address that it was about, as far as that is known.
    pub email: Option<String>,
    /// The invite that it was about: the one asked for, or the one that a POST returned.
    pub invite_id: Option<String>,
    /// How it ended.
    pub outcome: Outcome,
}

/// An e-mail that an invite caused.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Mail {
    /// The organization that invited.
    pub organization_id: String,
    /// The canonical address.
    pub address: String,
    /// The invite in it.
    pub invite_id: String,
    /// The role that the invite is for.
    pub role: String,
    /// When it was sent, by the fake's wall clock.
    pub at: Timestamp,
    /// The call that sent it; 0 when a person did so on the web page.
    pub call: u64,
    /// How many other invites to the address could be accepted at that moment.
    pub besides: usize,
    /// Whether the person was a member at that moment.
    pub to_member: bool,
}

/// A request that a correct client does not make.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Violation {
    /// The call.
    pub sequence: u64,
    /// Method and path.
    pub request: String,
    /// What is wrong with it.
    pub problem: String,
}

/// A point in the journal, for counting what came after it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark(pub(super) u64);
