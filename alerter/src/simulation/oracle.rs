//! What a day comes to: its batches judged by the pure engine, each site's in the order in which they were made.

use std::collections::BTreeMap;

use crosswatch_judge::{Engine, State, SubjectState, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use super::days::Day;

/// A rule and a subject.
pub(crate) type Of = (String, String);

/// A transition, as far as the alerter's file keeps it.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Told {
    pub(crate) at: Timestamp,
    /// The state from then on; what is resolved is ok.
    pub(crate) state: String,
    pub(crate) value: Option<f64>,
    pub(crate) reason: String,
}

impl From<Transition> for Told {
    fn from(transition: Transition) -> Self {
        let Transition { at, state, value, reason, .. } = transition;
        let state = if state == State::Resolved { State::Ok } else { state };
        Self { at, state: state.word().to_owned(), value, reason }
    }
}

/// What must come of a day.
pub(crate) struct Expected {
    /// Of each subject, in order.
    pub(crate) told: BTreeMap<Of, Vec<Told>>,
    /// What is so at its end.
    pub(crate) subjects: Vec<SubjectState>,
}

/// Judges a day.
pub(crate) fn judge(day: &Day) -> Expected {
    let rules = day.world.config.rules.iter().map(|of| of.rule.clone()).collect();
    let mut engine = Engine::new(rules, &day.world.topology);
    let mut out = Vec::new();
    let mut event_times: BTreeMap<Name, (Name, Timestamp)> = BTreeMap::new();
    for sent in day.sends.iter().filter(|sent| !sent.damaged) {
        let origin = &sent.batch.origin;
        for observation in &sent.batch.observations {
            engine.observe(origin, observation, &mut out);
        }
        let (through, boot) = (sent.batch.through, &origin.boot);
        let before = event_times.get(&origin.site);
        if before.is_none_or(|(of, at)| of != boot || *at < through) {
            event_times.insert(origin.site.clone(), (boot.clone(), through));
            engine.advance(&origin.site, boot, through, &mut out);
        }
    }
    Expected { told: by_subject(out), subjects: engine.subjects() }
}

pub(crate) fn by_subject(transitions: Vec<Transition>) -> BTreeMap<Of, Vec<Told>> {
    let mut told: BTreeMap<Of, Vec<Told>> = BTreeMap::new();
    for transition in transitions {
        let of = (transition.rule.to_string(), transition.subject.to_string());
        told.entry(of).or_default().push(transition.into());
    }
    told
}
