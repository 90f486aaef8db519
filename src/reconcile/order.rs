//! In which order objects get their turn: one of each namespace after the other, so that a namespace with ten
//! thousand objects holds nobody else up, and in a namespace whoever waits longest.
//!
//! kube's `Controller` takes at once whatever triggers it, and when many wait, has no order for them. So it is
//! handed no more than it can begin soon. What comes back at a time that it knows does not pass through here.
//!
//! What a refused object costs, the API server pays, and everybody waits for the API server. So namespaces whose objects
//! are being refused have few turns at once, however many of them wait.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt, future, stream};
use kube::runtime::reflector::{Lookup, ObjectRef};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::resources::{OrgInvite, conditions};

type Key = ObjectRef<OrgInvite>;

/// How many objects the controller may have been handed of namespaces whose objects are being refused.
const REFUSED_AT_MOST: usize = 4;

/// Who waits for a turn.
#[derive(Debug)]
pub struct Order {
    /// How many objects the controller may have been handed.
    at_most: usize,
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<String, Line>,
    /// Namespaces where somebody waits, the next one first.
    namespaces: VecDeque<String>,
    /// Who was handed to the controller, or began by itself, and has not ended.
    in_hand: HashMap<Key, InHand>,
    /// How many of them were handed.
    handed: usize,
}

#[derive(Debug, Default)]
struct InHand {
    handed: bool,
    /// Whether its namespace's objects were being refused when it was handed.
    refused: bool,
    /// Whether to wait for a turn again once this one has ended.
    again: bool,
}

/// Who waits in one namespace, by name, the oldest first and each once.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
    /// Whether the last of the namespace's objects that was seen to have an outcome was refused.
    refused: bool,
}

/// A turn, which ends when this is dropped.
#[derive(Debug)]
pub struct Turn {
    order: Arc<Order>,
    key: Key,
}

impl Drop for Turn {
    fn drop(&mut self) {
        self.order.ended(&self.key);
    }
}

impl Order {
    /// An order that hands the controller so many objects at most.
    #[must_use]
    pub fn new(at_most: usize) -> Self {
        Self {
            at_most,
            state: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// The object waits for a turn.
    pub fn add(&self, object: &OrgInvite) {
        let key = ObjectRef::from_obj(object);
        self.push(&key);
        let is = |kind| conditions::is_true(object.conditions(), kind);
        let (refused, ready) = (is("Stalled"), is("Ready"));
        if (refused || ready)
            && let Some(line) = self.state.lock().waiting.get_mut(namespace(&key))
        {
            line.refused = refused;
            self.moved.notify_one();
        }
    }

    /// The object's turn begins.
    #[must_use]
    pub fn begin(self: &Arc<Self>, object: &OrgInvite) -> Turn {
        let key = ObjectRef::from_obj(object);
        self.state.lock().in_hand.entry(key.clone()).or_default();
        Turn {
            order: Arc::clone(self),
            key,
        }
    }

    /// The object went before its turn.
    pub fn gone<K: Lookup>(&self, object: &ObjectRef<K>) {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        self.ended(&Key::new(&object.name).within(namespace));
    }

    fn ended(&self, key: &Key) {
        let ended = {
            let mut state = self.state.lock();
            let ended = state.in_hand.remove(key).unwrap_or_default();
            state.handed -= usize::from(ended.handed);
            ended
        };
        if ended.again {
            self.push(key);
        }
        if ended.handed {
            self.moved.notify_one();
        }
    }

    /// Hands on who waits, with those that `triggers` tells of.
    pub fn follow<S>(self: Arc<Self>, triggers: S) -> impl Stream<Item = Key>
    where
        S: Stream<Item = Key> + Unpin,
    {
        stream::unfold((self, triggers), |(order, mut triggers)| async move {
            loop {
                while let Some(trigger) = triggers.next().now_or_never() {
                    order.push(&trigger?);
                }
                if let Some(next) = order.next() {
                    return Some((next, (order, triggers)));
                }
                let moved = std::pin::pin!(order.moved.notified());
                if let future::Either::Left((trigger, _)) =
                    future::select(triggers.next(), moved).await
                {
                    order.push(&trigger?);
                }
            }
        })
    }

    fn push(&self, key: &Key) {
        let namespace = namespace(key);
        let mut state = self.state.lock();
        if let Some(in_hand) = state.in_hand.get_mut(key) {
            // What triggers it may have come after its turn looked.
            in_hand.again = true;
            return;
        }
        if !state.waiting.contains_key(namespace) {
            state.namespaces.push_back(namespace.to_owned());
            state.waiting.insert(namespace.to_owned(), Line::default());
        }
        if let Some(line) = state.waiting.get_mut(namespace)
            && !line.known.contains(key.name.as_str())
        {
            let name: Arc<str> = key.name.as_str().into();
            line.known.insert(Arc::clone(&name));
            line.order.push_back(name);
            self.moved.notify_one();
        }
    }

    /// The next one, unless the controller has enough.
    fn next(&self) -> Option<Key> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.handed >= self.at_most {
            return None;
        }
        let refused = state.in_hand.values().filter(|in_hand| in_hand.refused);
        let enough = refused.count() >= REFUSED_AT_MOST;
        let may_begin = |name| {
            let line: Option<&Line> = state.waiting.get(name);
            !enough || line.is_none_or(|line| !line.refused)
        };
        let turn = state.namespaces.iter().position(may_begin)?;
        state.namespaces.rotate_left(turn);
        let namespace = state.namespaces.pop_front()?;
        let line = state.waiting.get_mut(&namespace)?;
        let name = line.order.pop_front()?;
        line.known.remove(&name);
        let refused = line.refused;
        let key = Key::new(&name).within(&namespace);
        if line.order.is_empty() {
            state.waiting.remove(&namespace);
        } else {
            state.namespaces.push_back(namespace);
        }
        let handed = InHand {
            handed: true,
            refused,
            again: false,
        };
        state.in_hand.insert(key.clone(), handed);
        state.handed += 1;
        Some(key)
    }
}

fn namespace(key: &Key) -> &str {
    key.namespace.as_deref().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use futures::stream::BoxStream;
    use tokio::sync::mpsc::{self, UnboundedSender};
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    fn key(text: &str) -> Key {
        let (namespace, name) = text.split_once('/').unwrap();
        Key::new(name).within(namespace)
    }

    /// An order, what triggers it, and whom it hands on.
    fn followed(at_most: usize) -> (UnboundedSender<Key>, Arc<Order>, BoxStream<'static, Key>) {
        let (trigger, triggers) = mpsc::unbounded_channel();
        let order = Arc::new(Order::new(at_most));
        let follow = Arc::clone(&order).follow(UnboundedReceiverStream::new(triggers));
        (trigger, order, follow.boxed())
    }

    fn object() -> OrgInvite {
        serde_json::from_value(serde_json::json!({
            "metadata": {"name": "1", "namespace": "a"},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        }))
        .unwrap()
    }

    fn that_is(kind: &str, namespace: &str) -> OrgInvite {
        let condition = serde_json::json!({
            "type": kind, "status": "True", "reason": "", "message": "",
            "lastTransitionTime": "2026-11-24T12:00:00Z",
        });
        let status = serde_json::json!({"conditions": [condition]});
        let mut object = object();
        object.metadata.namespace = Some(namespace.to_owned());
        object.status = Some(serde_json::from_value(status).unwrap());
        object
    }

    #[tokio::test]
    async fn each_namespace_has_its_turn_whoever_waits_in_the_others() {
        let (trigger, order, mut follow) = followed(2);
        for text in ["a/1", "a/2", "a/1", "a/3", "a/4", "b/1", "c/1", "b/2"] {
            trigger.send(key(text)).unwrap();
        }
        let mut handed = Vec::new();
        while let Some(Some(next)) = follow.next().now_or_never() {
            handed.push(next);
        }
        assert_eq!(
            handed,
            [key("a/1"), key("b/1")],
            "no more than can begin soon"
        );
        // Whoever is triggered again while it is in hand has another turn, once it has ended.
        trigger.send(key("a/1")).unwrap();
        let mut rest = Vec::new();
        while let Some(ended) = handed.pop() {
            order.ended(&ended);
            order.ended(&ended);
            if let Some(Some(next)) = follow.next().now_or_never() {
                rest.push(next.clone());
                handed.insert(0, next);
            }
        }
        let expected = ["c/1", "a/2", "b/2", "a/3", "a/4", "a/1"].map(key);
        assert_eq!(rest, expected);
        let state = order.state.lock();
        assert!(state.waiting.is_empty() && state.namespaces.is_empty());
        assert!(state.in_hand.is_empty() && state.handed == 0);
    }

    /// What comes back at a time that the controller knows begins without being handed to it.
    #[tokio::test]
    async fn who_is_triggered_during_a_turn_waits_for_its_end() {
        let (trigger, order, mut follow) = followed(1);
        let turn = order.begin(&object());
        trigger.send(key("a/1")).unwrap();
        trigger.send(key("a/2")).unwrap();
        assert_eq!(follow.next().now_or_never(), Some(Some(key("a/2"))));
        drop(turn);
        assert!(follow.next().now_or_never().is_none());
        order.gone(&key("a/2"));
        assert_eq!(follow.next().now_or_never(), Some(Some(key("a/1"))));
        drop(order.begin(&object()));
        assert!(follow.next().now_or_never().is_none());
    }

    #[tokio::test]
    async fn namespaces_whose_objects_are_refused_have_few_turns_at_once() {
        let (trigger, order, mut follow) = followed(17);
        let mut handed = || {
            let all = std::iter::from_fn(|| follow.next().now_or_never().flatten());
            let text = |key: Key| format!("{}/{}", namespace(&key), key.name);
            all.map(text).collect::<Vec<_>>()
        };
        let wait = |keys: &[&str]| {
            for text in keys {
                trigger.send(key(text)).unwrap();
            }
        };
        for namespace in ["a", "c"] {
            order.add(&that_is("Stalled", namespace));
        }
        wait(&["a/2", "a/3", "a/4", "c/2", "c/3"]);
        assert_eq!(handed(), ["a/1", "c/1", "a/2", "c/2"]);
        wait(&["b/1", "b/2"]);
        assert_eq!(handed(), ["b/1", "b/2"], "others have theirs meanwhile");
        order.ended(&key("c/1"));
        assert_eq!(handed(), ["a/3"], "one for one");
        order.add(&object());
        assert!(handed().is_empty(), "what has no outcome says nothing");
        wait(&["a/5"]);
        order.add(&that_is("Ready", "a"));
        assert_eq!(handed(), ["a/4", "a/5"]);
    }

    #[tokio::test]
    async fn who_comes_while_nobody_waits_is_handed_on() {
        let (trigger, order, mut follow) = followed(1);
        assert!(follow.next().now_or_never().is_none());
        trigger.send(key("a/1")).unwrap();
        assert_eq!(follow.next().await, Some(key("a/1")));
        trigger.send(key("a/2")).unwrap();
        let (next, ()) = future::join(follow.next(), async { order.gone(&key("a/1")) }).await;
        assert_eq!(next, Some(key("a/2")));
        drop(trigger);
        order.gone(&key("a/2"));
        assert_eq!(follow.next().await, None);
    }
}
