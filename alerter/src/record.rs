//! Writes what a step brought about: the state, the incidents, and what is owed for them, in the caller's transaction.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use crosswatch_judge::incident::{Event, Incident, What};
use crosswatch_judge::mute::Silences;
use crosswatch_judge::verdict::Symptom;
use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::config::Config;
use crate::drill::Drill;
use crate::incident;
use crate::ledger::{self, Ledger};
use crate::memory::Change;
use crate::refused::CONFIG_REFUSED;
use crate::silence::{ALERTER_BLIND, SITE_SILENT};
use crate::silences;

/// Knows whom each rule pages.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) ledger: Arc<Ledger>,
    notify: HashMap<Name, Vec<Name>>,
    silences: Silences,
    /// Something may be muted.
    muted: AtomicBool,
}

impl Recorder {
    pub(crate) fn new(config: &Config) -> Self {
        let mut notify: HashMap<Name, Vec<Name>> =
            config.rules.iter().map(|of| (of.rule.name.clone(), of.notify.clone())).collect();
        let everybody: Vec<Name> = config.receivers.iter().map(|of| of.name.clone()).collect();
        for built_in in [SITE_SILENT, ALERTER_BLIND, CONFIG_REFUSED] {
            notify.insert(built_in.into(), everybody.clone());
        }
        Self {
            ledger: Arc::new(Ledger::new(&config.receivers)),
            notify,
            silences: Silences::default(),
            muted: AtomicBool::new(true),
        }
    }

    /// Which pages are muted from now on.
    pub(crate) fn silence(&mut self, silences: Silences) {
        self.silences = silences;
        self.muted.store(true, Ordering::Relaxed);
    }

    pub(crate) fn silences(&self) -> &Silences {
        &self.silences
    }

    /// Whether something may be muted, so that the end of a silence must be watched for.
    pub(crate) fn mutes(&self) -> bool {
        self.muted.load(Ordering::Relaxed)
    }

    /// Owes what is muted no more, of the incidents that are open. Gives whether there was any.
    pub(crate) fn unmute<'a>(
        &self,
        file: &Connection,
        open: impl Iterator<Item = (&'a Incident, Vec<String>)>,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let muted = ledger::muted(file)?;
        for (incident, evidence) in open.filter(|(incident, _)| muted.contains(&incident.id)) {
            for symptom in &incident.symptoms {
                if self.silences.muting(symptom, now).is_some() {
                    continue;
                }
                let what = What::Joined(symptom.clone());
                let event = Event { incident: incident.clone(), what, evidence: evidence.clone() };
                self.ledger.unmuted(file, &event, symptom, self.receivers(symptom), now)?;
            }
        }
        let left = ledger::muted(file)?;
        self.muted.store(!left.is_empty(), Ordering::Relaxed);
        Ok(left != muted)
    }

    fn receivers(&self, symptom: &Symptom) -> &[Name] {
        self.notify.get(&symptom.rule).map_or(&[][..], Vec::as_slice)
    }

    /// The silence that mutes all of these, as it is told of: the first's.
    fn muting<'a>(&self, symptoms: impl IntoIterator<Item = &'a Symptom>, now: Timestamp) -> Option<String> {
        let muting: Option<Vec<String>> =
            symptoms.into_iter().map(|of| self.silences.muting(of, now).map(silences::named)).collect();
        let first = muting?.into_iter().next();
        if first.is_some() {
            self.muted.store(true, Ordering::Relaxed);
        }
        first
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
                    let muted = self.muting([symptom], now);
                    self.ledger.fired(file, event, symptom, self.receivers(symptom), muted.as_deref(), now)
                }
                What::Refined => self.ledger.refined(file, event, now),
                What::Worse => {
                    let muted = self.muting(&event.incident.symptoms, now);
                    self.ledger.worse(file, event, muted.as_deref(), now)
                }
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
