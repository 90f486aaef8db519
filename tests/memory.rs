//! How much memory the operator takes where others fill its objects. By itself: whoever else lists in that cluster has to
//! read the same megabytes, and the API server has little time for others.
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

use futures::StreamExt as _;
use kube::Api;
use kube::api::PostParams;
use orginvite_operator::resources::OrgInvite;
use serde_json::json;

use crate::world::{DEADLINE, STEADY, World, finalizers};

/// The most memory that the process had, in MiB.
fn peak_memory(pid: u32) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
    let line = status.lines().find(|line| line.starts_with("VmHWM"));
    let kib = line.and_then(|line| line.split_whitespace().nth(1));
    kib.unwrap().parse::<u64>().unwrap() / 1024
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_of_a_megabyte_do_not_fill_it() {
    // More than a page of a list.
    const OBJECTS: u32 = 36;
    let mut world = World::prepare(json!({})).await;
    let evil = format!("{}-evil", world.namespace);
    world.create_namespace(&evil, json!({})).await;
    // Long ones, and many, which cost the most to read: `managedFields` tell the same one once.
    let many = [finalizers(1_500), vec!["f".to_owned(); 40_000]].concat();
    let api: Api<OrgInvite> = Api::namespaced(world.client.clone(), &evil);
    let (there, api, evil, many) = (&world, &api, &evil, &many);
    let create = |number| async move {
        let (name, email) = (format!("p{number}"), format!("p{number}@example.com"));
        let mut object = there.manifest_in(evil, &name, &email, "ORGANIZATION_MEMBER");
        object.metadata.finalizers = Some(many.clone());
        let created = api.create(&PostParams::default(), &object).await;
        serde_json::to_vec(&created.unwrap()).unwrap().len()
    };
    let lengths: Vec<usize> = futures::stream::iter((0..OBJECTS).map(create))
        .buffer_unordered(4)
        .collect()
        .await;
    assert!(
        lengths.iter().all(|length| *length > 1_000_000),
        "{lengths:?}"
    );

    // Whatever time the API server takes for them: they are read again in each term.
    world.start_operator_with(&STEADY);
    world.organization_is("Connected").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let told = |text: &str| {
        let line = format!("state=\"NotPermitted\",status=\"Failed\"}} {OBJECTS}.0");
        text.lines().any(|one| one.ends_with(&line))
    };
    let all = async {
        while !told(&world.admin("/metrics").await.1) {
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    };
    // Each takes the API server some seconds, longer on a busy machine.
    let all = tokio::time::timeout(3 * DEADLINE, all);
    assert!(all.await.is_ok(), "the others are not told");
    let peak = peak_memory(world.operator.as_ref().unwrap().pid());
    assert!(peak < 256, "{peak} MiB are more than the chart's limit");
}
