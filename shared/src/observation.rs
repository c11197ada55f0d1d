//! Observations: what a collector saw, and who saw it.

use std::sync::Arc;

use serde::{Deserialize, Serialize};

use crate::evidence::Evidence;
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
    /// One life of that collector with one steady clock; a `UUIDv7` (RFC 9562), greater than those of its lives before.
    pub boot: Name,
}

/// Whether a boot comes after another of the same site, as far as their ids tell: two that are `UUIDv7`s do, in whatever
/// order a queue gives them; `None` for any others, of which the order of their first appearance is all there is.
#[must_use]
pub fn is_later_boot(boot: &str, other: &str) -> Option<bool> {
    // As text, in the form that RFC 9562 asks for, they stand in the order of their values.
    (is_uuid_v7(boot) && is_uuid_v7(other)).then(|| boot > other)
}

fn is_uuid_v7(text: &str) -> bool {
    let digit = |(place, byte): (usize, u8)| match place {
        8 | 13 | 18 | 23 => byte == b'-',
        14 => byte == b'7',
        _ => matches!(byte, b'0'..=b'9' | b'a'..=b'f'),
    };
    text.len() == 36 && text.bytes().enumerate().all(digit)
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
        /// Reply or loss; of a burst the median of its replies, or the loss if none came.
        outcome: Outcome,
        /// What more there is to tell; boxed, since most probes have nothing.
        detail: Option<Box<Detail>>,
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
    /// What the collector's machine saw of a probe's target once the probe was lost.
    Evidence {
        /// The link the probe belongs to.
        link: Name,
        /// The probe.
        probe: Name,
        /// What was seen.
        evidence: Box<Evidence>,
    },
    /// A drill: nothing was seen; it goes the way of what was, so that a test page comes of it.
    Drill {
        /// Its id, the same to its end.
        id: Name,
        /// The rule whose receivers it is for; without one all are.
        rule: Option<Name>,
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

/// What is told of a probe beside its outcome.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Detail {
    /// Of a probe that sends several packets an interval: the round-trip time of each in milliseconds, in the order of
    /// sending; `None` for one that was lost. What this machine is to blame for is left out. Empty for a probe that sends
    /// one, and where this machine is to blame for all.
    pub burst: Vec<Option<f64>>,
    /// How many of the burst's replies came after the reply to a packet sent later (RFC 4737, section 3).
    pub reordered: u32,
    /// The probe's interarrival jitter in milliseconds (RFC 3550, section 6.4.1), of round-trip times within bursts.
    pub jitter_ms: Option<f64>,
    /// The largest IP packet, in bytes, that the way is known to take: learned with [`Lost::TooBig`].
    pub mtu: Option<u32>,
    /// The way to the target since the reply before, where the reflector told (RFC 8762).
    pub forward: Option<Way>,
    /// The way back.
    pub back: Option<Way>,
    /// How much later than it was due it was sent, in milliseconds, where that was more than a tick of the schedule.
    pub late_ms: Option<f64>,
    /// Whether the round-trip time is by this process's clock, since the kernel stamped nothing.
    pub user_stamped: bool,
}

/// One direction of a link, between two replies.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Way {
    /// Packets lost this way; negative where replies that were overtaken take back a loss told before.
    pub lost: i32,
    /// By how many milliseconds the one-way delay has changed (RFC 3393); it needs no clocks that agree.
    pub variation_ms: Option<f64>,
}

/// Why a probe was lost.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
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
    /// It was larger than the way takes, while smaller ones pass.
    TooBig,
}

impl Lost {
    /// Every kind, in the order of their declaration.
    pub const ALL: [Self; 5] = [Self::Timeout, Self::Unreachable, Self::Refused, Self::Local, Self::TooBig];

    /// The word on the wire.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Unreachable => "unreachable",
            Self::Refused => "refused",
            Self::Local => "local",
            Self::TooBig => "too-big",
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_ids_of_boots_tell_their_order_where_they_are_uuids_of_version_7() {
        let (earlier, later) =
            ("0193a5f0-9a3c-7d11-8000-00000000ffff", "0193a5f0-9a3d-7000-8000-000000000000");
        assert_eq!(is_later_boot(later, earlier), Some(true));
        assert_eq!(is_later_boot(earlier, later), Some(false));
        for other in
            ["boot-1", "", "0193a5f0-9a3d-4000-8000-000000000000", "0193A5F0-9A3D-7000-8000-000000000000"]
        {
            assert_eq!(is_later_boot(later, other), None, "{other}");
        }
    }
}
