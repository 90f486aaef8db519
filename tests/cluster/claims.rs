//! One address gets one invitation, however many objects ask for it.

use crate::world::{World, condition, invite_id, uid};

#[tokio::test(flavor = "multi_thread")]
async fn of_two_objects_for_an_address_one_invites_and_the_other_says_why_not() {
    let world = World::start().await;
    world.apply("first", "jane@example.com").await;
    world.state("first", "Invited").await;
    let second = world.apply("second", "JANE@Example.com").await;
    let refused = world.state("second", "Conflict").await;
    assert!(
        condition(&refused, "Ready")
            .unwrap()
            .message
            .contains("OrgInvite first")
    );
    world.delete("second").await;
    world.deleted("second", &uid(&second)).await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_manifest_keeps_the_invitation_without_an_email() {
    let world = World::start().await;
    let old = world.apply("old", "jane@example.com").await;
    let id = invite_id(&world.state("old", "Invited").await);
    world.apply("new", "jane@example.com").await;
    world.state("new", "Conflict").await;
    world.delete("old").await;
    world.deleted("old", &uid(&old)).await;
    let new = world.state("new", "Invited").await;
    assert_eq!(invite_id(&new), id);
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
}
