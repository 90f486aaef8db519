//! Several replicas: one leads, the others take over, and nobody gets a second e-mail from that.

use std::time::{Duration, Instant};

use futures::future::{join, join_all};
use http::Method;
use k8s_openapi::api::coordination::v1::Lease;
use kube::api::{DeleteParams, PostParams};
use kube::runtime::wait::await_condition;
use orginvite_operator::resources::OrgInvite;
use serde_json::{Value, json};
use support::fake_astro::{FakeAstro, Fault, HoldPoint, Operation, Times};

use crate::cable::Cable;
use crate::way::Way;
use crate::world::{DEADLINE, Replica, STEADY, World, condition, invite_id, uid};

const PEOPLE: usize = 200;

async fn apply_people(world: &World, count: usize) {
    let api = world.invites();
    join_all((0..count).map(|n| {
        let (name, email) = (format!("p{n}"), format!("p{n}@example.com"));
        let object = world.manifest(&name, &email, "ORGANIZATION_MEMBER");
        let api = api.clone();
        async move { api.create(&PostParams::default(), &object).await.unwrap() }
    }))
    .await;
}

/// Everybody got one e-mail, and each object owns the invitation in it.
async fn each_invited_once(world: &World, count: usize) {
    for n in 0..count {
        let object = world.state(&format!("p{n}"), "Invited").await;
        let live = world.astro.live_invites(&format!("p{n}@example.com"));
        assert_eq!(live.len(), 1, "p{n}");
        assert_eq!(live[0].id, invite_id(&object), "p{n}");
    }
    let emails = world.astro.emails();
    assert_eq!(emails.len(), count);
    assert!(emails.values().all(|count| *count == 1), "{emails:?}");
}

fn sent(world: &World) -> usize {
    world.astro.mails().len()
}

/// Waits until so many e-mails were sent.
async fn in_flight(world: &World, least: usize) {
    world
        .until(&format!("{least} e-mails"), || sent(world) >= least)
        .await;
}

/// Waits until a replica that was asked to stop has, in good order.
async fn ends(world: &World, replica: &mut Replica) {
    let end = async {
        loop {
            if let Some(status) = replica.operator.ended().unwrap() {
                return status;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    let status = world.in_time("a terminated operator ends", end).await;
    assert!(status.success(), "{status}");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_leader_of_two_killed_among_two_hundred_invitations() {
    let world = World::prepare(json!({})).await;
    // So that many are under way at once.
    world.astro.fault(
        Operation::CreateInvite,
        Fault::Delay(HoldPoint::AfterEffect, Duration::from_millis(300)),
        Times::UntilCleared,
    );
    let slowly = ["--posts-per-second", "60"];
    let mut first = world.start_replica("first", &slowly);
    world.leader(&[&first]).await;
    let second = world.start_replica("second", &slowly);
    world.logs(&second, "standing by").await;

    // It does not wait for the last of them to be applied.
    let killed = async {
        in_flight(&world, PEOPLE / 4).await;
        first.operator.kill();
        assert!(
            sent(&world) < PEOPLE,
            "it was killed too late to show anything"
        );
    };
    join(apply_people(&world, PEOPLE), killed).await;
    each_invited_once(&world, PEOPLE).await;
    world.leader(&[&second]).await;
    assert!(world.writes_by(&first.user, None) > 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn of_three_one_killed_and_one_terminated_among_two_hundred_invitations() {
    let world = World::prepare(json!({})).await;
    let slowly = ["--posts-per-second", "40"];
    let mut replicas: Vec<Replica> = ["first", "second", "third"]
        .iter()
        .map(|pod| world.start_replica(pod, &slowly))
        .collect();
    let lead = |replicas: &[Replica], leader: &Replica| {
        replicas
            .iter()
            .position(|replica| replica.pod == leader.pod)
            .unwrap()
    };
    let leader = world.leader(&replicas.iter().collect::<Vec<_>>()).await;
    let mut killed = replicas.remove(lead(&replicas, leader));
    for replica in &replicas {
        world.logs(replica, "standing by").await;
    }

    let ended = async {
        in_flight(&world, PEOPLE / 4).await;
        killed.operator.kill();
        let leader = world.leader(&replicas.iter().collect::<Vec<_>>()).await;
        let mut terminated = replicas.remove(lead(&replicas, leader));
        in_flight(&world, PEOPLE / 2).await;
        terminated.operator.terminate().unwrap();
        assert!(
            sent(&world) < PEOPLE,
            "both ended too late to show anything"
        );
        ends(&world, &mut terminated).await;
    };
    join(apply_people(&world, PEOPLE), ended).await;
    each_invited_once(&world, PEOPLE).await;
    world.leader(&replicas.iter().collect::<Vec<_>>()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_terminated_leader_finishes_and_hands_over_before_its_lease_expires() {
    let world = World::prepare(json!({})).await;
    // Whoever waited for the lease, or for an attempt to settle, would be far too late.
    let long = [
        ["--lease-duration", "120s"],
        ["--request-deadline", "30s"],
        ["--settle", "160s"],
    ]
    .concat();
    assert!(DEADLINE < Duration::from_mins(2));
    let cable = Cable::to(world.astro.address()).await;
    let url = world.astro_behind(&cable);
    let mut first = world.start_replica("first", &[&long[..], &["--astro-url", &url]].concat());
    world.leader(&[&first]).await;
    world.organization_is("Connected").await;
    let mut second = world.start_replica("second", &long);
    world.logs(&second, "standing by").await;
    let before = lease(&world).await;

    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    world.apply("jane", "jane@example.com").await;
    world
        .in_time("the POST took effect", gate.arrived())
        .await
        .unwrap();
    first.operator.terminate().unwrap();
    world.logs(&first, "asked to stop").await;
    world.apply("joe", "joe@example.com").await;
    // It goes on leading, and reads the organization each second.
    for pass in 0..3 {
        let bytes = cable.sent();
        world
            .until(&format!("pass {pass}"), || cable.sent() > bytes)
            .await;
    }
    assert!(first.operator.is_running());
    assert_eq!(
        holder(&lease(&world).await),
        holder(&before),
        "not given up while a call is under way"
    );
    gate.release();
    ends(&world, &mut first).await;
    let ended = Instant::now();
    world.leader(&[&second]).await;
    println!("taken over {:?} after the exit", ended.elapsed());
    let jane = world.state("jane", "Invited").await;
    world.state("joe", "Invited").await;
    println!("and the next one invited {:?} after it", ended.elapsed());
    assert_eq!(world.writes_by(&first.user, Some("jane")), 2);
    assert_eq!(world.writes_by(&second.user, Some("jane")), 0);
    assert_eq!(
        world.astro.live_invites("jane@example.com")[0].id,
        invite_id(&jane)
    );
    assert_eq!(sent(&world), 2);
    let (before, after) = (before.spec.unwrap(), lease(&world).await.spec.unwrap());
    assert_eq!(before.lease_transitions, Some(0));
    assert_eq!(after.lease_transitions, Some(1));
    assert_eq!(after.lease_duration_seconds, Some(120));
    assert!(after.acquire_time > before.acquire_time);
    assert!(after.renew_time >= after.acquire_time);

    second.operator.terminate().unwrap();
    ends(&world, &mut second).await;
    assert_eq!(holder(&lease(&world).await), "", "nobody has it");
}

#[tokio::test(flavor = "multi_thread")]
async fn standbys_write_nothing_and_never_call_astro() {
    let world = World::prepare(json!({})).await;
    let elsewhere = FakeAstro::start().await.unwrap();
    let mut leader = world.start_replica("leader", &STEADY);
    world.leader(&[&leader]).await;
    let url = elsewhere.url();
    let apart = [&STEADY[..], &["--astro-url", &url]].concat();
    let standby = world.start_replica("standby", &apart);
    let mut other = world.start_replica("other", &apart);
    world.logs(&standby, "standing by").await;
    world.logs(&other, "standing by").await;

    let mut uids = Vec::new();
    for n in 0..5 {
        let (name, email) = (format!("p{n}"), format!("p{n}@example.com"));
        uids.push(uid(&world.apply(&name, &email).await));
    }
    for n in 0..5 {
        world.state(&format!("p{n}"), "Invited").await;
    }
    world.edit_role("p1", "ORGANIZATION_BILLING_ADMIN").await;
    world.state("p1", "Invited").await;
    world.delete("p0").await;
    world.deleted("p0", &uids[0]).await;
    let expired = jiff::SignedDuration::from_hours(24 * 15);
    world.pass_time("p2", expired).await;
    world
        .until("the resend", || {
            world.astro.emails_to("p2@example.com") == 2
        })
        .await;
    world.put_token("wrong").await;
    world.organization_is("TokenRejected").await;
    for replica in [&standby, &other] {
        assert_eq!(world.attempted_writes_by(&replica.user), 0);
    }
    assert!(world.attempted_writes_by(&leader.user) > 0);
    assert_eq!(elsewhere.calls().len(), 0);

    // A standby that is asked to stop leaves the lease alone.
    let before = lease(&world).await;
    other.operator.terminate().unwrap();
    ends(&world, &mut other).await;
    assert_eq!(holder(&lease(&world).await), holder(&before));
    // The one that is left would have been seen: it calls as soon as it leads.
    leader.operator.kill();
    world.leader(&[&standby]).await;
    world
        .until("the new leader calls Astro", || {
            !elsewhere.calls().is_empty()
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_was_stopped_past_its_lease_sends_nothing_when_it_goes_on() {
    // No pass of the directory comes by itself: nothing is on its way while it is stopped.
    let world = World::prepare(json!({"syncInterval": "5m"})).await;
    let cable = Cable::to(world.astro.address()).await;
    let url = world.astro_behind(&cable);
    let slowly = ["--posts-per-second", "2"];
    let stopped = world.start_replica("stopped", &[&slowly[..], &["--astro-url", &url]].concat());
    world.leader(&[&stopped]).await;
    world.organization_is("Connected").await;
    let second = world.start_replica("second", &slowly);
    world.logs(&second, "standing by").await;

    // One POST is out; the others have their places in line, the next half a second later.
    let mut gate = world
        .astro
        .hold(Operation::CreateInvite, HoldPoint::AfterEffect);
    apply_people(&world, 12).await;
    world
        .in_time("the first POST took effect", gate.arrived())
        .await
        .unwrap();
    stopped.operator.pause().unwrap();
    world.leader(&[&second]).await;
    let (bytes, writes) = (cable.sent(), world.attempted_writes_by(&stopped.user));
    assert!(bytes > 0 && writes > 0);
    assert!(sent(&world) < 12, "it has some left to send");
    stopped.operator.resume().unwrap();
    let lost = world.logs(&stopped, "leadership lost").await;
    assert_eq!(lost["level"], "WARN");
    world.logs(&stopped, "standing by").await;
    each_invited_once(&world, 12).await;
    assert_eq!(cable.sent(), bytes, "no byte to Astro");
    assert_eq!(world.attempted_writes_by(&stopped.user), writes);
    gate.release();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_is_cut_off_from_the_cluster_stops_before_another_leads() {
    let world = World::prepare(json!({})).await;
    let to_cluster = Cable::to(world.api_server()).await;
    let to_astro = Cable::to(world.astro.address()).await;
    let url = world.astro_behind(&to_astro);
    let mut lonely = world.start_replica_behind(&to_cluster, "lonely", &["--astro-url", &url]);
    world.leader(&[&lonely]).await;
    world.organization_is("Connected").await;
    let second = world.start_replica("second", &[]);
    world.logs(&second, "standing by").await;
    let first = to_astro.sent();
    world
        .until("it reads the organization each second", || {
            to_astro.sent() > first
        })
        .await;

    to_cluster.cut();
    world.leader(&[&second]).await;
    let bytes = to_astro.sent();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("passes of the new leader", || {
            world.astro.count(Operation::ListUsers) >= lists + 6
        })
        .await;
    assert_eq!(to_astro.sent(), bytes, "no byte to Astro");
    to_cluster.mend();
    let standing_by = world.logs(&lonely, "standing by").await;
    assert!(
        standing_by["holder"]
            .as_str()
            .unwrap()
            .starts_with("second_")
    );
    assert!(lonely.operator.is_running());
    assert_eq!(to_astro.sent(), bytes);
    assert_eq!(world.writes_by(&lonely.user, Some("jane")), 0);
    assert_eq!(sent(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_lease_is_given_to_another_stops_at_once() {
    let world = World::prepare(json!({})).await;
    let long = ["--lease-duration", "60s", "--settle", "70s"];
    let cable = Cable::to(world.astro.address()).await;
    let url = world.astro_behind(&cable);
    let deposed = world.start_replica("deposed", &[&long[..], &["--astro-url", &url]].concat());
    world.leader(&[&deposed]).await;
    world.organization_is("Connected").await;
    let second = world.start_replica("second", &long);
    let identity = world.logs(&second, "standing by").await["identity"].clone();
    give_lease(&world, &identity).await;
    world.logs(&deposed, "leadership lost").await;
    let bytes = cable.sent_at_last().await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let lists = world.astro.count(Operation::ListUsers);
    world
        .until("passes of the new leader", || {
            world.astro.count(Operation::ListUsers) >= lists + 6
        })
        .await;
    assert_eq!(cable.sent(), bytes, "no byte to Astro");
    assert_eq!(world.writes_by(&deposed.user, None), 0);
    assert_eq!(world.writes_by(&second.user, Some("jane")), 2);

    // And what kubectl delete does: whoever comes first.
    world
        .leases()
        .delete("orginvite-operator", &DeleteParams::default())
        .await
        .unwrap();
    world.leader(&[&deposed, &second]).await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    assert_eq!(sent(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_term_does_not_begin_to_plan_while_its_cache_is_behind() {
    let world = World::prepare(json!({})).await;
    let mut first = world.start_replica("first", &[]);
    world.leader(&[&first]).await;
    world.organization_is("Connected").await;
    let to_cluster = Cable::to(world.api_server()).await;
    let elsewhere = Cable::to(world.astro.address()).await;
    let url = world.astro_behind(&elsewhere);
    let behind = world.start_replica_behind(&to_cluster, "behind", &["--astro-url", &url]);
    world.logs(&behind, "standing by").await;
    world.watches(&behind).await;

    // Its watches hear nothing from here on, and it cannot know.
    to_cluster.stall();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world
        .edit_organization(json!({"spec": {"suspend": true}}))
        .await;
    world
        .create_namespace(&format!("{}-new", world.namespace), json!({}))
        .await;
    // To it, the lease has expired; but it was renewed.
    world
        .logs(&behind, "somebody else wrote the Lease meanwhile")
        .await;
    let spec = lease(&world).await.spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(0));
    first.operator.kill();
    world.leader(&[&behind]).await;
    // Twice: two seconds later it has still not begun.
    for what in ["orginvites", "organizations", "namespaces"] {
        let line = format!(
            r#"a cache is behind the cluster: nothing is planned meanwhile","what":"{what}"#
        );
        world.logs_times(&behind, &line, 2).await;
    }
    assert_eq!(world.attempted_writes_by(&behind.user), 0);
    assert_eq!(elsewhere.sent(), 0);
    to_cluster.mend();
    world.logs(&behind, "the caches are new enough").await;
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Suspended").await;
    assert_eq!(sent(&world), 1);
    world
        .edit_organization(json!({"spec": {"suspend": false}}))
        .await;
    world.state("joe", "Invited").await;
    assert_eq!(world.writes_by(&behind.user, Some("jane")), 0);
    assert_eq!(sent(&world), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_leads_again_forgets_what_it_knew() {
    // Its directory is never read again by itself.
    let world = World::prepare(json!({"syncInterval": "5m"})).await;
    let first = world.start_replica("first", &[]);
    world.leader(&[&first]).await;
    world.organization_is("Connected").await;
    let mut second = world.start_replica("second", &[]);
    let identity = world.logs(&second, "standing by").await["identity"].clone();
    give_lease(&world, &identity).await;
    world.logs(&first, "leadership lost").await;
    world
        .astro
        .add_member("jane@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    second.operator.kill();
    world.logs_times(&first, "leading", 2).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "AlreadyMember").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    assert_eq!(sent(&world), 0);
}

/// As after a load balancer forgot them: nobody closes them, and new ones work.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_whose_connections_are_dead_goes_on_with_others() {
    let world = World::prepare(json!({})).await;
    let to_cluster = Cable::to(world.api_server()).await;
    let leader = world.start_replica_behind(&to_cluster, "leader", &STEADY);
    world.leader(&[&leader]).await;
    world.organization_is("Connected").await;
    world.watches(&leader).await;
    to_cluster.stall();
    world.apply("jane", "jane@example.com").await;
    let invited = |object: Option<&OrgInvite>| {
        object
            .and_then(|object| condition(object, "Ready"))
            .is_some_and(|ready| ready.reason == "Invited")
    };
    let invited = await_condition(world.invites(), "jane", invited);
    // A watch counts as dead after 65 s; without that, after five minutes.
    let invited = tokio::time::timeout(Duration::from_mins(2), invited).await;
    assert!(invited.is_ok(), "{}", world.log());
    assert_eq!(sent(&world), 1);
    let spec = lease(&world).await.spec.unwrap();
    assert_eq!(spec.lease_transitions, Some(0), "it led all the time");
}

/// Whoever cannot plan would hold up the others, and end late.
#[tokio::test(flavor = "multi_thread")]
async fn who_may_not_see_namespaces_does_not_lead_and_ends_at_once() {
    let mut world = World::without_namespaces().await;
    // With these it would end 40 s after it was asked to.
    world.start_operator_in_group(None, &STEADY);
    let mut blind = Replica {
        pod: "operator".to_owned(),
        user: world.user.clone(),
        operator: world.operator.take().unwrap(),
    };
    let refused = "watching namespaces failed";
    world.logs_times(&blind, refused, 3).await;
    let (_, caches) = world.admin_of(&blind.operator, "/readyz").await;
    assert!(caches.contains("[-]namespaces not synced"), "{caches}");
    let lease = world.leases().get_opt("orginvite-operator").await.unwrap();
    assert_eq!(lease, None);
    blind.operator.terminate().unwrap();
    let asked = Instant::now();
    ends(&world, &mut blind).await;
    let took = asked.elapsed();
    assert!(took < Duration::from_secs(10), "{took:?}");
}

/// The next term may have closed the attempt: only what was sent is told, whoever leads.
#[tokio::test(flavor = "multi_thread")]
async fn a_leader_that_lost_its_lease_does_not_open_an_attempt_again() {
    let (world, way) = Way::start_with(&STEADY).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    way.hold(|request| {
        request.method == Method::PUT && request.uri.path().ends_with("/jane/status")
    });
    world.edit_role("jane", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .until("that it was taken back is on its way", || way.held() == 1)
        .await;
    depose(&world).await;
    // What is on its way meets a conflict.
    world.annotate("jane", "test/touched", "yes").await;
    let writes = world.writes_so_far(Some("jane")).await;
    let reads = world.answered("get", "orginvites");
    way.release();
    world
        .until("it looks what came in between", || {
            world.answered("get", "orginvites") > reads
        })
        .await;
    assert_eq!(world.writes_so_far(Some("jane")).await, writes);
}

/// Gives the lease to somebody else, until the operator has heard of it.
pub async fn depose(world: &World) {
    give_lease(world, &json!("another")).await;
    world
        .until("the leader knows", || {
            world.log().contains("leadership lost")
        })
        .await;
}

/// Writes another holder into the lease, as a person does with kubectl edit.
async fn give_lease(world: &World, identity: &Value) {
    let give = async {
        loop {
            let mut lease = lease(world).await;
            lease.spec.as_mut().unwrap().holder_identity = identity.as_str().map(str::to_owned);
            let given = world
                .leases()
                .replace("orginvite-operator", &PostParams::default(), &lease)
                .await;
            match given {
                Ok(_) => break,
                // A renewal came in between.
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{error}"),
            }
        }
    };
    world.in_time("the lease is given away", give).await;
}

async fn lease(world: &World) -> Lease {
    world.leases().get("orginvite-operator").await.unwrap()
}

fn holder(lease: &Lease) -> String {
    let spec = lease.spec.as_ref().unwrap();
    spec.holder_identity.clone().unwrap_or_default()
}
