//! The other alerter: what it was told by this one, and what it says that receivers have accepted.
//!
//! Both judge the same, each by a queue of its own, and both owe the same. What a receiver has accepted of one of them is
//! done for the other. What the other says is kept, since it may come before what it is of: then that is done as soon as it is
//! written.
//!
//! What an alerter says of its own files is no other's: `config-refused` is neither told nor waited with.
//!
//! An incident's id is made of the first of what fired, so both have the same, as a rule. Where batches came in another order it
//! may be another; then what the other says is taken for the incident of the same place that began about then, unless either
//! was over before the other began, and the receiver is told its end by the id that it knows.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told::{Member, Told};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Body, Destination, digest};
use crate::refused::CONFIG_REFUSED;

/// How far apart both may say that an incident began.
const NEAR: Duration = Duration::from_secs(300);

/// For how long it is kept what the other said: longer than its queue keeps anything.
const KEPT: Duration = Duration::from_secs(15 * 24 * 3600);

/// So many of a digest are told by one message; a queue takes no longer ones than 1 MiB.
const MEMBERS: usize = 1_000;

/// What is not done yet, and need not be done by both.
const OPEN: &str = "told_as IS NULL AND (standing IN ('owed', 'held', 'muted', 'behind')
    OR (standing = 'digested' AND EXISTS (SELECT 1 FROM notification AS whole WHERE whole.id = notification.digest
        AND whole.is_digest AND whole.standing = 'owed')))";

/// The id by which a row's receiver knows its incident.
const KNOWN: &str = "ifnull((SELECT first.told_as FROM notification AS first WHERE first.id = notification.id
    AND first.receiver = notification.receiver AND first.channel = notification.channel
    AND first.state = 'firing' AND first.revision = 0), notification.id)";

/// A receiver has accepted a row: the other alerter is to be told.
pub(super) fn tell(file: &Connection, number: i64, at: Timestamp) -> rusqlite::Result<()> {
    let (local, state, revision, receiver, channel, body): (String, String, u32, String, String, String) =
        file.prepare_cached(
            "SELECT id, state, revision, receiver, channel, body FROM notification WHERE number = ?",
        )?
        .query_row([number], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?, row.get(4)?, row.get(5)?))
        })?;
    let Ok(body) = serde_json::from_str::<Body>(&body) else {
        return Ok(());
    };
    if body.is_own() {
        return Ok(());
    }
    let mut members = file.prepare_cached(
        "SELECT json_extract(body, '$.id'), state, revision, json_extract(body, '$.place'), json_extract(body, '$.since') FROM notification
         WHERE digest = ? AND receiver = ? AND channel = ? AND told_as IS NULL AND json_extract(body, '$.rule') != ?
         ORDER BY number",
    )?;
    let members = members.query_map(params![local, receiver, channel, CONFIG_REFUSED], |row| {
        let since: Option<String> = row.get(4)?;
        Ok(Member {
            id: row.get(0)?,
            state: row.get(1)?,
            revision: row.get(2)?,
            place: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            since: since.and_then(|since| since.parse().ok()),
        })
    })?;
    let members: Vec<Member> = members.collect::<rusqlite::Result<_>>()?;
    let Body { id, place, since, text, held, .. } = body;
    let mut told = Told { id, state, revision, receiver, channel, place, since, at, text, held: None };
    if held.is_none() || members.is_empty() {
        told.held = held.map(|_| members);
        return put(file, &told);
    }
    members.chunks(MEMBERS).try_for_each(|some| {
        told.held = Some(some.to_vec());
        put(file, &told)
    })
}

/// An alerter that was alone is beside another one now, whose queue begins with what collectors kept: that one is told all
/// that was accepted meanwhile.
pub(crate) fn tell_before(file: &Connection, now: Timestamp) -> rusqlite::Result<()> {
    // A sequence begins with the first row.
    let told = file.prepare_cached("SELECT 1 FROM sqlite_sequence WHERE name = 'outbox'")?.exists([])?;
    if told {
        return Ok(());
    }
    let accepted: Vec<(i64, i64)> = file
        .prepare_cached(
            "SELECT number, accepted_at FROM notification
             WHERE standing = 'accepted' AND accepted_at > ? AND told_as IS NULL ORDER BY number",
        )?
        .query_map([(now - KEPT).as_micros()], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    accepted.into_iter().try_for_each(|(number, at)| tell(file, number, Timestamp::from_micros(at)))
}

/// It is told as soon as the other's queue takes it.
fn put(file: &Connection, told: &Told) -> rusqlite::Result<()> {
    let told =
        serde_json::to_string(told).map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
    file.prepare_cached("INSERT INTO outbox (told) VALUES (?)")?.execute([told])?;
    Ok(())
}

/// The other alerter says that a receiver has accepted something. Gives whether that was news.
pub(crate) fn heard(file: &Connection, told: &Told, now: Timestamp) -> rusqlite::Result<bool> {
    let single = Member {
        id: told.id.clone(),
        state: told.state.clone(),
        revision: told.revision,
        place: told.place.clone(),
        since: told.since,
    };
    let digest = told.held.as_ref().map(|_| told.id.as_str());
    let is_new = keep(file, told, &single, None)?;
    let mut news = is_new;
    if is_new && digest.is_some() {
        // So that its end, too, is the same one.
        file.prepare_cached(
            "INSERT INTO notification (id, state, revision, receiver, channel, body, is_digest, standing, created,
                                                 next_try, accepted_at, told_as)
             VALUES (?1, ?2, 0, ?3, ?4, json_object('text', ?5), 1, 'accepted', ?6, ?6, ?7, ?1)
             ON CONFLICT DO UPDATE SET standing = 'accepted', accepted_at = excluded.accepted_at, told_as = excluded.told_as
             WHERE standing != 'accepted'",
        )?
        .execute(params![
            told.id,
            told.state,
            told.receiver,
            told.channel,
            told.text,
            now.as_micros(),
            told.at.as_micros()
        ])?;
    } else if is_new {
        of_row(file, told, &single, None)?;
    }
    // A long digest comes in several parts.
    for member in told.held.iter().flatten() {
        let is_known = !keep(file, told, member, digest)?;
        if is_new || !is_known {
            of_row(file, told, member, digest)?;
            news = true;
        }
    }
    if news {
        file.prepare_cached("DELETE FROM heard WHERE at < ?")?.execute([(now - KEPT).as_micros()])?;
    }
    Ok(news)
}

/// Remembers it; `false` for what is known.
fn keep(file: &Connection, told: &Told, of: &Member, digest: Option<&str>) -> rusqlite::Result<bool> {
    let kept = file
        .prepare_cached(
            "INSERT OR IGNORE INTO heard (id, state, revision, receiver, channel, place, since, at, digest)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            of.id,
            of.state,
            of.revision,
            told.receiver,
            told.channel,
            of.place,
            of.since.map(Timestamp::as_micros),
            told.at.as_micros(),
            digest
        ])?;
    Ok(kept > 0)
}

/// The row that it is of is done, if there is one.
fn of_row(file: &Connection, told: &Told, of: &Member, whole: Option<&str>) -> rusqlite::Result<()> {
    let by_id: Option<i64> = file
        .prepare_cached(&format!(
            "SELECT number FROM notification
             WHERE receiver = ?1 AND channel = ?2 AND state = ?3 AND (revision > 0) = ?4 AND {OPEN}
                 AND (id = ?5 OR id = (SELECT ours FROM alias WHERE theirs = ?5)
                      OR id IN (SELECT known.id FROM notification AS known WHERE known.told_as = ?5))
                 AND (state = 'firing' OR {KNOWN} = ?5)
             ORDER BY revision LIMIT 1"
        ))?
        .query_row(params![told.receiver, told.channel, of.state, of.revision > 0, of.id], |row| row.get(0))
        .optional()?;
    let mut found = by_id;
    if found.is_none() && of.state == "firing" && of.revision == 0 && !is_ours(file, &of.id)? {
        found = nearest_row(file, told, of, whole)?;
        if let Some(number) = found {
            alias(file, number, &of.id)?;
        }
    }
    let Some(number) = found else {
        // An incident here is several there: the receiver knows the last of them.
        if of.state == "firing" && of.revision == 0 {
            file.prepare_cached(
                "UPDATE notification SET told_as = ?3
                 WHERE receiver = ?1 AND channel = ?2 AND state = 'firing' AND revision = 0 AND told_as IS NOT NULL
                     AND told_as != ?3 AND NOT is_digest
                     AND id IN (SELECT id FROM incident WHERE place = ?4 AND resolved_at IS NULL)
                     AND EXISTS (SELECT 1 FROM heard WHERE heard.id = notification.told_as AND heard.state = 'resolved'
                                 AND heard.receiver = ?1 AND heard.channel = ?2)",
            )?
            .execute(params![told.receiver, told.channel, of.id, of.place])?;
        }
        return Ok(());
    };
    let before: Option<String> = file
        .prepare_cached("SELECT digest FROM notification WHERE number = ?")?
        .query_row([number], |row| row.get(0))?;
    done(file, number, &of.id, whole, told.at)?;
    left(file, before, whole, &told.receiver, &told.channel)
}

/// A row of the place whose incident began about then. What was over before the other began is not the same.
fn nearest_row(
    file: &Connection,
    told: &Told,
    of: &Member,
    whole: Option<&str>,
) -> rusqlite::Result<Option<i64>> {
    let Some(since) = of.since else { return Ok(None) };
    file.prepare_cached(&format!(
        "SELECT number FROM notification JOIN incident USING (id)
         WHERE receiver = ?1 AND channel = ?2 AND notification.state = 'firing' AND revision = 0 AND {OPEN}
             AND place = ?3 AND abs(opened_at - ?4) <= ?5 AND ifnull(resolved_at >= ?4, true)
             AND NOT EXISTS (SELECT 1 FROM heard AS ended WHERE ended.id IN (?6, ?7) AND ended.state = 'resolved'
                 AND ended.receiver = ?1 AND ended.channel = ?2 AND ended.at < opened_at)
         ORDER BY abs(opened_at - ?4) LIMIT 1"
    ))?
    .query_row(
        params![told.receiver, told.channel, of.place, since.as_micros(), micros(NEAR), of.id, whole],
        |row| row.get(0),
    )
    .optional()
}

/// A row was written, or is told now: if the other alerter has said that its receiver accepted it, it is done.
pub(super) fn settle(file: &Connection, body: &Body, row: &str, to: &Destination) -> rusqlite::Result<()> {
    let is_any = file.prepare_cached("SELECT 1 FROM heard LIMIT 1")?.exists([])?;
    if !is_any || body.is_own() {
        return Ok(());
    }
    let (receiver, channel) = (&to.receiver, &to.channel);
    let number: Option<i64> = file
        .prepare_cached(&format!(
            "SELECT number FROM notification
             WHERE id = ? AND state = ? AND revision = ? AND receiver = ? AND channel = ? AND {OPEN}"
        ))?
        .query_row(params![row, body.state, body.revision, receiver, channel], |row| row.get(0))
        .optional()?;
    let Some(number) = number else { return Ok(()) };
    // Of what refines or tells that it is worse, so many were told as are known to have been.
    let found: Option<(String, i64, Option<String>)> = file
        .prepare_cached(
            "SELECT id, at, digest FROM heard
             WHERE receiver = ?1 AND channel = ?2 AND state = ?3 AND (revision > 0) = (?4 > 0)
                 AND (id = ?6 OR (?3 = 'firing' AND (id = ?5 OR id IN (SELECT theirs FROM alias WHERE ours = ?5))))
                 AND (?4 = 0 OR (SELECT count(*) FROM heard AS all_of WHERE all_of.id = heard.id AND all_of.receiver = ?1
                      AND all_of.channel = ?2 AND all_of.state = ?3 AND all_of.revision > 0) > (SELECT count(*)
                      FROM notification WHERE id = ?5 AND receiver = ?1 AND channel = ?2 AND state = ?3
                      AND revision > 0 AND revision < ?4 AND standing = 'accepted'))
             ORDER BY id = ?6 DESC LIMIT 1",
        )?
        .query_row(params![receiver, channel, body.state, body.revision, row, body.id], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((id, at, digest)) = found {
        return done(file, number, &id, digest.as_deref(), Timestamp::from_micros(at));
    }
    let Some(since) = body.since.filter(|_| body.state == "firing" && body.revision == 0) else {
        return Ok(());
    };
    let near: Option<(String, i64, Option<String>)> = file
        .prepare_cached(
            "SELECT id, at, digest FROM heard
             WHERE receiver = ?1 AND channel = ?2 AND state = 'firing' AND revision = 0 AND place = ?3
                 AND abs(since - ?4) <= ?5
                 AND id NOT IN (SELECT theirs FROM alias) AND id NOT IN (SELECT id FROM incident)
                 AND NOT EXISTS (SELECT 1 FROM heard AS ended WHERE ended.id IN (heard.id, heard.digest)
                     AND ended.state = 'resolved' AND ended.receiver = ?1 AND ended.channel = ?2 AND ended.at < ?4)
             ORDER BY abs(since - ?4) LIMIT 1",
        )?
        .query_row(params![receiver, channel, body.place, since.as_micros(), micros(NEAR)], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    if let Some((id, at, digest)) = near {
        alias(file, number, &id)?;
        done(file, number, &id, digest.as_deref(), Timestamp::from_micros(at))?;
    }
    Ok(())
}

/// The id by which a receiver knows an incident, if the other alerter has told it by another.
pub(super) fn known_as(file: &Connection, id: &str, to: &Destination) -> rusqlite::Result<Option<String>> {
    let known: Option<Option<String>> = file
        .prepare_cached(
            "SELECT told_as FROM notification
             WHERE id = ? AND receiver = ? AND channel = ? AND state = 'firing' AND revision = 0",
        )?
        .query_row(params![id, to.receiver, to.channel], |row| row.get(0))
        .optional()?;
    Ok(known.flatten().filter(|known| known != id))
}

/// The receiver has accepted it of the other. Then its end may be done as well, if that was said before.
fn done(
    file: &Connection,
    number: i64,
    theirs: &str,
    digest: Option<&str>,
    at: Timestamp,
) -> rusqlite::Result<()> {
    let standing = if digest.is_some() { "digested" } else { "accepted" };
    file.prepare_cached(
        "UPDATE notification SET standing = ?2, told_as = ?3, digest = ?4, accepted_at = iif(?4 IS NULL, ?5, NULL)
         WHERE number = ?1",
    )?
    .execute(params![number, standing, theirs, digest, at.as_micros()])?;
    let first: Option<(String, String, String)> = file
        .prepare_cached(
            "SELECT id, receiver, channel FROM notification WHERE number = ? AND state = 'firing' AND revision = 0",
        )?
        .query_row([number], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
        .optional()?;
    let Some((id, receiver, channel)) = first else { return Ok(()) };
    file.prepare_cached(&format!(
        "UPDATE notification SET body = json_set(body, '$.id', ?4)
         WHERE id = ?1 AND receiver = ?2 AND channel = ?3 AND (state = 'resolved' OR revision > 0) AND ?1 != ?4 AND {OPEN}"
    ))?
    .execute(params![id, receiver, channel, theirs])?;
    let ended: Option<(i64, Option<String>, i64, Option<String>)> = file
        .prepare_cached(&format!(
            "SELECT notification.number, notification.digest, heard.at, heard.digest
             FROM notification JOIN heard ON heard.id = ?4 AND heard.state = 'resolved' AND heard.receiver = ?2
                  AND heard.channel = ?3
             WHERE notification.id = ?1 AND notification.receiver = ?2 AND notification.channel = ?3
                 AND notification.state = 'resolved' AND {}",
            OPEN.replace("told_as", "notification.told_as")
        ))?
        .query_row(params![id, receiver, channel, theirs], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })
        .optional()?;
    let Some((number, before, at, digest)) = ended else { return Ok(()) };
    done(file, number, theirs, digest.as_deref(), Timestamp::from_micros(at))?;
    left(file, before, digest.as_deref(), &receiver, &channel)
}

/// A digest has lost something that another tells.
fn left(
    file: &Connection,
    before: Option<String>,
    now: Option<&str>,
    receiver: &str,
    channel: &str,
) -> rusqlite::Result<()> {
    let Some(before) = before.filter(|before| now != Some(before)) else { return Ok(()) };
    let to = Destination {
        receiver: receiver.into(),
        channel: channel.into(),
        at_most: None,
        patience: Duration::ZERO,
    };
    digest::remake(file, &before, &to)
}

/// What the other calls so is ours of this row.
fn alias(file: &Connection, number: i64, theirs: &str) -> rusqlite::Result<()> {
    file.prepare_cached(
        "INSERT OR IGNORE INTO alias (theirs, ours) SELECT ?2, id FROM notification WHERE number = ?1 AND id != ?2",
    )?
    .execute(params![number, theirs])?;
    Ok(())
}

/// Whether it is known which of ours it is.
fn is_ours(file: &Connection, id: &str) -> rusqlite::Result<bool> {
    file.prepare_cached(
        "SELECT 1 FROM incident WHERE id = ?1 UNION ALL SELECT 1 FROM alias WHERE theirs = ?1",
    )?
    .exists([id])
}

fn micros(span: Duration) -> i64 {
    i64::try_from(span.as_micros()).unwrap_or(i64::MAX)
}
