//! A token that may not list users: nobody can look, and nothing is done that only a look could
//! justify.

use std::time::Duration;

use kube::Api;
use orginvite_operator::resources::organization::Permission;
use orginvite_operator::resources::{OrgInvite, Organization};
use serde_json::json;
use support::fake_astro::{
    Answer, DeleteAccepted, Fault, Gate, GetEnded, HoldPoint, InviterKind, ListUsers, Mark,
    Operation, Outcome, Times,
};

use crate::world::{PATIENT, World, condition, invite_id, uid};

const JANE: &str = "jane@example.com";
const RESEND: &str = "iam.astronomer.io/resend-requested-at";
const INVITE_ID: &str = "iam.astronomer.io/invite-id";
const EXPIRED: jiff::SignedDuration = jiff::SignedDuration::from_hours(7 * 24 + 1);

/// A world whose operator runs with a token that may not list users.
async fn blind() -> World {
    blind_with(json!({})).await
}

async fn blind_with(spec: serde_json::Value) -> World {
    let mut world = World::prepare(spec).await;
    list_users(&world, ListUsers::Forbidden);
    world.start_operator_with(&PATIENT);
    world.organization_is("ListForbidden").await;
    world
}

fn list_users(world: &World, answer: ListUsers) {
    world
        .astro
        .change_behaviour(|behaviour| behaviour.list_users = answer);
}

async fn organization(world: &World) -> Organization {
    let api: Api<Organization> = Api::all(world.client.clone());
    api.get(&world.organization).await.unwrap()
}

fn accepted(object: &OrgInvite) -> (&str, &str) {
    let accepted = condition(object, "Accepted").unwrap();
    (&accepted.status, &accepted.reason)
}

/// Calls of an operation that were about Jane, since then.
fn calls(world: &World, since: Mark, operation: Operation) -> usize {
    let calls = world.astro.calls_since(since);
    calls
        .iter()
        .filter(|call| call.operation == operation && call.email.as_deref() == Some(JANE))
        .count()
}

/// Waits for a try to list users that began after now, and its end.
async fn interval(world: &World) {
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("an interval", || {
            world.astro.count(Operation::ListUsers) >= lists + 2
        })
        .await;
}

/// Jane's object with an e-mail that went out though nobody had an answer to its POST.
async fn unanswered(world: &World) -> String {
    let cut = Fault::after(Answer::Cut);
    world
        .astro
        .fault(Operation::CreateInvite, cut, Times::Next(1));
    world.apply("jane", JANE).await;
    world.state("jane", "OutcomeUnknown").await;
    world.astro.live_invites(JANE)[0].id.clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn the_organization_says_that_it_works_without_looking() {
    let world = blind().await;
    let status = organization(&world).await.status.unwrap();
    let ready = status.conditions.iter().find(|one| one.type_ == "Ready");
    let ready = ready.unwrap();
    assert_eq!(
        (ready.status.as_str(), ready.reason.as_str()),
        ("True", "ListForbidden")
    );
    assert!(status.conditions.iter().all(|one| one.type_ != "Stalled"));
    assert_eq!(
        status.token.unwrap().list_users,
        Some(Permission::Forbidden)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_first_invitation_needs_no_look() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(accepted(&object), ("Unknown", "NotVisible"));
    let all = world.astro.calls();
    let about_jane = all
        .iter()
        .filter(|call| call.operation != Operation::ListUsers);
    let first = about_jane.map(|call| call.operation).next();
    assert_eq!(first, Some(Operation::CreateInvite), "nothing before it");
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    interval(&world).await;
    assert_eq!(world.astro.emails_to(JANE), 1);
    assert_eq!(world.writes(Some("jane")), 2, "the attempt and the status");
}

#[tokio::test(flavor = "multi_thread")]
async fn each_invitation_is_looked_at_once_an_interval() {
    let world = blind().await;
    let people = ["jane", "joe", "jim"];
    for name in people {
        world.apply(name, &format!("{name}@example.com")).await;
        world.state(name, "Invited").await;
    }
    let looks = |name: &str| {
        let address = format!("{name}@example.com");
        let mut calls = world.astro.calls();
        calls.retain(|call| {
            call.operation == Operation::GetInvite && call.email.as_ref() == Some(&address)
        });
        calls
    };
    world
        .until("each is looked at four times", || {
            people.iter().all(|name| looks(name).len() >= 4)
        })
        .await;
    for name in people {
        for two in looks(name).windows(2) {
            let apart = two[1].at.duration_since(two[0].at);
            assert!(apart >= Duration::from_secs(1), "{name}: {apart:?}");
        }
        assert_eq!(world.writes(Some(name)), 2, "nothing flapped");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_429_to_get_invite_holds_every_get_of_the_token() {
    let world = blind().await;
    let limited = Fault::before(Answer::TooManyRequests(Some(3)));
    world
        .astro
        .fault(Operation::GetInvite, limited, Times::Next(1));
    world.apply("jane", JANE).await;
    world
        .until("it has read the answer", || {
            world.log().contains("\"status\":429")
        })
        .await;
    let mark = world.astro.mark();
    world.apply("joe", "joe@example.com").await;
    let next = || {
        let calls = world.astro.calls();
        let limited = calls
            .iter()
            .find(|call| call.outcome == Outcome::Status(429))?;
        let since = world.astro.calls_since(mark);
        let next = since.iter().find(|call| call.method == "GET")?;
        Some(next.at.duration_since(limited.at))
    };
    world.until("GETs go on", || next().is_some()).await;
    let apart = next().unwrap();
    assert!(apart >= Duration::from_secs(3), "{apart:?}");
    world.state("jane", "Invited").await;
    world.state("joe", "Invited").await;
}

/// An invitation that ended before its expiry is told, and that is all.
async fn ended(world: &World) {
    let object = world.state("jane", "InvitationEnded").await;
    assert_eq!(accepted(&object), ("Unknown", "NotVisible"));
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    let mark = world.astro.mark();
    let writes = world.writes_so_far(Some("jane")).await;
    interval(world).await;
    interval(world).await;
    assert_eq!(calls(world, mark, Operation::GetInvite), 0, "gone is gone");
    assert_eq!(world.writes(Some("jane")), writes);
    assert_eq!(world.astro.emails_to(JANE), 1);
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_declined_is_told_and_not_sent_again() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    world.edit("jane", json!({"resendWhen": "Gone"})).await;
    let id = invite_id(&world.state("jane", "Invited").await);
    world.astro.reject(&id).unwrap();
    ended(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_was_accepted_is_told_the_same_and_survives_a_restart() {
    let mut world = blind().await;
    world.apply("jane", JANE).await;
    let id = invite_id(&world.state("jane", "Invited").await);
    world.astro.accept(&id).unwrap();
    ended(&world).await;
    world.kill_operator();
    let (mark, writes) = (world.astro.mark(), world.writes(Some("jane")));
    world.start_operator_with(&PATIENT);
    world
        .until("it is looked at", || {
            calls(&world, mark, Operation::GetInvite) == 2
        })
        .await;
    interval(&world).await;
    assert_eq!(calls(&world, mark, Operation::GetInvite), 2);
    assert_eq!(world.writes(Some("jane")), writes);
    assert_eq!(world.astro.emails_to(JANE), 1);
}

/// Astro may answer from an older state.
#[tokio::test(flavor = "multi_thread")]
async fn one_answer_that_it_is_gone_is_not_the_end() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    world.state("jane", "Invited").await;
    let absent = Fault::before(Answer::Status(404));
    world
        .astro
        .fault(Operation::GetInvite, absent, Times::Next(1));
    let mark = world.astro.mark();
    world
        .until("it is looked at again", || {
            calls(&world, mark, Operation::GetInvite) >= 4
        })
        .await;
    assert_eq!(world.writes(Some("jane")), 2, "nothing flapped");
    world.state("jane", "Invited").await;
}

/// Something in Astro's place may answer so to everything, and the next try to list users is what tells.
#[tokio::test(flavor = "multi_thread")]
async fn nothing_is_over_while_everything_is_answered_with_404() {
    let world = blind_with(json!({"syncInterval": "1h"})).await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let mark = world.astro.mark();
    for operation in [Operation::GetInvite, Operation::ListUsers] {
        let absent = Fault::before(Answer::Status(404));
        world.astro.fault(operation, absent, Times::UntilCleared);
    }
    world.annotate("jane", RESEND, "monday").await;
    world.organization_is("OrganizationUnknown").await;
    assert_eq!(calls(&world, mark, Operation::GetInvite), 1);
    assert_eq!(world.astro.emails_to(JANE), 1);
    world.astro.clear_faults();
    world
        .until("it is sent again", || world.astro.emails_to(JANE) == 2)
        .await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), 1, "the first one is taken back");
    assert_ne!(live[0].id, first);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_expired_invitation_is_sent_again_on_request_only() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    world.pass_time("jane", EXPIRED).await;
    let object = world.state("jane", "Expired").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    interval(&world).await;
    assert_eq!(world.astro.emails_to(JANE), 1);

    world.annotate("jane", RESEND, "monday").await;
    let object = world.state("jane", "Invited").await;
    assert_ne!(invite_id(&object), first);
    let status = object.status.unwrap();
    assert_eq!(status.last_resend_request.as_deref(), Some("monday"));
    assert_eq!(status.resends, 0);
    world.annotate("jane", "test/touched", "1").await;
    interval(&world).await;
    assert_eq!(world.astro.emails_to(JANE), 2, "once for each value");
    assert_eq!(world.astro.live_invites(JANE).len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_replaces_what_is_pending() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    world.annotate("jane", RESEND, "monday").await;
    world
        .until("two e-mails", || world.astro.emails_to(JANE) == 2)
        .await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), 1, "the first one is taken back");
    assert_ne!(live[0].id, first);
    interval(&world).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), live[0].id);
    assert_eq!(world.astro.emails_to(JANE), 2);
}

// --- The role is edited.

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_replaces_an_invitation_that_is_pending() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let mark = world.astro.mark();
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    let object = world.state("jane", "Invited").await;
    assert_ne!(invite_id(&object), first);
    let live = world.astro.live_invites(JANE);
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_BILLING_ADMIN")
    );
    let order: Vec<Operation> = world
        .astro
        .calls_since(mark)
        .iter()
        .filter(|call| {
            call.operation.changes_something() || call.invite_id.as_ref() == Some(&first)
        })
        .map(|call| call.operation)
        .collect();
    let last = &order[order.len() - 3..];
    assert_eq!(
        last,
        [
            Operation::GetInvite,
            Operation::DeleteInvite,
            Operation::CreateInvite
        ],
        "both are asked first: {order:?}"
    );
    assert_eq!(world.astro.emails_to(JANE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_sends_nothing_once_get_invite_says_that_it_ended() {
    // Whoever trusts DELETE alone, or what get-invite said long ago, writes to a member.
    let world = blind_with(json!({"syncInterval": "1h"})).await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.delete_accepted = DeleteAccepted::NoContent);
    world.apply("jane", JANE).await;
    let id = invite_id(&world.state("jane", "Invited").await);
    world
        .until("it was looked at", || {
            world.astro.count(Operation::GetInvite) > 0
        })
        .await;
    world.astro.accept(&id).unwrap();
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world.state("jane", "InvitationEnded").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

/// The person accepts between get-invite and the DELETE of a replacement, which goes on with the gate.
async fn accepts_before_the_delete(world: &World) -> Gate {
    world.apply("jane", JANE).await;
    let id = invite_id(&world.state("jane", "Invited").await);
    let gate = world
        .hold_replacement("jane", HoldPoint::BeforeEffect)
        .await;
    world.astro.accept(&id).unwrap();
    gate
}

/// DELETE tells that the person has accepted with that answer.
async fn accepted_before_the_delete(answer: DeleteAccepted) {
    let world = blind().await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.delete_accepted = answer);
    accepts_before_the_delete(&world).await.release();
    let object = world.state("jane", "InvitationEnded").await;
    assert_eq!(accepted(&object), ("Unknown", "NotVisible"));
    interval(&world).await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_sends_nothing_when_the_delete_says_404() {
    accepted_before_the_delete(DeleteAccepted::NotFound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_sends_nothing_when_the_delete_says_400() {
    accepted_before_the_delete(DeleteAccepted::BadRequest).await;
}

/// What was sent while nobody could look is judged by that.
#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_sends_nothing_when_the_token_may_list_again_before_the_delete_says_404() {
    let world = blind().await;
    let gate = accepts_before_the_delete(&world).await;
    list_users(&world, ListUsers::Allowed);
    world.organization_is("Connected").await;
    gate.release();
    world.state("jane", "RoleDiffers").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    assert_eq!(world.astro.emails_to(JANE), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_goes_on_when_the_delete_says_404_of_what_is_there() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let gone = Fault::before(Answer::Status(404));
    world
        .astro
        .fault(Operation::DeleteInvite, gone, Times::Next(1));
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .until("two e-mails", || world.astro.emails_to(JANE) == 2)
        .await;
    invited_anew(&world).await;
    assert_ne!(world.astro.live_invites(JANE)[0].id, first);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edited_role_waits_while_the_delete_fails() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let fails = Fault::before(Answer::Status(503));
    world
        .astro
        .fault(Operation::DeleteInvite, fails, Times::Next(2));
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    let object = world.state("jane", "Invited").await;
    assert_ne!(invite_id(&object), first);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 3);
    assert_eq!(world.astro.emails_to(JANE), 2);
    assert_eq!(world.astro.live_invites(JANE).len(), 1);
}

/// An invited person's role is edited, and the DELETE of the invitation takes effect without an answer.
async fn deleted_unheard(world: &World) {
    world.apply("jane", JANE).await;
    world.state("jane", "Invited").await;
    let unheard = Fault::after(Answer::Status(502));
    world
        .astro
        .fault(Operation::DeleteInvite, unheard, Times::Next(1));
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
}

/// The object waits for a person: it may have been accepted, or the operator's own DELETE took it.
async fn waits_for_a_person(world: &World, deletes: usize) {
    let object = world.state("jane", "OutcomeUnknown").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    let message = &condition(&object, "Ready").unwrap().message;
    assert!(message.contains(RESEND), "the way out: {message}");
    world.annotate("jane", "test/touched", "1").await;
    let writes = world.writes_so_far(Some("jane")).await;
    interval(world).await;
    interval(world).await;
    assert_eq!(world.writes(Some("jane")), writes);
    assert_eq!(world.astro.count(Operation::DeleteInvite), deletes);
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

/// One more e-mail, with the role that the spec says now.
async fn invited_anew(world: &World) {
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_BILLING_ADMIN")
    );
    assert_eq!(live[0].id, invite_id(&object));
    interval(world).await;
    assert_eq!(world.astro.emails_to(JANE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_with_no_answer_that_took_the_invitation_waits_for_a_person() {
    let world = blind().await;
    deleted_unheard(&world).await;
    waits_for_a_person(&world, 1).await;
    world.annotate("jane", RESEND, "monday").await;
    invited_anew(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_where_get_invite_still_shows_it() {
    let world = blind().await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.get_ended = GetEnded::OldBody);
    deleted_unheard(&world).await;
    // The next DELETE says that it is gone, and the one after a list that is refused.
    waits_for_a_person(&world, 3).await;
    world.annotate("jane", RESEND, "monday").await;
    invited_anew(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_after_a_restart() {
    let mut world = blind().await;
    deleted_unheard(&world).await;
    world.state("jane", "OutcomeUnknown").await;
    world.kill_operator();
    world.start_operator_with(&PATIENT);
    world.says("jane", "whether the last e-mail went out").await;
    waits_for_a_person(&world, 1).await;
    world.annotate("jane", RESEND, "monday").await;
    invited_anew(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_same_is_sent_again_once_the_token_may_list_users() {
    let world = blind().await;
    deleted_unheard(&world).await;
    waits_for_a_person(&world, 1).await;
    list_users(&world, ListUsers::Allowed);
    invited_anew(&world).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_delete_with_no_answer_of_what_was_accepted_sends_nothing() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let id = invite_id(&world.state("jane", "Invited").await);
    let unheard = Fault::after(Answer::Status(502));
    world
        .astro
        .fault(Operation::DeleteInvite, unheard, Times::Next(1));
    let gate = world
        .hold_replacement("jane", HoldPoint::BeforeEffect)
        .await;
    world.astro.accept(&id).unwrap();
    gate.release();
    waits_for_a_person(&world, 1).await;
    list_users(&world, ListUsers::Allowed);
    world.state("jane", "RoleDiffers").await;
    assert_eq!(world.astro.emails_to(JANE), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_request_goes_on_after_a_delete_with_no_answer() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    world.state("jane", "Invited").await;
    let unheard = Fault::after(Answer::Status(502));
    world
        .astro
        .fault(Operation::DeleteInvite, unheard, Times::Next(1));
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world.annotate("jane", RESEND, "monday").await;
    invited_anew(&world).await;
    world.annotate("jane", "test/touched", "1").await;
    interval(&world).await;
    assert_eq!(world.astro.emails_to(JANE), 2, "once for each value");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_may_be_deleted_already_is_taken_back_and_not_handed_over() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    let fails = Fault::before(Answer::Status(503));
    world
        .astro
        .fault(Operation::DeleteInvite, fails, Times::Next(1));
    world.apply("again", JANE).await;
    world.state("again", "Conflict").await;
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .until("a DELETE", || {
            world.astro.count(Operation::DeleteInvite) >= 1
        })
        .await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    let heir = world.state("again", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, invite_id(&heir));
    assert_eq!(world.astro.count(Operation::DeleteInvite), 2);
    assert_eq!(world.astro.emails_to(JANE), 2);
}

/// The same, and the person accepted before: whoever waited for the address is not to write to a member.
#[tokio::test(flavor = "multi_thread")]
async fn what_may_have_been_accepted_already_is_handed_over_after_its_delete() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    let fails = Fault::before(Answer::Status(503));
    world
        .astro
        .fault(Operation::DeleteInvite, fails, Times::UntilCleared);
    world.apply("again", JANE).await;
    world.state("again", "Conflict").await;
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .until("a DELETE", || {
            world.astro.count(Operation::DeleteInvite) >= 1
        })
        .await;
    world.astro.accept(&invite_id(&object)).unwrap();
    world.astro.clear_faults();
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    world.state("again", "InvitationEnded").await;
    assert_eq!(world.astro.emails_to(JANE), 1);
}

// --- An e-mail whose outcome is not known.

/// A first POST goes wrong like that: the object stalls, and nothing is sent until a person answers.
async fn stalls(world: &World, landed: bool) {
    let object = world.state("jane", "OutcomeUnknown").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    let message = &condition(&object, "Ready").unwrap().message;
    assert!(
        message.contains(RESEND) && message.contains(INVITE_ID),
        "both ways out: {message}"
    );
    world.annotate("jane", "test/touched", "1").await;
    interval(world).await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), usize::from(landed));
    match live.first() {
        Some(live) => world.annotate("jane", INVITE_ID, &live.id).await,
        None => world.annotate("jane", RESEND, "monday").await,
    }
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to(JANE), 1);
    // It has an owner again.
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites(JANE).is_empty());
}

async fn stalls_after(fault: Fault, landed: bool) {
    let world = blind().await;
    world
        .astro
        .fault(Operation::CreateInvite, fault, Times::Next(1));
    world.apply("jane", JANE).await;
    stalls(&world, landed).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_before_the_effect_waits_for_a_person() {
    stalls_after(Fault::before(Answer::Cut), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cut_after_the_effect_waits_for_a_person() {
    stalls_after(Fault::after(Answer::Cut), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_before_the_effect_waits_for_a_person() {
    stalls_after(Fault::before(Answer::Status(500)), false).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_500_after_the_effect_waits_for_a_person() {
    stalls_after(Fault::after(Answer::Html(500)), true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_timeout_waits_for_a_person() {
    // Longer than the operator waits for an answer.
    let delay = Fault::Delay(HoldPoint::AfterEffect, Duration::from_secs(17));
    stalls_after(delay, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_kill_after_the_post_waits_for_a_person() {
    let mut world = blind().await;
    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    world.apply("jane", JANE).await;
    world
        .in_time("the POST took effect", gate.arrived())
        .await
        .unwrap();
    world.kill_operator();
    gate.release();
    world.start_operator_with(&PATIENT);
    stalls(&world, true).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_with_no_answer_waits_and_is_sent_again_on_request() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    world.state("jane", "Invited").await;
    let cut = Fault::before(Answer::Cut);
    world
        .astro
        .fault(Operation::CreateInvite, cut, Times::Next(1));
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world.state("jane", "OutcomeUnknown").await;
    assert!(world.astro.live_invites(JANE).is_empty());
    world.annotate("jane", RESEND, "monday").await;
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_BILLING_ADMIN")
    );
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to(JANE), 2);
}

/// The operator dies before the DELETE of a replacement takes effect, which it does with the gate.
async fn killed_before_the_delete(world: &mut World) -> Gate {
    let gate = world
        .hold_replacement("jane", HoldPoint::BeforeEffect)
        .await;
    world.kill_operator();
    world.start_operator_with(&PATIENT);
    gate
}

#[tokio::test(flavor = "multi_thread")]
async fn a_replacement_that_was_killed_before_its_delete_leaves_no_second_invitation() {
    let mut world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let gate = killed_before_the_delete(&mut world).await;
    world.state("jane", "OutcomeUnknown").await;
    assert_eq!(world.astro.live_invites(JANE)[0].id, first);
    world.annotate("jane", RESEND, "monday").await;
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_BILLING_ADMIN"),
        "what the status says is what the person has"
    );
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to(JANE), 2);
    gate.release();
}

/// A person asks, and something in Astro's place answers the DELETE: nobody asks get-invite before it.
#[tokio::test(flavor = "multi_thread")]
async fn a_request_whose_delete_says_once_that_it_is_gone_leaves_no_invitation_behind() {
    let mut world = blind().await;
    world.apply("jane", JANE).await;
    world.state("jane", "Invited").await;
    let gate = killed_before_the_delete(&mut world).await;
    world.state("jane", "OutcomeUnknown").await;
    let absent = Fault::before(Answer::Status(404));
    world
        .astro
        .fault(Operation::DeleteInvite, absent, Times::Next(1));
    world.annotate("jane", RESEND, "monday").await;
    world
        .until("two e-mails", || world.astro.emails_to(JANE) == 2)
        .await;
    invited_anew(&world).await;
    gate.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_replaced_invitation_may_be_named_and_keeps_its_role() {
    let mut world = blind().await;
    world.apply("jane", JANE).await;
    let first = invite_id(&world.state("jane", "Invited").await);
    let gate = killed_before_the_delete(&mut world).await;
    world.state("jane", "OutcomeUnknown").await;
    world.annotate("jane", INVITE_ID, &first).await;
    // It is known for what it is, and so replaced.
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(
        (live.len(), live[0].role.as_str()),
        (1, "ORGANIZATION_BILLING_ADMIN")
    );
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to(JANE), 2);
    gate.release();
}

/// The annotation stays, as in Git.
#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_was_named_once_is_not_taken_for_the_next_e_mail() {
    let world = blind().await;
    let first = unanswered(&world).await;
    world.annotate("jane", INVITE_ID, &first).await;
    world.state("jane", "Invited").await;
    let cut = Fault::after(Answer::Cut);
    world
        .astro
        .fault(Operation::CreateInvite, cut, Times::Next(1));
    world.annotate("jane", RESEND, "monday").await;
    world.says("jane", "it was named before that e-mail").await;
    world.state("jane", "OutcomeUnknown").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), 1);
    assert_ne!(live[0].id, first);
    world.annotate("jane", INVITE_ID, &live[0].id).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), live[0].id);
    assert_eq!(world.astro.emails_to(JANE), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_was_named_before_may_be_named_again() {
    let mut world = blind().await;
    let first = unanswered(&world).await;
    world.annotate("jane", INVITE_ID, &first).await;
    world.state("jane", "Invited").await;
    let gate = killed_before_the_delete(&mut world).await;
    world.says("jane", "it was named before that e-mail").await;
    world.annotate("jane", INVITE_ID, "none").await;
    world.says("jane", "Astro answered 404").await;
    world.annotate("jane", INVITE_ID, &first).await;
    // It is known for what it is, and so replaced.
    let object = world.state("jane", "Invited").await;
    let live = world.astro.live_invites(JANE);
    assert_eq!(live.len(), 1);
    assert_eq!(live[0].id, invite_id(&object));
    assert_eq!(world.astro.emails_to(JANE), 2);
    gate.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_invitation_that_is_not_it_is_told_and_not_adopted() {
    let world = blind().await;
    let there = world.astro.organization("another-organization");
    let both = [world.astro.organization_id(), there.organization_id()];
    world.astro.add_token("both-token", &both);
    world.put_token("both-token").await;
    let right = unanswered(&world).await;

    let joe = "joe@example.com";
    let role = "ORGANIZATION_MEMBER";
    let wrong_address = world.astro.invite_on_web_page(joe, role).unwrap();
    let elsewhere = there.invite_on_web_page(JANE, role).unwrap();
    for (id, why) in [
        (wrong_address.as_str(), "it is for another address"),
        (elsewhere.as_str(), "it is for another organization"),
        ("no-such-invite", "Astro answered 404"),
    ] {
        world.annotate("jane", INVITE_ID, id).await;
        world.says("jane", why).await;
        let object = world.state("jane", "OutcomeUnknown").await;
        assert_eq!(object.status.unwrap().invite_id, None);
    }
    world.annotate("jane", INVITE_ID, &right).await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), right);
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

/// Whether it went out or not: nobody can look.
#[tokio::test(flavor = "multi_thread")]
async fn an_e_mail_whose_outcome_is_unknown_counts_for_the_distance_to_the_next() {
    let mut world = World::prepare(json!({})).await;
    list_users(&world, ListUsers::Forbidden);
    world.start_operator_with(&[&PATIENT[..], &["--email-spacing", "10m"]].concat());
    world.organization_is("ListForbidden").await;
    unanswered(&world).await;
    world
        .annotate("jane", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    world.state("jane", "Spacing").await;
    assert_eq!(world.astro.emails_to(JANE), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_named_invitation_is_asked_for_again_when_the_answer_says_nothing() {
    let world = blind().await;
    let right = unanswered(&world).await;
    for (number, answer) in [
        Answer::TooManyRequests(None),
        Answer::Html(404),
        Answer::Status(403),
        Answer::Status(503),
    ]
    .into_iter()
    .enumerate()
    {
        let mark = world.astro.mark();
        let fault = Fault::before(answer);
        world
            .astro
            .fault(Operation::GetInvite, fault, Times::Next(1));
        world.annotate("jane", INVITE_ID, &right).await;
        world
            .annotate("jane", "test/touched", &number.to_string())
            .await;
        world
            .until("it is asked for", || {
                world.astro.count_since(mark, Operation::GetInvite) > 0
            })
            .await;
    }
    world.annotate("jane", "test/touched", "now").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), right);
}

/// A 404 that something in Astro's place gave does not stand for good.
#[tokio::test(flavor = "multi_thread")]
async fn a_named_invitation_that_was_not_found_is_asked_for_again() {
    let world = blind().await;
    let right = unanswered(&world).await;
    let absent = Fault::before(Answer::Status(404));
    world
        .astro
        .fault(Operation::GetInvite, absent, Times::UntilCleared);
    world.annotate("jane", INVITE_ID, &right).await;
    world.says("jane", "Astro answered 404").await;
    world.astro.clear_faults();
    world.annotate("jane", "test/touched", "now").await;
    let object = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&object), right);
    assert_eq!(world.astro.emails_to(JANE), 1);
}

/// Somebody else's invitation for the address, as the owner: this namespace may not give that role.
async fn somebody_elses(world: &World) -> String {
    world
        .astro
        .change_behaviour(|behaviour| behaviour.inviter = InviterKind::ServiceKey);
    let theirs = world
        .astro
        .invite_on_web_page(JANE, "ORGANIZATION_OWNER")
        .unwrap();
    // From the answer, the operator knows its own token.
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    theirs
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_invitation_is_not_adopted_by_its_name() {
    let world = blind().await;
    let theirs = somebody_elses(&world).await;
    let cut = Fault::before(Answer::Cut);
    world
        .astro
        .fault(Operation::CreateInvite, cut, Times::Next(1));
    let jane = world.apply("jane", JANE).await;
    world.state("jane", "OutcomeUnknown").await;
    world.annotate("jane", INVITE_ID, &theirs).await;
    let object = world.state("jane", "NotPermitted").await;
    assert_eq!(object.status.unwrap().invite_id, None);
    world.delete("jane").await;
    world
        .edit("jane", json!({"deletionPolicy": "Retain"}))
        .await;
    world.deleted("jane", &uid(&jane)).await;
    assert_eq!(world.astro.live_invites(JANE)[0].id, theirs);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_invitation_is_not_taken_for_the_answer_to_a_post() {
    let world = blind().await;
    let theirs = somebody_elses(&world).await;
    let jane = world.apply("jane", JANE).await;
    let object = world.state("jane", "NotPermitted").await;
    assert_eq!(condition(&object, "Stalled").unwrap().status, "True");
    assert_eq!(object.status.unwrap().invite_id, None);
    let mark = world.astro.mark();
    interval(&world).await;
    assert_eq!(calls(&world, mark, Operation::CreateInvite), 0);
    assert_eq!(world.astro.emails_to(JANE), 0);
    let token = organization(&world).await.status.unwrap().token.unwrap();
    assert_ne!(
        token.subject.and_then(|subject| subject.name).as_deref(),
        Some("owner"),
        "the token is not whoever sent that one"
    );
    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    assert_eq!(world.astro.live_invites(JANE)[0].id, theirs);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn somebody_elses_invitation_keeps_nobody_waiting_once_a_list_shows_that_it_is_gone() {
    let world = blind().await;
    let theirs = somebody_elses(&world).await;
    world.apply("jane", JANE).await;
    world.state("jane", "NotPermitted").await;
    list_users(&world, ListUsers::Allowed);
    world.organization_is("Connected").await;
    world.astro.revoke(&theirs).unwrap();
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to(JANE), 1);
}

// --- The object is deleted.

/// The person accepted before the deletion, and DELETE answers so.
async fn deleted_after_acceptance(answer: DeleteAccepted) {
    let world = blind().await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.delete_accepted = answer);
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    world.astro.accept(&invite_id(&object)).unwrap();
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.is_member(JANE));
    let deletes = world.astro.count(Operation::DeleteInvite);
    assert_eq!(deletes, 2, "that it is gone has to be said twice");
    assert_eq!(world.astro.count(Operation::RemoveMember), 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_trusts_204() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites(JANE).is_empty());
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
    // Two to invite and one to let go.
    world.wrote("jane", 3).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_trusts_404_when_it_is_said_twice() {
    deleted_after_acceptance(DeleteAccepted::NotFound).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_believes_400_when_get_invite_agrees() {
    deleted_after_acceptance(DeleteAccepted::BadRequest).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_waits_on_a_400_while_it_may_be_pending_and_not_longer() {
    let world = blind().await;
    world.astro.change_behaviour(|behaviour| {
        behaviour.delete_accepted = DeleteAccepted::BadRequest;
        behaviour.get_ended = GetEnded::OldBody;
    });
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    world.astro.accept(&invite_id(&object)).unwrap();
    world.delete("jane").await;
    let waiting = world.state("jane", "RevokeFailed").await;
    assert!(
        condition(&waiting, "Ready")
            .unwrap()
            .message
            .contains("400"),
        "Astro's word is told"
    );
    // It is tried again by itself, and learns the time from any answer.
    world.astro.set_clock_offset(EXPIRED);
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.is_member(JANE));
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_is_tried_again_when_its_delete_has_no_answer() {
    let world = blind().await;
    world.apply("jane", JANE).await;
    let object = world.state("jane", "Invited").await;
    let fails = Fault::after(Answer::Status(502));
    world
        .astro
        .fault(Operation::DeleteInvite, fails, Times::Next(1));
    world.delete("jane").await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites(JANE).is_empty());
    let deletes = world.astro.count(Operation::DeleteInvite);
    assert_eq!(deletes, 3, "the last two say that it is gone");
}

/// Something in Astro's place may say so, or Astro from an older state.
#[tokio::test(flavor = "multi_thread")]
async fn a_delete_that_says_once_that_it_is_gone_lets_nothing_go() {
    for status in [404, 400] {
        let world = blind().await;
        world.apply("jane", JANE).await;
        let object = world.state("jane", "Invited").await;
        let gone = Fault::before(Answer::Status(status));
        world
            .astro
            .fault(Operation::DeleteInvite, gone, Times::Next(1));
        world.delete("jane").await;
        world.deleted("jane", &uid(&object)).await;
        assert!(world.astro.live_invites(JANE).is_empty(), "{status}");
        assert_eq!(world.astro.count(Operation::DeleteInvite), 2, "{status}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_with_an_unknown_outcome_takes_back_what_is_named() {
    let world = blind().await;
    let sent = unanswered(&world).await;
    let object = world.state("jane", "OutcomeUnknown").await;
    world.delete("jane").await;
    world.says("jane", "which is then taken back").await;
    interval(&world).await;
    assert_eq!(world.astro.live_invites(JANE)[0].id, sent, "it is held");
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
    // Nothing is sent for an object that goes.
    world.annotate("jane", RESEND, "monday").await;
    interval(&world).await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);

    world.annotate("jane", INVITE_ID, &sent).await;
    world.deleted("jane", &uid(&object)).await;
    assert!(world.astro.live_invites(JANE).is_empty());
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn deletion_with_an_unknown_outcome_ends_with_retain() {
    let world = blind().await;
    let sent = unanswered(&world).await;
    let object = world.state("jane", "OutcomeUnknown").await;
    world.delete("jane").await;
    world.says("jane", "deletionPolicy to Retain").await;
    world
        .edit("jane", json!({"deletionPolicy": "Retain"}))
        .await;
    world.deleted("jane", &uid(&object)).await;
    assert_eq!(world.astro.live_invites(JANE)[0].id, sent);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
    assert_eq!(world.astro.emails_to(JANE), 1);
}

// --- The right comes and goes.

#[tokio::test(flavor = "multi_thread")]
async fn once_the_token_may_list_users_every_state_becomes_exact_and_nothing_is_sent() {
    let world = blind().await;
    let invited = |name: &'static str| {
        let world = &world;
        async move {
            world.apply(name, &format!("{name}@example.com")).await;
            invite_id(&world.state(name, "Invited").await)
        }
    };
    let (pending, accepts, declines) = (
        invited("ivy").await,
        invited("amy").await,
        invited("dan").await,
    );
    world.astro.accept(&accepts).unwrap();
    world.astro.reject(&declines).unwrap();
    world.state("amy", "InvitationEnded").await;
    world.state("dan", "InvitationEnded").await;
    let sent = unanswered(&world).await;
    world
        .astro
        .add_member("max@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    world.apply("max", "max@example.com").await;
    world.state("max", "Refused").await;
    let mark = world.astro.mark();

    list_users(&world, ListUsers::Allowed);
    world.organization_is("Connected").await;
    world
        .in_time("nobody is unsure of Ivy", async {
            while accepted(&world.invites().get("ivy").await.unwrap()).0 != "False" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    assert_eq!(invite_id(&world.state("ivy", "Invited").await), pending);
    assert_eq!(accepted(&world.state("amy", "Accepted").await).0, "True");
    let declined = world.state("dan", "InvitationWithdrawn").await;
    assert_eq!(accepted(&declined).0, "False");
    assert_eq!(invite_id(&world.state("jane", "Invited").await), sent);
    world.state("max", "AlreadyMember").await;
    interval(&world).await;
    assert_eq!(world.astro.count_since(mark, Operation::CreateInvite), 0);
    assert_eq!(world.astro.count_since(mark, Operation::DeleteInvite), 0);
    let token = organization(&world).await.status.unwrap().token.unwrap();
    assert_eq!(token.list_users, Some(Permission::Allowed));
}

#[tokio::test(flavor = "multi_thread")]
async fn once_the_token_may_not_list_users_any_longer_what_was_known_holds() {
    let world = World::start_with(&PATIENT).await;
    for name in ["ivy", "amy"] {
        world.apply(name, &format!("{name}@example.com")).await;
    }
    let pending = world.state("ivy", "Invited").await;
    let accepts = invite_id(&world.state("amy", "Invited").await);
    world.astro.accept(&accepts).unwrap();
    world.state("amy", "Accepted").await;
    world
        .astro
        .add_member("max@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    world.seen("max@example.com").await;
    world.apply("max", "max@example.com").await;
    world.state("max", "AlreadyMember").await;

    list_users(&world, ListUsers::Forbidden);
    world.organization_is("ListForbidden").await;
    world
        .in_time("nobody is sure of Ivy", async {
            while accepted(&world.invites().get("ivy").await.unwrap()).0 != "Unknown" {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    let mark = world.astro.mark();
    // Who was a member is written to by no edit and no request, and the edit is seen to.
    for (name, reason) in [("amy", "Accepted"), ("max", "AlreadyMember")] {
        world.annotate(name, RESEND, "monday").await;
        world.edit_role(name, "ORGANIZATION_BILLING_ADMIN").await;
        let object = world.state(name, reason).await;
        assert_eq!(accepted(&object).0, "True");
    }
    interval(&world).await;
    assert_eq!(world.astro.count_since(mark, Operation::CreateInvite), 0);

    world.delete("ivy").await;
    world.deleted("ivy", &uid(&pending)).await;
    world.apply("jane", JANE).await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("ivy@example.com"), 1);
    assert_eq!(world.astro.emails_to(JANE), 1);
}
