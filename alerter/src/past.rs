//! Incidents as the alerter's file has them, open or over: what fired, and who was told what, when.

use std::path::Path;

use crosswatch_journal::JournalError;
use crosswatch_queue::QueueError;
use crosswatch_shared::time::Timestamp;
use rusqlite::Connection;

use crate::error::Error;
use crate::ledger::{Body, kind_of};
use crate::schema::SCHEMA;

/// An incident, open or over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastIncident {
    /// Its id.
    pub id: String,
    /// The link or site, or `alerter`.
    pub place: String,
    /// The link, or nothing.
    pub link: String,
    /// The verdict's word, as it was last.
    pub verdict: String,
    /// What the verdict rested on.
    pub summary: String,
    /// When it began, by the deciding datapoint.
    pub opened_at: Timestamp,
    /// When it ended, and why; `None` where it has not.
    pub resolved: Option<(Timestamp, String)>,
    /// What fired, in the order in which it began to.
    pub symptoms: Vec<PastSymptom>,
    /// Who was told, or is to be, in the order in which it was written.
    pub told: Vec<PastMessage>,
}

/// A rule that fired for a subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastSymptom {
    /// The rule.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// When it began, by the deciding datapoint.
    pub fired_at: Timestamp,
    /// Why.
    pub reason: String,
    /// When it ended, and why.
    pub resolved: Option<(Timestamp, String)>,
}

/// A notification of the ledger.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PastMessage {
    /// To whom.
    pub receiver: String,
    /// By which way; a phone number is left out.
    pub channel: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// All of it in one line.
    pub text: String,
    /// What was captured of probes that fail, a line each.
    pub evidence: Vec<String>,
    /// When it was written down.
    pub created: Timestamp,
    /// When the receiver accepted it.
    pub accepted: Option<Timestamp>,
    /// `owed`, `held`, `digested`, `accepted` or `abandoned`.
    pub standing: String,
}

/// Which incidents are wanted.
#[derive(Clone, Debug)]
pub enum Which {
    /// The one whose id this is, or begins with it.
    Id(String),
    /// Those that were open at any time from the first to the second.
    Between(Timestamp, Timestamp),
}

/// Reads them, the oldest first; none while no alerter has begun the file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn read(path: &Path, which: &Which) -> Result<Vec<PastIncident>, Error> {
    let Some(mut file) = SCHEMA.open_to_read(path)? else {
        return Ok(Vec::new());
    };
    let mut read = || {
        // One short transaction, so that all of it is of one moment.
        let file = file.transaction()?;
        incidents(&file, which)
    };
    read().map_err(|source| QueueError::from(JournalError::of(path, source)).into())
}

fn incidents(file: &Connection, which: &Which) -> rusqlite::Result<Vec<PastIncident>> {
    let (prefix, from, to) = match which {
        Which::Id(id) => (id.as_str(), Timestamp::MIN, Timestamp::MAX),
        Which::Between(from, to) => ("", *from, *to),
    };
    let mut query = file.prepare(
        "SELECT id, place, link, kind, words, opened_at, resolved_at, ifnull(resolved_reason, '') FROM incident
         WHERE substr(id, 1, length(?1)) = ?1 AND opened_at < ?3 AND (resolved_at IS NULL OR resolved_at >= ?2)
         ORDER BY opened_at, id",
    )?;
    let found = query.query_map((prefix, from.as_micros(), to.as_micros()), |row| {
        let resolved: Option<i64> = row.get(6)?;
        let reason: String = row.get(7)?;
        Ok(PastIncident {
            id: row.get(0)?,
            place: row.get(1)?,
            link: row.get(2)?,
            verdict: row.get(3)?,
            summary: row.get(4)?,
            opened_at: Timestamp::from_micros(row.get(5)?),
            resolved: resolved.map(|at| (Timestamp::from_micros(at), reason)),
            symptoms: Vec::new(),
            told: Vec::new(),
        })
    })?;
    let mut found: Vec<PastIncident> = found.collect::<rusqlite::Result<_>>()?;
    for incident in &mut found {
        incident.symptoms = symptoms(file, &incident.id)?;
        incident.told = told(file, &incident.id)?;
    }
    Ok(found)
}

fn symptoms(file: &Connection, incident: &str) -> rusqlite::Result<Vec<PastSymptom>> {
    let mut query = file.prepare_cached(
        "SELECT rule, subject, fired_at, reason, resolved_at, ifnull(resolved_reason, '') FROM symptom
         WHERE incident = ? ORDER BY number",
    )?;
    let symptoms = query.query_map([incident], |row| {
        let resolved: Option<i64> = row.get(4)?;
        let reason: String = row.get(5)?;
        Ok(PastSymptom {
            rule: row.get(0)?,
            subject: row.get(1)?,
            fired_at: Timestamp::from_micros(row.get(2)?),
            reason: row.get(3)?,
            resolved: resolved.map(|at| (Timestamp::from_micros(at), reason)),
        })
    })?;
    symptoms.collect()
}

fn told(file: &Connection, incident: &str) -> rusqlite::Result<Vec<PastMessage>> {
    let mut query = file.prepare_cached(
        "SELECT receiver, channel, state, body, created, accepted_at, standing FROM notification WHERE id = ?
         ORDER BY number",
    )?;
    let told = query.query_map([incident], |row| {
        let body: String = row.get(3)?;
        // What an older program wrote may have another form: then it is told without its words.
        let (text, evidence) = serde_json::from_str::<Body>(&body)
            .map_or_else(|_| (String::new(), Vec::new()), |body| (body.text, body.evidence));
        let channel: String = row.get(1)?;
        Ok(PastMessage {
            receiver: row.get(0)?,
            channel: kind_of(&channel).to_owned(),
            state: row.get(2)?,
            text,
            evidence,
            created: Timestamp::from_micros(row.get(4)?),
            accepted: row.get::<_, Option<i64>>(5)?.map(Timestamp::from_micros),
            standing: row.get(6)?,
        })
    })?;
    told.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_incident_is_found_by_the_start_of_its_id_or_by_when_it_was_open() {
        let file = Connection::open_in_memory().unwrap();
        SCHEMA.migrations.iter().for_each(|sql| file.execute_batch(sql).unwrap());
        file.execute_batch(
            "INSERT INTO incident (id, place, link, kind, words, opened_at, resolved_at, resolved_reason) VALUES
                 ('aa1', 'l', 'l', 'slow', 'w', 10000000, 20000000, 'over'),
                 ('aa2', 'l', 'l', 'lossy', 'w', 30000000, NULL, NULL);
             INSERT INTO symptom (incident, rule, subject, fired_at, reason) VALUES ('aa2', 'r', 's', 30000000, 'why');
             INSERT INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try)
                 VALUES ('aa2', 'firing', 0, 'oncall', 'sms:+15555550100', '{}', 0, 'owed', 31000000, 31000000);",
        )
        .unwrap();
        let ids = |which| -> Vec<String> {
            incidents(&file, &which).unwrap().into_iter().map(|of| of.id).collect()
        };
        let at = Timestamp::from_secs;
        assert_eq!(ids(Which::Id("aa".to_owned())), ["aa1", "aa2"]);
        assert_eq!(ids(Which::Id("aa2".to_owned())), ["aa2"]);
        assert_eq!(ids(Which::Id("%".to_owned())), [] as [&str; 0]);
        assert_eq!(ids(Which::Between(at(0), at(10))), [] as [&str; 0]);
        assert_eq!(ids(Which::Between(at(15), at(30))), ["aa1"]);
        assert_eq!(ids(Which::Between(at(21), at(99))), ["aa2"]);
        let open = incidents(&file, &Which::Id("aa2".to_owned())).unwrap().remove(0);
        assert_eq!((open.resolved, open.symptoms[0].rule.as_str()), (None, "r"));
        assert_eq!((open.told[0].channel.as_str(), open.told[0].standing.as_str()), ("sms", "owed"));
    }
}
