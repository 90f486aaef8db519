//! Sees every OrgInvite that the API server shows, and remembers what was recorded and what should not have been told.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use orginvite_operator::resources::OrgInvite;
use parking_lot::Mutex;
use support::fake_astro::SECRET_PREFIX;

/// What a broken watch missed is missing.
#[derive(Clone, Default)]
pub struct Witness {
    /// Which object's status had which invite first.
    recorded: Arc<Mutex<HashMap<String, String>>>,
    /// Objects that told a secret.
    told: Arc<Mutex<Vec<String>>>,
}

impl Witness {
    /// Watches all namespaces until the runtime ends.
    pub fn watch(client: Client) -> Self {
        let witness = Self::default();
        let Self { recorded, told } = witness.clone();
        tokio::spawn(async move {
            let api: Api<OrgInvite> = Api::all(client);
            let events = watcher(api, watcher::Config::default()).default_backoff();
            let mut events = std::pin::pin!(events);
            while let Some(event) = events.next().await {
                let Ok(Event::Apply(object) | Event::InitApply(object) | Event::Delete(object)) =
                    event
                else {
                    continue;
                };
                let text = serde_json::to_string(&object).unwrap_or_default();
                if text.contains(SECRET_PREFIX) {
                    told.lock().push(text);
                }
                let uid = object.uid().unwrap_or_default();
                if let Some(invite) = object.status.and_then(|status| status.invite_id) {
                    recorded.lock().entry(invite).or_insert(uid);
                }
            }
        });
        witness
    }

    /// The UID of the first object that had the invite in its status.
    pub fn first_owner(&self, invite: &str) -> Option<String> {
        self.recorded.lock().get(invite).cloned()
    }

    /// Objects that told a secret, as they were then.
    pub fn told(&self) -> Vec<String> {
        self.told.lock().clone()
    }
}
