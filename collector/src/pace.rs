//! When the next batch goes. Pure.

use std::time::{Duration, Instant};

/// Where nothing else is asked for, a batch goes this long after the one before it, even an empty one: its `through` is the site's sign of life.
pub const HOLD: Duration = Duration::from_secs(1);

/// News waits until the batch before it is this old: at most five batches a second.
pub const GAP: Duration = Duration::from_millis(200);

/// When the last batch went, and whether news waits.
#[derive(Debug)]
pub struct Pace {
    hold: Duration,
    last: Instant,
    news: bool,
}

impl Pace {
    /// The first batch goes after the routine hold, or at once with news.
    #[must_use]
    pub fn new(now: Instant) -> Self {
        Self::with_hold(now, HOLD)
    }

    /// The same with another routine hold.
    #[must_use]
    pub fn with_hold(now: Instant, hold: Duration) -> Self {
        Self { hold, last: now.checked_sub(GAP).unwrap_or(now), news: false }
    }

    /// Something is to go at once.
    pub fn news(&mut self) {
        self.news = true;
    }

    /// The next batch is due.
    pub fn at_once(&mut self) {
        self.hold = Duration::ZERO;
    }

    /// When the next batch goes.
    #[must_use]
    pub fn due(&self) -> Instant {
        self.last + if self.news { GAP } else { self.hold }
    }

    /// A batch with everything unsent goes now.
    pub fn sent(&mut self, now: Instant) {
        self.last = now;
        self.news = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn news_goes_at_once_and_five_times_a_second_at_most() {
        let start = Instant::now();
        let mut pace = Pace::new(start);
        pace.news();
        assert!(pace.due() <= start);
        pace.sent(start);
        assert_eq!(pace.due(), start + HOLD, "routine waits");
        pace.news();
        assert_eq!(pace.due(), start + GAP);
        let later = start + GAP * 2;
        assert!(pace.due() <= later, "after a pause it goes at once again");
    }
}
