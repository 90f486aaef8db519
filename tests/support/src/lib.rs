//! What tests and demo stand on: the real control plane, a fake Astro API, and the operator as a process.

pub mod control_plane;
pub mod fake_astro;
pub mod operator;
