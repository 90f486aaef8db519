//! An invitation that ends without the person is sent again, as often as the spec says.

use std::time::Duration;

use jiff::SignedDuration;
use serde_json::json;
use support::fake_astro::{Answer, Fault, HoldPoint, Operation, Times};

use crate::world::{World, condition, invite_id};

const EXPIRED: SignedDuration = SignedDuration::from_hours(7 * 24 + 1);

async fn resent(world: &World, before: &str) -> String {
    let mut id = before.to_owned();
    world
        .in_time("a new invitation is recorded", async {
            while id == before {
                id = invite_id(&world.invites().get("jane").await.unwrap());
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    id
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_invitation_is_sent_again_up_to_the_limit() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.edit("jane", json!({"maxResends": 1})).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    world.pass_time("jane", EXPIRED).await;
    let second = resent(&world, &first).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(object.status.as_ref().unwrap().resends, 1);
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);

    world.pass_time("jane", EXPIRED * 2).await;
    let object = world.state("jane", "ResendLimitReached").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);

    // A person asks for one more: once for each value.
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "monday")
        .await;
    resent(&world, &second).await;
    let object = world.state("jane", "Invited").await;
    let status = object.status.as_ref().unwrap();
    assert_eq!(
        (status.resends, status.last_resend_request.as_deref()),
        (0, Some("monday"))
    );
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "monday")
        .await;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("two passes", || {
            world.astro.count(Operation::ListUsers) >= lists + 4
        })
        .await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 3);
}

#[tokio::test(flavor = "multi_thread")]
async fn with_never_an_expired_invitation_is_told_only() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.edit("jane", json!({"resendWhen": "Never"})).await;
    world.state("jane", "Invited").await;
    world.pass_time("jane", EXPIRED).await;
    world.state("jane", "Expired").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expiry_is_noticed_by_the_next_pass_where_no_timer_ran() {
    // As on a machine that stood still meanwhile: nothing else tells the object.
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.edit("jane", json!({"resendWhen": "Never"})).await;
    world.state("jane", "Invited").await;
    world.seen("jane@example.com").await;
    world.astro.set_clock_offset(EXPIRED);
    world.state("jane", "Expired").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// Nobody can look meanwhile, and what was planned until then is planned anew.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_is_not_told_as_out_past_its_expiry_whatever_else_is_amiss() {
    let world = World::start().await;
    world.astro.set_invite_lifetime(Duration::from_secs(12));
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let unreadable = Fault::before(Answer::Status(503));
    world
        .astro
        .fault(Operation::ListUsers, unreadable, Times::UntilCleared);
    world.organization_is("AstroUnavailable").await;
    world.annotate("jane", "test/touched", "x").await;
    world.state("jane", "AstroUnavailable").await;

    world.astro.clear_faults();
    world.organization_is("Connected").await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    world.remove_token().await;
    world.organization_is("TokenMissing").await;
    world.state("joe", "OrganizationNotReady").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.emails_to("joe@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn expiry_is_noticed_after_a_restart_and_a_resend_survives_a_kill() {
    let mut world = World::start().await;
    // A restart, and not a gap that a restored backup could explain.
    world.astro.set_invite_lifetime(Duration::from_mins(20));
    world.apply("jane", "jane@example.com").await;
    let first = invite_id(&world.state("jane", "Invited").await);
    world.kill_operator();
    world.astro.set_clock_offset(SignedDuration::from_mins(30));
    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    world.start_operator();
    world
        .in_time("the resend took effect", gate.arrived())
        .await
        .unwrap();
    world.kill_operator();
    gate.release();
    world.start_operator();
    resent(&world, &first).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(object.status.as_ref().unwrap().resends, 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_declined_invitation_is_sent_again_only_where_the_spec_says_so() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let first = invite_id(&world.state("jane", "Invited").await);
    world.astro.reject(&first).unwrap();
    world.state("jane", "InvitationWithdrawn").await;
    world.edit("jane", json!({"resendWhen": "Gone"})).await;
    resent(&world, &first).await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_whose_answer_is_lost_is_one_email() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let cut = Fault::after(support::fake_astro::Answer::Cut);
    world
        .astro
        .fault(Operation::CreateInvite, cut, Times::Next(1));
    world.pass_time("jane", EXPIRED).await;
    resent(&world, &first).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(object.status.as_ref().unwrap().resends, 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wish_for_an_email_to_a_member_is_not_seen_to_when_the_member_leaves() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let first = invite_id(&world.state("jane", "Invited").await);
    world.astro.accept(&first).unwrap();
    world.state("jane", "Accepted").await;
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    world
        .in_time("the wish is noted", async {
            loop {
                let status = world.invites().get("jane").await.unwrap().status.unwrap();
                if status.last_resend_request.as_deref() == Some("now") {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    world.astro.remove_member("jane@example.com").unwrap();
    world.state("jane", "MemberRemoved").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_resend_that_is_refused_at_first_counts_as_one() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.edit("jane", json!({"maxResends": 1})).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let limited = Fault::before(support::fake_astro::Answer::TooManyRequests(Some(1)));
    world
        .astro
        .fault(Operation::CreateInvite, limited, Times::Next(2));
    world.pass_time("jane", EXPIRED).await;
    world
        .until("it is sent in the end", || {
            world.astro.emails_to("jane@example.com") == 2
        })
        .await;
    let object = world.state("jane", "Invited").await;
    assert_ne!(invite_id(&object), first);
    assert_eq!(object.status.unwrap().resends, 1);
    world.pass_time("jane", EXPIRED * 2).await;
    world.state("jane", "ResendLimitReached").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
    assert_eq!(world.astro.count(Operation::CreateInvite), 4);
}
