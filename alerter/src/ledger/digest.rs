//! Digests: what was held back, told at once.

use crosswatch_judge::incident;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, params};

use super::rows::{Message, owe};
use super::{AT_MOST, Body, Destination, Held};
use crate::catch_up::CATCH_UP;
use crate::json;

/// Makes a digest of all that is held back for a destination and may be told.
pub(super) fn make(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<()> {
    let rows: Vec<(i64, String, Option<String>, i64)> = file
        .prepare_cached(concat!(
            "SELECT number, body, muted_by, next_try FROM notification AS it
             WHERE standing = 'held' AND receiver = ? AND channel = ? AND ",
            in_its_turn!(),
            " ORDER BY number",
        ))?
        .query_map(params![to.receiver, to.channel], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
        })?
        .collect::<rusqlite::Result<_>>()?;
    let Some((first, ..)) = rows.first() else {
        return Ok(());
    };
    // Two alerters may make theirs at the same moment.
    let whose = if to.patience.is_zero() { "" } else { "second" };
    let id = incident::id(&[AT_MOST, &to.receiver, &to.channel, &first.to_string(), &now.to_string(), whose]);
    let held = entries(rows.iter().map(|(_, body, ..)| body))?;
    let caught_up = rows.iter().all(|(_, _, by, _)| by.as_deref() == Some(CATCH_UP));
    let body = Body::digest(&id, to, held, caught_up, now);
    for (number, ..) in &rows {
        file.prepare_cached("UPDATE notification SET standing = 'digested', digest = ? WHERE number = ?")?
            .execute(params![id, number])?;
    }
    let then = rows.iter().map(|&(.., then)| Timestamp::from_micros(then)).max().unwrap_or(now);
    owe(file, &body, to, Message::Digest(then), now)
}

/// One entry an incident, with the last that is known of it, in the order in which they were first held.
fn entries<'a>(bodies: impl Iterator<Item = &'a String>) -> rusqlite::Result<Vec<Held>> {
    let mut held: Vec<Held> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for body in bodies {
        let Body { id, state, rule, subject, at, place, verdict, .. } = json::read(body)?;
        let entry = Held { id, state, rule, subject, at, place, verdict };
        match places.get(&entry.id).and_then(|&place: &usize| held.get_mut(place)) {
            Some(earlier) => *earlier = entry,
            None => {
                places.insert(entry.id.clone(), held.len());
                held.push(entry);
            }
        }
    }
    Ok(held)
}

/// A digest that was not tried yet tells no more of what another told; of nothing it is not told at all.
pub(super) fn remake(file: &Connection, id: &str, to: &Destination) -> rusqlite::Result<()> {
    let untried =
        "id = ?1 AND receiver = ?2 AND channel = ?3 AND is_digest AND standing = 'owed' AND attempts = 0";
    let created: Option<i64> = file
        .prepare_cached(&format!("SELECT created FROM notification WHERE {untried}"))?
        .query_row(params![id, to.receiver, to.channel], |row| row.get(0))
        .optional()?;
    let Some(created) = created else { return Ok(()) };
    let rows: Vec<(String, Option<String>)> = file
        .prepare_cached(
            "SELECT body, muted_by FROM notification WHERE digest = ? AND receiver = ? AND channel = ? ORDER BY number",
        )?
        .query_map(params![id, to.receiver, to.channel], |row| Ok((row.get(0)?, row.get(1)?)))?
        .collect::<rusqlite::Result<_>>()?;
    if rows.is_empty() {
        file.prepare_cached(&format!("UPDATE notification SET standing = 'abandoned' WHERE {untried}"))?
            .execute(params![id, to.receiver, to.channel])?;
        return endless(file, id, to);
    }
    let held = entries(rows.iter().map(|(body, _)| body))?;
    let caught_up = rows.iter().all(|(_, by)| by.as_deref() == Some(CATCH_UP));
    let body = Body::digest(id, to, held, caught_up, Timestamp::from_micros(created));
    if body.state == "resolved" {
        endless(file, id, to)?;
    }
    file.prepare_cached(&format!("UPDATE notification SET state = ?4, body = ?5 WHERE {untried}"))?
        .execute(params![id, to.receiver, to.channel, body.state, json::write(&body)?])?;
    Ok(())
}

/// A digest that tells of nothing that fires has no end of its own any more.
fn endless(file: &Connection, id: &str, to: &Destination) -> rusqlite::Result<()> {
    let whole: Option<Option<String>> = file
        .prepare_cached(
            "DELETE FROM notification WHERE id = ? AND receiver = ? AND channel = ? AND state = 'resolved' AND NOT is_digest
             RETURNING digest",
        )?
        .query_row(params![id, to.receiver, to.channel], |row| row.get(0))
        .optional()?;
    match whole.flatten() {
        Some(whole) => remake(file, &whole, to),
        None => Ok(()),
    }
}

/// Owes a digest's `resolved` once no incident that it told as firing is open.
pub(super) fn resolve(
    file: &Connection,
    digest: &str,
    to: &Destination,
    message: Message<'_>,
    at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let told_firing: bool = file
        .prepare_cached(
            "SELECT EXISTS (SELECT 1 FROM notification
             WHERE id = ? AND receiver = ? AND channel = ? AND state = 'firing' AND standing != 'abandoned')",
        )?
        .query_row(params![digest, to.receiver, to.channel], |row| row.get(0))?;
    // The newest first: incidents that began together tend to end in the order they began in.
    let open = file
        .prepare_cached(
            "SELECT 1 FROM notification JOIN incident USING (id)
             WHERE notification.digest = ? AND notification.state = 'firing' AND incident.resolved_at IS NULL
             ORDER BY notification.number DESC LIMIT 1",
        )?
        .exists([digest])?;
    if !told_firing || open {
        return Ok(());
    }
    let count: u32 = file
        .prepare_cached("SELECT count(*) FROM notification WHERE digest = ? AND state = 'firing'")?
        .query_row([digest], |row| row.get(0))?;
    let reason = format!("all {count} that were held back have resolved");
    let body = Body::at_most(digest, "resolved", to, count, at, reason, None);
    owe(file, &body, to, message, now)
}
