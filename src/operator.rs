//! Wiring: watches, controllers, and their end.

use std::collections::HashSet;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use futures::{FutureExt, Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::ListParams;
use kube::core::PartialObjectMeta;
use kube::runtime::controller::{Action, Config as ControllerConfig, Error as ControllerError};
use kube::runtime::reflector::{self, Lookup, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{Controller, PredicateConfig, WatchStreamExt, predicates};
use kube::{Api, Client, Resource, ResourceExt};
use tokio::sync::{mpsc, oneshot, watch};
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::admin::{self, Admin};
use crate::astro::budget::Rates;
use crate::astro::directory::backoff;
use crate::astro::http::Endpoint;
use crate::error::Error;
use crate::leadership::lease::{self, Candidate};
use crate::leadership::{Leadership, Term};
use crate::metrics::Metrics;
use crate::metrics::reconciles::Reconciles;
use crate::reconcile::cache::{Filled, Invites, Kind, slim};
use crate::reconcile::context::{Context, Timing};
use crate::reconcile::events::Events;
use crate::reconcile::order::Order;
use crate::reconcile::write::Writer;
use crate::reconcile::{org_invite, organization};
use crate::resources::{Address, OrgInvite, Organization};
use crate::state_metrics;
use crate::stored;
use crate::takeover;

/// How many `OrgInvite`s are reconciled at once: enough to keep an API server busy, each with a connection.
const CONCURRENCY: u16 = 16;
/// How many are handed to the controller: one is ready when another ends, and they begin in their order.
const IN_HAND: usize = CONCURRENCY as usize + 1;
/// How long a reconcile under way may take beside its calls to Astro once the operator is to stop.
const CLUSTER_ALLOWANCE: Duration = Duration::from_secs(10);

/// What the operator is told at start.
pub struct Settings {
    /// The Astro API.
    pub astro: Endpoint,
    /// How long a call to it may take.
    pub request_deadline: Duration,
    /// The namespace of the token Secrets and of the Lease.
    pub namespace: String,
    /// Who leads.
    pub lease: lease::Settings,
    /// The Organizations to look after; empty for all.
    pub organizations: Vec<String>,
    /// The waits of the one-e-mail protocol.
    pub timing: Timing,
    /// Calls a second.
    pub rates: Rates,
    /// Where `/livez`, `/readyz` and `/metrics` are served.
    pub admin: SocketAddr,
}

/// Why the operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The custom resource definitions are not installed.
    #[error(
        "the cluster does not know {0}: install the custom resource definitions first (orginvite-operator crd --apply)"
    )]
    NoDefinitions(&'static str),
    /// Listing is refused.
    #[error("the cluster does not let the operator list {what}: {error}")]
    Forbidden {
        /// The resource.
        what: &'static str,
        /// The API server's word.
        error: Box<kube::core::Status>,
    },
    /// The admin server's address is not to be had.
    #[error(
        "cannot serve /livez, /readyz and /metrics on {address}: {error}. Choose another --admin-address"
    )]
    Admin {
        /// The address.
        address: SocketAddr,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The cluster does not answer.
    #[error("the cluster does not answer: {0}. Check KUBECONFIG and that the API server is up")]
    Unreachable(kube::Error),
}

/// How the API server is reached.
pub struct Clients {
    /// Whatever is asked for and written.
    pub requests: Client,
    /// What is watched: silent for long.
    pub watches: Client,
    /// The Lease: a renewal shares no connection with anything else.
    pub election: Client,
}

/// Runs until `stop` resolves; what is under way then is finished.
pub async fn run(
    clients: Clients,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    let listener = admin::bind(settings.admin)
        .await
        .map_err(|error| StartError::Admin {
            address: settings.admin,
            error,
        })?;
    let Clients {
        requests: client,
        watches,
        election,
    } = clients;
    check_cluster(&client, &settings).await?;

    let (trigger_invites, invite_triggers) = mpsc::unbounded_channel();
    let (trigger_organizations, organization_triggers) = mpsc::unbounded_channel();
    let (invite_store, invite_writer) = reflector::store();
    let (organization_store, organization_writer) = reflector::store();
    let (namespace_store, namespace_writer) = reflector::store();
    let metrics = Metrics::default();
    let filled = Arc::new(Filled::default());
    let events = Events::new(client.clone());
    let leadership = Arc::new(Leadership::new(settings.lease.validity()));
    let candidate = Candidate::new(election, &settings.namespace, settings.lease);
    let (invites, crowds) = Invites::new(invite_store, Arc::clone(&filled));
    let context = Arc::new(Context {
        client: client.clone(),
        watches,
        writer: Writer::new(client),
        invites,
        organizations: organization_store.clone(),
        namespaces: namespace_store.clone(),
        leadership: Arc::clone(&leadership),
        events,
        timing: settings.timing,
        astro: settings.astro.counted_in(metrics.clone()),
        rates: settings.rates,
        metrics,
        own_namespace: settings.namespace,
        only: settings.organizations,
        filled: Arc::clone(&filled),
        refusals: parking_lot::Mutex::default(),
        trigger_invites,
        trigger_organizations,
    });
    let registry = state_metrics::registry(&context);
    let answering = admin::serve(listener, Admin { filled, registry });

    let (stopping, stopped) = watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        tracing::info!("asked to stop: what is under way is finished");
        stopping.send(true).ok();
    });

    let organizations = control_organizations(
        &context,
        organization_writer,
        organization_triggers,
        stopped.clone(),
    );
    let invites = control_invites(&context, invite_writer, invite_triggers, stopped.clone());
    let given_up = until(stopped.clone());
    let controllers = async {
        // Policies and connections first: an Organization that is not known yet is not missing.
        let invites = async {
            let first = [Kind::Namespaces, Kind::Organizations];
            tokio::select! {
                () = context.filled.wait(&first) => invites.await,
                () = given_up => {}
            }
        };
        future::join(invites, organizations).await
    };
    // On its own, so that no reconcile keeps it from renewing.
    let (begun, terms) = mpsc::unbounded_channel();
    let (finished, is_finished) = oneshot::channel::<()>();
    let mut election = tokio::spawn(stand(candidate, Arc::clone(&context), begun, is_finished));
    // A reconcile makes two calls to Astro at most, and some to the cluster.
    let overdue = 2 * settings.request_deadline + CLUSTER_ALLOWANCE;
    tracing::info!("watching");
    tokio::select! {
        ((), ()) = controllers => {
            finished.send(()).ok();
            election.await.ok();
        }
        () = begin_terms(terms, &context) => {}
        _ = &mut election => tracing::error!("the election ended"),
        () = watch_namespaces(&context, namespace_writer) => tracing::error!("the watch on namespaces ended"),
        () = context.invites.clone().follow_crowds(crowds, |other| context.trigger(other)) => {
            tracing::error!("nobody follows the OrgInvites that are many for one address");
        }
        () = watch_secrets(&context) => tracing::error!("the watch on Secrets ended"),
        () = until(stopped).then(|()| tokio::time::sleep(overdue)) => {
            tracing::error!("what is under way did not end in time: the Lease is left to expire");
        }
        () = answering => tracing::error!("the admin server ended"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Stands for election until it is told that all is finished.
async fn stand(
    candidate: Candidate,
    context: Arc<Context>,
    begun: mpsc::UnboundedSender<Arc<Term>>,
    is_finished: oneshot::Receiver<()>,
) {
    let mut finished = pin!(async {
        // Whoever ends without a word may leave something under way: the lease is kept then.
        if is_finished.await.is_err() {
            future::pending::<()>().await;
        }
    });
    // Not before it could plan.
    tokio::select! {
        () = context.filled.wait(&Kind::ALL) => {
            candidate.run(&context.leadership, begun, finished).await;
        }
        () = &mut finished => {}
    }
}

/// Begins each term that comes.
async fn begin_terms(mut terms: mpsc::UnboundedReceiver<Arc<Term>>, context: &Context) {
    context.filled.wait(&Kind::ALL).await;
    tracing::info!("the caches are filled");
    while let Some(term) = terms.recv().await {
        Box::pin(takeover::begin(&term, context)).await;
    }
    future::pending::<()>().await;
}

/// Keeps the labels of namespaces, and plans again what a change of them is about.
async fn watch_namespaces(
    context: &Context,
    writer: reflector::store::Writer<PartialObjectMeta<Namespace>>,
) {
    stored::watch(
        Api::all(context.watches.clone()),
        watcher::Config::default(),
    )
    .reflect(writer)
    .inspect_ok(|event| match event {
        Event::InitDone => {
            context.filled.mark(Kind::Namespaces);
            // Labels were not in the cache yet when the list showed them.
            context.trigger_all();
        }
        Event::Apply(namespace) | Event::Delete(namespace) => {
            context.filled.reach(Kind::Namespaces, &namespace.metadata);
        }
        Event::Init | Event::InitApply(_) => {}
    })
    .touched_objects()
    .predicate_filter(predicates::labels, PredicateConfig::default())
    .for_each(|namespace| {
        match namespace {
            Ok(namespace) => trigger_namespace(&namespace, context),
            Err(error) => {
                tracing::warn!(%error, "watching namespaces failed; it is tried again");
            }
        }
        future::ready(())
    })
    .await;
}

/// Notices changed token Secrets. Only that they changed: the token is read when it is needed.
async fn watch_secrets(context: &Context) {
    stored::watch(
        Api::namespaced(context.watches.clone(), &context.own_namespace),
        watcher::Config::default(),
    )
    .touched_objects()
    .for_each(|secret: watcher::Result<PartialObjectMeta<Secret>>| {
        match secret {
            Ok(secret) => trigger_token(&secret, context),
            Err(error) => tracing::warn!(%error, "watching Secrets failed; it is tried again"),
        }
        future::ready(())
    })
    .await;
}

fn control_organizations(
    context: &Arc<Context>,
    writer: reflector::store::Writer<Organization>,
    triggers: mpsc::UnboundedReceiver<ObjectRef<Organization>>,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let events = stored::watch(
        Api::all(context.watches.clone()),
        watcher::Config::default(),
    )
    .reflect(writer);
    let reconciles = context.metrics.organizations.clone();
    Controller::for_stream(
        reconciles.seen(followed(events, Arc::clone(context))),
        context.organizations.clone(),
    )
    .reconcile_on(reconciles.asked(UnboundedReceiverStream::new(triggers)))
    .graceful_shutdown_on(until(stopped))
    .run(
        |object: Arc<Organization>, context: Arc<Context>| async move {
            let acts = context.acts_for(&object.name_any());
            let reconcile = organization::reconcile(Arc::clone(&object), Arc::clone(&context));
            let reconciles = &context.metrics.organizations;
            reconciles.count(object.as_ref(), acts, reconcile).await
        },
        |_, _, _| Action::requeue(backoff(4)),
        Arc::clone(context),
    )
    .for_each(move |outcome| log(outcome, &reconciles))
}

fn control_invites(
    context: &Arc<Context>,
    writer: reflector::store::Writer<OrgInvite>,
    triggers: mpsc::UnboundedReceiver<ObjectRef<OrgInvite>>,
    stopped: watch::Receiver<bool>,
) -> impl Future<Output = ()> + use<> {
    let config = watcher::Config {
        field_selector: context.invite_selector(),
        ..watcher::Config::default()
    };
    let store = writer.as_reader();
    let events = stored::watch(Api::all(context.watches.clone()), config)
        .modify(slim)
        .reflect(writer);
    let triggering = Arc::clone(context);
    let events = context
        .invites
        .clone()
        .follow(events, move |other| triggering.trigger(other));
    let reconciles = context.metrics.org_invites.clone();
    let order = Arc::new(Order::new(IN_HAND));
    let seen = Arc::clone(&order);
    let triggers = reconciles.asked(UnboundedReceiverStream::new(triggers));
    let triggers = Arc::clone(&order).follow(triggers);
    // What the watch shows waits in the same order; the controller gets its failures only. What a list shows is in the
    // cache once the list is complete, which triggers all.
    let forgetting = Arc::clone(context);
    let events = events
        .inspect_ok(move |event| {
            if let Event::Delete(object) = event {
                forgetting.gone(object);
            }
        })
        .try_filter(|event| future::ready(!matches!(event, Event::InitApply(_))));
    let events = reconciles
        .seen(events.applied_objects())
        .inspect_ok(move |object| seen.add(object))
        .try_filter(|_| future::ready(false));
    let turns = Arc::clone(&order);
    Controller::for_stream(events, store)
        .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
        .reconcile_on(triggers)
        .graceful_shutdown_on(until(stopped))
        .run(
            move |object: Arc<OrgInvite>, context: Arc<Context>| {
                let turn = turns.begin(&object);
                async move {
                    let _turn = turn;
                    let acts = context.acts_for(&object.spec.organization_ref.name);
                    let reconcile = Box::pin(org_invite::reconcile(
                        Arc::clone(&object),
                        Arc::clone(&context),
                    ));
                    let reconciles = &context.metrics.org_invites;
                    reconciles.count(object.as_ref(), acts, reconcile).await
                }
            },
            |_, _, _| Action::requeue(backoff(4)),
            Arc::clone(context),
        )
        .for_each(move |outcome| {
            if let Err(ControllerError::ObjectNotFound(object)) = &outcome {
                order.gone(object);
            }
            log(outcome, &reconciles)
        })
}

async fn until(mut stopped: watch::Receiver<bool>) {
    stopped.wait_for(|stopped| *stopped).await.ok();
}

/// What a controller's run tells beside its reconciles: failures of its watches.
fn log<K: Lookup>(
    outcome: Result<(ObjectRef<K>, Action), ControllerError<Error, watcher::Error>>,
    reconciles: &Reconciles,
) -> future::Ready<()>
where
    K::DynamicType: std::fmt::Debug,
{
    match outcome {
        // A failed reconcile told of itself.
        Ok(_) | Err(ControllerError::ReconcilerFailed(..)) => {}
        // It went between its trigger and its turn.
        Err(ControllerError::ObjectNotFound(object)) => reconciles.dropped(&object),
        Err(error) => tracing::warn!(%error, "watching failed; it is tried again"),
    }
    future::ready(())
}

/// Notices Organizations that are deleted: a reflector drops them, and no reconcile follows.
fn followed(
    events: impl Stream<Item = watcher::Result<Event<Organization>>>,
    context: Arc<Context>,
) -> impl Stream<Item = watcher::Result<Organization>> {
    let caching = Arc::clone(&context);
    events
        .inspect_ok(move |event| {
            if let Event::Apply(object) | Event::Delete(object) = event {
                caching.filled.reach(Kind::Organizations, &object.metadata);
            }
        })
        .inspect_ok(move |event| match event {
            Event::InitDone => {
                context.filled.mark(Kind::Organizations);
                organization::forget_missing(&context);
                // Those of its first pages were triggered before they were in the cache.
                for object in context.organizations.state() {
                    context.trigger_organization(&object);
                }
            }
            Event::Delete(object) => organization::forget(&object.name_any(), &context),
            Event::Apply(object)
                if object.status.is_none()
                    || object
                        .status
                        .as_ref()
                        .is_some_and(|status| status.observed_generation < 0) =>
            {
                // Its OrgInvites may have waited for it.
                context.trigger_all_of(&object.name_any());
            }
            _ => {}
        })
        .applied_objects()
}

/// A namespace's labels changed: what is allowed in it may have, and whom its objects keep waiting.
fn trigger_namespace(namespace: &PartialObjectMeta<Namespace>, context: &Context) {
    let name = namespace.name_any();
    let mut objects = context.invites.all();
    objects.retain(|object| object.metadata.namespace.as_deref() == Some(&name));
    let addresses = objects
        .iter()
        .map(|object| Address::parse(&object.spec.email).ok());
    for address in addresses.flatten().collect::<HashSet<_>>() {
        objects.extend(context.invites.for_address(&address));
    }
    for object in objects {
        context.trigger(&object);
    }
}

/// A Secret changed: Organizations may have another token.
fn trigger_token(secret: &PartialObjectMeta<Secret>, context: &Context) {
    let name = secret.name_any();
    for object in context.organizations.state() {
        if object.spec.token_secret_ref.name == name {
            context.trigger_organization(&object);
        }
    }
}

/// Whether the cluster answers, knows the resources, and lets the operator read them.
async fn check_cluster(client: &Client, settings: &Settings) -> Result<(), StartError> {
    check(
        &Api::<Organization>::all(client.clone()),
        "organizations.iam.astronomer.io",
        None,
    )
    .await?;
    check(
        &Api::<OrgInvite>::all(client.clone()),
        "orginvites.iam.astronomer.io",
        None,
    )
    .await?;
    check(
        &Api::<Lease>::namespaced(client.clone(), &settings.namespace),
        "leases.coordination.k8s.io in its own namespace",
        Some(&settings.lease.name),
    )
    .await
}

/// Whether the cluster answers and knows the resource.
async fn check<K>(api: &Api<K>, what: &'static str, name: Option<&str>) -> Result<(), StartError>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let params = ListParams {
        field_selector: name.map(|name| format!("metadata.name={name}")),
        ..ListParams::default().limit(1)
    };
    match stored::list_metadata(api, &params).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(StartError::NoDefinitions(what)),
        Err(kube::Error::Api(error)) if error.code == 403 || error.code == 401 => {
            Err(StartError::Forbidden { what, error })
        }
        Err(error) => Err(StartError::Unreachable(error)),
    }
}
