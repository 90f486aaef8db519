//! Many objects cost what they must, and settled ones cost nothing.

use std::time::{Duration, Instant};

use futures::future::join_all;
use kube::api::PostParams;
use serde_json::json;
use support::fake_astro::{InviteState, Limits, Operation};

use crate::admin::Scrape;
use crate::world::{SETTLE, STEADY, World, invite_id, uid};

#[tokio::test(flavor = "multi_thread")]
async fn two_hundred_at_once_are_two_hundred_emails_and_two_writes_each() {
    let world = World::start_with(&STEADY).await;
    let api = world.invites();
    join_all((0..200).map(|n| {
        let object = world.manifest(
            &format!("p{n}"),
            &format!("p{n}@example.com"),
            "ORGANIZATION_MEMBER",
        );
        let api = api.clone();
        async move { api.create(&PostParams::default(), &object).await.unwrap() }
    }))
    .await;
    for n in 0..200 {
        world.state(&format!("p{n}"), "Invited").await;
    }
    let emails = world.astro.emails();
    assert_eq!(emails.len(), 200);
    assert!(emails.values().all(|count| *count == 1), "{emails:?}");
    for n in 0..200 {
        world.wrote(&format!("p{n}"), 2).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_intervals_with_nothing_to_do_cost_no_write_and_only_list_calls() {
    let world = World::start().await;
    for n in 0..5 {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    let mut ids = Vec::new();
    for n in 0..5 {
        ids.push(invite_id(&world.state(&format!("p{n}"), "Invited").await));
    }
    // One pass after the last e-mail, so that everything there is to see was seen.
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("the next passes", || {
            world.astro.count(Operation::ListUsers) >= lists + 4
        })
        .await;
    let writes = world.writes_so_far(None).await;
    let mark = world.astro.mark();
    world
        .until("ten passes of two lists", || {
            world.astro.count_since(mark, Operation::ListUsers) >= 20
        })
        .await;
    assert_eq!(world.writes(None), writes);
    let mut others = world.astro.calls_since(mark);
    others.retain(|call| call.operation != Operation::ListUsers);
    assert!(others.is_empty(), "nothing but list calls: {others:?}");
    for (n, id) in ids.iter().enumerate() {
        assert_eq!(
            invite_id(&world.invites().get(&format!("p{n}")).await.unwrap()),
            *id
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_restart_writes_nothing_and_sends_nothing() {
    let mut world = World::prepare(json!({})).await;
    world.start_operator();
    for n in 0..20 {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    for n in 0..20 {
        world.state(&format!("p{n}"), "Invited").await;
    }
    for n in 0..20 {
        world.wrote(&format!("p{n}"), 2).await;
    }
    world.kill_operator();
    let writes = world.writes(None);
    let lists = world.astro.count(Operation::ListUsers);
    world.start_operator();
    // Past the settle time, when a confused operator would act: a pass of two lists each second.
    let passes = usize::try_from(SETTLE.as_secs()).unwrap() + 3;
    world
        .until("passes of the new process", || {
            world.astro.count(Operation::ListUsers) >= lists + 2 * passes
        })
        .await;
    tokio::time::sleep(Duration::from_millis(100)).await;
    assert_eq!(world.writes(None), writes);
    assert_eq!(world.astro.emails().values().sum::<u32>(), 20);
}

/// Calls a second as published, and a server that insists on them. While it takes no POST at all, the backlog
/// stands still: whatever waited behind it would never come.
#[tokio::test(flavor = "multi_thread")]
async fn a_backlog_of_creations_delays_neither_a_deletion_nor_a_reading() {
    const BACKLOG: u32 = 2000;
    let mut world = World::prepare(json!({})).await;
    let published = [
        "--posts-per-second",
        "10",
        "--deletes-per-second",
        "5",
        "--gets-per-second",
        "25",
    ];
    let started = Instant::now();
    world.start_operator_with(&[&STEADY[..], &published].concat());
    world.organization_is("Connected").await;
    world.astro.set_limits(Some(Limits::default()));
    for name in ["ann", "bob", "eve"] {
        world.apply(name, &format!("{name}@example.com")).await;
    }
    let ann = world.state("ann", "Invited").await;
    let bob = world.state("bob", "Invited").await;
    let eve = world.state("eve", "Invited").await;
    // Whoever is refused is not in line for a moment: that is to be seldom.
    let no_post = Limits {
        post: 0,
        retry_after: Some(5),
        ..Limits::default()
    };
    world.astro.set_limits(Some(no_post));
    let api = world.invites();
    for n in 0..BACKLOG / 50 {
        join_all((0..50).map(|m| {
            let n = n * 50 + m;
            let object = world.manifest(
                &format!("p{n}"),
                &format!("p{n}@example.com"),
                "ORGANIZATION_MEMBER",
            );
            let api = api.clone();
            async move { api.create(&PostParams::default(), &object).await.unwrap() }
        }))
        .await;
    }
    let of = &world.organization;
    let in_line = async |count: u32| {
        Scrape::until(&world, &format!("{count} wait in line"), |scrape| {
            scrape.value("budget_waiting", &[of, "POST"]) == Some(f64::from(count))
        })
        .await;
    };
    in_line(BACKLOG).await;
    world.delete("ann").await;
    world.deleted("ann", &uid(&ann)).await;
    world.astro.accept(&invite_id(&bob)).unwrap();
    world.state("bob", "Accepted").await;
    // What is sent again goes behind first invitations.
    world
        .annotate("eve", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    in_line(BACKLOG + 1).await;
    let sent = || world.astro.emails().values().sum::<u32>();
    assert_eq!(sent(), 3, "nobody of the backlog was sent anything");
    world.astro.set_limits(Some(Limits::default()));
    world
        .until("more first invitations went out", || sent() >= 3 + 20)
        .await;
    assert_eq!(world.astro.emails_to("eve@example.com"), 1);
    assert_eq!(
        world.astro.invite(&invite_id(&eve)).unwrap().state,
        InviteState::Pending,
        "and the old invitation is not taken back for it meanwhile"
    );
    let emails = world.astro.emails();
    assert!(emails.values().all(|count| *count == 1), "{emails:?}");
    // The slower the machine, the fewer calls there are in more time.
    let posts = world.astro.count(Operation::CreateInvite);
    let allowed = started.elapsed().as_millis() / 100;
    assert!(posts as u128 <= allowed, "{posts} POSTs of {allowed}");
}
