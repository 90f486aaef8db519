//! Settled objects change.

use std::time::{Duration, Instant};

use anyhow::Context as _;
use support::fake_astro::Operation;

use super::settled::{settle, settled};
use super::{check_emails, lags, passes, tell_cpu, whole};
use crate::Size;
use crate::load;
use crate::report::Outcome;
use crate::world::{Rates, Setup};

/// Deleted at once, each with its invitation taken back.
pub async fn deletion(setup: &Setup, objects: usize, size: Size) -> anyhow::Result<Outcome> {
    let (world, mut witness) = settled(setup, objects, size, Rates::Unlimited).await?;
    let mark = world.mark().await?;
    let requests = load::delete(&world, 0..objects).await?;
    let seen = witness
        .until("all are gone", &world, |seen| seen.gone.len() == objects)
        .await?;
    let spent = world.since(&mark).await?;

    let mut outcome = Outcome::new("deletion", objects);
    outcome.tell_time("first deleted to all gone", whole(&requests, &seen.gone));
    outcome.tell_percentiles("deleted to gone", &mut lags(&requests, &seen.gone));
    tell_cpu(&mut outcome, &spent, objects);
    outcome.tell_memory(world.memory()?);
    outcome.check(
        "writes to OrgInvites, 1 for each",
        spent.writes("orginvites"),
        objects,
    );
    let calls = spent.calls(Operation::DeleteInvite);
    outcome.check("DELETE, 1 for each", calls, objects);
    outcome.check("get-invite", spent.calls(Operation::GetInvite), 0);
    let left = world.astro.invites();
    let left = left
        .iter()
        .filter(|invite| invite.is_live(jiff::Timestamp::now()));
    outcome.check("invitations without an object", left.count(), 0);
    check_emails(&mut outcome, &world, objects);
    Ok(outcome)
}

/// Everybody accepts at once.
pub async fn drift(setup: &Setup, objects: usize, size: Size) -> anyhow::Result<Outcome> {
    let (world, mut witness) = settled(setup, objects, size, Rates::Unlimited).await?;
    let mark = world.mark().await?;
    for invite in world.astro.invites() {
        world.astro.accept(&invite.id)?;
    }
    let seen = witness
        .until("all are Accepted", &world, |seen| {
            seen.accepted.len() == objects
        })
        .await?;
    settle(&world, Instant::now(), Duration::ZERO).await?;
    let spent = world.since(&mark).await?;

    let first = seen.accepted.values().min().context("nobody accepted")?;
    let last = seen.accepted.values().max().context("nobody accepted")?;
    // It may have begun before they accepted, and before what is measured.
    let told = passes(&world.astro.calls())
        .into_iter()
        .map(|pass| pass.last)
        .rfind(|last| last <= first)
        .context("no pass told of it")?;
    let mut outcome = Outcome::new("drift", objects);
    outcome.tell_time(
        "last page of the next pass to every status",
        last.duration_since(told),
    );
    let mut times: Vec<Duration> = seen
        .accepted
        .values()
        .map(|at| at.duration_since(told))
        .collect();
    outcome.tell_percentiles("last page to status", &mut times);
    tell_cpu(&mut outcome, &spent, objects);
    outcome.tell_memory(world.memory()?);
    outcome.check(
        "writes to OrgInvites, 1 for each",
        spent.writes("orginvites"),
        objects,
    );
    outcome.check("POST", spent.calls(Operation::CreateInvite), 0);
    outcome.check("get-invite", spent.calls(Operation::GetInvite), 0);
    check_emails(&mut outcome, &world, objects);
    Ok(outcome)
}
