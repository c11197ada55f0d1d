//! Whose turn it is at a channel: the second of two alerters says that it is about to tell something, and the first keeps still.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told::{ABOUT_TO, Told};
use rusqlite::{Connection, OptionalExtension as _, params};

use super::{Destination, peer};
use crate::peer::STILL;

/// What was accepted in this time, or whose turn it was: longer than the other waits.
const LATELY: Duration = Duration::from_secs(120);

/// It is about to tell something there: what was said of that before need not be said any more.
pub(crate) fn announce(file: &Connection, to: &Destination, now: Timestamp) -> rusqlite::Result<()> {
    file.prepare_cached(
        "DELETE FROM outbox WHERE json_extract(told, '$.state') = ? AND json_extract(told, '$.receiver') = ?
             AND json_extract(told, '$.channel') = ?",
    )?
    .execute(params![ABOUT_TO, to.receiver, to.channel])?;
    peer::put(
        file,
        &Told {
            id: String::new(),
            state: ABOUT_TO.to_owned(),
            revision: 0,
            receiver: to.receiver.to_string(),
            channel: to.channel.to_string(),
            place: String::new(),
            since: None,
            until: None,
            down: false,
            at: now,
            text: String::new(),
            held: None,
        },
    )
}

/// Until when a channel is, or lately was, left to the other alerter.
pub(crate) fn others_turn(
    file: &Connection,
    to: &Destination,
    now: Timestamp,
) -> rusqlite::Result<Option<Timestamp>> {
    let until: Option<i64> = file
        .prepare_cached("SELECT until FROM turn WHERE receiver = ? AND channel = ? AND until > ?")?
        .query_row(params![to.receiver, to.channel, (now - LATELY).as_micros()], |row| row.get(0))
        .optional()?;
    // Of a clock that was set back nobody waits for longer.
    Ok(until.map(Timestamp::from_micros).filter(|until| *until <= now + STILL))
}

/// The other alerter is about to tell something there: it is left to it, and told what was accepted lately, since what said so may
/// not have come to it.
pub(super) fn begins(
    file: &Connection,
    to: &Destination,
    at: Timestamp,
    now: Timestamp,
) -> rusqlite::Result<()> {
    file.prepare_cached("INSERT OR REPLACE INTO turn (receiver, channel, until) VALUES (?, ?, ?)")?
        .execute(params![to.receiver, to.channel, (at + STILL).as_micros()])?;
    if now.since(at) > STILL {
        return Ok(());
    }
    let accepted: Vec<(i64, i64)> = file
        .prepare_cached(
            "SELECT number, accepted_at FROM notification
             WHERE standing = 'accepted' AND receiver = ? AND channel = ? AND accepted_at > ? AND told_as IS NULL",
        )?
        .query_map(
            params![to.receiver, to.channel, (now - LATELY).as_micros()],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )?
        .collect::<rusqlite::Result<_>>()?;
    accepted.into_iter().try_for_each(|(number, at)| peer::tell(file, number, Timestamp::from_micros(at)))
}
