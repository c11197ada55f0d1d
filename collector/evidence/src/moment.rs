//! The clocks: when something was sent, and until when is waited.

use std::os::fd::BorrowedFd;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crosswatch_shared::time::Timestamp;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

/// One moment by both clocks: the kernel's stamps are of the wall clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Moment {
    steady: Instant,
    wall: Duration,
}

impl Moment {
    #[allow(clippy::disallowed_methods, reason = "this is where time comes from")]
    pub(crate) fn now() -> Self {
        let (steady, wall) = (Instant::now(), SystemTime::now());
        Self { steady, wall: wall.duration_since(UNIX_EPOCH).unwrap_or_default() }
    }

    pub(crate) fn at(self) -> Timestamp {
        Timestamp::from_micros(i64::try_from(self.wall.as_micros()).unwrap_or(i64::MAX))
    }

    pub(crate) fn since(self, earlier: Self) -> Duration {
        self.steady.saturating_duration_since(earlier.steady)
    }

    /// How long after this something came that the kernel stamped so and that was read just now. The stamp counts
    /// unless the wall clock was set in between.
    pub(crate) fn until(self, stamp: Option<Duration>) -> Duration {
        let elapsed = Self::now().since(self);
        let stamped = stamp.and_then(|stamp| stamp.checked_sub(self.wall));
        stamped.filter(|&stamped| stamped <= elapsed).unwrap_or(elapsed)
    }
}

/// A moment that is not waited beyond.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Deadline(Instant);

impl Deadline {
    pub(crate) fn new(from: Moment, within: Duration) -> Self {
        Self(from.steady.checked_add(within).unwrap_or(from.steady))
    }

    /// So long from now, though not beyond this.
    pub(crate) fn or_in(self, wait: Duration) -> Self {
        let moment = Moment::now().steady;
        Self(moment.checked_add(wait).map_or(self.0, |then| then.min(self.0)))
    }

    pub(crate) fn is_past(self) -> bool {
        self.left().is_zero()
    }

    fn left(self) -> Duration {
        self.0.saturating_duration_since(Moment::now().steady)
    }

    /// Waits until one of the sockets has something of these, or an error, or the time is up; which of them have.
    /// Returns early at interruptions.
    pub(crate) fn wait(self, sockets: &[BorrowedFd<'_>], flags: PollFlags) -> Vec<bool> {
        // Up to the next millisecond, so that there is no busy wait at the end.
        let millis = self.left().as_micros().div_ceil(1000);
        let timeout = PollTimeout::try_from(millis).unwrap_or(PollTimeout::MAX);
        let mut sockets: Vec<_> = sockets.iter().map(|&socket| PollFd::new(socket, flags)).collect();
        let ready = poll(&mut sockets, timeout).is_ok();
        sockets.iter().map(|socket| ready && socket.any() == Some(true)).collect()
    }
}
