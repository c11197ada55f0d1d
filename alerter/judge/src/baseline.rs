//! Baselines: what is usual of a subject. The median of the medians of its hours over seven days, so that an incident of less than
//! half of that time moves it little, and an hour with many values weighs no more than one with few.
//!
//! Which baseline a datapoint is judged by depends on its own time alone: on the hours that had ended [`SETTLE`] before it. So
//! live, late and replayed data are judged the same, and neither the order of arrival within a boot's own nor the size of batches
//! leaves a trace. An hour stays open for what comes late as long as the one after it is the newest; then its median is kept.

use std::cell::Cell;
use std::collections::VecDeque;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How many hours count: seven days.
pub const HOURS: usize = 168;

/// So long after its end an hour counts: longer than anything of it may take to be here.
pub const SETTLE: Duration = Duration::from_secs(300);

/// How much history there must be.
pub const LEAST: Duration = HOUR;

const HOUR: Duration = Duration::from_secs(3_600);

/// How many hours are open for what comes late.
const OPEN: usize = 2;

/// Values within a factor of this are counted together, so that an hour takes little room whatever comes in it.
const GROWTH: f64 = 1.02;

/// What is usual of a subject.
#[derive(Clone, Debug, Default)]
pub(crate) struct Baseline {
    ended: Ended,
    /// Oldest first, at most [`OPEN`].
    open: Vec<Hour>,
    /// Whether it has changed since it was last saved.
    pub(crate) ended_changed: bool,
    pub(crate) open_changed: bool,
    /// The baseline that was asked for last, by the hour that it is for.
    last: Cell<Option<(i64, Option<f64>)>>,
}

/// The hours that are over.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Ended {
    /// The time of the first value of all.
    first: Option<Timestamp>,
    /// The number of the first of these hours since the epoch.
    start: i64,
    /// Each hour's median, in thousandths; 0 for one without values.
    medians: VecDeque<u32>,
}

/// An hour that values may still come for.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Hour {
    number: i64,
    /// How many values there were of about the same size, and their sum in thousandths: whole numbers, so that the order of
    /// arrival leaves no trace. By size.
    counts: Vec<(i16, u32, u64)>,
}

/// What is usual of a subject just now.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Usual {
    /// The baseline, in the metric's unit; `None` while there is not enough history.
    pub value: Option<f64>,
    /// The time of its first value of all.
    pub since: Option<Timestamp>,
}

impl Baseline {
    /// Takes a value up.
    pub(crate) fn add(&mut self, at: Timestamp, value: f64) {
        let number = hour(at);
        if self.ended.first.is_none_or(|first| at < first) {
            self.ended.first = Some(at);
            self.ended_changed = true;
        }
        let place = self.open.partition_point(|open| open.number < number);
        if self.open.get(place).is_none_or(|open| open.number != number) {
            if place == 0 && self.open.len() == OPEN {
                // Its hour has been closed.
                return;
            }
            self.open.insert(place, Hour { number, counts: Vec::new() });
            if self.open.len() > OPEN {
                let over = self.open.remove(0);
                self.ended.push(&over);
                self.ended_changed = true;
            }
        }
        if let Some(open) = self.open.iter_mut().find(|open| open.number == number) {
            open.add(value);
            self.open_changed = true;
        }
        if self.last.get().is_some_and(|(known, _)| number < known) {
            self.last.set(None);
        }
    }

    /// The clock was ahead and is at `to` now: what was of a later hour is forgotten, lest all until then come too late for it.
    pub(crate) fn step_back(&mut self, to: Timestamp) {
        let now = hour(to);
        self.open.retain(|open| open.number <= now);
        let kept = usize::try_from(now + 1 - self.ended.start).unwrap_or(0);
        self.ended.medians.truncate(kept);
        self.ended.first = self.ended.first.map(|first| first.min(to));
        (self.ended_changed, self.open_changed) = (true, true);
        self.last.set(None);
    }

    /// The baseline that a datapoint of this time is judged by; `None` while there is not enough history.
    pub(crate) fn at(&self, at: Timestamp) -> Option<f64> {
        let now = hour(at - SETTLE);
        if let Some((_, known)) = self.last.get().filter(|(of, _)| *of == now) {
            return known;
        }
        let value = self.median(now);
        self.last.set(Some((now, value)));
        value
    }

    pub(crate) fn usual(&self, at: Timestamp) -> Usual {
        Usual { value: self.at(at), since: self.ended.first }
    }

    /// Of the hours before this one.
    fn median(&self, now: i64) -> Option<f64> {
        let begins = Timestamp::from_micros(now.saturating_mul(micros(HOUR)));
        if begins.since(self.ended.first?) < LEAST {
            return None;
        }
        let counts = |number: i64| number < now && number >= now - HOURS as i64;
        let ended = self.ended.start..;
        let ended = ended.zip(&self.ended.medians).filter(|(number, median)| counts(*number) && **median > 0);
        let open = self.open.iter().filter(|open| counts(open.number));
        let mut medians: Vec<u32> =
            ended.map(|(_, median)| *median).chain(open.filter_map(Hour::median)).collect();
        medians.sort_unstable();
        let middle = |place: usize| medians.get(place).copied().map(f64::from);
        let upper = middle(medians.len() / 2)?;
        let lower = middle((medians.len() - 1) / 2)?;
        Some((lower + upper) / 2e3)
    }

    /// What of it is saved: the hours that are over, and those that are open.
    pub(crate) fn parts(&self) -> (&Ended, &[Hour]) {
        (&self.ended, &self.open)
    }

    pub(crate) fn restore(ended: Ended, open: Vec<Hour>) -> Self {
        Self { ended, open, ..Self::default() }
    }
}

impl Ended {
    fn push(&mut self, over: &Hour) {
        let next = self.start + i64::try_from(self.medians.len()).unwrap_or(i64::MAX);
        if self.medians.is_empty() || over.number - next >= HOURS as i64 {
            self.medians.clear();
            self.start = over.number;
        } else {
            // Hours without values; there are fewer than are kept.
            for _ in next..over.number {
                self.medians.push_back(0);
            }
        }
        self.medians.push_back(over.median().unwrap_or(0));
        // One more than counts, since an hour may be over while datapoints are judged by those before it.
        while self.medians.len() > HOURS + OPEN {
            self.medians.pop_front();
            self.start += 1;
        }
    }
}

impl Hour {
    fn add(&mut self, value: f64) {
        // The least is a thousandth, so that a loopback's zero is a value too.
        let value = if value.is_finite() { value.clamp(1e-3, 4e6) } else { 4e6 };
        let thousandths = (value * 1e3).round() as u64;
        let size = (value.ln() / GROWTH.ln()).floor() as i16;
        match self.counts.binary_search_by_key(&size, |(size, ..)| *size) {
            Ok(place) => {
                if let Some((_, count, sum)) = self.counts.get_mut(place) {
                    *count = count.saturating_add(1);
                    *sum = sum.saturating_add(thousandths);
                }
            }
            Err(place) => self.counts.insert(place, (size, 1, thousandths)),
        }
    }

    /// The median in thousandths, by nearest rank: the mean of the values of about its size.
    fn median(&self) -> Option<u32> {
        let total: u64 = self.counts.iter().map(|(_, count, _)| u64::from(*count)).sum();
        let rank = total.div_ceil(2);
        let mut passed = 0;
        let of_rank = self.counts.iter().find(|(_, count, _)| {
            passed += u64::from(*count);
            passed >= rank
        });
        let (_, count, sum) = of_rank?;
        u32::try_from(sum / u64::from(*count).max(1)).ok()
    }
}

/// The number of the hour since the epoch that holds this time.
fn hour(at: Timestamp) -> i64 {
    at.as_micros().div_euclid(micros(HOUR))
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// The start of an hour, so many hours after another.
    fn at(hours: f64) -> Timestamp {
        Timestamp::from_secs(1_000_000 * 3_600) + Duration::from_secs_f64(hours * 3_600.0)
    }

    #[test]
    fn there_is_none_before_an_hour_of_history_is_over() {
        let mut baseline = Baseline::default();
        for second in 0..4_200 {
            let now = at(0.9) + Duration::from_secs(second);
            baseline.add(now, 80.0);
            // The first whole hour is the second one, and counts five minutes after its end.
            assert_eq!(baseline.at(now), None, "{now}");
        }
        assert_eq!(baseline.at(at(2.0) + SETTLE - Duration::from_micros(1)), None);
        assert_eq!(baseline.at(at(2.0) + SETTLE), Some(80.0));
        assert_eq!(baseline.usual(at(3.0)), Usual { value: Some(80.0), since: Some(at(0.9)) });
    }

    #[test]
    fn an_incident_of_three_days_moves_it_little_and_a_new_normal_is_learned() {
        let mut baseline = Baseline::default();
        let days = |baseline: &mut Baseline, days: std::ops::Range<u32>, value: f64| {
            for minute in days.start * 1_440..days.end * 1_440 {
                // A quarter of each hour is slower by a tenth.
                let slow = if minute % 4 == 0 { 1.1 } else { 1.0 };
                baseline.add(at(f64::from(minute) / 60.0), value * slow);
            }
        };
        days(&mut baseline, 0..7, 80.0);
        days(&mut baseline, 7..10, 300.0);
        assert_eq!(baseline.at(at(240.0)), Some(80.0));
        days(&mut baseline, 10..12, 300.0);
        assert_eq!(baseline.at(at(288.0)), Some(300.0));
        assert!(baseline.ended.medians.len() <= HOURS + OPEN, "it is bounded");
    }

    #[test]
    fn what_is_older_than_seven_days_does_not_count() {
        let mut baseline = Baseline::default();
        for hour in 0..30 {
            baseline.add(at(f64::from(hour)), 80.0);
        }
        assert_eq!(baseline.at(at(29.0) + SETTLE), Some(80.0));
        assert_eq!(baseline.at(at(29.0 + 170.0)), None, "nothing for a week");
        baseline.add(at(1_000.0), 120.0);
        baseline.add(at(1_001.0), 120.0);
        baseline.add(at(1_002.0), 120.0);
        assert_eq!(baseline.at(at(1_002.5)), Some(120.0));
    }

    #[test]
    fn a_clock_that_was_a_year_ahead_leaves_nothing_behind() {
        let mut baseline = Baseline::default();
        let day = |baseline: &mut Baseline, from: f64, value: f64| {
            (0..24).for_each(|hour| baseline.add(at(from + f64::from(hour)), value));
        };
        day(&mut baseline, 0.0, 80.0);
        day(&mut baseline, 8_760.0, 500.0);
        baseline.step_back(at(24.0));
        assert_eq!(baseline.at(at(25.0)), None, "what was before it is older than a week by then, and gone");
        day(&mut baseline, 24.0, 90.0);
        assert_eq!(baseline.at(at(48.0)), Some(90.0));
    }

    proptest! {
        #[test]
        fn it_is_within_two_percent_of_the_exact_median(values in prop::collection::vec(0.01_f64..5_000.0, 1..200)) {
            let mut baseline = Baseline::default();
            for value in &values {
                baseline.add(at(0.0), *value);
            }
            let mut sorted = values.clone();
            sorted.sort_by(f64::total_cmp);
            let exact = sorted[sorted.len().div_ceil(2) - 1];
            let found = baseline.at(at(1.5)).unwrap();
            prop_assert!((found / exact - 1.0).abs() < 0.02 + 1e-3 / exact, "{found} for {exact}");
        }

        #[test]
        fn what_comes_minutes_late_is_judged_by_the_same_as_what_comes_in_time(
            delays in prop::collection::vec(0_u32..290, 400..500), values in prop::collection::vec(1.0_f64..500.0, 500),
        ) {
            // A value each minute, which comes so many seconds late.
            let sent = |minute: usize| at(0.0) + Duration::from_secs(60 * minute as u64);
            let judged = |delays: &[u32]| {
                let mut arrivals: Vec<usize> = (0..delays.len()).collect();
                arrivals.sort_by_key(|minute| (*minute as u32 * 60 + delays[*minute], *minute));
                let mut baseline = Baseline::default();
                let mut by = vec![None; delays.len()];
                for minute in arrivals {
                    baseline.add(sent(minute), values[minute]);
                    by[minute] = baseline.at(sent(minute));
                }
                by
            };
            let in_time = judged(&vec![0; delays.len()]);
            prop_assert!(in_time.iter().flatten().count() > 200);
            prop_assert_eq!(judged(&delays), in_time);
        }

        #[test]
        fn neither_the_order_of_arrival_nor_a_restart_leaves_a_trace(
            values in prop::collection::vec((0_u32..7_200, 1.0_f64..500.0), 1..100), seed in any::<u64>(), cut in 0_usize..100,
        ) {
            let mut one = Baseline::default();
            for (second, value) in &values {
                one.add(at(f64::from(*second) / 3_600.0), *value);
            }
            let mut other = Baseline::default();
            let mut shuffled = values.clone();
            shuffled.sort_by_key(|(second, value)| (u64::from(*second) ^ seed).wrapping_mul(value.to_bits() | 1));
            for (place, (second, value)) in shuffled.iter().enumerate() {
                if place == cut {
                    let (ended, open) = other.parts();
                    let ended = serde_json::from_slice(&serde_json::to_vec(ended).unwrap()).unwrap();
                    let open = serde_json::from_slice(&serde_json::to_vec(open).unwrap()).unwrap();
                    other = Baseline::restore(ended, open);
                }
                other.add(at(f64::from(*second) / 3_600.0), *value);
            }
            prop_assert_eq!(one.parts(), other.parts());
            prop_assert_eq!(one.at(at(2.5)), other.at(at(2.5)));
        }
    }
}
