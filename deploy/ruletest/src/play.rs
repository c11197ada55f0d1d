//! A case played: its series as the batches of collectors, second by second, into the alerter's own rehearsal.
//!
//! Every site of the config sends a sign of life each second, as its collector does, and what it sees at once. Rules are
//! judged for the subjects that the case has a series of, and for no other.

use std::time::Duration;

use crosswatch_alerter::Error;
use crosswatch_alerter::config::Config;
use crosswatch_alerter::rehearsal::Rehearsal;
use crosswatch_judge::Transition;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use wildmatch::WildMatch;

use crate::series::{Collector, Series};
use crate::subject::Subject;
use crate::{Case, Played};

/// How often a collector sends a sign of life.
const SECOND: Duration = Duration::from_secs(1);

/// Plays a case by this config.
///
/// # Errors
/// There is no memory for the alerter's file.
pub fn play(case: &Case, topology: &Topology, config: &Config) -> Result<Played, Error> {
    let mut rehearsal = Rehearsal::new(&narrowed(config, case), topology, case.start)?;
    let mut sites: Vec<Site> = topology.sites.iter().map(|site| Site::new(site.name.clone(), case)).collect();
    let mut transitions = Vec::new();
    let mut passed = Some(Duration::ZERO);
    while let Some(now) = passed.filter(|now| *now <= case.lasts) {
        let at = case.start + now;
        let batches = sites.iter_mut().flat_map(|site| site.sees(now, at, now < case.lasts)).collect();
        transitions.extend(rehearsal.read(batches, at)?);
        let second = SECOND * u32::try_from(now.as_secs() + 1).unwrap_or(u32::MAX);
        passed = sites.iter().filter_map(|site| site.next(now)).chain([second]).min();
    }
    transitions.sort_by(|one: &Transition, other| {
        (one.at, one.rule_index, &one.subject).cmp(&(other.at, other.rule_index, &other.subject))
    });
    Ok(Played { transitions, told: rehearsal.end()? })
}

/// The config with each rule for the case's subjects alone: of the others nothing is seen, which is not to be judged.
fn narrowed(config: &Config, case: &Case) -> Config {
    let mut config = config.clone();
    config.rules.retain_mut(|of| {
        let globs: Vec<WildMatch> = of.rule.subjects.iter().map(|glob| WildMatch::new(glob)).collect();
        let covers = |name: &str| globs.is_empty() || globs.iter().any(|glob| glob.matches(name));
        let seen = case.series.iter().filter(|series| series.of.subject != Subject::Collector);
        of.rule.subjects = seen.map(|series| series.name.clone()).filter(|name| covers(name)).collect();
        !of.rule.subjects.is_empty()
    });
    config
}

/// A site's collector.
struct Site<'a> {
    name: Name,
    series: Vec<&'a Series>,
    /// What becomes of the collector itself.
    collector: Option<&'a Series>,
    boot: u32,
    died: bool,
    number: u64,
    seq: u64,
    /// Batches that could not be sent yet.
    kept: Vec<Batch>,
}

impl<'a> Site<'a> {
    fn new(name: Name, case: &'a Case) -> Self {
        let (collector, series): (Vec<&Series>, Vec<&Series>) = case
            .series
            .iter()
            .filter(|series| series.of.site == name)
            .partition(|series| series.of.subject == Subject::Collector);
        let collector = collector.first().copied();
        Self { name, series, collector, boot: 0, died: false, number: 0, seq: 0, kept: Vec::new() }
    }

    /// When something is seen next, after `now`.
    fn next(&self, now: Duration) -> Option<Duration> {
        self.series.iter().filter_map(|series| series.of.every.checked_mul(interval(series, now) + 1)).min()
    }

    /// What comes from it at this moment; with `sees` also what is seen right then, which a case's end is too late for.
    fn sees(&mut self, now: Duration, at: Timestamp, sees: bool) -> Vec<Batch> {
        let state = self.collector.map_or(Collector::Alive, |of| of.collector(now.as_secs()));
        if state == Collector::Dead {
            self.died = true;
            // Its journal is on the disk, and goes out once it lives again.
            return Vec::new();
        }
        if std::mem::take(&mut self.died) {
            (self.boot, self.number, self.seq) = (self.boot + 1, 0, 0);
        }
        let due = self.series.iter().filter(|series| sees && is_due(series, now));
        let bodies: Vec<_> = due.filter_map(|series| series.body(u64::from(interval(series, now)))).collect();
        let observations: Vec<Observation> =
            bodies.into_iter().zip(self.seq..).map(|(body, seq)| Observation { at, seq, body }).collect();
        self.seq += observations.len() as u64;
        // Event time reaches a moment before what is seen in it is judged, as it does in a replay.
        self.keep(at, Vec::new());
        if !observations.is_empty() {
            self.keep(at, observations);
        }
        if state == Collector::Cut { Vec::new() } else { std::mem::take(&mut self.kept) }
    }

    fn keep(&mut self, through: Timestamp, observations: Vec<Observation>) {
        let origin = Origin {
            site: self.name.clone(),
            collector: "test".into(),
            boot: format!("{}-{}", self.name, self.boot).into(),
        };
        self.kept.push(Batch { origin, number: self.number, through, observations });
        self.number += 1;
    }
}

/// The number of the interval that this moment is in.
fn interval(series: &Series, now: Duration) -> u32 {
    // A case lasts so long that this many intervals of 10 ms, the shortest there are, can be counted.
    u32::try_from(now.as_micros() / series.of.every.as_micros().max(1)).unwrap_or(u32::MAX)
}

fn is_due(series: &Series, now: Duration) -> bool {
    now.as_micros().is_multiple_of(series.of.every.as_micros().max(1))
}
