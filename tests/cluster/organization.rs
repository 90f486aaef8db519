//! What an Organization tells and protects.

use std::time::{Duration, Instant};

use futures::future::join_all;
use k8s_openapi::api::events::v1::Event;
use kube::api::{ListParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, ResourceExt};
use orginvite_operator::resources::Organization;
use orginvite_operator::resources::organization::Permission;
use serde_json::json;
use support::fake_astro::{Answer, Fault, Operation, Outcome, Times};

use crate::world::{STEADY, World, condition, invite_id, uid};

fn api(world: &World) -> Api<Organization> {
    Api::all(world.client.clone())
}

async fn organization(world: &World) -> Organization {
    api(world).get(&world.organization).await.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn it_stays_until_no_invitation_needs_it_and_sends_nothing_new_meanwhile() {
    let world = World::start().await;
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let uid_of = organization(&world).await.uid().unwrap();
    world.delete_organization().await;
    world.organization_is("InUse").await;
    world.apply("joe", "joe@example.com").await;
    let joe = world.state("joe", "OrganizationDeleting").await;
    assert!(joe.finalizers().is_empty(), "nothing to hold");
    assert_eq!(world.astro.emails_to("joe@example.com"), 0);

    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    let gone = await_condition(
        api(&world),
        &world.organization,
        conditions::is_deleted(&uid_of),
    );
    world
        .in_time("the Organization is gone", gone)
        .await
        .unwrap();
    world.state("joe", "OrganizationNotFound").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

/// It was removed by force, and one of the same name is for another organization.
#[tokio::test(flavor = "multi_thread")]
async fn what_is_recorded_of_another_organization_is_left_alone() {
    let world = World::start().await;
    let jane = world.apply("jane", "jane@example.com").await;
    let invite = invite_id(&world.state("jane", "Invited").await);
    let mut next = organization(&world).await;
    world.remove_organization().await;
    world.says("jane", "There is no Organization").await;

    let there = world.astro.organization("another-organization");
    let both = [world.astro.organization_id(), there.organization_id()];
    world.astro.add_token("both-token", &both);
    world.put_token("both-token").await;
    next.metadata = ObjectMeta {
        name: Some(world.organization.clone()),
        ..ObjectMeta::default()
    };
    there
        .organization_id()
        .clone_into(&mut next.spec.organization_id);
    next.status = None;
    api(&world)
        .create(&PostParams::default(), &next)
        .await
        .unwrap();
    world.organization_is("Connected").await;
    world.says("jane", "what is recorded here is of").await;
    let object = world.invites().get("jane").await.unwrap();
    assert_eq!(invite_id(&object), invite, "what is known stays");
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    assert_eq!(there.emails_to("joe@example.com"), 1);

    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world.delete("jane").await;
    world.says("jane", "cannot be taken back").await;
    world
        .edit("jane", json!({"deletionPolicy": "Retain"}))
        .await;
    world.deleted("jane", &uid(&jane)).await;
    assert_eq!(world.astro.live_invites("jane@example.com")[0].id, invite);
    assert!(there.live_invites("jane@example.com").is_empty());
    assert_eq!(world.astro.count(Operation::DeleteInvite), 0);
    assert_eq!(world.astro.count(Operation::CreateInvite), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn it_counts_its_invites_and_tells_what_the_token_may_do() {
    let world = World::start().await;
    for name in ["ann", "bob", "eve"] {
        world.apply(name, &format!("{name}@example.com")).await;
    }
    let ann = world.state("ann", "Invited").await;
    world.state("bob", "Invited").await;
    world.state("eve", "Invited").await;
    world
        .astro
        .accept(ann.status.as_ref().unwrap().invite_id.as_deref().unwrap())
        .unwrap();
    world.state("ann", "Accepted").await;
    let owner = world.manifest("boss", "boss@example.com", "ORGANIZATION_OWNER");
    world.create(&owner).await;
    world.state("boss", "NotPermitted").await;
    let eve = world.invites().get("eve").await.unwrap();
    world.delete("eve").await;
    world.deleted("eve", &uid(&eve)).await;

    let counted = |object: Option<&Organization>| {
        let invites = object
            .and_then(|object| object.status.as_ref())
            .map(|status| status.invites.clone());
        invites.is_some_and(|counts| {
            (counts.total, counts.invited, counts.accepted) == (3, 1, 1)
                && (counts.waiting, counts.stalled, counts.deleting) == (0, 1, 0)
        })
    };
    let wait = await_condition(api(&world), &world.organization, counted);
    let object = world.in_time("they are counted", wait).await;
    let status = object.unwrap().unwrap().status.unwrap();
    let token = status.token.unwrap();
    assert_eq!(token.list_users, Some(Permission::Allowed));
    assert_eq!(token.invite, Some(Permission::Allowed));
    assert_eq!(token.revoke, Some(Permission::Allowed));
    assert!(token.subject.is_some() && status.last_sync_time.is_some());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_invite_is_told_on_each_object_and_still_takes_back() {
    let world = World::start_with(&STEADY).await;
    world.apply("ann", "ann@example.com").await;
    let ann = world.state("ann", "Invited").await;
    world.astro.fault(
        Operation::CreateInvite,
        Fault::before(Answer::Status(403)),
        Times::UntilCleared,
    );
    world.apply("bob", "bob@example.com").await;
    let bob = world.state("bob", "TokenNotAllowed").await;
    assert_eq!(condition(&bob, "Stalled").unwrap().status, "True");
    let forbidden = |object: Option<&Organization>| {
        object
            .and_then(|object| object.status.as_ref()?.token.as_ref()?.invite)
            .is_some_and(|invite| invite == Permission::Forbidden)
    };
    let wait = await_condition(api(&world), &world.organization, forbidden);
    world
        .in_time("the Organization tells it", wait)
        .await
        .unwrap();
    world.organization_is("Connected").await;
    world.delete("ann").await;
    world.deleted("ann", &uid(&ann)).await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 2);
}

/// The token stops working while nothing is read: it is found out by a POST, and not by each of them.
#[tokio::test(flavor = "multi_thread")]
async fn a_rejected_token_stalls_the_organization_once() {
    let mut world = World::prepare(json!({"syncInterval": "1h"})).await;
    world.start_operator_with(&["--posts-per-second", "20"]);
    world.organization_is("Connected").await;
    world.astro.replace_token("another-token");
    let objects = (0..60).map(|n| {
        world.manifest(
            &format!("p{n}"),
            &format!("p{n}@example.com"),
            "ORGANIZATION_MEMBER",
        )
    });
    let api = world.invites();
    let params = PostParams::default();
    join_all(objects.map(|object| {
        let (api, params) = (api.clone(), params.clone());
        async move { api.create(&params, &object).await.unwrap() }
    }))
    .await;
    world.organization_is("TokenRejected").await;
    for n in 0..60 {
        world.state(&format!("p{n}"), "AstroUnavailable").await;
    }
    let rejected = world.astro.calls();
    let rejected = rejected
        .iter()
        .filter(|call| call.operation == Operation::CreateInvite)
        .inspect(|call| assert_eq!(call.outcome, Outcome::Status(401)))
        .count();
    // As many as are sent at once before the first answer is there.
    assert!(
        (1..=16).contains(&rejected),
        "{rejected} POSTs with a token that was rejected"
    );
    world.put_token("another-token").await;
    for n in 0..60 {
        world.state(&format!("p{n}"), "Invited").await;
    }
    let emails = world.astro.emails();
    assert_eq!(emails.len(), 60);
    assert!(emails.values().all(|count| *count == 1), "{emails:?}");
}

/// Fifteen of thirty people go at once, more than is believed.
#[tokio::test(flavor = "multi_thread")]
async fn a_mass_loss_writes_to_nobody_until_it_is_acknowledged() {
    let mut world = World::start().await;
    let params = PostParams::default();
    for n in 0..30 {
        let mut object = world.manifest(
            &format!("p{n}"),
            &format!("p{n}@example.com"),
            "ORGANIZATION_MEMBER",
        );
        object.spec.resend_when = orginvite_operator::resources::org_invite::ResendWhen::Gone;
        world.invites().create(&params, &object).await.unwrap();
    }
    for n in 0..30 {
        world.state(&format!("p{n}"), "Invited").await;
    }
    world.seen("p29@example.com").await;
    world.astro.at_once(|astro| {
        for invite in astro.invites().iter().take(15) {
            astro.revoke(&invite.id).unwrap();
        }
    });
    world.organization_is("PeopleMissing").await;
    let object = organization(&world).await;
    let status = object.status.unwrap();
    let suspicious = status
        .conditions
        .iter()
        .find(|condition| condition.type_ == "Suspicious")
        .unwrap();
    assert_eq!(suspicious.status, "True");
    assert!(
        suspicious.message.starts_with("15 of 31 people"),
        "{}",
        suspicious.message
    );
    world.seen("p29@example.com").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 30);
    for object in world.invites().list(&ListParams::default()).await.unwrap() {
        assert!(condition(&object, "Stalled").is_none(), "{object:?}");
    }

    // It is not forgotten at a restart, and a new person waits as well.
    world.kill_operator();
    world.start_operator();
    world.apply("new", "new@example.com").await;
    world.state("new", "PeopleMissing").await;
    world.seen("new@example.com").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 30);

    let acknowledge =
        json!({"metadata": {"annotations": {"iam.astronomer.io/acknowledge-loss": "we did that"}}});
    world.edit_organization(acknowledge).await;
    world.organization_is("Connected").await;
    world.state("new", "Invited").await;
    world
        .until("those who are gone are invited again", || {
            world.astro.count(Operation::CreateInvite) == 46
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn deletions_whose_answers_were_lost_are_no_mass_loss() {
    let world = World::start().await;
    let mut uids = Vec::new();
    for n in 0..20 {
        let (name, email) = (format!("p{n}"), format!("p{n}@example.com"));
        uids.push(uid(&world.apply(&name, &email).await));
    }
    for n in 0..20 {
        world.state(&format!("p{n}"), "Invited").await;
    }
    world.seen("p19@example.com").await;
    let lost = Fault::after(Answer::Status(502));
    let times = Times::Next(20);
    world.astro.fault(Operation::DeleteInvite, lost, times);
    for n in 0..20 {
        world.delete(&format!("p{n}")).await;
    }
    for (n, uid) in uids.iter().enumerate() {
        world.deleted(&format!("p{n}"), uid).await;
    }
    assert_eq!(world.astro.emails().len(), 20);
    assert!(world.astro.emails().values().all(|count| *count == 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_loss_that_a_later_reading_disproves_is_forgotten() {
    let mut world = World::prepare(json!({})).await;
    for n in 0..20 {
        world
            .astro
            .add_member(&format!("p{n}@example.com"), "ORGANIZATION_MEMBER")
            .unwrap();
    }
    world.start_operator();
    for n in 0..20 {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    for n in 0..20 {
        world.state(&format!("p{n}"), "AlreadyMember").await;
    }
    // It stays in Git, and acknowledges no loss to come.
    let acknowledge =
        json!({"metadata": {"annotations": {"iam.astronomer.io/acknowledge-loss": "in May"}}});
    world.edit_organization(acknowledge).await;
    let seen = |object: Option<&Organization>| {
        let status = object.and_then(|object| object.status.as_ref());
        let seen = status.and_then(|status| status.last_acknowledged_loss.as_deref());
        seen == Some("in May")
    };
    let seen = await_condition(api(&world), &world.organization, seen);
    world.in_time("it is seen", seen).await.unwrap();
    let writes = world.writes_so_far(None).await;
    let everybody = || (0..20).map(|n| format!("p{n}@example.com"));
    world.astro.at_once(|astro| {
        for email in everybody() {
            astro.remove_member(&email).unwrap();
        }
    });
    world.organization_is("PeopleMissing").await;
    world.seen("nobody").await;
    world.organization_is("PeopleMissing").await;
    world.astro.at_once(|astro| {
        for email in everybody() {
            astro.add_member(&email, "ORGANIZATION_MEMBER").unwrap();
        }
    });
    world.organization_is("Connected").await;
    world.seen("p0@example.com").await;
    for n in 0..20 {
        world.state(&format!("p{n}"), "AlreadyMember").await;
    }
    assert_eq!(world.writes(None), writes, "nobody's status changed");
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
}

/// Taking many back ourselves is no loss.
#[tokio::test(flavor = "multi_thread")]
async fn what_we_take_back_ourselves_is_not_missed() {
    let world = World::start().await;
    for n in 0..25 {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    let mut objects = Vec::new();
    for n in 0..25 {
        objects.push(world.state(&format!("p{n}"), "Invited").await);
    }
    world.seen("p24@example.com").await;
    for object in &objects {
        world.delete(&object.name_any()).await;
    }
    for object in &objects {
        world.deleted(&object.name_any(), &uid(object)).await;
    }
    world.apply("new", "new@example.com").await;
    world.state("new", "Invited").await;
    world.seen("new@example.com").await;
    assert!(!world.log().contains("more people are missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_does_not_take_of_it_is_told() {
    let mut world = World::prepare(json!({})).await;
    let name = world.organization.clone();
    let rule = ("!has(object.metadata.finalizers)", "nobody holds it");
    let held = json!({"metadata": {"finalizers": ["example.com/a"]}});
    world.admit_only(&api(&world), &name, rule, held).await;
    world.apply("jane", "jane@example.com").await;

    world.start_operator();
    world.organization_is("WriteRefused").await;
    let told = organization(&world).await.status.unwrap().conditions;
    let reconciling = told.iter().find(|one| one.type_ == "Reconciling").unwrap();
    assert_eq!(reconciling.reason, "WriteRefused");
    let message = &reconciling.message;
    assert!(message.contains("nobody holds it"), "{message}");
    world.state("jane", "OrganizationNotReady").await;
    assert_eq!(world.astro.calls().len(), 0);

    world.admit_all().await;
    world.organization_is("Connected").await;
    world.state("jane", "Invited").await;
    let told = organization(&world).await.status.unwrap().conditions;
    assert!(told.iter().all(|one| one.type_ == "Ready"), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_it_may_not_read_is_told() {
    let mut world = World::prepare(json!({})).await;
    let own = json!([
        {"apiGroups": ["iam.astronomer.io"], "resources": ["*"], "verbs": ["*"]},
        {"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]},
        {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
        {"apiGroups": ["events.k8s.io"], "resources": ["events"], "verbs": ["*"]},
    ]);
    world.grant("own", own).await;
    world.until_permitted(&world.user, "list", None).await;
    world.start_operator_in_group(None, &[]);
    world.organization_is("TokenMissing").await;
    let told = organization(&world).await.status.unwrap().conditions;
    let message = &told[0].message;
    assert!(message.contains("may not read the token"), "{message}");
    let secrets =
        json!([{"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]}]);
    world.grant("secrets", secrets.clone()).await;
    world.organization_is("Connected").await;

    // What was connected stays so, and heeds its spec.
    let of = &world.namespace;
    let reads = json!({"resource": "secrets", "verb": "get", "namespace": of});
    world.withdraw("secrets", reads).await;
    world
        .edit_organization(json!({"spec": {"suspend": true}}))
        .await;
    // Two watches tell of the two objects, in whatever order.
    world
        .until("the switch is seen", || {
            world.log().contains(r#""suspended":true"#)
        })
        .await;
    let stalled = |object: Option<&Organization>| {
        let told = object.map_or(&[][..], Organization::conditions);
        let mut told: Vec<_> = told
            .iter()
            .map(|one| (&*one.type_, &*one.status, &*one.reason))
            .collect();
        told.sort_unstable();
        told == [
            ("Ready", "True", "Connected"),
            ("Stalled", "True", "TokenMissing"),
        ]
    };
    let stalled = await_condition(api(&world), &world.organization, stalled);
    world.in_time("it needs a person", stalled).await.unwrap();
    let events: Api<Event> = Api::namespaced(world.client.clone(), "default");
    let warned = async {
        loop {
            let about = format!("regarding.name={of}");
            let events = events.list(&ListParams::default().fields(&about)).await;
            let is_it = |event: &Event| {
                let note = event.note.as_deref().unwrap_or_default();
                event.reason.as_deref() == Some("TokenMissing")
                    && event.type_.as_deref() == Some("Warning")
                    && note.contains("goes on to be used")
            };
            if events.unwrap().iter().any(is_it) {
                break;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    world.in_time("an event tells it", warned).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Suspended").await;
    world
        .edit_organization(json!({"spec": {"suspend": false}}))
        .await;
    world.state("jane", "Invited").await;
    // Another process has no token.
    world.kill_operator();
    world.start_operator_in_group(None, &[]);
    world.organization_is("TokenMissing").await;
    world.grant("secrets", secrets).await;
    world.organization_is("Connected").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_that_somebody_else_holds_in_deletion_sends_nothing_new() {
    let world = World::start().await;
    let others = |finalizers: &[&str]| json!({"metadata": {"finalizers": finalizers}});
    let ours = "iam.astronomer.io/organization";
    world
        .edit_organization(others(&[ours, "example.com/a"]))
        .await;
    world.delete_organization().await;
    let released = async {
        while organization(&world).await.finalizers() != ["example.com/a"] {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    world.in_time("it lets go", released).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "OrganizationDeleting").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    world.edit_organization(others(&[])).await;
    world.state("jane", "OrganizationNotFound").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_token_that_may_not_take_back_is_told_and_tried_again() {
    let world = World::start().await;
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let forbidden = Fault::before(Answer::Status(403));
    let times = Times::UntilCleared;
    world.astro.fault(Operation::DeleteInvite, forbidden, times);
    world.delete("jane").await;
    let told = world.state("jane", "TokenNotAllowed").await;
    assert_eq!(condition(&told, "Stalled").unwrap().status, "True");
    let revoke = |permission| {
        let told = move |object: Option<&Organization>| {
            let token = object.and_then(|object| object.status.as_ref()?.token.as_ref());
            token.is_some_and(|token| token.revoke == Some(permission))
        };
        await_condition(api(&world), &world.organization, told)
    };
    let forbidden = revoke(Permission::Forbidden);
    let what = "the Organization tells it";
    world.in_time(what, forbidden).await.unwrap();
    assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
    world.astro.clear_faults();
    // Not only within the hour, as an invitation is.
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());
    let allowed = revoke(Permission::Allowed);
    world.in_time(what, allowed).await.unwrap();
}

/// Each write of its status has it reported anew.
#[tokio::test(flavor = "multi_thread")]
async fn its_counts_are_not_written_for_each_change() {
    let world = World::start().await;
    let written = async || {
        let invites = world.writes_so_far(None).await;
        world.attempted_writes_by(&world.user) - invites
    };
    let began = Instant::now();
    let before = written().await;
    let there = &world;
    join_all((0..200).map(|n| async move {
        let (name, email) = (format!("p{n}"), format!("p{n}@example.com"));
        let object = there.manifest(&name, &email, "ORGANIZATION_OWNER");
        there.create(&object).await;
        there.state(&name, "NotPermitted").await;
    }))
    .await;
    let counted = |object: Option<&Organization>| {
        let status = object.and_then(|object| object.status.as_ref());
        status.is_some_and(|status| status.invites.stalled == 200)
    };
    let counted = await_condition(api(&world), &world.organization, counted);
    world.in_time("they are counted", counted).await.unwrap();
    let writes = written().await - before;
    // The counts each ten seconds, and the time of the last reading each minute.
    let seconds = usize::try_from(began.elapsed().as_secs()).unwrap();
    let most = seconds / 10 + 1 + seconds / 60 + 1;
    assert!(writes <= most, "{writes} within {seconds} s");
}
