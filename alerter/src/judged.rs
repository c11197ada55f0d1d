//! What the alerter decided by more than the observations themselves, in the order in which it did: by which config it judged, that it
//! waited in vain for batches, who was silent, in which order it took what came again, and what a replay put back for it to judge, of
//! which no journal is kept. With the journals this is all that it takes to judge once more what was judged live, and to come to the same ([`crate::again`]).

use std::collections::BTreeMap;
use std::path::Path;
use std::time::Duration;

use crosswatch_judge::{State, Transition};
use crosswatch_queue::Delivery;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::PutBack;
use rusqlite::{Connection, OptionalExtension as _, params};
use serde::{Deserialize, Serialize};

use crate::error::Error;
use crate::json;
use crate::schema::SCHEMA;

/// Its table. `places` has the newest batch of each site concerned that was judged before it.
pub(crate) const JUDGED: &str = "
CREATE TABLE judged (
    id       INTEGER PRIMARY KEY AUTOINCREMENT,
    at       INTEGER NOT NULL,
    places   TEXT NOT NULL,
    decision TEXT NOT NULL
) STRICT;
-- The newest batch of the site that was judged.
ALTER TABLE site ADD COLUMN place TEXT;
";

/// A batch: collector, boot and number.
pub type Place = (Name, Name, u64);

/// What was decided.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Decision {
    /// It is judged by this config from here on: the text of its file.
    Config(String),
    /// A site's missing batches were not waited for any longer; it goes on with this number.
    Skipped {
        /// The site.
        site: Name,
        /// The number of the next batch that is waited for.
        next: u64,
    },
    /// A built-in rule said this by the alerter's own clock.
    Said {
        /// Its time.
        at: Timestamp,
        /// The state's word.
        state: String,
        /// The rule.
        rule: Name,
        /// Of what.
        subject: Name,
        /// The deciding value.
        value: Option<f64>,
        /// Why.
        reason: String,
    },
    /// Batches of which some had been received before and not settled: they stand in the history where they came first, and
    /// were judged here, in this order.
    Page(Vec<(Name, Place)>),
    /// A replay put this back to be judged: as much of a message as had not been seen before.
    PutBack(#[serde(with = "text")] PutBack),
}

/// A decision, and when and after which batches it was made.
#[derive(Clone, Debug, PartialEq)]
pub struct Judged {
    /// By the alerter's clock.
    pub at: Timestamp,
    /// The newest batch of each site concerned that was judged before.
    pub places: BTreeMap<Name, Place>,
    /// What was decided.
    pub decision: Decision,
}

impl Decision {
    /// What a built-in rule said.
    pub(crate) fn said(transition: &Transition) -> Self {
        let Transition { at, state, rule, subject, value, reason, .. } = transition.clone();
        Self::Said { at, state: state.word().to_owned(), rule, subject, value, reason }
    }

    /// The order of these of a site whose history has it otherwise.
    pub(crate) fn page<'a>(of: impl Iterator<Item = &'a Delivery>) -> Self {
        Self::Page(of.map(|of| (of.batch.origin.site.clone(), place(&of.batch))).collect())
    }

    /// The transition, of what was said.
    #[must_use]
    pub fn transition(&self) -> Option<Transition> {
        let Self::Said { at, state, rule, subject, value, reason } = self else { return None };
        let all = [State::Firing, State::Resolved, State::Unknown, State::Ok];
        Some(Transition {
            at: *at,
            state: all.into_iter().find(|of| of.word() == state)?,
            rule: rule.clone(),
            rule_index: usize::MAX,
            subject: subject.clone(),
            link: None,
            value: *value,
            reason: reason.clone(),
        })
    }
}

/// What a batch is known by.
pub(crate) fn place(batch: &Batch) -> Place {
    (batch.origin.collector.clone(), batch.origin.boot.clone(), batch.number)
}

/// Writes a decision.
pub(crate) fn write(
    file: &Connection,
    now: Timestamp,
    places: &BTreeMap<Name, Place>,
    decision: &Decision,
) -> rusqlite::Result<()> {
    let concerned = |site: &Name| match decision {
        Decision::Config(_) => true,
        Decision::Skipped { site: of, .. } => site == of,
        Decision::Said { .. } => false,
        Decision::Page(page) => page.iter().any(|(of, _)| of == site),
        Decision::PutBack(PutBack { origin, .. }) => origin.site == *site,
    };
    let places: BTreeMap<&Name, &Place> = places.iter().filter(|(site, _)| concerned(site)).collect();
    file.prepare_cached("INSERT INTO judged (at, places, decision) VALUES (?, ?, ?)")?.execute(params![
        now.as_micros(),
        json::write(&places)?,
        json::write(decision)?
    ])?;
    Ok(())
}

/// Writes by which config it is judged from now on, where that is another than before.
pub(crate) fn config(
    file: &Connection,
    now: Timestamp,
    places: &BTreeMap<Name, Place>,
    text: &str,
) -> rusqlite::Result<()> {
    let newest: Option<String> = file
        .query_row(
            "SELECT decision ->> 'config' FROM judged WHERE decision ->> 'config' IS NOT NULL ORDER BY id DESC LIMIT 1",
            [],
            |row| row.get(0),
        )
        .optional()?;
    if text.is_empty() || newest.as_deref() == Some(text) {
        return Ok(());
    }
    write(file, now, places, &Decision::Config(text.to_owned()))
}

/// Forgets what is older than the journals are kept; of the configs the one that was in force then stays.
pub(crate) fn forget(file: &Connection, now: Timestamp, keep: Duration) -> rusqlite::Result<()> {
    let before = (now - keep).as_micros();
    file.execute(
        "DELETE FROM judged WHERE at < ?1 AND id IS NOT
             (SELECT max(id) FROM judged WHERE at < ?1 AND decision ->> 'config' IS NOT NULL)",
        [before],
    )?;
    Ok(())
}

/// All that an alerter's file has of it, in order; nothing where there is no file.
///
/// # Errors
/// The file is foreign, newer or damaged, or cannot be read.
pub fn read(file: &Path) -> Result<Vec<Judged>, Error> {
    let Some(db) = SCHEMA.open_to_read(file)? else { return Ok(Vec::new()) };
    let mut rows = db.prepare("SELECT at, places, decision FROM judged ORDER BY id")?;
    let mut rows = rows.query([])?;
    let mut all = Vec::new();
    while let Some(row) = rows.next()? {
        let (at, places, decision): (i64, String, String) = (row.get(0)?, row.get(1)?, row.get(2)?);
        let unreadable = |error: serde_json::Error| Error::State {
            path: file.to_owned(),
            problem: format!("what it judged: {error}"),
        };
        all.push(Judged {
            at: Timestamp::from_micros(at),
            places: serde_json::from_str(&places).map_err(unreadable)?,
            decision: serde_json::from_str(&decision).map_err(unreadable)?,
        });
    }
    Ok(all)
}

/// What was put back, as its message is written.
mod text {
    use crosswatch_shared::wire::{Message, Names, PutBack, decode_message, encode_put_back};
    use serde::de::Error as _;
    use serde::ser::Error as _;
    use serde::{Deserialize as _, Deserializer, Serialize as _, Serializer};
    use serde_json::value::RawValue;

    pub(super) fn serialize<S: Serializer>(of: &PutBack, serializer: S) -> Result<S::Ok, S::Error> {
        RawValue::from_string(encode_put_back(of)).map_err(S::Error::custom)?.serialize(serializer)
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<PutBack, D::Error> {
        let text = Box::<RawValue>::deserialize(deserializer)?;
        match decode_message(text.get().as_bytes(), &mut Names::default()) {
            Ok(Message::PutBack(put_back, _)) => Ok(put_back),
            Ok(Message::Batch(_)) => Err(D::Error::custom("it is a batch, and nothing that was put back")),
            Err(error) => Err(D::Error::custom(error)),
        }
    }
}
