//! Whatever happens to a request, an answer or the operator: nobody gets a second e-mail.

use std::time::Duration;

use kube::runtime::wait::await_condition;
use orginvite_operator::resources::OrgInvite;
use serde_json::json;
use support::fake_astro::{Answer, Fault, HoldPoint, Operation, Outcome, Times};

use crate::world::{PATIENT, REQUEST_DEADLINE, STEADY, World, condition, invite_id, uid};

/// After a fault on the first POST, there is one e-mail, and the status has the invite that exists.
async fn one_email_despite(fault: Fault) {
    let world = World::start().await;
    world
        .astro
        .fault(Operation::CreateInvite, fault, Times::Next(1));
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    // It can be taken back: it has an owner.
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_post_fails_before_its_effect() {
    one_email_despite(Fault::before(Answer::Status(500))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_post_fails_after_its_effect() {
    one_email_despite(Fault::after(Answer::Status(500))).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_connection_is_cut_before_the_effect() {
    one_email_despite(Fault::before(Answer::Cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_connection_is_cut_after_the_effect() {
    one_email_despite(Fault::after(Answer::Cut)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_answer_cannot_be_read() {
    one_email_despite(Fault::after(Answer::Garbage)).await;
}

/// Two seconds longer than the operator waits for an answer.
const TOO_LONG: Duration = Duration::from_secs(REQUEST_DEADLINE.as_secs() + 2);

#[tokio::test(flavor = "multi_thread")]
async fn when_the_post_times_out_before_its_effect() {
    // The effect comes two seconds after the operator gave up: what the settle time is for.
    let world = World::start().await;
    world.astro.fault(
        Operation::CreateInvite,
        Fault::Delay(HoldPoint::BeforeEffect, TOO_LONG),
        Times::Next(1),
    );
    world.apply("jane", "jane@example.com").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(
        world.astro.live_invites("jane@example.com")[0].id,
        invite_id(&object)
    );
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_post_times_out_after_its_effect() {
    one_email_despite(Fault::Delay(HoldPoint::AfterEffect, TOO_LONG)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_astro_refuses_it_is_told_and_not_tried_again() {
    let world = World::start_with(&STEADY).await;
    world.astro.fault(
        Operation::CreateInvite,
        Fault::before(Answer::Status(400)),
        Times::UntilCleared,
    );
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Refused").await;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("three passes", || {
            world.astro.count(Operation::ListUsers) >= lists + 6
        })
        .await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    assert_eq!(world.astro.emails_to("jane@example.com"), 0);
    // Whatever it depends on: a wish, another role, another token.
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    world
        .until("it is tried for the wish", || {
            world.astro.count(Operation::CreateInvite) == 2
        })
        .await;
    world.state("jane", "Refused").await;
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .until("it is tried for the role", || {
            world.astro.count(Operation::CreateInvite) == 3
        })
        .await;
    world.state("jane", "Refused").await;
    world.astro.clear_faults();
    let organization = world.astro.organization_id().to_owned();
    world.astro.add_token("another-token", &[&organization]);
    world.put_token("another-token").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

/// Not Astro said so, but something on the way: the person has nothing to do.
#[tokio::test(flavor = "multi_thread")]
async fn when_a_gateway_refuses_it_is_tried_again() {
    let world = World::start().await;
    for status in [403, 404] {
        let refused = Fault::before(Answer::Html(status));
        let times = Times::UntilCleared;
        world.astro.fault(Operation::CreateInvite, refused, times);
        let name = format!("p{status}");
        let email = format!("{name}@example.com");
        world.apply(&name, &email).await;
        world.state(&name, "AstroUnavailable").await;
        world.astro.clear_faults();
        world.state(&name, "Invited").await;
        assert_eq!(world.astro.emails_to(&email), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refusal_is_written_again_after_a_conflict() {
    let world = World::start_with(&STEADY).await;
    // Time for somebody else to write, and less than the operator waits.
    let slowly = Fault::Delay(HoldPoint::BeforeEffect, Duration::from_secs(5));
    for fault in [slowly, Fault::before(Answer::Status(400))] {
        world
            .astro
            .fault(Operation::CreateInvite, fault, Times::UntilCleared);
    }
    world.apply("jane", "jane@example.com").await;
    let attempted = |object: Option<&OrgInvite>| {
        let annotations = object.and_then(|object| object.metadata.annotations.as_ref());
        annotations.is_some_and(|all| all.contains_key("iam.astronomer.io/attempt"))
    };
    let attempted = await_condition(world.invites(), "jane", attempted);
    world.in_time("it is attempted", attempted).await.unwrap();
    world.annotate("jane", "test/touched", "x").await;
    world.state("jane", "Refused").await;
    assert_eq!(
        world.astro.count(Operation::CreateInvite),
        1,
        "it is known that nothing was sent"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_operator_is_killed_right_after_the_post_took_effect() {
    let mut world = World::start().await;
    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    world.apply("jane", "jane@example.com").await;
    world
        .in_time("the POST took effect", gate.arrived())
        .await
        .unwrap();
    world.kill_operator();
    gate.release();
    let sent = world.astro.live_invites("jane@example.com")[0].id.clone();
    world.start_operator();
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), sent);
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
}

/// The one invitation has the edited role, the object records it, and there were two e-mails.
async fn is_replaced(world: &World) {
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites("jane@example.com");
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_BILLING_ADMIN")
    );
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_operator_is_killed_right_after_a_replacement_took_effect() {
    let mut world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .in_time("the POST took effect", gate.arrived())
        .await
        .unwrap();
    world.kill_operator();
    gate.release();
    world.start_operator();
    is_replaced(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_operator_is_killed_between_a_replacements_delete_and_post() {
    let mut world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let gate = world.hold_replacement("jane", HoldPoint::AfterEffect).await;
    world.kill_operator();
    gate.release();
    world.start_operator();
    is_replaced(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_delete_of_what_is_gone_already_is_refused() {
    // The record still has the invitation that the first DELETE took: that is nobody's withdrawal.
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    for fault in [
        Fault::after(Answer::Cut),
        Fault::before(Answer::TooManyRequests(Some(1))),
        Fault::before(Answer::Html(403)),
    ] {
        let next = Times::Next(1);
        world.astro.fault(Operation::DeleteInvite, fault, next);
    }
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    is_replaced(&world).await;
    assert_eq!(world.astro.count(Operation::DeleteInvite), 4);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_person_accepts_while_a_replacement_is_under_way() {
    let world = World::start().await;
    world.apply("jane", "jane@example.com").await;
    let id = invite_id(&world.state("jane", "Invited").await);
    let gate = world
        .hold_replacement("jane", HoldPoint::BeforeEffect)
        .await;
    world.astro.accept(&id).unwrap();
    gate.release();
    world.state("jane", "RoleDiffers").await;
    assert_eq!(
        world.astro.emails_to("jane@example.com"),
        1,
        "no e-mail to a member"
    );
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn when_the_object_is_removed_by_force_what_was_sent_is_revoked() {
    let world = World::start().await;
    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    // Nobody else would try again.
    let limited = Fault::before(Answer::TooManyRequests(Some(1)));
    let lost = Fault::before(Answer::Status(503));
    for fault in [limited, lost] {
        world
            .astro
            .fault(Operation::DeleteInvite, fault, Times::Next(1));
    }
    world.apply("jane", "jane@example.com").await;
    world
        .in_time("the POST took effect", gate.arrived())
        .await
        .unwrap();
    world.delete("jane").await;
    let force = kube::api::Patch::Merge(json!({"metadata": {"finalizers": null}}));
    world
        .invites()
        .patch("jane", &kube::api::PatchParams::default(), &force)
        .await
        .unwrap();
    gate.release();
    world
        .until("revoked", || {
            world.astro.live_invites("jane@example.com").is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn when_astro_refuses_a_replacement_it_is_told_that_the_one_before_is_gone() {
    let world = World::start_with(&PATIENT).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let refused = Fault::before(Answer::Status(400));
    let times = Times::UntilCleared;
    world.astro.fault(Operation::CreateInvite, refused, times);
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    let object = world.state("jane", "Refused").await;
    let message = &condition(&object, "Ready").unwrap().message;
    assert!(message.contains("was taken back already"), "{message}");
    assert_eq!(object.status.unwrap().invite_id, None);
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    assert_eq!(world.astro.count(Operation::CreateInvite), 2);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
    // Whatever it depends on.
    world.astro.clear_faults();
    world.edit_role("jane", "ORGANIZATION_MEMBER").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
}

const NAMES: [&str; 3] = ["ann", "bob", "eve"];

/// One call of the operation is answered 429: none follows before `Retry-After` is over.
async fn is_held_by_a_429(world: &World, operation: Operation, call: impl AsyncFn(&str)) {
    let pause = Duration::from_secs(4);
    let limited = Fault::before(Answer::TooManyRequests(Some(pause.as_secs())));
    world.astro.fault(operation, limited, Times::Next(1));
    call(NAMES[0]).await;
    world.state(NAMES[0], "RateLimited").await;
    for name in &NAMES[1..] {
        call(name).await;
    }
    let apart = || {
        let mut calls = world.astro.calls();
        calls.retain(|call| call.operation == operation);
        let at = calls
            .iter()
            .position(|call| call.outcome == Outcome::Status(429))?;
        let next = calls.get(at + 1)?;
        Some(next.at.duration_since(calls[at].at))
    };
    world.until("they go on", || apart().is_some()).await;
    let apart = apart().unwrap();
    assert!(apart >= pause, "{apart:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_to_a_post_holds_every_post_of_the_token() {
    let world = World::start_with(&[&STEADY[..], &["--posts-per-second", "1"]].concat()).await;
    is_held_by_a_429(&world, Operation::CreateInvite, async |name| {
        world.apply(name, &format!("{name}@example.com")).await;
    })
    .await;
    for name in NAMES {
        world.state(name, "Invited").await;
        assert_eq!(world.astro.emails_to(&format!("{name}@example.com")), 1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_to_a_delete_holds_every_delete_of_the_token() {
    let world = World::start_with(&[&STEADY[..], &["--deletes-per-second", "1"]].concat()).await;
    let mut objects = Vec::new();
    for name in NAMES {
        world.apply(name, &format!("{name}@example.com")).await;
        objects.push(world.state(name, "Invited").await);
    }
    is_held_by_a_429(&world, Operation::DeleteInvite, async |name| {
        world.delete(name).await;
    })
    .await;
    for (name, object) in NAMES.iter().zip(&objects) {
        world.deleted(name, &uid(object)).await;
    }
    assert_eq!(world.astro.count(Operation::DeleteInvite), 4);
}

/// Whoever learns of an e-mail only by finding its invitation keeps the distance to the next one, too, also for the next
/// object.
#[tokio::test(flavor = "multi_thread")]
async fn an_e_mail_whose_answer_was_lost_counts_for_the_distance_to_the_next() {
    let options = [&PATIENT[..], &["--email-spacing", "10m"]].concat();
    let world = World::start_with(&options).await;
    let cut = Fault::after(Answer::Cut);
    world
        .astro
        .fault(Operation::CreateInvite, cut, Times::Next(1));
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Spacing").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}
