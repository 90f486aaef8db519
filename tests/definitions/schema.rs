//! What the custom resource definitions say.

use std::fmt::Write as _;

use orginvite_operator::resources::{GROUP, crds};
use serde_json::Value;

use crate::reference::{marked, named, table};

/// Types of Kubernetes itself, which its own reference describes.
const STANDARD: [(&str, &str); 2] = [
    (
        "namespaceSelector",
        "[label selector](https://kubernetes.io/docs/concepts/overview/working-with-objects/labels/#label-selectors)",
    ),
    (
        "conditions",
        "list of [conditions](https://github.com/kubernetes/community/blob/master/contributors/devel/sig-architecture/api-conventions.md#typical-status-properties)",
    ),
];

/// A field; what must be given comes first.
pub struct Field {
    /// From the part on, such as `spec.organizationRef.name`.
    pub path: String,
    schema: Value,
    required: bool,
}

impl Field {
    /// What it means.
    pub fn description(&self) -> &Value {
        &self.schema["description"]
    }
}

fn definition(kind: &str) -> Value {
    let crds = crds();
    let crd = crds.iter().find(|crd| crd.spec.names.kind == kind);
    serde_json::to_value(&crd.unwrap().spec).unwrap()
}

fn version(kind: &str) -> Value {
    definition(kind)["versions"][0].clone()
}

/// All fields of `spec` or `status`.
pub fn all_fields(kind: &str, part: &str) -> Vec<Field> {
    fn walk(path: &str, schema: &Value, found: &mut Vec<Field>) {
        let is_required = |name: &String| {
            let required = schema["required"].as_array();
            required.is_some_and(|names| names.iter().any(|one| one == name))
        };
        let properties = schema["properties"].as_object().into_iter().flatten();
        let mut properties: Vec<_> = properties.collect();
        properties.sort_by_key(|(name, _)| !is_required(name));
        for (name, property) in properties {
            let required = is_required(name);
            let path = format!("{path}.{name}");
            found.push(Field {
                path: path.clone(),
                schema: property.clone(),
                required,
            });
            if STANDARD.iter().all(|(standard, _)| standard != name) {
                walk(&path, property, found);
                walk(&format!("{path}[]"), &property["items"], found);
            }
        }
    }
    let schema = &version(kind)["schema"]["openAPIV3Schema"]["properties"][part];
    let mut found = Vec::new();
    walk(part, schema, &mut found);
    found
}

/// How the resource is called.
pub fn names(kind: &str) -> String {
    let spec = definition(kind);
    let list = |name: &str| {
        let values = spec["names"][name].as_array().into_iter().flatten();
        let values: Vec<String> = values.map(code).collect();
        if values.is_empty() {
            "none".to_owned()
        } else {
            values.join(", ")
        }
    };
    let version = spec["versions"][0]["name"].as_str().unwrap();
    table(
        &["apiVersion", "Plural", "Short name", "Category", "Scope"],
        [vec![
            format!("`{GROUP}/{version}`"),
            code(&spec["names"]["plural"]),
            list("shortNames"),
            list("categories"),
            spec["scope"].as_str().unwrap().to_owned(),
        ]],
    )
}

/// The table of all fields of `spec` or `status`.
pub fn fields(kind: &str, part: &str) -> String {
    let rows = all_fields(kind, part).into_iter().map(|field| {
        let description = field.description().as_str().unwrap_or_default();
        let mut row = vec![
            named(
                &anchor_of(kind, &field.path),
                &format!("`{}`", field.path.split_once('.').unwrap().1),
            ),
            kind_of(&field.path, &field.schema),
            marked(description),
        ];
        if part == "spec" {
            row.insert(2, default_of(&field));
        }
        row
    });
    let head: &[&str] = if part == "spec" {
        &["Field", "Type", "Default", "Description"]
    } else {
        &["Field", "Type", "Description"]
    };
    table(head, rows)
}

/// The anchor of a field.
pub fn anchor_of(kind: &str, path: &str) -> String {
    format!("{kind}.{}", path.replace("[]", "")).to_lowercase()
}

fn default_of(field: &Field) -> String {
    match &field.schema["default"] {
        Value::Null if field.required => "**required**".to_owned(),
        Value::Null => "none".to_owned(),
        default => code(default),
    }
}

fn kind_of(path: &str, schema: &Value) -> String {
    let standard = STANDARD
        .iter()
        .find(|(name, _)| path.ends_with(&format!(".{name}")));
    if let Some((_, standard)) = standard {
        return (*standard).to_owned();
    }
    let kind = schema["type"].as_str().unwrap();
    if let Some(values) = schema["enum"].as_array() {
        if values.iter().any(|value| value == "ORGANIZATION_OWNER") {
            return "[role](#roles)".to_owned();
        }
        let values: Vec<String> = values.iter().map(code).collect();
        return values.join(", ");
    }
    let mut text = match (kind, schema["format"].as_str()) {
        ("string", Some("date-time")) => "time".to_owned(),
        ("array", _) => format!("list of {}", plural(&kind_of(path, &schema["items"]))),
        _ => kind.to_owned(),
    };
    let number = |name: &str| schema[name].as_f64();
    if let Some(least) = number("minimum") {
        write!(text, ", {least} or more").unwrap();
    }
    if let Some(most) = number("maximum") {
        write!(text, ", {most} at most").unwrap();
    }
    if let Some(most) = number("maxLength") {
        write!(text, ", {most} characters at most").unwrap();
    }
    if let Some(most) = number("maxItems") {
        write!(text, ", {most} at most").unwrap();
    }
    text
}

/// Several of a kind.
fn plural(kind: &str) -> String {
    match kind.split_once(", ") {
        Some((noun, limits)) => format!("{noun}s ({limits} each)"),
        None if kind.ends_with(')') => kind.replacen(']', "s]", 1),
        None => format!("{kind}s"),
    }
}

/// What the API server answers to a manifest that breaks a rule.
pub fn refusals(kind: &str) -> String {
    let rows = all_fields(kind, "spec").into_iter().flat_map(|field| {
        let of_items = &field.schema["items"]["x-kubernetes-validations"];
        let rules = [&field.schema["x-kubernetes-validations"], of_items];
        let rules: Vec<Value> = rules
            .into_iter()
            .filter_map(Value::as_array)
            .flatten()
            .cloned()
            .collect();
        rules.into_iter().map(move |rule| {
            let immutable = rule["rule"] == "self == oldSelf";
            vec![
                format!("[`{}`](#{})", field.path, anchor_of(kind, &field.path)),
                if immutable { "an edit" } else { "any manifest" }.to_owned(),
                rule["message"].as_str().unwrap().to_owned(),
            ]
        })
    });
    table(&["Field", "Refused at", "Message"], rows)
}

/// The columns of `kubectl get`.
pub fn columns(kind: &str) -> String {
    let version = version(kind);
    let columns = version["additionalPrinterColumns"].as_array().unwrap();
    table(
        &["Column", "Shown with", "From"],
        columns.iter().map(|column| {
            let wide = column["priority"].as_i64().unwrap_or_default() > 0;
            vec![
                column["name"].as_str().unwrap().to_uppercase(),
                if wide { "`-o wide`" } else { "always" }.to_owned(),
                code(&column["jsonPath"]),
            ]
        }),
    )
}

/// The fields that `--field-selector` knows.
pub fn selectable(kind: &str) -> String {
    let version = version(kind);
    let fields = version["selectableFields"].as_array().into_iter().flatten();
    let fields: Vec<String> = fields
        .map(|field| {
            let path = field["jsonPath"].as_str().unwrap();
            format!("`{}`", path.trim_start_matches('.'))
        })
        .collect();
    format!("{}.\n", fields.join(", "))
}

/// The roles, with how Astro's pages call them.
pub fn roles() -> String {
    let fields = all_fields("OrgInvite", "spec");
    let role = fields.iter().find(|field| field.path == "spec.role");
    let roles = role.unwrap().schema["enum"].as_array().unwrap();
    table(
        &["Role", "In Astro"],
        roles.iter().map(|role| {
            let words = role.as_str().unwrap().split('_').map(|word| {
                let (first, rest) = word.split_at(1);
                format!("{first}{}", rest.to_lowercase())
            });
            vec![code(role), words.collect::<Vec<_>>().join(" ")]
        }),
    )
}

fn code(value: &Value) -> String {
    match value {
        Value::String(text) => format!("`{text}`"),
        other => format!("`{other}`"),
    }
}
