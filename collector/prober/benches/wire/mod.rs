//! What the benches have in common: a far namespace behind a veth pair, and a capture of what goes over it.

use std::fs;
use std::io::IoSliceMut;
use std::net::Ipv4Addr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::process::Command;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, MultiHeaders, SockaddrStorage, recvmmsg, setsockopt, sockopt,
};

pub(crate) const BATCH: usize = 64;

pub(crate) fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned()
}

/// In a network namespace of this process's own, where ping sockets are allowed.
pub(crate) fn alone() {
    unshare(CloneFlags::CLONE_NEWNET).unwrap();
    ip("link set lo up");
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
}

/// The processor's time.
pub(crate) fn processor(who: UsageWho) -> Duration {
    let usage = getrusage(who).unwrap();
    let time = |time: nix::sys::time::TimeVal| {
        Duration::new(time.tv_sec().unsigned_abs(), u32::try_from(time.tv_usec() * 1_000).unwrap())
    };
    time(usage.user_time()) + time(usage.system_time())
}

/// A namespace, by its name, that answers for all of 10.64.0.0/16.
pub(crate) struct Far(pub(crate) String);

impl Far {
    pub(crate) fn new() -> Self {
        let far = Self(format!("cwbench{}", std::process::id()));
        let name = &far.0;
        ip(&format!("netns add {name}"));
        ip(&format!("link add near type veth peer name far netns {name}"));
        ip("addr add 10.63.0.1/24 dev near");
        ip("link set near up");
        ip(&format!("-n {name} addr add 10.63.0.2/24 dev far"));
        ip(&format!("-n {name} link set lo up"));
        ip(&format!("-n {name} link set far up"));
        ip(&format!("-n {name} route add local 10.64.0.0/16 dev lo"));
        ip("route add 10.64.0.0/16 via 10.63.0.2");
        far
    }
}

impl Drop for Far {
    fn drop(&mut self) {
        let _ = Command::new("ip").args(["netns", "del", &self.0]).output();
    }
}

/// So many that it answers for.
pub(crate) fn far_targets(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (1..=count).map(|number| Ipv4Addr::from(0x0a40_0000 + number))
}

/// Sees all packets of the namespace, stamped by the kernel.
pub(crate) struct Capture(OwnedFd);

impl Capture {
    pub(crate) fn new() -> Self {
        // ETH_P_ALL, so that what goes out is seen too.
        let all = i32::from(0x0003u16.to_be());
        let kind = socket2::Type::DGRAM.nonblocking();
        let socket: OwnedFd =
            socket2::Socket::new(socket2::Domain::PACKET, kind, Some(all.into())).unwrap().into();
        setsockopt(&socket, sockopt::ReceiveTimestampns, &true).unwrap();
        setsockopt(&socket, sockopt::RcvBufForce, &(64 << 20)).unwrap();
        Self(socket)
    }

    /// Each echo message seen since the last time, from its IPv4 header on, and when that was in nanoseconds.
    pub(crate) fn read(&self, mut each: impl FnMut(&[u8], i64)) {
        let mut count = BATCH;
        while count == BATCH {
            let mut room = vec![0u8; BATCH * 128];
            let mut slices: Vec<[IoSliceMut<'_>; 1]> =
                room.chunks_exact_mut(128).map(|room| [IoSliceMut::new(room)]).collect();
            let mut headers =
                MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(Vec::with_capacity(192)));
            let flags = MsgFlags::MSG_DONTWAIT;
            let Ok(messages) = recvmmsg(self.0.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None)
            else {
                return;
            };
            count = 0;
            for message in messages {
                count += 1;
                let stamp = message.cmsgs().unwrap().find_map(|told| match told {
                    ControlMessageOwned::ScmTimestampns(stamp) => {
                        Some(stamp.tv_sec() * 1_000_000_000 + stamp.tv_nsec())
                    }
                    _ => None,
                });
                let packet = message.iovs().next().unwrap_or_default();
                // IPv4, ICMP, an echo or its reply.
                if packet.len() >= 28 && packet[0] == 0x45 && packet[9] == 1 && matches!(packet[20], 0 | 8) {
                    each(packet, stamp.unwrap());
                }
            }
        }
    }
}

pub(crate) fn ip(arguments: &str) {
    let out = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}
