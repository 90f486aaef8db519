//! The command line: the only reader of flags and environment.

use std::io::{IsTerminal, Write};
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Args, CommandFactory, Parser, Subcommand, ValueEnum};
use secrecy::SecretString;
use tracing_subscriber::EnvFilter;

use crate::astro::budget::Rates;
use crate::astro::http::{DEFAULT_URL, Endpoint, Session};
use crate::astro::{Error as AstroError, Invite, InviteAnswer, Subject};
use crate::operator::{self, Settings};
use crate::reconcile::context::Timing;
use crate::resources;

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
    /// Print the custom resource definitions as YAML.
    Crd,
    /// Look at or answer a single invitation, as a person.
    #[command(subcommand)]
    Invite(InviteCommand),
}

#[derive(Args)]
struct Run {
    /// Base URL of the Astro API.
    #[arg(long, value_name = "URL", default_value = DEFAULT_URL)]
    astro_url: String,
    /// Namespace of the token Secrets [default: the pod's, or the kubeconfig's].
    #[arg(long)]
    namespace: Option<String>,
    /// Look after these Organizations only, by name [default: all].
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    organizations: Vec<String>,
    /// How long an e-mail whose outcome is unknown may take to show in the list of users.
    #[arg(long, value_name = "DURATION", default_value = "90s", value_parser = duration)]
    settle: Duration,
    /// How long the list of users may lag behind a call.
    #[arg(long, value_name = "DURATION", default_value = "10s", value_parser = duration)]
    listing_delay: Duration,
    /// How far apart e-mails to one address are at least.
    #[arg(long, value_name = "DURATION", default_value = "10m", value_parser = duration)]
    email_spacing: Duration,
    /// Invitations created a second with one token.
    #[arg(long, value_name = "N", default_value_t = Rates::default().post)]
    posts_per_second: u32,
    /// Invitations deleted a second with one token.
    #[arg(long, value_name = "N", default_value_t = Rates::default().delete)]
    deletes_per_second: u32,
    /// Reads a second with one token.
    #[arg(long, value_name = "N", default_value_t = Rates::default().get)]
    gets_per_second: u32,
    /// Format of the log [default: text on a terminal, JSON otherwise].
    #[arg(long)]
    log_format: Option<LogFormat>,
}

#[derive(Clone, Copy, ValueEnum)]
enum LogFormat {
    Text,
    Json,
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

/// A duration such as `90s`, `100ms` or `1m30s`.
fn duration(text: &str) -> Result<Duration, String> {
    let duration: kube::core::Duration = text
        .parse()
        .map_err(|error| format!("{error}; write it like 90s, 100ms or 1m30s"))?;
    if duration.is_negative() {
        return Err("a duration cannot be negative".to_owned());
    }
    Ok(duration.into())
}

/// Runs the command line; what goes wrong is said in one sentence on standard error.
#[must_use]
pub fn main() -> ExitCode {
    let cli = Cli::parse();
    // Both HTTP clients look for the process's cryptography here.
    rustls::crypto::ring::default_provider()
        .install_default()
        .ok();
    let runtime = match tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(&format!("cannot start: {error}")),
    };
    let outcome = runtime.block_on(async {
        match cli.command {
            Command::Run(args) => run(args).await,
            Command::Crd => crd(),
            Command::Invite(command) => invite(command).await,
        }
    });
    runtime.shutdown_timeout(Duration::from_secs(1));
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

fn crd() -> Result<(), String> {
    print(
        &resources::crds_yaml()
            .map_err(|error| format!("cannot write the definitions: {error}"))?,
    )
}

async fn run(args: Run) -> Result<(), String> {
    init_log(args.log_format);
    let astro = Endpoint::new(&args.astro_url).map_err(|error| format!("--astro-url: {error}"))?;
    if args.settle < args.listing_delay {
        return Err("--settle must not be shorter than --listing-delay: an e-mail that the list does not show yet would be sent again".to_owned());
    }
    let config = kube::Config::infer().await.map_err(|error| format!("no cluster is configured: {error}. Set KUBECONFIG, or run in a pod with a service account"))?;
    let namespace = args
        .namespace
        .unwrap_or_else(|| config.default_namespace.clone());
    let client = kube::Client::try_from(config)
        .map_err(|error| format!("the cluster's configuration cannot be used: {error}"))?;
    let settings = Settings {
        astro,
        namespace,
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
    };
    operator::run(client, settings, asked_to_stop())
        .await
        .map_err(|error| error.to_string())
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

/// Logs go to standard error; `RUST_LOG` chooses what is logged.
fn init_log(format: Option<LogFormat>) {
    let filter = EnvFilter::try_from_default_env().unwrap_or_else(|_| EnvFilter::new("info"));
    let terminal = std::io::stderr().is_terminal();
    let builder = tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_writer(std::io::stderr);
    let json = match format {
        Some(LogFormat::Json) => true,
        Some(LogFormat::Text) => false,
        None => !terminal,
    };
    if json {
        builder.json().flatten_event(true).init();
    } else {
        builder.with_ansi(terminal).init();
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
