//! `replay`: what the rules would have said of the observations in a file.

use std::fs::File;
use std::io::{self, BufReader, BufWriter, Write};
use std::path::Path;

use crosswatch_replay::{ReplayError, Replayed, line, replay};

use crate::config::Config;

/// Prints the transitions on standard output, and what was skipped on standard error.
pub(crate) fn run(config: Config, from: &Path) -> anyhow::Result<()> {
    let rules = config.alerts.rules.into_iter().map(|configured| configured.rule).collect();
    let file = from.display().to_string();
    let Replayed { transitions, counts } = if from.as_os_str() == "-" {
        replay(rules, &config.topology, io::stdin().lock(), "standard input")?
    } else {
        let input = File::open(from).map_err(|source| ReplayError::Read { file: file.clone(), source })?;
        replay(rules, &config.topology, BufReader::with_capacity(1 << 20, input), &file)?
    };
    eprint!("{counts}");
    let mut out = BufWriter::new(io::stdout().lock());
    for transition in &transitions {
        writeln!(out, "{}", line(transition))?;
    }
    out.flush()?;
    Ok(())
}
