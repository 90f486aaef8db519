//! Events tell what a person would want to know, once each.

use std::collections::BTreeMap;

use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::ListParams;
use serde_json::json;
use support::fake_astro::{Answer, Fault, Operation, Times};

use crate::world::{World, invite_id, uid};

/// Reasons of the events about an object, with how often each was told.
async fn told(world: &World, name: &str) -> BTreeMap<String, i32> {
    told_of(world, "OrgInvite", &world.namespace, name).await
}

async fn told_of(world: &World, kind: &str, at: &str, name: &str) -> BTreeMap<String, i32> {
    let api: Api<Event> = Api::namespaced(world.client.clone(), at);
    let mut told = BTreeMap::new();
    for event in api.list(&ListParams::default()).await.unwrap() {
        let about = event.regarding.unwrap_or_default();
        if about.name.as_deref() == Some(name) && about.kind.as_deref() == Some(kind) {
            let count = event.series.map_or(1, |series| series.count);
            *told.entry(event.reason.unwrap_or_default()).or_default() += count;
        }
    }
    told
}

async fn until_told(world: &World, name: &str, wanted: &[(&str, i32)]) {
    let wanted: BTreeMap<String, i32> = wanted
        .iter()
        .map(|(reason, count)| ((*reason).to_owned(), *count))
        .collect();
    let mut last = BTreeMap::new();
    let reached = async {
        while last != wanted {
            last = told(world, name).await;
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(crate::world::DEADLINE, reached).await;
    assert!(done.is_ok(), "{name}: {last:?}, not {wanted:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_turn_of_an_invitation_is_told_once() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    until_told(&world, "jane", &[("Invited", 1)]).await;
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world.state("jane", "Invited").await;
    until_told(&world, "jane", &[("Invited", 1), ("Replaced", 1)]).await;
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    let expected = [("Invited", 1), ("Replaced", 1), ("Resent", 1)];
    until_told(&world, "jane", &expected).await;

    world.apply("twin", "jane@example.com").await;
    world.state("twin", "Conflict").await;
    until_told(&world, "twin", &[("Conflict", 1)]).await;

    let object = world.state("jane", "Invited").await;
    world.astro.accept(&invite_id(&object)).unwrap();
    world.state("jane", "Accepted").await;
    let expected = [
        ("Accepted", 1),
        ("Invited", 1),
        ("Replaced", 1),
        ("Resent", 1),
    ];
    until_told(&world, "jane", &expected).await;
    // Several passes later nothing was told again.
    world.seen("jane@example.com").await;
    until_told(&world, "jane", &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_event_of_a_reason_that_was_told_before_has_its_own_note() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let mut sent = vec![invite_id(&world.state("jane", "Invited").await)];
    for role in ["ORGANIZATION_BILLING_ADMIN", "ORGANIZATION_MEMBER"] {
        world.edit_role("jane", role).await;
        sent.push(invite_id(&world.state("jane", "Invited").await));
    }
    until_told(&world, "jane", &[("Invited", 1), ("Replaced", 2)]).await;
    let api: Api<Event> = Api::namespaced(world.client.clone(), &world.namespace);
    let events = api.list(&ListParams::default()).await.unwrap();
    for invite in sent {
        let note = format!("Invitation {invite} went out");
        let notes = events
            .iter()
            .filter(|event| event.note.as_ref() == Some(&note));
        assert_eq!(notes.count(), 1, "{note}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_fails_is_told_once_and_not_for_each_retry() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    let owner = world.manifest("boss", "boss@example.com", "ORGANIZATION_OWNER");
    world.create(&owner).await;
    world.state("boss", "NotPermitted").await;
    until_told(&world, "boss", &[("NotPermitted", 1)]).await;

    world.astro.fault(
        Operation::DeleteInvite,
        Fault::before(Answer::Status(500)),
        Times::Next(3),
    );
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert_eq!(world.astro.count(Operation::DeleteInvite), 4);
    let expected = [("Invited", 1), ("RevokeFailed", 1), ("Revoked", 1)];
    until_told(&world, "jane", &expected).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_the_right_to_tell_events_everything_else_goes_on() {
    // Events are refused in a namespace that is being deleted, and nothing else is.
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    let name = &world.namespace;
    let namespaces: Api<k8s_openapi::api::core::v1::Namespace> = Api::all(world.client.clone());
    namespaces
        .delete(name, &kube::api::DeleteParams::default())
        .await
        .unwrap();
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    world
        .until("its event is refused", || {
            world.log().contains("an event could not be written")
        })
        .await;
    let told = told(&world, "jane").await;
    assert_eq!(told.get("Revoked"), None, "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organizations_trouble_is_told_once() {
    let world = World::start().await;
    world.astro.replace_token("another-token");
    world.organization_is("TokenRejected").await;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("it was tried again", || {
            world.astro.count(Operation::ListUsers) >= lists + 3
        })
        .await;
    let told = || told_of(&world, "Organization", "default", &world.organization);
    let once = BTreeMap::from([("Connected".to_owned(), 1), ("TokenRejected".to_owned(), 1)]);
    let reached = async {
        while told().await != once {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    let done = tokio::time::timeout(crate::world::DEADLINE, reached).await;
    assert!(done.is_ok(), "{:?}", told().await);
}

/// What may not be written did not happen: until then, each try would tell it anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_adoption_is_told_once_it_is_written() {
    let mut world = World::prepare(json!({})).await;
    let own = json!([
        {"apiGroups": ["iam.astronomer.io"], "resources": ["orginvites", "organizations", "organizations/status"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces", "secrets"], "verbs": ["get", "list", "watch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["*"]},
    ]);
    world.grant("own", own).await;
    world.until_permitted(&world.user, "list", None).await;
    world.start_operator_in_group(None, &[]);
    world.organization_is("Connected").await;
    let (email, role) = ("jane@example.com", "ORGANIZATION_MEMBER");
    world.astro.invite_on_web_page(email, role).unwrap();
    world.seen(email).await;
    world.apply("jane", email).await;
    let tried = async |times| {
        let tries = || world.log().matches(r#""message":"adopted""#).count();
        world.until("it is tried", || tries() >= times).await;
    };
    tried(1).await;
    world.annotate("jane", "test/touched", "yes").await;
    tried(2).await;
    assert_eq!(told(&world, "jane").await, BTreeMap::new());
    let statuses = json!([
        {"apiGroups": ["iam.astronomer.io"], "resources": ["orginvites/status"], "verbs": ["*"]},
    ]);
    world.grant("statuses", statuses).await;
    world.state("jane", "Invited").await;
    // Should the right come in between, it is told as well what was refused before.
    let adopted = async || told(&world, "jane").await.remove("Adopted");
    let is_told = async {
        while adopted().await.is_none() {
            tokio::time::sleep(std::time::Duration::from_millis(50)).await;
        }
    };
    world.in_time("it is told", is_told).await;
    world.seen(email).await;
    assert_eq!(adopted().await, Some(1));
    assert_eq!(world.astro.emails_to(email), 0);
}
