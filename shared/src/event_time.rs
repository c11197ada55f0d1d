//! Event time: how far a site's observations are known to be complete.
//!
//! Every batch carries a promise, its `through`: this boot will send nothing made earlier. A site's event time is the
//! newest `through` received without a gap in the batch numbers. A gap that stays open is skipped in the end, and
//! counted, so that one lost batch cannot hold a site for ever.

use std::collections::BTreeMap;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::observation::{Name, Origin, is_later_boot};
use crate::time::Timestamp;

/// How long a missing batch is waited for before its gap is skipped.
pub const GAP: Duration = Duration::from_secs(30);

/// For so long nothing may have come of the boot that counts before a former one that goes on takes its place.
const SILENT: Duration = Duration::from_secs(60);

/// How many former boots are remembered, so that a straggler of one does not look like a new boot.
const FORMER_BOOTS: usize = 16;

/// The event time of one site.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct EventTime {
    current: Option<Current>,
    former: Vec<Name>,
    gaps_skipped: u64,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Current {
    boot: Name,
    /// The number of the first batch that has not come.
    next: u64,
    at: Option<Timestamp>,
    /// When its newest batch was received, or the silence of an earlier life of the consumer was first met; not kept.
    #[serde(skip)]
    heard: Option<Timestamp>,
    /// Batches that came after a gap: their promise, and when they were received.
    ahead: BTreeMap<u64, (Timestamp, Timestamp)>,
}

/// Event time has moved on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Advance {
    /// The boot whose promise it is.
    pub boot: Name,
    /// Event time now; lower than before only where a new boot has begun with an earlier clock.
    pub at: Timestamp,
}

impl EventTime {
    /// Takes note of a batch. `received` is the consumer's own time, which decides only how long a gap may stay, and how long
    /// a boot must be silent before a former one that goes on takes its place.
    pub fn receive(
        &mut self,
        origin: &Origin,
        number: u64,
        through: Timestamp,
        received: Timestamp,
    ) -> Option<Advance> {
        let mut joined = self.current.is_none();
        let is_former = self.former.contains(&origin.boot);
        if let Some(current) = &mut self.current
            && (is_former || is_later_boot(&origin.boot, &current.boot) == Some(false))
            && current.boot != origin.boot
        {
            // What is left of a former boot. Only where the clocks of two lives contradict each other, or ids tell no order
            // and the queue keeps none, is it the boot that goes on; then the other one is silent.
            let heard = *current.heard.get_or_insert(received);
            let is_new = received.since(through).max(through.since(received)) < SILENT;
            let goes_on = is_new || current.at.is_none_or(|at| through > at);
            if received.since(heard) < SILENT || !goes_on {
                return None;
            }
            self.former.retain(|former| *former != origin.boot);
            joined = true;
        }
        let current = match &mut self.current {
            Some(current) if current.boot == origin.boot => current,
            other => {
                // The first boot ever seen may be joined in its middle, and so is one again; of a later one everything is
                // expected.
                let next = if joined { number } else { 0 };
                if let Some(former) = other.take() {
                    self.former.push(former.boot);
                    if self.former.len() > FORMER_BOOTS {
                        self.former.remove(0);
                    }
                }
                let boot = origin.boot.clone();
                other.insert(Current { boot, next, at: None, heard: None, ahead: BTreeMap::new() })
            }
        };
        current.heard = current.heard.max(Some(received));
        if number >= current.next {
            current.ahead.insert(number, (through, received));
        }
        current.follow()
    }

    /// Skips the gaps that have been open for [`GAP`] at `now`, the consumer's own time. Only for who has just read the
    /// queue to its end: what is missing may lie in it else.
    pub fn skip_gaps(&mut self, now: Timestamp) -> Option<Advance> {
        let current = self.current.as_mut()?;
        let mut advance = None;
        while let Some((&number, &(_, received))) = current.ahead.first_key_value() {
            if now.since(received) < GAP {
                break;
            }
            current.next = number;
            self.gaps_skipped += 1;
            advance = current.follow().or(advance);
        }
        advance
    }

    /// Skips gaps until this number is the next that is waited for, as [`Self::skip_gaps`] did when that was decided.
    pub fn skip_to(&mut self, next: u64) -> Option<Advance> {
        let current = self.current.as_mut()?;
        let mut advance = None;
        while current.next < next {
            let Some((&number, _)) = current.ahead.first_key_value() else { break };
            current.next = number;
            self.gaps_skipped += 1;
            advance = current.follow().or(advance);
        }
        advance
    }

    /// The number of the next batch that is waited for, once a first one has come.
    #[must_use]
    pub fn next(&self) -> Option<u64> {
        Some(self.current.as_ref()?.next)
    }

    /// Event time, once a first batch has come.
    #[must_use]
    pub fn at(&self) -> Option<Timestamp> {
        self.current.as_ref()?.at
    }

    /// How many gaps were skipped so far.
    #[must_use]
    pub fn gaps_skipped(&self) -> u64 {
        self.gaps_skipped
    }
}

impl Current {
    fn follow(&mut self) -> Option<Advance> {
        let before = self.at;
        while let Some((through, _)) = self.ahead.remove(&self.next) {
            self.next += 1;
            self.at = Some(self.at.map_or(through, |at| at.max(through)));
        }
        self.at.filter(|_| self.at != before).map(|at| Advance { boot: self.boot.clone(), at })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn origin(boot: &str) -> Origin {
        Origin { site: "a".into(), collector: "c".into(), boot: boot.into() }
    }

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_boot_given_after_the_one_that_followed_it_holds_nothing() {
        let boot = |number: u8| origin(&format!("0193a5f0-9a3c-7d11-8000-0000000000{number:02}"));
        let mut time = EventTime::default();
        assert_eq!(advanced(time.receive(&boot(1), 0, at(10), at(10))), Some(10));
        assert_eq!(advanced(time.receive(&boot(3), 0, at(30), at(30))), Some(30));
        assert_eq!(time.receive(&boot(2), 0, at(20), at(31)), None, "nobody had heard of it, and it is over");
        assert_eq!(time.receive(&boot(2), 1, at(31), at(32)), None);
        assert_eq!(advanced(time.receive(&boot(3), 1, at(60), at(60))), Some(60));
        assert_eq!(
            advanced(time.receive(&boot(4), 0, at(50), at(61))),
            Some(50),
            "a later one, its clock earlier"
        );
    }

    #[test]
    fn a_boot_whose_clock_was_far_ahead_holds_the_site_for_a_minute_at_most() {
        let boot = |year: u16| origin(&format!("{year:04}a5f0-9a3c-7d11-8000-000000000000"));
        let mut time = EventTime::default();
        time.receive(&boot(2040), 0, at(4_000_000), at(1_010));
        assert_eq!(time.receive(&boot(2026), 0, at(1_060), at(1_060)), None, "it may be a straggler");
        assert_eq!(time.receive(&boot(2025), 7, at(900), at(1_070)), None, "this one is");
        assert_eq!(advanced(time.receive(&boot(2026), 1, at(1_070), at(1_071))), Some(1_070));
        assert_eq!(advanced(time.receive(&boot(2026), 2, at(1_080), at(1_081))), Some(1_080));
    }

    #[test]
    fn where_ids_tell_no_order_a_boot_given_late_holds_the_site_for_a_minute_at_most() {
        let mut time = EventTime::default();
        assert_eq!(advanced(time.receive(&origin("1"), 0, at(10), at(10))), Some(10));
        assert_eq!(advanced(time.receive(&origin("3"), 0, at(30), at(30))), Some(30));
        // Left over of a boot between the two, which nobody had heard of.
        assert_eq!(advanced(time.receive(&origin("2"), 0, at(20), at(31))), Some(20));
        assert_eq!(time.receive(&origin("3"), 1, at(60), at(60)), None, "it may be a straggler");
        assert_eq!(time.receive(&origin("1"), 1, at(11), at(95)), None, "and this one is");
        assert_eq!(advanced(time.receive(&origin("3"), 2, at(91), at(96))), Some(91), "but it goes on");
        assert_eq!(advanced(time.receive(&origin("3"), 3, at(121), at(122))), Some(121));
        assert_eq!(time.receive(&origin("2"), 1, at(21), at(200)), None, "what lags behind takes no place");
    }

    fn advanced(advance: Option<Advance>) -> Option<i64> {
        advance.map(|advance| advance.at.as_micros() / 1_000_000)
    }

    #[test]
    fn a_promise_counts_once_all_before_it_has_come() {
        let mut time = EventTime::default();
        let boot = origin("1");
        assert_eq!(advanced(time.receive(&boot, 0, at(10), at(100))), Some(10));
        assert_eq!(advanced(time.receive(&boot, 2, at(12), at(101))), None);
        assert_eq!(advanced(time.receive(&boot, 1, at(11), at(102))), Some(12));
        assert_eq!(
            advanced(time.receive(&boot, 1, at(11), at(103))),
            None,
            "a repeated batch changes nothing"
        );
    }

    #[test]
    fn a_gap_is_skipped_after_half_a_minute_and_counted() {
        let mut time = EventTime::default();
        let boot = origin("1");
        time.receive(&boot, 0, at(10), at(100));
        time.receive(&boot, 2, at(12), at(101));
        time.receive(&boot, 4, at(14), at(120));
        assert_eq!(advanced(time.skip_gaps(at(130))), None);
        assert_eq!(advanced(time.skip_gaps(at(131))), Some(12));
        assert_eq!(advanced(time.skip_gaps(at(150))), Some(14));
        assert_eq!(time.gaps_skipped(), 2);
        assert_eq!(advanced(time.receive(&boot, 1, at(11), at(151))), None);
    }

    #[test]
    fn a_new_boot_begins_at_its_own_clock_and_the_former_is_over() {
        let mut time = EventTime::default();
        time.receive(&origin("1"), 7, at(1000), at(1000));
        assert_eq!(advanced(time.receive(&origin("2"), 0, at(400), at(1001))), Some(400));
        assert_eq!(advanced(time.receive(&origin("1"), 8, at(1001), at(1002))), None);
        assert_eq!(advanced(time.receive(&origin("2"), 1, at(401), at(1003))), Some(401));
    }
}
