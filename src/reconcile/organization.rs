//! Reconciling an `Organization`: its token, its connection, its status.

mod report;

use std::collections::HashSet;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::sync::Arc;
use std::time::Duration;

use futures::TryFutureExt as _;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use kube::{Api, ResourceExt};
use secrecy::{ExposeSecret, SecretString};
use serde_json::json;
use tracing::Instrument as _;

use super::cache::Kind;
use super::connection::{Connection, Link, Policy, Unread};
use super::context::Context;
use super::write::has_finalizer;
use crate::astro::Astro;
use crate::astro::budget::Budget;
use crate::astro::directory::{Directory, News};
use crate::astro::http::Client;
use crate::claims;
use crate::error::Error;
use crate::leadership::Term;
use crate::leadership::fence::Fenced;
use crate::plan::Saying;
use crate::resources::organization::TokenStatus;
use crate::resources::organization::{ACKNOWLEDGE_ANNOTATION, FINALIZER};
use crate::resources::{Address, OrgInvite, Organization, Reason};
use crate::stored::{PAGE, Stored, finalizers};

/// How long until something that needs a person is looked at again without being told.
const RECHECK: Duration = Duration::from_mins(1);
/// So long a token that cannot be read is not told of: an API server that has just started may not know of our rights
/// yet.
const START: Duration = Duration::from_secs(5);
/// How often the OrgInvites are counted.
const RECOUNT: Duration = Duration::from_secs(10);
/// How long an organization may go unread without a doubt, at least; and at least two intervals.
const UNREAD: Duration = Duration::from_hours(1);

/// Reconciles one Organization. Failures are logged here.
pub async fn reconcile(object: Arc<Organization>, context: Arc<Context>) -> Result<Action, Error> {
    let name = object.name_any();
    let Some(term) = context.leadership.term().filter(|_| context.serves(&name)) else {
        return Ok(Action::await_change());
    };
    let span = tracing::info_span!(
        "reconcile",
        object.kind = "Organization",
        object.name = name
    );
    attend(&object, &name, &term, &context)
        .inspect_err(|error| {
            tracing::warn!(%error, "the Organization cannot be reconciled; it is tried again");
        })
        .instrument(span)
        .await
}

/// An Organization was deleted: its `OrgInvite`s learn that nothing can be done for them.
pub fn forget(name: &str, context: &Context) {
    // One that led once still shows what it counted then.
    context.metrics.forget(name);
    let Some(term) = context.leadership.term() else {
        return;
    };
    if term.links.write().remove(name).is_some() {
        tracing::info!(organization = name, "the Organization is gone");
    }
    context.trigger_all_of(name);
    // One that had to stand back may take its place.
    for other in context.organizations.state() {
        context.trigger_organization(&other);
    }
}

/// After a list: the Organizations that went meanwhile have no event.
pub fn forget_missing(context: &Context) {
    let Some(term) = context.leadership.term() else {
        return;
    };
    let linked: Vec<String> = term.links.read().keys().cloned().collect();
    for name in linked {
        if context.organizations.get(&ObjectRef::new(&name)).is_none() {
            forget(&name, context);
        }
    }
}

async fn attend(
    object: &Organization,
    name: &str,
    term: &Arc<Term>,
    context: &Arc<Context>,
) -> Result<Action, Error> {
    let deleting = object.metadata.deletion_timestamp.is_some();
    let held = is_held(object);
    heed(object, name, term, context);
    let needed_by = if deleting {
        needed_by(name, held, context).await?
    } else {
        0
    };
    if !context.leadership.holds(term) {
        return Ok(Action::await_change());
    }
    if deleting && needed_by == 0 {
        if held {
            hold(object, false, context).await?;
            tracing::info!("released: no OrgInvite needs it");
        }
        return Ok(Action::await_change());
    }
    if !deleting && !held {
        let written = hold(object, true, context).await;
        if written.as_ref().err().and_then(Error::refusal).is_some()
            && !matches!(context.link(term, name), Link::Up(_))
        {
            let message =
                "The API server refuses to take its finalizer. Its own conditions say why";
            set_link(context, term, name, not_ready(name, message));
        }
        match written? {
            Held::Stripped => tracing::warn!(
                "something removes the finalizer as it is set, so that the Organization may go before its OrgInvites: let the API server's policies keep it"
            ),
            // Its own event plans the rest.
            Held::Written => return Ok(Action::await_change()),
        }
    }
    if let Some(older) = older_twin(object, context) {
        let message = format!(
            "Organization {older} is older and for the same organizationId. Delete one of the two: addresses, budget and brakes are an organization's"
        );
        set_link(context, term, name, not_ready(name, &message));
        report::stalled(object, context, Reason::Duplicate, message).await?;
        return Ok(Action::requeue(RECHECK));
    }
    let token = token(object, context).await;
    // It may have been removed by force meanwhile, and nobody would be told again.
    let present = context.organizations.get(&ObjectRef::new(name));
    let is_there = present.is_some_and(|present| present.uid() == object.uid());
    if !is_there || !context.leadership.holds(term) {
        return Ok(Action::await_change());
    }
    let (connection, failure) = match token {
        Ok(Ok(token)) => (connect(object, name, token, term, context), None),
        Ok(Err(message)) => {
            token_missing(object, name, message, term, context).await?;
            return Ok(Action::requeue(RECHECK));
        }
        Err(error) => match context.link(term, name) {
            // The token that there is goes on to be used.
            Link::Up(connection) if is_for(&connection, object) => (connection, Some(error)),
            Link::NotYet if term.is_first_failure(name, START) => return Err(error.into()),
            _ => {
                token_missing(object, name, unreadable(&error), term, context).await?;
                return Err(error.into());
            }
        },
    };
    term.sweep(context.timing, |organization_id, address| {
        !context.claimants(address, organization_id).is_empty()
    });
    let acknowledged = acknowledge(object, name, &connection, context);
    let why = failure.as_ref().map(unreadable);
    report::report(object, &connection, needed_by, acknowledged, why, context).await?;
    failure.map_or(Ok(Action::requeue(RECOUNT)), |error| Err(error.into()))
}

/// Nothing can be done without a token.
async fn token_missing(
    object: &Organization,
    name: &str,
    message: String,
    term: &Term,
    context: &Context,
) -> Result<(), Error> {
    set_link(context, term, name, not_ready(name, &message));
    report::stalled(object, context, Reason::TokenMissing, message).await
}

/// Why the token cannot be read.
fn unreadable(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) if status.code == 403 => format!(
            "The operator may not read the token: {}. Give its service account the right to read Secrets in its own namespace",
            status.message
        ),
        kube::Error::Api(status) => format!(
            "The Secret with the token cannot be read: the API server answered {}. It is tried again",
            status.code
        ),
        // Its words differ each time, and are in the log.
        _ => "The Secret with the token cannot be read. It is tried again".to_owned(),
    }
}

fn not_ready(name: &str, message: &str) -> Link {
    Link::Down(Saying {
        reason: Reason::OrganizationNotReady,
        message: format!("Organization {name} is not ready: {message}"),
    })
}

/// How many OrgInvites cannot go without the Organization.
async fn needed_by(name: &str, held: bool, context: &Context) -> Result<usize, Error> {
    // Whoever may create an object may give it a finalizer.
    let needs = |object: &OrgInvite| {
        object.spec.organization_ref.name == name && has_finalizer(object) && claims::holds(object)
    };
    let cached = context.invites.all();
    let cached = cached.iter().filter(|object| needs(object)).count();
    if cached > 0 || !held {
        return Ok(cached);
    }
    // The cache may be behind what was written a moment ago. Nothing new is sent any more.
    let api: Api<Stored<OrgInvite>> = Api::all(context.client.clone());
    let mut page = ListParams {
        field_selector: Some(format!("spec.organizationRef.name={name}")),
        limit: Some(PAGE),
        ..ListParams::default()
    };
    let mut count = 0;
    loop {
        let list = api.list(&page).await?;
        count += list.items.iter().filter(|Stored(one)| needs(one)).count();
        page.continue_token = list.metadata.continue_.filter(|more| !more.is_empty());
        if page.continue_token.is_none() {
            return Ok(count);
        }
    }
}

fn is_held(object: &Organization) -> bool {
    object.finalizers().iter().any(|one| one == FINALIZER)
}

/// What came of a finalizer that was to be set or removed.
enum Held {
    /// It is written, or something else was, whose event is to come.
    Written,
    /// The API server took it, and the object is without it.
    Stripped,
}

/// Sets or removes the finalizer, and tells when the API server refuses that.
async fn hold(object: &Organization, hold: bool, context: &Context) -> Result<Held, Error> {
    let written = write_finalizer(object, hold, context).await;
    if let Some(message) = written.as_ref().err().and_then(Error::refusal) {
        // What is refused as well is in the log.
        report::refused(object, context, &message).await.ok();
    }
    written
}

/// A conflict is planned again by its own event.
async fn write_finalizer(
    object: &Organization,
    hold: bool,
    context: &Context,
) -> Result<Held, Error> {
    let api: Api<Stored<Organization>> = Api::all(context.client.clone());
    let Some(all) = finalizers(&api, object).await? else {
        return Ok(Held::Written);
    };
    let others = all
        .iter()
        .map(String::as_str)
        .filter(|one| *one != FINALIZER);
    let finalizers: Vec<&str> = others.chain(hold.then_some(FINALIZER)).collect();
    let patch = json!({"metadata": {
        "resourceVersion": object.resource_version(), "finalizers": finalizers,
    }});
    match api
        .patch(
            &object.name_any(),
            &PatchParams::default(),
            &Patch::Merge(patch),
        )
        .await
    {
        Ok(Stored(written)) if hold && !is_held(&written) => Ok(Held::Stripped),
        Ok(_) => Ok(Held::Written),
        Err(kube::Error::Api(status)) if status.code == 409 || status.code == 404 => {
            Ok(Held::Written)
        }
        Err(error) => Err(error.into()),
    }
}

/// A person's word that the missing people did go: once for each value of the annotation. The value
/// that counts as seen from now on; none before the organization was read.
fn acknowledge(
    object: &Organization,
    name: &str,
    connection: &Connection,
    context: &Context,
) -> Option<String> {
    let recorded = object.status.as_ref()?.last_acknowledged_loss.clone();
    let asked = object.annotations().get(ACKNOWLEDGE_ANNOTATION).cloned();
    if asked.is_none() || asked == recorded || !connection.directory.health().works() {
        return recorded;
    }
    if connection.directory.loss().is_some() || connection.unread_since().is_some() {
        tracing::info!("acknowledged: e-mails go out again");
        connection.directory.acknowledge_loss();
        connection.set_unread(Unread::No);
        context.trigger_all_of(name);
    }
    asked
}

/// What the spec says counts from now on for the connection that there is, also when its token cannot be read.
fn heed(object: &Organization, name: &str, term: &Term, context: &Context) {
    let Link::Up(connection) = context.link(term, name) else {
        return;
    };
    let policy = policy(object);
    if !is_for(&connection, object) || *connection.policy() == policy {
        return;
    }
    tracing::info!(
        organization = name,
        suspended = policy.suspend,
        "the Organization's spec changed"
    );
    connection.set_policy(policy);
    connection
        .directory
        .set_interval(object.spec.sync_interval());
    context.trigger_all_of(name);
}

/// Whether it is not of an earlier object of that name for something else.
fn is_for(connection: &Connection, object: &Organization) -> bool {
    connection.organization_id == object.spec.organization_id
}

fn policy(object: &Organization) -> Policy {
    Policy {
        allow: object.spec.allow.clone(),
        suspend: object.spec.suspend,
        closing: object.metadata.deletion_timestamp.is_some(),
        generation: object.metadata.generation.unwrap_or_default(),
    }
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

/// A token, and the version of the Secret that it is of.
struct Token {
    value: SecretString,
    version: Option<String>,
}

/// The token, or why there is none.
async fn token(
    object: &Organization,
    context: &Context,
) -> Result<Result<Token, String>, kube::Error> {
    let wanted = &object.spec.token_secret_ref;
    let place = format!("Secret {}/{}", context.own_namespace, wanted.name);
    let Some(Stored(secret)) = context.secrets().get_opt(&wanted.name).await? else {
        return Ok(Err(format!(
            "{place} does not exist. Create it with the API token under the key {}",
            wanted.key
        )));
    };
    let version = secret.resource_version();
    let value = secret.data.unwrap_or_default().remove(&wanted.key);
    let text = value
        .and_then(|value| String::from_utf8(value.0).ok())
        .map(|text| text.trim().to_owned());
    Ok(match text {
        Some(text) if !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic()) => {
            Ok(Token {
                value: SecretString::from(text),
                version,
            })
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
    token: Token,
    term: &Arc<Term>,
    context: &Arc<Context>,
) -> Arc<Connection> {
    let mut hasher = DefaultHasher::new();
    (
        token.value.expose_secret(),
        &object.spec.organization_id,
        &object.uid(),
    )
        .hash(&mut hasher);
    let made_from = hasher.finish();
    let before = match context.link(term, name) {
        Link::Up(connection) => Some(connection),
        Link::Down(_) | Link::NotYet => None,
    };
    if let Some(connection) = before.as_ref().filter(|one| one.made_from == made_from) {
        return Arc::clone(connection);
    }
    let client = Client::new(&context.astro, &object.spec.organization_id, token.value);
    let astro: Arc<dyn Astro> =
        Arc::new(Fenced::new(client, Arc::clone(&context.leadership), term));
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
        policy(object),
        reading,
    ));
    // What was learned of this very token before a restart still holds.
    let known = object
        .status
        .as_ref()
        .and_then(|status| status.token.clone());
    let known = known.filter(|known| known.secret_version == token.version);
    connection.remember(known.unwrap_or_else(|| TokenStatus {
        secret_version: token.version,
        ..TokenStatus::default()
    }));
    // This term was there since the connection before, whose word counts, also where there was no reading yet.
    connection.set_unread(before.map_or_else(|| unread(object), |before| before.unread()));
    tracing::info!(organization = name, "connecting");
    set_link(context, term, name, Link::Up(Arc::clone(&connection)));
    connection
}

/// What the status tells of when the organization was last read.
fn unread(object: &Organization) -> Unread {
    let status = object.status.as_ref();
    let since = status.and_then(|status| status.unread_since.as_ref());
    let last = status.and_then(|status| status.last_sync_time.as_ref());
    match (since, last) {
        (Some(since), _) => Unread::Since(since.0),
        (None, Some(last)) => Unread::Unjudged {
            last: last.0,
            longest: UNREAD.max(object.spec.sync_interval() * 2),
        },
        (None, None) => Unread::No,
    }
}

/// Reads the organization's people for ever and passes the news on.
async fn read(name: String, directory: Arc<Directory>, context: Arc<Context>) {
    let own = ObjectRef::new(&name);
    context.filled.wait(&[Kind::OrgInvites]).await;
    let known = || recorded_people(&name, &directory, &context);
    directory
        .run(known, |news| match news {
            News::Health => {
                context.trigger_organizations.send(own.clone()).ok();
            }
            News::Everything => context.trigger_all_of(&name),
            News::Addresses(addresses) => {
                for address in addresses {
                    for object in context.invites.for_address(&address) {
                        context.trigger(&object);
                    }
                }
            }
        })
        .await;
}

/// Who is recorded as a member, or as invited by an invitation that did not expire yet.
fn recorded_people(name: &str, directory: &Directory, context: &Context) -> HashSet<Address> {
    let now = directory.now();
    let there = |object: &OrgInvite| {
        let Some(status) = &object.status else {
            return false;
        };
        let lasts = status.expires_at.as_ref().is_none_or(|time| time.0 > now);
        object.spec.organization_ref.name == name
            && object.metadata.deletion_timestamp.is_none()
            && !claims::is_open(object)
            && status.gone_since.is_none()
            && (status.user_id.is_some() || (status.invite_id.is_some() && lasts))
    };
    let all = context.invites.all();
    all.iter()
        .filter(|object| there(object))
        .filter_map(|object| Address::parse(&object.spec.email).ok())
        .collect()
}

fn set_link(context: &Context, term: &Term, name: &str, link: Link) {
    let said = |link: &Link| match link {
        Link::Down(saying) => Some(saying.clone()),
        Link::NotYet | Link::Up(_) => None,
    };
    let now = said(&link);
    let before = term.links.write().insert(name.to_owned(), link);
    if before.is_none_or(|before| said(&before) != now) {
        context.trigger_all_of(name);
    }
}
