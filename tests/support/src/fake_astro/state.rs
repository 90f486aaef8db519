//! People and invites.

use std::time::Duration;

use jiff::Timestamp;
use serde::Serialize;

/// Every secret that the fake hands out begins with this: tokens, ticket ids and the login provider's invite ids. A
/// test greps logs, events and statuses for it.
pub const SECRET_PREFIX: &str = "planted-secret-";

/// The member that every organization begins with: its owner, to whom the token belongs, and who invites on the web
/// page.
pub const OWNER_EMAIL: &str = "owner@fake.example";

/// The roles of the Astro API.
pub const ROLES: [&str; 5] = [
    "ORGANIZATION_OWNER",
    "ORGANIZATION_MEMBER",
    "ORGANIZATION_BILLING_ADMIN",
    "ORGANIZATION_OBSERVE_ADMIN",
    "ORGANIZATION_OBSERVE_MEMBER",
];

/// What became of an invite. Expiry is no state: it is a matter of the clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum InviteState {
    /// Neither answered nor deleted.
    Pending,
    /// The person accepted it.
    Accepted,
    /// The person rejected it.
    Rejected,
    /// The API or somebody on the web page deleted it.
    Deleted,
}

/// Who sent an invite.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Inviter {
    /// The id of the user or the API token.
    pub id: String,
    /// The e-mail of the user or the name of the API token.
    pub name: String,
    /// Whether it is a `SERVICEKEY` and not a `USER`.
    pub is_service_key: bool,
}

/// An invite, as the fake knows it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct Invite {
    /// `inviteId`.
    pub id: String,
    /// The organization.
    pub organization_id: String,
    /// The address as it was sent.
    pub email: String,
    /// The canonical address.
    pub address: String,
    /// The role; the API never shows it.
    pub role: String,
    /// What became of it.
    pub state: InviteState,
    /// From when on it cannot be accepted.
    pub expires_at: Timestamp,
    /// When it was made.
    pub created_at: Timestamp,
    /// Who sent it.
    pub inviter: Inviter,
    /// The row of the invitee.
    pub user_id: String,
    /// `ticketId`, a secret.
    #[serde(skip)]
    pub ticket_id: String,
    /// `oAuthInviteId`, a secret.
    #[serde(skip)]
    pub oauth_invite_id: String,
}

impl Invite {
    /// Whether it can be accepted at `now`.
    #[must_use]
    pub fn is_live(&self, now: Timestamp) -> bool {
        self.state == InviteState::Pending && now < self.expires_at
    }
}

/// The status of a user.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "UPPERCASE")]
pub enum UserStatus {
    /// A member.
    Active,
    /// A member who is switched off.
    Inactive,
    /// Invited.
    Pending,
    /// Locked out.
    Banned,
}

/// A person, as the fake knows them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub struct User {
    /// `id`. A person who leaves and is invited again keeps it.
    pub id: String,
    /// `username`: the address as it was first sent.
    pub username: String,
    /// The canonical address.
    pub address: String,
    /// `fullName`.
    pub full_name: String,
    /// `status`.
    pub status: UserStatus,
    /// The role of a member; an invited person has that of the invite.
    pub role: String,
    /// `orgUserRelationIsIdpManaged`.
    pub idp_managed: bool,
    /// `createdAt`.
    pub created_at: Timestamp,
    /// `updatedAt`.
    pub updated_at: Timestamp,
    /// Whether the person was removed and is in no list.
    pub removed: bool,
}

pub(super) fn new_user(email: &str, role: &str, status: UserStatus, now: Timestamp) -> User {
    let address = canonical(email);
    let full_name = address.split('@').next().unwrap_or_default().to_owned();
    User {
        id: new_id(),
        username: email.to_owned(),
        address,
        full_name,
        status,
        role: role.to_owned(),
        idp_managed: false,
        created_at: now,
        updated_at: now,
        removed: false,
    }
}

/// One key for every spelling of an address that reaches the same person: trimmed, lower case, the domain in IDNA
/// ASCII.
#[must_use]
pub fn canonical(email: &str) -> String {
    let email = email.trim().to_lowercase();
    match email.rsplit_once('@') {
        Some((local, domain)) => match idna::domain_to_ascii(domain) {
            Ok(ascii) => format!("{local}@{ascii}"),
            Err(_) => email,
        },
        None => email,
    }
}

pub(super) fn later(now: Timestamp, by: Duration) -> Timestamp {
    // A lifetime that leaves the calendar never ends.
    now.checked_add(by).unwrap_or(Timestamp::MAX)
}

/// An id like those of the service: 25 characters that begin with `cl`.
pub(super) fn new_id() -> String {
    format!("cl{:023x}", rand::random::<u128>() >> 36)
}

/// Names of requests are UUIDs (terraform-provider-astro, issue 53).
pub(super) fn new_request_id() -> String {
    let id = format!("{:032x}", rand::random::<u128>());
    let parts = [&id[..8], &id[8..12], &id[12..16], &id[16..20], &id[20..]];
    parts.join("-")
}

pub(super) fn new_secret(kind: &str) -> String {
    format!("{SECRET_PREFIX}{kind}-{:016x}", rand::random::<u64>())
}
