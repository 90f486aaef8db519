//! Reconciling: observe, plan, act, report.

mod act;
pub mod cache;
pub mod connection;
pub mod context;
mod disconnected;
pub mod events;
pub mod memory;
mod observe;
pub mod order;
pub mod org_invite;
pub mod organization;
pub mod report;
mod send;
pub mod write;
