//! When so many people are missing at once that it is not believed.

use std::collections::{HashMap, HashSet};

use tokio::time::Instant;

use super::Person;
use crate::resources::Address;

/// So many people may go between two passes without a doubt; see [`Loss`].
const LOSS_FLOOR: usize = 10;
/// The same as a fraction: one in so many.
const LOSS_FRACTION: usize = 20;

/// More people went at once than is believed: a wrong address of the API, a weaker token or a broken
/// list would look like that, and must not write to everybody.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Loss {
    /// How many people there were.
    pub known: usize,
    /// Who is missing.
    missing: HashSet<Address>,
}

impl Loss {
    /// How many people are missing.
    #[must_use]
    pub fn missing(&self) -> usize {
        self.missing.len()
    }

    /// What a pass that shows `people` makes of an earlier loss and of those known before.
    pub(super) fn judge(
        earlier: Option<&Self>,
        known_before: &HashSet<Address>,
        taken_back: &HashMap<Address, Instant>,
        people: &HashMap<Address, Person>,
    ) -> Option<Self> {
        let known = earlier.map_or(0, |loss| loss.known).max(known_before.len());
        let missing: HashSet<Address> = earlier
            .map(|loss| &loss.missing)
            .into_iter()
            .flatten()
            .chain(known_before)
            .filter(|address| !people.contains_key(*address) && !taken_back.contains_key(*address))
            .cloned()
            .collect();
        let many = missing.len() > LOSS_FLOOR.max(known / LOSS_FRACTION);
        many.then_some(Self { known, missing })
    }
}
