//! The alerter's file as the tools read it, from outside and while it runs.

use std::path::Path;

use crosswatch_journal::JournalError;
use crosswatch_judge::mute::Silence;
use crosswatch_queue::QueueError;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Row};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::catch_up::CATCH_UP;
use crate::error::Error;
use crate::schema::SCHEMA;
use crate::silence::SITE_SILENT;
use crate::story::{self, Incident, Which};
use crate::{incident, run, silences};

/// What the alerter knew and owed at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// The incidents that are open, oldest first.
    pub incidents: Vec<Incident>,
    /// What each rule says of each subject.
    pub subjects: Vec<Subject>,
    /// How far each site's data is known to be complete.
    pub sites: Vec<SiteTime>,
    /// Notifications that were not accepted yet, oldest first, those held back included.
    pub owed: Vec<Owed>,
}

/// The least of that which whoever looks all the time needs.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Standing {
    /// The incidents that are open.
    pub incidents: Vec<Incident>,
    /// The sites that are silent.
    pub silent: Vec<String>,
    /// How many notifications no receiver has accepted yet, and since when the oldest waits.
    pub owed: Option<(u64, Timestamp)>,
    /// The silences that are on.
    pub silences: Vec<ActiveSilence>,
}

/// A silence that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct ActiveSilence {
    /// Its id.
    pub id: String,
    /// What is not paged: `link use1-euw1, rule ping-*`.
    pub covers: String,
    /// Until when.
    pub until: Timestamp,
    /// Why.
    pub why: String,
    /// Who wants it.
    pub by: Option<String>,
}

/// What a rule says of a subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Subject {
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// `ok`, `firing` or `unknown`; a subject that is unknown may have an open incident.
    pub state: String,
    /// When it came into that state; nothing when no rule ever said anything else.
    pub since: Option<Timestamp>,
    /// The value that decided it.
    pub value: Option<f64>,
    /// Why.
    pub reason: Option<String>,
}

/// How far a site's data is known to be complete.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SiteTime {
    /// The site.
    pub site: String,
    /// Its event time.
    pub event_time: Option<Timestamp>,
    /// When something came from it last, by the alerter's clock.
    pub heard: Timestamp,
    /// Since when it is silent, if it is.
    pub silent_since: Option<Timestamp>,
}

/// A notification that was not accepted yet.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Owed {
    /// Of which incident or digest.
    pub id: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// To whom.
    pub receiver: String,
    /// On which channel.
    pub channel: String,
    /// Since when.
    pub created: Timestamp,
    /// Whether `at_most` holds it back until the next digest.
    pub held: bool,
    /// Whether it is kept back until the alerter has caught up with its queue, or waits for the digest after that.
    pub behind: bool,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
}

/// Reads the alerter's file; `None` while no alerter has begun one.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn read(path: &Path) -> Result<Option<Status>, Error> {
    of_file(path, |file| {
        Ok(Status {
            incidents: story::incidents_in(file, Which::Open)?,
            subjects: subjects(file)?,
            sites: sites(file)?,
            owed: owed(file)?,
        })
    })
}

/// How things stand at `now`; `None` while no alerter has begun the file.
///
/// # Errors
/// As [`read`].
pub fn standing(path: &Path, now: Timestamp) -> Result<Option<Standing>, Error> {
    of_file(path, |file| {
        let silent = file
            .prepare("SELECT subject FROM symptom WHERE rule = ? AND resolved_at IS NULL ORDER BY subject")?
            .query_map([SITE_SILENT], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let owed = file.query_row(
            "SELECT count(*), min(created) FROM notification WHERE standing IN ('owed', 'held', 'behind')",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
        )?;
        let owed = owed.1.map(|since| (owed.0.unsigned_abs(), Timestamp::from_micros(since)));
        let silences = active(run::silences_in_force(file)?, now);
        Ok(Standing { incidents: story::incidents_in(file, Which::Open)?, silent, owed, silences })
    })
}

/// The silences that are on at `now`, of those that the alerter has in force.
///
/// # Errors
/// As [`read`].
pub fn silences(path: &Path, now: Timestamp) -> Result<Vec<ActiveSilence>, Error> {
    Ok(active(silences_in_force(path)?, now))
}

/// All silences that the alerter has in force, those that are over and those that are to come too.
///
/// # Errors
/// As [`read`].
pub fn silences_in_force(path: &Path) -> Result<Vec<Silence>, Error> {
    Ok(of_file(path, run::silences_in_force)?.unwrap_or_default())
}

fn active(all: Vec<Silence>, now: Timestamp) -> Vec<ActiveSilence> {
    all.iter().filter_map(|silence| ActiveSilence::of(silence, now)).collect()
}

impl ActiveSilence {
    /// The silence, if it is on at `now`.
    #[must_use]
    pub fn of(silence: &Silence, now: Timestamp) -> Option<Self> {
        Some(Self {
            id: silence.id.clone(),
            covers: silences::covers(silence),
            until: silence.when.until(now)?,
            why: silence.why.clone(),
            by: silence.by.clone(),
        })
    }
}

/// What one short transaction reads, so that all of it is of one moment; `None` while no alerter has begun the file.
pub(crate) fn of_file<T>(
    path: &Path,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    let Some(mut file) = SCHEMA.open_to_read(path)? else {
        return Ok(None);
    };
    let done = file.transaction().and_then(|file| read(&file));
    done.map(Some).map_err(|source| QueueError::from(JournalError::of(path, source)).into())
}

/// Silence is an incident of its own rule.
pub(crate) fn sites(file: &Connection) -> rusqlite::Result<Vec<SiteTime>> {
    let rows: Vec<(String, Option<i64>, i64)> =
        all(file, "SELECT name, event_time, heard FROM site ORDER BY name", |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })?;
    rows.into_iter()
        .map(|(site, event_time, heard)| {
            let since = incident::firing_since(file, SITE_SILENT, &site)?;
            Ok(SiteTime {
                site,
                event_time: event_time.map(Timestamp::from_micros),
                heard: Timestamp::from_micros(heard),
                silent_since: since,
            })
        })
        .collect()
}

pub(crate) fn subjects(file: &Connection) -> rusqlite::Result<Vec<Subject>> {
    let sql = "SELECT rule, subject, state, since, value, reason FROM subject_state ORDER BY rule, subject";
    all(file, sql, |row| {
        Ok(Subject {
            rule: row.get(0)?,
            subject: row.get(1)?,
            state: row.get(2)?,
            since: row.get::<_, Option<i64>>(3)?.map(Timestamp::from_micros),
            value: row.get(4)?,
            reason: row.get(5)?,
        })
    })
}

fn owed(file: &Connection) -> rusqlite::Result<Vec<Owed>> {
    let sql =
        "SELECT id, state, receiver, channel, created, standing = 'held' AND muted_by IS NOT ?1, attempts, error,
                standing = 'behind' OR standing = 'held' AND muted_by IS ?1
         FROM notification WHERE standing IN ('owed', 'held', 'behind') ORDER BY number";
    let mut rows = file.prepare(sql)?;
    let rows = rows.query_map([CATCH_UP], |row| {
        Ok(Owed {
            id: row.get(0)?,
            state: row.get(1)?,
            receiver: row.get(2)?,
            channel: row.get(3)?,
            created: Timestamp::from_micros(row.get(4)?),
            held: row.get(5)?,
            attempts: row.get(6)?,
            error: row.get(7)?,
            behind: row.get(8)?,
        })
    })?;
    rows.collect()
}

fn all<T>(
    file: &Connection,
    sql: &str,
    read: impl FnMut(&Row<'_>) -> rusqlite::Result<T>,
) -> rusqlite::Result<Vec<T>> {
    file.prepare(sql)?.query_map([], read)?.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_waits_for_a_limit_is_told_from_what_waits_until_the_alerter_has_caught_up() {
        let file = crate::testing::file();
        file.execute_batch(
            "INSERT INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try, muted_by)
             VALUES ('owed', 'firing', 0, 'r', 'console', '{}', 0, 'owed', 0, 0, NULL),
                    ('held', 'firing', 0, 'r', 'console', '{}', 0, 'held', 0, 0, NULL),
                    ('kept', 'firing', 0, 'r', 'console', '{}', 0, 'behind', 0, 0, 'catch-up'),
                    ('over', 'firing', 0, 'r', 'console', '{}', 0, 'held', 0, 0, 'catch-up');",
        )
        .unwrap();
        let owed = owed(&file).unwrap();
        let waits: Vec<_> = owed.iter().map(|of| (&*of.id, of.held, of.behind)).collect();
        assert_eq!(
            waits,
            [("owed", false, false), ("held", true, false), ("kept", false, true), ("over", false, true)]
        );
    }

    #[test]
    fn what_is_not_an_alerters_file_is_named() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerter.db");
        assert_eq!(read(&path).unwrap(), None, "no alerter has run yet");
        // An alerter makes the file before its tables.
        let begun = Connection::open(&path).unwrap();
        begun.pragma_update(None, "journal_mode", "wal").unwrap();
        assert_eq!(read(&path).unwrap(), None, "one has only just begun");
        drop(begun);
        let refused = |path: &Path| {
            let error = read(path).unwrap_err().to_string();
            assert!(error.contains("alerter.db") && error.contains("alerter's file"), "{error}");
        };
        std::fs::write(&path, "not a database, but long enough to be taken for one").unwrap();
        refused(&path);
        std::fs::remove_file(&path).unwrap();
        Connection::open(&path).unwrap().execute_batch("CREATE TABLE other (a)").unwrap();
        refused(&path);
    }
}
