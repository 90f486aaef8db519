//! Generated files are what the types say.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod command_line;
mod complete;
mod reference;
mod schema;
mod source;

use std::path::Path;

use orginvite_operator::resources::crds;

/// `UPDATE=1 cargo test` writes them.
#[test]
fn the_definitions_in_crds_are_those_of_the_types() {
    for crd in crds() {
        let name = crd.metadata.name.clone().unwrap();
        let path = Path::new(env!("CARGO_MANIFEST_DIR"))
            .join("crds")
            .join(format!("{name}.yaml"));
        let text = serde_yaml_ng::to_string(&crd).unwrap();
        if std::env::var_os("UPDATE").is_some() {
            std::fs::write(&path, &text).unwrap();
        }
        let kept = std::fs::read_to_string(&path).unwrap_or_default();
        assert!(
            kept == text,
            "{} is stale: run `make generate`",
            path.display()
        );
    }
}

#[test]
fn the_reference_in_docs_is_what_the_code_says() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/reference.md");
    let page = reference::page();
    if std::env::var_os("UPDATE").is_some() {
        std::fs::write(&path, &page).unwrap();
    }
    let kept = std::fs::read_to_string(&path).unwrap_or_default();
    assert!(
        kept == page,
        "{} is stale: run `make generate`",
        path.display()
    );
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
