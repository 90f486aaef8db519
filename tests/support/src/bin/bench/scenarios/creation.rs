//! Objects are created.

use std::time::Duration;

use anyhow::Context as _;
use support::fake_astro::Operation;

use super::{answers, check_emails, lags, tell_cpu, whole};
use crate::cost::{Mark, Spent};
use crate::load;
use crate::report::{Outcome, float};
use crate::witness::Witness;
use crate::world::{DEADLINE, Interval, Rates, Setup, World};

/// How long a burst's events may take to be written, without a new one.
const POLL: Duration = Duration::from_millis(500);

pub(super) async fn start(setup: &Setup, rates: Rates) -> anyhow::Result<(World, Witness)> {
    let mut world = World::prepare(setup, Interval("5m")).await?;
    world.start_operator(rates)?;
    world.connected().await?;
    let witness = Witness::of(&world).await?;
    Ok((world, witness))
}

/// Applied at once, as fast as the machine goes: nobody limits the calls to Astro.
pub async fn burst(setup: &Setup, objects: usize) -> anyhow::Result<Outcome> {
    let (world, mut witness) = start(setup, Rates::Unlimited).await?;
    let mark = world.mark().await?;
    let requests = load::create(&world, 0..objects).await?;
    let seen = witness
        .until("all are Ready", &world, |seen| seen.ready.len() == objects)
        .await?;
    let ready = world.since(&mark).await?;
    let everything = with_events(&world, &mark, objects).await?;

    let mut outcome = Outcome::new("burst", objects);
    outcome.tell_time("first applied to all Ready", whole(&requests, &seen.ready));
    outcome.tell_percentiles("applied to Ready", &mut lags(&requests, &seen.ready));
    tell_cpu(&mut outcome, &ready, objects);
    outcome.tell_time(
        "CPU of the operator until all events are written",
        everything.cpu.operator,
    );
    outcome.tell_memory(world.memory()?);
    check_creation(&mut outcome, &world, &everything, objects);
    Ok(outcome)
}

/// At the limits that Astro publishes, which the fake insists on.
pub async fn limits(setup: &Setup, objects: usize) -> anyhow::Result<Outcome> {
    let (world, mut witness) = start(setup, Rates::Published).await?;
    let mark = world.mark().await?;
    let requests = load::create(&world, 0..objects).await?;
    let seen = witness
        .until("all are Ready", &world, |seen| seen.ready.len() == objects)
        .await?;
    let spent = with_events(&world, &mark, objects).await?;

    let mut posts = spent
        .calls
        .iter()
        .filter(|call| call.operation == Operation::CreateInvite);
    let first = posts.next().context("no POST")?.at;
    let last = posts.next_back().map_or(first, |call| call.at);
    let ideal = Duration::from_millis(100) * u32::try_from(objects.saturating_sub(1))?;
    let mut outcome = Outcome::new("limits", objects);
    outcome.tell_time("ideal, first POST to last", ideal);
    outcome.tell_time("first POST to last", last.duration_since(first));
    let all = whole(&requests, &seen.ready);
    outcome.tell_time("first applied to all Ready", all);
    outcome.tell(
        "the same over the ideal",
        (all.as_secs_f64() / ideal.as_secs_f64() - 1.0) * 100.0,
        "%",
    );
    tell_cpu(&mut outcome, &spent, objects);
    outcome.tell_memory(world.memory()?);
    check_creation(&mut outcome, &world, &spent, objects);
    Ok(outcome)
}

/// Applied one by one, 20 a second.
pub async fn paced(setup: &Setup, objects: usize) -> anyhow::Result<Outcome> {
    let (world, mut witness) = start(setup, Rates::Unlimited).await?;
    let mark = world.mark().await?;
    let requests = load::create_paced(&world, 0..objects, 20).await?;
    let seen = witness
        .until("all are Ready", &world, |seen| seen.ready.len() == objects)
        .await?;
    let spent = with_events(&world, &mark, objects).await?;

    let mut outcome = Outcome::new("paced", objects);
    outcome.tell_percentiles("applied to Ready", &mut lags(&requests, &seen.ready));
    outcome.tell_percentiles("of it the answer to apply", &mut answers(&requests));
    tell_cpu(&mut outcome, &spent, objects);
    outcome.tell_memory(world.memory()?);
    check_creation(&mut outcome, &world, &spent, objects);
    Ok(outcome)
}

/// What was spent until each object has its event, which a task of its own writes.
async fn with_events(world: &World, mark: &Mark, objects: usize) -> anyhow::Result<Spent> {
    let wanted = if world.is_peer { 0 } else { objects };
    let all = async {
        loop {
            let spent = world.since(mark).await?;
            if events(world, &spent) >= wanted {
                return anyhow::Ok(spent);
            }
            tokio::time::sleep(POLL).await;
        }
    };
    tokio::time::timeout(DEADLINE, all)
        .await
        .with_context(|| format!("the events are not written; {}", world.last_words()))?
}

/// Events about objects, and not about the Organization.
fn events(world: &World, spent: &Spent) -> usize {
    let own = |namespace: Option<&str>| namespace == Some(world.name.as_str());
    spent
        .requests
        .iter()
        .filter(|request| {
            request.resource == "events" && request.is_write() && own(request.namespace.as_deref())
        })
        .count()
}

fn check_creation(outcome: &mut Outcome, world: &World, spent: &Spent, objects: usize) {
    outcome.tell(
        "requests to the API server for each object",
        float(spent.requests.len()) / float(objects),
        "",
    );
    outcome.check(
        "writes to OrgInvites, 2 for each",
        spent.writes("orginvites"),
        2 * objects,
    );
    if !world.is_peer {
        outcome.check("events written, 1 for each", events(world, spent), objects);
    }
    let post = spent.calls(Operation::CreateInvite);
    outcome.check("POST, 1 for each", post, objects);
    outcome.check("get-invite", spent.calls(Operation::GetInvite), 0);
    check_emails(outcome, world, objects);
}
