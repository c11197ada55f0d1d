//! Facts: what is known of each link just now, apart from any rule. The newest of each probe, VPN connection, capture of
//! evidence and collection; verdicts are read from them.
//!
//! They are kept across a restart as of the last time something turned; what is routine comes again within seconds.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crosswatch_shared::config::topology::{Host, Probe, Target, Topology};
use crosswatch_shared::evidence::{Evidence, Part};
use crosswatch_shared::observation::{Body, Detail, Lost, Name, Observation, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::engine::{Saved, save};
use crate::series::Order;

/// Of so many newest outcomes it is known which were lost.
pub const RECENT: u32 = u32::BITS;

/// So many replies in a row end a trouble: what is lost after them is of another.
const CALM: u32 = 5;

/// A reply is taken to be under way for so long at least.
const FLIGHT: Duration = Duration::from_millis(100);

/// Captures are at most so often; one from before a rule fired is of the same trouble.
const CAPTURES: Duration = Duration::from_secs(60);

/// What is known of every link and every site's collector.
#[derive(Debug)]
pub struct Facts {
    /// In the order of the config.
    links: Vec<LinkFacts>,
    link_of: FxHashMap<Name, usize>,
    collectors: BTreeMap<Name, CollectorFacts>,
}

/// A probe's place: that of its link in the config, and its own in the link. Each observation asks for it.
#[derive(Clone, Copy, Debug)]
pub(crate) struct ProbePlace {
    pub(crate) link: usize,
    pub(crate) probe: usize,
}

/// What is known of a link.
#[derive(Debug)]
pub struct LinkFacts {
    name: Name,
    /// The sites it joins.
    pub between: Vec<Name>,
    /// Its probes, in the order of the config.
    pub probes: Vec<ProbeFacts>,
    /// Its VPN connections and appliances by site and id, as far as they were heard of.
    pub vpns: BTreeMap<(Name, Name), VpnFacts>,
    /// By site: how many tunnels its VPN connections should have up, in all.
    expected: BTreeMap<Name, u32>,
    /// Something was observed since this was last asked.
    touched: bool,
    /// Something turned since it was last saved.
    changed: bool,
}

/// What is known of a probe.
#[derive(Clone, Debug)]
pub struct ProbeFacts {
    /// The site it is sent from.
    pub site: Name,
    /// Its name.
    pub name: Name,
    /// The machine it goes to.
    pub host: String,
    /// `icmp`, `tcp` or `udp`.
    pub protocol: &'static str,
    /// The size of its packets, where it looks for ways too narrow.
    pub size: Option<u16>,
    /// What was seen; nothing before its first outcome.
    pub seen: Option<Outcomes>,
    /// What was captured last.
    pub looked: Option<Looked>,
}

/// What came of a probe.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Outcomes {
    newest: Order,
    /// Why the newest was lost; `None` for a reply.
    pub lost: Option<Lost>,
    /// Since when each was a reply, or each was lost.
    pub since: Timestamp,
    /// When the newest that was answered was sent.
    pub answered: Option<Timestamp>,
    /// How long the newest reply took, in milliseconds.
    #[serde(default)]
    rtt_ms: f64,
    /// Which of the newest [`RECENT`] were lost; the newest is bit 0.
    recent: u32,
    /// How many they are.
    count: u32,
    /// Packets lost on the way there and on the way back, as STAMP tells it, in the present trouble.
    pub ways: (i64, i64),
    /// The largest IP packet that the way is known to take, in bytes.
    pub mtu: Option<u32>,
}

/// What a capture of evidence says of the collector's own side, and all of it in a line.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Looked {
    /// When looking began.
    pub at: Timestamp,
    /// The machine does not answer itself, or has no route, or its next hop is not there.
    pub blind: bool,
    /// The evidence's own summary.
    pub summary: String,
}

/// What is known of a VPN connection's tunnels.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct VpnFacts {
    newest: Order,
    /// Its tunnels by outside address: whether each is up.
    pub tunnels: BTreeMap<String, bool>,
    /// The trouble it is in, or was in last.
    pub trouble: Option<Trouble>,
}

/// A time in which fewer tunnels were up than before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Trouble {
    /// When it was first seen.
    pub began: Timestamp,
    /// When all were seen up again.
    pub ended: Option<Timestamp>,
    /// The tunnels that were down at some time of it.
    pub down: BTreeSet<String>,
    /// None was up at some time of it.
    pub all: bool,
}

/// How a site's collections go, by source.
#[derive(Debug, Default)]
pub struct CollectorFacts {
    /// By source: the newest round.
    pub sources: BTreeMap<Name, Round>,
    changed: bool,
}

/// A round of a collection.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Round {
    newest: Order,
    /// Whether it succeeded.
    pub ok: bool,
    /// Why it did not.
    pub error: Option<String>,
}

/// What of a link must survive a restart. Names as text, since JSON's keys are.
#[derive(Debug, Default, Serialize, Deserialize)]
struct KeptLink {
    probes: Vec<(Name, Name, Option<Outcomes>, Option<Looked>)>,
    vpns: Vec<(Name, Name, VpnFacts)>,
}

impl Facts {
    /// With nothing known yet.
    #[must_use]
    pub(crate) fn new(topology: &Topology) -> Self {
        let links = topology.links.iter().map(|link| {
            let mut expected = BTreeMap::new();
            let vpns = link.vpns.iter().map(|vpn| (&vpn.site, vpn.expect_up));
            let appliances = link.appliances.iter().map(|of| (&of.site, of.expect_up));
            for (site, expect_up) in vpns.chain(appliances) {
                *expected.entry(site.clone()).or_insert(0) += expect_up;
            }
            LinkFacts {
                name: link.name.clone(),
                between: link.between.clone(),
                probes: link.probes.iter().map(ProbeFacts::new).collect(),
                vpns: BTreeMap::new(),
                expected,
                touched: false,
                changed: false,
            }
        });
        let link_of = topology.links.iter().enumerate().map(|(place, link)| (link.name.clone(), place));
        let collectors = topology.sites.iter().map(|site| (site.name.clone(), CollectorFacts::default()));
        Self { links: links.collect(), link_of: link_of.collect(), collectors: collectors.collect() }
    }

    /// What is known of a link; `None` if the config lacks it.
    #[must_use]
    pub fn link(&self, name: &str) -> Option<&LinkFacts> {
        self.links.get(*self.link_of.get(name)?)
    }

    fn link_mut(&mut self, name: &str) -> Option<&mut LinkFacts> {
        self.links.get_mut(*self.link_of.get(name)?)
    }

    /// How a site's collections go; `None` if the config lacks it.
    #[must_use]
    pub fn collector(&self, site: &str) -> Option<&CollectorFacts> {
        self.collectors.get(site)
    }

    /// Whether anything was observed of a link since this was last asked.
    pub fn take_touched(&mut self, link: &str) -> bool {
        self.link_mut(link).is_some_and(|link| std::mem::take(&mut link.touched))
    }

    /// Takes an observation of a site, which was neither foreign nor seen before; one of a probe with the probe's place.
    pub(crate) fn observe(
        &mut self,
        site: &Name,
        place: Option<ProbePlace>,
        order: Order,
        observation: &Observation,
    ) {
        match &observation.body {
            Body::Probe { outcome, detail, .. } => {
                self.of_probe(place, |facts| facts.observe(order, outcome, detail.as_deref()));
            }
            Body::Evidence { evidence, .. } => self.of_probe(place, |facts| facts.look(evidence)),
            Body::Tunnels { link, vpn, tunnels } => {
                if let Some(facts) = self.link_mut(link).filter(|_| !tunnels.is_empty()) {
                    facts.touched = true;
                    let key = (site.clone(), vpn.clone());
                    facts.changed |= match facts.vpns.get_mut(&key) {
                        Some(vpn) => vpn.observe(order, tunnels),
                        None => facts.vpns.insert(key, VpnFacts::new(order, tunnels)).is_none(),
                    };
                }
            }
            Body::Drill { .. } => {}
            Body::Collection { source, ok, error, .. } => {
                let Some(collector) = self.collectors.get_mut(site) else {
                    return;
                };
                let before = collector.sources.get(source);
                if before.is_none_or(|before| before.newest < order) {
                    collector.changed |=
                        before.is_none_or(|before| before.ok != *ok || before.error != *error);
                    let round = Round { newest: order, ok: *ok, error: error.clone() };
                    collector.sources.insert(source.clone(), round);
                }
            }
        }
    }

    fn of_probe(&mut self, place: Option<ProbePlace>, observe: impl FnOnce(&mut ProbeFacts) -> bool) {
        let link = place.and_then(|of| Some((of, self.links.get_mut(of.link)?)));
        if let Some((of, link)) = link
            && let Some(facts) = link.probes.get_mut(of.probe)
        {
            link.touched = true;
            link.changed |= observe(facts);
        }
    }

    /// A boot of a site was found to belong at this place: see `Series::make_place`.
    pub(crate) fn make_place(&mut self, site: &Name, place: u32) {
        let Self { links, collectors, .. } = self;
        let of_links = links.iter_mut().flat_map(|link| {
            let probes = link.probes.iter_mut().filter(|of| of.site == *site);
            let outcomes = probes.filter_map(|of| of.seen.as_mut()).map(|seen| &mut seen.newest);
            let vpns = link.vpns.iter_mut().filter(|((of, _), _)| of == site);
            outcomes.chain(vpns.map(|(_, vpn)| &mut vpn.newest))
        });
        let rounds = collectors.get_mut(site).into_iter().flat_map(|of| of.sources.values_mut());
        for newest in of_links.chain(rounds.map(|round| &mut round.newest)) {
            if newest.boot >= place {
                newest.boot = newest.boot.saturating_add(1);
            }
        }
    }

    /// What has turned since the last call, under `link/<name>` and `collector/<site>`.
    pub(crate) fn changed(&mut self) -> Vec<Saved> {
        let mut saved = Vec::new();
        for link in self.links.iter_mut().filter(|link| link.changed) {
            link.changed = false;
            let probes = link.probes.iter().filter(|of| of.seen.is_some() || of.looked.is_some());
            let kept = KeptLink {
                probes: probes
                    .map(|of| (of.site.clone(), of.name.clone(), of.seen.clone(), of.looked.clone()))
                    .collect(),
                vpns: link
                    .vpns
                    .iter()
                    .map(|((site, vpn), facts)| (site.clone(), vpn.clone(), facts.clone()))
                    .collect(),
            };
            saved.push(save(format!("link/{}", link.name), &kept));
        }
        for (site, collector) in self.collectors.iter_mut().filter(|(_, collector)| collector.changed) {
            collector.changed = false;
            saved.push(save(format!("collector/{site}"), &collector.sources));
        }
        saved
    }

    /// Takes up what was saved under such a key; what the config lacks is left out. `false` for a key of another kind.
    pub(crate) fn restore(&mut self, key: &str, value: &[u8]) -> serde_json::Result<bool> {
        if let Some(name) = key.strip_prefix("link/") {
            let kept: KeptLink = serde_json::from_slice(value)?;
            if let Some(link) = self.link_mut(name) {
                for (site, probe, seen, looked) in kept.probes {
                    if let Some(of) = link.probes.iter_mut().find(|of| of.name == probe && of.site == site) {
                        (of.seen, of.looked) = (seen, looked);
                    }
                }
                let vpns = kept.vpns.into_iter().filter(|(site, _, _)| link.expected.contains_key(site));
                link.vpns = vpns.map(|(site, vpn, facts)| ((site, vpn), facts)).collect();
            }
            return Ok(true);
        }
        if let Some(site) = key.strip_prefix("collector/") {
            let sources = serde_json::from_slice(value)?;
            if let Some(collector) = self.collectors.get_mut(site) {
                collector.sources = sources;
            }
            return Ok(true);
        }
        Ok(false)
    }
}

impl LinkFacts {
    /// Its probes of ordinary size.
    pub fn small(&self) -> impl Iterator<Item = &ProbeFacts> {
        self.probes.iter().filter(|probe| probe.size.is_none())
    }

    /// What was captured of each probe that fails, in trouble that began at this time or shortly before it.
    #[must_use]
    pub fn evidence(&self, began: Timestamp) -> Vec<String> {
        let line = |probe: &ProbeFacts| {
            probe.seen.as_ref()?.lost?;
            let looked = probe.looked.as_ref().filter(|looked| looked.at + CAPTURES > began)?;
            Some(format!("{}: {}", probe.label(), looked.summary))
        };
        self.probes.iter().filter_map(line).collect()
    }

    /// How many tunnels are up and how many there are, by the site whose VPN connections tell, with how many should be
    /// up and when the oldest of these answers was made.
    pub fn ends(&self) -> impl Iterator<Item = End<'_>> {
        self.expected.iter().filter_map(|(site, &expected)| {
            let of_site = || self.vpns.iter().filter(move |((of, _), _)| of == site).map(|(_, vpn)| vpn);
            let tunnels = || of_site().flat_map(|vpn| vpn.tunnels.values());
            Some(End {
                site,
                up: tunnels().filter(|up| **up).count(),
                total: tunnels().count(),
                expected: usize::try_from(expected).unwrap_or(usize::MAX),
                at: of_site().map(VpnFacts::at).min()?,
            })
        })
    }
}

/// One end's tunnels.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct End<'a> {
    /// The site whose VPN connections these are.
    pub site: &'a Name,
    /// How many are up.
    pub up: usize,
    /// How many there are.
    pub total: usize,
    /// How many should be up.
    pub expected: usize,
    /// When this was asked for.
    pub at: Timestamp,
}

impl ProbeFacts {
    fn new(probe: &Probe) -> Self {
        let protocol = match probe.target {
            Target::Icmp(_) => "icmp",
            Target::Tcp(..) => "tcp",
            Target::Udp(..) => "udp",
        };
        let host = match probe.target.host() {
            Host::Address(address) => address.to_string(),
            Host::Name(name) => name.clone(),
        };
        Self {
            site: probe.from.clone(),
            name: probe.name.clone(),
            host,
            protocol,
            size: probe.size,
            seen: None,
            looked: None,
        }
    }

    /// Takes an outcome; whether it turned.
    fn observe(&mut self, order: Order, outcome: &Outcome, detail: Option<&Detail>) -> bool {
        let (lost, rtt_ms) = match outcome {
            // This machine is to blame: it says nothing of the link.
            Outcome::Lost(Lost::Local) => return false,
            Outcome::Lost(why) => (Some(*why), None),
            Outcome::Reply { rtt_ms } => (None, Some(*rtt_ms)),
        };
        let at = order.at;
        let Some(seen) = &mut self.seen else {
            self.seen = Some(Outcomes {
                newest: order,
                lost,
                since: at,
                answered: lost.is_none().then_some(at),
                rtt_ms: rtt_ms.unwrap_or_default(),
                recent: u32::from(lost.is_some()),
                count: 1,
                ways: ways(detail),
                mtu: detail.and_then(|detail| detail.mtu),
            });
            return true;
        };
        if order <= seen.newest {
            return seen.observe_late(at, lost.is_some());
        }
        let turned = lost.is_some() != seen.lost.is_some();
        if turned {
            seen.since = at;
            if lost.is_some() && seen.is_calm() {
                seen.ways = (0, 0);
            }
        }
        if lost.is_none() {
            seen.answered = Some(at);
        }
        seen.rtt_ms = rtt_ms.unwrap_or(seen.rtt_ms);
        (seen.newest, seen.lost) = (order, lost);
        seen.recent = seen.recent << 1 | u32::from(lost.is_some());
        seen.count = (seen.count + 1).min(RECENT);
        let (forward, back) = ways(detail);
        seen.ways = (seen.ways.0 + forward, seen.ways.1 + back);
        seen.mtu = detail.and_then(|detail| detail.mtu).or(seen.mtu);
        turned || (forward, back) != (0, 0)
    }

    fn look(&mut self, evidence: &Evidence) -> bool {
        if self.looked.as_ref().is_some_and(|before| before.at >= evidence.at) {
            return false;
        }
        let silent = |control: &Part<crosswatch_shared::evidence::Control>| {
            control.seen().is_some_and(|control| control.rtt_ms.is_none())
        };
        let no_way = evidence.route.seen().is_some_and(|route| !route.kind.leads_on());
        let no_neighbour = evidence.neighbour.seen().is_some_and(|next| next.state.is_missing());
        // A gateway need not answer pings; one whose link address is not to be had is not there.
        let no_gateway = silent(&evidence.gateway) && no_neighbour;
        let blind = silent(&evidence.loopback) || no_way || no_gateway;
        self.looked = Some(Looked { at: evidence.at, blind, summary: evidence.summary() });
        true
    }

    /// Whether the newest was lost.
    #[must_use]
    pub fn is_lost(&self) -> bool {
        self.seen.as_ref().is_some_and(|seen| seen.lost.is_some())
    }

    /// `<site>/<probe>`, as a person is told it.
    #[must_use]
    pub fn label(&self) -> String {
        format!("{}/{}", self.site, self.name)
    }
}

/// What STAMP tells of each direction, with a reply that takes a loss back.
fn ways(detail: Option<&Detail>) -> (i64, i64) {
    let lost = |way: Option<crosswatch_shared::observation::Way>| way.map_or(0, |way| i64::from(way.lost));
    detail.map_or((0, 0), |detail| (lost(detail.forward), lost(detail.back)))
}

impl Outcomes {
    /// When the newest was sent.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.newest.at
    }

    /// How many of the newest were lost in a row.
    #[must_use]
    pub fn run(&self) -> u32 {
        self.recent.trailing_ones()
    }

    /// Whether enough were answered in a row that what is lost next is of another trouble.
    #[must_use]
    pub fn is_calm(&self) -> bool {
        self.recent.trailing_zeros() >= CALM
    }

    /// How many of the newest [`RECENT`] were lost, and of how many.
    #[must_use]
    pub fn lost_of(&self) -> (u32, u32) {
        (self.recent.count_ones(), self.count)
    }

    /// Whether losses and replies took turns of late: at least three times it was lost and answered again.
    #[must_use]
    pub fn is_flaky(&self) -> bool {
        (!self.recent & (self.recent >> 1)).count_ones() >= 3
    }

    /// By when that was broken which it is lost by: what was lost first may have got there, and its reply was still under way.
    /// Round-trip times vary: it may have taken twice as long as the one before.
    #[must_use]
    pub fn broke(&self) -> Timestamp {
        let flight = Duration::try_from_secs_f64(2.0 * self.rtt_ms / 1e3).unwrap_or_default();
        self.since + flight.max(FLIGHT)
    }

    /// Takes an outcome from before the newest: it can only move when the present run began.
    fn observe_late(&mut self, at: Timestamp, lost: bool) -> bool {
        if lost {
            let extends =
                self.lost.is_some() && at < self.since && self.answered.is_none_or(|answered| at > answered);
            if extends {
                self.since = at;
            }
            return extends;
        }
        self.answered = self.answered.max(Some(at));
        if self.lost.is_some() {
            self.since = self.since.max(at);
        }
        false
    }
}

impl VpnFacts {
    fn new(order: Order, tunnels: &[Tunnel]) -> Self {
        let mut facts = Self { newest: order, tunnels: BTreeMap::new(), trouble: None };
        facts.take(order, tunnels);
        facts
    }

    /// Takes an answer; whether a tunnel turned.
    fn observe(&mut self, order: Order, tunnels: &[Tunnel]) -> bool {
        order > self.newest && self.take(order, tunnels)
    }

    fn take(&mut self, order: Order, tunnels: &[Tunnel]) -> bool {
        self.newest = order;
        let now: BTreeMap<String, bool> =
            tunnels.iter().map(|tunnel| (tunnel.outside_ip.clone(), tunnel.up)).collect();
        let down: BTreeSet<String> = now.iter().filter(|(_, up)| !**up).map(|(ip, _)| ip.clone()).collect();
        let open = self.trouble.as_mut().filter(|trouble| trouble.ended.is_none());
        match (open, down.is_empty()) {
            (None, true) => {}
            (Some(trouble), true) => trouble.ended = Some(order.at),
            (open, false) => {
                let all = down.len() == now.len();
                match open {
                    Some(trouble) => {
                        trouble.down.extend(down);
                        trouble.all |= all;
                    }
                    None => self.trouble = Some(Trouble { began: order.at, ended: None, down, all }),
                }
            }
        }
        let turned = self.tunnels != now;
        self.tunnels = now;
        turned
    }

    /// When it was asked for.
    #[must_use]
    pub fn at(&self) -> Timestamp {
        self.newest.at
    }
}
