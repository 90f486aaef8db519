//! Every write to an `OrgInvite`. Each carries the resource version that was planned from: rule 7.

use std::fmt::Debug;
use std::sync::Arc;

use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client, Resource, ResourceExt};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::json;
use tokio::sync::{Mutex, MutexGuard};

use crate::error::Error;
use crate::resources::org_invite::{ATTEMPT_ANNOTATION, Attempt, FINALIZER};
use crate::resources::{OrgInvite, OrgInviteStatus};
use crate::stored::{Stored, finalizers, is_elided};

/// What became of a write.
#[derive(Debug)]
pub enum Written {
    /// It is done; the object as it is now.
    Done(Box<OrgInvite>),
    /// Somebody else wrote in between: plan again.
    Conflict,
    /// The object is gone.
    Gone,
}

/// Whether the object has our finalizer.
#[must_use]
pub fn has_finalizer(object: &OrgInvite) -> bool {
    object
        .finalizers()
        .iter()
        .any(|finalizer| finalizer == FINALIZER)
}

/// Writes `OrgInvite`s.
#[derive(Clone)]
pub struct Writer {
    client: Client,
    /// Held while finalizers are read anew and written: they may have a megabyte.
    long: Arc<Mutex<()>>,
}

impl Writer {
    /// A writer that uses `client`.
    #[must_use]
    pub fn new(client: Client) -> Self {
        Self {
            client,
            long: Arc::default(),
        }
    }

    fn api(&self, object: &OrgInvite) -> Api<Stored<OrgInvite>> {
        Api::namespaced(self.client.clone(), &object.namespace().unwrap_or_default())
    }

    /// Records an attempt before its e-mail, with the finalizer if it is absent, in one request.
    pub async fn attempt(&self, object: &OrgInvite, attempt: &Attempt) -> Result<Written, Error> {
        let text = serde_json::to_string(attempt)?;
        let mut metadata = json!({
            "resourceVersion": object.resource_version(),
            "annotations": {ATTEMPT_ANNOTATION: text},
        });
        if !has_finalizer(object) {
            if is_elided(object) {
                let Written::Done(held) = self.hold(object).await? else {
                    return Ok(Written::Conflict);
                };
                metadata["resourceVersion"] = json!(held.resource_version());
            } else {
                metadata["finalizers"] = with_finalizer(object.finalizers());
            }
        }
        self.patch(object, &json!({"metadata": metadata})).await
    }

    /// Sets the finalizer.
    pub async fn hold(&self, object: &OrgInvite) -> Result<Written, Error> {
        let _alone = self.alone(object).await;
        let Some(all) = finalizers(&self.api(object), object).await? else {
            return Ok(Written::Conflict);
        };
        self.patch(
            object,
            &json!({"metadata": {
                "resourceVersion": object.resource_version(),
                "finalizers": with_finalizer(&all),
            }}),
        )
        .await
    }

    /// Removes the finalizer.
    pub async fn release(&self, object: &OrgInvite) -> Result<Written, Error> {
        let _alone = self.alone(object).await;
        let Some(all) = finalizers(&self.api(object), object).await? else {
            return Ok(Written::Conflict);
        };
        let rest: Vec<&String> = all
            .iter()
            .filter(|finalizer| *finalizer != FINALIZER)
            .collect();
        self.patch(
            object,
            &json!({"metadata": {"resourceVersion": object.resource_version(), "finalizers": rest}}),
        )
        .await
    }

    /// The turn to read an object's finalizers anew and to write them, when they are that long.
    async fn alone(&self, object: &OrgInvite) -> Option<MutexGuard<'_, ()>> {
        if is_elided(object) {
            Some(self.long.lock().await)
        } else {
            None
        }
    }

    async fn patch(&self, object: &OrgInvite, patch: &serde_json::Value) -> Result<Written, Error> {
        outcome(
            self.api(object)
                .patch(
                    &object.name_any(),
                    &PatchParams::default(),
                    &Patch::Merge(patch),
                )
                .await,
        )
    }

    /// Writes the status as a whole.
    pub async fn status(
        &self,
        object: &OrgInvite,
        status: &OrgInviteStatus,
    ) -> Result<Written, Error> {
        outcome(put_status(&self.api(object), object, status).await)
    }

    /// Writes what the status says, and leaves what it records.
    pub async fn conditions(
        &self,
        object: &OrgInvite,
        status: &OrgInviteStatus,
    ) -> Result<Written, Error> {
        let patch = Patch::Merge(json!({
            "metadata": {"resourceVersion": object.resource_version()},
            "status": {
                "observedGeneration": status.observed_generation,
                "conditions": status.conditions,
                "plannedAction": status.planned_action,
            },
        }));
        let (api, name) = (self.api(object), object.name_any());
        outcome(
            api.patch_status(&name, &PatchParams::default(), &patch)
                .await,
        )
    }

    /// The object as the API server has it now; `None` when it, or the one of that UID, is gone.
    pub async fn read(&self, object: &OrgInvite) -> Result<Option<OrgInvite>, Error> {
        let found = self.api(object).get_opt(&object.name_any()).await?;
        Ok(found
            .map(|found| found.0)
            .filter(|found| found.uid() == object.uid()))
    }
}

/// Writes a status as a whole: a PUT costs the API server less than a patch, which it applies to the text of the object.
pub(super) async fn put_status<K>(
    api: &Api<Stored<K>>,
    object: &K,
    status: &impl Serialize,
) -> kube::Result<Stored<K>>
where
    K: Resource<DynamicType = ()>,
    Stored<K>: Clone + Debug + DeserializeOwned,
{
    let name = object.name_any();
    let body = json!({
        "apiVersion": K::api_version(&()),
        "kind": K::kind(&()),
        "metadata": {
            "name": name,
            "namespace": object.namespace(),
            "resourceVersion": object.resource_version(),
        },
        "status": status,
    });
    let params = PostParams::default();
    api.replace_subresource("status", &name, &params, &body)
        .await
}

fn with_finalizer(finalizers: &[String]) -> serde_json::Value {
    finalizers
        .iter()
        .map(String::as_str)
        .chain([FINALIZER])
        .collect()
}

fn outcome(answer: Result<Stored<OrgInvite>, kube::Error>) -> Result<Written, Error> {
    match answer {
        Ok(object) => Ok(Written::Done(Box::new(object.0))),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(Written::Conflict),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(Written::Gone),
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use http::{Request, Response};
    use kube::client::Body;
    use tokio::time::{Instant, sleep};
    use tower::{BoxError, service_fn};

    use super::*;

    /// Each of a thousand objects may have a megabyte of them.
    #[tokio::test(start_paused = true)]
    async fn finalizers_that_are_read_anew_are_written_one_at_a_time() {
        for (theirs, seconds) in [("", 4), ("example.com/theirs", 1)] {
            let object: OrgInvite = serde_json::from_value(json!({
                "metadata": {
                    "namespace": "team", "name": "jane", "resourceVersion": "1",
                    "finalizers": [FINALIZER, theirs],
                },
                "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
            }))
            .unwrap();
            let stored = serde_json::to_vec(&object).unwrap();
            let slow = service_fn(move |_: Request<Body>| {
                let stored = Body::from(stored.clone());
                async {
                    sleep(Duration::from_secs(1)).await;
                    Ok::<_, BoxError>(Response::new(stored))
                }
            });
            let writer = Writer::new(Client::new(slow, "default"));
            let began = Instant::now();
            let (held, released) = tokio::join!(writer.hold(&object), writer.release(&object));
            assert!(matches!(held, Ok(Written::Done(_))), "{held:?}");
            assert!(matches!(released, Ok(Written::Done(_))), "{released:?}");
            assert_eq!(began.elapsed().as_secs(), seconds, "{theirs:?}");
        }
    }
}
