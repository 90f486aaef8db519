//! What the list of users shows, misses and shifts is never taken for more than it is.

use std::time::Duration;

use serde_json::json;
use support::fake_astro::{Answer, Fault, InvitesShown, Operation, Times, UserStatus};

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

/// Each of its answers names another request.
#[tokio::test(flavor = "multi_thread")]
async fn what_get_invite_does_not_tell_is_asked_once_for_each_pass() {
    let world = World::start().await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.list_delay = Duration::from_hours(1));
    let refused = Fault::before(Answer::Status(403));
    let times = Times::UntilCleared;
    world.astro.fault(Operation::GetInvite, refused, times);
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world
        .until("get-invite is asked", || {
            world.astro.count(Operation::GetInvite) > 0
        })
        .await;
    let lists = world.astro.count(Operation::ListUsers);
    let asked = world.astro.count(Operation::GetInvite);
    world.seen("jane@example.com").await;
    let passes = (world.astro.count(Operation::ListUsers) - lists) / 2 + 1;
    let asked = world.astro.count(Operation::GetInvite) - asked;
    assert!(asked <= passes, "{asked} in {passes} passes");
    assert_eq!(
        world.writes_so_far(Some("jane")).await,
        3,
        "invited, and told that nobody can look"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn nobody_is_written_to_who_is_inactive_or_banned_or_shown_without_an_invitation() {
    let world = World::start().await;
    for (name, status) in [
        ("inactive", UserStatus::Inactive),
        ("banned", UserStatus::Banned),
    ] {
        let email = format!("{name}@example.com");
        world
            .astro
            .add_member(&email, "ORGANIZATION_MEMBER")
            .unwrap();
        world.astro.set_user_status(&email, status).unwrap();
    }
    world
        .astro
        .change_behaviour(|behaviour| behaviour.invites_shown = InvitesShown::Never);
    world
        .astro
        .invite_on_web_page("invited@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    world.seen("all of them").await;
    for (name, reason) in [
        ("inactive", "PersonInactive"),
        ("banned", "PersonInactive"),
        ("invited", "InviteUnidentified"),
    ] {
        world.apply(name, &format!("{name}@example.com")).await;
        world.state(name, reason).await;
    }
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
}

/// Only Astro's own word says that the token may not look.
#[tokio::test(flavor = "multi_thread")]
async fn a_gateways_refusal_of_the_list_blinds_nobody() {
    let world = World::start().await;
    let page = Fault::before(Answer::Html(403));
    let times = Times::UntilCleared;
    world.astro.fault(Operation::ListUsers, page, times);
    world.organization_is("AstroUnavailable").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "AstroUnavailable").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    world.astro.clear_faults();
    world.state("jane", "Invited").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_that_stays_over_the_limit_is_told() {
    let world = World::start().await;
    let limited = Fault::before(Answer::TooManyRequests(Some(90)));
    let times = Times::UntilCleared;
    world.astro.fault(Operation::ListUsers, limited, times);
    world.organization_is("AstroUnavailable").await;
}

/// As when the operator takes many invitations back while it reads.
#[tokio::test(flavor = "multi_thread")]
async fn a_reading_goes_on_while_many_rows_go() {
    let mut world = World::prepare(json!({})).await;
    for n in 0..250 {
        let email = format!("p{n}@example.com");
        world
            .astro
            .add_member(&email, "ORGANIZATION_MEMBER")
            .unwrap();
    }
    for (pages, gone) in [(2, 0..40), (3, 40..90), (4, 110..130)] {
        world.astro.after_list_pages(pages, move |astro| {
            for n in gone {
                astro.remove_member(&format!("p{n}@example.com")).unwrap();
            }
        });
    }
    let stay = [99, 100, 105, 139, 140, 180, 189, 198, 199, 249];
    for n in stay {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    world.start_operator();
    for n in stay {
        world.state(&format!("p{n}"), "AlreadyMember").await;
    }
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    assert!(!world.astro.is_member("p129@example.com"), "rows did move");
    assert!(!world.log().contains("cannot be read"));
}
