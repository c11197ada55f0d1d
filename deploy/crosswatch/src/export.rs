//! `export`: observations out of the journals, as JSON lines.

use std::collections::BinaryHeap;
use std::io::{self, BufWriter, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use crosswatch_journal::{Entry, Reader, file};
use crosswatch_shared::observation::{Body, Name, Observation};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch, encode_row};

use crate::config::Config;
use crate::run::archive;

/// How much is read at a time.
const PAGE_BATCHES: usize = 256;
const PAGE_BYTES: usize = 8 << 20;

/// Which observations are wanted.
#[derive(Debug)]
pub(crate) struct Wanted {
    /// Made from here on.
    pub(crate) from: Timestamp,
    /// Up to here, not included.
    pub(crate) to: Timestamp,
    /// Only this site's.
    pub(crate) site: Option<String>,
    /// Only this link's; collections belong to no link.
    pub(crate) link: Option<String>,
    /// The folder of the journals, in place of the config's.
    pub(crate) journals: Option<PathBuf>,
}

/// Prints the observations wanted, batch by batch in the order of time, and on standard error what could not be read.
pub(crate) fn run(config: &Config, wanted: &Wanted) -> anyhow::Result<()> {
    wanted.check(config)?;
    let sites = config.topology.sites.iter().map(|site| &site.name);
    let mut pages = Vec::new();
    for site in sites.filter(|site| wanted.site.as_ref().is_none_or(|only| *only == ***site)) {
        let folder = wanted.journals.clone().unwrap_or_else(|| archive(&config.topology.queue, site));
        pages.push(Pages::open(&folder, site, wanted)?);
    }
    let mut out = BufWriter::new(io::stdout().lock());
    let mut names = Names::default();
    // The site whose next batch is the oldest comes next.
    let mut next: BinaryHeap<_> = BinaryHeap::new();
    for (place, site) in pages.iter_mut().enumerate() {
        next.extend(site.peek(wanted)?.map(|at| std::cmp::Reverse((at, place))));
    }
    while let Some(std::cmp::Reverse((_, place))) = next.pop() {
        let Some(site) = pages.get_mut(place) else { continue };
        if let Some(entry) = site.entries.next() {
            match decode_batch(&entry.payload, &mut names) {
                Ok(decoded) => {
                    let batch = decoded.batch;
                    for observation in batch.observations.iter().filter(|of| wanted.has(of)) {
                        writeln!(out, "{}", encode_row(&batch.origin, observation))?;
                    }
                }
                Err(error) => {
                    eprintln!("skipped entry {} of the journal of {}: {error}", entry.id, site.name)
                }
            }
            site.last = Some(entry);
        }
        next.extend(site.peek(wanted)?.map(|at| std::cmp::Reverse((at, place))));
    }
    out.flush()?;
    Ok(())
}

impl Wanted {
    /// A mistyped name would look like nothing having been observed.
    fn check(&self, Config { topology, .. }: &Config) -> anyhow::Result<()> {
        let known = |what, name: &Option<String>, all: Vec<&Name>| match name {
            Some(name) if !all.iter().any(|known| ***known == **name) => {
                let all: Vec<_> = all.iter().map(|known| &***known).collect();
                bail!("the config has no {what} '{name}'; it has {}", all.join(", "))
            }
            _ => Ok(()),
        };
        known("site", &self.site, topology.sites.iter().map(|site| &site.name).collect())?;
        known("link", &self.link, topology.links.iter().map(|link| &link.name).collect())
    }

    fn has(&self, observation: &Observation) -> bool {
        let of_link = match (&self.link, &observation.body) {
            (None, _) => true,
            (
                Some(only),
                Body::Probe { link, .. } | Body::Tunnels { link, .. } | Body::Evidence { link, .. },
            ) => **link == **only,
            (Some(_), Body::Collection { .. } | Body::Drill { .. }) => false,
        };
        of_link && self.from <= observation.at && observation.at < self.to
    }
}

/// One site's journal, page by page.
struct Pages {
    name: Name,
    reader: Reader,
    entries: std::iter::Peekable<std::vec::IntoIter<Entry>>,
    last: Option<Entry>,
}

impl Pages {
    fn open(folder: &Path, site: &Name, wanted: &Wanted) -> anyhow::Result<Self> {
        let mut reader = Reader::open(&file(folder, site))?;
        let entries = reader
            .range(wanted.from, wanted.to, None, PAGE_BATCHES, PAGE_BYTES)
            .with_context(|| format!("the journal of site '{site}' cannot be read"))?;
        Ok(Self { name: site.clone(), reader, entries: entries.into_iter().peekable(), last: None })
    }

    /// The time of the next entry, read from the journal where the page is used up.
    fn peek(&mut self, wanted: &Wanted) -> anyhow::Result<Option<Timestamp>> {
        if self.entries.peek().is_none() && self.last.is_some() {
            let page =
                self.reader.range(wanted.from, wanted.to, self.last.as_ref(), PAGE_BATCHES, PAGE_BYTES)?;
            self.entries = page.into_iter().peekable();
        }
        Ok(self.entries.peek().map(|entry| entry.last_at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mistyped_name_is_told_with_those_there_are() {
        let config = Config::starter(Some([192, 0, 2, 1].into())).unwrap();
        let told = |site: Option<&str>, link: Option<&str>| {
            let (from, to) = (Timestamp::MIN, Timestamp::MAX);
            let wanted = Wanted {
                from,
                to,
                site: site.map(str::to_owned),
                link: link.map(str::to_owned),
                journals: None,
            };
            wanted.check(&config).map_err(|error| error.to_string())
        };
        assert_eq!(told(Some("here"), Some("gateway")), Ok(()));
        assert_eq!(told(Some("heer"), None), Err("the config has no site 'heer'; it has here".to_owned()));
        let message = "the config has no link 'gate'; it has loopback, gateway";
        assert_eq!(told(None, Some("gate")), Err(message.to_owned()));
    }
}
