//! Who leads: a lease as the API server keeps it, and the candidate in each process.

use std::sync::Arc;
use std::time::Duration;

use orginvite_operator::reconcile::context::Context;
use tokio::time::Instant;

use crate::network::{Answer, Call};
use crate::process::ORGANIZATION;
use crate::world::World;

/// How long a lease holds after its renewal.
const DURATION: Duration = Duration::from_secs(30);
/// How long a term lasts after its renewal was sent: shorter than the lease.
pub const VALIDITY: Duration = Duration::from_secs(24);
/// How often a lease is renewed.
const RENEWAL: Duration = Duration::from_secs(8);

/// The lease.
#[derive(Default)]
pub struct Lease {
    holder: Option<(String, Instant)>,
}

impl Lease {
    /// Takes or renews the lease for `who`; when somebody else has it, until when.
    fn hold(&mut self, who: &str) -> Result<(), Instant> {
        let now = Instant::now();
        match &self.holder {
            Some((holder, renewed)) if holder != who && *renewed + DURATION > now => {
                Err(*renewed + DURATION)
            }
            _ => {
                self.holder = Some((who.to_owned(), now));
                Ok(())
            }
        }
    }
}

/// Tries for the lease and keeps it, for ever. Before a new term, `read` reads all objects
/// afresh and says whether it could.
pub async fn campaign<R: Future<Output = bool>>(
    world: Arc<World>,
    who: String,
    context: Arc<Context>,
    read: impl Fn() -> R,
) {
    loop {
        let sent = Instant::now();
        let fate = world.with(|state| state.fate(Call::Lease));
        let next = sent + RENEWAL;
        let Some(way) = fate.effect else {
            tokio::time::sleep_until(next).await;
            continue;
        };
        tokio::time::sleep(way).await;
        let held = world.with(|state| state.lease.hold(&who));
        if !matches!(fate.answer, Answer::After(_)) {
            tokio::time::sleep_until(next).await;
            continue;
        }
        if let Err(until) = held {
            context.leadership.resign();
            tokio::time::sleep_until(until).await;
            continue;
        }
        let known = context.leadership.term().is_some() || read().await;
        if known && context.leadership.renew(sent) {
            world.with(|state| {
                state.log(format!("{who} begins a term"));
                state.count("terms");
            });
            context.trigger_all_of(ORGANIZATION);
        }
        tokio::time::sleep_until(next).await;
    }
}
