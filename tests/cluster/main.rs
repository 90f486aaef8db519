//! What the operator promises, on a real API server: one file for each kind of promise.
//!
//! One control plane serves all of them. Each test has its own namespace, its own Organization, its
//! own fake of Astro and its own operator processes.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod admin;
mod admission;
#[allow(dead_code, reason = "the chaos tests need more of it")]
mod cable;
mod claims;
mod directory;
mod events;
mod exactly_one_email;
mod expiry;
mod failover;
mod fallback;
mod hostile;
mod kstatus;
mod lifecycle;
mod matrix;
mod organization;
mod policy;
mod proxy;
mod relist;
mod requests;
mod restored;
mod scale;
mod switches;
mod telemetry;
mod token;
mod way;
mod world;
