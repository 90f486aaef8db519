//! What a hostile user tries, and what happens: `docs/hostile-users.md` lists these tests.

use std::time::Duration;

use futures::future::join_all;
use jiff::SignedDuration;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::events::v1::Event;
use k8s_openapi::api::rbac::v1::{ClusterRole, RoleBinding};
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client};
use orginvite_operator::resources::{OrgInvite, Organization};
use serde::Deserialize;
use serde_json::{Value, json};
use support::fake_astro::{ListUsers, Operation};

use crate::admin::Scrape;
use crate::world::{PATIENT, STEADY, World, condition, finalizers, invite_id, uid};

const MEMBER: &str = "ORGANIZATION_MEMBER";
const OWNER: &str = "ORGANIZATION_OWNER";
const OBSERVER: &str = "ORGANIZATION_OBSERVE_MEMBER";
const ATTEMPT: &str = "iam.astronomer.io/attempt";
const RESEND: &str = "iam.astronomer.io/resend-requested-at";

/// A namespace of its own with a user who may do there what the chart lets developers do.
struct Intruder {
    namespace: String,
    client: Client,
}

impl Intruder {
    /// In the namespace whose name ends with that.
    async fn enter(world: &World, suffix: &str) -> Self {
        let namespace = format!("{}-{suffix}", world.namespace);
        world.create_namespace(&namespace, json!({})).await;
        let text = include_str!("../../deploy/install.yaml");
        let role = serde_yaml_ng::Deserializer::from_str(text)
            .map(|document| Value::deserialize(document).unwrap())
            .find(|object| object["metadata"]["name"] == "orginvite-operator-edit")
            .unwrap();
        let params = PatchParams::apply("test").force();
        Api::<ClusterRole>::all(world.client.clone())
            .patch("orginvite-operator-edit", &params, &Patch::Apply(role))
            .await
            .unwrap();
        let user = format!("intruder-{namespace}");
        let binding: RoleBinding = serde_json::from_value(json!({
            "metadata": {"name": "developers"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "orginvite-operator-edit"},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": user}],
        }))
        .unwrap();
        Api::namespaced(world.client.clone(), &namespace)
            .create(&PostParams::default(), &binding)
            .await
            .unwrap();
        world
            .until_permitted(&user, "create", Some(&namespace))
            .await;
        let client = world.client_of(&user).await;
        Self { namespace, client }
    }

    /// OrgInvites as they are on the wire, whether or not our types can hold them.
    fn invites(&self) -> Api<DynamicObject> {
        let kind = GroupVersionKind::gvk("iam.astronomer.io", "v1alpha1", "OrgInvite");
        let resource = ApiResource::from_gvk(&kind);
        Api::namespaced_with(self.client.clone(), &self.namespace, &resource)
    }

    /// Creates an OrgInvite for a member, with more in its metadata.
    async fn create(&self, world: &World, name: &str, email: &str, metadata: Value) {
        self.try_create(world, name, email, metadata).await.unwrap();
    }

    async fn try_create(
        &self,
        world: &World,
        name: &str,
        email: &str,
        metadata: Value,
    ) -> Result<DynamicObject, String> {
        let object = world.manifest_in(&self.namespace, name, email, MEMBER);
        let mut object = serde_json::to_value(object).unwrap();
        for (field, value) in metadata.as_object().unwrap() {
            object["metadata"][field] = value.clone();
        }
        let object = serde_json::from_value(object).unwrap();
        let created = self.invites().create(&PostParams::default(), &object).await;
        created.map_err(|error| error.to_string())
    }

    /// Writes an object whole, as text: it may hold what no type here can.
    async fn replace(&self, name: &str, object: &Value) -> kube::Result<String> {
        let url = format!("{}/{name}", self.invites().resource_url());
        put(&self.client, &url, object).await
    }
}

async fn put(client: &Client, url: &str, object: &Value) -> kube::Result<String> {
    let request = http::Request::put(url)
        .header("content-type", "application/json")
        .body(serde_json::to_vec(object).unwrap())
        .unwrap();
    client.request_text(request).await
}

/// How many calls changed something in Astro, but for those that sent an invitation.
fn touched(world: &World) -> usize {
    let calls = world.astro.calls();
    let touching = calls.iter().filter(|call| {
        call.operation.changes_something() && call.operation != Operation::CreateInvite
    });
    touching.count()
}

fn everywhere() -> Value {
    json!({"allow": [{"namespaceSelector": {}, "roles": [MEMBER, OBSERVER]}]})
}

/// A time that Kubernetes takes and that no `jiff::Timestamp` can hold.
const END_OF_TIME: &str = "9999-12-31T23:59:59Z";

/// The object with a manager of its fields who wrote it at the end of time.
fn poisoned(mut object: Value) -> Value {
    object["metadata"]["managedFields"][0]["time"] = END_OF_TIME.into();
    object["metadata"]["managedFields"][0]["manager"] = "eve".into();
    object["metadata"]["labels"]["test/poisoned"] = "yes".into();
    object
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_with_a_time_that_nobody_can_read_stops_nobody() {
    let mut world = World::prepare(everywhere()).await;
    let intruder = Intruder::enter(&world, "evil").await;
    let poison = async |world: &World, name: &str, email: &str| {
        intruder.create(world, name, email, json!({})).await;
        // The operator writes as well.
        for _ in 0..20 {
            let object = intruder.invites().get(name).await.unwrap();
            let object = poisoned(serde_json::to_value(object).unwrap());
            if let Ok(answer) = intruder.replace(name, &object).await {
                assert!(answer.contains(END_OF_TIME), "{answer}");
                return;
            }
        }
        panic!("{name} cannot be written");
    };
    poison(&world, "before", "before@example.com").await;
    // Whoever looks after namespaces could do the same.
    let namespaces: Api<Namespace> = Api::all(world.client.clone());
    let namespace = namespaces.get(&intruder.namespace).await.unwrap();
    let url = format!("{}/{}", namespaces.resource_url(), intruder.namespace);
    let answer = put(
        &world.client,
        &url,
        &poisoned(serde_json::to_value(namespace).unwrap()),
    )
    .await
    .unwrap();
    assert!(answer.contains(END_OF_TIME), "{answer}");

    world.start_operator();
    world.organization_is("Connected").await;
    poison(&world, "after", "after@example.com").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    // They are objects like any other.
    for name in ["before", "after"] {
        let email = format!("{name}@example.com");
        world
            .until("it is invited, too", || world.astro.emails_to(&email) == 1)
            .await;
    }
    // Nor is a new term.
    world.kill_operator();
    world.start_operator();
    world.apply("joe", "joe@example.com").await;
    world.state("joe", "Invited").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 4);
    assert!(
        !world.log().contains("@example.com"),
        "an address in the log"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_status_that_somebody_else_wrote_stops_nobody_and_is_set_right() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator_with(&PATIENT);
    world.organization_is("Connected").await;
    // Where nobody else judges what is in a status.
    let elsewhere = format!("{}-forged", world.namespace);
    world.create_namespace(&elsewhere, json!({})).await;
    let own = std::mem::replace(&mut world.namespace, elsewhere.clone());
    let forged = [
        json!({"expiresAt": END_OF_TIME}),
        json!({"expiresAt": "9999-12-30T21:59:59Z", "invitedAt": "9999-12-30T21:59:59Z"}),
        json!({"expiresAt": "0000-01-01T00:00:00Z", "invitedAt": "0000-01-01T00:00:00Z"}),
        json!({"expiresAt": "2026-01-01T00:00:00+23:59", "invitedAt": END_OF_TIME}),
        json!({"expiresAt": "2026-01-01T00:00:00+99:99"}),
        json!({"goneSince": END_OF_TIME}),
        json!({"goneSince": "2000-01-01T00:00:00Z"}),
        json!({"resends": 5_000_000_000_u64}),
        json!({"resends": 4_294_967_295_u64}),
        json!({"observedGeneration": i64::MIN}),
        json!({"observedGeneration": i64::MAX}),
        json!({"attemptId": "other"}),
        json!({"attemptId": null, "role": null, "email": null, "inviter": null, "expiresAt": null}),
        json!({"inviteId": "x/../../organizations"}),
        json!({"inviteId": ".."}),
        json!({"inviteId": ""}),
        json!({"inviteId": null}),
        json!({"role": OWNER}),
        json!({"email": "eve@evil.example"}),
        json!({"conditions": [{"type": "Ready", "status": "Maybe", "reason": "", "message": "", "lastTransitionTime": END_OF_TIME}]}),
        json!({"conditions": [{"type": "Stalled", "status": "True", "reason": "Nonsense", "message": "x", "lastTransitionTime": "0000-01-01T00:00:00Z", "observedGeneration": -1}]}),
    ];
    for (n, _) in forged.iter().enumerate() {
        let name = format!("p{n}");
        world.apply(&name, &format!("{name}@example.com")).await;
    }
    for (n, status) in forged.iter().enumerate() {
        let name = format!("p{n}");
        world.state(&name, "Invited").await;
        let patch = Patch::Merge(json!({"status": status}));
        let params = PatchParams::default();
        world
            .invites()
            .patch_status(&name, &params, &patch)
            .await
            .unwrap_or_else(|error| panic!("{status}: {error}"));
    }
    // By the annotation, each is planned again now.
    for (n, _) in forged.iter().enumerate() {
        world
            .annotate(&format!("p{n}"), "test/touched", "yes")
            .await;
    }
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    // Where the record says that another role was sent, the invitation is replaced.
    let replaced = forged.iter().position(|one| *one == json!({"role": OWNER}));
    let replaced = format!("p{}@example.com", replaced.unwrap());
    world
        .until("the one with another role is replaced", || {
            world.astro.emails_to(&replaced) == 2
        })
        .await;
    world.kill_operator();
    world.namespace = own;
    world.start_operator();
    world.namespace = elsewhere;
    world.seen("jane@example.com").await;
    for (n, status) in forged.iter().enumerate() {
        let (name, email) = (format!("p{n}"), format!("p{n}@example.com"));
        let live = world.astro.live_invites(&email);
        assert_eq!(live.len(), 1, "{status}");
        let right = |object: Option<&OrgInvite>| {
            let status = object.and_then(|object| object.status.as_ref());
            status.and_then(|status| status.invite_id.as_deref()) == Some(&live[0].id)
        };
        let what = format!("{name} is set right after {status}");
        let wait = await_condition(world.invites(), &name, right);
        world.in_time(&what, wait).await.unwrap();
        world.state(&name, "Invited").await;
        let emails = 1 + u32::from(email == replaced);
        assert_eq!(world.astro.emails_to(&email), emails, "{status}");
    }
    assert_eq!(touched(&world), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_wrong_clock_of_astro_lets_no_invitation_expire() {
    let mut world = World::prepare(json!({})).await;
    let believing = ["--clock-tolerance", "1h"];
    world.start_operator_with(&believing);
    world.organization_is("Connected").await;
    world.apply("jane", "jane@example.com").await;
    let before = world.state("jane", "Invited").await;
    for years in [10, -10, 7900] {
        world
            .astro
            .set_clock_offset(SignedDuration::from_hours(years * 365 * 24));
        world.seen("jane@example.com").await;
        world
            .annotate("jane", "test/touched", &years.to_string())
            .await;
        world.seen("jane@example.com").await;
        if years < 0 {
            // What is sent now would have expired ten years ago, as Astro says.
            continue;
        }
        let name = format!("at{years}");
        world.apply(&name, &format!("{name}@example.com")).await;
        let object = world.state(&name, "Invited").await;
        let told = object.status.unwrap().invited_at.unwrap().0;
        let off = told.duration_since(jiff::Timestamp::now()).abs();
        assert!(off < SignedDuration::from_mins(65), "{years}: {told}");
    }
    world.kill_operator();
    world.start_operator_with(&believing);
    world.seen("jane@example.com").await;
    world.organization_is("Connected").await;
    let after = world.state("jane", "Invited").await;
    assert_eq!(invite_id(&after), invite_id(&before));
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.count(Operation::CreateInvite), 3);
    let log = world.log();
    let told = log.matches("are further apart").count();
    let terms = log.matches(r#""message":"leading""#).count();
    assert!(
        (2..=terms).contains(&told),
        "once by each connection, of which each term has one: {told} in {terms} terms"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn no_spelling_of_an_address_gets_around_allow() {
    let mut world = World::prepare(json!({
        "allow": [{"namespaceSelector": {}, "roles": [MEMBER], "emailDomains": ["example.com", "*.example.org"]}],
    }))
    .await;
    world.start_operator();
    world.organization_is("Connected").await;
    let intruder = Intruder::enter(&world, "evil").await;
    // Not refused at apply, and nobody's whom this namespace may invite.
    for (n, email) in [
        "eve@evil.example",
        "eve@example.com.evil.example",
        "eve@evil-example.com",
        "eve@sub.example.com",
        "eve@example.org",
        "eve@example.org.evil.example",
        "eve@ex\u{430}mple.com",
        "eve@xn--exmple-4nf.com",
        "eve@\u{435}xample.com",
        "eve%example.com@evil.example",
        "eve+example.com@evil.example",
        "example.com!eve@evil.example",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("stranger-{n}");
        intruder.create(&world, &name, email, json!({})).await;
        world
            .state_in(&intruder.namespace, &name, "NotPermitted")
            .await;
        assert_eq!(world.astro.emails_to(email), 0, "{email}");
    }
    // What is no plain address is refused at apply.
    for email in [
        "eve@evil.example@example.com",
        "\"eve@evil.example,\"@example.com",
        "\"eve\"@example.com",
        "eve(@evil.example)@example.com",
        "eve@example.com(evil.example)",
        "<eve@evil.example>@example.com",
        "@evil.example:eve@example.com",
        "eve@evil.example\0@example.com",
        "eve@example.com.",
        "eve@example.com\u{3002}evil.example",
        "eve@example\u{ff0e}com",
        "eve@[127.0.0.1]",
        "eve@127.0.0.1",
        "eve@exa\u{ad}mple.com",
        "eve@exam\u{200d}ple.com",
        "\u{435}ve@example.com",
        "eve @example.com",
        "eve\t@example.com",
        "eve@ example.com",
    ] {
        let refused = intruder
            .try_create(&world, "refused", email, json!({}))
            .await;
        let error = refused.expect_err(email);
        assert!(error.contains("spec.email"), "{email:?}: {error}");
    }
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    // Other spellings of one mailbox that may be invited get one e-mail together.
    for (n, email) in [
        "Eve@Example.com",
        "EVE@EXAMPLE.COM",
        "eve@\u{ff45}xample.com",
        "eve@exam\u{34f}ple.com",
        "eve@example.\u{212a}om",
    ]
    .iter()
    .enumerate()
    {
        let name = format!("eve-{n}");
        let created = intruder.try_create(&world, &name, email, json!({})).await;
        created.unwrap_or_else(|error| panic!("{email:?}: {error}"));
        let reason = match n {
            0 => "Invited",
            // That is example.kom.
            4 => "NotPermitted",
            _ => "Conflict",
        };
        world.state_in(&intruder.namespace, &name, reason).await;
    }
    assert_eq!(world.astro.emails_to("eve@example.com"), 1);
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_namespace_that_is_named_like_an_allowed_one_is_not_it() {
    let mut world = World::prepare(json!({})).await;
    let own = world.namespace.clone();
    let organizations: Api<Organization> = Api::all(world.client.clone());
    for pattern in ["*", ".*", "?", &format!("{own}*"), &format!("{own}-.*")] {
        let allow = json!([{"namespaces": [own, pattern], "roles": [MEMBER]}]);
        let patch = Patch::Merge(json!({"spec": {"allow": allow}}));
        let refused = organizations
            .patch(&world.organization, &PatchParams::default(), &patch)
            .await;
        let error = refused.expect_err(pattern).to_string();
        assert!(error.contains("without wildcards"), "{pattern}: {error}");
    }
    world.start_operator();
    world.organization_is("Connected").await;
    for suffix in ["", "x", "prod"] {
        let intruder = Intruder::enter(&world, &format!("evil{suffix}")).await;
        intruder
            .create(
                &world,
                "eve",
                "eve@example.com",
                json!({"labels": {"kubernetes.io/metadata.name": own}}),
            )
            .await;
        world
            .state_in(&intruder.namespace, "eve", "NotPermitted")
            .await;
    }
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.count(Operation::CreateInvite), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_developer_may_not_write_what_decides() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator();
    world.organization_is("Connected").await;
    let intruder = Intruder::enter(&world, "evil").await;
    let forbidden = |what: &str, answer: Result<(), kube::Error>| match answer {
        Err(kube::Error::Api(status)) if status.code == 403 => {}
        other => panic!("{what}: {other:?}"),
    };
    let params = PatchParams::default();
    intruder
        .create(&world, "eve", "eve@example.com", json!({}))
        .await;
    let label = Patch::Merge(json!({"metadata": {"labels": {"may-invite": "yes"}}}));
    let namespaces: Api<Namespace> = Api::all(intruder.client.clone());
    let answer = namespaces.patch(&intruder.namespace, &params, &label).await;
    forbidden("label the own namespace", answer.map(drop));
    let status = Patch::Merge(json!({"status": {"inviteId": "x", "role": OWNER, "userId": "u"}}));
    let answer = intruder
        .invites()
        .patch_status("eve", &params, &status)
        .await;
    forbidden("write a status", answer.map(drop));
    let organizations: Api<Organization> = Api::all(intruder.client.clone());
    let allow =
        Patch::Merge(json!({"spec": {"allow": [{"namespaceSelector": {}, "roles": [OWNER]}]}}));
    let answer = organizations
        .patch(&world.organization, &params, &allow)
        .await;
    forbidden("edit the Organization", answer.map(drop));
    let secrets: Api<Secret> = Api::namespaced(intruder.client.clone(), &world.namespace);
    forbidden("read the token", secrets.get("astro-token").await.map(drop));
    let others: Api<OrgInvite> = Api::namespaced(intruder.client.clone(), &world.namespace);
    let answer = others.list(&ListParams::default()).await;
    forbidden("see another namespace's objects", answer.map(drop));

    // In the manifest, a status and an age do not count.
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
        "metadata": {"name": "old", "creationTimestamp": "2000-01-01T00:00:00Z", "uid": "forged", "generation": 7},
        "spec": {"email": "jane@example.com", "role": MEMBER, "organizationRef": {"name": world.organization}},
        "status": {"inviteId": "x", "userId": "u", "role": OWNER, "observedGeneration": 1},
    }))
    .unwrap();
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let created = intruder
        .invites()
        .create(&PostParams::default(), &object)
        .await
        .unwrap();
    assert_eq!(
        created.data["status"],
        json!({"observedGeneration": -1, "resends": 0})
    );
    assert_ne!(created.metadata.uid.as_deref(), Some("forged"));
    world.state_in(&intruder.namespace, "old", "Conflict").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(touched(&world), 0);
}

/// The annotation of an attempt that replaced `invite`.
fn attempt(email: &str, invite: &str) -> Value {
    let attempt = json!({"id": "forged", "email": email, "role": MEMBER, "replaces": invite});
    json!({ATTEMPT: attempt.to_string()})
}

#[tokio::test(flavor = "multi_thread")]
async fn a_forged_attempt_touches_nobody_elses_invitation() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator();
    world.organization_is("Connected").await;
    let intruder = Intruder::enter(&world, "evil").await;
    let web = |email| world.astro.invite_on_web_page(email, OWNER).unwrap();
    let (boss, chief) = (web("boss@example.com"), web("chief@example.com"));
    world.apply("jane", "jane@example.com").await;
    let jane = invite_id(&world.state("jane", "Invited").await);
    world.seen("chief@example.com").await;

    // For somebody who has no invitation: the named one is not taken away, and the e-mail is allowed.
    let annotations = attempt("eve@example.com", &boss);
    let metadata = json!({"annotations": annotations});
    intruder
        .create(&world, "eve", "eve@example.com", metadata)
        .await;
    // For the owner: neither replaced nor, in deletion, taken back.
    let metadata = json!({"annotations": attempt("boss@example.com", &boss)});
    intruder
        .create(&world, "boss", "boss@example.com", metadata)
        .await;
    let annotations = attempt("chief@example.com", &chief);
    let metadata = json!({"annotations": annotations, "finalizers": ["iam.astronomer.io/invite"]});
    intruder
        .create(&world, "chief", "chief@example.com", metadata)
        .await;
    let params = DeleteParams::default();
    intruder.invites().delete("chief", &params).await.unwrap();
    // For an address that another namespace's object holds.
    let metadata = json!({"annotations": attempt("jane@example.com", "none")});
    intruder
        .create(&world, "jane", "jane@example.com", metadata)
        .await;
    // For another address than the spec's, and one that is no attempt.
    let metadata = json!({"annotations": attempt("boss@example.com", &boss)});
    intruder
        .create(&world, "other", "other@example.com", metadata)
        .await;
    let metadata = json!({"annotations": {ATTEMPT: "{\"id\": 7"}});
    intruder
        .create(&world, "broken", "broken@example.com", metadata)
        .await;

    let evil = intruder.namespace.as_str();
    world.state_in(evil, "other", "AttemptUnreadable").await;
    world.state_in(evil, "broken", "AttemptUnreadable").await;
    world.state_in(evil, "eve", "Invited").await;
    world.state_in(evil, "boss", "NotPermitted").await;
    world.state_in(evil, "chief", "NotPermitted").await;
    world.state_in(evil, "jane", "Conflict").await;
    assert_eq!(touched(&world), 0);
    for (email, invite) in [
        ("boss@example.com", &boss),
        ("chief@example.com", &chief),
        ("jane@example.com", &jane),
    ] {
        let live = world.astro.live_invites(email);
        assert_eq!(live.len(), 1, "{email}");
        assert_eq!(live[0].id, *invite, "{email}");
    }
    assert_eq!(world.astro.count(Operation::CreateInvite), 2);
    // Retain lets go of what nobody here may touch.
    let retain = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    let params = PatchParams::default();
    intruder
        .invites()
        .patch("chief", &params, &retain)
        .await
        .unwrap();
    world
        .in_time("chief is gone", async {
            while intruder.invites().get_opt("chief").await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
    assert_eq!(touched(&world), 0);
}

/// An annotation that looks like an attempt, in a namespace that may not invite: it tells nothing, keeps the address from
/// nobody and holds up no deletion.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_attempt_gets_nothing_where_nothing_is_allowed() {
    let world = World::start().await;
    let intruder = Intruder::enter(&world, "evil").await;
    let evil = intruder.namespace.as_str();
    world.astro.add_member("max@example.com", OBSERVER).unwrap();
    world.seen("max@example.com").await;
    let metadata = json!({"annotations": attempt("max@example.com", "none")});
    intruder
        .create(&world, "max", "max@example.com", metadata)
        .await;
    let metadata =
        json!({"annotations": {ATTEMPT: "x"}, "finalizers": ["iam.astronomer.io/invite"]});
    intruder
        .create(&world, "jane", "jane@example.com", metadata)
        .await;
    world.state_in(evil, "jane", "AttemptUnreadable").await;
    let max = world.state_in(evil, "max", "NotPermitted").await;
    let text = serde_json::to_string(&max).unwrap();
    for secret in ["RoleDiffers", "userId", "OBSERVE", "finalizers"] {
        assert!(!text.contains(secret), "{text}");
    }

    world.apply("max", "max@example.com").await;
    world.state("max", "RoleDiffers").await;
    let jane = world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.edit_role("jane", OBSERVER).await;
    world.state("jane", "Invited").await;
    assert_eq!(world.astro.emails_to("jane@example.com"), 2);
    world.delete("jane").await;
    world.deleted("jane", &uid(&jane)).await;
    assert!(world.astro.live_invites("jane@example.com").is_empty());

    // Whoever has to remove it can.
    let retain = Patch::Merge(json!({"spec": {"deletionPolicy": "Retain"}}));
    let invites = intruder.invites();
    invites
        .patch("jane", &PatchParams::default(), &retain)
        .await
        .unwrap();
    invites
        .delete("jane", &DeleteParams::default())
        .await
        .unwrap();
    world
        .in_time("jane is gone", async {
            while invites.get_opt("jane").await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        })
        .await;
}

/// What is forged for what another namespace may touch, where nobody can look.
#[tokio::test(flavor = "multi_thread")]
async fn a_forged_attempt_touches_nobody_elses_invitation_unseen() {
    let mut world = World::prepare(everywhere()).await;
    world
        .astro
        .change_behaviour(|behaviour| behaviour.list_users = ListUsers::Forbidden);
    world.start_operator_with(&PATIENT);
    world.organization_is("ListForbidden").await;
    let intruder = Intruder::enter(&world, "evil").await;
    let boss = world
        .astro
        .invite_on_web_page("boss@example.com", OWNER)
        .unwrap();
    world.apply("jane", "jane@example.com").await;
    let jane = invite_id(&world.state("jane", "Invited").await);

    let evil = intruder.namespace.as_str();
    let mut annotations = attempt("eve@example.com", &boss);
    intruder
        .create(
            &world,
            "eve",
            "eve@example.com",
            json!({"annotations": annotations}),
        )
        .await;
    world.state_in(evil, "eve", "OutcomeUnknown").await;
    annotations[RESEND] = "now".into();
    let wish = Patch::Merge(json!({"metadata": {"annotations": annotations}}));
    let params = PatchParams::default();
    intruder
        .invites()
        .patch("eve", &params, &wish)
        .await
        .unwrap();
    world.state_in(evil, "eve", "Invited").await;

    let mut annotations = attempt("jane@example.com", &jane);
    annotations["iam.astronomer.io/invite-id"] = jane.as_str().into();
    intruder
        .create(
            &world,
            "jane",
            "jane@example.com",
            json!({"annotations": annotations}),
        )
        .await;
    world.state_in(evil, "jane", "Conflict").await;
    // An ID is one segment of a path, whatever is in it.
    for (n, id) in [
        "..",
        "x/../../organizations",
        "x?y=z",
        "%2e%2e",
        "a\nb",
        "http://evil.example/",
    ]
    .iter()
    .enumerate()
    {
        let email = format!("p{n}@example.com");
        let mut annotations = attempt(&email, "none");
        annotations["iam.astronomer.io/invite-id"] = (*id).into();
        let name = format!("p{n}");
        intruder
            .create(&world, &name, &email, json!({"annotations": annotations}))
            .await;
        world.state_in(evil, &name, "OutcomeUnknown").await;
    }
    assert_eq!(touched(&world), 0);
    assert_eq!(world.astro.live_invites("jane@example.com")[0].id, jane);
    assert_eq!(world.astro.live_invites("boss@example.com")[0].id, boss);
    assert_eq!(world.astro.count(Operation::CreateInvite), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_member_with_another_role_is_told_of_and_left_alone() {
    let mut world = World::prepare(everywhere()).await;
    world.astro.add_member("boss@example.com", OWNER).unwrap();
    world.start_operator();
    world.organization_is("Connected").await;
    let intruder = Intruder::enter(&world, "evil").await;
    intruder
        .create(&world, "boss", "boss@example.com", json!({}))
        .await;
    let evil = intruder.namespace.as_str();
    world.state_in(evil, "boss", "RoleDiffers").await;
    let spec = Patch::Merge(json!({
        "metadata": {"annotations": {RESEND: "now"}}, "spec": {"role": OBSERVER, "resendWhen": "Gone"},
    }));
    let params = PatchParams::default();
    intruder
        .invites()
        .patch("boss", &params, &spec)
        .await
        .unwrap();
    let boss = world.state_in(evil, "boss", "RoleDiffers").await;
    intruder
        .invites()
        .delete("boss", &DeleteParams::default())
        .await
        .unwrap();
    let (invites, boss) = (intruder.invites(), uid(&boss));
    let gone = await_condition(invites, "boss", conditions::is_deleted(&boss));
    world.in_time("it goes", gone).await.unwrap();
    world.seen("boss@example.com").await;
    assert_eq!(world.astro.user("boss@example.com").unwrap().role, OWNER);
    assert_eq!(
        touched(&world) + world.astro.count(Operation::CreateInvite),
        0
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn a_conflict_tells_nothing_of_the_other_namespace() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator();
    world.organization_is("Connected").await;
    world.apply("the-holders-name", "jane@example.com").await;
    world.edit_role("the-holders-name", OBSERVER).await;
    let jane = invite_id(&world.state("the-holders-name", "Invited").await);
    let intruder = Intruder::enter(&world, "evil").await;
    let evil = intruder.namespace.as_str();
    intruder
        .create(&world, "eve", "jane@example.com", json!({}))
        .await;
    let object = world.state_in(evil, "eve", "Conflict").await;
    assert_eq!(
        condition(&object, "Ready").unwrap().message,
        "An OrgInvite in another namespace is for the same address, and one address gets one invitation. Delete one of the two"
    );
    world.astro.accept(&jane).unwrap();
    world.state("the-holders-name", "Accepted").await;
    world.seen("jane@example.com").await;
    world.state_in(evil, "eve", "Conflict").await;
    let object = intruder.invites().get("eve").await.unwrap();
    let events: Api<Event> = Api::namespaced(world.client.clone(), evil);
    let events = events.list(&ListParams::default()).await.unwrap();
    let told = format!("{}{}", json!(object.data["status"]), json!(events.items))
        .replace(evil, "")
        .replace(&format!("orginvite-operator-{}", world.namespace), "");
    for secret in ["the-holders-name", OBSERVER, &jane, "member", "Accepted"] {
        assert!(!told.contains(secret), "{secret}: {told}");
    }
    assert!(object.data["status"].get("userId").is_none());
}

/// Far enough apart for a test that ends before.
const SPACING: [&str; 2] = ["--email-spacing", "10m"];

#[tokio::test(flavor = "multi_thread")]
async fn a_flood_of_wishes_and_roles_is_one_email_for_each_spacing() {
    let options = [&PATIENT[..], &SPACING].concat();
    let mut world = World::prepare(everywhere()).await;
    world.start_operator_with(&options);
    world.organization_is("Connected").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    world.apply("joe", "joe@example.com").await;
    let joe = invite_id(&world.state("joe", "Invited").await);
    world.astro.accept(&joe).unwrap();
    world.state("joe", "Accepted").await;

    for round in 1..=3_i32 {
        for n in 0..20 {
            // Two tools that never agree, and one that wishes.
            let role = [OBSERVER, MEMBER][n % 2];
            world.edit_role("jane", role).await;
            world.edit_role("joe", role).await;
            world
                .annotate("jane", RESEND, &format!("{round}-{n}"))
                .await;
            world.annotate("joe", RESEND, &format!("{round}-{n}")).await;
        }
        world.edit_role("jane", OBSERVER).await;
        let jane = world.state("jane", "Spacing").await;
        assert_eq!(world.astro.live_invites("jane@example.com").len(), 1);
        assert_eq!(
            i64::from(world.astro.emails_to("jane@example.com")),
            i64::from(round)
        );
        // The next term knows of the last e-mail by the status alone.
        world.kill_operator();
        world
            .astro
            .set_clock_offset(SignedDuration::from_mins(i64::from(round) * 11));
        world.start_operator_with(&options);
        let jane = jane.metadata.generation.unwrap();
        let replaced = world.state("jane", "Invited").await;
        assert_eq!(replaced.metadata.generation, Some(jane));
        assert_eq!(
            i64::from(world.astro.emails_to("jane@example.com")),
            i64::from(round) + 1
        );
    }
    assert_eq!(world.astro.emails_to("joe@example.com"), 1);
    assert_eq!(world.astro.count(Operation::CreateInvite), 5);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 3);
}

/// Each edit is planned for once at most, and whoever comes meanwhile is invited.
#[tokio::test(flavor = "multi_thread")]
async fn two_tools_that_never_agree_keep_nobody_waiting() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator_with(&SPACING);
    world.organization_is("Connected").await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
    let writes = world.writes_so_far(Some("jane")).await;
    let mut edits = 0;
    let flip = async {
        loop {
            world.edit_role("jane", [OBSERVER, MEMBER][edits % 2]).await;
            edits += 1;
        }
    };
    let others = async {
        for n in 0..10 {
            let name = format!("other-{n}");
            world.apply(&name, &format!("{name}@example.com")).await;
            world.state(&name, "Invited").await;
        }
    };
    tokio::select! {
        () = flip => {}
        () = others => {}
    }
    let more = world.writes_so_far(Some("jane")).await - writes;
    assert!(edits >= 10, "{edits} edits meanwhile");
    assert!(more <= edits, "{more} writes for {edits} edits");
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.count(Operation::CreateInvite), 11);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_object_that_is_created_again_and_again_sends_one_email_for_each_spacing() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator_with(&[&STEADY[..], &SPACING].concat());
    world.organization_is("Connected").await;
    for n in 0..5 {
        let name = format!("jane-{n}");
        let object = world.apply(&name, "jane@example.com").await;
        let reason = if n == 0 { "Invited" } else { "Spacing" };
        world.state(&name, reason).await;
        if n == 1 {
            // That it waits is told once.
            world.seen("jane@example.com").await;
            world.annotate(&name, "test/touched", "x").await;
            world.seen("jane@example.com").await;
            assert_eq!(world.writes_so_far(Some(&name)).await, 1);
        }
        world.delete(&name).await;
        world.deleted(&name, &uid(&object)).await;
    }
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
    assert_eq!(world.astro.count(Operation::DeleteInvite), 1);
}

/// Who comes and goes before an e-mail was sent takes nobody's time: with the places of all of them, the next one would
/// wait for two minutes.
#[tokio::test(flavor = "multi_thread")]
async fn objects_that_go_before_their_e_mail_give_their_places_back() {
    let mut world = World::prepare(everywhere()).await;
    world.start_operator_with(&["--posts-per-second", "1"]);
    world.organization_is("Connected").await;
    let names: Vec<String> = (0..130).map(|n| format!("p{n}")).collect();
    let there = &world;
    join_all(
        names
            .iter()
            .map(|name| async move { there.apply(name, &format!("{name}@example.com")).await }),
    )
    .await;
    let of = world.organization.clone();
    // With their places, jane would wait for longer than this test does.
    Scrape::until(&world, "they wait", |scrape| {
        scrape.value("budget_waiting", &[&of, "POST"]) >= Some(90.0)
    })
    .await;
    join_all(names.iter().map(|name| there.delete(name))).await;
    world.apply("jane", "jane@example.com").await;
    world.state("jane", "Invited").await;
}

/// The object's finalizers once they are not these any more.
async fn other_finalizers<K>(api: &Api<K>, name: &str, these: &[String]) -> Vec<String>
where
    K: kube::Resource + Clone + std::fmt::Debug + serde::de::DeserializeOwned,
{
    loop {
        let object = api.get(name).await.unwrap();
        let finalizers = object.meta().finalizers.clone().unwrap_or_default();
        if finalizers != these {
            return finalizers;
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn other_finalizers_stay_as_they_are_however_many_there_are() {
    let mut world = World::prepare(everywhere()).await;
    let intruder = Intruder::enter(&world, "evil").await;
    let others = finalizers(100);
    let metadata = json!({"finalizers": others});
    intruder
        .create(&world, "jane", "jane@example.com", metadata)
        .await;
    world.start_operator();
    let invited = world.state_in(&intruder.namespace, "jane", "Invited").await;
    let held = [others.as_slice(), &["iam.astronomer.io/invite".to_owned()]].concat();
    assert_eq!(invited.metadata.finalizers.as_ref(), Some(&held));
    let api = intruder.invites();
    api.delete("jane", &DeleteParams::default()).await.unwrap();
    world
        .until("it is taken back", || {
            world.astro.live_invites("jane@example.com").is_empty()
        })
        .await;
    let released = other_finalizers(&api, "jane", &held);
    let left = world.in_time("it lets go", released).await;
    assert_eq!(left, others);
    let free = Patch::Merge(json!({"metadata": {"finalizers": null}}));
    api.patch("jane", &PatchParams::default(), &free)
        .await
        .unwrap();
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_finalizers_of_an_organization_stay_as_they_are() {
    let mut world = World::prepare(json!({})).await;
    let others = finalizers(100);
    let metadata = json!({"metadata": {"finalizers": others}});
    world.edit_organization(metadata).await;
    world.start_operator();
    world.organization_is("Connected").await;
    let api: Api<Organization> = Api::all(world.client.clone());
    let held = api.get(&world.organization).await.unwrap();
    let ours = "iam.astronomer.io/organization".to_owned();
    let both = [others.as_slice(), &[ours]].concat();
    assert_eq!(held.metadata.finalizers, Some(both.clone()));
    world.delete_organization().await;
    let released = other_finalizers(&api, &world.organization, &both);
    assert_eq!(world.in_time("it lets go", released).await, others);
    let free = json!({"metadata": {"finalizers": null}});
    world.edit_organization(free).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_api_server_does_not_take_is_told_in_the_status() {
    let world = World::start().await;
    // An attempt beside it is more than all annotations of an object may have.
    let mut object = world.manifest("jane", "jane@example.com", MEMBER);
    let long = "x".repeat(256 * 1024 - 50);
    object.metadata.annotations = Some([("test/long".to_owned(), long)].into());
    world.create(&object).await;
    let refused = world.state("jane", "WriteRefused").await;
    let ready = condition(&refused, "Ready").unwrap();
    assert_eq!(ready.status, "False");
    assert!(ready.message.contains("Too long"), "{}", ready.message);
    assert!(condition(&refused, "Reconciling").is_some());
    assert_eq!(world.astro.count(Operation::CreateInvite), 0);
    let shorter = Patch::Merge(json!({"metadata": {"annotations": {"test/long": null}}}));
    world
        .invites()
        .patch("jane", &PatchParams::default(), &shorter)
        .await
        .unwrap();
    let invited = world.state("jane", "Invited").await;
    assert!(condition(&invited, "Reconciling").is_none());
    assert_eq!(world.astro.emails_to("jane@example.com"), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn neither_an_organization_nor_a_token_leads_the_operator_elsewhere() {
    let mut world = World::prepare(json!({"syncInterval": "1h"})).await;
    let organizations: Api<Organization> = Api::all(world.client.clone());
    let own = organizations.get(&world.organization).await.unwrap();
    for id in [
        "../users",
        "..",
        ".",
        "a/b",
        "a%2fb",
        "a?b=c",
        "a#b",
        "a b",
        "a\nb",
        "a@evil.example",
        "http:",
        "//evil.example",
        "\u{2024}\u{2024}",
        "",
    ] {
        let mut twin = own.clone();
        twin.metadata = kube::core::ObjectMeta {
            name: Some(format!("{}-twin", world.organization)),
            ..kube::core::ObjectMeta::default()
        };
        id.clone_into(&mut twin.spec.organization_id);
        let refused = organizations.create(&PostParams::default(), &twin).await;
        let error = refused.expect_err(id).to_string();
        assert!(error.contains("spec.organizationId"), "{id:?}: {error}");
    }
    world.start_operator();
    world.organization_is("Connected").await;
    for token in [
        "a\r\nHost: evil.example",
        "a\nb",
        "a b",
        "\u{430}",
        "\u{0}",
        "   ",
    ] {
        let mark = world.astro.mark();
        world.put_token(token).await;
        world.organization_is("TokenMissing").await;
        assert!(
            world.astro.calls_since(mark).len() <= 2,
            "only what was under way"
        );
        world.put_token(&world.astro.token()).await;
        world.organization_is("Connected").await;
    }
}

/// Whoever may create an object may give it our finalizer, and an address to which nothing is ever sent.
#[tokio::test(flavor = "multi_thread")]
async fn a_finalizer_where_nothing_is_recorded_keeps_nothing() {
    let world = World::start().await;
    let intruder = Intruder::enter(&world, "evil").await;
    let (evil, invites) = (intruder.namespace.as_str(), intruder.invites());
    let held = json!({"finalizers": ["iam.astronomer.io/invite"]});
    let forged = |email: &str| {
        let mut metadata = held.clone();
        metadata["annotations"] = attempt(email, "none");
        metadata
    };
    let go = async |name: &str| {
        let params = DeleteParams::default();
        invites.delete(name, &params).await.unwrap();
        let gone = async {
            while invites.get_opt(name).await.unwrap().is_some() {
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        };
        world.in_time(&format!("{name} is gone"), gone).await;
    };
    // The schema lets these domains through, and IDNA does not.
    for (n, email) in ["x@ab--cd.com", "x@xn--a.com", "x@a\u{5d0}.com"]
        .iter()
        .enumerate()
    {
        for (kind, metadata) in [("plain", held.clone()), ("forged", forged(email))] {
            let name = format!("{kind}-{n}");
            intruder.create(&world, &name, email, metadata).await;
            world.state_in(evil, &name, "InvalidEmail").await;
            go(&name).await;
        }
    }
    // Nor is an Organization kept.
    for (name, email, reason) in [
        ("x", "x@ab--cd.com", "InvalidEmail"),
        ("eve", "eve@example.com", "NotPermitted"),
    ] {
        intruder.create(&world, name, email, held.clone()).await;
        world.state_in(evil, name, reason).await;
    }
    let organizations: Api<Organization> = Api::all(world.client.clone());
    let of = world.organization.as_str();
    organizations
        .delete(of, &DeleteParams::default())
        .await
        .unwrap();
    let gone = async {
        while organizations.get_opt(of).await.unwrap().is_some() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    world.in_time("the Organization is gone", gone).await;
    world.state_in(evil, "eve", "OrganizationNotFound").await;
    for name in ["x", "eve"] {
        go(name).await;
    }
    assert_eq!(
        touched(&world) + world.astro.count(Operation::CreateInvite),
        0
    );
}
