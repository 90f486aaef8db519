//! A namespace that the Organization allows nothing fills the cluster with objects.

use support::fake_astro::Operation;

use super::creation::start;
use super::{check_emails, lags, tell_cpu};
use crate::load;
use crate::report::Outcome;
use crate::witness::Witness;
use crate::world::{Rates, Setup};

/// How many allowed objects there are, before the flood and again in its middle.
const GOOD: usize = 10;

/// So many objects that are not allowed; the allowed ones come before them, and again when half of them are there and
/// the others are on their way.
pub async fn flood(setup: &Setup, objects: usize) -> anyhow::Result<Outcome> {
    let (world, mut witness) = start(setup, Rates::Unlimited).await?;
    let mark = world.mark().await?;
    let calm = load::create(&world, 0..GOOD).await?;
    let seen = witness
        .until("those before the flood are Ready", &world, |seen| {
            seen.ready.len() == GOOD
        })
        .await?;
    let mut before = lags(&calm, &seen.ready);

    let intruders = world.intruders().await?;
    let mut watching = Witness::of_these(intruders.clone()).await?;
    let (first, last) = (2 * GOOD, 2 * GOOD + objects);
    let middle = first + objects / 2;
    load::create_in(&intruders, &world, first..middle).await?;
    let (flood, good) = tokio::try_join!(
        load::create_in(&intruders, &world, middle..last),
        load::create(&world, GOOD..2 * GOOD),
    )?;
    let seen = witness
        .until("the allowed ones are Ready", &world, |seen| {
            seen.ready.len() == 2 * GOOD
        })
        .await?;
    let refused = watching
        .until("the others are Stalled", &world, |seen| {
            seen.stalled.len() == objects
        })
        .await?;
    let spent = world.since(&mark).await?;

    let mut outcome = Outcome::new("flood", objects);
    outcome.tell_percentiles("allowed, applied to Ready before", &mut before);
    outcome.tell_percentiles("the same within the flood", &mut lags(&good, &seen.ready));
    let mut answers: Vec<_> = good
        .values()
        .map(|(sent, answered)| answered.duration_since(*sent))
        .collect();
    outcome.tell_percentiles("of it the answer to apply", &mut answers);
    outcome.tell_percentiles(
        "not allowed, applied to Stalled",
        &mut lags(&flood, &refused.stalled),
    );
    tell_cpu(&mut outcome, &spent, objects + 2 * GOOD);
    outcome.tell_memory(world.memory()?);
    outcome.check(
        "writes to OrgInvites, 2 for each allowed, 1 for the others",
        spent.writes("orginvites"),
        4 * GOOD + objects,
    );
    let post = spent.calls(Operation::CreateInvite);
    outcome.check("POST, 1 for each allowed", post, 2 * GOOD);
    outcome.check("get-invite", spent.calls(Operation::GetInvite), 0);
    check_emails(&mut outcome, &world, 2 * GOOD);
    Ok(outcome)
}
