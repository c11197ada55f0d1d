//! Many messages a system call: `sendmmsg(2)` and `recvmmsg(2)`, and what the kernel tells beside each message.

use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};

use nix::errno::Errno;
use nix::libc;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockaddrStorage, recvmmsg};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

use crate::packet::LENGTH;
use crate::socket::address;
use crate::stamp;

/// So many messages a call.
pub(crate) const BATCH: usize = 64;

/// Room for one message: nothing that counts is longer than an IPv4 header with options and our request.
const ROOM: usize = 256;

/// Room for what the kernel tells beside a message: stamps, an error with the address of who said so.
const CONTROL: usize = 192;

/// What a message is filled up with to its size.
static FILLING: [u8; 65_535] = [0; 65_535];

/// A message to be sent.
#[derive(Clone, Debug)]
pub(crate) struct Outgoing {
    pub(crate) bytes: [u8; LENGTH],
    /// So many zeros follow.
    pub(crate) filling: usize,
    pub(crate) to: IpAddr,
}

/// A message that came in.
#[derive(Debug, Default)]
pub(crate) struct Incoming<'a> {
    /// Of a long one the beginning.
    pub(crate) bytes: &'a [u8],
    /// From whom it is; on the error queue, to whom what it is about was sent.
    pub(crate) peer: Option<IpAddr>,
    /// The kernel's stamp, in nanoseconds since the Unix epoch.
    pub(crate) stamp: Option<i64>,
    /// What the error queue tells.
    pub(crate) said: Option<Said>,
}

/// An entry of the error queue (ip(7), `struct sock_extended_err`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Said {
    /// The packet that the kernel calls so has been sent.
    Sent(u32),
    /// Sending or the way failed by this error, of this origin's own making or not; with `EMSGSIZE` the largest size.
    Failed { errno: Errno, here: bool, info: u32 },
}

/// Sends as many as it can of the first; how many those were.
pub(crate) fn send(socket: &OwnedFd, messages: &[Outgoing]) -> Result<usize, Errno> {
    let messages = messages.get(..BATCH).unwrap_or(messages);
    let addresses: Vec<SocketAddrAny> =
        messages.iter().map(|message| SocketAddr::new(message.to, 0).into()).collect();
    let slices: Vec<[IoSlice<'_>; 2]> = messages
        .iter()
        .map(|message| {
            let filling = FILLING.get(..message.filling).unwrap_or(&FILLING);
            [IoSlice::new(&message.bytes), IoSlice::new(filling)]
        })
        .collect();
    let mut controls: Vec<SendAncillaryBuffer<'_, '_, '_>> =
        messages.iter().map(|_| SendAncillaryBuffer::default()).collect();
    let mut headers: Vec<MMsgHdr<'_>> = addresses
        .iter()
        .zip(&slices)
        .zip(&mut controls)
        .map(|((address, slices), control)| MMsgHdr::new_with_addr(address, slices, control))
        .collect();
    sendmmsg(socket, &mut headers, SendFlags::DONTWAIT).map_err(|error| Errno::from_raw(error.raw_os_error()))
}

/// Where messages are read to.
#[derive(Debug)]
pub(crate) struct Inbox(Box<[u8]>);

impl Inbox {
    pub(crate) fn new() -> Self {
        Self(vec![0; BATCH * ROOM].into_boxed_slice())
    }

    /// Reads what is there, up to [`BATCH`] messages; how many those were.
    pub(crate) fn receive(
        &mut self,
        socket: &OwnedFd,
        flags: MsgFlags,
        mut each: impl FnMut(&Incoming<'_>),
    ) -> Result<usize, Errno> {
        let mut slices: Vec<[IoSliceMut<'_>; 1]> =
            self.0.chunks_exact_mut(ROOM).map(|room| [IoSliceMut::new(room)]).collect();
        // Anew each time: the kernel writes lengths into them, which the wrapper does not set back.
        let mut headers =
            MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(Vec::with_capacity(CONTROL)));
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)?;
        let mut count = 0;
        for message in messages {
            count += 1;
            each(&incoming(&message));
        }
        Ok(count)
    }
}

fn incoming<'a>(message: &RecvMsg<'_, 'a, SockaddrStorage>) -> Incoming<'a> {
    let mut incoming = Incoming {
        bytes: message.iovs().next().unwrap_or_default(),
        peer: message.address.and_then(address),
        ..Incoming::default()
    };
    for told in message.cmsgs().ok().into_iter().flatten() {
        match told {
            ControlMessageOwned::ScmTimestampsns(stamps) => incoming.stamp = stamp::nanos(stamps.system),
            ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                incoming.said = said(error);
            }
            _ => {}
        }
    }
    incoming
}

fn said(error: libc::sock_extended_err) -> Option<Said> {
    if error.ee_origin == libc::SO_EE_ORIGIN_TIMESTAMPING {
        return Some(Said::Sent(error.ee_data));
    }
    Some(Said::Failed {
        errno: Errno::from_raw(i32::try_from(error.ee_errno).ok()?),
        here: error.ee_origin == libc::SO_EE_ORIGIN_LOCAL,
        info: error.ee_info,
    })
}
