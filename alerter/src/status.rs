//! The alerter's file as the tools read it, from outside and while it runs.

use std::path::Path;

use crosswatch_journal::JournalError;
use crosswatch_judge::mute::Silence;
use crosswatch_queue::QueueError;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Row};
use serde::Serialize;

use crate::error::Error;
use crate::schema::SCHEMA;
use crate::silence::SITE_SILENT;
use crate::{incident, run, silences};

/// What the alerter knew and owed at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Status {
    /// The incidents that are open, oldest first.
    pub incidents: Vec<OpenIncident>,
    /// What each rule says of each subject.
    pub subjects: Vec<Subject>,
    /// How far each site's data is known to be complete.
    pub sites: Vec<SiteTime>,
    /// Notifications that were not accepted yet, oldest first, those held back included.
    pub owed: Vec<Owed>,
}

/// An incident that is open.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenIncident {
    /// Its id.
    pub id: String,
    /// The link or site, or `alerter`.
    pub place: String,
    /// The link, or nothing.
    pub link: String,
    /// The verdict's word.
    pub verdict: String,
    /// What the verdict rests on.
    pub summary: String,
    /// When it began, by the deciding datapoint.
    pub opened_at: Timestamp,
    /// What fires, oldest first.
    pub symptoms: Vec<OpenSymptom>,
    /// The silence that mutes it, where nobody has been told of it: `router swap (3f9a01c7)`.
    pub muted: Option<String>,
}

/// An incident that began and ended within a silence.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct SilencedIncident {
    /// Its id.
    pub id: String,
    /// The link or site, or `alerter`.
    pub place: String,
    /// The verdict's word.
    pub verdict: String,
    /// When it began.
    pub opened_at: Timestamp,
    /// When it was over.
    pub resolved_at: Timestamp,
    /// The silence.
    pub muted: String,
}

/// A silence that is on.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
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

/// A rule that fires for a subject.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct OpenSymptom {
    /// The rule; `site-silent` or `alerter-blind` for a built-in one.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// Since when, by the deciding datapoint.
    pub fired_at: Timestamp,
    /// The deciding datapoint's value.
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
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
    let Some(mut file) = SCHEMA.open_to_read(path)? else {
        return Ok(None);
    };
    let mut read = || {
        // One short transaction, so that all of it is of one moment.
        let file = file.transaction()?;
        Ok(Status {
            incidents: incidents(&file)?,
            subjects: subjects(&file)?,
            sites: sites(&file)?,
            owed: owed(&file)?,
        })
    };
    read().map(Some).map_err(|source| QueueError::from(JournalError::of(path, source)).into())
}

/// The silences that are on at `now`, of those that the alerter has in force.
///
/// # Errors
/// As [`read`].
pub fn silences(path: &Path, now: Timestamp) -> Result<Vec<ActiveSilence>, Error> {
    let all = of_file(path, run::silences_in_force)?.unwrap_or_default();
    let active = |silence: Silence| {
        let until = silence.when.until(now)?;
        let covers = silences::covers(&silence);
        let Silence { id, why, by, .. } = silence;
        Some(ActiveSilence { id, covers, until, why, by })
    };
    Ok(all.into_iter().filter_map(active).collect())
}

/// The incidents that began and ended within a silence, of those that ended since then, the last to end first.
///
/// # Errors
/// As [`read`].
pub fn silenced(path: &Path, since: Timestamp) -> Result<Vec<SilencedIncident>, Error> {
    let sql = "SELECT id, place, kind, opened_at, resolved_at, max(muted_by) FROM incident JOIN notification USING (id)
               WHERE resolved_at >= ?
               GROUP BY id HAVING count(*) = sum(standing = 'silenced') ORDER BY resolved_at DESC, place";
    let read = |file: &Connection| {
        let mut rows = file.prepare(sql)?;
        let rows = rows.query_map([since.as_micros()], |row| {
            Ok(SilencedIncident {
                id: row.get(0)?,
                place: row.get(1)?,
                verdict: row.get(2)?,
                opened_at: Timestamp::from_micros(row.get(3)?),
                resolved_at: Timestamp::from_micros(row.get(4)?),
                muted: row.get(5)?,
            })
        })?;
        rows.collect()
    };
    Ok(of_file(path, read)?.unwrap_or_default())
}

fn of_file<T>(
    path: &Path,
    read: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    let Some(file) = SCHEMA.open_to_read(path)? else {
        return Ok(None);
    };
    let read = read(&file);
    read.map(Some).map_err(|source| QueueError::from(JournalError::of(path, source)).into())
}

/// Silence is an incident of its own rule.
fn sites(file: &Connection) -> rusqlite::Result<Vec<SiteTime>> {
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

fn incidents(file: &Connection) -> rusqlite::Result<Vec<OpenIncident>> {
    let sql = "SELECT id, place, link, kind, words, opened_at,
                      (SELECT iif(count(*) = sum(standing = 'muted'), max(muted_by), NULL)
                       FROM notification WHERE notification.id = incident.id)
               FROM incident WHERE resolved_at IS NULL ORDER BY opened_at, place";
    let mut open = all(file, sql, |row| {
        Ok(OpenIncident {
            id: row.get(0)?,
            place: row.get(1)?,
            link: row.get(2)?,
            verdict: row.get(3)?,
            summary: row.get(4)?,
            opened_at: Timestamp::from_micros(row.get(5)?),
            symptoms: Vec::new(),
            muted: row.get(6)?,
        })
    })?;
    let mut symptoms = file.prepare(
        "SELECT rule, subject, fired_at, value, reason FROM symptom
         WHERE incident = ? AND resolved_at IS NULL ORDER BY number",
    )?;
    for incident in &mut open {
        let rows = symptoms.query_map([&incident.id], |row| {
            Ok(OpenSymptom {
                rule: row.get(0)?,
                subject: row.get(1)?,
                fired_at: Timestamp::from_micros(row.get(2)?),
                value: row.get(3)?,
                reason: row.get(4)?,
            })
        })?;
        incident.symptoms = rows.collect::<rusqlite::Result<_>>()?;
    }
    Ok(open)
}

fn subjects(file: &Connection) -> rusqlite::Result<Vec<Subject>> {
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
        "SELECT id, state, receiver, channel, created, standing = 'held', attempts, error FROM notification
               WHERE standing = 'owed' OR standing = 'held' ORDER BY number";
    all(file, sql, |row| {
        Ok(Owed {
            id: row.get(0)?,
            state: row.get(1)?,
            receiver: row.get(2)?,
            channel: row.get(3)?,
            created: Timestamp::from_micros(row.get(4)?),
            held: row.get(5)?,
            attempts: row.get(6)?,
            error: row.get(7)?,
        })
    })
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
