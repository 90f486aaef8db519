//! How answers look.

use axum::{
    body::Body,
    http::{HeaderValue, StatusCode, header},
    response::Response,
};
use serde_json::{Value, json};

use super::{
    behaviour::{Behaviour, EmailCase, ExpiresAt, InvitesShown, Shown},
    faults::Answer,
    organization::Row,
    request::Malformed,
    state::{Invite, UserStatus, new_request_id, new_secret},
};

/// What goes back to the client.
#[derive(Debug)]
pub(super) enum Reply {
    Json(u16, Value),
    Html(u16),
    Empty(u16),
    Garbage,
    Limited(Option<u64>),
    Cut,
}

pub(super) fn faulty(answer: &Answer) -> Reply {
    match answer {
        Answer::Status(status) => error(*status, &told_too_much()),
        Answer::Html(status) => Reply::Html(*status),
        Answer::Empty(status) => Reply::Empty(*status),
        Answer::Garbage => Reply::Garbage,
        Answer::TooManyRequests(retry_after) => Reply::Limited(*retry_after),
        Answer::Cut => Reply::Cut,
    }
}

/// What nobody is to be told, in words that a service might use.
fn told_too_much() -> String {
    let (ticket, link) = (new_secret("ticket"), new_secret("link"));
    format!(
        "A fault was asked for: somebody@people.example has '{ticket}' for https://people.example/join/{link}"
    )
}

/// The documented body of an error.
pub(super) fn error(status: u16, message: &str) -> Reply {
    Reply::Json(
        status,
        json!({"message": message, "requestId": new_request_id(), "statusCode": status}),
    )
}

pub(super) fn malformed(problem: &Malformed) -> Reply {
    let reply = error(
        problem.status,
        &format!("Invalid request: {}", problem.problem),
    );
    match (reply, problem.field) {
        (Reply::Json(status, mut body), Some(field)) => {
            body["fieldErrors"] =
                json!([{"code": "invalid", "field": field, "message": problem.problem}]);
            Reply::Json(status, body)
        }
        (reply, _) => reply,
    }
}

pub(super) fn render(reply: Reply) -> Response {
    const HTML: &str = "<!DOCTYPE html><html><body><h1>Not from the API</h1></body></html>";
    let (status, content_type, retry_after, body) = match reply {
        Reply::Json(status, body) => (status, "application/json", None, body.to_string()),
        Reply::Html(status) => (status, "text/html; charset=utf-8", None, HTML.to_owned()),
        Reply::Empty(status) => (status, "", None, String::new()),
        Reply::Garbage => (
            200,
            "application/json",
            None,
            "{\"inviteId\": \u{fffd}".to_owned(),
        ),
        Reply::Limited(retry_after) => {
            let body = json!({"message": "Too many requests", "requestId": new_request_id(), "statusCode": 429});
            (429, "application/json", retry_after, body.to_string())
        }
        // Never sent: the connection is cut by now.
        Reply::Cut => (500, "", None, String::new()),
    };
    let mut response = Response::new(Body::from(body));
    *response.status_mut() =
        StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    let headers = response.headers_mut();
    if !content_type.is_empty() {
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static(content_type));
    }
    if let Some(seconds) = retry_after {
        headers.insert(header::RETRY_AFTER, HeaderValue::from(seconds));
    }
    if let Ok(id) = HeaderValue::from_str(&new_request_id()) {
        headers.insert("x-request-id", id);
    }
    response
}

/// The model `Invite`: without a role, and with the address only as the invitee's `username`.
pub(super) fn invite_json(invite: &Invite, behaviour: &Behaviour) -> Value {
    let by = &invite.inviter;
    let inviter = if by.is_service_key {
        json!({"id": by.id, "subjectType": "SERVICEKEY", "apiTokenName": by.name})
    } else {
        json!({"id": by.id, "subjectType": "USER", "username": by.name, "fullName": "owner"})
    };
    json!({
        "inviteId": invite.id,
        "organizationId": invite.organization_id,
        "organizationName": "Fake",
        "organizationShortName": "fake",
        "userId": invite.user_id,
        "invitee": {
            "id": invite.user_id,
            "subjectType": "USER",
            "username": shown_email(&invite.email, behaviour),
        },
        "inviter": inviter,
        "expiresAt": match behaviour.expires_at {
            ExpiresAt::Rfc3339 => invite.expires_at.to_string(),
            ExpiresAt::WholeSeconds => invite.expires_at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        },
        "ticketId": invite.ticket_id,
        "oAuthInviteId": invite.oauth_invite_id,
    })
}

pub(super) fn user_json(row: &Row<'_>, behaviour: &Behaviour) -> Value {
    let user = row.user;
    json!({
        "id": user.id,
        "username": shown_email(&user.username, behaviour),
        "fullName": user.full_name,
        "avatarUrl": "",
        "status": user.status,
        "createdAt": user.created_at.to_string(),
        "updatedAt": user.updated_at.to_string(),
    })
}

/// The model `User` with the fields that it has only in a list.
pub(super) fn listed_user_json(row: &Row<'_>, has_invites: bool, behaviour: &Behaviour) -> Value {
    let mut user = user_json(row, behaviour);
    user["orgUserRelationIsIdpManaged"] = json!(row.user.idp_managed);
    let shown = if has_invites {
        behaviour.pending_role_with_invites
    } else {
        behaviour.pending_role
    };
    if row.user.status != UserStatus::Pending || shown == Shown::Yes {
        user["orgRole"] = json!(row.role);
    }
    let shows_invites = match behaviour.invites_shown {
        InvitesShown::Always => true,
        InvitesShown::WithHasInvites => has_invites,
        InvitesShown::Never => false,
    };
    if shows_invites {
        user["invites"] = row
            .invites
            .iter()
            .map(|invite| invite_json(invite, behaviour))
            .collect();
    }
    user
}

fn shown_email(email: &str, behaviour: &Behaviour) -> String {
    match behaviour.email_case {
        EmailCase::Kept => email.to_owned(),
        EmailCase::Lowered => email.to_lowercase(),
    }
}
