//! How an ICMP socket is opened and set up.

use std::os::fd::{AsFd, OwnedFd};

use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, SockFlag, SockProtocol, SockType, TimestampingFlag, getsockopt, setsockopt, socket,
    sockopt,
};
use nix::{getsockopt_impl, libc, sockopt_impl};
use rustix::net::sockopt::{
    Ipv4PathMtuDiscovery, Ipv6PathMtuDiscovery, set_ip_mtu_discover, set_ipv6_mtu_discover,
};

use crate::Error;
use crate::family::Family;

/// What the kernel is asked to keep for a socket: some thousands of replies and stamps. Without a privilege it gives no
/// more than net.core.rmem_max.
const BUFFER: usize = 8 << 20;

/// A ping socket where the kernel allows it, else a raw one; and whether it is raw. `whole`: what it sends has Don't
/// Fragment set, whatever is known of the way.
pub(crate) fn open(family: Family, whole: bool) -> Result<(OwnedFd, bool), Error> {
    let failed = |errno: Errno| Error::Socket { family, source: errno.into() };
    let (socket, raw) = ping_or_raw(family)?;
    stamps(&socket, true).map_err(failed)?;
    keep_errors(&socket, family).map_err(failed)?;
    // More room where the machine allows it; what is dropped without it is counted.
    if setsockopt(&socket, sockopt::RcvBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::RcvBuf, &BUFFER);
    }
    if setsockopt(&socket, sockopt::SndBufForce, &BUFFER).is_err() {
        let _ = setsockopt(&socket, sockopt::SndBuf, &BUFFER);
    }
    if whole {
        // PROBE and not DO: DO holds what is sent against the path MTU that the kernel remembers for ten minutes, so
        // that a way which was healed would stay too narrow as long (ip(7), IP_MTU_DISCOVER).
        match family {
            Family::V4 => set_ip_mtu_discover(&socket, Ipv4PathMtuDiscovery::PROBE),
            Family::V6 => set_ipv6_mtu_discover(&socket, Ipv6PathMtuDiscovery::PROBE),
        }
        .map_err(|error| failed(Errno::from_raw(error.raw_os_error())))?;
    }
    Ok((socket, raw))
}

/// A ping socket where the kernel allows it, else a raw one; and whether it is raw.
pub(crate) fn ping_or_raw(family: Family) -> Result<(OwnedFd, bool), Error> {
    let failed = |errno: Errno| Error::Socket { family, source: errno.into() };
    match of_kind(family, SockType::Datagram) {
        Ok(socket) => Ok((socket, false)),
        Err(Errno::EACCES | Errno::EPERM) => match of_kind(family, SockType::Raw) {
            Ok(socket) => Ok((socket, true)),
            Err(Errno::EACCES | Errno::EPERM) => Err(not_permitted(family)),
            Err(errno) => Err(failed(errno)),
        },
        Err(errno) => Err(failed(errno)),
    }
}

/// Has a socket keep what is said of its packets in its error queue (`IP_RECVERR`).
pub(crate) fn keep_errors(socket: &impl AsFd, family: Family) -> Result<(), Errno> {
    match family {
        Family::V4 => setsockopt(socket, sockopt::Ipv4RecvErr, &true),
        Family::V6 => setsockopt(socket, sockopt::Ipv6RecvErr, &true),
    }
}

/// Has the kernel stamp what is sent and what comes in; those of sending come over the error queue, numbered from 0 again
/// each time that the numbering is switched on (Documentation/networking/timestamping in the kernel's source).
fn stamps(socket: &OwnedFd, numbered: bool) -> Result<(), Errno> {
    let mut wanted = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
    wanted.set(TimestampingFlag::SOF_TIMESTAMPING_OPT_ID, numbered);
    setsockopt(socket, sockopt::Timestamping, &wanted)
}

/// The next packet is number 0. Whether a send that failed was counted differs from failure to failure and from kernel
/// to kernel, so after one the count is set.
pub(crate) fn recount(socket: &OwnedFd) -> Result<(), Errno> {
    stamps(socket, false)?;
    stamps(socket, true)
}

/// How many messages the socket has dropped for want of room; ever, and counting around at 2^32. `SO_RXQ_OVFL` counts the
/// same, but tells only with the next message that finds room: too late to judge a deadline after a stall.
pub(crate) fn dropped(socket: &OwnedFd) -> Option<u32> {
    // The last of the nine figures: SK_MEMINFO_DROPS in linux/sock_diag.h.
    getsockopt(socket, Memory).ok().map(|[.., dropped]| dropped)
}

sockopt_impl!(
    /// What a socket has used of its memory, as socket(7) has it of `SO_MEMINFO`: the figures of `SK_MEMINFO_…`.
    Memory, GetOnly, libc::SOL_SOCKET, libc::SO_MEMINFO, [u32; 9]
);

fn of_kind(family: Family, kind: SockType) -> Result<OwnedFd, Errno> {
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
