//! The emergency switch, and leaving things alone.

use kube::Api;
use kube::api::{Patch, PatchParams};
use orginvite_operator::resources::Organization;
use serde_json::json;
use support::fake_astro::{Answer, Fault, Operation, Target, Times};

use crate::world::{World, uid};

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
