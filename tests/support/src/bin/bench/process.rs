//! What the kernel tells of a process.

use std::fs;
use std::path::Path;
use std::time::Duration;

use anyhow::Context as _;
use nix::unistd::{SysconfVar, sysconf};

/// User and system time that a process used so far; to the clock tick, which is 10 ms on most machines.
pub fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let path = format!("/proc/{pid}/stat");
    let stat = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    // The name, in parentheses, may have spaces in it.
    let (_, fields) = stat.rsplit_once(')').context("no name in stat")?;
    let mut ticks = fields.split_whitespace().skip(11).map(str::parse::<u32>);
    let mut next = || ticks.next().context("no times in stat");
    let used = next()?? + next()??;
    let per_second = sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?;
    Ok(Duration::from_secs_f64(
        f64::from(used) / f64::from(u32::try_from(per_second)?),
    ))
}

/// Memory of a process, in KiB.
#[derive(Clone, Copy, Debug)]
pub struct Memory {
    /// Resident now.
    pub resident: u32,
    /// Resident at most, so far.
    pub peak: u32,
    /// The part of what is resident that is no file's: the heap and the stacks.
    pub anonymous: u32,
}

/// Memory of a process.
pub fn memory(pid: u32) -> anyhow::Result<Memory> {
    let path = format!("/proc/{pid}/status");
    let status = fs::read_to_string(&path).with_context(|| format!("reading {path}"))?;
    let field = |name: &str| -> anyhow::Result<u32> {
        let line = status.lines().find_map(|line| line.strip_prefix(name));
        let text = line.and_then(|line| line.split_whitespace().next());
        Ok(text
            .with_context(|| format!("no {name} in {path}"))?
            .parse()?)
    };
    Ok(Memory {
        resident: field("VmRSS:")?,
        peak: field("VmHWM:")?,
        anonymous: field("RssAnon:")?,
    })
}

/// The process of that program that was told about this directory.
pub fn find(program: &str, directory: &Path) -> anyhow::Result<u32> {
    let directory = directory.display().to_string();
    for entry in fs::read_dir("/proc")? {
        let entry = entry?;
        let Ok(pid) = entry.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        // It may be gone since.
        let command = fs::read_to_string(entry.path().join("cmdline")).unwrap_or_default();
        let name = command.split('\0').next().unwrap_or_default();
        if name.rsplit('/').next() == Some(program) && command.contains(&directory) {
            return Ok(pid);
        }
    }
    anyhow::bail!("{program} does not run")
}
