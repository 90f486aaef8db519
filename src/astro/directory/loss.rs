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

#[cfg(test)]
mod tests {
    use super::*;

    fn addresses(numbers: impl IntoIterator<Item = usize>) -> HashSet<Address> {
        let numbers = numbers.into_iter();
        numbers
            .map(|number| Address::parse(&format!("p{number}@example.com")).unwrap())
            .collect()
    }

    fn people(numbers: impl IntoIterator<Item = usize>) -> HashMap<Address, Person> {
        let addresses = addresses(numbers).into_iter();
        addresses.map(|address| (address, Person::Barred)).collect()
    }

    /// How many of how many are missing, when it is not believed.
    fn judge(
        earlier: Option<&Loss>,
        known: &HashSet<Address>,
        taken_back: &HashSet<Address>,
        people: &HashMap<Address, Person>,
    ) -> Option<(usize, usize)> {
        let now = Instant::now();
        let taken_back = taken_back.iter().cloned().map(|address| (address, now));
        let loss = Loss::judge(earlier, known, &taken_back.collect(), people)?;
        Some((loss.missing(), loss.known))
    }

    #[test]
    fn ten_or_one_in_twenty_may_go() {
        for (known, shown, expected) in [
            (10, 0, None),
            (11, 0, Some((11, 11))),
            (200, 190, None),
            (200, 189, Some((11, 200))),
            (400, 380, None),
            (400, 379, Some((21, 400))),
            (419, 398, Some((21, 419))),
            (420, 399, None),
        ] {
            let loss = judge(
                None,
                &addresses(0..known),
                &HashSet::new(),
                &people(0..shown),
            );
            assert_eq!(loss, expected, "{shown} of {known}");
        }
    }

    #[test]
    fn who_was_taken_back_is_not_missed() {
        let known = addresses(0..20);
        let missing = |taken_back| judge(None, &known, &addresses(0..taken_back), &HashMap::new());
        assert_eq!(missing(9), Some((11, 20)));
        assert_eq!(missing(10), None);
    }

    /// One pass after the other: a loss ends when those who went are there again, not when others are known.
    #[test]
    fn a_loss_lasts_until_they_are_back() {
        let nobody = HashSet::new();
        let loss = Loss::judge(None, &addresses(0..300), &HashMap::new(), &people(0..280));
        let loss = loss.unwrap();
        assert_eq!((loss.missing(), loss.known), (20, 300));
        let later = |shown| judge(Some(&loss), &addresses(0..280), &nobody, &shown);
        assert_eq!(later(people(0..280)), Some((20, 300)));
        assert_eq!(later(people(5..280)), Some((25, 300)));
        assert_eq!(later(people(0..285)), None);
        assert_eq!(later(people(0..284)), Some((16, 300)));
        let grown = judge(Some(&loss), &addresses(0..400), &nobody, &people(0..279));
        assert_eq!(grown, Some((121, 400)));
    }
}
