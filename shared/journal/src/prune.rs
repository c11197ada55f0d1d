//! Pruning: what goes from the journal, and what it costs whom.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, TransactionBehavior, params};

use crate::{JournalError, Writer, seal, segments};

/// How far a consumer has come in a journal.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Position {
    /// Who, as the gap's record should name it.
    pub consumer: String,
    /// The id of the newest entry it has taken; 0 for nothing yet.
    pub id: i64,
}

/// What a call of [`Writer::prune`] did.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Pruned {
    /// How many batches went.
    pub batches: u64,
    /// How many observations went with them.
    pub observations: u64,
    /// What went although a consumer had not had it; empty unless the journal was beyond its size.
    pub dropped: Vec<Dropped>,
    /// There is more to prune: call again, between appends.
    pub more: bool,
}

/// A gap: what a consumer will never get.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Dropped {
    /// Whose gap it is.
    pub consumer: String,
    /// How many batches it has lost.
    pub batches: u64,
    /// How many observations it has lost.
    pub observations: u64,
    /// When the first of them was made.
    pub first_at: Timestamp,
    /// When the last of them was made.
    pub last_at: Timestamp,
}

/// A step is one transaction and deletes at most this much, so that appending never waits long for it.
const STEP_BATCHES: i64 = 1_000;
const STEP_BYTES: i64 = 32 << 20;

/// What a row takes besides its payload, roughly; only decides how far one step goes, the next looks anew.
const ROW_BYTES: i64 = 100;

/// One of the oldest entries, without its payload.
struct Old {
    id: i64,
    written_at: i64,
    first_at: i64,
    last_at: i64,
    observations: i64,
    bytes: i64,
}

impl Writer {
    /// Deletes the oldest entries: those taken in longer than `keep` before `now` that every consumer has had, and,
    /// had or not, as many as it takes to bring the journal under `max_bytes`. Without consumers nothing is waited for.
    ///
    /// One small step; [`Pruned::more`] asks for the next. The file itself does not shrink: its free pages are used
    /// again, and do not count as the journal's size.
    ///
    /// # Errors
    /// Nothing was deleted; where [`JournalError::is_full`], the same call can work later.
    pub fn prune(
        &mut self,
        now: Timestamp,
        keep: Duration,
        max_bytes: u64,
        consumers: &[Position],
    ) -> Result<Pruned, JournalError> {
        let pruned = self
            .step(now - keep, max_bytes, consumers)
            .map_err(|error| JournalError::of(&self.path, error))?;
        self.empty_wal();
        Ok(pruned)
    }

    /// The bytes in use, in the file without its free pages, and in segments.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn bytes(&self) -> Result<u64, JournalError> {
        used(&self.db)
            .map(|bytes| u64::try_from(bytes).unwrap_or(0))
            .map_err(|error| JournalError::of(&self.path, error))
    }

    fn step(
        &mut self,
        expired: Timestamp,
        max_bytes: u64,
        consumers: &[Position],
    ) -> rusqlite::Result<Pruned> {
        let had = consumers.iter().map(|position| position.id).min().unwrap_or(i64::MAX);
        let mut excess = used(&self.db)? - i64::try_from(max_bytes).unwrap_or(i64::MAX);
        // What is sealed is older than any row.
        if let Some((segment, file)) = seal::oldest(&self.db)? {
            if excess <= 0 && (segment.last > had || segment.last_written >= expired.as_micros()) {
                return Ok(Pruned::default());
            }
            self.db.execute("DELETE FROM segment WHERE first = ?1", [segment.first])?;
            // A file that stays behind is removed when the journal is opened next.
            if let Err(error) = std::fs::remove_file(segments(&self.path).join(&file)) {
                tracing::warn!(file, %error, "a segment that was pruned cannot be removed");
            }
            let going = [Old {
                id: segment.last,
                written_at: segment.last_written,
                first_at: segment.first_at,
                last_at: segment.last_at,
                observations: segment.observations,
                bytes: segment.bytes,
            }];
            let batches = |from: i64| u64::try_from(segment.last - from.max(segment.first - 1)).unwrap_or(0);
            let dropped = consumers.iter().filter_map(|position| {
                gap(&going, position).map(|gap| Dropped { batches: batches(position.id), ..gap })
            });
            return Ok(Pruned {
                batches: batches(0),
                observations: observations(&going),
                dropped: dropped.collect(),
                more: true,
            });
        }
        let goes =
            |old: &Old, excess: i64| excess > 0 || (old.id <= had && old.written_at < expired.as_micros());
        let oldest = oldest(&self.db)?;
        let mut bytes = 0;
        let count = oldest
            .iter()
            .take_while(|old| {
                let taken = bytes < STEP_BYTES && goes(old, excess);
                bytes += old.bytes;
                excess -= old.bytes;
                taken
            })
            .count();
        let (going, staying) = oldest.split_at(count);
        let Some(last) = going.last() else {
            return Ok(Pruned::default());
        };

        let step = self.db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        step.prepare_cached("DELETE FROM batch WHERE id <= ?1")?.execute([last.id])?;
        step.prepare_cached(
            "DELETE FROM boot WHERE NOT EXISTS (SELECT 1 FROM batch WHERE batch.boot = boot.id)",
        )?
        .execute([])?;
        step.commit()?;
        self.boot = None;

        Ok(Pruned {
            batches: going.len() as u64,
            observations: observations(going),
            dropped: consumers.iter().filter_map(|position| gap(going, position)).collect(),
            more: match staying.first() {
                Some(next) => bytes >= STEP_BYTES && goes(next, excess),
                None => count as i64 == STEP_BATCHES,
            },
        })
    }
}

fn gap(going: &[Old], position: &Position) -> Option<Dropped> {
    let lost = going.iter().position(|old| old.id > position.id).and_then(|first| going.get(first..))?;
    Some(Dropped {
        consumer: position.consumer.clone(),
        batches: lost.len() as u64,
        observations: observations(lost),
        first_at: Timestamp::from_micros(lost.iter().map(|old| old.first_at).min()?),
        last_at: Timestamp::from_micros(lost.iter().map(|old| old.last_at).max()?),
    })
}

fn observations(batches: &[Old]) -> u64 {
    batches.iter().map(|old| u64::try_from(old.observations).unwrap_or(0)).sum()
}

fn oldest(db: &Connection) -> rusqlite::Result<Vec<Old>> {
    let mut query = db.prepare_cached(
        "SELECT id, written_at, first_at, last_at, observations, length(payload) FROM batch ORDER BY id LIMIT ?1",
    )?;
    query
        .query_map(params![STEP_BATCHES], |row| {
            Ok(Old {
                id: row.get(0)?,
                written_at: row.get(1)?,
                first_at: row.get(2)?,
                last_at: row.get(3)?,
                observations: row.get(4)?,
                bytes: row.get::<_, i64>(5)? + ROW_BYTES,
            })
        })?
        .collect()
}

fn used(db: &Connection) -> rusqlite::Result<i64> {
    let pragma = |name| db.pragma_query_value(None, name, |row| row.get::<_, i64>(0));
    let sealed: i64 = db.query_row("SELECT coalesce(sum(bytes), 0) FROM segment", [], |row| row.get(0))?;
    Ok((pragma("page_count")? - pragma("freelist_count")?) * pragma("page_size")? + sealed)
}
