//! Batches to send, and the file of a consumer that writes down what it had.

use crosswatch_queue::{Delivery, QueueError, Schema};
use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use rusqlite::Transaction;

pub(crate) const NOW: Timestamp = Timestamp::from_secs(1_795_330_801);

/// No constraint: what was applied twice is there twice.
pub(crate) const SCHEMA: Schema = Schema {
    what: "test's file",
    application_id: 0x4357_5445,
    migrations: &["CREATE TABLE applied (site TEXT, boot TEXT, number INTEGER)"],
};

/// A batch of ten probes.
pub(crate) fn batch(site: &str, boot: &str, number: u64) -> Batch {
    let observation = |index: u64| Observation {
        at: NOW,
        seq: number.wrapping_mul(10).wrapping_add(index),
        body: Body::Probe {
            link: "a-b".into(),
            probe: "icmp:10.1.0.10".into(),
            outcome: Outcome::Reply { rtt_ms: 81.7 },
            detail: None,
        },
    };
    Batch {
        origin: Origin { site: site.into(), collector: format!("at-{site}").into(), boot: boot.into() },
        number,
        through: NOW,
        observations: (0..10).map(observation).collect(),
    }
}

/// Writes the batches down.
pub(crate) fn apply(tx: &Transaction<'_>, deliveries: &[Delivery]) -> Result<(), QueueError> {
    for Delivery { batch, .. } in deliveries {
        tx.execute(
            "INSERT INTO applied VALUES (?1, ?2, ?3)",
            (&batch.origin.site, &batch.origin.boot, batch.number as i64),
        )?;
    }
    Ok(())
}

/// What was written down, in order: site, boot, number.
pub(crate) fn applied(db: &rusqlite::Connection) -> rusqlite::Result<Vec<(String, String, u64)>> {
    let mut query = db.prepare("SELECT site, boot, number FROM applied ORDER BY rowid")?;
    let rows =
        query.query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get::<_, i64>(2)?.unsigned_abs())))?;
    rows.collect()
}
