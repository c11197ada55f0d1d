//! Observations: what a collector saw, and who saw it.

use std::sync::Arc;

use crate::time::Timestamp;

/// A name out of the config or off the wire; cheap to copy.
pub type Name = Arc<str>;

/// Who made an observation.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Origin {
    /// The vantage point.
    pub site: Name,
    /// The collector's own name: a host name or an instance id.
    pub collector: Name,
    /// One life of that collector with one steady clock; a `UUIDv7`, compared only for being the same.
    pub boot: Name,
}

/// One thing a collector saw.
#[derive(Clone, Debug, PartialEq)]
pub struct Observation {
    /// When the probe was sent or the question asked, by the collector's clock.
    pub at: Timestamp,
    /// Its number within the boot, from 0.
    pub seq: u64,
    /// What was seen.
    pub body: Body,
}

/// What was seen.
#[derive(Clone, Debug, PartialEq)]
pub enum Body {
    /// A probe's outcome.
    Probe {
        /// The link the probe belongs to.
        link: Name,
        /// `<protocol>:<target>`, or the probe's name in the config.
        probe: Name,
        /// Reply or loss.
        outcome: Outcome,
    },
    /// The tunnels of one VPN connection.
    Tunnels {
        /// The link the connection belongs to.
        link: Name,
        /// The connection's id, `vpn-…`.
        vpn: Name,
        /// Its tunnels; empty when the answer named none.
        tunnels: Vec<Tunnel>,
    },
    /// How the collecting itself went: one round of one source.
    Collection {
        /// What was collected from, such as `icmp` or `ec2:vpn-status`.
        source: Name,
        /// Whether the round succeeded.
        ok: bool,
        /// Why it did not; an AWS error code or a sentence.
        error: Option<String>,
        /// How long the round took, in milliseconds.
        took_ms: f64,
    },
}

/// A probe's outcome.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Outcome {
    /// A reply came after this round-trip time, in milliseconds.
    Reply {
        /// Round-trip time in milliseconds.
        rtt_ms: f64,
    },
    /// No reply that counts.
    Lost(Lost),
}

/// Why a probe was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Lost {
    /// Nothing came back in time.
    Timeout,
    /// A router or the own kernel said that there is no way: also ENETUNREACH, EHOSTUNREACH and EPERM at sending,
    /// since a withdrawn route is an outage.
    Unreachable,
    /// The target refused.
    Refused,
    /// This machine was short of buffers, sockets or time: the link is not to blame.
    Local,
}

impl Lost {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 4] = [Self::Timeout, Self::Unreachable, Self::Refused, Self::Local];

    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Local => "local",
        }
    }
}

/// One IPsec tunnel of a VPN connection, as `VgwTelemetry` of EC2's `DescribeVpnConnections` tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tunnel {
    /// The tunnel's outside address; text, since that is what EC2 gives.
    pub outside_ip: String,
    /// Whether its status is UP.
    pub up: bool,
    /// Routes accepted over it.
    pub accepted_routes: u32,
    /// When its status last changed.
    pub since: Option<Timestamp>,
    /// The status message; may say 'IPSEC IS UP' while BGP is down.
    pub message: String,
}

/// An immutable message of observations from one boot to one queue.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    /// Who made them.
    pub origin: Origin,
    /// Its number among the boot's batches to that queue, dense from 0.
    pub number: u64,
    /// A promise: this boot will send nothing made earlier than this to that queue after this batch.
    pub through: Timestamp,
    /// The observations, in the order of `seq`.
    pub observations: Vec<Observation>,
}
