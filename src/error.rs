//! Why a reconcile could not be finished.

/// Why a reconcile could not be finished. Each is tried again after 4 to 8 s, an attempt that was refused with growing
/// delays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API server did not take a write.
    #[error("the Kubernetes API server did not take a write: {0}")]
    Kube(#[from] kube::Error),
    /// Something that must be JSON is not.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}
