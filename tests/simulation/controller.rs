//! Which object is reconciled when: triggers, requeues, one reconcile at a time for each object.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use kube::runtime::controller::Action;
use kube::runtime::reflector::ObjectRef;
use orginvite_operator::astro::directory::backoff;
use orginvite_operator::reconcile::context::Context;
use orginvite_operator::reconcile::org_invite::reconcile;
use orginvite_operator::resources::OrgInvite;
use tokio::sync::mpsc;
use tokio::time::Instant;

use crate::api_server::{Key, key_of};
use crate::tasks::Tasks;
use crate::world::{State, World};

/// How long a trigger may wait for its turn.
const QUEUE: Duration = Duration::from_millis(200);

/// Reconciles for ever.
pub async fn run(
    world: Arc<World>,
    context: Arc<Context>,
    tasks: Tasks,
    mut triggers: mpsc::UnboundedReceiver<ObjectRef<OrgInvite>>,
) {
    let (end, mut ended) = mpsc::unbounded_channel::<(Key, Action)>();
    let mut due: BTreeMap<Key, Instant> = BTreeMap::new();
    let mut running: BTreeSet<Key> = BTreeSet::new();
    loop {
        let now = Instant::now();
        let ready: Vec<Key> = due
            .iter()
            .filter(|(key, at)| **at <= now && !running.contains(*key))
            .map(|(key, _)| key.clone())
            .collect();
        for key in ready {
            due.remove(&key);
            let reference = ObjectRef::new(&key.1).within(&key.0);
            let Some(object) = context.invites.get(&reference) else {
                continue;
            };
            running.insert(key.clone());
            let (context, end) = (Arc::clone(&context), end.clone());
            tasks.spawn(async move {
                let action = Box::pin(reconcile(object, context)).await;
                // As the operator's wiring does it.
                let action = action.unwrap_or_else(|_| Action::requeue(backoff(4)));
                end.send((key, action)).ok();
            });
        }
        let next = due
            .iter()
            .filter(|(key, _)| !running.contains(*key))
            .map(|(_, at)| *at)
            .min();
        let mut wanted: BTreeMap<Key, Duration> = BTreeMap::new();
        tokio::select! { biased;
            Some(trigger) = triggers.recv() => {
                wanted.insert(key_of(&trigger), Duration::ZERO);
                // Several come at once and in no order: they are taken in one.
                while let Ok(trigger) = triggers.try_recv() {
                    wanted.insert(key_of(&trigger), Duration::ZERO);
                }
                for wait in wanted.values_mut() {
                    *wait = world.with(super::world::State::queue);
                }
            }
            Some((key, action)) = ended.recv() => {
                running.remove(&key);
                if let Some(wait) = requeued(&action) {
                    wanted.insert(key, wait);
                }
            }
            () = sleep_until(next) => {}
        }
        for (key, wait) in wanted {
            let at = Instant::now() + wait;
            let slot = due.entry(key).or_insert(at);
            *slot = at.min(*slot);
        }
    }
}

impl State {
    /// How long a trigger waits this time.
    fn queue(&mut self) -> Duration {
        if self.network.weather.exact {
            Duration::ZERO
        } else {
            self.some(QUEUE)
        }
    }
}

async fn sleep_until(at: Option<Instant>) {
    match at {
        Some(at) => tokio::time::sleep_until(at).await,
        None => std::future::pending().await,
    }
}

/// How long until an action asks for another turn. kube shows that only in its debug text.
fn requeued(action: &Action) -> Option<Duration> {
    let text = format!("{action:?}");
    let wait = text
        .split_once("Some(")?
        .1
        .trim_end_matches([')', ' ', '}']);
    let wait: SignedDuration = wait.parse().unwrap();
    Some(wait.try_into().unwrap())
}

#[test]
fn requeues_are_read() {
    for wait in [0, 1, 999, 50_000_000, 1_234_567_891, 300_000_000_000] {
        let wait = Duration::from_nanos(wait);
        assert_eq!(requeued(&Action::requeue(wait)), Some(wait));
    }
    assert_eq!(requeued(&Action::await_change()), None);
}
