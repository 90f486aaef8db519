//! What the API server alone takes for a burst: the requests that load and operator send, without an operator.

use futures::{StreamExt as _, TryStreamExt as _};
use kube::api::{Patch, PatchParams, PostParams};
use serde_json::json;

use super::{lags, now, whole};
use crate::load::Requests;
use crate::report::Outcome;
use crate::witness::Witness;
use crate::world::{Interval, Setup, World, address, object_name};

/// How many objects are written to at once.
const CONCURRENCY: usize = 32;

/// Each object is created, gets the finalizer and the annotation, and then its status, as soon as can be.
pub async fn floor(setup: &Setup, objects: usize) -> anyhow::Result<Outcome> {
    let world = World::prepare(setup, Interval("5m")).await?;
    let mut witness = Witness::of(&world).await?;
    let mark = world.mark().await?;
    let requests: Requests = futures::stream::iter(0..objects)
        .map(|number| create_and_write(&world, number))
        .buffer_unordered(CONCURRENCY)
        .try_collect()
        .await?;
    let seen = witness
        .until("all are Ready", &world, |seen| seen.ready.len() == objects)
        .await?;
    let spent = world.since(&mark).await?;

    let mut outcome = Outcome::new("floor", objects);
    outcome.tell_time("first applied to all Ready", whole(&requests, &seen.ready));
    outcome.tell_percentiles("applied to Ready", &mut lags(&requests, &seen.ready));
    outcome.tell_time("CPU of kube-apiserver", spent.cpu.api_server);
    outcome.tell_time("CPU of etcd", spent.cpu.etcd);
    outcome.tell_time("CPU of load", spent.cpu.bench);
    Ok(outcome)
}

pub(super) async fn create_and_write(
    world: &World,
    number: usize,
) -> anyhow::Result<(String, (std::time::Instant, std::time::Instant))> {
    let (api, name) = (world.invites(), object_name(number));
    let sent = std::time::Instant::now();
    let object = api
        .create(&PostParams::default(), &world.invite(number))
        .await?;
    let answered = std::time::Instant::now();
    let patch = json!({"metadata": {
        "resourceVersion": object.metadata.resource_version,
        "finalizers": ["iam.astronomer.io/invite"],
        "annotations": {"iam.astronomer.io/attempt": json!({
            "id": "0123456789abcdef", "uid": object.metadata.uid, "email": address(number), "role": "ORGANIZATION_MEMBER", "resends": 0,
        }).to_string()},
    }});
    let object = api
        .patch(&name, &PatchParams::default(), &Patch::Merge(patch))
        .await?;
    let now = now()?;
    let whole = json!({
        "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
        "metadata": {"name": name, "resourceVersion": object.metadata.resource_version},
        "status": {
            "observedGeneration": 1, "inviteId": "clkvh3b46003m01kbalgwwdcy", "attemptId": "0123456789abcdef",
            "organizationId": "clkvh3b46003m01kbalgwwdcy", "email": address(number),
            "role": "ORGANIZATION_MEMBER", "invitedAt": now, "expiresAt": now, "resends": 0,
            "inviter": {"id": "clkvh3b46003m01kbalgwwdcy", "subjectType": "SERVICEKEY", "name": "operator token"},
            "conditions": [
                {
                    "type": "Ready", "status": "True", "reason": "Invited", "observedGeneration": 1,
                    "lastTransitionTime": now, "message": "The invitation is out and expires at 2026-11-28T10:24:22Z",
                },
                {
                    "type": "Accepted", "status": "False", "reason": "Pending", "observedGeneration": 1,
                    "lastTransitionTime": now, "message": "The person has not accepted the invitation yet",
                },
            ],
        },
    });
    api.replace_subresource("status", &name, &PostParams::default(), &whole)
        .await?;
    Ok((name, (sent, answered)))
}
