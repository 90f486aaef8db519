//! How many calls a token may make: one lane for each verb, places in line that are kept.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::time::Instant;

use crate::metrics::Waits;

/// What a call costs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Verb {
    /// Creating an invite.
    Post,
    /// Deleting an invite.
    Delete,
    /// Reading anything.
    Get,
}

/// Calls a second for each verb.
#[derive(Clone, Copy, Debug)]
pub struct Rates {
    /// POST a second.
    pub post: u32,
    /// DELETE a second.
    pub delete: u32,
    /// GET a second.
    pub get: u32,
}

impl Default for Rates {
    /// The published limits of one token: POST 10/s, DELETE 5/s, GET 25/s.
    fn default() -> Self {
        Self {
            post: 10,
            delete: 5,
            get: 25,
        }
    }
}

/// Who goes first among those that wait for the same verb.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// What nothing may delay: first invitations, deletions, reading the organization.
    First,
    /// What can wait until nobody of the first class does: resends and replacements, and looking at
    /// single invites.
    Later,
}

/// The calls that one token may make. It starts empty: no burst after a restart.
#[derive(Debug)]
pub struct Budget {
    lanes: Mutex<[Lane; 3]>,
    waits: Waits,
}

#[derive(Debug)]
struct Lane {
    spacing: Duration,
    /// From when on a call of the first class may go out.
    next_first: Instant,
    /// From when on a call of the later class may: behind everybody.
    next_later: Instant,
    /// Who waits for which moment. A place is kept until it is taken or forgotten.
    places: HashMap<String, Place>,
    /// From when on somebody may go whose reserved place is long past.
    ahead: Instant,
    /// Moments to come that were somebody's who will not come: for whoever comes next.
    free: BTreeSet<Instant>,
}

/// How late somebody may come for a place. Later, it is behind those who wait: all who were late together would go at
/// once, faster than Astro allows.
const LATE: Duration = Duration::from_secs(2);
/// The same for a place that was reserved: a POST waits for a look after its DELETE.
const RESERVED: Duration = Duration::from_mins(3);

#[derive(Clone, Copy, Debug)]
struct Place {
    class: Class,
    at: Instant,
    reserved: bool,
}

impl Place {
    /// Whether it is kept for who has it.
    fn holds(&self, now: Instant) -> bool {
        let late = if self.reserved { RESERVED } else { LATE };
        self.at + late >= now
    }

    /// Whether who has it may still come for it itself.
    fn is_in_time(&self, now: Instant) -> bool {
        self.at + LATE >= now
    }
}

impl Lane {
    fn new(rate: u32) -> Self {
        let spacing = Duration::from_secs(1) / rate.max(1);
        let first = Instant::now() + spacing;
        Self {
            spacing,
            next_first: first,
            next_later: first,
            ahead: first,
            places: HashMap::new(),
            free: BTreeSet::new(),
        }
    }

    /// The next moment for a call of that class; nobody else gets it.
    fn place(&mut self, class: Class, now: Instant) -> Instant {
        self.free.retain(|at| *at > now);
        let next = match class {
            Class::First => self.next_first,
            Class::Later => self.next_later,
        };
        if self.free.first().is_some_and(|at| *at < next.max(now)) {
            return self.free.pop_first().unwrap_or(now);
        }
        let at = match class {
            Class::First => {
                let at = self.next_first.max(now);
                let moved = self.move_back(at, |place| place.class == Class::Later);
                self.next_first = at + self.spacing;
                if moved {
                    self.next_later += self.spacing;
                }
                at
            }
            Class::Later => {
                let at = self.next_later.max(now);
                self.next_later = at + self.spacing;
                at
            }
        };
        self.next_later = self.next_later.max(self.next_first);
        at
    }

    /// The moment of `who`, which keeps it. Whoever comes back with a better class than it came with
    /// is not moved back any longer.
    fn keep(&mut self, class: Class, who: &str, now: Instant) -> &mut Place {
        // Who can wait has nothing under way, and goes ahead of nobody.
        let kept = self
            .places
            .remove(who)
            .filter(|place| place.holds(now) && (class == Class::First || place.is_in_time(now)));
        let (at, reserved) = match kept {
            None => (self.place(class, now), false),
            Some(kept) if class == Class::First && kept.class == Class::Later => {
                if kept.at > self.next_first.max(now) {
                    // Far behind: it is not bound to its place.
                    self.free.insert(kept.at);
                    (self.place(class, now), false)
                } else {
                    let at = self.come_late(kept.at, now);
                    self.spend(at);
                    (at, kept.reserved)
                }
            }
            Some(kept) => (self.come_late(kept.at, now), kept.reserved),
        };
        let place = Place {
            class,
            at,
            reserved,
        };
        self.places
            .entry(who.to_owned())
            .insert_entry(place)
            .into_mut()
    }

    /// The moment of somebody whose place is at `at`: the next one, ahead of everybody, when that is long past.
    fn come_late(&mut self, at: Instant, now: Instant) -> Instant {
        if at + LATE >= now {
            return at;
        }
        let at = self.ahead.max(now);
        self.ahead = at + self.spacing;
        self.move_back(at, |_| true);
        self.next_first = self.next_first.max(at) + self.spacing;
        self.next_later = (self.next_later + self.spacing).max(self.next_first);
        at
    }

    /// Moves back by one whom `whom` tells of those who wait for `at` or later, also who is late for a moment just
    /// past. Whether there is anybody.
    fn move_back(&mut self, at: Instant, whom: impl Fn(&Place) -> bool) -> bool {
        let mut moved = !self.free.is_empty();
        for place in self.places.values_mut() {
            if whom(place) && place.at + self.spacing > at {
                place.at += self.spacing;
                moved = true;
            }
        }
        let free = std::mem::take(&mut self.free);
        self.free = free.into_iter().map(|at| at + self.spacing).collect();
        moved
    }

    /// `who` does not come: its moment is whoever's comes next. Those who wait keep theirs, since they come only then.
    fn give_up(&mut self, who: &str) {
        let place = self.places.remove(who);
        self.free.extend(place.map(|place| place.at));
    }

    /// Nobody comes for what is past any longer.
    fn drop_unclaimed(&mut self, now: Instant) {
        self.places.retain(|_, place| place.holds(now));
    }

    /// A call goes out whose moment was `at`.
    fn spend(&mut self, at: Instant) {
        self.next_first = self.next_first.max(at + self.spacing);
        self.next_later = self.next_later.max(self.next_first);
    }
}

impl Budget {
    /// A budget of `rates`.
    #[must_use]
    pub fn new(rates: Rates) -> Self {
        Self {
            lanes: Mutex::new([
                Lane::new(rates.post),
                Lane::new(rates.delete),
                Lane::new(rates.get),
            ]),
            waits: Waits::default(),
        }
    }

    /// The same budget, whose waits are counted in `waits`.
    #[must_use]
    pub fn counted_in(self, waits: Waits) -> Self {
        Self { waits, ..self }
    }

    /// Who waits, and for how long.
    #[must_use]
    pub fn waits(&self) -> &Waits {
        &self.waits
    }

    /// Takes a permit for `who`, or tells the time of its place in line. The place is kept: asking
    /// again at that time gets the permit, unless somebody of a better class came in between.
    pub fn take(&self, verb: Verb, class: Class, who: &str) -> Result<(), Instant> {
        let answer = self.ask(verb, class, who);
        self.waits.asked(verb, who, answer);
        answer
    }

    fn ask(&self, verb: Verb, class: Class, who: &str) -> Result<(), Instant> {
        let now = Instant::now();
        let mut lanes = self.lanes.lock();
        let lane = &mut lanes[verb as usize];
        let at = lane.keep(class, who, now).at;
        if at > now {
            return Err(at);
        }
        lane.places.remove(who);
        lane.spend(at);
        Ok(())
    }

    /// The time of the place in line of `who`, which is kept: for a call that must follow another one
    /// without waiting long in between.
    pub fn reserve(&self, verb: Verb, class: Class, who: &str) -> Instant {
        let now = Instant::now();
        let at = {
            let mut lanes = self.lanes.lock();
            let place = lanes[verb as usize].keep(class, who, now);
            place.reserved = true;
            place.at
        };
        self.waits.asked(verb, who, Err(at));
        at
    }

    /// Takes a permit, waiting for it: for the directory, which nothing waits behind.
    pub async fn wait(&self, verb: Verb, class: Class, who: &str) {
        while let Err(at) = self.take(verb, class, who) {
            tokio::time::sleep_until(at).await;
        }
    }

    /// Gives up the places of `who`, and those that nobody came for.
    pub fn forget(&self, who: &str) {
        self.waits.forget(who);
        let now = Instant::now();
        for lane in &mut *self.lanes.lock() {
            lane.give_up(who);
            lane.drop_unclaimed(now);
        }
    }

    /// Astro answered 429: nobody with this token makes such a call before `pause` is over.
    pub fn pause(&self, verb: Verb, pause: Duration) {
        let now = Instant::now();
        let until = now + pause;
        let mut lanes = self.lanes.lock();
        let lane = &mut lanes[verb as usize];
        lane.free.clear();
        lane.drop_unclaimed(now);
        // Everybody keeps the order, moved behind the pause; whose place is long past goes ahead of them when it comes.
        let mut coming: Vec<&mut Place> = lane.places.values_mut().collect();
        coming.retain(|place| place.is_in_time(now));
        let first = coming.iter().map(|place| place.at).min();
        if let Some(shift) = first.and_then(|first| until.checked_duration_since(first)) {
            for place in coming {
                place.at += shift;
            }
            lane.next_first += shift;
            lane.next_later += shift;
        }
        lane.next_first = lane.next_first.max(until);
        lane.next_later = lane.next_later.max(lane.next_first);
        lane.ahead = lane.ahead.max(until);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn budget() -> Budget {
        Budget::new(Rates {
            post: 10,
            delete: 5,
            get: 25,
        })
    }

    const fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    #[tokio::test(start_paused = true)]
    async fn places_are_kept_and_spaced() {
        let budget = budget();
        let start = Instant::now();
        let take = |who| budget.take(Verb::Post, Class::First, who);
        assert_eq!(take("a"), Err(start + ms(100)), "it starts empty");
        assert_eq!(take("b"), Err(start + ms(200)));
        assert_eq!(take("c"), Err(start + ms(300)));
        assert_eq!(take("b"), Err(start + ms(200)), "its place is kept");
        let delete = budget.take(Verb::Delete, Class::First, "a");
        assert_eq!(
            delete,
            Err(start + ms(200)),
            "verbs do not wait for each other"
        );
        tokio::time::advance(ms(200)).await;
        assert_eq!(take("c"), Err(start + ms(300)));
        assert_eq!(take("b"), Ok(()));
        assert_eq!(take("a"), Ok(()));
        tokio::time::advance(ms(100)).await;
        assert_eq!(take("d"), Err(start + ms(400)));
    }

    #[tokio::test(start_paused = true)]
    async fn what_can_wait_goes_behind_whoever_comes() {
        let budget = budget();
        let start = Instant::now();
        let first = |who| budget.take(Verb::Post, Class::First, who);
        let later = |who| budget.take(Verb::Post, Class::Later, who);
        assert_eq!(later("resend 1"), Err(start + ms(100)));
        assert_eq!(later("resend 2"), Err(start + ms(200)));
        assert_eq!(first("new"), Err(start + ms(100)), "ahead of both");
        assert_eq!(later("resend 1"), Err(start + ms(200)));
        assert_eq!(later("resend 2"), Err(start + ms(300)));
        assert_eq!(later("resend 3"), Err(start + ms(400)));
        tokio::time::advance(ms(200)).await;
        assert_eq!(first("new"), Ok(()));
        assert_eq!(later("resend 1"), Ok(()));
        // A moment that was spent is not given again.
        assert_eq!(first("newer"), Err(start + ms(300)));
        assert_eq!(later("resend 2"), Err(start + ms(400)));
    }

    /// However who comes and goes: never more than one call for each spacing, and nobody waits longer
    /// than those ahead take.
    #[tokio::test(start_paused = true)]
    async fn no_moment_is_given_twice() {
        let budget = budget();
        let start = Instant::now();
        let mut waiting: Vec<(String, Class, Instant)> = Vec::new();
        for n in 0..40 {
            let class = if n % 3 == 0 {
                Class::First
            } else {
                Class::Later
            };
            let who = n.to_string();
            let at = budget.take(Verb::Post, class, &who).unwrap_err();
            waiting.push((who, class, at));
        }
        let mut granted = 0_u32;
        while !waiting.is_empty() {
            tokio::time::advance(ms(100)).await;
            waiting.retain(|(who, class, _)| {
                let taken = budget.take(Verb::Post, *class, who).is_ok();
                granted += u32::from(taken);
                !taken
            });
            let slots = start.elapsed().as_millis() / 100;
            assert_eq!(u128::from(granted), slots.min(40));
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_must_not_wait_any_longer_keeps_its_moment() {
        let budget = budget();
        let start = Instant::now();
        let take = |class, who| budget.take(Verb::Post, class, who);
        let reserved = budget.reserve(Verb::Post, Class::Later, "replacement");
        assert_eq!(reserved, start + ms(100));
        assert_eq!(take(Class::First, "new"), Err(start + ms(100)));
        assert_eq!(take(Class::First, "replacement"), Err(start + ms(200)));
        assert_eq!(take(Class::First, "newer"), Err(start + ms(300)));
        assert_eq!(take(Class::First, "replacement"), Err(start + ms(200)));
        // However late: its DELETE went out long ago.
        tokio::time::advance(Duration::from_mins(2)).await;
        assert_eq!(take(Class::First, "replacement"), Ok(()));
        let now = Instant::now();
        assert_eq!(take(Class::First, "newer"), Err(now + ms(100)));
    }

    /// One look lets all go on whose DELETE went out meanwhile.
    #[tokio::test(start_paused = true)]
    async fn those_whose_reserved_places_are_past_go_one_after_the_other_ahead_of_the_others() {
        let budget = budget();
        let names: Vec<String> = (0..50).map(|number| number.to_string()).collect();
        for name in &names {
            budget.reserve(Verb::Post, Class::Later, name);
        }
        tokio::time::advance(Duration::from_secs(20)).await;
        let take = |who: &str| budget.take(Verb::Post, Class::First, who);
        for n in 0..300 {
            take(&format!("new {n}")).ok();
        }
        let start = Instant::now();
        let mut times: Vec<Duration> = names
            .iter()
            .map(|name| take(name).map_or_else(|at| at - start, |()| Duration::ZERO))
            .collect();
        times.sort();
        let spaced: Vec<Duration> = (0..50).map(|n| ms(100) * n).collect();
        assert_eq!(times, spaced);
        budget.pause(Verb::Post, Duration::from_secs(3));
        let after = take("1").unwrap_err();
        assert!(
            after >= start + Duration::from_secs(3),
            "{:?}",
            after - start
        );
    }

    #[tokio::test(start_paused = true)]
    async fn who_must_not_wait_any_longer_is_not_bound_to_a_far_place_and_draws_nobody_there() {
        let budget = budget();
        let start = Instant::now();
        for n in 0..100 {
            budget.reserve(Verb::Post, Class::Later, &n.to_string());
        }
        let take = |who: &str| budget.take(Verb::Post, Class::First, who);
        assert_eq!(take("99"), Err(start + ms(100)));
        assert_eq!(take("new"), Err(start + ms(200)));
    }

    /// Whoever comes when, and however late for their place: no more calls than the rate allows.
    #[tokio::test(start_paused = true)]
    async fn the_rate_holds_for_random_comers() {
        use rand::{RngExt as _, SeedableRng as _};
        for seed in 0..200 {
            let mut rng = rand::rngs::SmallRng::seed_from_u64(seed);
            let budget = budget();
            let start = Instant::now();
            let mut waiting: Vec<(String, Class, Instant)> = Vec::new();
            let mut granted = 0_u128;
            for n in 0..600 {
                tokio::time::advance(ms(rng.random_range(0..60))).await;
                if rng.random_bool(0.4) {
                    let class = match rng.random_range(0..3) {
                        0 => Class::First,
                        _ => Class::Later,
                    };
                    waiting.push((n.to_string(), class, Instant::now()));
                }
                waiting.retain_mut(|(who, class, comes)| {
                    if rng.random_bool(0.01) {
                        budget.forget(who);
                        return false;
                    }
                    if *comes > Instant::now() {
                        return true;
                    }
                    if rng.random_bool(0.02) {
                        *class = Class::First;
                    }
                    match budget.take(Verb::Post, *class, who) {
                        Ok(()) => {
                            granted += 1;
                            false
                        }
                        Err(at) => {
                            *comes = at + ms(rng.random_range(0..250));
                            true
                        }
                    }
                });
                let allowed = start.elapsed().as_millis() / 100;
                assert!(granted <= allowed, "seed {seed}: {granted} of {allowed}");
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_comes_after_a_rest_gets_no_burst() {
        let budget = budget();
        tokio::time::advance(Duration::from_secs(10)).await;
        let start = Instant::now();
        let take = |class, who| budget.take(Verb::Post, class, who);
        assert_eq!(take(Class::Later, "a"), Ok(()));
        assert_eq!(take(Class::Later, "a"), Err(start + ms(100)), "once");
        assert_eq!(take(Class::First, "b"), Err(start + ms(100)));
        assert_eq!(take(Class::Later, "c"), Err(start + ms(300)));
        tokio::time::advance(Duration::from_secs(10)).await;
        let start = Instant::now();
        assert_eq!(take(Class::First, "d"), Ok(()));
        assert_eq!(take(Class::First, "d"), Err(start + ms(100)), "once");
        assert_eq!(take(Class::Later, "e"), Err(start + ms(200)), "next to it");
    }

    #[tokio::test(start_paused = true)]
    async fn who_waits_has_waited() {
        let none = Rates {
            post: 0,
            ..Rates::default()
        };
        let budget = Budget::new(none);
        let start = Instant::now();
        budget.wait(Verb::Post, Class::First, "a").await;
        assert_eq!(
            start.elapsed(),
            Duration::from_secs(1),
            "one a second at least"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_moment_that_was_given_up_is_given_once() {
        let budget = budget();
        let start = Instant::now();
        let take = |class, who| budget.take(Verb::Post, class, who);
        assert_eq!(take(Class::Later, "a"), Err(start + ms(100)));
        budget.forget("a");
        assert_eq!(take(Class::First, "b"), Err(start + ms(100)));
        assert_eq!(take(Class::Later, "c"), Err(start + ms(200)));
        assert_eq!(take(Class::Later, "d"), Err(start + ms(300)));
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_has_a_place_is_told_as_waiting() {
        let waits = crate::metrics::Metrics::default().organization("o").waits();
        let budget = budget().counted_in(waits);
        let waiting = || budget.waits().waiting().map(|(_, number)| number);
        assert!(budget.take(Verb::Post, Class::First, "a").is_err());
        budget.reserve(Verb::Get, Class::Later, "b");
        assert_eq!(waiting(), [1, 0, 1]);
        tokio::time::advance(ms(100)).await;
        assert_eq!(budget.take(Verb::Post, Class::First, "a"), Ok(()));
        assert_eq!(waiting(), [0, 0, 1]);
        budget.forget("b");
        assert_eq!(waiting(), [0, 0, 0]);
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_everybody_in_order() {
        let budget = Budget::new(Rates::default());
        let start = Instant::now();
        let take = |class, who| budget.take(Verb::Post, class, who);
        assert!(take(Class::First, "a").is_err());
        assert!(take(Class::Later, "b").is_err());
        budget.pause(Verb::Post, Duration::from_secs(3));
        assert_eq!(take(Class::First, "a"), Err(start + ms(3000)));
        assert_eq!(take(Class::Later, "b"), Err(start + ms(3100)));
        assert_eq!(take(Class::Later, "c"), Err(start + ms(3200)));
        assert_eq!(
            take(Class::First, "d"),
            Err(start + ms(3100)),
            "ahead of both"
        );
        assert_eq!(take(Class::Later, "b"), Err(start + ms(3200)));
    }

    /// As when many calls were on their way at once.
    #[tokio::test(start_paused = true)]
    async fn several_429s_do_not_add_up_and_hold_who_is_late() {
        let budget = budget();
        let take = |class, who| budget.take(Verb::Post, class, who);
        budget.reserve(Verb::Post, Class::Later, "replacement");
        tokio::time::advance(Duration::from_secs(10)).await;
        assert!(take(Class::First, "late").is_ok());
        assert!(take(Class::First, "late").is_err());
        tokio::time::advance(ms(600)).await;
        let until = Instant::now() + Duration::from_mins(1);
        for _ in 0..5 {
            budget.pause(Verb::Post, Duration::from_mins(1));
        }
        let soon = |at: Instant| at >= until && at < until + LATE + ms(500);
        for who in ["late", "new", "replacement"] {
            let at = take(Class::First, who).unwrap_err();
            assert!(soon(at), "{who}: {:?}", at - until);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_can_wait_and_comes_late_delays_nobody() {
        let budget = budget();
        let names: Vec<String> = (0..100).map(|number| number.to_string()).collect();
        let reserve = |who: &str| budget.reserve(Verb::Delete, Class::Later, who);
        for name in &names {
            reserve(name);
        }
        tokio::time::advance(Duration::from_secs(30)).await;
        for name in &names {
            reserve(name);
        }
        assert_eq!(budget.take(Verb::Delete, Class::First, "deletion"), Ok(()));
    }

    #[tokio::test(start_paused = true)]
    async fn a_pause_holds_whoever_comes_as_well() {
        for class in [Class::First, Class::Later] {
            let budget = Budget::new(Rates::default());
            let until = Instant::now() + Duration::from_secs(3);
            budget.pause(Verb::Post, Duration::from_secs(3));
            // It holds as long as the longest, and no other verb.
            budget.pause(Verb::Post, Duration::from_secs(1));
            assert_eq!(budget.take(Verb::Post, class, "a"), Err(until), "{class:?}");
            assert!(budget.take(Verb::Get, class, "a").unwrap_err() < until);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_place_that_is_given_up_is_forgotten() {
        let budget = budget();
        let start = Instant::now();
        let take = |who| budget.take(Verb::Post, Class::First, who);
        assert!(take("a").is_err());
        assert!(take("b").is_err());
        assert!(take("c").is_err());
        budget.forget("b");
        assert_eq!(take("a"), Err(start + ms(100)), "nobody else's");
        assert_eq!(take("c"), Err(start + ms(300)), "who waits comes only then");
        assert_eq!(take("b"), Err(start + ms(200)), "whoever comes next");
        assert_eq!(take("d"), Err(start + ms(400)));
        let later = |who| budget.take(Verb::Post, Class::Later, who);
        assert_eq!(later("e"), Err(start + ms(500)));
        assert_eq!(later("f"), Err(start + ms(600)));
        budget.forget("e");
        assert_eq!(take("g"), Err(start + ms(500)));
        assert_eq!(later("f"), Err(start + ms(700)), "moved back");
        assert_eq!(
            later("h"),
            Err(start + ms(600)),
            "whose moment moved as well"
        );
        budget.forget("a");
        budget.pause(Verb::Post, ms(1000));
        assert_eq!(take("a"), Err(start + ms(1400)), "a pause ends them");
        // Nor is one kept for ever for somebody who does not come.
        let kept = || budget.lanes.lock()[Verb::Post as usize].places.len();
        tokio::time::advance(LATE).await;
        budget.forget("e");
        assert_eq!(kept(), 7);
        tokio::time::advance(ms(2000)).await;
        budget.forget("e");
        assert_eq!(kept(), 0);
    }

    /// Such as those whose Organization was suspended meanwhile.
    #[tokio::test(start_paused = true)]
    async fn who_comes_late_goes_behind_and_nobody_waits_for_who_never_comes() {
        let budget = budget();
        let take = |who: &str| budget.take(Verb::Post, Class::First, who);
        let names: Vec<String> = (0..600).map(|number| number.to_string()).collect();
        for name in &names {
            assert!(take(name).is_err());
        }
        tokio::time::advance(Duration::from_hours(1)).await;
        let now = Instant::now();
        let granted = names.iter().filter(|name| take(name).is_ok()).count();
        assert_eq!(granted, 1, "as after any rest");
        let last = names.iter().filter_map(|name| take(name).err()).max();
        assert_eq!(last, Some(now + ms(60_000)));

        // Nor does a pause last as long as somebody has not come.
        assert!(take("gone").is_err());
        tokio::time::advance(Duration::from_hours(1)).await;
        budget.pause(Verb::Post, Duration::from_secs(1));
        assert_eq!(take("next"), Err(Instant::now() + Duration::from_secs(1)));
    }
}
