//! The process that runs the servers: it lives as long as its standard input is open.
//!
//! Each line of input is an [`Order`], each line of output an [`Answer`], both JSON. The first answer comes without an
//! order, when the servers are ready.

use std::fs;
use std::future::Future;
use std::io::Write;
use std::net::{Ipv4Addr, TcpListener};
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::time::Duration;

use anyhow::{Context, Result, bail};
use futures::future::select_all;
use k8s_openapi::api::core::v1::ServiceAccount;
use kube::{Api, Client};
use serde::{Deserialize, Serialize};
use tokio::signal::unix::{SignalKind, signal};
use tokio::sync::{mpsc, oneshot};
use tokio::time::{sleep, timeout};

use super::assets::{self, Binary};
use super::audit;
use super::credentials::{
    AUTHORITY_CERTIFICATE, Authority, SERVER_CERTIFICATE, SERVER_KEY, TOKEN_KEY, TOKEN_PUBLIC_KEY,
};
use super::etcd;
use super::process::Server;
use super::run_directory::RunDirectory;
use super::{ADMIN, MASTERS, client};

/// Some seconds on an idle machine; several test binaries may start at once on a busy one.
const START_DEADLINE: Duration = Duration::from_secs(90);
const POLL_INTERVAL: Duration = Duration::from_millis(20);

/// A free port can be taken by another process before the server has it.
const PORT_ATTEMPTS: u32 = 5;

/// What can be asked of a running supervisor.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Order {
    ControllerManager,
    Kubectl,
    StopApiServer,
    StartApiServer,
    Compact,
}

/// What a supervisor says.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(super) enum Answer {
    Ready(Ready),
    Done,
    Found(PathBuf),
    Failed(String),
}

/// Where the control plane is.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub(super) struct Ready {
    pub(super) server: String,
    pub(super) directory: PathBuf,
    pub(super) kubeconfig: PathBuf,
    pub(super) audit_log: PathBuf,
}

/// Runs a control plane until standard input ends, or until SIGTERM, SIGINT or SIGHUP: the `main` of the
/// `control-plane` binary. Must be called on a runtime of one thread, which starts all the servers: they die with it.
///
/// An error is a server that did not start or ended by itself.
pub async fn supervise() -> Result<()> {
    let (orders, input_ended) = read_orders();
    let mut stop = pin!(stop_requested(input_ended)?);
    let directory = RunDirectory::create()?;
    let mut servers = Vec::new();
    let outcome = tokio::select! {
        () = &mut stop => Ok(()),
        Err(error) = serve(directory.path(), &mut servers, orders) => Err(error),
    };
    // The reverse of their start: none misses what it stands on.
    for server in servers.into_iter().rev() {
        server.stop().await?;
    }
    outcome
}

/// The second completes when the input ends. A thread of its own reads, because nothing can interrupt that.
fn read_orders() -> (mpsc::UnboundedReceiver<String>, oneshot::Receiver<()>) {
    let (send, orders) = mpsc::unbounded_channel();
    let (end, ended) = oneshot::channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                break;
            }
        }
        drop(end);
    });
    (orders, ended)
}

fn stop_requested(input_ended: oneshot::Receiver<()>) -> Result<impl Future<Output = ()>> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let mut hangup = signal(SignalKind::hangup())?;
    Ok(async move {
        tokio::select! {
            _ = input_ended => {}
            _ = terminate.recv() => {}
            _ = interrupt.recv() => {}
            _ = hangup.recv() => {}
        }
    })
}

/// Returns only with an error. May be dropped at any point; the caller stops the servers.
async fn serve(
    directory: &Path,
    servers: &mut Vec<Server>,
    mut orders: mpsc::UnboundedReceiver<String>,
) -> Result<std::convert::Infallible> {
    let ready = match start(directory, servers).await {
        Ok(ready) => ready,
        Err(error) => {
            say(&Answer::Failed(format!("{error:#}")))?;
            return Err(error);
        }
    };
    say(&Answer::Ready(ready.clone()))?;
    loop {
        let order = tokio::select! {
            order = orders.recv() => order,
            error = first_ended(servers) => return Err(error),
        };
        let Some(order) = order else {
            // The input has ended, and the caller is about to notice.
            return std::future::pending().await;
        };
        let answer = carry_out(&order, &ready, servers).await;
        say(&answer.unwrap_or_else(|error| Answer::Failed(format!("{error:#}"))))?;
    }
}

fn say(answer: &Answer) -> Result<()> {
    writeln!(std::io::stdout(), "{}", serde_json::to_string(answer)?).context("nobody listens")
}

async fn carry_out(order: &str, ready: &Ready, servers: &mut Vec<Server>) -> Result<Answer> {
    match serde_json::from_str(order).with_context(|| format!("reading the order {order:?}"))? {
        Order::ControllerManager => {
            start_controller_manager(ready, servers).await?;
            Ok(Answer::Done)
        }
        Order::Kubectl => {
            let [kubectl] = assets::find([Binary::Kubectl]).await?;
            Ok(Answer::Found(kubectl))
        }
        Order::StopApiServer => {
            if let Some(at) = servers.iter().position(|server| server.name == API_SERVER) {
                servers.remove(at).stop().await?;
            }
            Ok(Answer::Done)
        }
        Order::StartApiServer => {
            start_api_server_again(ready, servers).await?;
            Ok(Answer::Done)
        }
        Order::Compact => {
            etcd::compact(&ready.directory.join(ETCD_SOCKET)).await?;
            Ok(Answer::Done)
        }
    }
}

/// On the port and the data that it had.
async fn start_api_server_again(ready: &Ready, servers: &mut Vec<Server>) -> Result<()> {
    if servers.iter().any(|server| server.name == API_SERVER) {
        return Ok(());
    }
    let [program] = assets::find([Binary::ApiServer]).await?;
    let port = ready
        .server
        .rsplit(':')
        .next()
        .unwrap_or_default()
        .parse()?;
    let flags = api_server_flags(&ready.directory, port);
    servers.push(Server::start(
        API_SERVER,
        &program,
        flags,
        &ready.directory,
    )?);
    let client = client(&ready.kubeconfig).await?;
    within_deadline("ready again", servers, async || is_ready(&client).await).await
}

async fn start(directory: &Path, servers: &mut Vec<Server>) -> Result<Ready> {
    let [etcd, api_server] = assets::find([Binary::Etcd, Binary::ApiServer]).await?;
    let authority = Authority::create(directory)?;
    let audit_policy = serde_json::to_string(&audit::policy())?;
    fs::write(directory.join(AUDIT_POLICY), audit_policy)?;

    // They start together: the API server waits for etcd.
    servers.push(Server::start(
        "etcd",
        &etcd,
        etcd_flags(directory),
        directory,
    )?);
    for attempt in 1.. {
        let port = free_port()?;
        let server = format!("https://127.0.0.1:{port}");
        let kubeconfig = authority.write_kubeconfig(&server, ADMIN, Some(MASTERS))?;
        let flags = api_server_flags(directory, port);
        servers.push(Server::start(API_SERVER, &api_server, flags, directory)?);
        let client = client(&kubeconfig).await?;
        let Err(error) = within_deadline("ready", servers, async || is_ready(&client).await).await
        else {
            let audit_log = directory.join(AUDIT_LOG);
            return Ok(Ready {
                server,
                directory: directory.to_owned(),
                kubeconfig,
                audit_log,
            });
        };
        if attempt == PORT_ATTEMPTS || !format!("{error:#}").contains("address already in use") {
            return Err(error);
        }
        if let Some(server) = servers.pop() {
            server.stop().await?;
        }
        fs::remove_file(kubeconfig)?;
    }
    bail!("no attempt to start the API server was made")
}

async fn start_controller_manager(ready: &Ready, servers: &mut Vec<Server>) -> Result<()> {
    const NAME: &str = "kube-controller-manager";
    if servers.iter().any(|server| server.name == NAME) {
        return Ok(());
    }
    let [program] = assets::find([Binary::ControllerManager]).await?;
    let authority = Authority::load(&ready.directory)?;
    let kubeconfig = authority.write_kubeconfig(
        &ready.server,
        "system:kube-controller-manager",
        Some(MASTERS),
    )?;
    let flags = [
        format!("--kubeconfig={}", kubeconfig.display()),
        "--controllers=namespace-controller,serviceaccount-controller,garbage-collector-controller"
            .to_owned(),
        "--leader-elect=false".to_owned(),
        "--secure-port=0".to_owned(),
    ];
    servers.push(Server::start(NAME, &program, flags, &ready.directory)?);
    let client = client(&ready.kubeconfig).await?;
    let accounts: Api<ServiceAccount> = Api::namespaced(client, "default");
    let made = async || matches!(accounts.get_opt("default").await, Ok(Some(_)));
    within_deadline("at work", servers, made).await
}

/// Polls until the condition holds. An error if it does not in time, or if a server ends before.
async fn within_deadline(
    state: &str,
    servers: &mut [Server],
    condition: impl AsyncFn() -> bool,
) -> Result<()> {
    let newest = servers.last().map(|server| server.name).unwrap_or_default();
    let poll = async {
        while !condition().await {
            sleep(POLL_INTERVAL).await;
        }
    };
    let outcome = tokio::select! {
        outcome = timeout(START_DEADLINE, poll) => outcome,
        error = first_ended(servers) => return Err(error),
    };
    if outcome.is_err() {
        let log = servers.last().map(Server::log_end).unwrap_or_default();
        bail!("{newest} was not {state} after {START_DEADLINE:?}; its log ends with\n{log}");
    }
    Ok(())
}

async fn first_ended(servers: &mut [Server]) -> anyhow::Error {
    let ends = servers.iter_mut().map(|server| Box::pin(server.ended()));
    select_all(ends).await.0
}

fn free_port() -> Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("finding a free port")?;
    Ok(listener.local_addr()?.port())
}

const API_SERVER: &str = "kube-apiserver";
const ETCD_SOCKET: &str = "etcd.sock";
const AUDIT_POLICY: &str = "audit-policy.json";
const AUDIT_LOG: &str = "audit.log";

fn etcd_flags(directory: &Path) -> Vec<String> {
    let clients = etcd_address(directory);
    vec![
        format!("--data-dir={}", directory.join("etcd").display()),
        // Nothing here is to survive a crash.
        "--unsafe-no-fsync".to_owned(),
        format!("--listen-client-urls={clients}"),
        format!("--advertise-client-urls={clients}"),
        // It must listen for peers, of which there are none.
        "--listen-peer-urls=http://127.0.0.1:0".to_owned(),
        "--initial-advertise-peer-urls=http://127.0.0.1:0".to_owned(),
        "--initial-cluster=default=http://127.0.0.1:0".to_owned(),
        "--log-level=warn".to_owned(),
    ]
}

/// A socket in the directory: no port to choose, and nobody else on the machine can connect.
fn etcd_address(directory: &Path) -> String {
    format!("unix://{}", directory.join(ETCD_SOCKET).display())
}

fn api_server_flags(directory: &Path, port: u16) -> Vec<String> {
    let file = |name| directory.join(name).display().to_string();
    let flags = [
        ("etcd-servers", etcd_address(directory)),
        ("bind-address", "127.0.0.1".to_owned()),
        ("secure-port", port.to_string()),
        ("tls-cert-file", file(SERVER_CERTIFICATE)),
        ("tls-private-key-file", file(SERVER_KEY)),
        ("client-ca-file", file(AUTHORITY_CERTIFICATE)),
        ("authorization-mode", "RBAC".to_owned()),
        (
            "service-account-issuer",
            "https://kubernetes.default.svc".to_owned(),
        ),
        ("service-account-signing-key-file", file(TOKEN_KEY)),
        ("service-account-key-file", file(TOKEN_PUBLIC_KEY)),
        ("service-cluster-ip-range", "10.0.0.0/24".to_owned()),
        // A loopback address can be no endpoint of the service `kubernetes`, and a machine without a network has no
        // other to offer.
        ("advertise-address", "127.0.0.1".to_owned()),
        ("endpoint-reconciler-type", "none".to_owned()),
        // No queues and no limits: a burst of test requests is never throttled.
        ("enable-priority-and-fairness", "false".to_owned()),
        ("max-requests-inflight", "0".to_owned()),
        ("max-mutating-requests-inflight", "0".to_owned()),
        // A request is in the log before its response is complete, and never in a file rotated away.
        ("audit-policy-file", file(AUDIT_POLICY)),
        ("audit-log-path", file(AUDIT_LOG)),
        ("audit-log-mode", "blocking".to_owned()),
        ("audit-log-maxsize", "0".to_owned()),
    ];
    flags
        .iter()
        .map(|(name, value)| format!("--{name}={value}"))
        .collect()
}

async fn is_ready(client: &Client) -> bool {
    let request = http::Request::get("/readyz").body(Vec::new());
    match request {
        Ok(request) => client.request_text(request).await.is_ok(),
        Err(_) => false,
    }
}
