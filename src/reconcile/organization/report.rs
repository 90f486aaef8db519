//! The status of an `Organization`.

use std::time::Duration;

use jiff::Timestamp;
use kube::{Api, ResourceExt};

use crate::astro::directory::Health;
use crate::error::Error;
use crate::reconcile::connection::Connection;
use crate::reconcile::context::Context;
use crate::reconcile::organization::RECOUNT;
use crate::reconcile::report::time;
use crate::reconcile::write::put_status;
use crate::resources::conditions::{self, Claim};
use crate::resources::organization::{InviteCounts, Permission};
use crate::resources::{OrgInvite, Organization, OrganizationStatus, Reason};
use crate::stored::Stored;

/// How old the noted time of the last reading may be when nothing else changed.
const SYNC_NOTED: Duration = Duration::from_mins(1);

/// Says how the connection stands, and why its token cannot be read anew. Nothing is said before the first reading
/// ended.
pub async fn report(
    object: &Organization,
    connection: &Connection,
    needed_by: usize,
    last_acknowledged_loss: Option<String>,
    unreadable: Option<String>,
    context: &Context,
) -> Result<(), Error> {
    let health = connection.directory.health();
    let mut token = connection.token();
    match &health {
        Health::Complete => token.list_users = Some(Permission::Allowed),
        Health::Forbidden(..) => token.list_users = Some(Permission::Forbidden),
        Health::Starting if needed_by == 0 => return Ok(()),
        Health::Starting | Health::Failing(_) => {}
    }
    connection.remember(token.clone());
    let recorded = object.status.clone().unwrap_or_default();
    let status = OrganizationStatus {
        last_sync_time: match &health {
            // Nobody reads: that it is long ago means nothing then.
            Health::Forbidden(..) => None,
            _ => connection
                .directory
                .synced()
                .map(time)
                .or(recorded.last_sync_time),
        },
        unread_since: connection.unread_since().map(time),
        token: Some(token),
        last_acknowledged_loss,
        ..recorded
    };
    let mut claims = claims(&health, connection, needed_by);
    if let Some(why) = unreadable {
        // Whatever else there is to say: a person has to mend that.
        claims.retain(|claim| !matches!(claim.kind, "Reconciling" | "Stalled"));
        let message = format!("{why}. The token that was read before goes on to be used");
        claims.push(claim("Stalled", "True", Reason::TokenMissing, &message));
    }
    // What is written triggers the next report at once.
    let status = if connection.is_to_count(RECOUNT) {
        counted(object, status, context)
    } else {
        status
    };
    write(object, status, &claims, context).await
}

fn counted(
    object: &Organization,
    status: OrganizationStatus,
    context: &Context,
) -> OrganizationStatus {
    OrganizationStatus {
        invites: count(&object.name_any(), context),
        ..status
    }
}

/// Says that a person has to do something before anything can be done.
pub async fn stalled(
    object: &Organization,
    context: &Context,
    reason: Reason,
    message: String,
) -> Result<(), Error> {
    unready(object, context, "Stalled", reason, &message).await
}

/// Says what the API server does not take.
pub async fn refused(object: &Organization, context: &Context, message: &str) -> Result<(), Error> {
    if !context.refusal_is_news(object, object.conditions()) {
        return Ok(());
    }
    unready(
        object,
        context,
        "Reconciling",
        Reason::WriteRefused,
        message,
    )
    .await
}

async fn unready(
    object: &Organization,
    context: &Context,
    kind: &'static str,
    reason: Reason,
    message: &str,
) -> Result<(), Error> {
    let status = object.status.clone().unwrap_or_default();
    let status = counted(object, status, context);
    write(object, status, &not_ready(kind, reason, message), context).await
}

fn not_ready(kind: &'static str, reason: Reason, message: &str) -> Vec<Claim> {
    vec![
        claim("Ready", "False", reason, message),
        claim(kind, "True", reason, message),
    ]
}

fn claims(health: &Health, connection: &Connection, needed_by: usize) -> Vec<Claim> {
    if needed_by > 0 {
        let message = format!(
            "It is being deleted, and goes when the {needed_by} OrgInvites that hold an invitation or a member of it are gone. Delete them, with deletionPolicy Retain where the invitation shall stay"
        );
        return not_ready("Reconciling", Reason::InUse, &message);
    }
    let mut claims = match health {
        Health::Failing(error) => {
            let (reason, advice, kind) = match error.status() {
                Some(401) => (
                    Reason::TokenRejected,
                    "Put a valid token into the Secret; it is picked up by itself",
                    "Stalled",
                ),
                Some(404 | 410) => (
                    Reason::OrganizationUnknown,
                    "Check organizationId and the operator's --astro-url",
                    "Stalled",
                ),
                _ => (
                    Reason::AstroUnavailable,
                    "It is tried again with growing delays; nothing is sent or deleted meanwhile",
                    "Reconciling",
                ),
            };
            let message = format!(
                "The organization cannot be read: {}. {advice}",
                error.summary()
            );
            not_ready(kind, reason, &message)
        }
        Health::Forbidden(error, _) => {
            let message = format!(
                "The token may not list the organization's users ({}), so that the operator works without looking: acceptance is not seen, and what nobody can tell waits for a person. Give the token a role that may list users",
                error.summary()
            );
            vec![claim("Ready", "True", Reason::ListForbidden, &message)]
        }
        Health::Starting | Health::Complete => {
            let message = "The token is accepted and the organization's people are read regularly";
            vec![claim("Ready", "True", Reason::Connected, message)]
        }
    };
    // The schema wants a role in each rule.
    let policy = connection.policy();
    let odd = policy.allow.iter().position(|rule| rule.roles.is_empty());
    if let (Some(at), Some(ready)) = (odd, claims.first_mut()) {
        let number = at + 1;
        ready.message = format!(
            "{}. Rule {number} of allow has what only a later version of the operator knows, and allows nothing: update the operator, or change the rule",
            ready.message
        );
    }
    if let Some(since) = connection.unread_since() {
        let message = format!(
            "The organization was last read at {since}, so that the cluster may have been restored from a backup that does not know who was written to since. Nobody who was declared before is written to until you set the annotation iam.astronomer.io/acknowledge-loss to a new value"
        );
        claims.push(claim("Suspicious", "True", Reason::LongUnread, &message));
    }
    if let Some(loss) = connection.directory.loss() {
        let message = format!(
            "{} of {} people are missing at once. Until a later reading shows them again nobody is written to, and no member is removed. When they did go, set the annotation iam.astronomer.io/acknowledge-loss to a new value; else check the operator's --astro-url and the token's role",
            loss.missing(),
            loss.known
        );
        if matches!(health, Health::Complete) {
            claims = not_ready("Stalled", Reason::PeopleMissing, &message);
        }
        claims.retain(|claim| claim.kind != "Suspicious");
        claims.push(claim("Suspicious", "True", Reason::PeopleMissing, &message));
    }
    claims
}

fn claim(kind: &'static str, status: &'static str, reason: Reason, message: &str) -> Claim {
    Claim {
        kind,
        status,
        reason,
        message: message.to_owned(),
    }
}

/// How many OrgInvites there are for the Organization, by how they stand.
fn count(name: &str, context: &Context) -> InviteCounts {
    let is = |object: &OrgInvite, kind: &str| conditions::is_true(object.conditions(), kind);
    let mut counts = InviteCounts::default();
    for object in context.invites.all() {
        if object.spec.organization_ref.name != name {
            continue;
        }
        counts.total += 1;
        *if object.metadata.deletion_timestamp.is_some() {
            &mut counts.deleting
        } else if is(&object, "Stalled") {
            &mut counts.stalled
        } else if is(&object, "Accepted") {
            &mut counts.accepted
        } else if is(&object, "Ready") {
            &mut counts.invited
        } else {
            &mut counts.waiting
        } += 1;
    }
    counts
}

async fn write(
    object: &Organization,
    mut status: OrganizationStatus,
    claims: &[Claim],
    context: &Context,
) -> Result<(), Error> {
    let generation = object.metadata.generation.unwrap_or_default();
    let recorded = object.status.clone().unwrap_or_default();
    status.observed_generation = generation;
    status.conditions = conditions::merge(
        &recorded.conditions,
        claims,
        generation,
        time(Timestamp::now()).0,
    );
    if let (Some(noted), Some(now)) = (&recorded.last_sync_time, &status.last_sync_time) {
        let young = now.0.duration_since(noted.0).unsigned_abs() < SYNC_NOTED;
        let unchanged = OrganizationStatus {
            last_sync_time: recorded.last_sync_time.clone(),
            ..status.clone()
        };
        if young && unchanged == recorded {
            return Ok(());
        }
    }
    if status == recorded {
        return Ok(());
    }
    let api: Api<Stored<Organization>> = Api::all(context.client.clone());
    match put_status(&api, object, &status).await {
        Ok(_) => {
            let news = claims.iter().filter(|claim| {
                let reason = claim.reason.as_str();
                // A Stalled beside a Ready that is told has the same reason.
                let told = claim.kind != "Reconciling"
                    && !(claim.kind == "Stalled" && claims[0].reason == claim.reason);
                told && !recorded
                    .conditions
                    .iter()
                    .any(|one| one.type_ == claim.kind && one.reason == reason)
            });
            for claim in news {
                context.events.claimed(object, claim);
            }
            Ok(())
        }
        // Its own event plans it again.
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
