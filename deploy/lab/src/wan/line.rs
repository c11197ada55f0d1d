//! One direction of the WAN: what it does to packets, without a clock or a socket. Time is an argument.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How many packets may be under way in one direction; what comes then is dropped, as a router with a full queue does.
pub const LONGEST_QUEUE: usize = 10_000;

/// What one direction does to packets from now on; those under way arrive as they were to.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long each packet is held.
    pub delay: Duration,
    /// How likely a packet is lost, from 0 to 1.
    pub loss: f64,
}

/// What became of the packets of one direction since the forwarder began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// Read from the sending side.
    pub taken: u64,
    /// Handed to the receiving side.
    pub delivered: u64,
    /// Lost because the policy said so.
    pub lost: u64,
    /// Dropped because [`LONGEST_QUEUE`] were under way.
    pub overflowed: u64,
    /// Not taken by the receiving side.
    pub refused: u64,
}

/// The packets under way in one direction, in the order in which they came.
#[derive(Debug)]
pub(crate) struct Line {
    under_way: VecDeque<(Instant, Vec<u8>)>,
    random: fastrand::Rng,
    pub(crate) counts: Counts,
}

impl Line {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { under_way: VecDeque::new(), random, counts: Counts::default() }
    }

    /// Takes a packet that came `now`, or loses it.
    pub(crate) fn push(&mut self, now: Instant, policy: &Policy, packet: &[u8]) {
        self.counts.taken += 1;
        if self.random.f64() < policy.loss {
            self.counts.lost += 1;
        } else if self.under_way.len() >= LONGEST_QUEUE {
            self.counts.overflowed += 1;
        } else {
            // A delay that was shortened must not let the packet overtake those before it.
            let due = now + policy.delay;
            let due = self.under_way.back().map_or(due, |(last, _)| due.max(*last));
            self.under_way.push_back((due, packet.to_vec()));
        }
    }

    /// The next packet that has arrived by `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Vec<u8>> {
        self.under_way.pop_front_if(|(due, _)| *due <= now).map(|(_, packet)| packet)
    }

    /// When the next packet arrives.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.under_way.front().map(|(due, _)| *due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MS: Duration = Duration::from_millis(1);

    fn line() -> Line {
        Line::new(fastrand::Rng::with_seed(7))
    }

    fn policy(delay: Duration, loss: f64) -> Policy {
        Policy { delay, loss }
    }

    #[test]
    fn a_packet_arrives_after_the_delay_and_not_before() {
        let start = Instant::now();
        let mut line = line();
        line.push(start, &policy(40 * MS, 0.0), b"one");
        assert_eq!(line.next_due(), Some(start + 40 * MS));
        assert_eq!(line.pop(start + 39 * MS), None);
        assert_eq!(line.pop(start + 40 * MS).as_deref(), Some(&b"one"[..]));
        assert_eq!(line.next_due(), None);
    }

    #[test]
    fn nothing_overtakes_when_the_delay_is_shortened() {
        let start = Instant::now();
        let mut line = line();
        line.push(start, &policy(200 * MS, 0.0), b"slow");
        line.push(start + MS, &policy(40 * MS, 0.0), b"fast");
        assert_eq!(line.pop(start + 199 * MS), None);
        assert_eq!(line.pop(start + 200 * MS).as_deref(), Some(&b"slow"[..]));
        assert_eq!(line.pop(start + 200 * MS).as_deref(), Some(&b"fast"[..]));
    }

    #[test]
    fn a_black_hole_takes_all_and_a_loss_its_share_and_what_is_under_way_arrives() {
        let start = Instant::now();
        let mut line = line();
        line.push(start, &policy(MS, 0.0), b"before");
        for _ in 0..1_000 {
            line.push(start, &policy(MS, 1.0), b"gone");
        }
        assert_eq!(line.counts.lost, 1_000);
        assert_eq!(line.pop(start + MS).as_deref(), Some(&b"before"[..]));
        for _ in 0..10_000 {
            line.push(start, &policy(MS, 0.2), b"maybe");
            line.pop(start + MS);
        }
        assert!((2_800..=3_200).contains(&line.counts.lost), "{:?}", line.counts);
    }

    #[test]
    fn a_full_queue_drops_what_comes_and_counts_it() {
        let start = Instant::now();
        let mut line = line();
        for _ in 0..LONGEST_QUEUE + 3 {
            line.push(start, &policy(MS, 0.0), b"x");
        }
        assert_eq!(line.counts.overflowed, 3);
        assert_eq!(std::iter::from_fn(|| line.pop(start + MS)).count(), LONGEST_QUEUE);
    }
}
