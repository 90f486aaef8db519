//! What a stretch of time cost: CPU of each process, requests to the API server, calls to Astro.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use support::control_plane::{AUDITED, AuditEntry};
use support::fake_astro::{Call, Operation};

use super::process;
use super::world::World;

/// A moment.
pub struct Mark {
    at: Instant,
    cpu: Cpu,
    audited: usize,
    astro: support::fake_astro::Mark,
}

/// What was spent since a [`Mark`].
pub struct Spent {
    /// How long it was.
    pub time: Duration,
    /// CPU of each process.
    pub cpu: Cpu,
    /// What the operator asked the API server for.
    pub requests: Vec<AuditEntry>,
    /// What it asked Astro for.
    pub calls: Vec<Call>,
}

/// CPU of each process.
#[derive(Clone, Copy)]
pub struct Cpu {
    /// The operator; nothing when none runs.
    pub operator: Duration,
    /// kube-apiserver.
    pub api_server: Duration,
    /// etcd.
    pub etcd: Duration,
    /// This process: the load and the fake of Astro.
    pub bench: Duration,
}

impl Cpu {
    fn now(world: &World) -> anyhow::Result<Self> {
        let directory = world.plane.directory();
        let of = |program| process::cpu(process::find(program, directory)?);
        Ok(Self {
            operator: world.operator().map_or(Ok(Duration::ZERO), process::cpu)?,
            api_server: of("kube-apiserver")?,
            etcd: of("etcd")?,
            bench: process::cpu(std::process::id())?,
        })
    }

    fn since(self, before: Self) -> Self {
        Self {
            operator: self.operator.saturating_sub(before.operator),
            api_server: self.api_server.saturating_sub(before.api_server),
            etcd: self.etcd.saturating_sub(before.etcd),
            bench: self.bench.saturating_sub(before.bench),
        }
    }
}

/// Waits until what is done is in the audit log: a watch tells of a write before that.
async fn logged(world: &World) -> anyhow::Result<()> {
    const QUIET: Duration = Duration::from_millis(300);
    let log = world.plane.directory().join("audit.log");
    let size = || anyhow::Ok(std::fs::metadata(&log)?.len());
    let begun = Instant::now();
    let mut before = size()?;
    while begun.elapsed() < 20 * QUIET {
        tokio::time::sleep(QUIET).await;
        let now = size()?;
        if now == before {
            break;
        }
        before = now;
    }
    Ok(())
}

impl Mark {
    pub(super) async fn now(world: &World) -> anyhow::Result<Self> {
        logged(world).await?;
        Ok(Self {
            audited: world.plane.audit(<[_]>::len)?,
            astro: world.astro.mark(),
            cpu: Cpu::now(world)?,
            at: Instant::now(),
        })
    }
}

impl Spent {
    pub(super) async fn since(mark: &Mark, world: &World) -> anyhow::Result<Self> {
        let time = mark.at.elapsed();
        let cpu = Cpu::now(world)?.since(mark.cpu);
        let calls = world.astro.calls_since(mark.astro);
        logged(world).await?;
        let requests = world.plane.audit(|all| {
            let all = all[mark.audited..].iter();
            all.filter(|request| request.user == AUDITED)
                .cloned()
                .collect()
        })?;
        Ok(Self {
            time,
            cpu,
            requests,
            calls,
        })
    }

    /// Successful writes to a resource.
    pub fn writes(&self, resource: &str) -> usize {
        let mut writes = 0;
        for request in &self.requests {
            writes += usize::from(request.is_write() && request.resource == resource);
        }
        writes
    }

    /// Requests to the API server, by what they are about.
    pub fn requests_by_kind(&self) -> BTreeMap<String, usize> {
        let mut kinds = BTreeMap::new();
        for request in &self.requests {
            let kind = match &request.subresource {
                None => format!("{} {}", request.verb, request.resource),
                Some(part) => format!("{} {}/{part}", request.verb, request.resource),
            };
            *kinds.entry(kind).or_default() += 1;
        }
        kinds
    }

    /// Calls of one kind.
    pub fn calls(&self, operation: Operation) -> usize {
        self.calls
            .iter()
            .filter(|call| call.operation == operation)
            .count()
    }
}
