//! Keeps the members of an Astro organization in Git: one `OrgInvite`, one invitation, one e-mail.

pub mod admin;
pub mod astro;
pub mod claims;
pub mod cli;
pub mod error;
pub mod install;
pub mod leadership;
pub mod metrics;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod random;
pub mod reconcile;
pub mod resources;
pub mod state_metrics;
pub mod stored;
pub mod takeover;
pub mod telemetry;

/// How its requests to Astro and to the cluster name it.
pub const USER_AGENT: &str = concat!("orginvite-operator/", env!("CARGO_PKG_VERSION"));
