//! Whom a series is of: a probe, a VPN connection, a source, or a site's collector itself.

use std::time::Duration;

use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::observation::Name;

/// The sources whose rounds a collector tells of (`collector/src/rounds.rs`).
const SOURCES: [&str; 7] = ["icmp", "tcp", "udp", "dns", "journal", "ec2:vpn-status", "strongswan:tunnels"];

/// How often a source tells of a round that has no pace of its own.
const ROUND: Duration = Duration::from_secs(10);

/// Of how long the states of a site's collector are written.
const SECOND: Duration = Duration::from_secs(1);

/// Whom a series is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Subject {
    Probe {
        link: Name,
        probe: Name,
    },
    Vpn {
        link: Name,
        vpn: Name,
    },
    Source {
        source: Name,
    },
    /// The site's collector.
    Collector,
}

/// A subject of the config, with the site that sees it and how often it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) site: Name,
    pub(crate) subject: Subject,
    pub(crate) every: Duration,
}

/// The subject that is written so: `LINK/SITE/PROBE`, `LINK/VPN`, `SITE/SOURCE` or `SITE`.
pub(crate) fn find(topology: &Topology, written: &str) -> Option<Seen> {
    for (link, probe) in topology.probes() {
        if format!("{}/{}/{}", link.name, probe.from, probe.name) == written {
            let subject = Subject::Probe { link: link.name.clone(), probe: probe.name.clone() };
            return Some(Seen { site: probe.from.clone(), subject, every: probe.every });
        }
    }
    let Some((first, rest)) = written.split_once('/') else {
        let site = topology.site(written)?.name.clone();
        return Some(Seen { site, subject: Subject::Collector, every: SECOND });
    };
    let of_vpn = |link: &Name| Subject::Vpn { link: link.clone(), vpn: rest.into() };
    for (link, vpn) in topology.vpns().filter(|(link, _)| *link.name == *first) {
        let is_it = match &vpn.select {
            VpnSelect::Id(id) => **id == *rest,
            // Any connection may turn out to have it.
            VpnSelect::Tag(..) => rest.starts_with("vpn-"),
        };
        if is_it {
            return Some(Seen { site: vpn.site.clone(), subject: of_vpn(&link.name), every: vpn.every });
        }
    }
    for (link, appliance) in topology.appliances() {
        if *link.name == *first && *appliance.name == *rest {
            let (site, every) = (appliance.site.clone(), appliance.every);
            return Some(Seen { site, subject: of_vpn(&link.name), every });
        }
    }
    let site = topology.site(first)?.name.clone();
    let source = *SOURCES.iter().find(|source| **source == rest)?;
    let every = pace(topology, &site, source);
    Some(Seen { site, subject: Subject::Source { source: source.into() }, every })
}

/// How often a source tells of a round, as the rules expect it.
fn pace(topology: &Topology, site: &Name, source: &str) -> Duration {
    let paces: Vec<Duration> = match source {
        "ec2:vpn-status" => {
            topology.vpns().filter(|(_, vpn)| vpn.site == *site).map(|(_, vpn)| vpn.every).collect()
        }
        "strongswan:tunnels" => {
            topology.appliances().filter(|(_, of)| of.site == *site).map(|(_, of)| of.every).collect()
        }
        _ => Vec::new(),
    };
    paces.into_iter().min().unwrap_or(ROUND)
}

/// Everything that a series can be of, as far as the config names it.
pub(crate) fn known(topology: &Topology) -> Vec<String> {
    let probes =
        topology.probes().map(|(link, probe)| format!("{}/{}/{}", link.name, probe.from, probe.name));
    let vpns = topology.vpns().filter_map(|(link, vpn)| match &vpn.select {
        VpnSelect::Id(id) => Some(format!("{}/{id}", link.name)),
        VpnSelect::Tag(..) => None,
    });
    let appliances = topology.appliances().map(|(link, of)| format!("{}/{}", link.name, of.name));
    let sites = topology.sites.iter().map(|site| site.name.to_string());
    let sources = topology
        .sites
        .iter()
        .flat_map(|site| SOURCES.iter().map(move |source| format!("{}/{source}", site.name)));
    probes.chain(vpns).chain(appliances).chain(sites).chain(sources).collect()
}
