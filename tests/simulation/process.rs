//! One operator process: everything that it makes of the operator's code is made here.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use k8s_openapi::api::core::v1::Namespace;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::store::Writer;
use kube::runtime::reflector::{self, ObjectRef};
use kube::runtime::watcher::Event;
use orginvite_operator::astro::budget::{Budget, Rates};
use orginvite_operator::astro::directory::{Directory, News};
use orginvite_operator::astro::http::Endpoint;
use orginvite_operator::astro::{Astro, Role};
use orginvite_operator::leadership::Leadership;
use orginvite_operator::reconcile::cache::Invites;
use orginvite_operator::reconcile::connection::{Connection, Link, Policy};
use orginvite_operator::reconcile::context::{Context, Timing};
use orginvite_operator::reconcile::events::Events;
use orginvite_operator::reconcile::write;
use orginvite_operator::resources::{OrgInvite, Organization};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};

use crate::astro_calls::Calls;
use crate::tasks::Tasks;
use crate::watch::Relist;
use crate::world::World;
use crate::{LISTING_DELAY, SETTLE, SPACING, SYNC_INTERVAL};
use crate::{controller, kube_calls, lease, organization, watch};

/// The name of the Organization.
pub const ORGANIZATION: &str = "default";

/// The roles that the policy allows to everybody.
pub const ALLOWED: [Role; 3] = [
    Role::OrganizationMember,
    Role::OrganizationBillingAdmin,
    Role::OrganizationObserveMember,
];

/// One operator process.
pub struct Process {
    world: Arc<World>,
    name: String,
    tasks: Tasks,
    context: Arc<Context>,
}

impl Process {
    /// Starts a process that reads the objects and tries for the lease.
    pub fn start(world: &Arc<World>, name: &str) -> Self {
        world.with(|state| state.log(format!("{name} starts")));
        let tasks = Tasks::new(world);
        let (trigger_invites, triggers) = mpsc::unbounded_channel();
        let (store, writer) = reflector::store();
        let context = Arc::new(context(world, name, Invites::new(store), trigger_invites));
        connect(world, name, &context, &tasks);

        let (ask, relists) = mpsc::unbounded_channel::<Relist>();
        let read = move || {
            let (done, read) = oneshot::channel();
            ask.send(done).ok();
            async move { read.await.is_ok() }
        };
        tasks.spawn(watch::follow(
            Arc::clone(world),
            Arc::clone(&context),
            writer,
            relists,
        ));
        tasks.spawn(controller::run(
            Arc::clone(world),
            Arc::clone(&context),
            tasks.clone(),
            triggers,
        ));
        tasks.spawn(lease::campaign(
            Arc::clone(world),
            name.to_owned(),
            Arc::clone(&context),
            read,
        ));
        Self {
            world: Arc::clone(world),
            name: name.to_owned(),
            tasks,
            context,
        }
    }

    /// Whether the process believes to lead.
    pub fn leads(&self) -> bool {
        self.context.leadership.term().is_some()
    }

    /// The process stops in the middle of whatever it does, and goes on after that time.
    pub fn pause_for(&self, time: Duration) {
        self.pause();
        let (tasks, world, name) = (
            self.tasks.clone(),
            Arc::clone(&self.world),
            self.name.clone(),
        );
        tokio::spawn(async move {
            tokio::time::sleep(time).await;
            world.with(|state| state.log(format!("{name} goes on")));
            tasks.resume();
        });
    }

    /// The process stops in the middle of whatever it does, and goes on with [`Process::resume`].
    pub fn pause(&self) {
        self.tasks.pause();
        self.world.with(|state| {
            state.log(format!("{} is paused", self.name));
            state.count("pauses");
        });
    }

    pub fn resume(&self) {
        self.world
            .with(|state| state.log(format!("{} goes on", self.name)));
        self.tasks.resume();
    }

    /// The process dies; a new one takes its place.
    pub fn crash(&mut self) {
        self.tasks.end();
        self.world.with(|state| {
            state.log(format!("{} crashes", self.name));
            state.count("crashes");
        });
        *self = Self::start(&self.world, &self.name);
    }

    /// The process dies, and none takes its place.
    pub fn end(self) {
        self.tasks.end();
        self.world
            .with(|state| state.log(format!("{} ends", self.name)));
    }
}

fn context(
    world: &Arc<World>,
    name: &str,
    invites: Invites,
    trigger_invites: mpsc::UnboundedSender<ObjectRef<OrgInvite>>,
) -> Context {
    // Nobody calls it: the connection is made here.
    static ENDPOINT: OnceLock<Endpoint> = OnceLock::new();
    let endpoint = ENDPOINT.get_or_init(|| {
        rustls::crypto::ring::default_provider()
            .install_default()
            .ok();
        Endpoint::new("http://localhost").unwrap()
    });
    let (trigger_organizations, _) = mpsc::unbounded_channel();
    let client = kube_calls::client(world, name);
    let organization: Organization = serde_json::from_value(json!({
        "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "Organization",
        "metadata": {"name": ORGANIZATION, "uid": "organization", "generation": 1},
        "spec": {
            "organizationId": organization::ID,
            "tokenSecretRef": {"name": "astro-token"},
            "allow": [{"namespaceSelector": {}, "roles": ALLOWED}],
        },
    }))
    .unwrap();
    let namespace: PartialObjectMeta<Namespace> =
        serde_json::from_value(json!({"metadata": {"name": "team"}})).unwrap();
    Context {
        writer: write::Writer::new(client.clone()),
        events: Events::new(client.clone()),
        client,
        invites,
        organizations: filled(organization),
        namespaces: filled(namespace),
        leadership: Leadership::new(Some(lease::VALIDITY)),
        timing: Timing {
            settle: SETTLE,
            listing_delay: LISTING_DELAY,
            spacing: SPACING,
        },
        astro: endpoint.clone(),
        rates: Rates::default(),
        own_namespace: "operator".to_owned(),
        only: Vec::new(),
        links: parking_lot::RwLock::default(),
        trigger_invites,
        trigger_organizations,
    }
}

/// A store with that one object.
fn filled<K>(object: K) -> reflector::Store<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let mut writer = Writer::<K>::default();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitApply(object));
    writer.apply_watcher_event(&Event::InitDone);
    writer.as_reader()
}

/// Connects the Organization, as its reconcile does.
fn connect(world: &Arc<World>, name: &str, context: &Arc<Context>, tasks: &Tasks) {
    let astro: Arc<dyn Astro> = Arc::new(Calls::new(world, name));
    let budget = Arc::new(Budget::new(context.rates));
    let directory = Arc::new(Directory::new(
        Arc::clone(&astro),
        Arc::clone(&budget),
        LISTING_DELAY,
        SYNC_INTERVAL,
    ));
    let organization = context
        .organizations
        .get(&ObjectRef::new(ORGANIZATION))
        .unwrap();
    let policy = Policy {
        allow: organization.spec.allow.clone(),
        suspend: false,
        closing: false,
        generation: 1,
    };
    let reading = {
        let (world, directory, context) = (
            Arc::clone(world),
            Arc::clone(&directory),
            Arc::clone(context),
        );
        tasks.spawn(async move { read(&world, &directory, &context).await })
    };
    let connection = Connection::new(
        organization::ID.to_owned(),
        astro,
        budget,
        directory,
        1,
        policy,
        reading,
    );
    connection.remember(world.with(|state| state.token.clone()));
    let link = Link::Up(Arc::new(connection));
    context.links.write().insert(ORGANIZATION.to_owned(), link);
}

/// Reads the organization's people for ever and passes the news on.
async fn read(world: &World, directory: &Directory, context: &Context) {
    context.invites.ready().await;
    directory
        .run(HashSet::new, |news| match news {
            // The Organization's status keeps what is known of the token.
            News::Health => {
                if let Link::Up(connection) = context.link(ORGANIZATION) {
                    world.with(|state| state.token = connection.token());
                }
            }
            News::Everything => context.trigger_all_of(ORGANIZATION),
            News::Addresses(addresses) => {
                for address in addresses {
                    for object in context.invites.for_address(&address) {
                        let object = ObjectRef::from_obj(object.as_ref());
                        context.trigger_invites.send(object).ok();
                    }
                }
            }
        })
        .await;
}
