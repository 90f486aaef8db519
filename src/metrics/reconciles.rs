//! What the controllers do: how reconciles end, and what waits for one.
//!
//! kube's `Controller` does not show its queue. What triggers it passes through [`Reconciles::seen`] and
//! [`Reconciles::asked`], and what it does through [`Reconciles::count`]; the difference is kept here.
//! What comes back at a time that it knows stays unseen until then.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt, TryStreamExt};
use kube::Resource;
use kube::runtime::controller::Action;
use kube::runtime::reflector::{Lookup, ObjectRef};
use kube::runtime::watcher;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{Counters, Histograms};

/// The reconciles of one resource.
#[derive(Clone, Debug)]
pub struct Reconciles {
    /// The kind of the resource.
    pub resource: &'static str,
    ended: Counters<2>,
    durations: Histograms<1>,
    objects: Arc<Mutex<HashMap<String, Entry>>>,
}

/// When the reconciles of an object were triggered: the one that runs, and the one to come.
#[derive(Clone, Copy, Debug, Default)]
struct Entry {
    running: Option<Instant>,
    next: Option<Instant>,
}

/// What waits and what runs.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Queue {
    /// Objects that were triggered and whose reconcile did not end.
    pub depth: usize,
    /// Those of them whose reconcile runs.
    pub running: usize,
    /// How long ago the oldest was triggered.
    pub oldest: Duration,
}

impl Reconciles {
    pub(super) fn new(
        resource: &'static str,
        ended: Counters<2>,
        durations: Histograms<1>,
    ) -> Self {
        Self {
            resource,
            ended,
            durations,
            objects: Arc::default(),
        }
    }

    /// Passes on what a watch shows to the controller.
    pub fn seen<K, S>(&self, objects: S) -> impl Stream<Item = watcher::Result<K>> + use<K, S>
    where
        K: Resource<DynamicType = ()>,
        S: Stream<Item = watcher::Result<K>>,
    {
        let reconciles = self.clone();
        objects.inspect_ok(move |object| reconciles.triggered(key(&ObjectRef::from_obj(object))))
    }

    /// Passes on what the operator itself wants reconciled to the controller.
    pub fn asked<K, S>(&self, triggers: S) -> impl Stream<Item = ObjectRef<K>> + use<K, S>
    where
        K: Resource<DynamicType = ()>,
        S: Stream<Item = ObjectRef<K>>,
    {
        let reconciles = self.clone();
        triggers.inspect(move |object| reconciles.triggered(key(object)))
    }

    /// Runs a reconcile of the object. How it ends counts if this process `acts` for the object: it
    /// does nothing for the others.
    pub async fn count<K, E>(
        &self,
        object: &K,
        acts: bool,
        reconcile: impl Future<Output = Result<Action, E>>,
    ) -> Result<Action, E>
    where
        K: Resource<DynamicType = ()>,
    {
        let began = Instant::now();
        let running = self.begin(key(&ObjectRef::from_obj(object)));
        let outcome = reconcile.await;
        drop(running);
        if acts {
            let result = match &outcome {
                Ok(action) if *action == Action::await_change() => "success",
                Ok(_) => "requeue",
                Err(_) => "error",
            };
            let resource = ("resource", self.resource.into());
            self.ended
                .get_or_create(&[resource.clone(), ("result", result.into())])
                .inc();
            self.durations
                .get_or_create(&[resource])
                .observe(began.elapsed().as_secs_f64());
        }
        outcome
    }

    /// Nothing comes of what was triggered: the object is gone.
    pub fn dropped<K: Lookup>(&self, object: &ObjectRef<K>) {
        self.update(&key(object), |entry| entry.next = None);
    }

    /// What waits and what runs now.
    #[must_use]
    pub fn queue(&self) -> Queue {
        let objects = self.objects.lock();
        let triggered = objects
            .values()
            .filter_map(|entry| entry.running.or(entry.next));
        let running = objects.values().filter(|entry| entry.running.is_some());
        Queue {
            depth: objects.len(),
            running: running.count(),
            oldest: triggered.min().map_or(Duration::ZERO, |at| at.elapsed()),
        }
    }

    fn triggered(&self, object: String) {
        let mut objects = self.objects.lock();
        let entry = objects.entry(object).or_default();
        entry.next.get_or_insert_with(Instant::now);
    }

    fn begin(&self, object: String) -> Running<'_> {
        let mut objects = self.objects.lock();
        let entry = objects.entry(object.clone()).or_default();
        entry.running = Some(entry.next.take().unwrap_or_else(Instant::now));
        Running {
            reconciles: self,
            object,
        }
    }

    fn update(&self, object: &str, change: impl FnOnce(&mut Entry)) {
        let mut objects = self.objects.lock();
        if let Some(entry) = objects.get_mut(object) {
            change(entry);
            if entry.running.is_none() && entry.next.is_none() {
                objects.remove(object);
            }
        }
    }
}

/// A reconcile under way, which may be given up.
struct Running<'a> {
    reconciles: &'a Reconciles,
    object: String,
}

impl Drop for Running<'_> {
    fn drop(&mut self) {
        self.reconciles
            .update(&self.object, |entry| entry.running = None);
    }
}

fn key<K: Lookup>(object: &ObjectRef<K>) -> String {
    let namespace = object.namespace.as_deref().unwrap_or_default();
    format!("{namespace}/{}", object.name)
}

#[cfg(test)]
mod tests {
    use k8s_openapi::api::core::v1::ConfigMap;

    use super::*;
    use crate::metrics::Metrics;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn an_object_waits_from_its_trigger_to_the_end_of_its_reconcile() {
        let reconciles = Metrics::default().org_invites;
        let queue = || {
            let queue = reconciles.queue();
            (queue.depth, queue.running, queue.oldest)
        };
        let trigger = |object: &str| reconciles.triggered(format!("/{object}"));
        assert_eq!(queue(), (0, 0, Duration::ZERO));
        trigger("a");
        tokio::time::advance(SECOND).await;
        trigger("a");
        trigger("b");
        assert_eq!(queue(), (2, 0, SECOND), "a trigger more is no object more");
        let running = reconciles.begin("/a".to_owned());
        tokio::time::advance(SECOND).await;
        trigger("a");
        tokio::time::advance(SECOND).await;
        assert_eq!(queue(), (2, 1, 3 * SECOND));
        drop(running);
        assert_eq!(queue(), (2, 0, 2 * SECOND), "a is to run again; b is older");
        reconciles.dropped(&ObjectRef::<ConfigMap>::new("b"));
        assert_eq!(queue(), (1, 0, SECOND));
        drop(reconciles.begin("/a".to_owned()));
        assert_eq!(queue(), (0, 0, Duration::ZERO));
    }

    #[tokio::test(start_paused = true)]
    async fn what_was_not_triggered_waits_from_its_beginning() {
        let reconciles = Metrics::default().org_invites;
        let running = reconciles.begin("/a".to_owned());
        tokio::time::advance(SECOND).await;
        reconciles.dropped(&ObjectRef::<ConfigMap>::new("a"));
        let queue = reconciles.queue();
        assert_eq!((queue.depth, queue.oldest), (1, SECOND));
        drop(running);
        assert_eq!(reconciles.queue().depth, 0);
    }

    #[tokio::test]
    async fn only_what_this_process_acts_for_counts() {
        let metrics = Metrics::default();
        let mut object = ConfigMap::default();
        object.metadata.name = Some("a".to_owned());
        let count = async |acts, outcome: Result<Action, &'static str>| {
            let reconcile = std::future::ready(outcome);
            metrics
                .organizations
                .count(&object, acts, reconcile)
                .await
                .ok();
        };
        count(true, Ok(Action::await_change())).await;
        count(true, Ok(Action::requeue(SECOND))).await;
        count(true, Ok(Action::requeue(SECOND))).await;
        count(true, Err("no")).await;
        count(false, Err("no")).await;
        let ended = |result: &'static str| {
            let labels = [
                ("resource", "Organization".into()),
                ("result", result.into()),
            ];
            metrics.reconciles.get_or_create(&labels).get()
        };
        assert_eq!(["success", "requeue", "error"].map(ended), [1, 2, 1]);
    }
}
