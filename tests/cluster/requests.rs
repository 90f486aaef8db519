//! What is asked of the API server, and what is made of an API server that is busy.

use http::Method;
use kube::ResourceExt as _;
use kube::api::DeleteParams;
use serde_json::json;

use crate::failover::depose;
use crate::way::{Way, is_write_to_an_org_invite};
use crate::world::{STEADY, World, uid};

/// kube's own client would try a request again for minutes, with nobody to look whether it still should be made.
#[tokio::test(flavor = "multi_thread")]
async fn a_write_that_a_busy_api_server_refuses_is_told_and_planned_again() {
    let (world, way) = Way::start().await;
    way.refuse_writes(2);
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(way.to_refuse(), 0);
    let log = world.log();
    let told = log
        .lines()
        .filter(|line| line.contains("the OrgInvite cannot be reconciled; it is tried again"))
        .count();
    assert_eq!(told, 2, "{log}");
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(object.status.unwrap().resends, 0);
}

/// A namespace or a Secret may be a megabyte, and nothing is needed of most of them but that they changed.
#[tokio::test(flavor = "multi_thread")]
async fn of_namespaces_and_secrets_only_the_metadata_is_listed_and_watched() {
    let (world, way) = Way::start().await;
    let secrets = format!("/api/v1/namespaces/{}/secrets", world.namespace);
    for path in ["/api/v1/namespaces", &secrets] {
        let accepted = way.accepted(path);
        assert!(!accepted.is_empty(), "{path}");
        let partial = |accept: &String| accept.contains("as=PartialObjectMetadata");
        assert!(accepted.iter().all(partial), "{path}: {accepted:?}");
    }
}

/// What the API server notes of who owns which field is read and compared with each write.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_is_owned_as_a_whole() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    let object = world.invites().get(&object.name_any()).await.unwrap();
    let owners = object.metadata.managed_fields.unwrap();
    let of_status = owners
        .iter()
        .find(|owner| owner.subresource.as_deref() == Some("status"));
    let fields = &of_status.unwrap().fields_v1.as_ref().unwrap().0["f:status"];
    assert_eq!(fields["f:inviter"], json!({}));
    for kind in ["Ready", "Accepted"] {
        let key = json!({"type": kind});
        assert_eq!(
            fields["f:conditions"][format!("k:{key}")],
            json!({}),
            "{kind}: {fields}"
        );
    }
}

/// The cache need not show yet what was written a moment ago.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_stays_for_what_its_cache_does_not_show_yet() {
    let (world, way) = Way::start_with(&STEADY).await;
    way.hold(is_write_to_an_org_invite);
    let jane = world.apply("jane", "jane@example.com").await;
    world
        .until("the attempt is on its way", || way.held() == 1)
        .await;
    way.close_only(&["orginvites"]);
    way.release();
    world.state("jane", "Invited").await;
    world.delete_organization().await;
    world.organization_is("InUse").await;
    way.open();
    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    world
        .until("the Organization goes", || {
            world.log().contains("released: no OrgInvite needs it")
        })
        .await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
}

/// The list was read before, and does not show what the next leader has sent since.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_is_not_let_go_by_who_leads_no_longer() {
    let (world, way) = Way::start_with(&STEADY).await;
    way.hold(|request| {
        let is_watch = request
            .uri
            .query()
            .is_some_and(|query| query.contains("watch="));
        request.method == Method::GET && request.uri.path().ends_with("/orginvites") && !is_watch
    });
    world.delete_organization().await;
    world
        .until("it is looked who needs it", || way.held() == 1)
        .await;
    depose(&world).await;
    let lists = world.answered("list", "orginvites");
    way.release();
    world
        .until("the list is answered", || {
            world.answered("list", "orginvites") > lists
        })
        .await;
    world
        .leases()
        .delete("orginvite-operator", &DeleteParams::default())
        .await
        .unwrap();
    let released = "released: no OrgInvite needs it";
    world
        .until("it goes", || world.log().contains(released))
        .await;
    let log = world.log();
    let (before, _) = log.split_once(released).unwrap();
    assert_eq!(before.matches("\"leading\"").count(), 2, "{log}");
}

/// It was removed by force while its token was read.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_gone_does_not_come_back() {
    let (world, way) = Way::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    way.hold(|request| request.uri.path().ends_with("/secrets/astro-token"));
    world
        .edit_organization(json!({"metadata": {"labels": {"touched": "x"}}}))
        .await;
    world.until("the token is read", || way.held() == 1).await;
    world.remove_organization().await;
    world.says("jane", "There is no Organization").await;
    way.release();
    world.until("it goes on", || way.held() == 0).await;
    let lines = world.log().lines().count();
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "OrganizationNotFound").await;
    let log = world.log();
    let connects = log
        .lines()
        .skip(lines)
        .any(|line| line.contains("\"connecting\""));
    assert!(!connects, "{log}");
    assert_eq!(world.astro.emails_to("joe@example.com"), 0);
}

/// As by an admission webhook: it may go before its OrgInvites, and does its work until then.
#[tokio::test(flavor = "multi_thread")]
async fn an_organization_whose_finalizer_is_removed_as_it_is_set_works_all_the_same() {
    let mut world = World::prepare(json!({})).await;
    let way = Way::of(&world).await;
    way.strip_finalizers();
    world.start_operator_through(way.address, &[]);
    world.organization_is("Connected").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    assert!(
        world
            .log()
            .contains("something removes the finalizer as it is set")
    );
    world.put_token("no-good").await;
    world.organization_is("TokenRejected").await;
}
