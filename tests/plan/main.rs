//! The plan: the decision table row by row, what holds of every plan, and who holds an address. Pure: no
//! cluster, no Astro, no clock.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test fails by panicking"
)]
#![allow(
    clippy::too_many_lines,
    clippy::struct_excessive_bools,
    reason = "a table is as long as its rows, and a case as wide as the facts"
)]

mod arbitrary;
mod attempt_open;
mod blind;
mod case;
mod closing;
mod deletion;
mod ended_early;
mod invite_recorded;
mod mass_loss;
mod nothing_recorded;
mod properties;
mod quiet_world;
mod resends;
mod restored;
mod standing;
mod table;
mod told;
