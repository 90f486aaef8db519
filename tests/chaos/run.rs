//! One run: everything that was drawn happens, then everything is mended, and the judge looks.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::sync::Arc;
use std::time::{Duration, Instant};

use futures::future::join_all;
use serde_json::json;
use support::fake_astro::{Operation, Outcome};
use tokio::time::sleep;

use crate::faults::Cast;
use crate::judge::Judge;
use crate::people::Person;
use crate::process::Holds;
use crate::schedule::{Fault, Plan, Schedule, Strike};
use crate::stage::{SETTLE, Stage};

const REPLICAS: usize = 3;
/// How long after the last fault everything may take to be as it has to be.
const CONVERGENCE: Duration = Duration::from_mins(4);
/// How long it has to stay so.
const QUIET: Duration = SETTLE.saturating_add(Duration::from_secs(2));
/// How much more a process may hold later in a soak than before.
const MORE: Holds = Holds {
    threads: 2,
    files: 40,
    memory: 2048,
};

pub async fn run(plan: &Plan) {
    let seed = plan.seed;
    let schedule = Schedule::draw(plan);
    println!(
        "SEED={seed}, {:.0} s of faults",
        schedule.length.as_secs_f64()
    );
    schedule.print();
    let stage = Stage::set(REPLICAS).await;
    let keeper = tokio::spawn(keep(stage.clone()));
    let cast = Cast::new(&stage, plan.soak);
    let people: Vec<Arc<Person>> = (0..schedule.scripts.len())
        .map(|n| Person::new(&stage, n, "p"))
        .collect();
    let short = plan.length.is_zero();
    let mut strikes = Strikes::default();
    if short {
        strikes.add(alone(&stage, &cast, &schedule).await);
    }
    let begun = Instant::now();
    let lives = people
        .iter()
        .zip(schedule.scripts.clone())
        .map(|(person, script)| person.clone().live(begun, script));
    let lives = join_all(lives.collect::<Vec<_>>());
    let lanes = schedule.lanes.iter();
    let lanes = join_all(lanes.map(|lane| go_through(lane, plan, begun, &stage, &cast)));
    let time = async {
        let every = if plan.soak {
            Duration::from_secs(30)
        } else {
            schedule.length / 2
        };
        while begun.elapsed() + every < schedule.length {
            sleep(every).await;
            stage.pass_time();
            if plan.soak && Stage::is_suspicious(&stage.organization().await) {
                stage.acknowledge_loss().await;
                println!(
                    "{:>6.1} s: a loss acknowledged",
                    begun.elapsed().as_secs_f64()
                );
            }
        }
    };
    let (_, in_lanes, ()) = tokio::join!(lives, lanes, time);
    for lane in in_lanes {
        strikes.add(lane);
    }
    for person in &people {
        person.spare();
    }
    stage.pass_time();
    println!("{:>6.1} s: no more faults", begun.elapsed().as_secs_f64());
    let mut problems = settle(&stage, &people, &cast).await;
    if !short && problems.is_empty() {
        strikes.add(alone(&stage, &cast, &schedule).await);
        problems.extend(settle(&stage, &people, &cast).await);
    }

    let everybody = [people, cast.people()].concat();
    let judge = Judge::new(&stage, &everybody);
    stage.sample().await;
    problems.extend(stage.kstatus());
    problems.extend(judge.told().await.unwrap());
    problems.extend(
        stage
            .astro
            .violations()
            .iter()
            .map(|violation| format!("{violation:?}")),
    );
    if plan.soak {
        let leader = stage.leader().await;
        let leader = leader.and_then(|leader| stage.with(leader, |operator| operator.pid()));
        problems.extend(growth(&stage, begun, schedule.length, leader));
    }
    problems.extend(too_much(&stage));
    problems.extend(stage.ends.lock().iter().cloned());
    tell(&stage, &everybody);
    keeper.abort();
    problems.extend(strikes.missed(short));
    if !problems.is_empty() {
        let kept = keep_logs(&stage, seed);
        let all = problems.join("\n");
        panic!(
            "SEED={seed}: {} problems, logs in {kept}:\n{all}",
            problems.len()
        );
    }
    println!("SEED={seed}: nothing to object to");
}

/// The kinds of faults that struck, and how often each came about and did not.
#[derive(Default)]
struct Strikes(BTreeMap<String, (u32, u32)>);

impl Strikes {
    fn note(&mut self, fault: &Fault, came_about: bool) {
        let (came, missed) = self.0.entry(fault.kind()).or_default();
        *(if came_about { came } else { missed }) += 1;
    }

    fn add(&mut self, other: Self) {
        for (kind, (came, missed)) in other.0 {
            let all = self.0.entry(kind).or_default();
            *all = (all.0 + came, all.1 + missed);
        }
    }

    /// What did not come about as it should: each time where each comes once, and else once at least where it struck twice.
    fn missed(&self, each_time: bool) -> Vec<String> {
        let mut missed = Vec::new();
        for (kind, (came, not)) in &self.0 {
            if *not > 0 && (each_time || (*came == 0 && *not > 1)) {
                missed.push(format!("{kind} did not come about"));
            }
        }
        missed
    }
}

/// Strikes in order.
async fn go_through(
    lane: &[Strike],
    plan: &Plan,
    begun: Instant,
    stage: &Stage,
    cast: &Cast,
) -> Strikes {
    let mut strikes = Strikes::default();
    for strike in lane {
        tokio::time::sleep_until((begun + strike.at).into()).await;
        if !plan.length.is_zero() && begun.elapsed() > plan.length {
            break;
        }
        strikes.note(&strike.fault, bring_about(strike, stage, cast).await);
        println!(
            "{:>6.1} s: {:?} is over",
            begun.elapsed().as_secs_f64(),
            strike.fault
        );
    }
    strikes
}

/// What strikes while not much else happens.
async fn alone(stage: &Stage, cast: &Cast, schedule: &Schedule) -> Strikes {
    let mut strikes = Strikes::default();
    for strike in [&schedule.policy, &schedule.late_lists, &schedule.removal] {
        strikes.note(&strike.fault, bring_about(strike, stage, cast).await);
    }
    strikes
}

/// Strikes until it comes about, ten times at most. Whether it did.
async fn bring_about(strike: &Strike, stage: &Stage, cast: &Cast) -> bool {
    for _ in 0..10 {
        stage.at_work().await;
        let outcome = cast.strike(strike).await;
        println!("{:?}: {outcome:?}", strike.fault);
        if outcome.is_ok() {
            return true;
        }
    }
    false
}

/// Waits until everything is as it has to be, and looks at the e-mails so far.
async fn settle(stage: &Stage, people: &[Arc<Person>], cast: &Cast) -> Vec<String> {
    let everybody = [people, &cast.people()].concat();
    let judge = Judge::new(stage, &everybody);
    let present = converge(stage, &judge, Instant::now()).await;
    let emails = judge.emails();
    println!("excused: {}", judge.excused());
    [emails, present].concat()
}

/// Starts what ended, and looks at what runs.
async fn keep(stage: Arc<Stage>) {
    for tick in 0_u64.. {
        stage.keep();
        if tick.is_multiple_of(10) {
            stage.sample().await;
        }
        sleep(Duration::from_millis(200)).await;
    }
}

/// Waits until everything is as it has to be, and stays so. What is wrong when that takes too long.
async fn converge(stage: &Stage, judge: &Judge<'_>, over: Instant) -> Vec<String> {
    let mut good_since: Option<(Instant, usize)> = None;
    let mut edited = false;
    let mut last = Instant::now();
    loop {
        let problems = match judge.present().await {
            Ok(problems) => problems,
            Err(error) => vec![error.to_string()],
        };
        let mails = stage.astro.mails().len();
        let since = good_since.filter(|(_, then)| *then == mails && problems.is_empty());
        match since {
            Some((at, _)) if at.elapsed() > QUIET => {
                println!(
                    "converged {:.1} s after the last fault",
                    (at - over).as_secs_f64()
                );
                return Vec::new();
            }
            Some(_) => {}
            None if problems.is_empty() => good_since = Some((Instant::now(), mails)),
            None => {
                good_since = None;
                if last.elapsed() > Duration::from_secs(10) {
                    last = Instant::now();
                    println!(
                        "{} things to come, such as {:.600}",
                        problems.len(),
                        problems[0]
                    );
                }
            }
        }
        if !edited && judge.refused().await.is_ok_and(|refused| refused > 0) {
            // What the platform team does, since nobody else can.
            stage
                .edit_organization(&json!({"syncInterval": "2s"}))
                .await;
            edited = true;
        }
        if over.elapsed() > CONVERGENCE {
            return problems;
        }
        sleep(Duration::from_millis(500)).await;
    }
}

/// Processes that hold more than any needs.
fn too_much(stage: &Stage) -> Vec<String> {
    let lives = stage.lives.lock();
    let lives = lives.iter();
    lives
        .flat_map(|life| life.samples.iter().map(|(_, holds)| (life.pid, holds)))
        .filter(|(_, holds)| holds.threads > 100 || holds.files > 300)
        .map(|(pid, holds)| format!("process {pid} holds {holds:?}"))
        .take(20)
        .collect()
}

/// Processes that hold more and more, while the number of objects and addresses stays what it is: what each held in
/// the last quarter of a soak against the second, and in the last eighth against the sixth, since when one leads. That
/// `leader` may have stood by for most of the second quarter, and holds more because it leads.
fn growth(stage: &Stage, begun: Instant, length: Duration, leader: Option<u32>) -> Vec<String> {
    let mut wrong = Vec::new();
    for life in stage.lives.lock().iter() {
        let within = |from: u32, to: u32| {
            let taken = life.samples.iter().filter(|(age, _)| {
                let since = (life.began + *age).saturating_duration_since(begun);
                (length * from / 8..length * to / 8).contains(&since)
            });
            Holds::median(&taken.map(|(_, holds)| *holds).collect::<Vec<_>>())
        };
        for eighth in 0..8 {
            if let Some(holds) = within(eighth, eighth + 1) {
                println!("process {}, eighth {}: {holds}", life.pid, eighth + 1);
            }
        }
        // The leaders' changes leave something, too; what one leader keeps is seen while it leads.
        for [from, to] in [[(2, 4), (6, 8)], [(5, 6), (7, 8)]] {
            let (Some(early), Some(late)) = (within(from.0, from.1), within(to.0, to.1)) else {
                wrong.push(format!("process {} did not live long enough", life.pid));
                continue;
            };
            println!("process {}: {early}, then {late}", life.pid);
            if from == (2, 4) && leader == Some(life.pid) {
                continue;
            }
            if late.threads > early.threads + MORE.threads
                || late.files > early.files + MORE.files
                || late.memory > early.memory + MORE.memory
            {
                wrong.push(format!(
                    "process {} holds more and more: {early}, then {late}",
                    life.pid
                ));
            }
        }
    }
    wrong
}

/// What came of it, in numbers.
fn tell(stage: &Stage, people: &[Arc<Person>]) {
    let calls = stage.astro.calls();
    let count = |pick: &dyn Fn(&support::fake_astro::Call) -> bool| {
        calls.iter().filter(|call| pick(call)).count()
    };
    let causes: usize = people
        .iter()
        .map(|person| person.account().causes.len())
        .sum();
    println!(
        "{} people, {causes} causes for an e-mail, {} e-mails; {} processes",
        people.len(),
        stage.astro.mails().len(),
        stage.starts(),
    );
    let metrics = stage.metrics.lock();
    let reconciles = metrics.iter().map(|text| reconciles(text)).max();
    println!(
        "{} reconciles by the process with most of them",
        reconciles.unwrap_or_default()
    );
    println!(
        "{} calls to Astro, {} of them POST and {} DELETE; {} answered 429, {} 401, {} 5xx, {} cut",
        calls.len(),
        count(&|call| call.operation == Operation::CreateInvite),
        count(&|call| call.operation == Operation::DeleteInvite),
        count(&|call| call.outcome == Outcome::Status(429)),
        count(&|call| call.outcome == Outcome::Status(401)),
        count(&|call| matches!(call.outcome, Outcome::Status(500..))),
        count(&|call| call.outcome == Outcome::Cut),
    );
    println!(
        "{} writes of the operators, {} conflicts; {} watches told that their version is gone",
        stage.writes(200),
        stage.conflicts(),
        stage.expired_watches(),
    );
}

/// How many reconciles there were, as metrics tell.
fn reconciles(metrics: &str) -> u64 {
    let counters = metrics
        .lines()
        .filter(|line| line.starts_with("orginvite_reconciles_total{"));
    let counts = counters.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok());
    counts.sum()
}

fn keep_logs(stage: &Stage, seed: u64) -> String {
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR")).join(format!("chaos-{seed}"));
    fs::create_dir_all(&kept).unwrap();
    for (pod, log) in stage.logs() {
        fs::write(kept.join(format!("{pod}.log")), log).unwrap();
    }
    kept.display().to_string()
}
