//! Who may begin a further request when many want to.
//!
//! Each stream has a place of its own for one request, so however many receivers hang, one that does not is served.
//! What it may have beyond that comes from a common store, and is a part of what is left there beside what its
//! environment took: whoever takes much makes the bound of all smaller, his own first, and an environment full of bad
//! receivers leaves half to the others. Why not a fixed share: a lone busy receiver would leave most of the room unused.

use std::collections::HashMap;

use crate::ids::EnvId;

/// The most requests under way at once, beside one of each stream.
const MOST: usize = 2048;
/// Which part of what is left one stream may have.
const PART: usize = 6;

/// The common store.
#[derive(Default)]
pub struct Slots {
    taken: usize,
    by_env: HashMap<EnvId, usize>,
}

/// The right to have one request under way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Slot {
    Own,
    Common(EnvId),
}

impl Slots {
    /// Takes a slot for a stream that has `held` requests under way.
    pub fn take(&mut self, env: EnvId, held: usize) -> Option<Slot> {
        if held == 0 {
            return Some(Slot::Own);
        }
        let of_env = self.by_env.get(&env).copied().unwrap_or(0);
        let room = MOST.saturating_sub(self.taken).saturating_sub(of_env);
        if held >= room / PART {
            return None;
        }
        self.taken += 1;
        self.by_env.insert(env, of_env + 1);
        Some(Slot::Common(env))
    }

    pub fn give_back(&mut self, slot: Slot) {
        let Slot::Common(env) = slot else { return };
        self.taken = self.taken.saturating_sub(1);
        if let Some(count) = self.by_env.get_mut(&env) {
            *count = count.saturating_sub(1);
            if *count == 0 {
                self.by_env.remove(&env);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::clock::Time;
    use crate::ids::Ids;

    fn env(seed: u64) -> EnvId {
        Ids::seeded(seed).make(Time::from_millisecond(1_767_225_600_000))
    }

    /// Lets streams take as much as they may, one after another, and tells what the last got.
    fn fill(slots: &mut Slots, streams: impl IntoIterator<Item = EnvId>) -> Vec<Slot> {
        let mut last = Vec::new();
        for env in streams {
            last = Vec::new();
            while let Some(slot) = slots.take(env, last.len()) {
                last.push(slot);
            }
        }
        last
    }

    #[test]
    fn a_lone_receiver_gets_a_whole_window() {
        assert!(fill(&mut Slots::default(), [env(1)]).len() >= 256);
    }

    #[test]
    fn however_many_hang_another_is_served() {
        for (hanging, environments, left) in [(50, 1, 100), (1000, 1, 100), (20, 20, 10), (50, 50, 1), (1000, 1000, 1)]
        {
            let mut slots = Slots::default();
            fill(&mut slots, (0..hanging).map(|stream| env(stream % environments)));
            assert!(!fill(&mut slots, [env(0)]).is_empty(), "of the same environment");
            let other = fill(&mut slots, [env(5000)]).len();
            assert!(other >= left, "{hanging} hang in {environments} environments, and another gets {other}");
        }
    }

    #[test]
    fn a_bad_environment_leaves_half_to_the_others() {
        let mut slots = Slots::default();
        fill(&mut slots, std::iter::repeat_n(env(1), 900));
        assert!(slots.taken <= MOST / 2);
    }

    #[test]
    fn what_is_given_back_is_free() {
        let mut slots = Slots::default();
        let held = fill(&mut slots, [env(1)]);
        held.iter().for_each(|slot| slots.give_back(*slot));
        assert_eq!((slots.taken, slots.by_env.values().sum()), (0, 0));
        assert_eq!(fill(&mut slots, [env(1)]), held);
    }
}
