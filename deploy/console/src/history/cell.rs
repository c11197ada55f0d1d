//! What is kept of a probe for one minute or one hour, and how many of them lie together in one row.

use std::collections::BTreeMap;

use crosswatch_shared::observation::{Detail, Lost, Outcome};

use super::histogram::{self, Histogram};

/// A probe's outcomes of a span of time. Cells add up in any order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Cell {
    /// Round-trip times of the replies.
    pub replies: Histogram,
    /// Packets that were lost on the way.
    pub lost: u32,
    /// Packets that this machine is to blame for, which count as no loss of the link.
    pub local: u32,
}

impl Cell {
    /// Adds an outcome; of a burst each packet.
    pub fn add(&mut self, outcome: Outcome, detail: Option<&Detail>) {
        let burst = detail.map_or(&[][..], |detail| &detail.burst);
        match outcome {
            Outcome::Lost(Lost::Local) => self.local = self.local.saturating_add(1),
            _ if !burst.is_empty() => {
                for packet in burst {
                    match packet {
                        Some(ms) => self.replies.add(*ms),
                        None => self.lost = self.lost.saturating_add(1),
                    }
                }
            }
            Outcome::Reply { rtt_ms } => self.replies.add(rtt_ms),
            Outcome::Lost(_) => self.lost = self.lost.saturating_add(1),
        }
    }

    /// Adds all that another holds.
    pub fn merge(&mut self, other: &Self) {
        self.replies.merge(&other.replies);
        self.lost = self.lost.saturating_add(other.lost);
        self.local = self.local.saturating_add(other.local);
    }

    /// The part of the packets that were lost, from 0 to 1; `None` where nothing tells.
    #[must_use]
    pub fn loss(&self) -> Option<f64> {
        let lost = f64::from(self.lost);
        let all = lost + self.replies.count() as f64;
        (all > 0.0).then(|| lost / all)
    }
}

/// The cells of one row, by their place in it: the minutes of an hour, or the hours of a day.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Row(pub(crate) BTreeMap<u8, Cell>);

impl Row {
    /// Adds a cell to the one at this place.
    pub(crate) fn add(&mut self, place: u8, cell: &Cell) {
        self.0.entry(place).or_default().merge(cell);
    }

    /// Its bytes: of each cell its place, lost, local and replies.
    pub(crate) fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::new();
        for (&place, cell) in &self.0 {
            bytes.push(place);
            histogram::write(&mut bytes, u64::from(cell.lost));
            histogram::write(&mut bytes, u64::from(cell.local));
            cell.replies.encode(&mut bytes);
        }
        bytes
    }

    /// Reads what [`Self::encode`] wrote; `None` for anything else.
    pub(crate) fn decode(mut bytes: &[u8]) -> Option<Self> {
        let bytes = &mut bytes;
        let mut row = Self::default();
        while let Some((&place, rest)) = bytes.split_first() {
            *bytes = rest;
            let lost = u32::try_from(histogram::read(bytes)?).ok()?;
            let local = u32::try_from(histogram::read(bytes)?).ok()?;
            let cell = Cell { lost, local, replies: Histogram::decode(bytes)? };
            if row.0.insert(place, cell).is_some() {
                return None;
            }
        }
        Some(row)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_packet_counts_once_and_what_is_the_machines_own_fault_is_no_loss() {
        let mut cell = Cell::default();
        cell.add(Outcome::Reply { rtt_ms: 80.0 }, None);
        cell.add(Outcome::Lost(Lost::Timeout), None);
        cell.add(Outcome::Lost(Lost::Local), None);
        let burst = Detail { burst: vec![Some(80.0), None, Some(81.0)], ..Detail::default() };
        cell.add(Outcome::Reply { rtt_ms: 80.0 }, Some(&burst));
        assert_eq!((cell.replies.count(), cell.lost, cell.local), (3, 2, 1));
        assert_eq!(cell.loss(), Some(0.4));
        assert_eq!(Cell { local: 5, ..Cell::default() }.loss(), None);
    }

    #[test]
    fn a_row_comes_back_as_it_was_and_half_a_row_is_none() {
        let mut row = Row::default();
        let mut cell = Cell { lost: 3, ..Cell::default() };
        cell.replies.add(81.7);
        cell.replies.add(250.0);
        row.add(0, &cell);
        row.add(59, &cell);
        row.add(59, &cell);
        let bytes = row.encode();
        assert_eq!(Row::decode(&bytes), Some(row));
        assert_eq!(Row::decode(&bytes[..bytes.len() - 1]), None);
    }
}
