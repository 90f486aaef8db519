//! Leadership terms: only the leader calls Astro or writes.
//!
//! Everything that one term learned (who was written to and when, what is under way, whom the
//! organization has) belongs to the [`Term`] and goes with it: rule 6 of the one-e-mail protocol.

pub mod fence;
pub mod lease;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use parking_lot::{Mutex, RwLock};
use tokio::time::Instant;

use crate::reconcile::connection::Link;
use crate::reconcile::context::Timing;
use crate::reconcile::memory::Memory;
use crate::resources::Address;

/// Whether this process leads, and since when.
///
/// A term is "the last successful renewal is less than the validity ago by this process's monotonic
/// clock, without a break". It is checked and not subscribed to: a process that was stopped for a
/// while finds at its next check that its term is over.
pub struct Leadership {
    validity: Duration,
    current: Mutex<Option<Reign>>,
}

struct Reign {
    term: Arc<Term>,
    renewed: Instant,
}

impl Leadership {
    /// Nobody leads yet; a term lasts for `validity` after each renewal.
    #[must_use]
    pub fn new(validity: Duration) -> Self {
        Self {
            validity,
            current: Mutex::new(None),
        }
    }

    /// A renewal succeeded whose request was sent at `sent`: the term goes on, or, when there is none
    /// or the last one ran out, a new one begins and is returned.
    pub fn renew(&self, sent: Instant) -> Option<Arc<Term>> {
        let mut current = self.current.lock();
        if let Some(reign) = current.as_mut().filter(|reign| self.is_valid(reign)) {
            reign.renewed = reign.renewed.max(sent);
            return None;
        }
        let reign = Reign {
            term: Arc::new(Term::begin()),
            renewed: sent,
        };
        // A renewal that took longer than it is worth makes nobody leader.
        let begun = self.is_valid(&reign).then(|| Arc::clone(&reign.term));
        *current = begun.is_some().then_some(reign);
        begun
    }

    /// Ends the term: somebody else leads, or this process gives leadership up.
    pub fn resign(&self) {
        self.current.lock().take();
    }

    /// The present term, if this process leads and the term's caches are new enough to plan from.
    #[must_use]
    pub fn term(&self) -> Option<Arc<Term>> {
        self.present().filter(|term| term.is_open())
    }

    /// Whether `term` is still the present one, without a break: checked before an attempt's patch
    /// and again directly before each call that changes Astro.
    #[must_use]
    pub fn holds(&self, term: &Arc<Term>) -> bool {
        self.present()
            .is_some_and(|present| Arc::ptr_eq(&present, term))
    }

    /// Whether this process leads, from the moment that it has the lease.
    #[must_use]
    pub fn leads(&self) -> bool {
        self.present().is_some()
    }

    /// When the present term runs out unless it is renewed.
    #[must_use]
    pub fn ends_at(&self) -> Option<Instant> {
        let current = self.current.lock();
        current.as_ref().map(|reign| reign.renewed + self.validity)
    }

    fn present(&self) -> Option<Arc<Term>> {
        let mut current = self.current.lock();
        // A term that ran out does not come back.
        if current.as_ref().is_some_and(|reign| !self.is_valid(reign)) {
            *current = None;
        }
        current.as_ref().map(|reign| Arc::clone(&reign.term))
    }

    fn is_valid(&self, reign: &Reign) -> bool {
        reign.renewed.elapsed() < self.validity
    }
}

/// Whoever holds the lock is the only one who plans and acts for the address.
pub type SharedMemory = Arc<tokio::sync::Mutex<Memory>>;

/// One uninterrupted term of leadership.
pub struct Term {
    /// When it began, by this process's monotonic clock.
    pub began: Instant,
    /// Connections by the Organization's name: an earlier term's directory says nothing.
    pub links: RwLock<HashMap<String, Link>>,
    memories: Mutex<HashMap<(String, Address), SharedMemory>>,
    /// When the token of an Organization could not be read for the first time.
    failures: Mutex<HashMap<String, Instant>>,
    open: AtomicBool,
}

impl Term {
    fn begin() -> Self {
        Self {
            began: Instant::now(),
            links: RwLock::default(),
            memories: Mutex::default(),
            failures: Mutex::default(),
            open: AtomicBool::new(false),
        }
    }

    /// Something failed for the Organization: whether the first time of it is less than `lately` ago.
    pub fn is_first_failure(&self, organization: &str, lately: Duration) -> bool {
        let mut failures = self.failures.lock();
        let first = failures.entry(organization.to_owned());
        first.or_insert_with(Instant::now).elapsed() < lately
    }

    /// The caches are new enough: from here on it may be planned.
    pub fn open(&self) {
        self.open.store(true, Ordering::Release);
    }

    fn is_open(&self) -> bool {
        self.open.load(Ordering::Acquire)
    }

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

    /// The end of this term's last call on an address, in whatever organization: for an object whose Organization is
    /// gone nobody knows which. Waits for the turn that is under way on the address.
    pub async fn last_call(&self, address: &Address) -> Option<Instant> {
        let memories: Vec<SharedMemory> = self
            .memories
            .lock()
            .iter()
            .filter(|((_, of), _)| of == address)
            .map(|(_, memory)| Arc::clone(memory))
            .collect();
        let mut last = None;
        for memory in memories {
            last = last.max(memory.lock().await.last_call);
        }
        last
    }

    /// Drops what is known of an address, if nothing has to be known any longer.
    pub fn forget_idle(&self, organization_id: &str, address: &Address, timing: Timing) {
        let key = (organization_id.to_owned(), address.clone());
        let looked = self.looked(organization_id);
        let mut memories = self.memories.lock();
        if memories
            .get(&key)
            .is_some_and(|memory| is_unused(memory, |memory| memory.is_idle(timing, looked)))
        {
            memories.remove(&key);
        }
    }

    /// Drops what is known of all addresses of which nothing has to be known any longer. `claimed` tells whether
    /// there is an object for an address of an organization.
    pub fn sweep(&self, timing: Timing, claimed: impl Fn(&str, &Address) -> bool) {
        let mut looked = HashMap::new();
        self.memories
            .lock()
            .retain(|(organization_id, address), memory| {
                let looked = *looked
                    .entry(organization_id.clone())
                    .or_insert_with(|| self.looked(organization_id));
                let over = |memory: &Memory| {
                    memory.is_over(timing, looked) && !claimed(organization_id, address)
                };
                !is_unused(memory, |memory| {
                    memory.is_idle(timing, looked) || over(memory)
                })
            });
    }

    /// When the oldest pass began that an organization's addresses are planned from; `None` when there is none.
    fn looked(&self, organization_id: &str) -> Option<Instant> {
        let links = self.links.read();
        let connections = links.values().filter_map(|link| match link {
            Link::Up(connection) => Some(connection),
            _ => None,
        });
        connections
            .filter(|connection| connection.organization_id == organization_id)
            .filter_map(|connection| connection.directory.begun())
            .min()
    }
}

/// Whether nobody needs the memory. Whoever has a clone of it plans, or is about to.
fn is_unused(memory: &SharedMemory, forgettable: impl Fn(&Memory) -> bool) -> bool {
    Arc::strong_count(memory) == 1 && memory.try_lock().is_ok_and(|memory| forgettable(&memory))
}
