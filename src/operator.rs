//! Wiring: watches, controllers, and their end.

use std::sync::Arc;

use futures::{Stream, StreamExt, TryStreamExt, future};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::core::PartialObjectMeta;
use kube::runtime::controller::Config as ControllerConfig;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{Controller, WatchStreamExt, predicates};
use kube::{Api, Client, ResourceExt};
use tokio::sync::mpsc;
use tokio_stream::wrappers::UnboundedReceiverStream;

use crate::astro::budget::Rates;
use crate::astro::http::Endpoint;
use crate::leadership::Leadership;
use crate::reconcile::cache::{Invites, slim};
use crate::reconcile::context::{Context, Timing};
use crate::reconcile::write::Writer;
use crate::reconcile::{org_invite, organization};
use crate::resources::{OrgInvite, Organization};

/// How many `OrgInvite`s are reconciled at once.
const CONCURRENCY: u16 = 32;

/// What the operator is told at start.
pub struct Settings {
    /// The Astro API.
    pub astro: Endpoint,
    /// The namespace of the token Secrets.
    pub namespace: String,
    /// The Organizations to look after; empty for all.
    pub organizations: Vec<String>,
    /// The waits of the one-e-mail protocol.
    pub timing: Timing,
    /// Calls a second.
    pub rates: Rates,
}

/// Why the operator cannot start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// The custom resource definitions are not installed.
    #[error(
        "the cluster does not know {0}: install the custom resource definitions first (orginvite-operator crd | kubectl apply --server-side -f -)"
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
    /// The cluster does not answer.
    #[error("the cluster does not answer: {0}. Check KUBECONFIG and that the API server is up")]
    Unreachable(kube::Error),
}

/// Runs until `stop` resolves; what is under way then is finished.
pub async fn run(
    client: Client,
    settings: Settings,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), StartError> {
    check(
        &Api::<Organization>::all(client.clone()),
        "organizations.iam.astronomer.io",
    )
    .await?;
    check(
        &Api::<OrgInvite>::all(client.clone()),
        "orginvites.iam.astronomer.io",
    )
    .await?;

    let (trigger_invites, invite_triggers) = mpsc::unbounded_channel();
    let (trigger_organizations, organization_triggers) = mpsc::unbounded_channel();
    let (invite_store, invite_writer) = reflector::store();
    let (organization_store, organization_writer) = reflector::store();
    let (namespace_store, namespace_writer) = reflector::store();
    let context = Arc::new(Context {
        client: client.clone(),
        writer: Writer::new(client.clone()),
        invites: Invites::new(invite_store.clone()),
        organizations: organization_store.clone(),
        namespaces: namespace_store.clone(),
        leadership: Leadership::alone(),
        timing: settings.timing,
        astro: settings.astro,
        rates: settings.rates,
        own_namespace: settings.namespace,
        only: settings.organizations,
        links: parking_lot::RwLock::default(),
        trigger_invites,
        trigger_organizations,
    });

    let namespaces = kube::runtime::watcher(
        Api::<PartialObjectMeta<Namespace>>::all(client.clone()),
        watcher::Config::default(),
    )
    .default_backoff()
    .reflect(namespace_writer)
    .touched_objects()
    .predicate_filter(predicates::labels, Default::default())
    .try_for_each(|namespace| {
        trigger_namespace(&namespace, &context);
        future::ok(())
    });
    // Only what changed is of interest, not what is in them: the token is read when it is needed.
    let secrets = kube::runtime::watcher(
        Api::<PartialObjectMeta<Secret>>::namespaced(client.clone(), &context.own_namespace),
        watcher::Config::default(),
    )
    .default_backoff()
    .touched_objects()
    .try_for_each(|secret| {
        trigger_token(&secret, &context);
        future::ok(())
    });

    let (stopping, stopped) = tokio::sync::watch::channel(false);
    tokio::spawn(async move {
        stop.await;
        stopping.send(true).ok();
    });
    let until_stop = |mut stopped: tokio::sync::watch::Receiver<bool>| async move {
        stopped.wait_for(|stopped| *stopped).await.ok();
    };

    let organization_events = followed(
        kube::runtime::watcher(
            Api::<Organization>::all(client.clone()),
            watcher::Config::default(),
        )
        .default_backoff()
        .reflect(organization_writer),
        Arc::clone(&context),
    );
    let organizations = Controller::for_stream(organization_events, organization_store.clone())
        .reconcile_on(UnboundedReceiverStream::new(organization_triggers))
        .graceful_shutdown_on(until_stop(stopped.clone()))
        .run(
            organization::reconcile,
            |_, error, _| match *error {},
            Arc::clone(&context),
        )
        .for_each(|_| future::ready(()));

    let invite_api = Api::<OrgInvite>::all(client);
    let config = match context.only.as_slice() {
        [only] => watcher::Config::default().fields(&format!("spec.organizationRef.name={only}")),
        _ => watcher::Config::default(),
    };
    let trigger = context.trigger_invites.clone();
    let invite_events = context
        .invites
        .clone()
        .follow(
            kube::runtime::watcher(invite_api, config)
                .default_backoff()
                .modify(slim)
                .reflect(invite_writer),
            move |others| {
                for other in others {
                    trigger.send(other).ok();
                }
            },
        )
        .applied_objects();
    let invites = async {
        // Policies and connections first: an Organization that is not known yet is not missing.
        namespace_store.wait_until_ready().await.ok();
        organization_store.wait_until_ready().await.ok();
        Controller::for_stream(invite_events, invite_store)
            .with_config(ControllerConfig::default().concurrency(CONCURRENCY))
            .reconcile_on(UnboundedReceiverStream::new(invite_triggers))
            .graceful_shutdown_on(until_stop(stopped.clone()))
            .run(
                org_invite::reconcile,
                |_, error, _| match *error {},
                Arc::clone(&context),
            )
            .for_each(|_| future::ready(()))
            .await;
    };

    tracing::info!("watching");
    tokio::select! {
        ((), ()) = future::join(invites, organizations) => {}
        result = namespaces => tracing::error!(?result, "the watch on namespaces ended"),
        result = secrets => tracing::error!(?result, "the watch on Secrets ended"),
    }
    tracing::info!("stopped");
    Ok(())
}

/// Notices Organizations that are deleted: a reflector drops them, and no reconcile follows.
fn followed(
    events: impl Stream<Item = watcher::Result<Event<Organization>>>,
    context: Arc<Context>,
) -> impl Stream<Item = watcher::Result<Organization>> {
    events
        .inspect_ok(move |event| match event {
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

/// A namespace's labels changed: what is allowed in it may have.
fn trigger_namespace(namespace: &PartialObjectMeta<Namespace>, context: &Context) {
    let name = namespace.name_any();
    for object in context.invites.all() {
        if object.metadata.namespace.as_deref() == Some(&name) {
            context
                .trigger_invites
                .send(ObjectRef::from_obj(object.as_ref()))
                .ok();
        }
    }
}

/// A Secret changed: Organizations may have another token.
fn trigger_token(secret: &PartialObjectMeta<Secret>, context: &Context) {
    let name = secret.name_any();
    for object in context.organizations.state() {
        if object.spec.token_secret_ref.name == name {
            context
                .trigger_organizations
                .send(ObjectRef::from_obj(object.as_ref()))
                .ok();
        }
    }
}

/// Whether the cluster answers and knows the resource.
async fn check<K>(api: &Api<K>, what: &'static str) -> Result<(), StartError>
where
    K: Clone + serde::de::DeserializeOwned + std::fmt::Debug,
{
    match api
        .list_metadata(&kube::api::ListParams::default().limit(1))
        .await
    {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Err(StartError::NoDefinitions(what)),
        Err(kube::Error::Api(error)) if error.code == 403 || error.code == 401 => {
            Err(StartError::Forbidden { what, error })
        }
        Err(error) => Err(StartError::Unreachable(error)),
    }
}
