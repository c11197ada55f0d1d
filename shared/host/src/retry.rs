//! How long to wait before trying again: the only place that knows the `backoff` crate, so that it can be replaced.

use std::time::Duration;

use backoff::ExponentialBackoff;
use backoff::backoff::Backoff as _;

/// Waits that double from `first` up to `most`, each varied by up to half so that many do not retry in step.
/// It never gives up: whoever retries decides when there is no point.
#[derive(Debug)]
pub struct Backoff(ExponentialBackoff);

impl Backoff {
    /// Starts at `first`, and doubles up to `most`.
    #[must_use]
    pub fn new(first: Duration, most: Duration) -> Self {
        let mut backoff = ExponentialBackoff {
            initial_interval: first,
            max_interval: most,
            multiplier: 2.0,
            // The crate's own default gives up after 15 minutes.
            max_elapsed_time: None,
            ..ExponentialBackoff::default()
        };
        backoff.reset();
        Self(backoff)
    }

    /// Waits that are not varied: for one that nobody else retries in step with.
    #[must_use]
    pub fn even(mut self) -> Self {
        self.0.randomization_factor = 0.0;
        self
    }

    /// How long to wait before the next try.
    pub fn pause(&mut self) -> Duration {
        // `None` would mean giving up, which an absent `max_elapsed_time` excludes.
        self.0.next_backoff().unwrap_or(self.0.max_interval)
    }

    /// A try succeeded: the next wait is short again.
    pub fn reset(&mut self) {
        self.0.reset();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_grow_to_the_most_and_never_end() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(60));
        let waits: Vec<_> = (0..100).map(|_| backoff.pause()).collect();
        assert!(waits[0] >= Duration::from_millis(500) && waits[0] <= Duration::from_millis(1500));
        assert!(waits[20..].iter().all(|wait| (30..=90).contains(&wait.as_secs())), "{waits:?}");
        backoff.reset();
        assert!(backoff.pause() <= Duration::from_millis(1500));
    }

    #[test]
    fn even_waits_are_not_varied() {
        let mut backoff = Backoff::new(Duration::from_secs(1), Duration::from_secs(3)).even();
        let waits: Vec<_> = (0..4).map(|_| backoff.pause().as_secs()).collect();
        assert_eq!(waits, [1, 2, 3, 3]);
    }
}
