//! Child processes that never outlive the process that started them.

use std::ffi::OsStr;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::{ExitStatus, Stdio};

use anyhow::{Context, Result, anyhow};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::process::{Child, Command};

/// A server that runs until it is stopped, with its output in a log file.
#[derive(Debug)]
pub(super) struct Server {
    pub(super) name: &'static str,
    child: Child,
    log: PathBuf,
}

impl Server {
    /// Starts the program; its output goes to `<name>.log` in the directory.
    pub(super) fn start<S: AsRef<OsStr>>(
        name: &'static str,
        program: &Path,
        arguments: impl IntoIterator<Item = S>,
        directory: &Path,
    ) -> Result<Self> {
        let log = directory.join(format!("{name}.log"));
        let output = File::create(&log)?;
        let mut command = Command::new(program);
        command
            .args(arguments)
            .current_dir(directory)
            .stdin(Stdio::null())
            .stdout(output.try_clone()?)
            .stderr(output)
            .kill_on_drop(true);
        die_with_parent(command.as_std_mut());
        let child = command
            .spawn()
            .with_context(|| format!("starting {}", program.display()))?;
        Ok(Self { name, child, log })
    }

    /// Returns only if the server ends by itself, with what it wrote last.
    pub(super) async fn ended(&mut self) -> anyhow::Error {
        let outcome = match self.child.wait().await {
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        anyhow!(
            "{} ended ({outcome}); its log ends with\n{}",
            self.name,
            self.log_end()
        )
    }

    /// The last lines of the log.
    pub(super) fn log_end(&self) -> String {
        let log = fs::read(&self.log).unwrap_or_default();
        last_lines(&String::from_utf8_lossy(&log))
    }

    /// Kills the server and waits until it is gone. Asked to stop, kube-apiserver takes a second to say goodbye; what
    /// it would still write is removed anyway.
    pub(super) async fn stop(mut self) -> Result<()> {
        let stop = async {
            if self.child.try_wait()?.is_none() {
                self.child.kill().await?;
            }
            std::io::Result::Ok(())
        };
        stop.await
            .with_context(|| format!("stopping {}", self.name))
    }
}

/// A command that does one thing and ends, together with the processes it starts: all are killed when this is dropped.
#[derive(Debug)]
pub(super) struct Task {
    pub(super) child: Child,
    group: Option<Pid>,
}

impl Task {
    pub(super) fn start(command: &mut Command) -> std::io::Result<Self> {
        command.stdin(Stdio::null()).process_group(0);
        die_with_parent(command.as_std_mut());
        let child = command.spawn()?;
        let group = child
            .id()
            .and_then(|id| i32::try_from(id).ok())
            .map(Pid::from_raw);
        Ok(Self { child, group })
    }

    pub(super) async fn ended(&mut self) -> std::io::Result<ExitStatus> {
        let status = self.child.wait().await?;
        // The number may be another's from here on.
        self.group = None;
        Ok(status)
    }
}

impl Drop for Task {
    fn drop(&mut self) {
        if let Some(group) = self.group {
            let _ = killpg(group, Signal::SIGKILL);
        }
    }
}

/// The last lines of a program's output, for an error message.
pub(super) fn last_lines(output: &str) -> String {
    let lines: Vec<&str> = output.lines().collect();
    lines[lines.len().saturating_sub(15)..].join("\n")
}

/// Has the kernel kill the child when the thread that starts it ends, however it ends.
#[cfg(target_os = "linux")]
#[allow(
    unsafe_code,
    reason = "the kernel must be told between fork and exec, and only pre_exec runs there"
)]
pub(crate) fn die_with_parent(command: &mut std::process::Command) {
    use std::os::unix::process::CommandExt as _;

    use nix::{errno::Errno, sys::prctl, unistd};

    let parent = unistd::getpid();
    let ask = move || {
        prctl::set_pdeathsig(Signal::SIGKILL)?;
        // The parent may have ended before the kernel was asked.
        if unistd::getppid() == parent {
            Ok(())
        } else {
            Err(Errno::ESRCH.into())
        }
    };
    // SAFETY: between fork and exec only async-signal-safe calls are allowed; prctl and getppid are plain system
    // calls, and nothing here allocates.
    unsafe {
        command.pre_exec(ask);
    }
}

/// Elsewhere there is no such request: children outlive a parent that is killed.
#[cfg(not(target_os = "linux"))]
pub(crate) fn die_with_parent(_: &mut std::process::Command) {}
