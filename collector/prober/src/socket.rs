//! ICMP sockets, and what the kernel tells of a message, for whoever else looks at a link from this machine one message
//! at a time.

use std::net::IpAddr;
use std::os::fd::{AsFd, OwnedFd};
use std::time::Duration;

use nix::errno::Errno;
use nix::sys::socket::{ControlMessageOwned, SockaddrStorage, setsockopt, sockopt};

use crate::family::Family;
use crate::{Error, open};

/// Opens an ICMP socket that does not block, stamps what it receives and keeps what is said of its requests in its error
/// queue; and whether it is a raw one, for want of the right to a ping socket.
///
/// # Errors
/// [`Error::NotPermitted`] where this process may open neither; [`Error::Socket`] for anything else.
pub fn open(family: Family) -> Result<(OwnedFd, bool), Error> {
    let (socket, raw) = open::ping_or_raw(family)?;
    hear_errors(&socket, family).map_err(|errno| Error::Socket { family, source: errno.into() })?;
    Ok((socket, raw))
}

/// Has a socket stamp what it receives (`SO_TIMESTAMPNS`) and keep what is said of its packets in its error queue
/// (`IP_RECVERR`).
///
/// # Errors
/// What setsockopt(2) says.
pub fn hear_errors(socket: &impl AsFd, family: Family) -> Result<(), Errno> {
    setsockopt(socket, sockopt::ReceiveTimestampns, &true)?;
    open::keep_errors(socket, family)
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

/// The IP address in a socket's address.
#[must_use]
pub fn address(address: SockaddrStorage) -> Option<IpAddr> {
    let v4 = address.as_sockaddr_in().map(|v4| v4.ip().into());
    v4.or_else(|| address.as_sockaddr_in6().map(|v6| v6.ip().into()))
}
