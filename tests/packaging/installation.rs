//! The chart in a cluster, with the operator running as its ServiceAccount.

use std::path::PathBuf;
use std::sync::atomic::{AtomicU32, Ordering};

use kube::Client;
use serde_json::{Value, json};
use support::control_plane::ControlPlane;
use support::fake_astro::{FakeAstro, SECRET_PREFIX};
use support::operator::Operator;
use tempfile::TempDir;

use crate::chart::{documents, find, render};
use crate::pods::{account, granted, program};
use crate::tools::{DEADLINE, Helm, Kubectl, project};

/// One release, the namespace of a team that may invite, and a fake of Astro.
pub struct Installation {
    pub plane: &'static ControlPlane,
    pub client: Client,
    /// Its user may do everything.
    pub kubectl: Kubectl,
    pub astro: FakeAstro,
    /// The name of the release, of its namespace and of its Organization.
    pub name: String,
    /// The namespace of the team.
    pub team: String,
    /// What was applied.
    pub manifests: Vec<Value>,
    operator: Option<Operator>,
    log: PathBuf,
    _directory: TempDir,
}

impl Installation {
    /// Renders the chart with helm and applies it with kubectl. The token's Secret is not there yet.
    pub async fn apply() -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let plane = ControlPlane::shared().await.unwrap();
        let kubectl = Kubectl::admin(plane).await;
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("orginvite-operator-{number}");
        let team = format!("team-{number}");
        let astro = FakeAstro::start().await.unwrap();
        apply_definitions(&kubectl).await;
        for (namespace, labels) in [
            (
                &name,
                json!({"pod-security.kubernetes.io/enforce": "restricted"}),
            ),
            (&team, json!({"test/team": team})),
        ] {
            let manifest = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, "labels": labels}});
            apply(&kubectl, &manifest.to_string()).await;
        }

        let values = json!({
            "operator": {
                "astroUrl": astro.url(),
                "organizations": [name],
                "settle": "8s",
                "leaseDuration": "5s",
                "requestDeadline": "2s",
                "listingDelay": "200ms",
                "emailSpacing": "1ms",
                "clockTolerance": "10000h",
                "postsPerSecond": 1000,
                "deletesPerSecond": 1000,
                "getsPerSecond": 1000,
            },
            "organizations": {&name: {
                "organizationId": astro.organization_id(),
                "tokenSecretRef": {"name": "astro-token"},
                "syncInterval": "1s",
                "allow": [{
                    "namespaceSelector": {"matchLabels": {"test/team": team}},
                    "roles": ["ORGANIZATION_MEMBER", "ORGANIZATION_OBSERVE_MEMBER"],
                }],
            }},
        });
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("values.json");
        std::fs::write(&file, values.to_string()).unwrap();
        let helm = Helm::alone().await;
        let more = ["--no-hooks", "--values", file.to_str().unwrap()];
        let text = render(&helm, &name, &name, &more).await;
        apply(&kubectl, &text).await;
        Self {
            client: plane.client().await.unwrap(),
            plane,
            kubectl,
            astro,
            team,
            manifests: documents(&text),
            operator: None,
            log: directory.path().join("operator.log"),
            _directory: directory,
            name,
        }
    }

    /// With a running operator that has read the organization.
    pub async fn start() -> Self {
        let mut installation = Self::apply().await;
        installation.put_token().await;
        installation.start_operator().await;
        installation.organization_is("Connected").await;
        installation
    }

    /// Runs the operator with the arguments of the Deployment and a token of its ServiceAccount.
    pub async fn start_operator(&mut self) {
        let deployment = find(&self.manifests, "Deployment", &self.name);
        let pod = &deployment["spec"]["template"]["spec"];
        let account_name = pod["serviceAccountName"].as_str().unwrap();
        let kubeconfig = account(self.plane, &self.client, &self.name, account_name).await;
        let user = format!("system:serviceaccount:{}:{account_name}", self.name);
        // What it asks for when it starts: a kubelet would start it again.
        for attributes in [
            json!({"group": "iam.astronomer.io", "resource": "orginvites", "verb": "list"}),
            json!({"group": "iam.astronomer.io", "resource": "organizations", "verb": "list"}),
            json!({
                "group": "coordination.k8s.io", "resource": "leases", "verb": "list",
                "namespace": self.name, "name": self.name,
            }),
        ] {
            granted(&self.client, &user, attributes).await;
        }
        let arguments: Vec<String> =
            serde_json::from_value(pod["containers"][0]["args"].clone()).unwrap();
        let (run, flags) = arguments.split_first().unwrap();
        assert_eq!(run, "run");
        // Several run on this one machine, which a pod has for itself.
        let own_port = |flag: &String| match flag.strip_prefix("--admin-address=") {
            Some(_) => "--admin-address=127.0.0.1:0".to_owned(),
            None => flag.clone(),
        };
        let flags: Vec<String> = flags.iter().map(own_port).collect();
        self.operator = Some(Operator::start(program(), &kubeconfig, &self.log, &flags).unwrap());
    }

    /// Creates the Secret as the chart's notes say.
    pub async fn put_token(&self) {
        let token = format!("--from-literal=token={}", self.astro.token());
        self.admin(&[
            "--namespace",
            &self.name,
            "create",
            "secret",
            "generic",
            "astro-token",
            &token,
        ])
        .await;
    }

    /// A kubectl of somebody who may write OrgInvites in the team's namespace, by the chart's role, and nothing else.
    pub async fn developer(&self) -> Kubectl {
        let user = format!("developer-of-{}", self.team);
        let role = format!("--clusterrole={}-edit", self.name);
        let who = format!("--user={user}");
        self.admin(&[
            "--namespace",
            &self.team,
            "create",
            "rolebinding",
            "orginvites",
            &role,
            &who,
        ])
        .await;
        let create = json!({
            "group": "iam.astronomer.io", "resource": "orginvites", "verb": "create",
            "namespace": self.team,
        });
        granted(&self.client, &user, create).await;
        let kubeconfig = self.plane.kubeconfig_for(&user, None).unwrap();
        Kubectl::with(self.plane, &kubeconfig).await
    }

    /// A manifest of an OrgInvite in the team's namespace.
    pub fn invite(&self, name: &str, email: &str) -> String {
        json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": name, "namespace": self.team},
            "spec": {"email": email, "role": "ORGANIZATION_MEMBER", "organizationRef": {"name": self.name}},
        })
        .to_string()
    }

    pub async fn organization_is(&self, reason: &str) {
        let condition =
            format!("--for=jsonpath={{.status.conditions[?(@.type==\"Ready\")].reason}}={reason}");
        self.wait(&[&condition, &format!("organization/{}", self.name)])
            .await;
    }

    /// `kubectl wait` in the team's namespace.
    pub async fn wait(&self, arguments: &[&str]) {
        let mut whole = vec!["--namespace", &self.team, "wait", "--timeout=60s"];
        whole.extend(arguments);
        let outcome = self.kubectl.run(&whole).await;
        assert!(outcome.success, "{outcome:?}\n{}", self.log());
    }

    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        let wait = async {
            while !done() {
                tokio::time::sleep(std::time::Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(DEADLINE, wait)
            .await
            .unwrap_or_else(|_| panic!("not within {DEADLINE:?}: {what}\n{}", self.log()));
    }

    async fn admin(&self, arguments: &[&str]) {
        self.kubectl.run(arguments).await.printed();
    }

    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap_or_default()
    }
}

impl Drop for Installation {
    fn drop(&mut self) {
        if std::thread::panicking() {
            return;
        }
        self.astro.assert_contract_kept().unwrap();
        let log = self.log();
        assert!(!log.contains(SECRET_PREFIX), "a token in the log");
        assert!(!log.contains("panicked"), "the operator panicked");
        // What it is refused it may try again for ever, with a warning.
        let refused = log.lines().find(|line| line.contains("orbidden"));
        assert_eq!(refused, None);
    }
}

/// `kubectl apply --server-side` of a YAML stream.
pub async fn apply(kubectl: &Kubectl, text: &str) {
    kubectl
        .with_file(&["apply", "--server-side"], text)
        .await
        .printed();
}

/// Applies `crds/` and waits until they are served.
pub async fn apply_definitions(kubectl: &Kubectl) {
    let directory = project("crds");
    let directory = directory.to_str().unwrap();
    kubectl
        .run(&["apply", "--server-side", "--filename", directory])
        .await
        .printed();
    kubectl
        .run(&[
            "wait",
            "--for=condition=Established",
            "--timeout=60s",
            "--filename",
            directory,
        ])
        .await
        .printed();
}
