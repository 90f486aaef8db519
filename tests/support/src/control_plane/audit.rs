//! What the API server is told to log, and how that is read.

use std::fs;
use std::path::Path;

use anyhow::{Context, Result};
use serde::Deserialize;
use serde_json::{Value, json};

use super::AUDITED;

/// One line for each finished request about our resources or of the user [`AUDITED`], nothing else.
pub(super) fn policy() -> Value {
    json!({
        "apiVersion": "audit.k8s.io/v1",
        "kind": "Policy",
        "omitStages": ["RequestReceived", "ResponseStarted"],
        "rules": [
            {"level": "Metadata", "users": [AUDITED]},
            {"level": "Metadata", "resources": [{"group": "iam.astronomer.io"}]},
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

/// Reads the log. A last line without its end is still being written and left out.
pub(super) fn read(log: &Path) -> Result<Vec<AuditEntry>> {
    let text = match fs::read_to_string(log) {
        // The server creates the file with the first line.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        text => text.with_context(|| format!("reading {}", log.display()))?,
    };
    let complete = text.rfind('\n').map_or("", |end| &text[..end]);
    complete
        .lines()
        .map(|line| {
            let event: Event = serde_json::from_str(line)
                .with_context(|| format!("reading the audit event {line}"))?;
            Ok(event.into())
        })
        .collect()
}

/// The parts of an `audit.k8s.io/v1` Event that are used.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Event {
    verb: String,
    #[serde(rename = "requestURI")]
    request_uri: String,
    user: User,
    #[serde(default)]
    object_ref: ObjectRef,
    response_status: Status,
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
