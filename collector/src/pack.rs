//! Makes batches of observations: their numbers, their promise, and the bound on what waits. Pure.
//!
//! An observation gets its `seq` when it is made, a batch its number when it is formed; so what had to be dropped in
//! between shows as a hole in `seq`, while the batches stay dense and hold up nobody's event time.

use std::collections::VecDeque;

use crosswatch_shared::observation::{Batch, Body, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;

/// The most observations in a batch.
pub const BATCH: usize = 5_000;

/// How many observations wait at most, besides those in the batch being written, where nothing else is asked for.
pub const WAITING: usize = 100_000;

/// Everything not yet in a batch.
#[derive(Debug)]
pub struct Packer {
    /// Former boots that still have something to send, and the present one last.
    boots: VecDeque<Boot>,
    waiting: usize,
    most: usize,
    lost: Option<Lost>,
}

/// Observations that were dropped for want of room.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lost {
    /// How many.
    pub count: u64,
    /// The earliest of them.
    pub from: Timestamp,
    /// The latest of them.
    pub to: Timestamp,
}

#[derive(Debug)]
struct Boot {
    origin: Origin,
    seq: u64,
    number: u64,
    /// No observation will be made that is earlier.
    promised: Timestamp,
    /// What the last batch said.
    through: Timestamp,
    waiting: VecDeque<Observation>,
}

impl Packer {
    /// Begins with this boot. At most so many observations wait; beyond it the oldest are dropped.
    #[must_use]
    pub fn new(origin: Origin, most: usize) -> Self {
        Self { boots: VecDeque::from([Boot::new(origin)]), waiting: 0, most, lost: None }
    }

    /// A new boot begins. What waits of the former goes first, under its own name.
    pub fn begin(&mut self, boot: Name) {
        if let Some(present) = self.boots.back() {
            let origin = Origin { boot, ..present.origin.clone() };
            self.boots.push_back(Boot::new(origin));
        }
    }

    /// Something was seen. `at` must not be before what was promised.
    pub fn observe(&mut self, at: Timestamp, body: Body) {
        let Some(present) = self.boots.back_mut() else {
            return;
        };
        let seq = present.seq;
        present.seq += 1;
        present.waiting.push_back(Observation { at, seq, body });
        self.waiting += 1;
        if self.waiting > self.most {
            let oldest = self.boots.iter_mut().find_map(|boot| boot.waiting.pop_front());
            if let Some(oldest) = oldest {
                self.waiting -= 1;
                self.lose(1, oldest.at, oldest.at);
            }
        }
    }

    /// Observations were lost, here or before they came here.
    pub fn lose(&mut self, count: u64, from: Timestamp, to: Timestamp) {
        let lost = self.lost.get_or_insert(Lost { count: 0, from, to });
        lost.count += count;
        lost.from = lost.from.min(from);
        lost.to = lost.to.max(to);
    }

    /// What was lost since the last time.
    pub fn take_lost(&mut self) -> Option<Lost> {
        self.lost.take()
    }

    /// The present boot will observe nothing that is earlier than this.
    pub fn promise(&mut self, through: Timestamp) {
        if let Some(present) = self.boots.back_mut() {
            present.promised = present.promised.max(through);
        }
    }

    /// The next batch: what waits, oldest boot first; an empty one when nothing does.
    pub fn batch(&mut self) -> Option<Batch> {
        while self.boots.len() > 1 && self.boots.front().is_some_and(|boot| boot.waiting.is_empty()) {
            self.boots.pop_front();
        }
        let batch = self.boots.front_mut()?.batch();
        self.waiting -= batch.observations.len();
        Some(batch)
    }

    /// Whether more waits than goes into one batch.
    #[must_use]
    pub fn has_more(&self) -> bool {
        self.waiting >= BATCH || self.boots.iter().rev().skip(1).any(|boot| !boot.waiting.is_empty())
    }

    /// How many observations wait.
    #[must_use]
    pub fn waiting(&self) -> usize {
        self.waiting
    }
}

impl Boot {
    fn new(origin: Origin) -> Self {
        Self {
            origin,
            seq: 0,
            number: 0,
            promised: Timestamp::MIN,
            through: Timestamp::MIN,
            waiting: VecDeque::new(),
        }
    }

    fn batch(&mut self) -> Batch {
        let count = self.waiting.len().min(BATCH);
        let observations: Vec<_> = self.waiting.drain(..count).collect();
        // What stays behind will still be sent.
        let behind = self.waiting.iter().map(|observation| observation.at).min();
        let through = behind.map_or(self.promised, |at| at.min(self.promised));
        self.through = self.through.max(through);
        let number = self.number;
        self.number += 1;
        Batch { origin: self.origin.clone(), number, through: self.through, observations }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_prober::release::Release;
    use crosswatch_shared::observation::Outcome;
    use proptest::prelude::*;

    fn packer() -> Packer {
        let origin = Origin { site: "a".into(), collector: "c".into(), boot: "1".into() };
        Packer::new(origin, WAITING)
    }

    fn at(micros: i64) -> Timestamp {
        Timestamp::from_micros(micros)
    }

    fn seen() -> Body {
        Body::Probe {
            link: "l".into(),
            probe: "p".into(),
            outcome: Outcome::Reply { rtt_ms: 1.0 },
            detail: None,
        }
    }

    fn seqs(batch: &Batch) -> Vec<u64> {
        batch.observations.iter().map(|observation| observation.seq).collect()
    }

    #[test]
    fn an_empty_batch_carries_the_promise() {
        let mut packer = packer();
        packer.promise(at(7));
        let batch = packer.batch().unwrap();
        assert_eq!((batch.number, batch.through, batch.observations.len()), (0, at(7), 0));
        packer.promise(at(5));
        let batch = packer.batch().unwrap();
        assert_eq!((batch.number, batch.through), (1, at(7)), "it never goes back");
    }

    #[test]
    fn a_batch_that_leaves_some_behind_promises_no_more_than_they_allow() {
        let mut packer = packer();
        for turn in 0..BATCH as i64 + 2 {
            packer.observe(at(turn), seen());
        }
        packer.promise(at(1_000_000));
        assert!(packer.has_more());
        let batch = packer.batch().unwrap();
        assert_eq!((batch.observations.len(), batch.through), (BATCH, at(BATCH as i64)));
        assert!(!packer.has_more());
        let batch = packer.batch().unwrap();
        assert_eq!((seqs(&batch), batch.through), (vec![5_000, 5_001], at(1_000_000)));
    }

    #[test]
    fn the_oldest_go_for_want_of_room_and_the_batches_stay_dense() {
        let mut packer = packer();
        for turn in 0..WAITING as i64 + 3 {
            packer.observe(at(turn), seen());
        }
        let lost = Lost { count: 3, from: at(0), to: at(2) };
        assert_eq!(packer.take_lost(), Some(lost));
        assert_eq!(packer.take_lost(), None);
        let batch = packer.batch().unwrap();
        assert_eq!((batch.number, batch.observations[0].seq), (0, 3));
    }

    #[test]
    fn a_new_boot_counts_anew_after_the_former_has_sent_its_rest() {
        let mut packer = packer();
        packer.batch();
        packer.observe(at(10), seen());
        packer.promise(at(11));
        packer.begin("2".into());
        packer.observe(at(5), seen());
        packer.promise(at(6));
        let of = |batch: Batch| (batch.origin.boot.to_string(), batch.number, seqs(&batch), batch.through);
        assert!(packer.has_more());
        assert_eq!(of(packer.batch().unwrap()), ("1".to_owned(), 1, vec![0], at(11)));
        assert_eq!(of(packer.batch().unwrap()), ("2".to_owned(), 0, vec![0], at(6)));
        assert_eq!(of(packer.batch().unwrap()), ("2".to_owned(), 1, vec![], at(6)));
    }

    proptest! {
        /// Random sends and replies through the real release: whatever comes after a batch is not earlier than it
        /// promised, promises do not decrease, nothing is lost and the numbers are dense.
        #[test]
        fn through_is_true(moves in prop::collection::vec((0u8..4, 0usize..3, any::<prop::sample::Index>()), 1..400)) {
            let mut packer = packer();
            let mut release = Release::new(3);
            let mut open = Vec::new();
            let (mut sent, mut promised, mut number, mut seq) = (0, Timestamp::MIN, 0, 0);
            for (turn, (kind, probe, which)) in moves.into_iter().enumerate() {
                let now = at(turn as i64);
                match kind {
                    0 | 1 => {
                        open.push(release.sent(probe, now).unwrap());
                        sent += 1;
                    }
                    2 if !open.is_empty() => {
                        let ticket = open.remove(which.index(open.len()));
                        release.decide(ticket, Outcome::Reply { rtt_ms: 1.0 });
                    }
                    _ => {
                        let through = release.oldest_in_flight().unwrap_or(now);
                        for released in release.take().0 {
                            packer.observe(released.at, seen());
                        }
                        packer.promise(through);
                        let batch = packer.batch().unwrap();
                        for observation in &batch.observations {
                            prop_assert!(observation.at >= promised);
                            prop_assert_eq!(observation.seq, seq);
                            seq += 1;
                        }
                        prop_assert!(batch.through >= promised);
                        prop_assert_eq!(batch.number, number);
                        promised = batch.through;
                        number += 1;
                    }
                }
            }
            prop_assert_eq!(seq as usize + open.len() + release.take().0.len() + held(&mut release, &open), sent);
        }
    }

    /// How many outcomes are decided but wait for older ones.
    fn held(release: &mut Release, open: &[crosswatch_prober::release::Ticket]) -> usize {
        for ticket in open {
            release.decide(*ticket, Outcome::Reply { rtt_ms: 1.0 });
        }
        release.take().0.len() - open.len()
    }
}
