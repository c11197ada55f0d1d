//! One direction of the WAN: what it does to packets, without a clock or a socket. Time is an argument.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::time::{Duration, Instant};

use serde::{Deserialize, Serialize};

/// How many packets may be under way in one direction; what comes then is dropped, as a router with a full queue does.
pub const LONGEST_QUEUE: usize = 10_000;

/// What one direction does to packets from now on; those under way arrive as they were to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// How long each packet is held.
    pub delay: Duration,
    /// By how much more or less, evenly spread: packets overtake one another by it. At most the delay.
    #[serde(default)]
    pub jitter: Duration,
    /// How likely a packet is lost, from 0 to 1.
    pub loss: f64,
    /// How likely one that is not lost is handed over twice, from 0 to 1. The second has a jitter of its own.
    #[serde(default)]
    pub twice: f64,
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
    /// Carried once more because the policy said so.
    #[serde(default)]
    pub doubled: u64,
    /// Dropped because [`LONGEST_QUEUE`] were under way.
    pub overflowed: u64,
    /// Not taken by the receiving side.
    pub refused: u64,
}

/// The packets under way in one direction.
#[derive(Debug)]
pub(crate) struct Line {
    under_way: BinaryHeap<Reverse<Packet>>,
    /// When the last packet that came would arrive without jitter.
    last: Option<Instant>,
    random: fastrand::Rng,
    pub(crate) counts: Counts,
}

/// A packet under way. They are in the order of arriving, and of coming where several arrive at once.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Packet {
    due: Instant,
    number: u64,
    /// When it came.
    pub(crate) came: Instant,
    pub(crate) bytes: Vec<u8>,
}

impl Line {
    pub(crate) fn new(random: fastrand::Rng) -> Self {
        Self { under_way: BinaryHeap::new(), last: None, random, counts: Counts::default() }
    }

    /// Takes a packet that came `now`, or loses it.
    pub(crate) fn push(&mut self, now: Instant, policy: &Policy, packet: &[u8]) {
        self.counts.taken += 1;
        if self.random.f64() < policy.loss {
            self.counts.lost += 1;
            return;
        }
        // A delay that was shortened must not let the packet overtake those before it; jitter may.
        let due = self.last.map_or(now + policy.delay, |last| last.max(now + policy.delay));
        self.last = Some(due);
        self.hold(now, due, policy, packet);
        if policy.twice > 0.0 && self.random.f64() < policy.twice {
            self.counts.doubled += 1;
            self.hold(now, due, policy, packet);
        }
    }

    fn hold(&mut self, came: Instant, due: Instant, policy: &Policy, packet: &[u8]) {
        if self.under_way.len() >= LONGEST_QUEUE {
            self.counts.overflowed += 1;
            return;
        }
        let later = (2 * policy.jitter).mul_f64(self.random.f64());
        let due = (due + later).checked_sub(policy.jitter).map_or(due, |due| due.max(came));
        let number = self.counts.taken + self.counts.doubled;
        self.under_way.push(Reverse(Packet { due, number, came, bytes: packet.to_vec() }));
    }

    /// The next packet that has arrived by `now`.
    pub(crate) fn pop(&mut self, now: Instant) -> Option<Packet> {
        self.next_due().filter(|due| *due <= now)?;
        self.under_way.pop().map(|Reverse(packet)| packet)
    }

    /// When the next packet arrives.
    pub(crate) fn next_due(&self) -> Option<Instant> {
        self.under_way.peek().map(|Reverse(packet)| packet.due)
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
        Policy { delay, loss, ..Policy::default() }
    }

    fn pop(line: &mut Line, now: Instant) -> Option<String> {
        line.pop(now).map(|packet| String::from_utf8(packet.bytes).unwrap())
    }

    #[test]
    fn a_packet_arrives_after_the_delay_and_not_before() {
        let start = Instant::now();
        let mut line = line();
        line.push(start, &policy(40 * MS, 0.0), b"one");
        assert_eq!(line.next_due(), Some(start + 40 * MS));
        assert_eq!(pop(&mut line, start + 39 * MS), None);
        assert_eq!(pop(&mut line, start + 40 * MS).as_deref(), Some("one"));
        assert_eq!(line.next_due(), None);
    }

    #[test]
    fn nothing_overtakes_when_the_delay_is_shortened() {
        let start = Instant::now();
        let mut line = line();
        line.push(start, &policy(200 * MS, 0.0), b"slow");
        line.push(start + MS, &policy(40 * MS, 0.0), b"fast");
        assert_eq!(pop(&mut line, start + 199 * MS), None);
        assert_eq!(pop(&mut line, start + 200 * MS).as_deref(), Some("slow"));
        assert_eq!(pop(&mut line, start + 200 * MS).as_deref(), Some("fast"));
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
        assert_eq!(pop(&mut line, start + MS).as_deref(), Some("before"));
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

    #[test]
    fn jitter_spreads_evenly_about_the_delay_overtakes_and_is_the_same_for_a_seed() {
        const PACKETS: u32 = 10_000;
        let start = Instant::now();
        let jittery = Policy { jitter: 5 * MS, ..policy(40 * MS, 0.0) };
        let carry = || {
            let mut line = line();
            for number in 0..PACKETS {
                line.push(start + MS * number, &jittery, &number.to_be_bytes());
            }
            let mut arrived = Vec::new();
            while let Some(due) = line.next_due() {
                assert_eq!(line.pop(due - Duration::from_nanos(1)), None);
                let packet = line.pop(due).unwrap();
                arrived.push((packet.bytes, due - packet.came));
            }
            arrived
        };
        let arrived = carry();
        assert_eq!(arrived.len(), PACKETS as usize);
        assert!(arrived.iter().all(|(_, held)| (35 * MS..=45 * MS).contains(held)), "{arrived:?}");
        let share = |over: Duration| {
            arrived.iter().filter(|(_, held)| *held > over).count() as f64 / f64::from(PACKETS)
        };
        for (over, expected) in [(36, 0.9), (40, 0.5), (44, 0.1)] {
            assert!((share(MS * over) - expected).abs() < 0.02, "{} over {over} ms", share(MS * over));
        }
        assert!(!arrived.is_sorted_by_key(|(number, _)| number), "none has overtaken another");
        assert_eq!(arrived, carry());
    }

    #[test]
    fn what_is_doubled_arrives_twice_and_is_counted() {
        let start = Instant::now();
        let mut line = line();
        let twice = Policy { twice: 0.3, ..policy(MS, 0.0) };
        for number in 0..3_000u32 {
            line.push(start, &twice, &number.to_be_bytes());
        }
        let arrived: Vec<_> =
            std::iter::from_fn(|| line.pop(start + MS)).map(|packet| packet.bytes).collect();
        assert_eq!(arrived.len() as u64, 3_000 + line.counts.doubled);
        assert!((770..=1_030).contains(&line.counts.doubled), "{:?}", line.counts);
        assert!(arrived.is_sorted(), "a copy follows at once where there is no jitter");
    }
}
