//! Writing the journal: the site's collector alone does it.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_shared::observation::{Batch, Name, Origin};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;
use rusqlite::{Connection, OptionalExtension, Transaction, TransactionBehavior, params};

use crate::{JournalError, KIND, Lock, bell, database, file, seal};

/// Times are microseconds since the epoch. `total` counts the observations from the journal's first batch to this
/// one, so that the distance of two entries is one subtraction. `identity` tells a journal that was begun anew from
/// the one before it, whose ids mean something else.
const SCHEMA: &str = "
    CREATE TABLE journal (identity TEXT NOT NULL, site TEXT NOT NULL) STRICT;
    CREATE TABLE boot (
        id INTEGER PRIMARY KEY AUTOINCREMENT, collector TEXT NOT NULL, boot TEXT NOT NULL, UNIQUE (collector, boot)
    ) STRICT;
    CREATE TABLE batch (
        id INTEGER PRIMARY KEY AUTOINCREMENT,
        boot INTEGER NOT NULL REFERENCES boot (id),
        number INTEGER NOT NULL,
        written_at INTEGER NOT NULL,
        through INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        observations INTEGER NOT NULL,
        total INTEGER NOT NULL,
        payload BLOB NOT NULL
    ) STRICT;
    CREATE INDEX batch_by_time ON batch (last_at, id, first_at);
    CREATE INDEX batch_by_boot ON batch (boot);
";

/// From version 2 on: what was sealed, each a file in the folder of the segments. Rows follow them.
const SEGMENTS: &str = "
    CREATE TABLE segment (
        first INTEGER PRIMARY KEY,
        last INTEGER NOT NULL,
        first_at INTEGER NOT NULL,
        last_at INTEGER NOT NULL,
        first_written INTEGER NOT NULL,
        last_written INTEGER NOT NULL,
        observations INTEGER NOT NULL,
        bytes INTEGER NOT NULL,
        file TEXT NOT NULL
    ) STRICT;
";

/// Beyond this the WAL is emptied with a short wait for readers; `SQLite` by itself never waits for them.
const WAL_MOST: u64 = 16 << 20;

/// How long emptying the WAL waits for readers, whose transactions are short.
const READERS: Duration = Duration::from_millis(200);

/// The one writer of a site's journal.
#[derive(Debug)]
pub struct Writer {
    pub(crate) db: Connection,
    pub(crate) path: PathBuf,
    wal: PathBuf,
    lock: Lock,
    identity: String,
    total: i64,
    /// The newest boot's row.
    pub(crate) boot: Option<(Origin, i64)>,
}

impl Writer {
    /// Opens the site's journal in `folder`, or begins it; the folder itself is made if its parent is there.
    ///
    /// # Errors
    /// Another writer holds it, the folder cannot be used, or the file is foreign, newer or damaged: then nothing has
    /// been changed.
    pub fn open(folder: &Path, site: &str) -> Result<Self, JournalError> {
        let safe = |c: char| !(c == '/' || c.is_control());
        if site.is_empty() || site.len() > 200 || site.starts_with('.') || !site.chars().all(safe) {
            return Err(JournalError::SiteName { site: site.to_owned() });
        }
        match fs::create_dir(folder) {
            Err(source) if source.kind() != io::ErrorKind::AlreadyExists => {
                return Err(JournalError::Folder {
                    path: folder.to_owned(),
                    source,
                    advice: "the folder it belongs in must be there and writable",
                });
            }
            _ => {}
        }
        let lock = Lock::take(&bell(folder, site), format!("the journal of site '{site}'"))?;
        let path = file(folder, site);
        let db = database::open_to_write(&path, KIND, |step, found| {
            if found == 0 {
                step.execute_batch(SCHEMA)?;
                step.execute("INSERT INTO journal VALUES (lower(hex(randomblob(16))), ?1)", [site])?;
            }
            step.execute_batch(SEGMENTS)
        })?;
        seal::remove_orphans(&db, &path)?;
        let identity = db
            .query_row("SELECT identity FROM journal", [], |row| row.get(0))
            .map_err(|error| JournalError::of(&path, error))?;
        let total = db
            .query_row("SELECT total FROM batch ORDER BY id DESC LIMIT 1", [], |row| row.get(0))
            .optional()
            .map_err(|error| JournalError::of(&path, error))?
            .unwrap_or(0);
        let mut wal = path.clone().into_os_string();
        wal.push("-wal");
        Ok(Self { db, path, wal: wal.into(), lock, identity, total, boot: None })
    }

    /// What tells this journal from one that was begun anew in its place: positions in another mean nothing here.
    #[must_use]
    pub fn identity(&self) -> &str {
        &self.identity
    }

    /// Writes a batch; when this returns it is on the disk. `now` is the wall clock. Gives the entry's id: ids are
    /// dense and never used again.
    ///
    /// # Errors
    /// Nothing was written; where [`JournalError::is_full`], the same call can work later.
    pub fn append(&mut self, batch: &Batch, now: Timestamp) -> Result<i64, JournalError> {
        self.append_all([batch], now)
    }

    /// Writes several batches, all or none. Gives the last one's id, 0 for none.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_all<'a>(
        &mut self,
        batches: impl IntoIterator<Item = &'a Batch>,
        now: Timestamp,
    ) -> Result<i64, JournalError> {
        self.append_texts(batches.into_iter().map(|batch| (batch, wire::encode_batch(batch))), now)
    }

    /// Writes messages of another form, all or none, each with the batch that says what it stands for. Gives the last one's
    /// id, 0 for none.
    ///
    /// # Errors
    /// As [`Self::append`].
    pub fn append_texts<'a>(
        &mut self,
        messages: impl IntoIterator<Item = (&'a Batch, String)>,
        now: Timestamp,
    ) -> Result<i64, JournalError> {
        let (mut id, mut total, mut boot) = (0, self.total, self.boot.clone());
        let write = || {
            let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            for (batch, text) in messages {
                id = insert(&step, batch, text.as_bytes(), now, &mut total, &mut boot)?;
            }
            step.commit()
        };
        write().map_err(|error| JournalError::of(&self.path, error))?;
        (self.total, self.boot) = (total, boot);
        self.lock.ring();
        self.empty_wal();
        Ok(id)
    }

    /// The newest batches, at most so many, the oldest of them first: collector, boot and number.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn newest(&self, batches: usize) -> Result<Vec<(Name, Name, u64)>, JournalError> {
        let read = || {
            let mut query = self.db.prepare(
                "SELECT collector, boot.boot, number FROM batch JOIN boot ON boot.id = batch.boot
                 ORDER BY batch.id DESC LIMIT ?1",
            )?;
            let rows = query.query_map([i64::try_from(batches).unwrap_or(i64::MAX)], |row| {
                let name = |column| row.get::<_, String>(column).map(Name::from);
                Ok((name(0)?, name(1)?, row.get::<_, i64>(2)?.cast_unsigned()))
            })?;
            rows.collect::<rusqlite::Result<Vec<_>>>()
        };
        let mut newest = read().map_err(|error| JournalError::of(&self.path, error))?;
        newest.reverse();
        Ok(newest)
    }

    /// Keeps the WAL small under readers that always overlap. Failing is no harm: the next append tries again.
    pub(crate) fn empty_wal(&self) {
        if fs::metadata(&self.wal).is_ok_and(|wal| wal.len() > WAL_MOST) {
            let checkpoint = || -> rusqlite::Result<bool> {
                self.db.busy_timeout(READERS)?;
                let busy: i64 = self.db.query_row("PRAGMA wal_checkpoint(RESTART)", [], |row| row.get(0))?;
                self.db.busy_timeout(database::BUSY)?;
                Ok(busy != 0)
            };
            match checkpoint() {
                Ok(false) => {}
                Ok(true) => {
                    tracing::debug!(journal = %self.path.display(), "a reader keeps the WAL from being emptied")
                }
                Err(error) => {
                    tracing::warn!(journal = %self.path.display(), %error, "the WAL could not be emptied");
                }
            }
        }
    }
}

fn insert(
    step: &Transaction<'_>,
    batch: &Batch,
    text: &[u8],
    now: Timestamp,
    total: &mut i64,
    known: &mut Option<(Origin, i64)>,
) -> rusqlite::Result<i64> {
    let boot = match known {
        Some((origin, id)) if *origin == batch.origin => *id,
        _ => {
            let id = boot_id(step, &batch.origin.collector, &batch.origin.boot)?;
            *known = Some((batch.origin.clone(), id));
            id
        }
    };
    let times = || batch.observations.iter().map(|observation| observation.at);
    let observations = i64::try_from(batch.observations.len()).unwrap_or(i64::MAX);
    *total = total.saturating_add(observations);
    step.prepare_cached(
        "INSERT INTO batch (boot, number, written_at, through, first_at, last_at, observations, total, payload)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
    )?
    .insert(params![
        boot,
        i64::try_from(batch.number).unwrap_or(i64::MAX),
        now.as_micros(),
        batch.through.as_micros(),
        // A batch without observations stands for the time it promises.
        times().min().unwrap_or(batch.through).as_micros(),
        times().max().unwrap_or(batch.through).as_micros(),
        observations,
        *total,
        text,
    ])
}

fn boot_id(step: &Transaction<'_>, collector: &Name, boot: &Name) -> rusqlite::Result<i64> {
    step.execute(
        "INSERT INTO boot (collector, boot) VALUES (?1, ?2) ON CONFLICT DO NOTHING",
        [collector, boot],
    )?;
    step.query_row("SELECT id FROM boot WHERE collector = ?1 AND boot = ?2", [collector, boot], |row| {
        row.get(0)
    })
}
