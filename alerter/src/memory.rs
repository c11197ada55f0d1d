//! What the alerter knows while it runs: the rules' state, each site's event time, who is silent.
//!
//! All of it that must survive is in the file. A step changes it here and tells what to write there; when that cannot
//! be written, what is here is thrown away and loaded anew, and the same batches come again.

mod change;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use crosswatch_judge::incident::{Event, Incident, Incidents};
use crosswatch_judge::rule::Rule;
use crosswatch_judge::{Engine, Saved, Taken};
use crosswatch_queue::Delivery;
use crosswatch_shared::config::topology::{QueueKind, Topology};
use crosswatch_shared::event_time::EventTime;
use crosswatch_shared::observation::{Body, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::PutBack;
use rusqlite::Connection;

use crate::catch_up::Present;
use crate::drill::Drill;
use crate::incident;
use crate::judged::{Decision, Place, place};
use crate::reconcile::Judged;
use crate::refused::{CONFIG_REFUSED, Refused};
use crate::silence::{ALERTER_BLIND, SITE_SILENT, Silence};

pub(crate) use change::Change;

/// See the module.
#[derive(Debug)]
pub(crate) struct Memory {
    engine: Engine,
    incidents: Incidents,
    /// Of the configured sites, as far as they were heard of.
    sites: BTreeMap<Name, EventTime>,
    configured: BTreeSet<Name>,
    silence: Silence,
    refused: Refused,
    /// Which batches are of the present.
    pub(crate) present: Present,
    /// The newest batch of each site that was judged.
    places: BTreeMap<Name, Place>,
}

/// What the file holds cannot be understood.
#[derive(Debug)]
pub(crate) enum LoadError {
    File(rusqlite::Error),
    State(String),
}

impl From<rusqlite::Error> for LoadError {
    fn from(error: rusqlite::Error) -> Self {
        Self::File(error)
    }
}

impl Memory {
    /// As the file has it.
    pub(crate) fn load(file: &Connection, rules: Vec<Rule>, topology: &Topology) -> Result<Self, LoadError> {
        let mut engine = Engine::new(rules, topology);
        let mut saved = file.prepare("SELECT key, value FROM engine")?;
        let saved = saved.query_map([], |row| Ok(Saved { key: row.get(0)?, value: row.get(1)? }))?;
        let saved: Vec<Saved> = saved.collect::<rusqlite::Result<_>>()?;
        engine.restore(saved).map_err(|error| LoadError::State(error.to_string()))?;

        let configured: BTreeSet<Name> = topology.sites.iter().map(|site| site.name.clone()).collect();
        let mut sites = BTreeMap::new();
        let mut places = BTreeMap::new();
        let mut kept = file.prepare("SELECT name, time, place FROM site")?;
        let mut kept = kept.query([])?;
        while let Some(row) = kept.next()? {
            let (name, time, place): (String, String, Option<String>) =
                (row.get(0)?, row.get(1)?, row.get(2)?);
            let place = place.map(|place| {
                serde_json::from_str::<Place>(&place)
                    .map_err(|error| LoadError::State(format!("the newest batch of site '{name}': {error}")))
            });
            places.extend(place.transpose()?.map(|place| (Name::from(&*name), place)));
            let time: EventTime = serde_json::from_str(&time)
                .map_err(|error| LoadError::State(format!("the event time of site '{name}': {error}")))?;
            if configured.contains(&*name) {
                sites.insert(Name::from(name), time);
            }
        }

        let at = |name: &Name| sites.get(name).and_then(EventTime::at);
        let watched = watched(topology).into_iter().map(|name| (name.clone(), at(&name)));
        let mut silence = Silence::new(hold(topology), watched);
        for site in &topology.sites {
            silence.is_slow(&site.name, topology.rhythm(&site.name));
        }
        let open = incident::saved(file)?.into_iter().map(|(id, saved)| {
            serde_json::from_str(&saved)
                .map_err(|error| LoadError::State(format!("incident {id} cannot be read: {error}")))
        });
        let incidents = Incidents::restore(open.collect::<Result<Vec<Incident>, _>>()?);
        let mut refused = Refused::default();
        for symptom in incidents.open().flat_map(|incident| &incident.symptoms) {
            match &*symptom.rule {
                SITE_SILENT | ALERTER_BLIND => silence.is_open(&symptom.rule, &symptom.subject),
                CONFIG_REFUSED => refused.is_open(&symptom.subject, &symptom.reason),
                _ => {}
            }
        }
        let present = Present::default();
        Ok(Self { engine, incidents, sites, configured, silence, refused, present, places })
    }

    /// Takes over from one of the same topology, whose rules were others, what is not in the file: who is quiet for how long,
    /// and all that is known of the links. Nothing else may be asked of that one any more.
    pub(crate) fn carry(&mut self, former: &mut Self) {
        self.engine.carry(&mut former.engine);
        std::mem::swap(&mut self.silence, &mut former.silence);
        std::mem::swap(&mut self.sites, &mut former.sites);
        std::mem::swap(&mut self.places, &mut former.places);
    }

    /// Judges what is kept of these rules by what they mean now.
    pub(crate) fn rejudge(&mut self, rules: &BTreeSet<Name>, now: Timestamp) -> Change {
        let mut change = Change::default();
        self.engine.rejudge(rules, now, &mut change.transitions);
        self.conclude(change)
    }

    /// Every incident that is open, with what was captured of probes that fail, a line each.
    pub(crate) fn open(&self) -> impl Iterator<Item = (&Incident, Vec<String>)> {
        let facts = self.engine.facts();
        self.incidents.open().map(|incident| {
            let link = facts.link(incident.place.link());
            (incident, link.map_or_else(Vec::new, |link| link.evidence(incident.opened)))
        })
    }

    /// A file of the configuration is wrong.
    pub(crate) fn refuse(&mut self, file: &Name, why: &str, now: Timestamp) -> Change {
        let mut change = Change::default();
        self.refused.refuse(file, why, now, &mut change.transitions);
        self.conclude(change)
    }

    /// The files of the configuration are right that `which` names.
    pub(crate) fn mend(&mut self, which: impl Fn(&str) -> bool, now: Timestamp) -> Change {
        let mut change = Change::default();
        let wrong: Vec<Name> = self.refused.files().filter(|file| which(file)).cloned().collect();
        wrong.iter().for_each(|file| self.refused.mend(file, now, &mut change.transitions));
        self.conclude(change)
    }

    /// What the transitions of a change make of incidents, and what must be kept of it.
    fn conclude(&mut self, mut change: Change) -> Change {
        change.events = self.engine.tell(&change.transitions, &mut self.incidents);
        change.incidents = self.incidents.take_changed();
        change.engine = self.engine.changed();
        let built_in = change.transitions.iter().filter(|of| of.rule_index == usize::MAX);
        change.decided.extend(built_in.map(Decision::said));
        if !change.decided.is_empty() {
            change.places = self.places.clone();
        }
        change
    }

    /// The newest batch of each site that was judged.
    pub(crate) fn places(&self) -> &BTreeMap<Name, Place> {
        &self.places
    }

    /// Goes on without what of a site is missing, as was decided before.
    pub(crate) fn skip_to(&mut self, site: &Name, next: u64) -> Change {
        let mut change = Change::default();
        if let Some(advance) = self.sites.get_mut(site).and_then(|time| time.skip_to(next)) {
            self.engine.advance(site, &advance.boot, advance.at, &mut change.transitions);
        }
        self.conclude(change)
    }

    /// The keys under which the engine keeps the state of each rule and subject.
    pub(crate) fn keys(&self) -> BTreeSet<String> {
        self.engine.keys()
    }

    /// Takes what a read of the queue gave: to its end or not, at these times.
    pub(crate) fn step(
        &mut self,
        deliveries: &[Delivery],
        to_its_end: bool,
        steady: Instant,
        wall: Timestamp,
    ) -> Change {
        let mut change = Change::default();
        let mut moved: BTreeSet<Name> = BTreeSet::new();
        self.silence.read(to_its_end, steady);
        for Delivery { batch, sent } in deliveries {
            let decided = change.transitions.len();
            for observation in &batch.observations {
                let place = match self.engine.observe(&batch.origin, observation, &mut change.transitions) {
                    Taken::Judged => 0,
                    Taken::Seen => 1,
                    Taken::Foreign => 2,
                };
                change.taken[place] += 1;
                if let (Body::Drill { id, rule }, 0) = (&observation.body, place) {
                    let site = &batch.origin.site;
                    change.drills.extend(Drill::of(id, rule.as_ref(), site, observation.at, wall));
                }
            }
            let site = &batch.origin.site;
            if !self.configured.contains(site) {
                continue;
            }
            let time = self.sites.entry(site.clone()).or_default();
            let advance = time.receive(&batch.origin, batch.number, batch.through, wall);
            moved.insert(site.clone());
            self.places.insert(site.clone(), place(batch));
            if let Some(advance) = advance {
                self.engine.advance(site, &advance.boot, advance.at, &mut change.transitions);
            }
            self.silence.heard(site, time.at(), wall, &mut change.transitions);
            if self.present.is_past(*sent, batch.through, wall) {
                change.past.note(self.present, batch, change.transitions.get(decided..).unwrap_or_default());
            }
        }
        // Before its end a queue may hold what is missing: SQS gives a backlog in any order.
        let waited_for = self.sites.iter_mut().filter(|_| to_its_end);
        for (site, time) in waited_for {
            if let Some(advance) = time.skip_gaps(wall) {
                tracing::warn!(%site, "batches are missing and were waited for in vain; judging goes on without them");
                moved.insert(site.clone());
                self.engine.advance(site, &advance.boot, advance.at, &mut change.transitions);
                let next = time.next().unwrap_or(0);
                change.decided.push(Decision::Skipped { site: site.clone(), next });
            }
        }
        self.silence.judge(wall, &mut change.transitions);
        change = self.conclude(change);
        for (site, time) in &self.sites {
            if moved.contains(site) {
                change.sites.push((site.clone(), time.clone(), self.places.get(site).cloned()));
            }
        }
        change
    }

    /// Judges what replays put back to be judged, as it stands in time; what was seen before changes nothing. It moves nobody's
    /// event time, and no site is heard by it. Gives also how many observations are of boots that nobody knows the place of.
    pub(crate) fn put_back(&mut self, all: &[PutBack]) -> (Change, u64) {
        let (mut change, mut unplaced) = (Change::default(), 0);
        for PutBack { origin, observations, pages } in all.iter().filter(|of| of.pages) {
            if !self.engine.is_placed(origin) {
                unplaced += observations.len() as u64;
                continue;
            }
            let mut new = Vec::new();
            for observation in observations {
                let place = match self.engine.observe(origin, observation, &mut change.transitions) {
                    Taken::Judged => {
                        new.push(observation.clone());
                        0
                    }
                    Taken::Seen => 1,
                    Taken::Foreign => 2,
                };
                change.taken[place] += 1;
            }
            if !new.is_empty() {
                let judged = PutBack { origin: origin.clone(), pages: *pages, observations: new };
                change.decided.push(Decision::PutBack(judged));
            }
        }
        (self.conclude(change), unplaced)
    }

    /// The rules' state.
    pub(crate) fn engine(&self) -> &Engine {
        &self.engine
    }

    /// Whether every site that measures is heard, and the queue is read to its end.
    pub(crate) fn is_fresh(&self) -> bool {
        self.silence.is_fresh()
    }

    /// The queue could not be read.
    pub(crate) fn cut_off(&mut self, steady: Instant) {
        self.silence.read(false, steady);
    }

    /// Each site's event time, and how many gaps were skipped.
    pub(crate) fn sites(&self) -> impl Iterator<Item = (&Name, &EventTime)> {
        self.sites.iter()
    }

    /// How many observations came too late to be judged, since this was loaded.
    pub(crate) fn late(&self) -> u64 {
        self.engine.late()
    }

    /// Ends what fires of rules and subjects that fire no more, or are no more, with the reason that `why` has for the rule.
    pub(crate) fn end_others(&mut self, now: Timestamp, why: impl Fn(&str) -> String) -> Vec<Event> {
        let firing: BTreeSet<(Name, Name)> = self
            .subjects()
            .into_iter()
            .filter(|judged| judged.firing)
            .map(|judged| (judged.rule, judged.subject))
            .collect();
        let symptoms = self.incidents.open().flat_map(|incident| &incident.symptoms);
        let others: Vec<(Name, Name)> = symptoms
            .map(|symptom| (symptom.rule.clone(), symptom.subject.clone()))
            .filter(|symptom| !firing.contains(symptom))
            .collect();
        let ended = others
            .iter()
            .filter_map(|(rule, subject)| self.incidents.end(rule, subject, now, None, &why(rule)));
        ended.collect()
    }

    /// What of the open incidents must be written now.
    pub(crate) fn changed_incidents(&mut self) -> Vec<Incident> {
        self.incidents.take_changed()
    }

    /// Every subject of every rule, and whether an incident is open for it: what the file must agree with.
    pub(crate) fn subjects(&self) -> Vec<Judged> {
        let engine = self.engine.subjects().into_iter().map(|of| Judged {
            rule: of.rule,
            subject: of.subject,
            firing: of.firing,
        });
        let built_in = self.silence.subjects().map(|(rule, subject, firing)| Judged {
            rule: rule.into(),
            subject,
            firing,
        });
        let refused = self.refused.files().map(|file| Judged {
            rule: CONFIG_REFUSED.into(),
            subject: file.clone(),
            firing: true,
        });
        engine.chain(built_in).chain(refused).collect()
    }
}

/// The sites from which anything is measured; the others' collectors have nothing to send.
fn watched(topology: &Topology) -> Vec<Name> {
    let measures = |site: &Name| {
        topology.probes().any(|(_, probe)| probe.from == *site)
            || topology.vpns().any(|(_, vpn)| vpn.site == *site)
            || topology.appliances().any(|(_, appliance)| appliance.site == *site)
    };
    let names = topology.sites.iter().map(|site| site.name.clone());
    names.filter(measures).collect()
}

/// How long a collector keeps routine back before it sends it to the alerter.
fn hold(topology: &Topology) -> Duration {
    match topology.queue.kind {
        QueueKind::Embedded => Duration::from_secs(1),
        QueueKind::Sqs { .. } => Duration::from_secs(10),
    }
}
