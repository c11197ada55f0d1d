//! TCP connections and UDP datagrams with a TTL each, on a socket each: whose answer it is, the socket tells.
//!
//! So each is a flow of its own: where routers share the load among several ways by flow, hops may be of different ways.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::time::Duration;

use crosswatch_prober::Family;
use crosswatch_prober::socket::hear_errors;
use crosswatch_shared::evidence::Said;
use nix::errno::Errno;
use nix::poll::PollFlags;
use socket2::{Domain, Protocol, Socket, Type};

use crate::moment::{Deadline, Moment};
use crate::receive::{self, Received, Word};
use crate::trace::Answer;

/// The kernel sends a SYN again after this; who answers later may have answered either.
const SECOND_SYN: Duration = Duration::from_secs(1);

#[derive(Debug)]
pub(crate) struct Flights {
    to: SocketAddr,
    /// The datagram of UDP; none for TCP.
    datagram: Option<Vec<u8>>,
    flying: Vec<Flight>,
}

#[derive(Debug)]
struct Flight {
    ttl: u8,
    socket: Socket,
    sent: Moment,
}

/// What a socket told.
enum Told {
    Answer(Answer),
    /// It has no more to tell.
    Over,
}

impl Flights {
    pub(crate) fn tcp(to: SocketAddr) -> Self {
        Self { to, datagram: None, flying: Vec::new() }
    }

    pub(crate) fn udp(to: SocketAddr, datagram: Vec<u8>) -> Self {
        Self { datagram: Some(datagram), ..Self::tcp(to) }
    }

    /// Sends one with this TTL.
    pub(crate) fn send(&mut self, ttl: u8) -> Result<(), Errno> {
        let (kind, protocol) = match self.datagram {
            Some(_) => (Type::DGRAM, Protocol::UDP),
            None => (Type::STREAM, Protocol::TCP),
        };
        let socket = Socket::new(Domain::for_address(self.to), kind.nonblocking().cloexec(), Some(protocol))
            .map_err(number)?;
        hear_errors(&socket, Family::of(self.to.ip()))?;
        match self.to {
            SocketAddr::V4(_) => socket.set_ttl_v4(ttl.into()),
            SocketAddr::V6(_) => socket.set_unicast_hops_v6(ttl.into()),
        }
        .map_err(number)?;
        let mut sent = Moment::now();
        match socket.connect(&self.to.into()).map_err(number) {
            Ok(()) | Err(Errno::EINPROGRESS) => {}
            // Refused at once, by this very machine: the socket tells of it no more.
            Err(errno) => return Err(errno),
        }
        if let Some(datagram) = &self.datagram {
            sent = Moment::now();
            socket.send(datagram).map_err(number)?;
        }
        self.flying.push(Flight { ttl, socket, sent });
        Ok(())
    }

    /// Waits for answers until then; returns what has come as soon as something has.
    pub(crate) fn hear(&mut self, until: Deadline) -> Vec<Answer> {
        // A datagram's socket can always be written to.
        let flags = if self.datagram.is_some() { PollFlags::POLLIN } else { PollFlags::POLLOUT };
        let sockets: Vec<_> = self.flying.iter().map(|flight| flight.socket.as_fd()).collect();
        let ready = until.wait(&sockets, flags);
        let mut heard = Vec::new();
        let mut ready = ready.into_iter();
        let (to, udp) = (self.to.ip(), self.datagram.is_some());
        self.flying.retain(|flight| {
            if ready.next() != Some(true) {
                return true;
            }
            match flight.told(to, udp) {
                Some(Told::Answer(answer)) => {
                    heard.push(answer);
                    false
                }
                Some(Told::Over) => false,
                None => true,
            }
        });
        heard
    }
}

impl Flight {
    /// What the socket says, if anything of consequence.
    fn told(&self, to: IpAddr, udp: bool) -> Option<Told> {
        let rtt = |stamp| Some(self.sent.until(stamp)).filter(|&rtt| udp || rtt < SECOND_SYN);
        let reply = |said, stamp| {
            Told::Answer(Answer { ttl: self.ttl, from: Some(to), said, mtu: None, rtt: rtt(stamp) })
        };
        // What is quoted is ours, or the kernel would not have put it here; so only who said what counts.
        if let Ok(Received { stamp, word: Some(Word { from, said, mtu }), .. }) = receive::error(&self.socket)
        {
            return Some(Told::Answer(Answer { ttl: self.ttl, from, said, mtu, rtt: rtt(stamp) }));
        }
        if udp {
            // The socket is connected: nobody but the target can send to it.
            let received = receive::message(&self.socket).ok()?;
            return Some(reply(Said::Reply, received.stamp));
        }
        match self.socket.take_error().map_err(number) {
            Ok(None) if self.socket.peer_addr().is_ok() => Some(reply(Said::Reply, None)),
            Ok(None) => None,
            Ok(Some(error)) => Some(match number(error) {
                Errno::ECONNREFUSED | Errno::ECONNRESET => reply(Said::Refused, None),
                _ => Told::Over,
            }),
            Err(_) => Some(Told::Over),
        }
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn number(error: io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
