//! The sender's side of a session: numbers what goes out, takes what comes back, and tells what that says. Pure.

use std::collections::VecDeque;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use crate::ntp::Stamp;
use crate::packet::{ErrorEstimate, ReflectorPacket, SenderPacket};
use crate::path::{Change, Mode, Path, Totals};

/// The number a session begins with. RFC 8762 begins at zero. Beginning here is to the reflector as if what was before had been
/// lost, and tells with the first reply whether the reflector counts by itself, from zero, or copies: the one difference
/// between a loss whose direction is known and one whose direction is not.
pub const FIRST: u32 = 1 << 16;

/// So many packets back a late or repeated reply is known as such.
const KEPT: usize = 32;

/// So many packets may be in flight.
const MOST: usize = 1 << 16;

/// A session with one reflector, with a ticket for each packet by which its owner knows it.
#[derive(Clone, Debug)]
pub struct Session<T> {
    next: u32,
    /// The newest packets, ending with `next - 1`.
    flights: VecDeque<Flight<T>>,
    path: Path,
    last: Option<Timing>,
}

#[derive(Clone, Debug)]
struct Flight<T> {
    ticket: T,
    steady: Instant,
    /// Nanoseconds since the Unix epoch.
    wall: i64,
    state: State,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    InFlight,
    GivenUp,
    Answered,
}

/// When the newest answered packet left and came back.
#[derive(Clone, Copy, Debug)]
struct Timing {
    number: u32,
    sent: Instant,
    total: Duration,
    /// T2 and T3, by the reflector's clock.
    reflector: Option<(i64, i64)>,
}

/// What a reply says.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Told<T> {
    /// Of the packet that it answers.
    pub ticket: T,
    /// That packet's number.
    pub number: u32,
    /// Whether it was waited for.
    pub kind: Kind,
    /// How long the way there and back took, without the reflector's dwell where that is known.
    pub rtt: Duration,
    /// When it came, in nanoseconds since the Unix epoch: by the kernel's stamp, or else when it was read.
    pub arrived: i64,
    /// Whether `rtt` ends with the kernel's stamp; else it ends when the reply was read.
    pub stamped: bool,
    /// How long the reflector had the packet (T3 − T2); `None` when its stamps make no sense: no time, the wrong way
    /// around, or further apart than the whole round trip.
    pub dwell: Option<Duration>,
    /// Against the reply before; `None` when that is unknown.
    pub variation: Option<Variation>,
    /// What befell packets since the reply before.
    pub path: Change,
}

/// What a reply is to its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The first, in time.
    First,
    /// The first, to a packet that was given up.
    Late,
    /// One more.
    Duplicate,
}

/// By how much longer a packet took than the one answered before it (RFC 3393), in nanoseconds, negative when it was faster.
///
/// Both clocks only measure intervals, so they need not agree; a clock that runs fast or slow by 50 millionths adds 50 µs
/// for each second between the two packets. A variation larger than the whole round trip is a clock that was set: then
/// there is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Variation {
    /// On the way to the reflector.
    pub forward: i64,
    /// On the way back.
    pub back: i64,
}

impl<T: Copy> Session<T> {
    /// A session whose first packet has this number: [`FIRST`], for all but tests of the wrap at 2^32.
    #[must_use]
    pub fn new(first: u32) -> Self {
        Self { next: first, flights: VecDeque::new(), path: Path::new(first), last: None }
    }

    /// The next packet, as sent at this time in nanoseconds since the Unix epoch. It is in the session once
    /// [`Session::sent`] says so; one that could not be sent leaves no gap. `None` when too many are in flight.
    #[must_use]
    pub fn packet(&self, wall: i64) -> Option<SenderPacket> {
        (self.flights.len() < MOST).then_some(SenderPacket {
            sequence: self.next,
            sent: Stamp::ntp(wall),
            error: ErrorEstimate::UNKNOWN,
            ssid: 0,
        })
    }

    /// The next packet went out, at this time by both clocks; its number.
    pub fn sent(&mut self, ticket: T, steady: Instant, wall: i64) -> u32 {
        let number = self.next;
        self.next = self.next.wrapping_add(1);
        self.flights.push_back(Flight { ticket, steady, wall, state: State::InFlight });
        while self.flights.len() > KEPT
            && self.flights.front().is_some_and(|flight| flight.state != State::InFlight)
        {
            self.flights.pop_front();
        }
        number
    }

    /// No longer waits for this one; its ticket, if it was in flight. It may still come, and is late then.
    pub fn give_up(&mut self, number: u32) -> Option<T> {
        let flight = self.flight(number)?;
        let was = std::mem::replace(&mut flight.state, State::GivenUp);
        if was == State::Answered {
            flight.state = was;
        }
        (was == State::InFlight).then_some(flight.ticket)
    }

    /// The number of this packet, if it is of this session to the last bit of its timestamp, and in flight.
    #[must_use]
    pub fn in_flight(&self, packet: &SenderPacket) -> Option<u32> {
        let index = usize::try_from(packet.sequence.wrapping_sub(self.front())).ok()?;
        let flight = self.flights.get(index)?;
        let same = flight.state == State::InFlight && Stamp::ntp(flight.wall) == packet.sent;
        same.then_some(packet.sequence)
    }

    /// The number of the only packet in flight.
    #[must_use]
    pub fn only_in_flight(&self) -> Option<u32> {
        let mut numbers = (0..).zip(&self.flights).filter(|(_, flight)| flight.state == State::InFlight);
        let (index, _) = numbers.next()?;
        numbers.next().is_none().then(|| self.front().wrapping_add(index))
    }

    /// Takes a reply, read at `read`, and stamped by the kernel with `arrived`, in nanoseconds since the Unix epoch. It came to
    /// `own`, an address of this machine: a reflector has a count for each that it is asked from.
    /// `None` when it does not answer a packet of this session: its number is of none that is remembered, or the copy
    /// of that packet's timestamp is not the same.
    pub fn reply(
        &mut self,
        packet: &ReflectorPacket,
        read: Instant,
        arrived: Option<i64>,
        own: Option<IpAddr>,
    ) -> Option<Told<T>> {
        let number = packet.sender_sequence;
        let newest_sent = self.next.wrapping_sub(1);
        let flight = self.flight(number).filter(|flight| Stamp::ntp(flight.wall) == packet.sender_sent)?;
        let kind = match flight.state {
            State::InFlight => Kind::First,
            State::GivenUp => Kind::Late,
            State::Answered => Kind::Duplicate,
        };
        flight.state = State::Answered;
        let Flight { ticket, steady, wall, .. } = *flight;

        let elapsed = read.saturating_duration_since(steady);
        // Both of the wall clock. They count unless it was set between them.
        let stamped = arrived
            .and_then(|arrived| u64::try_from(arrived.checked_sub(wall)?).ok())
            .map(Duration::from_nanos)
            .filter(|&total| total <= elapsed);
        let total = stamped.unwrap_or(elapsed);
        let by_reflector = |stamp: Stamp| stamp.unix_nanos(packet.error.format, wall);
        let reflector = by_reflector(packet.received).zip(by_reflector(packet.sent));
        let dwell = reflector
            .and_then(|(received, sent)| u64::try_from(sent.checked_sub(received)?).ok())
            .map(Duration::from_nanos)
            .filter(|&dwell| dwell <= total);

        let path = self.path.heard(number, packet.sequence, newest_sent, own);
        let timing = Timing { number, sent: steady, total, reflector: reflector.filter(|_| dwell.is_some()) };
        let variation = self.last.and_then(|last| timing.variation(&last));
        if self.last.is_none_or(|last| is_after(number, last.number)) {
            self.last = Some(timing);
        }
        let rtt = total.saturating_sub(dwell.unwrap_or_default());
        let arrived = arrived
            .filter(|_| stamped.is_some())
            .unwrap_or_else(|| wall.saturating_add(nanos(elapsed).unwrap_or(i64::MAX)));
        let stamped = stamped.is_some();
        Some(Told { ticket, number, kind, rtt, arrived, stamped, dwell, variation, path })
    }

    /// What befell the session's packets, up to the newest that was answered.
    #[must_use]
    pub fn totals(&self) -> Totals {
        self.path.totals()
    }

    /// What is known of the reflector.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.path.mode()
    }

    fn front(&self) -> u32 {
        // At most MOST and some are kept.
        self.next.wrapping_sub(u32::try_from(self.flights.len()).unwrap_or(u32::MAX))
    }

    fn flight(&mut self, number: u32) -> Option<&mut Flight<T>> {
        let index = number.wrapping_sub(self.front());
        self.flights.get_mut(usize::try_from(index).ok()?)
    }
}

impl Timing {
    /// Against an earlier packet's; `None` too when this is not the later one.
    fn variation(&self, before: &Self) -> Option<Variation> {
        if !is_after(self.number, before.number) {
            return None;
        }
        let ((received, sent), (received_before, sent_before)) = (self.reflector?, before.reflector?);
        let apart = nanos(self.sent.checked_duration_since(before.sent)?)?;
        let (total, total_before) = (nanos(self.total)?, nanos(before.total)?);
        let forward = received.checked_sub(received_before)?.checked_sub(apart)?;
        let back = (apart + total - total_before).checked_sub(sent.checked_sub(sent_before)?)?;
        let most = total.max(total_before);
        (forward.abs() <= most && back.abs() <= most).then_some(Variation { forward, back })
    }
}

/// Whether the number is of a packet after that one, in a sequence that wraps.
fn is_after(number: u32, other: u32) -> bool {
    (1..1 << 31).contains(&number.wrapping_sub(other))
}

/// `None` past 146 years, so that a few of them can be added.
fn nanos(duration: Duration) -> Option<i64> {
    i64::try_from(duration.as_nanos()).ok().filter(|&nanos| nanos <= i64::MAX / 2)
}

#[cfg(test)]
#[path = "session_tests.rs"]
mod tests;
