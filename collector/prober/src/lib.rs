//! The prober: pacing, sockets and packets of ICMP echo and TCP connect.
//!
//! [`Engine`] sends from an operating-system thread of its own, with few sockets. In the order of the work:
//!
//! - [`schedule`] says which probes are due, `burst` what the packets of one sending come to;
//! - `bank` has the ICMP sockets, `icmp` is one, `open` sets it up, `batch` moves many messages a system call, `flights`
//!   finds the packet that a reply or a stamp belongs to, `stamp` makes a round-trip time of stamps, [`packet`] is what goes
//!   out and comes in; `tcp` opens connections, `udp` asks STAMP's reflectors; `heard` is what all of them tell;
//! - `deadlines` gives up, `beside` tells a way too narrow for large packets, `judge` keeps the accounts, [`release`] lets
//!   outcomes out in the order of sending, [`clock`] makes of two clocks one that never goes back.
//!
//! Another protocol takes marks to send and tells fates: it is called in `run`, where TCP and UDP are.

pub mod clock;
pub mod packet;
pub mod release;
pub mod schedule;
pub mod socket;

mod bank;
mod batch;
mod beside;
mod burst;
mod deadlines;
mod engine;
mod failure;
mod family;
mod flights;
mod heard;
mod icmp;
mod judge;
mod open;
mod run;
mod stamp;
mod tcp;
mod udp;

pub use engine::{Account, Engine, HOLD, Probe, Protocol, Taken};
pub use family::Family;
pub use release::Released;

/// Why the prober cannot work, or works no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Neither a ping socket nor a raw socket may be opened.
    #[error(
        "{family}: this process may open neither a ping socket nor a raw socket. Either let its group {gid} open ping \
         sockets: sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"; or let the program open raw sockets: \
         setcap cap_net_raw+ep {program} (as a systemd service: AmbientCapabilities=CAP_NET_RAW)"
    )]
    NotPermitted {
        /// Of which protocol.
        family: Family,
        /// The effective group of this process.
        gid: u32,
        /// Where the program lies.
        program: String,
    },
    /// A socket could not be opened or set up.
    #[error("{family}: no socket: {source}; trying again helps only when the machine was short of resources")]
    Socket {
        /// Of which protocol.
        family: Family,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A socket for STAMP could not be opened.
    #[error("UDP: {source}")]
    Udp {
        /// What is wrong.
        source: crosswatch_stamp::Error,
    },
    /// The sending thread or what it waits with could not be made.
    #[error("prober: {what}: {source}; trying again helps only when the machine was short of resources")]
    Start {
        /// What could not be made.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The sending thread is gone; nothing is sent any more. Only a restart of the process helps.
    #[error("prober: the sending thread has ended: {why}; restart the process")]
    Ended {
        /// What it died of.
        why: String,
    },
}
