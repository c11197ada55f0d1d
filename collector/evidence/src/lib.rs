//! What is looked at once a probe is lost, from the machine it was sent from: one bounded [`Evidence`].
//!
//! [`capture`] blocks, on a thread of the caller's choice, for [`Request::within`] at most. The pure parts are [`netlink`]
//! (what is asked of the kernel, and its answers), [`said`] (what an ICMP error means), [`trace`] (which TTL is sent next,
//! and what the answers make of the path) and [`search`] (which size is tried next). The rest are sockets: an echo
//! socket each for path, sizes and controls, a socket for each TCP or UDP packet, one netlink socket. Nothing is kept
//! between two captures, and nothing here decides when one is due.

pub mod netlink;
pub mod said;
pub mod search;
pub mod trace;

mod control;
mod echo;
mod flights;
mod kernel;
mod moment;
mod path;
mod receive;
mod sweep;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV6};
use std::thread::{self, Scope, ScopedJoinHandle};
use std::time::Duration;

use crosswatch_prober::Family;
use crosswatch_shared::evidence::{self, Evidence, Part, Piece, Route};

use crate::kernel::{Found, Kernel};
use crate::moment::{Deadline, Moment};

/// Long enough for every part to come to its end, also where nothing answers.
pub const WITHIN: Duration = Duration::from_secs(5);

/// What to look at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the lost probe was sent.
    pub target: IpAddr,
    /// What it sent there.
    pub protocol: Protocol,
    /// How long looking may take, such as [`WITHIN`]; what is not finished then is cut off.
    pub within: Duration,
}

/// What the lost probe sends.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Protocol {
    /// ICMP or `ICMPv6` echo.
    Icmp,
    /// A TCP connection.
    Tcp {
        /// To this port.
        port: u16,
    },
    /// A UDP datagram.
    Udp {
        /// To this port.
        port: u16,
        /// What is in it: what the probe itself sends, so that who answers that answers this.
        payload: Vec<u8>,
    },
}

impl Protocol {
    const fn port(&self) -> Option<u16> {
        match *self {
            Self::Icmp => None,
            Self::Tcp { port } | Self::Udp { port, .. } => Some(port),
        }
    }
}

/// Looks at everything at once and says what it saw. What cannot be looked at is a part that says why.
///
/// Sends at most 30 packets a try and three tries of the probe's protocol, and echo requests: three to this machine
/// and its gateway each, and up to 57 in each step of the size search, of which there are five at most. What routers
/// say of sizes on the way the kernel learns from, as it does from any packet: [`Route::route_mtu`] of the next capture
/// may tell.
#[must_use]
pub fn capture(request: &Request) -> Evidence {
    let began = Moment::now();
    let deadline = Deadline::new(began, request.within);
    let target = request.target;
    let word = match request.protocol {
        Protocol::Icmp => evidence::Protocol::Icmp,
        Protocol::Tcp { .. } => evidence::Protocol::Tcp,
        Protocol::Udp { .. } => evidence::Protocol::Udp,
    };
    let mut evidence = Evidence::new(began.at(), word, target, request.protocol.port());

    let kernel = Kernel::open();
    let (route, index) = match kernel.route(target, deadline) {
        Ok(Found { route, index }) => (Part::Seen(route), index),
        Err(why) => (Part::absent(&why), None),
    };
    let seen = route.seen();
    let gateway = seen.and_then(|route| route.gateway);
    let source = seen.and_then(|route| route.source);
    let no_way = seen.is_some_and(|route| !route.kind.leads_on());

    thread::scope(|scope| {
        let path = start(scope, "path", || path::path(request, source, deadline));
        let sweep = start(scope, "sweep", || sweep::sweep(target, seen, deadline));
        let loopback = start(scope, "loopback", || control::ping(loopback(target), deadline));
        let gateway = match gateway {
            Some(gateway) => start(scope, "gateway", move || control::ping(scoped(gateway, index), deadline)),
            None => Err(no_gateway(seen, no_way)),
        };
        let cut_off = &mut evidence.cut_off;
        evidence.path = end(path, Piece::Path, cut_off);
        evidence.sweep = end(sweep, Piece::Sweep, cut_off);
        evidence.loopback = end(loopback, Piece::Loopback, cut_off);
        evidence.gateway = end(gateway, Piece::Gateway, cut_off);
    });

    // Last: what was sent has made the kernel ask for the next hop.
    evidence.neighbour = match (index, no_way) {
        (Some(index), false) => kernel.neighbour(gateway.unwrap_or(target), index),
        _ => Part::absent("there is no next hop"),
    };
    evidence.route = route;
    evidence.took_ms = milliseconds(Moment::now().since(began));
    evidence
}

/// A part, and whether it was cut off by the deadline.
type Seen<T> = (Part<T>, bool);

type Started<'scope, T> = Result<ScopedJoinHandle<'scope, Seen<T>>, String>;

fn start<'scope, T: Send + 'scope>(
    scope: &'scope Scope<'scope, '_>,
    name: &str,
    look: impl FnOnce() -> Seen<T> + Send + 'scope,
) -> Started<'scope, T> {
    thread::Builder::new()
        .name(format!("evidence-{name}"))
        .spawn_scoped(scope, look)
        .map_err(|error| format!("no thread for it: {error}"))
}

fn end<T>(started: Started<'_, T>, piece: Piece, cut_off: &mut Vec<Piece>) -> Part<T> {
    match started.map(ScopedJoinHandle::join) {
        Ok(Ok((part, cut))) => {
            cut_off.extend(cut.then_some(piece));
            part
        }
        Ok(Err(_)) => Part::absent("the looking itself failed"),
        Err(why) => Part::absent(&why),
    }
}

fn no_gateway(route: Option<&Route>, no_way: bool) -> String {
    match (route, no_way) {
        (None, _) => "the route is not known",
        (_, true) => "there is no route to the target",
        (_, false) => "the target is on the link itself",
    }
    .to_owned()
}

fn loopback(target: IpAddr) -> SocketAddr {
    let address: IpAddr = match Family::of(target) {
        Family::V4 => Ipv4Addr::LOCALHOST.into(),
        Family::V6 => Ipv6Addr::LOCALHOST.into(),
    };
    SocketAddr::new(address, 0)
}

/// An address with the link it is on, without which a link-local one means nothing.
fn scoped(address: IpAddr, index: Option<u32>) -> SocketAddr {
    match address {
        IpAddr::V6(v6) if v6.is_unicast_link_local() => {
            SocketAddrV6::new(v6, 0, 0, index.unwrap_or(0)).into()
        }
        _ => SocketAddr::new(address, 0),
    }
}

/// In milliseconds, to the microsecond.
fn milliseconds(duration: Duration) -> f64 {
    (duration.as_secs_f64() * 1e6).round() / 1e3
}
