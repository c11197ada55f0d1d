//! What a replay put back into a queue: observations under their own collector, boot and number.
//!
//! They are no batch. They have no place among their boot's batches and promise nothing, so that they move nobody's event
//! time and leave no gap. A program that does not know the mark must not take them for news, and page for them: their
//! version is another, which such a program refuses by name and keeps among its dead letters.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use super::read::{Read, Text, each_understood, one_by_one};
use super::write::{Written, json, written};
use super::{Decoded, Names, WireError, decode_batch};
use crate::observation::{Observation, Origin};

/// The version of these messages.
pub(super) const VERSION: u32 = 2;

/// See the module.
#[derive(Clone, Debug, PartialEq)]
pub struct PutBack {
    /// Who made them.
    pub origin: Origin,
    /// Whether an alerter is to judge them, and page for what comes of it.
    pub pages: bool,
    /// The observations.
    pub observations: Vec<Observation>,
}

/// What lies in a queue.
#[derive(Clone, Debug, PartialEq)]
pub enum Message {
    /// A collector's batch.
    Batch(Decoded),
    /// What a replay put back, and how many of its observations are of kinds that this version does not know.
    PutBack(PutBack, u64),
}

/// Writes what is put back as one message: JSON text.
#[must_use]
pub fn encode_put_back(put_back: &PutBack) -> String {
    let PutBack { origin, pages, observations } = put_back;
    json(&WrittenPutBack {
        v: VERSION,
        replayed: Mark { pages: *pages },
        site: &origin.site,
        collector: &origin.collector,
        boot: &origin.boot,
        observations: observations.iter().map(|observation| written(None, observation)).collect(),
    })
}

/// Reads a message of a queue.
///
/// # Errors
/// As [`WireError`] says. One observation that means nothing condemns the whole message.
pub fn decode_message(text: &[u8], names: &mut Names) -> Result<Message, WireError> {
    match decode_batch(text, names) {
        Ok(decoded) => Ok(Message::Batch(decoded)),
        Err(WireError::PutBack) => {
            let ReadPutBack { replayed, site, collector, boot, observations } = read(text)?;
            // What another alerter tells is put back by nobody.
            let (observations, unknown_kinds, told) = each_understood(observations, names)?;
            let unknown_kinds = unknown_kinds + told.len() as u64;
            let origin = Origin {
                site: names.get(&site.0),
                collector: names.get(&collector.0),
                boot: names.get(&boot.0),
            };
            let put_back = PutBack { origin, pages: replayed.pages, observations };
            Ok(Message::PutBack(put_back, unknown_kinds))
        }
        Err(error) => Err(error),
    }
}

/// Whether a message of this version has the mark; another one is of a program that is newer.
pub(super) fn is_marked(text: &[u8]) -> bool {
    serde_json::from_slice::<HashMap<String, &RawValue>>(text)
        .is_ok_and(|fields| fields.contains_key("replayed"))
}

fn read(text: &[u8]) -> Result<ReadPutBack<Option<Read<'_>>, Text<'_>>, WireError> {
    if let Ok(read) = serde_json::from_slice(text) {
        return Ok(read);
    }
    // As of a batch: either it is broken, or a newer kind gives a field another type.
    let read: ReadPutBack<&RawValue, Text<'_>> = serde_json::from_slice(text)?;
    let ReadPutBack { replayed, site, collector, boot, observations } = read;
    Ok(ReadPutBack { replayed, site, collector, boot, observations: one_by_one(observations)? })
}

#[derive(Serialize, Deserialize)]
struct Mark {
    pages: bool,
}

#[derive(Serialize)]
struct WrittenPutBack<'a> {
    v: u32,
    replayed: Mark,
    site: &'a str,
    collector: &'a str,
    boot: &'a str,
    observations: Vec<Written<'a>>,
}

#[derive(Deserialize)]
struct ReadPutBack<O, T> {
    replayed: Mark,
    site: T,
    collector: T,
    boot: T,
    observations: Vec<O>,
}
