//! `explain`: why something paged, or why not.

use std::io::{self, Write as _};

use crosswatch_explain::{Ask, explain, words};
use crosswatch_host::clock;

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
    let Config { topology, alerts, .. } = config;
    let now = clock::now();
    let file = topology.queue.path.join(ALERTER_FILE);
    let explanation = explain(&Ask {
        asked: subject,
        at: at.map(|at| at.at(now)),
        now,
        since: since.map(|since| since.at(now)),
        topology,
        config: alerts,
        file: &file,
        journal: &|site| archive(&topology.queue, site),
    })?;
    let shown = match format {
        Format::Json => serde_json::to_string_pretty(&explanation)? + "\n",
        Format::Text => words(&explanation),
    };
    io::stdout().lock().write_all(shown.as_bytes())?;
    Ok(())
}
