//! Which of the newest numbers of a sequence were seen; the sequence wraps at 2^32. Pure.

/// How many numbers back it remembers.
pub(crate) const WINDOW: u32 = u128::BITS;

/// The newest number and those before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Recent {
    newest: u32,
    /// Bit `i` stands for `newest - i`.
    seen: u128,
}

/// Where a number stands to what was seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Place {
    /// So far past the newest: one for the next.
    Ahead(u32),
    /// Before the newest, and not seen yet.
    Behind,
    /// Seen.
    Again,
    /// Too far back to tell.
    Old,
}

impl Recent {
    /// Nothing of this number or after it was seen, all before it was.
    pub(crate) fn before(first: u32) -> Self {
        Self { newest: first.wrapping_sub(1), seen: u128::MAX }
    }

    pub(crate) fn place(&self, number: u32) -> Place {
        let ahead = number.wrapping_sub(self.newest);
        if ahead != 0 && ahead < 1 << 31 {
            return Place::Ahead(ahead);
        }
        match ahead.wrapping_neg() {
            back if back >= WINDOW => Place::Old,
            back if self.seen >> back & 1 == 1 => Place::Again,
            _ => Place::Behind,
        }
    }

    /// Remembers it; where it stood before.
    pub(crate) fn mark(&mut self, number: u32) -> Place {
        let place = self.place(number);
        match place {
            Place::Ahead(by) => {
                self.seen = self.seen.checked_shl(by).unwrap_or(0) | 1;
                self.newest = number;
            }
            Place::Behind => self.seen |= 1 << self.newest.wrapping_sub(number),
            Place::Again | Place::Old => {}
        }
        place
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::HashSet;

    #[test]
    fn it_tells_ahead_behind_again_and_old_over_the_wrap() {
        let mut recent = Recent::before(u32::MAX);
        assert_eq!(recent.place(u32::MAX - 1), Place::Again);
        assert_eq!(recent.mark(u32::MAX), Place::Ahead(1));
        assert_eq!(recent.mark(2), Place::Ahead(3));
        assert_eq!(recent.mark(0), Place::Behind);
        assert_eq!(recent.mark(0), Place::Again);
        assert_eq!(recent.mark(2), Place::Again);
        assert_eq!(recent.place(1), Place::Behind);
        assert_eq!(recent.mark(1_000), Place::Ahead(998));
        assert_eq!(recent.place(2), Place::Old);
    }

    proptest! {
        #[test]
        fn it_is_a_set_that_forgets(first in any::<u32>(), steps in prop::collection::vec(-100_i32..60, 1..200)) {
            let mut recent = Recent::before(first);
            let (mut set, mut newest) = (HashSet::new(), 0_i64);
            for step in steps {
                let number = (newest + i64::from(step)).max(1);
                let expected = match newest - number {
                    back if back < 0 => Place::Ahead(u32::try_from(-back).unwrap()),
                    back if back >= i64::from(WINDOW) => Place::Old,
                    _ if set.contains(&number) => Place::Again,
                    _ => Place::Behind,
                };
                let wire = first.wrapping_add(u32::try_from(number - 1).unwrap());
                // At the start the newest is the one before the first.
                prop_assert_eq!(recent.mark(wire), expected, "{} after {}", number, newest);
                set.insert(number);
                newest = newest.max(number);
            }
        }
    }
}
