//! Everything goes wrong at once, as drawn from a seed, on real processes: several operators, a kube-apiserver with
//! etcd and a fake of Astro. At the end one judge compares what everybody did with what there is.
//!
//! A seed gives the same schedule again: which fault comes when, and who does what when. What processes do in
//! between is theirs.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "../cluster/cable.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod cable;
mod faults;
mod judge;
#[path = "../cluster/kstatus.rs"]
mod kstatus;
mod objections;
mod people;
mod process;
mod run;
mod schedule;
mod stage;
mod witness;

use std::time::Duration;

use schedule::Plan;

/// Each kind of fault once.
#[tokio::test(flavor = "multi_thread")]
async fn each_fault_once() {
    run::run(&Plan::short(20_261_124)).await;
}

/// `SEED`, `MINUTES` and `PEOPLE` from the environment; with `SOAK=1` no process is killed or restarted, so
/// that what it holds can be compared.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "takes minutes: make chaos"]
async fn minutes() {
    let number = |name: &str| -> Option<u64> {
        let text = std::env::var(name).ok().filter(|text| !text.is_empty())?;
        Some(
            text.parse()
                .unwrap_or_else(|_| panic!("{name} is no number: {text}")),
        )
    };
    run::run(&Plan {
        seed: number("SEED").unwrap_or_else(|| u64::from(rand::random::<u32>())),
        length: Duration::from_secs(60 * number("MINUTES").unwrap_or(5)),
        people: usize::try_from(number("PEOPLE").unwrap_or(300)).unwrap(),
        soak: number("SOAK") == Some(1),
    })
    .await;
}
