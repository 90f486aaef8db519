//! Somebody who watches the objects and notes when each of them became what.

use std::collections::HashMap;
use std::pin::pin;
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};
use futures::TryStreamExt as _;
use kube::runtime::watcher::{self, Event};
use kube::{Api, ResourceExt as _};
use tokio::sync::watch;
use tokio::task::JoinHandle;

use super::world::{Invite, World};

/// How long nothing may happen before a scenario fails.
const STALLED: Duration = Duration::from_mins(2);

/// When each object became what, as the watch told.
#[derive(Clone, Debug, Default)]
pub struct Seen {
    /// First Ready.
    pub ready: HashMap<String, Instant>,
    /// First Accepted.
    pub accepted: HashMap<String, Instant>,
    /// First Stalled.
    pub stalled: HashMap<String, Instant>,
    /// Gone.
    pub gone: HashMap<String, Instant>,
    /// How many events there were.
    events: usize,
}

/// A watch on a world's objects.
pub struct Witness {
    seen: watch::Receiver<Seen>,
    task: JoinHandle<()>,
}

impl Witness {
    /// Begins to watch, and is told of all there is.
    pub async fn of(world: &World) -> anyhow::Result<Self> {
        Self::of_these(world.invites()).await
    }

    /// The same in that API's namespace.
    pub async fn of_these(api: Api<Invite>) -> anyhow::Result<Self> {
        let (sender, seen) = watch::channel(Seen::default());
        let (begun, mut has_begun) = watch::channel(false);
        let events = kube::runtime::watcher(api, watcher::Config::default());
        let task = tokio::spawn(async move {
            let mut events = pin!(events);
            while let Ok(Some(event)) = events.try_next().await {
                let now = Instant::now();
                match event {
                    Event::Apply(object) | Event::InitApply(object) => {
                        sender.send_modify(|seen| seen.note(&object, now));
                    }
                    Event::Delete(object) => sender.send_modify(|seen| {
                        seen.gone.insert(object.name_any(), now);
                        seen.events += 1;
                    }),
                    Event::Init => {}
                    Event::InitDone => {
                        begun.send_replace(true);
                    }
                }
            }
        });
        has_begun
            .wait_for(|begun| *begun)
            .await
            .context("the objects cannot be watched")?;
        Ok(Self { seen, task })
    }

    /// Waits until `done`, as long as something happens now and then.
    pub async fn until(
        &mut self,
        what: &str,
        world: &World,
        done: impl Fn(&Seen) -> bool,
    ) -> anyhow::Result<Seen> {
        loop {
            {
                let seen = self.seen.borrow_and_update();
                if done(&seen) {
                    return Ok(seen.clone());
                }
            }
            match tokio::time::timeout(STALLED, self.seen.changed()).await {
                Ok(changed) => changed.context("the watch on the objects ended")?,
                Err(_) => bail!(
                    "nothing happened for {STALLED:?}, and not yet: {what}; {}",
                    world.last_words()
                ),
            }
        }
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Seen {
    fn note(&mut self, object: &Invite, now: Instant) {
        self.events += 1;
        let is_true = |kind: &str| {
            let conditions = object.status.iter().flat_map(|status| &status.conditions);
            let mut conditions = conditions.filter(|condition| condition.kind == kind);
            conditions.any(|condition| condition.status == "True")
        };
        if is_true("Ready") {
            self.ready.entry(object.name_any()).or_insert(now);
        }
        if is_true("Stalled") {
            self.stalled.entry(object.name_any()).or_insert(now);
        }
        if is_true("Accepted") {
            self.accepted.entry(object.name_any()).or_insert(now);
        }
    }
}
