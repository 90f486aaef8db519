//! The life of a release: installed, upgraded, uninstalled, installed again.

use std::path::{Path, PathBuf};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams};
use kube::{Api, Client};
use orginvite_operator::resources::OrgInvite;
use serde_json::{Value, json};
use support::control_plane::ControlPlane;
use tempfile::TempDir;
use tokio::process::Command;

use crate::installation::{apply, apply_definitions};
use crate::pods::{fail_job, program, run_job};
use crate::tools::{Helm, Kubectl, Outcome, project, run};

const NAMESPACE: &str = "astro-access";
const RELEASE: &str = "orginvite-operator";
const CRDS_JOB: &str = "orginvite-operator-crds";
const CHECK_JOB: &str = "orginvite-operator-check-uninstall";
const NEW_FIELD: &str = "maxResends";

struct Cluster {
    plane: ControlPlane,
    client: Client,
    helm: Helm,
    kubectl: Kubectl,
    directory: TempDir,
}

impl Cluster {
    async fn start() -> Self {
        let plane = ControlPlane::start().await.unwrap();
        Self {
            client: plane.client().await.unwrap(),
            helm: Helm::with(plane.kubeconfig()).await,
            kubectl: Kubectl::admin(&plane).await,
            directory: tempfile::tempdir().unwrap(),
            plane,
        }
    }

    /// `helm install`, `upgrade` or `uninstall` of the release.
    async fn helm(&self, verb: &str, more: &[&str]) -> Outcome {
        let mut arguments = vec![verb, RELEASE];
        arguments.extend(more);
        arguments.extend(["--namespace", NAMESPACE]);
        self.helm.run(&arguments).await
    }

    /// The same while what its hook's Job says is done.
    async fn helm_with_job(&self, verb: &str, more: &[&str], job: &str) -> (Outcome, Outcome) {
        let job = Box::pin(run_job(&self.plane, NAMESPACE, job));
        self.helm_beside(verb, more, job).await
    }

    async fn helm_beside<T>(
        &self,
        verb: &str,
        more: &[&str],
        job: impl Future<Output = T>,
    ) -> (Outcome, T) {
        let mut helm = Box::pin(self.helm(verb, more));
        let mut job = Box::pin(job);
        tokio::select! {
            job = &mut job => (helm.await, job),
            helm = &mut helm => {
                // Helm may see the end of the Job before the one who wrote it has the answer.
                match tokio::time::timeout(Duration::from_secs(5), job).await {
                    Ok(job) => (helm, job),
                    Err(late) => panic!("helm did not wait for its hook, {late}: {helm:?}"),
                }
            }
        }
    }

    fn values(&self, values: &Value) -> String {
        let file = self.directory.path().join("values.json");
        std::fs::write(&file, values.to_string()).unwrap();
        file.to_str().unwrap().to_owned()
    }

    /// Whether the definition in the cluster has the field that the older chart lacks.
    async fn has_new_field(&self) -> bool {
        let api: Api<CustomResourceDefinition> = Api::all(self.client.clone());
        let crd = api.get("orginvites.iam.astronomer.io").await.unwrap();
        spec_fields(&serde_json::to_value(crd).unwrap()).contains(&NEW_FIELD.to_owned())
    }

    /// The objects with the release's label, as `kind/name`.
    async fn objects(&self) -> Vec<String> {
        let kinds = "deployments,services,serviceaccounts,poddisruptionbudgets,roles,rolebindings,clusterroles,clusterrolebindings,jobs,organizations.iam.astronomer.io";
        let text = self
            .kubectl
            .run(&[
                "get",
                kinds,
                "--all-namespaces",
                "--selector=app.kubernetes.io/instance=orginvite-operator",
                "--output=name",
            ])
            .await
            .printed();
        let mut names: Vec<_> = text.lines().map(str::to_owned).collect();
        names.sort();
        names
    }

    /// How many replicas the Deployment asks for.
    async fn replicas(&self) -> String {
        let number = "--output=jsonpath={.spec.replicas}";
        let get = [
            "get",
            "deployment",
            RELEASE,
            "--namespace",
            NAMESPACE,
            number,
        ];
        self.kubectl.run(&get).await.printed()
    }

    /// Gives the OrgInvite jane these finalizers.
    async fn finalizers(&self, finalizers: &[&str]) {
        let api: Api<OrgInvite> = Api::namespaced(self.client.clone(), "default");
        api.patch(
            "jane",
            &PatchParams::default(),
            &Patch::Merge(json!({"metadata": {"finalizers": finalizers}})),
        )
        .await
        .unwrap();
    }
}

fn spec_fields(crd: &Value) -> Vec<String> {
    let schema = &crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let fields = schema["properties"]["spec"]["properties"]
        .as_object()
        .unwrap();
    fields.keys().cloned().collect()
}

fn chart() -> String {
    project("deploy/chart").to_str().unwrap().to_owned()
}

/// A copy of the chart as a version before this one may have been, without a field of OrgInvite and with another
/// default.
fn older_chart(directory: &Path) -> String {
    fn copy(from: &Path, to: &Path) {
        std::fs::create_dir_all(to).unwrap();
        for entry in std::fs::read_dir(from).unwrap() {
            let entry: PathBuf = entry.unwrap().path();
            let target = to.join(entry.file_name().unwrap());
            if entry.is_dir() {
                copy(&entry, &target);
            } else {
                std::fs::copy(&entry, target).unwrap();
            }
        }
    }
    let older = directory.join("older");
    copy(Path::new(&chart()), &older);
    let path = older.join("crds/orginvites.iam.astronomer.io.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let mut crd: Value = serde_yaml_ng::from_str(&text).unwrap();
    let schema = &mut crd["spec"]["versions"][0]["schema"]["openAPIV3Schema"];
    let fields = schema["properties"]["spec"]["properties"].as_object_mut();
    assert!(fields.unwrap().remove(NEW_FIELD).is_some());
    std::fs::write(&path, serde_yaml_ng::to_string(&crd).unwrap()).unwrap();
    let path = older.join("values.yaml");
    let text = std::fs::read_to_string(&path).unwrap();
    let earlier = text.replace("replicaCount: 2", "replicaCount: 1");
    assert_ne!(earlier, text);
    std::fs::write(&path, earlier).unwrap();
    older.to_str().unwrap().to_owned()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_release_is_installed_upgraded_uninstalled_and_installed_again() {
    let cluster = Cluster::start().await;
    let check = check_uninstall(cluster.plane.kubeconfig(), &[]).await;
    assert_eq!(
        check.printed(),
        "nothing needs the operator\n",
        "without definitions"
    );
    let organization = json!({"organizations": {"default": {
        "organizationId": "clkvh3b46003m01kbalgwwdcy",
        "tokenSecretRef": {"name": "astro-token"},
        "allow": [{"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]}],
    }}});

    // An older version, and with it an Organization in the same step. Its own hook would bring its own definitions.
    let older = older_chart(cluster.directory.path());
    let values = cluster.values(&organization);
    let arguments = [
        &older,
        "--create-namespace",
        "--no-hooks",
        "--values",
        &values,
    ];
    let said = cluster.helm("install", &arguments).await.printed();
    assert!(
        said.contains("kubectl --namespace astro-access create secret generic astro-token"),
        "{said}"
    );
    assert!(!cluster.has_new_field().await);
    let mut installed = cluster.objects().await;
    assert!(
        installed.contains(&"organization.iam.astronomer.io/default".to_owned()),
        "{installed:?}"
    );
    assert!(
        installed.contains(&"deployment.apps/orginvite-operator".to_owned()),
        "{installed:?}"
    );

    // What was given stays, and new defaults are taken.
    let chart = chart();
    assert_eq!(cluster.replicas().await, "1");
    let upgrade = [chart.as_str(), "--reset-then-reuse-values"];
    let said = cluster
        .helm("upgrade", &[&upgrade[..], &["--no-hooks"]].concat())
        .await
        .printed();
    assert!(!said.contains("has no Organization yet"), "{said}");
    assert_eq!(cluster.replicas().await, "2");

    // Helm leaves the definitions; the hook brings them up to date, and nothing of it stays.
    assert!(!cluster.has_new_field().await);
    let (helm, job) = cluster.helm_with_job("upgrade", &upgrade, CRDS_JOB).await;
    job.printed();
    helm.printed();
    assert!(cluster.has_new_field().await);
    assert_eq!(cluster.objects().await, installed);

    // An Organization that is taken out of the values stays: OrgInvites may need it.
    let none = cluster.values(&json!({"organizations": {}}));
    let (helm, job) = cluster
        .helm_with_job("upgrade", &[&chart, "--values", &none], CRDS_JOB)
        .await;
    job.printed();
    let said = helm.printed();
    assert!(
        said.contains("The operator has no Organization yet"),
        "{said}"
    );
    assert_eq!(cluster.objects().await, installed);

    uninstall_is_refused(&cluster, &installed).await;
    // Helm calls the release uninstalling now; a rollback to its revision takes that back.
    let refusal = cluster
        .helm("upgrade", &[&chart, "--no-hooks"])
        .await
        .refusal();
    assert!(refusal.contains("has no deployed releases"), "{refusal}");
    cluster.helm("rollback", &["4"]).await.printed();
    let (helm, job) = cluster
        .helm_with_job("upgrade", &upgrade[..1], CRDS_JOB)
        .await;
    job.printed();
    helm.printed();

    // Without what needs the operator it goes; the definitions and Organizations stay, and so does what uses them.
    cluster.finalizers(&["example.com/of-somebody"]).await;
    let (helm, job) = cluster.helm_with_job("uninstall", &[], CHECK_JOB).await;
    assert_eq!(job.printed(), "nothing needs the operator\n");
    helm.printed();
    installed.retain(|name| name.starts_with("organization"));
    assert_eq!(cluster.objects().await, installed);
    let kept = cluster
        .kubectl
        .run(&["get", "orginvites", "--all-namespaces", "--output=name"])
        .await
        .printed();
    assert_eq!(kept, "orginvite.iam.astronomer.io/jane\n");

    fails_first(&cluster).await;
    is_installed_again(&cluster, &older, &organization).await;
}

/// A first install whose hook fails goes on with an upgrade, or is given up.
async fn fails_first(cluster: &Cluster) {
    let chart = chart();
    let kept = cluster.objects().await;
    for goes_on in [true, false] {
        let failing = Box::pin(fail_job(&cluster.plane, NAMESPACE, CRDS_JOB));
        let (helm, ()) = cluster.helm_beside("install", &[&chart], failing).await;
        helm.refusal();
        let refusal = cluster.helm("install", &[&chart]).await.refusal();
        assert!(refusal.contains("cannot reuse a name"), "{refusal}");
        if goes_on {
            let (helm, job) = cluster.helm_with_job("upgrade", &[&chart], CRDS_JOB).await;
            job.printed();
            helm.printed();
            assert_eq!(cluster.replicas().await, "2");
        }
        cluster.helm("uninstall", &["--no-hooks"]).await.printed();
        let mut left = cluster.objects().await;
        // What a failed hook leaves is there to be looked at, until the next one.
        left.retain(|name| !name.contains(CRDS_JOB));
        assert_eq!(left, kept);
    }
}

/// While an OrgInvite has the operator's finalizer.
async fn uninstall_is_refused(cluster: &Cluster, installed: &[String]) {
    let jane = json!({
        "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
        "metadata": {"name": "jane", "namespace": "default"},
        "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER"},
    });
    apply(&cluster.kubectl, &jane.to_string()).await;
    cluster
        .finalizers(&["example.com/of-somebody", "iam.astronomer.io/invite"])
        .await;
    let (helm, job) = cluster.helm_with_job("uninstall", &[], CHECK_JOB).await;
    helm.refusal();
    let refusal = job.refusal();
    for said in [
        "1 orginvites: default/jane",
        "kubectl delete orginvites --all --all-namespaces",
        "--no-hooks",
    ] {
        assert!(refusal.contains(said), "{refusal}");
    }
    let mut present = cluster.objects().await;
    present.retain(|name| *name != format!("job.batch/{CHECK_JOB}"));
    assert_eq!(present, installed);
}

/// Over the definitions and the Organization that the first release left.
async fn is_installed_again(cluster: &Cluster, older: &str, organization: &Value) {
    let (chart, values) = (chart(), cluster.values(organization));
    // Helm and the hook write the same definitions in turn, and neither is in the other's way.
    for chart in [older, &chart] {
        let (helm, job) = cluster
            .helm_with_job("install", &[chart, "--values", &values], CRDS_JOB)
            .await;
        job.printed();
        helm.printed();
        assert!(cluster.has_new_field().await);
        // What needs the operator is left for the next one.
        cluster.finalizers(&["iam.astronomer.io/invite"]).await;
        cluster.helm("uninstall", &["--no-hooks"]).await.printed();
        let kept = ["organization.iam.astronomer.io/default"];
        assert_eq!(cluster.objects().await, kept);
    }
    // A release of another name takes them when it is told to.
    let install = [
        "install",
        "other",
        &chart,
        "--values",
        &values,
        "--no-hooks",
        "--namespace",
        NAMESPACE,
    ];
    let refusal = cluster.helm.run(&install).await.refusal();
    assert!(
        refusal.contains("cannot be imported into the current release"),
        "{refusal}"
    );
    let install = [&install[..], &["--take-ownership"]].concat();
    cluster.helm.run(&install).await.printed();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_for_some_organizations_asks_for_those() {
    let plane = ControlPlane::shared().await.unwrap();
    let kubectl = Kubectl::admin(plane).await;
    apply_definitions(&kubectl).await;
    for organization in ["of-here", "of-elsewhere"] {
        let namespace =
            json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": organization}});
        let invite = json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": "jane", "namespace": organization, "finalizers": ["iam.astronomer.io/invite"]},
            "spec": {"email": "jane@example.com", "role": "ORGANIZATION_MEMBER", "organizationRef": {"name": organization}},
        });
        let organization = json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "Organization",
            "metadata": {"name": organization, "finalizers": ["iam.astronomer.io/organization"]},
            "spec": {"organizationId": organization, "tokenSecretRef": {"name": "x"}, "allow": [
                {"namespaceSelector": {}, "roles": ["ORGANIZATION_MEMBER"]},
            ]},
        });
        for manifest in [namespace, invite, organization] {
            apply(&kubectl, &manifest.to_string()).await;
        }
    }
    let here = ["--organizations", "of-here,of-nowhere"];
    let refusal = check_uninstall(plane.kubeconfig(), &here).await.refusal();
    for said in [
        "1 orginvites: of-here/jane\n",
        "1 organizations: of-here\n",
        "kubectl delete orginvites --all-namespaces --field-selector spec.organizationRef.name=of-here\n",
        "kubectl delete organizations.iam.astronomer.io of-here of-nowhere\n",
    ] {
        assert!(refusal.contains(said), "{said}: {refusal}");
    }
    // Never a command that deletes what another installation looks after.
    assert!(
        !refusal.contains("--all ") && !refusal.contains("--all\n"),
        "{refusal}"
    );
    let nowhere = check_uninstall(plane.kubeconfig(), &["--organizations", "of-nowhere"]).await;
    assert_eq!(nowhere.printed(), "nothing needs the operator\n");

    // Who may not look cannot say that there is nothing.
    let nobody = plane.kubeconfig_for("nobody", None).unwrap();
    let refusal = check_uninstall(&nobody, &[]).await.refusal();
    assert!(
        refusal.contains("it cannot be told what needs the operator"),
        "{refusal}"
    );
}

async fn check_uninstall(kubeconfig: &Path, more: &[&str]) -> Outcome {
    run(Command::new(program())
        .arg("check-uninstall")
        .args(more)
        .env_clear()
        .env("KUBECONFIG", kubeconfig))
    .await
}
