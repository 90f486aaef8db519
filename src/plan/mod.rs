//! The decision table: from what is declared, recorded and observed to one step and what to say.
//!
//! Pure: no clock, no client. The numbered rules are those of "Exactly one e-mail" in
//! `docs/design.md`.

mod attempt;
mod begin;
mod deletion;
mod facts;
mod invite;
mod say;
mod step;

pub use facts::{Doubt, Facts, Found, Lookup, Named, Observation, Own, Sight};
pub use say::name;
pub use step::{Plan, Saying, State, Step};

use attempt::{ask, settle};
use begin::begin;
use deletion::{let_go, take_back};
use invite::look_after;

/// The decision table.
#[must_use]
pub fn plan(facts: &Facts<'_>) -> Plan {
    if facts.deleting && facts.retain {
        return let_go(facts);
    }
    if let Some(attempt) = facts.open {
        return if facts.observed.sight == Sight::Blind {
            ask(facts, attempt)
        } else {
            settle(facts, attempt)
        };
    }
    if facts.deleting {
        return take_back(facts);
    }
    if let Some(invite) = facts.record.invite_id.as_deref() {
        return look_after(facts, invite);
    }
    begin(facts)
}
