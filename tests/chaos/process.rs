//! What the kernel tells of a process.

use std::fs;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    pub threads: usize,
    pub files: usize,
    /// Resident memory that is no file's, in KiB.
    pub memory: usize,
}

/// What a process holds now; nothing when it is gone.
pub fn holds(pid: u32) -> Option<Holds> {
    let status = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let field = |name: &str| -> Option<usize> {
        let line = status.lines().find_map(|line| line.strip_prefix(name))?;
        line.split_whitespace().next()?.parse().ok()
    };
    Some(Holds {
        threads: field("Threads:")?,
        files: fs::read_dir(format!("/proc/{pid}/fd")).ok()?.count(),
        memory: field("RssAnon:")?,
    })
}
