//! An ICMP echo socket that sends with any TTL and size, and hears replies and what routers say.

use std::collections::HashMap;
use std::hash::{BuildHasher, RandomState};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use crosswatch_prober::packet::{self, Direction, Mark, Secret};
use crosswatch_prober::release::Ticket;
use crosswatch_prober::socket::open;
use crosswatch_prober::{Error, Family};
use crosswatch_shared::evidence::Said;
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{MsgFlags, SockaddrStorage, sendto, setsockopt, sockopt};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::moment::{Deadline, Moment};
use crate::receive::{self, Word};

/// A pending error of the socket fails the next send once: then it is tried again.
const SENDS: usize = 3;

/// So many messages are read before the caller gets its turn, so that a flood cannot outlast the deadline.
const AT_ONCE: usize = 1024;

#[derive(Debug)]
pub(crate) struct Echo {
    family: Family,
    socket: OwnedFd,
    raw: bool,
    /// Ours on a raw socket; a ping socket's is the kernel's affair.
    id: u16,
    next: u16,
    sent: HashMap<u16, Sent>,
    secret: Secret,
}

#[derive(Clone, Copy, Debug)]
struct Sent {
    to: IpAddr,
    key: u32,
    at: Moment,
}

/// An answer to a request.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Heard {
    /// What the request was sent with.
    pub(crate) key: u32,
    /// Who answered; none where this machine did, of its own.
    pub(crate) from: Option<IpAddr>,
    pub(crate) said: Said,
    /// In bytes.
    pub(crate) mtu: Option<u32>,
    pub(crate) rtt: Duration,
}

impl Echo {
    pub(crate) fn open(family: Family) -> Result<Self, String> {
        let (socket, raw) = open(family).map_err(|error| match error {
            // Said at length when the collector starts.
            Error::NotPermitted { gid, .. } => format!(
                "{family}: neither ping sockets (net.ipv4.ping_group_range lacks group {gid}) nor raw ones (no CAP_NET_RAW)"
            ),
            error => error.to_string(),
        })?;
        let [a, b, c, d, ..] = RandomState::new().hash_one(0u8).to_be_bytes();
        Ok(Self {
            family,
            socket,
            raw,
            id: u16::from_be_bytes([a, b]),
            next: u16::from_be_bytes([c, d]),
            sent: HashMap::new(),
            secret: Secret::default(),
        })
    }

    /// Has each packet sent undivided, whatever the kernel has learned of the way (`IP_PMTUDISC_PROBE`, ip(7)).
    pub(crate) fn never_divide(&self) -> Result<(), String> {
        match self.family {
            Family::V4 => set_ip_mtu_discover(&self.socket, Ipv4PathMtuDiscovery::PROBE),
            Family::V6 => set_ipv6_mtu_discover(&self.socket, Ipv6PathMtuDiscovery::PROBE),
        }
        .map_err(|errno| format!("packets cannot be kept undivided: {errno}"))
    }

    pub(crate) fn set_ttl(&self, ttl: u8) -> Result<(), Errno> {
        match self.family {
            Family::V4 => setsockopt(&self.socket, sockopt::Ipv4Ttl, &i32::from(ttl)),
            Family::V6 => setsockopt(&self.socket, sockopt::Ipv6Ttl, &i32::from(ttl)),
        }
    }

    /// Sends a request; as long as this packet in bytes with its IP header, or as short as it can be.
    pub(crate) fn send(&mut self, to: SocketAddr, key: u32, size: Option<u32>) -> Result<(), Errno> {
        let sequence = self.next;
        self.next = self.next.wrapping_add(1);
        let mark = mark(key, sequence);
        let mut request = packet::request(self.family, self.id, sequence, mark, &self.secret).to_vec();
        if let Some(size) = size {
            let header = match self.family {
                Family::V4 => 20,
                Family::V6 => 40,
            };
            let length = usize::try_from(size).unwrap_or(usize::MAX).clamp(0, 65_535).saturating_sub(header);
            // Zeros at the end change no checksum.
            request.resize(length.max(request.len()), 0);
        }
        let address = SockaddrStorage::from(to);
        let mut failed = Errno::ENOBUFS;
        for _ in 0..SENDS {
            let at = Moment::now();
            match sendto(self.socket.as_raw_fd(), &request, &address, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => {
                    self.sent.insert(sequence, Sent { to: to.ip(), key, at });
                    return Ok(());
                }
                Err(errno) => failed = errno,
            }
        }
        Err(failed)
    }

    /// Waits for answers until then; returns what has come as soon as something has.
    pub(crate) fn hear(&mut self, until: Deadline) -> Vec<Heard> {
        until.wait(&[self.socket.as_fd()], PollFlags::POLLIN);
        let mut heard = Vec::new();
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
        heard
    }

    fn reply(&self) -> Result<Option<Heard>, Errno> {
        let received = receive::message(&self.socket)?;
        let icmp = if self.raw && self.family == Family::V4 {
            packet::after_ipv4_header(received.bytes())
        } else {
            Some(received.bytes())
        };
        let echo = icmp.and_then(|icmp| packet::read(self.family, Direction::Reply, icmp));
        Ok(echo.filter(|echo| !self.raw || echo.id == self.id).and_then(|echo| {
            let &Sent { to, key, at } = self.sent.get(&echo.sequence)?;
            let proof = mark(key, echo.sequence);
            let ours = echo.mark(&self.secret) == Some(proof) && received.address == Some(to);
            let rtt = at.until(received.stamp);
            ours.then_some(Heard { key, from: Some(to), said: Said::Reply, mtu: None, rtt })
        }))
    }

    fn error(&self) -> Result<Option<Heard>, Errno> {
        let received = receive::error(&self.socket)?;
        // The request as the router quotes it: eight bytes of it at least, so mostly without the proof.
        let quoted = packet::read(self.family, Direction::Request, received.bytes());
        let sent = quoted
            .filter(|echo| !self.raw || echo.id == self.id)
            .and_then(|echo| self.sent.get(&echo.sequence))
            .filter(|sent| received.address == Some(sent.to));
        let (Some(&Sent { key, at, .. }), Some(Word { from, said, mtu })) = (sent, received.word) else {
            return Ok(None);
        };
        Ok(Some(Heard { key, from, said, mtu, rtt: at.until(received.stamp) }))
    }
}

/// What a request carries, by which its reply is known.
fn mark(key: u32, sequence: u16) -> Mark {
    Mark { ticket: Ticket { probe: key, number: sequence.into() }, index: 0 }
}
