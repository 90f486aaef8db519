//! What is drawn from the seed: which fault comes when, and what people do.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use support::fake_astro::{Answer, HoldPoint, Operation};

use crate::stage::LEASE;

/// What a run is made from.
pub struct Plan {
    pub seed: u64,
    /// How long faults come. Zero: until each kind has come once.
    pub length: Duration,
    pub people: usize,
    /// Whether processes are left alive.
    pub soak: bool,
}

impl Plan {
    pub fn short(seed: u64) -> Self {
        Self {
            seed,
            length: Duration::ZERO,
            people: 200,
            soak: false,
        }
    }
}

/// What goes wrong.
#[derive(Clone, Debug)]
pub enum Fault {
    // Processes.
    /// SIGKILL at any moment: the leader, or any of them.
    Kill {
        leader: bool,
    },
    /// SIGTERM for the leader.
    Terminate,
    /// SIGSTOP for the leader until another one leads, then SIGCONT.
    Stop,
    /// SIGKILL while a POST has arrived and not taken effect, another one has taken effect, an invite that is replaced
    /// and one that is taken back were deleted, and a DELETE has arrived; what has arrived takes effect afterwards.
    KillInFlight,
    /// SIGKILL when Astro has answered a POST and the status write was sent, which never arrives.
    KillBeforeStatusWrite,
    /// The same, and the status write arrives afterwards.
    KillWhileStatusIsWritten,
    /// SIGKILL as soon as the API server shows the status.
    KillAfterStatusWrite,
    // The cluster.
    /// Every connection to the API server is closed.
    CutConnections,
    /// Packets between the leader and the API server are lost, and come in the end.
    CutOffLeader,
    RestartApiServer,
    /// For longer than a lease lasts.
    StopApiServer,
    /// While one replica hears nothing, objects change, etcd forgets how, and the API server restarts.
    Compact,
    /// Somebody else writes to all objects.
    SecondWriter,
    // Astro.
    /// The next calls go wrong in these ways.
    Answers(Vec<(Operation, HoldPoint, Answer)>),
    /// Every call gets this answer.
    Outage(Answer),
    /// Every call is slow, and some POSTs slower than the operator waits.
    Slow(HoldPoint),
    RateLimit,
    /// The token is rejected, and replaced later.
    TokenExpires,
    /// Lists lag by almost as much as the operator reckons with.
    ListsLag,
    /// Lists lag by more than the settle time.
    ListsLagTooLong,
    /// 404 with an HTML body, or 410, for everything.
    ApiIsGone {
        html: bool,
    },
    /// Every connection to Astro is closed.
    CutAstro,
}

/// A fault, from when on, and for how long where it lasts.
#[derive(Clone, Debug)]
pub struct Strike {
    pub at: Duration,
    pub lasts: Duration,
    pub fault: Fault,
}

/// What a person, or whoever writes the manifest, does.
#[derive(Clone, Debug)]
pub enum Act {
    Create,
    EditRole,
    AskAgain,
    /// The same under another name, in the same or another namespace; the new one first, or the old one gone first.
    Rename {
        moves: bool,
        new_first: bool,
    },
    Delete,
    /// Deletes it and removes its finalizers.
    ForceDelete,
    /// Lets go of the invitation, and deletes the object.
    RetainAndDelete,
    Accept,
    Decline,
    /// The invitation expires.
    Expire,
}

/// All that is drawn.
pub struct Schedule {
    /// One fault at a time in each lane; the lanes go on beside each other.
    pub lanes: [Vec<Strike>; 3],
    /// What comes by itself: it excuses much, which would hide what the others show.
    pub late_lists: Strike,
    /// What happens to each person, in order.
    pub scripts: Vec<Vec<(Duration, Act)>>,
    /// When the last fault is over.
    pub length: Duration,
}

impl Schedule {
    pub fn draw(plan: &Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        // Where each comes once, the API server is there for the others first: without it nothing goes on.
        let late = Duration::from_secs(if plan.length.is_zero() { 15 } else { 2 });
        let soon = Duration::from_secs(2);
        let lanes = [
            lane(&mut rng, plan, processes, soon),
            lane(&mut rng, plan, cluster, late),
            lane(&mut rng, plan, astro, soon),
        ];
        let ends = lanes
            .iter()
            .flatten()
            .map(|strike| strike.at + strike.lasts);
        let length = ends.max().unwrap_or_default().max(plan.length);
        let late_lists = Strike {
            at: Duration::ZERO,
            lasts: millis(&mut rng, 8000..10_000),
            fault: Fault::ListsLagTooLong,
        };
        let scripts = (0..plan.people).map(|_| script(&mut rng, length)).collect();
        Self {
            lanes,
            late_lists,
            scripts,
            length,
        }
    }

    /// What is printed before it begins.
    pub fn print(&self) {
        for (name, lane) in ["processes", "cluster", "Astro"].iter().zip(&self.lanes) {
            for Strike { at, lasts, fault } in lane {
                println!(
                    "{:>6.1} s {name}: {fault:?}, {:.1} s",
                    at.as_secs_f64(),
                    lasts.as_secs_f64()
                );
            }
        }
        let acts: usize = self.scripts.iter().map(Vec::len).sum();
        println!(
            "{} people, to whom {acts} things happen",
            self.scripts.len()
        );
    }
}

/// Deals the deck once, or again and again until the time is over.
fn lane(
    rng: &mut StdRng,
    plan: &Plan,
    deck: fn(&mut StdRng, &Plan) -> Vec<(Fault, Duration)>,
    begins: Duration,
) -> Vec<Strike> {
    let mut strikes = Vec::new();
    let mut at = begins;
    loop {
        for (fault, lasts) in deck(rng, plan) {
            at += millis(
                rng,
                if plan.length.is_zero() {
                    200..800
                } else {
                    500..5000
                },
            );
            strikes.push(Strike { at, lasts, fault });
            at += lasts;
            if !plan.length.is_zero() && at >= plan.length {
                return strikes;
            }
        }
        if strikes.is_empty() || plan.length.is_zero() {
            return strikes;
        }
    }
}

fn millis(rng: &mut StdRng, range: std::ops::Range<u64>) -> Duration {
    Duration::from_millis(rng.random_range(range))
}

/// How long a process that was killed is away.
const AWAY: std::ops::Range<u64> = 200..1500;

fn processes(rng: &mut StdRng, plan: &Plan) -> Vec<(Fault, Duration)> {
    if plan.soak {
        return vec![(Fault::Stop, LEASE)];
    }
    let kinds = [
        Fault::Kill {
            leader: rng.random_bool(0.7),
        },
        Fault::Terminate,
        Fault::Stop,
        Fault::KillInFlight,
        Fault::KillBeforeStatusWrite,
        Fault::KillWhileStatusIsWritten,
        Fault::KillAfterStatusWrite,
    ];
    let mut deck: Vec<(Fault, Duration)> = kinds
        .into_iter()
        .map(|fault| (fault, millis(rng, AWAY)))
        .collect();
    deck.shuffle(rng);
    deck
}

fn cluster(rng: &mut StdRng, _: &Plan) -> Vec<(Fault, Duration)> {
    let mut deck = vec![
        (Fault::CutConnections, Duration::ZERO),
        (Fault::CutOffLeader, LEASE + millis(rng, 500..2000)),
        (Fault::RestartApiServer, millis(rng, 0..1000)),
        (Fault::StopApiServer, LEASE + millis(rng, 500..2500)),
        (Fault::Compact, millis(rng, 500..1500)),
        (Fault::SecondWriter, millis(rng, 2000..4000)),
    ];
    deck.shuffle(rng);
    deck
}

fn astro(rng: &mut StdRng, plan: &Plan) -> Vec<(Fault, Duration)> {
    let long = if plan.length.is_zero() { 1 } else { 4 };
    let mut deck = vec![
        (Fault::Answers(answers(rng)), millis(rng, 1000..4000)),
        (Fault::Answers(answers(rng)), millis(rng, 1000..4000)),
        (
            Fault::Outage(
                [
                    Answer::Status(503),
                    Answer::Html(502),
                    Answer::Cut,
                    Answer::Garbage,
                ]
                .choose(rng)
                .unwrap()
                .clone(),
            ),
            millis(rng, 2000..4000) * long,
        ),
        (
            Fault::Slow(HoldPoint::BeforeEffect),
            millis(rng, 2000..4000) * long,
        ),
        (
            Fault::Slow(HoldPoint::AfterEffect),
            millis(rng, 2000..4000) * long,
        ),
        (Fault::RateLimit, millis(rng, 2000..4000) * long),
        (Fault::TokenExpires, millis(rng, 1000..3000) * long),
        (Fault::ListsLag, millis(rng, 2000..4000) * long),
        (
            Fault::ApiIsGone {
                html: rng.random_bool(0.5),
            },
            millis(rng, 1000..3000) * long,
        ),
        (Fault::CutAstro, Duration::ZERO),
    ];
    deck.shuffle(rng);
    deck
}

/// Some answers that go wrong. What proves that nothing happened is given only where nothing did.
fn answers(rng: &mut StdRng) -> Vec<(Operation, HoldPoint, Answer)> {
    let operations = [
        Operation::CreateInvite,
        Operation::CreateInvite,
        Operation::DeleteInvite,
        Operation::GetInvite,
        Operation::ListUsers,
    ];
    let unclear = [
        Answer::Status(500),
        Answer::Status(503),
        Answer::Html(502),
        Answer::Empty(504),
        Answer::Garbage,
        Answer::Cut,
    ];
    let refusals = [
        Answer::Status(400),
        Answer::Status(401),
        Answer::Status(404),
        Answer::Html(404),
        Answer::Html(403),
        Answer::TooManyRequests(Some(1)),
        Answer::TooManyRequests(None),
    ];
    (0..8)
        .map(|_| {
            let operation = *operations.choose(rng).unwrap();
            if rng.random_bool(0.3) {
                (
                    operation,
                    HoldPoint::BeforeEffect,
                    refusals.choose(rng).unwrap().clone(),
                )
            } else {
                let point = if rng.random_bool(0.3) {
                    HoldPoint::BeforeEffect
                } else {
                    HoldPoint::AfterEffect
                };
                (operation, point, unclear.choose(rng).unwrap().clone())
            }
        })
        .collect()
}

/// What happens to one person: at first an object is created for them.
fn script(rng: &mut StdRng, length: Duration) -> Vec<(Duration, Act)> {
    let whole = u64::try_from(length.as_millis()).unwrap();
    let mut at = rng.random_range(0..whole * 6 / 10);
    let mut acts = vec![(Duration::from_millis(at), Act::Create)];
    for _ in 0..rng.random_range(0..4) {
        at += rng.random_range(50..=whole / 4);
        if at >= whole {
            break;
        }
        let choices = [
            (Act::EditRole, 20),
            (Act::AskAgain, 8),
            (
                Act::Rename {
                    moves: rng.random_bool(0.4),
                    new_first: rng.random_bool(0.6),
                },
                20,
            ),
            (Act::Delete, 12),
            (Act::ForceDelete, 5),
            (Act::RetainAndDelete, 4),
            (Act::Accept, 12),
            (Act::Decline, 3),
            (Act::Expire, 8),
        ];
        let (act, _) = choices.choose_weighted(rng, |(_, weight)| *weight).unwrap();
        acts.push((Duration::from_millis(at), act.clone()));
        let deletes = matches!(act, Act::Delete | Act::ForceDelete | Act::RetainAndDelete);
        if deletes && rng.random_bool(0.6) {
            at += rng.random_range(50..2000);
            acts.push((Duration::from_millis(at), Act::Create));
        } else if deletes {
            break;
        }
    }
    acts
}
