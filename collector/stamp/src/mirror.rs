//! What a stateful reflector does with one datagram, in place: answer it, or say why not. Pure.
//!
//! The answer is as long as what came, so nobody gets more octets than he sent; what follows the 44 octets goes back as
//! it came, which by RFC 8972 says of each TLV that it was not understood, for its sender had set the flag for that.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr};
use std::time::{Duration, Instant};

use crosswatch_shared::time::Timestamp;

use crate::ntp::Stamp;
use crate::packet::{self, ErrorEstimate, ReflectorPacket, SenderPacket};
use crate::prefix::Prefix;
use crate::recent::{Place, Recent};

/// When the table of sessions is full, idle ones are looked for at most this often.
const SWEEP: Duration = Duration::from_secs(1);

/// Whom to answer, and how many.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Nobody else is answered.
    pub allow: Vec<Prefix>,
    /// So many sessions are kept at once. Those beyond it are answered as by a stateless reflector, which leaves the
    /// direction of their losses unknown, until others are idle.
    pub sessions: usize,
    /// A session of which nothing was heard for so long is forgotten (REFWAIT of RFC 5357, whose default is 15 minutes).
    pub idle: Duration,
    /// What answers say of this machine's clock. Its format must be NTP's.
    pub error: ErrorEstimate,
}

impl Policy {
    /// Answers these; 4,096 sessions, 15 minutes, a clock of which nothing is known.
    #[must_use]
    pub fn new(allow: Vec<Prefix>) -> Self {
        Self { allow, sessions: 4_096, idle: Duration::from_secs(900), error: ErrorEstimate::UNKNOWN }
    }
}

/// A datagram as it came.
#[derive(Debug)]
pub struct Datagram<'a> {
    /// Who sent it.
    pub from: SocketAddr,
    /// To which address and port of this machine.
    pub to: SocketAddr,
    /// Its TTL or hop limit.
    pub ttl: u8,
    /// When, in nanoseconds since the Unix epoch, by the kernel's stamp.
    pub received: i64,
    /// What it holds; the answer takes its place.
    pub bytes: &'a mut [u8],
}

/// Why a datagram gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// Its source is in none of the allowed networks.
    Prefix,
    /// It is shorter than 44 octets.
    Short,
    /// It is from the port of a reflector, ours or 862: two reflectors set on each other would go on for ever.
    Loop,
    /// It has no source port, so there is nowhere to answer to.
    NoPort,
}

/// How many datagrams went which way, since the start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in. Each is counted below exactly once besides.
    pub received: u64,
    /// Answered.
    pub reflected: u64,
    /// Not from an allowed network.
    pub refused: u64,
    /// Shorter than 44 octets, longer than there is room for, without a source port, or not to this machine alone.
    pub malformed: u64,
    /// From the port of a reflector.
    pub looped: u64,
    /// Answers that the kernel did not take; to the sender they are lost on the way back.
    pub send_errors: u64,
    /// Answers that carry the sender's number, since the table of sessions was full; they are among the above too.
    pub stateless: u64,
    /// Sessions forgotten because they were idle.
    pub evicted: u64,
    /// Readings that the kernel refused, for whatever reason.
    pub receive_errors: u64,
}

/// A session as the reflector sees it: what comes here says that the way to here works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heard {
    /// The sender.
    pub from: SocketAddr,
    /// The address and port of this machine that it asks.
    pub to: SocketAddr,
    /// The session identifier (RFC 8972); zero is none.
    pub ssid: u16,
    /// How many packets came.
    pub packets: u64,
    /// How many of the sender's numbers between the first and the newest did not come, so far.
    pub missing: u64,
    /// When the first came.
    pub first: Timestamp,
    /// When the newest came.
    pub last: Timestamp,
}

/// A stateful reflector without its sockets.
#[derive(Debug)]
pub struct Mirror {
    policy: Policy,
    sessions: HashMap<Key, Session>,
    swept: Instant,
    /// What it has counted.
    pub counts: Counts,
}

/// RFC 8972, section 3: the four of addresses and ports, and the identifier.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Key {
    from: SocketAddr,
    to: SocketAddr,
    ssid: u16,
}

#[derive(Clone, Copy, Debug)]
struct Session {
    /// The number of the next answer.
    next: u32,
    numbers: Recent,
    packets: u64,
    missing: u64,
    /// Nanoseconds since the Unix epoch.
    first: i64,
    last: i64,
    steady: Instant,
}

impl Mirror {
    /// Room for all sessions is taken here: none is taken later.
    #[must_use]
    pub fn new(policy: Policy, now: Instant) -> Self {
        // Never filled to the brim: a table at its capacity would be built anew when keys come and go.
        let sessions = HashMap::with_capacity(policy.sessions.saturating_mul(2));
        Self { policy, sessions, swept: now, counts: Counts::default() }
    }

    /// Makes the answer out of a datagram, but for the time of sending ([`packet::set_sent`]).
    ///
    /// # Errors
    /// Why it gets none; then its octets are as they were. It is counted; an answer is to be counted by who sends it.
    pub fn reflect(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Refused> {
        self.counts.received += 1;
        let result = self.answer(datagram, now);
        match result {
            Ok(()) => {}
            Err(Refused::Prefix) => self.counts.refused += 1,
            Err(Refused::Short | Refused::NoPort) => self.counts.malformed += 1,
            Err(Refused::Loop) => self.counts.looped += 1,
        }
        result
    }

    fn answer(&mut self, datagram: Datagram<'_>, now: Instant) -> Result<(), Refused> {
        let Datagram { from, to, ttl, received, bytes } = datagram;
        if !self.policy.allow.iter().any(|prefix| prefix.contains(from.ip())) {
            return Err(Refused::Prefix);
        }
        let packet = SenderPacket::read(bytes).ok_or(Refused::Short)?;
        match from.port() {
            0 => return Err(Refused::NoPort),
            port if port == to.port() || port == packet::PORT => return Err(Refused::Loop),
            _ => {}
        }
        let key = Key { from, to, ssid: packet.ssid };
        let sequence = self.count(key, packet.sequence, received, now).unwrap_or_else(|| {
            self.counts.stateless += 1;
            packet.sequence
        });
        let answer = ReflectorPacket {
            sequence,
            sent: Stamp::default(),
            error: self.policy.error,
            ssid: packet.ssid,
            received: Stamp::ntp(received),
            sender_sequence: packet.sequence,
            sender_sent: packet.sent,
            sender_error: packet.error,
            sender_ttl: ttl,
        };
        if let Some(base) = bytes.first_chunk_mut() {
            *base = answer.bytes();
        }
        Ok(())
    }

    /// The number of the answer; `None` when there is no room for a session.
    fn count(&mut self, key: Key, number: u32, received: i64, now: Instant) -> Option<u32> {
        let idle = self.policy.idle;
        if let Some(session) = self.sessions.get_mut(&key) {
            if now.saturating_duration_since(session.steady) <= idle {
                return Some(session.take(number, received, now));
            }
            self.sessions.remove(&key);
            self.counts.evicted += 1;
        }
        if self.sessions.len() >= self.policy.sessions && now.saturating_duration_since(self.swept) >= SWEEP {
            self.sweep(now);
        }
        if self.sessions.len() >= self.policy.sessions {
            return None;
        }
        let mut session = Session {
            next: 0,
            numbers: Recent::before(number),
            packets: 0,
            missing: 0,
            first: received,
            last: received,
            steady: now,
        };
        let answer = session.take(number, received, now);
        self.sessions.insert(key, session);
        Some(answer)
    }

    /// Forgets the sessions that are idle.
    pub fn sweep(&mut self, now: Instant) {
        let (before, idle) = (self.sessions.len(), self.policy.idle);
        self.sessions.retain(|_, session| now.saturating_duration_since(session.steady) <= idle);
        self.counts.evicted += u64::try_from(before - self.sessions.len()).unwrap_or(0);
        self.swept = now;
    }

    /// The sessions, in no order.
    #[must_use]
    pub fn heard(&self) -> Vec<Heard> {
        let time = |nanos: i64| Timestamp::from_micros(nanos.div_euclid(1_000));
        self.sessions
            .iter()
            .map(|(&Key { from, to, ssid }, session)| Heard {
                from,
                to,
                ssid,
                packets: session.packets,
                missing: session.missing,
                first: time(session.first),
                last: time(session.last),
            })
            .collect()
    }
}

impl Session {
    fn take(&mut self, number: u32, received: i64, now: Instant) -> u32 {
        match self.numbers.mark(number) {
            Place::Ahead(by) => self.missing += u64::from(by) - 1,
            Place::Behind => self.missing = self.missing.saturating_sub(1),
            Place::Again => {}
            // A sender that begins anew from the same port.
            Place::Old => {
                self.numbers = Recent::before(number);
                self.numbers.mark(number);
            }
        }
        self.packets += 1;
        (self.last, self.steady) = (received, now);
        let answer = self.next;
        self.next = self.next.wrapping_add(1);
        answer
    }
}

/// Whether an address is of one machine, so that what comes to it may be answered.
pub(crate) fn is_unicast(address: IpAddr) -> bool {
    match address {
        IpAddr::V4(v4) => !v4.is_multicast() && !v4.is_broadcast() && !v4.is_unspecified(),
        IpAddr::V6(v6) => !v6.is_multicast() && !v6.is_unspecified(),
    }
}

#[cfg(test)]
#[path = "mirror_tests.rs"]
mod tests;
