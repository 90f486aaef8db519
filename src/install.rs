//! What installing and uninstalling take beside the manifests.

use std::fmt::{self, Debug};
use std::time::Duration;

use k8s_openapi::apiextensions_apiserver::pkg::apis::apiextensions::v1::CustomResourceDefinition;
use kube::api::{ListParams, Patch, PatchParams};
use kube::runtime::wait::{Error as WaitError, await_condition, conditions};
use kube::{Api, Client, Resource, ResourceExt};

use crate::resources::{GROUP, OrgInvite, Organization, crds};
use crate::stored::{Listed, PAGE, is_ours, list_metadata};

/// How long the API server may take to serve a definition.
const SERVED_DEADLINE: Duration = Duration::from_secs(30);

/// How many objects of a kind a message names.
const NAMED: usize = 5;

/// Why the definitions could not be applied.
#[derive(Debug, thiserror::Error)]
pub enum ApplyError {
    /// The API server did not take one.
    #[error("{name} cannot be applied: {error}")]
    Refused {
        /// The definition.
        name: String,
        /// The API server's word.
        error: kube::Error,
    },
    /// Whether one is served cannot be seen.
    #[error("{name} is applied, but cannot be watched: {error}")]
    Unwatched {
        /// The definition.
        name: String,
        /// Why.
        error: WaitError,
    },
    /// The API server took one and does not serve it.
    #[error("{0} is applied, but the API server does not serve it: look at its conditions")]
    NotServed(String),
}

/// Applies the custom resource definitions as that field manager, and waits until they are served. Returns their
/// names.
pub async fn apply_definitions(
    client: &Client,
    field_manager: &str,
) -> Result<Vec<String>, ApplyError> {
    let api: Api<CustomResourceDefinition> = Api::all(client.clone());
    let params = PatchParams::apply(field_manager).force();
    let mut names = Vec::new();
    for crd in crds() {
        let name = crd.name_any();
        if let Err(error) = api.patch(&name, &params, &Patch::Apply(&crd)).await {
            return Err(ApplyError::Refused { name, error });
        }
        let served = await_condition(api.clone(), &name, conditions::is_crd_established());
        match tokio::time::timeout(SERVED_DEADLINE, served).await {
            Ok(Ok(_)) => names.push(name),
            Ok(Err(error)) => return Err(ApplyError::Unwatched { name, error }),
            Err(_) => return Err(ApplyError::NotServed(name)),
        }
    }
    Ok(names)
}

/// The objects that could not be deleted without the operator, since they have a finalizer of it.
#[derive(Debug, Default, PartialEq)]
pub struct Held {
    /// `OrgInvite`s, as `namespace/name`.
    pub invites: Vec<String>,
    /// Organizations, by name.
    pub organizations: Vec<String>,
    /// The Organizations that were asked about; empty for all.
    asked: Vec<String>,
}

impl Held {
    /// Whether nothing is.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.invites.is_empty() && self.organizations.is_empty()
    }
}

/// What is held, what would become of it, and the ways out.
impl fmt::Display for Held {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(
            out,
            "without the operator, these objects could be deleted no more, and nobody would look after their invitations:"
        )?;
        for (kind, names) in [
            ("orginvites", &self.invites),
            ("organizations", &self.organizations),
        ] {
            if !names.is_empty() {
                let shown = names[..names.len().min(NAMED)].join(", ");
                let more = if names.len() > NAMED { ", ..." } else { "" };
                writeln!(out, "  {} {kind}: {shown}{more}", names.len())?;
            }
        }
        writeln!(
            out,
            "Delete them while it runs, OrgInvites first, and uninstall again:"
        )?;
        // Never a command that deletes what another installation looks after.
        if self.asked.is_empty() {
            writeln!(out, "  kubectl delete orginvites --all --all-namespaces")?;
            writeln!(out, "  kubectl delete organizations.{GROUP} --all")?;
        } else {
            for name in &self.asked {
                writeln!(
                    out,
                    "  kubectl delete orginvites --all-namespaces --field-selector spec.organizationRef.name={name}"
                )?;
            }
            writeln!(
                out,
                "  kubectl delete organizations.{GROUP} {}",
                self.asked.join(" ")
            )?;
        }
        write!(
            out,
            "That takes pending invitations back; with spec.deletionPolicy: Retain they are left alone, and Astro need not be reachable.\n\
             To leave the objects for another installation of the operator, run helm uninstall with --no-hooks."
        )
    }
}

/// What is held of these Organizations, by name, and of their `OrgInvite`s; without names, of all. Nothing is where
/// the definitions are not installed.
pub async fn held(client: &Client, organizations: &[String]) -> Result<Held, kube::Error> {
    let selectors = if organizations.is_empty() {
        vec![ListParams::default()]
    } else {
        let of = |name| ListParams::default().fields(&format!("spec.organizationRef.name={name}"));
        organizations.iter().map(of).collect()
    };
    let mut invites = Vec::new();
    for selector in selectors {
        invites.extend(with_finalizer::<OrgInvite>(client, selector).await?);
    }
    let mut held = with_finalizer::<Organization>(client, ListParams::default()).await?;
    held.retain(|name| organizations.is_empty() || organizations.contains(name));
    Ok(Held {
        invites,
        organizations: held,
        asked: organizations.to_vec(),
    })
}

/// The objects with a finalizer of our group.
async fn with_finalizer<K>(client: &Client, params: ListParams) -> Result<Vec<String>, kube::Error>
where
    K: Resource<DynamicType = ()> + Clone,
{
    let api: Api<K> = Api::all(client.clone());
    let mut params = params.limit(PAGE);
    let mut names = Vec::new();
    loop {
        let page = match list_metadata(&api, &params).await {
            Err(kube::Error::Api(status)) if status.code == 404 => return Ok(names),
            page => page?,
        };
        for Listed(object) in page.items {
            if object
                .finalizers
                .unwrap_or_default()
                .iter()
                .any(|name| is_ours(name))
            {
                let name = object.name.unwrap_or_default();
                names.push(match object.namespace {
                    Some(namespace) => format!("{namespace}/{name}"),
                    None => name,
                });
            }
        }
        match page.metadata.continue_ {
            Some(next) if !next.is_empty() => params.continue_token = Some(next),
            _ => return Ok(names),
        }
    }
}
