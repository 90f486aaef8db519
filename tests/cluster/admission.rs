//! Bad input is refused at apply, with a message that helps.

use kube::Api;
use kube::api::{DynamicObject, Patch, PatchParams, PostParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde_json::{Value, json};

use crate::world::World;

fn api(world: &World, kind: &str) -> Api<DynamicObject> {
    let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
        "iam.astronomer.io",
        "v1alpha1",
        kind,
    ));
    match kind {
        "OrgInvite" => Api::namespaced_with(world.client.clone(), &world.namespace, &resource),
        _ => Api::all_with(world.client.clone(), &resource),
    }
}

async fn create(world: &World, kind: &str, spec: &Value) -> Result<DynamicObject, String> {
    let object: DynamicObject = serde_json::from_value(json!({
        "apiVersion": "iam.astronomer.io/v1alpha1", "kind": kind,
        "metadata": {"generateName": format!("{}-", world.namespace)}, "spec": spec,
    }))
    .unwrap();
    let params = PostParams {
        dry_run: true,
        ..PostParams::default()
    };
    api(world, kind)
        .create(&params, &object)
        .await
        .map_err(|error| error.to_string())
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_invites_are_refused_with_a_message() {
    let world = World::prepare(json!({})).await;
    let syntax = "email must be one plain address such as jane@example.com";
    let long = format!("{}@example.com", "a".repeat(250));
    for (email, message) in [
        ("", syntax),
        ("jane", syntax),
        ("jane@example", syntax),
        ("Jane <jane@example.com>", syntax),
        ("jane doe@example.com", syntax),
        (" jane@example.com", syntax),
        ("jane@example.com ", syntax),
        ("jane@example.com,joe@example.com", syntax),
        ("jane@example.com;joe@example.com", syntax),
        ("jane@@example.com", syntax),
        ("jane@example..com", syntax),
        (".jane@example.com", syntax),
        ("jane.@example.com", syntax),
        ("jane@-example.com", syntax),
        ("jane@example.com\nbcc: joe@example.com", syntax),
        ("jane\u{a0}@example.com", syntax),
        (long.as_str(), "254"),
    ] {
        let refused = create(
            &world,
            "OrgInvite",
            &json!({"email": email, "role": "ORGANIZATION_MEMBER"}),
        )
        .await;
        assert!(
            refused.as_ref().is_err_and(|error| error.contains(message)),
            "{email:?}: {refused:?}"
        );
    }
    for (spec, message) in [
        (json!({"email": "jane@example.com"}), "spec.role: Required"),
        (
            json!({"email": "jane@example.com", "role": "OWNER"}),
            "supported values",
        ),
        (
            json!({"role": "ORGANIZATION_MEMBER"}),
            "spec.email: Required",
        ),
        (
            json!({"email": "jane@example.com", "role": "ORGANIZATION_MEMBER", "organizationRef": {"name": ""}}),
            "organizationRef.name",
        ),
        (
            json!({"email": "jane@example.com", "role": "ORGANIZATION_MEMBER", "organizationRef": {"name": "My Org"}}),
            "organizationRef.name must be the name of an Organization",
        ),
    ] {
        let refused = create(&world, "OrgInvite", &spec).await;
        assert!(
            refused.as_ref().is_err_and(|error| error.contains(message)),
            "{spec}: {refused:?}"
        );
    }
    for email in [
        "jane@example.com",
        "Jane.Doe+astro@sub.example.co.uk",
        "o'brien_1@example.com",
        "jane@bücher.example",
        "jane@例え.テスト",
        "jane@xn--bcher-kva.example",
    ] {
        let accepted = create(
            &world,
            "OrgInvite",
            &json!({"email": email, "role": "ORGANIZATION_MEMBER"}),
        )
        .await;
        let accepted = accepted.unwrap_or_else(|error| panic!("{email}: {error}"));
        assert_eq!(accepted.data["spec"]["organizationRef"]["name"], "default");
        assert_eq!(accepted.data["status"]["observedGeneration"], -1);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn bad_organizations_are_refused_with_a_message() {
    let world = World::prepare(json!({})).await;
    let good = json!({
        "organizationId": "clkvh3b46003m01kbalgwwdcy",
        "tokenSecretRef": {"name": "astro-token"},
        "allow": [{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]}],
    });
    let accepted = create(&world, "Organization", &good).await.unwrap();
    assert_eq!(accepted.data["spec"]["syncInterval"], "5m");
    assert_eq!(accepted.data["spec"]["tokenSecretRef"]["key"], "token");
    for (field, value, message) in [
        (
            "organizationId",
            json!("../users"),
            "organizationId must be the ID",
        ),
        ("allow", json!([]), "allow needs at least one rule"),
        (
            "allow",
            json!([{"roles": ["ORGANIZATION_MEMBER"]}]),
            "a rule names its namespaces",
        ),
        (
            "allow",
            json!([{"namespaceSelector": {}, "namespaces": ["a"], "roles": ["ORGANIZATION_MEMBER"]}]),
            "a rule names its namespaces",
        ),
        (
            "allow",
            json!([{"namespaces": [], "roles": ["ORGANIZATION_MEMBER"]}]),
            "namespaces needs at least one",
        ),
        (
            "allow",
            json!([{"namespaceSelector": {}, "roles": []}]),
            "roles needs at least one",
        ),
        (
            "allow",
            json!([{"namespaceSelector": {}, "roles": ["ADMIN"]}]),
            "supported values",
        ),
        (
            "allow",
            json!([{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"], "emailDomains": []}]),
            "emailDomains needs at least one",
        ),
        (
            "allow",
            json!([{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"], "emailDomains": ["@example.com"]}]),
            "each of emailDomains must be a domain",
        ),
        (
            "allow",
            json!([{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"], "emailDomains": ["*"]}]),
            "each of emailDomains must be a domain",
        ),
        (
            "syncInterval",
            json!("5"),
            "syncInterval must be a duration",
        ),
        (
            "syncInterval",
            json!("100ms"),
            "syncInterval must be a duration",
        ),
        (
            "syncInterval",
            json!("25h"),
            "syncInterval must be a duration",
        ),
        (
            "syncInterval",
            json!("-5m"),
            "syncInterval must be a duration",
        ),
        (
            "tokenSecretRef",
            json!({"key": "token"}),
            "tokenSecretRef.name: Required",
        ),
        (
            "tokenSecretRef",
            json!({"name": "my token"}),
            "tokenSecretRef.name must be the name of a Secret",
        ),
        (
            "tokenSecretRef",
            json!({"name": "astro-token", "key": "a/b"}),
            "tokenSecretRef.key must be a key of a Secret",
        ),
    ] {
        refuses(&world, &good, field, &value, message).await;
    }
}

/// An Organization that differs from a good one in that field is refused with that message.
async fn refuses(world: &World, good: &Value, field: &str, value: &Value, message: &str) {
    let mut spec = good.clone();
    spec[field] = value.clone();
    let refused = create(world, "Organization", &spec).await;
    assert!(
        refused.as_ref().is_err_and(|error| error.contains(message)),
        "{field}: {value}: {refused:?}"
    );
}

#[tokio::test(flavor = "multi_thread")]
async fn what_would_allow_nothing_or_could_be_misread_is_refused() {
    let world = World::prepare(json!({})).await;
    let good = json!({
        "organizationId": "clkvh3b46003m01kbalgwwdcy",
        "tokenSecretRef": {"name": "astro-token"},
        "allow": [{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]}],
    });
    for (field, value, message) in [
        (
            "allow",
            json!([{"namespaces": ["team-*"], "roles": ["ORGANIZATION_MEMBER"]}]),
            "each of namespaces must be the whole name of one, without wildcards",
        ),
        (
            "allow",
            selecting(&json!({"operator": "Nonsense", "values": ["a"]})),
            "supported values: \"In\"",
        ),
        (
            "allow",
            selecting(&json!({"operator": "In"})),
            "In and NotIn need values",
        ),
        (
            "allow",
            selecting(&json!({"operator": "NotIn", "values": []})),
            "In and NotIn need values",
        ),
        (
            "allow",
            selecting(&json!({"operator": "Exists", "values": ["a"]})),
            "Exists and DoesNotExist have none",
        ),
        (
            "syncInterval",
            json!("30m1h"),
            "syncInterval must be a duration",
        ),
        (
            "syncInterval",
            json!("1m1m"),
            "syncInterval must be a duration",
        ),
    ] {
        refuses(&world, &good, field, &value, message).await;
    }
    for (field, value) in [
        ("syncInterval", json!("1h30m")),
        ("syncInterval", json!("1h30m5s")),
        ("syncInterval", json!("90s")),
        (
            "allow",
            selecting(&json!({"operator": "In", "values": ["a"]})),
        ),
        (
            "allow",
            selecting(&json!({"operator": "NotIn", "values": ["a", "b"]})),
        ),
        ("allow", selecting(&json!({"operator": "Exists"}))),
        (
            "allow",
            selecting(&json!({"operator": "DoesNotExist", "values": []})),
        ),
    ] {
        let mut spec = good.clone();
        spec[field] = value.clone();
        let accepted = create(&world, "Organization", &spec).await;
        assert!(accepted.is_ok(), "{field}: {value}: {accepted:?}");
    }
}

/// A rule for the namespaces whose label that expression selects.
fn selecting(expression: &Value) -> Value {
    let mut expression = expression.clone();
    expression["key"] = "team".into();
    json!([{
        "namespaceSelector": {"matchExpressions": [expression]},
        "roles": ["ORGANIZATION_MEMBER"],
    }])
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_change_is_refused_with_what_to_do_instead() {
    let world = World::prepare(json!({})).await;
    world.apply("jane", "jane@example.com").await;
    for (kind, name, patch, message) in [
        (
            "OrgInvite",
            "jane",
            json!({"spec": {"email": "joe@example.com"}}),
            "Create another OrgInvite for it and delete this one",
        ),
        (
            "OrgInvite",
            "jane",
            json!({"spec": {"organizationRef": {"name": "other"}}}),
            "organizationRef cannot be changed",
        ),
        (
            "Organization",
            world.organization.as_str(),
            json!({"spec": {"organizationId": "other"}}),
            "organizationId cannot be changed",
        ),
    ] {
        let refused = api(&world, kind)
            .patch(name, &PatchParams::default(), &Patch::Merge(&patch))
            .await;
        let refused = refused.map_err(|error| error.to_string());
        assert!(
            refused.as_ref().is_err_and(|error| error.contains(message)),
            "{patch}: {refused:?}"
        );
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn objects_can_be_selected_by_address() {
    let world = World::prepare(json!({})).await;
    world.apply("jane", "jane@example.com").await;
    world.apply("joe", "joe@example.com").await;
    let selected = world
        .invites()
        .list(&kube::api::ListParams::default().fields("spec.email=joe@example.com"))
        .await
        .unwrap();
    assert_eq!(selected.items.len(), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn without_definitions_or_rights_the_operator_says_what_to_do() {
    let plane = support::control_plane::ControlPlane::start().await.unwrap();
    let run = |kubeconfig: std::path::PathBuf| {
        tokio::task::spawn_blocking(move || {
            let output = std::process::Command::new(env!("CARGO_BIN_EXE_orginvite-operator"))
                .arg("run")
                .env("KUBECONFIG", kubeconfig)
                .output()
                .unwrap();
            assert!(!output.status.success());
            String::from_utf8(output.stderr).unwrap()
        })
    };
    let said = run(plane.kubeconfig().to_owned()).await.unwrap();
    assert!(
        said.contains("install the custom resource definitions first"),
        "{said}"
    );
    let said = run(plane.kubeconfig_for("nobody", None).unwrap())
        .await
        .unwrap();
    assert!(said.contains("does not let the operator list"), "{said}");
}
