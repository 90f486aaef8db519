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
use kube::Api;
use kube::api::{Patch, PatchParams};
use serde_json::{Value, json};

use crate::world::{World, uid};

/// Edits the schema of the definition's spec.
async fn edit_definition(world: &World, plural: &str, edit: impl FnOnce(&mut Value)) {
    let api: Api<CustomResourceDefinition> = Api::all(world.client.clone());
    let name = format!("{plural}.iam.astronomer.io");
    let mut definition = serde_json::to_value(api.get(&name).await.unwrap()).unwrap();
    let versions = &mut definition["spec"]["versions"];
    edit(&mut versions[0]["schema"]["openAPIV3Schema"]["properties"]["spec"]["properties"]);
    let later = json!({"spec": {"versions": versions}});
    api.patch(&name, &PatchParams::default(), &Patch::Merge(later))
        .await
        .unwrap();
}

/// Applies what the API server takes once it serves the later definitions.
async fn apply_later(world: &World, object: &Value) {
    let api = world.invites();
    let name = object["metadata"]["name"].as_str().unwrap();
    let params = PatchParams::apply("a-later-version").force();
    let taken = async {
        while api
            .patch(name, &params, &Patch::Apply(object))
            .await
            .is_err()
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    world.in_time("the API server takes it", taken).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_later_version_let_in_stops_nobody_and_is_told() {
    let later = json!("OF_A_LATER_VERSION");
    let mut world = World::prepare(json!({})).await;
    edit_definition(&world, "orginvites", |spec| {
        for field in ["role", "deletionPolicy", "resendWhen"] {
            let values = spec[field]["enum"].as_array_mut().unwrap();
            values.push(later.clone());
        }
    })
    .await;
    edit_definition(&world, "organizations", |spec| {
        let rule = &mut spec["allow"]["items"]["properties"];
        rule["onlyFor"] = json!({"type": "string"});
        let roles = rule["roles"]["items"]["enum"].as_array_mut().unwrap();
        roles.push(later.clone());
    })
    .await;

    let manifest = |name: &str, role: &Value| {
        json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite", "metadata": {"name": name},
            "spec": {
                "email": format!("{name}@example.com"), "role": role, "resendWhen": later, "deletionPolicy": later,
                "organizationRef": {"name": world.organization},
            },
        })
    };
    let member = json!("ORGANIZATION_MEMBER");
    apply_later(&world, &manifest("later", &later)).await;
    apply_later(&world, &manifest("jane", &member)).await;
    let owner = json!("ORGANIZATION_OWNER");
    apply_later(&world, &manifest("boss", &owner)).await;
    let namespaces = [&world.namespace];
    let rules = json!([
        {"namespaces": namespaces, "roles": [later, member]},
        {"namespaces": namespaces, "roles": [owner], "onlyFor": "somebody else"},
    ]);
    world
        .edit_organization(json!({"spec": {"allow": rules}}))
        .await;
    world.start_operator();

    let jane = world.state("jane", "Invited").await;
    world.state("later", "NotPermitted").await;
    world.says("later", "does not know the role").await;
    // The rule may be meant for fewer than it says here.
    world.state("boss", "NotPermitted").await;
    assert_eq!(world.astro.emails().len(), 1);

    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(live.len(), 1, "nobody knows whether to take it back");
    world.edit_role("later", "ORGANIZATION_MEMBER").await;
    world.state("later", "Invited").await;
}
