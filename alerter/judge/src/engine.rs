//! The engine: every rule for every subject. It knows which series an observation concerns, what was seen already, and
//! each site's event time.

use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;

use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::observation::{Body, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use wildmatch::WildMatch;

use crate::baseline::{Baseline, Ended, Hour, Usual};
use crate::boots::Boots;
use crate::facts::{Facts, ProbePlace};
use crate::incident::{Event, Incidents};
use crate::rule::{Metric, Rule};
use crate::series::judgement::Judgement;
use crate::series::{Kept, Order, Series};
use crate::transition::{State, Transition};

/// No series.
const NONE: Range<usize> = 0..0;

/// What the keys of baselines begin with: of the hours that are over, and of those that are open.
const ENDED: &str = "usual";
const OPEN: &str = "hours";

/// How often a collection source that is not EC2 is expected to report a round.
const ROUND: Duration = Duration::from_secs(10);

/// Judges observations by rules.
#[derive(Debug)]
pub struct Engine {
    rules: Vec<Rule>,
    globs: Vec<Vec<WildMatch>>,
    sites: Vec<Site>,
    site_of: FxHashMap<Name, usize>,
    facts: Facts,
    late: u64,
}

/// What became of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It was judged, or no rule asks for it.
    Judged,
    /// It had been seen before.
    Seen,
    /// It names a site, link, probe or VPN connection that the config lacks.
    Foreign,
}

/// State to be kept under a key; the value is opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What it is the state of: `series/<rule>/<site>/<subject>`, so that what belongs to a rule stands under one prefix;
    /// `site/<site>`, `link/<link>` or `collector/<site>`; `usual/<metric>/<site>/<subject>` and `hours/…`, the baseline of a
    /// subject for all rules that ask for it.
    pub key: String,
    /// The state.
    pub value: Vec<u8>,
}

/// Saved state that cannot be read: a newer or a broken program wrote it, or the disk changed it.
#[derive(Debug, thiserror::Error)]
#[error("the saved state '{key}' cannot be read: {source}")]
pub struct RestoreError {
    key: String,
    source: serde_json::Error,
}

/// What a rule says of a subject now.
#[derive(Clone, Debug, PartialEq)]
pub struct SubjectState {
    /// The rule's name.
    pub rule: Name,
    /// The subject.
    pub subject: Name,
    /// `Unknown` also while an incident fires on; never `Resolved`.
    pub state: State,
    /// Whether an incident is open.
    pub firing: bool,
    /// Since when; `None` before the first transition.
    pub since: Option<Timestamp>,
    /// The value that decided the newest transition.
    pub value: Option<f64>,
}

#[derive(Debug)]
struct Site {
    name: Name,
    series: Vec<Series>,
    /// By link, then by probe; a subject's series stand together.
    probes: FxHashMap<Name, FxHashMap<Name, (Range<usize>, ProbePlace)>>,
    vpns: FxHashMap<Name, FxHashMap<Name, Range<usize>>>,
    /// The links whose VPN connections are found by tag, so that any id may come, with their interval.
    tagged: FxHashMap<Name, Duration>,
    collections: FxHashMap<Name, Range<usize>>,
    /// How often its VPN connections are polled at the most.
    polled: Option<Duration>,
    /// How often its software VPN appliances are asked at the most.
    asked: Option<Duration>,
    /// No series has anything to do before event time reaches this.
    next: Timestamp,
    kept: KeptSite,
    changed: bool,
}

/// What of a site must survive a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
struct KeptSite {
    /// The time of its first observation.
    started: Option<Timestamp>,
    event_time: Option<Timestamp>,
    /// The boot whose promise event time is.
    boot: Option<Name>,
    /// Its boots.
    #[serde(flatten)]
    boots: Boots,
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

    /// Judges an observation as it arrives. Event time, which decides what is missing, is told by [`Self::advance`].
    pub fn observe(
        &mut self,
        origin: &Origin,
        observation: &Observation,
        out: &mut Vec<Transition>,
    ) -> Taken {
        match self.accept(origin, observation) {
            Ok(accepted) => {
                self.judge(&accepted, observation, out);
                Taken::Judged
            }
            Err(taken) => taken,
        }
    }

    /// Whether it is known where an origin's boot stands among those of its site: it was seen before, or ids tell, or it is
    /// the first. Any other would follow all that were seen, and what comes of them after it would be late.
    #[must_use]
    pub fn is_placed(&self, origin: &Origin) -> bool {
        let Some(site) = self.site_of.get(&origin.site).and_then(|&site| self.sites.get(site)) else {
            return true;
        };
        site.kept.boots.is_placed(origin)
    }

    /// Judges a row of a file, whose site's event time is the largest `at` read of it: the row first moves event time,
    /// then it is judged.
    pub fn row(&mut self, origin: &Origin, observation: &Observation, out: &mut Vec<Transition>) -> Taken {
        match self.accept(origin, observation) {
            Ok(accepted) => {
                if self.sites[accepted.site].kept.event_time.is_none_or(|now| observation.at > now) {
                    self.reach(accepted.site, observation.at, out);
                }
                self.judge(&accepted, observation, out);
                Taken::Judged
            }
            Err(taken) => taken,
        }
    }

    /// A site's event time has reached `event_time`, as `boot` promised. It may go back only with a new boot, whose
    /// clock is earlier.
    pub fn advance(&mut self, site: &str, boot: &Name, event_time: Timestamp, out: &mut Vec<Transition>) {
        let Some(&index) = self.site_of.get(site) else {
            return;
        };
        let Self { rules, sites, .. } = self;
        let site = &mut sites[index];
        let before = site.kept.event_time;
        if site.kept.boot.as_ref() != Some(boot) {
            site.kept.boot = Some(boot.clone());
            site.kept.boots.put_last(boot);
            site.changed = true;
            if before.is_some_and(|before| event_time < before) {
                for series in &mut site.series {
                    series.step_back(&rules[series.rule], event_time, out);
                }
                site.next = Timestamp::MIN;
                self.reach(index, event_time, out);
                return;
            }
        }
        if before.is_none_or(|before| event_time > before) {
            self.reach(index, event_time, out);
        }
    }

    /// The state that has changed since the last call, to be kept in place of what was kept under the same keys.
    pub fn changed(&mut self) -> Vec<Saved> {
        let Self { rules, sites, facts, .. } = self;
        let mut saved = facts.changed();
        for site in sites {
            if std::mem::take(&mut site.changed) {
                saved.push(save(format!("site/{}", site.name), &site.kept));
            }
            for series in site.series.iter_mut().filter(|series| series.changed) {
                series.changed = false;
                saved.push(save(key(&rules[series.rule], &site.name, series), &series.kept));
            }
            for series in &mut site.series {
                let metric = rules[series.rule].metric;
                // Two rules of one subject have the same.
                let Some(baseline) = &mut series.baseline else { continue };
                let key = |what| format!("{what}/{}/{}/{}", metric.word(), site.name, series.subject);
                if std::mem::take(&mut baseline.ended_changed) {
                    saved.push(save(key(ENDED), baseline.parts().0));
                }
                if std::mem::take(&mut baseline.open_changed) {
                    saved.push(save(key(OPEN), &baseline.parts().1));
                }
            }
        }
        saved
    }

    /// Takes up what was saved. What belongs to a rule, subject or site that the config lacks is left out.
    ///
    /// # Errors
    /// A value cannot be read.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = Saved>) -> Result<(), RestoreError> {
        let mut kept = FxHashMap::default();
        let mut baselines: FxHashMap<String, (Ended, Vec<Hour>)> = FxHashMap::default();
        for Saved { key, value } in saved {
            let unreadable = |source| RestoreError { key: key.clone(), source };
            if self.facts.restore(&key, &value).map_err(unreadable)? {
                continue;
            }
            if let Some(name) = key.strip_prefix("site/") {
                if let Some(&site) = self.site_of.get(name) {
                    self.sites[site].kept = serde_json::from_slice(&value).map_err(unreadable)?;
                }
            } else if let Some(of) = key.strip_prefix(ENDED) {
                baselines.entry(of.to_owned()).or_default().0 =
                    serde_json::from_slice(&value).map_err(unreadable)?;
            } else if let Some(of) = key.strip_prefix(OPEN) {
                baselines.entry(of.to_owned()).or_default().1 =
                    serde_json::from_slice(&value).map_err(unreadable)?;
            } else if let Some((rule, rest)) = key.strip_prefix("series/").and_then(|key| key.split_once('/'))
                && let Some((site, subject)) = rest.split_once('/')
            {
                let state: Kept = serde_json::from_slice(&value).map_err(unreadable)?;
                self.make_seen(site, rule, subject);
                kept.insert((site.to_owned(), rule.to_owned(), subject.to_owned()), state);
            }
        }
        for site in &mut self.sites {
            for series in &mut site.series {
                let rule = &self.rules[series.rule];
                if series.baseline.is_some() {
                    let key = format!("/{}/{}/{}", rule.metric.word(), site.name, series.subject);
                    let (ended, open) = baselines.get(&key).cloned().unwrap_or_default();
                    series.baseline = Some(Baseline::restore(ended, open));
                }
                if let Some(state) =
                    kept.remove(&(site.name.to_string(), rule.name.to_string(), series.subject.to_string()))
                {
                    series.restore(rule, state);
                } else if let Some(started) = site.kept.started {
                    // A rule or subject that is new to a site already seen.
                    series.start(site.kept.event_time.map_or(started, |now| now.max(started)));
                }
            }
            site.next = Timestamp::MIN;
        }
        Ok(())
    }

    /// Judges what is kept of these rules by what they mean now: they have changed since it was saved.
    pub fn rejudge(&mut self, changed: &BTreeSet<Name>, now: Timestamp, out: &mut Vec<Transition>) {
        let Self { rules, sites, .. } = self;
        for site in sites {
            for series in &mut site.series {
                let rule = &rules[series.rule];
                if changed.contains(&rule.name) {
                    series.rejudge(rule, now, out);
                }
            }
            site.next = Timestamp::MIN;
        }
    }

    /// Takes from another engine of the same topology what is not saved with each step: all that is known of links, and what
    /// was counted.
    pub fn carry(&mut self, other: &mut Self) {
        std::mem::swap(&mut self.facts, &mut other.facts);
        self.late = other.late;
    }

    /// The keys under which the state of each rule and subject is kept.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        let series = self.sites.iter().flat_map(|site| site.series.iter().map(move |of| (site, of)));
        series.map(|(site, of)| key(&self.rules[of.rule], &site.name, of)).collect()
    }

    /// What each rule says of each subject, in the order of the sites and subjects.
    #[must_use]
    pub fn subjects(&self) -> Vec<SubjectState> {
        let series = self.sites.iter().flat_map(|site| &site.series);
        series
            .map(|series| SubjectState {
                rule: self.rules[series.rule].name.clone(),
                subject: series.subject.clone(),
                state: match (series.kept.unknown, series.kept.firing) {
                    (true, _) => State::Unknown,
                    (false, true) => State::Firing,
                    (false, false) => State::Ok,
                },
                firing: series.kept.firing,
                since: series.kept.since,
                value: series.kept.value,
            })
            .collect()
    }

    /// What is usual of each subject that a rule's threshold is of the baseline of, as of a moment.
    pub fn usual(&self, at: Timestamp) -> impl Iterator<Item = (&Name, Metric, Usual)> {
        let series = self.sites.iter().flat_map(|site| &site.series);
        series.filter_map(move |series| {
            let usual = series.baseline.as_ref()?.usual(at);
            Some((&series.subject, self.rules[series.rule].metric, usual))
        })
    }

    /// What each rule makes of the subjects that are `wanted`, and why, in the order of the sites and subjects.
    #[must_use]
    pub fn judgements(&self, wanted: impl Fn(&str) -> bool) -> Vec<Judgement> {
        let of_site = |site: &'_ Site| {
            let series = site.series.iter().filter(|series| wanted(&series.subject));
            series.map(|series| series.judgement(&self.rules[series.rule], &site.name)).collect::<Vec<_>>()
        };
        self.sites.iter().flat_map(of_site).collect()
    }

    /// What is known of each link just now.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Takes transitions of this engine, or of a built-in rule, to the incidents that are open.
    pub fn tell(&mut self, transitions: &[Transition], incidents: &mut Incidents) -> Vec<Event> {
        let Self { rules, facts, .. } = self;
        let with_metric = |of: &'_ Transition| rules.get(of.rule_index).map(|rule| rule.metric);
        incidents.step(transitions.iter().map(|of| (of, with_metric(of))), facts)
    }

    /// How many datapoints and observations came too late to be judged.
    #[must_use]
    pub fn late(&self) -> u64 {
        self.late
    }

    /// Finds whom an observation concerns, and notes that it was seen.
    fn accept(&mut self, origin: &Origin, observation: &Observation) -> Result<Accepted, Taken> {
        let site = *self.site_of.get(&origin.site).ok_or(Taken::Foreign)?;
        let mut fact = None;
        let known = match &observation.body {
            Body::Probe { link, probe, .. } | Body::Evidence { link, probe, .. } => {
                let known = self.sites[site].probes.get(link).and_then(|of| of.get(probe));
                fact = known.map(|(_, place)| *place);
                known.map(|(series, _)| series)
            }
            Body::Tunnels { link, vpn, .. } => {
                if !self.sites[site].vpns.get(link).is_some_and(|of| of.contains_key(vpn)) {
                    let every = *self.sites[site].tagged.get(link).ok_or(Taken::Foreign)?;
                    self.make_vpn(site, link, vpn, every);
                }
                self.sites[site].vpns.get(link).and_then(|of| of.get(vpn))
            }
            // No rule asks for it; that it was seen is noted, so that it is told once.
            Body::Drill { .. } => Some(&NONE),
            Body::Collection { source, .. } => {
                if !self.sites[site].collections.contains_key(source) {
                    self.make_collection(site, source);
                }
                self.sites[site].collections.get(source)
            }
        };
        let series = known.cloned().ok_or(Taken::Foreign)?;
        let Self { sites, rules, facts, .. } = self;
        let site_index = site;
        let site = &mut sites[site_index];
        let boots = &mut site.kept.boots;
        let boot = boots.find(origin).unwrap_or_else(|| {
            let (boot, is_last) = boots.add(origin);
            if !is_last {
                let place = boots.place(boot);
                site.series.iter_mut().for_each(|series| series.make_place(place));
                facts.make_place(&site.name, place);
            }
            boot
        });
        let place = boots.place(boot);
        if !boots.see(boot, observation.seq) {
            return Err(Taken::Seen);
        }
        site.changed = true;
        if site.kept.started.is_none() {
            site.kept.started = Some(observation.at);
            for series in &mut site.series {
                series.start(observation.at);
            }
            site.next = Timestamp::MIN;
        }
        for series in &mut site.series[series.clone()] {
            // A subject that the config does not name begins when it is first seen; the others have begun.
            series.start(observation.at);
            site.next = site.next.min(series.trigger(&rules[series.rule]));
        }
        Ok(Accepted { site: site_index, series, fact, boot: place })
    }

    fn judge(&mut self, accepted: &Accepted, observation: &Observation, out: &mut Vec<Transition>) {
        let Self { rules, sites, facts, late, .. } = self;
        let site = &mut sites[accepted.site];
        let order = Order { boot: accepted.boot, at: observation.at, seq: observation.seq.saturating_add(1) };
        facts.observe(&site.name, accepted.fact, order, observation);
        let event_time = site.kept.event_time;
        for series in &mut site.series[accepted.series.clone()] {
            let rule = &rules[series.rule];
            if let (Some(baseline), Some(Some(value))) =
                (&mut series.baseline, value(rule.metric, &observation.body))
            {
                baseline.add(observation.at, value);
            }
            let mut in_time = true;
            values(rule, &observation.body, |value| {
                in_time &= series.observe(rule, order, value, event_time, out);
            });
            *late += u64::from(!in_time);
            site.next = site.next.min(series.trigger(rule));
        }
    }

    /// Moves a site's event time, and lets happen what falls due.
    fn reach(&mut self, site: usize, event_time: Timestamp, out: &mut Vec<Transition>) {
        let Self { rules, sites, .. } = self;
        let site = &mut sites[site];
        site.kept.event_time = Some(event_time);
        site.changed = true;
        if event_time < site.next {
            return;
        }
        site.next = Timestamp::MAX;
        let boot = site.kept.boots.last_place();
        for series in &mut site.series {
            let rule = &rules[series.rule];
            series.advance(rule, boot, event_time, out);
            site.next = site.next.min(series.trigger(rule));
        }
    }

    /// Makes the series of a subject, one for each rule of these metrics that covers it.
    fn make(
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

    fn make_vpn(&mut self, site: usize, link: &Name, vpn: &Name, every: Duration) {
        let subject = Name::from(format!("{link}/{vpn}"));
        let series = self.make(site, &subject, Some(link), every, &[Metric::TunnelsUp]);
        self.sites[site].vpns.entry(link.clone()).or_default().insert(vpn.clone(), series);
    }

    fn make_collection(&mut self, site: usize, source: &Name) {
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
    fn make_seen(&mut self, site: &str, rule: &str, subject: &str) {
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

/// An observation that is to be judged: where, and by which series.
struct Accepted {
    site: usize,
    series: Range<usize>,
    /// Of a probe: where its facts are.
    fact: Option<ProbePlace>,
    /// The boot's place in their order.
    boot: u32,
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

const OF_PROBE: &[Metric] = &[Metric::PingOk, Metric::LatencyMs, Metric::LossPercent, Metric::JitterMs];

/// What an observation means to a rule, each value in turn. In a period each packet of a burst counts for itself; without
/// one the burst is one datapoint.
fn values(rule: &Rule, body: &Body, mut with: impl FnMut(Option<f64>)) {
    let of_burst = match body {
        Body::Probe { outcome: Outcome::Reply { .. }, detail: Some(detail), .. } if rule.window.is_some() => {
            &*detail.burst
        }
        _ => &[],
    };
    if of_burst.is_empty() {
        if let Some(value) = value(rule.metric, body) {
            with(value);
        }
        return;
    }
    for packet in of_burst {
        match (rule.metric, packet) {
            (Metric::PingOk, packet) => with(Some(f64::from(packet.is_some()))),
            (Metric::LossPercent, packet) => with(Some(f64::from(packet.is_none()))),
            (Metric::LatencyMs | Metric::JitterMs, Some(rtt_ms)) => with(Some(*rtt_ms)),
            _ => {}
        }
    }
}

/// What an observation means to a metric: a value, `Some(None)` for a sign that there is none to have, or nothing.
fn value(metric: Metric, body: &Body) -> Option<Option<f64>> {
    match (metric, body) {
        (_, Body::Probe { outcome: Outcome::Lost(Lost::Local), .. }) => None,
        (Metric::PingOk, Body::Probe { outcome, .. }) => {
            Some(Some(f64::from(matches!(outcome, Outcome::Reply { .. }))))
        }
        (Metric::LossPercent, Body::Probe { outcome, .. }) => {
            Some(Some(f64::from(matches!(outcome, Outcome::Lost(_)))))
        }
        (Metric::LatencyMs | Metric::JitterMs, Body::Probe { outcome: Outcome::Reply { rtt_ms }, .. }) => {
            Some(Some(*rtt_ms))
        }
        (Metric::LatencyMs | Metric::JitterMs, Body::Probe { outcome: Outcome::Lost(_), .. }) => Some(None),
        (Metric::TunnelsUp, Body::Tunnels { tunnels, .. }) if !tunnels.is_empty() => {
            Some(Some(tunnels.iter().filter(|tunnel| tunnel.up).count() as f64))
        }
        (Metric::CollectionOk, Body::Collection { ok, .. }) => Some(Some(f64::from(*ok))),
        (Metric::CollectionMs, Body::Collection { took_ms, .. }) => Some(Some(*took_ms)),
        _ => None,
    }
}

fn key(rule: &Rule, site: &str, series: &Series) -> String {
    format!("series/{}/{site}/{}", rule.name, series.subject)
}

pub(crate) fn save<T: Serialize>(key: String, state: &T) -> Saved {
    // These types hold no map with keys that are no strings, so that this cannot fail.
    Saved { key, value: serde_json::to_vec(state).unwrap_or_default() }
}
