//! `explain`: why something paged, or why not.

use std::io::{self, Write as _};

use crosswatch_explain::{Ask, ExplainError, Explanation, explain, words};
use crosswatch_host::clock;
use crosswatch_shared::time::Timestamp;

use crate::cli::Format;
use crate::config::Config;
use crate::run::{ALERTER_FILE, archive};
use crate::when::When;

/// Prints it in words or as JSON.
pub(crate) fn run(
    config: &Config,
    subject: &str,
    at: Option<When>,
    since: Option<When>,
    format: Format,
) -> anyhow::Result<()> {
    let now = clock::now();
    let [at, since] = [at, since].map(|when| when.map(|when| when.at(now)));
    let explanation = of(config, subject, at, since, now)?;
    let shown = match format {
        Format::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        Format::Text => words(&explanation),
    };
    io::stdout().lock().write_all(shown.as_bytes())?;
    Ok(())
}

/// The explanation of a subject, now or at a moment.
pub(crate) fn of(
    config: &Config,
    subject: &str,
    at: Option<Timestamp>,
    since: Option<Timestamp>,
    now: Timestamp,
) -> Result<Explanation, ExplainError> {
    let Config { topology, alerts, .. } = config;
    let file = topology.queue.path.join(ALERTER_FILE);
    let journal = &|site: &str| archive(&topology.queue, site);
    explain(&Ask { asked: subject, at, now, since, topology, config: alerts, file: &file, journal })
}
