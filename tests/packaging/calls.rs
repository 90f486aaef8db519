//! Single requests to the API server, to see what is refused.

use std::time::{Duration, Instant};

use http::Request;
use kube::config::{KubeConfigOptions, Kubeconfig};
use kube::{Client, Config};
use serde_json::{Value, json};

use crate::installation::Installation;
use crate::pods::account;
use crate::tools::DEADLINE;

/// The API group and version of Leases.
pub const LEASES: &str = "coordination.k8s.io/v1";

/// An object with more fields.
pub fn object(api_version: &str, kind: &str, name: &str, mut fields: Value) -> Value {
    fields["apiVersion"] = json!(api_version);
    fields["kind"] = json!(kind);
    fields["metadata"] = json!({"name": name});
    fields
}

/// The object in that namespace.
pub fn of(namespace: &str, mut object: Value) -> Value {
    object["metadata"]["namespace"] = json!(namespace);
    object
}

/// One request. A write is only tried.
#[derive(Debug)]
pub struct Call {
    method: &'static str,
    path: String,
    content: &'static str,
    body: Option<Value>,
}

impl Call {
    fn new(
        method: &'static str,
        path: impl Into<String>,
        content: &'static str,
        body: Option<Value>,
    ) -> Self {
        Self {
            method,
            path: path.into(),
            content,
            body,
        }
    }

    pub fn get(path: impl Into<String>) -> Self {
        Self::new("GET", path, "application/json", None)
    }

    pub fn watch(path: impl Into<String>) -> Self {
        Self::get(path.into() + "?watch=true&timeoutSeconds=1")
    }

    pub fn post(path: impl Into<String>, body: Value) -> Self {
        Self::new("POST", path, "application/json", Some(body))
    }

    /// Replaces the object with itself.
    pub fn put_back(path: impl Into<String>) -> Self {
        Self::new("PUT", path, "application/json", None)
    }

    pub fn delete(path: impl Into<String>) -> Self {
        Self::new("DELETE", path, "application/json", None)
    }

    pub fn merge(path: impl Into<String>, body: Value) -> Self {
        Self::new("PATCH", path, "application/merge-patch+json", Some(body))
    }

    /// The smallest patch there is.
    pub fn label(path: impl Into<String>) -> Self {
        Self::merge(path, json!({"metadata": {"labels": {"a": "b"}}}))
    }

    /// A server-side apply, which creates what is not there.
    pub fn apply(path: impl Into<String>, body: Value) -> Self {
        Self::new("PATCH", path, "application/apply-patch+yaml", Some(body))
    }
}

/// Somebody who makes them.
pub struct Caller {
    client: Client,
    admin: Client,
}

impl Caller {
    pub fn admin(installation: &Installation) -> Self {
        let client = installation.client.clone();
        Self {
            admin: client.clone(),
            client,
        }
    }

    pub async fn operator(installation: &Installation) -> Self {
        let name = installation.name.as_str();
        let kubeconfig = account(installation.plane, &installation.client, name, name).await;
        let kubeconfig = Kubeconfig::read_from(kubeconfig).unwrap();
        let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default())
            .await
            .unwrap();
        Self {
            client: Client::try_from(config).unwrap(),
            admin: installation.client.clone(),
        }
    }

    /// The answer to what must be permitted: what is granted is known to the API server a moment later.
    pub async fn call_granted(&self, call: &Call) -> (u16, String) {
        let deadline = Instant::now() + DEADLINE;
        loop {
            let answer = self.call(call).await;
            if answer.0 != 403 || Instant::now() > deadline {
                return answer;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The status, 200 for every success, and what was answered.
    pub async fn call(&self, call: &Call) -> (u16, String) {
        let request = |method: &str, path: &str, body: Vec<u8>| {
            Request::builder()
                .method(method)
                .uri(path)
                .header("content-type", call.content)
                .body(body)
                .unwrap()
        };
        let body = match &call.body {
            Some(body) => body.to_string().into_bytes(),
            None if call.method == "PUT" => {
                let present = self.admin.request_text(request("GET", &call.path, vec![]));
                present.await.unwrap().into_bytes()
            }
            None => Vec::new(),
        };
        let path = match call.method {
            "GET" => call.path.clone(),
            _ => format!("{}?dryRun=All&fieldManager=test", call.path),
        };
        match self
            .client
            .request_text(request(call.method, &path, body))
            .await
        {
            Ok(answer) => (200, answer),
            Err(kube::Error::Api(status)) => (status.code, status.message),
            Err(error) => panic!("{call:?}: {error}"),
        }
    }
}
