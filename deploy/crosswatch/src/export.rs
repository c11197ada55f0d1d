//! `export`: observations out of the journals, as JSON lines or a Parquet file.

use std::io::{self, BufWriter, IsTerminal as _, Write};
use std::path::Path;

use anyhow::ensure;
use crosswatch_replay::source::{Piece, Skipped, Source, SourceError, Wanted};
use crosswatch_shared::observation::{Observation, Origin};
use crosswatch_shared::wire::encode_row;

use crate::cli::Exported;
use crate::config::Config;
use crate::input;

/// Prints the observations wanted, batch by batch in the order of time, and on standard error what could not be read.
/// `journals` is a folder in place of the config's.
pub(crate) fn run(
    config: &Config,
    wanted: Wanted,
    journals: Option<&Path>,
    format: Exported,
) -> anyhow::Result<()> {
    wanted.check(&config.topology)?;
    match format {
        Exported::Jsonl => {
            let mut out = BufWriter::new(io::stdout().lock());
            each(config, wanted, journals, |origin, observation| {
                Ok(writeln!(out, "{}", encode_row(origin, observation))?)
            })?;
            Ok(out.flush()?)
        }
        Exported::Parquet => {
            ensure!(
                !io::stdout().is_terminal(),
                "a Parquet file is no text: send it somewhere, as in 'crosswatch export --format parquet > seen.parquet'"
            );
            parquet(config, wanted, journals)
        }
    }
}

#[cfg(feature = "parquet")]
fn parquet(config: &Config, wanted: Wanted, journals: Option<&Path>) -> anyhow::Result<()> {
    let mut table = crosswatch_replay::parquet::Table::begin(BufWriter::new(io::stdout()))?;
    each(config, wanted, journals, |origin, observation| Ok(table.add(origin, observation)?))?;
    Ok(table.end()?.flush()?)
}

#[cfg(not(feature = "parquet"))]
fn parquet(_: &Config, _: Wanted, _: Option<&Path>) -> anyhow::Result<()> {
    anyhow::bail!(
        "this program was built without Parquet; with it: cargo build --release --features crosswatch/parquet. JSON lines are \
         read by DuckDB and pandas, too"
    )
}

/// Gives each observation wanted.
fn each(
    config: &Config,
    wanted: Wanted,
    journals: Option<&Path>,
    mut to: impl FnMut(&Origin, &Observation) -> anyhow::Result<()>,
) -> anyhow::Result<()> {
    let mut source = match input::journals(&config.topology, journals, wanted) {
        // Nothing was seen yet.
        Err(SourceError::Nothing { .. }) if journals.is_none() => return Ok(()),
        opened => opened?,
    };
    while let Some(piece) = source.next()? {
        match piece {
            Piece::Batch(batch, _) => {
                batch.observations.iter().try_for_each(|of| to(&batch.origin, of))?;
            }
            Piece::Row(origin, observation) => to(&origin, &observation)?,
            Piece::Skipped(Skipped::Unreadable { place, reason }) => eprintln!("skipped {place}: {reason}"),
            Piece::Skipped(Skipped::UnknownKinds(count)) => {
                eprintln!("skipped {count} of a kind that this version does not know");
            }
            Piece::Skipped(_) => {}
        }
    }
    Ok(())
}
