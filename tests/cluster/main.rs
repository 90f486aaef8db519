//! What the operator promises, on a real API server: one file for each kind of promise.
//!
//! One control plane serves all of them. Each test has its own namespace, its own Organization, its
//! own fake of Astro and its own operator process.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod admission;
mod claims;
mod directory;
mod exactly_one_email;
mod expiry;
mod fallback;
mod lifecycle;
mod matrix;
mod policy;
mod scale;
mod switches;
mod token;
mod world;
