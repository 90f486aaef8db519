//! Leadership terms: only the leader calls Astro or writes.
//!
//! Everything that one term learned (who was written to and when, what is under way) belongs to the
//! [`Term`] and goes with it: rule 6 of the one-e-mail protocol.

use std::collections::HashMap;
use std::sync::Arc;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::reconcile::memory::Memory;
use crate::resources::Address;

/// Whether this process leads, and since when.
pub struct Leadership {
    term: Arc<Term>,
}

impl Leadership {
    /// Leadership of a process that runs alone: one term, from now on.
    #[must_use]
    pub fn alone() -> Self {
        Self {
            term: Arc::new(Term {
                began: Instant::now(),
                memories: Mutex::default(),
            }),
        }
    }

    /// The present term, if this process leads.
    #[must_use]
    #[allow(
        clippy::unnecessary_wraps,
        reason = "a process that stands by has none"
    )]
    pub fn term(&self) -> Option<Arc<Term>> {
        Some(Arc::clone(&self.term))
    }

    /// Whether `term` is still the present one, without a break: checked before an attempt's patch
    /// and again directly before each call that changes Astro.
    #[must_use]
    pub fn holds(&self, term: &Arc<Term>) -> bool {
        Arc::ptr_eq(&self.term, term)
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
}
