//! What a pod of the chart would do, done without a kubelet.

use std::path::{Path, PathBuf};

use k8s_openapi::api::authentication::v1::{TokenRequest, TokenRequestSpec};
use k8s_openapi::api::batch::v1::Job;
use k8s_openapi::api::core::v1::ServiceAccount;
use k8s_openapi::jiff::Timestamp;
use kube::api::{Patch, PatchParams, PostParams};
use kube::runtime::wait::await_condition;
use kube::{Api, Client};
use serde_json::{Value, json};
use support::control_plane::{ControlPlane, until_permitted};
use tokio::process::Command;

use crate::tools::{DEADLINE, Outcome, run};

/// The operator's program, which is all that is in the image.
pub fn program() -> &'static Path {
    Path::new(env!("CARGO_BIN_EXE_orginvite-operator"))
}

/// Returns once the user may do that.
pub async fn granted(client: &Client, user: &str, attributes: Value) {
    let granted = until_permitted(client, user, attributes);
    let granted = tokio::time::timeout(DEADLINE, granted).await;
    granted.expect("the right is granted").unwrap();
}

/// A kubeconfig with a token of the service account, such as its pods get.
pub async fn account(
    plane: &ControlPlane,
    client: &Client,
    namespace: &str,
    name: &str,
) -> PathBuf {
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), namespace);
    let request = TokenRequest {
        spec: Some(TokenRequestSpec::default()),
        ..TokenRequest::default()
    };
    let issued = accounts
        .create_token_request(name, &PostParams::default(), &request)
        .await
        .unwrap();
    let token = issued.status.unwrap().token.unwrap();
    plane.kubeconfig_with_token(&token).unwrap()
}

/// Waits for the Job and records that it failed without having run, as for an image that nobody can pull.
pub async fn fail_job(plane: &ControlPlane, namespace: &str, name: &str) {
    let jobs: Api<Job> = Api::namespaced(plane.client().await.unwrap(), namespace);
    unfinished(&jobs, name).await;
    finish(&jobs, name, false).await;
}

/// Waits for the Job, runs its one container and records how it ended, as kubelet and Job controller do.
pub async fn run_job(plane: &ControlPlane, namespace: &str, name: &str) -> Outcome {
    let client = plane.client().await.unwrap();
    let jobs: Api<Job> = Api::namespaced(client.clone(), namespace);
    let job = unfinished(&jobs, name).await;
    let pod = job.spec.unwrap().template.spec.unwrap();
    let account_name = pod.service_account_name.unwrap();
    let kubeconfig = account(plane, &client, namespace, &account_name).await;
    let user = format!("system:serviceaccount:{namespace}:{account_name}");
    let arguments = pod.containers[0].args.as_deref().unwrap_or_default();
    let needs = match arguments[0].as_str() {
        "crd" => json!({
            "group": "apiextensions.k8s.io", "resource": "customresourcedefinitions",
            "verb": "patch", "name": "organizations.iam.astronomer.io",
        }),
        _ => json!({"group": "iam.astronomer.io", "resource": "orginvites", "verb": "list"}),
    };
    granted(&client, &user, needs).await;
    let outcome = run(Command::new(program())
        .args(arguments)
        .env_clear()
        .env("KUBECONFIG", kubeconfig))
    .await;

    finish(&jobs, name, outcome.success).await;
    outcome
}

async fn unfinished(jobs: &Api<Job>, name: &str) -> Job {
    // A finished one is left of an earlier hook.
    let unfinished = |job: Option<&Job>| {
        job.is_some_and(|job| {
            let status = job.status.as_ref();
            status.is_none_or(|status| status.conditions.iter().flatten().count() == 0)
        })
    };
    tokio::time::timeout(DEADLINE, await_condition(jobs.clone(), name, unfinished))
        .await
        .unwrap_or_else(|_| panic!("there is no Job {name}"))
        .unwrap()
        .unwrap()
}

async fn finish(jobs: &Api<Job>, name: &str, success: bool) {
    let now = Timestamp::now();
    let condition = |kind: &str| json!({"type": kind, "status": "True", "reason": "PodEnded", "message": "", "lastTransitionTime": now, "lastProbeTime": now});
    let status = if success {
        json!({"startTime": now, "completionTime": now, "succeeded": 1,
            "conditions": [condition("SuccessCriteriaMet"), condition("Complete")]})
    } else {
        json!({"startTime": now, "failed": 1,
            "conditions": [condition("FailureTarget"), condition("Failed")]})
    };
    jobs.patch_status(
        name,
        &PatchParams::default(),
        &Patch::Merge(json!({"status": status})),
    )
    .await
    .unwrap();
}
