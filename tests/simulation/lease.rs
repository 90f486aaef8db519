//! Who leads: a lease as the API server keeps it, and the candidate in each process.

use std::sync::Arc;
use std::time::Duration;

use orginvite_operator::leadership::Term;
use orginvite_operator::reconcile::context::Context;
use tokio::time::Instant;

use crate::network::{Answer, Call};
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
    /// Who cannot reach it.
    cut_off: Option<String>,
}

/// What trying for the lease comes to.
enum Held {
    Mine,
    /// Somebody else's, until that moment.
    Taken(Instant),
    Unreachable,
}

impl Lease {
    /// From now on `who` cannot reach the lease, or everybody can.
    pub fn cut_off(&mut self, who: Option<&str>) {
        self.cut_off = who.map(str::to_owned);
    }

    /// Takes or renews the lease for `who`, if nobody else has it.
    fn hold(&mut self, who: &str) -> Held {
        let now = Instant::now();
        if self.cut_off.as_deref() == Some(who) {
            return Held::Unreachable;
        }
        match &self.holder {
            Some((holder, renewed)) if holder != who && *renewed + DURATION > now => {
                Held::Taken(*renewed + DURATION)
            }
            _ => {
                self.holder = Some((who.to_owned(), now));
                Held::Mine
            }
        }
    }
}

/// Tries for the lease and keeps it, for ever; `begin` is told of each new term.
pub async fn campaign(
    world: Arc<World>,
    who: String,
    context: Arc<Context>,
    begin: impl Fn(Arc<Term>),
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
        let answered = matches!(fate.answer, Answer::After(_));
        match held {
            Held::Mine if answered => {}
            Held::Taken(until) if answered => {
                context.leadership.resign();
                tokio::time::sleep_until(until).await;
                continue;
            }
            _ => {
                tokio::time::sleep_until(next).await;
                continue;
            }
        }
        if let Some(term) = context.leadership.renew(sent) {
            world.with(|state| {
                state.log(format!("{who} begins a term"));
                state.count("terms");
            });
            begin(term);
        }
        tokio::time::sleep_until(next).await;
    }
}
