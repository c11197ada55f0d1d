//! The ICMP sockets: one a family, a ping socket where the kernel allows it, else a raw one.
//!
//! Replies are stamped by the kernel as they arrive (`SO_TIMESTAMPNS`), so a busy process does not lengthen round-trip
//! times. What a router or the own kernel says of a request comes by the error queue (`IP_RECVERR`, see ip(7)).

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasher, RandomState};
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockProtocol, SockType, SockaddrStorage, recvmsg,
    sendto, setsockopt, socket, sockopt,
};

use crate::packet::{self, Direction, Secret};
use crate::release::Ticket;
use crate::{Error, failure};

/// An IP version's ICMP.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// ICMP, over IPv4.
    V4,
    /// `ICMPv6`.
    V6,
}

impl Family {
    /// That of an address.
    #[must_use]
    pub fn of(address: IpAddr) -> Self {
        if address.is_ipv4() { Self::V4 } else { Self::V6 }
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "ICMP",
            Self::V6 => "ICMPv6",
        })
    }
}

/// So many messages are read before anything else gets its turn, so that a flood cannot stop the sending.
const AT_ONCE: usize = 4096;

/// A pending error of the socket, left by another target, fails the next send once: then it is tried again.
const SENDS: usize = 3;

/// Room for one message: nothing that counts is longer than an IPv4 header with options and our request.
const ROOM: usize = 256;

/// An open socket and what is in flight over it.
#[derive(Debug)]
pub(crate) struct Icmp {
    family: Family,
    socket: OwnedFd,
    raw: bool,
    /// Ours on a raw socket; a ping socket's is the kernel's affair.
    id: u16,
    next: u16,
    flights: HashMap<u16, Flight>,
    secret: Secret,
    control: Vec<u8>,
}

#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    to: IpAddr,
    steady: Instant,
    wall: Duration,
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Heard {
    /// A first reply, after this time.
    Reply { ticket: Ticket, rtt: Duration, stamped: bool },
    /// A reply to what is no longer in flight.
    Again(Ticket),
    /// Word that there is no way.
    Lost(Ticket, Lost),
    /// An echo reply that nobody asked for, or not from the one who was asked.
    Stray,
}

impl Icmp {
    pub(crate) fn open(family: Family, secret: Secret) -> Result<Self, Error> {
        let (socket, raw) = open(family)?;
        // More room where the machine allows it; without it a burst of replies may be cut, which shows as loss.
        let _ = setsockopt(&socket, sockopt::RcvBuf, &(4 << 20));
        let [_, _, _, _, _, _, high, low] = RandomState::new().hash_one(0u8).to_be_bytes();
        Ok(Self {
            family,
            socket,
            raw,
            id: u16::from_be_bytes([high, low]),
            next: 0,
            flights: HashMap::new(),
            secret,
            control: vec![0; 512],
        })
    }

    /// Sends a request; the sequence number it flies under.
    pub(crate) fn send(&mut self, ticket: Ticket, to: IpAddr) -> Result<u16, Errno> {
        let sequence = self.free_sequence().ok_or(Errno::ENOBUFS)?;
        let request = packet::request(self.family, self.id, sequence, ticket, &self.secret);
        let address = SockaddrStorage::from(SocketAddr::new(to, 0));
        let mut failed = Errno::ENOBUFS;
        for _ in 0..SENDS {
            #[allow(clippy::disallowed_methods, reason = "the moment of sending")]
            let (steady, wall) = (Instant::now(), SystemTime::now());
            match sendto(self.socket.as_raw_fd(), &request, &address, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {
                    let wall = wall.duration_since(UNIX_EPOCH).unwrap_or_default();
                    let flight = Flight { ticket, to, steady, wall };
                    self.flights.insert(sequence, flight);
                    return Ok(sequence);
                }
                Err(errno) => failed = errno,
            }
        }
        Err(failed)
    }

    /// No longer waits for this one.
    pub(crate) fn forget(&mut self, sequence: u16, ticket: Ticket) {
        if self.flights.get(&sequence).is_some_and(|flight| flight.ticket == ticket) {
            self.flights.remove(&sequence);
        }
    }

    /// Reads what has come in, replies and errors.
    pub(crate) fn receive(&mut self, heard: &mut Vec<Heard>) {
        for _ in 0..AT_ONCE {
            match self.reply() {
                Ok(reply) => heard.extend(reply),
                Err(Errno::EAGAIN) => break,
                // An interruption, or a pending error, which is gone now; the error queue says whose it was.
                Err(_) => {}
            }
        }
        for _ in 0..AT_ONCE {
            match self.error() {
                Ok(error) => heard.extend(error),
                Err(_) => break,
            }
        }
    }

    fn reply(&mut self) -> Result<Option<Heard>, Errno> {
        let mut bytes = [0; ROOM];
        let mut room = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut room,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT,
        )?;
        #[allow(clippy::disallowed_methods, reason = "the moment of reading")]
        let now = Instant::now();
        let stamp = message.cmsgs().ok().into_iter().flatten().find_map(stamp);
        let from = message.address.and_then(address);
        let length = message.bytes.min(ROOM);
        let bytes = bytes.get(..length).unwrap_or_default();
        let icmp = if self.raw && self.family == Family::V4 {
            packet::after_ipv4_header(bytes)
        } else {
            Some(bytes)
        };
        // A raw socket gets everything, also the machine's other traffic: that is no stray.
        let echo = icmp
            .and_then(|icmp| packet::read(self.family, Direction::Reply, icmp))
            .filter(|echo| !self.raw || echo.id == self.id);
        let Some(echo) = echo else { return Ok(None) };
        let Some(ticket) = echo.ticket(&self.secret) else {
            return Ok(Some(Heard::Stray));
        };
        let Some(flight) = self.flights.get(&echo.sequence).filter(|flight| flight.ticket == ticket) else {
            return Ok(Some(Heard::Again(ticket)));
        };
        if from != Some(flight.to) {
            return Ok(Some(Heard::Stray));
        }
        let elapsed = now.saturating_duration_since(flight.steady);
        // The two stamps are of the wall clock. They count unless it was set between them.
        let stamped = stamp.and_then(|stamp| stamp.checked_sub(flight.wall)).filter(|&rtt| rtt <= elapsed);
        self.flights.remove(&echo.sequence);
        Ok(Some(Heard::Reply { ticket, rtt: stamped.unwrap_or(elapsed), stamped: stamped.is_some() }))
    }

    fn error(&mut self) -> Result<Option<Heard>, Errno> {
        let mut bytes = [0; ROOM];
        let mut room = [IoSliceMut::new(&mut bytes)];
        let message = recvmsg::<SockaddrStorage>(
            self.socket.as_raw_fd(),
            &mut room,
            Some(&mut self.control),
            MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE,
        )?;
        let errno = message.cmsgs().ok().into_iter().flatten().find_map(said);
        let asked = message.address.and_then(address);
        let length = message.bytes.min(ROOM);
        // The request as the router quotes it: eight bytes of it at least, so perhaps without the proof.
        let quoted = packet::read(self.family, Direction::Request, bytes.get(..length).unwrap_or_default());
        let of = quoted.filter(|echo| !self.raw || echo.id == self.id).and_then(|echo| {
            let flight = self.flights.get(&echo.sequence)?;
            let proven =
                echo.payload.len() < packet::LENGTH - 8 || echo.ticket(&self.secret) == Some(flight.ticket);
            (proven && asked == Some(flight.to)).then_some((echo.sequence, flight.ticket))
        });
        let (Some((sequence, ticket)), Some(errno)) = (of, errno) else {
            return Ok(None);
        };
        Ok(match failure::lost(errno) {
            // Such as 'too long': says nothing final.
            Lost::Local | Lost::Timeout => None,
            lost => {
                self.flights.remove(&sequence);
                Some(Heard::Lost(ticket, lost))
            }
        })
    }

    fn free_sequence(&mut self) -> Option<u16> {
        if self.flights.len() > usize::from(u16::MAX) {
            return None;
        }
        while self.flights.contains_key(&self.next) {
            self.next = self.next.wrapping_add(1);
        }
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        Some(sequence)
    }
}

impl AsFd for Icmp {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

/// Opens an ICMP socket that does not block, stamps what it receives and keeps what is said of its requests in its error
/// queue; and whether it is a raw one, for want of the right to a ping socket.
///
/// # Errors
/// [`Error::NotPermitted`] where this process may open neither; [`Error::Socket`] for anything else.
pub fn open(family: Family) -> Result<(OwnedFd, bool), Error> {
    let failed = |errno: Errno| Error::Socket { family, source: errno.into() };
    let (socket, raw) = match open_as(family, SockType::Datagram) {
        Ok(socket) => (socket, false),
        Err(Errno::EACCES | Errno::EPERM) => match open_as(family, SockType::Raw) {
            Ok(socket) => (socket, true),
            Err(Errno::EACCES | Errno::EPERM) => return Err(not_permitted(family)),
            Err(errno) => return Err(failed(errno)),
        },
        Err(errno) => return Err(failed(errno)),
    };
    hear_errors(&socket, family).map_err(failed)?;
    Ok((socket, raw))
}

/// Has a socket stamp what it receives (`SO_TIMESTAMPNS`) and keep what is said of its packets in its error queue
/// (`IP_RECVERR`).
///
/// # Errors
/// What setsockopt(2) says.
pub fn hear_errors(socket: &impl AsFd, family: Family) -> Result<(), Errno> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    match family {
        Family::V4 => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        Family::V6 => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    }
}

fn open_as(family: Family, kind: SockType) -> Result<OwnedFd, Errno> {
    let (domain, protocol) = match family {
        Family::V4 => (AddressFamily::Inet, SockProtocol::Icmp),
        Family::V6 => (AddressFamily::Inet6, SockProtocol::IcmpV6),
    };
    socket(domain, kind, SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK, protocol)
}

fn not_permitted(family: Family) -> Error {
    Error::NotPermitted {
        family,
        gid: nix::unistd::getegid().as_raw(),
        program: std::env::current_exe()
            .map_or_else(|_| "the program".to_owned(), |path| path.display().to_string()),
    }
}

/// When the kernel received a message, since the Unix epoch.
#[must_use]
pub fn stamp(message: ControlMessageOwned) -> Option<Duration> {
    match message {
        ControlMessageOwned::ScmTimestampns(stamp) => {
            Some(Duration::new(u64::try_from(stamp.tv_sec()).ok()?, u32::try_from(stamp.tv_nsec()).ok()?))
        }
        _ => None,
    }
}

/// What an entry of the error queue says.
fn said(message: ControlMessageOwned) -> Option<Errno> {
    match message {
        ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
            Some(Errno::from_raw(i32::try_from(error.ee_errno).ok()?))
        }
        _ => None,
    }
}

/// The IP address in a socket address.
#[must_use]
pub fn address(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}
