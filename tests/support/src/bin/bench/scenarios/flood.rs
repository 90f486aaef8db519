//! A namespace that the Organization allows nothing fills the cluster with objects.

use std::collections::HashMap;
use std::ops::Range;
use std::time::Instant;

use futures::{StreamExt as _, TryStreamExt as _, future, stream};
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::json;
use support::fake_astro::Operation;

use super::creation::start;
use super::floor::create_and_write;
use super::{answers, check_emails, lags, now, tell_cpu};
use crate::load::{self, Requests};
use crate::report::Outcome;
use crate::witness::Witness;
use crate::world::{Interval, Invite, Rates, Setup, World, object_name};

/// How many allowed objects there are, before the flood and again in its middle.
const GOOD: usize = 10;

/// How many statuses are written at once where no operator writes them: as many as it writes of such a namespace.
const REFUSED_AT_MOST: usize = 4;

/// So many objects that are not allowed; the allowed ones come before them, and again when half of them are there and
/// the others are on their way. At last the same requests without an operator: the API server's part.
pub async fn flood(setup: &Setup, objects: usize) -> anyhow::Result<Outcome> {
    let (mut world, mut witness) = start(setup, Rates::Unlimited).await?;
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
    let (first, second) = halves(objects);
    load::create_in(&intruders, &world, first).await?;
    let (flood, good) = tokio::try_join!(
        load::create_in(&intruders, &world, second),
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
    let memory = world.memory()?;
    world.stop_operator().await?;
    let (good_alone, ready_alone) = without_operator(setup, objects).await?;

    let mut outcome = Outcome::new("flood", objects);
    outcome.tell_percentiles("allowed, applied to Ready before", &mut before);
    outcome.tell_percentiles("the same within the flood", &mut lags(&good, &seen.ready));
    outcome.tell_percentiles("of it the answer to apply", &mut answers(&good));
    outcome.tell_percentiles(
        "the same requests without an operator",
        &mut lags(&good_alone, &ready_alone),
    );
    outcome.tell_percentiles("of it the answer to create", &mut answers(&good_alone));
    outcome.tell_percentiles(
        "not allowed, applied to Stalled",
        &mut lags(&flood, &refused.stalled),
    );
    tell_cpu(&mut outcome, &spent, objects + 2 * GOOD);
    outcome.tell_memory(memory);
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

/// The numbers of those that are not allowed: what is there when the allowed ones come, and what is on its way.
fn halves(objects: usize) -> (Range<usize>, Range<usize>) {
    let first = 2 * GOOD;
    let (middle, last) = (first + objects / 2, first + objects);
    (first..middle, middle..last)
}

/// The second half of a flood is created while the statuses of the first are written, and beside it the allowed ones
/// with their two writes.
async fn without_operator(
    setup: &Setup,
    objects: usize,
) -> anyhow::Result<(Requests, HashMap<String, Instant>)> {
    let world = World::prepare(setup, Interval("5m")).await?;
    let mut witness = Witness::of(&world).await?;
    let intruders = world.intruders().await?;
    let (first, second) = halves(objects);
    load::create_in(&intruders, &world, first.clone()).await?;
    let good = stream::iter(GOOD..2 * GOOD)
        .map(|number| create_and_write(&world, number))
        .buffer_unordered(GOOD)
        .try_collect();
    let (_, (), good) = tokio::try_join!(
        load::create_in(&intruders, &world, second),
        refuse(&intruders, first),
        good,
    )?;
    let seen = witness
        .until("the allowed ones are Ready", &world, |seen| {
            seen.ready.len() == GOOD
        })
        .await?;
    Ok((good, seen.ready))
}

/// Writes the status of who is not allowed.
async fn refuse(api: &Api<Invite>, numbers: Range<usize>) -> anyhow::Result<()> {
    let now = now()?;
    let conditions = [("Ready", "False"), ("Stalled", "True")].map(|(kind, value)| {
        json!({
            "type": kind, "status": value, "reason": "NotPermitted", "observedGeneration": 1,
            "lastTransitionTime": now,
            "message": "The Organization does not allow this namespace to invite the person",
        })
    });
    let status =
        json!({"status": {"observedGeneration": 1, "resends": 0, "conditions": conditions}});
    stream::iter(numbers)
        .map(|number| {
            let patch = Patch::Merge(&status);
            async move {
                api.patch_status(&object_name(number), &PatchParams::default(), &patch)
                    .await
                    .map(drop)
            }
        })
        .buffer_unordered(REFUSED_AT_MOST)
        .try_for_each(future::ok)
        .await?;
    Ok(())
}
