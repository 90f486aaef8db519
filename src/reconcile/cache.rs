//! The cached `OrgInvite`s, also by address: claims need everybody who asks for one.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use futures::stream::FuturesUnordered;
use futures::{FutureExt, Stream, StreamExt, TryStreamExt};
use kube::core::ObjectMeta;
use kube::runtime::reflector::{ObjectRef, Store};
use kube::runtime::watcher;
use parking_lot::RwLock;
use tokio::sync::{mpsc, watch};

use super::memory::version;
use crate::claims;
use crate::resources::org_invite::{ATTEMPT_ANNOTATION, INVITE_ID_ANNOTATION, RESEND_ANNOTATION};
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

/// So many objects for an address are planned again at once when one of them changes. More would take the time from
/// others, each time.
const CROWD: usize = 32;
/// How much later a crowd is planned again for each that is in it.
const SHARE: Duration = Duration::from_micros(100);

/// The objects for each address; for none those whose e-mail is no address.
#[derive(Default)]
struct Index(HashMap<Option<Address>, Vec<Arc<OrgInvite>>>);

/// How far the caches are.
#[derive(Debug, Default)]
pub struct Filled {
    /// Which were filled from the cluster once. A reflector's own store wakes only the last one who waits for that,
    /// and here several do.
    once: watch::Sender<[bool; 3]>,
    /// The resource version of the last change in each.
    versions: [AtomicU64; 3],
}

impl Filled {
    /// The cache of `kind` is filled.
    pub fn mark(&self, kind: Kind) {
        self.once.send_modify(|filled| filled[kind as usize] = true);
    }

    /// Whether the cache of `kind` was filled.
    #[must_use]
    pub fn is(&self, kind: Kind) -> bool {
        self.once.borrow()[kind as usize]
    }

    /// The cache of `kind` has this change of an object, and with it all before: a watch tells them in order.
    pub fn reach(&self, kind: Kind, changed: &ObjectMeta) {
        if let Some(version) = version(changed) {
            self.versions[kind as usize].fetch_max(version, Ordering::Relaxed);
        }
    }

    /// The resource version that the cache of `kind` is at least as new as.
    #[must_use]
    pub fn version(&self, kind: Kind) -> u64 {
        self.versions[kind as usize].load(Ordering::Relaxed)
    }

    /// Waits until the caches of `kinds` are filled.
    pub async fn wait(&self, kinds: &[Kind]) {
        let all = |filled: &[bool; 3]| kinds.iter().all(|kind| filled[*kind as usize]);
        self.once.subscribe().wait_for(all).await.ok();
    }
}

/// The cached `OrgInvite`s.
///
/// Whoever decides reads the index, which is never ahead of the store: what it lacks, no plan knows.
#[derive(Clone)]
pub struct Invites {
    store: Store<OrgInvite>,
    index: Arc<RwLock<Index>>,
    filled: Arc<Filled>,
    crowds: mpsc::UnboundedSender<Address>,
}

impl Invites {
    /// An index over `store`; [`Invites::follow`] keeps it. With the changes that [`Invites::follow_crowds`] takes.
    #[must_use]
    pub fn new(
        store: Store<OrgInvite>,
        filled: Arc<Filled>,
    ) -> (Self, mpsc::UnboundedReceiver<Address>) {
        let (crowds, changed) = mpsc::unbounded_channel();
        let invites = Self {
            store,
            index: Arc::default(),
            filled,
            crowds,
        };
        (invites, changed)
    }

    /// Passes the events that `store` was written from on, keeps the index, and calls `affected` with
    /// each other object for the address of an object that changed, and with every object after a list:
    /// what it shows counts once it is complete, and what went meanwhile has no event. Crowds are left to
    /// [`Invites::follow_crowds`].
    pub fn follow<S>(
        self,
        events: S,
        affected: impl Fn(&OrgInvite),
    ) -> impl Stream<Item = watcher::Result<watcher::Event<OrgInvite>>>
    where
        S: Stream<Item = watcher::Result<watcher::Event<OrgInvite>>>,
    {
        let invites = self;
        events.inspect_ok(move |event| {
            let object = match event {
                watcher::Event::Apply(object) => {
                    if let Some(cached) = invites.get(&Key::from_obj(object)) {
                        invites.index.write().insert(cached);
                    }
                    object
                }
                watcher::Event::Delete(object) => {
                    invites.index.write().remove(object);
                    object
                }
                watcher::Event::Init | watcher::Event::InitApply(_) => return,
                watcher::Event::InitDone => {
                    // At once: with a part of it, an object could miss whom it has to wait for.
                    let mut index = Index::default();
                    for object in invites.store.state() {
                        index.insert(object);
                    }
                    *invites.index.write() = index;
                    invites.filled.mark(Kind::OrgInvites);
                    for object in invites.all() {
                        affected(&object);
                    }
                    return;
                }
            };
            invites.filled.reach(Kind::OrgInvites, &object.metadata);
            if let Ok(address) = Address::parse(&object.spec.email) {
                if invites.count_for(&address) > CROWD {
                    invites.crowds.send(address).ok();
                    return;
                }
                for other in invites.for_address(&address) {
                    if !is_same(&other, object) {
                        affected(&other);
                    }
                }
            }
        })
    }

    /// Calls `affected` with all objects for each address of a crowd that changed, once for whatever happens to it
    /// within a time that grows with it.
    pub async fn follow_crowds(
        self,
        mut changed: mpsc::UnboundedReceiver<Address>,
        affected: impl Fn(&OrgInvite),
    ) {
        let mut known = HashSet::new();
        let mut later = FuturesUnordered::new();
        loop {
            tokio::select! {
                Some(address) = changed.recv() => {
                    if known.insert(address.clone()) {
                        let members = u32::try_from(self.count_for(&address)).unwrap_or(u32::MAX);
                        later.push(tokio::time::sleep(SHARE * members).map(|()| address));
                    }
                }
                Some(address) = later.next() => {
                    known.remove(&address);
                    for object in self.for_address(&address) {
                        affected(&object);
                    }
                }
                else => return,
            }
        }
    }

    /// The object of that name, if it exists.
    #[must_use]
    pub fn get(&self, key: &Key) -> Option<Arc<OrgInvite>> {
        self.store.get(key)
    }

    /// How many there are for an address.
    #[must_use]
    pub fn count_for(&self, address: &Address) -> usize {
        let index = self.index.read();
        index.0.get(&Some(address.clone())).map_or(0, Vec::len)
    }

    /// All objects.
    #[must_use]
    pub fn all(&self) -> Vec<Arc<OrgInvite>> {
        self.index.read().0.values().flatten().cloned().collect()
    }

    /// The objects for an address, of whatever organization.
    #[must_use]
    pub fn for_address(&self, address: &Address) -> Vec<Arc<OrgInvite>> {
        let index = self.index.read();
        index
            .0
            .get(&Some(address.clone()))
            .cloned()
            .unwrap_or_default()
    }
}

impl Index {
    fn insert(&mut self, object: Arc<OrgInvite>) {
        let address = Address::parse(&object.spec.email).ok();
        let objects = self
            .0
            .entry(address)
            .or_insert_with(|| Vec::with_capacity(1));
        match objects.iter_mut().find(|other| is_same(other, &object)) {
            Some(older) => *older = object,
            None => objects.push(object),
        }
    }

    fn remove(&mut self, object: &OrgInvite) {
        let address = Address::parse(&object.spec.email).ok();
        if let Some(objects) = self.0.get_mut(&address) {
            objects.retain(|known| !is_same(known, object));
            if objects.is_empty() {
                self.0.remove(&address);
            }
        }
    }
}

/// Whether the two are versions of one object.
fn is_same(one: &OrgInvite, other: &OrgInvite) -> bool {
    one.metadata.name == other.metadata.name && one.metadata.namespace == other.metadata.namespace
}

/// How many bytes of an annotation are read that a person sets.
const WISH: usize = 256;
/// How long an attempt is at most, in bytes: one that holds such a wish is shorter.
const ATTEMPT: usize = 4096;

/// Drops what nobody reads from an object before it is cached: with a closed attempt, a third of it. What a person
/// may fill is cut.
pub fn slim(object: &mut OrgInvite) {
    let attempt = claims::attempt(object).and_then(Result::ok);
    // One that came from another place still says that it did.
    let closed = attempt.is_some_and(|attempt| {
        claims::is_closed(&attempt, object) && !claims::is_copied(&attempt, object)
    });
    let Some(annotations) = &mut object.metadata.annotations else {
        return;
    };
    annotations.retain(|name, value| match name.as_str() {
        ATTEMPT_ANNOTATION if closed => false,
        ATTEMPT_ANNOTATION => {
            if value.len() > ATTEMPT {
                // Nobody can read that either.
                *value = String::new();
            }
            true
        }
        RESEND_ANNOTATION | INVITE_ID_ANNOTATION => {
            value.truncate(value.floor_char_boundary(WISH));
            value.shrink_to_fit();
            true
        }
        _ => false,
    });
}

#[cfg(test)]
mod tests {
    use futures::stream;
    use kube::ResourceExt as _;
    use kube::runtime::WatchStreamExt as _;
    use kube::runtime::reflector;
    use kube::runtime::watcher::Event;
    use serde_json::json;

    use super::*;
    use crate::resources::org_invite::FINALIZER;
    use crate::stored::{Stored, is_elided};

    fn object(name: &str) -> OrgInvite {
        serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": name, "namespace": "team", "uid": name},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        }))
        .unwrap()
    }

    /// As the API server sends it.
    fn read(object: &OrgInvite) -> OrgInvite {
        let text = serde_json::to_string(object).unwrap();
        let Stored(mut object) = serde_json::from_str(&text).unwrap();
        slim(&mut object);
        object
    }

    /// Whoever may edit an object may fill it.
    #[test]
    fn little_of_an_object_of_a_megabyte_is_cached() {
        let long = || "ä".repeat(100_000);
        let ours = FINALIZER.to_owned();
        let many = |length: usize| vec!["f".repeat(length); 200_000 / length];
        for others in [vec![long()], many(1), many(300)] {
            let mut full = object("a");
            let finalizers = [
                others.clone(),
                vec![ours.clone()],
                others,
                vec![ours.clone()],
            ];
            full.metadata.finalizers = Some(finalizers.concat());
            full.metadata.labels = Some([(long(), String::new())].into());
            let names = [
                ATTEMPT_ANNOTATION,
                RESEND_ANNOTATION,
                INVITE_ID_ANNOTATION,
                "x",
            ];
            let annotations = names.map(|name| (name.to_owned(), format!("x{}", long())));
            full.metadata.annotations = Some(annotations.into());
            let cached = read(&full);
            assert!(serde_json::to_string(&cached).unwrap().len() < 2_000);
            assert!(claims::is_open(&cached), "nobody knows what it stands for");
            assert_eq!(cached.finalizers(), [FINALIZER, ""]);
            assert!(is_elided(&cached));
        }
    }

    #[test]
    fn a_closed_attempt_is_dropped_however_long_it_is() {
        let mut closed = object("a");
        let attempt = json!({
            "id": "a1", "email": "jane@example.com", "role": "ORGANIZATION_MEMBER", "resends": 0,
            "request": "w".repeat(ATTEMPT),
        });
        let annotation = (ATTEMPT_ANNOTATION.to_owned(), attempt.to_string());
        closed.metadata.annotations = Some([annotation].into());
        assert!(claims::is_open(&read(&closed)));
        closed.status = serde_json::from_value(json!({"attemptId": "a1"})).unwrap();
        assert!(!claims::is_open(&read(&closed)));
    }

    /// Such as that of a person who was sent a second one, in an object that was restored without its status.
    #[test]
    fn a_copied_attempt_is_kept() {
        let mut restored = object("a");
        let attempt = json!({
            "id": "a2", "after": "a1", "uid": "before", "email": "jane@example.com",
            "role": "ORGANIZATION_MEMBER",
        });
        let annotation = (ATTEMPT_ANNOTATION.to_owned(), attempt.to_string());
        restored.metadata.annotations = Some([annotation].into());
        restored.status = serde_json::from_value(json!({"observedGeneration": -1})).unwrap();
        assert!(claims::attempt(&read(&restored)).is_some());
    }

    #[test]
    fn what_people_write_is_cached_as_it_is() {
        let mut usual = object("a");
        let wish = "w".repeat(WISH);
        let attempt = json!({
            "id": "0123456789abcdef", "uid": "a", "email": "jane@example.com",
            "role": "ORGANIZATION_MEMBER", "resends": 0, "request": "\u{1}".repeat(WISH),
        });
        usual.metadata.finalizers = Some(vec!["example.com/a".to_owned(), FINALIZER.to_owned()]);
        usual.metadata.annotations = Some(
            [
                (RESEND_ANNOTATION.to_owned(), wish),
                (ATTEMPT_ANNOTATION.to_owned(), attempt.to_string()),
            ]
            .into(),
        );
        let cached = read(&usual);
        assert_eq!(cached.metadata, usual.metadata);
        assert!(claims::is_open(&cached) && !is_elided(&cached));
    }

    /// A plan in between would miss whom its object has to wait for, and send a second e-mail.
    #[tokio::test]
    async fn a_new_list_replaces_the_index_at_once() {
        let (store, writer) = reflector::store();
        let (invites, _crowds) = Invites::new(store, Arc::default());
        let address = Address::parse("jane@example.com").unwrap();
        let list = |names: [&str; 2]| {
            let [one, other] = names.map(|name| Event::InitApply(object(name)));
            [Event::Init, one, other, Event::InitDone]
        };
        let lists = [list(["a", "b"]), list(["b", "c"])].concat();
        let events = stream::iter(lists.into_iter().map(Ok)).reflect(writer);
        let mut events = Box::pin(invites.clone().follow(events, |_| {}));
        let mut shown = Vec::new();
        while let Some(event) = events.next().await {
            event.unwrap();
            let mut names: Vec<String> = invites
                .for_address(&address)
                .iter()
                .map(|object| object.name_any())
                .collect();
            names.sort();
            shown.push(names.concat());
        }
        assert_eq!(shown, ["", "", "", "ab", "ab", "ab", "ab", "bc"]);
    }

    /// What goes or changes while nobody watches has no event, and what a long list shows is not in the cache before its
    /// end.
    #[tokio::test]
    async fn a_list_triggers_all_once_it_is_complete() {
        let (store, writer) = reflector::store();
        let (invites, _crowds) = Invites::new(store, Arc::default());
        let one = |name| [Event::InitApply(object(name))];
        let lists = [
            &[Event::Init][..],
            &one("a"),
            &one("b"),
            &[Event::InitDone, Event::Init],
            &one("b"),
            &one("c"),
            &[Event::InitDone],
        ]
        .concat();
        let events = stream::iter(lists.into_iter().map(Ok)).reflect(writer);
        let triggered = std::cell::RefCell::new(Vec::new());
        let note = |object: &OrgInvite| triggered.borrow_mut().push(object.name_any());
        let mut events = Box::pin(invites.clone().follow(events, note));
        let mut shown = Vec::new();
        while let Some(event) = events.next().await {
            event.unwrap();
            let mut names = triggered.take();
            names.sort();
            shown.push(names.concat());
        }
        assert_eq!(shown, ["", "", "", "ab", "", "", "", "bc"]);
    }

    /// Ten thousand for one address, which a namespace may write, would each have ten thousand planned.
    #[tokio::test(start_paused = true)]
    async fn a_crowd_is_triggered_once_for_all_that_changes_meanwhile() {
        let (store, writer) = reflector::store();
        let (invites, crowds) = Invites::new(store, Arc::default());
        let names: Vec<String> = (0..=CROWD).map(|number| format!("p{number}")).collect();
        let objects = || names.iter().map(|name| object(name));
        let events = [Event::Init]
            .into_iter()
            .chain(objects().map(Event::InitApply))
            .chain([Event::InitDone])
            .chain(objects().map(Event::Apply))
            .chain([Event::Delete(object("p0"))]);
        let events = stream::iter(events.map(Ok)).reflect(writer);
        let at_once = std::cell::RefCell::new(Vec::new());
        let later = std::cell::RefCell::new(Vec::new());
        invites
            .clone()
            .follow(events, |object| {
                at_once.borrow_mut().push(object.name_any());
            })
            .try_collect::<Vec<_>>()
            .await
            .unwrap();
        // For the list, and for the deletion that made it small again.
        assert_eq!(at_once.borrow().len(), names.len() + CROWD);
        let following = invites.follow_crowds(crowds, |object| {
            later.borrow_mut().push(object.name_any());
        });
        let a_while = tokio::time::sleep(Duration::from_secs(1));
        tokio::select! {
            () = following => unreachable!("it goes on"),
            () = a_while => {}
        }
        let mut later = later.take();
        later.sort();
        let mut expected = names[1..].to_vec();
        expected.sort();
        assert_eq!(later, expected);
    }
}
