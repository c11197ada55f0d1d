//! Asks the kernel: which route, which interface, which neighbour.

use std::net::IpAddr;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::time::Duration;

use crosswatch_shared::evidence::{Neighbour, NeighbourState, Part, Route, RouteKind};
use nix::errno::Errno;
use nix::poll::PollFlags;
use nix::sys::socket::{
    AddressFamily, MsgFlags, NetlinkAddr, SockFlag, SockProtocol, SockType, recvfrom, sendto, socket,
};

use crate::moment::{Deadline, Moment};
use crate::netlink::{self, Answer};

/// The kernel answers at once, if at all.
const ANSWER: Duration = Duration::from_millis(500);
/// What it sends at once is no longer.
const ROOM: usize = 32 * 1024;

pub(crate) struct Kernel(Result<OwnedFd, Errno>);

/// A route, and the index of the interface it leaves by.
pub(crate) struct Found {
    pub(crate) route: Route,
    pub(crate) index: Option<u32>,
}

impl Kernel {
    pub(crate) fn open() -> Self {
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        Self(socket(AddressFamily::Netlink, SockType::Raw, flags, SockProtocol::NetlinkRoute))
    }

    pub(crate) fn route(&self, target: IpAddr, deadline: Deadline) -> Result<Found, String> {
        let until = deadline.or_in(ANSWER);
        let none = |kind| Route {
            kind,
            source: None,
            gateway: None,
            interface: None,
            table: None,
            route_mtu: None,
            interface_mtu: None,
        };
        let answer = self.ask(&netlink::route(target, 1), 1, until)?;
        let Answer::Route { kind, source, gateway, index, table, mtu } = answer else {
            let kind = match answer {
                // What fib_props of the kernel's net/ipv4/fib_semantics.c makes of the kinds of route.
                Answer::Refused(errno) => match Errno::from_raw(errno) {
                    Errno::ENETUNREACH => RouteKind::None,
                    Errno::EHOSTUNREACH => RouteKind::Unreachable,
                    Errno::EINVAL => RouteKind::Blackhole,
                    Errno::EACCES => RouteKind::Prohibit,
                    errno => return Err(format!("the kernel does not tell the route: {}", errno.desc())),
                },
                _ => return Err("the kernel does not tell the route".to_owned()),
            };
            return Ok(Found { route: none(kind), index: None });
        };
        let link = index.map(|index| self.ask(&netlink::link(index, 2), 2, until));
        let (interface, interface_mtu) = match link {
            Some(Ok(Answer::Link { name, mtu })) => (name, mtu),
            _ => (None, None),
        };
        let table = Some(table).filter(|&table| table > 0);
        let route = Route { kind, source, gateway, interface, table, route_mtu: mtu, interface_mtu };
        Ok(Found { route, index })
    }

    /// Asked after all else, so beyond the deadline too, which its answer hardly moves.
    pub(crate) fn neighbour(&self, address: IpAddr, index: u32) -> Part<Neighbour> {
        let until = Deadline::new(Moment::now(), ANSWER);
        match self.ask(&netlink::neighbour(address, index, 3), 3, until) {
            Ok(Answer::Neighbour { state, link_address }) => Part::Seen(Neighbour {
                address,
                state,
                link_address: link_address.filter(|bytes| !bytes.is_empty()).map(|bytes| colons(&bytes)),
            }),
            Ok(Answer::Refused(errno)) if Errno::from_raw(errno) == Errno::ENOENT => {
                Part::Seen(Neighbour { address, state: NeighbourState::None, link_address: None })
            }
            Ok(Answer::Refused(errno)) => {
                let why = Errno::from_raw(errno).desc();
                Part::absent(&format!("the kernel does not tell the neighbour: {why}"))
            }
            Ok(_) => Part::absent("the kernel does not tell the neighbour"),
            Err(why) => Part::absent(&why),
        }
    }

    fn ask(&self, request: &[u8], sequence: u32, until: Deadline) -> Result<Answer, String> {
        let failed = |errno: &Errno| format!("the kernel cannot be asked (rtnetlink): {}", errno.desc());
        let socket = self.0.as_ref().map_err(failed)?;
        sendto(socket.as_raw_fd(), request, &NetlinkAddr::new(0, 0), MsgFlags::MSG_DONTWAIT)
            .map_err(|errno| failed(&errno))?;
        let mut room = vec![0; ROOM];
        loop {
            let (length, from) = match recvfrom::<NetlinkAddr>(socket.as_raw_fd(), &mut room) {
                Ok(received) => received,
                // Mostly it has answered before it took the request off our hands.
                Err(Errno::EAGAIN | Errno::EINTR) if !until.is_past() => {
                    until.wait(&[socket.as_fd()], PollFlags::POLLIN);
                    continue;
                }
                Err(Errno::EAGAIN | Errno::EINTR) => {
                    return Err("the kernel did not answer (rtnetlink)".to_owned());
                }
                Err(errno) => return Err(failed(&errno)),
            };
            // Only the kernel's own word, not another process's.
            if from.is_some_and(|from| from.pid() == 0) {
                return netlink::read(room.get(..length).unwrap_or_default(), sequence);
            }
        }
    }
}

fn colons(bytes: &[u8]) -> String {
    let pairs: Vec<_> = bytes.iter().take(32).map(|byte| format!("{byte:02x}")).collect();
    pairs.join(":")
}
