//! Writes what a step brought about: the state, the incidents, and what is owed for them, in the caller's transaction.

use std::collections::HashMap;
use std::sync::Arc;

use crosswatch_judge::incident::{Event, What};
use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::config::Config;
use crate::drill::Drill;
use crate::incident;
use crate::ledger::Ledger;
use crate::memory::Change;
use crate::silence::{ALERTER_BLIND, SITE_SILENT};

/// Knows whom each rule pages.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) ledger: Arc<Ledger>,
    notify: HashMap<Name, Vec<Name>>,
}

impl Recorder {
    pub(crate) fn new(config: &Config) -> Self {
        let mut notify: HashMap<Name, Vec<Name>> =
            config.rules.iter().map(|of| (of.rule.name.clone(), of.notify.clone())).collect();
        let everybody: Vec<Name> = config.receivers.iter().map(|of| of.name.clone()).collect();
        for built_in in [SITE_SILENT, ALERTER_BLIND] {
            notify.insert(built_in.into(), everybody.clone());
        }
        Self { ledger: Arc::new(Ledger::new(&config.receivers)), notify }
    }

    /// Writes all of a change.
    pub(crate) fn write(&self, file: &Connection, change: &Change, now: Timestamp) -> rusqlite::Result<()> {
        change.transitions.iter().try_for_each(|transition| subject_state(file, transition))?;
        self.events(file, &change.events, now)?;
        for drill in &change.drills {
            self.ledger.drill(file, drill, self.drilled(drill), now)?;
        }
        // Last, since an event has its incident as it was then, and not as it is at the end of the step.
        change.write(file, now)
    }

    /// Whom a drill is for: those of its rule, or everybody.
    fn drilled(&self, drill: &Drill) -> &[Name] {
        let rule = drill.rule.as_deref().unwrap_or(SITE_SILENT);
        self.notify.get(rule).map_or(&[][..], Vec::as_slice)
    }

    /// Writes what became of incidents, and what is owed for it.
    pub(crate) fn events(&self, file: &Connection, events: &[Event], now: Timestamp) -> rusqlite::Result<()> {
        events.iter().try_for_each(|event| {
            incident::write(file, event)?;
            match &event.what {
                What::Opened(symptom) | What::Joined(symptom) => {
                    let receivers = self.notify.get(&symptom.rule).map_or(&[][..], Vec::as_slice);
                    self.ledger.fired(file, event, symptom, receivers, now)
                }
                What::Refined => self.ledger.refined(file, event, now),
                What::Worse => self.ledger.worse(file, event, now),
                What::Left(_) => Ok(()),
                What::Closed(ended) => self.ledger.resolved(file, event, ended, now),
            }
        })
    }
}

fn subject_state(file: &Connection, transition: &Transition) -> rusqlite::Result<()> {
    let Transition { at, state, rule, subject, value, reason, .. } = transition;
    let state = match state {
        // Being resolved is an event; the state after it is ok.
        State::Resolved => State::Ok,
        state => *state,
    };
    file.prepare_cached(
        "INSERT INTO subject_state (rule, subject, state, since, value, reason) VALUES (?, ?, ?, ?, ?, ?)
         ON CONFLICT (rule, subject) DO UPDATE
         SET state = excluded.state, since = excluded.since, value = excluded.value, reason = excluded.reason",
    )?
    .execute(params![rule, subject, state.word(), at.as_micros(), value, reason])?;
    Ok(())
}
