//! What the list of users shows, misses and shifts is never taken for more than it is.

use std::time::Duration;

use serde_json::json;
use support::fake_astro::Operation;

use crate::world::{World, condition, invite_id};

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_the_list_misses_is_confirmed_by_get_invite() {
    let world = World::start().await;
    // Far beyond the listing delay that the operator counts on.
    world
        .astro
        .change_behaviour(|behaviour| behaviour.list_delay = Duration::from_secs(4));
    world.apply("jane", "jane@example.com").await;
    let id = invite_id(&world.state("jane", "Invited").await);
    world
        .until("get-invite is asked", || {
            world.astro.count(Operation::GetInvite) > 0
        })
        .await;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("the list shows it", || {
            world.astro.count(Operation::ListUsers) >= lists + 10
        })
        .await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), id);
    assert!(condition(&object, "Stalled").is_none());
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    // Nothing flapped.
    world.wrote("jane", 2).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_whose_row_moves_while_pages_are_read_is_not_missed() {
    let mut world = World::prepare(json!({})).await;
    let mut ids = Vec::new();
    for n in 0..150 {
        ids.push(
            world
                .astro
                .add_member(&format!("p{n}@example.com"), "ORGANIZATION_MEMBER")
                .unwrap(),
        );
    }
    // The one page of people with invites, then the first of everybody: then somebody on it leaves,
    // and the first row of the second page moves to the end of the first.
    world
        .astro
        .after_list_pages(2, |astro| astro.remove_member("p0@example.com").unwrap());
    for n in 95..105 {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    world.start_operator();
    for n in 95..105 {
        world.state(&format!("p{n}"), "AlreadyMember").await;
    }
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    assert!(!world.astro.is_member("p0@example.com"), "the row did move");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_line_of_a_reconcile_names_its_object() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let log = world.log();
    let lines: Vec<serde_json::Value> = log
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    let named = |line: &serde_json::Value| {
        line["spans"].as_array().is_some_and(|spans| {
            spans.iter().any(|span| {
                span["object.namespace"] == world.namespace.as_str()
                    && span["object.name"] == "jane"
            })
        })
    };
    let invited = lines
        .iter()
        .find(|line| line["message"] == "invited")
        .expect("the line that tells of the e-mail");
    assert!(named(invited), "{invited}");
    let post = lines
        .iter()
        .find(|line| line["operation"] == "create invite")
        .expect("the line of the call");
    assert!(named(post), "{post}");
    assert!(
        !log.contains("jane@example.com"),
        "addresses stay out of the log"
    );
}
