//! What the tools that look back read: files, journals, dead letters, as the command line names them.

use std::fs;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

use crosswatch_host::clock;
use crosswatch_replay::source::{Dead, File, Journals, Source, SourceError, Wanted};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;

use crate::cli::InputArgs;
use crate::run::archive;

/// Opens what is named, and narrows the topology to it.
pub(crate) fn open(
    args: &InputArgs,
    topology: &Topology,
) -> anyhow::Result<(Box<dyn Source + Send>, Topology)> {
    let now = clock::now();
    let wanted = Wanted {
        since: args.since.map_or(Timestamp::MIN, |when| when.at(now)),
        until: args.until.map_or(Timestamp::MAX, |when| when.at(now)),
        link: args.link.clone(),
        site: args.site.clone(),
    };
    wanted.check(topology)?;
    let narrowed = wanted.narrow(topology.clone());
    let source: Box<dyn Source + Send> = match (&args.from, args.dead) {
        (Some(path), _) if path.as_os_str() == "-" => {
            Box::new(File::new(BufReader::new(io::stdin()), "standard input", None, wanted))
        }
        (Some(path), _) => Box::new(file(path, wanted)?),
        (None, Some(stage)) => Box::new(Dead::open(&stage.file(&topology.queue), wanted)),
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
