//! Objects as the cluster stores them, read so that no object keeps the others from being read.
//!
//! One object that cannot be read fails the list and the watch of all. Whoever may edit an object may
//! write its `metadata.managedFields`, with times that Kubernetes takes and that no `Timestamp` can hold.
//! Nothing here needs them, so that they are not read at all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::Debug;

use futures::{Stream, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, OwnerReference, Time};
use kube::api::ListParams;
use kube::core::{ObjectList, PartialObjectMeta, PartialObjectMetaExt, Request};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource};
use serde::de::DeserializeOwned;
use serde::{Deserialize, Deserializer};

use crate::resources::{OrgInvite, OrgInviteSpec, OrgInviteStatus};
use crate::resources::{Organization, OrganizationSpec, OrganizationStatus};

/// How many objects a page of a list has: each may have 1.5 MB, and the page is read as a whole.
pub const PAGE: u32 = 32;

/// An object that was read without its managed fields.
#[derive(Clone, Debug)]
pub struct Stored<K>(pub K);

#[derive(Deserialize)]
struct Parts<Spec, Status> {
    #[serde(default)]
    metadata: Metadata,
    spec: Spec,
    #[serde(default = "Option::default")]
    status: Option<Status>,
}

#[derive(Deserialize)]
struct OnlyMetadata {
    #[serde(default)]
    metadata: Metadata,
}

/// `ObjectMeta` but for its managed fields.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata {
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_grace_period_seconds: Option<i64>,
    deletion_timestamp: Option<Time>,
    finalizers: Option<Vec<String>>,
    generate_name: Option<String>,
    generation: Option<i64>,
    labels: Option<BTreeMap<String, String>>,
    name: Option<String>,
    namespace: Option<String>,
    owner_references: Option<Vec<OwnerReference>>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl From<Metadata> for ObjectMeta {
    fn from(read: Metadata) -> Self {
        Self {
            annotations: read.annotations,
            creation_timestamp: read.creation_timestamp,
            deletion_grace_period_seconds: read.deletion_grace_period_seconds,
            deletion_timestamp: read.deletion_timestamp,
            finalizers: read.finalizers,
            generate_name: read.generate_name,
            generation: read.generation,
            labels: read.labels,
            name: read.name,
            namespace: read.namespace,
            owner_references: read.owner_references,
            resource_version: read.resource_version,
            uid: read.uid,
            ..Self::default()
        }
    }
}

impl<'de> Deserialize<'de> for Stored<OrgInvite> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::<OrgInviteSpec, OrgInviteStatus>::deserialize(deserializer)?;
        Ok(Self(OrgInvite {
            metadata: parts.metadata.into(),
            spec: parts.spec,
            status: parts.status,
        }))
    }
}

impl<'de> Deserialize<'de> for Stored<Organization> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let parts = Parts::<OrganizationSpec, OrganizationStatus>::deserialize(deserializer)?;
        Ok(Self(Organization {
            metadata: parts.metadata.into(),
            spec: parts.spec,
            status: parts.status,
        }))
    }
}

/// Only the data. The client logs an answer that cannot be read, which is no place for a token.
impl<'de> Deserialize<'de> for Stored<Secret> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        #[derive(Deserialize)]
        struct Parts {
            metadata: Metadata,
            data: Option<BTreeMap<String, ByteString>>,
        }
        let parts = Parts::deserialize(deserializer)?;
        Ok(Self(Secret {
            metadata: parts.metadata.into(),
            data: parts.data,
            ..Secret::default()
        }))
    }
}

impl<'de, K> Deserialize<'de> for Stored<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let metadata: ObjectMeta = OnlyMetadata::deserialize(deserializer)?.metadata.into();
        Ok(Self(metadata.into_response_partial()))
    }
}

impl<K: Resource> Resource for Stored<K> {
    type DynamicType = K::DynamicType;
    type Scope = K::Scope;

    fn kind(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::kind(kind)
    }
    fn group(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::group(kind)
    }
    fn version(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::version(kind)
    }
    fn plural(kind: &Self::DynamicType) -> Cow<'_, str> {
        K::plural(kind)
    }
    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// Watches what `api` is for, and begins again with growing delays after a failure.
pub fn watch<K>(
    api: Api<Stored<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + Debug + Send + 'static,
    Stored<K>: Resource + DeserializeOwned,
{
    watcher::watcher(api, config)
        .default_backoff()
        .map_ok(|event| match event {
            Event::Apply(object) => Event::Apply(object.0),
            Event::Delete(object) => Event::Delete(object.0),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(object.0),
            Event::InitDone => Event::InitDone,
        })
}

/// One page of the metadata of what `api` is for.
pub async fn list_metadata<K>(
    api: &Api<K>,
    params: &ListParams,
) -> Result<ObjectList<Stored<PartialObjectMeta<K>>>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let request = Request::new(api.resource_url())
        .list_metadata(params)
        .map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request(request).await
}
