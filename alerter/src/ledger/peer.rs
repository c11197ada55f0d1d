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

use crosswatch_judge::verdict::Kind;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told::{ABOUT_TO, Member, Told};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::Message;
use super::{Body, Destination, digest, turn};
use crate::json;
use crate::refused::CONFIG_REFUSED;

/// How far apart both may say that an incident began.
const NEAR: Duration = Duration::from_secs(300);

/// By how much more of one time one may have lasted here than the other there.
const ALIKE: Duration = Duration::from_secs(10);

/// For how long it is kept what the other said: longer than its queue keeps anything.
const KEPT: Duration = Duration::from_secs(15 * 24 * 3600);

/// So many of a digest are told by one message; a queue takes no longer ones than 1 MiB.
const MEMBERS: usize = 1_000;

/// What is not done yet, and need not be done by both, of the rows that are called so.
macro_rules! open {
    ($row:literal) => {
        concat!(
            "(",
            $row,
            ".told_as IS NULL AND (",
            $row,
            ".standing IN ('owed', 'held', 'muted', 'behind')
             OR (",
            $row,
            ".standing = 'digested' AND EXISTS (SELECT 1 FROM notification AS whole
                 WHERE whole.id = ",
            $row,
            ".digest AND whole.is_digest AND whole.standing = 'owed'))))"
        )
    };
}

const OPEN: &str = open!("notification");

/// The same of the first page of an incident.
const FIRST_OPEN: &str = open!("first");

/// Whether a row says that what worked less well is down. Only what told so, too, has told it.
const WORSE: &str = "ifnull(json_extract(body, '$.text') GLOB 'WORSE *', false)";

/// Whether the other has told on its own that the incident with this id is worse: if a digest told of it before, the digest's end is
/// not all of its end then.
macro_rules! alone {
    ($id:literal) => {
        concat!(
            "EXISTS (SELECT 1 FROM heard AS alone WHERE alone.id = ",
            $id,
            " AND alone.receiver = ?1 AND alone.channel = ?2 AND alone.state = 'firing' AND alone.revision > 0
                 AND alone.digest IS NULL)"
        )
    };
}

/// The same of an incident that is called `heard.id`.
const ALONE: &str = alone!("heard.id");

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
        "SELECT json_extract(body, '$.id'), state, revision, json_extract(body, '$.place'), json_extract(body, '$.since'),
                iif(state = 'resolved', json_extract(body, '$.at'), NULL), json_extract(body, '$.verdict') FROM notification
         WHERE digest = ? AND receiver = ? AND channel = ? AND told_as IS NULL AND json_extract(body, '$.rule') != ?
         ORDER BY number",
    )?;
    let members = members.query_map(params![local, receiver, channel, CONFIG_REFUSED], |row| {
        let (since, until): (Option<String>, Option<String>) = (row.get(4)?, row.get(5)?);
        let verdict: Option<String> = row.get(6)?;
        Ok(Member {
            id: row.get(0)?,
            state: row.get(1)?,
            revision: row.get(2)?,
            place: row.get::<_, Option<String>>(3)?.unwrap_or_default(),
            since: since.and_then(|since| since.parse().ok()),
            until: until.and_then(|until| until.parse().ok()),
            down: verdict.and_then(|word| Kind::of_word(&word)).is_some_and(Kind::is_down),
        })
    })?;
    let members: Vec<Member> = members.collect::<rusqlite::Result<_>>()?;
    let Body { id, place, since, text, held, verdict, .. } = body;
    let until = (state == "resolved").then_some(body.at);
    let down = verdict.is_some_and(Kind::is_down);
    let mut told =
        Told { id, state, revision, receiver, channel, place, since, until, down, at, text, held: None };
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
pub(super) fn put(file: &Connection, told: &Told) -> rusqlite::Result<()> {
    file.prepare_cached("INSERT INTO outbox (told) VALUES (?)")?.execute([json::write(told)?])?;
    Ok(())
}

/// The other alerter says that a receiver has accepted something. Gives whether that was news.
pub(super) fn heard(
    file: &Connection,
    told: &Told,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<bool> {
    if told.state == ABOUT_TO {
        turn::begins(file, to, told.at, now)?;
        return Ok(false);
    }
    let single = Member {
        id: told.id.clone(),
        state: told.state.clone(),
        revision: told.revision,
        place: told.place.clone(),
        since: told.since,
        until: told.until,
        down: told.down,
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
        of_row(file, told, &single, None, to)?;
    }
    // A long digest comes in several parts.
    let mut members = Vec::new();
    for member in told.held.iter().flatten() {
        if keep(file, told, member, digest)? || is_new {
            members.push(member);
        }
    }
    news |= !members.is_empty();
    let mut ends = false;
    for member in members {
        ends |= of_row(file, told, member, digest, to)?;
    }
    if let Some(whole) = digest.filter(|_| ends) {
        digest::resolve(file, whole, to, Message::Single, told.at, now)?;
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
            "INSERT OR IGNORE INTO heard (id, state, revision, receiver, channel, place, since, until, down, at, digest)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            of.id,
            of.state,
            of.revision,
            told.receiver,
            told.channel,
            of.place,
            of.since.map(Timestamp::as_micros),
            of.until.map(Timestamp::as_micros),
            of.down,
            told.at.as_micros(),
            digest
        ])?;
    Ok(kept > 0)
}

/// The row that it is of is done, if there is one. What is one incident there and was several here is over for all of them. Gives
/// whether the end of the digest `whole` is now the end of something that is over.
fn of_row(
    file: &Connection,
    told: &Told,
    of: &Member,
    whole: Option<&str>,
    to: &Destination,
) -> rusqlite::Result<bool> {
    let most = if of.state == "firing" { 1 } else { -1 };
    let mut found: Vec<i64> = file
        .prepare_cached(&format!(
            "WITH its(id) AS (SELECT ?5 UNION SELECT heard.id FROM heard
                 WHERE heard.digest = ?5 AND ?3 = 'resolved' AND heard.receiver = ?1 AND heard.channel = ?2
                     AND heard.state = 'firing' AND heard.revision = 0 AND NOT {ALONE})
             SELECT number FROM notification
             WHERE receiver = ?1 AND channel = ?2 AND state = ?3 AND (revision > 0) = ?4 AND {OPEN}
                 AND (id IN its OR id IN (SELECT ours FROM alias WHERE theirs IN its)
                      OR id IN (SELECT known.id FROM notification AS known WHERE known.told_as IN its))
                 AND (state = 'firing' OR {KNOWN} IN its)
                 AND (?7 OR revision = 0 OR NOT {WORSE})
             ORDER BY {WORSE} DESC, revision LIMIT ?6"
        ))?
        .query_map(
            params![told.receiver, told.channel, of.state, of.revision > 0, of.id, most, of.down],
            |row| row.get(0),
        )?
        .collect::<rusqlite::Result<_>>()?;
    if found.is_empty() && of.state == "firing" && of.revision == 0 && !is_ours(file, &of.id)? {
        let nearest = nearest_row(file, told, of, whole)?;
        nearest.iter().try_for_each(|&number| alias(file, number, &of.id))?;
        found.extend(nearest);
    }
    if found.is_empty() && of.state == "firing" && of.revision == 0 {
        // An incident here is several there: the receiver knows the last of them.
        found = file
            .prepare_cached(
                "SELECT number FROM notification
                 WHERE receiver = ?1 AND channel = ?2 AND state = 'firing' AND revision = 0 AND told_as IS NOT NULL
                     AND told_as != ?3 AND NOT is_digest
                     AND id IN (SELECT id FROM incident WHERE place = ?4 AND resolved_at IS NULL)
                     AND EXISTS (SELECT 1 FROM heard WHERE heard.id IN (notification.told_as, notification.digest)
                                 AND heard.state = 'resolved' AND heard.receiver = ?1 AND heard.channel = ?2)",
            )?
            .query_map(params![told.receiver, told.channel, of.id, of.place], |row| row.get(0))?
            .collect::<rusqlite::Result<_>>()?;
    }
    let known = found.clone();
    if let ("resolved", Some(since), Some(until)) = (&*of.state, of.since, of.until) {
        let covered = covered(file, told, &of.place, since, until)?;
        found.extend(covered.into_iter().filter(|number| !known.contains(number)));
    }
    let said = Said { id: of.id.clone(), at: told.at, digest: whole.map(ToOwned::to_owned), down: of.down };
    let mut ends = false;
    for number in found {
        ends |= done(file, number, &said, to)?;
    }
    Ok(ends)
}

/// The rows of what began and ended here while one incident of the place lasted there: nobody was told of them, nor need be.
fn covered(
    file: &Connection,
    told: &Told,
    place: &str,
    since: Timestamp,
    until: Timestamp,
) -> rusqlite::Result<Vec<i64>> {
    file.prepare_cached(&format!(
        "SELECT number FROM notification JOIN incident USING (id)
         WHERE receiver = ?1 AND channel = ?2 AND place = ?3 AND {OPEN}
             AND opened_at BETWEEN ?4 - ?6 AND ?5 AND resolved_at BETWEEN ?4 AND ?5 + ?6
             AND NOT EXISTS (SELECT 1 FROM notification AS first WHERE first.id = notification.id
                 AND first.receiver = ?1 AND first.channel = ?2 AND first.state = 'firing' AND first.revision = 0
                 AND NOT {FIRST_OPEN})"
    ))?
    .query_map(
        params![told.receiver, told.channel, place, since.as_micros(), until.as_micros(), micros(ALIKE)],
        |row| row.get(0),
    )?
    .collect()
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
                 AND ended.receiver = ?1 AND ended.channel = ?2 AND ifnull(ended.until, ended.at) < opened_at)
         ORDER BY abs(opened_at - ?4) LIMIT 1"
    ))?
    .query_row(
        params![told.receiver, told.channel, of.place, since.as_micros(), micros(NEAR), of.id, whole],
        |row| row.get(0),
    )
    .optional()
}

/// A row was written, or is told now: if the other alerter has said that its receiver accepted it, it is done.
pub(super) fn settle(
    file: &Connection,
    body: &Body,
    row: &str,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<()> {
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
    let is_worse = body.text.starts_with("WORSE ");
    // Of what refines or tells that it is worse, so many were told as are known to have been.
    let found = file
        .prepare_cached(concat!(
            "SELECT id, at, digest, down FROM heard
             WHERE receiver = ?1 AND channel = ?2 AND state = ?3 AND (revision > 0) = (?4 > 0) AND (down OR NOT ?7)
                 AND (id = ?6 OR (?3 = 'resolved' AND NOT ",
            alone!("?6"),
            " AND id IN (SELECT whole.digest FROM heard AS whole WHERE whole.id = ?6
                      AND whole.receiver = ?1 AND whole.channel = ?2 AND whole.state = 'firing' AND whole.revision = 0))
                      OR (?3 = 'firing' AND (id = ?5 OR id IN (SELECT theirs FROM alias WHERE ours = ?5))))
                 AND (?4 = 0 OR (SELECT count(*) FROM heard AS all_of WHERE all_of.id = heard.id AND all_of.receiver = ?1
                      AND all_of.channel = ?2 AND all_of.state = ?3 AND all_of.revision > 0) > (SELECT count(*)
                      FROM notification WHERE id = ?5 AND receiver = ?1 AND channel = ?2 AND state = ?3
                      AND revision > 0 AND revision < ?4 AND standing = 'accepted'))
             ORDER BY id = ?6 DESC LIMIT 1",
        ))?
        .query_row(params![receiver, channel, body.state, body.revision, row, body.id, is_worse], Said::of)
        .optional()?;
    if let Some(said) = found {
        return settled(file, number, &said, to, now);
    }
    // What the other told to be down is no worse now.
    if is_worse {
        let knows = file
            .prepare_cached(
                "SELECT 1 FROM heard WHERE id IN (?1, ?2) AND receiver = ?3 AND channel = ?4 AND state = 'firing' AND down",
            )?
            .exists(params![row, body.id, receiver, channel])?;
        if knows {
            return leaves(file, number, None, "abandoned", to);
        }
    }
    let Some(since) = body.since.filter(|_| body.state == "firing" && body.revision == 0) else {
        return Ok(());
    };
    let near = file
        .prepare_cached(
            "SELECT id, at, digest, down FROM heard
             WHERE receiver = ?1 AND channel = ?2 AND state = 'firing' AND revision = 0 AND place = ?3
                 AND abs(since - ?4) <= ?5
                 AND id NOT IN (SELECT theirs FROM alias) AND id NOT IN (SELECT id FROM incident)
                 AND NOT EXISTS (SELECT 1 FROM heard AS ended WHERE ended.id IN (heard.id, heard.digest)
                     AND ended.state = 'resolved' AND ended.receiver = ?1 AND ended.channel = ?2
                     AND ifnull(ended.until, ended.at) < ?4)
             ORDER BY abs(since - ?4) LIMIT 1",
        )?
        .query_row(params![receiver, channel, body.place, since.as_micros(), micros(NEAR)], Said::of)
        .optional()?;
    if let Some(said) = near {
        alias(file, number, &said.id)?;
        settled(file, number, &said, to, now)?;
    }
    Ok(())
}

fn settled(
    file: &Connection,
    number: i64,
    said: &Said,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let ends = done(file, number, said, to)?;
    match said.digest.as_ref().filter(|_| ends) {
        Some(whole) => digest::resolve(file, whole, to, Message::Single, said.at, now),
        None => Ok(()),
    }
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

/// What the other says of a row: by which id its receiver knows it, when that accepted it, and in which digest it was told.
struct Said {
    id: String,
    at: Timestamp,
    digest: Option<String>,
    /// It told that something is down altogether.
    down: bool,
}

impl Said {
    /// Of `id, at, digest, down`.
    fn of(row: &rusqlite::Row<'_>) -> rusqlite::Result<Self> {
        Ok(Self {
            id: row.get(0)?,
            at: Timestamp::from_micros(row.get(1)?),
            digest: row.get(2)?,
            down: row.get(3)?,
        })
    }
}

/// The receiver has accepted a row of the other. Then its end may be done as well, if that was said before. The end of what only a
/// digest told is the digest's; gives whether that is owed now.
fn done(file: &Connection, number: i64, said: &Said, to: &Destination) -> rusqlite::Result<bool> {
    let (receiver, channel) = (&to.receiver, &to.channel);
    let standing = if said.digest.is_some() { "digested" } else { "accepted" };
    leaves(file, number, Some(said), standing, to)?;
    let first: Option<String> = file
        .prepare_cached("SELECT id FROM notification WHERE number = ? AND state = 'firing' AND revision = 0")?
        .query_row([number], |row| row.get(0))
        .optional()?;
    let Some(id) = first else { return Ok(false) };
    // It was told with what was known then: also, if it says so, that it was worse.
    file.prepare_cached(&format!(
        "SELECT number FROM notification
         WHERE id = ? AND receiver = ? AND channel = ? AND state = 'firing' AND revision > 0 AND {OPEN}
             AND iif({WORSE}, ?, created <= ?)"
    ))?
    .query_map(params![id, receiver, channel, said.down, said.at.as_micros()], |row| row.get(0))?
    .collect::<rusqlite::Result<Vec<i64>>>()?
    .into_iter()
    .try_for_each(|number| leaves(file, number, None, "abandoned", to))?;
    file.prepare_cached(&format!(
        "UPDATE notification SET body = json_set(body, '$.id', ?4)
         WHERE id = ?1 AND receiver = ?2 AND channel = ?3 AND (state = 'resolved' OR revision > 0) AND ?1 != ?4 AND {OPEN}"
    ))?
    .execute(params![id, receiver, channel, said.id])?;
    let end: Option<i64> = file
        .prepare_cached(&format!(
            "SELECT number FROM notification
             WHERE id = ?1 AND receiver = ?2 AND channel = ?3 AND state = 'resolved' AND {OPEN}"
        ))?
        .query_row(params![id, receiver, channel], |row| row.get(0))
        .optional()?;
    let Some(number) = end else { return Ok(false) };
    let heard = file
        .prepare_cached(
            "SELECT id, at, digest, down FROM heard WHERE id = ? AND state = 'resolved' AND receiver = ? AND channel = ?",
        )?
        .query_row(params![said.id, receiver, channel], Said::of)
        .optional()?;
    let alone = file
        .prepare_cached(concat!("SELECT ", alone!("?3")))?
        .query_row(params![receiver, channel, said.id], |row| row.get::<_, bool>(0))?;
    match (heard, &said.digest) {
        (Some(heard), _) => done(file, number, &heard, to),
        (None, Some(_)) if alone => Ok(true),
        (None, Some(_)) => leaves(file, number, None, "abandoned", to).map(|()| true),
        (None, None) => Ok(false),
    }
}

/// A row stands so from now on, by what the other said or because nothing needs to be said of it; a digest of ours, if it was in
/// one, tells no more of it.
fn leaves(
    file: &Connection,
    number: i64,
    said: Option<&Said>,
    standing: &str,
    to: &Destination,
) -> rusqlite::Result<()> {
    let before: Option<String> = file
        .prepare_cached("SELECT digest FROM notification WHERE number = ?")?
        .query_row([number], |row| row.get(0))?;
    let digest = said.and_then(|said| said.digest.as_ref());
    // What was given up untried takes no room of a limit.
    file.prepare_cached(
        "UPDATE notification SET standing = ?2, told_as = ?3, digest = ?4, accepted_at = iif(?4 IS NULL, ?5, NULL),
             next_try = iif(?2 = 'abandoned' AND attempts = 0, created, next_try)
         WHERE number = ?1",
    )?
    .execute(params![
        number,
        standing,
        said.map(|said| &said.id),
        digest,
        said.map(|said| said.at.as_micros())
    ])?;
    match before.filter(|before| digest != Some(before)) {
        Some(before) => digest::remake(file, &before, to),
        None => Ok(()),
    }
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
