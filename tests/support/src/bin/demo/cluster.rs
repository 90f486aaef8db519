//! What a person does with kubectl.

use std::time::Duration;

use anyhow::{Context, bail};
use k8s_openapi::api::events::v1::Event;
use kube::Api;
use kube::api::{DeleteParams, DynamicObject, ListParams, Patch, PatchParams};
use kube::core::{ApiResource, GroupVersionKind};
use serde::Deserialize;
use serde_json::Value;

use crate::stage::{NAMESPACE, Stage};

/// How long a step of the story may take.
const DEADLINE: Duration = Duration::from_secs(30);
const PAUSE: Duration = Duration::from_millis(50);

/// Waits for something that has to come soon.
pub async fn in_time<T>(what: &str, wait: impl Future<Output = T>) -> anyhow::Result<T> {
    tokio::time::timeout(DEADLINE, wait)
        .await
        .with_context(|| format!("not within {} s: {what}", DEADLINE.as_secs()))
}

/// A field of a status, as text; empty when it is absent.
pub fn status<'a>(object: &'a DynamicObject, field: &str) -> &'a str {
    object.data["status"][field].as_str().unwrap_or_default()
}

/// The conditions of an object.
pub fn conditions(object: &DynamicObject) -> impl Iterator<Item = &Value> {
    let conditions = object.data["status"]["conditions"].as_array();
    conditions.into_iter().flatten()
}

/// The name in a manifest.
pub fn name(manifest: &Value) -> &str {
    manifest["metadata"]["name"].as_str().unwrap_or_default()
}

impl Stage {
    /// The manifests of a sample.
    pub fn manifests(&self, file: &str) -> anyhow::Result<Vec<Value>> {
        let text = std::fs::read_to_string(self.root.join("deploy/samples").join(file))?;
        serde_yaml_ng::Deserializer::from_str(&text)
            .map(|document| Ok(Value::deserialize(document)?))
            .collect()
    }

    /// The resource.
    pub fn api(&self, kind: &str) -> Api<DynamicObject> {
        let resource = ApiResource::from_gvk(&GroupVersionKind::gvk(
            "iam.astronomer.io",
            "v1alpha1",
            kind,
        ));
        match kind {
            "OrgInvite" => Api::namespaced_with(self.client.clone(), NAMESPACE, &resource),
            _ => Api::all_with(self.client.clone(), &resource),
        }
    }

    /// What `kubectl apply --server-side` does.
    pub async fn apply(&self, manifest: &Value) -> anyhow::Result<()> {
        let kind = manifest["kind"].as_str().unwrap_or_default();
        match self
            .api(kind)
            .patch(
                name(manifest),
                &PatchParams::apply("demo").force(),
                &Patch::Apply(manifest),
            )
            .await
        {
            Ok(_) => Ok(()),
            Err(kube::Error::Api(status)) => bail!("{}", status.message),
            Err(error) => Err(error.into()),
        }
    }

    /// What `kubectl delete` does: it waits until the object is gone.
    pub async fn delete(&self, name: &str) -> anyhow::Result<()> {
        let api = self.api("OrgInvite");
        api.delete(name, &DeleteParams::default()).await?;
        in_time(&format!("{name} is gone"), async {
            while api.get_opt(name).await?.is_some() {
                tokio::time::sleep(PAUSE).await;
            }
            anyhow::Ok(())
        })
        .await?
    }

    /// The object, once `reached`.
    pub async fn object(
        &self,
        kind: &str,
        name: &str,
        what: &str,
        reached: impl Fn(&DynamicObject) -> bool,
    ) -> anyhow::Result<DynamicObject> {
        let api = self.api(kind);
        in_time(&format!("{kind} {name} {what}"), async {
            loop {
                let object = api.get(name).await?;
                if reached(&object) {
                    return anyhow::Ok(object);
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await?
    }

    /// The object, once its condition Ready has that reason.
    pub async fn state(
        &self,
        kind: &str,
        name: &str,
        reason: &str,
    ) -> anyhow::Result<DynamicObject> {
        let is = |one: &Value| one["type"] == "Ready" && one["reason"] == reason;
        self.object(kind, name, &format!("is {reason}"), |object| {
            conditions(object).any(is)
        })
        .await
    }

    /// The object, once another invitation than `before` is out for it.
    pub async fn invited_again(&self, name: &str, before: &str) -> anyhow::Result<DynamicObject> {
        self.object("OrgInvite", name, "has another invitation", |object| {
            let id = status(object, "inviteId");
            !id.is_empty() && id != before
        })
        .await
    }

    /// The events of an OrgInvite, oldest first, once there are so many.
    pub async fn events(&self, name: &str, wanted: usize) -> anyhow::Result<Vec<Event>> {
        let api: Api<Event> = Api::namespaced(self.client.clone(), NAMESPACE);
        let is_about = |event: &Event| {
            let regarding = event.regarding.as_ref();
            regarding.is_some_and(|object| object.name.as_deref() == Some(name))
        };
        in_time(&format!("{name} has {wanted} events"), async {
            loop {
                let mut events = api.list(&ListParams::default()).await?.items;
                events.retain(is_about);
                if events.len() >= wanted {
                    events.sort_by_key(|event| event.event_time.clone());
                    return anyhow::Ok(events);
                }
                tokio::time::sleep(PAUSE).await;
            }
        })
        .await?
    }
}
