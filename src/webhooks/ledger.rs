//! Which deliveries of one stream have an outcome: everything up to a cursor, except the open ones.

use std::collections::BTreeSet;

/// Bounded by the window: only requests under way are open.
#[derive(Clone, Debug)]
pub struct Ledger {
    cursor: i64,
    open: BTreeSet<i64>,
}

impl Ledger {
    pub fn new(cursor: i64, open: &[i64]) -> Ledger {
        Ledger { cursor, open: open.iter().copied().collect() }
    }

    /// The highest delivery that was begun.
    pub fn cursor(&self) -> i64 {
        self.cursor
    }

    /// The deliveries at or below the cursor without an outcome, in order.
    pub fn open(&self) -> Vec<i64> {
        self.open.iter().copied().collect()
    }

    /// Opens a delivery. Gives how many numbers before it were passed over: their rows are gone.
    pub fn begin(&mut self, seq: i64) -> i64 {
        let passed = self.pass_to(seq - 1);
        self.cursor = self.cursor.max(seq);
        self.open.insert(seq);
        passed
    }

    pub fn finish(&mut self, seq: i64) {
        self.open.remove(&seq);
    }

    /// Moves the cursor over numbers that have no row, and gives how many.
    pub fn pass_to(&mut self, seq: i64) -> i64 {
        let passed = (seq - self.cursor).max(0);
        self.cursor += passed;
        passed
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Whenever a process ends, its successor sends exactly what has no outcome, whatever the order of outcomes.
        #[test]
        fn a_successor_knows_what_is_left(total in 1_i64..60, steps in proptest::collection::vec(any::<(bool, u8)>(), 0..120)) {
            let mut ledger = Ledger::new(0, &[]);
            let (mut next, mut done) = (1, BTreeSet::new());
            for (begin, pick) in steps {
                if begin && next <= total {
                    ledger.begin(next);
                    next += 1;
                } else if let Some(seq) = ledger.open().get(usize::from(pick) % ledger.open().len().max(1)).copied() {
                    ledger.finish(seq);
                    done.insert(seq);
                }
            }
            let successor = Ledger::new(ledger.cursor(), &ledger.open());
            let mut left: BTreeSet<i64> = successor.open().into_iter().collect();
            left.extend(successor.cursor() + 1..=total);
            let expected: BTreeSet<i64> = (1..=total).filter(|seq| !done.contains(seq)).collect();
            prop_assert_eq!(left, expected);
        }
    }
}
