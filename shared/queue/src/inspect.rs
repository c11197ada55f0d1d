//! Reading consumers' files from outside: how far each has come, and what it could not read.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_journal::{JournalError, Position};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OpenFlags};

use crate::{Place, QueueError};

/// A message that could not be read as a batch, kept as it came.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its number in the file.
    pub id: i64,
    /// When it was received, by the consumer's clock.
    pub received_at: Timestamp,
    /// Where it came from, such as `journal a, entry 12`.
    pub source: String,
    /// Why it could not be read.
    pub reason: String,
    /// The message, byte for byte.
    pub payload: Vec<u8>,
}

/// How far each consumer has come in the journal of `site` that has this identity, for its pruning. A consumer is
/// named by its file's stem. A file that does not exist, or cannot be read, counts as having had nothing: then nothing
/// is deleted for its age.
#[must_use]
pub fn positions(site: &str, identity: &str, files: &[PathBuf]) -> Vec<Position> {
    let id = |file: &Path| match places(file) {
        Ok(places) => places
            .iter()
            .find(|place| *place.journal == *site && *place.identity == *identity)
            .map_or(0, |place| place.id),
        Err(error) => {
            tracing::warn!(%error, "a consumer's position cannot be read; nothing is pruned for its age");
            0
        }
    };
    files
        .iter()
        .map(|file| Position {
            consumer: file.file_stem().map(|stem| stem.to_string_lossy().into_owned()).unwrap_or_default(),
            id: id(file),
        })
        .collect()
}

/// How far the consumer with this file has come in each journal; nothing when the file does not exist yet.
///
/// # Errors
/// The file is no consumer's, damaged, or cannot be read.
pub fn places(file: &Path) -> Result<Vec<Place>, QueueError> {
    read(file, read_places)
}

/// The dead letters in a consumer's file with ids after `after`, at most `limit`, the oldest first.
///
/// # Errors
/// The file is no consumer's, damaged, or cannot be read.
pub fn dead_letters(file: &Path, after: i64, limit: usize) -> Result<Vec<DeadLetter>, QueueError> {
    read(file, |db| read_dead(db, after, limit))
}

pub(crate) fn read_places(db: &Connection) -> rusqlite::Result<Vec<Place>> {
    let mut query = db.prepare("SELECT journal, identity, id FROM position")?;
    let name = |text: String| Name::from(text);
    let places = query.query_map([], |row| {
        Ok(Place { journal: row.get(0).map(name)?, identity: row.get(1).map(name)?, id: row.get(2)? })
    })?;
    places.collect()
}

pub(crate) fn read_dead(db: &Connection, after: i64, limit: usize) -> rusqlite::Result<Vec<DeadLetter>> {
    let mut query = db.prepare(
        "SELECT id, received_at, source, reason, payload FROM dead WHERE id > ?1 ORDER BY id LIMIT ?2",
    )?;
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    let letters = query.query_map([after, limit], |row| {
        Ok(DeadLetter {
            id: row.get(0)?,
            received_at: Timestamp::from_micros(row.get(1)?),
            source: row.get(2)?,
            reason: row.get(3)?,
            payload: row.get(4)?,
        })
    })?;
    letters.collect()
}

/// Any stage's file will do, so only the tables are asked for.
fn read<T>(
    file: &Path,
    query: impl FnOnce(&Connection) -> rusqlite::Result<Vec<T>>,
) -> Result<Vec<T>, QueueError> {
    if matches!(file.try_exists(), Ok(false)) {
        return Ok(Vec::new());
    }
    let open = || {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let db = Connection::open_with_flags(file, flags)?;
        db.busy_timeout(Duration::from_secs(5))?;
        query(&db)
    };
    open().map_err(|error| JournalError::of(file, error).into())
}
