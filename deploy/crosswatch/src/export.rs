//! `export`: observations out of the journals, as JSON lines.

use std::io::{self, BufWriter, Write};
use std::path::PathBuf;

use crosswatch_replay::source::{Piece, Skipped, Source, SourceError, Wanted};
use crosswatch_shared::wire::encode_row;

use crate::config::Config;
use crate::input;

/// Prints the observations wanted, batch by batch in the order of time, and on standard error what could not be read.
/// `journals` is a folder in place of the config's.
pub(crate) fn run(config: &Config, wanted: Wanted, journals: Option<PathBuf>) -> anyhow::Result<()> {
    wanted.check(&config.topology)?;
    let mut source = match input::journals(&config.topology, journals.as_deref(), wanted) {
        // Nothing was seen yet.
        Err(SourceError::Nothing { .. }) if journals.is_none() => return Ok(()),
        opened => opened?,
    };
    let mut out = BufWriter::new(io::stdout().lock());
    while let Some(piece) = source.next()? {
        match piece {
            Piece::Batch(batch, _) => {
                for observation in &batch.observations {
                    writeln!(out, "{}", encode_row(&batch.origin, observation))?;
                }
            }
            Piece::Row(origin, observation) => writeln!(out, "{}", encode_row(&origin, &observation))?,
            Piece::Skipped(Skipped::Unreadable { place, reason }) => eprintln!("skipped {place}: {reason}"),
            Piece::Skipped(Skipped::UnknownKinds(count)) => {
                eprintln!("skipped {count} of a kind that this version does not know");
            }
            Piece::Skipped(_) => {}
        }
    }
    out.flush()?;
    Ok(())
}
