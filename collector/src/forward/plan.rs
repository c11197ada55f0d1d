//! What goes into which message: entries of the journal put together anew for one queue. Pure.
//!
//! The journal cannot be changed, so a message is determined by who made its observations, its number, its promise and
//! the span of `seq` in it. That much, a [`Piece`], is written down before a message is sent for the first time; from it and
//! the journal the same message is made again after a crash. Where the journal had to drop entries since, for want of room,
//! what is left of the message goes: its number stays, its promise holds, and the journal tells of the gap.

use std::collections::BTreeMap;

use crosswatch_shared::config::topology::shard;
use crosswatch_shared::observation::{Batch, Body, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;

/// The most observations in a message: at usual lengths 4 MB of wire form, 0.4 MB of text.
pub const MOST: usize = 30_000;

/// The part of the observations that goes to one of a stage's queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Share {
    /// The queue's place.
    pub index: usize,
    /// How many queues there are.
    pub of: usize,
}

/// What determines a message.
#[derive(Clone, Debug, PartialEq)]
pub struct Piece {
    /// Who made its observations.
    pub origin: Origin,
    /// Its number among the boot's messages to this queue.
    pub number: u64,
    /// Its promise.
    pub through: Timestamp,
    /// The first and the last `seq` in it; `None`: it has no observations.
    pub seqs: Option<(u64, u64)>,
    /// The journal's number of the last batch of this boot that this piece, or one before it, is made of.
    pub last: u64,
    /// Whose share it is.
    pub share: Share,
}

/// The number of the next message of each boot.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Numbers(BTreeMap<(Name, Name), u64>);

impl Share {
    /// Whether an observation belongs to it. What is of no link goes to the first queue.
    #[must_use]
    pub fn has(self, observation: &Observation) -> bool {
        match &observation.body {
            Body::Probe { link, .. } | Body::Tunnels { link, .. } | Body::Evidence { link, .. } => {
                shard(link, self.of) == self.index
            }
            Body::Collection { .. } | Body::Drill { .. } => self.index == 0,
        }
    }
}

impl Numbers {
    /// The next message of this boot.
    #[must_use]
    pub fn next(&self, origin: &Origin) -> u64 {
        self.0.get(&key(origin)).copied().unwrap_or(0)
    }

    /// Messages of this boot up to this one are done with.
    pub fn done(&mut self, origin: &Origin, number: u64) {
        let next = self.0.entry(key(origin)).or_default();
        *next = (*next).max(number.saturating_add(1));
    }
}

fn key(origin: &Origin) -> (Name, Name) {
    (origin.collector.clone(), origin.boot.clone())
}

/// Makes messages of these entries of the journal, given in its order. `encode` gives a message's text, or `None` when it
/// is too long for one.
#[must_use]
pub fn pack(
    entries: &[Batch],
    numbers: &Numbers,
    share: Share,
    encode: impl Fn(&Batch) -> Option<String>,
) -> Vec<(Piece, String)> {
    let mut packed = Vec::new();
    for of_boot in entries.chunk_by(|one, next| one.origin == next.origin) {
        let (Some(newest), Some(origin)) = (of_boot.last(), of_boot.first().map(|entry| &entry.origin))
        else {
            continue;
        };
        let own = of_boot.iter().flat_map(|entry| &entry.observations).filter(|one| share.has(one));
        let own: Vec<&Observation> = own.collect();
        let through = of_boot.iter().map(|entry| entry.through).max().unwrap_or(Timestamp::MIN);
        let form = |number, observations: &[&Observation], behind: &[&Observation]| {
            let open = behind.iter().map(|one| one.at).min();
            let piece = Piece {
                origin: origin.clone(),
                number,
                // What is behind is sent later.
                through: open.map_or(through, |at| at.min(through)),
                seqs: observations.first().zip(observations.last()).map(|(one, last)| (one.seq, last.seq)),
                last: newest.number,
                share,
            };
            let observations = observations.iter().map(|&one| one.clone()).collect();
            (message(&piece, observations), piece)
        };
        // An earlier part of the same boot, when another boot's entries lie between, has used up numbers.
        let used = packed.iter().rev().find(|(piece, _): &&(Piece, String)| piece.origin == *origin);
        let mut number = used.map_or_else(|| numbers.next(origin), |(piece, _)| piece.number + 1);
        let (mut rest, mut most) = (own.as_slice(), MOST);
        loop {
            let mut count = rest.len().min(most);
            let (piece, text) = loop {
                let (observations, behind) = rest.split_at(count);
                let (batch, piece) = form(number, observations, behind);
                match encode(&batch) {
                    Some(text) => break (piece, text),
                    None if count > 1 => count /= 2,
                    // One observation alone is far below any limit, unless a name or an error has a megabyte.
                    None => break (piece, crosswatch_shared::wire::encode_batch(&batch)),
                }
            };
            packed.push((piece, text));
            // What little room takes is known by now: nothing like MOST is encoded for each message.
            most = (2 * count).min(MOST);
            number += 1;
            rest = rest.split_at(count).1;
            if rest.is_empty() {
                break;
            }
        }
    }
    packed
}

/// Makes the message of a piece again, from the entries of the journal that it was made of.
#[must_use]
pub fn again(entries: &[Batch], piece: &Piece) -> Batch {
    let within = |one: &&Observation| {
        piece.seqs.is_some_and(|(first, last)| (first..=last).contains(&one.seq)) && piece.share.has(one)
    };
    let of_boot = entries.iter().filter(|entry| entry.origin == piece.origin);
    message(piece, of_boot.flat_map(|entry| &entry.observations).filter(within).cloned().collect())
}

fn message(piece: &Piece, observations: Vec<Observation>) -> Batch {
    Batch { origin: piece.origin.clone(), number: piece.number, through: piece.through, observations }
}

/// Whether an entry of the journal is one of those that these pieces were made of.
#[must_use]
pub fn is_of(pieces: &[Piece], entry: &Batch) -> bool {
    pieces.iter().any(|piece| piece.origin == entry.origin && entry.number <= piece.last)
}

/// Whether it is the last one of them.
#[must_use]
pub fn is_last_of(pieces: &[Piece], entry: &Batch) -> bool {
    pieces.last().is_some_and(|piece| piece.origin == entry.origin && entry.number >= piece.last)
}

#[cfg(test)]
mod tests;
