//! What every reconcile needs.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::core::PartialObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::{Api, Client, ResourceExt};
use parking_lot::Mutex;
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::cache::{Filled, Invites};
use super::connection::Link;
use super::events::Events;
use super::write::Writer;
use crate::astro::budget::Rates;
use crate::astro::http::Endpoint;
use crate::claims;
use crate::leadership::{Leadership, Term};
use crate::metrics::Metrics;
use crate::resources::{Address, OrgInvite, Organization, Reason};
use crate::stored::Stored;

/// How long other words of the API server's refusal are not told.
const ANEW: Duration = Duration::from_mins(5);

/// The waits of the one-e-mail protocol.
#[derive(Clone, Copy, Debug)]
pub struct Timing {
    /// How long an e-mail whose outcome is unknown may take to show: longer than the deadline of a
    /// POST, the lease's duration and the listing delay together.
    pub settle: Duration,
    /// How long Astro's list may lag behind a call.
    pub listing_delay: Duration,
    /// How far apart e-mails to one address are at least.
    pub spacing: Duration,
}

/// What every reconcile needs.
pub struct Context {
    /// Reads Organizations and Secrets.
    pub client: Client,
    /// What it is watched by: silent for long.
    pub watches: Client,
    /// Writes `OrgInvite`s.
    pub writer: Writer,
    /// The cached `OrgInvite`s.
    pub invites: Invites,
    /// The cached Organizations.
    pub organizations: Store<Organization>,
    /// The cached namespaces, for their labels.
    pub namespaces: Store<PartialObjectMeta<Namespace>>,
    /// Whether this process leads.
    pub leadership: Arc<Leadership>,
    /// Where events go.
    pub events: Events,
    /// The waits.
    pub timing: Timing,
    /// The Astro API: the operator's, never a resource's.
    pub astro: Endpoint,
    /// Calls a second.
    pub rates: Rates,
    /// What is counted.
    pub metrics: Metrics,
    /// The namespace of the token Secrets.
    pub own_namespace: String,
    /// The Organizations that this installation looks after; empty for all.
    pub only: Vec<String>,
    /// Which caches have been filled. It says nothing of leadership: a standby's are, too.
    pub filled: Arc<Filled>,
    /// When the API server's refusal was last told in the status, by the object's UID.
    pub refusals: Mutex<HashMap<String, Instant>>,
    /// Triggers reconciles of `OrgInvite`s.
    pub trigger_invites: UnboundedSender<ObjectRef<OrgInvite>>,
    /// Triggers reconciles of Organizations.
    pub trigger_organizations: UnboundedSender<ObjectRef<Organization>>,
}

impl Context {
    /// Whether this installation looks after the Organization.
    #[must_use]
    pub fn serves(&self, organization: &str) -> bool {
        self.only.is_empty() || self.only.iter().any(|name| name == organization)
    }

    /// Whether this process is the one that acts for the Organization now.
    #[must_use]
    pub fn acts_for(&self, organization: &str) -> bool {
        self.serves(organization) && self.leadership.term().is_some()
    }

    /// Which `OrgInvite`s are cached, as a field selector; `None` for all.
    #[must_use]
    pub fn invite_selector(&self) -> Option<String> {
        match self.only.as_slice() {
            [only] => Some(format!("spec.organizationRef.name={only}")),
            _ => None,
        }
    }

    /// The connection of a term to an Organization.
    #[must_use]
    pub fn link(&self, term: &Term, organization: &str) -> Link {
        term.links.read().get(organization).cloned().unwrap_or_else(|| {
            if self.organizations.get(&ObjectRef::new(organization)).is_some() {
                return Link::NotYet;
            }
            Link::Down(crate::plan::Saying {
                reason: Reason::OrganizationNotFound,
                message: format!("There is no Organization {organization}. Create it, or create this object with another organizationRef"),
            })
        })
    }

    /// All connections of the present term, by the Organization's name.
    #[must_use]
    pub fn links(&self) -> Vec<(String, Link)> {
        let Some(term) = self.leadership.term() else {
            return Vec::new();
        };
        let links = term.links.read();
        links
            .iter()
            .map(|(name, link)| (name.clone(), link.clone()))
            .collect()
    }

    /// Whether the namespace is in the cache yet.
    #[must_use]
    pub fn knows_namespace(&self, name: &str) -> bool {
        self.namespaces.get(&ObjectRef::new(name)).is_some()
    }

    /// Labels of a namespace.
    #[must_use]
    pub fn namespace_labels(&self, name: &str) -> BTreeMap<String, String> {
        self.namespaces
            .get(&ObjectRef::new(name))
            .map(|namespace| namespace.labels().clone())
            .unwrap_or_default()
    }

    /// The Secrets that tokens are read from.
    #[must_use]
    pub fn secrets(&self) -> Api<Stored<Secret>> {
        Api::namespaced(self.client.clone(), &self.own_namespace)
    }

    /// The objects for an address of an organization in Astro, by whatever Organization they mean it:
    /// of two for one organization, one may have gone since. What one records is of the organization that it was of
    /// then.
    #[must_use]
    pub fn claimants(&self, address: &Address, organization_id: &str) -> Vec<Arc<OrgInvite>> {
        let mut meant = self.organizations.state();
        meant.retain(|organization| organization.spec.organization_id == organization_id);
        let mut objects = self.invites.for_address(address);
        objects.retain(|object| {
            let recorded = object
                .status
                .as_ref()
                .and_then(|status| status.organization_id.as_deref());
            if let Some(recorded) = recorded.filter(|_| claims::recorded(object).is_some()) {
                return recorded == organization_id;
            }
            let means = Some(&object.spec.organization_ref.name);
            recorded == Some(organization_id)
                || meant.iter().any(|one| one.metadata.name.as_ref() == means)
        });
        objects
    }

    /// Plans an `OrgInvite` again.
    pub fn trigger(&self, object: &OrgInvite) {
        // Only its name: the reference may be kept until the invitation expires.
        let object = ObjectRef::new(&object.name_any())
            .within(object.metadata.namespace.as_deref().unwrap_or_default());
        self.trigger_invites.send(object).ok();
    }

    /// Whether the API server's refusal of what is to be written to an object with those conditions is to be told now:
    /// words that differ each time would be written for ever.
    pub fn refusal_is_news(&self, object: &impl ResourceExt, conditions: &[Condition]) -> bool {
        let told = conditions
            .iter()
            .any(|one| one.reason == Reason::WriteRefused.as_str());
        let mut refusals = self.refusals.lock();
        refusals.retain(|_, told| told.elapsed() < ANEW);
        let uid = object.uid().unwrap_or_default();
        let lately = refusals.contains_key(&uid);
        if !lately {
            refusals.insert(uid, Instant::now());
        }
        !(told && lately)
    }

    /// An `OrgInvite` is gone: others may have the places in line that were kept for it.
    pub fn gone(&self, object: &OrgInvite) {
        let Some(term) = self.leadership.term() else {
            return;
        };
        if let Link::Up(connection) = self.link(&term, &object.spec.organization_ref.name) {
            connection.budget.forget(&object.uid().unwrap_or_default());
        }
    }

    /// Plans all `OrgInvite`s again.
    pub fn trigger_all(&self) {
        for object in self.invites.all() {
            self.trigger(&object);
        }
    }

    /// Plans all `OrgInvite`s of an Organization again.
    pub fn trigger_all_of(&self, organization: &str) {
        for object in self.invites.all() {
            if object.spec.organization_ref.name == organization {
                self.trigger(&object);
            }
        }
    }

    /// Plans an Organization again.
    pub fn trigger_organization(&self, object: &Organization) {
        let object = ObjectRef::from_obj(object);
        self.trigger_organizations.send(object).ok();
    }
}
