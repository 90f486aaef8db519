//! One address gets one invitation, however many objects ask for it.

use std::time::Duration;

use futures::future::join_all;
use k8s_openapi::api::core::v1::Namespace;
use kube::api::{DeleteParams, ListParams, Patch, PatchParams, PostParams};
use kube::{Api, ResourceExt};
use orginvite_operator::resources::{OrgInvite, Organization};
use serde_json::json;
use support::fake_astro::{Answer, Fault, ListUsers, Operation, Times};

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

/// A namespace beside the world's own that may invite as well.
async fn second_namespace(world: &World) -> String {
    let name = format!("{}-b", world.namespace);
    world.create_namespace(&name, json!({})).await;
    name
}

async fn moved(at_once: bool) {
    let mut world = World::prepare(allow_everywhere()).await;
    world.start_operator();
    let there = second_namespace(&world).await;
    let old = world.apply("jane", "jane@example.com").await;
    let id = invite_id(&world.state("jane", "Invited").await);
    let api: Api<OrgInvite> = Api::namespaced(world.client.clone(), &there);
    let object = world.manifest_in(&there, "jane", "jane@example.com", "ORGANIZATION_MEMBER");
    if at_once {
        // As a GitOps tool does it that prunes first: the holder goes before the heir comes.
        world.delete("jane").await;
        api.create(&PostParams::default(), &object).await.unwrap();
    } else {
        api.create(&PostParams::default(), &object).await.unwrap();
        let heir = world.state_in(&there, "jane", "Conflict").await;
        let message = &condition(&heir, "Ready").unwrap().message;
        assert!(
            !message.contains(&world.namespace),
            "names the holder's namespace: {message}"
        );
        world.delete("jane").await;
    }
    world.deleted("jane", &uid(&old)).await;
    let heir = world.state_in(&there, "jane", "Invited").await;
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, invite_id(&heir));
    if !at_once {
        assert_eq!(invite_id(&heir), id);
        assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    }
}

fn allow_everywhere() -> serde_json::Value {
    json!({"allow": [{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]}]})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_moves_to_another_namespace_keeps_the_invitation() {
    moved(false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_manifest_that_is_pruned_before_it_is_created_elsewhere_leaves_one_invitation() {
    moved(true).await;
}

/// The operator is killed at the moment that `reached` is seen of the hand-over, and started again.
async fn handed_over_despite_a_kill(reached: fn(&OrgInvite, Option<&OrgInvite>) -> bool) {
    let mut world = World::start().await;
    let old = world.apply("old", "jane@example.com").await;
    let id = invite_id(&world.state("old", "Invited").await);
    world.apply("new", "jane@example.com").await;
    world.state("new", "Conflict").await;
    world.delete("old").await;
    world
        .in_time("that point of the hand-over", async {
            loop {
                let new = world.invites().get("new").await.unwrap();
                let old = world.invites().get_opt("old").await.unwrap();
                if reached(&new, old.as_ref()) {
                    break;
                }
            }
        })
        .await;
    world.kill_operator();
    world.start_operator();
    world.deleted("old", &uid(&old)).await;
    let new = world.state("new", "Invited").await;
    assert_eq!(invite_id(&new), id);
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!((live.len(), &live[0].id), (1, &id));
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_survives_a_kill_when_the_holder_is_being_deleted() {
    handed_over_despite_a_kill(|_, old| {
        old.is_none_or(|old| old.metadata.deletion_timestamp.is_some())
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_survives_a_kill_when_the_heir_holds() {
    handed_over_despite_a_kill(|new, _| !new.finalizers().is_empty()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hand_over_survives_a_kill_when_the_heir_has_the_record() {
    handed_over_despite_a_kill(|new, _| {
        new.status
            .as_ref()
            .is_some_and(|status| status.invite_id.is_some())
    })
    .await;
}

/// An heir that may not have the holder's role is none: the invitation is taken back, and the heir
/// sends its own.
#[tokio::test(flavor = "multi_thread")]
async fn what_an_heir_may_not_have_is_not_handed_over() {
    let mut world = World::prepare(json!({})).await;
    let allow = json!({"spec": {"allow": [
        {"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]},
        {"namespaces": [world.namespace], "roles": ["ORGANIZATION_BILLING_ADMIN"]},
    ]}});
    world.edit_organization(allow).await;
    world.start_operator();
    let there = second_namespace(&world).await;
    let holder = world.manifest("jane", "jane@example.com", "ORGANIZATION_BILLING_ADMIN");
    let old = world.create(&holder).await;
    let id = invite_id(&world.state("jane", "Invited").await);
    let api: Api<OrgInvite> = Api::namespaced(world.client.clone(), &there);
    let object = world.manifest_in(&there, "jane", "jane@example.com", "ORGANIZATION_MEMBER");
    api.create(&PostParams::default(), &object).await.unwrap();
    world.state_in(&there, "jane", "Conflict").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&old)).await;
    let heir = world.state_in(&there, "jane", "Invited").await;
    assert_ne!(invite_id(&heir), id);
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_MEMBER")
    );
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

/// A namespace that may invite nobody keeps an address from nobody, however early its object comes, and no invitation
/// from being handed over.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_not_permitted_stands_in_nobodys_way() {
    let mut world = World::prepare(json!({})).await;
    let there = second_namespace(&world).await;
    let allow = json!([{"namespaces": [there], "roles": ["ORGANIZATION_MEMBER"]}]);
    world
        .edit_organization(json!({"spec": {"allow": allow}}))
        .await;
    world.start_operator();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "NotPermitted").await;
    let api: Api<OrgInvite> = Api::namespaced(world.client.clone(), &there);
    let create = async |name: &str| {
        let object = world.manifest_in(&there, name, "jane@example.com", "ORGANIZATION_MEMBER");
        api.create(&PostParams::default(), &object).await.unwrap();
    };
    create("old").await;
    let id = invite_id(&world.state_in(&there, "old", "Invited").await);
    create("new").await;
    world.state_in(&there, "new", "Conflict").await;
    api.delete("old", &DeleteParams::default()).await.unwrap();
    assert_eq!(
        invite_id(&world.state_in(&there, "new", "Invited").await),
        id
    );
    world.state("jane", "NotPermitted").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// Who waited for an object whose namespace may not invite any longer is told at once.
#[tokio::test(flavor = "multi_thread")]
async fn who_waits_goes_on_when_the_one_before_may_not_invite_any_longer() {
    let mut world = World::prepare(json!({"allow": [
        {"namespaceSelector": {"matchLabels": {"may-invite": "yes"}}, "roles": ["ORGANIZATION_MEMBER"]},
    ]}))
    .await;
    world.start_operator();
    let teams = ["first", "second"].map(|team| format!("{}-{team}", world.namespace));
    for team in &teams {
        world
            .create_namespace(team, json!({"may-invite": "yes"}))
            .await;
    }
    let create = async |team: &str| {
        let api: Api<OrgInvite> = Api::namespaced(world.client.clone(), team);
        let object = world.manifest_in(team, "jane", "jane@example.com", "ORGANIZATION_MEMBER");
        api.create(&PostParams::default(), &object).await.unwrap();
    };
    // So that it has nothing, and is the one that may try.
    let refused = Fault::before(Answer::Status(400));
    world
        .astro
        .fault(Operation::CreateInvite, refused, Times::UntilCleared);
    create(&teams[0]).await;
    world.state_in(&teams[0], "jane", "Refused").await;
    create(&teams[1]).await;
    world.state_in(&teams[1], "jane", "Conflict").await;
    world.astro.clear_faults();
    let label = json!({"metadata": {"labels": {"may-invite": null}}});
    Api::<Namespace>::all(world.client.clone())
        .patch(&teams[0], &PatchParams::default(), &Patch::Merge(label))
        .await
        .unwrap();
    world.state_in(&teams[1], "jane", "Invited").await;
    world.state_in(&teams[0], "jane", "NotPermitted").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// A manifest that is renamed takes along that its person is a member, or was one and was removed.
#[tokio::test(flavor = "multi_thread")]
async fn a_renamed_manifest_takes_the_member_along() {
    let world = World::start().await;
    for name in ["amy", "max"] {
        let email = format!("{name}@example.com");
        world
            .astro
            .add_member(&email, "ORGANIZATION_MEMBER")
            .unwrap();
        world.seen(&email).await;
        world.apply(name, &email).await;
        let object = world.state(name, "AlreadyMember").await;
        assert_eq!(object.finalizers().len(), 1);
    }
    world.astro.remove_member("max@example.com").unwrap();
    world.state("max", "MemberRemoved").await;
    let rename = async |name: &str, reason: &str| {
        let old = world.invites().get(name).await.unwrap();
        let new = format!("new-{name}");
        world.apply(&new, &format!("{name}@example.com")).await;
        world.state(&new, "Conflict").await;
        world.delete(name).await;
        world.deleted(name, &uid(&old)).await;
        world.state(&new, reason).await;
    };
    rename("max", "MemberRemoved").await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.list_users = ListUsers::Forbidden);
    world.organization_is("ListForbidden").await;
    rename("amy", "AlreadyMember").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
}

/// An heir that may not give the role with which somebody became a member takes over that there is a member.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_have_the_invitation_takes_over_the_member() {
    let mut world = World::prepare(json!({})).await;
    let there = second_namespace(&world).await;
    let allow = json!({"spec": {"allow": [
        {"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]},
        {"namespaces": [world.namespace], "roles": ["ORGANIZATION_BILLING_ADMIN"]},
    ]}});
    world.edit_organization(allow).await;
    world.start_operator();
    let api = world.invites();
    let holder = world.manifest("jane", "jane@example.com", "ORGANIZATION_BILLING_ADMIN");
    api.create(&PostParams::default(), &holder).await.unwrap();
    let invited = world.state("jane", "Invited").await;
    world.astro.accept(&invite_id(&invited)).unwrap();
    world.state("jane", "Accepted").await;
    world.astro.remove_member("jane@example.com").unwrap();
    world.state("jane", "MemberRemoved").await;
    let heirs: Api<OrgInvite> = Api::namespaced(world.client.clone(), &there);
    let heir = world.manifest_in(&there, "jane", "jane@example.com", "ORGANIZATION_MEMBER");
    heirs.create(&PostParams::default(), &heir).await.unwrap();
    world.state_in(&there, "jane", "Conflict").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&invited)).await;
    let heir = world.state_in(&there, "jane", "MemberRemoved").await;
    let status = heir.status.unwrap();
    assert_eq!((status.invite_id, status.role), (None, None));
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// An object for the same organization by another Organization, which stands back, is nobody's heir.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_of_a_duplicate_organization_holds_up_no_deletion() {
    let mut world = World::prepare(json!({})).await;
    let organizations: Api<Organization> = Api::all(world.client.clone());
    let older = world.organization.clone();
    let younger = world.duplicate_organization().await;
    world.start_operator_with(&["--organizations", &format!("{older},{younger}")]);
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.organization.clone_from(&younger);
    world.organization_is("Duplicate").await;
    world.apply("joe", "jane@example.com").await;
    world.state("joe", "OrganizationNotReady").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    organizations
        .delete(&older, &DeleteParams::default())
        .await
        .unwrap();
    world.state("joe", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

/// So many that a change of one has the others planned together.
#[tokio::test(flavor = "multi_thread")]
async fn of_a_crowd_that_waits_one_takes_over() {
    let world = World::start().await;
    let holder = world.apply("holder", "jane@example.com").await;
    let id = invite_id(&world.state("holder", "Invited").await);
    let names: Vec<String> = (0..34).map(|n| format!("p{n}")).collect();
    let there = &world;
    join_all(names.iter().map(|name| async move {
        there.apply(name, "jane@example.com").await;
        there.state(name, "Conflict").await;
    }))
    .await;
    world.delete("holder").await;
    world.deleted("holder", &uid(&holder)).await;
    world.seen("jane@example.com").await;
    let objects = world.invites().list(&ListParams::default()).await.unwrap();
    let mut heirs = Vec::new();
    for object in &objects {
        if object.status.as_ref().unwrap().invite_id.is_some() {
            heirs.push(object.name_any());
            assert_eq!(invite_id(object), id);
        } else {
            world.state(&object.name_any(), "Conflict").await;
        }
    }
    assert_eq!((objects.items.len(), heirs.len()), (34, 1), "{heirs:?}");
    world.state(&heirs[0], "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

/// Somebody else's finalizer keeps the holder after its record was handed over: nobody takes it over once more.
#[tokio::test(flavor = "multi_thread")]
async fn of_two_that_wait_one_takes_over_however_long_the_holder_stays() {
    let world = World::start().await;
    let mut holder = world.manifest("holder", "jane@example.com", "ORGANIZATION_MEMBER");
    holder.metadata.finalizers = Some(vec!["example.com/a".to_owned()]);
    world.create(&holder).await;
    let id = invite_id(&world.state("holder", "Invited").await);
    for name in ["a", "b"] {
        world.apply(name, "jane@example.com").await;
        world.state(name, "Conflict").await;
    }
    world.delete("holder").await;
    let invites = world.invites();
    let released = async {
        while invites.get("holder").await.unwrap().finalizers() != ["example.com/a"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    world.in_time("the holder lets go", released).await;
    world.seen("jane@example.com").await;
    let mut heirs = Vec::new();
    for name in ["a", "b"] {
        let object = invites.get(name).await.unwrap();
        heirs.extend(object.status.unwrap().invite_id);
    }
    assert_eq!(heirs, [id]);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    let params = PatchParams::default();
    invites.patch("holder", &params, &free).await.unwrap();
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}
