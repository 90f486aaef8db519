//! What users write: the custom resources, their schema and their validation.

pub mod address;
pub mod conditions;
pub mod org_invite;
pub mod organization;
pub mod reason;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::{
    CustomResourceDefinition, JSONSchemaProps,
};
use kube::CustomResourceExt;
use serde::de::IgnoredAny;
use serde::{Deserialize, Deserializer};

pub use address::Address;
pub use org_invite::{OrgInvite, OrgInviteSpec, OrgInviteStatus};
pub use organization::{Organization, OrganizationSpec, OrganizationStatus};
pub use reason::Reason;

/// API group of both resources.
pub const GROUP: &str = "iam.astronomer.io";

/// The custom resource definitions, as `orginvite-operator crd` prints them and `crds/` holds them.
#[must_use]
pub fn crds() -> Vec<CustomResourceDefinition> {
    vec![
        with_status_default(OrgInvite::crd()),
        with_status_default(Organization::crd()),
    ]
}

/// The custom resource definitions as one YAML stream.
pub fn crds_yaml() -> Result<String, serde_yaml_ng::Error> {
    crds()
        .iter()
        .map(|crd| Ok(format!("---\n{}", serde_yaml_ng::to_string(crd)?)))
        .collect()
}

/// Gives `status` the default `{observedGeneration: -1}`, so that tools that compute an object's
/// health (kstatus) read a new object as in progress and not as done.
fn with_status_default(mut crd: CustomResourceDefinition) -> CustomResourceDefinition {
    for version in &mut crd.spec.versions {
        let status: Option<&mut JSONSchemaProps> = version
            .schema
            .as_mut()
            .and_then(|schema| schema.open_api_v3_schema.as_mut())
            .and_then(|root| root.properties.as_mut())
            .and_then(|properties| properties.get_mut("status"));
        if let Some(status) = status {
            status.nullable = None;
            status.default = Some(
                k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::JSON(
                    serde_json::json!({"observedGeneration": -1}),
                ),
            );
        }
    }
    crd
}

/// A value of a status that cannot be read counts as absent: a time that no `Timestamp` can hold, a
/// value of another version of the definitions. One object that cannot be read would keep all of them
/// from being read.
fn readable<'de, T, D>(deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de> + Default,
    D: Deserializer<'de>,
{
    Ok(Readable::deserialize(deserializer)?
        .value()
        .unwrap_or_default())
}

/// The same, with a value for what cannot be read.
fn readable_or<'de, T, D>(unreadable: T, deserializer: D) -> Result<T, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    Ok(Readable::deserialize(deserializer)?
        .value()
        .unwrap_or(unreadable))
}

/// The same for each value of a list.
fn readable_ones<'de, T, D>(deserializer: D) -> Result<Vec<T>, D::Error>
where
    T: Deserialize<'de>,
    D: Deserializer<'de>,
{
    let all: Option<Vec<Readable<T>>> = readable(deserializer)?;
    let all = all.unwrap_or_default().into_iter();
    Ok(all.filter_map(Readable::value).collect())
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Readable<T> {
    Value(T),
    Other(IgnoredAny),
}

impl<T> Readable<T> {
    fn value(self) -> Option<T> {
        match self {
            Self::Value(value) => Some(value),
            Self::Other(_) => None,
        }
    }
}
