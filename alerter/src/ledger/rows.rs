//! The rows of the ledger: how they are written, what stands in them, and how they come to stand otherwise. When that is to be is
//! not decided here.

use std::borrow::Cow;
use std::collections::HashSet;
use std::time::Duration;

use crosswatch_judge::verdict::Kind;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Body, Destination, Kept, peer};
use crate::at_most::History;
use crate::json;

/// How long after it was given up something may still be on its way, and be taken: a receiver has 10 s to accept.
const UNDER_WAY: Duration = Duration::from_secs(15);

/// What ended while it was kept back, since the alerter was behind.
const OVER: &str = "standing = 'behind' AND EXISTS (SELECT 1 FROM incident AS its WHERE its.id = it.id
    AND resolved_at IS NOT NULL)";

/// That nobody was told of a row's incident that it fires.
const NEW: &str = "EXISTS (SELECT 1 FROM notification AS first WHERE first.id = it.id
    AND first.receiver = it.receiver AND first.channel = it.channel AND first.state = 'firing'
    AND first.revision = 0 AND first.standing IN ('behind', 'held'))";

/// What a row is, which decides how the limit sees it.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Message<'a> {
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

/// A `firing` that was written.
pub(super) struct Told {
    pub(super) number: i64,
    pub(super) revision: u32,
    pub(super) standing: String,
    pub(super) digest: Option<String>,
    pub(super) created: Timestamp,
    /// It says that it is worse.
    pub(super) is_worse: bool,
    /// It says, or what the other alerter told in its place, that something is down altogether.
    pub(super) is_down: bool,
}

impl Told {
    /// Whether it waits for the end of a silence, or of catching up.
    pub(super) fn is_kept(&self) -> bool {
        is_kept(&self.standing)
    }

    /// Whether somebody is paged by it for what is down. What only refines pages nobody.
    pub(super) fn tells_down(&self) -> bool {
        let is_told = ["owed", "held", "digested", "accepted"].contains(&&*self.standing);
        is_told && self.is_down && (self.revision == 0 || self.is_worse)
    }
}

pub(super) fn is_kept(standing: &str) -> bool {
    ["muted", "behind"].contains(&standing)
}

/// The first of what a destination was, or will be, told of an incident, and how that stands: asked for with each symptom, and so
/// without a look into what it says.
pub(super) fn first_told(
    file: &Connection,
    id: &str,
    to: &Destination,
) -> rusqlite::Result<Option<(i64, String)>> {
    file.prepare_cached(
        "SELECT number, standing FROM notification
         WHERE id = ? AND receiver = ? AND channel = ? AND state = 'firing' ORDER BY revision LIMIT 1",
    )?
    .query_row(params![id, to.receiver, to.channel], |row| Ok((row.get(0)?, row.get(1)?)))
    .optional()
}

/// What a destination was, or will be, told of an incident that fires, the first of it first.
pub(super) fn told(file: &Connection, id: &str, to: &Destination) -> rusqlite::Result<Vec<Told>> {
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

/// Writes a row; one that is there already stays as it is.
pub(super) fn owe(
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
        json::write(&*said)?,
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

/// Owes what was kept or held back from now on, with what is known now. What stays held is not for longer.
pub(super) fn release(
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
        json::write(&*said(file, body, to)?)?,
        now.as_micros(),
        (now + to.patience_with(body)).as_micros()
    ])?;
    Ok(())
}

/// Nothing needs to be said of it any more. A try of it may be under way all the same, unless it was kept back.
pub(super) fn abandon(file: &Connection, number: i64, now: Timestamp) -> rusqlite::Result<()> {
    file.prepare_cached(
        "UPDATE notification SET next_try = iif(standing IN ('muted', 'behind'), 0, ?2), standing = 'abandoned'
         WHERE number = ?1",
    )?
    .execute(params![number, now.as_micros()])?;
    Ok(())
}

/// It began and ended within a silence.
pub(super) fn silenced(file: &Connection, number: i64) -> rusqlite::Result<()> {
    file.prepare_cached("UPDATE notification SET standing = 'silenced' WHERE number = ?")?
        .execute([number])?;
    Ok(())
}

/// It is kept back for this from now on.
pub(super) fn keep(file: &Connection, number: i64, kept: &Kept, now: Timestamp) -> rusqlite::Result<()> {
    let (standing, by) = kept.words();
    file.prepare_cached(
        "UPDATE notification SET standing = ?2, muted_by = ?3, created = ?4 WHERE number = ?1",
    )?
    .execute(params![number, standing, by, now.as_micros()])?;
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

/// What began and ended while the alerter was behind is held for a digest, all of it once some of it is from this time or before.
pub(super) fn hold_ended(file: &Connection, due: Timestamp, now: Timestamp) -> rusqlite::Result<()> {
    let any = file
        .prepare_cached(&format!(
            "SELECT 1 FROM notification AS it WHERE {OVER} AND {NEW} AND created <= ? LIMIT 1"
        ))?
        .exists([due.as_micros()])?;
    if any {
        file.prepare_cached(&format!(
            "UPDATE notification AS it SET standing = 'held', created = ? WHERE {OVER} AND {NEW}"
        ))?
        .execute([now.as_micros()])?;
    }
    Ok(())
}

/// The ends of what a destination was told before, kept back since this time or longer.
pub(super) fn kept_ends(file: &Connection, to: &Destination, due: Timestamp) -> rusqlite::Result<Vec<i64>> {
    file.prepare_cached(&format!(
        "SELECT number FROM notification AS it
         WHERE standing = 'behind' AND state = 'resolved' AND receiver = ? AND channel = ? AND created <= ?
             AND NOT {NEW} ORDER BY number"
    ))?
    .query_map(params![to.receiver, to.channel, due.as_micros()], |row| row.get(0))?
    .collect()
}

/// Owes an end that was kept back from now on.
pub(super) fn release_end(
    file: &Connection,
    number: i64,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<()> {
    file.prepare_cached(
        "UPDATE notification SET standing = ?2, created = ?3, next_try = ?4 WHERE number = ?1",
    )?
    .execute(params![
        number,
        standing(file, to, now)?,
        now.as_micros(),
        (now + to.patience).as_micros()
    ])?;
    Ok(())
}

/// What a destination is owed is tried once the other alerter had its time to tell it.
pub(super) fn go_on(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<()> {
    let patience = i64::try_from(to.patience.as_micros()).unwrap_or(i64::MAX);
    file.prepare_cached(
        "UPDATE notification SET next_try = min(next_try, max(?3, created + ?4))
         WHERE standing IN ('owed', 'held') AND receiver = ?1 AND channel = ?2",
    )?
    .execute(params![to.receiver, to.channel, now.as_micros(), patience])?;
    Ok(())
}

/// How much is owed, now or once it is kept or held back no more: to which receiver, on which channel, how many.
pub(super) fn owed(file: &Connection) -> rusqlite::Result<Vec<(String, String, i64)>> {
    file.prepare_cached(
        "SELECT receiver, channel, count(*) FROM notification
         WHERE standing IN ('owed', 'held', 'muted', 'behind')
         GROUP BY receiver, channel",
    )?
    .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
    .collect()
}

/// Gives up all that is owed there.
pub(super) fn abandon_all(file: &Connection, receiver: &str, channel: &str) -> rusqlite::Result<()> {
    file.execute(
        "UPDATE notification SET standing = 'abandoned'
         WHERE receiver = ? AND channel = ? AND standing IN ('owed', 'held', 'muted', 'behind')",
        params![receiver, channel],
    )?;
    Ok(())
}

/// How a single message stands that is owed from now on: it is tried if the limit has room, else held back.
fn standing(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<&'static str> {
    let admitted = match to.at_most {
        Some(limit) => history(file, to, now)?.admits(limit, now),
        None => true,
    };
    Ok(if admitted { "owed" } else { "held" })
}

/// What the limit of a destination sees.
pub(super) fn history(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<History> {
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
