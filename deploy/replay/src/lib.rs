//! What was observed, once more: out of a [`source`], through the rules and windows that run live, in its own time. What
//! would have fired and when ([`replay`], [`Judging`]), what other rules would have done
//! ([`backtest`], [`sweep`]), and an incident for who asks afterwards ([`report`]).
//!
//! Nobody is notified, nothing is written, and no clock is read; only what is put back ([`put_back`]) goes to the stages' queues.

pub mod backtest;
mod counts;
mod judging;
pub mod pace;
#[cfg(feature = "parquet")]
pub mod parquet;
mod plot;
pub mod print;
pub mod put_back;
pub mod report;
pub mod source;
pub mod sweep;

use crosswatch_judge::Transition;
use crosswatch_judge::rule::Rule;
use crosswatch_shared::config::topology::Topology;

pub use counts::{Counts, PutBackOf};
pub use judging::{Found, Judging};
pub use print::line;
use source::{Source, SourceError};

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The transitions, by time, then the rule's place in the config, then subject.
    pub transitions: Vec<Transition>,
    /// What was read and what was skipped.
    pub counts: Counts,
}

/// Judges all that a source gives.
///
/// # Errors
/// The source cannot be read.
pub fn replay(
    rules: Vec<Rule>,
    topology: &Topology,
    source: &mut dyn Source,
) -> Result<Replayed, SourceError> {
    let mut judging = Judging::new(rules, topology);
    let (mut found, mut transitions) = (Found::default(), Vec::new());
    while let Some(piece) = source.next()? {
        judging.take(&piece, &mut found);
        transitions.append(&mut found.transitions);
    }
    let counts = judging.end(&mut found);
    transitions.append(&mut found.transitions);
    sort(&mut transitions);
    Ok(Replayed { transitions, counts })
}

/// Puts transitions in the order in which they are printed.
pub fn sort(transitions: &mut [Transition]) {
    transitions.sort_by(|one, other| {
        let key = |transition: &Transition| (transition.at, transition.rule_index);
        key(one).cmp(&key(other)).then_with(|| one.subject.cmp(&other.subject))
    });
}
