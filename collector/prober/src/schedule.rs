//! What is to be sent when. Pure.
//!
//! Probes of one interval form a group, and their phases divide the interval evenly, in the order they were given. Phases
//! closer together than [`TICK`] are sent together, so that ten thousand probes a second do not need ten thousand
//! wake-ups. A probe keeps its slots for ever: one that comes too late is skipped, and the probe goes on at its next
//! slot. So the sends spread as evenly after a stall as before it.

use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap};
use std::time::{Duration, Instant};

/// Phases are rounded down to this where a group's probes are closer together.
pub const TICK: Duration = Duration::from_millis(10);

/// A slot is still used when it is this late, or half its interval if that is less. It bounds the burst after a stall:
/// at most this much of the schedule is sent at once.
pub const LATE: Duration = Duration::from_millis(50);

/// The shortest interval.
pub const SHORTEST: Duration = Duration::from_millis(1);

/// The longest interval, and the longest that a reply is waited for.
pub const LONGEST: Duration = Duration::from_secs(366 * 24 * 3600);

/// When each probe is due.
#[derive(Debug)]
pub struct Schedule {
    groups: Vec<Group>,
    /// When each group is due, the soonest first.
    next: BinaryHeap<Reverse<(Instant, usize)>>,
}

/// The probes of one interval, in the order of their phases. Those before the cursor were due within the last interval, so
/// going around is going in the order of the slots.
#[derive(Debug)]
struct Group {
    every: Duration,
    /// Each probe's next slot.
    ring: Vec<(Instant, usize)>,
    cursor: usize,
}

/// A probe whose slots have come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Due {
    /// Its place in the list the schedule was made of.
    pub probe: usize,
    /// How late it is to be sent now; `None`: too late, its slot is among the skipped.
    pub lag: Option<Duration>,
    /// How many of its slots have passed unused.
    pub skipped: u64,
}

impl Schedule {
    /// One probe for each interval, held between [`SHORTEST`] and [`LONGEST`]. The first is due at `start`.
    #[must_use]
    pub fn new(intervals: &[Duration], start: Instant) -> Self {
        let mut members: BTreeMap<Duration, Vec<usize>> = BTreeMap::new();
        for (probe, &every) in intervals.iter().enumerate() {
            members.entry(every.clamp(SHORTEST, LONGEST)).or_default().push(probe);
        }
        let groups: Vec<Group> = members
            .into_iter()
            .map(|(every, members)| {
                let size = members.len();
                let slot = |place| start + phase(every, place, size);
                let ring = members.into_iter().enumerate().map(|(place, probe)| (slot(place), probe));
                Group { every, ring: ring.collect(), cursor: 0 }
            })
            .collect();
        let next =
            groups.iter().enumerate().filter_map(|(number, group)| Some(Reverse((group.due()?, number))));
        Self { next: next.collect(), groups }
    }

    /// When the next probe is due.
    #[must_use]
    pub fn next_due(&self) -> Option<Instant> {
        self.next.peek().map(|Reverse((at, _))| *at)
    }

    /// The probes whose slots have come at `now`; each once.
    pub fn due(&mut self, now: Instant, mut each: impl FnMut(Due)) {
        while let Some(mut first) = self.next.peek_mut() {
            let Reverse((due, number)) = *first;
            let Some(group) = self.groups.get_mut(number).filter(|_| due <= now) else { return };
            group.pass(now, &mut each);
            match group.due() {
                Some(due) => *first = Reverse((due, number)),
                None => return,
            }
        }
    }
}

impl Group {
    fn due(&self) -> Option<Instant> {
        self.ring.get(self.cursor).map(|(slot, _)| *slot)
    }

    fn pass(&mut self, now: Instant, each: &mut impl FnMut(Due)) {
        let every = self.every.as_nanos();
        for _ in 0..self.ring.len() {
            let Some((slot, probe)) = self.ring.get_mut(self.cursor).filter(|(slot, _)| *slot <= now) else {
                return;
            };
            let late = now.saturating_duration_since(*slot).as_nanos();
            let passed = late / every;
            let lag = nanos(late % every);
            let in_time = lag <= LATE.min(self.every / 2);
            *slot += nanos(every.saturating_mul(passed + 1));
            let passed = u64::try_from(passed).unwrap_or(u64::MAX);
            each(Due {
                probe: *probe,
                lag: in_time.then_some(lag),
                skipped: if in_time { passed } else { passed.saturating_add(1) },
            });
            self.cursor = (self.cursor + 1) % self.ring.len();
        }
        // All were due: after a stall the next slot may be anybody's.
        let soonest = self.ring.iter().enumerate().min_by_key(|(_, (slot, _))| *slot);
        self.cursor = soonest.map_or(0, |(place, _)| place);
    }
}

/// The phase of the `place`th of `size` probes.
fn phase(every: Duration, place: usize, size: usize) -> Duration {
    let (place, size) = (place as u128, size.max(1) as u128);
    let exact = nanos(every.as_nanos() * place / size);
    if every.as_nanos() / size >= TICK.as_nanos() {
        exact
    } else {
        exact.saturating_sub(nanos(exact.as_nanos() % TICK.as_nanos()))
    }
}

fn nanos(nanos: u128) -> Duration {
    Duration::from_nanos(u64::try_from(nanos).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashMap;

    fn ms(ms: u64) -> Duration {
        Duration::from_millis(ms)
    }

    /// Every send until `end`, as (probe, when), by a loop that wakes when the schedule asks, `delays` late.
    fn sends(
        schedule: &mut Schedule,
        start: Instant,
        end: Duration,
        delays: &[Duration],
    ) -> (Vec<(usize, Duration)>, u64) {
        let (mut sent, mut skipped) = (Vec::new(), 0);
        let mut now = start;
        for turn in 0.. {
            let due = schedule.next_due().unwrap();
            now = now.max(due) + delays.get(turn % delays.len().max(1)).copied().unwrap_or_default();
            if now >= start + end {
                break;
            }
            schedule.due(now, |due| {
                skipped += due.skipped;
                if due.lag.is_some() {
                    sent.push((due.probe, now - start));
                }
            });
        }
        (sent, skipped)
    }

    #[test]
    fn probes_of_one_interval_divide_it_evenly() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&[ms(1000), ms(5000), ms(1000), ms(1000), ms(1000)], start);
        let (sent, _) = sends(&mut schedule, start, ms(1000), &[]);
        assert_eq!(sent, [(0, ms(0)), (1, ms(0)), (2, ms(250)), (3, ms(500)), (4, ms(750))]);
    }

    #[test]
    fn ten_thousand_a_second_leave_in_a_hundred_even_ticks() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&vec![ms(1000); 10_000], start);
        let (sent, _) = sends(&mut schedule, start, ms(2000), &[]);
        let mut ticks: HashMap<Duration, usize> = HashMap::new();
        for (_, at) in sent {
            *ticks.entry(at).or_default() += 1;
        }
        assert_eq!(ticks.len(), 200);
        assert!(ticks.values().all(|&sent| sent == 100), "{ticks:?}");
    }

    #[test]
    fn after_a_stall_the_missed_are_skipped_and_nothing_bunches() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&vec![ms(1000); 1000], start);
        sends(&mut schedule, start, ms(3000), &[]);
        let awake = start + ms(3000) + ms(7_777);
        let (mut at_once, mut skipped) = (0, 0);
        schedule.due(awake, |due| {
            at_once += usize::from(due.lag.is_some());
            skipped += due.skipped;
        });
        assert!(at_once <= 60, "{at_once} at once");
        assert_eq!(at_once as u64 + skipped, 7_780, "each slot was used or counted");
        let (sent, skipped) = sends(&mut schedule, awake, ms(2000), &[]);
        assert_eq!((sent.len(), skipped), (2000, 0), "and then it goes on as before");
    }

    #[test]
    fn intervals_that_make_no_sense_are_bounded() {
        let start = Instant::now();
        let mut schedule = Schedule::new(&[Duration::ZERO, Duration::MAX, Duration::MAX], start);
        let mut due = Vec::new();
        schedule.due(start, |one| due.push(one.probe));
        assert_eq!(due, [0, 1]);
        assert_eq!(schedule.next_due(), Some(start + SHORTEST));
    }

    fn intervals() -> impl Strategy<Value = Vec<Duration>> {
        let every = prop::sample::select(vec![20u64, 100, 333, 1000, 5000]).prop_map(ms);
        prop::collection::vec(every, 1..60)
    }

    proptest! {
        #[test]
        fn the_rate_is_right_over_long_times(intervals in intervals()) {
            let start = Instant::now();
            let mut schedule = Schedule::new(&intervals, start);
            let (sent, skipped) = sends(&mut schedule, start, ms(60_000), &[]);
            prop_assert_eq!(skipped, 0);
            for (probe, every) in intervals.iter().enumerate() {
                let count = sent.iter().filter(|(of, _)| *of == probe).count() as i64;
                let wanted = i64::try_from(60_000_000_000 / every.as_nanos()).unwrap();
                prop_assert!((count - wanted).abs() <= 1, "{} of {}", count, wanted);
            }
        }

        #[test]
        fn a_late_loop_sends_no_probe_twice_within_half_its_interval(
            intervals in intervals(),
            delays in prop::collection::vec((0u64..4_000_000).prop_map(Duration::from_micros), 1..20),
        ) {
            let start = Instant::now();
            let mut schedule = Schedule::new(&intervals, start);
            let (sent, skipped) = sends(&mut schedule, start, ms(60_000), &delays);
            let mut last: HashMap<usize, Duration> = HashMap::new();
            for &(probe, at) in &sent {
                if let Some(before) = last.insert(probe, at) {
                    prop_assert!(at - before >= intervals[probe] / 2);
                }
            }
            let slots: u128 = intervals.iter().map(|every| 60_000_000_000 / every.as_nanos() + 1).sum();
            prop_assert!(u128::try_from(sent.len()).unwrap() + u128::from(skipped) <= slots);
        }

        #[test]
        fn no_burst_after_a_stall(size in 1usize..500, stall in 1u64..100_000) {
            let start = Instant::now();
            let mut schedule = Schedule::new(&vec![ms(1000); size], start);
            let mut at_once = 0;
            schedule.due(start + ms(stall), |due| at_once += usize::from(due.lag.is_some()));
            // What lies in 50 ms and the ticks at both ends of them.
            prop_assert!(at_once <= size * 7 / 100 + 2, "{} of {} at once", at_once, size);
        }
    }
}
