//! Reconciling an `Organization`: its token, its connection, its status.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt as _;
use jiff::Timestamp;
use kube::api::{Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::Instrument as _;

use super::connection::{Connection, Link, Policy};
use super::context::Context;
use crate::astro::Astro;
use crate::astro::budget::Budget;
use crate::astro::directory::{Directory, Health, News};
use crate::astro::http::Client;
use crate::error::Error;
use crate::plan::Saying;
use crate::resources::conditions::{self, Claim};
use crate::resources::{Organization, OrganizationStatus, Reason};

/// How long until something that needs a person is looked at again without being told.
const RECHECK: Duration = Duration::from_mins(1);

/// Reconciles one Organization. Failures are logged here.
pub async fn reconcile(object: Arc<Organization>, context: Arc<Context>) -> Result<Action, Error> {
    let name = object.name_any();
    if !context.serves(&name) || context.leadership.term().is_none() {
        return Ok(Action::await_change());
    }
    let span = tracing::info_span!(
        "reconcile",
        object.kind = "Organization",
        object.name = name
    );
    attend(&object, &name, &context)
        .inspect_err(|error| {
            tracing::warn!(%error, "the Organization cannot be reconciled; it is tried again");
        })
        .instrument(span)
        .await
}

/// An Organization was deleted: its `OrgInvite`s learn that nothing can be done for them.
pub fn forget(name: &str, context: &Context) {
    if context.links.write().remove(name).is_some() {
        tracing::info!(organization = name, "the Organization is gone");
    }
    context.metrics.forget(name);
    context.trigger_all_of(name);
    // One that had to stand back may take its place.
    for other in context.organizations.state() {
        context
            .trigger_organizations
            .send(ObjectRef::from_obj(other.as_ref()))
            .ok();
    }
}

async fn attend(
    object: &Organization,
    name: &str,
    context: &Arc<Context>,
) -> Result<Action, Error> {
    if let Some(older) = older_twin(object, context) {
        let message = format!(
            "Organization {older} is older and for the same organizationId. Delete one of the two: addresses, budget and brakes are an organization's"
        );
        set_link(
            context,
            name,
            Link::Down(Saying {
                reason: Reason::OrganizationNotReady,
                message: format!("Organization {name} is not ready: {message}"),
            }),
        );
        report(object, context, &stalled(Reason::Duplicate, message)).await?;
        return Ok(Action::requeue(RECHECK));
    }
    let token = match token(object, context).await? {
        Ok(token) => token,
        Err(message) => {
            set_link(
                context,
                name,
                Link::Down(Saying {
                    reason: Reason::OrganizationNotReady,
                    message: format!("Organization {name} is not ready: {message}"),
                }),
            );
            report(object, context, &stalled(Reason::TokenMissing, message)).await?;
            return Ok(Action::await_change());
        }
    };
    let connection = connect(object, name, token, context);
    let claims = match connection.directory.health() {
        Health::Starting => return Ok(Action::await_change()),
        Health::Complete => vec![claim(
            "Ready",
            "True",
            Reason::Connected,
            "The token is accepted and the organization's people are read regularly",
        )],
        Health::Failing(error) => {
            let (reason, advice, needs_person) = match error.status() {
                Some(401) => (
                    Reason::TokenRejected,
                    "Put a valid token into the Secret; it is picked up by itself",
                    true,
                ),
                Some(403) => (
                    Reason::ListForbidden,
                    "Give the token a role that may list the organization's users, or put another one into the Secret",
                    true,
                ),
                Some(404 | 410) => (
                    Reason::OrganizationUnknown,
                    "Check organizationId and the operator's --astro-url",
                    true,
                ),
                _ => (
                    Reason::AstroUnavailable,
                    "It is tried again with growing delays; nothing is sent or deleted meanwhile",
                    false,
                ),
            };
            let message = format!("The organization cannot be read: {error}. {advice}");
            vec![
                claim("Ready", "False", reason, &message),
                claim(
                    if needs_person {
                        "Stalled"
                    } else {
                        "Reconciling"
                    },
                    "True",
                    reason,
                    &message,
                ),
            ]
        }
    };
    report(object, context, &claims).await?;
    Ok(Action::await_change())
}

/// An older Organization for the same organization: it goes first.
fn older_twin(object: &Organization, context: &Context) -> Option<String> {
    let age = |object: &Organization| {
        (
            object
                .metadata
                .creation_timestamp
                .as_ref()
                .map(|time| time.0),
            object.name_any(),
        )
    };
    context
        .organizations
        .state()
        .iter()
        .filter(|other| {
            other.uid() != object.uid() && other.spec.organization_id == object.spec.organization_id
        })
        .filter(|other| age(other) < age(object))
        .map(|other| other.name_any())
        .min()
}

/// The token, or why there is none.
async fn token(
    object: &Organization,
    context: &Context,
) -> Result<Result<SecretString, String>, Error> {
    let wanted = &object.spec.token_secret_ref;
    let place = format!("Secret {}/{}", context.own_namespace, wanted.name);
    let Some(secret) = context.secrets().get_opt(&wanted.name).await? else {
        return Ok(Err(format!(
            "{place} does not exist. Create it with the API token under the key {}",
            wanted.key
        )));
    };
    let value = secret.data.unwrap_or_default().remove(&wanted.key);
    let text = value
        .and_then(|value| String::from_utf8(value.0).ok())
        .map(|text| text.trim().to_owned());
    Ok(match text {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(SecretString::from(text))
        }
        Some(_) => Err(format!(
            "Key {} of {place} is no API token: it is empty or has spaces or characters outside ASCII",
            wanted.key
        )),
        None => Err(format!(
            "{place} has no key {}. Put the API token there",
            wanted.key
        )),
    })
}

/// The connection for this spec and token: the one there is, or a new one.
fn connect(
    object: &Organization,
    name: &str,
    token: SecretString,
    context: &Arc<Context>,
) -> Arc<Connection> {
    let mut hasher = DefaultHasher::new();
    (
        token.expose_secret(),
        &object.spec.organization_id,
        &object.uid(),
    )
        .hash(&mut hasher);
    let made_from = hasher.finish();
    let policy = Policy {
        allow: object.spec.allow.clone(),
        suspend: object.spec.suspend,
        generation: object.metadata.generation.unwrap_or_default(),
    };
    if let Link::Up(connection) = context.link(name)
        && connection.made_from == made_from
    {
        if connection.policy().generation != policy.generation {
            let suspended = policy.suspend;
            tracing::info!(
                organization = name,
                suspended,
                "the Organization's spec changed"
            );
            connection.set_policy(policy);
            connection
                .directory
                .set_interval(object.spec.sync_interval());
            context.trigger_all_of(name);
        }
        return connection;
    }
    let astro: Arc<dyn Astro> = Arc::new(Client::new(
        &context.astro,
        &object.spec.organization_id,
        token,
    ));
    let metrics = context.metrics.organization(name);
    let budget = Arc::new(Budget::new(context.rates).counted_in(metrics.waits()));
    let directory = Directory::new(
        Arc::clone(&astro),
        Arc::clone(&budget),
        context.timing.listing_delay,
        object.spec.sync_interval(),
    );
    let directory = Arc::new(directory.counted_in(metrics));
    let reading = tokio::spawn(read(
        name.to_owned(),
        Arc::clone(&directory),
        Arc::clone(context),
    ));
    let connection = Arc::new(Connection::new(
        object.spec.organization_id.clone(),
        astro,
        budget,
        directory,
        made_from,
        policy,
        reading,
    ));
    tracing::info!(organization = name, "connecting");
    set_link(context, name, Link::Up(Arc::clone(&connection)));
    connection
}

/// Reads the organization's people for ever and passes the news on.
async fn read(name: String, directory: Arc<Directory>, context: Arc<Context>) {
    let own = ObjectRef::new(&name);
    directory
        .run(|news| match news {
            News::Health => {
                context.trigger_organizations.send(own.clone()).ok();
            }
            News::Everything => context.trigger_all_of(&name),
            News::Addresses(addresses) => {
                for address in addresses {
                    for object in context.invites.for_address(&address) {
                        context
                            .trigger_invites
                            .send(ObjectRef::from_obj(object.as_ref()))
                            .ok();
                    }
                }
            }
        })
        .await;
}

fn set_link(context: &Context, name: &str, link: Link) {
    let said = |link: &Link| match link {
        Link::Down(saying) => Some(saying.clone()),
        Link::NotYet | Link::Up(_) => None,
    };
    let now = said(&link);
    let before = context.links.write().insert(name.to_owned(), link);
    if before.is_none_or(|before| said(&before) != now) {
        context.trigger_all_of(name);
    }
}

fn claim(kind: &'static str, status: &'static str, reason: Reason, message: &str) -> Claim {
    Claim {
        kind,
        status,
        reason,
        message: message.to_owned(),
    }
}

fn stalled(reason: Reason, message: String) -> Vec<Claim> {
    vec![
        claim("Ready", "False", reason, &message),
        Claim {
            kind: "Stalled",
            status: "True",
            reason,
            message,
        },
    ]
}

async fn report(object: &Organization, context: &Context, claims: &[Claim]) -> Result<(), Error> {
    let generation = object.metadata.generation.unwrap_or_default();
    let recorded = object.status.clone().unwrap_or_default();
    let status = OrganizationStatus {
        observed_generation: generation,
        conditions: conditions::merge(&recorded.conditions, claims, generation, Timestamp::now()),
    };
    if status == recorded {
        return Ok(());
    }
    let patch =
        json!({"metadata": {"resourceVersion": object.resource_version()}, "status": status});
    let api: Api<Organization> = Api::all(context.client.clone());
    match api
        .patch_status(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(_) => Ok(()),
        // Its own event plans it again.
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}
