//! `explain`: why something paged, or why not.

use std::io::{self, Write as _};

use crosswatch_alerter::config::Config as Alerts;
use crosswatch_explain::{Ask, ExplainError, Explanation, explain, words};
use crosswatch_host::clock;
use crosswatch_shared::config::topology::Topology;
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
    let explanation = of(&config.topology, &config.alerts, (subject, at, since), now)?;
    let shown = match format {
        Format::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        Format::Text => words(&explanation),
    };
    io::stdout().lock().write_all(shown.as_bytes())?;
    Ok(())
}

/// The explanation of a subject, now, or at a moment with the past judged anew from another one on.
pub(crate) fn of(
    topology: &Topology,
    config: &Alerts,
    (asked, at, since): (&str, Option<Timestamp>, Option<Timestamp>),
    now: Timestamp,
) -> Result<Explanation, ExplainError> {
    let file = topology.queue.path.join(ALERTER_FILE);
    let journal = &|site: &str| archive(&topology.queue, site);
    explain(&Ask { asked, at, now, since, topology, config, file: &file, journal })
}
