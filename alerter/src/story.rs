//! What the alerter's file tells of incidents, open and past: for who looks from outside, often and while it runs. Each call is one
//! short transaction.

use std::path::Path;

use crosswatch_journal::JournalError;
use crosswatch_queue::QueueError;
use crosswatch_shared::time::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, Row, Transaction, params_from_iter};

use crate::error::Error;
use crate::ledger::kind_of;
use crate::schema::SCHEMA;
use crate::silence::SITE_SILENT;

/// How things stand.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Standing {
    /// The incidents that are open, with the symptoms that are.
    pub incidents: Vec<Told>,
    /// The sites that are silent.
    pub silent: Vec<String>,
    /// How many notifications were not accepted yet, and since when the oldest waits.
    pub owed: Option<(u64, Timestamp)>,
}

/// An incident, open or over.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
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
    /// When it ended.
    pub resolved_at: Option<Timestamp>,
    /// Why it ended.
    pub resolved_reason: Option<String>,
    /// Its rules and subjects, oldest first.
    pub symptoms: Vec<Symptom>,
}

/// A rule that fires, or fired, for a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Symptom {
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// Since when, by the deciding datapoint.
    pub fired_at: Timestamp,
    /// The deciding datapoint's value.
    pub value: Option<f64>,
    /// Why.
    pub reason: String,
    /// Until when.
    pub resolved_at: Option<Timestamp>,
    /// Why it ended.
    pub resolved_reason: Option<String>,
}

/// A notification of an incident, as the ledger has it.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    /// `firing` or `resolved`.
    pub state: String,
    /// 0 for the first of its state.
    pub revision: u32,
    /// To whom.
    pub receiver: String,
    /// On which channel; a phone number is left out.
    pub channel: String,
    /// `owed`, `held`, `digested`, `accepted` or `abandoned`.
    pub standing: String,
    /// When it was written.
    pub created: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When the receiver accepted it, or the digest that tells of it.
    pub accepted_at: Option<Timestamp>,
    /// What it says.
    pub text: String,
}

const COLUMNS: &str = "id, place, link, kind, words, opened_at, resolved_at, resolved_reason";

/// How things stand; `None` while no alerter has begun the file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn standing(path: &Path) -> Result<Option<Standing>, Error> {
    read(path, |file| {
        let sql =
            format!("SELECT {COLUMNS} FROM incident WHERE resolved_at IS NULL ORDER BY opened_at, place");
        let mut incidents = incidents(file, &sql, [])?;
        for incident in &mut incidents {
            incident.symptoms.retain(|symptom| symptom.resolved_at.is_none());
        }
        let silent = file
            .prepare("SELECT subject FROM symptom WHERE rule = ? AND resolved_at IS NULL ORDER BY subject")?
            .query_map([SITE_SILENT], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
        let owed = file.query_row(
            "SELECT count(*), min(created) FROM notification WHERE standing = 'owed' OR standing = 'held'",
            [],
            |row| Ok((row.get::<_, i64>(0)?, row.get::<_, Option<i64>>(1)?)),
        )?;
        let owed = owed.1.map(|since| (owed.0.unsigned_abs(), Timestamp::from_micros(since)));
        Ok(Standing { incidents, silent, owed })
    })
}

/// The incidents that were open at some time from `from` up to but not including `to`, newest first, at most `limit`; of one link, if
/// one is named.
///
/// # Errors
/// As [`standing`].
pub fn between(
    path: &Path,
    from: Timestamp,
    to: Timestamp,
    link: Option<&str>,
    limit: usize,
) -> Result<Vec<Told>, Error> {
    let found = read(path, |file| {
        let sql = format!(
            "SELECT {COLUMNS} FROM incident WHERE opened_at < ? AND (resolved_at IS NULL OR resolved_at >= ?)
             AND (? IS NULL OR link = ?3) ORDER BY opened_at DESC, place LIMIT ?"
        );
        let limit = i64::try_from(limit).unwrap_or(i64::MAX);
        let link = link.map_or(Value::Null, |link| Value::Text(link.to_owned()));
        let values =
            [Value::Integer(to.as_micros()), Value::Integer(from.as_micros()), link, Value::Integer(limit)];
        incidents(file, &sql, values)
    })?;
    Ok(found.unwrap_or_default())
}

/// An incident and what the ledger has of it; `None` where there is none of this id.
///
/// # Errors
/// As [`standing`].
pub fn of(path: &Path, id: &str) -> Result<Option<(Told, Vec<Notice>)>, Error> {
    let found = read(path, |file| {
        let sql = format!("SELECT {COLUMNS} FROM incident WHERE id = ?");
        let Some(incident) = incidents(file, &sql, [Value::Text(id.to_owned())])?.pop() else {
            return Ok(None);
        };
        // What a digest tells of was accepted with the digest.
        let sql = "SELECT it.state, it.revision, it.receiver, it.channel, it.standing, it.created, it.attempts, it.error,
                          ifnull(it.accepted_at, digest.accepted_at), ifnull(json_extract(it.body, '$.text'), '')
                   FROM notification AS it
                   LEFT JOIN notification AS digest ON digest.id = it.digest AND digest.receiver = it.receiver
                        AND digest.channel = it.channel AND digest.state = 'firing' AND digest.revision = 0
                   WHERE it.id = ? ORDER BY it.number";
        let notices = file.prepare(sql)?.query_map([id], notice)?.collect::<rusqlite::Result<_>>()?;
        Ok(Some((incident, notices)))
    })?;
    Ok(found.flatten())
}

fn read<T>(
    path: &Path,
    read: impl FnOnce(&Transaction<'_>) -> rusqlite::Result<T>,
) -> Result<Option<T>, Error> {
    let Some(mut file) = SCHEMA.open_to_read(path)? else {
        return Ok(None);
    };
    let done = file.transaction().and_then(|file| read(&file));
    done.map(Some).map_err(|source| QueueError::from(JournalError::of(path, source)).into())
}

fn incidents(
    file: &Connection,
    sql: &str,
    values: impl IntoIterator<Item = Value>,
) -> rusqlite::Result<Vec<Told>> {
    let mut found: Vec<Told> = file
        .prepare(sql)?
        .query_map(params_from_iter(values), |row| {
            Ok(Told {
                id: row.get(0)?,
                place: row.get(1)?,
                link: row.get(2)?,
                verdict: row.get(3)?,
                summary: row.get(4)?,
                opened_at: Timestamp::from_micros(row.get(5)?),
                resolved_at: row.get::<_, Option<i64>>(6)?.map(Timestamp::from_micros),
                resolved_reason: row.get(7)?,
                symptoms: Vec::new(),
            })
        })?
        .collect::<rusqlite::Result<_>>()?;
    let mut symptoms = file.prepare(
        "SELECT rule, subject, fired_at, value, reason, resolved_at, resolved_reason FROM symptom
         WHERE incident = ? ORDER BY number",
    )?;
    for incident in &mut found {
        incident.symptoms = symptoms.query_map([&incident.id], symptom)?.collect::<rusqlite::Result<_>>()?;
    }
    Ok(found)
}

fn symptom(row: &Row<'_>) -> rusqlite::Result<Symptom> {
    Ok(Symptom {
        rule: row.get(0)?,
        subject: row.get(1)?,
        fired_at: Timestamp::from_micros(row.get(2)?),
        value: row.get(3)?,
        reason: row.get(4)?,
        resolved_at: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
        resolved_reason: row.get(6)?,
    })
}

fn notice(row: &Row<'_>) -> rusqlite::Result<Notice> {
    Ok(Notice {
        state: row.get(0)?,
        revision: row.get(1)?,
        receiver: row.get(2)?,
        channel: kind_of(&row.get::<_, String>(3)?).to_owned(),
        standing: row.get(4)?,
        created: Timestamp::from_micros(row.get(5)?),
        attempts: row.get(6)?,
        error: row.get(7)?,
        accepted_at: row.get::<_, Option<i64>>(8)?.map(Timestamp::from_micros),
        text: row.get(9)?,
    })
}

#[cfg(test)]
mod tests {
    use crosswatch_queue::{Consumer, Source};

    use super::*;

    /// As the alerter writes them: one that is over, and was told in a digest, and one that is open.
    const FILE: &str = "
        INSERT INTO incident (id, place, link, kind, words, opened_at, resolved_at, resolved_reason) VALUES
            ('1', 'l', 'l', 'black-hole', '2 of 2 lost', 100, 200, 'over'), ('2', 'm', 'm', 'slow', 'slow', 300, NULL, NULL),
            ('3', 'a', '', 'site-silent', 'silent', 400, NULL, NULL);
        INSERT INTO symptom (incident, rule, subject, fired_at, value, reason, resolved_at, resolved_reason) VALUES
            ('1', 'r', 'l/a/p', 100, 0, 'why', 200, 'over'), ('2', 'q', 'm/a/p', 250, 1, 'was', 260, 'over'),
            ('2', 'r', 'm/a/p', 300, 1, 'is', NULL, NULL), ('3', 'site-silent', 'a', 400, NULL, 'nothing', NULL, NULL);
        INSERT INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try, digest,
                                  accepted_at) VALUES
            ('1', 'firing', 0, 'me', 'sms:+15555550100', '{\"text\":\"FIRING l\"}', 0, 'digested', 100, 0, 'd', NULL),
            ('d', 'firing', 0, 'me', 'sms:+15555550100', '{\"text\":\"digest\"}', 1, 'accepted', 150, 0, NULL, 160),
            ('2', 'firing', 0, 'me', 'sms:+15555550100', '{\"text\":\"FIRING m\"}', 0, 'owed', 300, 0, NULL, NULL);";

    #[test]
    fn what_is_open_what_was_and_who_was_told_by_a_digest_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerter.db");
        assert_eq!(standing(&path).unwrap(), None);
        assert_eq!(between(&path, Timestamp::MIN, Timestamp::MAX, None, 9).unwrap(), []);
        let source = Source::embedded(folder.path().join("journal"), Vec::new());
        drop(Consumer::open(&path, SCHEMA, source).unwrap());
        Connection::open(&path).unwrap().execute_batch(FILE).unwrap();

        let now = standing(&path).unwrap().unwrap();
        let open: Vec<_> = now.incidents.iter().map(|of| (&*of.id, of.symptoms.len())).collect();
        assert_eq!(open, [("2", 1), ("3", 1)], "with what still fires");
        assert_eq!(now.silent, ["a"]);
        assert_eq!(now.owed, Some((1, Timestamp::from_micros(300))));

        let at = Timestamp::from_micros;
        let ids = |from, to, link| {
            let found = between(&path, at(from), at(to), link, 9).unwrap();
            found.into_iter().map(|of| of.id).collect::<Vec<_>>()
        };
        assert_eq!(ids(0, 1_000, None), ["3", "2", "1"]);
        assert_eq!(ids(0, 1_000, Some("l")), ["1"]);
        assert_eq!(ids(201, 1_000, Some("l")), [""; 0]);
        assert_eq!(ids(200, 300, None), ["1"]);

        let (incident, notices) = of(&path, "1").unwrap().unwrap();
        assert_eq!(incident.resolved_at, Some(at(200)));
        let told: Vec<_> =
            notices.iter().map(|of| (&*of.channel, &*of.standing, of.accepted_at, &*of.text)).collect();
        assert_eq!(told, [("sms", "digested", Some(at(160)), "FIRING l")], "and nobody's number");
        assert_eq!(of(&path, "4").unwrap(), None);
    }
}
