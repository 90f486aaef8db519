//! What is computed at each scrape: from the cached objects, the connections and the queues.

use std::collections::{BTreeMap, HashSet};
use std::fmt;
use std::sync::Arc;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::ResourceExt;
use kube::runtime::reflector::ObjectRef;
use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, EncodeMetric};
use prometheus_client::metrics::MetricType;
use prometheus_client::metrics::gauge::ConstGauge;
use prometheus_client::registry::Registry;

use crate::astro::directory::Health;
use crate::metrics::families::{self, Description};
use crate::reconcile::connection::Link;
use crate::reconcile::context::Context;
use crate::resources::conditions::{find, is_true};
use crate::resources::{OrgInvite, Reason};

/// The organization of objects whose Organization does not exist: no name of one.
const MISSING: &str = "(missing)";

/// Everything that is scraped.
#[must_use]
pub fn registry(context: &Arc<Context>) -> Registry {
    let mut registry = Registry::with_prefix(families::PREFIX);
    context.metrics.register(&mut registry);
    registry.register_collector(Box::new(State(Arc::clone(context))));
    registry
}

struct State(Arc<Context>);

impl fmt::Debug for State {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("State").finish_non_exhaustive()
    }
}

impl Collector for State {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let leads = self.0.leadership.term().is_some();
        let mut leader = Gauge::new(&families::LEADER);
        leader.add([], f64::from(u8::from(leads)));
        leader.encode(&mut encoder)?;
        for gauge in self.queues() {
            gauge.encode(&mut encoder)?;
        }
        // Sums over the replicas count each object once: only the leader tells of objects.
        if leads {
            self.invites().encode(&mut encoder)?;
            for gauge in self.organizations() {
                gauge.encode(&mut encoder)?;
            }
            for gauge in self.connections() {
                gauge.encode(&mut encoder)?;
            }
        }
        Ok(())
    }
}

impl State {
    fn queues(&self) -> [Gauge; 3] {
        let mut running = Gauge::new(&families::RECONCILES_RUNNING);
        let mut depth = Gauge::new(&families::QUEUE_DEPTH);
        let mut oldest = Gauge::new(&families::QUEUE_OLDEST_AGE);
        for reconciles in [&self.0.metrics.org_invites, &self.0.metrics.organizations] {
            let queue = reconciles.queue();
            running.add([reconciles.resource], count(queue.running));
            depth.add([reconciles.resource], count(queue.depth));
            oldest.add([reconciles.resource], queue.oldest.as_secs_f64());
        }
        [running, depth, oldest]
    }

    fn invites(&self) -> Gauge {
        let organizations: HashSet<String> = self
            .0
            .organizations
            .state()
            .iter()
            .map(|organization| organization.name_any())
            .collect();
        let mut counts: BTreeMap<[&str; 3], usize> = BTreeMap::new();
        let objects = self.0.invites.all();
        for object in &objects {
            let organization = object.spec.organization_ref.name.as_str();
            if !self.0.serves(organization) {
                continue;
            }
            let known = organizations.get(organization).map(String::as_str);
            *counts
                .entry([
                    known.unwrap_or(MISSING),
                    state(object.conditions()),
                    status(object),
                ])
                .or_default() += 1;
        }
        let mut gauge = Gauge::new(&families::INVITES);
        for (labels, number) in counts {
            gauge.add(labels, count(number));
        }
        gauge
    }

    fn organizations(&self) -> [Gauge; 2] {
        let mut ready = Gauge::new(&families::ORGANIZATION_READY);
        let mut suspended = Gauge::new(&families::ORGANIZATION_SUSPENDED);
        for object in self.0.organizations.state() {
            let name = object.name_any();
            if self.0.serves(&name) {
                let told = object.conditions();
                let is_ready = f64::from(u8::from(is_true(told, "Ready")));
                ready.add([&name, state(told)], is_ready);
                suspended.add([&name], f64::from(u8::from(object.spec.suspend)));
            }
        }
        [ready, suspended]
    }

    fn connections(&self) -> [Gauge; 6] {
        let mut accepted = Gauge::new(&families::TOKEN_ACCEPTED);
        let mut loss = Gauge::new(&families::MASS_LOSS);
        let mut unread = Gauge::new(&families::LONG_UNREAD);
        let mut age = Gauge::new(&families::DIRECTORY_AGE);
        let mut people = Gauge::new(&families::DIRECTORY_PEOPLE);
        let mut waiting = Gauge::new(&families::BUDGET_WAITING);
        for (name, link) in self.0.links() {
            let name = name.as_str();
            let connection = match link {
                Link::Up(connection) => connection,
                Link::Down(_) => {
                    if self.lacks_token(name) {
                        accepted.add([name], 0.0);
                    }
                    continue;
                }
                Link::NotYet => continue,
            };
            match connection.directory.health() {
                Health::Complete | Health::Forbidden(..) => accepted.add([name], 1.0),
                Health::Failing(error) if error.status() == Some(401) => accepted.add([name], 0.0),
                Health::Failing(_) | Health::Starting => {}
            }
            let braked = connection.directory.loss().is_some();
            loss.add([name], f64::from(u8::from(braked)));
            let doubted = connection.unread_since().is_some();
            unread.add([name], f64::from(u8::from(doubted)));
            if let Some((begun, number)) = connection.directory.extent() {
                age.add([name], begun.elapsed().as_secs_f64());
                people.add([name], count(number));
            }
            for (verb, number) in connection.budget.waits().waiting() {
                waiting.add([name, verb], count(number));
            }
        }
        [accepted, loss, unread, age, people, waiting]
    }

    fn lacks_token(&self, organization: &str) -> bool {
        let object = self.0.organizations.get(&ObjectRef::new(organization));
        object.is_some_and(|object| state(object.conditions()) == Reason::TokenMissing.as_str())
    }
}

/// The reason of the Ready condition, if it is one of ours: whoever may write a status could make up
/// any number of others.
fn state(told: &[Condition]) -> &'static str {
    let Some(ready) = find(told, "Ready") else {
        return "New";
    };
    let reasons = Reason::ALL.iter().map(|reason| reason.as_str());
    let mut reasons = reasons.filter(|reason| *reason == ready.reason);
    reasons.next().unwrap_or("Other")
}

/// What kstatus, and so kubectl and GitOps tools, make of the object.
fn status(object: &OrgInvite) -> &'static str {
    let observed = object
        .status
        .as_ref()
        .map(|status| status.observed_generation);
    let is_true = |kind| is_true(object.conditions(), kind);
    if object.metadata.deletion_timestamp.is_some() {
        "Terminating"
    } else if observed != object.metadata.generation {
        "InProgress"
    } else if is_true("Stalled") {
        "Failed"
    } else if is_true("Reconciling") || !is_true("Ready") {
        "InProgress"
    } else {
        "Current"
    }
}

#[allow(
    clippy::cast_precision_loss,
    reason = "numbers of objects and people are far below 2^52"
)]
fn count(number: usize) -> f64 {
    number as f64
}

/// The samples of one family.
struct Gauge {
    family: &'static Description,
    samples: Vec<(Vec<(&'static str, String)>, f64)>,
}

impl Gauge {
    fn new(family: &'static Description) -> Self {
        Self {
            family,
            samples: Vec::new(),
        }
    }

    /// Adds a sample; the values of its labels come in the family's order.
    fn add<const N: usize>(&mut self, values: [&str; N], value: f64) {
        let names = self.family.labels.iter().copied();
        let labels = names.zip(values.map(str::to_owned)).collect();
        self.samples.push((labels, value));
    }

    /// Like a registered family, none is shown without a sample.
    fn encode(&self, encoder: &mut DescriptorEncoder) -> fmt::Result {
        if self.samples.is_empty() {
            return Ok(());
        }
        let mut metric = encoder.encode_descriptor(
            self.family.name,
            // As the registry ends those that are registered.
            &format!("{}.", self.family.help),
            None,
            MetricType::Gauge,
        )?;
        for (labels, value) in &self.samples {
            ConstGauge::new(*value).encode(metric.encode_family(labels)?)?;
        }
        Ok(())
    }
}
