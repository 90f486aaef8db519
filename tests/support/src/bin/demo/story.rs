//! The story: what becomes of five manifests.

use std::time::Duration;

use anyhow::{Context, bail, ensure};
use jiff::SignedDuration;
use serde_json::{Value, json};

use crate::cluster::{conditions, name, status};
use crate::show::{describe, headline, print_events, print_wrapped};
use crate::stage::Stage;

/// How long an invitation lasts here, so that one can expire within what counts as a restart.
const LIFETIME: Duration = Duration::from_mins(20);
const LATER: SignedDuration = SignedDuration::from_mins(30);

/// Tells it, and checks that it is true.
pub async fn tell(stage: &mut Stage) -> anyhow::Result<()> {
    stage.astro.set_invite_lifetime(LIFETIME);
    connect(stage).await?;
    let invites = invite_three(stage).await?;
    refuse_a_typo(stage).await?;
    replace_jane(stage, &invites[0]).await?;
    take_joe_back(stage).await?;
    let mei = accept_mei(stage).await?;
    hold_a_conflict(stage).await?;
    hold_what_is_not_permitted(stage).await?;
    outlast_an_expiry(stage, &mei).await?;
    count_the_emails(stage)
}

async fn connect(stage: &Stage) -> anyhow::Result<()> {
    let mut organization = stage.manifests("organization.yaml")?.remove(0);
    organization["spec"]["organizationId"] = json!(stage.astro.organization_id());
    organization["spec"]["syncInterval"] = json!("2s");
    stage.apply(&organization).await?;
    stage
        .state("Organization", name(&organization), "Connected")
        .await?;
    stage.say("the Organization is connected");
    Ok(())
}

async fn invite_three(stage: &Stage) -> anyhow::Result<Vec<Value>> {
    headline("apply deploy/samples/invites.yaml");
    let invites = stage.manifests("invites.yaml")?;
    for invite in &invites {
        stage.apply(invite).await?;
    }
    for invite in &invites {
        let object = stage.state("OrgInvite", name(invite), "Invited").await?;
        let id = status(&object, "inviteId");
        ensure!(
            stage.astro.invites().iter().any(|row| row.id == id),
            "the fake does not know invite {id}"
        );
    }
    stage.say("three people are invited");
    stage.print_table().await?;
    Ok(invites)
}

async fn refuse_a_typo(stage: &Stage) -> anyhow::Result<()> {
    headline("apply deploy/samples/refused.yaml");
    match stage.apply(&stage.manifests("refused.yaml")?[0]).await {
        Ok(()) => bail!("a bad e-mail address was accepted"),
        Err(error) => println!("refused: {error}"),
    }
    Ok(())
}

async fn replace_jane(stage: &Stage, manifest: &Value) -> anyhow::Result<()> {
    headline("edit jane's role");
    let before = stage.state("OrgInvite", "jane", "Invited").await?;
    let mut jane = manifest.clone();
    jane["spec"]["role"] = json!("ORGANIZATION_OBSERVE_MEMBER");
    stage.apply(&jane).await?;
    stage
        .invited_again("jane", status(&before, "inviteId"))
        .await?;
    let live = stage.astro.live_invites("jane@example.com");
    ensure!(
        live.len() == 1 && live[0].role == "ORGANIZATION_OBSERVE_MEMBER",
        "jane has not one invitation with the new role"
    );
    stage.say("the old invitation is gone, one with the new role is out");
    Ok(())
}

async fn take_joe_back(stage: &Stage) -> anyhow::Result<()> {
    headline("delete joe");
    stage.delete("joe").await?;
    ensure!(
        stage.astro.live_invites("joe+astro@example.com").is_empty(),
        "joe's invitation is still there"
    );
    stage.say("joe's invitation is taken back");
    Ok(())
}

/// The ID that mei has as a member.
async fn accept_mei(stage: &Stage) -> anyhow::Result<String> {
    headline("mei accepts");
    let mei = stage.state("OrgInvite", "mei", "Invited").await?;
    stage.astro.accept(status(&mei, "inviteId"))?;
    let mei = stage.state("OrgInvite", "mei", "Accepted").await?;
    ensure!(
        conditions(&mei).any(|one| one["type"] == "Accepted" && one["status"] == "True"),
        "mei is not Accepted"
    );
    stage.say("the operator has seen it; from now on it only watches");
    stage.print_table().await?;
    Ok(status(&mei, "userId").to_owned())
}

async fn hold_a_conflict(stage: &Stage) -> anyhow::Result<()> {
    headline(
        "apply deploy/samples/conflict.yaml: jane's address once more, spelled JANE@Example.com",
    );
    stage.apply(&stage.manifests("conflict.yaml")?[0]).await?;
    let object = stage.state("OrgInvite", "jane-again", "Conflict").await?;
    stage.say("no second invitation: the object says why not");
    let stalled = conditions(&object).find(|one| one["type"] == "Stalled");
    let message = stalled.and_then(|one| one["message"].as_str());
    print_wrapped(message.context("the object is not Stalled")?);
    Ok(())
}

async fn hold_what_is_not_permitted(stage: &Stage) -> anyhow::Result<()> {
    headline("apply deploy/samples/not-permitted.yaml: the namespace asks for an owner");
    let manifest = &stage.manifests("not-permitted.yaml")?[0];
    stage.apply(manifest).await?;
    let object = stage.state("OrgInvite", "boss", "NotPermitted").await?;
    let events = stage.events("boss", 1).await?;
    ensure!(
        events.len() == 1 && events[0].reason.as_deref() == Some("NotPermitted"),
        "not the one event that there should be"
    );
    stage.say("no invitation: the object waits for a person, and says what to do");
    describe(&object, &events);
    Ok(())
}

/// What is due is computed from the status, so that a restart loses nothing and repeats nothing.
async fn outlast_an_expiry(stage: &mut Stage, mei: &str) -> anyhow::Result<()> {
    headline("the operator is killed, half an hour passes, and it is started again");
    let before = stage.state("OrgInvite", "jane", "Invited").await?;
    stage.kill_operator();
    stage.astro.set_clock_offset(LATER);
    ensure!(
        stage.astro.live_invites("jane@example.com").is_empty(),
        "jane's invitation did not expire"
    );
    stage.start_operator()?;
    let mut jane = stage
        .invited_again("jane", status(&before, "inviteId"))
        .await?;
    ensure!(
        jane.data["status"]["resends"] == 1,
        "the resend is not counted"
    );
    stage.say("jane's invitation had expired: a new one is out, the first of three by itself");
    let still = stage.state("OrgInvite", "mei", "Accepted").await?;
    ensure!(status(&still, "userId") == mei, "mei is somebody else");
    stage.print_table().await?;

    headline("one object, and its events");
    jane.metadata.managed_fields = None;
    println!("{}", serde_yaml_ng::to_string(&jane)?);
    let events = stage.events("jane", 3).await?;
    let reasons = events.iter().filter_map(|event| event.reason.as_deref());
    ensure!(
        reasons.eq(["Invited", "Replaced", "Resent"]),
        "not the events that there should be"
    );
    print_events(&events);
    Ok(())
}

fn count_the_emails(stage: &Stage) -> anyhow::Result<()> {
    headline("e-mails by address");
    let emails = stage.astro.emails();
    for (address, count) in &emails {
        println!("{count}  {address}");
    }
    let wanted = [
        ("jane@example.com", 3), // invited, replaced, sent again
        ("joe+astro@example.com", 1),
        ("mei@data.example.org", 1),
    ];
    let counted = emails.iter();
    ensure!(
        counted
            .map(|(address, count)| (address.as_str(), *count))
            .eq(wanted),
        "not the e-mails that there should be"
    );
    Ok(())
}
