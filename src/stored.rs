//! Objects as the cluster stores them, read so that no object keeps the others from being read.
//!
//! One object that cannot be read fails the list and the watch of all. Whoever may edit an object may
//! write its `metadata.managedFields`, with times that Kubernetes takes and that no `Timestamp` can hold, and
//! may fill its metadata up to a megabyte. What nothing here needs is not read at all.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Debug, Formatter};
use std::time::Duration;

use futures::{Stream, TryStreamExt};
use k8s_openapi::ByteString;
use k8s_openapi::api::core::v1::Secret;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::{ObjectMeta, Time};
use kube::api::{GetParams, ListParams};
use kube::core::{ObjectList, PartialObjectMeta, PartialObjectMetaExt, Request};
use kube::runtime::WatchStreamExt;
use kube::runtime::watcher::{self, Event};
use kube::{Api, Resource, ResourceExt as _};
use serde::de::{DeserializeOwned, IgnoredAny, MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};

use crate::resources::{OrgInvite, OrgInviteSpec, OrgInviteStatus};
use crate::resources::{Organization, OrganizationSpec, OrganizationStatus};
use crate::resources::{org_invite, organization};

/// How many objects a page of a list has: each may have 1.5 MB, and the page is read as a whole.
pub const PAGE: u32 = 32;
/// How many bytes of an object's finalizers are read, with what it costs to hold each.
const FINALIZERS: usize = 4096;
/// The annotations that mean something.
const ANNOTATIONS: [&str; 4] = [
    org_invite::ATTEMPT_ANNOTATION,
    org_invite::RESEND_ANNOTATION,
    org_invite::INVITE_ID_ANNOTATION,
    organization::ACKNOWLEDGE_ANNOTATION,
];
/// Stands for finalizers that were not read.
const ELIDED: &str = "";

/// An object that was read without its managed fields.
#[derive(Clone, Debug)]
pub struct Stored<K>(pub K);

#[derive(Deserialize)]
struct Parts<Spec, Status> {
    #[serde(default)]
    metadata: Metadata<IgnoredAny>,
    spec: Spec,
    #[serde(default = "Option::default")]
    status: Option<Status>,
}

type Labels = Option<BTreeMap<String, String>>;

/// What is read of `ObjectMeta`. A page of objects is held as it was read, so that nothing is in it that a person
/// may fill and nobody needs.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Metadata<L> {
    #[serde(deserialize_with = "our_annotations")]
    annotations: Option<BTreeMap<String, String>>,
    creation_timestamp: Option<Time>,
    deletion_timestamp: Option<Time>,
    #[serde(deserialize_with = "few_finalizers")]
    finalizers: Option<Vec<String>>,
    generation: Option<i64>,
    labels: L,
    name: Option<String>,
    namespace: Option<String>,
    resource_version: Option<String>,
    uid: Option<String>,
}

impl<L> From<Metadata<L>> for ObjectMeta {
    fn from(read: Metadata<L>) -> Self {
        Self {
            annotations: read.annotations,
            creation_timestamp: read.creation_timestamp,
            deletion_timestamp: read.deletion_timestamp,
            finalizers: read.finalizers,
            generation: read.generation,
            name: read.name,
            namespace: read.namespace,
            resource_version: read.resource_version,
            uid: read.uid,
            ..Self::default()
        }
    }
}

/// The annotations that are read.
fn our_annotations<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<BTreeMap<String, String>>, D::Error> {
    struct Ours;
    impl<'de> Visitor<'de> for Ours {
        type Value = BTreeMap<String, String>;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a map of texts")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(BTreeMap::new())
        }

        fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Self::Value, A::Error> {
            let mut ours = BTreeMap::new();
            while let Some(name) = map.next_key::<String>()? {
                if ANNOTATIONS.contains(&name.as_str()) {
                    ours.insert(name, map.next_value()?);
                } else {
                    map.next_value::<IgnoredAny>()?;
                }
            }
            Ok(ours)
        }
    }
    let ours = deserializer.deserialize_any(Ours)?;
    Ok(Some(ours).filter(|ours| !ours.is_empty()))
}

/// All finalizers, or, when they are too long, ours and [`ELIDED`].
fn few_finalizers<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Vec<String>>, D::Error> {
    struct Few;
    impl<'de> Visitor<'de> for Few {
        type Value = Vec<String>;

        fn expecting(&self, formatter: &mut Formatter<'_>) -> fmt::Result {
            formatter.write_str("a list of texts")
        }

        fn visit_unit<E>(self) -> Result<Self::Value, E> {
            Ok(Vec::new())
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut all: A) -> Result<Self::Value, A::Error> {
            let mut kept: Vec<String> = Vec::new();
            let mut room = FINALIZERS;
            while let Some(finalizer) = all.next_element::<String>()? {
                room = room.saturating_sub(finalizer.len() + size_of::<String>());
                if room > 0 || (is_ours(&finalizer) && !kept.contains(&finalizer)) {
                    kept.push(finalizer);
                }
            }
            if room == 0 {
                kept.retain(|finalizer| is_ours(finalizer));
                kept.push(ELIDED.to_owned());
            }
            kept.shrink_to_fit();
            Ok(kept)
        }
    }
    let kept = deserializer.deserialize_any(Few)?;
    Ok(Some(kept).filter(|kept| !kept.is_empty()))
}

/// Whether the finalizer is one of this operator's.
#[must_use]
pub fn is_ours(finalizer: &str) -> bool {
    [org_invite::FINALIZER, organization::FINALIZER].contains(&finalizer)
}

/// Whether some of the object's finalizers were not read; [`finalizers`] has them.
#[must_use]
pub fn is_elided<K: Resource>(object: &K) -> bool {
    object
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == ELIDED)
}

/// All finalizers of the object, those that were not read from the API server; `None` when it is not as it was
/// any more.
pub async fn finalizers<'a, K>(
    api: &Api<Stored<K>>,
    object: &'a K,
) -> Result<Option<Cow<'a, [String]>>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone,
{
    #[derive(Deserialize)]
    #[serde(rename_all = "camelCase")]
    struct Whole {
        resource_version: Option<String>,
        #[serde(default)]
        finalizers: Vec<String>,
    }
    #[derive(Deserialize)]
    struct Object {
        metadata: Whole,
    }
    if !is_elided(object) {
        return Ok(Some(Cow::Borrowed(object.finalizers())));
    }
    let request = Request::new(api.resource_url())
        .get_metadata(&object.name_any(), &GetParams::default())
        .map_err(kube::Error::BuildRequest)?;
    match api.clone().into_client().request(request).await {
        Ok(Object { metadata }) => {
            let same = metadata.resource_version == object.resource_version();
            Ok(same.then_some(Cow::Owned(metadata.finalizers)))
        }
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(None),
        Err(error) => Err(error),
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
            metadata: Metadata<IgnoredAny>,
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

#[derive(Deserialize)]
struct Only<L: Default> {
    #[serde(default)]
    metadata: Metadata<L>,
}

/// With its labels.
impl<'de, K> Deserialize<'de> for Stored<PartialObjectMeta<K>>
where
    K: Resource<DynamicType = ()>,
{
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut read = Only::<Labels>::deserialize(deserializer)?.metadata;
        let labels = read.labels.take();
        let metadata = ObjectMeta {
            labels,
            ..read.into()
        };
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
    fn metadata_api() -> bool {
        K::metadata_api()
    }
    fn meta(&self) -> &ObjectMeta {
        self.0.meta()
    }
    fn meta_mut(&mut self) -> &mut ObjectMeta {
        self.0.meta_mut()
    }
}

/// For how long the API server keeps a watch open. One whose connection is dead is noticed somewhat later.
pub const WATCH: Duration = Duration::from_mins(1);

/// Watches what `api` is for, and begins again with growing delays after a failure.
pub fn watch<K>(
    api: Api<Stored<K>>,
    config: watcher::Config,
) -> impl Stream<Item = watcher::Result<Event<K>>> + Send
where
    K: Resource + Clone + Debug + Send + 'static,
    Stored<K>: Resource + DeserializeOwned,
{
    let seconds = u32::try_from(WATCH.as_secs()).unwrap_or(u32::MAX);
    watcher::watcher(api, config.page_size(PAGE).timeout(seconds))
        .default_backoff()
        .map_ok(|event| match event {
            Event::Apply(object) => Event::Apply(object.0),
            Event::Delete(object) => Event::Delete(object.0),
            Event::Init => Event::Init,
            Event::InitApply(object) => Event::InitApply(object.0),
            Event::InitDone => Event::InitDone,
        })
}

/// What a list of metadata tells of an object: no labels.
#[derive(Clone, Debug)]
pub struct Listed(pub ObjectMeta);

impl<'de> Deserialize<'de> for Listed {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let read = Only::<IgnoredAny>::deserialize(deserializer)?;
        Ok(Self(read.metadata.into()))
    }
}

/// One page of the metadata of what `api` is for.
pub async fn list_metadata<K>(
    api: &Api<K>,
    params: &ListParams,
) -> Result<ObjectList<Listed>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let request = Request::new(api.resource_url())
        .list_metadata(params)
        .map_err(kube::Error::BuildRequest)?;
    api.clone().into_client().request(request).await
}
