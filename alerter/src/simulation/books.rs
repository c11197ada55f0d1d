//! The books: what the alerter's file says of incidents and of what is owed for them, held against what the receivers took.
//!
//! All that the simulation knows of incidents, pages and digests is here.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::time::Duration;

use crosswatch_judge::verdict::Kind;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};
use serde::Deserialize;

use super::oracle::{Of, Told};
use super::receivers::Taken;
use crate::config::Config;
use crate::ledger::Destination;
use crate::silence::{ALERTER_BLIND, SITE_SILENT};

/// The rules that digests name.
const DIGESTS: [&str; 2] = ["at-most", "catch-up"];

/// How long after an answer a death may still come before its record.
const RECORDED: Duration = Duration::from_secs(2);

/// Keeps, from now on and in the transactions of the alerter itself, every transition that it writes.
pub(crate) fn keep(file: &Path) -> rusqlite::Result<()> {
    Connection::open(file)?.execute_batch(
        "CREATE TABLE told (
             number INTEGER PRIMARY KEY, rule TEXT, subject TEXT, state TEXT, at INTEGER, value REAL, reason TEXT
         );
         CREATE TRIGGER told_first AFTER INSERT ON subject_state WHEN new.since IS NOT NULL BEGIN
             INSERT INTO told VALUES (NULL, new.rule, new.subject, new.state, new.since, new.value, new.reason);
         END;
         CREATE TRIGGER told_next AFTER UPDATE ON subject_state BEGIN
             INSERT INTO told VALUES (NULL, new.rule, new.subject, new.state, new.since, new.value, new.reason);
         END;
         CREATE TABLE stood (number INTEGER PRIMARY KEY, notification INTEGER, standing TEXT, created INTEGER);
         CREATE TRIGGER stood_first AFTER INSERT ON notification BEGIN
             INSERT INTO stood VALUES (NULL, new.number, new.standing, new.created);
         END;
         CREATE TRIGGER stood_next AFTER UPDATE OF standing ON notification BEGIN
             INSERT INTO stood VALUES (NULL, new.number, new.standing, new.created);
         END;",
    )
}

/// Opened for one look, so that no connection of the simulation's keeps alive what dies with the alerter's.
fn look(file: &Path) -> rusqlite::Result<Connection> {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)
}

/// Whether a notification may be on its way: it is in the ledger, and nobody is known to have accepted it.
pub(crate) fn may_be_sent(file: &Path, receiver: &str, channel: &str, body: &str) -> Result<(), String> {
    let said: Said = serde_json::from_str(body).map_err(|error| error.to_string())?;
    let standing: Option<(String, String)> = look(file)
        .and_then(|file| {
            file.query_row(
                "SELECT standing, body FROM notification
                 WHERE id = ? AND state = ? AND revision = ? AND receiver = ? AND channel = ?",
                params![said.id, said.state, said.revision, receiver, channel],
                |row| Ok((row.get(0)?, row.get(1)?)),
            )
            .optional()
        })
        .map_err(|error| error.to_string())?;
    match standing {
        None => Err("it is not in the ledger".to_owned()),
        Some((standing, written)) if standing == "owed" && written == body => Ok(()),
        // What refines an incident is given up where more is known, or it ends, while it is on its way.
        Some((standing, _)) if standing == "abandoned" && said.revision > 0 => Ok(()),
        Some((standing, _)) => Err(format!("the ledger has it as {standing}")),
    }
}

/// What waits.
#[derive(Clone, Debug, Default)]
pub(crate) struct Waiting {
    /// How many notifications may be tried and were not accepted.
    pub(crate) owed: i64,
    /// How many are held back, by a limit or while the alerter is behind.
    pub(crate) held: i64,
    /// How far the queue was read.
    pub(crate) places: BTreeMap<String, i64>,
}

impl Waiting {
    pub(crate) fn read(file: &Path) -> rusqlite::Result<Self> {
        let file = look(file)?;
        let count = |standing| {
            let sql = "SELECT count(*) FROM notification WHERE standing = ?";
            file.query_row(sql, [standing], |row| row.get(0))
        };
        let mut places = file.prepare("SELECT journal, id FROM position")?;
        let places = places.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        Ok(Self {
            owed: count("owed")?,
            held: count("held")? + count("behind")?,
            places: places.collect::<rusqlite::Result<_>>()?,
        })
    }
}

/// What a notification says, as a receiver reads it.
#[derive(Clone, Debug, Deserialize)]
struct Said {
    id: String,
    state: String,
    rule: String,
    subject: String,
    link: String,
    at: Timestamp,
    value: Option<f64>,
    reason: String,
    text: String,
    #[serde(default)]
    verdict: Option<Kind>,
    #[serde(default)]
    revision: u32,
    #[serde(default)]
    held: Option<Vec<Entry>>,
}

impl Said {
    /// Whether it pages somebody for what is down. What only refines, as a webhook is told, pages nobody.
    fn tells_down(&self) -> bool {
        let pages = self.revision == 0 || self.text.starts_with("WORSE ");
        self.state == "firing" && pages && self.verdict.is_some_and(Kind::is_down)
    }

    fn is_digest(&self) -> bool {
        DIGESTS.contains(&&*self.rule)
    }
}

#[derive(Clone, Debug, Deserialize)]
struct Entry {
    id: String,
    state: String,
    rule: String,
    subject: String,
    #[serde(default)]
    verdict: Option<Kind>,
}

/// A rule that fired for a subject, as the file has it.
#[derive(Clone, Debug, PartialEq)]
struct Symptom {
    rule: String,
    subject: String,
    fired: (Timestamp, Option<f64>, String),
    resolved: Option<(Timestamp, Option<f64>, String)>,
}

/// An incident in the file: what fired of one link, or of a site.
#[derive(Clone, Debug, Default)]
struct Incident {
    link: String,
    closed: bool,
    symptoms: Vec<Symptom>,
}

/// The file at the end of a day.
pub(crate) struct Books {
    pub(crate) told: BTreeMap<Of, Vec<Told>>,
    /// What is so of each subject, and whether an incident is open.
    pub(crate) states: BTreeMap<Of, (String, bool)>,
    /// Of which incident nobody there was to be told: by id, receiver and channel.
    muted: BTreeSet<(String, String, String)>,
    incidents: HashMap<String, Incident>,
}

/// How the lives of the alerter went.
#[derive(Clone, Debug, Default)]
pub(crate) struct Lives {
    /// For how long the machine had run when each ended.
    pub(crate) ends: Vec<Duration>,
    /// From when to when the disk was not well.
    pub(crate) unwell: Vec<(Duration, Duration)>,
}

impl Books {
    pub(crate) fn read(file: &Path) -> rusqlite::Result<Self> {
        let file = look(file)?;
        let micros = Timestamp::from_micros;
        let mut told: BTreeMap<Of, Vec<Told>> = BTreeMap::new();
        let mut query =
            file.prepare("SELECT rule, subject, state, at, value, reason FROM told ORDER BY number")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let one =
                Told { state: row.get(2)?, at: micros(row.get(3)?), value: row.get(4)?, reason: row.get(5)? };
            told.entry((row.get(0)?, row.get(1)?)).or_default().push(one);
        }
        let mut incidents = HashMap::new();
        let mut query = file.prepare(
            "SELECT id, rule, subject, link, fired_at, value, reason, symptom.resolved_at, resolved_value,
                    symptom.resolved_reason, incident.resolved_at IS NOT NULL
             FROM symptom JOIN incident ON incident.id = symptom.incident ORDER BY number",
        )?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let resolved: Option<i64> = row.get(7)?;
            let resolved = resolved
                .map(|at| Ok::<_, rusqlite::Error>((micros(at), row.get(8)?, row.get(9)?)))
                .transpose()?;
            let incident: &mut Incident = incidents.entry(row.get(0)?).or_default();
            (incident.link, incident.closed) = (row.get(3)?, row.get(10)?);
            incident.symptoms.push(Symptom {
                rule: row.get(1)?,
                subject: row.get(2)?,
                fired: (micros(row.get(4)?), row.get(5)?, row.get(6)?),
                resolved,
            });
        }
        let mut states = BTreeMap::new();
        let mut query = file.prepare("SELECT rule, subject, state FROM subject_state")?;
        let mut rows = query.query([])?;
        while let Some(row) = rows.next()? {
            let of: Of = (row.get(0)?, row.get(1)?);
            let open = incidents.values().flat_map(|incident| &incident.symptoms).any(|symptom| {
                symptom.resolved.is_none() && (&symptom.rule, &symptom.subject) == (&of.0, &of.1)
            });
            states.insert(of, (row.get(2)?, open));
        }
        let mut query = file.prepare(
            "SELECT id, receiver, channel FROM notification
             WHERE revision = 0 AND state = 'firing' AND standing IN ('muted', 'silenced')",
        )?;
        let muted = query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?;
        let muted = muted.collect::<rusqlite::Result<_>>()?;
        Ok(Self { told, states, muted, incidents })
    }

    /// How many incidents there were.
    pub(crate) fn incidents(&self) -> usize {
        self.incidents.len()
    }

    /// Symptoms are what the transitions make of them, no more and no less; each is in an incident of its own link, which is
    /// open as long as one of its symptoms is.
    pub(crate) fn check_incidents(&self, wrong: &mut Vec<String>) {
        let mut expected = Vec::new();
        for ((rule, subject), told) in &self.told {
            let mut open: Option<Symptom> = None;
            for Told { at, state, value, reason } in told {
                let here = (*at, *value, reason.clone());
                match (state.as_str(), &mut open) {
                    ("firing", None) => {
                        let (rule, subject) = (rule.clone(), subject.clone());
                        open = Some(Symptom { rule, subject, fired: here, resolved: None });
                    }
                    ("ok", Some(symptom)) => {
                        symptom.resolved = Some(here);
                        expected.extend(open.take());
                    }
                    _ => {}
                }
            }
            expected.extend(open);
        }
        let mut found: Vec<&Symptom> =
            self.incidents.values().flat_map(|incident| &incident.symptoms).collect();
        for symptom in expected {
            match found.iter().position(|other| **other == symptom) {
                Some(place) => drop(found.swap_remove(place)),
                None => wrong.push(format!("transitions without their symptom: {symptom:?}")),
            }
        }
        wrong.extend(found.iter().map(|symptom| format!("a symptom without its transitions: {symptom:?}")));
        for (id, incident) in &self.incidents {
            if incident.closed != incident.symptoms.iter().all(|symptom| symptom.resolved.is_some()) {
                wrong.push(format!("open or closed against its symptoms: {id} {incident:?}"));
            }
            let of_link = |symptom: &&Symptom| {
                !matches!(symptom.rule.as_str(), SITE_SILENT | ALERTER_BLIND | "collection-failed")
            };
            let link = |symptom: &Symptom| symptom.subject.split('/').next().map(str::to_owned);
            if incident
                .symptoms
                .iter()
                .filter(of_link)
                .any(|symptom| link(symptom).as_ref() != Some(&incident.link))
            {
                wrong.push(format!("in the incident of another link: {id} {incident:?}"));
            }
        }
        let open: Vec<&Incident> = self.incidents.values().filter(|incident| !incident.closed).collect();
        for (index, one) in open.iter().enumerate() {
            if open.iter().skip(index + 1).any(|other| !one.link.is_empty() && other.link == one.link) {
                wrong.push(format!("two incidents of a link at once: {one:?}"));
            }
        }
    }

    /// What the receivers took is what the incidents owe them, within their limits. Gives how much came twice.
    pub(crate) fn check_pages(
        &self,
        config: &Config,
        taken: &[Taken],
        lives: &Lives,
        wrong: &mut Vec<String>,
    ) -> usize {
        let mut repeats = 0;
        for receiver in &config.receivers {
            for to in Destination::of(receiver) {
                let its =
                    taken.iter().filter(|one| *one.receiver == *to.receiver && *one.channel == *to.channel);
                let its: Vec<(&Taken, Said)> =
                    its.map(|one| (one, serde_json::from_str(&one.body).unwrap())).collect();
                let mut problems = Vec::new();
                let mut page = Page {
                    books: self,
                    digests: HashMap::new(),
                    firing: HashMap::new(),
                    down: BTreeSet::new(),
                    resolved: BTreeSet::new(),
                    ended: BTreeSet::new(),
                };
                let mut before: HashMap<(String, String, u32), &Taken> = HashMap::new();
                let mut firsts = Vec::new();
                for (one, said) in &its {
                    let key = (said.id.clone(), said.state.clone(), said.revision);
                    if let Some(before) = before.insert(key, one) {
                        repeats += 1;
                        if !lives.may_repeat(before, one) {
                            problems
                                .push(format!("taken twice, at {} and {}: {}", before.at, one.at, one.body));
                        }
                        continue;
                    }
                    firsts.push((one.counted, said.is_digest() && said.held.is_some()));
                    page.hears(said, &mut problems);
                }
                let owes = |rule: &str| match rule {
                    SITE_SILENT | ALERTER_BLIND => true,
                    _ => config
                        .rules
                        .iter()
                        .any(|of| *of.rule.name == *rule && of.notify.contains(&to.receiver)),
                };
                let muted = |id: &str| {
                    self.muted.contains(&(id.to_owned(), to.receiver.to_string(), to.channel.to_string()))
                };
                page.is_whole(owes, muted, &mut problems);
                within_limit(&to, &firsts, &mut problems);
                wrong.extend(
                    problems.into_iter().map(|problem| format!("{} {}: {problem}", to.receiver, to.channel)),
                );
            }
        }
        repeats
    }
}

impl Lives {
    /// Whether what was taken once may have been sent again: nobody knew that it was taken, or the death that followed
    /// came before the record.
    fn may_repeat(&self, before: &Taken, again: &Taken) -> bool {
        let Some(answered) = before.answered else {
            return true;
        };
        let Some(&end) = self.ends.get(before.life).filter(|_| before.life < again.life) else {
            return false;
        };
        let unwell = self.unwell.iter().any(|&(from, to)| from <= end && answered <= to);
        unwell || end.saturating_sub(answered) <= RECORDED
    }
}

/// What one channel of a receiver was told.
struct Page<'a> {
    books: &'a Books,
    digests: HashMap<String, Vec<Entry>>,
    /// How often each incident was said to fire.
    firing: HashMap<String, usize>,
    /// Which were said to be down.
    down: BTreeSet<String>,
    resolved: BTreeSet<String>,
    /// The same with the digest by which, or nothing.
    ended: BTreeSet<(String, String)>,
}

impl Page<'_> {
    fn hears(&mut self, said: &Said, problems: &mut Vec<String>) {
        if said.text.len() > 160 || !said.text.is_ascii() {
            problems.push(format!("too long for one SMS: {}", said.text));
        }
        if !said.is_digest() {
            self.hears_single(said, problems);
            return;
        }
        if let Some(held) = &said.held {
            self.digests.insert(said.id.clone(), held.clone());
            for entry in held {
                if entry.state == "resolved" {
                    self.ends(&entry.id, &entry.rule, true, &said.id, problems);
                } else {
                    // What is worse may be held back after the first was told.
                    self.firing.entry(entry.id.clone()).or_insert(1);
                    if entry.verdict.is_some_and(Kind::is_down) {
                        self.goes_down(&entry.id, problems);
                    }
                }
                let of_it =
                    |of: &Incident| of.symptoms.iter().any(|symptom| symptom.subject == entry.subject);
                if !DIGESTS.contains(&&*entry.rule) && !self.books.incidents.get(&entry.id).is_some_and(of_it)
                {
                    problems.push(format!("a digest of no incident: {entry:?}"));
                }
            }
        } else {
            self.ends(&said.id, &said.rule, false, "", problems);
        }
    }

    fn hears_single(&mut self, said: &Said, problems: &mut Vec<String>) {
        let Some(incident) = self.books.incidents.get(&said.id) else {
            problems.push(format!("a page without its incident: {said:?}"));
            return;
        };
        let here = (said.at, said.value, said.reason.clone());
        let mut its =
            incident.symptoms.iter().filter(|of| (&of.rule, &of.subject) == (&said.rule, &said.subject));
        let is_true = match said.state.as_str() {
            "firing" => {
                if said.revision == 0 {
                    *self.firing.entry(said.id.clone()).or_default() += 1;
                }
                if said.tells_down() {
                    self.goes_down(&said.id, problems);
                }
                if said.text.starts_with("WORSE ") && !said.tells_down() {
                    problems.push(format!("worse, and not down: {said:?}"));
                }
                its.any(|symptom| symptom.fired == here)
            }
            _ => {
                self.ends(&said.id, &said.rule, false, "", problems);
                its.any(|symptom| symptom.resolved.as_ref() == Some(&here))
            }
        };
        if !is_true || incident.link != said.link {
            problems.push(format!("a page that is not true: {said:?} of {incident:?}"));
        }
    }

    /// An incident is down: nobody is told so twice.
    fn goes_down(&mut self, id: &str, problems: &mut Vec<String>) {
        if !self.down.insert(id.to_owned()) {
            problems.push(format!("said to be down more than once: {id}"));
        }
    }

    /// An incident, or all that a digest told as firing, is over. In a digest it may begin with that, too.
    fn ends(&mut self, id: &str, rule: &str, begins: bool, by: &str, problems: &mut Vec<String>) {
        // One that was told by a digest, and then by another one or by itself that it is worse, ends with each of them, once.
        let again = !self.resolved.insert(id.to_owned());
        if !self.ended.insert((id.to_owned(), by.to_owned())) || (again && DIGESTS.contains(&rule)) {
            problems.push(format!("resolved more than once: {id} {by}"));
        }
        if DIGESTS.contains(&rule) {
            for entry in self.digests.get(id).cloned().unwrap_or_default() {
                if entry.state == "firing" {
                    self.ends(&entry.id, &entry.rule, false, id, problems);
                }
            }
            if !self.digests.contains_key(id) {
                problems.push(format!("the end of a digest that was not told: {id}"));
            }
            return;
        }
        if begins {
            self.firing.entry(id.to_owned()).or_insert(1);
        } else if !self.firing.contains_key(id) {
            problems.push(format!("resolved before it was said to fire: {id}"));
        }
        if self.books.incidents.get(id).is_none_or(|incident| !incident.closed) {
            problems.push(format!("said to be resolved and is not: {id}"));
        }
    }

    fn is_whole(
        &self,
        owes: impl Fn(&str) -> bool,
        muted: impl Fn(&str) -> bool,
        problems: &mut Vec<String>,
    ) {
        for (id, incident) in &self.books.incidents {
            let owed = !muted(id) && incident.symptoms.iter().any(|symptom| owes(&symptom.rule));
            let firing = self.firing.get(id).copied().unwrap_or(0);
            if firing != usize::from(owed) {
                problems.push(format!("said to fire {firing} times, owed {owed}: {id} {incident:?}"));
            }
            if owed && incident.closed && !self.resolved.contains(id) {
                problems.push(format!("its end was never told: {id} {incident:?}"));
            }
        }
    }
}

/// No span of the limit has more than its number of single messages and one digest; each told first.
fn within_limit(to: &Destination, firsts: &[(Timestamp, bool)], problems: &mut Vec<String>) {
    let Some(limit) = to.at_most else { return };
    for &(end, _) in firsts {
        let within = |digest| {
            firsts.iter().filter(|&&(at, is)| is == digest && at <= end && end < at + limit.per).count()
        };
        let (singles, digests) = (within(false), within(true));
        if singles > usize::try_from(limit.count).unwrap() || digests > 1 {
            problems.push(format!(
                "{singles} messages and {digests} digests in the {:?} before {end}: at most {}",
                limit.per, limit.count
            ));
        }
    }
}
