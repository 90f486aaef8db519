//! Chance: attempt IDs and jitter. All of it is drawn here, so that a run can be repeated from a seed.

use std::cell::RefCell;

use rand::rngs::Xoshiro256PlusPlus;
use rand::{Rng, SeedableRng as _};

thread_local! {
    static SEEDED: RefCell<Option<Xoshiro256PlusPlus>> = const { RefCell::new(None) };
}

/// Draws from the process's source of randomness, or from this thread's own after [`seed`].
pub fn draw<T>(with: impl FnOnce(&mut dyn Rng) -> T) -> T {
    SEEDED.with_borrow_mut(|seeded| match seeded {
        Some(source) => with(source),
        None => with(&mut rand::rng()),
    })
}

/// Makes all that is drawn on this thread from now on follow from `seed`: for simulations.
pub fn seed(seed: u64) {
    SEEDED.set(Some(Xoshiro256PlusPlus::seed_from_u64(seed)));
}

#[cfg(test)]
mod tests {
    use rand::RngExt as _;

    use super::*;

    #[test]
    fn a_seed_repeats_what_is_drawn() {
        let draws = || -> Vec<u64> { (0..4).map(|_| draw(|rng| rng.random())).collect() };
        assert_ne!(draws(), draws());
        seed(7);
        let first = draws();
        assert_ne!(first, draws());
        seed(7);
        assert_eq!(first, draws());
    }
}
