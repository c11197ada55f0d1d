//! Journals: every site's entries, page by page, merged by time. A journal may be written meanwhile, and pruned; what is
//! appended before its end is reached is read too.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::path::{Path, PathBuf};

use crosswatch_journal::{Content, JournalError, Reader, Stored, file};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch};

use super::{Piece, Skipped, Source, SourceError, Wanted};

/// How much is read of a journal at a time.
const PAGE_BATCHES: usize = 256;
const PAGE_BYTES: usize = 4 << 20;

/// See the module.
#[derive(Debug)]
pub struct Journals {
    sites: Vec<Pages>,
    /// The time of each site's next entry: the oldest comes next.
    next: BinaryHeap<Reverse<(Timestamp, usize)>>,
    wanted: Wanted,
    names: Names,
    skipped: Vec<Skipped>,
    /// From the first entry's time to the last one's, as far as there were any at the beginning.
    span: Option<(Timestamp, Timestamp)>,
    at: Option<Timestamp>,
}

/// One site's journal.
#[derive(Debug)]
struct Pages {
    site: Name,
    reader: Reader,
    entries: std::vec::IntoIter<Stored>,
    last: Option<i64>,
    begun: bool,
}

impl Journals {
    /// Those of these sites, each in its folder.
    ///
    /// # Errors
    /// No folder has a journal of a site, or one cannot be read.
    pub fn open(
        sites: impl IntoIterator<Item = (Name, PathBuf)>,
        wanted: Wanted,
    ) -> Result<Self, SourceError> {
        let (mut pages, mut skipped) = (Vec::new(), Vec::new());
        let (mut folders, mut asked): (Vec<PathBuf>, Vec<String>) = (Vec::new(), Vec::new());
        for (site, folder) in sites {
            asked.push(site.to_string());
            if !folders.contains(&folder) {
                folders.push(folder.clone());
            }
            if !wanted.has_site(&site) {
                continue;
            }
            let path = file(&folder, &site);
            if matches!(path.try_exists(), Ok(false)) {
                skipped.push(Skipped::NoJournal(site.to_string()));
                continue;
            }
            let reader = Reader::open(&path)?;
            pages.push(Pages { site, reader, entries: Vec::new().into_iter(), last: None, begun: false });
        }
        if pages.is_empty()
            && let Some(folder) = folders.first()
        {
            return Err(SourceError::Nothing { folder: folder.clone(), sites: asked });
        }
        for folder in &folders {
            skipped.extend(foreign(folder, &asked)?);
        }
        let names = Names::default();
        let mut journals =
            Self { sites: pages, next: BinaryHeap::new(), wanted, names, skipped, span: None, at: None };
        for place in 0..journals.sites.len() {
            journals.push(place)?;
        }
        journals.span = journals.span()?;
        Ok(journals)
    }

    /// Puts a site's next entry among the others'.
    fn push(&mut self, place: usize) -> Result<(), SourceError> {
        if let Some(site) = self.sites.get_mut(place)
            && let Some(at) = site.peek(&self.wanted, &mut self.skipped)?
        {
            self.next.push(Reverse((at, place)));
        }
        Ok(())
    }

    fn span(&mut self) -> Result<Option<(Timestamp, Timestamp)>, SourceError> {
        let first = self.next.peek().map(|Reverse((at, _))| *at);
        let mut last = None;
        for site in &mut self.sites {
            let newest = site.reader.newest(None, 1, usize::MAX)?;
            last = last.max(newest.first().map(|entry| entry.last_at));
        }
        Ok(first.zip(last.map(|last| last.min(self.wanted.until))))
    }
}

impl Source for Journals {
    fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        if let Some(skipped) = self.skipped.pop() {
            return Ok(Some(Piece::Skipped(skipped)));
        }
        let Some(Reverse((at, place))) = self.next.pop() else {
            return Ok(None);
        };
        self.at = Some(at);
        let Some(site) = self.sites.get_mut(place) else { return Ok(None) };
        let Some(entry) = site.entries.next() else { return Ok(None) };
        let Stored { id, written_at, content, .. } = entry;
        let read = match content {
            Content::Batch(batch) => Ok((batch, 0)),
            Content::Raw(payload) => {
                decode_batch(&payload, &mut self.names).map(|decoded| (decoded.batch, decoded.unknown_kinds))
            }
        };
        let piece = match read {
            Ok((batch, unknown_kinds)) => {
                let (batch, unwanted) = self.wanted.cut(batch);
                if unknown_kinds > 0 {
                    self.skipped.push(Skipped::UnknownKinds(unknown_kinds));
                }
                if unwanted > 0 {
                    self.skipped.push(Skipped::Unwanted(unwanted));
                }
                Piece::Batch(batch, written_at)
            }
            Err(error) => {
                let place = format!("entry {id} of the journal of {}", site.site);
                Piece::Skipped(Skipped::Unreadable { place, reason: error.to_string() })
            }
        };
        site.last = Some(id);
        self.push(place)?;
        Ok(Some(piece))
    }

    fn progress(&self) -> Option<f64> {
        let ((first, last), at) = (self.span?, self.at?);
        let whole = last.since(first).as_secs_f64();
        (whole > 0.0).then(|| (at.since(first).as_secs_f64() / whole).min(1.0))
    }
}

impl Pages {
    /// The time of the next entry, read from the journal where the page is used up.
    fn peek(
        &mut self,
        wanted: &Wanted,
        skipped: &mut Vec<Skipped>,
    ) -> Result<Option<Timestamp>, SourceError> {
        while self.entries.as_slice().is_empty() && (self.last.is_some() || !self.begun) {
            // After the first entry every one is read, so that no gap seems to be in the numbers of the batches.
            let (since, batches) =
                if self.begun { (Timestamp::MIN, PAGE_BATCHES) } else { (wanted.since, 1) };
            self.begun = true;
            match self.reader.stored(since, wanted.until, self.last, batches, PAGE_BYTES) {
                Ok(page) if page.is_empty() => break,
                Ok(page) => self.entries = page.into_iter(),
                // The rest of the journal is as good as it was.
                Err(error @ JournalError::Segment { last, .. }) if !error.is_full() => {
                    let (place, reason) =
                        (format!("a segment of the journal of {}", self.site), error.to_string());
                    skipped.push(Skipped::Unreadable { place, reason });
                    self.last = Some(last);
                }
                Err(error) => return Err(error.into()),
            }
        }
        Ok(self.entries.as_slice().first().map(|entry| entry.last_at))
    }
}

/// The journals in a folder of sites that are not among these.
fn foreign(folder: &Path, sites: &[String]) -> Result<Vec<Skipped>, SourceError> {
    let read = |source| SourceError::Read { file: folder.display().to_string(), source };
    let mut foreign = Vec::new();
    let files = match std::fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(foreign),
        Err(error) => return Err(read(error)),
    };
    for entry in files {
        let path = entry.map_err(read)?.path();
        let stem = path.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default();
        if path.extension().is_some_and(|end| end == "db") && !sites.contains(&stem) {
            foreign.push(Skipped::ForeignJournal(stem));
        }
    }
    Ok(foreign)
}
