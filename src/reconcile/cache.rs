//! The cached `OrgInvite`s, also by address: claims need everybody who asks for one.

use std::collections::HashMap;
use std::sync::Arc;

use futures::{Stream, TryStreamExt};
use kube::ResourceExt;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use parking_lot::RwLock;
use tokio::sync::watch;

use crate::resources::{Address, OrgInvite};

type Key = ObjectRef<OrgInvite>;

/// The cached `OrgInvite`s.
#[derive(Clone)]
pub struct Invites {
    store: Store<OrgInvite>,
    by_address: Arc<RwLock<HashMap<Address, Vec<Key>>>>,
    complete: Arc<watch::Sender<bool>>,
}

impl Invites {
    /// An index over `store`; [`Invites::follow`] keeps it.
    #[must_use]
    pub fn new(store: Store<OrgInvite>) -> Self {
        Self {
            store,
            by_address: Arc::default(),
            complete: Arc::new(watch::Sender::new(false)),
        }
    }

    /// Passes the events that `store` was written from on, keeps the index, and calls `affected` with
    /// the other objects for the address of an object that changed.
    pub fn follow<S>(
        self,
        events: S,
        affected: impl Fn(Vec<Key>),
    ) -> impl Stream<Item = watcher::Result<watcher::Event<OrgInvite>>>
    where
        S: Stream<Item = watcher::Result<watcher::Event<OrgInvite>>>,
    {
        let index = self;
        events.inspect_ok(move |event| {
            let object = match event {
                watcher::Event::Apply(object) => {
                    index.insert(object);
                    object
                }
                watcher::Event::Delete(object) => {
                    index.remove(object);
                    object
                }
                watcher::Event::Init | watcher::Event::InitApply(_) => return,
                watcher::Event::InitDone => {
                    index.by_address.write().clear();
                    for object in index.store.state() {
                        index.insert(&object);
                    }
                    index.complete.send_replace(true);
                    return;
                }
            };
            if let Ok(address) = Address::parse(&object.spec.email) {
                let own = Key::from_obj(object);
                let mut others = index
                    .by_address
                    .read()
                    .get(&address)
                    .cloned()
                    .unwrap_or_default();
                others.retain(|key| *key != own);
                if !others.is_empty() {
                    affected(others);
                }
            }
        })
    }

    /// Waits until all objects are in the cache.
    pub async fn ready(&self) {
        let mut complete = self.complete.subscribe();
        complete.wait_for(|complete| *complete).await.ok();
    }

    /// The object of that name, if it exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<OrgInvite>> {
        self.store.get(key)
    }

    /// All objects.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<OrgInvite>> {
        self.store.state()
    }

    /// The objects for an address, of whatever organization.
    #[must_use]
    pub fn for_address(&self, address: &Address) -> Vec<Arc<OrgInvite>> {
        let keys = self
            .by_address
            .read()
            .get(address)
            .cloned()
            .unwrap_or_default();
        keys.iter().filter_map(|key| self.store.get(key)).collect()
    }

    fn insert(&self, object: &OrgInvite) {
        if let Ok(address) = Address::parse(&object.spec.email) {
            let key = Key::from_obj(object);
            let mut index = self.by_address.write();
            let keys = index.entry(address).or_default();
            if !keys.contains(&key) {
                keys.push(key);
            }
        }
    }

    fn remove(&self, object: &OrgInvite) {
        if let Ok(address) = Address::parse(&object.spec.email) {
            let key = Key::from_obj(object);
            let mut index = self.by_address.write();
            if let Some(keys) = index.get_mut(&address) {
                keys.retain(|known| *known != key);
                if keys.is_empty() {
                    index.remove(&address);
                }
            }
        }
    }
}

/// Drops what nobody reads from an object before it is cached.
pub fn slim(object: &mut OrgInvite) {
    object.managed_fields_mut().clear();
    object
        .annotations_mut()
        .remove("kubectl.kubernetes.io/last-applied-configuration");
}
