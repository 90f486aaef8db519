//! The chart without a cluster: what it renders, and what it refuses.

use serde_json::{Value, json};

use crate::chart::{documents, find, render};
use crate::tools::{Helm, project};

/// The start of `deploy/install.yaml`.
const HEADER: &str = "\
# The operator without helm, made from deploy/chart by `make generate`:
#
#   kubectl apply --server-side --filename crds --filename deploy/install.yaml
#
# Nothing here is a definition or an Organization, so that deleting what is here deletes neither. Before that,
# `orginvite-operator check-uninstall` says whether anything still needs the operator.
---
apiVersion: v1
kind: Namespace
metadata:
  name: orginvite-operator
  labels:
    pod-security.kubernetes.io/enforce: restricted
";

#[tokio::test]
async fn helm_lint_finds_nothing() {
    let helm = Helm::alone().await;
    let chart = project("deploy/chart");
    let everything = project("tests/packaging/everything.yaml");
    for more in [
        &[][..],
        &["--values", everything.to_str().unwrap()][..],
        &["--set", "serviceAccount.create=false,serviceAccount.name=x"][..],
    ] {
        let mut arguments = vec!["lint", "--strict", "--quiet", chart.to_str().unwrap()];
        arguments.extend(more);
        let said = helm.run(&arguments).await.printed();
        assert_eq!(said.trim(), "", "{more:?}");
    }
}

/// A pruned Organization cannot be taken back: helm and Argo CD have a word of their own for that each.
#[tokio::test]
async fn an_organization_of_the_values_is_kept() {
    let helm = Helm::alone().await;
    let everything = project("tests/packaging/everything.yaml");
    let more = ["--values", everything.to_str().unwrap()];
    let text = render(&helm, "everything", "somewhere", &more).await;
    let organization = find(&documents(&text), "Organization", "everything").clone();
    let annotations = &organization["metadata"]["annotations"];
    assert_eq!(annotations["helm.sh/resource-policy"], "keep");
    let argo = &annotations["argocd.argoproj.io/sync-options"];
    assert_eq!(argo, "Prune=false,Delete=false");
}

/// `UPDATE=1` writes it.
#[tokio::test]
async fn generated_the_plain_manifests_are_those_of_the_chart() {
    let helm = Helm::alone().await;
    let rendered = render(
        &helm,
        "orginvite-operator",
        "orginvite-operator",
        &["--no-hooks", "--skip-tests"],
    )
    .await;
    let mut text = HEADER.to_owned();
    for line in rendered.lines() {
        // Helm has no part in them.
        let of_helm = [
            "app.kubernetes.io/managed-by:",
            "helm.sh/chart:",
            "# Source:",
        ];
        if !line.is_empty() && !of_helm.iter().any(|start| line.trim().starts_with(start)) {
            text.push_str(line);
            text.push('\n');
        }
    }
    let path = project("deploy/install.yaml");
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} is stale: run `make generate`",
        path.display()
    );
    let kinds: Vec<_> = documents(&text)
        .iter()
        .map(|document| document["kind"].as_str().unwrap().to_owned())
        .collect();
    assert!(!kinds.contains(&"CustomResourceDefinition".to_owned()));
    assert!(kinds.contains(&"Deployment".to_owned()), "{kinds:?}");
}

/// The chart refuses an Organization that the API server would refuse. `UPDATE=1` writes it.
#[test]
fn generated_the_schema_of_an_organization_is_that_of_its_definition() {
    let path = project("deploy/chart/values.schema.json");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut schema: Value = serde_json::from_str(&text).unwrap();
    let definition = orginvite_operator::resources::crds()
        .into_iter()
        .find(|crd| crd.spec.names.kind == "Organization")
        .unwrap();
    let definition = serde_json::to_value(definition).unwrap();
    let spec =
        &definition["spec"]["versions"][0]["schema"]["openAPIV3Schema"]["properties"]["spec"];
    schema["definitions"]["organization"] = closed(spec.clone());
    let expected = serde_json::to_string_pretty(&schema).unwrap() + "\n";
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &expected).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap();
    assert!(
        kept == expected,
        "{} is stale: run `make generate`",
        path.display()
    );
}

/// A definition's schema as JSON Schema, in which a field that is not named is a mistake.
fn closed(mut schema: Value) -> Value {
    if let Some(fields) = schema.as_object_mut() {
        fields.retain(|name, _| !name.starts_with("x-kubernetes-") && name != "nullable");
        if fields.contains_key("properties") {
            fields.insert("additionalProperties".to_owned(), json!(false));
        }
        for (name, field) in fields {
            match name.as_str() {
                "properties" => {
                    for property in field.as_object_mut().unwrap().values_mut() {
                        *property = closed(property.take());
                    }
                }
                "items" => *field = closed(field.take()),
                _ => {}
            }
        }
    }
    schema
}

#[tokio::test]
async fn the_version_is_that_of_the_program() {
    let text = std::fs::read_to_string(project("deploy/chart/Chart.yaml")).unwrap();
    let chart: Value = serde_yaml_ng::from_str(&text).unwrap();
    assert_eq!(chart["appVersion"], env!("CARGO_PKG_VERSION"));
    let helm = Helm::alone().await;
    let documents = documents(&render(&helm, "x", "y", &[]).await);
    let pod = &find(&documents, "Deployment", "x-orginvite-operator")["spec"]["template"]["spec"];
    assert_eq!(
        pod["containers"][0]["image"],
        concat!("orginvite-operator:", env!("CARGO_PKG_VERSION"))
    );
}

#[tokio::test]
async fn bad_values_are_refused() {
    let helm = Helm::alone().await;
    let chart = project("deploy/chart");
    let organization = "organizations.default={\"organizationId\":\"a\",\"tokenSecretRef\":{\"name\":\"t\"},\"allow\":[]}";
    for (value, path) in [
        // A secret does not belong here, and a misspelt name is no value.
        ("token=\"abc\"", "'token' not allowed"),
        ("replicas=2", "'replicas' not allowed"),
        ("operator.astroURL=\"https://x\"", "'astroURL' not allowed"),
        ("replicaCount=\"2\"", "/replicaCount"),
        ("replicaCount=-1", "/replicaCount"),
        ("image.repository=\"\"", "/image/repository"),
        ("image.repository=\"x@sha256:1\"", "/image/repository"),
        ("image.tag=\"a b\"", "/image/tag"),
        ("image.digest=\"latest\"", "/image/digest"),
        ("image.pullPolicy=\"Sometimes\"", "/image/pullPolicy"),
        (
            "operator.astroUrl=\"http://astro.example.com\"",
            "/operator/astroUrl",
        ),
        ("operator.settle=\"soon\"", "/operator/settle"),
        ("operator.settle=90", "/operator/settle"),
        ("operator.postsPerSecond=0.5", "/operator/postsPerSecond"),
        ("operator.logFormat=\"xml\"", "/operator/logFormat"),
        ("operator.adminPort=99999", "/operator/adminPort"),
        (
            "operator.organizations=\"default\"",
            "/operator/organizations",
        ),
        (
            "operator.organizations=[\"a,b\"]",
            "/operator/organizations/0",
        ),
        (
            "operator.authorities={\"configMap\":\"a b\"}",
            "/operator/authorities/configMap",
        ),
        ("networkPolicy.egressPorts=[]", "/networkPolicy/egressPorts"),
        ("rbac.aggregateToEdit=\"no\"", "/rbac/aggregateToEdit"),
        ("organizations=[]", "/organizations"),
        ("organizations.default={}", "/organizations/default"),
        (
            "organizations.Default={\"organizationId\":\"a\",\"tokenSecretRef\":{\"name\":\"t\"},\"allow\":[]}",
            "invalid propertyName 'Default'",
        ),
        (
            "organizations.default={\"organizationId\":\"a\",\"tokenSecretRef\":{\"name\":\"t\"},\"allow\":[],\"token\":\"abc\"}",
            "'token' not allowed",
        ),
        (
            "organizations.default={\"organizationId\":\"a\",\"tokenSecretRef\":{\"name\":\"t\"},\"allow\":[{\"roles\":[\"OWNER\"]}]}",
            "/organizations/default/allow/0/roles/0",
        ),
    ] {
        let arguments = ["template", chart.to_str().unwrap(), "--set-json", value];
        let refusal = helm.run(&arguments).await.refusal();
        assert!(
            refusal.contains("values don't meet the specifications") && refusal.contains(path),
            "{value}: {refusal}"
        );
    }
    let refusal = helm
        .run(&[
            "template",
            chart.to_str().unwrap(),
            "--set",
            "serviceAccount.create=false",
        ])
        .await
        .refusal();
    assert!(
        refusal.contains("serviceAccount.name is needed"),
        "{refusal}"
    );
    // The same arguments without the mistake.
    for value in [
        organization,
        "replicaCount=3",
        "operator.settle=\"1m30s\"",
        "global={\"a\":1}",
    ] {
        helm.run(&["template", chart.to_str().unwrap(), "--set-json", value])
            .await
            .printed();
    }
}

#[tokio::test]
async fn people_get_rights_to_invite_only_by_a_value() {
    let helm = Helm::alone().await;
    let aggregated = |text: &str, to: &str| {
        let label = format!("rbac.authorization.k8s.io/aggregate-to-{to}");
        documents(text)
            .iter()
            .filter(|document| document["metadata"]["labels"][&label] == "true")
            .map(|document| document["metadata"]["name"].as_str().unwrap().to_owned())
            .collect::<Vec<_>>()
    };
    let text = render(&helm, "orginvite-operator", "y", &[]).await;
    assert_eq!(aggregated(&text, "view"), ["orginvite-operator-view"]);
    assert_eq!(aggregated(&text, "edit"), Vec::<String>::new());
    assert_eq!(aggregated(&text, "admin"), Vec::<String>::new());
    let text = render(
        &helm,
        "orginvite-operator",
        "y",
        &[
            "--set",
            "rbac.aggregateToEdit=true,rbac.aggregateToView=false",
        ],
    )
    .await;
    assert_eq!(aggregated(&text, "view"), Vec::<String>::new());
    assert_eq!(aggregated(&text, "edit"), ["orginvite-operator-edit"]);
    assert_eq!(aggregated(&text, "admin"), ["orginvite-operator-edit"]);
}
