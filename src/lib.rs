//! Keeps the members of an Astro organization in Git: one `OrgInvite`, one invitation, one e-mail.

pub mod astro;
pub mod resources;
