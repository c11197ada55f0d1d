//! The prober: pacing, sockets and packets of ICMP echo and TCP connect.
//!
//! [`Engine`] sends from an operating-system thread of its own, with one ICMP socket a family and one epoll. The rest is
//! pure and knows no clock: [`schedule`] says what is due, [`packet`] is what goes out and comes in, [`release`] lets
//! outcomes out in the order of sending, [`clock`] makes of two clocks one that never goes back.

pub mod clock;
pub mod packet;
pub mod release;
pub mod schedule;

mod engine;
mod failure;
mod icmp;
mod run;
mod tcp;

pub use engine::{Account, Engine, Probe, Protocol, Taken};
pub use icmp::Family;
pub use release::Released;

/// ICMP sockets as the prober opens them, for whoever else looks at a link from this machine.
pub mod socket {
    pub use crate::icmp::{address, hear_errors, open, stamp};
}

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
