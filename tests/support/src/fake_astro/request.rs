//! Reading requests strictly: what is not in the documentation is an error.

use axum::{
    extract::Query,
    http::{HeaderMap, Method, Uri, header},
};
use serde::{Deserialize, de::DeserializeOwned};

use super::{
    journal::Operation,
    organization::{ListQuery, SortField},
    state::ROLES,
};

/// The base path of the API.
pub(super) const BASE: &str = "/v1alpha1";

/// How many rows a page has when the request does not say.
const DEFAULT_LIMIT: usize = 20;
/// The longest page.
const MAX_LIMIT: usize = 1000;

/// A request that is as documented.
#[derive(Debug)]
pub(super) enum Request {
    CreateInvite {
        organization: String,
        email: String,
        role: String,
    },
    GetInvite {
        invite: String,
    },
    DeleteInvite {
        organization: String,
        invite: String,
    },
    AnswerInvite {
        invite: String,
        accept: bool,
    },
    ListUsers {
        organization: String,
        query: ListQuery,
    },
    GetUser {
        organization: String,
        user: String,
    },
    ChangeRole {
        organization: String,
        user: String,
        role: String,
    },
    RemoveMember {
        organization: String,
        user: String,
    },
}

/// A request that is not.
#[derive(Debug)]
pub(super) struct Malformed {
    pub status: u16,
    pub problem: String,
    pub field: Option<&'static str>,
}

impl Malformed {
    fn new(status: u16, problem: impl Into<String>) -> Self {
        Self {
            status,
            problem: problem.into(),
            field: None,
        }
    }

    fn field(field: &'static str, problem: impl Into<String>) -> Self {
        Self {
            status: 400,
            problem: problem.into(),
            field: Some(field),
        }
    }
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct CreateBody {
    invitee_email: String,
    role: String,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct AnswerBody {
    invite_status: InviteStatus,
}

#[derive(Deserialize)]
#[serde(rename_all = "lowercase")]
enum InviteStatus {
    Accept,
    Reject,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct RoleBody {
    role: String,
}

/// The bearer token.
pub(super) fn bearer(headers: &HeaderMap) -> Option<&str> {
    let mut values = headers.get_all(header::AUTHORIZATION).iter();
    let value = values.next()?.to_str().ok()?;
    let token = value
        .strip_prefix("Bearer ")
        .filter(|token| !token.trim().is_empty())?;
    values.next().is_none().then_some(token)
}

/// Which call it is, and its parameters or what is wrong with it.
pub(super) fn read(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> (Operation, Result<Request, Malformed>) {
    let Some(path) = uri
        .path()
        .strip_prefix(BASE)
        .and_then(|path| path.strip_prefix('/'))
    else {
        return (Operation::Unknown, Err(Malformed::new(404, "no such path")));
    };
    let segments: Vec<&str> = path.split('/').collect();
    if segments.iter().any(|segment| segment.is_empty()) {
        return (
            Operation::Unknown,
            Err(Malformed::new(404, "an empty path segment")),
        );
    }
    let operation = match (method.as_str(), segments.as_slice()) {
        ("POST", ["organizations", _, "invites"]) => Operation::CreateInvite,
        ("GET", ["auth", "invites", _]) => Operation::GetInvite,
        ("DELETE", ["organizations", _, "invites", _]) => Operation::DeleteInvite,
        ("POST", ["users", "self", "invites", _]) => Operation::AnswerInvite,
        ("GET", ["organizations", _, "users"]) => Operation::ListUsers,
        ("GET", ["organizations", _, "users", _]) => Operation::GetUser,
        ("POST", ["organizations", _, "users", _, "role"]) => Operation::ChangeRole,
        ("DELETE", ["organizations", _, "users", _]) => Operation::RemoveMember,
        _ => return (Operation::Unknown, Err(Malformed::new(404, "no such call"))),
    };
    let request = check_form(method, uri, headers, body, operation)
        .and_then(|()| parameters(operation, &segments, uri, body));
    (operation, request)
}

fn check_form(
    method: &Method,
    uri: &Uri,
    headers: &HeaderMap,
    body: &[u8],
    operation: Operation,
) -> Result<(), Malformed> {
    let accepts = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok());
    if !accepts.flat_map(|value| value.split(',')).any(is_json) {
        return Err(Malformed::new(400, "Accept is not application/json"));
    }
    if operation != Operation::ListUsers && uri.query().is_some() {
        return Err(Malformed::new(400, "the call has no query parameters"));
    }
    if method == Method::POST {
        let mut types = headers.get_all(header::CONTENT_TYPE).iter();
        let is_right = types
            .next()
            .and_then(|value| value.to_str().ok())
            .is_some_and(is_json);
        if !is_right || types.next().is_some() {
            return Err(Malformed::new(415, "Content-Type is not application/json"));
        }
    } else if !body.is_empty() {
        return Err(Malformed::new(400, "the call has no body"));
    }
    Ok(())
}

fn is_json(media_type: &str) -> bool {
    let name = media_type.split(';').next().unwrap_or_default();
    name.trim().eq_ignore_ascii_case("application/json")
}

fn parameters(
    operation: Operation,
    segments: &[&str],
    uri: &Uri,
    body: &[u8],
) -> Result<Request, Malformed> {
    let segment = |at: usize| segments.get(at).copied().unwrap_or_default().to_owned();
    Ok(match operation {
        Operation::CreateInvite => {
            let CreateBody {
                invitee_email: email,
                role,
            } = parse(body)?;
            check_email(&email)?;
            Request::CreateInvite {
                organization: segment(1),
                email,
                role: check_role(role)?,
            }
        }
        Operation::GetInvite => Request::GetInvite { invite: segment(2) },
        Operation::DeleteInvite => Request::DeleteInvite {
            organization: segment(1),
            invite: segment(3),
        },
        Operation::AnswerInvite => {
            let AnswerBody { invite_status } = parse(body)?;
            let accept = matches!(invite_status, InviteStatus::Accept);
            Request::AnswerInvite {
                invite: segment(3),
                accept,
            }
        }
        Operation::ListUsers => Request::ListUsers {
            organization: segment(1),
            query: list_query(uri)?,
        },
        Operation::GetUser => Request::GetUser {
            organization: segment(1),
            user: segment(3),
        },
        Operation::ChangeRole => {
            let RoleBody { role } = parse(body)?;
            Request::ChangeRole {
                organization: segment(1),
                user: segment(3),
                role: check_role(role)?,
            }
        }
        Operation::RemoveMember => Request::RemoveMember {
            organization: segment(1),
            user: segment(3),
        },
        Operation::Unknown => return Err(Malformed::new(404, "no such call")),
    })
}

fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Malformed> {
    serde_json::from_slice(body).map_err(|error| Malformed::new(400, format!("the body: {error}")))
}

/// Whether the API knows the role.
pub(super) fn is_role(role: &str) -> bool {
    ROLES.contains(&role)
}

fn check_role(role: String) -> Result<String, Malformed> {
    if is_role(&role) {
        Ok(role)
    } else {
        Err(Malformed::field("role", "unknown role"))
    }
}

/// Rough on purpose: it finds what is no address at all, not every fine point of the grammar.
pub(super) fn is_email(email: &str) -> bool {
    let Some((local, domain)) = email.rsplit_once('@') else {
        return false;
    };
    let is_plain = |c: char| !c.is_whitespace() && !c.is_control() && !"@,;<>()[]\"\\".contains(c);
    !local.is_empty()
        && email.len() <= 254
        && domain.contains('.')
        && domain.split('.').all(|label| !label.is_empty())
        && local.chars().chain(domain.chars()).all(is_plain)
}

fn check_email(email: &str) -> Result<(), Malformed> {
    if is_email(email) {
        Ok(())
    } else {
        Err(Malformed::field("inviteeEmail", "no e-mail address"))
    }
}

fn list_query(uri: &Uri) -> Result<ListQuery, Malformed> {
    let Query(pairs) = Query::<Vec<(String, String)>>::try_from_uri(uri)
        .map_err(|error| Malformed::new(400, format!("the query: {error}")))?;
    let mut query = ListQuery {
        limit: DEFAULT_LIMIT,
        ..ListQuery::default()
    };
    let mut seen: Vec<&str> = Vec::new();
    for (name, value) in &pairs {
        if name != "sorts" && seen.contains(&name.as_str()) {
            return Err(Malformed::new(
                400,
                format!("query parameter {name} is given twice"),
            ));
        }
        seen.push(name);
        match name.as_str() {
            "search" => query.search = Some(value.clone()).filter(|term| !term.is_empty()),
            "hasInvites" => query.has_invites = Some(typed(value, "hasInvites")?),
            "offset" => query.offset = typed(value, "offset")?,
            "limit" => {
                query.limit = typed(value, "limit")?;
                if !(1..=MAX_LIMIT).contains(&query.limit) {
                    return Err(Malformed::field("limit", "limit is not within 1 and 1000"));
                }
            }
            "sorts" => query.sorts.push(sort(value)?),
            _ => {
                return Err(Malformed::new(
                    400,
                    format!("unknown query parameter {name}"),
                ));
            }
        }
    }
    Ok(query)
}

fn typed<T: std::str::FromStr>(value: &str, field: &'static str) -> Result<T, Malformed> {
    value
        .parse()
        .map_err(|_| Malformed::field(field, format!("{field} is malformed")))
}

fn sort(value: &str) -> Result<(SortField, bool), Malformed> {
    let malformed = || Malformed::field("sorts", "sorts is not <field>:asc or <field>:desc");
    let (field, direction) = value.split_once(':').ok_or_else(malformed)?;
    let field = match field {
        "createdAt" => SortField::CreatedAt,
        "username" => SortField::Username,
        "id" => SortField::Id,
        "fullName" => SortField::FullName,
        "updatedAt" => SortField::UpdatedAt,
        _ => return Err(malformed()),
    };
    match direction {
        "asc" => Ok((field, true)),
        "desc" => Ok((field, false)),
        _ => Err(malformed()),
    }
}
