//! Which numbers were seen, as ranges: a boot's observations or batches are nearly always dense, so that millions of
//! numbers take one range.

use serde::{Deserialize, Serialize};

/// A set of numbers as sorted ranges with gaps between them, both ends in.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Ranges(Vec<(u64, u64)>);

impl Ranges {
    /// Adds a number; `false` if it was there already.
    pub fn insert(&mut self, number: u64) -> bool {
        // Nearly always the number after the newest one.
        let after = match self.0.last_mut() {
            Some(newest) if number > newest.1 && number - newest.1 == 1 => {
                newest.1 = number;
                return true;
            }
            Some(newest) if number > newest.1 => self.0.len(),
            _ => self.0.partition_point(|range| range.0 <= number),
        };
        let joins_before = after.checked_sub(1).map(|index| (index, self.0[index].1));
        if joins_before.is_some_and(|(_, last)| number <= last) {
            return false;
        }
        let before = joins_before.filter(|(_, last)| number - last == 1).map(|(index, _)| index);
        let behind = self.0.get(after).is_some_and(|range| range.0 - number == 1);
        match (before, behind) {
            (Some(before), true) => {
                self.0[before].1 = self.0[after].1;
                self.0.remove(after);
            }
            (Some(before), false) => self.0[before].1 = number,
            (None, true) => self.0[after].0 = number,
            (None, false) => self.0.insert(after, (number, number)),
        }
        true
    }

    /// Adds all numbers from `first` to `last`, both ends in. Nothing where `first` is greater.
    pub fn insert_all(&mut self, first: u64, last: u64) {
        if first > last {
            return;
        }
        // Those that overlap or touch it become one with it.
        let from = self.0.partition_point(|range| range.1 < first && first - range.1 > 1);
        let to = self.0.partition_point(|range| range.0 <= last || range.0 - last == 1);
        let joined = self.0.get(from..to).unwrap_or_default();
        let first = joined.first().map_or(first, |range| range.0.min(first));
        let last = joined.last().map_or(last, |range| range.1.max(last));
        self.0.splice(from..to, [(first, last)]);
    }

    /// Whether any number from `first` to `last`, both ends in, is in.
    #[must_use]
    pub fn meets(&self, first: u64, last: u64) -> bool {
        let from = self.0.partition_point(|range| range.1 < first);
        self.0.get(from).is_some_and(|range| range.0 <= last)
    }

    /// Whether a number is in.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.range(number).is_some()
    }

    /// The range that holds a number, both ends in.
    #[must_use]
    pub fn range(&self, number: u64) -> Option<(u64, u64)> {
        let after = self.0.partition_point(|range| range.0 <= number);
        let range = *self.0.get(after.checked_sub(1)?)?;
        (number <= range.1).then_some(range)
    }

    /// The ranges, sorted, both ends in.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> + '_ {
        self.0.iter().copied()
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    /// From what [`Ranges::iter`] gave, in any order.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        let mut ranges: Vec<_> = ranges.into_iter().collect();
        ranges.sort_unstable();
        Self(ranges)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn spans_agree_with_a_set(spans in proptest::collection::vec((0..40u64, 0..6u64), 0..20), asked in (0..46u64, 0..6u64)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for (first, length) in spans {
                ranges.insert_all(first, first + length);
                set.extend(first..=first + length);
                let listed: Vec<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(listed, set.iter().copied().collect::<Vec<_>>());
                for ((_, last), (first, _)) in ranges.iter().zip(ranges.iter().skip(1)) {
                    prop_assert!(first - last > 1, "neighbours are joined");
                }
                let (from, length) = asked;
                prop_assert_eq!(ranges.meets(from, from + length), set.range(from..=from + length).next().is_some());
            }
        }

        #[test]
        fn agrees_with_a_set(numbers in proptest::collection::vec(prop_oneof![0..40u64, u64::MAX - 3..=u64::MAX], 0..80)) {
            let (mut ranges, mut set) = (Ranges::default(), BTreeSet::new());
            for number in numbers {
                prop_assert_eq!(ranges.contains(number), set.contains(&number));
                prop_assert_eq!(ranges.insert(number), set.insert(number));
                let listed: Vec<u64> = ranges.iter().flat_map(|(first, last)| first..=last).collect();
                prop_assert_eq!(listed, set.iter().copied().collect::<Vec<_>>());
                for ((_, last), (first, _)) in ranges.iter().zip(ranges.iter().skip(1)) {
                    prop_assert!(first - last > 1, "neighbours are joined");
                }
            }
        }
    }
}
