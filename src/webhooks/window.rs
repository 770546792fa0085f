//! How many requests one endpoint gets at once: grows while it answers, halves when it fails.

/// The additive-increase, multiplicative-decrease window of one subscription.
#[derive(Clone, Debug)]
pub struct Window {
    limit: f64,
    /// Below this the window doubles per round, above it grows by one.
    threshold: f64,
}

impl Window {
    const FIRST: f64 = 8.0;
    const LEAST: f64 = 1.0;
    const MOST: f64 = 256.0;

    pub fn new() -> Window {
        Window { limit: Window::FIRST, threshold: Window::MOST }
    }

    /// How many requests may be under way.
    pub fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 256")]
        let limit = self.limit as usize;
        limit
    }

    pub fn succeeded(&mut self) {
        let step = if self.limit < self.threshold { 1.0 } else { 1.0 / self.limit };
        self.limit = (self.limit + step).min(Window::MOST);
    }

    pub fn failed(&mut self) {
        self.limit = (self.limit / 2.0).max(Window::LEAST);
        self.threshold = self.limit;
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn a_good_receiver_gets_more_and_a_failing_one_less() {
        let mut window = Window::new();
        assert_eq!(window.limit(), 8);
        (0..8).for_each(|_| window.succeeded());
        assert_eq!(window.limit(), 16, "doubles in a round");
        window.failed();
        assert_eq!(window.limit(), 8);
        (0..8).for_each(|_| window.succeeded());
        assert_eq!(window.limit(), 8, "then grows by about one in a round");
        (0..3).for_each(|_| window.succeeded());
        assert_eq!(window.limit(), 9);
    }

    proptest! {
        #[test]
        fn the_window_stays_in_its_bounds(outcomes in proptest::collection::vec(any::<bool>(), 0..2000)) {
            let mut window = Window::new();
            for good in outcomes {
                if good { window.succeeded() } else { window.failed() }
                prop_assert!((1..=256).contains(&window.limit()));
            }
        }
    }
}
