//! What goes wrong while people are invited, and whom it costs a second e-mail or leaves with an invitation that nobody
//! knows of.

use std::collections::HashSet;
use std::time::Duration;

use anyhow::Context as _;
use kube::api::ListParams;
use support::fake_astro::{Answer, Fault, Operation, PostPending, Times};

use super::{check_emails, whole};
use crate::Size;
use crate::load;
use crate::report::Outcome;
use crate::witness::Witness;
use crate::world::{DEADLINE, Interval, Rates, Setup, World};

/// How often the operator is killed.
const KILLS: usize = 5;

/// The operator is killed again and again, each time when another sixth of the invitations went out.
pub async fn kills(setup: &Setup, objects: usize, size: Size) -> anyhow::Result<Outcome> {
    let mut world = prepare(setup, size).await?;
    let witness = Witness::of(&world).await?;
    let requests = load::create(&world, 0..objects).await?;
    for kill in 1..=KILLS {
        world.start_operator(Rates::Unlimited)?;
        let wanted = objects * kill / (KILLS + 1);
        let sent = async {
            while world.astro.count(Operation::CreateInvite) < wanted {
                tokio::time::sleep(Duration::from_millis(1)).await;
            }
        };
        tokio::time::timeout(2 * DEADLINE, sent)
            .await
            .with_context(|| format!("{wanted} invitations; {}", world.last_words()))?;
        world.kill_operator()?;
    }
    world.start_operator(Rates::Unlimited)?;
    aftermath(Outcome::new("kills", objects), &world, witness, &requests).await
}

/// Two of five answers to a POST are lost after it took effect.
pub async fn lost_answers(setup: &Setup, objects: usize, size: Size) -> anyhow::Result<Outcome> {
    let mut world = prepare(setup, size).await?;
    let witness = Witness::of(&world).await?;
    let lost = Times::Next(u32::try_from(objects * 2 / 5)?);
    let cut = Fault::after(Answer::Cut);
    world.astro.fault(Operation::CreateInvite, cut, lost);
    world.start_operator(Rates::Unlimited)?;
    world.connected().await?;
    let requests = load::create(&world, 0..objects).await?;
    let outcome = Outcome::new("lost-answers", objects);
    aftermath(outcome, &world, witness, &requests).await
}

/// Whoever is invited once more gets an e-mail once more.
async fn prepare(setup: &Setup, size: Size) -> anyhow::Result<World> {
    let mut world = World::prepare(setup, Interval("5m")).await?;
    world.waits_less = matches!(size, Size::Smoke);
    world
        .astro
        .change_behaviour(|behaviour| behaviour.post_pending = PostPending::NewInvite);
    Ok(world)
}

async fn aftermath(
    mut outcome: Outcome,
    world: &World,
    mut witness: Witness,
    requests: &load::Requests,
) -> anyhow::Result<Outcome> {
    let objects = requests.len();
    let seen = witness
        .until("all are Ready", world, |seen| seen.ready.len() == objects)
        .await?;
    outcome.tell_time("first applied to all Ready", whole(requests, &seen.ready));
    let known = world.invites().list(&ListParams::default()).await?;
    let known: HashSet<String> = known
        .into_iter()
        .filter_map(|object| object.status?.invite_id)
        .collect();
    let live = world.astro.invites();
    let live = live
        .iter()
        .filter(|invite| invite.is_live(jiff::Timestamp::now()));
    let unknown = live.filter(|invite| !known.contains(&invite.id)).count();
    let emails = world.astro.emails();
    let more = emails
        .values()
        .map(|count| (*count as usize).saturating_sub(1));
    let more = more.sum();
    if world.is_peer {
        outcome.tell_number("e-mails too many", more);
        outcome.tell_number("invitations without an owner", unknown);
    } else {
        outcome.check("e-mails too many", more, 0);
        outcome.check("invitations without an owner", unknown, 0);
        check_emails(&mut outcome, world, objects);
    }
    Ok(outcome)
}
