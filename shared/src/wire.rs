//! The wire form: observations as JSON, one object each, alone in a line or together in a batch.
//!
//! A line carries its origin; in a batch the origin stands once, in the envelope. A reader skips fields it does not
//! know and observations of a kind it does not know, and refuses a major version it does not know.
//!
//! Here is what is written and read whole; `write` and `read` have the forms, `put_back` what a replay puts back.

mod put_back;
mod read;
mod write;

use read::{KINDS, Text, absent, each_understood, envelope, item, understood};
use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize};
use write::{WrittenBatch, json, written};

use crate::observation::{Batch, Name, Observation, Origin};
use crate::time::Timestamp;
use crate::told::Told;

pub use put_back::{Message, PutBack, decode_message, encode_put_back};

/// The major version written, and the only one read. An absent version field means 1; 2 is what a replay put back
/// ([`PutBack`]), so that the next one is 3.
pub const VERSION: u32 = 1;

/// Why a message could not be read. Reading it again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A newer program wrote it.
    #[error("wire version {found} is not known to this program, which reads version {VERSION}: upgrade it")]
    Version {
        /// The version the message names.
        found: u32,
    },
    /// A replay put it back: only who asks for such messages reads them, as [`decode_message`] does.
    #[error("a replay put these observations back, for a publisher and an alerter alone")]
    PutBack,
    /// Not JSON, cut off, or a field of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A field is absent, or its value means nothing.
    #[error("{kind}: {problem}")]
    Field {
        /// The message's `kind`, or `batch`.
        kind: String,
        /// What is wrong with which field.
        problem: String,
    },
}

impl WireError {
    /// Whether the text ended in the middle, as a line does whose writer was stopped.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::Json(error) if error.is_eof())
    }
}

/// A line read.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// An observation and who made it.
    Observation(Origin, Observation),
    /// A kind that this version does not know.
    UnknownKind(String),
}

/// A batch read, with what was skipped in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The batch, without the observations of unknown kinds.
    pub batch: Batch,
    /// How many observations were of a kind that this version does not know.
    pub unknown_kinds: u64,
    /// What another alerter says that receivers have accepted.
    pub told: Vec<Told>,
}

/// Keeps one copy of each name, so that a million observations share a handful of strings.
#[derive(Debug, Default)]
pub struct Names {
    known: FxHashSet<Name>,
}

/// Beyond this many names the copies are let go: a stream that never repeats a name must not fill memory.
const NAMES_KEPT: usize = 100_000;

impl Names {
    /// The shared copy of this name.
    pub fn get(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.get(text) {
            return name.clone();
        }
        if self.known.len() >= NAMES_KEPT {
            self.known.clear();
        }
        let name = Name::from(text);
        self.known.insert(name.clone());
        name
    }
}

/// Writes one observation as a line, without the line's end.
#[must_use]
pub fn encode_row(origin: &Origin, observation: &Observation) -> String {
    json(&written(Some(origin), observation))
}

/// Reads one line.
///
/// # Errors
/// As [`WireError`] says: another version, no JSON, or a field that means nothing.
pub fn decode_row(text: &[u8], names: &mut Names) -> Result<Row, WireError> {
    let read = match item(text)? {
        Ok(read) => read,
        Err(kind) => return Ok(Row::UnknownKind(kind)),
    };
    let kind = &read.kind.0;
    let name = |field: &Option<Text<'_>>, what, names: &mut Names| {
        field.as_ref().map(|text| names.get(&text.0)).ok_or_else(|| absent(kind, what))
    };
    version(read.v)?;
    if !KINDS.contains(&kind.as_ref()) {
        return Ok(Row::UnknownKind(kind.chars().take(80).collect()));
    }
    let origin = Origin {
        site: name(&read.site, "site", names)?,
        collector: name(&read.collector, "collector", names)?,
        boot: name(&read.boot, "boot", names)?,
    };
    match understood(read, names)? {
        Ok(observation) => Ok(Row::Observation(origin, observation)),
        Err(kind) => Ok(Row::UnknownKind(kind)),
    }
}

/// Writes a batch as one message: JSON text.
#[must_use]
pub fn encode_batch(batch: &Batch) -> String {
    let Batch { origin, number, through, observations } = batch;
    json(&WrittenBatch {
        site: &origin.site,
        collector: &origin.collector,
        boot: &origin.boot,
        batch: *number,
        through: *through,
        observations: observations.iter().map(|observation| written(None, observation)).collect(),
    })
}

/// Writes what an alerter tells the other one as one message: a batch of no site, with one entry of a kind of its own. A reader that
/// does not know that skips it and counts it.
#[must_use]
pub fn encode_told(origin: &Origin, number: u64, now: Timestamp, told: &Told) -> String {
    #[derive(Serialize)]
    struct Entry<'a> {
        kind: &'static str,
        told: &'a Told,
    }
    let Origin { site, collector, boot } = origin;
    json(&WrittenBatch {
        site,
        collector,
        boot,
        batch: number,
        through: now,
        observations: vec![Entry { kind: TOLD, told }],
    })
}

/// Reads a batch.
///
/// # Errors
/// As [`WireError`] says. One observation that means nothing condemns the whole batch, since its sender is broken.
pub fn decode_batch(text: &[u8], names: &mut Names) -> Result<Decoded, WireError> {
    match batch(text, names) {
        Err(WireError::Version { found: put_back::VERSION }) if put_back::is_marked(text) => {
            Err(WireError::PutBack)
        }
        read => read,
    }
}

fn batch(text: &[u8], names: &mut Names) -> Result<Decoded, WireError> {
    let read = match envelope(text) {
        Ok(read) => read,
        Err(error) => {
            // The fields of a newer batch may look like anything: then that it is newer is what to say.
            #[derive(Deserialize)]
            struct Version {
                v: Option<u32>,
            }
            let Version { v } = serde_json::from_slice(text)?;
            version(v)?;
            return Err(error);
        }
    };
    version(read.v)?;
    let (observations, unknown_kinds, told) = each_understood(read.observations, names)?;
    let origin = Origin {
        site: names.get(&read.site.0),
        collector: names.get(&read.collector.0),
        boot: names.get(&read.boot.0),
    };
    Ok(Decoded {
        batch: Batch { origin, number: read.batch, through: read.through, observations },
        unknown_kinds,
        told,
    })
}

/// The kind of what is no observation: what one alerter tells the other.
const TOLD: &str = "told";

fn version(v: Option<u32>) -> Result<(), WireError> {
    match v {
        None | Some(VERSION) => Ok(()),
        Some(found) => Err(WireError::Version { found }),
    }
}

#[cfg(test)]
mod tests;
