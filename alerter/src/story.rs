//! Incidents as the alerter's file has them, open and over, and who was told of them: for who looks from outside, often and while
//! the alerter runs. Each call is one short transaction.

use std::collections::HashSet;
use std::path::Path;

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Params, Row, params};
use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::ledger::kind_of;
use crate::status::of_file;

/// Of how many incidents that are over is told beside those that are open.
const OVER: i64 = 1;

/// An incident: all that fires, or fired, of one link or site.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Incident {
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
    /// The silence that mutes it, where nobody has been told of it: `router swap (3f9a01c7)`.
    pub muted: Option<String>,
    /// Its rules and subjects, in the order in which they began to fire; of [`Which::Open`] those that still do.
    pub symptoms: Vec<Symptom>,
}

/// A rule that fires, or fired, for a subject.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Symptom {
    /// The rule; `site-silent`, `alerter-blind` or `config-refused` for a built-in one.
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

/// An incident, with all that was told of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Story {
    /// The incident.
    #[serde(flatten)]
    pub incident: Incident,
    /// What was captured of probes that failed, a line each, as it was told last.
    pub evidence: Vec<String>,
    /// The ledger's entries, in the order in which they were written; those of the digests that told of it are among them.
    pub told: Vec<Notice>,
}

/// An entry of the ledger: one notification to one receiver by one of its ways.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Notice {
    /// `firing` or `resolved`.
    pub state: String,
    /// 0 for the first of its state; more for what refined it, or said that it was worse.
    pub revision: u32,
    /// To whom.
    pub receiver: String,
    /// By which of its ways: `sms`, `topic`, `webhook`, `command` or `console`.
    pub channel: String,
    /// `owed`, `held`, `muted`, `silenced`, `digested`, `accepted`, `told-by-other`, `behind`, `abandoned`, or another word.
    pub standing: String,
    /// The silence that muted it.
    pub muted_by: Option<String>,
    /// Whether it is a digest, which tells of others as well.
    pub is_digest: bool,
    /// When it was written, by the alerter's clock.
    pub created: Timestamp,
    /// How often it was tried.
    pub attempts: u32,
    /// When it is tried next, while it is owed.
    pub next_try: Option<Timestamp>,
    /// Why the last try failed.
    pub error: Option<String>,
    /// When the receiver accepted it, or the digest that tells of it.
    pub accepted_at: Option<Timestamp>,
    /// What it says, in one line.
    pub text: String,
    /// What was captured of probes that fail, a line each, as it tells it.
    pub evidence: Vec<String>,
}

/// Which incidents are asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which<'a> {
    /// Those that are open, oldest first.
    Open,
    /// Those that began and ended within a silence, of those that ended since then, the last to end first.
    Silenced(Timestamp),
    /// Those that were open at some time from the first up to but not including the second, newest first.
    Between {
        /// From here.
        from: Timestamp,
        /// Up to here.
        to: Timestamp,
        /// Of one link, if one is named.
        link: Option<&'a str>,
        /// At most so many.
        limit: usize,
    },
    /// Those whose id this is, or begins with it; two at most.
    Id(&'a str),
    /// Those of a link or site, and those that a subject is a symptom of: all that were open at a moment, newest first, and the newest
    /// that was over by then.
    Of {
        /// The link or site, or `alerter`.
        place: &'a str,
        /// Other places, of which only what was open is asked for: a link's sites, and `alerter`.
        beside: &'a [&'a str],
        /// The subject, where one is asked for.
        subject: Option<&'a str>,
        /// The moment.
        at: Timestamp,
    },
}

/// Reads incidents; none while no alerter has begun the file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn incidents(path: &Path, which: Which<'_>) -> Result<Vec<Incident>, Error> {
    Ok(of_file(path, |file| incidents_in(file, which))?.unwrap_or_default())
}

/// Reads incidents with all that was told of them; none while no alerter has begun the file.
///
/// # Errors
/// As [`incidents`].
pub fn stories(path: &Path, which: Which<'_>) -> Result<Vec<Story>, Error> {
    Ok(of_file(path, |file| stories_in(file, which))?.unwrap_or_default())
}

/// What the ledger has of a drill, or of an incident, by its id; none while no alerter has begun the file.
///
/// # Errors
/// As [`incidents`].
pub fn notices(path: &Path, id: &str) -> Result<Vec<Notice>, Error> {
    Ok(of_file(path, |file| notices_in(file, id))?.unwrap_or_default())
}

/// The ids of the newest incidents, at most so many: for who has mistyped one.
///
/// # Errors
/// As [`incidents`].
pub fn newest_ids(path: &Path, most: usize) -> Result<Vec<String>, Error> {
    let most = i64::try_from(most).unwrap_or(i64::MAX);
    let sql = "SELECT id FROM incident ORDER BY opened_at DESC LIMIT ?";
    let read = |file: &Connection| file.prepare(sql)?.query_map([most], |row| row.get(0))?.collect();
    Ok(of_file(path, read)?.unwrap_or_default())
}

/// As [`incidents`], of a file that is open.
pub(crate) fn incidents_in(file: &Connection, which: Which<'_>) -> rusqlite::Result<Vec<Incident>> {
    let mut found = match which {
        Which::Open => found(file, "resolved_at IS NULL ORDER BY opened_at, place", [])?,
        Which::Silenced(since) => {
            let of = "resolved_at >= ? AND muted IS NOT NULL ORDER BY resolved_at DESC, place";
            found(file, of, [since.as_micros()])?
        }
        Which::Between { from, to, link, limit } => {
            let of =
                "opened_at < ? AND (resolved_at IS NULL OR resolved_at >= ?) AND (?3 IS NULL OR link = ?3)
                      ORDER BY opened_at DESC, place LIMIT ?";
            let limit = i64::try_from(limit).unwrap_or(i64::MAX);
            found(file, of, params![to.as_micros(), from.as_micros(), link, limit])?
        }
        Which::Id(id) => found(file, "substr(id, 1, length(?1)) = ?1 LIMIT 2", [id])?,
        Which::Of { place, beside, subject, at } => {
            let its =
                "opened_at <= ?3 AND (place = ?1 OR id IN (SELECT incident FROM symptom WHERE subject = ?2))";
            let open = format!("{its} AND (resolved_at IS NULL OR resolved_at > ?3) ORDER BY opened_at DESC");
            let over =
                format!("{its} AND resolved_at <= ?3 ORDER BY resolved_at DESC, opened_at DESC LIMIT {OVER}");
            let at = at.as_micros();
            let mut all = found(file, &open, params![place, subject, at])?;
            for place in beside {
                all.extend(found(file, &open, params![place, None::<&str>, at])?);
            }
            all.extend(found(file, &over, params![place, subject, at])?);
            let mut ids = HashSet::new();
            all.retain(|of: &Incident| ids.insert(of.id.clone()));
            all
        }
    };
    for incident in &mut found {
        incident.symptoms = symptoms(file, &incident.id)?;
        if which == Which::Open {
            incident.symptoms.retain(|of| of.resolved_at.is_none());
        }
    }
    Ok(found)
}

/// As [`stories`], of a file that is open.
pub(crate) fn stories_in(file: &Connection, which: Which<'_>) -> rusqlite::Result<Vec<Story>> {
    let told = |incident: Incident| {
        let told = notices_in(file, &incident.id)?;
        let newest = told.iter().rev().find(|of| !of.evidence.is_empty());
        let evidence = newest.map(|of| of.evidence.clone()).unwrap_or_default();
        Ok(Story { incident, evidence, told })
    };
    incidents_in(file, which)?.into_iter().map(told).collect()
}

fn found(file: &Connection, of: &str, values: impl Params) -> rusqlite::Result<Vec<Incident>> {
    // Of an incident that is muted whole nobody was told.
    let sql = format!(
        "SELECT id, place, link, kind, words, opened_at, resolved_at, resolved_reason,
                (SELECT iif(count(*) = sum(standing IN ('muted', 'silenced')), max(muted_by), NULL)
                 FROM notification WHERE notification.id = incident.id) AS muted
         FROM incident WHERE {of}"
    );
    let incident = |row: &Row<'_>| {
        Ok(Incident {
            id: row.get(0)?,
            place: row.get(1)?,
            link: row.get(2)?,
            verdict: row.get(3)?,
            summary: row.get(4)?,
            opened_at: Timestamp::from_micros(row.get(5)?),
            resolved_at: time(row, 6)?,
            resolved_reason: row.get(7)?,
            muted: row.get(8)?,
            symptoms: Vec::new(),
        })
    };
    file.prepare_cached(&sql)?.query_map(values, incident)?.collect()
}

fn symptoms(file: &Connection, incident: &str) -> rusqlite::Result<Vec<Symptom>> {
    let symptom = |row: &Row<'_>| {
        Ok(Symptom {
            rule: row.get(0)?,
            subject: row.get(1)?,
            fired_at: Timestamp::from_micros(row.get(2)?),
            value: row.get(3)?,
            reason: row.get(4)?,
            resolved_at: time(row, 5)?,
            resolved_reason: row.get(6)?,
        })
    };
    let mut query = file.prepare_cached(
        "SELECT rule, subject, fired_at, value, reason, resolved_at, resolved_reason FROM symptom
         WHERE incident = ? ORDER BY number",
    )?;
    query.query_map([incident], symptom)?.collect()
}

fn notices_in(file: &Connection, id: &str) -> rusqlite::Result<Vec<Notice>> {
    // What a digest tells of was accepted with the digest.
    let mut query = file.prepare_cached(
        "SELECT it.state, it.revision, it.receiver, it.channel,
                iif(it.told_as IS NOT NULL AND it.standing = 'accepted', 'told-by-other', it.standing), it.muted_by, it.id != ?1, it.created, it.attempts,
                iif(it.standing = 'owed', it.next_try, NULL), it.error, ifnull(it.accepted_at, digest.accepted_at), it.body
         FROM notification AS it
         LEFT JOIN notification AS digest ON digest.id = it.digest AND digest.receiver = it.receiver
              AND digest.channel = it.channel AND digest.is_digest = 1
         WHERE it.id = ?1 OR it.id IN (SELECT digest FROM notification WHERE id = ?1 AND digest IS NOT NULL)
         ORDER BY it.number",
    )?;
    let notice = |row: &Row<'_>| {
        let body: String = row.get(12)?;
        // What an older program wrote may lack something; the entry is told all the same.
        let Said { text, evidence } = serde_json::from_str(&body).unwrap_or_default();
        Ok(Notice {
            state: row.get(0)?,
            revision: row.get(1)?,
            receiver: row.get(2)?,
            channel: kind_of(&row.get::<_, String>(3)?).to_owned(),
            standing: row.get(4)?,
            muted_by: row.get(5)?,
            is_digest: row.get(6)?,
            created: Timestamp::from_micros(row.get(7)?),
            attempts: row.get(8)?,
            next_try: time(row, 9)?,
            error: row.get(10)?,
            accepted_at: time(row, 11)?,
            text,
            evidence,
        })
    };
    query.query_map([id], notice)?.collect()
}

/// What is read of a notification's body.
#[derive(Default, Deserialize)]
#[serde(default)]
struct Said {
    text: String,
    evidence: Vec<String>,
}

fn time(row: &Row<'_>, column: usize) -> rusqlite::Result<Option<Timestamp>> {
    Ok(row.get::<_, Option<i64>>(column)?.map(Timestamp::from_micros))
}

#[cfg(test)]
mod tests {
    use crosswatch_queue::{Consumer, Source};

    use super::*;
    use crate::schema::SCHEMA;
    use crate::status;

    /// As the alerter writes them: one that is over, and was told in a digest; one that is open; one that a silence mutes; a site's; and
    /// one that began and ended within a silence.
    const FILE: &str = "
        INSERT INTO incident (id, place, link, kind, words, opened_at, resolved_at, resolved_reason) VALUES
            ('aa1', 'l', 'l', 'black-hole', '2 of 2 lost', 100, 200, 'over'), ('aa2', 'm', 'm', 'slow', 'slow', 300, NULL, NULL),
            ('b3', 'a', '', 'site-silent', 'silent', 400, NULL, NULL), ('c4', 'n', 'n', 'slow', 'slow', 500, 600, 'over');
        INSERT INTO symptom (incident, rule, subject, fired_at, value, reason, resolved_at, resolved_reason) VALUES
            ('aa1', 'r', 'l/a/p', 100, 0, 'why', 200, 'over'), ('aa2', 'q', 'm/a/p', 250, 1, 'was', 260, 'over'),
            ('aa2', 'r', 'm/a/p', 300, 1, 'is', NULL, NULL), ('b3', 'site-silent', 'a', 400, NULL, 'nothing', NULL, NULL);
        INSERT INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try, digest,
                                  accepted_at, muted_by) VALUES
            ('aa1', 'firing', 0, 'me', 'sms:+15555550100', '{\"text\":\"FIRING l\",\"evidence\":[\"hop 1\"]}', 0, 'digested', 100, 0,
             'd', NULL, NULL),
            ('d', 'resolved', 0, 'me', 'sms:+15555550100', '{\"text\":\"digest\"}', 1, 'accepted', 150, 0, NULL, 160, NULL),
            ('aa2', 'firing', 0, 'me', 'sms:+15555550100', 'not JSON', 0, 'owed', 300, 7, NULL, NULL, NULL),
            ('aa2', 'firing', 0, 'me', 'console', '{}', 0, 'behind', 290, 0, NULL, NULL, NULL),
            ('b3', 'firing', 0, 'me', 'console', '{}', 0, 'muted', 400, 0, NULL, NULL, 'swap (s)'),
            ('c4', 'firing', 0, 'me', 'console', '{}', 0, 'silenced', 500, 0, NULL, NULL, 'swap (s)');";

    #[test]
    fn what_is_open_what_was_and_who_was_told_by_a_digest_too() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("alerter.db");
        let at = Timestamp::from_micros;
        assert_eq!(status::standing(&path, at(0)).unwrap(), None);
        assert_eq!(incidents(&path, Which::Open).unwrap(), []);
        let source = Source::embedded(folder.path().join("journal"), Vec::new());
        drop(Consumer::open(&path, SCHEMA, source).unwrap());
        Connection::open(&path).unwrap().execute_batch(FILE).unwrap();

        let now = status::standing(&path, at(700)).unwrap().unwrap();
        let open: Vec<_> =
            now.incidents.iter().map(|of| (&*of.id, of.symptoms.len(), of.muted.as_deref())).collect();
        assert_eq!(open, [("aa2", 1, None), ("b3", 1, Some("swap (s)"))], "with what still fires");
        assert_eq!(now.silent, ["a"]);
        assert_eq!(now.owed, Some((2, at(290))), "what is kept back is owed, too");

        let ids =
            |which| -> Vec<String> { incidents(&path, which).unwrap().into_iter().map(|of| of.id).collect() };
        let between = |from, to, link| ids(Which::Between { from: at(from), to: at(to), link, limit: 3 });
        assert_eq!(between(0, 1_000, None), ["c4", "b3", "aa2"], "no more than are asked for");
        assert_eq!(between(0, 1_000, Some("l")), ["aa1"]);
        assert_eq!(between(201, 1_000, Some("l")), [""; 0]);
        assert_eq!(between(200, 300, None), ["aa1"]);
        assert_eq!(between(200, 301, None), ["aa2", "aa1"]);
        assert_eq!(ids(Which::Silenced(at(600))), ["c4"]);
        assert_eq!(ids(Which::Silenced(at(601))), [""; 0]);
        assert_eq!(ids(Which::Id("aa")), ["aa1", "aa2"]);
        assert_eq!(ids(Which::Id("aa2")), ["aa2"]);
        assert_eq!(ids(Which::Id("%")), [""; 0]);
        let of = |place, subject| Which::Of { place, beside: &["a"], subject, at: at(700) };
        assert_eq!(ids(of("m", None)), ["aa2", "b3"]);
        assert_eq!(ids(of("l", Some("m/a/p"))), ["aa2", "b3", "aa1"]);
        assert_eq!(newest_ids(&path, 2).unwrap(), ["c4", "b3"]);

        let story = stories(&path, Which::Id("aa1")).unwrap().remove(0);
        assert_eq!(
            (story.incident.resolved_at, &*story.evidence),
            (Some(at(200)), &["hop 1".to_owned()][..])
        );
        let told: Vec<_> = story
            .told
            .iter()
            .map(|of| (&*of.channel, &*of.standing, of.accepted_at, &*of.text, of.is_digest))
            .collect();
        assert_eq!(
            told,
            [
                ("sms", "digested", Some(at(160)), "FIRING l", false),
                ("sms", "accepted", Some(at(160)), "digest", true)
            ],
            "and nobody's number"
        );
        let owed = notices(&path, "aa2").unwrap().remove(0);
        assert_eq!((owed.next_try, &*owed.text), (Some(at(7)), ""));
        assert_eq!(stories(&path, Which::Id("e")).unwrap(), []);
        let text = serde_json::to_string(&story).unwrap();
        assert_eq!(serde_json::from_str::<Story>(&text).unwrap(), story);
    }
}
