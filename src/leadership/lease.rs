//! The Lease that elects the leader.
//!
//! Our own and not a library's: kube-lease-manager 0.13 goes on reporting leadership when the API
//! server cannot be reached past the expiry, compares the record's times with the local clock, has
//! standbys sleep instead of watch, and takes an expired lease by a write without a resource version.
//!
//! Three rules make it safe. *Every write carries the resource version that was last seen*, so that
//! of two who want the lease one gets a conflict, and nobody takes it over a renewal that it did not
//! see. *Expiry is judged by our own monotonic clock*, from when we last saw the record change: the
//! times in it are another machine's, and are only for people and tools. *A renewal counts from when
//! its request was sent*, and a term is over before the lease can be taken ([`Leadership`]).

use std::sync::Arc;
use std::time::Duration;

use futures::{Stream, StreamExt};
use jiff::Timestamp;
use k8s_openapi::api::coordination::v1::{Lease, LeaseSpec};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::MicroTime;
use kube::api::{ObjectMeta, PostParams};
use kube::runtime::watcher::{self, Event};
use kube::runtime::{WatchStreamExt, watcher as watch};
use kube::{Api, Client};
use tokio::sync::mpsc::UnboundedSender;
use tokio::time::Instant;

use super::{Leadership, Term};
use crate::reconcile::memory;

/// What a candidate is told.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Name of the Lease. Installations that share a namespace and split the Organizations need one
    /// each.
    pub name: String,
    /// Who this process is: no two processes ever have the same.
    pub identity: String,
    /// How long the others wait after a renewal before they take the lease. Whole seconds.
    pub duration: Duration,
}

impl Settings {
    /// How long a term lasts after each renewal: two thirds of the duration. The rest is for clocks
    /// that run at different speeds.
    #[must_use]
    pub fn validity(&self) -> Duration {
        self.duration * 2 / 3
    }

    /// From one renewal to the next, and from a failed try to the next: a sixth, so that some may fail.
    fn interval(&self) -> Duration {
        self.duration / 6
    }

    /// How long a request about the lease may take: a third, so that one without an answer leaves
    /// time for another.
    fn deadline(&self) -> Duration {
        self.duration / 3
    }
}

/// One who wants the lease.
pub struct Candidate {
    api: Api<Lease>,
    namespace: String,
    settings: Settings,
    seen: Seen,
    /// When the last request to get or keep the lease was sent.
    tried: Option<Instant>,
    /// Not before this moment is it tried again, whatever is seen.
    not_before: Instant,
    /// Whether we led when it was last logged.
    led: bool,
    /// The holder that was last logged.
    told: Option<String>,
}

impl Candidate {
    /// A candidate for the lease of `settings` in `namespace`.
    #[must_use]
    pub fn new(client: Client, namespace: &str, settings: Settings) -> Self {
        Self {
            api: Api::namespaced(client, namespace),
            namespace: namespace.to_owned(),
            settings,
            seen: Seen::nothing(Instant::now()),
            tried: None,
            not_before: Instant::now(),
            led: false,
            told: None,
        }
    }

    /// Stands for election until `done` resolves, keeps `leadership`, and sends each term that begins
    /// to `begun`. Then the term ends, and the lease, if it is ours, is given up.
    pub async fn run(
        mut self,
        leadership: &Leadership,
        begun: UnboundedSender<Arc<Term>>,
        done: impl Future<Output = ()>,
    ) {
        let mut done = std::pin::pin!(done);
        let mut events = std::pin::pin!(self.watch());
        self.look().await;
        loop {
            self.follow(leadership);
            tokio::select! {
                biased;
                () = &mut done => break,
                Some(event) = events.next() => match event {
                    Ok(event) => self.hear(event).await,
                    Err(error) => tracing::warn!(%error, "watching the Lease failed; it is tried again"),
                },
                () = tokio::time::sleep_until(self.next_try()) => {
                    if let Some(term) = self.try_for_it(leadership).await {
                        begun.send(term).ok();
                    }
                }
                () = run_out(leadership) => {}
            }
        }
        self.give_up(leadership).await;
    }

    fn watch(&self) -> impl Stream<Item = watcher::Result<Event<Lease>>> + use<> {
        let only = format!("metadata.name={}", self.settings.name);
        watch(self.api.clone(), watcher::Config::default().fields(&only)).default_backoff()
    }

    async fn hear(&mut self, event: Event<Lease>) {
        match event {
            Event::Apply(lease) => {
                let version = version(&lease);
                self.seen.hear(Some(lease), version, Instant::now());
            }
            Event::Delete(lease) => self.seen.hear(None, version(&lease), Instant::now()),
            // A list may be older than our own last write, and a Lease that it does not have has no
            // version to tell.
            Event::InitDone => self.look().await,
            Event::Init | Event::InitApply(_) => {}
        }
    }

    /// When to try for the lease next: to keep it, or to get it.
    fn next_try(&self) -> Instant {
        let due = if self.is_ours() {
            self.tried
                .map_or_else(Instant::now, |tried| tried + self.settings.interval())
        } else {
            self.seen.free_at(self.settings.duration)
        };
        due.max(self.not_before)
    }

    fn is_ours(&self) -> bool {
        self.seen.holder() == Some(self.settings.identity.as_str())
    }

    /// Ends the term when somebody else has the lease, and tells what changed.
    fn follow(&mut self, leadership: &Leadership) {
        let holder = self.seen.holder().map(str::to_owned);
        if !self.is_ours() {
            leadership.resign();
        }
        if self.led && !leadership.leads() {
            self.led = false;
            self.tell_loss();
        }
        if holder != self.told {
            if let Some(holder) = holder.as_ref().filter(|_| !self.is_ours()) {
                tracing::info!(identity = self.settings.identity, %holder, "standing by");
            }
            self.told = holder;
        }
    }

    fn tell_loss(&self) {
        let why = if self.is_ours() {
            "the Lease was not renewed in time"
        } else {
            "the Lease was taken or deleted"
        };
        let holder = self.seen.holder();
        tracing::warn!(
            identity = self.settings.identity,
            holder,
            why,
            "leadership lost"
        );
    }

    /// Renews the lease, or takes it. A term that begins with that is returned.
    async fn try_for_it(&mut self, leadership: &Leadership) -> Option<Arc<Term>> {
        let sent = Instant::now();
        self.tried = Some(sent);
        let wanted = claimed(
            self.seen.lease.as_ref(),
            &self.namespace,
            &self.settings,
            Timestamp::now(),
        );
        let lease = match self.write(&wanted).await {
            Ok(lease) => lease,
            Err(Failure::Outdated) => {
                tracing::debug!(
                    identity = self.settings.identity,
                    "somebody else wrote the Lease meanwhile"
                );
                self.tried = None;
                self.look().await;
                return None;
            }
            Err(failure) => {
                tracing::warn!(%failure, "the Lease could not be written; it is tried again");
                self.not_before = sent + self.settings.interval();
                return None;
            }
        };
        let transitions = lease.spec.as_ref().and_then(|spec| spec.lease_transitions);
        self.seen.read(Some(lease), Instant::now());
        let term = leadership.renew(sent)?;
        if self.led {
            self.tell_loss();
        }
        self.led = true;
        tracing::info!(identity = self.settings.identity, transitions, "leading");
        Some(term)
    }

    /// Reads the Lease: what another one wrote since.
    async fn look(&mut self) {
        match self.in_time(self.api.get_opt(&self.settings.name)).await {
            Ok(lease) => self.seen.read(lease, Instant::now()),
            Err(failure) => {
                tracing::warn!(%failure, "the Lease cannot be read; it is tried again");
                self.not_before = Instant::now() + self.settings.interval();
            }
        }
    }

    /// Ends the term and gives the lease up: the next one need not wait for its expiry.
    async fn give_up(&mut self, leadership: &Leadership) {
        leadership.resign();
        // A renewal whose answer was lost makes one conflict.
        for _ in 0..2 {
            let Some(lease) = self.seen.lease.as_ref().filter(|_| self.is_ours()) else {
                return;
            };
            match self.write(&released(lease, Timestamp::now())).await {
                Ok(_) => {
                    tracing::info!(identity = self.settings.identity, "gave up leadership");
                    return;
                }
                Err(Failure::Outdated) => self.look().await,
                Err(failure) => {
                    tracing::warn!(%failure, "the Lease could not be given up: it has to expire");
                    return;
                }
            }
        }
    }

    /// Creates the Lease, or replaces the version that `lease` was made from.
    async fn write(&self, lease: &Lease) -> Result<Lease, Failure> {
        let params = PostParams::default();
        if lease.metadata.resource_version.is_none() {
            return self.in_time(self.api.create(&params, lease)).await;
        }
        let replace = self.api.replace(&self.settings.name, &params, lease);
        match self.in_time(replace).await {
            Err(Failure::Refused(kube::Error::Api(status))) if status.code == 404 => {
                Err(Failure::Outdated)
            }
            answer => answer,
        }
    }

    async fn in_time<T>(
        &self,
        request: impl Future<Output = Result<T, kube::Error>>,
    ) -> Result<T, Failure> {
        match tokio::time::timeout(self.settings.deadline(), request).await {
            Ok(Ok(value)) => Ok(value),
            // 409: changed or created meanwhile.
            Ok(Err(kube::Error::Api(status))) if status.code == 409 => Err(Failure::Outdated),
            Ok(Err(error)) => Err(Failure::Refused(error)),
            Err(_) => Err(Failure::NoAnswer),
        }
    }
}

/// Waits until the present term runs out; for ever when there is none.
async fn run_out(leadership: &Leadership) {
    match leadership.ends_at() {
        Some(end) => tokio::time::sleep_until(end).await,
        None => std::future::pending().await,
    }
}

#[derive(Debug, thiserror::Error)]
enum Failure {
    #[error("somebody else wrote it meanwhile")]
    Outdated,
    #[error("{0}")]
    Refused(kube::Error),
    #[error("the API server gave no answer in time")]
    NoAnswer,
}

/// What was last seen of the Lease.
#[derive(Debug)]
struct Seen {
    /// `None` when there is none.
    lease: Option<Lease>,
    /// The youngest resource version of it: what a watch tells may be older than that.
    version: u64,
    /// When its record was last seen to change.
    changed: Instant,
}

impl Seen {
    fn nothing(now: Instant) -> Self {
        Self {
            lease: None,
            version: 0,
            changed: now,
        }
    }

    /// The answer to a request of our own. They are made one after the other, so that none is older
    /// than the one before.
    fn read(&mut self, lease: Option<Lease>, now: Instant) {
        let version = lease.as_ref().map_or(self.version, version);
        self.put(lease, version, now);
    }

    /// What the watch tells.
    fn hear(&mut self, lease: Option<Lease>, version: u64, now: Instant) {
        if version > self.version {
            self.put(lease, version, now);
        }
    }

    fn put(&mut self, lease: Option<Lease>, version: u64, now: Instant) {
        let spec = |lease: &Option<Lease>| lease.as_ref().and_then(|lease| lease.spec.clone());
        if spec(&lease) != spec(&self.lease) {
            self.changed = now;
        }
        self.version = self.version.max(version);
        self.lease = lease;
    }

    fn holder(&self) -> Option<&str> {
        let spec = self.lease.as_ref()?.spec.as_ref()?;
        spec.holder_identity
            .as_deref()
            .filter(|holder| !holder.is_empty())
    }

    /// From when on the lease may be taken: at once when nobody holds it, else when the holder has
    /// let its own duration pass without a change.
    fn free_at(&self, default_duration: Duration) -> Instant {
        if self.holder().is_none() {
            return self.changed;
        }
        let spec = self.lease.as_ref().and_then(|lease| lease.spec.as_ref());
        let duration = spec
            .and_then(|spec| spec.lease_duration_seconds)
            .and_then(|seconds| u64::try_from(seconds).ok())
            .map_or(default_duration, Duration::from_secs);
        self.changed + duration
    }
}

/// A resource version that is no number counts as old: what the watch tells is ignored then, and
/// reading decides.
fn version(lease: &Lease) -> u64 {
    memory::version(&lease.metadata).unwrap_or(0)
}

/// The Lease as we want it, made from the one that there is: ours. The number of transitions and the
/// time of acquisition go on as client-go keeps them.
fn claimed(present: Option<&Lease>, namespace: &str, settings: &Settings, now: Timestamp) -> Lease {
    let mut lease = present.cloned().unwrap_or_else(|| Lease {
        metadata: ObjectMeta {
            name: Some(settings.name.clone()),
            namespace: Some(namespace.to_owned()),
            ..ObjectMeta::default()
        },
        spec: None,
    });
    let before = lease.spec.take();
    let is_renewal = before
        .as_ref()
        .is_some_and(|spec| spec.holder_identity.as_ref() == Some(&settings.identity));
    let before = before.unwrap_or_default();
    let transitions = before.lease_transitions.unwrap_or(0);
    lease.spec = Some(LeaseSpec {
        acquire_time: before
            .acquire_time
            .filter(|_| is_renewal)
            .or(Some(MicroTime(now))),
        holder_identity: Some(settings.identity.clone()),
        lease_duration_seconds: i32::try_from(settings.duration.as_secs()).ok(),
        lease_transitions: Some(match present {
            Some(_) if !is_renewal => transitions.saturating_add(1),
            _ => transitions,
        }),
        renew_time: Some(MicroTime(now)),
        ..before
    });
    lease
}

/// The Lease with nobody to hold it, as client-go writes it.
fn released(present: &Lease, now: Timestamp) -> Lease {
    let mut lease = present.clone();
    lease.spec = Some(LeaseSpec {
        acquire_time: Some(MicroTime(now)),
        holder_identity: Some(String::new()),
        lease_duration_seconds: Some(1),
        renew_time: Some(MicroTime(now)),
        ..lease.spec.unwrap_or_default()
    });
    lease
}

#[cfg(test)]
mod tests {
    use super::*;

    const DURATION: Duration = Duration::from_secs(15);

    fn settings() -> Settings {
        Settings {
            name: "lease".to_owned(),
            identity: "us".to_owned(),
            duration: DURATION,
        }
    }

    fn time(second: i64) -> MicroTime {
        MicroTime(Timestamp::from_second(second).unwrap())
    }

    fn lease(holder: &str, renewed: i64, version: u64) -> Lease {
        Lease {
            metadata: ObjectMeta {
                name: Some("lease".to_owned()),
                resource_version: Some(version.to_string()),
                ..ObjectMeta::default()
            },
            spec: Some(LeaseSpec {
                holder_identity: Some(holder.to_owned()),
                lease_duration_seconds: Some(20),
                lease_transitions: Some(3),
                acquire_time: Some(time(1)),
                renew_time: Some(time(renewed)),
                ..LeaseSpec::default()
            }),
        }
    }

    #[test]
    fn requests_and_terms_fit_into_the_lease() {
        let settings = settings();
        assert!(settings.validity() < settings.duration);
        // After a renewal, one that gets no answer, and another one.
        let second = settings.interval() + settings.deadline();
        assert!(second < settings.validity());
    }

    #[tokio::test(start_paused = true)]
    async fn a_lease_expires_its_own_duration_after_we_saw_it_change() {
        let began = Instant::now();
        let mut seen = Seen::nothing(began);
        assert_eq!(seen.free_at(DURATION), began, "there is none");
        // Renewed by a clock that is years ahead, or years behind.
        for (renewed, version) in [(9_999_999_999, 10), (5, 11)] {
            tokio::time::advance(Duration::from_secs(1)).await;
            let now = Instant::now();
            seen.hear(Some(lease("them", renewed, version)), version, now);
            assert_eq!(seen.free_at(DURATION), now + Duration::from_secs(20));
        }
        let since = Instant::now();
        tokio::time::advance(Duration::from_secs(7)).await;
        let mut labelled = lease("them", 5, 12);
        labelled.metadata.labels = Some(std::iter::once(("a".into(), "b".into())).collect());
        seen.read(Some(labelled), Instant::now());
        assert_eq!(
            seen.free_at(DURATION),
            since + Duration::from_secs(20),
            "its record did not change"
        );
        seen.hear(Some(lease("", 6, 13)), 13, Instant::now());
        assert_eq!(seen.free_at(DURATION), Instant::now(), "given up");
        let mut endless = lease("them", 7, 14);
        endless.spec.as_mut().unwrap().lease_duration_seconds = None;
        seen.hear(Some(endless), 14, Instant::now());
        assert_eq!(seen.free_at(DURATION), Instant::now() + DURATION);
    }

    #[tokio::test(start_paused = true)]
    async fn what_a_watch_tells_late_changes_nothing() {
        let now = Instant::now();
        let mut seen = Seen::nothing(now);
        seen.read(Some(lease("us", 9, 30)), now);
        seen.hear(Some(lease("", 8, 29)), 29, now);
        assert_eq!(seen.holder(), Some("us"));
        seen.hear(None, 28, now);
        assert_eq!(seen.holder(), Some("us"));
        seen.hear(None, 31, now);
        assert_eq!(seen.holder(), None);
        seen.hear(Some(lease("us", 9, 30)), 30, now);
        assert_eq!(seen.holder(), None, "it was deleted");
    }

    #[test]
    fn the_record_goes_on_as_client_go_keeps_it() {
        let now = Timestamp::from_second(100).unwrap();
        let spec = |lease: Lease| lease.spec.unwrap();

        let first = claimed(None, "ours", &settings(), now);
        assert_eq!(first.metadata.namespace.as_deref(), Some("ours"));
        assert_eq!(first.metadata.resource_version, None, "created");
        let first = spec(first);
        assert_eq!(first.holder_identity.as_deref(), Some("us"));
        assert_eq!(first.lease_transitions, Some(0));
        assert_eq!(first.lease_duration_seconds, Some(15));
        assert_eq!(first.acquire_time, first.renew_time);

        let renewed = claimed(Some(&lease("us", 90, 7)), "ours", &settings(), now);
        assert_eq!(renewed.metadata.resource_version.as_deref(), Some("7"));
        let renewed = spec(renewed);
        assert_eq!(renewed.lease_transitions, Some(3));
        assert_eq!(renewed.acquire_time, Some(time(1)));
        assert_eq!(renewed.renew_time, Some(time(100)));

        let taken = claimed(Some(&lease("them", 90, 8)), "ours", &settings(), now);
        assert_eq!(taken.metadata.resource_version.as_deref(), Some("8"));
        let taken = spec(taken);
        assert_eq!(taken.lease_transitions, Some(4));
        assert_eq!(taken.acquire_time, Some(time(100)));

        let given_up = released(&lease("us", 90, 9), now);
        assert_eq!(given_up.metadata.resource_version.as_deref(), Some("9"));
        let given_up = spec(given_up);
        assert_eq!(given_up.holder_identity.as_deref(), Some(""));
        assert_eq!(given_up.lease_duration_seconds, Some(1));
        assert_eq!(given_up.lease_transitions, Some(3));
    }
}
