//! Sealing: old rows become a segment, a file of columns beside the database, and are deleted.
//!
//! The file is written, synced and renamed first; then one transaction deletes the rows and records the file. Killed before that
//! transaction a file is left over, which the next opening removes; killed after it everything is done. Preparing takes a while
//! and needs no writer, so it has a thread of its own: appending never waits for it.

use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use crosswatch_segment::{Content, Entry, encode};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch, encode_batch};
use rusqlite::{Connection, OptionalExtension, Params, TransactionBehavior, params};

use crate::{JournalError, KIND, Position, SegmentProblem, Writer, database};

/// When rows are sealed.
#[derive(Clone, Copy, Debug)]
pub struct Policy {
    /// Rows that were written so long ago.
    pub after: Duration,
    /// Once they hold this many observations …
    pub enough: usize,
    /// … or the oldest of them was written so long ago.
    pub longest: Duration,
    /// A segment holds about this many observations at most: reading one takes that much memory.
    pub most: usize,
    /// The newest rows stay, whatever their age: who appends looks among them for what is there already.
    pub newest: u32,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            after: Duration::from_hours(1),
            enough: 32_768,
            longest: Duration::from_hours(25),
            most: 65_536,
            newest: 1_024,
        }
    }
}

/// A segment's file that is on the disk, and not yet part of the journal.
#[derive(Debug)]
pub struct Prepared {
    row: Row,
    path: PathBuf,
    file: String,
}

/// What a segment holds, as the table has it; times in microseconds.
#[derive(Debug)]
pub(crate) struct Row {
    pub(crate) first: i64,
    pub(crate) last: i64,
    pub(crate) first_at: i64,
    pub(crate) last_at: i64,
    pub(crate) first_written: i64,
    pub(crate) last_written: i64,
    pub(crate) observations: i64,
    pub(crate) bytes: i64,
}

/// What was sealed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sealed {
    /// How many batches.
    pub batches: u64,
    /// How many observations.
    pub observations: u64,
    /// The bytes they take now.
    pub bytes: u64,
}

/// What a step of [`Sealing`] came to.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Step {
    /// What was sealed.
    pub sealed: Option<Sealed>,
    /// A segment is being prepared, or likely so: the next step should come in a second, not in a while.
    pub more: bool,
}

/// The folder of a journal's segments.
#[must_use]
pub fn segments(journal: &Path) -> PathBuf {
    journal.with_extension("segments")
}

/// Writes the segment of the oldest rows that are to be sealed; `None` where there are not enough. `journal` is the database's
/// file, `now` the wall clock. Only what every consumer has had is sealed.
///
/// # Errors
/// The journal cannot be read, or the file cannot be written: nothing has changed.
pub fn prepare(
    journal: &Path,
    now: Timestamp,
    consumers: &[Position],
    policy: Policy,
) -> Result<Option<Prepared>, JournalError> {
    let Some(db) = database::open_to_read(journal, KIND)? else { return Ok(None) };
    let had = consumers.iter().map(|position| position.id).min().unwrap_or(i64::MAX);
    let old = Old { had, before: (now - policy.after).as_micros(), policy };
    let longest = (now - policy.longest).as_micros();
    if !old.are_enough(&db, longest).map_err(|error| JournalError::of(journal, error))? {
        return Ok(None);
    }
    let Some((mut row, entries)) = old.read(&db).map_err(|error| JournalError::of(journal, error))? else {
        return Ok(None);
    };
    let folder = segments(journal);
    let file = format!("{:020}-{:020}.seg", row.first, row.last);
    let path = folder.join(&file);
    let wrong =
        |source| JournalError::Segment { path: path.clone(), first: row.first, last: row.last, source };
    let bytes = encode(&entries).map_err(|error| wrong(error.into()))?;
    write(&folder, &path, &bytes).map_err(|error| {
        // On a full disk what is half written must not stay; what cannot be removed goes when the journal is opened.
        let _ = fs::remove_file(unfinished(&path));
        wrong(SegmentProblem::File(error))
    })?;
    row.bytes = i64::try_from(bytes.len()).unwrap_or(i64::MAX);
    Ok(Some(Prepared { row, path, file }))
}

/// On the disk under its name when this returns.
fn write(folder: &Path, path: &Path, bytes: &[u8]) -> io::Result<()> {
    match fs::create_dir(folder) {
        Ok(()) => File::open(folder.parent().unwrap_or(folder))?.sync_all()?,
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
        Err(error) => return Err(error),
    }
    let unfinished = unfinished(path);
    let mut file = File::create(&unfinished)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&unfinished, path)?;
    File::open(folder)?.sync_all()
}

/// Its name until it is whole.
fn unfinished(path: &Path) -> PathBuf {
    path.with_extension("unfinished")
}

/// Which rows are old.
struct Old {
    had: i64,
    before: i64,
    policy: Policy,
}

impl Old {
    /// Whether there are enough, or some from before `longest`; without reading what they hold.
    fn are_enough(&self, db: &Connection, longest: i64) -> rusqlite::Result<bool> {
        let sql = "SELECT coalesce(sum(observations), 0), min(written_at) FROM (
                       SELECT observations, written_at FROM batch
                       WHERE id <= ?1 AND id <= (SELECT max(id) FROM batch) - ?2 AND written_at < ?3
                       ORDER BY id LIMIT ?4)";
        let Policy { newest, most, enough, .. } = self.policy;
        // Among so many rows there are enough observations, or else there are hardly any in each.
        let rows = i64::try_from(most).unwrap_or(i64::MAX);
        let read = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, row.get(1)?));
        let (observations, oldest): (i64, Option<i64>) =
            db.query_row(sql, params![self.had, newest, self.before, rows], read)?;
        let enough = usize::try_from(observations).unwrap_or(0) >= enough;
        Ok(enough || oldest.is_some_and(|oldest| oldest < longest))
    }

    /// The oldest rows, as many as a segment holds.
    fn read(&self, db: &Connection) -> rusqlite::Result<Option<(Row, Vec<Entry>)>> {
        let mut query = db.prepare(
            "SELECT id, written_at, first_at, last_at, observations, payload FROM batch
             WHERE id <= ?1 AND id <= (SELECT max(id) FROM batch) - ?2 ORDER BY id",
        )?;
        let mut rows = query.query(params![self.had, self.policy.newest])?;
        let mut names = Names::default();
        let mut entries = Vec::new();
        let mut segment: Option<Row> = None;
        while let Some(row) = rows.next()? {
            let (id, written): (i64, i64) = (row.get(0)?, row.get(1)?);
            let (first_at, last_at, observations): (i64, i64, i64) = (row.get(2)?, row.get(3)?, row.get(4)?);
            if written >= self.before {
                break;
            }
            match &mut segment {
                None => {
                    segment = Some(Row {
                        first: id,
                        last: id,
                        first_at,
                        last_at,
                        first_written: written,
                        last_written: written,
                        observations,
                        bytes: 0,
                    });
                }
                Some(of) => {
                    let most = i64::try_from(self.policy.most).unwrap_or(i64::MAX);
                    if id != of.last + 1 || of.observations + observations > most {
                        break;
                    }
                    of.last = id;
                    (of.first_at, of.last_at) = (of.first_at.min(first_at), of.last_at.max(last_at));
                    (of.first_written, of.last_written) =
                        (of.first_written.min(written), of.last_written.max(written));
                    of.observations += observations;
                }
            }
            let written_at = Timestamp::from_micros(written);
            entries.push(Entry { written_at, content: content(row.get(5)?, &mut names) });
        }
        Ok(segment.map(|segment| (segment, entries)))
    }
}

/// The batch of a payload, where it gives back the very same payload.
fn content(payload: Vec<u8>, names: &mut Names) -> Content {
    match decode_batch(&payload, names) {
        Ok(decoded) if encode_batch(&decoded.batch).as_bytes() == payload => Content::Batch(decoded.batch),
        _ => Content::Raw(payload),
    }
}

impl Writer {
    /// Makes a prepared segment part of the journal in place of its rows; `None` where the rows have changed since, as when
    /// they were pruned.
    ///
    /// # Errors
    /// Nothing was changed; where [`JournalError::is_full`], the same call can work later.
    pub fn seal(&mut self, prepared: &Prepared) -> Result<Option<Sealed>, JournalError> {
        let Prepared { row, path, file } = prepared;
        let batches = row.last - row.first + 1;
        let mut write = || -> rusqlite::Result<bool> {
            let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let there =
                "SELECT count(*), coalesce(sum(observations), 0) FROM batch WHERE id BETWEEN ?1 AND ?2";
            let there: (i64, i64) =
                step.query_row(there, [row.first, row.last], |row| Ok((row.get(0)?, row.get(1)?)))?;
            if there != (batches, row.observations) {
                return Ok(false);
            }
            step.execute(
                "INSERT INTO segment (first, last, first_at, last_at, first_written, last_written, observations,
                                      bytes, file) VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)",
                params![
                    row.first,
                    row.last,
                    row.first_at,
                    row.last_at,
                    row.first_written,
                    row.last_written,
                    row.observations,
                    row.bytes,
                    file
                ],
            )?;
            step.execute("DELETE FROM batch WHERE id BETWEEN ?1 AND ?2", [row.first, row.last])?;
            step.execute(
                "DELETE FROM boot WHERE NOT EXISTS (SELECT 1 FROM batch WHERE batch.boot = boot.id)",
                [],
            )?;
            step.commit()?;
            Ok(true)
        };
        let done = write().map_err(|error| JournalError::of(&self.path, error))?;
        self.boot = None;
        self.empty_wal();
        if !done {
            if let Err(error) = fs::remove_file(path) {
                tracing::warn!(path = %path.display(), %error, "a segment that came too late cannot be removed");
            }
            return Ok(None);
        }
        let count = |number: i64| u64::try_from(number).unwrap_or(0);
        Ok(Some(Sealed {
            batches: count(batches),
            observations: count(row.observations),
            bytes: count(row.bytes),
        }))
    }
}

/// Seals a journal's old rows, one segment a call, prepared beside.
#[derive(Debug, Default)]
pub struct Sealing {
    policy: Policy,
    preparing: Option<JoinHandle<Result<Option<Prepared>, JournalError>>>,
}

impl Sealing {
    /// By another policy than the usual.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { policy, preparing: None }
    }

    /// Puts a segment that was prepared into the journal, and lets the next be prepared. Gives what was sealed and whether
    /// more is on its way, and is quick: what is not ready is waited for by the next call.
    ///
    /// # Errors
    /// Nothing was sealed, and nothing has changed. The next call tries again.
    pub fn step(
        &mut self,
        writer: &mut Writer,
        now: Timestamp,
        consumers: &[Position],
    ) -> Result<Step, JournalError> {
        let mut sealed = None;
        if let Some(preparing) = self.preparing.take() {
            if !preparing.is_finished() {
                self.preparing = Some(preparing);
                return Ok(Step { sealed: None, more: true });
            }
            // One that panicked has prepared nothing.
            if let Some(prepared) = preparing.join().unwrap_or(Ok(None))? {
                sealed = writer.seal(&prepared)?;
            }
        }
        let (path, consumers, policy) = (writer.path.clone(), consumers.to_vec(), self.policy);
        self.preparing = thread::Builder::new()
            .name("seal".to_owned())
            .spawn(move || prepare(&path, now, &consumers, policy))
            .ok();
        // After one segment there is likely to be another; where there was none, this one is looked for in good time.
        Ok(Step { sealed, more: sealed.is_some() })
    }
}

impl Sealing {
    /// Seals all that is to be sealed, and waits for it: for a writer that ends then, whose next step would never come. Gives
    /// how many segments were made.
    ///
    /// # Errors
    /// As of [`Self::step`]; what was sealed before stays so.
    pub fn all(
        &mut self,
        writer: &mut Writer,
        now: Timestamp,
        consumers: &[Position],
    ) -> Result<usize, JournalError> {
        if let Some(preparing) = self.preparing.take() {
            // Its file is another's if it is prepared again meanwhile.
            let _ = preparing.join();
        }
        let mut segments = 0;
        while let Some(prepared) = prepare(&writer.path, now, consumers, self.policy)? {
            if writer.seal(&prepared)?.is_none() {
                break;
            }
            segments += 1;
        }
        Ok(segments)
    }
}

/// The first segment of those, with its file.
pub(crate) fn find(
    db: &Connection,
    sql: &str,
    params: impl Params,
) -> rusqlite::Result<Option<(Row, String)>> {
    let sql = format!(
        "SELECT first, last, first_at, last_at, first_written, last_written, observations, bytes, file FROM segment
         {sql} LIMIT 1"
    );
    db.prepare_cached(&sql)?
        .query_row(params, |row| {
            let segment = Row {
                first: row.get(0)?,
                last: row.get(1)?,
                first_at: row.get(2)?,
                last_at: row.get(3)?,
                first_written: row.get(4)?,
                last_written: row.get(5)?,
                observations: row.get(6)?,
                bytes: row.get(7)?,
            };
            Ok((segment, row.get(8)?))
        })
        .optional()
}

/// The oldest segment, with its file.
pub(crate) fn oldest(db: &Connection) -> rusqlite::Result<Option<(Row, String)>> {
    find(db, "ORDER BY first", [])
}

/// Removes the files that no transaction recorded: who prepared them was killed. Only for the journal's writer.
pub(crate) fn remove_orphans(db: &Connection, journal: &Path) -> Result<(), JournalError> {
    let folder = segments(journal);
    let unusable = |source| JournalError::Folder {
        path: folder.clone(),
        source,
        advice: "the folder of the segments must be readable and writable",
    };
    let files = match fs::read_dir(&folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(unusable(error)),
    };
    let known = |file: &str| {
        db.prepare_cached("SELECT 1 FROM segment WHERE file = ?1").and_then(|mut query| query.exists([file]))
    };
    for entry in files {
        let path = entry.map_err(unusable)?.path();
        let name = path.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
        let is_ours = name.ends_with(".seg") || name.ends_with(".unfinished");
        if is_ours && !known(&name).map_err(|error| JournalError::of(journal, error))? {
            fs::remove_file(&path).map_err(unusable)?;
        }
    }
    Ok(())
}
