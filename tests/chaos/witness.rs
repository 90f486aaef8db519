//! Sees every OrgInvite that the API server shows, and remembers what was recorded.

use std::collections::HashMap;
use std::sync::Arc;

use futures::StreamExt;
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event, watcher};
use kube::{Api, Client, ResourceExt};
use orginvite_operator::resources::OrgInvite;
use parking_lot::Mutex;

/// Which object's status had which invite first. What a broken watch missed is missing.
#[derive(Clone, Default)]
pub struct Witness(Arc<Mutex<HashMap<String, String>>>);

impl Witness {
    /// Watches all namespaces until the runtime ends.
    pub fn watch(client: Client) -> Self {
        let witness = Self::default();
        let recorded = witness.0.clone();
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
        self.0.lock().get(invite).cloned()
    }
}
