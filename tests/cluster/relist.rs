//! Watches that the API server does not resume: what happened meanwhile shows in a new list only.

use futures::future::join_all;
use kube::Api;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use orginvite_operator::resources::Organization;
use serde_json::json;

use crate::way::Way;
use crate::world::World;

/// More than a page of a list has.
const PEOPLE: u32 = 40;

#[tokio::test(flavor = "multi_thread")]
async fn what_happened_while_nobody_watched_is_seen_to_after_a_list_of_several_pages() {
    let (world, way) = Way::start().await;
    let name = |number: u32| format!("p{number}");
    join_all((0..PEOPLE).map(|number| {
        let world = &world;
        async move {
            world
                .apply(&name(number), &format!("p{number}@example.com"))
                .await;
            world.state(&name(number), "Invited").await;
        }
    }))
    .await;
    world.apply("twin", "p0@example.com").await;
    world.state("twin", "Conflict").await;

    way.close();
    // One goes, one comes, one is edited, and one is to go.
    let api = world.invites();
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("p0", &PatchParams::default(), &free)
        .await
        .unwrap();
    api.delete("p0", &DeleteParams::default()).await.unwrap();
    world.apply("new", "new@example.com").await;
    world.edit_role("p1", "ORGANIZATION_OBSERVE_MEMBER").await;
    api.delete("p2", &DeleteParams::default()).await.unwrap();
    way.open();

    world.state("twin", "Invited").await;
    world.state("new", "Invited").await;
    world
        .until("the role is replaced", || {
            world.astro.emails_to("p1@example.com") == 2
        })
        .await;
    world
        .until("the invitation is taken back", || {
            world.astro.live_invites("p2@example.com").is_empty()
        })
        .await;
    world.until("both are told", || way.told()).await;
    assert_eq!(
        world.astro.emails_to("p0@example.com"),
        1,
        "it is taken over"
    );
    assert_eq!(world.astro.emails().values().sum::<u32>(), PEOPLE + 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_went_while_nobody_watched_is_gone() {
    let (world, way) = Way::start().await;
    let owner = world.manifest("boss", "boss@example.com", "ORGANIZATION_OWNER");
    world.create(&owner).await;
    world.state("boss", "NotPermitted").await;

    way.close();
    world.remove_organization().await;
    way.open();

    world.state("boss", "OrganizationNotFound").await;
    world.until("both are told", || way.told()).await;
}

/// Those of the first pages are in the cache once the list is complete, and not when each is read.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_of_many_that_came_while_nobody_watched_is_seen_to() {
    let mut world = World::prepare(json!({})).await;
    let served = format!("{0},{0}-b", world.organization);
    let way = Way::of(&world).await;
    world.start_operator_through(way.address, &["--organizations", &served]);
    world.organization_is("Connected").await;

    way.close();
    let twin = world.duplicate_organization().await;
    let api: Api<Organization> = Api::all(world.client.clone());
    let like = api.get(&twin).await.unwrap();
    join_all((0..PEOPLE).map(|number| {
        let mut other = like.clone();
        // A list shows them after those of this operator.
        other.metadata = ObjectMeta {
            name: Some(format!("{}-c{number}", world.organization)),
            ..ObjectMeta::default()
        };
        let api = api.clone();
        async move { api.create(&PostParams::default(), &other).await.unwrap() }
    }))
    .await;
    way.open();

    world.organization.clone_from(&twin);
    world.organization_is("Duplicate").await;
    world.until("both are told", || way.told()).await;
}

/// Whoever creates and deletes objects all the time would keep a new leader from planning anything.
#[tokio::test(flavor = "multi_thread")]
async fn deletions_that_go_on_hold_no_new_leader_up() {
    let (mut world, way) = Way::start().await;
    let names: Vec<String> = (0..PEOPLE).map(|number| format!("p{number}")).collect();
    for name in &names {
        // Nothing holds what is not allowed.
        let email = format!("{name}@example.com");
        let object = world.manifest(name, &email, "ORGANIZATION_OWNER");
        world.create(&object).await;
    }
    world.kill_operator();
    world.apply("jane", "jane@example.com").await;
    way.delete_after_lists(names);
    world.start_operator_through(way.address, &[]);
    world.state("jane", "Invited").await;
    assert!(
        way.to_delete() > 0,
        "otherwise it may have waited for the end"
    );
}
