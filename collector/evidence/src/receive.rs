//! One message off a socket: what came in, or an entry of its error queue (`IP_RECVERR`, ip(7)).

use std::io::IoSliceMut;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::fd::{AsFd, AsRawFd};
use std::time::Duration;

use crosswatch_prober::Family;
use crosswatch_prober::socket::{address, stamp};
use crosswatch_shared::evidence::Said;
use nix::errno::Errno;
use nix::libc::sock_extended_err;
use nix::sys::socket::{ControlMessageOwned, MsgFlags, SockaddrIn, SockaddrIn6, SockaddrStorage, recvmsg};

use crate::said;

/// Room for what identifies a message; the rest of a big one is not needed.
const ROOM: usize = 256;

/// Room for a stamp and an entry of the error queue with its offender.
const CONTROL: usize = 512;

/// A message.
#[derive(Debug)]
pub(crate) struct Received {
    bytes: [u8; ROOM],
    length: usize,
    /// Who sent it; of an entry of the error queue, whom our packet was for.
    pub(crate) address: Option<IpAddr>,
    /// When the kernel received it, since the Unix epoch.
    pub(crate) stamp: Option<Duration>,
    /// What is said of our packet; none where it is nothing of its fate.
    pub(crate) word: Option<Word>,
}

/// What is said of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Word {
    /// Who said it; none where the kernel did, of its own.
    pub(crate) from: Option<IpAddr>,
    pub(crate) said: Said,
    /// In bytes.
    pub(crate) mtu: Option<u32>,
}

impl Received {
    /// What came in, or the packet of ours as it is quoted; cut at what is needed.
    pub(crate) fn bytes(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

/// Takes what came in, without waiting.
pub(crate) fn message(socket: &impl AsFd) -> Result<Received, Errno> {
    receive(socket, MsgFlags::MSG_DONTWAIT)
}

/// Takes an entry of the error queue, without waiting.
pub(crate) fn error(socket: &impl AsFd) -> Result<Received, Errno> {
    receive(socket, MsgFlags::MSG_DONTWAIT | MsgFlags::MSG_ERRQUEUE)
}

fn receive(socket: &impl AsFd, flags: MsgFlags) -> Result<Received, Errno> {
    let mut received = Received { bytes: [0; ROOM], length: 0, address: None, stamp: None, word: None };
    let mut room = [IoSliceMut::new(&mut received.bytes)];
    let mut control = vec![0; CONTROL];
    let socket = socket.as_fd().as_raw_fd();
    let message = recvmsg::<SockaddrStorage>(socket, &mut room, Some(&mut control), flags)?;
    let length = message.bytes.min(ROOM);
    let from = message.address.and_then(address);
    let (mut word_of, mut stamped) = (None, None);
    for message in message.cmsgs().ok().into_iter().flatten() {
        match message {
            ControlMessageOwned::Ipv4RecvErr(error, offender) => {
                let from = offender.map(|offender| SockaddrIn::from(offender).ip());
                let known = from.filter(|&from| from != Ipv4Addr::UNSPECIFIED);
                word_of = word(&error, Family::V4, known.map(IpAddr::from));
            }
            ControlMessageOwned::Ipv6RecvErr(error, offender) => {
                let from = offender.map(|offender| SockaddrIn6::from(offender).ip());
                let known = from.filter(|&from| from != Ipv6Addr::UNSPECIFIED);
                word_of = word(&error, Family::V6, known.map(IpAddr::from));
            }
            other => stamped = stamped.or(stamp(other)),
        }
    }
    Ok(Received { length, address: from, stamp: stamped, word: word_of, ..received })
}

/// `SO_EE_ORIGIN_ICMP` and `SO_EE_ORIGIN_ICMP6` of `linux/errqueue.h`.
const ORIGIN_ICMP: u8 = 2;
const ORIGIN_ICMP6: u8 = 3;

fn word(error: &sock_extended_err, family: Family, from: Option<IpAddr>) -> Option<Word> {
    let (ORIGIN_ICMP | ORIGIN_ICMP6) = error.ee_origin else { return None };
    let said = said::of(family, error.ee_type, error.ee_code)?;
    let mtu = (said == Said::FragNeeded && error.ee_info > 0).then_some(error.ee_info);
    Some(Word { from, said, mtu })
}
