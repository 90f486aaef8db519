//! One operator process: everything that it makes of the operator's code is made here.

use std::collections::HashSet;
use std::sync::{Arc, OnceLock, Weak};
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
use orginvite_operator::leadership::fence::Fenced;
use orginvite_operator::leadership::{Leadership, Term};
use orginvite_operator::metrics::Metrics;
use orginvite_operator::plan::Saying;
use orginvite_operator::reconcile::cache::{Filled, Invites, Kind};
use orginvite_operator::reconcile::connection::{Connection, Link, Policy};
use orginvite_operator::reconcile::context::{Context, Timing};
use orginvite_operator::reconcile::events::Events;
use orginvite_operator::reconcile::write;
use orginvite_operator::resources::{OrgInvite, Organization, Reason};
use orginvite_operator::takeover;
use parking_lot::Mutex;
use serde_json::json;
use tokio::sync::mpsc;

use crate::astro_calls::Calls;
use crate::tasks::Tasks;
use crate::world::World;
use crate::{LISTING_DELAY, SETTLE, SPACING};
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
#[derive(Clone)]
pub struct Process {
    world: Arc<World>,
    name: String,
    tasks: Tasks,
    context: Arc<Context>,
    namespaces: Arc<Mutex<Writer<PartialObjectMeta<Namespace>>>>,
}

impl Process {
    /// Starts a process that watches the objects and tries for the lease.
    pub fn start(world: &Arc<World>, name: &str) -> Self {
        world.with(|state| state.log(format!("{name} starts")));
        let tasks = Tasks::new(world);
        let (trigger_invites, triggers) = mpsc::unbounded_channel();
        let (store, writer) = reflector::store();
        let namespaces = only(namespace("team"));
        let context = context(world, name, store, namespaces.as_reader(), trigger_invites);
        let context = Arc::new(context);
        let process = Self {
            world: Arc::clone(world),
            name: name.to_owned(),
            tasks: tasks.clone(),
            context: Arc::clone(&context),
            namespaces: Arc::new(Mutex::new(namespaces)),
        };
        tasks.spawn(watch::follow(
            Arc::clone(world),
            Arc::clone(&context),
            writer,
        ));
        tasks.spawn(controller::run(
            Arc::clone(world),
            Arc::clone(&context),
            tasks.clone(),
            triggers,
        ));
        let beginning = process.clone();
        tasks.spawn(lease::campaign(
            Arc::clone(world),
            name.to_owned(),
            context,
            move |term| beginning.begin(term),
        ));
        process
    }

    /// Begins a term: the caches first, then the Organization, which triggers its objects.
    fn begin(&self, term: Arc<Term>) {
        let process = self.clone();
        self.tasks.spawn(async move {
            let context = &process.context;
            context.filled.wait(&Kind::ALL).await;
            takeover::begin(&term, context).await;
            if context.leadership.holds(&term) {
                connect(&process, &term);
                context.trigger_all_of(ORGANIZATION);
            }
        });
    }

    /// Whether the process believes to lead.
    pub fn leads(&self) -> bool {
        self.context.leadership.leads()
    }

    /// The Organization is not ready any more.
    pub fn disconnect(&self) {
        let term = self.context.leadership.term().unwrap();
        let link = Link::Down(Saying {
            reason: Reason::OrganizationNotReady,
            message: "The Organization has no usable token".to_owned(),
        });
        term.links.write().insert(ORGANIZATION.to_owned(), link);
        self.context.trigger_all_of(ORGANIZATION);
    }

    /// The Organization is ready again.
    pub fn reconnect(&self) {
        let term = self.context.leadership.term().unwrap();
        connect(self, &term);
        self.context.trigger_all_of(ORGANIZATION);
    }

    /// The Organization is suspended, or is no longer.
    pub fn suspend(&self, suspend: bool) {
        let term = self.context.leadership.term().unwrap();
        let Link::Up(connection) = self.context.link(&term, ORGANIZATION) else {
            panic!("the Organization is not ready");
        };
        let before = connection.policy();
        connection.set_policy(Policy {
            allow: before.allow.clone(),
            suspend,
            closing: before.closing,
            generation: before.generation + 1,
        });
        self.context.trigger_all_of(ORGANIZATION);
    }

    /// The cache of namespaces has that one from now on.
    pub fn knows(&self, name: &str) {
        let event = Event::Apply(namespace(name));
        self.namespaces.lock().apply_watcher_event(&event);
        self.context.trigger_all();
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

    fn pause(&self) {
        self.tasks.pause();
        self.world.with(|state| {
            state.log(format!("{} is paused", self.name));
            state.count("pauses");
        });
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
    store: reflector::Store<OrgInvite>,
    namespaces: reflector::Store<PartialObjectMeta<Namespace>>,
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
        "metadata": {
            "name": ORGANIZATION, "uid": "organization", "generation": 1, "resourceVersion": "1",
        },
        "spec": {
            "organizationId": organization::ID,
            "tokenSecretRef": {"name": "astro-token"},
            "allow": [{"namespaceSelector": {"matchLabels": {"invites": "yes"}}, "roles": ALLOWED}],
        },
    }))
    .unwrap();
    let filled = Arc::new(Filled::default());
    filled.mark(Kind::Organizations);
    filled.mark(Kind::Namespaces);
    Context {
        watches: client.clone(),
        writer: write::Writer::new(client.clone()),
        events: Events::new(client.clone()),
        client,
        invites: Invites::new(store, Arc::clone(&filled)).0,
        organizations: only(organization).as_reader(),
        namespaces,
        leadership: Arc::new(Leadership::new(lease::VALIDITY)),
        timing: Timing {
            settle: SETTLE,
            listing_delay: LISTING_DELAY,
            spacing: SPACING,
        },
        astro: endpoint.clone(),
        rates: Rates::default(),
        metrics: Metrics::default(),
        own_namespace: "operator".to_owned(),
        only: Vec::new(),
        filled,
        refusals: Mutex::default(),
        trigger_invites,
        trigger_organizations,
    }
}

/// A namespace that may invite.
fn namespace(name: &str) -> PartialObjectMeta<Namespace> {
    serde_json::from_value(json!({
        "metadata": {
            "name": name, "uid": name, "resourceVersion": "1", "labels": {"invites": "yes"},
        },
    }))
    .unwrap()
}

/// The writer of a store with that one object.
fn only<K>(object: K) -> Writer<K>
where
    K: kube::Resource<DynamicType = ()> + Clone + 'static,
{
    let mut writer = Writer::<K>::default();
    writer.apply_watcher_event(&Event::Init);
    writer.apply_watcher_event(&Event::InitApply(object));
    writer.apply_watcher_event(&Event::InitDone);
    writer
}

/// Connects a term to the Organization, as the Organization's reconcile does.
fn connect(process: &Process, term: &Arc<Term>) {
    let Process {
        world,
        name,
        tasks,
        context,
        ..
    } = process;
    let leadership = Arc::clone(&context.leadership);
    let astro: Arc<dyn Astro> = Arc::new(Fenced::new(Calls::new(world, name), leadership, term));
    let budget = Arc::new(Budget::new(context.rates));
    let directory = Arc::new(Directory::new(
        Arc::clone(&astro),
        Arc::clone(&budget),
        LISTING_DELAY,
        world.with(|state| state.sync_interval),
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
        let term = Arc::downgrade(term);
        tasks.spawn(async move { read(&world, &term, &directory, &context).await })
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
    term.links.write().insert(ORGANIZATION.to_owned(), link);
}

/// Reads the organization's people for ever and passes the news on.
async fn read(world: &World, term: &Weak<Term>, directory: &Directory, context: &Context) {
    directory
        .run(HashSet::new, |news| match news {
            // The Organization's status keeps what is known of the token.
            News::Health => {
                if let Some(term) = term.upgrade()
                    && let Link::Up(connection) = context.link(&term, ORGANIZATION)
                {
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
