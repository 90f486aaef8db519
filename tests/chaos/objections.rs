//! That the judge can say no: what must not be is done by hand, without any operator.

use std::time::{Duration, Instant};

use kube::Api;
use kube::api::{Patch, PatchParams};
use orginvite_operator::resources::OrgInvite;
use serde_json::json;

use crate::judge::{Judge, tells};
use crate::people::Person;
use crate::schedule::Act;
use crate::stage::{Forbidden, SETTLE, Stage};

fn objects(problems: &[String], to: &str) {
    assert!(
        problems.iter().any(|problem| problem.contains(to)),
        "{to}: {problems:#?}"
    );
}

async fn post(stage: &Stage, email: &str) {
    let (url, id) = (stage.astro.url(), stage.astro.organization_id());
    let answer = reqwest::Client::new()
        .post(format!("{url}/organizations/{id}/invites"))
        .bearer_auth(stage.astro.token())
        .header("Accept", "application/json")
        .json(&json!({"inviteeEmail": email, "role": "ORGANIZATION_MEMBER"}))
        .send()
        .await
        .unwrap();
    assert!(answer.status().is_success(), "{answer:?}");
}

/// A time in which nobody can look excuses what goes out then, and nothing before or afterwards; and a deleted object is
/// owed nothing more.
async fn objects_outside_of_windows(
    stage: &Stage,
    judge: &Judge<'_>,
    member: &Person,
    again: &Person,
) {
    let begun = Instant::now();
    for _ in 0..3 {
        member.act(&Act::EditRole).await;
        again.act(&Act::EditRole).await;
    }
    post(stage, &member.email).await;
    again.act(&Act::Delete).await;
    stage.blindness.lock().push((begun, Instant::now()));
    tokio::time::sleep(SETTLE).await;
    post(stage, &member.email).await;
    again.act(&Act::Create).await;
    post(stage, &again.email).await;
    post(stage, &again.email).await;
    let emails = judge.emails();
    let about = |person: &Person| {
        let theirs = emails.iter().filter(|one| one.starts_with(&person.email));
        theirs.cloned().collect::<Vec<_>>()
    };
    let members = about(member);
    objects(&members, "e-mail 2 to a member");
    objects(&members, "e-mail 4 to a member");
    objects(&members, "e-mail 4 while there was another invitation");
    let excused = members.iter().all(|one| !one.contains("e-mail 3 "));
    assert!(excused, "{members:#?}");
    objects(
        &about(again),
        "e-mail 3 where there were 1 causes since an object was deleted",
    );
    let present = judge.present().await.unwrap();
    let left = present
        .iter()
        .filter(|one| one.contains("p1@people.example has "));
    assert_eq!(left.count(), 1, "the last one: {present:#?}");
    assert_eq!(judge.excused(), "1 from an owner, unlooked");
}

#[tokio::test(flavor = "multi_thread")]
async fn the_judge_objects_to_what_must_not_be() {
    let stage = Stage::set(0).await;
    let people: Vec<_> = (0..4).map(|n| Person::new(&stage, n, "p")).collect();
    let [twice, member, liar, again] = people.as_slice() else {
        unreachable!()
    };
    for person in &people {
        person.act(&Act::Create).await;
        post(&stage, &person.email).await;
    }
    let judge = Judge::new(&stage, &people);
    assert_eq!(judge.emails(), Vec::<String>::new());
    let present = judge.present().await.unwrap();
    objects(&present, &format!("{} has ", twice.email));
    objects(&present, "says nothing");
    objects(&present, "the Organization is not ready");

    post(&stage, &twice.email).await;
    member.act(&Act::Accept).await;
    post(&stage, &member.email).await;
    post(&stage, "stranger@people.example").await;
    let emails = judge.emails();
    objects(
        &emails,
        "p0@people.example: e-mail 2 where there were 1 causes",
    );
    objects(
        &emails,
        "p0@people.example: e-mail 2 while there was another invitation",
    );
    objects(&emails, "p1@people.example: e-mail 2 to a member");
    objects(&emails, "stranger@people.example: nobody wanted that");
    assert_eq!(emails.len(), 5, "{emails:#?}");

    objects_outside_of_windows(&stage, &judge, member, again).await;

    let now = Instant::now();
    let (from, to) = (now, now + Duration::from_hours(1));
    stage.suspensions.lock().push((from, to));
    stage.forbidden.lock().push(Forbidden {
        team: 2,
        role: 0,
        known: Some((from, to)),
        at_all: (from, to),
    });
    post(&stage, &liar.email).await;
    let emails = judge.emails();
    objects(
        &emails,
        "CreateInvite of Some(\"p2@people.example\") while suspended",
    );
    objects(
        &emails,
        "p2@people.example: e-mail 2 which the policy forbids",
    );

    let (team, name) = liar.object().await.unwrap();
    let api: Api<OrgInvite> = Api::namespaced(stage.client.clone(), team);
    let transition = "2026-01-01T00:00:00Z";
    let lie = json!({
        "metadata": {"annotations": {"note": stage.astro.token()}},
        "status": {
            "observedGeneration": 1,
            "inviteId": stage.astro.live_invites(&twice.email)[0].id,
            "conditions": [
                {"type": "Ready", "status": "True", "reason": "Invited", "message": "It is out and pending", "lastTransitionTime": transition},
                {"type": "Stalled", "status": "True", "reason": "Invited", "message": "It waits for somebody", "lastTransitionTime": transition},
            ],
        },
    });
    let (params, patch) = (PatchParams::default(), Patch::Merge(&lie));
    api.patch(&name, &params, &patch).await.unwrap();
    api.patch_status(&name, &params, &patch).await.unwrap();
    objects(
        &judge.present().await.unwrap(),
        "the person has another invitation",
    );
    objects(&judge.told().await.unwrap(), "a secret in an object: ");
    let told = async {
        while stage.kstatus().is_empty() || stage.witness.told().is_empty() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let told = tokio::time::timeout(Duration::from_secs(30), told).await;
    told.expect("kstatus and the witness object");
    objects(&stage.kstatus(), "what waits for a person is not ready");

    // Also when it is there no longer.
    let removed = Patch::Merge(json!({"metadata": {"annotations": null}}));
    api.patch(&name, &params, &removed).await.unwrap();
    stage
        .metrics
        .lock()
        .push(format!("a{{b=\"{}\"}} 1", liar.email));
    let told = judge.told().await.unwrap();
    objects(&told, "a secret in an object as it was");
    objects(&told, "an address in the metrics");
    assert!(
        !told
            .iter()
            .any(|one| one.starts_with("a secret in an object: "))
    );
}

#[test]
fn the_judge_objects_to_what_a_log_must_not_tell() {
    let log = format!(
        "to P1@People.Example\nfine\nthread 'main' panicked at src\n{}",
        support::fake_astro::SECRET_PREFIX
    );
    let told = tells("a log", &log, true);
    objects(&told, "an address in a log: to P1");
    objects(&told, "a panic in a log: thread");
    objects(&told, "a secret in a log");
    assert_eq!(told.len(), 3);
    assert_eq!(
        tells("an object", "to p1@people.example", false),
        Vec::<String>::new()
    );
}
