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
use crate::heard::{Fate, Heard, Reply};
use crate::packet::Mark;

/// A connection found open so long after its deadline was open in time for all we know: this thread did not look.
const OVERSLEPT: Duration = Duration::from_millis(10);

/// Connections being opened.
#[derive(Debug)]
pub(crate) struct Tcp {
    flights: HashMap<u64, Flight>,
    next: u64,
}

#[derive(Debug)]
struct Flight {
    mark: Mark,
    socket: Socket,
    sent: Instant,
    timeout: Duration,
}

/// A connection begun.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Begun {
    /// Already open, after this time.
    Open(Reply),
    /// The epoll will say, under this key.
    Waiting(u64),
}

impl Tcp {
    /// Its keys count up from `first`.
    pub(crate) fn new(first: u64) -> Self {
        Self { flights: HashMap::new(), next: first }
    }

    /// Begins to open a connection.
    pub(crate) fn connect(
        &mut self,
        mark: Mark,
        to: SocketAddr,
        timeout: Duration,
        epoll: &Epoll,
    ) -> Result<Begun, Errno> {
        let socket =
            Socket::new(Domain::for_address(to), Type::STREAM.nonblocking().cloexec(), Some(Protocol::TCP))
                .map_err(number)?;
        #[allow(clippy::disallowed_methods, reason = "the moment of sending")]
        let sent = Instant::now();
        match socket.connect(&to.into()).map_err(number) {
            Ok(()) => return Ok(Begun::Open(reply(sent.elapsed()))),
            Err(Errno::EINPROGRESS) => {}
            Err(errno) => return Err(errno),
        }
        let key = self.next;
        self.next += 1;
        let wanted = EpollFlags::EPOLLOUT | EpollFlags::EPOLLONESHOT;
        epoll.add(&socket, EpollEvent::new(wanted, key))?;
        let flight = Flight { mark, socket, sent, timeout };
        self.flights.insert(key, flight);
        Ok(Begun::Waiting(key))
    }

    /// What has become of a connection of which the epoll spoke; `None` when it is no longer waited for.
    pub(crate) fn ready(&mut self, key: u64, now: Instant) -> Option<Heard> {
        let Flight { mark, socket, sent, timeout } = self.flights.remove(&key)?;
        let rtt = now.saturating_duration_since(sent);
        let fate = match socket.take_error() {
            Ok(None) if rtt <= timeout => Fate::Reply(reply(rtt)),
            Ok(None) if rtt <= timeout + OVERSLEPT => Fate::Lost(Lost::Timeout),
            Ok(None) => Fate::Local("a connection was looked at too late to be timed".to_owned()),
            Ok(Some(error)) | Err(error) => match failure::lost(number(error)) {
                Lost::Local => Fate::Local("a connection failed on this machine".to_owned()),
                lost => Fate::Lost(lost),
            },
        };
        Some(Heard::Fate(mark, fate))
    }

    /// Whether it is still waited for.
    pub(crate) fn waits(&self, key: u64) -> bool {
        self.flights.contains_key(&key)
    }

    /// Closes it; whether it was still waited for.
    pub(crate) fn forget(&mut self, key: u64) -> bool {
        self.flights.remove(&key).is_some()
    }
}

/// Not called stamped by the process, since no TCP reply is stamped otherwise; it is alone in its sending, so when it came
/// is of no interest.
fn reply(rtt: Duration) -> Reply {
    Reply { rtt, arrived: 0, user_stamped: false, ways: None }
}

#[allow(clippy::needless_pass_by_value, reason = "for map_err")]
fn number(error: std::io::Error) -> Errno {
    Errno::from_raw(error.raw_os_error().unwrap_or(0))
}
