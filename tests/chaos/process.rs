//! What the kernel tells of a process.

use std::fmt;
use std::fs;

/// What a process holds.
#[derive(Clone, Copy, Debug)]
pub struct Holds {
    pub threads: usize,
    pub files: usize,
    /// Resident memory that is no file's, in KiB.
    pub memory: usize,
}

impl Holds {
    /// The median of each of these; nothing when there are none.
    pub fn median(all: &[Self]) -> Option<Self> {
        let middle = |of: fn(&Self) -> usize| {
            let mut values: Vec<usize> = all.iter().map(of).collect();
            values.sort_unstable();
            values.get(values.len() / 2).copied()
        };
        Some(Self {
            threads: middle(|holds| holds.threads)?,
            files: middle(|holds| holds.files)?,
            memory: middle(|holds| holds.memory)?,
        })
    }
}

impl fmt::Display for Holds {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            threads,
            files,
            memory,
        } = self;
        write!(formatter, "{threads} threads, {files} files, {memory} KiB")
    }
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
