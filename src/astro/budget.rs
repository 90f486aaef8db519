//! How many calls a token may make: one lane for each verb, places in line that are kept.

use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Waits;

/// What a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Creating an invite.
    Post,
    /// Deleting an invite.
    Delete,
    /// Reading anything.
    Get,
}

/// Calls a second for each verb.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// POST a second.
    pub post: u32,
    /// DELETE a second.
    pub delete: u32,
    /// GET a second.
    pub get: u32,
}

impl Default for Rates {
    /// The published limits of one token: POST 10/s, DELETE 5/s, GET 25/s.
    fn default() -> Self {
        Self {
            post: 10,
            delete: 5,
            get: 25,
        }
    }
}

/// The calls that one token may make. It starts empty: no burst after a restart.
#[derive(Debug)]
pub struct Budget {
    lanes: Mutex<[Lane; 3]>,
    waits: Waits,
}

#[derive(Debug)]
struct Lane {
    spacing: Duration,
    next: Instant,
    /// Who waits for which moment.
    places: HashMap<String, Instant>,
}

impl Budget {
    /// A budget of `rates`.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        let lane = |rate: u32| Lane {
            spacing: Duration::from_secs(1) / rate.max(1),
            next: Instant::now(),
            places: HashMap::new(),
        };
        Self {
            lanes: Mutex::new([lane(rates.post), lane(rates.delete), lane(rates.get)]),
            waits: Waits::default(),
        }
    }

    /// The same budget, whose waits are counted in `waits`.
    #[must_use]
    pub fn counted_in(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Who waits, and for how long.
    #[must_use]
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Takes a permit for `who`, or tells the time of its place in line. The place is kept: asking
    /// again at that time gets the permit.
    pub fn take(&self, verb: Verb, who: &str) -> Result<(), Instant> {
        let answer = self.ask(verb, who);
        self.waits.asked(verb, who, answer);
        answer
    }

    fn ask(&self, verb: Verb, who: &str) -> Result<(), Instant> {
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
        let lane = &mut lanes[verb as usize];
        if let Some(at) = lane.places.get(who).copied() {
            if at > now {
                return Err(at);
            }
            lane.places.remove(who);
            return Ok(());
        }
        let at = lane.next.max(now);
        lane.next = at + lane.spacing;
        if at <= now {
            return Ok(());
        }
        lane.places.insert(who.to_owned(), at);
        Err(at)
    }

    /// Takes a permit, waiting for it: for the directory, which nothing waits behind.
    pub async fn wait(&self, verb: Verb, who: &str) {
        while let Err(at) = self.take(verb, who) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Astro answered 429: nobody with this token makes such a call before `pause` is over.
    pub fn pause(&self, verb: Verb, pause: Duration) {
        let until = Instant::now() + pause;
        let mut lanes = self.lanes.lock();
        let lane = &mut lanes[verb as usize];
        // Everybody keeps the order, moved behind the pause.
        let first = lane.places.values().min().copied();
        if let Some(shift) = first.and_then(|first| until.checked_duration_since(first)) {
            for at in lane.places.values_mut() {
                *at += shift;
            }
            lane.next += shift;
        }
        lane.next = lane.next.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn places_are_kept_and_spaced() {
        let budget = Budget::new(Rates {
            post: 10,
            delete: 5,
            get: 25,
        });
        let start = Instant::now();
        assert_eq!(budget.take(Verb::Post, "a"), Ok(()));
        assert_eq!(
            budget.take(Verb::Post, "b"),
            Err(start + Duration::from_millis(100))
        );
        assert_eq!(
            budget.take(Verb::Post, "c"),
            Err(start + Duration::from_millis(200))
        );
        assert_eq!(
            budget.take(Verb::Post, "b"),
            Err(start + Duration::from_millis(100))
        );
        assert_eq!(budget.take(Verb::Delete, "a"), Ok(()));
        tokio::time::advance(Duration::from_millis(100)).await;
        assert_eq!(
            budget.take(Verb::Post, "c"),
            Err(start + Duration::from_millis(200))
        );
        assert_eq!(budget.take(Verb::Post, "b"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_in_order() {
        let budget = Budget::new(Rates::default());
        let start = Instant::now();
        assert_eq!(budget.take(Verb::Post, "a"), Ok(()));
        assert!(budget.take(Verb::Post, "b").is_err());
        budget.pause(Verb::Post, Duration::from_secs(3));
        assert_eq!(
            budget.take(Verb::Post, "b"),
            Err(start + Duration::from_secs(3))
        );
        assert_eq!(
            budget.take(Verb::Post, "c"),
            Err(start + Duration::from_millis(3100))
        );
    }
}
