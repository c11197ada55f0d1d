//! The engine: every rule for every subject. It knows which series an observation concerns, what was seen already, and
//! each site's event time.
//!
//! Here is how an observation and the passing of event time are judged. `subjects` has which series there are, `values` what an
//! observation means to a rule, `kept` what survives a restart.

mod kept;
mod subjects;
mod values;

use std::collections::BTreeSet;
use std::ops::Range;

use crosswatch_shared::observation::{Body, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use subjects::Site;
use values::{value, values};
use wildmatch::WildMatch;

use crate::baseline::Usual;
use crate::facts::{Facts, ProbePlace};
use crate::incident::{Event, Incidents};
use crate::rule::{Metric, Rule};
use crate::series::Order;
use crate::series::judgement::Judgement;
use crate::transition::{State, Transition};

pub(crate) use kept::save;
pub use kept::{RestoreError, Saved};

/// No series.
const NONE: Range<usize> = 0..0;

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
    /// The value that decided the newest transition, in the metric's unit.
    pub value: Option<f64>,
}

impl Engine {
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
