//! The emergency switch, and leaving things alone.

use std::time::Duration;

use kube::Api;
use kube::api::{ListParams, Patch, PatchParams};
use orginvite_operator::resources::Organization;
use serde_json::json;
use support::fake_astro::{Answer, Fault, Operation, Target, Times};

use crate::way::{Way, is_write_to_an_org_invite};
use crate::world::{World, condition, uid};

async fn suspend(world: &World, suspend: bool) {
    let patch = Patch::Merge(json!({"spec": {"suspend": suspend}}));
    Api::<Organization>::all(world.client.clone())
        .patch(&world.organization, &PatchParams::default(), &patch)
        .await
        .unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn suspended_nothing_in_astro_changes_and_each_object_says_what_would() {
    let mut world = World::prepare(json!({"suspend": true})).await;
    world.start_operator();
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Suspended").await;
    assert_eq!(
        object.status.unwrap().planned_action.as_deref(),
        Some("send an invitation")
    );
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);

    suspend(&world, false).await;
    let object = world.state("jane", "Invited").await;
    let status = object.status.clone().unwrap();
    assert_eq!(status.planned_action, None);

    suspend(&world, true).await;
    // What is planned while the switch is on is held; the object stays.
    world
        .until("the switch is seen", || {
            world.log().contains(r#""suspended":true"#)
        })
        .await;
    world.delete("jane").await;
    let id = status.invite_id.unwrap();
    world
        .in_time("the plan is told", async {
            loop {
                let planned = world
                    .invites()
                    .get("jane")
                    .await
                    .unwrap()
                    .status
                    .unwrap()
                    .planned_action;
                if planned == Some(format!("revoke invitation {id}")) {
                    break;
                }
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    suspend(&world, false).await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
}

/// The attempt was on its way to the API server, which took its time.
#[tokio::test(flavor = "multi_thread")]
async fn suspended_while_an_attempt_is_written_nothing_is_sent() {
    let (world, way) = Way::start().await;
    way.hold(is_write_to_an_org_invite);
    world.apply("jane", "jane@example.com").await;
    world
        .until("the attempt is on its way", || way.held() == 1)
        .await;
    suspend(&world, true).await;
    world
        .until("the switch is seen", || {
            world.log().contains(r#""suspended":true"#)
        })
        .await;
    way.release();
    world.state("jane", "Suspended").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);

    suspend(&world, false).await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn retain_leaves_the_invitation_and_is_the_way_out_when_astro_cannot_be_reached() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    world.astro.fault(
        Target::Every,
        Fault::before(Answer::Status(503)),
        Times::UntilCleared,
    );
    world.organization_is("AstroUnavailable").await;
    world.delete("jane").await;
    world
        .edit("jane", json!({"deletionPolicy": "Retain"}))
        .await;
    world.deleted("jane", &uid(&object)).await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

/// What kept them from going on is told no longer than that.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_in_line_after_a_suspension_says_so() {
    let mut world = World::prepare(json!({"suspend": true})).await;
    world.start_operator_with(&["--posts-per-second", "1"]);
    world.organization_is("Connected").await;
    let names: Vec<String> = (0..12).map(|n| format!("p{n}")).collect();
    for name in &names {
        world.apply(name, &format!("{name}@example.com")).await;
    }
    for name in &names {
        world.state(name, "Suspended").await;
    }
    let resume = json!({"spec": {"suspend": false}});
    world.edit_organization(resume).await;
    let queued = async {
        loop {
            let all = world.invites().list(&ListParams::default()).await.unwrap();
            let of = |reason: &str| {
                let ready = all.iter().filter_map(|object| condition(object, "Ready"));
                ready.filter(|ready| ready.reason == reason).count()
            };
            if of("Suspended") == 0 && of("Queued") > 0 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    world.in_time("they say that they wait", queued).await;
    for name in &names {
        world.state(name, "Invited").await;
        // Suspended, perhaps in line, the attempt and its outcome.
        assert!((3..=4).contains(&world.writes_so_far(Some(name)).await));
    }
    assert_eq!(world.astro.count(Operation::CreateInvite), names.len());
}
