//! What is drawn from the seed: which fault comes when, and what people do.

use std::time::Duration;

use rand::rngs::StdRng;
use rand::seq::{IndexedRandom, SliceRandom};
use rand::{RngExt, SeedableRng};
use support::fake_astro::{Answer, Api, HoldPoint, Operation};

use crate::faults::TOO_LONG;
use crate::stage::{LEASE, ROLES, SETTLE, TEAMS};

/// What a run is made from.
pub struct Plan {
    pub seed: u64,
    /// How long faults come. Zero: until each kind has come once.
    pub length: Duration,
    pub people: usize,
    /// Whether processes are left alive and the number of people stays what it is, so that what each process holds
    /// can be compared. In the second half, one of them leads all the time.
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
    /// SIGSTOP for the leader until another one leads, then SIGCONT; `long` is until that one has settled what the first
    /// had under way.
    Stop {
        long: bool,
    },
    /// SIGSTOP for the leader when its attempts are patched and the answers are on their way back, until another one has
    /// sent for them; then the answers arrive.
    StopBeforePost,
    /// SIGKILL for the leader when its attempts are patched and the answers are on their way back: nothing was sent.
    KillBeforePost,
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
    // The platform team.
    /// The Organization is suspended for a while.
    Suspend,
    /// A namespace may not give a role for a while.
    Forbid {
        team: usize,
        role: usize,
    },
    // People.
    /// Objects are edited, renamed, moved and deleted while POSTs for them are on their way.
    ChangeUnderWay,
    /// Objects are deleted and their finalizers removed while POSTs for them are on their way.
    RemoveUnderWay,
    // Astro.
    /// The next calls go wrong in these ways.
    Answers(Vec<Wrong>),
    /// Every call gets this answer.
    Outage(Answer),
    /// Every call is slow, and some POSTs slower than the operator waits.
    Slow(HoldPoint),
    RateLimit,
    /// The token is rejected, and replaced later.
    TokenExpires,
    /// The token may not list users for a while.
    MayNotList,
    /// Lists lag by almost as much as the operator reckons with.
    ListsLag,
    /// Lists lag by more than the operator reckons with, perhaps by more than the settle time.
    ListsLagTooLong {
        by: Duration,
    },
    /// 404 with an HTML body or with the documented one, or 410, for everything.
    ApiIsGone(Api),
    /// Every connection to Astro is closed.
    CutAstro,
}

impl Fault {
    /// Its name, without what was drawn for it.
    pub fn kind(&self) -> String {
        let told = format!("{self:?}");
        let end = told.find(|letter: char| !letter.is_alphanumeric());
        told[..end.unwrap_or(told.len())].to_owned()
    }

    /// Whether another one may lead afterwards.
    fn ends_a_term(&self) -> bool {
        !matches!(
            self,
            Self::CutConnections
                | Self::SecondWriter
                | Self::Suspend
                | Self::Forbid { .. }
                | Self::ChangeUnderWay
                | Self::RemoveUnderWay
                | Self::Answers(_)
                | Self::Outage(_)
                | Self::Slow(_)
                | Self::RateLimit
                | Self::TokenExpires
                | Self::MayNotList
                | Self::ListsLag
                | Self::ListsLagTooLong { .. }
                | Self::ApiIsGone(_)
                | Self::CutAstro
        )
    }
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
    /// The next answers of Astro about the person go wrong, in this order.
    BadLuck(Vec<Wrong>),
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
    /// The same while a POST for it is on its way, whose answer arrives: nothing may stay behind.
    RemoveUnderWay,
    /// Lets go of the invitation, and deletes the object.
    RetainAndDelete,
    Accept,
    Decline,
    /// The invitation expires.
    Expire,
    /// Somebody removes the member.
    Leave,
}

/// What happens to one person, in order.
pub type Script = Vec<(Duration, Act)>;

/// All that is drawn.
pub struct Schedule {
    /// One fault at a time in each lane; the lanes go on beside each other.
    pub lanes: [Vec<Strike>; 3],
    /// What comes by itself: it excuses much, which would hide what the others show.
    pub late_lists: Strike,
    /// What is judged more strictly than beside other faults.
    pub removal: Strike,
    /// What shows something only while people are written to.
    pub policy: Strike,
    /// One for each person.
    pub scripts: Vec<Script>,
    /// When the last fault is over.
    pub length: Duration,
}

impl Schedule {
    pub fn draw(plan: &Plan) -> Self {
        let mut rng = StdRng::seed_from_u64(plan.seed);
        // Where each comes once, Astro and the API server are there at first: without them nothing goes on.
        let soon = Duration::from_secs(if plan.length.is_zero() { 0 } else { 2 });
        let late = Duration::from_secs(if plan.length.is_zero() { 17 } else { 2 });
        let mut lanes = [
            lane(&mut rng, plan, processes, soon),
            lane(&mut rng, plan, cluster, late),
            lane(&mut rng, plan, astro, late),
        ];
        if plan.soak {
            for lane in &mut lanes {
                lane.retain(|one| one.at < plan.length / 2 || !one.fault.ends_a_term());
            }
        }
        let ends = lanes
            .iter()
            .flatten()
            .map(|strike| strike.at + strike.lasts);
        let length = ends.max().unwrap_or_default().max(plan.length);
        let late = if plan.length.is_zero() || rng.random_bool(0.5) {
            TOO_LONG
        } else {
            millis(&mut rng, 500..6000)
        };
        let late_lists = Strike {
            at: Duration::ZERO,
            lasts: millis(&mut rng, 8000..10_000),
            fault: Fault::ListsLagTooLong { by: late },
        };
        let scripts = if plan.soak {
            let lines = (0..plan.people).flat_map(|_| line(&mut rng, length));
            lines.collect()
        } else {
            (0..plan.people).map(|_| script(&mut rng, length)).collect()
        };
        Self {
            lanes,
            late_lists,
            removal: Strike {
                at: Duration::ZERO,
                lasts: Duration::ZERO,
                fault: Fault::RemoveUnderWay,
            },
            policy: Strike {
                at: Duration::ZERO,
                lasts: millis(&mut rng, 1000..3000),
                fault: forbid(&mut rng),
            },
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
                    1000..8000
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
        return vec![
            (Fault::Stop { long: false }, 2 * LEASE),
            (Fault::Stop { long: true }, 2 * LEASE + 2 * SETTLE),
        ];
    }
    let long = !plan.length.is_zero() && rng.random_bool(0.5);
    let kinds = [
        Fault::Kill {
            leader: rng.random_bool(0.7),
        },
        Fault::Terminate,
        Fault::Stop { long },
        Fault::StopBeforePost,
        Fault::KillBeforePost,
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
    if plan.length.is_zero() {
        // Much has to come together for these, which it does while everything else is left alone.
        deck.sort_by_key(|(fault, _)| match fault {
            Fault::StopBeforePost => 0,
            Fault::KillBeforePost => 1,
            Fault::KillInFlight => 2,
            _ => 3,
        });
    }
    deck
}

fn cluster(rng: &mut StdRng, plan: &Plan) -> Vec<(Fault, Duration)> {
    let some_time = if plan.length.is_zero() {
        2500..3500
    } else {
        4000..10_000
    };
    let mut deck = vec![
        (Fault::CutConnections, Duration::ZERO),
        (Fault::CutOffLeader, LEASE + millis(rng, 500..2000)),
        (Fault::RestartApiServer, millis(rng, 0..1000)),
        (Fault::StopApiServer, LEASE + millis(rng, 500..2500)),
        (Fault::Compact, millis(rng, 500..1500)),
        (Fault::SecondWriter, millis(rng, 2000..4000)),
        (Fault::Suspend, millis(rng, some_time.clone())),
    ];
    if !plan.length.is_zero() {
        deck.push((forbid(rng), millis(rng, some_time)));
    }
    if !plan.soak {
        deck.push((Fault::ChangeUnderWay, Duration::ZERO));
    }
    deck.shuffle(rng);
    deck
}

fn forbid(rng: &mut StdRng) -> Fault {
    Fault::Forbid {
        team: rng.random_range(0..TEAMS.len()),
        role: rng.random_range(0..ROLES.len()),
    }
}

fn astro(rng: &mut StdRng, plan: &Plan) -> Vec<(Fault, Duration)> {
    let (some_time, long) = if plan.length.is_zero() {
        (1500..2500, 1)
    } else {
        (2000..4000, 4)
    };
    let mut deck = vec![
        (
            Fault::Answers(answers(rng, &ALL, 8)),
            millis(rng, 1000..4000),
        ),
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
            millis(rng, some_time.clone()) * long,
        ),
        (
            Fault::Slow(HoldPoint::BeforeEffect),
            millis(rng, some_time.clone()) * long,
        ),
        (
            Fault::Slow(HoldPoint::AfterEffect),
            millis(rng, some_time.clone()) * long,
        ),
        (Fault::RateLimit, millis(rng, some_time.clone()) * long),
        (Fault::TokenExpires, millis(rng, 1000..3000) * long),
        (Fault::MayNotList, millis(rng, some_time.clone()) * long),
        (Fault::ListsLag, millis(rng, some_time.clone()) * long),
        (
            Fault::ApiIsGone(Api::Missing),
            millis(rng, 1000..3000) * long,
        ),
        (
            Fault::ApiIsGone(*[Api::NotFound, Api::Gone].choose(rng).unwrap()),
            millis(rng, 1000..3000) * long,
        ),
        (Fault::CutAstro, Duration::ZERO),
    ];
    if !plan.length.is_zero() {
        let wrong = answers(rng, &ALL, 8);
        deck.push((Fault::Answers(wrong), millis(rng, 1000..4000)));
    }
    deck.shuffle(rng);
    deck
}

/// An answer that goes wrong.
pub type Wrong = (Operation, HoldPoint, Answer);

/// What is called, as often as it is to go wrong.
const ALL: [Operation; 5] = [
    Operation::CreateInvite,
    Operation::CreateInvite,
    Operation::DeleteInvite,
    Operation::GetInvite,
    Operation::ListUsers,
];

/// Some answers that go wrong. What proves that nothing happened is given only where nothing did.
fn answers(rng: &mut StdRng, operations: &[Operation], count: usize) -> Vec<Wrong> {
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
    (0..count)
        .map(|_| {
            let operation = *operations.choose(rng).unwrap();
            if rng.random_bool(0.3) {
                let may_be = |answer: &&Answer| !says_absent(operation, answer);
                let refusals: Vec<&Answer> = refusals.iter().filter(may_be).collect();
                (
                    operation,
                    HoldPoint::BeforeEffect,
                    (*refusals.choose(rng).unwrap()).clone(),
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
fn script(rng: &mut StdRng, length: Duration) -> Script {
    let whole = u64::try_from(length.as_millis()).unwrap();
    let mut at = rng.random_range(0..whole * 6 / 10);
    let mut acts = bad_luck(rng, at);
    acts.push((Duration::from_millis(at), Act::Create));
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
        acts.extend(bad_luck(rng, at));
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

/// Whether an answer says that there is no such invitation: of one that is there, it would be a lie.
fn says_absent(operation: Operation, answer: &Answer) -> bool {
    match operation {
        Operation::DeleteInvite => *answer == Answer::Status(404),
        Operation::GetInvite => matches!(answer, Answer::Status(400 | 404)),
        _ => false,
    }
}

/// Now and then, answers about a person go wrong when something happens to them.
fn bad_luck(rng: &mut StdRng, at: u64) -> Script {
    if !rng.random_bool(0.3) {
        return Vec::new();
    }
    let count = rng.random_range(1..4);
    let wrong = answers(rng, &ALL[..4], count);
    vec![(Duration::from_millis(at), Act::BadLuck(wrong))]
}

/// People who follow each other: when the object of one is deleted, one is created for the next, so that there is
/// always one of them. The first comes within the first minute.
fn line(rng: &mut StdRng, length: Duration) -> Vec<Script> {
    let mut line = Vec::new();
    let mut at = millis(rng, 0..45_000);
    while at < length {
        let mut acts = vec![(at, Act::Create)];
        let end = at + millis(rng, 60_000..240_000);
        loop {
            at += millis(rng, 10_000..40_000);
            if at >= end.min(length) {
                break;
            }
            acts.extend(episode(rng, &mut at));
        }
        if at < length {
            acts.push((at, Act::Delete));
        }
        line.push(acts);
        at += millis(rng, 50..1000);
    }
    line
}

/// What leaves one object for the address, whatever comes of it.
fn episode(rng: &mut StdRng, at: &mut Duration) -> Script {
    let rename = Act::Rename {
        moves: rng.random_bool(0.4),
        new_first: rng.random_bool(0.6),
    };
    let choices = [
        (vec![Act::EditRole], 27),
        (vec![Act::AskAgain], 17),
        (vec![rename], 25),
        (vec![Act::Delete, Act::Create], 20),
        (vec![Act::Expire], 10),
        // Seldom: when many go while nothing can be read, the loss is not believed.
        (vec![Act::Accept, Act::Leave, Act::Delete, Act::Create], 1),
    ];
    let (acts, _) = choices.choose_weighted(rng, |(_, weight)| *weight).unwrap();
    let mut script = Vec::new();
    for act in acts {
        script.push((*at, act.clone()));
        *at += millis(rng, 50..8000);
    }
    script
}
