//! The operator at work in the image, with what a pod has.

use std::fs::File;
use std::time::Duration;

use k8s_openapi::api::authentication::v1::TokenRequest;
use k8s_openapi::api::core::v1::{Namespace, Secret, ServiceAccount};
use k8s_openapi::api::rbac::v1::ClusterRoleBinding;
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::PostParams;
use kube::config::Kubeconfig;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};
use orginvite_operator::resources::{OrgInvite, Organization, crds};
use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::control_plane::ControlPlane;
use support::fake_astro::{FakeAstro, SECRET_PREFIX};

use crate::built::IMAGE;
use crate::https::Https;

const NAMESPACE: &str = "operator";
const DEADLINE: Duration = Duration::from_mins(1);
const ACCOUNT: &str = "/var/run/secrets/kubernetes.io/serviceaccount";

#[tokio::test(flavor = "multi_thread")]
#[ignore = "builds an image: make image-test"]
async fn it_invites_somebody_by_a_service_account_and_https_and_stops_when_asked() {
    let plane = ControlPlane::shared().await.unwrap();
    let client = plane.client().await.unwrap();
    let astro = FakeAstro::start().await.unwrap();
    let https = Https::before(&astro).await;
    let token = prepare(&client, &astro).await;

    let container = IMAGE.container();
    https.resolve_in(&container);
    container.put("/run/authority.crt", &https.authority);
    container.put(&format!("{ACCOUNT}/token"), &token);
    container.put(&format!("{ACCOUNT}/namespace"), NAMESPACE);
    let authority = std::fs::read_to_string(plane.directory().join("ca.crt")).unwrap();
    container.put(&format!("{ACCOUNT}/ca.crt"), &authority);
    let kubeconfig = Kubeconfig::read_from(plane.kubeconfig()).unwrap();
    let server = kubeconfig.clusters[0].cluster.clone().unwrap().server;
    let server = url::Url::parse(&server.unwrap()).unwrap();
    let port = server.port().unwrap().to_string();

    let dir = tempfile::tempdir().unwrap();
    let log = dir.path().join("operator.log");
    let file = File::create(&log).unwrap();
    let url = https.url();
    let command = container.operator(
        &["run", "--astro-url", &url],
        &[
            ("KUBERNETES_SERVICE_HOST", "127.0.0.1"),
            ("KUBERNETES_SERVICE_PORT", &port),
            ("SSL_CERT_FILE", "/run/authority.crt"),
        ],
    );
    let mut operator = tokio::process::Command::from(command)
        .stdout(file.try_clone().unwrap())
        .stderr(file)
        .kill_on_drop(true)
        .spawn()
        .unwrap();
    let logged = || std::fs::read_to_string(&log).unwrap();

    let invited = |object: Option<&OrgInvite>| {
        let status = object.and_then(|object| object.status.as_ref());
        status.is_some_and(|status| {
            let mut conditions = status.conditions.iter();
            conditions.any(|condition| {
                condition.type_ == "Ready"
                    && condition.status == "True"
                    && condition.reason == "Invited"
            })
        })
    };
    let api: Api<OrgInvite> = Api::namespaced(client, NAMESPACE);
    let wait = await_condition(api, "jane", invited);
    let reached = tokio::time::timeout(DEADLINE, wait).await;
    assert!(reached.is_ok(), "jane is not invited:\n{}", logged());
    reached.unwrap().unwrap();
    assert_eq!(astro.emails_to("jane@example.com"), 1);

    let process = operator.id().unwrap().to_string();
    let terminate = std::process::Command::new("sh")
        .args(["-c", "kill -TERM \"$1\"", "sh", &process])
        .status();
    assert!(terminate.unwrap().success());
    let ended = tokio::time::timeout(DEADLINE, operator.wait()).await;
    assert!(ended.unwrap().unwrap().success(), "{}", logged());
    assert!(!logged().contains(SECRET_PREFIX) && !logged().contains(&token));
    astro.assert_contract_kept().unwrap();
}

/// Makes what the operator finds when it starts, and returns the token of its service account.
async fn prepare(client: &Client, astro: &FakeAstro) -> String {
    let definitions: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds() {
        let name = crd.name_any();
        definitions
            .create(&PostParams::default(), &crd)
            .await
            .unwrap();
        let wait = await_condition(definitions.clone(), &name, conditions::is_crd_established());
        let established = tokio::time::timeout(DEADLINE, wait).await;
        established.unwrap().unwrap();
    }
    create::<Namespace>(
        Api::all(client.clone()),
        json!({"metadata": {"name": NAMESPACE}}),
    )
    .await;
    let accounts: Api<ServiceAccount> = Api::namespaced(client.clone(), NAMESPACE);
    create(accounts.clone(), json!({"metadata": {"name": "operator"}})).await;
    create::<ClusterRoleBinding>(
        Api::all(client.clone()),
        json!({
            "metadata": {"name": "operator"},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": "cluster-admin"},
            "subjects": [{"kind": "ServiceAccount", "name": "operator", "namespace": NAMESPACE}],
        }),
    )
    .await;
    create::<Secret>(
        Api::namespaced(client.clone(), NAMESPACE),
        json!({"metadata": {"name": "astro-token"}, "stringData": {"token": astro.token()}}),
    )
    .await;
    create::<Organization>(
        Api::all(client.clone()),
        json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "Organization",
            "metadata": {"name": "default"},
            "spec": {
                "organizationId": astro.organization_id(),
                "tokenSecretRef": {"name": "astro-token"},
                "allow": [{"namespaces": [NAMESPACE], "roles": ["ORGANIZATION_MEMBER"]}],
            },
        }),
    )
    .await;
    create::<OrgInvite>(
        Api::namespaced(client.clone(), NAMESPACE),
        json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": "jane"},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
        }),
    )
    .await;
    let request: TokenRequest = serde_json::from_value(json!({"spec": {"audiences": []}})).unwrap();
    let answer = accounts
        .create_token_request("operator", &PostParams::default(), &request)
        .await
        .unwrap();
    answer.status.unwrap().token.unwrap()
}

async fn create<K>(api: Api<K>, object: Value)
where
    K: Resource + Clone + DeserializeOwned + Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object).unwrap();
    api.create(&PostParams::default(), &object).await.unwrap();
}
