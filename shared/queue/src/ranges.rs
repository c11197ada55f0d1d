//! A set of numbers kept as ranges: dense numbering makes it a single range, whatever the order they come in.

use std::collections::BTreeMap;

/// A set of numbers. Adjacent ranges are one.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ranges {
    /// First to last, both inside. No two touch.
    ranges: BTreeMap<u64, u64>,
}

impl Ranges {
    /// Whether the number is in the set.
    #[must_use]
    pub fn contains(&self, number: u64) -> bool {
        self.range(number).is_some()
    }

    /// The range that holds the number: its first and last.
    #[must_use]
    pub fn range(&self, number: u64) -> Option<(u64, u64)> {
        let (&first, &last) = self.ranges.range(..=number).next_back()?;
        (number <= last).then_some((first, last))
    }

    /// Adds a number; false when it was in already.
    pub fn insert(&mut self, number: u64) -> bool {
        if self.contains(number) {
            return false;
        }
        let below = number.checked_sub(1).and_then(|below| self.range(below));
        let above = number.checked_add(1).and_then(|above| self.range(above));
        if let Some((first, _)) = above {
            self.ranges.remove(&first);
        }
        let first = below.map_or(number, |(first, _)| first);
        let last = above.map_or(number, |(_, last)| last);
        self.ranges.insert(first, last);
        true
    }

    /// The ranges, in order.
    pub fn iter(&self) -> impl Iterator<Item = (u64, u64)> {
        self.ranges.iter().map(|(&first, &last)| (first, last))
    }
}

impl FromIterator<(u64, u64)> for Ranges {
    /// From ranges that [`Ranges::iter`] gave.
    fn from_iter<I: IntoIterator<Item = (u64, u64)>>(ranges: I) -> Self {
        Self { ranges: ranges.into_iter().collect() }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn is_the_set_of_what_was_inserted(
            numbers in proptest::collection::vec(prop_oneof![0..40u64, u64::MAX - 5..=u64::MAX], 0..80),
        ) {
            let mut model = HashSet::new();
            let mut ranges = Ranges::default();
            for number in numbers {
                prop_assert_eq!(ranges.insert(number), model.insert(number));
            }
            for number in (0..42).chain(u64::MAX - 7..=u64::MAX) {
                prop_assert_eq!(ranges.contains(number), model.contains(&number), "{}", number);
            }
            let kept: Vec<_> = ranges.iter().collect();
            prop_assert!(
                kept.windows(2).all(|pair| pair[0].1 + 1 < pair[1].0),
                "adjacent ranges are one: {:?}", kept
            );
            prop_assert_eq!(kept.into_iter().collect::<Ranges>(), ranges);
        }
    }
}
