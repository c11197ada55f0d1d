//! What the tools that look back read: files, journals, dead letters, as the command line names them.

use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_host::clock;
use crosswatch_replay::source::{Dead, File, Journals, Source, SourceError, Wanted};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;

use crate::cli::InputArgs;
use crate::queue;
use crate::run::archive;

/// Opens what is named, and narrows the topology to it.
pub(crate) fn open(
    args: &InputArgs,
    topology: &Topology,
) -> anyhow::Result<(Box<dyn Source + Send>, Topology)> {
    open_wanted(args, wanted(args, clock::now()), topology)
}

/// The same for what was seen up to now, in whole periods of this length.
pub(crate) fn open_periods(
    args: &InputArgs,
    topology: &Topology,
    period: Duration,
    now: Timestamp,
) -> anyhow::Result<(Box<dyn Source + Send>, Topology)> {
    let mut wanted = wanted(args, now);
    wanted.since = wanted.since.floor(period);
    let before = wanted.until.floor(period);
    let until = if before < wanted.until { before + period } else { before };
    wanted.until = until.min(now);
    open_wanted(args, wanted, topology)
}

fn wanted(args: &InputArgs, now: Timestamp) -> Wanted {
    Wanted {
        since: args.since.map_or(Timestamp::MIN, |when| when.at(now)),
        until: args.until.map_or(Timestamp::MAX, |when| when.at(now)),
        link: args.link.clone(),
        site: args.site.clone(),
    }
}

fn open_wanted(
    args: &InputArgs,
    wanted: Wanted,
    topology: &Topology,
) -> anyhow::Result<(Box<dyn Source + Send>, Topology)> {
    wanted.check(topology)?;
    let narrowed = wanted.narrow(topology.clone());
    let source: Box<dyn Source + Send> = match (&args.from, args.dead) {
        (Some(path), _) if path.as_os_str() == "-" => {
            Box::new(File::new(BufReader::new(io::stdin()), "standard input", None, wanted))
        }
        (Some(path), _) => Box::new(file(path, wanted)?),
        (None, Some(stage)) => {
            let letters = queue::letters(&topology.queue, stage)?;
            Box::new(Dead::open(&stage.file(&topology.queue), wanted).with(letters))
        }
        (None, None) => {
            let folder = args.journal.as_ref().and_then(Option::as_deref);
            Box::new(journals(topology, folder, wanted)?)
        }
    };
    Ok((source, narrowed))
}

/// The journals in a folder, or the config's.
pub(crate) fn journals(
    topology: &Topology,
    folder: Option<&Path>,
    wanted: Wanted,
) -> Result<Journals, SourceError> {
    let place = |site: &str| folder.map_or_else(|| archive(&topology.queue, site), PathBuf::from);
    Journals::open(topology.sites.iter().map(|site| (site.name.clone(), place(&site.name))), wanted)
}

fn file(path: &Path, wanted: Wanted) -> Result<File<BufReader<fs::File>>, SourceError> {
    let name = path.display().to_string();
    let read = |source| SourceError::Read { file: name.clone(), source };
    let input = fs::File::open(path).map_err(read)?;
    let size = input.metadata().map_err(read)?.len();
    Ok(File::new(BufReader::with_capacity(1 << 20, input), &name, Some(size), wanted))
}
