//! What is measured. Each scenario has a file, and says there what it does and what it counts.

mod broken;
mod changes;
mod creation;
mod flood;
mod floor;
mod settled;

use std::collections::HashMap;
use std::time::{Duration, Instant};

use clap::ValueEnum;
use support::fake_astro::{Call, Operation, Outcome as Answer, UserStatus};

use super::Size;
use super::cost::Spent;
use super::load::Requests;
use super::report::{Outcome, float};
use super::world::{Setup, World};

/// A scenario.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Scenario {
    /// Objects applied at once.
    Burst,
    /// The API server's part of a burst: the same requests, and no operator.
    Floor,
    /// Objects applied at once, at the limits that Astro publishes.
    Limits,
    /// Objects applied one by one, 20 a second.
    Paced,
    /// Objects that are not allowed, beside a few that are.
    Flood,
    /// Objects deleted at once.
    Deletion,
    /// Invitations accepted at once.
    Drift,
    /// Settled objects for several sync intervals.
    Idle,
    /// The operator restarted with settled objects.
    Restart,
    /// Memory and restart by the number of objects.
    Growth,
    /// The operator killed while objects are applied.
    Kills,
    /// Answers of Astro that are lost.
    LostAnswers,
}

impl Scenario {
    /// Those that were named, or all.
    pub fn chosen(named: &[Self]) -> Vec<Self> {
        if named.is_empty() {
            Self::value_variants().to_vec()
        } else {
            named.to_vec()
        }
    }

    /// Its name on the command line.
    pub fn name(self) -> &'static str {
        match self {
            Self::Burst => "burst",
            Self::Floor => "floor",
            Self::Limits => "limits",
            Self::Paced => "paced",
            Self::Flood => "flood",
            Self::Deletion => "deletion",
            Self::Drift => "drift",
            Self::Idle => "idle",
            Self::Restart => "restart",
            Self::Growth => "growth",
            Self::Kills => "kills",
            Self::LostAnswers => "lost-answers",
        }
    }

    /// The numbers of objects for each run.
    pub fn plan(self, size: Size, instead: &[usize]) -> Vec<Vec<usize>> {
        let sizes: &[usize] = match (self, size) {
            _ if !instead.is_empty() => instead,
            (Self::Growth, Size::Smoke) => &[10, 20],
            (_, Size::Smoke) => &[20],
            (Self::Burst | Self::Floor, Size::Full) => &[500, 2_000],
            (Self::Limits, Size::Full) => &[300],
            (Self::Kills, Size::Full) => &[200],
            (Self::LostAnswers, Size::Full) => &[50],
            (Self::Paced, Size::Full) => &[600],
            (Self::Deletion, Size::Full) => &[2_000],
            (Self::Drift, Size::Full) => &[1_000],
            (Self::Idle | Self::Restart | Self::Flood, Size::Full) => &[10_000],
            (Self::Growth, Size::Full) => &[1_000, 10_000, 50_000],
        };
        match self {
            // One world that grows.
            Self::Growth => vec![sizes.to_vec()],
            _ => sizes.iter().map(|&size| vec![size]).collect(),
        }
    }

    /// Whether another operator can be measured by it.
    pub fn compares(self) -> bool {
        matches!(
            self,
            Self::Burst | Self::Paced | Self::Deletion | Self::Kills | Self::LostAnswers
        )
    }

    /// Runs it once.
    pub async fn run(
        self,
        setup: &Setup,
        sizes: &[usize],
        size: Size,
    ) -> anyhow::Result<Vec<Outcome>> {
        let objects = sizes.first().copied().unwrap_or_default();
        Ok(match self {
            Self::Burst => vec![creation::burst(setup, objects).await?],
            Self::Floor => vec![floor::floor(setup, objects).await?],
            Self::Limits => vec![creation::limits(setup, objects).await?],
            Self::Paced => vec![creation::paced(setup, objects).await?],
            Self::Flood => vec![flood::flood(setup, objects).await?],
            Self::Deletion => vec![changes::deletion(setup, objects, size).await?],
            Self::Drift => vec![changes::drift(setup, objects, size).await?],
            Self::Idle => vec![settled::idle(setup, objects, size).await?],
            Self::Restart => vec![settled::restart(setup, objects, size).await?],
            Self::Growth => settled::growth(setup, sizes, size).await?,
            Self::Kills => vec![broken::kills(setup, objects, size).await?],
            Self::LostAnswers => vec![broken::lost_answers(setup, objects, size).await?],
        })
    }
}

/// How long each request's answer took.
fn answers(requests: &Requests) -> Vec<Duration> {
    requests
        .values()
        .map(|(sent, answered)| answered.duration_since(*sent))
        .collect()
}

/// Now, as a status has it.
fn now() -> anyhow::Result<String> {
    let now = jiff::Timestamp::now().round(jiff::Unit::Second)?;
    Ok(now.to_string())
}

/// How long it took from each request's sending until `when`.
fn lags(requests: &Requests, when: &HashMap<String, Instant>) -> Vec<Duration> {
    requests
        .iter()
        .filter_map(|(name, (sent, _))| Some(when.get(name)?.duration_since(*sent)))
        .collect()
}

/// How long it took from the first request's sending until the last `when`.
fn whole(requests: &Requests, when: &HashMap<String, Instant>) -> Duration {
    let begun = requests.values().map(|(sent, _)| *sent).min();
    let ended = requests.keys().filter_map(|name| when.get(name)).max();
    match (begun, ended) {
        (Some(begun), Some(ended)) => ended.duration_since(begun),
        _ => Duration::ZERO,
    }
}

/// Tells the CPU of every process, and the operator's for each object.
fn tell_cpu(outcome: &mut Outcome, spent: &Spent, objects: usize) {
    let operator = spent.cpu.operator;
    outcome.tell_time("CPU of the operator", operator);
    outcome.tell(
        "CPU of the operator for each object",
        operator.as_secs_f64() * 1000.0 / float(objects),
        "ms",
    );
    outcome.tell_time("CPU of kube-apiserver", spent.cpu.api_server);
    outcome.tell_time("CPU of etcd", spent.cpu.etcd);
    outcome.tell_time("CPU of load and fake", spent.cpu.bench);
}

/// What must hold of every scenario: as many e-mails as objects and not two to anybody, nothing that Astro's contract
/// forbids, and not one call too many a second.
fn check_emails(outcome: &mut Outcome, world: &World, wanted: usize) {
    let emails = world.astro.emails();
    let sent = emails.values().map(|count| *count as usize).sum();
    outcome.check("e-mails", sent, wanted);
    outcome.check("people with an e-mail", emails.len(), wanted);
    outcome.check("answers 429", world.astro.limited(), 0);
    let breaches = world.astro.violations().len();
    outcome.check("breaches of Astro's contract", breaches, 0);
}

/// How many list calls one complete pass takes now: pages of 100 rows, each repeating one row of the page before.
fn calls_of_a_pass(world: &World) -> usize {
    let calls = |rows: usize| 1 + rows.saturating_sub(100).div_ceil(99);
    let users = world.astro.users();
    let pending = users
        .iter()
        .filter(|user| user.status == UserStatus::Pending);
    calls(users.len()) + calls(pending.count())
}

/// One reading of the organization.
struct Pass {
    begun: Instant,
    /// Its last call so far.
    last: Instant,
    /// How many calls there were so far.
    calls: usize,
}

/// The passes among these calls, in order.
fn passes(calls: &[Call]) -> Vec<Pass> {
    let mut passes: Vec<Pass> = Vec::new();
    for call in calls {
        if call.operation != Operation::ListUsers || call.outcome != Answer::Status(200) {
            continue;
        }
        let parameters: Vec<&str> = call.query.split('&').collect();
        let is_first = parameters.contains(&"hasInvites=true") && parameters.contains(&"offset=0");
        match passes.last_mut() {
            Some(pass) if !is_first => {
                pass.last = call.at;
                pass.calls += 1;
            }
            _ if is_first => passes.push(Pass {
                begun: call.at,
                last: call.at,
                calls: 1,
            }),
            // The rest of a pass that began earlier.
            _ => {}
        }
    }
    passes
}
