//! What a forwarder keeps in its file, beside its position in the journal: the messages that may have been sent, by what
//! determines them, and the next number of each boot. A few hundred bytes a message.

use crosswatch_queue::Schema;
use crosswatch_shared::observation::{Name, Origin};
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, Transaction, params};

use super::plan::{Numbers, Piece, Share};

/// So many boots' numbers are kept: a former boot's messages come before the next one's, never after.
const BOOTS: i64 = 16;

/// The forwarder's file.
pub(crate) const SCHEMA: Schema = Schema {
    what: "forwarder's file",
    application_id: 0x4357_4631,
    migrations: &["
        CREATE TABLE unsent (
            place INTEGER PRIMARY KEY, site TEXT NOT NULL, collector TEXT NOT NULL, boot TEXT NOT NULL,
            number INTEGER NOT NULL, through INTEGER NOT NULL, first_seq INTEGER, last_seq INTEGER,
            last INTEGER NOT NULL, queue INTEGER NOT NULL, queues INTEGER NOT NULL
        ) STRICT;
        CREATE TABLE numbering (
            id INTEGER PRIMARY KEY AUTOINCREMENT, collector TEXT NOT NULL, boot TEXT NOT NULL, next INTEGER NOT NULL,
            UNIQUE (collector, boot)
        ) STRICT;
    "],
};

/// Reads both.
pub(crate) fn load(db: &Connection) -> rusqlite::Result<(Vec<Piece>, Numbers)> {
    let name = |text: String| Name::from(text);
    let mut query = db.prepare(
        "SELECT site, collector, boot, number, through, first_seq, last_seq, last, queue, queues
         FROM unsent ORDER BY place",
    )?;
    let pieces = query.query_map([], |row| {
        let seqs: (Option<i64>, Option<i64>) = (row.get(5)?, row.get(6)?);
        Ok(Piece {
            origin: Origin {
                site: row.get(0).map(name)?,
                collector: row.get(1).map(name)?,
                boot: row.get(2).map(name)?,
            },
            number: row.get::<_, i64>(3)?.cast_unsigned(),
            through: Timestamp::from_micros(row.get(4)?),
            seqs: seqs.0.zip(seqs.1).map(|(first, last)| (first.cast_unsigned(), last.cast_unsigned())),
            last: row.get::<_, i64>(7)?.cast_unsigned(),
            share: Share { index: row.get(8).map(size)?, of: row.get(9).map(size)? },
        })
    })?;
    let pieces = pieces.collect::<rusqlite::Result<_>>()?;
    let mut numbers = Numbers::default();
    let mut query = db.prepare("SELECT collector, boot, next FROM numbering WHERE next > 0")?;
    let rows = query.query_map([], |row| {
        let origin =
            Origin { site: "".into(), collector: row.get(0).map(name)?, boot: row.get(1).map(name)? };
        Ok((origin, row.get::<_, i64>(2)?.cast_unsigned()))
    })?;
    for row in rows {
        let (origin, next) = row?;
        numbers.done(&origin, next - 1);
    }
    Ok((pieces, numbers))
}

/// Writes down what is about to be sent.
pub(crate) fn plan(step: &Transaction<'_>, pieces: &[Piece]) -> rusqlite::Result<()> {
    let mut insert = step.prepare_cached(
        "INSERT INTO unsent (site, collector, boot, number, through, first_seq, last_seq, last, queue, queues)
         VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10)",
    )?;
    for Piece { origin, number, through, seqs, last, share } in pieces {
        insert.execute(params![
            origin.site,
            origin.collector,
            origin.boot,
            number.cast_signed(),
            through.as_micros(),
            seqs.map(|(first, _)| first.cast_signed()),
            seqs.map(|(_, last)| last.cast_signed()),
            last.cast_signed(),
            i64::try_from(share.index).unwrap_or(i64::MAX),
            i64::try_from(share.of).unwrap_or(i64::MAX),
        ])?;
    }
    Ok(())
}

/// Strikes out what was planned: all of it was taken.
pub(crate) fn sent(step: &Transaction<'_>, pieces: &[Piece]) -> rusqlite::Result<()> {
    step.prepare_cached("DELETE FROM unsent")?.execute([])?;
    let mut upsert = step.prepare_cached(
        "INSERT INTO numbering (collector, boot, next) VALUES (?1, ?2, ?3)
         ON CONFLICT (collector, boot) DO UPDATE SET next = max(next, excluded.next)",
    )?;
    for Piece { origin, number, .. } in pieces {
        upsert.execute(params![origin.collector, origin.boot, number.cast_signed() + 1])?;
    }
    step.prepare_cached("DELETE FROM numbering WHERE id <= (SELECT max(id) FROM numbering) - ?1")?
        .execute([BOOTS])
        .map(drop)
}

fn size(number: i64) -> usize {
    usize::try_from(number).unwrap_or(0)
}
