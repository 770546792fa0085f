//! How many requests one endpoint gets at once: grows while it answers promptly, halves when it fails.

use std::time::Duration;

/// The additive-increase, multiplicative-decrease window of one subscription.
#[derive(Clone, Debug)]
pub struct Window {
    limit: f64,
    /// Below this the window doubles per round, above it grows by one.
    threshold: f64,
    /// The shortest time in which the endpoint took a request.
    quickest: Duration,
}

impl Window {
    const FIRST: f64 = 8.0;
    const LEAST: f64 = 1.0;
    const MOST: f64 = 256.0;
    /// How much longer than twice its shortest time an endpoint may take and still be prompt.
    const SLACK: Duration = Duration::from_millis(100);

    pub fn new() -> Window {
        Window { limit: Window::FIRST, threshold: Window::MOST, quickest: Duration::MAX }
    }

    /// How many requests may be under way.
    pub fn limit(&self) -> usize {
        #[expect(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "between 1 and 256")]
        let limit = self.limit as usize;
        limit
    }

    /// Takes note of a success. Whoever takes much longer than it could has all it can bear: more would wait there.
    pub fn succeeded(&mut self, took: Duration) {
        self.quickest = self.quickest.min(took);
        if took > self.quickest * 2 + Window::SLACK {
            return;
        }
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

    const PROMPT: Duration = Duration::from_millis(3);

    #[test]
    fn a_good_receiver_gets_more_and_a_failing_one_less() {
        let mut window = Window::new();
        assert_eq!(window.limit(), 8);
        (0..8).for_each(|_| window.succeeded(PROMPT));
        assert_eq!(window.limit(), 16, "doubles in a round");
        window.failed();
        assert_eq!(window.limit(), 8);
        (0..8).for_each(|_| window.succeeded(PROMPT));
        assert_eq!(window.limit(), 8, "then grows by about one in a round");
        (0..3).for_each(|_| window.succeeded(PROMPT));
        assert_eq!(window.limit(), 9);
    }

    #[test]
    fn one_that_slows_down_gets_no_more() {
        let mut window = Window::new();
        window.succeeded(PROMPT);
        (0..100).for_each(|_| window.succeeded(Duration::from_secs(1)));
        assert_eq!(window.limit(), 9);
        (0..4).for_each(|_| window.succeeded(PROMPT));
        assert_eq!(window.limit(), 13);
    }

    proptest! {
        #[test]
        fn the_window_stays_in_its_bounds(outcomes in proptest::collection::vec((any::<bool>(), 0_u64..20_000), 0..2000)) {
            let mut window = Window::new();
            for (good, millis) in outcomes {
                if good { window.succeeded(Duration::from_millis(millis)) } else { window.failed() }
                prop_assert!((1..=256).contains(&window.limit()));
            }
        }
    }
}
