//! Sites, links and what is measured of them: the part of the configuration that every stage needs.

mod links;
mod queue;
mod shard;
mod target;

use std::net::{IpAddr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use super::document::Table;
use super::values;
use crate::observation::Name;

pub use shard::{shard, worker};

/// Who watches what, and over which queue: the sections `site`, `link`, `queue` and `http`.
#[derive(Clone, Debug, PartialEq)]
pub struct Topology {
    /// In the order of the file.
    pub sites: Vec<Site>,
    /// In the order of the file.
    pub links: Vec<Link>,
    /// What lies between the stages.
    pub queue: Queue,
    /// Where `/metrics`, `/healthz` and `/readyz` are served; `None`: the process's default port on loopback.
    pub listen: Option<SocketAddr>,
}

/// A vantage point with a collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Site {
    /// Its name.
    pub name: Name,
    /// The AWS region whose VPN connections this site's collector polls; absent outside AWS.
    pub region: Option<String>,
    /// The role, by ARN, under which it polls them; `None`: the collector's own.
    pub role: Option<String>,
    /// The SNS topic of the site's own region, by ARN: for what its collector says when it reaches no alerter, and for
    /// the alarms on AWS's own `TunnelState`.
    pub topic: Option<String>,
}

/// A cross-region connection that is watched.
#[derive(Clone, Debug, PartialEq)]
pub struct Link {
    /// Its name.
    pub name: Name,
    /// The sites it joins.
    pub between: Vec<Name>,
    /// Its VPN connections.
    pub vpns: Vec<Vpn>,
    /// Its software VPN appliances.
    pub appliances: Vec<Appliance>,
    /// Its probes.
    pub probes: Vec<Probe>,
}

/// A VPN connection whose tunnels are polled.
#[derive(Clone, Debug, PartialEq)]
pub struct Vpn {
    /// The site whose collector polls it.
    pub site: Name,
    /// How it is found.
    pub select: VpnSelect,
    /// How often it is polled; at least 10 s.
    pub every: Duration,
    /// How many tunnels should be up.
    pub expect_up: u32,
    /// The region it is in, where that is not the site's.
    pub region: Option<String>,
    /// The role, by ARN, under which it is polled, where that is not the site's.
    pub role: Option<String>,
}

/// How a VPN connection is found.
#[derive(Clone, Debug, PartialEq)]
pub enum VpnSelect {
    /// By its id, `vpn-…`.
    Id(Name),
    /// By a tag: key and value.
    Tag(String, String),
}

/// A software VPN appliance's tunnels, asked of its strongSwan daemon on the machine of the site's collector.
#[derive(Clone, Debug, PartialEq)]
pub struct Appliance {
    /// The site whose collector asks it.
    pub site: Name,
    /// What its observations call it: `strongswan:<child>@<site>`.
    pub name: Name,
    /// The daemon's VICI socket.
    pub socket: PathBuf,
    /// The name of its children in swanctl.conf, or a glob.
    pub child: Name,
    /// How often it is asked.
    pub every: Duration,
    /// How many tunnels should be up.
    pub expect_up: u32,
}

/// One directed measurement of a link.
#[derive(Clone, Debug, PartialEq)]
pub struct Probe {
    /// `<protocol>:<target>`, or the name given in the config; unique for its link and site.
    pub name: Name,
    /// The site it is sent from.
    pub from: Name,
    /// By which protocol, to where.
    pub target: Target,
    /// How often it is sent.
    pub every: Duration,
    /// How long a reply is waited for.
    pub timeout: Duration,
    /// How many packets are sent each time, a few milliseconds apart; 1 unless asked for.
    pub burst: u32,
    /// The size of its IP packets in bytes, sent with Don't Fragment set; `None`: small ones.
    pub size: Option<u16>,
}

/// A probe's protocol and where it goes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Target {
    /// ICMP or `ICMPv6` echo.
    Icmp(Host),
    /// A TCP connection opened to this port.
    Tcp(Host, u16),
    /// STAMP test packets (RFC 8762) to the reflector at this UDP port.
    Udp(Host, u16),
}

impl Target {
    /// The machine it goes to.
    #[must_use]
    pub fn host(&self) -> &Host {
        match self {
            Self::Icmp(host) | Self::Tcp(host, _) | Self::Udp(host, _) => host,
        }
    }
}

/// An address, or a name to resolve.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Host {
    /// An address.
    Address(IpAddr),
    /// A DNS name.
    Name(String),
}

/// What lies between the stages.
#[derive(Clone, Debug, PartialEq)]
pub struct Queue {
    /// The folder of the journals and of the stages' own files.
    pub path: PathBuf,
    /// How the observations reach the publisher and the alerter.
    pub kind: QueueKind,
    /// How long the journal keeps what every consumer has had.
    pub keep: Duration,
    /// How many bytes a journal may take before the oldest goes, whoever has not had it.
    pub max_bytes: u64,
}

/// The queue's backend.
#[derive(Clone, Debug, PartialEq)]
pub enum QueueKind {
    /// The journal itself, on one machine.
    Embedded,
    /// Amazon SQS.
    Sqs {
        /// The publishers' queues; links are spread over them.
        publisher: Vec<SqsQueue>,
        /// The alerters' queues; links are spread over them.
        alerter: Vec<SqsQueue>,
    },
}

/// A queue of Amazon SQS.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SqsQueue {
    /// Its URL.
    pub url: String,
    /// The URL of the queue, in another region, that gets what the first cannot take.
    pub standby: Option<String>,
    /// The URL of the second alerter's queue, which gets everything as well; none of a publisher's.
    pub second: Option<String>,
}

fn take_listen(root: &mut Table<'_>) -> Option<Option<SocketAddr>> {
    let Some(mut http) = root.section("http")? else {
        return Some(None);
    };
    let listen = http.maybe("listen", |value| {
        value.parsed("127.0.0.1:9464", |text| {
            text.parse().map_err(|_| {
                format!(
                    "'{}' is not an address with a port; write one such as \"127.0.0.1:9464\" (port 0 takes a free one)",
                    values::short(text)
                )
            })
        })
    });
    http.finish();
    listen
}

impl Topology {
    /// Takes the sections `site`, `link`, `queue` and `http`; `None` when something in them is wrong, which is noted
    /// then.
    pub fn take(root: &mut Table<'_>) -> Option<Self> {
        let before = root.place().problems();
        let (sites, names) = links::take_sites(root);
        let links = links::take_links(root, &names);
        let queue = queue::take(root);
        let listen = take_listen(root);
        let topology = Self { sites, links, queue: queue?, listen: listen? };
        (root.place().problems() == before).then_some(topology)
    }

    /// What the process that reads the queue at this place has to do with: its share of the links. All sites stay.
    #[must_use]
    pub fn of_queue(mut self, place: usize, count: usize) -> Self {
        self.links.retain(|link| shard(&link.name, count) == place);
        self
    }

    /// How many queues the publishers and the alerters read; each has a process of its own.
    #[must_use]
    pub fn queues(&self) -> (usize, usize) {
        match &self.queue.kind {
            QueueKind::Embedded => (1, 1),
            QueueKind::Sqs { publisher, alerter } => (publisher.len().max(1), alerter.len().max(1)),
        }
    }

    /// The site of this name.
    #[must_use]
    pub fn site(&self, name: &str) -> Option<&Site> {
        self.sites.iter().find(|site| &*site.name == name)
    }

    /// Where a VPN connection is polled: its own region or else its site's, and likewise the role.
    #[must_use]
    pub fn account<'a>(&'a self, vpn: &'a Vpn) -> (Option<&'a str>, Option<&'a str>) {
        let site = self.site(&vpn.site);
        let region = vpn.region.as_deref().or_else(|| site?.region.as_deref());
        let role = vpn.role.as_deref().or_else(|| site?.role.as_deref());
        (region, role)
    }

    /// How seldom a site may send without being silent, by what it measures: a collector sends all the time, but what only polls
    /// VPN connections may be run once each time, and then sends as often as it polls.
    #[must_use]
    pub fn rhythm(&self, site: &str) -> Duration {
        let measures = self.probes().any(|(_, probe)| &*probe.from == site)
            || self.appliances().any(|(_, appliance)| &*appliance.site == site);
        let polls = self.vpns().filter(|(_, vpn)| &*vpn.site == site).map(|(_, vpn)| vpn.every);
        polls.min().filter(|_| !measures).unwrap_or(Duration::ZERO)
    }

    /// Every probe with its link, in the order of the file.
    pub fn probes(&self) -> impl Iterator<Item = (&Link, &Probe)> {
        self.links.iter().flat_map(|link| link.probes.iter().map(move |probe| (link, probe)))
    }

    /// Every VPN connection with its link, in the order of the file.
    pub fn vpns(&self) -> impl Iterator<Item = (&Link, &Vpn)> {
        self.links.iter().flat_map(|link| link.vpns.iter().map(move |vpn| (link, vpn)))
    }

    /// Every software VPN appliance with its link, in the order of the file.
    pub fn appliances(&self) -> impl Iterator<Item = (&Link, &Appliance)> {
        self.links.iter().flat_map(|link| link.appliances.iter().map(move |appliance| (link, appliance)))
    }
}
