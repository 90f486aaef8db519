//! Why a reconcile could not be finished.

/// Why a reconcile could not be finished. Each is tried again after 4 to 8 s, an attempt that was refused with growing
/// delays.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The Kubernetes API server did not do what it was asked for.
    #[error("the Kubernetes API server did not do what it was asked for: {0}")]
    Kube(#[from] kube::Error),
    /// Something that must be JSON is not.
    #[error("cannot write JSON: {0}")]
    Json(#[from] serde_json::Error),
}

impl Error {
    /// What is told of it in the object's status, when the API server refused what was to be written and will go on
    /// to.
    #[must_use]
    pub fn refusal(&self) -> Option<String> {
        match self {
            Self::Kube(kube::Error::Api(status))
                if (400..500).contains(&status.code)
                    && ![401, 404, 408, 409, 429].contains(&status.code) =>
            {
                let words: String = status.message.chars().take(1000).collect();
                Some(format!(
                    "The API server refuses what has to be written to this object: {words}. Nothing goes on before that is taken; it is tried again"
                ))
            }
            _ => None,
        }
    }
}
