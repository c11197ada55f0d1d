//! Reading the journal, while it is written and pruned or not begun yet.
//!
//! Each read is one short transaction, over before the call returns: a reader left open makes the WAL grow.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crosswatch_segment::{Content, Segment};
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, params};

use crate::{JournalError, KIND, SegmentProblem, database, seal, segments};

/// One batch as the journal holds it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Entry {
    /// Its place: ids are dense and grow in the order of writing.
    pub id: i64,
    /// When it was written.
    pub written_at: Timestamp,
    /// When the last of its observations was made.
    pub last_at: Timestamp,
    /// The batch in its wire form.
    pub payload: Vec<u8>,
}

/// The same, with a batch that needs no reading any more where it was sealed.
#[derive(Clone, Debug, PartialEq)]
pub struct Stored {
    /// Its place.
    pub id: i64,
    /// When it was written.
    pub written_at: Timestamp,
    /// When the last of its observations was made.
    pub last_at: Timestamp,
    /// The batch, or its payload.
    pub content: Content,
}

impl From<Stored> for Entry {
    fn from(stored: Stored) -> Self {
        let Stored { id, written_at, last_at, content } = stored;
        Self { id, written_at, last_at, payload: content.payload() }
    }
}

/// What lies after a position.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many batches.
    pub batches: u64,
    /// How many observations.
    pub observations: u64,
    /// When the oldest of them was written.
    pub oldest: Option<Timestamp>,
}

/// A reader of one site's journal.
#[derive(Debug)]
pub struct Reader {
    path: PathBuf,
    open: Option<Open>,
    /// The segment that was read last.
    sealed: Option<Loaded>,
}

#[derive(Debug)]
struct Open {
    db: Connection,
    /// Whether the journal is known to have segments: one of an older program has none until a newer one writes it.
    has_segments: bool,
    /// Device and inode: a journal that was replaced has another.
    file: (u64, u64),
    identity: String,
}

const COLUMNS: &str = "id, written_at, last_at, payload";

impl Reader {
    /// Opens the journal in this file. One that does not exist yet reads as empty until it does.
    ///
    /// # Errors
    /// The file is foreign, newer or damaged, or may not be read.
    pub fn open(path: &Path) -> Result<Self, JournalError> {
        let mut reader = Self { path: path.to_owned(), open: None, sealed: None };
        reader.connected()?;
        Ok(reader)
    }

    /// What tells this journal from one that was begun anew in its place; `None` while there is none.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn identity(&mut self) -> Result<Option<&str>, JournalError> {
        self.connected()?;
        Ok(self.open.as_ref().map(|open| open.identity.as_str()))
    }

    /// The entries after this id, in their order, at most `batches` and, but for the first, at most `bytes` of
    /// payload.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn after(&mut self, id: i64, batches: usize, bytes: usize) -> Result<Vec<Entry>, JournalError> {
        let all = Span { from: i64::MIN, to: i64::MAX };
        let page = self.page(id.saturating_add(1), all, batches, bytes)?;
        Ok(page.into_iter().map(Entry::from).collect())
    }

    /// The entries with observations made from `from` up to but not including `to`, in the order of their writing; the
    /// next page is what follows the last entry of this one. An entry may hold others as well.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn range(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        after: Option<&Entry>,
        batches: usize,
        bytes: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let after = after.map(|entry| entry.id);
        let page = self.stored(from, to, after, batches, bytes)?;
        Ok(page.into_iter().map(Entry::from).collect())
    }

    /// The same as [`Self::range`], after the entry of this id, and with what was sealed as batches: of these `bytes` counts
    /// about what their payloads would have.
    ///
    /// # Errors
    /// The file or a segment cannot be read.
    pub fn stored(
        &mut self,
        from: Timestamp,
        to: Timestamp,
        after: Option<i64>,
        batches: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, JournalError> {
        let span = Span { from: from.as_micros(), to: to.as_micros() };
        self.page(after.map_or(i64::MIN, |id| id.saturating_add(1)), span, batches, bytes)
    }

    /// The newest entries, newest first; with `before` those before this id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn newest(
        &mut self,
        before: Option<i64>,
        batches: usize,
        bytes: usize,
    ) -> Result<Vec<Entry>, JournalError> {
        let before = before.unwrap_or(i64::MAX);
        let sql = format!("SELECT {COLUMNS} FROM batch WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
        let rows = match self.connected()? {
            Some(db) => rows(db, &sql, params![before, limit(batches)], bytes),
            None => return Ok(Vec::new()),
        };
        let rows = rows.map_err(|error| JournalError::of(&self.path, error))?;
        if !rows.is_empty() || !self.has_segments()? {
            return Ok(rows.into_iter().map(Entry::from).collect());
        }
        let Some(db) = self.connected()? else { return Ok(Vec::new()) };
        let newest = seal::find(db, "WHERE first < ?1 ORDER BY first DESC", params![before]);
        let Some((segment, file)) = newest.map_err(|error| JournalError::of(&self.path, error))? else {
            return Ok(Vec::new());
        };
        let mut entries = Vec::new();
        let mut read = 0;
        for id in (segment.first..=segment.last.min(before - 1)).rev().take(batches) {
            let entry = Entry::from(self.load(&segment, &file)?.stored(id)?);
            read += entry.payload.len();
            if read > bytes && !entries.is_empty() {
                break;
            }
            entries.push(entry);
        }
        Ok(entries)
    }

    /// How much lies after this id.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn backlog(&mut self, id: i64) -> Result<Backlog, JournalError> {
        let Some(db) = self.connected()? else {
            return Ok(Backlog::default());
        };
        let end = |order: &str| {
            let sql = format!(
                "SELECT id, total, observations, written_at FROM batch WHERE id > ?1 ORDER BY id {order} LIMIT 1"
            );
            db.prepare_cached(&sql)?
                .query_row([id], |row| {
                    Ok((
                        row.get::<_, i64>(0)?,
                        row.get::<_, i64>(1)?,
                        row.get::<_, i64>(2)?,
                        Timestamp::from_micros(row.get(3)?),
                    ))
                })
                .optional()
        };
        let read = || -> rusqlite::Result<_> {
            let whole = db.unchecked_transaction()?;
            let ends = (end("ASC")?, end("DESC")?);
            drop(whole);
            Ok(ends)
        };
        let ends = read().map_err(|error| JournalError::of(&self.path, error))?;
        let sealed = self.sealed_after(id)?;
        let (Some((first, first_total, first_observations, oldest)), Some((last, last_total, _, _))) = ends
        else {
            return Ok(sealed);
        };
        Ok(Backlog {
            batches: u64::try_from(last - first + 1).unwrap_or(0) + sealed.batches,
            observations: u64::try_from(last_total - first_total + first_observations).unwrap_or(0)
                + sealed.observations,
            oldest: sealed.oldest.or(Some(oldest)),
        })
    }

    /// How much of what was sealed lies after this id.
    fn sealed_after(&mut self, id: i64) -> Result<Backlog, JournalError> {
        if !self.has_segments()? {
            return Ok(Backlog::default());
        }
        let Some(db) = self.connected()? else { return Ok(Backlog::default()) };
        let sql = "SELECT sum(last - first + 1), sum(observations), min(first_written) FROM segment WHERE first > ?1";
        let read = || -> rusqlite::Result<_> {
            let _whole = db.unchecked_transaction()?;
            let whole = db.prepare_cached(sql)?.query_row([id], |row| {
                let count = |column| {
                    row.get(column).map(|count: Option<i64>| count.unwrap_or(0).max(0).cast_unsigned())
                };
                let oldest = row.get::<_, Option<i64>>(2)?.map(Timestamp::from_micros);
                Ok(Backlog { batches: count(0)?, observations: count(1)?, oldest })
            })?;
            Ok((whole, seal::find(db, "WHERE first <= ?1 AND last > ?1 ORDER BY first", params![id])?))
        };
        let (mut backlog, inside) = read().map_err(|error| JournalError::of(&self.path, error))?;
        if let Some((segment, file)) = inside {
            // Who is in the middle of one has just begun, so this is rare.
            let loaded = self.load(&segment, &file)?;
            backlog.oldest = Some(loaded.stored(id + 1)?.written_at);
            backlog.batches += u64::try_from(segment.last - id).unwrap_or(0);
            let mut left = u64::try_from(segment.observations).unwrap_or(0);
            for id in segment.first..=id {
                if let Content::Batch(batch) = loaded.stored(id)?.content {
                    left = left.saturating_sub(batch.observations.len() as u64);
                }
            }
            backlog.observations += left;
        }
        Ok(backlog)
    }

    /// The entries from this id on, out of the segments and then the rows.
    fn page(
        &mut self,
        mut first: i64,
        span: Span,
        batches: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, JournalError> {
        let mut gone = None;
        loop {
            let has_segments = self.has_segments()?;
            let Some(db) = self.connected()? else { return Ok(Vec::new()) };
            // In one transaction: what is no row any more is in a segment then.
            let read = || -> rusqlite::Result<_> {
                let _whole = db.unchecked_transaction()?;
                let Span { from, to } = span;
                if has_segments {
                    let sql = "WHERE last >= ?1 AND last_at >= ?2 AND first_at < ?3 ORDER BY first";
                    if let Some(segment) = seal::find(db, sql, params![first, from, to])? {
                        return Ok(Err(segment));
                    }
                }
                // Not by time: an entry's last observation may be later than the next entry's, whose outcomes were waited for.
                let begin: Option<i64> = match first {
                    i64::MIN => db
                        .prepare_cached("SELECT min(id) FROM batch WHERE last_at >= ?1")?
                        .query_row([from], |row| row.get(0))?,
                    first => Some(first),
                };
                let Some(begin) = begin else { return Ok(Ok(Vec::new())) };
                let sql = format!(
                    "SELECT {COLUMNS} FROM batch WHERE id >= ?1 AND last_at >= ?2 AND first_at < ?3
                     ORDER BY id LIMIT ?4"
                );
                Ok(Ok(rows(db, &sql, params![begin, from, to, limit(batches)], bytes)?))
            };
            let (segment, file) = match read().map_err(|error| JournalError::of(&self.path, error))? {
                Ok(rows) => return Ok(rows),
                Err(segment) => segment,
            };
            match self.load(&segment, &file) {
                // It was pruned since; the next look finds what follows it.
                Err(JournalError::Segment { source: SegmentProblem::File(error), .. })
                    if error.kind() == io::ErrorKind::NotFound && gone != Some(segment.first) =>
                {
                    gone = Some(segment.first);
                }
                loaded => {
                    let entries = loaded?.range(first.max(segment.first), span, batches, bytes)?;
                    if !entries.is_empty() {
                        return Ok(entries);
                    }
                    first = segment.last + 1;
                }
            }
        }
    }

    /// Reads a segment, unless it is the one that was read last.
    fn load(&mut self, of: &seal::Row, file: &str) -> Result<&Loaded, JournalError> {
        let path = segments(&self.path).join(file);
        let known = self.sealed.take().filter(|known| known.path == path);
        let loaded = match known {
            Some(known) => known,
            None => {
                let wrong = |source| JournalError::Segment {
                    path: path.clone(),
                    first: of.first,
                    last: of.last,
                    source,
                };
                let bytes = fs::read(&path).map_err(|error| wrong(error.into()))?;
                let segment = Segment::decode(&bytes).map_err(|error| wrong(error.into()))?;
                Loaded { path: path.clone(), first: of.first, last: of.last, segment }
            }
        };
        Ok(self.sealed.insert(loaded))
    }

    /// Whether the journal can have segments.
    fn has_segments(&mut self) -> Result<bool, JournalError> {
        self.connected()?;
        let Some(open) = &mut self.open else { return Ok(false) };
        if !open.has_segments {
            open.has_segments = open
                .db
                .prepare_cached("SELECT 1 FROM sqlite_schema WHERE name = 'segment'")
                .and_then(|mut query| query.exists([]))
                .map_err(|error| JournalError::of(&self.path, error))?;
        }
        Ok(open.has_segments)
    }

    /// The connection to the file that bears the name now.
    fn connected(&mut self) -> Result<Option<&Connection>, JournalError> {
        let file = match fs::metadata(&self.path) {
            Ok(file) => Some((file.dev(), file.ino())),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(source) => {
                return Err(JournalError::Folder {
                    path: self.path.clone(),
                    source,
                    advice: "the folder and the file must be readable",
                });
            }
        };
        if self.open.as_ref().map(|open| open.file) != file {
            self.open = None;
            if let (Some(file), Some(db)) = (file, database::open_to_read(&self.path, KIND)?) {
                let identity = db
                    .query_row("SELECT identity FROM journal", [], |row| row.get(0))
                    .map_err(|error| JournalError::of(&self.path, error))?;
                self.open = Some(Open { db, file, identity, has_segments: false });
                self.sealed = None;
            }
        }
        Ok(self.open.as_ref().map(|open| &open.db))
    }
}

/// Made from here on, up to there, in microseconds.
#[derive(Clone, Copy, Debug)]
struct Span {
    from: i64,
    to: i64,
}

/// A segment in memory.
#[derive(Debug)]
struct Loaded {
    path: PathBuf,
    first: i64,
    last: i64,
    segment: Segment,
}

impl Loaded {
    fn stored(&self, id: i64) -> Result<Stored, JournalError> {
        let place = usize::try_from(id - self.first).unwrap_or(usize::MAX);
        let entry = self.segment.entry(place).map_err(|error| JournalError::Segment {
            path: self.path.clone(),
            first: self.first,
            last: self.last,
            source: error.into(),
        })?;
        let last_at = times(&entry.content).map_or(entry.written_at, |(_, last_at)| last_at);
        Ok(Stored { id, written_at: entry.written_at, last_at, content: entry.content })
    }

    fn range(
        &self,
        first: i64,
        span: Span,
        batches: usize,
        bytes: usize,
    ) -> Result<Vec<Stored>, JournalError> {
        let (mut entries, mut read) = (Vec::new(), 0);
        for id in first..=self.last {
            let stored = self.stored(id)?;
            // Of what cannot be read nobody knows when it was made.
            let times = times(&stored.content);
            if times.is_some_and(|(first, last)| last.as_micros() < span.from || first.as_micros() >= span.to)
            {
                continue;
            }
            read += match &stored.content {
                Content::Batch(batch) => batch.observations.len() * OBSERVATION,
                Content::Raw(payload) => payload.len(),
            };
            if !entries.is_empty() && (entries.len() >= batches || read > bytes) {
                break;
            }
            entries.push(stored);
        }
        Ok(entries)
    }
}

/// About how many bytes an observation takes in a payload.
const OBSERVATION: usize = 120;

/// From the first of its observations to the last; one without any stands for the time that it promises.
fn times(content: &Content) -> Option<(Timestamp, Timestamp)> {
    let Content::Batch(batch) = content else { return None };
    let times = || batch.observations.iter().map(|observation| observation.at);
    Some((times().min().unwrap_or(batch.through), times().max().unwrap_or(batch.through)))
}

fn rows(db: &Connection, sql: &str, params: impl Params, bytes: usize) -> rusqlite::Result<Vec<Stored>> {
    let mut query = db.prepare_cached(sql)?;
    let mut rows = query.query(params)?;
    let mut entries = Vec::new();
    let mut read = 0;
    while let Some(row) = rows.next()? {
        let payload: Vec<u8> = row.get(3)?;
        read += payload.len();
        if read > bytes && !entries.is_empty() {
            break;
        }
        entries.push(Stored {
            id: row.get(0)?,
            written_at: Timestamp::from_micros(row.get(1)?),
            last_at: Timestamp::from_micros(row.get(2)?),
            content: Content::Raw(payload),
        });
    }
    Ok(entries)
}

fn limit(batches: usize) -> i64 {
    i64::try_from(batches).unwrap_or(i64::MAX)
}
