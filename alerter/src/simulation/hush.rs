//! The silences of a day, and what the file says of pages that fall into one: each is muted that must be, and no other.
//!
//! When a silence is, and what it covers, is told here apart from what the alerter reads of its file.

use std::fmt::Write as _;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OpenFlags};

use super::world::World;
use crate::silence::{ALERTER_BLIND, SITE_SILENT};

/// What a silence covers.
#[derive(Clone, Debug)]
enum Covers {
    Link(String),
    Rule(String),
    Site(String),
}

/// When it is.
#[derive(Clone, Copy, Debug)]
enum When {
    Once(Timestamp, Timestamp),
    /// Every so many minutes of each hour, for so many minutes.
    Every(u64, u64),
}

/// The silences of a day.
#[derive(Clone, Debug, Default)]
pub(crate) struct Hush(Vec<(Covers, When)>);

/// A firing in the ledger, the first of its incident.
struct Row {
    incident: String,
    receiver: String,
    standing: String,
    /// When it was muted, or became owed.
    created: Timestamp,
    muted_by: Option<String>,
    in_digest: bool,
}

/// What fired of an incident.
struct Fired {
    rule: String,
    subject: String,
    at: Timestamp,
    resolved: bool,
}

impl Hush {
    /// About the times when things go wrong; none on half of the days.
    pub(crate) fn draw(rng: &mut fastrand::Rng, world: &World, windows: &[(Timestamp, Timestamp)]) -> Self {
        let count = if rng.bool() { rng.usize(1..5) } else { 0 };
        let one = |_| {
            let links = &world.topology.links;
            let covers = match rng.u8(..6) {
                0 => Covers::Rule("*".to_owned()),
                1 => Covers::Rule(rng.choice(["ping-failed", SITE_SILENT]).unwrap_or(SITE_SILENT).to_owned()),
                2 => Covers::Site(
                    world.topology.sites[rng.usize(..world.topology.sites.len())].name.to_string(),
                ),
                _ => Covers::Link(links[rng.usize(..links.len())].name.to_string()),
            };
            let (from, to) = windows[rng.usize(..windows.len())];
            let when = match rng.u8(..4) {
                0 => {
                    let every = rng.choice([5, 10, 30]).unwrap_or(10);
                    When::Every(every, rng.u64(1..every))
                }
                // At times it outlasts the day.
                1 => When::Once(from, to + Duration::from_secs(1_000_000)),
                _ => {
                    let from = from + Duration::from_millis(rng.u64(..40_000));
                    When::Once(from, from + Duration::from_millis(rng.u64(1_000..120_000)))
                }
            };
            (covers, when)
        };
        Self((0..count).map(one).collect())
    }

    /// As the file has them.
    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        for (number, (covers, when)) in self.0.iter().enumerate() {
            let (key, glob) = match covers {
                Covers::Link(glob) => ("link", glob),
                Covers::Rule(glob) => ("rule", glob),
                Covers::Site(glob) => ("site", glob),
            };
            let _ = writeln!(text, "[[silence]]\nid = \"{number}\"\nwhy = \"drawn\"\n{key} = \"{glob}\"");
            let _ = match when {
                When::Once(from, until) => writeln!(text, "from = \"{from}\"\nuntil = \"{until}\""),
                When::Every(every, lasts) => {
                    writeln!(text, "cron = \"*/{every} * * * *\"\nlasts = \"{lasts}m\"")
                }
            };
        }
        text
    }

    fn covers(&self, world: &World, fired: &Fired, now: Timestamp) -> bool {
        let first = fired.subject.split('/').next().unwrap_or_default();
        let link = world.topology.links.iter().find(|link| *link.name == *first);
        self.0.iter().any(|(covers, when)| {
            let is_on = match *when {
                When::Once(from, until) => from <= now && now < until,
                When::Every(every, lasts) => now < now.floor(minutes(every)) + minutes(lasts),
            };
            let is_of_it = match covers {
                Covers::Link(name) => link.is_some_and(|link| *link.name == **name),
                Covers::Rule(name) => name == "*" || *name == fired.rule,
                Covers::Site(name) => match link {
                    Some(link) => link.between.iter().any(|site| **site == **name),
                    None => fired.rule != ALERTER_BLIND && first == name,
                },
            };
            is_on && is_of_it
        })
    }

    /// What was muted is what had to be, as far as the file tells when; `now` is the alerter's time at the end. Gives how
    /// many incidents nobody was told of.
    pub(crate) fn check(
        &self,
        world: &World,
        file: &std::path::Path,
        now: Timestamp,
        wrong: &mut Vec<String>,
    ) -> rusqlite::Result<usize> {
        let file = Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
        let mut rows = file.prepare(
            "SELECT id, receiver, standing, created, muted_by, digest IS NOT NULL FROM notification
             WHERE state = 'firing' AND revision = 0 AND NOT is_digest",
        )?;
        let rows = rows.query_map([], |row| {
            Ok(Row {
                incident: row.get(0)?,
                receiver: row.get(1)?,
                standing: row.get(2)?,
                created: Timestamp::from_micros(row.get(3)?),
                muted_by: row.get(4)?,
                in_digest: row.get(5)?,
            })
        })?;
        let mut quiet = std::collections::BTreeSet::new();
        let mut symptoms = file.prepare(
            "SELECT rule, subject, fired_at, resolved_at IS NOT NULL FROM symptom WHERE incident = ?",
        )?;
        for row in rows {
            let row = row?;
            let fired = symptoms.query_map([&row.incident], |of| {
                let at = Timestamp::from_micros(of.get(2)?);
                Ok(Fired { rule: of.get(0)?, subject: of.get(1)?, at, resolved: of.get(3)? })
            })?;
            let fired: Vec<Fired> = fired.collect::<rusqlite::Result<_>>()?;
            let tells = |of: &&Fired| match of.rule.as_str() {
                SITE_SILENT | ALERTER_BLIND => true,
                rule => world.config.rules.iter().any(|known| {
                    *known.rule.name == *rule && known.notify.iter().any(|to| **to == *row.receiver)
                }),
            };
            let its: Vec<&Fired> = fired.iter().filter(tells).collect();
            let muted = |of: &&Fired| self.covers(world, of, row.created);
            let said = format!("{} to {} at {}, {:?}", row.incident, row.receiver, row.created, self.0);
            match row.standing.as_str() {
                "muted" | "silenced" => {
                    // What the alerter was not there for is muted by what was on then, too.
                    if !its.iter().any(|of| muted(of) || self.covers(world, of, of.at)) {
                        wrong.push(format!("muted, and no silence was on: {said}"));
                    }
                    let still = its.iter().filter(|of| !of.resolved);
                    if still.clone().any(|of| !self.covers(world, of, now)) {
                        wrong.push(format!("the silence is over, it fires, and nobody is told: {said}"));
                    }
                    if (row.standing == "muted") != (still.count() > 0 || fired.iter().any(|of| !of.resolved))
                    {
                        wrong.push(format!("open or over against what it is: {} {said}", row.standing));
                    }
                    quiet.insert(row.incident);
                }
                // When what is held back was held is not kept where the clock was set back.
                _ if row.in_digest => {}
                _ => {
                    if its.iter().all(muted) {
                        let was = row.muted_by.is_some();
                        wrong.push(format!("owed within a silence, muted before {was}: {said}"));
                    }
                }
            }
        }
        Ok(quiet.len())
    }
}

fn minutes(count: u64) -> Duration {
    Duration::from_secs(60 * count)
}
