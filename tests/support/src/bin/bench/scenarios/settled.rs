//! Settled objects stay as they are: what they cost at rest, after a restart, and by their number.
//!
//! The operator itself sends their invitations, without a limit, so that every object is one as it leaves them.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use support::fake_astro::Operation;

use super::{Pass, calls_of_a_pass, check_emails, passes};
use crate::Size;
use crate::cost::Spent;
use crate::load;
use crate::report::{Outcome, float};
use crate::witness::Witness;
use crate::world::{Interval, Rates, Setup, World};

/// The operator's `--listing-delay`, by default.
const LISTING_DELAY: Duration = Duration::from_secs(10);
/// How long a pass may take, with what comes before it.
const PASS_DEADLINE: Duration = Duration::from_mins(10);

/// A world with so many settled objects, and an operator that has been told of nothing for a while.
pub async fn settled(
    setup: &Setup,
    objects: usize,
    size: Size,
    rates: Rates,
) -> anyhow::Result<(World, Witness)> {
    let interval = match size {
        Size::Smoke => Interval("2s"),
        Size::Full => Interval("30s"),
    };
    let mut world = World::prepare(setup, interval).await?;
    let mut witness = Witness::of(&world).await?;
    grow(&mut world, &mut witness, 0, objects).await?;
    if matches!(rates, Rates::Published) {
        world.stop_operator().await?;
        world.start_operator(rates)?;
    }
    if !world.is_peer {
        settle(&world, Instant::now(), LISTING_DELAY).await?;
    }
    Ok((world, witness))
}

/// Adds objects up to that number.
async fn grow(
    world: &mut World,
    witness: &mut Witness,
    from: usize,
    to: usize,
) -> anyhow::Result<()> {
    world.start_operator(Rates::Unlimited)?;
    world.connected().await?;
    load::create(world, from..to).await?;
    witness
        .until("all are Ready", world, |seen| seen.ready.len() == to)
        .await?;
    Ok(())
}

/// Waits until a pass is complete that began `after` that moment or later.
pub async fn settle(world: &World, moment: Instant, after: Duration) -> anyhow::Result<()> {
    passes_done(world, moment + after, 1).await
}

/// Waits until so many passes are complete that began at that moment or later.
async fn passes_done(world: &World, from: Instant, wanted: usize) -> anyhow::Result<()> {
    let calls = calls_of_a_pass(world);
    let done = async {
        loop {
            let passes = passes(&world.astro.calls());
            let done = |pass: &&Pass| pass.begun >= from && pass.calls == calls;
            if passes.iter().filter(done).count() >= wanted {
                return;
            }
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    };
    tokio::time::timeout(PASS_DEADLINE, done)
        .await
        .with_context(|| format!("the organization is not read; {}", world.last_words()))
}

/// Nothing happens for some sync intervals, at the published limits.
pub async fn idle(setup: &Setup, objects: usize, size: Size) -> anyhow::Result<Outcome> {
    let (world, _witness) = settled(setup, objects, size, Rates::Published).await?;
    let wanted = match size {
        Size::Smoke => 2,
        Size::Full => 4,
    };
    let mark = world.mark().await?;
    passes_done(&world, Instant::now(), wanted).await?;
    let spent = world.since(&mark).await?;

    let mut outcome = Outcome::new("idle", objects);
    outcome.tell_time("watched", spent.time);
    outcome.tell_number("sync intervals in it", wanted);
    outcome.tell_number("calls to Astro", spent.calls.len());
    outcome.tell(
        "calls to Astro a minute",
        float(spent.calls.len()) / spent.time.as_secs_f64() * 60.0,
        "",
    );
    tell_requests(&mut outcome, &spent);
    outcome.tell_time("CPU of the operator", spent.cpu.operator);
    outcome.tell(
        "CPU of the operator for each pass",
        spent.cpu.operator.as_secs_f64() * 1000.0 / float(wanted),
        "ms",
    );
    outcome.tell_memory(world.memory()?);
    check_rest(&mut outcome, &world, &spent, wanted);
    check_emails(&mut outcome, &world, objects);
    Ok(outcome)
}

/// The operator is stopped and started again.
pub async fn restart(setup: &Setup, objects: usize, size: Size) -> anyhow::Result<Outcome> {
    let (mut world, mut witness) = settled(setup, objects, size, Rates::Unlimited).await?;
    let mut outcome = Outcome::new("restart", objects);
    measure_restart(&mut world, &mut outcome).await?;
    check_emails(&mut outcome, &world, objects);

    // Once more, and now somebody waits for it.
    world.stop_operator().await?;
    let started = Instant::now();
    world.start_operator(Rates::Published)?;
    load::create(&world, objects..objects + 1).await?;
    let seen = witness
        .until("the new object is Ready", &world, |seen| {
            seen.ready.len() == objects + 1
        })
        .await?;
    let last = seen.ready.values().max().context("nothing is Ready")?;
    outcome.tell_time(
        "start to a new object's Ready",
        last.duration_since(started),
    );
    Ok(outcome)
}

/// More and more objects, with a restart at each number.
pub async fn growth(setup: &Setup, sizes: &[usize], size: Size) -> anyhow::Result<Vec<Outcome>> {
    let (mut world, mut witness) = settled(setup, sizes[0], size, Rates::Unlimited).await?;
    let mut outcomes: Vec<Outcome> = Vec::new();
    for &objects in sizes {
        let before = outcomes.last();
        if let Some(before) = before {
            world.stop_operator().await?;
            grow(&mut world, &mut witness, before.objects(), objects).await?;
        }
        let mut outcome = Outcome::new("growth", objects);
        measure_restart(&mut world, &mut outcome).await?;
        for name in [
            "resident memory, peak",
            "resident memory, at the end",
            "of it heap and stacks",
        ] {
            if let Some(before) = before
                && let (Some(less), Some(more)) = (before.figure(name), outcome.figure(name))
            {
                let each = (more - less) * 1024.0 / float(objects - before.objects());
                outcome.tell(format!("{name}, for each more"), each, "KiB");
            }
        }
        check_emails(&mut outcome, &world, objects);
        outcomes.push(outcome);
    }
    Ok(outcomes)
}

/// Stops the operator, starts it again at the published limits, and sees two passes through.
async fn measure_restart(world: &mut World, outcome: &mut Outcome) -> anyhow::Result<()> {
    const PASSES: usize = 2;
    world.stop_operator().await?;
    let mark = world.mark().await?;
    let started = Instant::now();
    world.start_operator(Rates::Published)?;
    world.ready().await?;
    outcome.tell_time("start to ready", started.elapsed());
    passes_done(world, started, PASSES).await?;
    let spent = world.since(&mark).await?;

    let passes = passes(&spent.calls);
    let first = passes.first().context("no pass")?;
    outcome.tell_time(
        "start to the first call to Astro",
        first.begun.duration_since(started),
    );
    outcome.tell_time(
        "start to the last page of the first pass",
        first.last.duration_since(started),
    );
    outcome.tell(
        "the same with Astro's 25 GET/s alone",
        float(first.calls) / 25.0,
        "s",
    );
    tell_requests(outcome, &spent);
    outcome.tell_time("CPU of the operator", spent.cpu.operator);
    outcome.tell_memory(world.memory()?);
    check_rest(outcome, world, &spent, PASSES);
    Ok(())
}

fn tell_requests(outcome: &mut Outcome, spent: &Spent) {
    for (kind, number) in spent.requests_by_kind() {
        outcome.tell_number(format!("API server: {kind}"), number);
    }
}

/// What must hold while nothing changes: so many passes, and not one call or write beside them.
fn check_rest(outcome: &mut Outcome, world: &World, spent: &Spent, wanted: usize) {
    outcome.check("writes to OrgInvites", spent.writes("orginvites"), 0);
    let passes = passes(&spent.calls);
    outcome.check(
        format!("list calls of {wanted} passes"),
        passes.iter().take(wanted).map(|pass| pass.calls).sum(),
        wanted * calls_of_a_pass(world),
    );
    let lists = spent.calls(Operation::ListUsers);
    outcome.check("other calls to Astro", spent.calls.len() - lists, 0);
}
