//! What it was measured on.

use std::fs;
use std::path::Path;
use std::process::Command;

use anyhow::Context as _;
use serde::Serialize;
use support::control_plane::{ETCD_VERSION, KUBERNETES_VERSION};

/// A machine, and what ran on it.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Machine {
    /// When, in UTC.
    at: String,
    cpu: String,
    cores: usize,
    memory_mib: u64,
    kernel: String,
    /// Runnable processes over the last minute, before anything was started: what else went on.
    load: f64,
    operator: String,
    /// Of the operator's program.
    program_bytes: u64,
    commit: Option<String>,
    api_server: &'static str,
    etcd: &'static str,
}

/// Describes this machine and the operator.
pub fn describe(operator: &Path) -> anyhow::Result<Machine> {
    let value_of = |text: &str, name: &str| {
        let line = text.lines().find(|line| line.starts_with(name));
        let value = line.and_then(|line| line.split_once(':'));
        value.map(|(_, value)| value.trim().to_owned())
    };
    let memory = value_of(&fs::read_to_string("/proc/meminfo")?, "MemTotal")
        .and_then(|text| text.split_whitespace().next()?.parse::<u64>().ok())
        .context("no MemTotal")?;
    let load = fs::read_to_string("/proc/loadavg")?;
    let version = Command::new(operator).arg("--version").output()?;
    let commit = Command::new("git")
        .args(["describe", "--always", "--dirty"])
        .output()
        .ok()
        .filter(|output| output.status.success());
    Ok(Machine {
        at: jiff::Timestamp::now()
            .round(jiff::Unit::Second)?
            .to_string(),
        cpu: value_of(&fs::read_to_string("/proc/cpuinfo")?, "model name")
            .unwrap_or_else(|| std::env::consts::ARCH.to_owned()),
        cores: std::thread::available_parallelism()?.get(),
        memory_mib: memory / 1024,
        kernel: fs::read_to_string("/proc/sys/kernel/osrelease")?
            .trim()
            .to_owned(),
        load: load.split_whitespace().next().context("no load")?.parse()?,
        operator: String::from_utf8(version.stdout)?.trim().to_owned(),
        program_bytes: fs::metadata(operator)?.len(),
        commit: commit.map(|output| String::from_utf8_lossy(&output.stdout).trim().to_owned()),
        api_server: KUBERNETES_VERSION,
        etcd: ETCD_VERSION,
    })
}
