//! One ICMP socket: requests out, replies, errors and stamps in, many a system call.
//!
//! Round-trip times are from the kernel's stamp of sending to its stamp of receiving (`SO_TIMESTAMPING`), so a busy process
//! does not lengthen them. What a router or the own kernel says of a request comes by the error queue (`IP_RECVERR`, see
//! ip(7)), as do the stamps of sending.

use std::hash::{BuildHasher, RandomState};
use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;
use nix::sys::socket::MsgFlags;

use crate::batch::{self, BATCH, Inbox, Incoming, Outgoing, Said};
use crate::family::Family;
use crate::flights::{Flight, Flights, Stage};
use crate::heard::{Fate, Heard};
use crate::packet::{self, Direction, Mark, Secret};
use crate::stamp::{self, Moment};
use crate::{Error, failure, open};

/// So many batches are read before anything else gets its turn, so that a flood cannot stop the sending.
const ROUNDS: usize = 64;

/// So many between two batches that are sent.
const ROUNDS_BETWEEN: usize = 4;

/// A pending error of the socket, left by another target, fails the next send once: then it is tried again.
const SENDS: usize = 3;

/// A packet to be sent.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Request {
    pub(crate) mark: Mark,
    pub(crate) to: IpAddr,
    /// Of the IP packet, in bytes; `None`: as small as can be.
    pub(crate) size: Option<u16>,
    pub(crate) timeout: Duration,
}

/// An open socket and what is in flight over it.
#[derive(Debug)]
pub(crate) struct Icmp {
    family: Family,
    socket: OwnedFd,
    raw: bool,
    /// Whether it sends with Don't Fragment set.
    whole: bool,
    /// Ours on a raw socket; a ping socket's is the kernel's affair.
    id: u16,
    flights: Flights,
    secret: Secret,
    inbox: Inbox,
    /// How much of what came in the socket has dropped, and when that was last seen to grow.
    dropped: u32,
    dropped_at: Option<Instant>,
    /// What the own kernel said last of a packet too big for its interface: to whom, and the largest size.
    too_big: Option<(IpAddr, u32)>,
}

/// A reply to a packet in flight, before its stamps are put together.
struct Answered {
    sequence: u16,
    rx: Option<i64>,
}

impl Icmp {
    /// With room for so many packets in flight.
    pub(crate) fn open(family: Family, whole: bool, capacity: usize, secret: Secret) -> Result<Self, Error> {
        let (socket, raw) = open::open(family, whole)?;
        let [_, _, _, _, _, _, high, low] = RandomState::new().hash_one(0u8).to_be_bytes();
        Ok(Self {
            family,
            socket,
            raw,
            whole,
            id: u16::from_be_bytes([high, low]),
            flights: Flights::new(capacity),
            secret,
            inbox: Inbox::new(),
            dropped: 0,
            dropped_at: None,
            too_big: None,
        })
    }

    /// Sends them. Of each that is in flight then `flying` is told the place in the list and the sequence number; of the
    /// others is heard why not. How many of the first were dealt with so: for the rest no sequence number was free.
    pub(crate) fn send(
        &mut self,
        requests: &[Request],
        heard: &mut Vec<Heard>,
        mut flying: impl FnMut(usize, u16),
    ) -> usize {
        let mut taken = 0;
        for batch in requests.chunks(BATCH) {
            let sent = Moment::now();
            let mut messages = Vec::with_capacity(BATCH);
            let mut sequences = Vec::with_capacity(BATCH);
            for &Request { mark, to, size, timeout } in batch {
                let flight = Flight { mark, to, timeout, sent, tx: None, stage: Stage::Flying };
                let Some(sequence) = self.flights.add(flight) else { break };
                let bytes = packet::request(self.family, self.id, sequence, mark, &self.secret);
                let smallest = self.family.header() + packet::LENGTH;
                let filling = size.map_or(0, usize::from).saturating_sub(smallest);
                messages.push(Outgoing { bytes, filling, to });
                sequences.push((taken + sequences.len(), mark, sequence));
            }
            taken += sequences.len();
            self.send_batch(&messages, &sequences, heard, &mut flying);
            if taken < requests.len() && sequences.len() < batch.len() {
                break;
            }
            // Many are read at once: so the stamps of sending and on a short way the replies do not fill the buffer.
            if batch.len() == BATCH {
                self.read(heard, ROUNDS_BETWEEN);
            }
        }
        taken
    }

    fn send_batch(
        &mut self,
        messages: &[Outgoing],
        sequences: &[(usize, Mark, u16)],
        heard: &mut Vec<Heard>,
        flying: &mut impl FnMut(usize, u16),
    ) {
        let (mut messages, mut sequences) = (messages, sequences);
        let mut tries = 0;
        while let Some(&(_, mark, sequence)) = sequences.first() {
            let count = match batch::send(&self.socket, messages) {
                Ok(count) => {
                    for &(place, _, sequence) in sequences.iter().take(count) {
                        self.flights.sent(sequence);
                        flying(place, sequence);
                    }
                    if count < messages.len() {
                        // The next one failed, and what with is not told.
                        self.failed(heard);
                    }
                    tries = 0;
                    count
                }
                Err(errno) => {
                    tries += 1;
                    self.too_big = None;
                    self.failed(heard);
                    if tries < SENDS && errno != Errno::EAGAIN {
                        0
                    } else {
                        tries = 0;
                        self.flights.remove(sequence);
                        heard.push(Heard::Fate(mark, self.not_sent(errno, messages.first())));
                        1
                    }
                }
            };
            messages = messages.get(count..).unwrap_or_default();
            sequences = sequences.get(count..).unwrap_or_default();
        }
    }

    /// After a send that failed: takes a pending error off the socket, hears what the kernel says of a packet too big and
    /// the stamps of those sent before, and has the kernel count anew.
    fn failed(&mut self, heard: &mut Vec<Heard>) {
        self.errors(heard);
        if open::recount(&self.socket).is_ok() {
            self.flights.recount();
        }
    }

    fn not_sent(&self, errno: Errno, message: Option<&Outgoing>) -> Fate {
        if errno == Errno::EMSGSIZE && message.is_some_and(|message| message.filling > 0) {
            let of = self.too_big.filter(|(to, _)| message.is_some_and(|message| message.to == *to));
            return Fate::TooBig(of.map(|(_, mtu)| mtu));
        }
        match failure::lost(errno) {
            Lost::Local => Fate::Local(format!("sending: {errno}")),
            lost => Fate::Lost(lost),
        }
    }

    /// This one's time is over; what that makes of it, unless it is decided.
    pub(crate) fn expire(&mut self, sequence: u16, mark: Mark) -> Option<Fate> {
        let flight = self.flights.get(sequence).filter(|flight| flight.mark == mark)?;
        if flight.stage != Stage::Flying {
            return None;
        }
        flight.stage = Stage::Lost;
        let in_doubt = self.dropped_at.is_some_and(|at| at >= flight.sent.steady);
        Some(if in_doubt {
            Fate::Local("the receive buffer overflowed, so its reply may have been dropped here".to_owned())
        } else {
            Fate::Lost(Lost::Timeout)
        })
    }

    /// Whether it is still waited for.
    pub(crate) fn is_flying(&mut self, sequence: u16, mark: Mark) -> bool {
        self.flights.get(sequence).is_some_and(|flight| flight.mark == mark && flight.stage == Stage::Flying)
    }

    /// Whether anything was ever sent over it.
    pub(crate) fn is_used(&self) -> bool {
        self.flights.is_used()
    }

    /// How many messages the socket has dropped, ever.
    pub(crate) fn dropped(&self) -> u32 {
        self.dropped
    }

    /// Reads what has come in, replies and errors; whether there is more.
    pub(crate) fn receive(&mut self, heard: &mut Vec<Heard>) -> bool {
        let more = self.read(heard, ROUNDS);
        if let Some(dropped) = open::dropped(&self.socket).filter(|&dropped| dropped != self.dropped) {
            self.dropped = dropped;
            self.dropped_at = Some(Moment::now().steady);
        }
        more
    }

    fn read(&mut self, heard: &mut Vec<Heard>, rounds: usize) -> bool {
        self.errors(heard);
        for _ in 0..rounds {
            match self.replies(heard) {
                Ok(BATCH) | Err(Errno::EINTR) => {}
                Ok(_) | Err(Errno::EAGAIN) => return false,
                // A pending error, which is gone now; the error queue says whose it was.
                Err(_) => self.errors(heard),
            }
        }
        true
    }

    fn replies(&mut self, heard: &mut Vec<Heard>) -> Result<usize, Errno> {
        let mut answered = Vec::new();
        let Self { family, socket, raw, id, flights, secret, inbox, .. } = self;
        let count = inbox.receive(socket, MsgFlags::empty(), |message| {
            let icmp = if *raw && *family == Family::V4 {
                packet::after_ipv4_header(message.bytes)
            } else {
                Some(message.bytes)
            };
            // A raw socket gets everything, also the machine's other traffic: that is no stray.
            let echo = icmp
                .and_then(|icmp| packet::read(*family, Direction::Reply, icmp))
                .filter(|echo| !*raw || echo.id == *id);
            let Some(echo) = echo else { return };
            let Some(mark) = echo.mark(secret) else {
                return heard.push(Heard::Stray);
            };
            let Some(flight) = flights.get(echo.sequence).filter(|flight| flight.mark == mark) else {
                return heard.push(Heard::Again(mark.ticket));
            };
            if message.peer != Some(flight.to) {
                return heard.push(Heard::Stray);
            }
            match flight.stage {
                Stage::Flying => {
                    flight.stage = Stage::Replied;
                    answered.push(Answered { sequence: echo.sequence, rx: message.stamp });
                }
                Stage::Replied => heard.push(Heard::Duplicate),
                Stage::Lost => heard.push(Heard::Late),
            }
        })?;
        if answered.is_empty() {
            return Ok(count);
        }
        let read = Moment::now();
        // Rarely a stamp comes between the two reads.
        let unstamped =
            |of: &Answered| self.flights.get(of.sequence).is_some_and(|flight| flight.tx.is_none());
        if answered.iter().any(unstamped) {
            self.errors(heard);
        }
        for Answered { sequence, rx } in answered {
            let Some(flight) = self.flights.get(sequence) else { continue };
            let (reply, exact) = stamp::reply(flight.sent, read, flight.tx, rx);
            let fate = if reply.rtt <= flight.timeout {
                Fate::Reply(reply)
            } else if exact {
                flight.stage = Stage::Lost;
                heard.push(Heard::Late);
                Fate::Lost(Lost::Timeout)
            } else {
                Fate::Local("a reply was read too late to be timed".to_owned())
            };
            heard.push(Heard::Fate(flight.mark, fate));
        }
        Ok(count)
    }

    fn errors(&mut self, heard: &mut Vec<Heard>) {
        for _ in 0..ROUNDS {
            let Self { family, socket, raw, whole, id, flights, secret, inbox, too_big, .. } = self;
            let asked = Asked { family: *family, id: raw.then_some(*id), whole: *whole, secret };
            let count = inbox.receive(socket, MsgFlags::MSG_ERRQUEUE, |message| match message.said {
                Some(Said::Sent(key)) => {
                    if let Some(stamp) = message.stamp {
                        flights.stamped(key, stamp);
                    }
                }
                Some(Said::Failed { errno: Errno::EMSGSIZE, here: true, info }) => {
                    *too_big = message.peer.map(|to| (to, info));
                }
                Some(Said::Failed { errno, info, .. }) => {
                    heard.extend(asked.failed(flights, message, errno, info));
                }
                None => {}
            });
            if !matches!(count, Ok(BATCH) | Err(Errno::EINTR)) {
                return;
            }
        }
    }
}

impl AsFd for Icmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// What a socket's requests are known by.
struct Asked<'a> {
    family: Family,
    /// On a raw socket, which gets the errors of everybody's requests.
    id: Option<u16>,
    whole: bool,
    secret: &'a Secret,
}

impl Asked<'_> {
    /// What an error that came by the network makes of a packet in flight.
    fn failed(
        &self,
        flights: &mut Flights,
        message: &Incoming<'_>,
        errno: Errno,
        info: u32,
    ) -> Option<Heard> {
        // The request as the router quotes it: eight bytes of it at least, so perhaps without the proof.
        let quoted = packet::read(self.family, Direction::Request, message.bytes)
            .filter(|echo| self.id.is_none_or(|id| echo.id == id))?;
        let flight = flights.get(quoted.sequence)?;
        let proven = quoted.payload.len() < packet::PAYLOAD || quoted.mark(self.secret) == Some(flight.mark);
        if !proven || message.peer != Some(flight.to) || flight.stage != Stage::Flying {
            return None;
        }
        let fate = match failure::lost(errno) {
            // A router of old does not tell the size (RFC 792); others do (RFC 1191, RFC 4443).
            Lost::Local if errno == Errno::EMSGSIZE && self.whole => Fate::TooBig((info > 0).then_some(info)),
            // Says nothing final.
            Lost::Local | Lost::Timeout => return None,
            lost => Fate::Lost(lost),
        };
        flight.stage = Stage::Lost;
        Some(Heard::Fate(flight.mark, fate))
    }
}
