//! Reading the journal, while it is written and pruned or not begun yet.
//!
//! Each read is one short transaction, over before the call returns: a reader left open makes the WAL grow.

use std::fs;
use std::io;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OptionalExtension, Params, Row, params};

use crate::{JournalError, KIND, database};

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
}

#[derive(Debug)]
struct Open {
    db: Connection,
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
        let mut reader = Self { path: path.to_owned(), open: None };
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
        let sql = format!("SELECT {COLUMNS} FROM batch WHERE id > ?1 ORDER BY id LIMIT ?2");
        self.entries(&sql, params![id, limit(batches)], bytes)
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
        // Not by time: an entry's last observation may be later than the next entry's, whose outcomes were waited for.
        let (from, to) = (from.as_micros(), to.as_micros());
        let first = match (after, self.connected()?) {
            (Some(entry), _) => Some(entry.id + 1),
            (None, None) => None,
            (None, Some(db)) => db
                .prepare_cached("SELECT min(id) FROM batch WHERE last_at >= ?1")
                .and_then(|mut query| query.query_row([from], |row| row.get(0)))
                .map_err(|error| JournalError::of(&self.path, error))?,
        };
        let Some(first) = first else {
            return Ok(Vec::new());
        };
        let sql = format!(
            "SELECT {COLUMNS} FROM batch WHERE id >= ?1 AND last_at >= ?2 AND first_at < ?3 ORDER BY id LIMIT ?4"
        );
        self.entries(&sql, params![first, from, to, limit(batches)], bytes)
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
        let sql = format!("SELECT {COLUMNS} FROM batch WHERE id < ?1 ORDER BY id DESC LIMIT ?2");
        self.entries(&sql, params![before.unwrap_or(i64::MAX), limit(batches)], bytes)
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
        let (Some((first, first_total, first_observations, oldest)), Some((last, last_total, _, _))) = ends
        else {
            return Ok(Backlog::default());
        };
        Ok(Backlog {
            batches: u64::try_from(last - first + 1).unwrap_or(0),
            observations: u64::try_from(last_total - first_total + first_observations).unwrap_or(0),
            oldest: Some(oldest),
        })
    }

    fn entries(&mut self, sql: &str, params: impl Params, bytes: usize) -> Result<Vec<Entry>, JournalError> {
        let Some(db) = self.connected()? else {
            return Ok(Vec::new());
        };
        let read = || -> rusqlite::Result<_> {
            let mut query = db.prepare_cached(sql)?;
            let mut rows = query.query(params)?;
            let mut entries = Vec::new();
            let mut read = 0;
            while let Some(row) = rows.next()? {
                let entry = entry(row)?;
                read += entry.payload.len();
                if read > bytes && !entries.is_empty() {
                    break;
                }
                entries.push(entry);
            }
            Ok(entries)
        };
        read().map_err(|error| JournalError::of(&self.path, error))
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
                self.open = Some(Open { db, file, identity });
            }
        }
        Ok(self.open.as_ref().map(|open| &open.db))
    }
}

fn entry(row: &Row<'_>) -> rusqlite::Result<Entry> {
    Ok(Entry {
        id: row.get(0)?,
        written_at: Timestamp::from_micros(row.get(1)?),
        last_at: Timestamp::from_micros(row.get(2)?),
        payload: row.get(3)?,
    })
}

fn limit(batches: usize) -> i64 {
    i64::try_from(batches).unwrap_or(i64::MAX)
}
