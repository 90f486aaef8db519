//! Leadership terms: only the leader calls Astro or writes.
//!
//! Everything that one term learned (who was written to and when, what is under way) belongs to the
//! [`Term`] and goes with it: rule 6 of the one-e-mail protocol.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::reconcile::context::Timing;
use crate::reconcile::memory::Memory;
use crate::resources::Address;

/// Whether this process leads, and since when.
///
/// A term is "the last successful renewal is less than the validity ago by this process's monotonic
/// clock, without a break". It is checked and not subscribed to: a process that was stopped for a
/// while finds at its next check that its term is over.
pub struct Leadership {
    validity: Option<Duration>,
    current: Mutex<Option<Reign>>,
}

struct Reign {
    term: Arc<Term>,
    renewed: Instant,
}

impl Leadership {
    /// Nobody leads yet; a term lasts for `validity` after each renewal, and without one for ever.
    #[must_use]
    pub fn new(validity: Option<Duration>) -> Self {
        Self {
            validity,
            current: Mutex::new(None),
        }
    }

    /// Leadership of a process that runs alone: one term, from now on.
    #[must_use]
    pub fn alone() -> Self {
        let leadership = Self::new(None);
        leadership.renew(Instant::now());
        leadership
    }

    /// A renewal succeeded whose request was sent at `sent`: the term goes on, or, when there is none
    /// or the last one ran out, a new one begins. Whether a new one began.
    pub fn renew(&self, sent: Instant) -> bool {
        let mut current = self.current.lock();
        if let Some(reign) = current.as_mut().filter(|reign| self.is_valid(reign)) {
            reign.renewed = reign.renewed.max(sent);
            return false;
        }
        let reign = Reign {
            term: Arc::new(Term {
                began: Instant::now(),
                memories: Mutex::default(),
            }),
            renewed: sent,
        };
        // A renewal that took longer than it is worth makes nobody leader.
        let begins = self.is_valid(&reign);
        *current = begins.then_some(reign);
        begins
    }

    /// Ends the term: somebody else leads, or this process gives leadership up.
    pub fn resign(&self) {
        *self.current.lock() = None;
    }

    /// The present term, if this process leads.
    #[must_use]
    pub fn term(&self) -> Option<Arc<Term>> {
        let mut current = self.current.lock();
        // A term that ran out does not come back.
        if current.as_ref().is_some_and(|reign| !self.is_valid(reign)) {
            *current = None;
        }
        current.as_ref().map(|reign| Arc::clone(&reign.term))
    }

    /// Whether `term` is still the present one, without a break: checked before an attempt's patch
    /// and again directly before each call that changes Astro.
    #[must_use]
    pub fn holds(&self, term: &Arc<Term>) -> bool {
        self.term()
            .is_some_and(|present| Arc::ptr_eq(&present, term))
    }

    fn is_valid(&self, reign: &Reign) -> bool {
        self.validity
            .is_none_or(|validity| reign.renewed.elapsed() < validity)
    }
}

/// Whoever holds the lock is the only one who plans and acts for the address.
pub type SharedMemory = Arc<tokio::sync::Mutex<Memory>>;

/// One uninterrupted term of leadership.
pub struct Term {
    /// When it began, by this process's monotonic clock.
    pub began: Instant,
    memories: Mutex<HashMap<(String, Address), SharedMemory>>,
}

impl Term {
    /// What this term did on an address of an organization.
    #[must_use]
    pub fn memory(&self, organization_id: &str, address: &Address) -> SharedMemory {
        Arc::clone(
            self.memories
                .lock()
                .entry((organization_id.to_owned(), address.clone()))
                .or_default(),
        )
    }

    /// Drops what is known of addresses of which nothing has to be known any longer.
    pub fn sweep(&self, timing: Timing) {
        self.memories.lock().retain(|_, memory| {
            // Whoever has a clone plans, or is about to.
            Arc::strong_count(memory) > 1
                || memory
                    .try_lock()
                    .is_ok_and(|memory| !memory.is_idle(timing))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_term_lasts_while_it_is_renewed_and_never_comes_back() {
        let leadership = Leadership::new(Some(Duration::from_secs(10)));
        assert!(leadership.term().is_none());
        assert!(leadership.renew(Instant::now()));
        let first = leadership.term().unwrap();
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(leadership.holds(&first));
        assert!(!leadership.renew(Instant::now()), "the same term goes on");
        tokio::time::advance(Duration::from_secs(9)).await;
        assert!(leadership.holds(&first));
        tokio::time::advance(Duration::from_secs(1)).await;
        assert!(!leadership.holds(&first), "it ran out");
        assert!(leadership.renew(Instant::now()), "a new one begins");
        assert!(!leadership.holds(&first), "which is another one");
        let second = leadership.term().unwrap();
        leadership.resign();
        assert!(!leadership.holds(&second));
    }

    #[tokio::test(start_paused = true)]
    async fn what_counts_is_when_the_renewal_was_sent() {
        let leadership = Leadership::new(Some(Duration::from_secs(10)));
        let sent = Instant::now();
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(!leadership.renew(sent));
        assert!(leadership.term().is_none());
    }
}
