//! Time in the simulation: the runtime's own, which stands until everybody waits and then moves on to whoever waits least,
//! and what quiet time was jumped over.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosswatch_host::clock::Clock;
use crosswatch_shared::time::Timestamp;
use tokio::time::Instant;

/// The time of a simulated day. Clones are one.
#[derive(Clone, Debug)]
pub(crate) struct Time(Arc<Mutex<Inner>>);

#[derive(Debug)]
struct Inner {
    /// When the runtime's clock was this, it was that in truth.
    begun: (Instant, Timestamp),
    /// How long the alerter's machine was suspended: its steady clock stood, and time went on.
    suspended: Duration,
    /// How long it was stalled: its steady clock went on, and it did nothing.
    stalled: Duration,
    /// By how many microseconds its wall clock is ahead of the truth.
    ahead: i64,
    /// By how much that clock was set ahead, all in all.
    set_ahead: Duration,
}

impl Time {
    /// In a runtime whose clock stands.
    pub(crate) fn begin(at: Timestamp) -> Self {
        Self(Arc::new(Mutex::new(Inner {
            begun: (Instant::now(), at),
            suspended: Duration::ZERO,
            stalled: Duration::ZERO,
            ahead: 0,
            set_ahead: Duration::ZERO,
        })))
    }

    fn with<T>(&self, of: impl FnOnce(&mut Inner) -> T) -> T {
        of(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The true time.
    pub(crate) fn now(&self) -> Timestamp {
        self.with(|inner| inner.begun.1 + inner.begun.0.elapsed() + inner.suspended)
    }

    /// What the wall clock of the alerter's machine shows.
    pub(crate) fn wall(&self) -> Timestamp {
        let ahead = self.with(|inner| inner.ahead);
        Timestamp::from_micros(self.now().as_micros() + ahead)
    }

    /// Time as a limit may count it that trusts a clock which was set ahead.
    pub(crate) fn counted(&self) -> Timestamp {
        let ahead = self.with(|inner| inner.set_ahead);
        self.now() + ahead
    }

    /// For how long the alerter's machine ran.
    pub(crate) fn awake(&self) -> Duration {
        self.with(|inner| inner.begun.0.elapsed().saturating_sub(inner.stalled))
    }

    /// The alerter's clocks.
    pub(crate) fn clock(&self) -> Clock {
        let time = self.clone();
        Clock::with_wall(move || time.wall())
    }

    /// The machine is suspended until then.
    pub(crate) fn suspend_until(&self, then: Timestamp) {
        let gap = then.since(self.now());
        self.with(|inner| inner.suspended += gap);
    }

    /// It stalls until then: the timers of its processes all ring at once.
    pub(crate) async fn stall_until(&self, then: Timestamp) {
        let gap = then.since(self.now());
        self.with(|inner| inner.stalled += gap);
        tokio::time::advance(gap).await;
    }

    /// Its wall clock is set to be wrong by this.
    pub(crate) fn set_wall(&self, ahead: i64) {
        self.with(|inner| {
            let by = u64::try_from(ahead - inner.ahead).unwrap_or(0);
            inner.set_ahead += Duration::from_micros(by);
            inner.ahead = ahead;
        });
    }
}
