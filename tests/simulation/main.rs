//! What the operator promises, under schedules that a real cluster shows once in a year.
//!
//! The operator's own code (reconcile, plan, act, report, directory, budget, leadership) runs over an
//! API server and an Astro in memory, on a clock that only moves when everybody waits. Delays, lost
//! answers, crashes, pauses and what people do follow from one number, the seed: the same seed is the
//! same run. A failing run prints its seed and what happened; `SIMULATION_SEED=n` runs that one alone
//! and `SIMULATION_RUNS=n` so many of each kind.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::struct_excessive_bools,
    clippy::unnecessary_wraps,
    clippy::unused_async,
    reason = "a case is as wide as the facts, and calls look like those that they stand for"
)]

mod api_server;
mod astro_calls;
mod controller;
mod counterexamples;
mod findings;
mod history;
mod kube_calls;
mod lease;
mod ledger;
mod network;
mod organization;
mod process;
mod random_histories;
mod settled;
mod stage;
mod tasks;
mod users;
mod watch;
mod world;

use std::time::Duration;

/// How long Astro's list may lag behind a call.
const LISTING_DELAY: Duration = Duration::from_secs(10);
/// How long a request may be on its way: until then it takes effect or never.
const DEADLINE: Duration = Duration::from_secs(15);
/// Longer than a request's deadline, the lease and the listing delay together.
const SETTLE: Duration = Duration::from_secs(90);
/// How far apart e-mails to one address are at least.
const SPACING: Duration = Duration::from_mins(2);
/// How often the organization is read without being asked.
const SYNC_INTERVAL: Duration = Duration::from_mins(5);
/// How long an invitation can be accepted.
const LIFETIME: Duration = Duration::from_mins(15);
