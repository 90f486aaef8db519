//! In which order objects get their turn: one of each namespace after the other, so that a namespace with ten
//! thousand objects holds nobody else up.
//!
//! kube's `Controller` takes at once whatever triggers it, and when many wait, begins with the youngest. So it is
//! handed no more than it can begin soon. What comes back at a time that it knows does not pass through here.

use std::collections::{HashMap, HashSet, VecDeque};
use std::sync::Arc;

use futures::{FutureExt, Stream, StreamExt, future, stream};
use kube::ResourceExt;
use kube::runtime::reflector::{Lookup, ObjectRef};
use parking_lot::Mutex;
use tokio::sync::Notify;

use crate::resources::OrgInvite;

type Key = ObjectRef<OrgInvite>;

/// Who waits for a turn.
#[derive(Debug)]
pub struct Order {
    /// How many objects the controller is ahead of their turns.
    ahead: usize,
    state: Mutex<State>,
    moved: Notify,
}

#[derive(Debug, Default)]
struct State {
    waiting: HashMap<String, Line>,
    /// Namespaces where somebody waits, the next one first.
    namespaces: VecDeque<String>,
    /// Who was handed to the controller and did not begin.
    handed: HashSet<Key>,
}

/// Who waits in one namespace, by name, the oldest first and each once.
#[derive(Debug, Default)]
struct Line {
    order: VecDeque<Arc<str>>,
    known: HashSet<Arc<str>>,
}

impl Order {
    /// An order that hands the controller so many objects ahead of their turns.
    #[must_use]
    pub fn new(ahead: usize) -> Self {
        Self {
            ahead,
            state: Mutex::default(),
            moved: Notify::new(),
        }
    }

    /// The object waits for a turn.
    pub fn add(&self, object: &OrgInvite) {
        self.push(object.metadata.namespace.as_deref(), &object.name_any());
    }

    /// The object's turn began, or it is gone.
    pub fn begun<K: Lookup>(&self, object: &ObjectRef<K>) {
        let namespace = object.namespace.as_deref().unwrap_or_default();
        let object = Key::new(&object.name).within(namespace);
        if self.state.lock().handed.remove(&object) {
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
                    order.push_key(&trigger?);
                }
                if let Some(next) = order.next() {
                    return Some((next, (order, triggers)));
                }
                let moved = std::pin::pin!(order.moved.notified());
                if let future::Either::Left((trigger, _)) =
                    future::select(triggers.next(), moved).await
                {
                    order.push_key(&trigger?);
                }
            }
        })
    }

    fn push_key(&self, key: &Key) {
        self.push(key.namespace.as_deref(), &key.name);
    }

    fn push(&self, namespace: Option<&str>, name: &str) {
        let namespace = namespace.unwrap_or_default();
        let mut state = self.state.lock();
        if !state.waiting.contains_key(namespace) {
            state.namespaces.push_back(namespace.to_owned());
            state.waiting.insert(namespace.to_owned(), Line::default());
        }
        if let Some(line) = state.waiting.get_mut(namespace)
            && !line.known.contains(name)
        {
            let name: Arc<str> = name.into();
            line.known.insert(Arc::clone(&name));
            line.order.push_back(name);
            self.moved.notify_one();
        }
    }

    /// The next one, unless the controller has enough.
    fn next(&self) -> Option<Key> {
        let mut state = self.state.lock();
        let state = &mut *state;
        if state.handed.len() >= self.ahead {
            return None;
        }
        let namespace = state.namespaces.pop_front()?;
        let line = state.waiting.get_mut(&namespace)?;
        let name = line.order.pop_front()?;
        line.known.remove(&name);
        let key = Key::new(&name).within(&namespace);
        if line.order.is_empty() {
            state.waiting.remove(&namespace);
        } else {
            state.namespaces.push_back(namespace);
        }
        state.handed.insert(key.clone());
        Some(key)
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::mpsc;
    use tokio_stream::wrappers::UnboundedReceiverStream;

    use super::*;

    fn key(text: &str) -> Key {
        let (namespace, name) = text.split_once('/').unwrap();
        Key::new(name).within(namespace)
    }

    #[tokio::test]
    async fn each_namespace_has_its_turn_whoever_waits_in_the_others() {
        let (trigger, triggers) = mpsc::unbounded_channel();
        let order = Arc::new(Order::new(2));
        let follow = Arc::clone(&order).follow(UnboundedReceiverStream::new(triggers));
        let mut follow = std::pin::pin!(follow);
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
        // Whoever is triggered again while it waits to begin has another turn.
        trigger.send(key("a/1")).unwrap();
        let mut rest = Vec::new();
        while let Some(begun) = handed.pop() {
            order.begun(&begun);
            order.begun(&begun);
            if let Some(Some(next)) = follow.next().now_or_never() {
                rest.push(next.clone());
                handed.insert(0, next);
            }
        }
        let expected = ["c/1", "a/2", "b/2", "a/3", "a/4", "a/1"].map(key);
        assert_eq!(rest, expected);
        let state = order.state.lock();
        assert!(state.waiting.is_empty() && state.namespaces.is_empty() && state.handed.is_empty());
    }

    #[tokio::test]
    async fn who_comes_while_nobody_waits_is_handed_on() {
        let (trigger, triggers) = mpsc::unbounded_channel();
        let order = Arc::new(Order::new(1));
        let follow = Arc::clone(&order).follow(UnboundedReceiverStream::new(triggers));
        let mut follow = std::pin::pin!(follow);
        assert!(follow.next().now_or_never().is_none());
        trigger.send(key("a/1")).unwrap();
        assert_eq!(follow.next().await, Some(key("a/1")));
        trigger.send(key("a/2")).unwrap();
        let (next, ()) = future::join(follow.next(), async { order.begun(&key("a/1")) }).await;
        assert_eq!(next, Some(key("a/2")));
        drop(trigger);
        order.begun(&key("a/2"));
        assert_eq!(follow.next().await, None);
    }
}
