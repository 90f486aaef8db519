//! An applied OrgInvite becomes an invitation, and takes it back when it goes.

use std::time::Duration;

use kube::ResourceExt as _;
use kube::api::{Patch, PatchParams};
use orginvite_operator::astro::Role;
use orginvite_operator::resources::OrgInvite;
use serde_json::json;
use support::fake_astro::{Answer, Fault, HoldPoint, Operation, Times};

use crate::world::{PATIENT, STEADY, World, condition, invite_id, uid};

#[tokio::test(flavor = "multi_thread")]
async fn created_the_person_is_invited_once_and_the_status_is_complete() {
    let world = World::start().await;
    let created = world.apply("jane", "Jane+astro@Example.com").await;
    assert_eq!(
        created.status.as_ref().unwrap().observed_generation,
        -1,
        "a new object reads as in progress"
    );

    let object = world.state("jane", "Invited").await;
    let status = object.status.clone().unwrap();
    let invite = &world.astro.live_invites("jane+astro@example.com")[0];
    assert_eq!(status.invite_id.as_deref(), Some(invite.id.as_str()));
    assert_eq!(
        status.email.as_deref(),
        Some("Jane+astro@Example.com"),
        "sent as the user wrote it"
    );
    assert_eq!(
        status.organization_id.as_deref(),
        Some(world.astro.organization_id())
    );
    assert_eq!(
        status.observed_generation,
        object.metadata.generation.unwrap()
    );
    assert!(status.invited_at.is_some() && status.expires_at.is_some() && status.role.is_some());
    assert!(status.inviter.is_some());
    assert_eq!(condition(&object, "Ready").unwrap().status, "True");
    assert_eq!(condition(&object, "Accepted").unwrap().status, "False");
    assert!(condition(&object, "Stalled").is_none() && condition(&object, "Reconciling").is_none());
    assert_eq!(world.astro.emails_to("jane+astro@example.com"), 1);
    // The attempt and the status.
    world.wrote("jane", 2).await;
    let own: Vec<Option<&str>> = object
        .managed_fields()
        .iter()
        .filter(|fields| fields.manager.as_deref() == Some("orginvite-operator"))
        .map(|fields| fields.subresource.as_deref())
        .collect();
    assert_eq!(own, [None, Some("status")], "it says who wrote what");
}

#[tokio::test(flavor = "multi_thread")]
async fn deleted_the_invitation_is_gone_and_then_the_object() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    // Two to invite and one to let go.
    world.wrote("jane", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_write_by_somebody_else_during_the_deletion_costs_no_second_delete() {
    let world = World::start_with(&STEADY).await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    let mut gate = world
        .astro
        .hold(Operation::DeleteInvite, HoldPoint::AfterEffect);
    world.delete("jane").await;
    world
        .in_time("the DELETE took effect", gate.arrived())
        .await
        .unwrap();
    world.annotate("jane", "test/touched", "1").await;
    gate.release();
    world.deleted("jane", &uid(&object)).await;
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_waits_while_astro_fails_and_ends_when_it_recovers() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    world.astro.fault(
        Operation::DeleteInvite,
        Fault::before(Answer::Status(500)),
        Times::UntilCleared,
    );
    world.delete("jane").await;
    let waiting = world.state("jane", "RevokeFailed").await;
    assert!(
        condition(&waiting, "Ready")
            .unwrap()
            .message
            .contains("500")
    );
    assert!(!world.astro.live_invites("jane@example.com").is_empty());
    world.astro.clear_faults();
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_edit_replaces_the_pending_invitation_with_one_new_email() {
    let world = World::start_with(&PATIENT).await;
    world.apply("jane", "jane@example.com").await;
    let before = invite_id(&world.state("jane", "Invited").await);
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    let after = world.state("jane", "Invited").await;
    assert_ne!(invite_id(&after), before);
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, invite_id(&after));
    assert_eq!(live[0].role, "ORGANIZATION_BILLING_ADMIN");
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
    // Two for each e-mail, and that the one before is taken back.
    world.wrote("jane", 5).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_role_edited_there_and_back_ends_as_the_spec_says() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    for role in [
        "ORGANIZATION_BILLING_ADMIN",
        "ORGANIZATION_OBSERVE_MEMBER",
        "ORGANIZATION_MEMBER",
    ] {
        world.edit_role("jane", role).await;
    }
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_MEMBER")
    );
    assert_eq!(live[0].id, invite_id(&object));
    assert!(world.astro.emails_to("jane@example.com") <= 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pending_invitation_of_somebody_else_is_adopted_without_an_email() {
    let world = World::start().await;
    let existing = world
        .astro
        .invite_on_web_page("jane@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    // The directory has to have seen it: what is younger than the last pass nobody can know.
    world.seen("jane@example.com").await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), existing);
    assert_eq!(world.astro.emails_to("jane@example.com"), 0);
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_invitation_with_another_role_is_replaced() {
    let world = World::start().await;
    world
        .astro
        .invite_on_web_page("jane@example.com", "ORGANIZATION_BILLING_ADMIN")
        .unwrap();
    world.seen("jane@example.com").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_MEMBER")
    );
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_gets_no_email() {
    let world = World::start().await;
    world
        .astro
        .add_member("jane@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    world.seen("jane@example.com").await;
    world.apply("jane", "JANE@example.com").await;
    let object = world.state("jane", "AlreadyMember").await;
    assert_eq!(condition(&object, "Accepted").unwrap().status, "True");
    assert!(object.status.as_ref().unwrap().user_id.is_some());
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    world.seen("jane@example.com").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    assert_eq!(world.astro.count(Operation::RemoveMember), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn acceptance_is_told_and_deletion_afterwards_touches_nobody() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let id = invite_id(&world.state("jane", "Invited").await);
    world.astro.accept(&id).unwrap();
    let object = world.state("jane", "Accepted").await;
    assert_eq!(condition(&object, "Accepted").unwrap().status, "True");
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_disappeared_is_told_and_not_sent_again() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let id = invite_id(&world.state("jane", "Invited").await);
    world.astro.reject(&id).unwrap();
    let object = world.state("jane", "InvitationWithdrawn").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_the_api_server_keeps_is_not_told_as_invited_once_it_was_taken_back() {
    let world = World::start().await;
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let rule = ("has(object.metadata.finalizers)", "it stays");
    let free = json!({"metadata": {"finalizers": null}});
    world.admit_only(&world.invites(), "jane", rule, free).await;
    world.delete("jane").await;
    let kept = world.state("jane", "WriteRefused").await;
    assert_eq!(condition(&kept, "Ready").unwrap().status, "False");
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    world.admit_all().await;
    world.deleted("jane", &uid(&jane)).await;
}

/// As kubectl replace does, and some GitOps tools: what the manifest does not name is dropped.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_without_its_finalizer_gets_it_back() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let mut jane = world.state("jane", "Invited").await;
    jane.metadata.finalizers = None;
    jane.metadata.annotations = None;
    world.replace(jane.clone()).await;
    world.held("jane").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// Whatever keeps its next step from being taken.
#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_replaced_with_another_role_is_held_while_it_waits() {
    let world = World::start().await;
    for (name, disturb) in [
        ("suspended", json!({"spec": {"suspend": true}})),
        ("missing", json!({"spec": {"suspend": false}})),
    ] {
        let email = format!("{name}@example.com");
        world.apply(name, &email).await;
        let mut object = world.state(name, "Invited").await;
        world.edit_organization(disturb).await;
        if name == "missing" {
            world.remove_token().await;
            world.organization_is("TokenMissing").await;
            object = world.invites().get(name).await.unwrap();
        }
        object.metadata.finalizers = None;
        object.spec.role = Role::OrganizationObserveMember;
        let replaced = world.replace(object).await;
        world.held(name).await;
        world.delete(name).await;
        let resume = json!({"spec": {"suspend": false}});
        world.edit_organization(resume).await;
        world.put_token(&world.astro.token()).await;
        world.deleted(name, &uid(&replaced)).await;
        assert!(world.astro.live_invites(&email).is_empty());
        assert_eq!(world.astro.emails_to(&email), 1);
    }
}

/// As when an Organization was removed by force, and created again for another organization in Astro.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_of_another_organization_is_left_as_it_is() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    let patch = Patch::Merge(json!({"status": {"organizationId": "another"}}));
    let invites = world.invites();
    invites
        .patch_status("jane", &PatchParams::default(), &patch)
        .await
        .unwrap();
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    let told = |object: &OrgInvite| {
        condition(object, "Reconciling").is_some_and(|told| told.message.contains("another"))
    };
    world
        .in_time("it says so", async {
            while !told(&invites.get("jane").await.unwrap()) {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    world.seen("jane@example.com").await;
    world.delete("jane").await;
    world.state("jane", "OrganizationNotReady").await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    world
        .edit("jane", json!({"deletionPolicy": "Retain"}))
        .await;
    world.deleted("jane", &uid(&object)).await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_adopted_invitation_with_another_role_is_not_what_the_spec_says() {
    let world = World::start().await;
    let email = "jane@example.com";
    let other = "ORGANIZATION_BILLING_ADMIN";
    let web = world.astro.invite_on_web_page(email, other).unwrap();
    world.seen(email).await;
    let mut gate = world
        .astro
        .hold(Operation::DeleteInvite, HoldPoint::BeforeEffect);
    world.apply("jane", email).await;
    world
        .in_time("it is to be replaced", gate.arrived())
        .await
        .unwrap();
    let adopted = world.invites().get("jane").await.unwrap();
    assert_eq!(invite_id(&adopted), web);
    for one in adopted.conditions() {
        let observed = one.observed_generation;
        assert!(observed < adopted.metadata.generation, "{one:?}");
    }
    gate.release();
    let replaced = world.state("jane", "Invited").await;
    assert_ne!(invite_id(&replaced), web);
    for one in replaced.conditions() {
        assert_eq!(one.observed_generation, replaced.metadata.generation);
    }
}

/// Such as from something on the way that speaks like the API.
#[tokio::test(flavor = "multi_thread")]
async fn a_404_for_an_invitation_that_is_shown_lets_nothing_go() {
    let world = World::start().await;
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let wrong = Fault::before(Answer::Status(404));
    world
        .astro
        .fault(Operation::DeleteInvite, wrong, Times::Next(2));
    world.delete("jane").await;
    world.state("jane", "RevokeFailed").await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    assert_eq!(world.astro.count(Operation::DeleteInvite), 3);
}
