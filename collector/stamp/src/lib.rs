//! STAMP, the Simple Two-way Active Measurement Protocol (RFC 8762), in its unauthenticated mode, over UDP.
//!
//! [`Reflector`] answers from an operating-system thread of its own. [`Sender`] is a socket from which many reflectors
//! are asked; who owns it has the clock and the schedule. What is told of a path tells loss, duplication, reordering and
//! delay variation for each direction, and needs no clocks that agree.
//!
//! The rest is pure and knows no clock: [`packet`] and [`ntp`] are what goes over the wire, [`session`] is the sender's
//! side of a session, [`mirror`] is what a reflector does with a datagram.
//!
//! Not here: the authenticated mode, TLVs (RFC 8972; they are reflected as they came), and when to send.

pub mod mirror;
pub mod ntp;
pub mod packet;
pub mod prefix;
pub mod session;

mod exchange;
mod failure;
mod path;
mod recent;
mod reflector;
mod sender;

use std::net::SocketAddr;
use std::time::{SystemTime, UNIX_EPOCH};

pub use path::{ByDirection, Change, Mode, Totals};
pub use reflector::{Options, Reflector};
pub use sender::{Family, Heard, Key, Sender, Strays};

/// Why a reflector or a sender cannot work, or works no more.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// The list of allowed networks is empty.
    #[error("reflector: it is to answer nobody: allow the networks of its senders, such as 10.0.0.0/8")]
    NobodyAllowed,
    /// The list of addresses is empty.
    #[error("reflector: it is to listen nowhere: name an address, such as 127.0.0.1:862")]
    NowhereToListen,
    /// An address cannot be listened at.
    #[error(
        "reflector: {at}: {source}; the address must be one of this machine's, its port free, and a port below 1024 \
         needs CAP_NET_BIND_SERVICE (as a systemd service: AmbientCapabilities=CAP_NET_BIND_SERVICE)"
    )]
    Listen {
        /// The address.
        at: SocketAddr,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// A sender's socket could not be opened or set up.
    #[error(
        "STAMP over {family}: no socket: {source}; trying again helps only when the machine was short of resources"
    )]
    Socket {
        /// Of which family.
        family: Family,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The reflector's thread or what it waits with could not be made.
    #[error("reflector: {what}: {source}; trying again helps only when the machine was short of resources")]
    Start {
        /// What could not be made.
        what: &'static str,
        /// What the kernel said.
        source: std::io::Error,
    },
    /// The reflector's thread is gone; nothing is answered any more.
    #[error("reflector: its thread has ended: {why}; start it anew")]
    Ended {
        /// What it died of.
        why: String,
    },
}

/// Nanoseconds since the Unix epoch, held within what 64 bits can say.
fn nanos(time: SystemTime) -> i64 {
    let nanos = |duration: std::time::Duration| i64::try_from(duration.as_nanos()).unwrap_or(i64::MAX);
    time.duration_since(UNIX_EPOCH).map_or_else(|before| -nanos(before.duration()), nanos)
}
