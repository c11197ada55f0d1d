//! A reflector's socket: many datagrams read in one call, answered in place, and sent in one call. Nothing is allocated
//! on the way.
//!
//! The kernel stamps what comes in (`SO_TIMESTAMPNS`), and tells its TTL and to which of the machine's addresses it came
//! (`IP_RECVTTL`, `IP_PKTINFO`, see ip(7); for IPv6 the same, see ipv6(7)); the answer leaves from that address.

use std::array;
use std::io::{IoSlice, IoSliceMut};
use std::net::{IpAddr, SocketAddr, SocketAddrV6};
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, OwnedFd};
use std::sync::{Mutex, PoisonError};
use std::time::{Instant, SystemTime};

use nix::cmsg_space;
use nix::errno::Errno;
use nix::libc::{in_addr, in_pktinfo, in6_addr, in6_pktinfo, timespec};
use nix::sys::socket::{
    AddressFamily, ControlMessage, ControlMessageOwned, MsgFlags, MultiHeaders, RecvMsg, SockFlag, SockType,
    SockaddrStorage, bind, getsockname, recvmmsg, sendmmsg, setsockopt, socket, sockopt,
};
use nix::sys::time::TimeSpec;

use crate::mirror::{Datagram, Mirror, is_unicast};
use crate::ntp::Stamp;
use crate::{nanos, packet};

/// So many datagrams are read, answered and sent at once.
const BATCH: usize = 64;

/// Room for one: what a jumbo frame holds. Longer ones are malformed.
const ROOM: usize = 9_216;

/// Opens a socket at this address; where it is bound, which tells the port when none was asked for.
pub(crate) fn listen(at: SocketAddr) -> Result<(OwnedFd, SocketAddr), Errno> {
    let family = if at.is_ipv4() { AddressFamily::Inet } else { AddressFamily::Inet6 };
    let flags = SockFlag::SOCK_CLOEXEC | SockFlag::SOCK_NONBLOCK;
    let socket = socket(family, SockType::Datagram, flags, None)?;
    // Before it is bound, so that each datagram comes with all of this.
    setsockopt(&socket, sockopt::ReceiveTimestampns, &true)?;
    if at.is_ipv4() {
        setsockopt(&socket, sockopt::Ipv4PacketInfo, &true)?;
        setsockopt(&socket, sockopt::Ipv4RecvTtl, &true)?;
    } else {
        setsockopt(&socket, sockopt::Ipv6V6Only, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvPacketInfo, &true)?;
        setsockopt(&socket, sockopt::Ipv6RecvHopLimit, &true)?;
    }
    more_room(&socket);
    bind(socket.as_raw_fd(), &SockaddrStorage::from(at))?;
    let bound = getsockname::<SockaddrStorage>(socket.as_raw_fd())?;
    let bound = address(&bound).ok_or(Errno::EAFNOSUPPORT)?;
    Ok((socket, bound))
}

/// A socket with all the room it needs.
pub(crate) struct Exchange {
    socket: OwnedFd,
    port: u16,
    receiving: MultiHeaders<SockaddrStorage>,
    sending: MultiHeaders<SockaddrStorage>,
    rooms: Box<[[u8; ROOM]; BATCH]>,
    arrived: Box<[Option<Arrived>; BATCH]>,
    /// Where the answers go.
    addresses: Box<[Option<SockaddrStorage>; BATCH]>,
}

/// What is known of a datagram besides its octets.
#[derive(Clone, Copy)]
struct Arrived {
    from: SockaddrStorage,
    to: IpAddr,
    ttl: u8,
    at: i64,
    length: usize,
    /// Whether it is to be answered: at first, whether it could be.
    answer: bool,
}

impl Exchange {
    pub(crate) fn new(socket: OwnedFd, bound: SocketAddr) -> Self {
        Self {
            socket,
            port: bound.port(),
            receiving: receiving(),
            sending: MultiHeaders::preallocate(BATCH, Some(sending_space(bound.is_ipv4()))),
            rooms: boxed(|| [0; ROOM]),
            arrived: boxed(|| None),
            addresses: boxed(|| None),
        }
    }

    /// Reads what is there, at most a batch, and answers it.
    pub(crate) fn turn(&mut self, mirror: &Mutex<Mirror>) {
        let came = match self.receive() {
            Ok(came) => came,
            Err(Errno::EAGAIN | Errno::EINTR) => return,
            Err(_) => {
                lock(mirror).counts.receive_errors += 1;
                return;
            }
        };
        self.answer(came, mirror);
        let (mut reflected, mut failed) = (0, 0);
        let mut begin = 0;
        while begin < came {
            let end = self.run(begin, came);
            self.send(begin, end, &mut reflected, &mut failed);
            begin = end;
        }
        let mut mirror = lock(mirror);
        mirror.counts.reflected += reflected;
        mirror.counts.send_errors += failed;
    }

    fn receive(&mut self) -> Result<usize, Errno> {
        let mut slices = self.rooms.each_mut().map(|room| [IoSliceMut::new(room)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        let messages = recvmmsg(self.socket.as_raw_fd(), &mut self.receiving, &mut slices, flags, None)?;
        let (mut came, mut complete) = (0, true);
        for (message, place) in messages.zip(self.arrived.iter_mut()) {
            *place = arrived(&message);
            complete &= place.is_some();
            came += 1;
        }
        if !complete {
            // The headers keep as much room for control messages as the last reading filled, so one datagram without
            // them would leave its place without for good.
            self.receiving = receiving();
        }
        Ok(came)
    }

    /// Turns what is to be answered into its answer.
    fn answer(&mut self, came: usize, mirror: &Mutex<Mirror>) {
        let mut mirror = lock(mirror);
        #[allow(clippy::disallowed_methods, reason = "the loop's look at the steady clock")]
        let now = Instant::now();
        for (place, room) in self.arrived.iter_mut().zip(self.rooms.iter_mut()).take(came) {
            let datagram = place.as_ref().filter(|arrived| arrived.answer).and_then(|arrived| {
                let to = SocketAddr::new(arrived.to, self.port);
                let bytes = room.get_mut(..arrived.length)?;
                Some(Datagram {
                    from: address(&arrived.from)?,
                    to,
                    ttl: arrived.ttl,
                    received: arrived.at,
                    bytes,
                })
            });
            let answer = match datagram {
                Some(datagram) => mirror.reflect(datagram, now).is_ok(),
                None => {
                    mirror.counts.received += 1;
                    mirror.counts.malformed += 1;
                    false
                }
            };
            if let Some(arrived) = place {
                arrived.answer = answer;
            }
        }
    }

    /// The end of those from `begin` on that are answered alike: from the same address of this machine, or not at all.
    fn run(&self, begin: usize, came: usize) -> usize {
        let kind = |index: usize| {
            self.arrived
                .get(index)
                .and_then(Option::as_ref)
                .filter(|arrived| arrived.answer)
                .map(|arrived| arrived.to)
        };
        let first = kind(begin);
        (begin + 1..came).find(|&index| kind(index) != first).unwrap_or(came)
    }

    /// Sends the answers of a run, stamped at the last moment.
    fn send(&mut self, begin: usize, end: usize, reflected: &mut u64, failed: &mut u64) {
        let Some(source) = self.arrived.get(begin).and_then(Option::as_ref).filter(|first| first.answer)
        else {
            return;
        };
        let (mut v4, mut v6) = (None, None);
        match source.to {
            IpAddr::V4(to) => {
                let address = in_addr { s_addr: to.to_bits().to_be() };
                v4 = Some(in_pktinfo {
                    ipi_ifindex: 0,
                    ipi_spec_dst: address,
                    ipi_addr: in_addr { s_addr: 0 },
                });
            }
            IpAddr::V6(to) => {
                v6 = Some(in6_pktinfo { ipi6_addr: in6_addr { s6_addr: to.octets() }, ipi6_ifindex: 0 });
            }
        }
        let control = match (&v4, &v6) {
            (Some(info), _) => [ControlMessage::Ipv4PacketInfo(info)],
            (_, Some(info)) => [ControlMessage::Ipv6PacketInfo(info)],
            _ => return,
        };
        let places = self.arrived.iter().zip(self.addresses.iter_mut()).skip(begin).take(end - begin);
        for (arrived, address) in places {
            *address = arrived.as_ref().map(|arrived| arrived.from);
        }
        #[allow(clippy::disallowed_methods, reason = "the moment of sending")]
        let now = Stamp::ntp(nanos(SystemTime::now()));
        for room in self.rooms.iter_mut().take(end).skip(begin) {
            packet::set_sent(room, now);
        }
        let slices: [[IoSlice<'_>; 1]; BATCH] = array::from_fn(|index| {
            let length = self.arrived.get(index).and_then(Option::as_ref).map_or(0, |arrived| arrived.length);
            [IoSlice::new(self.rooms.get(index).and_then(|room| room.get(..length)).unwrap_or_default())]
        });
        let mut next = begin;
        while next < end {
            let (slices, addresses) = (slices.get(next..end), self.addresses.get(next..end));
            let (Some(slices), Some(addresses)) = (slices, addresses) else { return };
            let flags = MsgFlags::MSG_DONTWAIT;
            match sendmmsg(self.socket.as_raw_fd(), &mut self.sending, slices, addresses, control, flags) {
                Ok(sent) => {
                    let sent = sent.count().max(1);
                    next += sent;
                    *reflected += u64::try_from(sent).unwrap_or(0);
                }
                Err(Errno::EINTR) => {}
                // Of the first alone; a burst for which the kernel has no room is not waited with.
                Err(_) => {
                    next += 1;
                    *failed += 1;
                }
            }
        }
    }
}

impl AsFd for Exchange {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.socket.as_fd()
    }
}

fn lock(mirror: &Mutex<Mirror>) -> std::sync::MutexGuard<'_, Mirror> {
    mirror.lock().unwrap_or_else(PoisonError::into_inner)
}

/// What the kernel says of a datagram; `None` when something is missing, which ought not to be.
fn arrived(message: &RecvMsg<'_, '_, SockaddrStorage>) -> Option<Arrived> {
    let (mut at, mut ttl, mut to) = (None, None, None);
    for control in message.cmsgs().ok()? {
        match control {
            ControlMessageOwned::ScmTimestampns(stamp) => at = unix_nanos(stamp),
            ControlMessageOwned::Ipv4Ttl(hops) | ControlMessageOwned::Ipv6HopLimit(hops) => {
                ttl = u8::try_from(hops).ok()
            }
            // The header's destination, and ours: they differ for a broadcast.
            ControlMessageOwned::Ipv4PacketInfo(info) => {
                to = Some((v4(info.ipi_spec_dst), info.ipi_addr.s_addr == info.ipi_spec_dst.s_addr));
            }
            ControlMessageOwned::Ipv6PacketInfo(info) => {
                to = Some((IpAddr::from(info.ipi6_addr.s6_addr), true))
            }
            _ => {}
        }
    }
    let (to, ours) = to?;
    let whole = !message.flags.contains(MsgFlags::MSG_TRUNC);
    let answer = whole && ours && is_unicast(to);
    Some(Arrived { from: message.address?, to, ttl: ttl?, at: at?, length: message.bytes.min(ROOM), answer })
}

pub(crate) fn v4(address: in_addr) -> IpAddr {
    IpAddr::from(address.s_addr.to_ne_bytes())
}

/// Nanoseconds since the Unix epoch of a kernel's stamp.
pub(crate) fn unix_nanos(stamp: TimeSpec) -> Option<i64> {
    stamp.tv_sec().checked_mul(1_000_000_000)?.checked_add(stamp.tv_nsec())
}

/// As much room for what comes in as the machine allows: past its limit where this process may (CAP_NET_ADMIN). Without it a
/// burst may be cut, which shows as loss.
pub(crate) fn more_room(socket: &OwnedFd) {
    const BYTES: usize = 4 << 20;
    if setsockopt(socket, sockopt::RcvBufForce, &BYTES).is_err() {
        let _ = setsockopt(socket, sockopt::RcvBuf, &BYTES);
    }
}

/// Without the flow label, which may change within a session.
pub(crate) fn address(address: &SockaddrStorage) -> Option<SocketAddr> {
    if let Some(v4) = address.as_sockaddr_in() {
        return Some(SocketAddr::new(v4.ip().into(), v4.port()));
    }
    let v6 = address.as_sockaddr_in6()?;
    Some(SocketAddrV6::new(v6.ip(), v6.port(), 0, v6.scope_id()).into())
}

fn receiving() -> MultiHeaders<SockaddrStorage> {
    // The larger of the two families' fits both.
    MultiHeaders::preallocate(BATCH, Some(cmsg_space!(timespec, in6_pktinfo, i32)))
}

/// Exactly as much as is sent: the kernel reads all of it.
fn sending_space(is_v4: bool) -> Vec<u8> {
    if is_v4 { cmsg_space!(in_pktinfo) } else { cmsg_space!(in6_pktinfo) }
}

/// An array on the heap, made there.
fn boxed<V, const N: usize>(value: impl Fn() -> V) -> Box<[V; N]> {
    let values: Box<[V]> = std::iter::repeat_with(value).take(N).collect();
    values.try_into().unwrap_or_else(|_| unreachable!("it has N"))
}
