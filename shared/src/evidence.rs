//! Evidence: what a collector's machine saw of a target when a probe to it was lost.
//!
//! One [`Evidence`] is a few kilobytes of JSON at most: texts are cut at [`TEXT`] characters and paths at [`HOPS`] hops, also
//! when read. Fields and words that are not known here are passed over, fields that are missing are absent parts.

mod summary;
#[cfg(test)]
mod tests;

use std::net::IpAddr;

use serde::{Deserialize, Deserializer, Serialize};

use crate::time::Timestamp;

/// The longest text in evidence, in characters.
pub const TEXT: usize = 300;

/// The farthest a path is followed: the largest TTL sent.
pub const HOPS: u8 = 30;

/// What was seen of one target from one machine.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// When looking began, by the collector's clock.
    pub at: Timestamp,
    /// How long it took, in milliseconds.
    pub took_ms: f64,
    /// What the probe sends.
    pub protocol: Protocol,
    /// Where it sends that.
    pub target: IpAddr,
    /// The port there, of TCP and UDP.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub port: Option<u16>,
    /// The route in use when looking began.
    #[serde(default)]
    pub route: Part<Route>,
    /// The next hop on the link, as the kernel knew it at the end.
    #[serde(default)]
    pub neighbour: Part<Neighbour>,
    /// The routers on the way, by the probe's own protocol.
    #[serde(default)]
    pub path: Part<Path>,
    /// Which sizes of packet pass undivided, by ICMP echo to the target.
    #[serde(default)]
    pub sweep: Part<Sweep>,
    /// A ping of this machine to itself.
    #[serde(default)]
    pub loopback: Part<Control>,
    /// A ping of the next hop.
    #[serde(default)]
    pub gateway: Part<Control>,
    /// What was not finished when the time was up; what it had found by then is there.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cut_off: Vec<Piece>,
}

impl Evidence {
    /// Evidence with no part seen yet.
    #[must_use]
    pub fn new(at: Timestamp, protocol: Protocol, target: IpAddr, port: Option<u16>) -> Self {
        Self {
            at,
            took_ms: 0.0,
            protocol,
            target,
            port,
            route: Part::default(),
            neighbour: Part::default(),
            path: Part::default(),
            sweep: Part::default(),
            loopback: Part::default(),
            gateway: Part::default(),
            cut_off: Vec::new(),
        }
    }
}

/// A part of the evidence, or why there is none.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(untagged)]
pub enum Part<T> {
    /// There is none.
    Absent {
        /// Why.
        #[serde(deserialize_with = "text")]
        absent: String,
    },
    /// What was seen.
    Seen(T),
}

impl<T> Part<T> {
    /// No part, for this reason, which is cut at [`TEXT`] characters.
    #[must_use]
    pub fn absent(why: &str) -> Self {
        Self::Absent { absent: short(why) }
    }

    /// What was seen, if anything.
    #[must_use]
    pub fn seen(&self) -> Option<&T> {
        match self {
            Self::Seen(part) => Some(part),
            Self::Absent { .. } => None,
        }
    }
}

impl<T> Default for Part<T> {
    fn default() -> Self {
        Self::absent("not looked at")
    }
}

/// A part by its name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Piece {
    /// [`Evidence::route`].
    Route,
    /// [`Evidence::neighbour`].
    Neighbour,
    /// [`Evidence::path`].
    Path,
    /// [`Evidence::sweep`].
    Sweep,
    /// [`Evidence::loopback`].
    Loopback,
    /// [`Evidence::gateway`].
    Gateway,
    /// A part of a newer program.
    #[serde(other)]
    Other,
}

/// What a probe sends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Protocol {
    /// ICMP or `ICMPv6` echo.
    Icmp,
    /// A TCP connection.
    Tcp,
    /// A UDP datagram.
    Udp,
    /// Something a newer program sends.
    #[serde(other)]
    Other,
}

/// The kernel's answer to where packets to the target go.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Route {
    /// What the route does with them.
    pub kind: RouteKind,
    /// The address they are sent from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// The router they are handed to; none where the target is on the link itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gateway: Option<IpAddr>,
    /// The interface they leave by.
    #[serde(default, deserialize_with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub interface: Option<String>,
    /// The routing table the route is in; 254 is the main one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub table: Option<u32>,
    /// The route's own MTU in bytes: set there, or learned from a router.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub route_mtu: Option<u32>,
    /// The interface's MTU in bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub interface_mtu: Option<u32>,
}

/// What a route does with packets (rtnetlink(7), `rtm_type`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum RouteKind {
    /// Sends them on.
    Unicast,
    /// Keeps them: the target is this machine.
    Local,
    /// There is no route at all.
    None,
    /// Refuses them: unreachable.
    Unreachable,
    /// Drops them without a word.
    Blackhole,
    /// Refuses them: prohibited.
    Prohibit,
    /// Something else.
    #[serde(other)]
    Other,
}

impl RouteKind {
    /// Whether packets leave, or arrive here.
    #[must_use]
    pub const fn leads_on(self) -> bool {
        matches!(self, Self::Unicast | Self::Local | Self::Other)
    }
}

/// The next hop on the link.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Neighbour {
    /// Its address: the gateway's, or the target's own.
    pub address: IpAddr,
    /// How far the kernel knows it.
    pub state: NeighbourState,
    /// Its link address, such as `02:00:00:00:00:01`.
    #[serde(default, deserialize_with = "maybe_text", skip_serializing_if = "Option::is_none")]
    pub link_address: Option<String>,
}

/// How far the kernel knows a neighbour (rtnetlink(7), `ndm_state`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum NeighbourState {
    /// It was asked for and has not answered yet.
    Incomplete,
    /// It was heard of a moment ago.
    Reachable,
    /// It was heard of some time ago.
    Stale,
    /// Something was sent to it, and it will be asked for if nothing is heard.
    Delay,
    /// It is being asked for again.
    Probe,
    /// It does not answer.
    Failed,
    /// The link has no link addresses.
    NoArp,
    /// Its link address is set by hand.
    Permanent,
    /// The kernel knows of none.
    None,
    /// Something else.
    #[serde(other)]
    Other,
}

impl NeighbourState {
    /// Whether nothing answers there for its address.
    #[must_use]
    pub const fn is_missing(self) -> bool {
        matches!(self, Self::Incomplete | Self::Failed)
    }
}

/// The way towards the target, as far as anyone on it answers.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Path {
    /// From the first to the last that answered, [`HOPS`] at most. Hidden ones right before a router's refusal are left
    /// out, for that router may be any of them.
    #[serde(default, deserialize_with = "hops")]
    pub hops: Vec<Hop>,
    /// Whether the last is the target.
    #[serde(default)]
    pub reached: bool,
    /// From this TTL on nobody answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hidden_from: Option<u8>,
}

/// Who answered a packet with one TTL.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hop {
    /// The packet's TTL, or IPv6 hop limit; 0 where this machine itself answered.
    pub ttl: u8,
    /// Who answered; none where nobody did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub address: Option<IpAddr>,
    /// The round-trip time in milliseconds; none where it is not certain which packet was answered.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
    /// What was answered.
    pub said: Said,
    /// The MTU in bytes that came with [`Said::FragNeeded`].
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mtu: Option<u32>,
}

/// What was answered to a packet (RFC 792, RFC 4443).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Said {
    /// Nothing. Many routers, AWS's among them, never answer: that alone says nothing of loss.
    Hidden,
    /// Its TTL ended here: a router on the way.
    TimeExceeded,
    /// The reply that the probe waits for.
    Reply,
    /// A TCP reset.
    Refused,
    /// No route to the network, or to the address (`ICMPv6` "no route").
    NetUnreachable,
    /// The host is not there, or (`ICMPv6`) the address.
    HostUnreachable,
    /// The host does not speak the protocol.
    ProtocolUnreachable,
    /// Nothing listens on the port.
    PortUnreachable,
    /// A firewall or policy forbids it.
    AdminProhibited,
    /// It is too big for the next link and may not be divided.
    FragNeeded,
    /// Something else.
    #[serde(other)]
    Other,
}

impl Said {
    /// Whether the packet came no further, so that a greater TTL would say the same.
    #[must_use]
    pub const fn is_final(self) -> bool {
        !matches!(self, Self::Hidden | Self::TimeExceeded)
    }

    /// The same in words.
    #[must_use]
    pub const fn words(self) -> &'static str {
        match self {
            Self::Hidden => "nothing",
            Self::TimeExceeded => "time exceeded",
            Self::Reply => "reply",
            Self::Refused => "refused",
            Self::NetUnreachable => "network unreachable",
            Self::HostUnreachable => "host unreachable",
            Self::ProtocolUnreachable => "protocol unreachable",
            Self::PortUnreachable => "port unreachable",
            Self::AdminProhibited => "administratively prohibited",
            Self::FragNeeded => "fragmentation needed",
            Self::Other => "something else",
        }
    }
}

/// Which sizes of packet pass undivided. Sizes are bytes of the whole IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sweep {
    /// The smallest size tried. It passed.
    pub least: u32,
    /// The largest size tried: the interface's MTU.
    pub most: u32,
    /// The largest that passed.
    pub passed: u32,
    /// The smallest that did not; none where all passed. Where time was up it may be none all the same, or more than
    /// one above `passed`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub failed: Option<u32>,
    /// The MTU in bytes that a router named ("fragmentation needed", "packet too big").
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_mtu: Option<u32>,
    /// Who named it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told_by: Option<IpAddr>,
}

impl Sweep {
    /// Whether small packets pass and big ones do not.
    #[must_use]
    pub const fn is_cut(&self) -> bool {
        self.failed.is_some()
    }
}

/// A ping that shows whether the fault is nearer than the link.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Control {
    /// Who was asked.
    pub address: IpAddr,
    /// The round-trip time in milliseconds; none where no reply came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rtt_ms: Option<f64>,
}

fn short(text: &str) -> String {
    text.chars().take(TEXT).collect()
}

fn text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<String, D::Error> {
    Ok(short(&String::deserialize(deserializer)?))
}

fn maybe_text<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<String>, D::Error> {
    Ok(Option::<String>::deserialize(deserializer)?.map(|text| short(&text)))
}

fn hops<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Hop>, D::Error> {
    let mut hops = Vec::deserialize(deserializer)?;
    hops.truncate(usize::from(HOPS));
    Ok(hops)
}
