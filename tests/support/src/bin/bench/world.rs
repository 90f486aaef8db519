//! What one scenario runs in: an API server, a fake of Astro, and the operator as a process.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use k8s_openapi::api::core::v1::{Namespace, Secret};
use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{Patch, PatchParams, PostParams};
use kube::client::Body;
use kube::core::{ApiResource, GroupVersionKind, Object};
use kube::runtime::wait::{await_condition, conditions};
use kube::{Api, Client, ResourceExt};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use support::control_plane::{AUDITED, ControlPlane, MASTERS};
use support::fake_astro::{FakeAstro, Limits};
use support::operator::Operator;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

use super::cost::{Mark, Spent};
use super::process;

/// How long anything may take before a scenario fails that is not about many objects.
pub const DEADLINE: Duration = Duration::from_mins(1);

/// How many seconds a profile is of.
const PROFILED: u32 = 9;

/// What a scenario is given.
pub struct Setup {
    /// The API server.
    pub plane: Arc<ControlPlane>,
    /// Whether other scenarios left objects on it.
    pub is_shared: bool,
    /// The operator's program.
    pub operator: PathBuf,
    /// Whether that is another operator, which is only beside ours.
    pub is_peer: bool,
    /// Where to write a profile of the API server.
    pub profile: Option<PathBuf>,
}

/// How many calls a second: of the operator's budget, and of the fake's patience.
#[derive(Clone, Copy)]
pub enum Rates {
    /// As many as there are.
    Unlimited,
    /// As Astro publishes them; the fake answers 429 to more.
    Published,
}

/// How often the organization is read.
pub struct Interval(pub &'static str);

/// An `OrgInvite` as far as the benchmark reads it.
pub type Invite = Object<Spec, Status>;

/// Its spec.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Spec {
    pub email: String,
    pub role: String,
    pub organization_ref: OrganizationRef,
}

/// The Organization that it is for.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct OrganizationRef {
    pub name: String,
}

/// Its status.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Status {
    #[serde(default)]
    pub invite_id: Option<String>,
    #[serde(default)]
    pub conditions: Vec<Condition>,
}

/// One condition.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct Condition {
    #[serde(rename = "type")]
    pub kind: String,
    pub status: String,
}

/// One scenario's world.
pub struct World {
    pub astro: FakeAstro,
    pub client: Client,
    pub plane: Arc<ControlPlane>,
    /// Of the namespace and of the Organization.
    pub name: String,
    pub is_peer: bool,
    /// Whether the operator waits for seconds where it waits for minutes by default.
    pub waits_less: bool,
    is_shared: bool,
    program: PathBuf,
    log: PathBuf,
    profile: Option<PathBuf>,
    operator: Option<Operator>,
    _directory: tempfile::TempDir,
}

impl World {
    /// A world whose operator does not run yet.
    pub async fn prepare(setup: &Setup, interval: Interval) -> anyhow::Result<Self> {
        let client = setup.plane.client().await?;
        install_definitions(&client).await?;
        let name = new_name();
        let directory = tempfile::tempdir()?;
        let world = Self {
            astro: FakeAstro::start().await?,
            client,
            plane: Arc::clone(&setup.plane),
            name,
            is_peer: setup.is_peer,
            waits_less: false,
            is_shared: setup.is_shared,
            program: setup.operator.clone(),
            log: directory.path().join("operator.log"),
            profile: setup.profile.clone(),
            operator: None,
            _directory: directory,
        };
        let namespace: Namespace =
            serde_json::from_value(json!({"metadata": {"name": world.name}}))?;
        Api::all(world.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let secret: Secret = serde_json::from_value(json!({
            "metadata": {"name": "astro-token"}, "stringData": {"token": world.astro.token()},
        }))?;
        Api::namespaced(world.client.clone(), &world.name)
            .create(&PostParams::default(), &secret)
            .await?;
        let organization: Object<Value, Value> = serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "Organization",
            "metadata": {"name": world.name},
            "spec": {
                "organizationId": world.astro.organization_id(),
                "tokenSecretRef": {"name": "astro-token"},
                "syncInterval": interval.0,
                "allow": [{"namespaces": [world.name], "roles": ["ORGANIZATION_MEMBER"]}],
            },
        }))?;
        world
            .organizations()
            .create(&PostParams::default(), &organization)
            .await?;
        Ok(world)
    }

    /// Starts the operator with its own defaults, but for `rates` and where it waits less.
    pub fn start_operator(&mut self, rates: Rates) -> anyhow::Result<()> {
        let mut flags = vec![
            "--astro-url".to_owned(),
            self.astro.url(),
            "--namespace".to_owned(),
            self.name.clone(),
        ];
        if self.is_shared {
            flags.extend(["--organizations".to_owned(), self.name.clone()]);
        }
        if self.waits_less {
            let less = [
                ["--lease-duration", "2s"],
                ["--request-deadline", "1s"],
                ["--listing-delay", "500ms"],
                ["--settle", "4s"],
            ];
            flags.extend(less.concat().into_iter().map(str::to_owned));
        }
        match rates {
            Rates::Published => self.astro.set_limits(Some(Limits::default())),
            Rates::Unlimited => {
                self.astro.set_limits(None);
                for verb in ["posts", "deletes", "gets"] {
                    flags.extend([format!("--{verb}-per-second"), "1000000".to_owned()]);
                }
            }
        }
        let kubeconfig = self.plane.kubeconfig_for(AUDITED, Some(MASTERS))?;
        let log_level = [("RUST_LOG".to_owned(), "info".to_owned())];
        self.operator = Some(Operator::start_in(
            &self.program,
            &kubeconfig,
            &self.log,
            &flags,
            &log_level,
        )?);
        Ok(())
    }

    /// Kills the operator.
    pub fn kill_operator(&mut self) -> anyhow::Result<()> {
        self.operator.take().context("no operator runs")?.kill();
        Ok(())
    }

    /// Stops the operator as Kubernetes does.
    pub async fn stop_operator(&mut self) -> anyhow::Result<()> {
        let mut operator = self.operator.take().context("no operator runs")?;
        operator.terminate()?;
        let ended = async {
            while operator.is_running() {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, ended)
            .await
            .context("the operator does not stop")
    }

    /// The operator's process.
    pub fn operator(&self) -> anyhow::Result<u32> {
        Ok(self.operator.as_ref().context("no operator runs")?.pid())
    }

    /// Waits until the operator's `/readyz` answers 200.
    pub async fn ready(&self) -> anyhow::Result<()> {
        let operator = self.operator.as_ref().context("no operator runs")?;
        let ready = async {
            while !matches!(operator.admin_address(), Some(address) if answers_200(address).await) {
                tokio::time::sleep(Duration::from_millis(10)).await;
            }
        };
        tokio::time::timeout(DEADLINE, ready)
            .await
            .with_context(|| format!("the operator is not ready; {}", self.last_words()))
    }

    /// Memory of the operator.
    pub fn memory(&self) -> anyhow::Result<process::Memory> {
        process::memory(self.operator()?)
    }

    /// Waits until the operator has read the organization.
    pub async fn connected(&self) -> anyhow::Result<()> {
        let connected = |object: Option<&Object<Value, Value>>| {
            let conditions =
                object.and_then(|object| object.status.as_ref()?["conditions"].as_array());
            conditions
                .into_iter()
                .flatten()
                .any(|condition| condition["type"] == "Ready" && condition["reason"] == "Connected")
        };
        let wait = await_condition(self.organizations(), &self.name, connected);
        if let Ok(outcome) = tokio::time::timeout(DEADLINE, wait).await {
            outcome?;
            return Ok(());
        }
        bail!("the Organization is not connected; {}", self.last_words())
    }

    /// This moment, for telling what is spent from here on.
    pub async fn mark(&self) -> anyhow::Result<Mark> {
        let mark = Mark::now(self).await?;
        if let Some(file) = self.profile.clone() {
            let client = self.client.clone();
            tokio::spawn(async move {
                if let Err(error) = profile(client, file).await {
                    eprintln!("There is no profile of kube-apiserver: {error:#}");
                }
            });
        }
        Ok(mark)
    }

    /// What was spent since then.
    pub async fn since(&self, mark: &Mark) -> anyhow::Result<Spent> {
        Spent::since(mark, self).await
    }

    /// The objects.
    pub fn invites(&self) -> Api<Invite> {
        Api::namespaced_with(self.client.clone(), &self.name, &resource("OrgInvite"))
    }

    /// The objects of another namespace, which is made for them and is allowed nothing.
    pub async fn intruders(&self) -> anyhow::Result<Api<Invite>> {
        let name = format!("{}-intruders", self.name);
        let namespace: Namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
        Api::all(self.client.clone())
            .create(&PostParams::default(), &namespace)
            .await?;
        let resource = resource("OrgInvite");
        Ok(Api::namespaced_with(self.client.clone(), &name, &resource))
    }

    fn organizations(&self) -> Api<Object<Value, Value>> {
        Api::all_with(self.client.clone(), &resource("Organization"))
    }

    /// An object for the person of that number.
    pub fn invite(&self, number: usize) -> Invite {
        let spec = Spec {
            email: address(number),
            role: "ORGANIZATION_MEMBER".to_owned(),
            organization_ref: OrganizationRef {
                name: self.name.clone(),
            },
        };
        Object::new(&object_name(number), &resource("OrgInvite"), spec)
    }

    /// The end of the operator's log.
    pub fn last_words(&self) -> String {
        let log = std::fs::read_to_string(&self.log).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        format!(
            "its log ends with\n{}",
            lines[lines.len().saturating_sub(20)..].join("\n")
        )
    }
}

/// Writes what kube-apiserver spends its CPU on in the seconds to come.
async fn profile(client: Client, file: PathBuf) -> anyhow::Result<()> {
    let path = format!("/debug/pprof/profile?seconds={PROFILED}");
    let request = http::Request::get(path).body(Body::empty())?;
    let profile = client.send(request).await?.into_body();
    std::fs::write(file, profile.collect_bytes().await?)?;
    Ok(())
}

/// Whether `/readyz` at that address answers 200.
async fn answers_200(address: SocketAddr) -> bool {
    let ask = async {
        let mut connection = TcpStream::connect(address).await?;
        connection
            .write_all(b"GET /readyz HTTP/1.0\r\n\r\n")
            .await?;
        let mut answer = Vec::new();
        connection.read_to_end(&mut answer).await?;
        std::io::Result::Ok(answer)
    };
    ask.await
        .is_ok_and(|answer| answer.starts_with(b"HTTP/1.0 200"))
}

/// Name of the object for the person of that number.
pub fn object_name(number: usize) -> String {
    format!("person-{number}")
}

/// Address of the person of that number: as long as they are.
pub fn address(number: usize) -> String {
    format!("firstname.lastname-{number}@example.com")
}

/// Our resource of that kind.
pub fn resource(kind: &str) -> ApiResource {
    ApiResource::from_gvk(&GroupVersionKind::gvk(
        "iam.astronomer.io",
        "v1alpha1",
        kind,
    ))
}

/// A name that no other world of this process has.
fn new_name() -> String {
    static NEXT: AtomicU32 = AtomicU32::new(1);
    format!("bench-{}", NEXT.fetch_add(1, Ordering::Relaxed))
}

async fn install_definitions(client: &Client) -> anyhow::Result<()> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../crds");
    for file in [
        "orginvites.iam.astronomer.io.yaml",
        "organizations.iam.astronomer.io.yaml",
    ] {
        let text = std::fs::read_to_string(directory.join(file))?;
        let definition: CustomResourceDefinition = serde_yaml_ng::from_str(&text)?;
        let api: Api<CustomResourceDefinition> = Api::all(client.clone());
        let name = definition.name_any();
        api.patch(
            &name,
            &PatchParams::apply("bench"),
            &Patch::Apply(&definition),
        )
        .await?;
        let established = await_condition(api, &name, conditions::is_crd_established());
        tokio::time::timeout(DEADLINE, established)
            .await
            .context("the definitions are not established")??;
    }
    Ok(())
}
