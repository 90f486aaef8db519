//! The image: what is in it, and that the operator works from it.
//!
//! Building it takes minutes, root and buildah, so that `cargo test` leaves these tests out: `make image-test`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]

mod built;
mod contents;
mod https;
mod pod;
mod trust;
