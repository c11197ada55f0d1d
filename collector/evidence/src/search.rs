//! The largest size of packet that passes: which sizes are tried next, and what is known so far. Pure.
//!
//! Several sizes are tried at once, so that a step costs one wait, however many of them are lost: the 1,500 bytes of
//! Ethernet take three steps, 9,001 four.

use std::net::IpAddr;

use crosswatch_shared::evidence::Sweep;

/// Sizes tried in one step.
const AT_ONCE: u32 = 16;

/// What is known so far. Sizes are bytes of the whole IP packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Search {
    known: Sweep,
}

impl Search {
    /// Between these two, the lesser of which has passed.
    #[must_use]
    pub fn new(least: u32, most: u32) -> Self {
        let most = most.max(least);
        Self { known: Sweep { least, most, passed: least, failed: None, told_mtu: None, told_by: None } }
    }

    /// The sizes to try next, in ascending order; none once the answer is known.
    #[must_use]
    pub fn next(&self) -> Vec<u32> {
        let Sweep { most, passed, failed, told_mtu, .. } = self.known;
        // Exclusive.
        let end = failed.unwrap_or(most.saturating_add(1));
        let open = end.saturating_sub(passed);
        let mut sizes: Vec<u32> = if open <= AT_ONCE + 1 {
            (passed.saturating_add(1)..end).collect()
        } else {
            let step = |part: u32| u64::from(open) * u64::from(part) / u64::from(AT_ONCE + 1);
            (1..=AT_ONCE)
                .filter_map(|part| passed.checked_add(u32::try_from(step(part)).ok()?))
                // Mostly everything passes, or what a router named.
                .chain(failed.is_none().then_some(most))
                .chain(told_mtu.into_iter().flat_map(|mtu| [mtu, mtu.saturating_add(1)]))
                .filter(|&size| size > passed && size < end)
                .collect()
        };
        sizes.sort_unstable();
        sizes.dedup();
        sizes
    }

    /// This size passed, and so does all below it.
    pub fn passed(&mut self, size: u32) {
        self.known.passed = self.known.passed.max(size.min(self.known.most));
        // What failed below was lost to something else.
        self.known.failed = self.known.failed.filter(|&failed| failed > self.known.passed);
    }

    /// This size did not pass, and so does nothing above it.
    pub fn failed(&mut self, size: u32) {
        if size > self.known.passed && size <= self.known.most {
            self.known.failed = Some(self.known.failed.map_or(size, |failed| failed.min(size)));
        }
    }

    /// A router said that this size does not pass, and what does.
    pub fn told(&mut self, size: u32, mtu: Option<u32>, by: Option<IpAddr>) {
        self.failed(size);
        if let Some(mtu) = mtu.filter(|&mtu| self.known.told_mtu.is_none_or(|told| mtu < told)) {
            (self.known.told_mtu, self.known.told_by) = (Some(mtu), by);
        }
    }

    /// Whether it is known of this size.
    #[must_use]
    pub fn is_decided(&self, size: u32) -> bool {
        size <= self.known.passed || self.known.failed.is_some_and(|failed| size >= failed)
    }

    /// What is known.
    #[must_use]
    pub const fn sweep(&self) -> Sweep {
        self.known
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Searches where sizes up to `mtu` pass; how many steps it took.
    fn search(least: u32, most: u32, mtu: u32, told: bool) -> (Sweep, u32) {
        let mut search = Search::new(least, most);
        for step in 0.. {
            let sizes = search.next();
            assert!(sizes.len() <= 19, "{sizes:?}");
            if sizes.is_empty() {
                return (search.sweep(), step);
            }
            for size in sizes {
                if size <= mtu {
                    search.passed(size);
                } else if told {
                    search.told(size, Some(mtu), None);
                } else {
                    search.failed(size);
                }
            }
        }
        unreachable!()
    }

    #[test]
    fn a_few_steps_suffice() {
        assert_eq!(search(576, 1500, 1500, false).1, 1);
        assert_eq!(search(576, 1500, 1436, false).1, 3);
        assert!(search(576, 9001, 1436, false).1 <= 4);
        assert!(search(1280, 65_535, 8500, false).1 <= 4);
        // What a router names is tried at once.
        assert_eq!(search(576, 9001, 1436, true).1, 2);
    }

    #[test]
    fn a_size_that_passes_late_corrects_what_was_taken_for_lost() {
        let mut search = Search::new(576, 1500);
        search.failed(1000);
        search.passed(1400);
        assert_eq!((search.sweep().passed, search.sweep().failed), (1400, None));
        assert!(search.next().contains(&1500));
    }

    proptest! {
        #[test]
        fn it_finds_the_size(least in 0u32..2000, more in 0u32..70_000, part in 0.0..=1.0f64, told: bool) {
            let most = least + more;
            let mtu = least + (f64::from(more) * part) as u32;
            let (sweep, steps) = search(least, most, mtu, told);
            prop_assert_eq!(sweep.passed, mtu);
            prop_assert_eq!(sweep.failed, (mtu < most).then_some(mtu + 1));
            prop_assert!(steps <= 5, "{}", steps);
        }

        #[test]
        fn any_words_leave_it_in_bounds(words in prop::collection::vec((any::<u32>(), any::<u32>(), 0..3), 0..40)) {
            let mut search = Search::new(576, 1500);
            for (size, mtu, word) in words {
                match word {
                    0 => search.passed(size),
                    1 => search.failed(size),
                    _ => search.told(size, Some(mtu), None),
                }
                let Sweep { passed, failed, .. } = search.sweep();
                prop_assert!((576..=1500).contains(&passed) && failed.is_none_or(|failed| failed > passed));
                prop_assert!(search.next().into_iter().all(|size| size > passed && size <= 1500));
            }
        }
    }
}
