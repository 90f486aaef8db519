//! The bodies of the Astro API, as they travel. Unknown fields are ignored and optional ones may be
//! missing; what must not go further (`ticketId`, `oAuthInviteId`) is not read at all.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::{FieldError, Role, SubjectKind, UserStatus};

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct CreateInvite<'a> {
    pub invitee_email: &'a str,
    pub role: Role,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub struct UpdateInvite {
    pub invite_status: &'static str,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
pub struct ErrorBody {
    pub message: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub request_id: Option<String>,
    #[serde(deserialize_with = "or_none")]
    pub status_code: Option<u16>,
    pub field_errors: Vec<FieldError>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    invite_id: String,
    #[serde(default)]
    organization_id: String,
    #[serde(default, deserialize_with = "or_none")]
    expires_at: Option<Timestamp>,
    #[serde(default)]
    invitee: Option<Subject>,
    #[serde(default)]
    inviter: Option<Subject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    id: String,
    #[serde(default, deserialize_with = "or_none")]
    subject_type: Option<SubjectKind>,
    #[serde(default)]
    full_name: Option<String>,
    #[serde(default)]
    api_token_name: Option<String>,
    #[serde(default)]
    username: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPage {
    users: Vec<User>,
    total_count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    id: String,
    username: String,
    #[serde(default)]
    status: String,
    #[serde(default, deserialize_with = "or_none")]
    org_role: Option<Role>,
    #[serde(default)]
    org_user_relation_is_idp_managed: Option<bool>,
    #[serde(default)]
    invites: Option<Vec<Invite>>,
}

/// A value of a kind that this version does not know counts as absent.
fn or_none<'de, T: Deserialize<'de>, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Either<T> {
        Known(T),
        Other(serde::de::IgnoredAny),
    }
    Ok(match Either::deserialize(deserializer)? {
        Either::Known(value) => Some(value),
        Either::Other(_) => None,
    })
}

impl From<Invite> for super::Invite {
    fn from(wire: Invite) -> Self {
        Self {
            id: wire.invite_id,
            organization_id: wire.organization_id,
            expires_at: wire.expires_at,
            invitee: wire.invitee.map(super::Subject::from),
            inviter: wire.inviter.map(super::Subject::from),
        }
    }
}

impl From<Subject> for super::Subject {
    fn from(wire: Subject) -> Self {
        Self {
            id: wire.id,
            kind: wire.subject_type,
            name: wire.full_name.or(wire.api_token_name),
            username: wire.username,
        }
    }
}

impl From<UserPage> for super::UserPage {
    fn from(wire: UserPage) -> Self {
        Self {
            users: wire.users.into_iter().map(super::User::from).collect(),
            total: wire.total_count,
        }
    }
}

impl From<User> for super::User {
    fn from(wire: User) -> Self {
        Self {
            id: wire.id,
            username: wire.username,
            status: match wire.status.as_str() {
                "ACTIVE" => UserStatus::Active,
                "INACTIVE" => UserStatus::Inactive,
                "PENDING" => UserStatus::Pending,
                "BANNED" => UserStatus::Banned,
                _ => UserStatus::Unknown,
            },
            role: wire.org_role,
            idp_managed: wire.org_user_relation_is_idp_managed.unwrap_or_default(),
            invites: wire
                .invites
                .unwrap_or_default()
                .into_iter()
                .map(super::Invite::from)
                .collect(),
        }
    }
}
