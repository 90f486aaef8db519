//! What a run stands on: a control plane of its own, the fake of Astro, and replicas that are started again when they
//! end.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::time::{Duration, Instant};

use jiff::SignedDuration;
use k8s_openapi::api::coordination::v1::Lease;
use k8s_openapi::api::core::v1::{Namespace, Secret};
use kube::api::{Patch, PatchParams, PostParams};
use kube::{Api, Client};
use orginvite_operator::resources::Organization;
use parking_lot::Mutex;
use serde_json::{Value, json};
use support::control_plane::{AuditEntry, ControlPlane};
use support::fake_astro::{Behaviour, FakeAstro, Outcome, PostMember, PostPending};
use support::operator::Operator;

use crate::cable::Cable;
use crate::kstatus;
use crate::process::{Holds, holds};
use crate::witness::Witness;

/// How long the operators here wait for a leader that says nothing.
pub const LEASE: Duration = Duration::from_secs(3);
/// How long they wait for an answer of Astro.
pub const REQUEST_DEADLINE: Duration = Duration::from_secs(2);
/// By how much they reckon that lists may lag.
pub const LISTING_DELAY: Duration = Duration::from_millis(300);
/// Longer than those three together.
pub const SETTLE: Duration = Duration::from_secs(6);
/// How far apart e-mails to one address are.
pub const SPACING: Duration = Duration::from_secs(3);

const OPERATORS: &str = "operators";
const ORGANIZATION: &str = "default";
/// Where people write their manifests.
pub const TEAMS: [&str; 3] = ["team-a", "team-b", "team-c"];
/// How long a fault waits at most until there is something to disturb.
const AT_WORK: Duration = Duration::from_secs(15);
/// How long a write of a person may be tried. Longer than any fault.
const PATIENCE: Duration = Duration::from_mins(2);

/// One pod: the process in it may change.
struct Replica {
    pod: String,
    kubeconfig: PathBuf,
    to_cluster: Cable,
    to_astro: Cable,
    operator: Option<Operator>,
    /// Not started before.
    down_until: Instant,
    /// Whether it was asked to end.
    is_asked: bool,
    starts: u32,
}

/// What was seen of one process: when, since its start, and what it held.
pub struct Life {
    pub pid: u32,
    pub began: Instant,
    pub samples: Vec<(Duration, Holds)>,
}

/// From the first moment to before the second.
pub type Window = (Instant, Instant);

/// A policy that does not let a namespace give a role.
pub struct Forbidden {
    /// Index of [`TEAMS`].
    pub team: usize,
    /// Index of [`ROLES`].
    pub role: usize,
    /// When the operators knew of it for certain.
    pub known: Option<Window>,
    /// When they may have known of it.
    pub at_all: Window,
}

pub struct Stage {
    pub client: Client,
    pub plane: ControlPlane,
    pub astro: FakeAstro,
    pub witness: Witness,
    kstatus: Vec<kstatus::Judge>,
    replicas: Mutex<Vec<Replica>>,
    dir: tempfile::TempDir,
    /// When lists lagged too much.
    pub lags: Mutex<Vec<Window>>,
    /// When a process went on that was stopped.
    pub resumes: Mutex<Vec<Instant>>,
    /// When Astro's clock jumped.
    pub jumps: Mutex<Vec<Instant>>,
    /// When the token might not list users, until the operators listed them again.
    pub blindness: Mutex<Vec<Window>>,
    /// When the operators knew that the Organization was suspended.
    pub suspensions: Mutex<Vec<Window>>,
    pub forbidden: Mutex<Vec<Forbidden>>,
    pub lives: Mutex<Vec<Life>>,
    /// What the admin servers answered.
    pub metrics: Mutex<Vec<String>>,
    /// How processes ended that should not have.
    pub ends: Mutex<Vec<String>>,
}

impl Stage {
    pub async fn set(replicas: usize) -> Arc<Self> {
        let plane = ControlPlane::start().await.unwrap();
        let client = plane.client().await.unwrap();
        let applied = Command::new(env!("CARGO_BIN_EXE_orginvite-operator"))
            .args(["crd", "--apply"])
            .env("KUBECONFIG", plane.kubeconfig())
            .output()
            .unwrap();
        assert!(applied.status.success(), "{applied:?}");
        let astro = FakeAstro::start().await.unwrap();
        // Whoever is written to once too often gets an e-mail.
        astro.set_behaviour(Behaviour {
            post_pending: PostPending::NewInvite,
            post_member: PostMember::UselessInvite,
            ..Behaviour::default()
        });
        for name in TEAMS.into_iter().chain([OPERATORS]) {
            let namespace: Namespace =
                serde_json::from_value(json!({"metadata": {"name": name}})).unwrap();
            Api::all(client.clone())
                .create(&PostParams::default(), &namespace)
                .await
                .unwrap();
        }
        let stage = Self {
            witness: Witness::watch(client.clone()),
            kstatus: TEAMS
                .iter()
                .map(|team| kstatus::Judge::watch(client.clone(), team))
                .collect(),
            replicas: Mutex::default(),
            dir: tempfile::tempdir().unwrap(),
            lags: Mutex::default(),
            resumes: Mutex::default(),
            jumps: Mutex::default(),
            blindness: Mutex::default(),
            suspensions: Mutex::default(),
            forbidden: Mutex::default(),
            lives: Mutex::default(),
            metrics: Mutex::default(),
            ends: Mutex::default(),
            client,
            plane,
            astro,
        };
        stage.put_token().await;
        let organization: Organization = serde_json::from_value(json!({
            "apiVersion": "iam.astronomer.io/v1alpha1", "kind": "Organization",
            "metadata": {"name": ORGANIZATION},
            "spec": {
                "organizationId": stage.astro.organization_id(),
                "tokenSecretRef": {"name": "astro-token"},
                "syncInterval": "1s",
                "allow": [{"namespaceSelector": {}, "roles": ROLES}],
            },
        }))
        .unwrap();
        stage
            .organizations()
            .create(&PostParams::default(), &organization)
            .await
            .unwrap();
        for n in 0..replicas {
            let replica = stage.replica(&format!("pod-{n}")).await;
            stage.replicas.lock().push(replica);
        }
        stage.keep();
        Arc::new(stage)
    }

    async fn replica(&self, pod: &str) -> Replica {
        let config = kube::config::Kubeconfig::read_from(self.plane.kubeconfig()).unwrap();
        let server = config.clusters[0].cluster.as_ref().unwrap().server.clone();
        let server = server.unwrap().trim_start_matches("https://").to_owned();
        let to_cluster = Cable::to(server.parse().unwrap()).await;
        let kubeconfig = self
            .plane
            .kubeconfig_for(pod, Some("system:masters"))
            .unwrap();
        let text = std::fs::read_to_string(kubeconfig).unwrap();
        let moved = text.replace(&server, &to_cluster.address().to_string());
        assert_ne!(moved, text);
        let kubeconfig = self.dir.path().join(format!("{pod}.kubeconfig"));
        std::fs::write(&kubeconfig, moved).unwrap();
        Replica {
            pod: pod.to_owned(),
            kubeconfig,
            to_cluster,
            to_astro: Cable::to(self.astro.address()).await,
            operator: None,
            down_until: Instant::now(),
            is_asked: false,
            starts: 0,
        }
    }

    /// Starts whoever does not run and should: what a kubelet does. To be called again and again.
    pub fn keep(&self) {
        for replica in self.replicas.lock().iter_mut() {
            let runs = replica.operator.as_mut().is_some_and(Operator::is_running);
            if runs || Instant::now() < replica.down_until {
                continue;
            }
            if let Some(mut operator) = replica.operator.take() {
                self.note_end(replica, &mut operator);
                replica.down_until = Instant::now() + Duration::from_millis(500);
                continue;
            }
            let url = self.astro.url().replace(
                &self.astro.address().to_string(),
                &replica.to_astro.address().to_string(),
            );
            let args = [
                ("--astro-url", url),
                ("--namespace", OPERATORS.to_owned()),
                ("--lease-duration", format!("{LEASE:?}")),
                ("--request-deadline", format!("{REQUEST_DEADLINE:?}")),
                ("--listing-delay", format!("{LISTING_DELAY:?}")),
                ("--settle", format!("{SETTLE:?}")),
                ("--email-spacing", format!("{SPACING:?}")),
                ("--clock-tolerance", "10000h".to_owned()),
                ("--posts-per-second", "40".to_owned()),
                ("--deletes-per-second", "40".to_owned()),
                ("--gets-per-second", "100".to_owned()),
                ("--log-format", "json".to_owned()),
            ]
            .map(|(flag, value)| [flag.to_owned(), value])
            .concat();
            let environment = [
                ("HOSTNAME".to_owned(), replica.pod.clone()),
                ("RUST_LOG".to_owned(), "debug".to_owned()),
            ];
            let operator = Operator::start_in(
                Path::new(env!("CARGO_BIN_EXE_orginvite-operator")),
                &replica.kubeconfig,
                &self.dir.path().join(format!("{}.log", replica.pod)),
                &args,
                &environment,
            )
            .unwrap();
            self.lives.lock().push(Life {
                pid: operator.pid(),
                began: Instant::now(),
                samples: Vec::new(),
            });
            replica.operator = Some(operator);
            replica.is_asked = false;
            replica.starts += 1;
        }
    }

    /// Looks at what each process holds, and at its metrics.
    pub async fn sample(&self) {
        for life in self.lives.lock().iter_mut() {
            if let Some(holds) = holds(life.pid) {
                life.samples.push((life.began.elapsed(), holds));
            }
        }
        let addresses: Vec<_> = {
            let replicas = self.replicas.lock();
            let operators = replicas
                .iter()
                .filter_map(|replica| replica.operator.as_ref());
            operators.filter_map(Operator::admin_address).collect()
        };
        for address in addresses {
            let get = reqwest::get(format!("http://{address}/metrics"));
            // It may be stopped or gone.
            let Ok(Ok(answer)) = tokio::time::timeout(Duration::from_millis(500), get).await else {
                continue;
            };
            if let Ok(text) = answer.text().await {
                self.metrics.lock().push(text);
            }
        }
    }

    /// The replica that leads, as far as the API server tells.
    pub async fn leader(&self) -> Option<usize> {
        let leases: Api<Lease> = Api::namespaced(self.client.clone(), OPERATORS);
        let get = leases.get_opt("orginvite-operator");
        let lease = tokio::time::timeout(Duration::from_secs(1), get)
            .await
            .ok()?;
        let holder = lease.ok()??.spec?.holder_identity?;
        let replicas = self.replicas.lock();
        replicas
            .iter()
            .position(|replica| holder.starts_with(&format!("{}_", replica.pod)))
    }

    /// The leader, waiting for one.
    pub async fn some_leader(&self) -> Option<usize> {
        let begun = Instant::now();
        while begun.elapsed() < Duration::from_secs(30) {
            if let Some(leader) = self.leader().await
                && self.with(leader, Operator::is_running).unwrap_or_default()
            {
                return Some(leader);
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        None
    }

    /// Waits until somebody has asked Astro something, and got an answer, since now: a fault that strikes where nothing
    /// is done shows nothing. Not for ever, since other faults go on.
    pub async fn at_work(&self) {
        let (begun, mark) = (Instant::now(), self.astro.mark());
        let answered = || {
            let calls = self.astro.calls_since(mark);
            calls
                .iter()
                .any(|call| matches!(call.outcome, Outcome::Status(200 | 204)))
        };
        while begun.elapsed() < AT_WORK && !answered() {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    /// Does something with the process of a replica, when it has one.
    pub fn with<T>(&self, replica: usize, act: impl FnOnce(&mut Operator) -> T) -> Option<T> {
        self.replicas.lock()[replica].operator.as_mut().map(act)
    }

    pub fn replicas(&self) -> usize {
        self.replicas.lock().len()
    }

    pub fn starts(&self) -> u32 {
        self.replicas
            .lock()
            .iter()
            .map(|replica| replica.starts)
            .sum()
    }

    /// Kills the process of a replica, when there is one.
    pub fn kill(&self, replica: usize, away: Duration) -> Result<(), String> {
        let replica = &mut self.replicas.lock()[replica];
        replica.down_until = Instant::now() + away;
        if let Some(mut operator) = replica.operator.take() {
            if operator.is_running() {
                operator.kill();
                return Ok(());
            }
            self.note_end(replica, &mut operator);
        }
        Err("nothing ran".to_owned())
    }

    /// Asks the process of a replica to end.
    pub fn terminate(&self, replica: usize) {
        let replica = &mut self.replicas.lock()[replica];
        replica.is_asked = true;
        if let Some(operator) = &replica.operator {
            operator.terminate().unwrap();
        }
    }

    /// Lets a stopped process go on.
    pub fn resume(&self, replica: usize) {
        self.resumes.lock().push(Instant::now());
        self.with(replica, |operator| operator.resume());
    }

    /// Notes how a process ended that nobody killed: with 0 when it was asked to, with 1 when it could not start, such
    /// as without an API server.
    fn note_end(&self, replica: &Replica, operator: &mut Operator) {
        let status = operator.ended().ok().flatten();
        let expected = match status.and_then(|status| status.code()) {
            Some(0) => replica.is_asked,
            Some(1) => true,
            _ => false,
        };
        if !expected {
            let what = format!("the process of {} ended by itself: {status:?}", replica.pod);
            self.ends.lock().push(what);
        }
    }

    pub fn to_cluster<T>(&self, replica: usize, act: impl FnOnce(&Cable) -> T) -> T {
        act(&self.replicas.lock()[replica].to_cluster)
    }

    /// Writes Astro's present token into the Secret.
    pub async fn put_token(&self) {
        let secrets: Api<Secret> = Api::namespaced(self.client.clone(), OPERATORS);
        let secret = json!({
            "apiVersion": "v1", "kind": "Secret",
            "metadata": {"name": "astro-token"},
            "stringData": {"token": self.astro.token()},
        });
        persist("the token", async || {
            let (params, patch) = (PatchParams::apply("chaos").force(), Patch::Apply(&secret));
            secrets.patch("astro-token", &params, &patch).await
        })
        .await;
    }

    pub fn organizations(&self) -> Api<Organization> {
        Api::all(self.client.clone())
    }

    /// Edits the Organization's spec, and tells its generation then.
    pub async fn edit_organization(&self, spec: &Value) -> i64 {
        let api = self.organizations();
        let patch = json!({"spec": spec});
        let edited = persist("the Organization", async || {
            api.patch(ORGANIZATION, &PatchParams::default(), &Patch::Merge(&patch))
                .await
        })
        .await;
        edited.metadata.generation.unwrap_or_default()
    }

    /// Says that whoever is missing did go, as the platform team does.
    pub async fn acknowledge_loss(&self) {
        let api = self.organizations();
        let value = self.jumps.lock().len().to_string();
        let annotations = json!({"iam.astronomer.io/acknowledge-loss": value});
        let patch = json!({"metadata": {"annotations": annotations}});
        persist("an acknowledgement", async || {
            api.patch(ORGANIZATION, &PatchParams::default(), &Patch::Merge(&patch))
                .await
        })
        .await;
    }

    /// Waits until a leader has seen that generation of the Organization's spec: whoever leads later has, too.
    pub async fn is_observed(&self, generation: i64) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < 5 * LEASE {
            let status = self.organization().await.status;
            if status.is_some_and(|status| status.observed_generation >= generation) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    pub async fn organization(&self) -> Organization {
        let api = self.organizations();
        persist("the Organization", async || api.get(ORGANIZATION).await).await
    }

    /// Waits until the Organization says that its token may list users, or that it may not.
    pub async fn says_that_it_lists(&self, lists: bool) -> bool {
        let begun = Instant::now();
        while begun.elapsed() < 5 * LEASE {
            let status = self.organization().await.status;
            let mut conditions = status.iter().flat_map(|status| &status.conditions);
            let ready = conditions.find(|one| one.type_ == "Ready" && one.status == "True");
            if ready.is_some_and(|ready| (ready.reason == "ListForbidden") != lists) {
                return true;
            }
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        false
    }

    /// Whether the Organization says that it does not believe what it reads.
    pub fn is_suspicious(organization: &Organization) -> bool {
        let status = organization.status.as_ref();
        status.is_some_and(|status| {
            status
                .conditions
                .iter()
                .any(|one| one.type_ == "Suspicious")
        })
    }

    /// Astro's clock goes on by six minutes: what is past its expiry is so beyond any doubt.
    pub fn pass_time(&self) {
        let mut jumps = self.jumps.lock();
        jumps.push(Instant::now());
        let minutes = 6 * i64::try_from(jumps.len()).unwrap();
        self.astro
            .set_clock_offset(SignedDuration::from_mins(minutes));
    }

    pub fn kstatus(&self) -> Vec<String> {
        self.kstatus
            .iter()
            .flat_map(kstatus::Judge::verdict)
            .collect()
    }

    /// How many writes of the operators met a conflict.
    pub fn conflicts(&self) -> usize {
        self.writes(409)
    }

    /// How many writes of the operators were answered so.
    pub fn writes(&self, code: u16) -> usize {
        let by_operators = |entry: &&AuditEntry| {
            entry.user.starts_with("pod-")
                && matches!(entry.verb.as_str(), "patch" | "update")
                && entry.code == code
        };
        self.plane
            .audit(|entries| entries.iter().filter(by_operators).count())
            .unwrap()
    }

    /// How many watches were told that their version is gone.
    pub fn expired_watches(&self) -> usize {
        let logs = self.logs();
        let lines = logs.iter().flat_map(|(_, log)| log.lines());
        lines
            .filter(|line| line.contains("too old resource version"))
            .count()
    }

    /// What each replica logged.
    pub fn logs(&self) -> Vec<(String, String)> {
        let replicas = self.replicas.lock();
        let read = |replica: &Replica| {
            let path = self.dir.path().join(format!("{}.log", replica.pod));
            (
                replica.pod.clone(),
                std::fs::read_to_string(path).unwrap_or_default(),
            )
        };
        replicas.iter().map(read).collect()
    }
}

/// The roles that people are invited with here.
pub const ROLES: [&str; 2] = ["ORGANIZATION_MEMBER", "ORGANIZATION_BILLING_ADMIN"];

/// Tries until the API server takes it, as a person does.
pub async fn persist<T>(what: &str, act: impl AsyncFn() -> kube::Result<T>) -> T {
    let begun = Instant::now();
    loop {
        let tried = tokio::time::timeout(Duration::from_secs(5), act()).await;
        match tried {
            Ok(Ok(done)) => return done,
            Ok(Err(kube::Error::Api(status)))
                if (400..500).contains(&status.code) && status.code != 429 =>
            {
                panic!("{what}: {status:?}")
            }
            _ => assert!(
                begun.elapsed() < PATIENCE,
                "{what}: the API server does not take it"
            ),
        }
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}
