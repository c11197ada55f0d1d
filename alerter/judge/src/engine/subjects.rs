//! Which subjects there are, and which series each has: made of the config's links, and of what is seen that it names by a tag or
//! not at all.

use std::ops::Range;
use std::time::Duration;

use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use wildmatch::WildMatch;

use super::Engine;
use super::kept::KeptSite;
use crate::facts::{Facts, ProbePlace};
use crate::rule::{Metric, Rule};
use crate::series::Series;

/// How often a collection source that is not EC2 is expected to report a round.
const ROUND: Duration = Duration::from_secs(10);

const OF_PROBE: &[Metric] = &[Metric::PingOk, Metric::LatencyMs, Metric::LossPercent, Metric::JitterMs];

#[derive(Debug)]
pub(super) struct Site {
    pub(super) name: Name,
    pub(super) series: Vec<Series>,
    /// By link, then by probe; a subject's series stand together.
    pub(super) probes: FxHashMap<Name, FxHashMap<Name, (Range<usize>, ProbePlace)>>,
    pub(super) vpns: FxHashMap<Name, FxHashMap<Name, Range<usize>>>,
    /// The links whose VPN connections are found by tag, so that any id may come, with their interval.
    pub(super) tagged: FxHashMap<Name, Duration>,
    pub(super) collections: FxHashMap<Name, Range<usize>>,
    /// How often its VPN connections are polled at the most.
    pub(super) polled: Option<Duration>,
    /// How often its software VPN appliances are asked at the most.
    pub(super) asked: Option<Duration>,
    /// No series has anything to do before event time reaches this.
    pub(super) next: Timestamp,
    pub(super) kept: KeptSite,
    pub(super) changed: bool,
}

impl Site {
    fn new(name: Name) -> Self {
        Self {
            name,
            series: Vec::new(),
            probes: FxHashMap::default(),
            vpns: FxHashMap::default(),
            tagged: FxHashMap::default(),
            collections: FxHashMap::default(),
            polled: None,
            asked: None,
            next: Timestamp::MIN,
            kept: KeptSite::default(),
            changed: false,
        }
    }
}

impl Engine {
    /// Without any observation yet.
    #[must_use]
    pub fn new(rules: Vec<Rule>, topology: &Topology) -> Self {
        let globs = rules
            .iter()
            .map(|rule| rule.subjects.iter().map(|glob| WildMatch::new(glob)).collect())
            .collect();
        let sites = topology.sites.iter().map(|site| Site::new(site.name.clone())).collect();
        let site_of =
            topology.sites.iter().enumerate().map(|(index, site)| (site.name.clone(), index)).collect();
        let facts = Facts::new(topology);
        let mut engine = Self { rules, globs, sites, site_of, facts, late: 0 };
        let probes = topology.links.iter().enumerate().flat_map(|(at, link)| {
            let of_link = link.probes.iter().enumerate();
            of_link.map(move |(probe, of)| (ProbePlace { link: at, probe }, link, of))
        });
        for (place, link, probe) in probes {
            let Some(&site) = engine.site_of.get(&probe.from) else {
                continue;
            };
            let subject = Name::from(format!("{}/{}/{}", link.name, probe.from, probe.name));
            let series = engine.make(site, &subject, Some(&link.name), probe.every, OF_PROBE);
            engine.sites[site]
                .probes
                .entry(link.name.clone())
                .or_default()
                .insert(probe.name.clone(), (series, place));
        }
        for (link, vpn) in topology.vpns() {
            let Some(&site) = engine.site_of.get(&vpn.site) else {
                continue;
            };
            let polled = &mut engine.sites[site].polled;
            *polled = Some(polled.map_or(vpn.every, |other| other.min(vpn.every)));
            match &vpn.select {
                VpnSelect::Id(id) => engine.make_vpn(site, &link.name, id, vpn.every),
                VpnSelect::Tag(..) => {
                    engine.sites[site].tagged.insert(link.name.clone(), vpn.every);
                }
            }
        }
        for (link, appliance) in topology.appliances() {
            if let Some(&site) = engine.site_of.get(&appliance.site) {
                let asked = &mut engine.sites[site].asked;
                *asked = Some(asked.map_or(appliance.every, |other| other.min(appliance.every)));
                engine.make_vpn(site, &link.name, &appliance.name, appliance.every);
            }
        }
        engine
    }

    /// Makes the series of a subject, one for each rule of these metrics that covers it.
    pub(super) fn make(
        &mut self,
        site: usize,
        subject: &Name,
        link: Option<&Name>,
        interval: Duration,
        metrics: &[Metric],
    ) -> Range<usize> {
        let series = &mut self.sites[site].series;
        let first = series.len();
        for (index, (rule, globs)) in self.rules.iter().zip(&self.globs).enumerate() {
            let covered = globs.is_empty() || globs.iter().any(|glob| glob.matches(subject));
            if covered && metrics.contains(&rule.metric) {
                series.push(Series::new(index, rule, subject.clone(), link.cloned(), interval));
            }
        }
        first..series.len()
    }

    pub(super) fn make_vpn(&mut self, site: usize, link: &Name, vpn: &Name, every: Duration) {
        let subject = Name::from(format!("{link}/{vpn}"));
        let series = self.make(site, &subject, Some(link), every, &[Metric::TunnelsUp]);
        self.sites[site].vpns.entry(link.clone()).or_default().insert(vpn.clone(), series);
    }

    pub(super) fn make_collection(&mut self, site: usize, source: &Name) {
        let subject = Name::from(format!("{}/{source}", self.sites[site].name));
        let Site { polled, asked, .. } = &self.sites[site];
        let interval = match source.split(':').next() {
            Some("ec2") => polled.unwrap_or(ROUND),
            Some("strongswan") => asked.unwrap_or(ROUND),
            _ => ROUND,
        };
        let series = self.make(site, &subject, None, interval, &[Metric::CollectionOk, Metric::CollectionMs]);
        self.sites[site].collections.insert(source.clone(), series);
    }

    /// Makes a subject that exists only since it was seen, from its saved name.
    pub(super) fn make_seen(&mut self, site: &str, rule: &str, subject: &str) {
        let Some(&site) = self.site_of.get(site) else {
            return;
        };
        let Some(rule) = self.rules.iter().find(|known| *known.name == *rule) else {
            return;
        };
        let Some((first, rest)) = subject.split_once('/') else {
            return;
        };
        match rule.metric {
            Metric::CollectionOk | Metric::CollectionMs => {
                if !self.sites[site].collections.contains_key(rest) {
                    self.make_collection(site, &Name::from(rest));
                }
            }
            Metric::TunnelsUp => {
                let known = self.sites[site].vpns.get(first).is_some_and(|of| of.contains_key(rest));
                if let Some(&every) = self.sites[site].tagged.get(first).filter(|_| !known) {
                    self.make_vpn(site, &Name::from(first), &Name::from(rest), every);
                }
            }
            Metric::PingOk | Metric::LatencyMs | Metric::LossPercent | Metric::JitterMs => {}
        }
    }
}
