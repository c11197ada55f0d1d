//! What a step of the alerter brought about: all that is to be written in one transaction.

use std::collections::BTreeMap;

use crosswatch_judge::incident::{Event, Incident};
use crosswatch_judge::{Saved, Transition};
use crosswatch_shared::event_time::EventTime;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::catch_up::Past;
use crate::drill::Drill;
use crate::judged::{self, Decision, Place};
use crate::{incident, json};

/// What a step brought about, to be written in one transaction.
#[derive(Debug, Default)]
pub(crate) struct Change {
    /// In the order in which they were decided.
    pub(crate) transitions: Vec<Transition>,
    /// What became of incidents by them, and by what is known now.
    pub(crate) events: Vec<Event>,
    /// What of them was decided by what had lain in the queue for long.
    pub(crate) past: Past,
    /// Drills that came in time.
    pub(crate) drills: Vec<Drill>,
    pub(super) incidents: Vec<Incident>,
    pub(super) engine: Vec<Saved>,
    pub(super) sites: Vec<(Name, EventTime, Option<Place>)>,
    /// The order of what it is of, where the history has another, and what was judged before it.
    pub(crate) page: Option<(Decision, BTreeMap<Name, Place>)>,
    /// What was decided otherwise than by observations.
    pub(super) decided: Vec<Decision>,
    /// The newest batch of each site, where something was decided.
    pub(super) places: BTreeMap<Name, Place>,
    /// Observations judged, seen before, and foreign to the config.
    pub(crate) taken: [u64; 3],
}

impl Change {
    /// Puts what was brought about after this to it, to be written as one.
    pub(crate) fn join(&mut self, after: Self) {
        let Self {
            transitions,
            events,
            drills,
            incidents,
            engine,
            sites,
            past,
            page,
            decided,
            places,
            taken,
        } = after;
        self.transitions.extend(transitions);
        self.events.extend(events);
        self.drills.extend(drills);
        self.incidents.extend(incidents);
        self.engine.extend(engine);
        self.sites.extend(sites);
        self.past.join(past);
        self.page = self.page.take().or(page);
        self.decided.extend(decided);
        self.places.extend(places);
        self.taken.iter_mut().zip(taken).for_each(|(sum, more)| *sum += more);
    }

    /// Takes the engine's state out of it, for who keeps that otherwise.
    pub(crate) fn take_engine(&mut self) -> impl Iterator<Item = (String, Vec<u8>)> + use<> {
        std::mem::take(&mut self.engine).into_iter().map(|Saved { key, value }| (key, value))
    }

    /// Whether there is nothing to write.
    pub(crate) fn is_empty(&self) -> bool {
        self.transitions.is_empty()
            && self.events.is_empty()
            && self.drills.is_empty()
            && self.incidents.is_empty()
            && self.engine.is_empty()
            && self.sites.is_empty()
            && self.decided.is_empty()
    }

    /// Writes the engine's state, the sites' event time and what the open incidents are.
    pub(crate) fn write(&self, file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        let mut upsert = file.prepare_cached(
            "INSERT INTO engine (key, value) VALUES (?, ?)
             ON CONFLICT (key) DO UPDATE SET value = excluded.value",
        )?;
        for saved in &self.engine {
            upsert.execute(params![saved.key, saved.value])?;
        }
        self.incidents.iter().try_for_each(|open| incident::save(file, open))?;
        let mut upsert = file.prepare_cached(
            "INSERT INTO site (name, time, event_time, heard, place) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT (name) DO UPDATE
             SET time = excluded.time, event_time = excluded.event_time, heard = excluded.heard, place = excluded.place",
        )?;
        for (name, time, place) in &self.sites {
            let place = place.as_ref().map(json::write).transpose()?;
            let (at, time) = (time.at().map(Timestamp::as_micros), json::write(time)?);
            upsert.execute(params![name, time, at, now.as_micros(), place])?;
        }
        self.page.iter().try_for_each(|(page, before)| judged::write(file, now, before, page))?;
        self.decided.iter().try_for_each(|decision| judged::write(file, now, &self.places, decision))?;
        Ok(())
    }
}
