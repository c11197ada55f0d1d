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

use crate::catch_up::{Due, Past};
use crate::config::Config;
use crate::drill::Drill;
use crate::incident;
use crate::ledger::{self, Kept, Ledger, Telling};
use crate::memory::Change;
use crate::peer::Rank;
use crate::refused::CONFIG_REFUSED;
use crate::silence::{ALERTER_BLIND, SITE_SILENT};
use crate::silences;

/// Knows whom each rule pages.
#[derive(Debug)]
pub(crate) struct Recorder {
    pub(crate) ledger: Arc<Ledger>,
    notify: HashMap<Name, Vec<Name>>,
    silences: Silences,
    /// Something may be kept back.
    keeps: AtomicBool,
}

impl Recorder {
    pub(crate) fn new(config: &Config, rank: Option<Rank>) -> Self {
        let mut notify: HashMap<Name, Vec<Name>> =
            config.rules.iter().map(|of| (of.rule.name.clone(), of.notify.clone())).collect();
        let everybody: Vec<Name> = config.receivers.iter().map(|of| of.name.clone()).collect();
        for built_in in [SITE_SILENT, ALERTER_BLIND, CONFIG_REFUSED] {
            notify.insert(built_in.into(), everybody.clone());
        }
        Self {
            ledger: Arc::new(match rank {
                Some(rank) => Ledger::new(&config.receivers).beside(rank),
                None => Ledger::new(&config.receivers),
            }),
            notify,
            silences: Silences::default(),
            keeps: AtomicBool::new(true),
        }
    }

    /// Which pages are muted from now on.
    pub(crate) fn silence(&mut self, silences: Silences) {
        self.silences = silences;
        self.keeps.store(true, Ordering::Relaxed);
    }

    pub(crate) fn silences(&self) -> &Silences {
        &self.silences
    }

    /// Whether something may be kept back, so that the end of a silence, or of catching up, must be watched for.
    pub(crate) fn keeps(&self) -> bool {
        self.keeps.load(Ordering::Relaxed)
    }

    /// Owes what is kept back no more, of the incidents that are open, and what has ended meanwhile, as far as it is due. Gives
    /// whether there was any.
    pub(crate) fn release<'a>(
        &self,
        file: &Connection,
        open: impl Iterator<Item = (&'a Incident, Vec<String>)>,
        due: Due,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let kept = ledger::kept(file)?;
        for (incident, evidence) in open.filter(|(incident, _)| kept.contains(&incident.id)) {
            let symptoms: Vec<Telling<'_>> = incident
                .symptoms
                .iter()
                .map(|symptom| Telling {
                    symptom,
                    receivers: self.receivers(symptom),
                    muted: self.silences.muting(symptom, now).map(silences::named),
                })
                .collect();
            let Some(last) = incident.symptoms.last() else { continue };
            let event = Event {
                incident: incident.clone(),
                what: What::Joined(last.clone()),
                evidence: evidence.clone(),
            };
            self.ledger.release(file, &event, &symptoms, due, now)?;
        }
        self.ledger.release_ended(file, due, now)?;
        let left = ledger::kept(file)?;
        self.keeps.store(!left.is_empty(), Ordering::Relaxed);
        Ok(left != kept)
    }

    fn receivers(&self, symptom: &Symptom) -> &[Name] {
        self.notify.get(&symptom.rule).map_or(&[][..], Vec::as_slice)
    }

    /// Why nobody is told for now of what all of these are: the silence that mutes the first, or that it is of the past. What
    /// is of the past may have begun in a silence, too.
    fn keeping<'a>(
        &self,
        symptoms: impl IntoIterator<Item = &'a Symptom>,
        is_past: bool,
        now: Timestamp,
    ) -> Option<Kept> {
        let muting = |of: &Symptom| {
            let then = || is_past.then(|| self.silences.muting(of, of.at)).flatten();
            self.silences.muting(of, now).or_else(then).map(silences::named)
        };
        let muting: Option<Vec<String>> = symptoms.into_iter().map(muting).collect();
        let first = muting.and_then(|all| all.into_iter().next()).map(Kept::Muted);
        let kept = first.or_else(|| is_past.then_some(Kept::Behind));
        if kept.is_some() {
            self.keeps.store(true, Ordering::Relaxed);
        }
        kept
    }

    /// Writes all of a change.
    pub(crate) fn write(&self, file: &Connection, change: &Change, now: Timestamp) -> rusqlite::Result<()> {
        change.transitions.iter().try_for_each(|transition| subject_state(file, transition))?;
        self.events(file, &change.events, &change.past, now)?;
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
    pub(crate) fn events(
        &self,
        file: &Connection,
        events: &[Event],
        past: &Past,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        events.iter().try_for_each(|event| {
            incident::write(file, event)?;
            match &event.what {
                What::Opened(symptom) | What::Joined(symptom) => {
                    let kept = self.keeping([symptom], past.has(event), now);
                    self.ledger.fired(file, event, symptom, self.receivers(symptom), kept.as_ref(), now)
                }
                What::Refined => self.ledger.refined(file, event, now),
                What::Worse => {
                    let kept = self.keeping(&event.incident.symptoms, past.has(event), now);
                    self.ledger.worse(file, event, kept.as_ref(), now)
                }
                What::Left(_) => Ok(()),
                What::Closed(ended) => {
                    let past = past.has(event);
                    if past {
                        self.keeps.store(true, Ordering::Relaxed);
                    }
                    self.ledger.resolved(file, event, ended, past, now)
                }
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
