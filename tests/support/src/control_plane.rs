//! The real kube-apiserver and etcd for a test run.
//!
//! A test process starts the `control-plane` binary and holds its standard input. That supervisor starts the servers
//! and stops them when the input ends, which it does however the test process ends. The servers in turn die with the
//! supervisor, and what a killed supervisor leaves on disk is removed at the next start.
//!
//! Nothing of an async runtime is kept in a [`ControlPlane`], so tests with a runtime each can share one.

mod assets;
mod audit;
mod credentials;
mod etcd;
pub(crate) mod process;
mod run_directory;
mod supervisor;

use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use anyhow::{Context, Result, anyhow, bail};
use k8s_openapi::api::authorization::v1::SubjectAccessReview;
use kube::api::PostParams;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Api, Client, Config};
use parking_lot::Mutex;
use serde_json::{Value, json};

pub use assets::{ETCD_VERSION, HELM_VERSION, KUBERNETES_VERSION};
pub use audit::AuditEntry;
pub use supervisor::supervise;

use assets::Binary;
use audit::AuditLog;
use credentials::Authority;
use supervisor::{Answer, Order, Ready};

/// The user name of [`ControlPlane::client`].
pub const ADMIN: &str = "admin";

/// The group whose members may do everything.
pub const MASTERS: &str = "system:masters";

/// The user whose every request is in the audit log, whatever it is about.
pub const AUDITED: &str = "audited";

/// The group of our resources.
const GROUP: &str = "iam.astronomer.io";

/// The supervisor takes a fraction of a second.
const STOP_DEADLINE: Duration = Duration::from_secs(15);

/// A running kube-apiserver with its etcd. Dropping it stops both and removes all they wrote.
#[derive(Debug)]
pub struct ControlPlane {
    ready: Ready,
    audit: AuditLog,
    supervisor: Arc<Mutex<Supervisor>>,
}

impl ControlPlane {
    /// The control plane of this test process: started on first use, stopped when the process ends.
    /// When it cannot be started, every caller gets that error; it is not tried again.
    pub async fn shared() -> Result<&'static Self> {
        static SHARED: OnceLock<Result<ControlPlane, String>> = OnceLock::new();
        let start = || SHARED.get_or_init(|| Self::launch().map_err(|error| format!("{error:#}")));
        let shared = tokio::task::spawn_blocking(start).await?;
        shared.as_ref().map_err(|error| anyhow!("{error}"))
    }

    /// Starts a control plane of its own for the caller. Takes seconds, or minutes where the servers must be built
    /// first; what happens is told on standard error.
    pub async fn start() -> Result<Self> {
        tokio::task::spawn_blocking(Self::launch).await?
    }

    fn launch() -> Result<Self> {
        let (supervisor, ready) = Supervisor::launch()?;
        Ok(Self {
            audit: AuditLog::at(ready.audit_log.clone()),
            ready,
            supervisor: Arc::new(Mutex::new(supervisor)),
        })
    }

    /// A new client of the user [`ADMIN`], who may do everything.
    pub async fn client(&self) -> Result<Client> {
        client(self.kubeconfig()).await
    }

    /// A new client of another user: see [`Self::kubeconfig_for`].
    pub async fn client_for(&self, user: &str, group: Option<&str>) -> Result<Client> {
        client(&self.kubeconfig_for(user, group)?).await
    }

    /// The kubeconfig of the user [`ADMIN`], who may do everything.
    #[must_use]
    pub fn kubeconfig(&self) -> &Path {
        &self.ready.kubeconfig
    }

    /// Writes a kubeconfig for a user of that name. Without a group, the user may do what RBAC grants to the name;
    /// in [`MASTERS`], everything. The file goes with the control plane.
    pub fn kubeconfig_for(&self, user: &str, group: Option<&str>) -> Result<PathBuf> {
        Authority::load(&self.ready.directory)?.write_kubeconfig(&self.ready.server, user, group)
    }

    /// Writes a kubeconfig for the bearer of a token, such as a service account's. The file goes with the control plane.
    pub fn kubeconfig_with_token(&self, token: &str) -> Result<PathBuf> {
        Authority::load(&self.ready.directory)?
            .write_kubeconfig_with_token(&self.ready.server, token)
    }

    /// The directory that holds everything of this control plane, the logs of its servers among it.
    #[must_use]
    pub fn directory(&self) -> &Path {
        &self.ready.directory
    }

    /// Looks at every finished request about the group `iam.astronomer.io`, and whatever else the user [`AUDITED`]
    /// asked for, oldest first. A request is in the log before its caller has the whole response.
    pub fn audit<T>(&self, look: impl FnOnce(&[AuditEntry]) -> T) -> Result<T> {
        self.audit.look(look)
    }

    /// Whether a user's watch of objects of that kind was answered.
    pub fn is_watched_by(&self, user: &str, resource: &str) -> Result<bool> {
        self.audit.look_at_watches(|watches| {
            watches
                .iter()
                .any(|watch| watch.user == user && watch.resource == resource)
        })
    }

    /// The successful writes of a user to objects of the group `iam.astronomer.io`, oldest first: in one namespace,
    /// or, with `None`, to cluster-scoped objects.
    pub fn writes<'a>(
        &self,
        namespace: impl Into<Option<&'a str>>,
        user: &str,
    ) -> Result<Vec<AuditEntry>> {
        let namespace = namespace.into();
        let wanted = |entry: &&AuditEntry| {
            entry.is_write()
                && entry.group == GROUP
                && entry.namespace.as_deref() == namespace
                && entry.user == user
        };
        self.audit(|entries| entries.iter().filter(wanted).cloned().collect())
    }

    /// Starts a kube-controller-manager with the controllers for namespaces, service accounts and garbage collection,
    /// unless it runs already, and waits until it works.
    pub async fn start_controller_manager(&self) -> Result<()> {
        self.done(Order::ControllerManager).await
    }

    /// A kubectl of the same version.
    pub async fn kubectl(&self) -> Result<PathBuf> {
        match self.order(Order::Kubectl).await? {
            Answer::Found(path) => Ok(path),
            answer => bail!("the control plane gave an answer to another question: {answer:?}"),
        }
    }

    /// Kills the API server; etcd and all that is stored stay. Not on one that is shared.
    pub async fn stop_api_server(&self) -> Result<()> {
        self.done(Order::StopApiServer).await
    }

    /// Starts the API server again where it was, unless it runs, and waits until it is ready.
    pub async fn start_api_server(&self) -> Result<()> {
        self.done(Order::StartApiServer).await
    }

    /// Has etcd forget all revisions but the present one.
    pub async fn compact(&self) -> Result<()> {
        self.done(Order::Compact).await
    }

    async fn done(&self, order: Order) -> Result<()> {
        match self.order(order).await? {
            Answer::Done => Ok(()),
            answer => bail!("the control plane gave an answer to another question: {answer:?}"),
        }
    }

    async fn order(&self, order: Order) -> Result<Answer> {
        let supervisor = Arc::clone(&self.supervisor);
        tokio::task::spawn_blocking(move || supervisor.lock().order(order)).await?
    }
}

/// The helm that the chart is tested with.
pub async fn helm() -> Result<PathBuf> {
    let [helm] = assets::find([Binary::Helm]).await?;
    Ok(helm)
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    // An error means that the process has a provider already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let kubeconfig = Kubeconfig::read_from(kubeconfig)?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}

/// Returns once the user may do what the attributes of a SubjectAccessReview say: what RBAC grants is known to the
/// API server's authorizer a moment after it was written.
pub async fn until_permitted(client: &Client, user: &str, attributes: Value) -> Result<()> {
    while !is_permitted(client, user, &attributes).await? {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    Ok(())
}

/// Whether the API server's authorizer lets the user do that now.
pub async fn is_permitted(client: &Client, user: &str, attributes: &Value) -> Result<bool> {
    let reviews: Api<SubjectAccessReview> = Api::all(client.clone());
    let spec = json!({"user": user, "resourceAttributes": attributes});
    let review = serde_json::from_value(json!({"spec": spec}))?;
    let answer = reviews.create(&PostParams::default(), &review).await?;
    Ok(answer.status.is_some_and(|status| status.allowed))
}

/// The supervisor process as its parent sees it.
#[derive(Debug)]
struct Supervisor {
    process: Child,
    orders: Option<ChildStdin>,
    answers: BufReader<ChildStdout>,
}

impl Supervisor {
    /// Waits without a deadline of its own: the supervisor has one for each thing it does, and building the servers
    /// takes as long as it takes.
    fn launch() -> Result<(Self, Ready)> {
        let program = supervisor_program()?;
        let mut process = Command::new(&program)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            // Out of reach of a Ctrl-C in the terminal, so that it stops in order when its input ends.
            .process_group(0)
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        let orders = process.stdin.take();
        let answers = process
            .stdout
            .take()
            .context("the supervisor has no standard output")?;
        let mut supervisor = Self {
            process,
            orders,
            answers: BufReader::new(answers),
        };
        match supervisor
            .answer()
            .context("the control plane did not start")?
        {
            Answer::Ready(ready) => Ok((supervisor, ready)),
            answer => bail!("the control plane began with the wrong answer: {answer:?}"),
        }
    }

    fn order(&mut self, order: Order) -> Result<Answer> {
        let orders = self
            .orders
            .as_mut()
            .context("the control plane is stopping")?;
        writeln!(orders, "{}", serde_json::to_string(&order)?)
            .context("the control plane is gone")?;
        self.answer()
    }

    fn answer(&mut self) -> Result<Answer> {
        let mut line = String::new();
        self.answers.read_line(&mut line)?;
        if line.is_empty() {
            bail!("the control plane is gone; its last words are on standard error");
        }
        match serde_json::from_str(&line).with_context(|| format!("reading the answer {line:?}"))? {
            Answer::Failed(error) => bail!(error),
            answer => Ok(answer),
        }
    }
}

impl Drop for Supervisor {
    fn drop(&mut self) {
        drop(self.orders.take());
        let deadline = Instant::now() + STOP_DEADLINE;
        while Instant::now() < deadline {
            if !matches!(self.process.try_wait(), Ok(None)) {
                return;
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Cargo puts the binaries of the workspace one directory above its test executables and examples.
fn supervisor_program() -> Result<PathBuf> {
    let this = std::env::current_exe().context("finding this executable")?;
    let name = format!("control-plane{}", std::env::consts::EXE_SUFFIX);
    this.ancestors()
        .skip(1)
        .take(2)
        .map(|directory| directory.join(&name))
        .find(|path| path.is_file())
        .with_context(|| {
            format!(
                "there is no `{name}` near {}: run `cargo build -p support` first",
                this.display()
            )
        })
}
