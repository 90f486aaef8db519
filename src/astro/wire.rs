//! The bodies of the Astro API, as they travel. Unknown fields are ignored and optional ones may be
//! missing; what must not go further (`ticketId`, `oAuthInviteId`) is not read at all.

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};

use super::http::clean;
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
    #[serde(deserialize_with = "or_none")]
    pub field_errors: Option<Vec<FieldError>>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Invite {
    #[serde(default, rename = "inviteId")]
    id: String,
    #[serde(default)]
    organization_id: String,
    #[serde(default, deserialize_with = "or_none")]
    expires_at: Option<Timestamp>,
    // A subject without an ID counts as absent: two of them would seem to be the same one.
    #[serde(default, deserialize_with = "or_none")]
    invitee: Option<Subject>,
    #[serde(default, deserialize_with = "or_none")]
    inviter: Option<Subject>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Subject {
    id: String,
    #[serde(default, rename = "subjectType", deserialize_with = "or_none")]
    kind: Option<SubjectKind>,
    #[serde(default, deserialize_with = "or_none")]
    full_name: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    api_token_name: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    username: Option<String>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct UserPage {
    #[serde(default)]
    users: Option<Vec<User>>,
    total_count: usize,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct User {
    #[serde(default)]
    id: String,
    #[serde(default)]
    username: String,
    #[serde(default, deserialize_with = "or_none")]
    status: Option<String>,
    #[serde(default, deserialize_with = "or_none")]
    org_role: Option<Role>,
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

// The errors of these conversions end the sentence "the body ...".

impl TryFrom<Invite> for super::Invite {
    type Error = &'static str;

    fn try_from(wire: Invite) -> Result<Self, Self::Error> {
        if wire.id.is_empty() {
            return Err("has an invite without an ID");
        }
        let subject = |subject: Option<Subject>| {
            subject
                .filter(|subject| !subject.id.is_empty())
                .map(super::Subject::from)
        };
        Ok(Self {
            id: wire.id,
            organization_id: wire.organization_id,
            expires_at: wire.expires_at,
            invitee: subject(wire.invitee),
            inviter: subject(wire.inviter),
        })
    }
}

impl From<Subject> for super::Subject {
    fn from(wire: Subject) -> Self {
        let filled = |text: Option<String>| text.filter(|text| !text.is_empty());
        // It goes into statuses that more people may read than should know an address.
        let name = filled(wire.full_name).or(filled(wire.api_token_name));
        Self {
            id: wire.id,
            kind: wire.kind,
            name: name.map(|name| clean(&name)),
            username: filled(wire.username),
        }
    }
}

impl TryFrom<UserPage> for super::UserPage {
    type Error = &'static str;

    fn try_from(wire: UserPage) -> Result<Self, Self::Error> {
        // Some servers write an empty list so.
        if wire.users.is_none() && wire.total_count > 0 {
            return Err("has no users");
        }
        let users = wire.users.unwrap_or_default().into_iter();
        let users = users.map(super::User::try_from);
        Ok(Self {
            users: users.collect::<Result<_, _>>()?,
            total: wire.total_count,
        })
    }
}

impl TryFrom<User> for super::User {
    type Error = &'static str;

    fn try_from(wire: User) -> Result<Self, Self::Error> {
        if wire.id.is_empty() {
            return Err("has a user without an ID");
        }
        if wire.username.is_empty() {
            return Err("has a user without an e-mail");
        }
        let invites = wire.invites.unwrap_or_default().into_iter();
        Ok(Self {
            id: wire.id,
            username: wire.username,
            status: match wire.status.as_deref() {
                Some("ACTIVE") => UserStatus::Active,
                Some("INACTIVE") => UserStatus::Inactive,
                Some("PENDING") => UserStatus::Pending,
                Some("BANNED") => UserStatus::Banned,
                _ => UserStatus::Unknown,
            },
            role: wire.org_role,
            invites: invites
                .map(super::Invite::try_from)
                .collect::<Result<_, _>>()?,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::astro;

    fn invite(json: &str) -> Result<astro::Invite, &'static str> {
        serde_json::from_str::<Invite>(json).unwrap().try_into()
    }

    fn page(users: &str) -> Result<astro::UserPage, &'static str> {
        let json = format!(r#"{{"users":{users},"totalCount":1}}"#);
        serde_json::from_str::<UserPage>(&json).unwrap().try_into()
    }

    #[test]
    fn an_invite_is_read_whatever_else_it_holds() {
        let full = invite(
            r#"{"inviteId":"i1","organizationId":"o1","expiresAt":"2026-12-01T00:00:00Z",
            "ticketId":"secret-ticket","oAuthInviteId":"secret-oauth","new":[1],
            "invitee":{"id":"u1","username":"ann@astro.example","fullName":""},
            "inviter":{"id":"t1","subjectType":"SERVICEKEY","apiTokenName":"ci"}}"#,
        )
        .unwrap();
        assert!(!format!("{full:?}").contains("secret"));
        assert_eq!(full.expires_at, "2026-12-01T00:00:00Z".parse().ok());
        let inviter = full.inviter.unwrap();
        assert_eq!(inviter.kind, Some(SubjectKind::ServiceKey));
        assert_eq!(inviter.name.as_deref(), Some("ci"));
        assert_eq!(full.invitee.unwrap().name, None);

        let offset = invite(r#"{"inviteId":"i1","expiresAt":"2026-12-01T01:00:00.5+01:00"}"#);
        let at = "2026-12-01T00:00:00.5Z".parse().ok();
        assert_eq!(offset.unwrap().expires_at, at);
    }

    #[test]
    fn what_is_odd_counts_as_absent() {
        let odd = invite(
            r#"{"inviteId":"i1","expiresAt":"next week","invitee":{"username":"ann@astro.example"},
            "inviter":{"id":"x","subjectType":"ROBOT"}}"#,
        )
        .unwrap();
        assert_eq!((odd.expires_at, odd.invitee), (None, None));
        assert_eq!(odd.inviter.unwrap().kind, None);
        let user = r#"[{"id":"u","username":"ann@astro.example","status":"NEW","orgRole":"KING"}]"#;
        let user = page(user).unwrap().users.remove(0);
        assert_eq!((user.status, user.role), (UserStatus::Unknown, None));
    }

    #[test]
    fn an_empty_list_may_be_null() {
        let read = |json: &str| {
            let page = serde_json::from_str::<UserPage>(json).unwrap();
            astro::UserPage::try_from(page)
        };
        for none in [
            r#"{"users":null,"totalCount":0}"#,
            r#"{"totalCount":0}"#,
            r#"{"users":[],"totalCount":0}"#,
        ] {
            assert!(read(none).unwrap().users.is_empty(), "{none}");
        }
        assert!(read(r#"{"users":null,"totalCount":1}"#).is_err());
    }

    #[test]
    fn nothing_is_skipped_that_has_no_name() {
        assert_eq!(invite("{}"), Err("has an invite without an ID"));
        for (users, error) in [
            (r#"[{"id":"u1"}]"#, "has a user without an e-mail"),
            (
                r#"[{"username":"ann@astro.example"}]"#,
                "has a user without an ID",
            ),
            (
                r#"[{"id":"u1","username":"ann@astro.example","invites":[{}]}]"#,
                "has an invite without an ID",
            ),
        ] {
            assert_eq!(page(users).unwrap_err(), error);
        }
    }
}
