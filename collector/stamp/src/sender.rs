//! The sender's socket: packets of many sessions out, replies and errors in.
//!
//! One socket has one session with each reflector it asks: a reflector tells sessions apart by address and port. Whoever wants two
//! sessions with one reflector opens two senders; two probes of one reflector may as well share the session, for they
//! share the path.
//!
//! Replies are stamped by the kernel as they arrive (`SO_TIMESTAMPNS`), and come with the address that they came to
//! (`IP_PKTINFO`): the kernel chooses the source of each packet anew, by its route, and the reflector takes another one for
//! another session. What a router, the far machine or the own kernel
//! says of a packet comes by the error queue (`IP_RECVERR`, see ip(7)).

use std::collections::BTreeMap;
use std::fmt;
use std::io::IoSliceMut;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::time::{Instant, SystemTime};

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;
use nix::sys::socket::{
    AddressFamily, ControlMessageOwned, MsgFlags, SockFlag, SockType, SockaddrStorage, recvmsg, sendto,
    setsockopt, socket, sockopt,
};

use crate::exchange::{address, more_room, unix_nanos, v4};
use crate::packet::{ReflectorPacket, SenderPacket};
use crate::session::{FIRST, Session, Told};
use crate::{Error, Mode, Totals, failure, nanos};

/// An IP version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Family {
    /// IPv4.
    V4,
    /// IPv6.
    V6,
}

/// So many messages are read before anything else gets its turn, so that a flood cannot stop the sending.
const AT_ONCE: usize = 4096;

/// A pending error of the socket, left by another reflector, fails the next send once: then it is tried again.
const SENDS: usize = 3;

/// Room for one message: of what follows the 44 octets nothing counts.
const ROOM: usize = 64;

/// A socket and its sessions. `T` is what the owner knows a packet by.
#[derive(Debug)]
pub struct Sender<T> {
    family: Family,
    socket: OwnedFd,
    sessions: BTreeMap<SocketAddr, Session<T>>,
    strays: Strays,
    control: Vec<u8>,
}

/// Under what a packet is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key {
    /// The reflector.
    pub to: SocketAddr,
    /// The packet's number in the session.
    pub number: u32,
}

/// What came in.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Heard<T> {
    /// A reply: the first, a late one or a duplicate, as it says.
    Reply(Told<T>),
    /// Word that there is no way, or nobody there.
    Lost(T, Lost),
}

/// What came that answers nothing, since the sender was opened.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Strays {
    /// From an address that was not asked.
    pub address: u64,
    /// From another port of an address that was.
    pub port: u64,
    /// Too short for a reply.
    pub malformed: u64,
    /// To no packet that is remembered, or without the proof of having seen it.
    pub unasked: u64,
}

impl Strays {
    /// All of them.
    #[must_use]
    pub fn total(&self) -> u64 {
        self.address + self.port + self.malformed + self.unasked
    }
}

impl<T: Copy> Sender<T> {
    /// Opens a socket, at a port that the kernel chooses as the first packet leaves.
    ///
    /// # Errors
    /// [`Error::Socket`].
    pub fn open(family: Family) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::Socket { family, source: errno.into() };
        let domain = match family {
            Family::V4 => AddressFamily::Inet,
            Family::V6 => AddressFamily::Inet6,
        };
        let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
        let socket = socket(domain, SockType::Datagram, flags, None).map_err(failed)?;
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).map_err(failed)?;
        match family {
            Family::V4 => setsockopt(&socket, sockopt::Ipv4RecvErr, &true)
                .and_then(|()| setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)),
            Family::V6 => setsockopt(&socket, sockopt::Ipv6V6Only, &true)
                .and_then(|()| setsockopt(&socket, sockopt::Ipv6RecvErr, &true))
                .and_then(|()| setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)),
        }
        .map_err(failed)?;
        more_room(&socket);
        Ok(Self {
            family,
            socket,
            sessions: BTreeMap::new(),
            strays: Strays::default(),
            control: vec![0; 512],
        })
    }

    /// Sends the next packet of the session with this reflector, which begins with its first; what it flies under.
    ///
    /// # Errors
    /// What the kernel said, `EAFNOSUPPORT` for an address of the other family, `ENOBUFS` when too many packets are in
    /// flight. Then nothing was sent, and no number is missing.
    pub fn send(&mut self, ticket: T, to: SocketAddr) -> Result<Key, Errno> {
        if to.is_ipv4() != (self.family == Family::V4) {
            return Err(Errno::EAFNOSUPPORT);
        }
        let address = SockaddrStorage::from(to);
        let to = known_as(to);
        let session = self.sessions.entry(to).or_insert_with(|| Session::new(FIRST));
        let mut failed = Errno::ENOBUFS;
        for _ in 0..SENDS {
            #[allow(clippy::disallowed_methods, reason = "the moment of sending")]
            let (steady, wall) = (Instant::now(), nanos(SystemTime::now()));
            let packet = session.packet(wall).ok_or(Errno::ENOBUFS)?.bytes();
            match sendto(self.socket.as_raw_fd(), &packet, &address, MsgFlags::MSG_DONTWAIT) {
                Ok(_) => return Ok(Key { to, number: session.sent(ticket, steady, wall) }),
                Err(errno) => failed = errno,
            }
        }
        Err(failed)
    }

    /// No longer waits for this one. Its reply may still come, and is late then.
    pub fn forget(&mut self, key: Key) {
        if let Some(session) = self.sessions.get_mut(&key.to) {
            session.give_up(key.number);
        }
    }

    /// Ends the session with a reflector, such as when a name is at another address now; the next packet to it would be
    /// of a session that its reflector takes for the same, begun anew.
    pub fn close(&mut self, to: SocketAddr) {
        self.sessions.remove(&known_as(to));
    }

    /// Reads what has come in, replies and errors.
    pub fn receive(&mut self, heard: &mut Vec<Heard<T>>) {
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
    }

    /// What befell the packets of the session with this reflector; `None` when there is none.
    #[must_use]
    pub fn totals(&self, to: SocketAddr) -> Option<Totals> {
        self.sessions.get(&known_as(to)).map(Session::totals)
    }

    /// What is known of this reflector; `None` when there is no session with it.
    #[must_use]
    pub fn mode(&self, to: SocketAddr) -> Option<Mode> {
        self.sessions.get(&known_as(to)).map(Session::mode)
    }

    /// What came that answers nothing.
    #[must_use]
    pub fn strays(&self) -> Strays {
        self.strays
    }

    fn reply(&mut self) -> Result<Option<Heard<T>>, Errno> {
        let message = self.read(MsgFlags::empty())?;
        #[allow(clippy::disallowed_methods, reason = "the moment of reading")]
        let now = Instant::now();
        let Some(from) = message.address else { return Ok(None) };
        let Some(session) = self.sessions.get_mut(&from) else {
            let all = SocketAddr::new(from.ip(), 0)..=SocketAddr::new(from.ip(), u16::MAX);
            let asked = self.sessions.range(all).next().is_some();
            *(if asked { &mut self.strays.port } else { &mut self.strays.address }) += 1;
            return Ok(None);
        };
        let Some(packet) = ReflectorPacket::read(message.bytes()) else {
            self.strays.malformed += 1;
            return Ok(None);
        };
        let told = session.reply(&packet, now, message.arrived, message.own);
        self.strays.unasked += u64::from(told.is_none());
        Ok(told.map(Heard::Reply))
    }

    fn error(&mut self) -> Result<Option<Heard<T>>, Errno> {
        let message = self.read(MsgFlags::MSG_ERRQUEUE)?;
        let lost = match message.errno.map(failure::lost) {
            // Such as 'too long': says nothing final.
            None | Some(Lost::Local | Lost::Timeout) => return Ok(None),
            Some(lost) => lost,
        };
        // The address is of whom we asked, as the quoted header has it.
        let Some(session) = message.address.and_then(|asked| self.sessions.get_mut(&asked)) else {
            return Ok(None);
        };
        // A router quotes eight octets of the datagram at least, and those are UDP's header.
        let number = match SenderPacket::read(message.bytes()) {
            Some(packet) => session.in_flight(&packet),
            None => session.only_in_flight(),
        };
        Ok(number.and_then(|number| session.give_up(number)).map(|ticket| Heard::Lost(ticket, lost)))
    }

    fn read(&mut self, flags: MsgFlags) -> Result<Message, Errno> {
        let mut room = [0; ROOM];
        let mut slices = [IoSliceMut::new(&mut room)];
        let control = Some(self.control.as_mut_slice());
        let flags = flags | MsgFlags::MSG_DONTWAIT;
        let message = recvmsg::<SockaddrStorage>(self.socket.as_raw_fd(), &mut slices, control, flags)?;
        let (mut arrived, mut errno, mut own) = (None, None, None);
        for control in message.cmsgs().ok().into_iter().flatten() {
            match control {
                ControlMessageOwned::ScmTimestampns(stamp) => arrived = unix_nanos(stamp),
                ControlMessageOwned::Ipv4RecvErr(error, _) | ControlMessageOwned::Ipv6RecvErr(error, _) => {
                    errno = i32::try_from(error.ee_errno).ok().map(Errno::from_raw);
                }
                ControlMessageOwned::Ipv4PacketInfo(info) => own = Some(v4(info.ipi_spec_dst)),
                ControlMessageOwned::Ipv6PacketInfo(info) => own = Some(info.ipi6_addr.s6_addr.into()),
                _ => {}
            }
        }
        let (length, address) = (message.bytes, message.address.as_ref().and_then(address));
        Ok(Message { room, length, address, own, arrived, errno })
    }
}

/// A message as it was read.
struct Message {
    room: [u8; ROOM],
    length: usize,
    address: Option<SocketAddr>,
    /// Which of this machine's addresses it came to.
    own: Option<IpAddr>,
    /// The kernel's stamp.
    arrived: Option<i64>,
    /// What an entry of the error queue says.
    errno: Option<Errno>,
}

impl Message {
    fn bytes(&self) -> &[u8] {
        self.room.get(..self.length.min(ROOM)).unwrap_or_default()
    }
}

impl<T> AsFd for Sender<T> {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

impl fmt::Display for Family {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V4 => "IPv4",
            Self::V6 => "IPv6",
        })
    }
}

/// As the kernel names it in what comes from there: without a flow label.
fn known_as(to: SocketAddr) -> SocketAddr {
    match to {
        SocketAddr::V4(_) => to,
        SocketAddr::V6(mut v6) => {
            v6.set_flowinfo(0);
            v6.into()
        }
    }
}
