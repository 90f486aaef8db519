//! What the API server is told to log, and how that is read.

use std::fs::File;
use std::io::{BufRead, BufReader, Seek, SeekFrom};
use std::path::PathBuf;

use anyhow::{Context, Result};
use parking_lot::{Mutex, MutexGuard};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AUDITED;

/// One line for each finished request about our resources or of the user [`AUDITED`], and for each watch that begins of
/// what an operator may watch, nothing else.
pub(super) fn policy() -> Value {
    let finished = json!(["RequestReceived", "ResponseStarted"]);
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "rules": [
            {"level": "Metadata", "users": [AUDITED], "omitStages": finished},
            {
                "level": "Metadata",
                "verbs": ["watch"],
                "resources": [
                    {"group": "iam.astronomer.io"},
                    {"group": "coordination.k8s.io", "resources": ["leases"]},
                    {"group": "", "resources": ["namespaces"]},
                ],
                "omitStages": ["RequestReceived"],
            },
            {"level": "Metadata", "resources": [{"group": "iam.astronomer.io"}], "omitStages": finished},
            {"level": "None"},
        ],
    })
}

/// One finished request to the API server.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuditEntry {
    /// `get`, `list`, `watch`, `create`, `update`, `patch`, `delete` or `deletecollection`.
    pub verb: String,
    /// The API group; empty for the core group, and for a request that is not about resources.
    pub group: String,
    /// The plural name, like `orginvites`; the path of a request that is not about resources.
    pub resource: String,
    /// Like `status`.
    pub subresource: Option<String>,
    /// `None` for a cluster-scoped object, and for a request about all namespaces.
    pub namespace: Option<String>,
    /// `None` for a request about a collection.
    pub name: Option<String>,
    /// Who asked.
    pub user: String,
    /// The HTTP status of the answer.
    pub code: u16,
    /// Whether the request asked to change nothing.
    pub dry_run: bool,
}

impl AuditEntry {
    /// Whether the request was to write and the server did so; a write that changed nothing counts.
    #[must_use]
    pub fn is_write(&self) -> bool {
        !matches!(self.verb.as_str(), "get" | "list" | "watch")
            && (200..300).contains(&self.code)
            && !self.dry_run
    }
}

/// The log, of which nothing is read twice: tests ask often, and it grows long.
#[derive(Debug)]
pub(super) struct AuditLog {
    path: PathBuf,
    read: Mutex<Read>,
}

/// What was read of it.
#[derive(Debug, Default)]
struct Read {
    /// How many bytes.
    offset: u64,
    finished: Vec<AuditEntry>,
    /// The watches that began.
    watches: Vec<AuditEntry>,
}

impl AuditLog {
    pub(super) fn at(path: PathBuf) -> Self {
        Self {
            path,
            read: Mutex::default(),
        }
    }

    /// Reads what was added, and looks at every finished request.
    pub(super) fn look<T>(&self, look: impl FnOnce(&[AuditEntry]) -> T) -> Result<T> {
        Ok(look(&self.read()?.finished))
    }

    /// The same at every watch that began.
    pub(super) fn look_at_watches<T>(&self, look: impl FnOnce(&[AuditEntry]) -> T) -> Result<T> {
        Ok(look(&self.read()?.watches))
    }

    fn read(&self) -> Result<MutexGuard<'_, Read>> {
        let mut all = self.read.lock();
        let Read {
            offset,
            finished,
            watches,
        } = &mut *all;
        // The server creates the file with the first line.
        if self.path.exists() {
            let mut log = BufReader::new(File::open(&self.path)?);
            log.seek(SeekFrom::Start(*offset))?;
            let mut line = Vec::new();
            // A last line without its end is still being written.
            while log.read_until(b'\n', &mut line)? > 0 && line.ends_with(b"\n") {
                let event: Event = serde_json::from_slice(&line).with_context(|| {
                    format!("reading the audit event {}", String::from_utf8_lossy(&line))
                })?;
                let entries = match event.stage {
                    Stage::ResponseStarted => &mut *watches,
                    Stage::ResponseComplete | Stage::Panic => &mut *finished,
                };
                entries.push(event.into());
                *offset += line.len() as u64;
                line.clear();
            }
        }
        Ok(all)
    }
}

/// The parts of an `audit.k8s.io/v1` Event that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    stage: Stage,
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Status,
}

#[derive(Deserialize)]
enum Stage {
    ResponseStarted,
    ResponseComplete,
    Panic,
}

#[derive(Deserialize)]
struct User {
    username: String,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase")]
struct ObjectRef {
    #[serde(default)]
    api_group: String,
    resource: Option<String>,
    subresource: Option<String>,
    namespace: Option<String>,
    name: Option<String>,
}

#[derive(Deserialize)]
struct Status {
    code: u16,
}

impl From<Event> for AuditEntry {
    fn from(event: Event) -> Self {
        let path = event.request_uri.split('?').next().unwrap_or_default();
        Self {
            verb: event.verb,
            group: event.object_ref.api_group,
            resource: event.object_ref.resource.unwrap_or_else(|| path.to_owned()),
            subresource: event.object_ref.subresource,
            namespace: event.object_ref.namespace,
            name: event.object_ref.name,
            user: event.user.username,
            code: event.response_status.code,
            dry_run: event.request_uri.contains("dryRun=All"),
        }
    }
}
