//! TCP connections opened to be timed, and closed again.
//!
//! The round-trip time is that of the handshake, with the process's own stamps. A lost SYN is sent again by the kernel
//! after a second, so a reply later than that may have taken two tries.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollEvent, EpollFlags};
use socket2::{Domain, Protocol, Socket, Type};

use crate::failure;
use crate::release::Ticket;

/// Connections being opened.
#[derive(Debug)]
pub(crate) struct Tcp {
    flights: HashMap<u64, Flight>,
    next: u64,
}

#[derive(Debug)]
struct Flight {
    ticket: Ticket,
    socket: Socket,
    sent: Instant,
}

/// A connection begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Begun {
    /// Already open, after this time.
    Open(Duration),
    /// The epoll will say, under this key.
    Waiting(u64),
}

impl Tcp {
    /// Its keys count up from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { flights: HashMap::new(), next: first }
    }

    /// Begins to open a connection.
    pub(crate) fn connect(&mut self, ticket: Ticket, to: SocketAddr, epoll: &Epoll) -> Result<Begun, Errno> {
        let socket =
            Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
                .map_err(number)?;
        #[allow(clippy::disallowed_methods, reason = "the moment of sending")]
        let sent = Instant::now();
        match socket.connect(&to.into()).map_err(number) {
            Ok(()) => return Ok(Begun::Open(sent.elapsed())),
            Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let key = self.next;
        self.next += 1;
        let wanted = EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT;
        epoll.add(&socket, EpollEvent::new(wanted, key))?;
        let flight = Flight { ticket, socket, sent };
        self.flights.insert(key, flight);
        Ok(Begun::Waiting(key))
    }

    /// What has become of a connection of which the epoll spoke; `None` when it is no longer waited for.
    pub(crate) fn ready(&mut self, key: u64, now: Instant) -> Option<(Ticket, Result<Duration, Lost>)> {
        let flight = self.flights.remove(&key)?;
        let outcome = match flight.socket.take_error() {
            Ok(None) => Ok(now.saturating_duration_since(flight.sent)),
            Ok(Some(error)) | Err(error) => Err(failure::lost(number(error))),
        };
        Some((flight.ticket, outcome))
    }

    /// No longer waits for this one, and closes it.
    pub(crate) fn forget(&mut self, key: u64) {
        self.flights.remove(&key);
    }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn number(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
