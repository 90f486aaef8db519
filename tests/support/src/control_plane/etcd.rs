//! What is asked of etcd itself, by its JSON gateway.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Forgets all revisions but the present one: who asks for what changed since an older one is told that it is gone.
pub(super) async fn compact(socket: &Path) -> Result<()> {
    // One key, which need not be there: every answer tells the revision.
    let found = call(socket, "/v3/kv/range", &json!({"key": "AA=="})).await?;
    let revision = &found["header"]["revision"];
    let request = json!({"revision": revision, "physical": true});
    call(socket, "/v3/kv/compaction", &request).await?;
    Ok(())
}

async fn call(socket: &Path, path: &str, body: &Value) -> Result<Value> {
    let body = body.to_string();
    let request = format!(
        "POST {path} HTTP/1.0\r\nHost: etcd\r\nContent-Type: application/json\r\nContent-Length: {}\r\n\r\n{body}",
        body.len()
    );
    let mut stream = UnixStream::connect(socket).await?;
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("no answer of etcd")?;
    let first = head.lines().next().unwrap_or_default();
    ensure!(first.contains(" 200 "), "etcd answered {path}: {answer}");
    Ok(serde_json::from_str(body)?)
}
