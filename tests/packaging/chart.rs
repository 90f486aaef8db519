//! What the chart renders.

use serde::Deserialize;
use serde_json::Value;

use crate::tools::{Helm, project};

/// The documents of a YAML stream that are not empty.
pub fn documents(text: &str) -> Vec<Value> {
    serde_yaml_ng::Deserializer::from_str(text)
        .map(|document| Value::deserialize(document).unwrap())
        .filter(|document| !document.is_null())
        .collect()
}

/// What `helm template` prints for the chart, with more arguments.
pub async fn render(helm: &Helm, release: &str, namespace: &str, more: &[&str]) -> String {
    let chart = project("deploy/chart");
    let mut arguments = vec![
        "template",
        release,
        chart.to_str().unwrap(),
        "--namespace",
        namespace,
    ];
    arguments.extend(more);
    helm.run(&arguments).await.printed()
}

/// The only document of that kind and name.
pub fn find<'a>(documents: &'a [Value], kind: &str, name: &str) -> &'a Value {
    let mut found = documents
        .iter()
        .filter(|document| document["kind"] == kind && document["metadata"]["name"] == name);
    let first = found
        .next()
        .unwrap_or_else(|| panic!("there is no {kind} {name}"));
    assert!(found.next().is_none(), "there are several {kind} {name}");
    first
}
