//! Times to the nanosecond: both clocks read together, and what becomes of the kernel's stamps. All but one look at the
//! clocks is pure.
//!
//! The kernel stamps by the wall clock, which may be set while a packet is under way; the steady clock tells whether it
//! was.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use nix::sys::time::TimeSpec;

use crate::heard::Reply;

/// Two readings of the clocks further apart than this were interrupted, and are taken again.
const TOGETHER: Duration = Duration::from_micros(20);

/// How far the clocks may part while a packet is under way, beside [`SLEW`]: two readings' error.
const APART: i64 = 1_000_000;

/// A clock that is being adjusted gains or loses at most 500 parts in a million (adjtimex(2)): one in so many.
const SLEW: i64 = 2_000;

/// Both clocks at one moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Moment {
    pub(crate) steady: Instant,
    /// Nanoseconds since the Unix epoch.
    pub(crate) wall: i64,
}

impl Moment {
    #[allow(clippy::disallowed_methods, reason = "the moment of sending and of reading")]
    pub(crate) fn now() -> Self {
        let mut steady = Instant::now();
        let mut wall = SystemTime::now();
        for _ in 0..3 {
            let after = Instant::now();
            if after.saturating_duration_since(steady) <= TOGETHER {
                break;
            }
            (steady, wall) = (after, SystemTime::now());
        }
        let since = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { steady, wall: i64::try_from(since.as_nanos()).unwrap_or(i64::MAX) }
    }
}

/// Nanoseconds since the Unix epoch of a kernel's stamp; `None` where it left the field empty.
pub(crate) fn nanos(stamp: TimeSpec) -> Option<i64> {
    let nanos = stamp.tv_sec().checked_mul(1_000_000_000)?.checked_add(stamp.tv_nsec())?;
    (nanos > 0).then_some(nanos)
}

/// A round-trip time, and whether the moment of coming was the kernel's: only then can a long one be told from a reply
/// that was read late.
///
/// `sent` was read just before the packet was sent, `read` when its reply was read; `tx` and `rx` are the kernel's stamps.
pub(crate) fn reply(sent: Moment, read: Moment, tx: Option<i64>, rx: Option<i64>) -> (Reply, bool) {
    let elapsed = read.steady.saturating_duration_since(sent.steady);
    let waited = i64::try_from(elapsed.as_nanos()).unwrap_or(i64::MAX);
    let parted = read.wall.saturating_sub(sent.wall).saturating_sub(waited).saturating_abs();
    let steady = parted <= APART.saturating_add(waited / SLEW);
    // Nothing is stamped before it was sent or after it was read.
    let rx = rx.filter(|&rx| steady && (sent.wall..=read.wall.saturating_add(APART)).contains(&rx));
    let Some(rx) = rx else {
        return (Reply { rtt: elapsed, arrived: read.wall, user_stamped: true, ways: None }, false);
    };
    let tx = tx.filter(|&tx| (sent.wall..=rx).contains(&tx));
    let rtt = Duration::from_nanos(rx.abs_diff(tx.unwrap_or(sent.wall)));
    (Reply { rtt, arrived: rx, user_stamped: tx.is_none(), ways: None }, true)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WALL: i64 = 1_795_330_801_000_000_000;

    fn moments(apart_ns: u64, stepped_ns: i64) -> (Moment, Moment) {
        let sent = Moment { steady: Instant::now(), wall: WALL };
        let steady = sent.steady + Duration::from_nanos(apart_ns);
        (sent, Moment { steady, wall: WALL + i64::try_from(apart_ns).unwrap() + stepped_ns })
    }

    #[test]
    fn the_kernels_stamps_count_where_both_are_there() {
        let (sent, read) = moments(9_000_000, 0);
        let (reply, exact) = reply(sent, read, Some(WALL + 1_000), Some(WALL + 2_001_000));
        assert_eq!((reply.rtt, reply.user_stamped, exact), (Duration::from_millis(2), false, true));
    }

    #[test]
    fn without_a_stamp_of_sending_the_process_has_its_say_and_says_so() {
        let (sent, read) = moments(9_000_000, 0);
        for tx in [None, Some(WALL - 5), Some(WALL + 3_000_000)] {
            let (reply, exact) = reply(sent, read, tx, Some(WALL + 2_000_000));
            assert_eq!((reply.rtt, reply.user_stamped, exact), (Duration::from_millis(2), true, true));
        }
    }

    #[test]
    fn a_clock_set_meanwhile_or_no_stamp_at_all_leaves_the_steady_clock() {
        for stepped in [-3_000_000_000, -2_000_000, 2_000_000, 3_000_000_000] {
            let (sent, read) = moments(9_000_000, stepped);
            let (reply, exact) = reply(sent, read, Some(WALL + 1_000), Some(WALL + 2_000_000));
            assert_eq!(
                (reply.rtt, reply.user_stamped, exact),
                (Duration::from_millis(9), true, false),
                "{stepped}"
            );
        }
        let (sent, read) = moments(9_000_000, 0);
        assert_eq!(reply(sent, read, Some(WALL), None).0.rtt, Duration::from_millis(9));
    }
}
