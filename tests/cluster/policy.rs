//! A namespace gives only the roles that the Organization allows it.

use kube::Api;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use orginvite_operator::resources::{OrgInvite, Organization};
use serde_json::json;
use support::fake_astro::{InviterKind, Operation, Shown};

use crate::world::{World, condition, invite_id, uid};

#[tokio::test(flavor = "multi_thread")]
async fn refused_by_allow_nothing_is_sent_until_it_allows() {
    let world = World::start().await;
    let owner = world.manifest("boss", "boss@example.com", "ORGANIZATION_OWNER");
    world.create(&owner).await;
    let object = world.state("boss", "NotPermitted").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    assert!(
        object.metadata.finalizers.is_none(),
        "nothing to take back, nothing to hold"
    );
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);

    let allow = json!({"spec": {"allow": [{"namespaces": [world.namespace], "roles": ["ORGANIZATION_OWNER"]}]}});
    world.edit_organization(allow).await;
    world.state("boss", "Invited").await;
    assert_eq!(world.astro.emails_to("boss@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_label_decides_and_is_watched() {
    let mut world = World::prepare(json!({
        "allow": [{"namespaceSelector": {"matchLabels": {"may-invite": "yes"}}, "roles": ["ORGANIZATION_MEMBER"], "emailDomains": ["example.com"]}],
    }))
    .await;
    world.start_operator();
    let team = format!("{}-team", world.namespace);
    world.create_namespace(&team, json!({})).await;
    let api: Api<OrgInvite> = Api::namespaced(world.client.clone(), &team);
    let object = world.manifest_in(&team, "jane", "jane@example.com", "ORGANIZATION_MEMBER");
    api.create(&PostParams::default(), &object).await.unwrap();
    let other = world.manifest_in(&team, "eve", "eve@evil.example", "ORGANIZATION_MEMBER");
    api.create(&PostParams::default(), &other).await.unwrap();
    world.state_in(&team, "jane", "NotPermitted").await;

    let label = json!({"metadata": {"labels": {"may-invite": "yes"}}});
    Api::<k8s_openapi::api::core::v1::Namespace>::all(world.client.clone())
        .patch(&team, &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    world.state_in(&team, "jane", "Invited").await;
    world.state_in(&team, "eve", "NotPermitted").await;
    assert_eq!(world.astro.emails_to("eve@evil.example"), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_to_a_role_that_is_not_allowed_leaves_the_invitation_alone() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.edit_role("jane", "ORGANIZATION_OWNER").await;
    world.state("jane", "NotPermitted").await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    world.edit_role("jane", "ORGANIZATION_MEMBER").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_invitation_with_a_role_that_is_not_allowed_is_not_touched() {
    let world = World::start().await;
    let owner = world
        .astro
        .invite_on_web_page("boss@example.com", "ORGANIZATION_OWNER")
        .unwrap();
    world.seen("boss@example.com").await;
    world.apply("boss", "boss@example.com").await;
    let object = world.state("boss", "NotPermitted").await;
    world.delete("boss").await;
    world.deleted("boss", &uid(&object)).await;
    world.seen("boss@example.com").await;
    assert!(object.metadata.finalizers.is_none());
    assert_eq!(world.astro.live_invites("boss@example.com")[0].id, owner);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_policy_that_allows_less_stops_emails_and_takes_nothing_back() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let jane = world.state("jane", "Invited").await;
    world.wrote("jane", 2).await;
    let allow = json!({"spec": {"allow": [{"namespaces": [world.namespace], "roles": ["ORGANIZATION_OBSERVE_MEMBER"]}]}});
    world.edit_organization(allow).await;
    // Two watches tell of the two objects, in whatever order.
    world
        .until("the edited policy is seen", || {
            world.log().contains("the Organization's spec changed")
        })
        .await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "NotPermitted").await;
    world.seen("jane@example.com").await;
    assert_eq!(world.writes(Some("jane")), 2, "it is as it was");
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);

    // Neither a wish nor an edit sends anything from a role that is not allowed any longer.
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    world.state("jane", "NotPermitted").await;
    world.edit_role("jane", "ORGANIZATION_OBSERVE_MEMBER").await;
    world.state("jane", "NotPermitted").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);

    // What it sent itself, it may take back.
    world.delete("jane").await;
    world.deleted("jane", &crate::world::uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_without_a_visible_role_is_adopted_once_it_is_known_to_be_the_tokens_own() {
    let world = World::start().await;
    world.astro.change_behaviour(|behaviour| {
        (behaviour.pending_role, behaviour.pending_role_with_invites) = (Shown::No, Shown::No);
    });
    // The token is its owner's, who also invites on the web page.
    let own = world
        .astro
        .invite_on_web_page("jane@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    world.seen("jane@example.com").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "NotPermitted").await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), own);
    assert_eq!(world.astro.emails_to("jane@example.com"), 0);
}

/// What was learned of a token holds for that token, and for as long as it is the same.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_of_another_token_is_not_the_tokens_own() {
    let mut world = World::start().await;
    world.astro.change_behaviour(|behaviour| {
        (behaviour.pending_role, behaviour.pending_role_with_invites) = (Shown::No, Shown::No);
        behaviour.inviter = InviterKind::ServiceKey;
    });
    let left_behind = async |world: &World, name: &str| {
        let email = format!("{name}@example.com");
        world.apply(name, &email).await;
        let object = world.state(name, "Invited").await;
        world.seen(&email).await;
        world.edit(name, json!({"deletionPolicy": "Retain"})).await;
        world.delete(name).await;
        world.deleted(name, &uid(&object)).await;
        invite_id(&object)
    };
    let janes = left_behind(&world, "jane").await;
    let learned = |object: Option<&Organization>| {
        let token = object.and_then(|object| object.status.as_ref()?.token.as_ref());
        token.is_some_and(|token| token.subject.is_some())
    };
    let api: Api<Organization> = Api::all(world.client.clone());
    let learned = await_condition(api, &world.organization, learned);
    world.in_time("it is noted", learned).await.unwrap();
    world.kill_operator();
    world.start_operator();
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), janes);

    left_behind(&world, "joe").await;
    world.astro.replace_token("another-token");
    world.put_token("another-token").await;
    world.organization_is("Connected").await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "NotPermitted").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.emails_to("joe@example.com"), 1);
}
