//! One test's world.

use std::fmt::Debug;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use k8s_openapi::api::admissionregistration::v1::{
    ValidatingAdmissionPolicy, ValidatingAdmissionPolicyBinding,
};
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::api::rbac::v1::{ClusterRole, ClusterRoleBinding};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Condition;
use kube::api::{DeleteParams, Patch, PatchParams, PostParams};
use kube::core::ObjectMeta;
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};
use orginvite_operator::resources::reason::About;
use orginvite_operator::resources::{OrgInvite, Organization, Reason, crds};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use support::control_plane::{AuditEntry, ControlPlane, is_permitted, until_permitted};
use support::fake_astro::{FakeAstro, Gate, HoldPoint, Operation, SECRET_PREFIX};
use support::operator::{Operator, read_log};

use crate::cable::Cable;
use crate::kstatus::Judge;

/// How long anything may take before a test fails.
pub const DEADLINE: Duration = Duration::from_mins(1);
/// How long the operators here wait for an answer of Astro.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(5);
/// Longer than that, the lease's duration of 6 s and the listing delay.
pub const SETTLE: Duration = Duration::from_millis(11_500);
/// For what counts on one term and on answers in time, however busy the machine is: as in production,
/// and too long for a test that waits for any of them.
pub const STEADY: [&str; 6] = [
    "--lease-duration",
    "30s",
    "--request-deadline",
    "15s",
    "--settle",
    "50s",
];

/// The same for a test that waits until a term has settled, or whose operator cannot look: without an answer in time, it
/// does not know the outcome.
pub const PATIENT: [&str; 6] = [
    "--lease-duration",
    "15s",
    "--request-deadline",
    "8s",
    "--settle",
    "25s",
];

/// One of several operators in one world.
pub struct Replica {
    /// Its pod's name.
    pub pod: String,
    /// Who it is for the API server.
    pub user: String,
    pub operator: Operator,
}

/// One test's namespace, Organization, fake of Astro and operator.
pub struct World {
    pub client: Client,
    pub namespace: String,
    pub organization: String,
    pub astro: FakeAstro,
    pub operator: Option<Operator>,
    /// More variables for the operator's environment.
    pub environment: Vec<(String, String)>,
    pub user: String,
    plane: &'static ControlPlane,
    judge: Judge,
    /// The operators' logs.
    dir: tempfile::TempDir,
}

impl World {
    /// A world whose operator runs and has read the organization.
    pub async fn start() -> Self {
        Self::start_with(&[]).await
    }

    /// The same with more options.
    pub async fn start_with(more: &[&str]) -> Self {
        let mut world = Self::prepare(json!({})).await;
        world.start_operator_with(more);
        world.organization_is("Connected").await;
        world
    }

    /// A world without a running operator; `spec` overrides fields of the Organization's spec.
    pub async fn prepare(spec: Value) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let plane = ControlPlane::shared().await.unwrap();
        let client = plane.client().await.unwrap();
        install_definitions(&client).await;
        let name = format!(
            "t{}-{}",
            std::process::id(),
            NEXT.fetch_add(1, Ordering::Relaxed)
        );
        let dir = tempfile::tempdir().unwrap();
        let world = Self {
            astro: FakeAstro::start().await.unwrap(),
            namespace: name.clone(),
            organization: name.clone(),
            operator: None,
            environment: Vec::new(),
            user: format!("operator-{name}"),
            dir,
            judge: Judge::watch(client.clone(), &name),
            plane,
            client,
        };
        world.create_namespace(&world.namespace, json!({})).await;
        world.put_token(&world.astro.token()).await;
        let mut whole = json!({
            "organizationId": world.astro.organization_id(),
            "tokenSecretRef": {"name": "astro-token"},
            "syncInterval": "1s",
            "allow": [{
                "namespaces": [name],
                "roles": ["ORGANIZATION_MEMBER", "ORGANIZATION_BILLING_ADMIN", "ORGANIZATION_OBSERVE_MEMBER"],
            }],
        });
        for (key, value) in spec.as_object().unwrap() {
            whole[key] = value.clone();
        }
        let organization: Organization = serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "Organization",
            "metadata": {"name": world.organization}, "spec": whole,
        }))
        .unwrap();
        Api::all(world.client.clone())
            .create(&PostParams::default(), &organization)
            .await
            .unwrap();
        world
    }

    /// Starts the operator, or another one after it was killed.
    pub fn start_operator(&mut self) {
        self.start_operator_with(&[]);
    }

    pub fn start_operator_with(&mut self, more: &[&str]) {
        self.start_operator_in_group(Some("system:masters"), more);
    }

    /// Starts an operator whose user is in that group, or in none: then it may do what RBAC grants it.
    pub fn start_operator_in_group(&mut self, group: Option<&str>, more: &[&str]) {
        let kubeconfig = self.plane.kubeconfig_for(&self.user, group).unwrap();
        self.operator = Some(self.launch("operator", &kubeconfig, more));
    }

    /// Starts one of several operators, with a user of its own.
    pub fn start_replica(&self, pod: &str, more: &[&str]) -> Replica {
        let user = format!("{}-{pod}", self.user);
        let kubeconfig = self.kubeconfig(&user);
        Replica {
            operator: self.launch(pod, &kubeconfig, more),
            pod: pod.to_owned(),
            user,
        }
    }

    /// The same, with the API server at the end of a cable.
    pub fn start_replica_behind(&self, cable: &Cable, pod: &str, more: &[&str]) -> Replica {
        let user = format!("{}-{pod}", self.user);
        let text = std::fs::read_to_string(self.kubeconfig(&user)).unwrap();
        let moved = text.replace(&self.api_server().to_string(), &cable.address().to_string());
        assert_ne!(moved, text);
        let kubeconfig = self.dir.path().join(format!("{pod}.kubeconfig"));
        std::fs::write(&kubeconfig, moved).unwrap();
        Replica {
            operator: self.launch(pod, &kubeconfig, more),
            pod: pod.to_owned(),
            user,
        }
    }

    /// A client of the operator's user, who may do everything.
    pub async fn client_in_masters(&self) -> Client {
        let group = Some("system:masters");
        self.plane.client_for(&self.user, group).await.unwrap()
    }

    /// Starts an operator that reaches the API server in plain HTTP there, where it is known already.
    pub fn start_operator_through(&mut self, address: SocketAddr, more: &[&str]) {
        let kubeconfig = json!({
            "apiVersion": "v1", "kind": "Config", "current-context": "a",
            "clusters": [{"name": "a", "cluster": {"server": format!("http://{address}")}}],
            "users": [{"name": "a", "user": {}}],
            "contexts": [{"name": "a", "context": {"cluster": "a", "user": "a"}}],
        });
        let file = self.dir.path().join("through.kubeconfig");
        std::fs::write(&file, kubeconfig.to_string()).unwrap();
        self.operator = Some(self.launch("operator", &file, more));
    }

    /// The URL of Astro at the end of a cable.
    pub fn astro_behind(&self, cable: &Cable) -> String {
        self.astro.url().replace(
            &self.astro.address().to_string(),
            &cable.address().to_string(),
        )
    }

    /// Where the API server listens.
    pub fn api_server(&self) -> SocketAddr {
        let config = kube::config::Kubeconfig::read_from(self.plane.kubeconfig()).unwrap();
        let server = config.clusters[0].cluster.as_ref().unwrap().server.clone();
        server
            .unwrap()
            .trim_start_matches("https://")
            .parse()
            .unwrap()
    }

    /// A client of a user in no group: who may do what RBAC grants.
    pub async fn client_of(&self, user: &str) -> Client {
        self.plane.client_for(user, None).await.unwrap()
    }

    /// One whose operator has every right but to see namespaces.
    pub async fn without_namespaces() -> Self {
        let world = Self::prepare(json!({})).await;
        let own = json!([
            {"apiGroups": ["iam.astronomer.io"], "resources": ["*"], "verbs": ["*"]},
            {"apiGroups": [""], "resources": ["secrets"], "verbs": ["get", "list", "watch"]},
            {"apiGroups": ["coordination.k8s.io"], "resources": ["leases"], "verbs": ["*"]},
        ]);
        world.grant("own", own).await;
        world.until_permitted(&world.user, "list", None).await;
        world
    }

    /// Grants what RBAC calls `name` to the operator's user, who has nothing else in no group.
    pub async fn grant(&self, name: &str, rules: Value) {
        let name = format!("{}-{name}", self.namespace);
        let parameters = PatchParams::apply("test").force();
        let role = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRole",
            "metadata": {"name": name}, "rules": rules,
        });
        Api::<ClusterRole>::all(self.client.clone())
            .patch(&name, &parameters, &Patch::Apply(role))
            .await
            .unwrap();
        let binding = json!({
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "ClusterRoleBinding",
            "metadata": {"name": name},
            "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": name},
            "subjects": [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": self.user}],
        });
        Api::<ClusterRoleBinding>::all(self.client.clone())
            .patch(&name, &parameters, &Patch::Apply(binding))
            .await
            .unwrap();
    }

    /// Returns once RBAC lets the user do that to OrgInvites of the namespace, or of all.
    pub async fn until_permitted(&self, user: &str, verb: &str, namespace: Option<&str>) {
        let attributes = json!({
            "group": "iam.astronomer.io", "resource": "orginvites", "verb": verb, "namespace": namespace,
        });
        let granted = until_permitted(&self.client, user, attributes);
        self.in_time("the right is granted", granted).await.unwrap();
    }

    /// Has the API server refuse each update that makes `expression` false of such an object of this world. In force
    /// once it refuses `refused`, a patch of that object.
    pub async fn admit_only<K>(
        &self,
        api: &Api<K>,
        name: &str,
        (expression, message): (&str, &str),
        refused: Value,
    ) where
        K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug,
    {
        let rule = json!({
            "apiGroups": [K::group(&())], "apiVersions": [K::version(&())],
            "operations": ["UPDATE"], "resources": [K::plural(&())], "resourceNames": [name],
        });
        let policy = json!({
            "metadata": {"name": self.namespace},
            "spec": {
                "matchConstraints": {
                    "namespaceSelector": {"matchLabels": {"kubernetes.io/metadata.name": self.namespace}},
                    "resourceRules": [rule],
                },
                "validations": [{"expression": expression, "message": message}],
            },
        });
        let binding = json!({
            "metadata": {"name": self.namespace},
            "spec": {"policyName": self.namespace, "validationActions": ["Deny"]},
        });
        let params = PostParams::default();
        let policy = serde_json::from_value(policy).unwrap();
        self.policies().create(&params, &policy).await.unwrap();
        let binding = serde_json::from_value(binding).unwrap();
        self.bindings().create(&params, &binding).await.unwrap();
        let only_tried = PatchParams {
            dry_run: true,
            ..PatchParams::default()
        };
        let refused = Patch::Merge(refused);
        let in_force = async {
            while api.patch(name, &only_tried, &refused).await.is_ok() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.in_time("the policy is in force", in_force).await;
    }

    /// Ends [`World::admit_only`].
    pub async fn admit_all(&self) {
        let params = DeleteParams::default();
        self.bindings()
            .delete(&self.namespace, &params)
            .await
            .unwrap();
        self.policies()
            .delete(&self.namespace, &params)
            .await
            .unwrap();
    }

    fn policies(&self) -> Api<ValidatingAdmissionPolicy> {
        Api::all(self.client.clone())
    }

    fn bindings(&self) -> Api<ValidatingAdmissionPolicyBinding> {
        Api::all(self.client.clone())
    }

    /// Takes back what [`World::grant`] granted; returns once the API server knows.
    pub async fn withdraw(&self, name: &str, attributes: Value) {
        let binding = format!("{}-{name}", self.namespace);
        Api::<ClusterRoleBinding>::all(self.client.clone())
            .delete(&binding, &DeleteParams::default())
            .await
            .unwrap();
        let withdrawn = async {
            while is_permitted(&self.client, &self.user, &attributes)
                .await
                .unwrap()
            {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.in_time("the right is withdrawn", withdrawn).await;
    }

    fn kubeconfig(&self, user: &str) -> PathBuf {
        self.plane
            .kubeconfig_for(user, Some("system:masters"))
            .unwrap()
    }

    fn launch(&self, pod: &str, kubeconfig: &Path, more: &[&str]) -> Operator {
        let mut args: Vec<String> = [
            "--astro-url",
            &self.astro.url(),
            "--namespace",
            &self.namespace,
            "--organizations",
            &self.organization,
            "--lease-duration",
            "6s",
            "--request-deadline",
            &format!("{REQUEST_DEADLINE:?}"),
            "--settle",
            &format!("{}ms", SETTLE.as_millis()),
            "--listing-delay",
            "200ms",
            "--email-spacing",
            "0s",
            // Tests move Astro's clock by weeks.
            "--clock-tolerance",
            "10000h",
            "--posts-per-second",
            "1000",
            "--deletes-per-second",
            "1000",
            "--gets-per-second",
            "1000",
            "--log-format",
            "json",
        ]
        .map(str::to_owned)
        .to_vec();
        for flag in more.chunks(2) {
            match args.iter().position(|arg| *arg == flag[0]) {
                Some(at) => flag[1].clone_into(&mut args[at + 1]),
                None => args.extend(flag.iter().map(ToString::to_string)),
            }
        }
        let binary = Path::new(env!("CARGO_BIN_EXE_orginvite-operator"));
        let mut environment = self.environment.clone();
        environment.push(("HOSTNAME".to_owned(), pod.to_owned()));
        Operator::start_in(binary, kubeconfig, &self.log_of(pod), &args, &environment).unwrap()
    }

    /// What the operator's admin server answers.
    pub async fn admin(&self, path: &str) -> (u16, String) {
        self.admin_of(self.operator.as_ref().unwrap(), path).await
    }

    /// What the admin server of that operator answers.
    pub async fn admin_of(&self, operator: &Operator, path: &str) -> (u16, String) {
        self.until("the admin server listens", || {
            operator.admin_address().is_some()
        })
        .await;
        let url = format!("http://{}{path}", operator.admin_address().unwrap());
        let answer = reqwest::get(url).await.unwrap();
        (answer.status().as_u16(), answer.text().await.unwrap())
    }

    /// Kills the operator with SIGKILL.
    pub fn kill_operator(&mut self) {
        self.operator.take().unwrap().kill();
    }

    pub async fn create_namespace(&self, name: &str, labels: Value) {
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": name, "labels": labels}})).unwrap();
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await
            .unwrap();
    }

    pub async fn put_token(&self, token: &str) {
        let secret = json!({"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "astro-token"}, "stringData": {"token": token}});
        Api::<Secret>::namespaced(self.client.clone(), &self.namespace)
            .patch(
                "astro-token",
                &PatchParams::apply("test").force(),
                &Patch::Apply(secret),
            )
            .await
            .unwrap();
    }

    pub async fn remove_token(&self) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), &self.namespace);
        let params = DeleteParams::default();
        secrets.delete("astro-token", &params).await.unwrap();
    }

    pub fn invites(&self) -> Api<OrgInvite> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    pub fn manifest(&self, name: &str, email: &str, role: &str) -> OrgInvite {
        self.manifest_in(&self.namespace, name, email, role)
    }

    pub fn manifest_in(&self, namespace: &str, name: &str, email: &str, role: &str) -> OrgInvite {
        serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "OrgInvite",
            "metadata": {"name": name, "namespace": namespace},
            "spec": {"email": email, "role": role, "organizationRef": {"name": self.organization}},
        }))
        .unwrap()
    }

    /// Creates an OrgInvite for a member.
    pub async fn apply(&self, name: &str, email: &str) -> OrgInvite {
        let object = self.manifest(name, email, "ORGANIZATION_MEMBER");
        self.create(&object).await
    }

    pub async fn create(&self, object: &OrgInvite) -> OrgInvite {
        self.invites()
            .create(&PostParams::default(), object)
            .await
            .unwrap()
    }

    /// As kubectl replace does: what is not named is dropped. Again after a conflict.
    pub async fn replace(&self, mut object: OrgInvite) -> OrgInvite {
        let name = object.name_any();
        loop {
            let present = self.invites().get(&name).await.unwrap();
            object.metadata.resource_version = present.metadata.resource_version;
            let params = PostParams::default();
            match self.invites().replace(&name, &params, &object).await {
                Ok(replaced) => return replaced,
                Err(kube::Error::Api(status)) if status.code == 409 => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    pub async fn edit_role(&self, name: &str, role: &str) {
        let patch = Patch::Merge(json!({"spec": {"role": role}}));
        self.invites()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Edits the role of an invited object, and holds the DELETE of its invitation that follows.
    pub async fn hold_replacement(&self, name: &str, at: HoldPoint) -> Gate {
        let mut gate = self.astro.hold(Operation::DeleteInvite, at);
        self.edit_role(name, "ORGANIZATION_BILLING_ADMIN").await;
        self.in_time("the DELETE is held", gate.arrived())
            .await
            .unwrap();
        gate
    }

    pub async fn annotate(&self, name: &str, annotation: &str, value: &str) {
        let patch = Patch::Merge(json!({"metadata": {"annotations": {annotation: value}}}));
        self.invites()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    pub async fn edit(&self, name: &str, spec: Value) {
        let patch = Patch::Merge(json!({"spec": spec}));
        self.invites()
            .patch(name, &PatchParams::default(), &patch)
            .await
            .unwrap();
    }

    /// Another Organization for the same organizationId, which is younger or counts as such: its name.
    pub async fn duplicate_organization(&self) -> String {
        let api: Api<Organization> = Api::all(self.client.clone());
        let mut twin = api.get(&self.organization).await.unwrap();
        // Creation times are whole seconds; the name decides among equals.
        let name = format!("{}-b", self.organization);
        twin.metadata = ObjectMeta {
            name: Some(name.clone()),
            ..ObjectMeta::default()
        };
        twin.status = None;
        api.create(&PostParams::default(), &twin).await.unwrap();
        name
    }

    pub async fn edit_organization(&self, patch: Value) {
        Api::<Organization>::all(self.client.clone())
            .patch(
                &self.organization,
                &PatchParams::default(),
                &Patch::Merge(patch),
            )
            .await
            .unwrap();
    }

    pub async fn delete_organization(&self) {
        Api::<Organization>::all(self.client.clone())
            .delete(&self.organization, &DeleteParams::default())
            .await
            .unwrap();
    }

    /// Deletes the Organization whatever needs it.
    pub async fn remove_organization(&self) {
        self.delete_organization().await;
        self.edit_organization(json!({"metadata": {"finalizers": null}}))
            .await;
    }

    /// Moves Astro's clock, and has the object planned again, as its timer would when time passes.
    pub async fn pass_time(&self, name: &str, time: jiff::SignedDuration) {
        self.astro.set_clock_offset(time);
        let lists = self.astro.count(Operation::ListUsers);
        self.until("the operator has read the clock", || {
            self.astro.count(Operation::ListUsers) >= lists + 2
        })
        .await;
        self.annotate(name, "test/touched", &time.to_string()).await;
    }

    pub async fn delete(&self, name: &str) {
        self.invites()
            .delete(name, &DeleteParams::default())
            .await
            .unwrap();
    }

    pub async fn deleted(&self, name: &str, uid: &str) {
        let gone = await_condition(self.invites(), name, conditions::is_deleted(uid));
        self.in_time(&format!("{name} is gone"), gone)
            .await
            .unwrap();
    }

    /// Waits until the object has a finalizer.
    pub async fn held(&self, name: &str) {
        let held = |object: Option<&OrgInvite>| {
            object.is_some_and(|object| !object.finalizers().is_empty())
        };
        let held = await_condition(self.invites(), name, held);
        self.in_time("it is held", held).await.unwrap();
    }

    /// The object once its Ready condition has that reason, for its present generation if nothing is under way.
    pub async fn state(&self, name: &str, reason: &str) -> OrgInvite {
        self.state_in(&self.namespace, name, reason).await
    }

    pub async fn state_in(&self, namespace: &str, name: &str, reason: &str) -> OrgInvite {
        let wanted = reason.to_owned();
        // A truth that is kept from before, while something is under way, is not yet this state.
        let reached = move |object: Option<&OrgInvite>| {
            object.is_some_and(|object| {
                let observed = object
                    .status
                    .as_ref()
                    .map(|status| status.observed_generation);
                condition(object, "Ready").is_some_and(|ready| {
                    ready.reason == wanted
                        && match condition(object, "Reconciling") {
                            Some(_) => ready.status != "True",
                            None => observed == object.metadata.generation,
                        }
                })
            })
        };
        let api: Api<OrgInvite> = Api::namespaced(self.client.clone(), namespace);
        let wait = await_condition(api.clone(), name, reached);
        let Ok(object) = tokio::time::timeout(DEADLINE, wait).await else {
            let status = api.get(name).await.map(|object| object.status);
            panic!("{name} is not {reason}: {status:#?}\n{}", self.tail());
        };
        object.unwrap().unwrap()
    }

    /// Waits until the message of its Ready or Reconciling condition holds that text.
    pub async fn says(&self, name: &str, text: &str) {
        let told = async {
            loop {
                let object = self.invites().get(name).await.unwrap();
                let mut told = ["Ready", "Reconciling"]
                    .into_iter()
                    .filter_map(|kind| condition(&object, kind));
                if told.any(|told| told.message.contains(text)) {
                    break;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.in_time(&format!("{name} says {text:?}"), told).await;
    }

    pub async fn organization_is(&self, reason: &str) {
        let wanted = reason.to_owned();
        let reached = move |object: Option<&Organization>| {
            object
                .and_then(|object| object.status.as_ref())
                .is_some_and(|status| {
                    status
                        .conditions
                        .iter()
                        .any(|condition| condition.type_ == "Ready" && condition.reason == wanted)
                })
        };
        let api: Api<Organization> = Api::all(self.client.clone());
        let wait = await_condition(api, &self.organization, reached);
        let reached = self
            .in_time(&format!("the Organization is {reason}"), wait)
            .await
            .unwrap();
        // What waits for it goes by these.
        let conditions = reached.unwrap().status.unwrap().conditions;
        let mut told: Vec<&str> = conditions.iter().map(|one| one.type_.as_str()).collect();
        told.retain(|kind| *kind != "Ready" && *kind != "Suspicious");
        let mut told_by = Reason::ALL.iter().filter(|one| one.as_str() == reason);
        let expected: Vec<&str> = told_by
            .next()
            .unwrap()
            .told_by()
            .iter()
            .filter(|(about, kind)| *about == About::Organization && *kind != "Suspicious")
            .map(|(_, kind)| *kind)
            .collect();
        assert!(
            if told.is_empty() { vec!["Ready"] } else { told } == expected,
            "{conditions:?}"
        );
    }

    /// Waits until a pass that began after now is complete: what is in Astro now was seen.
    pub async fn seen(&self, address: &str) {
        let lists = self.astro.count(Operation::ListUsers);
        // The pass under way and whole ones after it, of two lists each.
        self.until(&format!("{address} is seen"), || {
            self.astro.count(Operation::ListUsers) >= lists + 8
        })
        .await;
    }

    /// Waits until `done`.
    pub async fn until(&self, what: &str, done: impl Fn() -> bool) {
        self.in_time(what, async {
            while !done() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        })
        .await;
    }

    pub async fn in_time<T>(&self, what: &str, wait: impl Future<Output = T>) -> T {
        let Ok(value) = tokio::time::timeout(DEADLINE, wait).await else {
            panic!("not within {DEADLINE:?}: {what}\n{}", self.tail());
        };
        value
    }

    /// The operator's writes to OrgInvites in this world's namespace, optionally of one object.
    pub fn writes(&self, name: Option<&str>) -> usize {
        self.writes_by(&self.user, name)
    }

    /// The same once the audit log has them all: a watch shows a write before.
    pub async fn writes_so_far(&self, name: Option<&str>) -> usize {
        let mut writes = self.writes(name);
        loop {
            tokio::time::sleep(Duration::from_millis(200)).await;
            let now = self.writes(name);
            if now == writes {
                return now;
            }
            writes = now;
        }
    }

    /// Checks that there are so many. Who watches an object sees a write before it is in the audit log.
    pub async fn wrote(&self, name: &str, times: usize) {
        self.until(&format!("{times} writes of {name}"), || {
            self.writes(Some(name)) >= times
        })
        .await;
        assert_eq!(self.writes(Some(name)), times, "{name}");
    }

    /// The same of any user.
    pub fn writes_by(&self, user: &str, name: Option<&str>) -> usize {
        self.plane
            .writes(self.namespace.as_str(), user)
            .unwrap()
            .iter()
            .filter(|entry| entry.resource == "orginvites")
            .filter(|entry| name.is_none_or(|name| entry.name.as_deref() == Some(name)))
            .count()
    }

    /// How often the operator was answered that: get or list.
    pub fn answered(&self, verb: &str, plural: &str) -> usize {
        let meant = |entry: &&AuditEntry| {
            entry.user == self.user && entry.verb == verb && entry.resource == plural
        };
        self.plane
            .audit(|entries| entries.iter().filter(meant).count())
            .unwrap()
    }

    /// What a user asked the API server to change, whatever came of it.
    pub fn attempted_writes_by(&self, user: &str) -> usize {
        let attempted = |entry: &&AuditEntry| {
            entry.user == user && !matches!(entry.verb.as_str(), "get" | "list" | "watch")
        };
        self.plane
            .audit(|entries| entries.iter().filter(attempted).count())
            .unwrap()
    }

    /// Waits until a replica watches all that it plans from: what happens from then on it hears of by these.
    pub async fn watches(&self, replica: &Replica) {
        let kinds = ["leases", "orginvites", "organizations", "namespaces"];
        let what = format!("{} watches everything", replica.pod);
        self.until(&what, || {
            let mut watched = kinds
                .iter()
                .map(|kind| self.plane.is_watched_by(&replica.user, kind));
            watched.all(Result::unwrap)
        })
        .await;
    }

    pub fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), &self.namespace)
    }

    /// Waits until one of these replicas leads, and tells which.
    pub async fn leader<'a>(&self, replicas: &[&'a Replica]) -> &'a Replica {
        let api = self.leases();
        let find = async {
            loop {
                let lease = api.get_opt("orginvite-operator").await.unwrap();
                let holder = lease.and_then(|lease| lease.spec?.holder_identity);
                let leader = holder.and_then(|holder| {
                    replicas
                        .iter()
                        .find(|replica| holder.starts_with(&format!("{}_", replica.pod)))
                });
                if let Some(leader) = leader {
                    return *leader;
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        let pods: Vec<&str> = replicas
            .iter()
            .map(|replica| replica.pod.as_str())
            .collect();
        self.in_time(&format!("one of {pods:?} leads"), find).await
    }

    /// Waits until a replica logs a line whose message begins like that.
    pub async fn logs(&self, replica: &Replica, message: &str) -> Value {
        self.logs_times(replica, message, 1).await
    }

    /// Waits until there are so many such lines, and returns the last of them.
    pub async fn logs_times(&self, replica: &Replica, message: &str, times: usize) -> Value {
        let message = format!("\"message\":\"{message}");
        let found = async {
            loop {
                let log = replica.operator.log();
                let mut lines = log.lines().filter(|line| line.contains(&message));
                if let Some(line) = lines.nth(times - 1) {
                    return serde_json::from_str(line).unwrap();
                }
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        self.in_time(&format!("{} logs {message}", replica.pod), found)
            .await
    }

    /// What the operators logged so far.
    pub fn log(&self) -> String {
        let mut text = String::new();
        for entry in std::fs::read_dir(self.dir.path()).unwrap() {
            let path = entry.unwrap().path();
            if path.extension().is_some_and(|extension| extension == "log") {
                text.push_str(&read_log(&path));
            }
        }
        text
    }

    fn log_of(&self, pod: &str) -> PathBuf {
        self.dir.path().join(format!("{pod}.log"))
    }

    fn tail(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(30)..].join("\n")
    }
}

impl Drop for World {
    fn drop(&mut self) {
        // What must hold in every test, whatever else it is about.
        if std::thread::panicking() {
            return;
        }
        self.astro.assert_contract_kept().unwrap();
        assert_eq!(self.judge.verdict(), Vec::<String>::new());
        assert!(
            !self.log().contains(SECRET_PREFIX),
            "a token, ticket or link in the log"
        );
        assert!(!self.log().contains("panicked"), "the operator panicked");
    }
}

pub fn condition<'a>(object: &'a OrgInvite, kind: &str) -> Option<&'a Condition> {
    object
        .status
        .as_ref()?
        .conditions
        .iter()
        .find(|condition| condition.type_ == kind)
}

pub fn invite_id(object: &OrgInvite) -> String {
    object.status.as_ref().unwrap().invite_id.clone().unwrap()
}

pub fn uid(object: &OrgInvite) -> String {
    object.uid().unwrap()
}

/// Installs the definitions once for this control plane.
async fn install_definitions(client: &Client) {
    static DONE: tokio::sync::Mutex<bool> = tokio::sync::Mutex::const_new(false);
    let mut done = DONE.lock().await;
    if *done {
        return;
    }
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    for crd in crds() {
        let name = crd.name_any();
        api.patch(&name, &PatchParams::apply("test"), &Patch::Apply(&crd))
            .await
            .unwrap();
        let wait = await_condition(api.clone(), &name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, wait)
            .await
            .expect("definitions are established")
            .unwrap();
    }
    *done = true;
}

/// So many finalizers of 300 bytes. An object tells them twice: in `managedFields` as well.
pub fn finalizers(count: usize) -> Vec<String> {
    let domain = ["f"; 4].map(|letter| letter.repeat(60)).join(".");
    let name = "f".repeat(50);
    (0..count)
        .map(|number| format!("{domain}/{number}-{name}"))
        .collect()
}
