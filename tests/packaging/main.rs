//! The chart, as the real helm renders it, the real kubectl applies it and the real API server takes it.
//!
//! There is no kubelet: a test that needs a pod to run does what the pod would do, with the image's program as the
//! pod's service account.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod calls;
mod chart;
mod installation;
mod kubectl;
mod pod_security;
mod pods;
mod release;
mod rendering;
mod rights;
mod tools;
