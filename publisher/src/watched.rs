//! What the config names: anything else that arrives is foreign, and is counted instead of published.

use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::observation::{Body, Name};
use rustc_hash::FxHashSet;

#[derive(Debug)]
pub(crate) struct Watched {
    sites: FxHashSet<Name>,
    /// Site, link, probe.
    probes: FxHashSet<(Name, Name, Name)>,
    /// Site, link, id.
    vpns: FxHashSet<(Name, Name, Name)>,
    /// Site, link: connections found there by a tag may have any id.
    tagged: FxHashSet<(Name, Name)>,
}

impl Watched {
    pub(crate) fn new(topology: &Topology) -> Self {
        let mut watched = Self {
            sites: topology.sites.iter().map(|site| site.name.clone()).collect(),
            probes: FxHashSet::default(),
            vpns: FxHashSet::default(),
            tagged: FxHashSet::default(),
        };
        for (link, probe) in topology.probes() {
            let probe = (probe.from.clone(), link.name.clone(), probe.name.clone());
            watched.probes.insert(probe);
        }
        for (link, vpn) in topology.vpns() {
            let (site, link) = (vpn.site.clone(), link.name.clone());
            match &vpn.select {
                VpnSelect::Id(id) => drop(watched.vpns.insert((site, link, id.clone()))),
                VpnSelect::Tag(..) => drop(watched.tagged.insert((site, link))),
            }
        }
        for (link, appliance) in topology.appliances() {
            watched.vpns.insert((appliance.site.clone(), link.name.clone(), appliance.name.clone()));
        }
        watched
    }

    pub(crate) fn has_site(&self, site: &Name) -> bool {
        self.sites.contains(site)
    }

    /// Whether a site that is watched is meant to see this.
    pub(crate) fn has(&self, site: &Name, body: &Body) -> bool {
        match body {
            Body::Probe { link, probe, .. } | Body::Evidence { link, probe, .. } => {
                self.probes.contains(&(site.clone(), link.clone(), probe.clone()))
            }
            Body::Tunnels { link, vpn, .. } => {
                self.vpns.contains(&(site.clone(), link.clone(), vpn.clone()))
                    || self.tagged.contains(&(site.clone(), link.clone()))
            }
            Body::Collection { .. } | Body::Drill { .. } => true,
        }
    }
}
