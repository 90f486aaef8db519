//! A request's way through the fake.

use std::{collections::BTreeMap, time::Instant};

use axum::{
    body::{Bytes, to_bytes},
    extract::{ConnectInfo, State},
    http::{HeaderValue, header, request::Parts},
    response::Response,
};
use jiff::fmt::rfc2822::DateTimePrinter;
use serde_json::{Value, json};

use super::{
    Control, World,
    answer::{Reply, error, faulty, invite_json, listed_user_json, malformed, render, user_json},
    behaviour::{Api, ListUsers},
    connection::Connection,
    faults::{HoldPoint, Struck},
    journal::{Call, Mail, Operation, Outcome, Violation},
    organization::{Moment, Organization, Refused, get_invite, inviter},
    request::{self, Request},
    state::{Invite, canonical},
};

/// More than any documented body.
const MAX_BODY: usize = 1 << 20;

/// Answers one request.
pub(super) async fn serve(
    State(control): State<Control>,
    ConnectInfo(connection): ConnectInfo<Connection>,
    request: axum::extract::Request,
) -> Response {
    let (parts, body) = request.into_parts();
    let reply = match to_bytes(body, MAX_BODY).await {
        // In a task of its own: the server drops this future when the client goes away, and what a request has begun
        // must happen nevertheless.
        Ok(body) => tokio::spawn(work(control.clone(), parts, body))
            .await
            .unwrap_or(Reply::Cut),
        Err(_) => Reply::Cut,
    };
    if matches!(reply, Reply::Cut) {
        connection.cut();
    }
    let mut response = render(reply);
    if let Some(now) = control.0.world.lock().moved_clock()
        && let Ok(date) = DateTimePrinter::new().timestamp_to_rfc9110_string(&now)
        && let Ok(date) = HeaderValue::from_str(&date)
    {
        response.headers_mut().insert(header::DATE, date);
    }
    response
}

async fn work(control: Control, parts: Parts, body: Bytes) -> Reply {
    let arrival = control.0.world.lock().arrive(&parts, &body);
    let sequence = arrival.sequence;
    let reply = follow(&control, arrival).await;
    let outcome = match &reply {
        Reply::Json(status, _) | Reply::Html(status) | Reply::Empty(status) => {
            Outcome::Status(*status)
        }
        Reply::Garbage => Outcome::Status(200),
        Reply::Limited(_) => Outcome::Status(429),
        Reply::Cut => Outcome::Cut,
    };
    control
        .0
        .world
        .lock()
        .note(sequence, |call| call.outcome = outcome);
    reply
}

/// A request that was logged.
struct Arrival {
    sequence: u64,
    operation: Operation,
    struck: Struck,
    /// The request with the id of its token as a service key, or why it goes no further.
    request: Result<(Request, String), Reply>,
}

async fn follow(control: &Control, arrival: Arrival) -> Reply {
    let Arrival {
        sequence,
        operation,
        struck,
        request,
    } = arrival;
    tokio::time::sleep(struck.delay_before).await;
    if let Some(answer) = struck.answer_at(HoldPoint::BeforeEffect) {
        return faulty(answer);
    }
    let (request, key_id) = match request {
        Ok(admitted) => admitted,
        Err(reply) => return reply,
    };
    gate(control, sequence, HoldPoint::BeforeEffect).await;
    let is_list = operation == Operation::ListUsers;
    let (reply, hooks) = {
        let _whole = is_list.then(|| control.0.lists.lock());
        let mut world = control.0.world.lock();
        let reply = world.perform(sequence, request, &key_id);
        (
            reply,
            if is_list {
                world.due_hooks()
            } else {
                Vec::new()
            },
        )
    };
    for hook in hooks {
        hook(control);
    }
    gate(control, sequence, HoldPoint::AfterEffect).await;
    tokio::time::sleep(struck.delay_after).await;
    struck
        .answer_at(HoldPoint::AfterEffect)
        .map_or(reply, faulty)
}

async fn gate(control: &Control, sequence: u64, point: HoldPoint) {
    let held = control.0.world.lock().take_gate(sequence, point);
    if let Some((held, call)) = held {
        held.wait(call).await;
    }
}

impl World {
    /// Takes a request in: logs it, takes the faults that strike it, and checks everything that does not depend on
    /// what it is about.
    fn arrive(&mut self, parts: &Parts, body: &[u8]) -> Arrival {
        let (operation, request) = request::read(&parts.method, &parts.uri, &parts.headers, body);
        let sequence = self.calls.len() as u64 + 1;
        let now = Instant::now();
        let (email, invite_id) = request
            .as_ref()
            .map_or((None, None), |request| self.about(request));
        let struck = self.faults.strike(operation, email.as_deref());
        self.calls.push(Call {
            sequence,
            at: now,
            wall: self.now(),
            operation,
            method: parts.method.to_string(),
            path: parts.uri.path().to_owned(),
            query: parts.uri.query().unwrap_or_default().to_owned(),
            email,
            invite_id,
            outcome: Outcome::Open,
        });
        let token = request::bearer(&parts.headers);
        if token.is_none() {
            self.violate(sequence, "no bearer token");
        }
        let request = request.map_err(|problem| {
            self.violate(sequence, &problem.problem);
            malformed(&problem)
        });
        let admitted = self.admit(
            sequence,
            token,
            parts.method.as_str(),
            now,
            request.as_ref().ok(),
        );
        let request = admitted.and_then(|key_id| Ok((request?, key_id)));
        Arrival {
            sequence,
            operation,
            struck,
            request,
        }
    }

    fn admit(
        &mut self,
        sequence: u64,
        token: Option<&str>,
        method: &str,
        now: Instant,
        request: Option<&Request>,
    ) -> Result<String, Reply> {
        match self.behaviour.api {
            Api::Served => {}
            Api::NotFound => return Err(Reply::Html(404)),
            Api::Missing => return Err(error(404, "There is nothing here")),
            Api::Gone => return Err(error(410, "This version of the API is no longer served")),
        }
        if let (Some(limits), Some(token)) = (self.limits, token)
            && !self.buckets.take(limits, token, method, now)
        {
            return Err(Reply::Limited(limits.retry_after));
        }
        let found = self
            .tokens
            .iter()
            .find(|t| Some(t.value.as_str()) == token && !t.revoked);
        let Some(token) = found else {
            return Err(error(401, "Invalid token"));
        };
        match request {
            Some(Request::AnswerInvite { invite, .. }) => {
                let invite = self
                    .invite(invite)
                    .ok_or_else(|| error(404, "Invite not found"))?;
                if token.person.as_ref() != Some(&invite.address) {
                    return Err(error(403, "The invite is not for the holder of the token"));
                }
            }
            Some(Request::GetInvite { invite }) => {
                // The path names no organization, so an invite of another one is not found instead of forbidden.
                let is_visible = self.invite(invite).is_some_and(|invite| {
                    token.organizations.contains(&invite.organization_id)
                        || token.person.as_ref() == Some(&invite.address)
                });
                if !is_visible {
                    return Err(error(404, "Invite not found"));
                }
            }
            Some(request) => {
                let Some(organization) = organization_of(request) else {
                    return Ok(token.key_id.clone());
                };
                if !self.organizations.contains_key(organization) {
                    self.violate(sequence, "unknown organization");
                    return Err(error(404, "Organization not found"));
                }
                if !token.organizations.iter().any(|id| id == organization) {
                    return Err(error(403, "Not allowed in this organization"));
                }
            }
            None => {}
        }
        Ok(token.key_id.clone())
    }

    /// The address and the invite that a request is about.
    fn about(&self, request: &Request) -> (Option<String>, Option<String>) {
        match request {
            Request::CreateInvite { email, .. } => (Some(canonical(email)), None),
            Request::GetInvite { invite }
            | Request::DeleteInvite { invite, .. }
            | Request::AnswerInvite { invite, .. } => self.invite(invite).map_or_else(
                || (None, Some(invite.clone())),
                // Not the id from the path, which may be a ticket's.
                |invite| (Some(invite.address.clone()), Some(invite.id.clone())),
            ),
            Request::GetUser { organization, user }
            | Request::ChangeRole {
                organization, user, ..
            }
            | Request::RemoveMember { organization, user } => {
                let user = self
                    .organizations
                    .get(organization)
                    .and_then(|o| o.user(user));
                (user.map(|user| user.address.clone()), None)
            }
            Request::ListUsers { .. } => (None, None),
        }
    }

    fn violate(&mut self, sequence: u64, problem: &str) {
        let request = self
            .calls
            .last()
            .map(|call| format!("{} {}", call.method, call.path))
            .unwrap_or_default();
        self.violations.push(Violation {
            sequence,
            request,
            problem: problem.to_owned(),
        });
    }

    /// Does what the request asks for.
    fn perform(&mut self, sequence: u64, request: Request, key_id: &str) -> Reply {
        let moment = Moment {
            wall: self.now(),
            monotonic: Instant::now(),
        };
        self.try_perform(sequence, request, key_id, moment)
            .unwrap_or_else(|Refused(status, message)| error(status, message))
    }

    fn try_perform(
        &mut self,
        sequence: u64,
        request: Request,
        key_id: &str,
        moment: Moment,
    ) -> Result<Reply, Refused> {
        let now = moment.wall;
        match request {
            Request::CreateInvite {
                organization,
                email,
                role,
            } => {
                let lifetime = self.invite_lifetime;
                let organization = find(&mut self.organizations, &organization)?;
                let by = inviter(self.behaviour.inviter, &organization.owner, key_id);
                let standing = organization.standing(&email, now);
                let (invite, is_new) = organization.create_invite(
                    &email,
                    &role,
                    by,
                    lifetime,
                    now,
                    &self.behaviour,
                )?;
                if is_new {
                    self.mails.push(mail(&invite, sequence, standing));
                }
                self.note(sequence, |call| call.invite_id = Some(invite.id.clone()));
                Ok(Reply::Json(200, invite_json(&invite, &self.behaviour)))
            }
            Request::GetInvite { invite } => {
                let invite = get_invite(self.invite(&invite), now, &self.behaviour)?;
                Ok(Reply::Json(200, invite_json(invite, &self.behaviour)))
            }
            Request::DeleteInvite {
                organization,
                invite,
            } => {
                find(&mut self.organizations, &organization)?.delete_invite(
                    &invite,
                    now,
                    &self.behaviour,
                )?;
                Ok(Reply::Empty(204))
            }
            Request::AnswerInvite { invite, accept } => {
                let invite = self
                    .organizations
                    .values_mut()
                    .find(|organization| organization.invite(&invite).is_some())
                    .ok_or(Refused(404, "Invite not found"))?
                    .answer_invite(&invite, accept, now)?;
                Ok(Reply::Json(200, invite_json(&invite, &self.behaviour)))
            }
            Request::ListUsers {
                organization,
                query,
            } => {
                if self.behaviour.list_users == ListUsers::Forbidden {
                    return Err(Refused(403, "The token may not list users"));
                }
                let organization = find(&mut self.organizations, &organization)?;
                let rows = organization.list(&query, moment, &self.behaviour);
                let page = rows.iter().skip(query.offset).take(query.limit);
                let has_invites = query.has_invites == Some(true);
                let users: Vec<Value> = page
                    .map(|row| listed_user_json(row, has_invites, &self.behaviour))
                    .collect();
                Ok(Reply::Json(
                    200,
                    json!({
                        "users": users,
                        "offset": query.offset,
                        "limit": query.limit,
                        "totalCount": rows.len(),
                    }),
                ))
            }
            Request::GetUser { organization, user } => {
                let organization = find(&mut self.organizations, &organization)?;
                let row = organization
                    .row(&user, moment, &self.behaviour)
                    .ok_or(Refused(404, "User not found"))?;
                Ok(Reply::Json(200, user_json(&row, &self.behaviour)))
            }
            Request::ChangeRole {
                organization,
                user,
                role,
            } => {
                find(&mut self.organizations, &organization)?.change_role(
                    &user,
                    &role,
                    moment,
                    &self.behaviour,
                )?;
                Ok(Reply::Json(200, json!({"role": role})))
            }
            Request::RemoveMember { organization, user } => {
                find(&mut self.organizations, &organization)?.remove_member(&user, now)?;
                Ok(Reply::Empty(204))
            }
        }
    }
}

fn find<'a>(
    organizations: &'a mut BTreeMap<String, Organization>,
    id: &str,
) -> Result<&'a mut Organization, Refused> {
    organizations
        .get_mut(id)
        .ok_or(Refused(404, "Organization not found"))
}

/// The e-mail with `invite`; see [`Organization::standing`] for what there was besides.
pub(super) fn mail(invite: &Invite, call: u64, (besides, to_member): (usize, bool)) -> Mail {
    Mail {
        organization_id: invite.organization_id.clone(),
        address: invite.address.clone(),
        invite_id: invite.id.clone(),
        role: invite.role.clone(),
        at: invite.created_at,
        call,
        besides,
        to_member,
    }
}

fn organization_of(request: &Request) -> Option<&str> {
    match request {
        Request::CreateInvite { organization, .. }
        | Request::DeleteInvite { organization, .. }
        | Request::ListUsers { organization, .. }
        | Request::GetUser { organization, .. }
        | Request::ChangeRole { organization, .. }
        | Request::RemoveMember { organization, .. } => Some(organization),
        Request::GetInvite { .. } | Request::AnswerInvite { .. } => None,
    }
}
