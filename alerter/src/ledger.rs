//! The ledger: every notification owed, tried and accepted. It is written before anything is sent.
//!
//! What is owed is written in the transaction of the state that causes it, one row for each incident, state, receiver
//! and channel, so a receiver with a webhook and a command owes itself both. A row is done when its receiver accepted
//! it; until then it is tried again, for ever. Whoever is owed a `firing` is owed the `resolved` too, also when the
//! incident ends before the `firing` was accepted: that one might have arrived all the same.
//!
//! What falls into a silence is `muted`: nobody is told until the silence is over, and then of what still fires. An incident
//! that ends before is `silenced`, and owes nobody anything.
//!
//! What fires by what had lain in the queue for long is `behind` in the same way, until the queue was read to its end. What ends
//! before is `behind` with its end, and then told by a digest.
//!
//! What a receiver's `at_most` holds back goes in a digest. An incident whose `firing` only a digest told is
//! over for that channel when all of that digest are, and then the digest's own `resolved` says so. If it was told on its own
//! afterwards that it is worse, it has a `resolved` of its own, too.

/// The SQL condition by which a row `it` may be told: a `resolved`, and what refines a `firing`, only once the `firing` was
/// accepted. By itself or in a digest, else the receiver would hear of the end first, and of a page without an end then.
macro_rules! in_its_turn {
    () => {
        "NOT EXISTS (
             SELECT 1 FROM notification AS first
             WHERE first.id = it.id AND first.receiver = it.receiver AND first.channel = it.channel
                 AND first.state = 'firing' AND first.standing = 'owed'
                 AND (it.state != 'firing' OR first.revision < it.revision))"
    };
}

mod body;
mod destination;
mod digest;
mod peer;
#[cfg(test)]
mod tests;
mod tries;
mod turn;

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use crosswatch_judge::incident::{Ended, Event};
use crosswatch_judge::verdict::{Kind, Symptom};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told;
use rusqlite::{Connection, OptionalExtension as _, params};

use crate::at_most::History;
use crate::catch_up::{self, CATCH_UP};
use crate::config::Receiver;
use crate::drill::Drill;
use crate::peer::Rank;

pub(crate) use body::{AT_MOST, Body, Held};
pub(crate) use destination::{Destination, kind_of};
pub(crate) use peer::tell_before;
pub(crate) use tries::{Due, accepted, clock_set_back, due, failed, next_try, rest_until, totals};
pub(crate) use turn::{announce, others_turn};

/// How long after it was given up something may still be on its way, and be taken: a receiver has 10 s to accept.
const UNDER_WAY: Duration = Duration::from_secs(15);

impl Kept {
    /// How it stands in the ledger, and by what.
    fn words(&self) -> (&'static str, Option<&str>) {
        match self {
            Self::Muted(by) => ("muted", Some(by)),
            Self::Behind => ("behind", Some(CATCH_UP)),
        }
    }
}

/// Why a page is kept back for now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Kept {
    /// This silence mutes it.
    Muted(String),
    /// It is of the past, and there is more to read.
    Behind,
}

/// A symptom of an open incident, and whom it tells.
#[derive(Clone, Debug)]
pub(crate) struct Telling<'a> {
    pub(crate) symptom: &'a Symptom,
    pub(crate) receivers: &'a [Name],
    /// The silence that mutes it now.
    pub(crate) muted: Option<String>,
}

/// The rules of the ledger; the rows themselves are in the file each function is given.
#[derive(Clone, Debug)]
pub(crate) struct Ledger {
    destinations: Vec<Destination>,
    /// There is another alerter, which is told what was accepted.
    tells: bool,
}

impl Ledger {
    /// For these receivers.
    #[must_use]
    pub(crate) fn new(receivers: &[Receiver]) -> Self {
        Self { destinations: receivers.iter().flat_map(Destination::of).collect(), tells: false }
    }

    /// Of an alerter beside another one.
    #[must_use]
    pub(crate) fn beside(mut self, rank: Rank) -> Self {
        self.destinations.iter_mut().for_each(|to| to.patience = rank.patience());
        Self { tells: true, ..self }
    }

    /// Whether there is another alerter.
    pub(crate) fn is_beside(&self) -> bool {
        self.tells
    }

    /// The receiver accepted it; so the other alerter is told, if there is one. Gives whether it is.
    pub(crate) fn accepted(&self, file: &Connection, number: i64, now: Timestamp) -> rusqlite::Result<bool> {
        let tells = accepted(file, number, now)? && self.tells;
        if tells {
            peer::tell(file, number, now)?;
        }
        Ok(tells)
    }

    /// The other alerter says that a receiver has accepted something. Gives whether that was news.
    pub(crate) fn heard(
        &self,
        file: &Connection,
        told: &told::Told,
        now: Timestamp,
    ) -> rusqlite::Result<bool> {
        let is_it = |to: &&Destination| *to.receiver == *told.receiver && *to.channel == *told.channel;
        match self.destinations.iter().find(is_it) {
            Some(to) => peer::heard(file, told, to, now),
            // Of this config nobody is: it may be another's there.
            None => peer::heard(file, told, &Destination::unknown(&told.receiver, &told.channel), now),
        }
    }

    /// Every channel of every receiver.
    #[must_use]
    pub(crate) fn destinations(&self) -> &[Destination] {
        &self.destinations
    }

    /// A rule fires that tells these receivers, or would if it were not kept back: those of them are told who have not
    /// been of its incident.
    pub(crate) fn fired(
        &self,
        file: &Connection,
        event: &Event,
        symptom: &Symptom,
        receivers: &[Name],
        kept: Option<&Kept>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let body = Body::firing(event, symptom, "firing");
        for to in self.destinations.iter().filter(|to| receivers.contains(&to.receiver)) {
            match (first_told(file, &body.id, to)?, kept) {
                (None, None) => owe(file, &body, to, Message::Single, now)?,
                (None, Some(kept)) => owe(file, &body, to, Message::Kept(kept), now)?,
                (Some((first, standing)), None) if is_kept(&standing) => {
                    release(file, first, &body, to, now)?;
                }
                (Some((first, standing)), Some(Kept::Behind)) if standing == "muted" => {
                    keep(file, first, &Kept::Behind, now)?;
                }
                (Some(_), _) => {}
            }
        }
        Ok(())
    }

    /// What is kept back of an incident that fires on is told as it is now, to those for whom some of its symptoms is not muted:
    /// as far as it is due.
    pub(crate) fn release(
        &self,
        file: &Connection,
        event: &Event,
        symptoms: &[Telling<'_>],
        due: catch_up::Due,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        for to in &self.destinations {
            let mut its = symptoms.iter().filter(|of| of.receivers.contains(&to.receiver));
            let free = its.clone().find(|of| of.muted.is_none());
            let muted = its.next().and_then(|of| of.muted.as_deref());
            let told = told(file, &event.incident.id, to)?;
            for kept in told.iter().filter(|of| of.is_kept()) {
                match (free, muted) {
                    (None, Some(by)) if kept.standing == "behind" => {
                        keep(file, kept.number, &Kept::Muted(by.to_owned()), now)?
                    }
                    (None, _) => {}
                    (Some(_), _) if kept.created > due.fires => {}
                    (Some(free), _) if kept.revision == 0 => {
                        release(file, kept.number, &Body::firing(event, free.symptom, "firing"), to, now)?;
                    }
                    (Some(free), _) if event.incident.verdict.kind.is_down() => {
                        worsen(file, event, free.symptom, &told, to, now)?;
                    }
                    // What was worse for a while only: once it is again, that is news.
                    (Some(_), _) => abandon(file, kept.number, now)?,
                }
            }
        }
        Ok(())
    }

    /// What ended while the alerter was behind, as far as it is due: a digest tells of what began meanwhile, too; who was told
    /// before is told the end.
    pub(crate) fn release_ended(
        &self,
        file: &Connection,
        due: catch_up::Due,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        // Whether nobody was told that it fires.
        const NEW: &str = "EXISTS (SELECT 1 FROM notification AS first WHERE first.id = it.id
                 AND first.receiver = it.receiver AND first.channel = it.channel AND first.state = 'firing'
                 AND first.revision = 0 AND first.standing IN ('behind', 'held'))";
        const OVER: &str =
            "standing = 'behind' AND EXISTS (SELECT 1 FROM incident AS its WHERE its.id = it.id
                 AND resolved_at IS NOT NULL)";
        let any = file
            .prepare_cached(&format!(
                "SELECT 1 FROM notification AS it WHERE {OVER} AND {NEW} AND created <= ? LIMIT 1"
            ))?
            .exists([due.ended.as_micros()])?;
        if any {
            file.prepare_cached(&format!(
                "UPDATE notification AS it SET standing = 'held', created = ? WHERE {OVER} AND {NEW}"
            ))?
            .execute([now.as_micros()])?;
        }
        for to in &self.destinations {
            let ends: Vec<i64> = file
                .prepare_cached(&format!(
                    "SELECT number FROM notification AS it
                     WHERE standing = 'behind' AND state = 'resolved' AND receiver = ? AND channel = ? AND created <= ?
                         AND NOT {NEW} ORDER BY number"
                ))?
                .query_map(params![to.receiver, to.channel, due.fires.as_micros()], |row| row.get(0))?
                .collect::<rusqlite::Result<_>>()?;
            for number in ends {
                file.prepare_cached(
                    "UPDATE notification SET standing = ?2, created = ?3, next_try = ?4 WHERE number = ?1",
                )?
                .execute(params![
                    number,
                    standing(file, to, now)?,
                    now.as_micros(),
                    (now + to.patience).as_micros()
                ])?;
            }
        }
        Ok(())
    }

    /// What the other alerter has told meanwhile is known now: the rest is tried, each when its patience is over.
    pub(crate) fn go_on(&self, file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        for to in &self.destinations {
            let patience = i64::try_from(to.patience.as_micros()).unwrap_or(i64::MAX);
            file.prepare_cached(
                "UPDATE notification SET next_try = min(next_try, max(?3, created + ?4))
                 WHERE standing IN ('owed', 'held') AND receiver = ?1 AND channel = ?2",
            )?
            .execute(params![to.receiver, to.channel, now.as_micros(), patience])?;
        }
        Ok(())
    }

    /// More is known of an incident: a webhook is told once more, which its receiver knows by the id. Where the limit has no
    /// room it is not: the end tells the verdict, too, and nothing is held back for this.
    pub(crate) fn refined(&self, file: &Connection, event: &Event, now: Timestamp) -> rusqlite::Result<()> {
        let Some(symptom) = event.incident.symptoms.last() else {
            return Ok(());
        };
        let mut body = Body::firing(event, symptom, "firing");
        for to in self.destinations.iter().filter(|to| &*to.channel == "webhook") {
            let told = told(file, &body.id, to)?;
            let (Some(first), Some(newest)) = (told.first(), told.last()) else {
                continue;
            };
            // What is kept back is told as it is then, and whom a digest tells knows the digest, and no page to refine.
            let is_paged = !["silenced", "held", "digested"].contains(&&*first.standing);
            if !is_paged || told.iter().any(Told::is_kept) {
                continue;
            }
            // Of what is known now only the newest is worth telling; but that it is worse is what somebody must hear.
            if newest.revision > 0 && newest.standing == "owed" && !newest.is_worse {
                abandon(file, newest.number, now)?;
            }
            if let Some(limit) = to.at_most
                && !history(file, to, now)?.admits(limit, now)
            {
                continue;
            }
            body.revision = newest.revision + 1;
            body.worse = told.iter().any(|of| of.is_worse && of.standing != "abandoned");
            owe(file, &body, to, Message::Single, now)?;
        }
        Ok(())
    }

    /// What only worked less well is down: all who were told, and not that it is down, are told once more, on every channel,
    /// unless it is kept back.
    pub(crate) fn worse(
        &self,
        file: &Connection,
        event: &Event,
        kept: Option<&Kept>,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let Some(symptom) = event.incident.symptoms.last() else {
            return Ok(());
        };
        for to in &self.destinations {
            let told = told(file, &event.incident.id, to)?;
            let (Some(first), Some(newest)) = (told.first(), told.last()) else {
                continue;
            };
            // Who was told nothing is told all once that is kept back no more.
            let untold = first.is_kept() || first.standing == "silenced";
            if untold || told.iter().any(Told::tells_down) {
                continue;
            }
            match (told.iter().find(|of| of.is_kept()), kept) {
                (_, None) => worsen(file, event, symptom, &told, to, now)?,
                (Some(kept), Some(Kept::Behind)) if kept.standing == "muted" => {
                    keep(file, kept.number, &Kept::Behind, now)?;
                }
                (Some(_), Some(_)) => {}
                (None, Some(kept)) => {
                    let mut body = Body::firing(event, symptom, "worse");
                    body.revision = newest.revision + 1;
                    owe(file, &body, to, Message::Kept(kept), now)?;
                }
            }
        }
        Ok(())
    }

    /// An incident was closed: tells all who were owed its `firing`, whoever its rules would tell now. One of the past is kept
    /// back, since the other alerter may have told of it.
    pub(crate) fn resolved(
        &self,
        file: &Connection,
        event: &Event,
        ended: &Ended,
        past: bool,
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        let message = if past { Message::Kept(&Kept::Behind) } else { Message::Single };
        let body = Body::resolved(event, ended);
        for to in &self.destinations {
            let told = told(file, &body.id, to)?;
            let Some(first) = told.first() else {
                continue;
            };
            // Of what came after the first nothing needs to be said any more.
            let unsaid = |of: &&Told| of.is_kept() || ["owed", "held"].contains(&&*of.standing);
            for later in told.iter().skip(1).filter(unsaid) {
                abandon(file, later.number, now)?;
            }
            let mut digests: Vec<&String> = told.iter().filter_map(|of| of.digest.as_ref()).collect();
            digests.dedup();
            for digest in digests {
                digest::resolve(file, digest, to, message, ended.at, now)?;
            }
            // It was told by a digest, and then on its own that it is worse: each of them has its end.
            let alone = |of: &Told| of.digest.is_none() && ["accepted", "owed"].contains(&&*of.standing);
            let alone = told.iter().skip(1).any(alone);
            match (&*first.standing, &first.digest) {
                ("held", _) => owe(file, &body, to, Message::Held, now)?,
                ("muted", _) => silenced(file, first.number)?,
                ("behind", _) => owe(file, &body, to, Message::Kept(&Kept::Behind), now)?,
                ("silenced", _) => {}
                (_, Some(_)) if !alone => {}
                _ => owe(file, &body, to, message, now)?,
            }
        }
        Ok(())
    }

    /// A drill: these receivers get a firing and its resolved, both marked, whatever room their limits have.
    pub(crate) fn drill(
        &self,
        file: &Connection,
        drill: &Drill,
        receivers: &[Name],
        now: Timestamp,
    ) -> rusqlite::Result<()> {
        for to in self.destinations.iter().filter(|to| receivers.contains(&to.receiver)) {
            for state in ["firing", "resolved"] {
                owe(file, &Body::drill(drill, state), to, Message::Drill, now)?;
            }
        }
        Ok(())
    }

    /// When the next digest is due; `None` when nothing is held back, or all of it waits for a digest before it.
    pub(crate) fn next_digest(
        &self,
        file: &Connection,
        now: Timestamp,
    ) -> rusqlite::Result<Option<Timestamp>> {
        let mut next: Option<Timestamp> = None;
        for to in &self.destinations {
            if let Some(due) = history(file, to, now)?.digest_due(to.at_most) {
                next = Some(next.map_or(due, |next| next.min(due)));
            }
        }
        Ok(next)
    }

    /// Makes the digests that are due.
    pub(crate) fn make_digests(&self, file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
        for to in &self.destinations {
            let due = history(file, to, now)?.digest_due(to.at_most);
            if due.is_some_and(|due| due <= now) {
                digest::make(file, to, now)?;
            }
        }
        Ok(())
    }

    /// Gives up what is owed to receivers and channels that the config has no more: how many to whom.
    pub(crate) fn abandon(&self, file: &Connection) -> rusqlite::Result<Vec<(String, String, i64)>> {
        let owed: Vec<(String, String, i64)> = file
            .prepare_cached(
                "SELECT receiver, channel, count(*) FROM notification
                 WHERE standing IN ('owed', 'held', 'muted', 'behind')
                 GROUP BY receiver, channel",
            )?
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
            .collect::<rusqlite::Result<_>>()?;
        let gone = owed.into_iter().filter(|(receiver, channel, _)| {
            let is_it = |to: &Destination| *to.receiver == **receiver && *to.channel == **channel;
            !self.destinations.iter().any(is_it)
        });
        let gone: Vec<_> = gone.collect();
        for (receiver, channel, _) in &gone {
            file.execute(
                "UPDATE notification SET standing = 'abandoned'
                 WHERE receiver = ? AND channel = ? AND standing IN ('owed', 'held', 'muted', 'behind')",
                params![receiver, channel],
            )?;
        }
        Ok(gone)
    }
}

/// A `firing` that was written.
struct Told {
    number: i64,
    revision: u32,
    standing: String,
    digest: Option<String>,
    created: Timestamp,
    /// It says that it is worse.
    is_worse: bool,
    /// It says, or what the other alerter told in its place, that something is down altogether.
    is_down: bool,
}

impl Told {
    /// Whether it waits for the end of a silence, or of catching up.
    fn is_kept(&self) -> bool {
        is_kept(&self.standing)
    }

    /// Whether somebody is paged by it for what is down. What only refines pages nobody.
    fn tells_down(&self) -> bool {
        let is_told = ["owed", "held", "digested", "accepted"].contains(&&*self.standing);
        is_told && self.is_down && (self.revision == 0 || self.is_worse)
    }
}

fn is_kept(standing: &str) -> bool {
    ["muted", "behind"].contains(&standing)
}

/// The first of what a destination was, or will be, told of an incident, and how that stands: asked for with each symptom, and so
/// without a look into what it says.
fn first_told(file: &Connection, id: &str, to: &Destination) -> rusqlite::Result<Option<(i64, String)>> {
    file.prepare_cached(
        "SELECT number, standing FROM notification
         WHERE id = ? AND receiver = ? AND channel = ? AND state = 'firing' ORDER BY revision LIMIT 1",
    )?
    .query_row(params![id, to.receiver, to.channel], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

/// What a destination was, or will be, told of an incident that fires, the first of it first.
fn told(file: &Connection, id: &str, to: &Destination) -> rusqlite::Result<Vec<Told>> {
    file.prepare_cached(
        "SELECT number, revision, standing, digest, created, json_extract(body, '$.text') GLOB 'WORSE *',
                json_extract(body, '$.verdict'),
                (SELECT max(down) FROM heard WHERE heard.id = told_as AND heard.receiver = notification.receiver
                     AND heard.channel = notification.channel AND heard.state = 'firing')
         FROM notification
         WHERE id = ? AND receiver = ? AND channel = ? AND state = 'firing' ORDER BY revision",
    )?
    .query_map(params![id, to.receiver, to.channel], |row| {
        let (verdict, heard): (Option<String>, Option<bool>) = (row.get(6)?, row.get(7)?);
        let is_down = verdict.and_then(|word| Kind::of_word(&word)).is_some_and(Kind::is_down);
        Ok(Told {
            number: row.get(0)?,
            revision: row.get(1)?,
            standing: row.get(2)?,
            digest: row.get(3)?,
            created: Timestamp::from_micros(row.get(4)?),
            is_worse: row.get::<_, Option<bool>>(5)?.unwrap_or(false),
            is_down: heard.unwrap_or(is_down),
        })
    })?
    .collect()
}

/// It is down: who was told that it works less well is told so. Whom a limit kept from being told anything yet is told that it
/// fires as it is now, on its own if there is room by now.
fn worsen(
    file: &Connection,
    event: &Event,
    symptom: &Symptom,
    told: &[Told],
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let (Some(first), Some(newest)) = (told.first(), told.last()) else {
        return Ok(());
    };
    let kept = told.iter().find(|of| of.is_kept());
    if first.standing == "held" {
        kept.map_or(Ok(()), |kept| abandon(file, kept.number, now))?;
        return release(file, first.number, &Body::firing(event, symptom, "firing"), to, now);
    }
    let mut body = Body::firing(event, symptom, "worse");
    let Some(kept) = kept else {
        body.revision = newest.revision + 1;
        return owe(file, &body, to, Message::Single, now);
    };
    body.revision = kept.revision;
    if told.iter().any(Told::tells_down) {
        return abandon(file, kept.number, now);
    }
    release(file, kept.number, &body, to, now)
}

/// Nothing needs to be said of it any more. A try of it may be under way all the same, unless it was kept back.
fn abandon(file: &Connection, number: i64, now: Timestamp) -> rusqlite::Result<()> {
    file.prepare_cached(
        "UPDATE notification SET next_try = iif(standing IN ('muted', 'behind'), 0, ?2), standing = 'abandoned'
         WHERE number = ?1",
    )?
    .execute(params![number, now.as_micros()])?;
    Ok(())
}

/// It began and ended within a silence.
fn silenced(file: &Connection, number: i64) -> rusqlite::Result<()> {
    file.prepare_cached("UPDATE notification SET standing = 'silenced' WHERE number = ?")?
        .execute([number])?;
    Ok(())
}

/// The incidents of which something is kept back.
pub(crate) fn kept(file: &Connection) -> rusqlite::Result<HashSet<String>> {
    file.prepare_cached(
        "SELECT id FROM notification WHERE standing = 'muted' UNION SELECT id FROM notification WHERE standing = 'behind'",
    )?
    .query_map([], |row| row.get(0))?
    .collect()
}

/// It is kept back for this from now on.
fn keep(file: &Connection, number: i64, kept: &Kept, now: Timestamp) -> rusqlite::Result<()> {
    let (standing, by) = kept.words();
    file.prepare_cached(
        "UPDATE notification SET standing = ?2, muted_by = ?3, created = ?4 WHERE number = ?1",
    )?
    .execute(params![number, standing, by, now.as_micros()])?;
    Ok(())
}

fn json(body: &Body) -> rusqlite::Result<String> {
    serde_json::to_string(body).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))
}

/// What a row is, which decides how the limit sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Message<'a> {
    /// Nobody is told for now.
    Kept(&'a Kept),
    /// Tried on its own if the limit has room, else held back.
    Single,
    /// Held back whatever room there is.
    Held,
    /// A digest, which was made when there was room for it, of what may be tried from then on.
    Digest(Timestamp),
    /// Of a drill: the limit does not see it.
    Drill,
}

/// Writes a row; one that is there already stays as it is.
fn owe(
    file: &Connection,
    body: &Body,
    to: &Destination,
    message: Message<'_>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let patience = now + to.patience_with(body);
    let next_try = match message {
        Message::Digest(then) => then.max(patience),
        _ => patience,
    };
    let (standing, muted_by) = match message {
        Message::Held => ("held", None),
        Message::Single => (standing(file, to, now)?, None),
        Message::Digest(_) | Message::Drill => ("owed", None),
        Message::Kept(kept) => kept.words(),
    };
    let said = said(file, body, to)?;
    file.prepare_cached(
        "INSERT OR IGNORE INTO notification
             (id, state, revision, receiver, channel, body, is_digest, standing, created, next_try, muted_by)
         VALUES (?1, ?2, ?9, ?3, ?4, ?5, ?6, ?7, ?8, ?11, ?10)",
    )?
    .execute(params![
        body.id,
        body.state,
        to.receiver,
        to.channel,
        json(&said)?,
        matches!(message, Message::Digest(_)),
        standing,
        now.as_micros(),
        body.revision,
        muted_by,
        next_try.as_micros(),
    ])?;
    match message {
        Message::Digest(_) => Ok(()),
        _ => peer::settle(file, &said, &body.id, to, now),
    }
}

/// What its receiver is told: it may know the incident by another id.
fn said<'a>(file: &Connection, body: &'a Body, to: &Destination) -> rusqlite::Result<Cow<'a, Body>> {
    let known_as = match (&*body.state, body.revision) {
        ("firing", 0) => None,
        _ => peer::known_as(file, &body.id, to)?,
    };
    Ok(match known_as {
        Some(id) => Cow::Owned(Body { id, ..body.clone() }),
        None => Cow::Borrowed(body),
    })
}

/// How a single message stands that is owed from now on: it is tried if the limit has room, else held back.
fn standing(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<&'static str> {
    let admitted = match to.at_most {
        Some(limit) => history(file, to, now)?.admits(limit, now),
        None => true,
    };
    Ok(if admitted { "owed" } else { "held" })
}

/// Owes what was kept or held back from now on, with what is known now. What stays held is not for longer.
fn release(
    file: &Connection,
    number: i64,
    body: &Body,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<()> {
    file.prepare_cached(
        "UPDATE notification SET standing = ?2, body = ?3, next_try = ?5,
             created = iif(standing = 'held' AND ?2 = 'held', created, ?4)
         WHERE number = ?1",
    )?
    .execute(params![
        number,
        standing(file, to, now)?,
        json(&*said(file, body, to)?)?,
        now.as_micros(),
        (now + to.patience_with(body)).as_micros()
    ])?;
    Ok(())
}

fn history(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<History> {
    let at = params![to.receiver, to.channel];
    let held_since: Option<i64> = file
        .prepare_cached(concat!(
            "SELECT min(created) FROM notification AS it
             WHERE standing = 'held' AND receiver = ? AND channel = ? AND ",
            in_its_turn!(),
        ))?
        .query_row(at, |row| row.get(0))?;
    let Some(limit) = to.at_most else {
        let held_since = held_since.map(Timestamp::from_micros);
        return Ok(History { held_since, ..History::default() });
    };
    let (waiting, digests_waiting): (u32, u32) = file
        .prepare_cached(
            "SELECT count(*) - ifnull(sum(is_digest), 0), ifnull(sum(is_digest), 0) FROM notification
             WHERE standing = 'owed' AND receiver = ? AND channel = ? AND id NOT GLOB 'drill-*'",
        )?
        .query_row(at, |row| Ok((row.get(0)?, row.get(1)?)))?;
    let under_way: u32 = file
        .prepare_cached(
            "SELECT count(*) FROM notification
             WHERE standing = 'abandoned' AND receiver = ? AND channel = ? AND next_try > ?",
        )?
        .query_row(params![to.receiver, to.channel, (now - UNDER_WAY).as_micros()], |row| row.get(0))?;
    let accepted = file
        .prepare_cached(
            "SELECT accepted_at FROM notification
             WHERE standing = 'accepted' AND receiver = ? AND channel = ? AND is_digest = 0 AND accepted_at > ?
                 AND id NOT GLOB 'drill-*'",
        )?
        .query_map(
            params![to.receiver, to.channel, (now - limit.per).as_micros()],
            |row| row.get(0).map(Timestamp::from_micros),
        )?
        .collect::<rusqlite::Result<_>>()?;
    let last_digest: Option<i64> = file
        .prepare_cached(
            "SELECT max(accepted_at) FROM notification
             WHERE standing = 'accepted' AND receiver = ? AND channel = ? AND is_digest = 1",
        )?
        .query_row(at, |row| row.get(0))?;
    Ok(History {
        waiting: usize::try_from(waiting.saturating_add(under_way)).unwrap_or(usize::MAX),
        accepted,
        digest_waiting: digests_waiting > 0,
        last_digest: last_digest.map(Timestamp::from_micros),
        held_since: held_since.map(Timestamp::from_micros),
    })
}
