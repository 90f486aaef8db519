//! One run's world: what is outside the operator, the clock, the dice and the trace.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use orginvite_operator::resources::organization::TokenStatus;
use parking_lot::Mutex;
use rand::SeedableRng as _;
use rand::rngs::Xoshiro256PlusPlus;
use tokio::sync::Notify;
use tokio::time::Instant;

use crate::SYNC_INTERVAL;
use crate::api_server::ApiServer;
use crate::lease::Lease;
use crate::ledger::Ledger;
use crate::network::{Network, Weather};
use crate::organization::{Habits, Organization};

/// How many lines a trace may have: a run that is busier than that goes in circles.
const LINES: usize = 40_000;

/// When every run begins.
const EPOCH: Timestamp = Timestamp::constant(1_767_225_600, 0);

/// One run's world. Whoever acts in it holds it for one moment only.
pub struct World {
    state: Mutex<State>,
    /// Told whenever something happened. It wakes in the order of asking, always the same.
    happened: Notify,
}

/// What is outside the operator.
pub struct State {
    pub dice: Xoshiro256PlusPlus,
    pub network: Network,
    pub api: ApiServer,
    pub astro: Organization,
    pub lease: Lease,
    /// How often a process reads the organization.
    pub sync_interval: Duration,
    pub ledger: Ledger,
    /// What the Organization's status keeps of the token.
    pub token: TokenStatus,
    /// How often each kind of thing happened.
    pub counts: BTreeMap<String, u32>,
    began: Instant,
    /// Grows whenever something happens.
    moment: u64,
    trace: Vec<String>,
    violation: Option<String>,
}

impl World {
    /// A world whose chance follows from `seed`.
    pub fn new(seed: u64, weather: Weather, habits: Habits) -> Arc<Self> {
        orginvite_operator::random::seed(seed);
        Arc::new(Self {
            state: Mutex::new(State {
                dice: Xoshiro256PlusPlus::seed_from_u64(seed),
                network: Network::new(weather),
                api: ApiServer::default(),
                astro: Organization::new(habits),
                lease: Lease::default(),
                sync_interval: SYNC_INTERVAL,
                ledger: Ledger::default(),
                token: TokenStatus::default(),
                counts: BTreeMap::new(),
                began: Instant::now(),
                moment: 0,
                trace: Vec::new(),
                violation: None,
            }),
            happened: Notify::new(),
        })
    }

    /// Looks at the world or changes it, and lets everybody look who waits for something.
    pub fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let before = state.moment;
        let answer = act(&mut state);
        if state.moment != before {
            self.happened.notify_waiters();
        }
        answer
    }

    /// Waits until something happened for which `holds`.
    pub async fn when(&self, mut holds: impl FnMut(&mut State) -> bool) {
        loop {
            let mut happened = std::pin::pin!(self.happened.notified());
            happened.as_mut().enable();
            if self.with(&mut holds) {
                return;
            }
            happened.await;
        }
    }

    /// Waits until `holds`, and fails the test when that does not come within `limit`.
    pub async fn until(&self, what: &str, limit: Duration, holds: impl FnMut(&mut State) -> bool) {
        assert!(
            tokio::time::timeout(limit, self.when(holds)).await.is_ok(),
            "{what} did not come within {limit:?}\n{}",
            self.trace()
        );
    }

    /// What happened, line by line.
    pub fn trace(&self) -> String {
        self.with(|state| state.trace.join("\n"))
    }

    /// The first promise that was broken.
    pub fn violation(&self) -> Option<String> {
        self.with(|state| state.violation.clone())
    }
}

impl State {
    /// Notes what happened.
    pub fn log(&mut self, line: impl AsRef<str>) {
        let time = self.began.elapsed().as_secs_f64();
        self.happens();
        self.trace.push(format!("{time:>10.3}  {}", line.as_ref()));
        if self.trace.len() == LINES {
            self.violate("the system goes in circles");
        }
    }

    /// Something happens that somebody may wait for.
    pub fn happens(&mut self) {
        self.moment += 1;
    }

    /// Counts one of a kind.
    pub fn count(&mut self, kind: impl Into<String>) {
        *self.counts.entry(kind.into()).or_default() += 1;
    }

    /// How often that happened.
    pub fn counted(&self, kind: &str) -> u32 {
        self.counts.get(kind).copied().unwrap_or_default()
    }

    /// A promise is broken.
    pub fn violate(&mut self, what: impl Into<String>) {
        let what = what.into();
        if self.violation.is_none() {
            self.violation = Some(what.clone());
        }
        self.log(format!("BROKEN: {what}"));
    }

    /// The cluster's clock.
    pub fn now(&self) -> Timestamp {
        EPOCH + self.began.elapsed()
    }

    /// Astro's clock, which may jump.
    pub fn astro_now(&self) -> Timestamp {
        self.now() + self.astro.clock_offset
    }
}
