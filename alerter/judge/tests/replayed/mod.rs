//! The engine, driven as replay drives it.

use std::collections::BTreeMap;

use crosswatch_judge::rule::Rule;
use crosswatch_judge::{Engine, Saved, Transition};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Observation, Origin};

use crate::model::Line;

/// The engine's lines, in the order in which replay prints them.
pub(crate) fn replayed(rules: &[Rule], topology: &Topology, rows: &[(Origin, Observation)]) -> Vec<Line> {
    let mut engine = Engine::new(rules.to_vec(), topology);
    let mut out = Vec::new();
    for (origin, observation) in rows {
        engine.row(origin, observation, &mut out);
    }
    lines(out)
}

fn lines(mut out: Vec<Transition>) -> Vec<Line> {
    out.sort_by(|a, b| (a.at, a.rule_index, &a.subject).cmp(&(b.at, b.rule_index, &b.subject)));
    let line = |transition: Transition| {
        let Transition { at, state, rule, subject, value, .. } = transition;
        (at, state.word(), rule.to_string(), subject.to_string(), value)
    };
    out.into_iter().map(line).collect()
}

/// The same, with an engine that is stopped after every `life` rows and goes on from what it saved.
pub(crate) fn replayed_in_lives(
    rules: &[Rule],
    topology: &Topology,
    rows: &[(Origin, Observation)],
    life: usize,
) -> Vec<Line> {
    let mut store: BTreeMap<String, Vec<u8>> = BTreeMap::new();
    let mut out = Vec::new();
    for rows in rows.chunks(life) {
        let mut engine = Engine::new(rules.to_vec(), topology);
        let saved = store.iter().map(|(key, value)| Saved { key: key.clone(), value: value.clone() });
        let restored = engine.restore(saved);
        assert!(restored.is_ok(), "{restored:?}");
        for (origin, observation) in rows {
            engine.row(origin, observation, &mut out);
            store.extend(engine.changed().into_iter().map(|saved| (saved.key, saved.value)));
        }
    }
    lines(out)
}
