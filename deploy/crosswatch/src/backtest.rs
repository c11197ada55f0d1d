//! `backtest`: what other rules would have made of what was observed.

use std::fs;
use std::io::{self, Write};
use std::path::PathBuf;

use anyhow::{Context, bail};
use crosswatch_alerter::config::Config as Alerts;
use crosswatch_replay::backtest::{Comparison, Rules, compare, judge};
use crosswatch_replay::source::Source;
use crosswatch_replay::sweep::{self, Sweep};
use crosswatch_shared::config::topology::Topology;
use serde_json::json;

use crate::cli::{FailOn, Format, InputArgs};
use crate::config::Config;
use crate::input;
use crate::progress::Progress;

/// What is asked.
pub(crate) struct Options {
    pub(crate) fail_on: Vec<FailOn>,
    pub(crate) sweep: Option<String>,
    pub(crate) svg: Option<PathBuf>,
    pub(crate) format: Format,
}

/// Prints the comparison, or the sweep.
pub(crate) fn run(
    config: Config,
    new: Option<Config>,
    args: &InputArgs,
    options: &Options,
) -> anyhow::Result<()> {
    let (mut source, topology) = input::open(args, &config.topology)?;
    let old = rules(config.alerts);
    let new = new.map(|config| rules(config.alerts));
    if let Some(text) = &options.sweep {
        return swept(&mut *source, &topology, &new.unwrap_or(old), &text.parse()?, options);
    }
    let sets = [old, new.unwrap_or_default()];
    let mut progress = Progress::begin();
    let judged = judge(&mut *source, sets, &topology, |observations, part| progress.tell(observations, part));
    progress.end();
    let judged = judged?;
    let [old, new] = judged.as_slice() else { bail!("a set of rules was not judged") };
    eprint!("{}", new.counts);
    let comparison = compare(old, new);
    let mut out = io::stdout().lock();
    match options.format {
        Format::Text => write!(out, "{comparison}")?,
        Format::Json => writeln!(out, "{}", serde_json::to_string(&comparison)?)?,
    }
    out.flush()?;
    let failed = failed(&comparison, &options.fail_on);
    if failed.is_empty() { Ok(()) } else { bail!("{}", failed.join("; ")) }
}

/// What the new rules do that they must not.
fn failed(comparison: &Comparison, fail_on: &[FailOn]) -> Vec<String> {
    let of = |fail_on: &FailOn| {
        let (count, what) = match fail_on {
            FailOn::Lost => (comparison.lost.len(), "incidents that paged would page nobody"),
            FailOn::Gained => (comparison.gained.len(), "incidents would page that did not"),
            FailOn::Later => {
                let later = comparison.shifted.iter().filter(|shift| shift.later_s > 0.0);
                (later.count(), "incidents would page later")
            }
        };
        (count > 0).then(|| format!("{count} {what}"))
    };
    fail_on.iter().filter_map(of).collect()
}

fn swept(
    source: &mut (dyn Source + Send),
    topology: &Topology,
    rules: &Rules,
    sweep: &Sweep,
    options: &Options,
) -> anyhow::Result<()> {
    let sets = sweep.sets(rules)?;
    let mut progress = Progress::begin();
    let judged = judge(source, sets, topology, |observations, part| progress.tell(observations, part));
    progress.end();
    let judged = judged?;
    if let Some(of_any) = judged.first() {
        eprint!("{}", of_any.counts);
    }
    let points = sweep::points(sweep, &judged);
    let mut out = io::stdout().lock();
    match options.format {
        Format::Text => write!(out, "{}", sweep::table(sweep, &points))?,
        Format::Json => writeln!(out, "{}", json!({ "sweep": sweep.name(), "values": points }))?,
    }
    out.flush()?;
    if let Some(path) = &options.svg {
        let svg = sweep::svg(sweep, &points)?;
        fs::write(path, svg).with_context(|| format!("{}: the drawing cannot be written", path.display()))?;
    }
    Ok(())
}

/// The rules, and whom each pages.
fn rules(alerts: Alerts) -> Rules {
    let notify = alerts.rules.iter().map(|of| (of.rule.name.clone(), of.notify.clone())).collect();
    Rules { rules: alerts.rules.into_iter().map(|of| of.rule).collect(), notify }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_is_asked_for_fails() {
        let nothing = Comparison::default();
        assert!(failed(&nothing, &[FailOn::Lost, FailOn::Gained, FailOn::Later]).is_empty());
        let past = crosswatch_replay::backtest::Past {
            place: "l".to_owned(),
            verdict: "slow".to_owned(),
            words: String::new(),
            rule: "r".to_owned(),
            subject: "s".to_owned(),
            opened: crosswatch_shared::time::Timestamp::MIN,
            closed: None,
            paged: None,
            pages: std::collections::BTreeMap::new(),
        };
        let lost = Comparison { lost: vec![past], ..Comparison::default() };
        assert_eq!(failed(&lost, &[FailOn::Lost]), ["1 incidents that paged would page nobody"]);
        assert!(failed(&lost, &[FailOn::Gained, FailOn::Later]).is_empty());
    }
}
