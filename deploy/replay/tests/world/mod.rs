//! A small deployment and what it saw: two sites, a probe from either, and time that is made up.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::time::Duration;

use crosswatch_journal::Writer;
use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side};
use crosswatch_replay::backtest::Rules;
use crosswatch_replay::source::{Piece, Source, SourceError};
use crosswatch_shared::config::document;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;

pub(crate) const START: i64 = 1_795_330_800;

/// Sites `a` and `b`, links `l` and `m`: each has a probe `p` from `a`, and `l` one named `q` from `b`.
pub(crate) fn topology() -> Topology {
    let text = r#"
        [site.a]
        [site.b]
        [[link]]
        name = "l"
        between = ["a", "b"]
        probe = [{ from = "a", name = "p", icmp = "10.1.0.10" }, { from = "b", name = "q", icmp = "10.0.0.10" }]
        [[link]]
        name = "m"
        between = ["a", "b"]
        probe = [{ from = "a", name = "p", icmp = "10.1.0.11" }]
    "#;
    document::read(Path::new("crosswatch.toml"), text.as_bytes(), Topology::take)
        .unwrap_or_else(|problems| panic!("{problems}"))
}

/// Fires after so many losses in a row.
pub(crate) fn lost(name: &str, in_a_row: usize) -> Rule {
    let breach = Breach { m: in_a_row, n: in_a_row };
    Rule { breach, ..rule(name, Metric::PingOk, Side::Below, 1.0) }
}

/// Fires above so many milliseconds, three times of three.
pub(crate) fn slow(name: &str, above: f64) -> Rule {
    Rule { breach: Breach { m: 3, n: 3 }, ..rule(name, Metric::LatencyMs, Side::Above, above) }
}

fn rule(name: &str, metric: Metric, side: Side, threshold: f64) -> Rule {
    Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m: 1, n: 1 },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}

/// Rules that all page `oncall`.
pub(crate) fn paging(rules: Vec<Rule>) -> Rules {
    let notify = rules.iter().map(|rule| (rule.name.clone(), vec!["oncall".into()])).collect();
    Rules { rules, notify }
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_secs(START + second)
}

pub(crate) fn origin(site: &str) -> Origin {
    Origin { site: site.into(), collector: format!("c-{site}").as_str().into(), boot: "boot-1".into() }
}

/// A batch a second of one site, each with an outcome of the probe of link `l` in that second.
pub(crate) fn batches(site: &str, outcomes: impl IntoIterator<Item = Option<f64>>) -> Vec<Batch> {
    let probe = if site == "a" { "p" } else { "q" };
    let batch = |(second, outcome): (usize, Option<f64>)| {
        let time = at(second as i64);
        Batch {
            origin: origin(site),
            number: second as u64,
            through: time + Duration::from_millis(900),
            observations: vec![Observation {
                at: time,
                seq: second as u64,
                body: outcome_of("l", probe, outcome),
            }],
        }
    };
    outcomes.into_iter().enumerate().map(batch).collect()
}

pub(crate) fn outcome_of(link: &str, probe: &str, outcome: Option<f64>) -> Body {
    let outcome = outcome.map_or(Outcome::Lost(Lost::Timeout), |rtt_ms| Outcome::Reply { rtt_ms });
    Body::Probe { link: link.into(), probe: probe.into(), outcome, detail: None }
}

/// Good for so long, then a stretch of something else, then good again.
pub(crate) fn trouble(good: usize, bad: (usize, Option<f64>), after: usize) -> Vec<Option<f64>> {
    let good_one = Some(80.0);
    let stretch = |outcome, count| std::iter::repeat_n(outcome, count);
    stretch(good_one, good).chain(stretch(bad.1, bad.0)).chain(stretch(good_one, after)).collect()
}

/// Writes batches to the site's journal, each when it was promised.
pub(crate) fn journal(folder: &Path, site: &str, batches: &[Batch]) -> Writer {
    let mut writer = Writer::open(folder, site).unwrap();
    for batch in batches {
        writer.append(batch, batch.through).unwrap();
    }
    writer
}

/// What a test made up, as a source.
pub(crate) struct Made(pub(crate) std::vec::IntoIter<Piece>);

impl Made {
    pub(crate) fn of(batches: Vec<Batch>) -> Self {
        let piece = |batch: Batch| Piece::Batch(batch.clone(), batch.through);
        Self(batches.into_iter().map(piece).collect::<Vec<_>>().into_iter())
    }
}

impl Source for Made {
    fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        Ok(self.0.next())
    }

    fn progress(&self) -> Option<f64> {
        None
    }
}
