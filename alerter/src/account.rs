//! The account that the alerter's file gives of a subject, a link or an incident: what is judged of it, what was made of that,
//! and who was told. Read from outside while the alerter runs, and of a [`Rehearsal`] in the same way.
//!
//! [`Rehearsal`]: crate::rehearsal::Rehearsal

use std::collections::BTreeMap;
use std::path::Path;

use crosswatch_judge::mute::Silence;
use crosswatch_judge::rule::{Metric, Rule};
use crosswatch_judge::{Engine, Saved};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::time::Timestamp;
use rusqlite::Connection;

use crate::error::Error;
use crate::status::{self, SiteTime, Subject, of_file};
use crate::story::{self, Story, Which};
use crate::{reconcile, run};

/// What the file holds, all of it of one moment.
#[derive(Debug)]
pub struct Account {
    /// The rules' state, as the alerter last wrote it; of a link that is asked for, its own.
    pub engine: Engine,
    /// Rules that the alerter last judged otherwise than the config says now, with what they meant.
    pub otherwise: BTreeMap<String, String>,
    /// What each rule said of each subject last, and why.
    pub subjects: Vec<Subject>,
    /// How far each site's data is known to be complete.
    pub sites: Vec<SiteTime>,
    /// Those asked for, the open ones first, then the newest first.
    pub incidents: Vec<Story>,
    /// The silences in force, those that are over and those that are to come too.
    pub silences: Vec<Silence>,
}

/// Reads the alerter's file; `None` while no alerter has begun one.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read; what it remembers cannot be understood.
pub fn read(
    path: &Path,
    rules: Vec<Rule>,
    topology: &Topology,
    which: Which<'_>,
) -> Result<Option<Account>, Error> {
    // Of a thousand links one is not asked for all of them.
    let link =
        topology.links.iter().find(|link| matches!(which, Which::Of { place, .. } if place == &*link.name));
    let of_link = link.map(|link| Topology { links: vec![link.clone()], ..topology.clone() });
    let read = of_file(path, |file| {
        let account = Account {
            otherwise: reconcile::otherwise(file, &rules)?,
            engine: Engine::new(rules, of_link.as_ref().unwrap_or(topology)),
            subjects: status::subjects(file)?,
            sites: status::sites(file)?,
            incidents: story::stories_in(file, which)?,
            silences: run::silences_in_force(file)?,
        };
        Ok((account, saved(file, link.map(|link| &*link.name))?))
    })?;
    let Some((mut account, saved)) = read else { return Ok(None) };
    restore(&mut account.engine, saved, path)?;
    Ok(Some(account))
}

/// The engine's state, without what is of other links where one is named.
fn saved(file: &Connection, link: Option<&str>) -> rusqlite::Result<Vec<Saved>> {
    let sql = "SELECT key, value FROM engine
               WHERE ?1 IS NULL OR key = 'link/' || ?1 OR instr(key, '/' || ?1 || '/') > 0
                     OR key GLOB 'site/*' OR key GLOB 'collector/*'";
    file.prepare(sql)?.query_map([link], |row| Ok(Saved { key: row.get(0)?, value: row.get(1)? }))?.collect()
}

fn restore(engine: &mut Engine, saved: Vec<Saved>, path: &Path) -> Result<(), Error> {
    let unreadable = |problem: String| Error::State { path: path.to_owned(), problem };
    engine.restore(saved).map_err(|error| unreadable(error.to_string()))
}

/// What is usual of a subject.
#[derive(Clone, Debug, PartialEq)]
pub struct Usual {
    /// The subject.
    pub subject: String,
    /// The metric that it is usual in.
    pub metric: Metric,
    /// The baseline, in the metric's unit; nothing while there is not enough history.
    pub value: Option<f64>,
    /// When its history begins.
    pub since: Option<Timestamp>,
}

/// Reads the baselines that the rules' thresholds are of, as of a moment; none while no alerter has begun a file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read; what it remembers cannot be understood.
pub fn baselines(
    path: &Path,
    rules: Vec<Rule>,
    topology: &Topology,
    at: Timestamp,
) -> Result<Vec<Usual>, Error> {
    let Some(mut saved) = of_file(path, |file| saved(file, None))? else { return Ok(Vec::new()) };
    // The names of series tell which subjects exist only since they were seen.
    saved.retain(|of| ["usual/", "hours/", "series/"].iter().any(|start| of.key.starts_with(start)));
    let mut engine = Engine::new(rules, topology);
    restore(&mut engine, saved, path)?;
    let usual = engine.usual(at).map(|(subject, metric, usual)| Usual {
        subject: subject.to_string(),
        metric,
        value: usual.value,
        since: usual.since,
    });
    Ok(usual.collect())
}
