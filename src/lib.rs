//! Keeps the members of an Astro organization in Git: one `OrgInvite`, one invitation, one e-mail.

pub mod astro;
pub mod claims;
pub mod cli;
pub mod error;
pub mod install;
pub mod leadership;
pub mod operator;
pub mod plan;
pub mod policy;
pub mod reconcile;
pub mod resources;
pub mod takeover;
