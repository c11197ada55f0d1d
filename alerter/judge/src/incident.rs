//! Incidents: what fires of one link is one incident, from its first symptom to the end of its last.
//!
//! A transition opens an incident or joins the one that is open, so that an outage is one thing to be told of and not one a
//! rule and probe. Each has a verdict, which is judged anew as evidence comes. What belongs to a site and to no link joins
//! the open incident of a link of that site, or else is an incident of the site.

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::facts::Facts;
use crate::rule::Metric;
use crate::transition::{State, Transition};
use crate::verdict::{self, Course, Kind, Symptom, Verdict};

/// The namespace of the ids made here (RFC 9562, section 5.5).
const NAMESPACE: Uuid = Uuid::from_u128(0x6f1d_2c0e_8a57_5b0c_9e64_43d1_5c0f_7a21);

/// What an incident is of. One at a time is open of each.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Place {
    /// A link.
    Link(Name),
    /// A site's collector.
    Site(Name),
    /// The alerter's own sight.
    Alerter,
    /// A file of the configuration, by its name.
    Config(Name),
}

impl Place {
    /// The link's, site's or file's name; `alerter`.
    #[must_use]
    pub fn name(&self) -> &str {
        match self {
            Self::Link(name) | Self::Site(name) | Self::Config(name) => name,
            Self::Alerter => "alerter",
        }
    }

    /// The link's name; nothing for another place.
    #[must_use]
    pub fn link(&self) -> &str {
        match self {
            Self::Link(name) => name,
            _ => "",
        }
    }
}

/// An incident that is open.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Incident {
    /// The same for the same breach, however often it is judged.
    pub id: String,
    /// What it is of.
    pub place: Place,
    /// The deciding datapoint's time of its first symptom.
    pub opened: Timestamp,
    /// What is broken, as far as is known.
    pub verdict: Verdict,
    /// What fires, in the order in which it began to.
    pub symptoms: Vec<Symptom>,
    /// What it was, whatever is left of it now: the verdict of the time before its symptoms began to end, or a graver one.
    gravest: Verdict,
    /// A symptom has ended, and none has joined since.
    ending: bool,
    course: Course,
    /// It is not as it was last saved.
    #[serde(skip)]
    changed: bool,
}

/// Something that became of an incident.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// The incident as it is then; of one that is closed, as it was last.
    pub incident: Incident,
    /// What became of it.
    pub what: What,
    /// What was captured of probes that fail, a line each.
    pub evidence: Vec<String>,
}

/// What became of an incident.
#[derive(Clone, Debug, PartialEq)]
pub enum What {
    /// This opened it.
    Opened(Symptom),
    /// This joined it.
    Joined(Symptom),
    /// This is over, while others go on.
    Left(Ended),
    /// This was the last.
    Closed(Ended),
    /// Its verdict is another now.
    Refined,
    /// What only worked less well is down now, for the first time or again.
    Worse,
}

/// The end of a symptom.
#[derive(Clone, Debug, PartialEq)]
pub struct Ended {
    /// What has ended.
    pub symptom: Symptom,
    /// The deciding datapoint's time.
    pub at: Timestamp,
    /// The deciding datapoint's value, in the metric's unit; `None` where there was none.
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
}

/// The incidents that are open.
#[derive(Clone, Debug, Default)]
pub struct Incidents {
    open: BTreeMap<Place, Incident>,
    /// Where each symptom is, by rule and subject.
    place_of: FxHashMap<(Name, Name), Place>,
}

impl Incidents {
    /// With these open already.
    #[must_use]
    pub fn restore(open: impl IntoIterator<Item = Incident>) -> Self {
        let open: BTreeMap<Place, Incident> =
            open.into_iter().map(|incident| (incident.place.clone(), incident)).collect();
        let place_of = open.iter().flat_map(|(place, incident)| {
            let of = |symptom: &Symptom| ((symptom.rule.clone(), symptom.subject.clone()), place.clone());
            incident.symptoms.iter().map(of)
        });
        Self { place_of: place_of.collect(), open }
    }

    /// Those that have changed since the last call, and are open still.
    pub fn take_changed(&mut self) -> Vec<Incident> {
        let changed = self.open.values_mut().filter(|incident| incident.changed);
        changed
            .map(|incident| {
                incident.changed = false;
                incident.clone()
            })
            .collect()
    }

    /// Every one that is open.
    pub fn open(&self) -> impl Iterator<Item = &Incident> {
        self.open.values()
    }

    /// Takes what was decided, in its order, with the metric of each rule (`None` for a built-in one), and then judges anew
    /// what anything was observed of.
    pub fn step<'a>(
        &mut self,
        transitions: impl IntoIterator<Item = (&'a Transition, Option<Metric>)>,
        facts: &mut Facts,
    ) -> Vec<Event> {
        let mut events = Vec::new();
        // What each was before this step, of those that are judged before the rest.
        let mut before: FxHashMap<String, Kind> = FxHashMap::default();
        for (transition, metric) in transitions {
            match transition.state {
                State::Firing => self.fire(transition, metric, facts, &mut events),
                State::Resolved => {
                    let Transition { rule, subject, at, value, reason, .. } = transition;
                    // What ended it is evidence, too: a tunnel that is back.
                    if let Some(incident) = self.of_symptom(rule, subject) {
                        before.entry(incident.id.clone()).or_insert(incident.verdict.kind);
                        incident.judge(facts);
                    }
                    events.extend(self.end(rule, subject, *at, *value, reason));
                }
                State::Unknown | State::Ok => {}
            }
        }
        self.review(&before, facts, &mut events);
        for event in &mut events {
            let link = facts.link(event.incident.place.link());
            event.evidence = link.map_or_else(Vec::new, |link| link.evidence(event.incident.opened));
        }
        events
    }

    /// Ends a symptom; nothing where it is not open.
    pub fn end(
        &mut self,
        rule: &Name,
        subject: &Name,
        at: Timestamp,
        value: Option<f64>,
        reason: &str,
    ) -> Option<Event> {
        let incident = self.of_symptom(rule, subject)?;
        let index = incident.symptoms.iter().position(|symptom| symptom.is(rule, subject))?;
        let symptom = incident.symptoms.remove(index);
        (incident.ending, incident.changed) = (true, true);
        let ended = Ended { symptom, at, value, reason: reason.to_owned() };
        let incident = incident.clone();
        self.place_of.remove(&(rule.clone(), subject.clone()));
        if incident.symptoms.is_empty() {
            self.open.remove(&incident.place);
            let incident = Incident { verdict: incident.gravest.clone(), ..incident };
            return Some(Event { incident, what: What::Closed(ended), evidence: Vec::new() });
        }
        Some(Event { incident, what: What::Left(ended), evidence: Vec::new() })
    }

    fn of_symptom(&mut self, rule: &Name, subject: &Name) -> Option<&mut Incident> {
        self.open.get_mut(self.place_of.get(&(rule.clone(), subject.clone()))?)
    }

    fn fire(
        &mut self,
        transition: &Transition,
        metric: Option<Metric>,
        facts: &Facts,
        events: &mut Vec<Event>,
    ) {
        let Transition { at, rule, subject, value, reason, .. } = transition;
        let symptom = Symptom {
            rule: rule.clone(),
            metric,
            subject: subject.clone(),
            at: *at,
            value: *value,
            reason: reason.clone(),
        };
        if self.of_symptom(rule, subject).is_some() {
            // It fires on after its data returned.
            return;
        }
        let place = self.place(transition, facts);
        self.place_of.insert((rule.clone(), subject.clone()), place.clone());
        if let Some(incident) = self.open.get_mut(&place) {
            incident.symptoms.push(symptom.clone());
            (incident.ending, incident.changed) = (false, true);
            events.push(Event {
                incident: incident.clone(),
                what: What::Joined(symptom),
                evidence: Vec::new(),
            });
            return;
        }
        let id = id(&[rule, subject, &at.to_string()]);
        let mut course = Course::default();
        let symptoms = vec![symptom.clone()];
        let verdict = judge(&place, &symptoms, None, &mut course, facts);
        let (gravest, ending) = (verdict.clone(), false);
        let incident = Incident {
            id,
            place: place.clone(),
            opened: *at,
            verdict,
            symptoms,
            gravest,
            ending,
            course,
            changed: true,
        };
        events.push(Event { incident: incident.clone(), what: What::Opened(symptom), evidence: Vec::new() });
        self.open.insert(place, incident);
    }

    /// Where a transition belongs.
    fn place(&self, transition: &Transition, facts: &Facts) -> Place {
        if let Some(link) = &transition.link {
            return Place::Link(link.clone());
        }
        let subject = &transition.subject;
        if *transition.rule == *Kind::ConfigRefused.word() {
            return Place::Config(subject.clone());
        }
        let site = subject.split_once('/').map_or(&**subject, |(site, _)| site);
        if facts.collector(site).is_none() {
            return Place::Alerter;
        }
        let of_site = |incident: &&Incident| {
            let link = facts.link(incident.place.link());
            link.is_some_and(|link| link.between.iter().any(|of| **of == *site))
        };
        let own = Place::Site(site.into());
        if self.open.contains_key(&own) {
            return own;
        }
        let oldest = self.open.values().filter(of_site).min_by_key(|incident| incident.opened);
        oldest.map_or(own, |incident| incident.place.clone())
    }

    /// Judges anew what has changed. What was opened or joined just now is told with the verdict found here.
    fn review(&mut self, before: &FxHashMap<String, Kind>, facts: &mut Facts, events: &mut Vec<Event>) {
        let mut of_incident: FxHashMap<String, Vec<usize>> = FxHashMap::default();
        for (index, event) in events.iter().enumerate() {
            of_incident.entry(event.incident.id.clone()).or_default().push(index);
        }
        for (place, incident) in &mut self.open {
            let touched = match place {
                Place::Link(link) => facts.take_touched(link),
                Place::Site(_) | Place::Alerter => true,
                Place::Config(_) => false,
            };
            let its = of_incident.get(&incident.id);
            if !touched && its.is_none() {
                continue;
            }
            let kind = before.get(&incident.id).copied().unwrap_or(incident.verdict.kind);
            incident.judge(facts);
            let mut opened = false;
            for &index in its.into_iter().flatten() {
                if let Some(event) = events.get_mut(index) {
                    event.incident.verdict = incident.verdict.clone();
                    opened |= matches!(event.what, What::Opened(_));
                }
            }
            let now = incident.verdict.kind;
            if !opened && now != kind {
                let what = if now.is_down() && !kind.is_down() { What::Worse } else { What::Refined };
                events.push(Event { incident: incident.clone(), what, evidence: Vec::new() });
            }
        }
    }
}

impl Incident {
    fn judge(&mut self, facts: &Facts) {
        let before = (self.verdict.clone(), self.course.clone());
        self.verdict = judge(&self.place, &self.symptoms, Some(&self.verdict), &mut self.course, facts);
        let is_down = self.verdict.kind.is_down();
        let is_other = self.verdict.kind != self.gravest.kind;
        // That one tunnel at a time was down for a while is known once all are back.
        let is_known_at_last =
            self.verdict.kind == Kind::TunnelReplaced && self.gravest.kind == Kind::RedundancyLost;
        let is_all_it_was = !self.ending && (is_down || !self.course.sure);
        if is_all_it_was || is_known_at_last || (is_down && is_other) {
            self.gravest = self.verdict.clone();
        }
        self.changed |= before.0 != self.verdict || before.1 != self.course;
    }
}

fn judge(
    place: &Place,
    symptoms: &[Symptom],
    before: Option<&Verdict>,
    course: &mut Course,
    facts: &Facts,
) -> Verdict {
    match place {
        Place::Link(link) => match facts.link(link) {
            Some(of) => verdict::of_link(of, symptoms, before, course),
            None => verdict::of_site(facts, link, symptoms, before),
        },
        Place::Site(site) => verdict::of_site(facts, site, symptoms, before),
        Place::Alerter | Place::Config(_) => verdict::of_site(facts, "", symptoms, before),
    }
}

/// A name-based id (UUID version 5) of these parts.
#[must_use]
pub fn id(parts: &[&str]) -> String {
    Uuid::new_v5(&NAMESPACE, parts.join("\0").as_bytes()).to_string()
}
