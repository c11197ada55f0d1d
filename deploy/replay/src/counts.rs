//! What was read, and what was skipped and why: nothing is left out without a word.

use std::collections::BTreeMap;
use std::fmt;

use crosswatch_shared::observation::{Body, Observation, Origin};

use crate::source::Skipped;

/// See the module.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
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
    /// Observations outside of the time, link or site that was asked for, in what had to be read.
    pub unwanted: u64,
    /// Entries and messages that are no batch: which, and why.
    pub unreadable: BTreeMap<String, u64>,
    /// Sites of the config that have no journal.
    pub no_journal: BTreeMap<String, u64>,
    /// Journals of sites that the config lacks.
    pub foreign_journals: BTreeMap<String, u64>,
    /// Batches that never came, or lay outside: gaps in their numbers.
    pub gaps: u64,
    /// Datapoints and observations that came too late to be judged.
    pub late: u64,
    /// Windows that were not over when the input was.
    pub unfinished: u64,
}

impl Counts {
    /// Counts what a source skipped.
    pub fn skip(&mut self, skipped: &Skipped) {
        let (under, count) = match skipped {
            Skipped::UnknownKind(_) => (&mut self.unknown_kinds, 1),
            Skipped::UnknownKinds(count) => (&mut self.unknown_kinds, *count),
            Skipped::Unreadable { .. } => (&mut self.unreadable, 1),
            Skipped::NoJournal(_) => (&mut self.no_journal, 1),
            Skipped::ForeignJournal(_) => (&mut self.foreign_journals, 1),
            Skipped::Torn => {
                self.torn = true;
                return;
            }
            Skipped::Unwanted(count) => {
                self.unwanted += count;
                return;
            }
        };
        // What is only ever told as a number must not fill memory: beyond this, names are left out.
        let name = if under.len() < NAMES { skipped.to_string() } else { "others".to_owned() };
        *under.entry(name).or_default() += count;
    }
}

/// How many names are kept apart.
const NAMES: usize = 1_000;

/// How many names are told before the rest is only counted.
const NAMED: usize = 10;

impl fmt::Display for Counts {
    /// A line for what was judged, then one for each thing skipped.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "judged {} observations", self.judged)?;
        self.skipped(f)
    }
}

impl Counts {
    /// A line for each thing skipped.
    pub(crate) fn skipped(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.seen > 0 {
            writeln!(f, "skipped {} seen before (same collector, boot and seq)", self.seen)?;
        }
        told(f, &self.foreign, "that the config lacks")?;
        told(f, &self.unknown_kinds, "of a kind that this version does not know")?;
        told(f, &self.unreadable, "that cannot be read")?;
        told(f, &self.foreign_journals, "journals of sites that the config lacks")?;
        if !self.no_journal.is_empty() {
            let sites: Vec<_> = self.no_journal.keys().map(String::as_str).collect();
            writeln!(f, "there is no journal of {}", sites.join(", "))?;
        }
        if self.torn {
            writeln!(f, "skipped a last line that is cut off")?;
        }
        if self.unwanted > 0 {
            writeln!(f, "left out {} outside of what was asked for", self.unwanted)?;
        }
        if self.gaps > 0 {
            writeln!(f, "{} gaps in the numbers of batches were passed over", self.gaps)?;
        }
        if self.late > 0 {
            writeln!(f, "{} came too late to be judged", self.late)?;
        }
        if self.unfinished > 0 {
            writeln!(f, "left out {} windows that were not over at the end", self.unfinished)?;
        }
        Ok(())
    }
}

/// What was put back of it, and what was skipped.
#[derive(Debug)]
pub struct PutBackOf<'a>(pub &'a Counts);

impl fmt::Display for PutBackOf<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "put back {} observations", self.0.judged)?;
        self.0.skipped(f)
    }
}

/// By which name an observation is foreign.
pub(crate) fn concerned(Origin { site, .. }: &Origin, observation: &Observation) -> String {
    match &observation.body {
        Body::Probe { link, probe, .. } | Body::Evidence { link, probe, .. } => {
            format!("{link}/{site}/{probe}")
        }
        Body::Tunnels { link, vpn, .. } => format!("{link}/{vpn} of site {site}"),
        Body::Collection { source, .. } => format!("{site}/{source}"),
        Body::Drill { .. } => format!("a drill of {site}"),
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
