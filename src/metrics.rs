//! What the operator counts as it happens. What can be computed from the caches is computed at each
//! scrape instead, in [`crate::state_metrics`].
//!
//! The values of a label are bounded by the code or by the Organizations that there are, never by what
//! the writers of `OrgInvite`s do, and none is an address.

use std::borrow::Cow;
use std::collections::HashMap;
use std::time::Duration;

use parking_lot::Mutex;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::histogram::Histogram;
use prometheus_client::metrics::info::Info;
use prometheus_client::registry::{Metric, Registry};
use tokio::time::Instant;

use self::families::Description;
use self::reconciles::Reconciles;
use crate::astro::budget::Verb;

pub mod families;
pub mod reconciles;

type Labels<const N: usize> = [(&'static str, Cow<'static, str>); N];
type Counters<const N: usize> = Family<Labels<N>, Counter>;
type Histograms<const N: usize> = Family<Labels<N>, Histogram, fn() -> Histogram>;

/// The verbs of [`Verb`], in its order.
const VERBS: [(Verb, &str); 3] = [
    (Verb::Post, "POST"),
    (Verb::Delete, "DELETE"),
    (Verb::Get, "GET"),
];

/// What one operator counts. A clone counts into the same.
#[derive(Clone, Debug)]
pub struct Metrics {
    /// Reconciles of `OrgInvite`s.
    pub org_invites: Reconciles,
    /// Reconciles of Organizations.
    pub organizations: Reconciles,
    reconciles: Counters<2>,
    reconcile_durations: Histograms<1>,
    calls: Counters<2>,
    call_durations: Histograms<1>,
    waits: Histograms<2>,
    emails: Counters<2>,
    passes: Counters<2>,
    pass_durations: Histograms<1>,
}

impl Default for Metrics {
    fn default() -> Self {
        let reconciles = Counters::default();
        let reconcile_durations = Histograms::new_with_constructor(|| {
            Histogram::new([0.001, 0.005, 0.01, 0.05, 0.1, 0.5, 1.0, 5.0, 15.0, 30.0])
        });
        let of =
            |resource| Reconciles::new(resource, reconciles.clone(), reconcile_durations.clone());
        Self {
            org_invites: of("OrgInvite"),
            organizations: of("Organization"),
            reconciles,
            reconcile_durations,
            calls: Family::default(),
            call_durations: Histograms::new_with_constructor(|| {
                Histogram::new([0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 15.0])
            }),
            waits: Histograms::new_with_constructor(|| {
                Histogram::new([0.01, 0.1, 0.5, 1.0, 5.0, 15.0, 60.0, 300.0, 900.0, 3600.0])
            }),
            emails: Family::default(),
            passes: Family::default(),
            pass_durations: Histograms::new_with_constructor(|| {
                Histogram::new([0.1, 0.5, 1.0, 2.5, 5.0, 15.0, 30.0, 60.0, 120.0, 300.0])
            }),
        }
    }
}

impl Metrics {
    /// Puts everything that is counted into a registry.
    pub fn register(&self, registry: &mut Registry) {
        let build = Info::new([("version", env!("CARGO_PKG_VERSION"))]);
        register(registry, &families::BUILD, build);
        register(registry, &families::RECONCILES, self.reconciles.clone());
        register(
            registry,
            &families::RECONCILE_DURATION,
            self.reconcile_durations.clone(),
        );
        register(registry, &families::ASTRO_CALLS, self.calls.clone());
        register(
            registry,
            &families::ASTRO_CALL_DURATION,
            self.call_durations.clone(),
        );
        register(registry, &families::BUDGET_WAIT, self.waits.clone());
        register(registry, &families::EMAILS_SENT, self.emails.clone());
        register(registry, &families::DIRECTORY_PASSES, self.passes.clone());
        register(
            registry,
            &families::DIRECTORY_PASS_DURATION,
            self.pass_durations.clone(),
        );
    }

    /// A call to Astro ended, without an answer when there is no status.
    pub fn called(&self, operation: &'static str, status: Option<u16>, took: Duration) {
        let status = status.map_or(Cow::Borrowed("none"), |status| status.to_string().into());
        self.calls
            .get_or_create(&[("operation", operation.into()), ("status", status)])
            .inc();
        self.call_durations
            .get_or_create(&[("operation", operation.into())])
            .observe(took.as_secs_f64());
    }

    /// What is counted of one Organization, from zero on if it is new.
    #[must_use]
    pub fn organization(&self, name: &str) -> OrganizationMetrics {
        OrganizationMetrics {
            organization: name.to_owned(),
            emails: Cause::ALL.map(|cause| self.emails.get_or_create_owned(&email(name, cause))),
            passes: [true, false].map(|ok| self.passes.get_or_create_owned(&pass(name, ok))),
            pass_duration: self.pass_durations.get_or_create_owned(&of(name)),
            waits: VERBS.map(|(_, verb)| self.waits.get_or_create_owned(&permit(name, verb))),
        }
    }

    /// An Organization was deleted: nothing of it is shown any longer, whoever still counts.
    pub fn forget(&self, name: &str) {
        for cause in Cause::ALL {
            self.emails.remove(&email(name, cause));
        }
        for ok in [true, false] {
            self.passes.remove(&pass(name, ok));
        }
        self.pass_durations.remove(&of(name));
        for (_, verb) in VERBS {
            self.waits.remove(&permit(name, verb));
        }
    }
}

fn register(registry: &mut Registry, family: &Description, metric: impl Metric) {
    registry.register(family.name, family.help, metric);
}

fn of(organization: &str) -> Labels<1> {
    [("organization", organization.to_owned().into())]
}

fn email(organization: &str, cause: Cause) -> Labels<2> {
    let [organization] = of(organization);
    [organization, ("cause", cause.as_str().into())]
}

fn pass(organization: &str, complete: bool) -> Labels<2> {
    let [organization] = of(organization);
    let result = if complete { "complete" } else { "failed" };
    [organization, ("result", result.into())]
}

fn permit(organization: &str, verb: &'static str) -> Labels<2> {
    let [organization] = of(organization);
    [organization, ("verb", verb.into())]
}

/// Why an e-mail was sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// It is the first one of an object.
    First,
    /// The role was edited.
    Replacement,
    /// The one before expired or went, or a person asked for one more.
    Resend,
}

impl Cause {
    const ALL: [Self; 3] = [Self::First, Self::Replacement, Self::Resend];

    const fn as_str(self) -> &'static str {
        match self {
            Self::First => "first",
            Self::Replacement => "replacement",
            Self::Resend => "resend",
        }
    }
}

/// What is counted of one Organization.
#[derive(Clone, Debug)]
pub struct OrganizationMetrics {
    /// Name of the Organization.
    pub organization: String,
    emails: [Counter; 3],
    passes: [Counter; 2],
    pass_duration: Histogram,
    waits: [Histogram; 3],
}

impl Default for OrganizationMetrics {
    /// Counts what nobody looks at.
    fn default() -> Self {
        Metrics::default().organization("")
    }
}

impl OrganizationMetrics {
    /// An e-mail went out.
    pub fn sent(&self, cause: Cause) {
        self.emails[cause as usize].inc();
    }

    /// A reading of the organization's people ended.
    pub fn passed(&self, complete: bool, took: Duration) {
        self.passes[usize::from(!complete)].inc();
        if complete {
            self.pass_duration.observe(took.as_secs_f64());
        }
    }

    /// Counts who waits for the permits of a new budget.
    #[must_use]
    pub fn waits(&self) -> Waits {
        Waits {
            durations: self.waits.clone(),
            waiting: Mutex::default(),
        }
    }
}

impl Default for Waits {
    fn default() -> Self {
        OrganizationMetrics::default().waits()
    }
}

/// Who waits for permits of one budget, and how long those waited who got theirs.
#[derive(Debug)]
pub struct Waits {
    durations: [Histogram; 3],
    waiting: Mutex<HashMap<(Verb, String), Waiting>>,
}

#[derive(Clone, Copy, Debug)]
struct Waiting {
    since: Instant,
    until: Instant,
}

impl Waits {
    /// Somebody who did not come so long after the time of its place does not wait any longer.
    const UNCLAIMED: Duration = Duration::from_mins(1);

    /// Somebody asked for a permit and got it, or the time of its place in line.
    pub fn asked(&self, verb: Verb, who: &str, answer: Result<(), Instant>) {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        let key = (verb, who.to_owned());
        if let Err(until) = answer {
            let place = waiting.entry(key).or_insert(Waiting { since: now, until });
            place.until = until;
        } else {
            let place = waiting.remove(&key);
            let waited = place.map_or(Duration::ZERO, |place| now - place.since);
            self.durations[verb as usize].observe(waited.as_secs_f64());
        }
    }

    /// Somebody gives up its places.
    pub fn forget(&self, who: &str) {
        self.waiting.lock().retain(|(_, name), _| name != who);
    }

    /// How many wait for each verb.
    #[must_use]
    pub fn waiting(&self) -> [(&'static str, usize); 3] {
        let now = Instant::now();
        let mut waiting = self.waiting.lock();
        waiting.retain(|_, place| place.until + Self::UNCLAIMED > now);
        VERBS.map(|(verb, name)| (name, waiting.keys().filter(|(of, _)| *of == verb).count()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    fn text(metrics: &Metrics) -> String {
        let mut registry = Registry::with_prefix(families::PREFIX);
        metrics.register(&mut registry);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        text
    }

    #[tokio::test(start_paused = true)]
    async fn a_wait_goes_from_asking_to_getting() {
        let metrics = Metrics::default();
        let waits = metrics.organization("o").waits();
        let now = Instant::now();
        waits.asked(Verb::Post, "a", Ok(()));
        waits.asked(Verb::Post, "b", Err(now + SECOND));
        waits.asked(Verb::Post, "c", Err(now + 2 * SECOND));
        waits.asked(Verb::Get, "b", Err(now + SECOND));
        assert_eq!(waits.waiting(), [("POST", 2), ("DELETE", 0), ("GET", 1)]);
        tokio::time::advance(SECOND).await;
        // Pushed back by somebody who goes first.
        waits.asked(Verb::Post, "b", Err(now + 3 * SECOND));
        tokio::time::advance(2 * SECOND).await;
        waits.asked(Verb::Post, "b", Ok(()));
        assert_eq!(waits.waiting(), [("POST", 1), ("DELETE", 0), ("GET", 1)]);
        let shown = text(&metrics);
        let series = r#"orginvite_budget_wait_seconds_sum{organization="o",verb="POST"} 3.0"#;
        assert!(shown.contains(series), "{shown}");
        tokio::time::advance(Waits::UNCLAIMED).await;
        assert_eq!(
            waits.waiting(),
            [("POST", 0), ("DELETE", 0), ("GET", 0)],
            "who never comes does not wait"
        );
    }

    #[test]
    fn what_is_counted_of_a_deleted_organization_vanishes_and_stays_away() {
        let metrics = Metrics::default();
        let (gone, other) = (metrics.organization("gone"), metrics.organization("other"));
        let count = |of: &OrganizationMetrics| {
            of.sent(Cause::Resend);
            of.passed(true, SECOND);
            of.passed(false, SECOND);
            of.waits().asked(Verb::Get, "a", Ok(()));
        };
        count(&gone);
        count(&other);
        let of = |name: &str| text(&metrics).matches(name).count();
        let many = of(r#"organization="other""#);
        assert!(many > 8);
        assert_eq!(of(r#"organization="gone""#), many);
        metrics.forget("gone");
        count(&gone);
        assert_eq!(of(r#"organization="gone""#), 0);
        assert_eq!(of(r#"organization="other""#), many);
        // Another one of that name begins anew.
        let line = r#"emails_sent_total{organization="gone",cause="resend"} 0"#;
        let _anew = metrics.organization("gone");
        assert!(text(&metrics).contains(line));
    }
}
