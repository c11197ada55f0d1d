//! Replay: observations out of a file, through the real rules, in their own time: what would have fired, and when.
//!
//! [`replay`] reads JSON lines, as `crosswatch export` prints them, into the engine of `crosswatch_judge` that the alerter
//! runs; [`line()`] writes a transition as one. Nobody is notified, and no clock is read.

use std::collections::BTreeMap;
use std::fmt;
use std::io::BufRead;

use crosswatch_judge::rule::Rule;
use crosswatch_judge::{Engine, Taken, Transition};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Body, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{self, Names, Row, WireError};
use serde::Serialize;

/// A file that cannot be replayed. Trying again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum ReplayError {
    /// A row means nothing.
    #[error("{file}:{line}: {source}")]
    Row {
        /// The file's name.
        file: String,
        /// The row's line, from 1.
        line: u64,
        /// What is wrong with it.
        source: WireError,
    },
    /// The file cannot be read.
    #[error("{file}: {source}")]
    Read {
        /// The file's name.
        file: String,
        /// Why not.
        source: std::io::Error,
    },
}

/// What a replay came to.
#[derive(Debug, Default)]
pub struct Replayed {
    /// The transitions, by time, then the rule's place in the config, then subject.
    pub transitions: Vec<Transition>,
    /// What was read and what was skipped.
    pub counts: Counts,
}

/// What was read, and what was skipped and why.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Observations judged.
    pub judged: u64,
    /// Observations seen before: the same collector, boot and number.
    pub seen: u64,
    /// Observations of a site, link, probe or VPN connection that the config lacks, by its name.
    pub foreign: BTreeMap<String, u64>,
    /// Rows of a kind that this version does not know, by kind.
    pub unknown_kinds: BTreeMap<String, u64>,
    /// Whether the last line was cut off.
    pub torn: bool,
    /// Datapoints and observations that came too late to be judged.
    pub late: u64,
}

/// Judges the rows of `input`, in their order, one JSON object a line. A site's event time is the largest `at` read of
/// it and ends with the input.
///
/// # Errors
/// A row that means nothing, with its file and line; an input that cannot be read.
pub fn replay(
    rules: Vec<Rule>,
    topology: &Topology,
    mut input: impl BufRead,
    file: &str,
) -> Result<Replayed, ReplayError> {
    let mut engine = Engine::new(rules, topology);
    let mut names = Names::default();
    let mut replayed = Replayed::default();
    let mut text = Vec::new();
    for line in 1.. {
        text.clear();
        let read = |source| ReplayError::Read { file: file.to_owned(), source };
        if input.read_until(b'\n', &mut text).map_err(read)? == 0 {
            break;
        }
        if text.trim_ascii().is_empty() {
            continue;
        }
        let counts = &mut replayed.counts;
        match wire::decode_row(&text, &mut names) {
            Ok(Row::Observation(origin, observation)) => {
                match engine.row(&origin, &observation, &mut replayed.transitions) {
                    Taken::Judged => counts.judged += 1,
                    Taken::Seen => counts.seen += 1,
                    Taken::Foreign => {
                        *counts.foreign.entry(concerned(&origin, &observation)).or_default() += 1
                    }
                }
            }
            Ok(Row::UnknownKind(kind)) => *counts.unknown_kinds.entry(kind).or_default() += 1,
            Err(error) if !text.ends_with(b"\n") && error.is_cut_off() => counts.torn = true,
            Err(source) => {
                return Err(ReplayError::Row { file: file.to_owned(), line, source });
            }
        }
    }
    replayed.counts.late = engine.late();
    replayed.transitions.sort_by(|one, other| {
        let key = |transition: &Transition| (transition.at, transition.rule_index);
        key(one).cmp(&key(other)).then_with(|| one.subject.cmp(&other.subject))
    });
    Ok(replayed)
}

/// A transition as one line of JSON, without the line's end: the form that the design fixes.
#[must_use]
pub fn line(transition: &Transition) -> String {
    #[derive(Serialize)]
    struct Line<'a> {
        at: Timestamp,
        state: &'a str,
        rule: &'a str,
        subject: &'a str,
        value: Option<f64>,
        reason: &'a str,
    }
    let Transition { at, state, rule, subject, value, reason, .. } = transition;
    // A struct of text and numbers: writing it cannot fail.
    serde_json::to_string(&Line { at: *at, state: state.word(), rule, subject, value: *value, reason })
        .unwrap_or_default()
}

fn concerned(Origin { site, .. }: &Origin, observation: &Observation) -> String {
    match &observation.body {
        Body::Probe { link, probe, .. } | Body::Evidence { link, probe, .. } => {
            format!("{link}/{site}/{probe}")
        }
        Body::Tunnels { link, vpn, .. } => format!("{link}/{vpn} of site {site}"),
        Body::Collection { source, .. } => format!("{site}/{source}"),
        Body::Drill { .. } => format!("a drill of {site}"),
    }
}

/// How many names are told before the rest is only counted.
const NAMED: usize = 10;

impl fmt::Display for Counts {
    /// A line for what was judged, then one for each thing skipped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "judged {} observations", self.judged)?;
        if self.seen > 0 {
            writeln!(f, "skipped {} seen before (same collector, boot and seq)", self.seen)?;
        }
        told(f, &self.foreign, "that the config lacks")?;
        told(f, &self.unknown_kinds, "of a kind that this version does not know")?;
        if self.torn {
            writeln!(f, "skipped a last line that is cut off")?;
        }
        if self.late > 0 {
            writeln!(f, "{} came too late to be judged", self.late)?;
        }
        Ok(())
    }
}

fn told(f: &mut fmt::Formatter<'_>, skipped: &BTreeMap<String, u64>, what: &str) -> fmt::Result {
    if skipped.is_empty() {
        return Ok(());
    }
    let all: u64 = skipped.values().sum();
    let named: Vec<_> = skipped.iter().take(NAMED).map(|(name, count)| format!("{name} ({count})")).collect();
    let more = skipped.len().saturating_sub(NAMED);
    let more = if more == 0 { String::new() } else { format!(" and {more} more") };
    writeln!(f, "skipped {all} {what}: {}{more}", named.join(", "))
}
