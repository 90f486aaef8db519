//! The operator as its own process, as it runs in production.

use std::fs::File;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::OnceLock;

use anyhow::Context;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use crate::control_plane::process::die_with_parent;

/// A running operator; it is killed when this is dropped, and when the thread that started it ends.
pub struct Operator {
    child: Child,
    log: PathBuf,
    /// Where its own lines begin in the log.
    begins: usize,
    admin: OnceLock<SocketAddr>,
}

impl Operator {
    /// Starts `binary run` with these arguments; its log is appended to `log`.
    pub fn start(
        binary: &Path,
        kubeconfig: &Path,
        log: &Path,
        args: &[String],
    ) -> anyhow::Result<Self> {
        Self::start_in(binary, kubeconfig, log, args, &[])
    }

    /// The same, with more variables in its environment.
    pub fn start_in(
        binary: &Path,
        kubeconfig: &Path,
        log: &Path,
        args: &[String],
        environment: &[(String, String)],
    ) -> anyhow::Result<Self> {
        let file = File::options().create(true).append(true).open(log)?;
        let begins = usize::try_from(file.metadata()?.len())?;
        let mut command = Command::new(binary);
        command
            .arg("run")
            .args(args)
            .env("KUBECONFIG", kubeconfig)
            .env("RUST_LOG", "info,orginvite_operator=debug")
            .envs(environment.iter().map(|(name, value)| (name, value)))
            .stdin(Stdio::null())
            .stdout(file.try_clone()?)
            .stderr(file);
        die_with_parent(&mut command);
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {}", binary.display()))?;
        Ok(Self {
            child,
            log: log.to_owned(),
            begins,
            admin: OnceLock::new(),
        })
    }

    /// Its process ID.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Kills it with SIGKILL.
    pub fn kill(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
    }

    /// Asks it to stop with SIGTERM.
    pub fn terminate(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGTERM)
    }

    /// Stops it with SIGSTOP: it keeps all it has and does nothing.
    pub fn pause(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGSTOP)
    }

    /// Lets it go on with SIGCONT.
    pub fn resume(&self) -> anyhow::Result<()> {
        self.signal(Signal::SIGCONT)
    }

    fn signal(&self, signal: Signal) -> anyhow::Result<()> {
        let process = Pid::from_raw(i32::try_from(self.child.id())?);
        kill(process, signal).with_context(|| format!("cannot send {signal} to the operator"))
    }

    /// How it ended, if it did.
    pub fn ended(&mut self) -> anyhow::Result<Option<ExitStatus>> {
        Ok(self.child.try_wait()?)
    }

    /// Where its admin server listens, once its log says so.
    #[must_use]
    pub fn admin_address(&self) -> Option<SocketAddr> {
        // The log of a long run is not read again and again.
        if let Some(address) = self.admin.get() {
            return Some(*address);
        }
        let log = self.log();
        let lines = log.get(self.begins..)?.lines();
        let mut lines = lines.filter(|line| line.contains("serving /livez"));
        let (_, rest) = lines.next()?.split_once("address")?;
        let rest = rest.trim_start_matches(['"', ':', '=']);
        let address = rest.split(['"', ' ', ',']).next()?.parse().ok()?;
        Some(*self.admin.get_or_init(|| address))
    }

    /// What it logged so far, in whole lines.
    #[must_use]
    pub fn log(&self) -> String {
        read_log(&self.log)
    }

    /// Whether it still runs.
    pub fn is_running(&mut self) -> bool {
        matches!(self.child.try_wait(), Ok(None))
    }
}

impl Drop for Operator {
    fn drop(&mut self) {
        self.kill();
    }
}

/// The whole lines of a log: the last one may be half written.
#[must_use]
pub fn read_log(path: &Path) -> String {
    let mut log = std::fs::read(path).unwrap_or_default();
    let end = log.iter().rposition(|byte| *byte == b'\n');
    log.truncate(end.map_or(0, |end| end + 1));
    String::from_utf8_lossy(&log).into_owned()
}
