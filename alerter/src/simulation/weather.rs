//! The weather of a day: when the disk, the queue, the receivers and the clock fail, when the alerter is stopped or killed,
//! and how the quiet time is passed.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use super::days::Day;
use super::disk::Health;
use super::receivers::Manner;
use crate::ledger::Destination;

/// Something that happens to the alerter.
#[derive(Clone, Debug)]
pub(crate) enum Event {
    Disk(Health),
    QueueIsDown(bool),
    QueueIsSlow(bool),
    Receiver(Destination, Manner),
    /// Its wall clock is wrong by so many microseconds from now on.
    Wall(i64),
    /// It is asked to stop, and started again.
    Stop,
    /// It is killed, and started again.
    Kill,
    /// Nothing happens until then.
    Quiet(Timestamp, Pass),
}

/// How the alerter passes the quiet time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Pass {
    /// Its machine is suspended.
    Suspended,
    /// Its machine stalls.
    Stalled,
    /// It is stopped before, and started afterwards.
    Stopped,
    /// It is killed before, and started afterwards.
    Killed,
}

/// How long before a window begins the quiet time ends, and how long after its end it begins.
const BEFORE: Duration = Duration::from_secs(8);
const AFTER: Duration = Duration::from_secs(11);

/// In order. After the last of them all is well.
pub(crate) fn draw(rng: &mut fastrand::Rng, day: &Day) -> Vec<(Timestamp, Event)> {
    let mut events = Vec::new();
    let destinations: Vec<Destination> =
        day.world.config.receivers.iter().flat_map(Destination::of).collect();
    let mut quiet_from = day.begin + Duration::from_millis(100);
    for &(from, to) in &day.windows {
        let pass = rng.choice([Pass::Suspended, Pass::Suspended, Pass::Stalled, Pass::Stopped, Pass::Killed]);
        events.push((quiet_from, Event::Quiet(from - BEFORE, pass.unwrap_or(Pass::Suspended))));
        quiet_from = to + AFTER;
        let window = to.since(from);
        for _ in 0..rng.u8(..5) {
            trouble(rng, from, window, &destinations, &mut events);
        }
    }
    if rng.u8(..3) == 0 {
        events.extend(away(rng, day));
    }
    // Afterwards all is well anyway.
    events.retain(|(at, _)| *at < day.end());
    events.sort_by_key(|(at, _)| *at);
    events
}

/// For hours nobody is there, while things go wrong; then all of it is read at once.
fn away(rng: &mut fastrand::Rng, day: &Day) -> Option<(Timestamp, Event)> {
    let (first, last) = (rng.usize(..day.windows.len()), rng.usize(..day.windows.len()));
    let [first, last] = [first.min(last), first.max(last)];
    let from = day.windows.get(first)?.0 + Duration::from_millis(rng.u64(..40_000));
    let until = day.windows.get(last)?.1 + Duration::from_millis(rng.u64(..40_000));
    let pass = if rng.bool() { Pass::Stopped } else { Pass::Killed };
    Some((from, Event::Quiet(until.max(from + Duration::from_secs(120)), pass)))
}

fn trouble(
    rng: &mut fastrand::Rng,
    from: Timestamp,
    window: Duration,
    destinations: &[Destination],
    events: &mut Vec<(Timestamp, Event)>,
) {
    let within = u64::try_from(window.as_millis()).unwrap_or(u64::MAX);
    let at = from + Duration::from_millis(rng.u64(..within));
    let mut lasts = |most: u64| at + Duration::from_millis(rng.u64(100..most));
    match lasts(1_000_000).as_micros() % 11 {
        0 => events.extend([(at, Event::Disk(Health::Full)), (lasts(20_000), Event::Disk(Health::Well))]),
        1 => events.extend([(at, Event::Disk(Health::Failing)), (lasts(20_000), Event::Disk(Health::Well))]),
        2 => events.extend([(at, Event::QueueIsDown(true)), (lasts(40_000), Event::QueueIsDown(false))]),
        3 => events.extend([(at, Event::QueueIsSlow(true)), (lasts(40_000), Event::QueueIsSlow(false))]),
        4 => events.push((at, Event::Stop)),
        5 => events.push((at, Event::Kill)),
        6 => {
            // Mostly by seconds, at times by an hour.
            let most = if rng.u8(..4) == 0 { 3_600_000_000 } else { 5_000_000 };
            events.push((at, Event::Wall(rng.i64(-most..most))));
        }
        _ => {
            // At times all of them, and for longer than the window.
            let until = lasts(if destinations.len() > 2 { 60_000 } else { 2_000_000 });
            let all = rng.u8(..4) == 0;
            let one = rng.usize(..destinations.len());
            let manner = match rng.u8(..6) {
                0 => Manner::Late(rng.u64(..12_000)),
                1 => Manner::Mute,
                2 => Manner::Refuses,
                3 => Manner::Hangs,
                4 => Manner::Throttles,
                _ => Manner::Erratic,
            };
            for (_, to) in destinations.iter().enumerate().filter(|(number, _)| all || *number == one) {
                events.push((at, Event::Receiver(to.clone(), manner)));
                events.push((until, Event::Receiver(to.clone(), Manner::Well)));
            }
        }
    }
}
