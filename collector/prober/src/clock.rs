//! One clock made of two: times from the wall clock, kept from going back by the steady one.
//!
//! Within an epoch its times only increase, so that "nothing earlier will come" can be promised. A wall clock that
//! steps by more than [`STEP`] against the steady clock begins a new epoch; so does a machine that was suspended,
//! since the steady clock stands still meanwhile. A smaller step back is waited out, a microsecond a reading.

use std::time::{Duration, Instant};

use crosswatch_shared::time::Timestamp;

/// A wall clock that moves by more than this against the steady clock has stepped.
pub const STEP: Duration = Duration::from_secs(1);

/// Keeps the last readings.
#[derive(Debug)]
pub struct Clock {
    wall: Timestamp,
    steady: Instant,
    last: Timestamp,
}

/// A reading.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Reading {
    /// Later than any reading before it in this epoch.
    pub at: Timestamp,
    /// Where a new epoch begins with this reading: by how many microseconds the wall clock has stepped.
    pub stepped: Option<i64>,
}

impl Clock {
    /// Begins with what both clocks show.
    #[must_use]
    pub fn new(wall: Timestamp, steady: Instant) -> Self {
        Self { wall, steady, last: wall }
    }

    /// What time it is when both clocks show this.
    pub fn read(&mut self, wall: Timestamp, steady: Instant) -> Reading {
        let expected = self.wall + steady.saturating_duration_since(self.steady);
        self.wall = wall;
        self.steady = steady;
        let moved = apart(wall, expected);
        // Small steps back can add up to more than the clock may be ahead of the wall.
        let ahead = apart(wall, self.last);
        let step = i64::try_from(STEP.as_micros()).unwrap_or(i64::MAX);
        let stepped = if moved.abs() > step {
            Some(moved)
        } else if -ahead > step {
            Some(ahead)
        } else {
            None
        };
        self.last = match stepped {
            Some(_) => wall,
            None => wall.max(self.last + Duration::from_micros(1)),
        };
        Reading { at: self.last, stepped }
    }
}

/// Microseconds from `b` to `a`.
fn apart(a: Timestamp, b: Timestamp) -> i64 {
    a.as_micros() - b.as_micros()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn wall(micros: i64) -> Timestamp {
        Timestamp::from_micros(1_795_330_801_000_000 + micros)
    }

    #[test]
    fn a_step_of_more_than_a_second_either_way_begins_an_epoch() {
        let start = Instant::now();
        let mut clock = Clock::new(wall(0), start);
        let after = |ms| start + Duration::from_millis(ms);
        assert_eq!(clock.read(wall(500_000), after(500)).stepped, None);
        assert_eq!(clock.read(wall(1_600_000), after(700)).stepped, None, "0.9 s is none");
        assert_eq!(clock.read(wall(2_900_001), after(999)).stepped, Some(1_001_001));
        let back = clock.read(wall(-3_600_000_000), after(1_000));
        assert_eq!(back.at, wall(-3_600_000_000));
        assert!(back.stepped.is_some_and(|step| step < -3_600_000_000));
        assert_eq!(clock.read(wall(-3_599_000_000), after(2_000)).stepped, None);
    }

    #[test]
    fn steps_back_that_add_up_begin_an_epoch() {
        let start = Instant::now();
        let mut clock = Clock::new(wall(0), start);
        assert_eq!(clock.read(wall(-900_000), start).stepped, None);
        assert_eq!(clock.read(wall(-1_000_001), start).stepped, Some(-1_000_002));
    }

    proptest! {
        #[test]
        fn it_never_goes_back_within_an_epoch(moves in prop::collection::vec((-1_500_000i64..1_500_000, 0u64..2_000), 1..100)) {
            let start = Instant::now();
            let (mut shown, mut steady) = (0, start);
            let mut clock = Clock::new(wall(0), start);
            let mut before = clock.read(wall(0), start).at;
            for (jump, millis) in moves {
                steady += Duration::from_millis(millis);
                shown += jump + i64::try_from(millis).unwrap() * 1_000;
                let reading = clock.read(wall(shown), steady);
                if reading.stepped.is_none() {
                    prop_assert!(reading.at > before);
                    prop_assert!(reading.at >= wall(shown));
                }
                prop_assert!(reading.at <= wall(shown) + STEP + Duration::from_millis(1));
                before = reading.at;
            }
        }
    }
}
