//! The boots of a site in their order, with what was seen of each: the order that their ids tell, else that of their first
//! appearance.

use crosswatch_shared::observation::{Name, Origin, is_later_boot};
use crosswatch_shared::ranges::Ranges;
use serde::{Deserialize, Serialize};

/// How many are remembered; what an older one sends again is judged again.
const BOOTS: usize = 64;

/// See the module.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(crate) struct Boots {
    boots: Vec<Boot>,
    /// How many were forgotten, so that the places of the others stay.
    forgotten: u32,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
struct Boot {
    collector: Name,
    boot: Name,
    seen: Ranges,
}

impl Boots {
    /// A boot's place in their order, the forgotten ones counted.
    pub(crate) fn place(&self, index: usize) -> u32 {
        u32::try_from(index).unwrap_or(u32::MAX).saturating_add(self.forgotten)
    }

    /// Where a boot stands. Nearly always the newest is asked for.
    pub(crate) fn find(&self, origin: &Origin) -> Option<usize> {
        self.boots.iter().rposition(|known| known.boot == origin.boot && known.collector == origin.collector)
    }

    /// Whether a boot is known, or its place is told by its id, or it is the first.
    pub(crate) fn is_placed(&self, origin: &Origin) -> bool {
        let newest = self.boots.last();
        newest.is_none_or(|newest| is_later_boot(&origin.boot, &newest.boot).is_some())
            || self.find(origin).is_some()
    }

    /// Puts a boot that appears to its place: before those that are later by their ids, which a queue that keeps no order
    /// may have given first. Gives where it is, and whether that is the last.
    pub(crate) fn add(&mut self, origin: &Origin) -> (usize, bool) {
        if self.boots.len() == BOOTS {
            self.boots.remove(0);
            self.forgotten += 1;
        }
        let is_earlier = |other: &Boot| is_later_boot(&origin.boot, &other.boot) == Some(false);
        let later = self.boots.iter().rev().take_while(|other| is_earlier(other)).count();
        let index = self.boots.len() - later;
        let (collector, boot) = (origin.collector.clone(), origin.boot.clone());
        self.boots.insert(index, Boot { collector, boot, seen: Ranges::default() });
        (index, later == 0)
    }

    /// Notes that an observation of a boot was seen; `false` if it had been before.
    pub(crate) fn see(&mut self, index: usize, seq: u64) -> bool {
        self.boots.get_mut(index).is_some_and(|boot| boot.seen.insert(seq))
    }

    /// The newest boot's place.
    pub(crate) fn last_place(&self) -> u32 {
        self.place(self.boots.len().saturating_sub(1))
    }

    /// The boot that event time follows comes after all others, whatever their ids say: what it sends from now on is new.
    /// What was seen of it before keeps its place.
    pub(crate) fn put_last(&mut self, boot: &str) {
        let index = self.boots.iter().rposition(|known| *known.boot == *boot);
        let Some(index) = index.filter(|index| index + 1 < self.boots.len()) else {
            return;
        };
        let seen = std::mem::take(&mut self.boots[index].seen);
        let again = Boot { seen, ..self.boots[index].clone() };
        self.boots.push(again);
        if self.boots.len() > BOOTS {
            self.boots.remove(0);
            self.forgotten += 1;
        }
    }
}
