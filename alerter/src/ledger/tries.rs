//! What the dispatcher asks of the ledger: what may be tried now, and what became of a try.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use super::Destination;
use crate::refused::CONFIG_REFUSED;

/// The longest pause between two tries.
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// A notification to be tried now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Its row.
    pub(crate) number: i64,
    /// Of which incident or digest.
    pub(crate) id: String,
    /// `firing` or `resolved`.
    pub(crate) state: String,
    /// The JSON to send.
    pub(crate) body: String,
    /// How often it was tried before.
    pub(crate) attempts: u32,
    /// When it was written.
    pub(crate) created: Timestamp,
    /// From when on it may be tried.
    pub(crate) next_try: Timestamp,
    /// Another alerter owes the same.
    pub(crate) shared: bool,
}

/// How much is owed and held.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Totals {
    /// Notifications not accepted yet, those held back left out.
    pub(crate) owed: i64,
    /// When the oldest of them was written.
    pub(crate) oldest: Option<Timestamp>,
    /// Notifications held back until their digest is made, or until the alerter has caught up.
    pub(crate) held: i64,
}

/// What may be tried now, oldest first.
pub(crate) fn due(
    file: &Connection,
    to: &Destination,
    now: Timestamp,
    most: usize,
) -> rusqlite::Result<Vec<Due>> {
    file.prepare_cached(concat!(
        "SELECT number, id, state, body, attempts, created, next_try, json_extract(body, '$.rule') != ?5
         FROM notification AS it
         WHERE standing = 'owed' AND receiver = ?1 AND channel = ?2 AND next_try <= ?3 AND ",
        in_its_turn!(),
        " ORDER BY next_try, number LIMIT ?4",
    ))?
    .query_map(
        params![
            to.receiver,
            to.channel,
            now.as_micros(),
            i64::try_from(most).unwrap_or(i64::MAX),
            CONFIG_REFUSED
        ],
        |row| {
            Ok(Due {
                number: row.get(0)?,
                id: row.get(1)?,
                state: row.get(2)?,
                body: row.get(3)?,
                attempts: row.get(4)?,
                created: Timestamp::from_micros(row.get(5)?),
                next_try: Timestamp::from_micros(row.get(6)?),
                shared: row.get(7)?,
            })
        },
    )?
    .collect()
}

/// When something more will be due there.
pub(crate) fn next_try(
    file: &Connection,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let next: Option<i64> = file
        .prepare_cached(
            "SELECT min(next_try) FROM notification
             WHERE standing = 'owed' AND receiver = ? AND channel = ? AND next_try > ?",
        )?
        .query_row(params![to.receiver, to.channel, now.as_micros()], |row| row.get(0))?;
    Ok(next.map(Timestamp::from_micros))
}

/// The receiver accepted it. Gives whether that was not known.
pub(crate) fn accepted(file: &Connection, number: i64, now: Timestamp) -> rusqlite::Result<bool> {
    let known = file.prepare_cached(
        "UPDATE notification SET standing = 'accepted', accepted_at = ?2, attempts = attempts + 1, error = NULL
         WHERE number = ?1 AND standing IN ('owed', 'abandoned')",
    )?
    .execute(params![number, now.as_micros()])?;
    Ok(known > 0)
}

/// Nothing that was owed before is tried until then, at the start beside another alerter, who may have told it meanwhile.
pub(crate) fn rest_until(file: &Connection, then: Timestamp) -> rusqlite::Result<()> {
    file.execute(
        "UPDATE notification SET next_try = max(next_try, ?)
         WHERE standing IN ('owed', 'held') AND json_extract(body, '$.rule') != ?",
        params![then.as_micros(), CONFIG_REFUSED],
    )?;
    Ok(())
}

/// It was tried in vain; it rests at least so long.
pub(crate) fn failed(
    file: &Connection,
    due: &Due,
    error: &str,
    rest: Duration,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let attempts = due.attempts.saturating_add(1);
    file.prepare_cached(
        "UPDATE notification SET attempts = ?2, next_try = ?3, error = ?4 WHERE number = ?1 AND standing = 'owed'",
    )?
    .execute(params![due.number, attempts, (now + pause(&due.id, attempts).max(rest)).as_micros(), error])?;
    Ok(())
}

/// The wall clock was set back to `now`: nothing may wait for a time that is far off only because of that.
pub(crate) fn clock_set_back(file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    let latest = now + LONGEST_PAUSE;
    file.execute(
        "UPDATE notification SET next_try = ?1 WHERE standing IN ('owed', 'held', 'abandoned') AND next_try > ?2",
        params![now.as_micros(), latest.as_micros()],
    )?;
    file.execute(
        "UPDATE notification SET created = ?1 WHERE standing IN ('held', 'behind') AND created > ?1",
        [now.as_micros()],
    )?;
    file.execute(
        "UPDATE notification SET accepted_at = ?1 WHERE standing = 'accepted' AND accepted_at > ?1",
        [now.as_micros()],
    )?;
    Ok(())
}

/// How much is owed and held.
pub(crate) fn totals(file: &Connection) -> rusqlite::Result<Totals> {
    let (owed, oldest): (i64, Option<i64>) = file
        .prepare_cached("SELECT count(*), min(created) FROM notification WHERE standing = 'owed'")?
        .query_row([], |row| Ok((row.get(0)?, row.get(1)?)))?;
    let held = file
        .prepare_cached(
            "SELECT (SELECT count(*) FROM notification WHERE standing = 'held')
                  + (SELECT count(*) FROM notification WHERE standing = 'behind')",
        )?
        .query_row([], |row| row.get(0))?;
    Ok(Totals { owed, oldest: oldest.map(Timestamp::from_micros), held })
}

/// How long to wait after so many failures: 1 s doubling to a minute, up to a quarter less. The quarter depends on
/// what is sent, so that a thousand that failed together are not tried again together; a function of what the ledger
/// holds, so that it is the same after a restart.
fn pause(id: &str, attempts: u32) -> Duration {
    let doubled = Duration::from_secs(1).saturating_mul(1 << attempts.saturating_sub(1).min(6));
    let mut hasher = DefaultHasher::new();
    (id, attempts).hash(&mut hasher);
    let part = u32::try_from(hasher.finish() % 256).unwrap_or(0);
    let whole = doubled.min(LONGEST_PAUSE);
    whole - whole / 1024 * part
}
