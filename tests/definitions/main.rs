//! Generated files are what the types say.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod command_line;
mod complete;
mod reference;
mod schema;
mod source;

use std::path::Path;

use orginvite_operator::metrics::families;
use orginvite_operator::resources::crds;

/// The file at `path` holds `text`. `UPDATE=1 cargo test` writes it.
fn is_kept(path: &str, text: &str) {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(path);
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, text).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == text,
        "{} is stale: run `make generate`",
        path.display()
    );
}

/// In `crds/`, and once more where helm looks for them.
#[test]
fn the_definitions_in_crds_are_those_of_the_types() {
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        let text = serde_yaml_ng::to_string(&crd).unwrap();
        for directory in ["crds", "deploy/chart/crds"] {
            is_kept(&format!("{directory}/{name}.yaml"), &text);
        }
    }
}

#[test]
fn the_metrics_in_docs_are_those_of_the_code() {
    let text = format!(
        "# Metrics\n\nServed at `/metrics` of `--admin-address`, as OpenMetrics or as Prometheus text. This list is\ngenerated from `src/metrics/families.rs`. `resource` is OrgInvite or Organization, `organization`\nthe name of an Organization; what belongs to a deleted one is not shown any longer. No label holds\nan e-mail address, or anything else that the writer of an OrgInvite chooses.\n\n{}",
        families::reference()
    );
    is_kept("docs/metrics.md", &text);
}

#[test]
fn the_reference_in_docs_is_what_the_code_says() {
    is_kept("docs/reference.md", &reference::page());
}

#[test]
fn every_field_has_a_description() {
    fn walk(path: &str, schema: &serde_json::Value, missing: &mut Vec<String>) {
        for (name, property) in schema["properties"].as_object().into_iter().flatten() {
            let path = format!("{path}.{name}");
            if property["description"].as_str().is_none_or(str::is_empty) {
                missing.push(path.clone());
            }
            walk(&path, property, missing);
            walk(&format!("{path}[]"), &property["items"], missing);
        }
    }
    let mut missing = Vec::new();
    for crd in crds() {
        let schema = serde_json::to_value(
            &crd.spec.versions[0]
                .schema
                .as_ref()
                .unwrap()
                .open_api_v3_schema,
        )
        .unwrap();
        walk(&crd.spec.names.kind, &schema, &mut missing);
    }
    assert_eq!(missing, Vec::<String>::new());
}
