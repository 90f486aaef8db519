//! An operator that was rolled back among what the definitions of a later version let in. By itself: a changed
//! definition ends everybody's watches.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

#[path = "cluster/cable.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod cable;
#[path = "cluster/kstatus.rs"]
mod kstatus;
#[path = "cluster/world.rs"]
#[allow(dead_code, reason = "other tests need more of it")]
mod world;

use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ApiResource, DynamicObject, Patch, PatchParams};
use kube::core::GroupVersionKind;
use kube::{Api, ResourceExt};
use orginvite_operator::resources::Organization;
use orginvite_operator::resources::org_invite::ATTEMPT_ANNOTATION;
use serde_json::{Value, json};
use support::fake_astro::ListUsers;
use tokio::sync::OnceCell;

use crate::world::{World, uid};

/// A value that this version does not know.
const LATER: &str = "OF_A_LATER_VERSION";

/// Edits the definition's schema.
async fn edit_definition(world: &World, plural: &str, edit: impl FnOnce(&mut Value)) {
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let name = format!("{plural}.iam.astronomer.io");
    let mut definition = serde_json::to_value(api.get(&name).await.unwrap()).unwrap();
    let versions = &mut definition["spec"]["versions"];
    edit(&mut versions[0]["schema"]["openAPIV3Schema"]["properties"]);
    let later = json!({"spec": {"versions": versions}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(later))
        .await
        .unwrap();
}

/// Patches an object as the API server takes it once it serves the later definitions.
async fn patch_later(world: &World, name: &str, params: &PatchParams, patch: &Patch<Value>) {
    let api = world.invites();
    let taken = async {
        while api.patch(name, params, patch).await.is_err() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    world.in_time("the API server takes it", taken).await;
}

/// The object as it is stored.
async fn stored(world: &World, name: &str) -> Value {
    let kind = GroupVersionKind::gvk("iam.astronomer.io", "v1alpha1", "OrgInvite");
    let resource = ApiResource::from_gvk_with_plural(&kind, "orginvites");
    let api: Api<DynamicObject> =
        Api::namespaced_with(world.client.clone(), &world.namespace, &resource);
    serde_json::to_value(api.get(name).await.unwrap()).unwrap()
}

/// Edited once: whoever watches has to begin anew each time.
async fn later_definitions(world: &World) {
    static EDITED: OnceCell<()> = OnceCell::const_new();
    EDITED.get_or_init(|| edit_definitions(world)).await;
}

async fn edit_definitions(world: &World) {
    edit_definition(world, "orginvites", |schema| {
        for field in ["role", "deletionPolicy", "resendWhen"] {
            let values = &mut schema["spec"]["properties"][field]["enum"];
            values.as_array_mut().unwrap().push(json!(LATER));
        }
        let values = &mut schema["status"]["properties"]["role"]["enum"];
        values.as_array_mut().unwrap().push(json!(LATER));
    })
    .await;
    edit_definition(world, "organizations", |schema| {
        let rule = &mut schema["spec"]["properties"]["allow"]["items"]["properties"];
        rule["onlyFor"] = json!({"type": "string"});
        let roles = rule["roles"]["items"]["enum"].as_array_mut().unwrap();
        roles.push(json!(LATER));
    })
    .await;
}

/// Whatever else the Organization says.
async fn tells_of_the_rule(world: &World, reason: &str) {
    world.organization_is(reason).await;
    let api: Api<Organization> = Api::all(world.client.clone());
    let status = api.get(&world.organization).await.unwrap().status.unwrap();
    let message = &status.conditions[0].message;
    assert!(message.contains("Rule 2 of allow"), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_let_in_is_left_alone_and_stops_nobody() {
    let mut world = World::prepare(json!({})).await;
    later_definitions(&world).await;
    let (member, owner) = ("ORGANIZATION_MEMBER", "ORGANIZATION_OWNER");
    for (name, role, policy) in [
        ("later", LATER, "Delete"),
        ("kept", member, LATER),
        ("jane", member, "Delete"),
        ("boss", owner, "Delete"),
    ] {
        let object = json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite", "metadata": {"name": name},
            "spec": {
                "email": format!("{name}@example.com"), "role": role, "deletionPolicy": policy,
                "organizationRef": {"name": world.organization},
            },
        });
        let params = PatchParams::apply("a-later-version").force();
        patch_later(&world, name, &params, &Patch::Apply(object)).await;
    }
    let namespaces = [&world.namespace];
    let rules = json!([
        {"namespaces": namespaces, "roles": [LATER, member]},
        {"namespaces": namespaces, "roles": [owner], "onlyFor": "somebody else"},
    ]);
    world
        .edit_organization(json!({"spec": {"allow": rules}}))
        .await;
    world.start_operator();

    world.state("jane", "Invited").await;
    for name in ["later", "kept"] {
        world.state(name, "NotSupported").await;
    }
    // The rule may be meant for fewer than it says here.
    world.state("boss", "NotPermitted").await;
    tells_of_the_rule(&world, "Connected").await;
    assert_eq!(world.astro.emails().len(), 1);
    let list = |answer| {
        world
            .astro
            .change_behaviour(|behaviour| behaviour.list_users = answer);
    };
    list(ListUsers::Forbidden);
    tells_of_the_rule(&world, "ListForbidden").await;
    list(ListUsers::Allowed);
    world.organization_is("Connected").await;

    // A person says what is meant.
    world.edit_role("later", member).await;
    world
        .edit("kept", json!({"deletionPolicy": "Retain"}))
        .await;
    for name in ["later", "kept"] {
        world.state(name, "Invited").await;
    }
    assert_eq!(world.astro.emails().values().sum::<u32>(), 3);
}

/// As the later version left it, which is to go on from there.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_that_a_later_version_recorded_is_lost() {
    let mut world = World::prepare(json!({})).await;
    later_definitions(&world).await;
    world.start_operator();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.kill_operator();
    let mut attempt = world.invites().get("jane").await.unwrap();
    let attempt = attempt
        .annotations_mut()
        .remove(ATTEMPT_ANNOTATION)
        .unwrap();
    let attempt = attempt.replace("ORGANIZATION_MEMBER", LATER);
    let spec = Patch::Merge(json!({
        "metadata": {"annotations": {ATTEMPT_ANNOTATION: attempt}}, "spec": {"role": LATER},
    }));
    let (api, params) = (world.invites(), PatchParams::default());
    patch_later(&world, "jane", &params, &spec).await;
    let status = Patch::Merge(json!({"status": {"role": LATER, "observedGeneration": 2}}));
    api.patch_status("jane", &params, &status).await.unwrap();
    let before = stored(&world, "jane").await;

    world.start_operator();
    world.state("jane", "NotSupported").await;
    let after = stored(&world, "jane").await;
    for field in [
        "inviteId",
        "attemptId",
        "role",
        "email",
        "expiresAt",
        "invitedAt",
        "inviter",
    ] {
        assert!(
            before["status"][field].is_string() || field == "inviter",
            "{field}"
        );
        assert_eq!(after["status"][field], before["status"][field], "{field}");
    }
    assert_eq!(
        after["metadata"]["annotations"],
        before["metadata"]["annotations"]
    );
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    // Whoever replaces it may drop the finalizer.
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("jane", &params, &free).await.unwrap();
    world.held("jane").await;
    // A person gives another role, which the older version knows.
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);

    // Nobody knows what is to become of the invitation.
    let jane = world.invites().get("jane").await.unwrap();
    world.edit("jane", json!({"deletionPolicy": LATER})).await;
    world.delete("jane").await;
    world.state("jane", "NotSupported").await;
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    world
        .edit("jane", json!({"deletionPolicy": "Delete"}))
        .await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
}
