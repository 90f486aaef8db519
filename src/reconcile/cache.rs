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

/// What is cached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `OrgInvite`s.
    OrgInvites,
    /// Organizations.
    Organizations,
    /// Namespaces.
    Namespaces,
}

impl Kind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::OrgInvites, Self::Organizations, Self::Namespaces];

    /// The plural of what it is.
    #[must_use]
    pub const fn plural(self) -> &'static str {
        match self {
            Self::OrgInvites => "orginvites",
            Self::Organizations => "organizations",
            Self::Namespaces => "namespaces",
        }
    }
}

/// Which caches were filled from the cluster once. A reflector's own store wakes only the last one who
/// waits for that, and here several do.
#[derive(Debug, Default)]
pub struct Filled(watch::Sender<[bool; 3]>);

impl Filled {
    /// The cache of `kind` is filled.
    pub fn mark(&self, kind: Kind) {
        self.0.send_modify(|filled| filled[kind as usize] = true);
    }

    /// Whether the cache of `kind` was filled.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.0.borrow()[kind as usize]
    }

    /// Waits until the caches of `kinds` are filled.
    pub async fn wait(&self, kinds: &[Kind]) {
        let all = |filled: &[bool; 3]| kinds.iter().all(|kind| filled[*kind as usize]);
        self.0.subscribe().wait_for(all).await.ok();
    }
}

/// The cached `OrgInvite`s.
#[derive(Clone)]
pub struct Invites {
    store: Store<OrgInvite>,
    by_address: Arc<RwLock<HashMap<Address, Vec<Key>>>>,
    filled: Arc<Filled>,
}

impl Invites {
    /// An index over `store`; [`Invites::follow`] keeps it.
    #[must_use]
    pub fn new(store: Store<OrgInvite>, filled: Arc<Filled>) -> Self {
        Self {
            store,
            by_address: Arc::default(),
            filled,
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
                    index.filled.mark(Kind::OrgInvites);
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

    /// The cache itself.
    #[must_use]
    pub fn store(&self) -> &Store<OrgInvite> {
        &self.store
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
