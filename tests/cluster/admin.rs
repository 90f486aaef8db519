//! What the process tells over HTTP is true, bounded and documented.

use std::collections::BTreeSet;

use kube::Api;
use kube::api::DeleteParams;
use openmetrics_parser::openmetrics::parse_openmetrics;
use openmetrics_parser::{MetricsExposition, OpenMetricsType, OpenMetricsValue};
use orginvite_operator::metrics::families;
use orginvite_operator::resources::Organization;
use serde_json::json;
use support::fake_astro::{Answer, Fault, Operation, SECRET_PREFIX, Times};
use support::operator::Operator;

use crate::world::{STEADY, World, uid};

/// One scrape, as a parser of OpenMetrics reads it.
pub struct Scrape {
    text: String,
    families: MetricsExposition<OpenMetricsType, OpenMetricsValue>,
}

impl Scrape {
    pub async fn of(world: &World) -> Self {
        Self::of_operator(world, world.operator.as_ref().unwrap()).await
    }

    async fn of_operator(world: &World, operator: &Operator) -> Self {
        let (status, text) = world.admin_of(operator, "/metrics").await;
        assert_eq!(status, 200);
        let families = parse_openmetrics(&text).unwrap_or_else(|error| panic!("{error}\n{text}"));
        Self { text, families }
    }

    /// The value of one series, of a histogram its count; `None` when there is no such series.
    pub fn value(&self, family: &str, labels: &[&str]) -> Option<f64> {
        let family = self.families.families.get(&format!("orginvite_{family}"))?;
        let mut samples = family.iter_samples().filter(|sample| {
            let set = sample.get_labelset().unwrap();
            let values: Vec<&String> = set.iter_values().collect();
            values.len() == labels.len()
                && labels
                    .iter()
                    .all(|label| values.iter().any(|value| value == label))
        });
        let sample = samples.next()?;
        assert!(
            samples.next().is_none(),
            "{labels:?} is more than one series"
        );
        Some(match &sample.value {
            OpenMetricsValue::Counter(counter) => counter.value.as_f64(),
            OpenMetricsValue::Gauge(gauge) => gauge.as_f64(),
            OpenMetricsValue::Histogram(histogram) => {
                return number(histogram.count.unwrap().try_into().unwrap());
            }
            OpenMetricsValue::Info => 1.0,
            other => panic!("{other:?}"),
        })
    }

    pub async fn until(world: &World, what: &str, reached: impl Fn(&Self) -> bool) -> Self {
        world
            .in_time(what, async {
                loop {
                    let scrape = Self::of(world).await;
                    if reached(&scrape) {
                        return scrape;
                    }
                    tokio::time::sleep(std::time::Duration::from_millis(20)).await;
                }
            })
            .await
    }
}

#[allow(
    clippy::cast_precision_loss,
    clippy::unnecessary_wraps,
    reason = "small, and compared with what a scrape shows"
)]
fn number(number: usize) -> Option<f64> {
    Some(number as f64)
}

#[tokio::test(flavor = "multi_thread")]
async fn emails_and_calls_are_counted_exactly() {
    let world = World::start().await;
    let of = world.organization.as_str();
    let before = Scrape::of(&world).await;
    assert_eq!(
        before.value("emails_sent", &[of, "first"]),
        Some(0.0),
        "from zero on"
    );
    assert_eq!(before.value("astro_calls", &["create invite", "200"]), None);

    for name in ["ann", "bob", "cid"] {
        world.apply(name, &format!("{name}@example.com")).await;
        world.state(name, "Invited").await;
    }
    // The answer is lost, and the e-mail is found.
    let lost = Fault::after(Answer::Status(500));
    world
        .astro
        .fault(Operation::CreateInvite, lost, Times::Next(1));
    world.apply("dan", "dan@example.com").await;
    world.state("dan", "Invited").await;
    // Nothing went out, and the next one counts.
    let refused = Fault::before(Answer::Status(500));
    world
        .astro
        .fault(Operation::CreateInvite, refused, Times::Next(1));
    world.apply("eve", "eve@example.com").await;
    world.state("eve", "Invited").await;
    world.edit_role("ann", "ORGANIZATION_BILLING_ADMIN").await;
    world
        .until("ann's is replaced", || {
            world.astro.emails_to("ann@example.com") == 2
        })
        .await;
    world.state("ann", "Invited").await;
    world
        .annotate("bob", "iam.astronomer.io/resend-requested-at", "now")
        .await;
    world
        .until("bob's is sent again", || {
            world.astro.emails_to("bob@example.com") == 2
        })
        .await;
    world.state("bob", "Invited").await;
    let cid = uid(&world.invites().get("cid").await.unwrap());
    world.delete("cid").await;
    world.deleted("cid", &cid).await;

    let scrape = Scrape::until(&world, "the deleted one is not shown", |scrape| {
        let invited = |state| scrape.value("invites", &[of, "Invited", state]);
        invited("Current") == Some(4.0) && invited("Terminating").is_none()
    })
    .await;
    let emails = |cause| scrape.value("emails_sent", &[of, cause]);
    assert_eq!(
        ["first", "replacement", "resend"].map(emails),
        [Some(5.0), Some(1.0), Some(1.0)]
    );
    assert_eq!(
        world.astro.emails().values().sum::<u32>(),
        7,
        "as Astro counts them"
    );
    assert_eq!(
        scrape.value("astro_calls", &["create invite", "200"]),
        Some(6.0)
    );
    assert_eq!(
        scrape.value("astro_calls", &["create invite", "500"]),
        Some(2.0)
    );
    assert_eq!(
        scrape.value("astro_calls", &["delete invite", "204"]),
        Some(3.0)
    );
    for (name, operation) in [
        ("create invite", Operation::CreateInvite),
        ("delete invite", Operation::DeleteInvite),
    ] {
        let counted = scrape.value("astro_call_duration_seconds", &[name]);
        assert_eq!(counted, number(world.astro.count(operation)), "{name}");
    }
    // Each of these calls had a permit.
    let permits = |verb| scrape.value("budget_wait_seconds", &[of, verb]);
    assert_eq!(
        permits("POST"),
        number(world.astro.count(Operation::CreateInvite))
    );
    assert_eq!(
        permits("DELETE"),
        number(world.astro.count(Operation::DeleteInvite))
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn reconciles_are_counted_exactly_and_the_queue_empties() {
    // Nothing but its own events triggers an object without an Organization.
    let mut world = World::prepare(json!({})).await;
    world.organization += "-missing";
    world.start_operator_with(&STEADY);
    world
        .until("a term plans", || world.log().contains("planning begins"))
        .await;
    let mut expected = 0;
    for (name, touches) in [("ann", 3), ("bob", 0)] {
        world.apply(name, &format!("{name}@example.com")).await;
        world.state(name, "OrganizationNotFound").await;
        // Its creation, and the status that was written.
        expected += 2;
        for touch in 0..=touches {
            let counted = Scrape::until(&world, "reconciled", |scrape| {
                scrape.value("reconciles", &["OrgInvite", "success"]) == number(expected)
                    && scrape.value("queue_depth", &["OrgInvite"]) == Some(0.0)
            })
            .await;
            let took = counted.value("reconcile_duration_seconds", &["OrgInvite"]);
            assert_eq!(took, number(expected));
            if touch < touches {
                world
                    .annotate(name, "test/touched", &touch.to_string())
                    .await;
                expected += 1;
            }
        }
    }
    let scrape = Scrape::of(&world).await;
    assert_eq!(expected, 7);
    assert_eq!(
        scrape.value("reconciles", &["OrgInvite", "success"]),
        Some(7.0)
    );
    assert_eq!(scrape.value("reconciles", &["OrgInvite", "error"]), None);
    assert_eq!(
        scrape.value("queue_oldest_age_seconds", &["OrgInvite"]),
        Some(0.0)
    );
    assert_eq!(
        scrape.value("reconciles_running", &["OrgInvite"]),
        Some(0.0)
    );
    // A name that anybody may write into a spec is no label.
    let missing = ["(missing)", "OrganizationNotFound", "InProgress"];
    assert_eq!(scrape.value("invites", &missing), Some(2.0));
    assert!(!scrape.text.contains("-missing"));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_for_astro_shows_in_queue_and_budget() {
    let world = World::start_with(&[&STEADY[..], &["--posts-per-second", "1"]].concat()).await;
    let of = world.organization.clone();
    let mut gate = world.astro.hold(
        Operation::CreateInvite,
        support::fake_astro::HoldPoint::BeforeEffect,
    );
    world.apply("ann", "ann@example.com").await;
    world
        .in_time("the POST is under way", gate.arrived())
        .await
        .unwrap();
    let held = Scrape::until(&world, "its reconcile shows", |scrape| {
        scrape.value("queue_oldest_age_seconds", &["OrgInvite"]) > Some(0.1)
    })
    .await;
    assert_eq!(held.value("reconciles_running", &["OrgInvite"]), Some(1.0));
    assert_eq!(held.value("queue_depth", &["OrgInvite"]), Some(1.0));
    for n in 0..3 {
        world
            .apply(&format!("p{n}"), &format!("p{n}@example.com"))
            .await;
    }
    Scrape::until(&world, "somebody waits for a permit", |scrape| {
        scrape.value("budget_waiting", &[&of, "POST"]) >= Some(1.0)
    })
    .await;
    gate.release();
    for name in ["ann", "p0", "p1", "p2"] {
        world.state(name, "Invited").await;
    }
    let after = Scrape::until(&world, "nobody waits", |scrape| {
        scrape.value("budget_waiting", &[&of, "POST"]) == Some(0.0)
            && scrape.value("queue_depth", &["OrgInvite"]) == Some(0.0)
    })
    .await;
    assert!(after.value("reconciles", &["OrgInvite", "requeue"]) >= Some(1.0));
    assert_eq!(
        after.value("budget_wait_seconds", &[&of, "POST"]),
        Some(4.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_shows_as_long_as_it_is_there() {
    let world = World::start().await;
    let of = world.organization.clone();
    world
        .astro
        .add_member("max@example.com", "ORGANIZATION_MEMBER")
        .unwrap();
    world.apply("ann", "ann@example.com").await;
    let object = world.state("ann", "Invited").await;
    world.seen("ann@example.com").await;
    let scrape = Scrape::of(&world).await;
    let known = number(world.astro.users().len());
    assert_eq!(scrape.value("directory_people", &[&of]), known);
    assert_eq!(scrape.value("token_accepted", &[&of]), Some(1.0));
    assert!(scrape.value("directory_age_seconds", &[&of]) < Some(60.0));
    assert!(scrape.value("directory_passes", &[&of, "complete"]) >= Some(1.0));
    assert_eq!(
        scrape.value("directory_passes", &[&of, "failed"]),
        Some(0.0)
    );

    let many: Vec<String> = (0..20).map(|n| format!("m{n}@example.com")).collect();
    let come = || {
        for email in &many {
            world
                .astro
                .add_member(email, "ORGANIZATION_MEMBER")
                .unwrap();
        }
    };
    come();
    world.seen("everybody").await;
    let mass_loss = |scrape: &Scrape| scrape.value("mass_loss", &[&of]);
    assert_eq!(mass_loss(&Scrape::of(&world).await), Some(0.0));
    world.astro.at_once(|astro| {
        for email in &many {
            astro.remove_member(email).unwrap();
        }
    });
    let what = "so many are not believed to be gone";
    Scrape::until(&world, what, |scrape| mass_loss(scrape) == Some(1.0)).await;
    come();
    let what = "they are there again";
    Scrape::until(&world, what, |scrape| mass_loss(scrape) == Some(0.0)).await;

    world.astro.replace_token("another-token");
    world.organization_is("TokenRejected").await;
    let scrape = Scrape::of(&world).await;
    assert_eq!(scrape.value("token_accepted", &[&of]), Some(0.0));
    Scrape::until(&world, "the last reading grows old", |scrape| {
        scrape.value("directory_age_seconds", &[&of]) > Some(2.0)
    })
    .await;
    assert!(scrape.value("directory_passes", &[&of, "failed"]) >= Some(1.0));
    assert!(scrape.value("astro_calls", &["list users", "401"]) >= Some(1.0));
    world.put_token("another-token").await;
    world.organization_is("Connected").await;
    let shown = |state: &str, scrape: &Scrape| scrape.value("organization_ready", &[&of, state]);
    let scrape = Scrape::until(&world, "the other token is taken", |scrape| {
        scrape.value("token_accepted", &[&of]) == Some(1.0)
            && shown("Connected", scrape) == Some(1.0)
    })
    .await;
    let emails = scrape.value("emails_sent", &[&of, "first"]);
    assert_eq!(emails, Some(1.0), "another token is no other organization");
    world.remove_token().await;
    Scrape::until(&world, "there is no token", |scrape| {
        scrape.value("token_accepted", &[&of]) == Some(0.0)
            && shown("TokenMissing", scrape) == Some(0.0)
    })
    .await;
    world.put_token("another-token").await;
    Scrape::until(&world, "there is one again", |scrape| {
        scrape.value("token_accepted", &[&of]) == Some(1.0)
            && shown("Connected", scrape) == Some(1.0)
    })
    .await;

    world.delete("ann").await;
    world.deleted("ann", &uid(&object)).await;
    let organizations: Api<Organization> = Api::all(world.client.clone());
    organizations
        .delete(&of, &DeleteParams::default())
        .await
        .unwrap();
    let scrape = Scrape::until(&world, "nothing of it is shown", |scrape| {
        !scrape.text.contains(&of)
    })
    .await;
    assert_eq!(scrape.value("leader", &[]), Some(1.0), "the rest is");
}

#[tokio::test(flavor = "multi_thread")]
async fn every_metric_is_documented_and_every_documented_one_exposed() {
    let world = World::start().await;
    world.apply("ann", "ann@example.com").await;
    world.state("ann", "Invited").await;
    let scrape = Scrape::of(&world).await;
    let exposed: BTreeSet<&str> = scrape
        .families
        .families
        .keys()
        .map(String::as_str)
        .collect();
    let documented: BTreeSet<String> = families::ALL
        .iter()
        .map(families::Description::full_name)
        .collect();
    let documented: BTreeSet<&str> = documented.iter().map(String::as_str).collect();
    assert_eq!(exposed, documented);
    for family in families::ALL {
        let shown = &scrape.families.families[&family.full_name()];
        assert_eq!(
            shown.family_type.to_string(),
            family.kind,
            "{}",
            family.name
        );
        assert_eq!(shown.help, format!("{}.", family.help), "{}", family.name);
        let labels: BTreeSet<&str> = family.labels.iter().copied().collect();
        let mut samples = 0;
        for sample in shown.iter_samples() {
            samples += 1;
            let set = sample.get_labelset().unwrap();
            let names: BTreeSet<&str> = set.iter_names().map(String::as_str).collect();
            assert_eq!(names, labels, "{}", family.name);
        }
        assert!(samples > 0, "{} has no sample", family.name);
    }
    assert!(!scrape.text.contains('@'), "an address");
    assert!(
        !scrape.text.contains("ann"),
        "an object's name: {}",
        scrape.text
    );
    assert!(!scrape.text.contains(SECRET_PREFIX), "a secret");

    // Who does not know OpenMetrics asks for the older text.
    let address = world.operator.as_ref().unwrap().admin_address().unwrap();
    let request = reqwest::Client::new()
        .get(format!("http://{address}/metrics"))
        .header("Accept", "text/plain; version=0.0.4");
    let answer = request.send().await.unwrap();
    assert!(
        answer.headers()["content-type"]
            .to_str()
            .unwrap()
            .starts_with("text/plain; version=0.0.4")
    );
    openmetrics_parser::prometheus::parse_prometheus(&answer.text().await.unwrap()).unwrap();
}

async fn ready(world: &World) {
    world
        .in_time("it is ready", async {
            while world.admin("/readyz").await.0 != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn ready_is_who_has_its_caches_and_alive_who_answers() {
    let mut world = World::without_namespaces().await;
    world.start_operator_in_group(None, &[]);
    world
        .until("namespaces are refused", || {
            world.log().contains("watching namespaces failed")
        })
        .await;
    let (status, text) = world.admin("/readyz").await;
    assert_eq!(status, 503);
    assert!(text.contains("[-]namespaces not synced"), "{text}");
    assert_eq!(world.admin("/livez").await.0, 200);
    Scrape::of(&world).await;

    let namespaces =
        json!([{"apiGroups": [""], "resources": ["namespaces"], "verbs": ["list", "watch"]}]);
    world.grant("namespaces", namespaces).await;
    ready(&world).await;
    // Neither a missing Astro nor a rejected token makes it less so.
    world.astro.revoke_token();
    world.organization_is("TokenRejected").await;
    assert_eq!(
        world.admin("/readyz").await,
        (
            200,
            "[+]orginvites synced\n[+]organizations synced\n[+]namespaces synced\n".to_owned()
        )
    );
    assert_eq!(world.admin("/livez").await.0, 200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_standby_is_ready_and_tells_of_no_object() {
    let world = World::prepare(json!({})).await;
    let of = world.organization.as_str();
    let mut first = world.start_replica("first", &STEADY);
    world.organization_is("Connected").await;
    let second = world.start_replica("second", &STEADY);
    world
        .in_time("the standby is ready", async {
            while world.admin_of(&second.operator, "/readyz").await.0 != 200 {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        })
        .await;
    world.apply("ann", "ann@example.com").await;
    world.state("ann", "Invited").await;
    let leader = Scrape::of_operator(&world, &first.operator).await;
    let standby = Scrape::of_operator(&world, &second.operator).await;
    assert_eq!(leader.value("leader", &[]), Some(1.0));
    assert_eq!(standby.value("leader", &[]), Some(0.0));
    assert_eq!(leader.value("emails_sent", &[of, "first"]), Some(1.0));
    assert!(leader.value("directory_people", &[of]).is_some());
    assert_eq!(world.admin_of(&second.operator, "/livez").await.0, 200);
    // It sees every object and does nothing.
    assert_eq!(standby.value("reconciles", &["OrgInvite", "success"]), None);
    for family in [
        "invites",
        "emails_sent",
        "directory_people",
        "token_accepted",
    ] {
        let told = standby
            .families
            .families
            .get(&format!("orginvite_{family}"));
        assert!(told.is_none(), "{family}");
    }

    // It takes over, and what its predecessor counted went with that one's process.
    first.operator.kill();
    let what = "the standby leads";
    world
        .in_time(what, async {
            while Scrape::of_operator(&world, &second.operator)
                .await
                .value("directory_people", &[of])
                .is_none()
            {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        })
        .await;
    let leader = Scrape::of_operator(&world, &second.operator).await;
    assert_eq!(leader.value("leader", &[]), Some(1.0));
    assert_eq!(leader.value("emails_sent", &[of, "first"]), Some(0.0));
    assert_eq!(
        leader.value("invites", &[of, "Invited", "Current"]),
        Some(1.0)
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn an_organization_that_is_suspended_shows_as_such() {
    let world = World::start().await;
    let of = world.organization.as_str();
    let shown = |scrape: &Scrape| scrape.value("organization_suspended", &[of]);
    assert_eq!(shown(&Scrape::of(&world).await), Some(0.0));
    for (suspend, value) in [(true, 1.0), (false, 0.0)] {
        let spec = json!({"spec": {"suspend": suspend}});
        world.edit_organization(spec).await;
        let what = format!("suspended: {suspend}");
        Scrape::until(&world, &what, |scrape| shown(scrape) == Some(value)).await;
    }
}
