//! The command line: the only reader of flags and environment.

use std::io::{IsTerminal, Write};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand};
use hyper_util::client::proxy::matcher::Matcher;
use jiff::SignedDuration;
use rand::RngExt as _;
use rand::distr::Alphanumeric;
use reqwest::header::{self, HeaderValue};
use secrecy::SecretString;

use crate::astro::budget::Rates;
use crate::astro::http::{DEFAULT_URL, Endpoint, Session};
use crate::astro::{Error as AstroError, Invite, InviteAnswer, Subject};
use crate::install;
use crate::leadership::lease;
use crate::operator::{self, Clients, Settings};
use crate::reconcile::context::Timing;
use crate::resources;
use crate::stored;
use crate::telemetry::{LogFormat, Telemetry};

/// The environment variable that a token is read from.
const TOKEN_VARIABLE: &str = "ASTRO_API_TOKEN";

/// Keeps the members of an Astro organization in Git: one OrgInvite, one invitation, one e-mail.
#[derive(Parser)]
#[command(version, about)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run the operator against the cluster of KUBECONFIG or of the pod's service account.
    Run(Run),
    /// Print the custom resource definitions as YAML, or apply them.
    Crd(Crd),
    /// Fail, and say what to do, while there are objects that need the operator to be deleted.
    CheckUninstall(CheckUninstall),
    /// Look at or answer a single invitation, as a person.
    #[command(subcommand)]
    Invite(InviteCommand),
}

/// How long an answer of the API server may take.
const ANSWER: Duration = Duration::from_secs(20);
/// For how long a watch may be silent.
const SILENCE: Duration = stored::WATCH.saturating_add(Duration::from_secs(15));

/// What `run` reads beside its flags.
const ENVIRONMENT: &str = "\
Environment:
  KUBECONFIG                   the cluster; without it, and without ~/.kube/config, that of the pod
  RUST_LOG                     what is logged [default: info]
  OTEL_EXPORTER_OTLP_ENDPOINT  where traces are sent to by OTLP over http/protobuf, with the other
                               standard OTEL_ variables; without it, nowhere";

#[derive(Args)]
#[command(after_help = ENVIRONMENT)]
struct Run {
    /// Base URL of the Astro API.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    astro_url: String,
    /// Namespace of the token Secrets and the Lease; OrgInvites of all namespaces are served
    /// [default: the pod's, or the kubeconfig's].
    #[arg(long)]
    namespace: Option<String>,
    /// Look after these Organizations only, by name [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    organizations: Vec<String>,
    /// Name of the Lease that elects the leader, in the namespace of the token Secrets. Installations
    /// in one namespace that split the work by --organizations need one each.
    #[arg(long, value_name = "NAME", default_value = "orginvite-operator")]
    lease_name: String,
    /// How long the others wait after the leader's last renewal before they take the Lease; whole seconds.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    lease_duration: Duration,
    /// How long a call to the Astro API may take.
    #[arg(long, value_name = "DURATION", default_value = "15s", value_parser = duration)]
    request_deadline: Duration,
    /// How long an e-mail whose outcome is unknown may take to show in the list of users: longer than
    /// --request-deadline, --lease-duration and --listing-delay together.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    settle: Duration,
    /// How long the list of users may lag behind a call.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    listing_delay: Duration,
    /// How far Astro's clock is believed to be from this machine's at most: a wrong date in an answer
    /// must not let invitations expire.
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = duration)]
    clock_tolerance: Duration,
    /// How far apart e-mails to one address are at least.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    email_spacing: Duration,
    /// Invitations created a second with one token.
    #[arg(long, value_name = "N", default_value_t = Rates::default().post, value_parser = clap::value_parser!(u32).range(1..))]
    posts_per_second: u32,
    /// Invitations deleted a second with one token.
    #[arg(long, value_name = "N", default_value_t = Rates::default().delete, value_parser = clap::value_parser!(u32).range(1..))]
    deletes_per_second: u32,
    /// Reads a second with one token.
    #[arg(long, value_name = "N", default_value_t = Rates::default().get, value_parser = clap::value_parser!(u32).range(1..))]
    gets_per_second: u32,
    /// Where /livez, /readyz and /metrics are served [default: a free port of this machine only, which
    /// the log names].
    #[arg(
        long,
        value_name = "ADDRESS:PORT",
        default_value = "127.0.0.1:0",
        hide_default_value = true,
        value_parser = address
    )]
    admin_address: SocketAddr,
    /// Format of the log [default: text on a terminal, JSON otherwise].
    #[arg(long)]
    log_format: Option<LogFormat>,
}

#[derive(Args)]
struct Crd {
    /// Apply them to the cluster instead, and wait until it serves them.
    #[arg(long)]
    apply: bool,
    /// The field manager for --apply, as in kubectl apply --server-side.
    #[arg(
        long,
        value_name = "NAME",
        default_value = "orginvite-operator",
        requires = "apply"
    )]
    field_manager: String,
}

#[derive(Args)]
struct CheckUninstall {
    /// The Organizations that the operator looks after, by name [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    organizations: Vec<String>,
}

#[derive(Subcommand)]
enum InviteCommand {
    /// Show an invitation.
    Get(InviteArgs),
    /// Accept an invitation, with the invitee's own token.
    Accept(InviteArgs),
    /// Reject an invitation, with the invitee's own token.
    Reject(InviteArgs),
}

/// The token is read from --token-file, else from ASTRO_API_TOKEN, else asked for.
#[derive(Args)]
struct InviteArgs {
    /// ID of the invitation.
    id: String,
    /// Base URL of the Astro API.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    astro_url: String,
    /// File with the API token [default: the variable ASTRO_API_TOKEN, else a prompt].
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
}

/// Every command and flag, for the reference.
#[must_use]
pub fn command() -> clap::Command {
    Cli::command()
}

/// The longest duration: what is added to others and to moments stays far from any limit.
const LONGEST: Duration = Duration::from_hours(10 * 365 * 24);

/// A duration such as `90s`, `100ms` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: SignedDuration = text
        .parse()
        .map_err(|error| format!("{error}; write it like 90s, 100ms or 1m30s"))?;
    let duration =
        Duration::try_from(duration).map_err(|_| "a duration cannot be negative".to_owned())?;
    if duration > LONGEST {
        return Err("a duration cannot be longer than ten years".to_owned());
    }
    Ok(duration)
}

/// An address to listen on.
fn address(text: &str) -> Result<SocketAddr, String> {
    text.parse()
        .map_err(|_| "write it like 127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080".to_owned())
}

/// Runs the command line; what goes wrong is said in one sentence on standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Both HTTP clients look for the process's cryptography here.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    // One thread carries a thousand objects a second; more would spend their time waking each other.
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let telemetry = match &cli.command {
        Command::Run(args) => {
            match Telemetry::start(args.log_format, |name| std::env::var(name).ok()) {
                Ok(telemetry) => Some(telemetry),
                Err(error) => return fail(&error.to_string()),
            }
        }
        Command::Crd(_) | Command::CheckUninstall(_) | Command::Invite(_) => None,
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run(args).await,
            Command::Crd(args) => crd(args).await,
            Command::CheckUninstall(args) => check_uninstall(args).await,
            Command::Invite(command) => invite(command).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
    if let Some(telemetry) = telemetry {
        telemetry.flush();
    }
    match outcome {
        Ok(()) => ExitCode::SUCCESS,
        Err(message) => fail(&message),
    }
}

fn fail(message: &str) -> ExitCode {
    writeln!(std::io::stderr(), "error: {message}").ok();
    ExitCode::FAILURE
}

fn print(text: &str) -> Result<(), String> {
    std::io::stdout()
        .write_all(text.as_bytes())
        .map_err(|error| format!("cannot write the output: {error}"))
}

async fn crd(args: Crd) -> Result<(), String> {
    if !args.apply {
        return print(
            &resources::crds_yaml()
                .map_err(|error| format!("cannot write the definitions: {error}"))?,
        );
    }
    let client = connect(cluster().await?, ANSWER)?;
    let applied = install::apply_definitions(&client, &args.field_manager)
        .await
        .map_err(|error| error.to_string())?;
    print(&format!("applied {}\n", applied.join(", ")))
}

async fn check_uninstall(args: CheckUninstall) -> Result<(), String> {
    let client = connect(cluster().await?, ANSWER)?;
    let held = install::held(&client, &args.organizations)
        .await
        .map_err(|error| format!("it cannot be told what needs the operator: {error}"))?;
    if !held.is_empty() {
        return Err(held.to_string());
    }
    print("nothing needs the operator\n")
}

/// The cluster of KUBECONFIG, or of the pod's service account.
async fn cluster() -> Result<kube::Config, String> {
    let mut config = kube::Config::infer().await.map_err(|error| format!("no cluster is configured: {error}. Set KUBECONFIG, or run in a pod with a service account"))?;
    // kube looks for the proxy itself in NO_PROXY, and not for the cluster. A proxy that the kubeconfig
    // names is meant for the cluster.
    let from_environment = ["HTTPS_PROXY", "https_proxy"]
        .iter()
        .filter_map(|name| std::env::var(name).ok()?.parse().ok())
        .any(|proxy| config.proxy_url == Some(proxy));
    if from_environment && Matcher::from_env().intercept(&config.cluster_url).is_none() {
        config.proxy_url = None;
    }
    // The API server's log and the managed fields name who wrote by that.
    let agent = HeaderValue::from_static(crate::USER_AGENT);
    config.headers.push((header::USER_AGENT, agent));
    Ok(config)
}

/// A client whose connection counts as dead when an answer has not begun after `patience`.
fn connect(mut config: kube::Config, patience: Duration) -> Result<kube::Client, String> {
    config.read_timeout = Some(patience);
    config.reset_reader_on_write = true;
    kube::Client::try_from(config)
        .map_err(|error| format!("the cluster's configuration cannot be used: {error}"))
}

async fn run(args: Run) -> Result<(), String> {
    let astro = Endpoint::with_deadline(&args.astro_url, args.request_deadline)
        .map_err(|error| format!("--astro-url: {error}"))?
        .clock_within(args.clock_tolerance);
    check_waits(&args)?;
    let mut config = cluster().await?;
    // kube's client would go on for minutes by itself, with nobody to look whether it still should.
    config.default_retry = false;
    let namespace = args
        .namespace
        .unwrap_or_else(|| config.default_namespace.clone());
    let clients = Clients {
        requests: connect(config.clone(), ANSWER)?,
        watches: connect(config.clone(), SILENCE)?,
        election: connect(config, SILENCE)?,
    };
    let settings = Settings {
        astro,
        request_deadline: args.request_deadline,
        namespace,
        lease: lease::Settings {
            name: args.lease_name,
            identity: identity(),
            duration: args.lease_duration,
        },
        organizations: args.organizations,
        timing: Timing {
            settle: args.settle,
            listing_delay: args.listing_delay,
            spacing: args.email_spacing,
        },
        rates: Rates {
            post: args.posts_per_second,
            delete: args.deletes_per_second,
            get: args.gets_per_second,
        },
        admin: args.admin_address,
    };
    operator::run(clients, settings, asked_to_stop())
        .await
        .map_err(|error| error.to_string())
}

/// Refuses waits under which an e-mail could be sent again.
fn check_waits(args: &Run) -> Result<(), String> {
    if args.lease_duration.as_secs() == 0 || args.lease_duration.subsec_nanos() != 0 {
        return Err(
            "--lease-duration must be whole seconds, one at least: a Lease knows no others"
                .to_owned(),
        );
    }
    let least = args.request_deadline + args.lease_duration + args.listing_delay;
    if args.settle <= least {
        return Err(format!(
            "--settle ({:?}) must be longer than --request-deadline, --lease-duration and --listing-delay together ({least:?}): an e-mail that the leader before sent and that the list does not show yet would be sent again",
            args.settle
        ));
    }
    Ok(())
}

/// Who this process is: the pod's name, which Kubernetes puts there, and a suffix that makes it
/// another one after a restart of the container.
fn identity() -> String {
    let pod = std::env::var("HOSTNAME").unwrap_or_else(|_| env!("CARGO_PKG_NAME").to_owned());
    let suffix: String = rand::rng()
        .sample_iter(Alphanumeric)
        .take(8)
        .map(char::from)
        .collect();
    format!("{pod}_{suffix}")
}

async fn asked_to_stop() {
    let interrupted = tokio::signal::ctrl_c();
    let Ok(mut terminated) =
        tokio::signal::unix::signal(tokio::signal::unix::SignalKind::terminate())
    else {
        interrupted.await.ok();
        return;
    };
    tokio::select! {
        _ = interrupted => {}
        _ = terminated.recv() => {}
    }
}

async fn invite(command: InviteCommand) -> Result<(), String> {
    let (args, answer) = match command {
        InviteCommand::Get(args) => (args, None),
        InviteCommand::Accept(args) => (args, Some(InviteAnswer::Accept)),
        InviteCommand::Reject(args) => (args, Some(InviteAnswer::Reject)),
    };
    let endpoint =
        Endpoint::new(&args.astro_url).map_err(|error| format!("--astro-url: {error}"))?;
    let session = Session::new(&endpoint, token(args.token_file)?);
    let invite = match answer {
        None => session.get_invite(&args.id).await,
        Some(answer) => session.update_self_invite(&args.id, answer).await,
    }
    .map_err(|error| advise(&error, answer.is_some()))?;
    print(&show(&invite)?)
}

fn token(file: Option<PathBuf>) -> Result<SecretString, String> {
    let text = if let Some(file) = file {
        std::fs::read_to_string(&file)
            .map_err(|error| format!("the token file {} cannot be read: {error}", file.display()))?
    } else if let Ok(token) = std::env::var(TOKEN_VARIABLE) {
        token
    } else if std::io::stdin().is_terminal() {
        rpassword::prompt_password("Astro API token: ")
            .map_err(|error| format!("the token cannot be read: {error}"))?
    } else {
        return Err(format!(
            "there is no token: give --token-file, set {TOKEN_VARIABLE}, or run it on a terminal"
        ));
    };
    let token = text.trim();
    if token.is_empty() {
        return Err("the token is empty".to_owned());
    }
    Ok(SecretString::from(token))
}

fn advise(error: &AstroError, answered: bool) -> String {
    match error {
        AstroError::Unknown { .. } if answered => format!(
            "{error}. The answer may have been recorded all the same: look with `orginvite-operator invite get`"
        ),
        AstroError::Refused(refusal) if refusal.status == 401 => {
            format!("{error}. The token is not accepted: use a valid one")
        }
        AstroError::Refused(refusal) if refusal.status == 403 => {
            format!(
                "{error}. The token may not do that: accepting and rejecting take the invitee's own token"
            )
        }
        error if error.says_absent() => {
            format!("{error}. There is no such invitation, or it has ended")
        }
        AstroError::Refused(refusal) if !refusal.from_api => {
            format!("{error}. Check the ID and --astro-url")
        }
        _ => error.to_string(),
    }
}

/// The invitation for a person, without what would let its holder join.
fn show(invite: &Invite) -> Result<String, String> {
    let subject = |subject: &Option<Subject>| {
        subject.as_ref().map(|subject| {
            serde_json::json!({
                "id": subject.id, "kind": subject.kind, "name": subject.name, "username": subject.username,
            })
        })
    };
    // YAML quotes what a terminal would take for a command.
    serde_yaml_ng::to_string(&serde_json::json!({
        "id": invite.id,
        "organization": invite.organization_id,
        "invitee": subject(&invite.invitee),
        "inviter": subject(&invite.inviter),
        "expires": invite.expires_at.map(|time| time.to_string()),
    }))
    .map_err(|error| format!("cannot write the invitation: {error}"))
}
