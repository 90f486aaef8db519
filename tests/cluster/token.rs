//! The token is the Organization's affair, and is picked up when it changes.

use kube::runtime::wait::await_condition;
use orginvite_operator::resources::OrgInvite;
use serde_json::json;
use support::fake_astro::Operation;

use crate::world::{World, condition, invite_id, uid};

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_token_is_told_and_a_mended_one_picked_up_without_a_restart() {
    let mut world = World::prepare(json!({})).await;
    world.put_token("wrong").await;
    world.start_operator();
    world.organization_is("TokenRejected").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "AstroUnavailable").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    world.put_token(&world.astro.token()).await;
    world.organization_is("Connected").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_expires_is_told_and_replaced() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.astro.replace_token("another-token");
    world.organization_is("TokenRejected").await;
    world.put_token("another-token").await;
    world.organization_is("Connected").await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_an_organization_the_object_says_so_and_goes_on_when_it_comes() {
    let mut world = World::prepare(json!({})).await;
    let missing = format!("{}-missing", world.organization);
    let there = std::mem::replace(&mut world.organization, missing);
    world.start_operator();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "OrganizationNotFound").await;
    let api: kube::Api<orginvite_operator::resources::Organization> =
        kube::Api::all(world.client.clone());
    let mut organization = api.get(&there).await.unwrap();
    api.delete(&there, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    organization.metadata = kube::core::ObjectMeta {
        name: Some(world.organization.clone()),
        ..Default::default()
    };
    api.create(&kube::api::PostParams::default(), &organization)
        .await
        .unwrap();
    world.state("jane", "Invited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn of_two_organizations_for_one_the_younger_stands_back_until_the_older_goes() {
    let mut world = World::prepare(json!({})).await;
    let older = world.organization.clone();
    let younger = world.duplicate_organization().await;
    let api: kube::Api<orginvite_operator::resources::Organization> =
        kube::Api::all(world.client.clone());
    world.start_operator_with(&["--organizations", &format!("{older},{younger}")]);
    world.organization_is("Connected").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;

    world.organization.clone_from(&younger);
    world.organization_is("Duplicate").await;
    world.apply("joe", "jane@example.com").await;
    world.state("joe", "OrganizationNotReady").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    // Of its token nothing is known: it is not tried.
    let (_, metrics) = world.admin("/metrics").await;
    let told = |of: &str| {
        let line = format!("orginvite_token_accepted{{organization=\"{of}\"}}");
        metrics.contains(&line)
    };
    assert!(told(&older) && !told(&younger), "{metrics}");
    api.delete(&older, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    // By force, since jane's invitation keeps it.
    let force = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch(&older, &kube::api::PatchParams::default(), &force)
        .await
        .unwrap();
    world.organization_is("Connected").await;
    // The address is still jane's, whose Organization is gone.
    world.state("joe", "Conflict").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// Each answer of Astro has a name of its own; the status has to repeat what is the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_stays_unreadable_is_told_once() {
    let world = World::start().await;
    world.astro.replace_token("another-token");
    world.organization_is("TokenRejected").await;
    let api: kube::Api<orginvite_operator::resources::Organization> =
        kube::Api::all(world.client.clone());
    let told = api.get(&world.organization).await.unwrap().metadata;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("it was tried again", || {
            world.astro.count(Operation::ListUsers) >= lists + 2
        })
        .await;
    tokio::time::sleep(std::time::Duration::from_millis(500)).await;
    let later = api.get(&world.organization).await.unwrap().metadata;
    assert_eq!(told.resource_version, later.resource_version);
}

/// The first reading of a new connection fails: what kept an object from going on before is told no longer.
#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_comes_and_is_wrong_is_told_on_each_object() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.remove_token().await;
    world.organization_is("TokenMissing").await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "OrganizationNotReady").await;
    world.put_token("wrong").await;
    world.organization_is("TokenRejected").await;
    world.state("joe", "AstroUnavailable").await;
    let told = |object: Option<&OrgInvite>| {
        object
            .and_then(|object| condition(object, "Reconciling"))
            .is_some_and(|one| one.reason == "AstroUnavailable")
    };
    let told = await_condition(world.invites(), "jane", told);
    let jane = world.in_time("jane says so as well", told).await.unwrap();
    assert_eq!(condition(&jane.unwrap(), "Ready").unwrap().status, "True");
    world.put_token(&world.astro.token()).await;
    world.state("joe", "Invited").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_let_go_while_its_organization_has_no_token() {
    let world = World::start().await;
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let joe = world.apply("joe", "joe@example.com").await;
    let invite = invite_id(&world.state("joe", "Invited").await);
    world.astro.accept(&invite).unwrap();
    world.state("joe", "Accepted").await;
    world.apply("heir", "joe@example.com").await;
    world.state("heir", "Conflict").await;
    world.remove_token().await;
    world.organization_is("TokenMissing").await;
    world.delete("jane").await;
    world.delete("joe").await;
    world.state("jane", "OrganizationNotReady").await;
    world.state("joe", "OrganizationNotReady").await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    world.put_token(&world.astro.token()).await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    world.deleted("joe", &uid(&joe)).await;
    world.state("heir", "Accepted").await;
    assert_eq!(world.astro.emails_to("joe@example.com"), 1);
}
