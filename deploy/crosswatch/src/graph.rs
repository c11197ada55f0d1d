//! `graph`: a link's smoke graph as a file, to paste into a ticket; out of the page's history, running or not.

use std::fs;
use std::io::{self, Write};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use crosswatch_console::drawing::{self, Told};
use crosswatch_console::graph::Span;
use crosswatch_console::history::{FILE, History};
use crosswatch_host::clock;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use crate::config::Config;
use crate::page;

/// How far back is shown where nothing is said.
const BACK: Duration = Duration::from_secs(6 * 3_600);
/// How many incidents are drawn at most.
const INCIDENTS: usize = 1_000;

/// A link was asked for that the config does not have.
#[derive(Debug, thiserror::Error)]
#[error("{link}: the config has no such link; it has {}", known.join(", "))]
pub(crate) struct UnknownLink {
    link: String,
    known: Vec<Name>,
}

/// Writes the graph of a link, or prints it.
pub(crate) fn run(
    config: &Config,
    link: &str,
    (since, until): (Timestamp, Timestamp),
    out: Option<&Path>,
) -> anyhow::Result<()> {
    let topology = &config.topology;
    let Some(found) = topology.links.iter().find(|of| *of.name == *link) else {
        let known = topology.links.iter().map(|link| link.name.clone()).collect();
        return Err(UnknownLink { link: link.to_owned(), known }.into());
    };
    let now = clock::now();
    let to = until.min(now);
    let from = if since == Timestamp::MIN { to - BACK } else { since };
    if from >= to {
        bail!("--since must be before --until, and not in the future");
    }
    let file = topology.queue.path.join(FILE);
    let history = History::open(&file)?;
    if history.is_none() {
        bail!(
            "{}: there is no history of graphs yet; it is kept by 'run' or 'alerter' with [page] in the config",
            file.display()
        );
    }
    let span = Span::new(from, to, now);
    let alerter = page::alerter(config, None);
    let told = Told {
        incidents: alerter
            .incidents(span.from, span.to, Some(link), INCIDENTS)
            .map_err(anyhow::Error::msg)?,
        silences: alerter.silences().map_err(anyhow::Error::msg)?,
    };
    let graph = drawing::graph(history.as_ref(), found, &told, span, now)?;
    let is_png = out.and_then(Path::extension).is_some_and(|of| of.eq_ignore_ascii_case("png"));
    let bytes = if is_png { graph.png() } else { graph.svg().into_bytes() };
    match out {
        Some(path) => {
            fs::write(path, bytes).with_context(|| format!("{}: cannot be written", path.display()))?;
        }
        None => io::stdout().lock().write_all(&bytes)?,
    }
    Ok(())
}
