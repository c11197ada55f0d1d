//! Digests: what was held back, told at once.

use crosswatch_judge::incident;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use super::{AT_MOST, Body, Destination, Held, Message, owe};
use crate::catch_up::CATCH_UP;

/// Makes a digest of all that is held back for a destination and may be told.
pub(super) fn make(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<()> {
    let rows: Vec<(i64, String, Option<String>)> = file
        .prepare_cached(concat!(
            "SELECT number, body, muted_by FROM notification AS it
             WHERE standing = 'held' AND receiver = ? AND channel = ? AND ",
            in_its_turn!(),
            " ORDER BY number",
        ))?
        .query_map(params![to.receiver, to.channel], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))?
        .collect::<rusqlite::Result<_>>()?;
    let Some((first, ..)) = rows.first() else {
        return Ok(());
    };
    let id = incident::id(&[AT_MOST, &to.receiver, &to.channel, &first.to_string(), &now.to_string()]);
    // One entry an incident, with the last that is known of it, in the order in which they were first held.
    let mut held: Vec<Held> = Vec::new();
    let mut places = std::collections::HashMap::new();
    for (_, json, _) in &rows {
        let body: Body = serde_json::from_str(json)
            .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
        let Body { id, state, rule, subject, at, place, verdict, .. } = body;
        let entry = Held { id, state, rule, subject, at, place, verdict };
        match places.get(&entry.id).and_then(|&place: &usize| held.get_mut(place)) {
            Some(earlier) => *earlier = entry,
            None => {
                places.insert(entry.id.clone(), held.len());
                held.push(entry);
            }
        }
    }
    let caught_up = rows.iter().all(|(.., by)| by.as_deref() == Some(CATCH_UP));
    let body = Body::digest(&id, to, held, caught_up, now);
    for (number, ..) in &rows {
        file.prepare_cached("UPDATE notification SET standing = 'digested', digest = ? WHERE number = ?")?
            .execute(params![id, number])?;
    }
    owe(file, &body, to, Message::Digest, now)
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
