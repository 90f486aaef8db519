//! The people of one organization, by address: who is a member and who is pending with which invites.
//!
//! One task reads the whole organization again and again, so that watching N people costs N/100
//! calls an interval, and as many again for those who are pending, and not N.

mod loss;
mod pass;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;
use parking_lot::{Mutex, RwLock};
use rand::RngExt as _;
use tokio::sync::Notify;
use tokio::time::Instant;
use tracing::Instrument as _;

pub use loss::Loss;

use super::budget::Budget;
use super::{Astro, Error, Refusal, Role, Subject, is_over};
use crate::metrics::OrganizationMetrics;
use crate::random;
use crate::resources::Address;

/// How long the delay after failures grows at most.
const LONGEST: Duration = Duration::from_mins(5);
/// How long it may grow however often the organization is read.
const RETRY: Duration = Duration::from_secs(10);

/// A person of the organization.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Person {
    /// A member.
    Member {
        /// ID of the user.
        user_id: String,
        /// Present role.
        role: Option<Role>,
    },
    /// Invited; the latest expiry first, never empty.
    Pending {
        /// The invites.
        invites: Vec<Pending>,
        /// The role of the row; whether pending rows have one is not known.
        role: Option<Role>,
    },
    /// Inactive, banned, or of a status that this version does not know.
    Barred,
    /// Invited, but the row shows no invite.
    Unidentified,
}

impl Person {
    /// Whether an invite was over after `since` and by `now`: nothing in the row says so, and the timers of this
    /// process stand still while its machine does.
    fn ended(&self, since: Option<Timestamp>, now: Timestamp) -> bool {
        let Self::Pending { invites, .. } = self else {
            return false;
        };
        let over = |at| {
            invites
                .iter()
                .filter(|one| is_over(one.expires_at, at))
                .count()
        };
        over(now) > since.map_or(0, over)
    }
}

/// A pending invite, as far as a plan is made from it: there may be thousands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pending {
    /// ID of the invite.
    pub id: Box<str>,
    /// When it expires; `None` when Astro's text is no time that we can read.
    pub expires_at: Option<Timestamp>,
    /// Who sent it: mostly one for all.
    pub inviter: Option<Arc<Subject>>,
}

/// What one complete pass saw.
#[derive(Debug)]
struct Snapshot {
    /// When its first request was sent: nothing that it says is younger.
    begun: Instant,
    /// When its last answer was there.
    ended: Instant,
    people: HashMap<Address, Person>,
    /// From when on a pass has to begin to tell that somebody is not there: a listing delay after the first one ended,
    /// which cannot tell who was pending before.
    tells_from: Instant,
    /// Who was pending and is in neither list now: someone who accepts may be so until the list of everybody
    /// shows it. No pass that begins before the given time is believed in that.
    between: HashMap<Address, Instant>,
}

/// What the directory says of an address.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum View {
    /// No complete pass yet.
    Nothing,
    /// The last pass failed, and why.
    Unreadable(String),
    /// The token may not list users: nobody can look.
    Blind {
        /// When the last pass began that Astro itself refused so.
        begun: Instant,
    },
    /// What the last complete pass saw.
    Seen {
        /// When that pass began.
        begun: Instant,
        /// The person, or nobody.
        person: Option<Person>,
        /// The first pass, or soon after it: of whoever is in neither list it cannot tell whether the person just
        /// accepted.
        early: bool,
        /// Nobody, and it may be that the person just accepted: a later pass tells.
        between: bool,
    },
}

/// How reading goes.
#[derive(Clone, Debug)]
pub enum Health {
    /// The first pass is under way.
    Starting,
    /// The last pass was complete.
    Complete,
    /// Astro itself says that the token may not list users: its word, and when the pass that it refused began.
    Forbidden(Error, Instant),
    /// The last pass failed.
    Failing(Error),
}

impl Health {
    /// Whether objects may be planned: by what a pass shows, or without looking.
    #[must_use]
    pub fn works(&self) -> bool {
        matches!(self, Self::Complete | Self::Forbidden(..))
    }
}

/// What the directory tells its owner.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum News {
    /// What is known of these addresses changed, or somebody waited for this pass.
    Addresses(Vec<Address>),
    /// The first complete pass is done: everything may be planned now.
    Everything,
    /// A pass ended, well or not.
    Health,
}

type Waiting = BTreeMap<Instant, HashSet<Address>>;

/// The people of one organization.
pub struct Directory {
    astro: Arc<dyn Astro>,
    budget: Arc<Budget>,
    listing_delay: Duration,
    interval: RwLock<Duration>,
    state: RwLock<State>,
    /// Who waits for a pass that begins at that moment or later: passes are begun for them.
    wanted: Mutex<Waiting>,
    /// Who has time until a pass that begins at that moment or later comes by itself.
    expected: Mutex<Waiting>,
    /// Whose invitations we took back ourselves, and when: they are not missed.
    taken_back: Mutex<HashMap<Address, Instant>>,
    wake: Notify,
    metrics: OrganizationMetrics,
}

struct State {
    snapshot: Option<Arc<Snapshot>>,
    health: Health,
    loss: Option<Loss>,
    /// When the last complete pass ended.
    synced: Option<Timestamp>,
}

impl Directory {
    /// A directory that knows nothing yet.
    #[must_use]
    pub fn new(
        astro: Arc<dyn Astro>,
        budget: Arc<Budget>,
        listing_delay: Duration,
        interval: Duration,
    ) -> Self {
        Self {
            astro,
            budget,
            listing_delay,
            interval: RwLock::new(interval),
            state: RwLock::new(State {
                snapshot: None,
                health: Health::Starting,
                loss: None,
                synced: None,
            }),
            wanted: Mutex::default(),
            expected: Mutex::default(),
            taken_back: Mutex::default(),
            wake: Notify::new(),
            metrics: OrganizationMetrics::default(),
        }
    }

    /// The same directory, whose passes are counted in `metrics`.
    #[must_use]
    pub fn counted_in(self, metrics: OrganizationMetrics) -> Self {
        Self { metrics, ..self }
    }

    /// What is counted of the organization.
    #[must_use]
    pub fn metrics(&self) -> &OrganizationMetrics {
        &self.metrics
    }

    /// What is known of an address.
    #[must_use]
    pub fn view(&self, address: &Address) -> View {
        let state = self.state.read();
        match &state.health {
            Health::Failing(error) => return View::Unreadable(error.summary()),
            Health::Forbidden(_, begun) => return View::Blind { begun: *begun },
            Health::Starting | Health::Complete => {}
        }
        match &state.snapshot {
            None => View::Nothing,
            Some(snapshot) => View::Seen {
                begun: snapshot.begun,
                person: snapshot.people.get(address).cloned(),
                early: snapshot.begun < snapshot.tells_from,
                between: snapshot.between.contains_key(address),
            },
        }
    }

    /// When the last complete pass began; `None` before the first one, and where nobody may look.
    #[must_use]
    pub fn begun(&self) -> Option<Instant> {
        let state = self.state.read();
        state.snapshot.as_ref().map(|snapshot| snapshot.begun)
    }

    /// How reading goes.
    #[must_use]
    pub fn health(&self) -> Health {
        self.state.read().health.clone()
    }

    /// Whether more people went at once than is believed.
    #[must_use]
    pub fn loss(&self) -> Option<Loss> {
        self.state.read().loss.clone()
    }

    /// When the last complete pass ended, by Astro's clock.
    #[must_use]
    pub fn synced(&self) -> Option<Timestamp> {
        self.state.read().synced
    }

    /// How long ago the last complete pass ended.
    #[must_use]
    pub fn age(&self) -> Duration {
        let state = self.state.read();
        let ended = state.snapshot.as_ref().map(|snapshot| snapshot.ended);
        ended.map_or(Duration::MAX, |ended| ended.elapsed())
    }

    /// A person says that the people who are missing did go.
    pub fn acknowledge_loss(&self) {
        self.state.write().loss = None;
    }

    /// Astro's clock; before its first answer, this machine's.
    #[must_use]
    pub fn now(&self) -> Timestamp {
        self.astro.server_time().unwrap_or_else(Timestamp::now)
    }

    /// We took an invitation of that person back, or may have: by `at` at the latest.
    pub fn took_back(&self, address: Address, at: Instant) {
        self.taken_back.lock().insert(address, at);
    }

    /// How often the organization is read.
    #[must_use]
    pub fn interval(&self) -> Duration {
        *self.interval.read()
    }

    /// Astro refused the token elsewhere: nobody uses it until a pass shows that it is good.
    pub fn reject(&self, refusal: Refusal) {
        self.state.write().health = Health::Failing(Error::Refused(refusal));
        self.wanted.lock().entry(Instant::now()).or_default();
        self.wake.notify_one();
    }

    /// Asks for news of `address` once a pass that began at `from` or later is complete, or refused by Astro itself.
    pub fn want(&self, from: Instant, address: Address) {
        self.wanted.lock().entry(from).or_default().insert(address);
        self.wake.notify_one();
    }

    /// Asks for news of `address` after the first pass that begins at `from` or later and does not fail, whenever that is:
    /// what a pass never showed changes unseen.
    pub fn expect(&self, from: Instant, address: Address) {
        self.expected
            .lock()
            .entry(from)
            .or_default()
            .insert(address);
    }

    /// Changes how often the organization is read.
    pub fn set_interval(&self, interval: Duration) {
        *self.interval.write() = interval;
        self.wake.notify_one();
    }

    /// Reads the organization for ever. `known` tells who is recorded as invited or a member: what the
    /// first pass is compared with.
    pub async fn run(
        &self,
        known: impl Fn() -> HashSet<Address> + Send + Sync,
        tell: impl Fn(News) + Send + Sync,
    ) {
        let mut failures = 0;
        loop {
            let begun = Instant::now();
            match self.counted_pass(begun).await {
                Ok(people) => {
                    failures = 0;
                    self.publish(begun, people, &known, &tell);
                }
                Err(error) if error.says_forbidden() => {
                    failures = 0;
                    self.close_eyes(begun, error, &tell);
                }
                Err(error) => {
                    failures += 1;
                    tracing::warn!(%error, failures, "the organization cannot be read");
                    self.state.write().health = Health::Failing(error);
                    tell(News::Health);
                    if failures == 1 {
                        // They stay in line: the next pass that does not fail tells them again.
                        let waiting: Vec<Address> =
                            self.wanted.lock().values().flatten().cloned().collect();
                        tell(News::Addresses(waiting));
                    }
                }
            }
            self.rest(begun, failures).await;
        }
    }

    /// The token may not list users. What was seen before is not believed any longer.
    fn close_eyes(&self, begun: Instant, error: Error, tell: &impl Fn(News)) {
        let before = {
            let mut state = self.state.write();
            state.snapshot = None;
            state.loss = None;
            std::mem::replace(&mut state.health, Health::Forbidden(error, begun))
        };
        self.taken_back.lock().clear();
        let waited = self.waited(begun);
        tell(News::Health);
        if !matches!(before, Health::Forbidden(..)) {
            tracing::warn!("the token may not list users: working without looking");
            tell(News::Everything);
        } else if !waited.is_empty() {
            tell(News::Addresses(waited.into_iter().collect()));
        }
    }

    /// Who waited for a pass that began at `begun`: they wait no longer.
    fn waited(&self, begun: Instant) -> HashSet<Address> {
        let mut addresses = HashSet::new();
        for waiting in [&self.wanted, &self.expected] {
            let mut waiting = waiting.lock();
            let later = waiting.split_off(&(begun + Duration::from_nanos(1)));
            let waited = std::mem::replace(&mut *waiting, later);
            addresses.extend(waited.into_values().flatten());
        }
        addresses
    }

    fn publish(
        &self,
        begun: Instant,
        people: HashMap<Address, Person>,
        known: &impl Fn() -> HashSet<Address>,
        tell: &impl Fn(News),
    ) {
        let mut addresses = self.waited(begun);
        let now = self.now();
        let (snapshot, before, synced, braked_before, braked) = {
            let mut state = self.state.write();
            let known = match &state.snapshot {
                Some(before) => self.lasting(&before.people),
                None => known(),
            };
            let mut taken_back = self.taken_back.lock();
            let loss = Loss::judge(state.loss.as_ref(), &known, &taken_back, &people);
            let before = state.snapshot.as_deref();
            let tells_from = Instant::now() + self.listing_delay;
            let pending = |address: &Address| {
                before.is_some_and(|before| {
                    matches!(
                        before.people.get(address),
                        Some(Person::Pending { .. } | Person::Unidentified)
                    )
                })
            };
            let left = known.iter().filter(|address| pending(address));
            let left = left.map(|address| (address, tells_from));
            let still = before.into_iter().flat_map(|before| &before.between);
            let still = still.map(|(address, until)| (address, *until));
            let between = still.filter(|(_, until)| begun < *until).chain(left);
            let between = between
                .filter(|(address, _)| {
                    !people.contains_key(*address) && !taken_back.contains_key(*address)
                })
                .map(|(address, until)| (address.clone(), until))
                .collect();
            let tells_from = before.map_or(tells_from, |before| before.tells_from);
            taken_back.retain(|_, at| *at + self.listing_delay >= begun);
            drop(taken_back);
            let snapshot = Arc::new(Snapshot {
                begun,
                ended: Instant::now(),
                people,
                tells_from,
                between,
            });
            state.health = Health::Complete;
            let synced = state.synced.replace(now);
            let braked = loss.is_some();
            let braked_before = std::mem::replace(&mut state.loss, loss).is_some();
            (
                Arc::clone(&snapshot),
                state.snapshot.replace(snapshot),
                synced,
                braked_before,
                braked,
            )
        };
        if braked && !braked_before {
            tracing::warn!("more people are missing than is believed");
        }
        tell(News::Health);
        let Some(before) = before.filter(|_| braked || !braked_before) else {
            tell(News::Everything);
            return;
        };
        for (address, person) in &snapshot.people {
            if before.people.get(address) != Some(person) || person.ended(synced, now) {
                addresses.insert(address.clone());
            }
        }
        addresses.extend(before.between.keys().cloned());
        for address in before.people.keys() {
            if !snapshot.people.contains_key(address) {
                addresses.insert(address.clone());
            }
        }
        if !addresses.is_empty() {
            tell(News::Addresses(addresses.into_iter().collect()));
        }
    }

    /// Those who do not go by themselves: an invitation that expires may.
    fn lasting(&self, people: &HashMap<Address, Person>) -> HashSet<Address> {
        let now = self.now();
        let lasts = |person: &Person| match person {
            Person::Pending { invites, .. } => invites
                .first()
                .is_some_and(|invite| invite.expires_at.is_none_or(|time| time > now)),
            _ => true,
        };
        let lasting = people.iter().filter(|(_, person)| lasts(person));
        lasting.map(|(address, _)| address.clone()).collect()
    }

    /// Waits until the next pass is due: after the interval, or earlier when somebody wants one, but
    /// not twice within a listing delay, and after a failure with growing delays up to the interval, or [`LONGEST`].
    async fn rest(&self, begun: Instant, failures: u32) {
        let floor = if failures == 0 {
            begun + self.listing_delay.min(*self.interval.read())
        } else {
            Instant::now() + backoff_within(failures, self.interval().clamp(RETRY, LONGEST))
        };
        loop {
            let wanted = self.wanted.lock().keys().next().copied();
            let due = (begun + *self.interval.read())
                .min(wanted.unwrap_or(begun + Duration::from_hours(24)));
            let due = if failures > 0 { floor } else { due.max(floor) };
            if due <= Instant::now() {
                return;
            }
            tokio::select! {
                () = tokio::time::sleep_until(due) => return,
                () = self.wake.notified() => {}
            }
        }
    }

    async fn counted_pass(&self, begun: Instant) -> Result<HashMap<Address, Person>, Error> {
        let organization = &self.metrics.organization;
        let span = tracing::info_span!("directory_pass", organization);
        let outcome = self.pass().instrument(span).await;
        self.metrics.passed(outcome.is_ok(), begun.elapsed());
        outcome
    }

    /// When the last complete pass began, and how many people it saw.
    #[must_use]
    pub fn extent(&self) -> Option<(Instant, usize)> {
        let state = self.state.read();
        let snapshot = state.snapshot.as_ref()?;
        Some((snapshot.begun, snapshot.people.len()))
    }
}

/// The delay after so many failures: doubling from one second up to 5 minutes, with jitter.
#[must_use]
pub fn backoff(failures: u32) -> Duration {
    backoff_within(failures, LONGEST)
}

fn backoff_within(failures: u32, longest: Duration) -> Duration {
    let full = Duration::from_secs(1)
        .saturating_mul(1 << failures.saturating_sub(1).min(9))
        .min(longest);
    full.mul_f64(random::draw(|rng| rng.random_range(0.5..1.0)))
}

/// An Astro that lists whom the function says, by offset and limit, and is asked for nothing else.
#[cfg(test)]
struct Lists<F>(F);

#[cfg(test)]
#[async_trait::async_trait]
impl<F> Astro for Lists<F>
where
    F: Fn(usize, usize) -> Result<super::UserPage, Error> + Send + Sync,
{
    async fn create_invite(&self, _: &str, _: Role) -> Result<super::Invite, Error> {
        unreachable!("a pass reads lists only")
    }
    async fn get_invite(&self, _: &str) -> Result<super::Invite, Error> {
        unreachable!("a pass reads lists only")
    }
    async fn delete_invite(&self, _: &str) -> Result<(), Error> {
        unreachable!("a pass reads lists only")
    }
    async fn list_users(
        &self,
        _: super::Listing,
        offset: usize,
        limit: usize,
    ) -> Result<super::UserPage, Error> {
        self.0(offset, limit)
    }
    fn server_time(&self) -> Option<Timestamp> {
        None
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use super::*;
    use crate::astro::UserPage;
    use crate::astro::budget::Rates;

    /// Whoever reads each minute need not wait for five because Astro was down for long.
    #[tokio::test(start_paused = true)]
    async fn after_an_outage_it_is_read_within_an_interval() {
        for (interval, longest) in [(1, 10), (60, 60), (600, 300)] {
            let interval = Duration::from_secs(interval);
            let until = Instant::now() + Duration::from_hours(1);
            let failures = Arc::new(AtomicUsize::new(0));
            let counted = Arc::clone(&failures);
            // It answers nothing before that, and that there is nobody afterwards.
            let astro = Lists(move |_, _| {
                if Instant::now() < until {
                    counted.fetch_add(1, Ordering::Relaxed);
                    return Err(Error::Unknown {
                        message: "down".to_owned(),
                        status: None,
                        request_id: None,
                    });
                }
                let users = Vec::new();
                Ok(UserPage { users, total: 0 })
            });
            let budget = Arc::new(Budget::new(Rates::default()));
            let directory = Directory::new(Arc::new(astro), budget, Duration::ZERO, interval);
            let reading = directory.run(HashSet::new, |_| {});
            let read = async {
                while directory.synced().is_none() {
                    tokio::time::sleep(Duration::from_secs(1)).await;
                }
            };
            tokio::select! {
                () = reading => {}
                () = read => {}
            }
            let late = until.elapsed();
            assert!(
                late <= Duration::from_secs(longest + 1),
                "{interval:?}: {late:?}"
            );
            // Each delay is half of the longest at least.
            let asked = failures.load(Ordering::Relaxed) as u64;
            assert!(
                asked <= 3600 * 2 / longest + 10,
                "{interval:?}: {asked} times"
            );
        }
    }
}
