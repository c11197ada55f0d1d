//! Percentiles that can be added up: a histogram whose buckets grow by 2 % each, the mapping of `DDSketch` (Masson, Rim and
//! Lee, 2019). Every percentile is within 1 % of a value that was added, whatever was merged in which order.
//!
//! Its own, for the bytes: a link's minute fills a handful of buckets, and takes ten bytes (docs/benchmarks.md).

/// How far a percentile is from a value that was added, at most, as a part of it.
pub const ACCURACY: f64 = 0.01;

/// The shortest round trip that is told apart, in milliseconds; all that is shorter is this.
const SHORTEST: f64 = 1e-3;
/// The longest.
const LONGEST: f64 = 1e7;

/// Round-trip times by how often each was seen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Histogram {
    /// Bucket and count, the buckets ascending, the counts above zero.
    buckets: Vec<(i16, u32)>,
}

impl Histogram {
    /// Adds a round-trip time in milliseconds. What is no number is left out.
    pub fn add(&mut self, ms: f64) {
        if ms.is_finite() {
            self.put(bucket(ms), 1);
        }
    }

    /// Adds all that another holds.
    pub fn merge(&mut self, other: &Self) {
        for &(bucket, count) in &other.buckets {
            self.put(bucket, count);
        }
    }

    fn put(&mut self, bucket: i16, count: u32) {
        match self.buckets.binary_search_by_key(&bucket, |&(of, _)| of) {
            Ok(place) => {
                if let Some((_, had)) = self.buckets.get_mut(place) {
                    *had = had.saturating_add(count);
                }
            }
            Err(place) => self.buckets.insert(place, (bucket, count)),
        }
    }

    /// How many were added.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.buckets.iter().map(|&(_, count)| u64::from(count)).sum()
    }

    /// The percentile `part`, from 0 to 1, by nearest rank, in milliseconds; `None` while nothing was added.
    #[must_use]
    pub fn quantile(&self, part: f64) -> Option<f64> {
        let count = self.count();
        // Counts stay far below 2^53.
        let rank = ((part.clamp(0.0, 1.0) * count as f64).ceil() as u64).max(1);
        let mut passed = 0;
        for &(bucket, count) in &self.buckets {
            passed += u64::from(count);
            if passed >= rank {
                return Some(middle(bucket));
            }
        }
        None
    }

    /// Appends its bytes: how many buckets, then for each how far it is from the one before, and its count.
    pub(super) fn encode(&self, bytes: &mut Vec<u8>) {
        write(bytes, self.buckets.len() as u64);
        let mut before = 0_i16;
        for (place, &(bucket, count)) in self.buckets.iter().enumerate() {
            let step = i32::from(bucket) - i32::from(before);
            let step = if place == 0 { zigzag(step) } else { step.unsigned_abs() };
            write(bytes, u64::from(step));
            write(bytes, u64::from(count));
            before = bucket;
        }
    }

    /// Reads what [`Self::encode`] wrote, and moves on behind it; `None` for anything else.
    pub(super) fn decode(bytes: &mut &[u8]) -> Option<Self> {
        let length = usize::try_from(read(bytes)?).ok()?;
        let mut buckets = Vec::with_capacity(length.min(2_048));
        let mut before = 0_i32;
        for place in 0..length {
            let step = u32::try_from(read(bytes)?).ok()?;
            let step = if place == 0 { unzigzag(step) } else { i32::try_from(step).ok()? };
            let count = u32::try_from(read(bytes)?).ok()?;
            if (place > 0 && step == 0) || count == 0 {
                return None;
            }
            before = before.checked_add(step)?;
            buckets.push((i16::try_from(before).ok()?, count));
        }
        Some(Self { buckets })
    }
}

fn growth() -> f64 {
    (1.0 + ACCURACY) / (1.0 - ACCURACY)
}

fn bucket(ms: f64) -> i16 {
    // From -345 to 806.
    (ms.clamp(SHORTEST, LONGEST).ln() / growth().ln()).ceil() as i16
}

/// The value that is equally far, as a part of it, from both ends of the bucket.
fn middle(bucket: i16) -> f64 {
    2.0 * growth().powi(i32::from(bucket)) / (growth() + 1.0)
}

fn zigzag(value: i32) -> u32 {
    ((value << 1) ^ (value >> 31)).cast_unsigned()
}

fn unzigzag(value: u32) -> i32 {
    (value >> 1).cast_signed() ^ -(value & 1).cast_signed()
}

/// LEB128: seven bits a byte, the lowest first.
pub(super) fn write(bytes: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        bytes.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    bytes.push(value as u8);
}

/// Reads what [`write`] wrote; `None` where the bytes end first.
pub(super) fn read(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (&byte, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn of(values: &[f64]) -> Histogram {
        let mut histogram = Histogram::default();
        values.iter().for_each(|&value| histogram.add(value));
        histogram
    }

    proptest! {
        #[test]
        fn every_percentile_is_within_a_hundredth_of_the_exact_one(
            mut values in prop::collection::vec(0.002_f64..100_000.0, 1..300),
            part in 0.0_f64..=1.0,
        ) {
            let told = of(&values).quantile(part).unwrap();
            values.sort_by(f64::total_cmp);
            let rank = ((part * values.len() as f64).ceil() as usize).max(1);
            let exact = values[rank - 1];
            prop_assert!((told - exact).abs() <= exact * ACCURACY * 1.000_001, "{told} for {exact}");
        }

        #[test]
        fn merged_in_any_parts_it_is_what_all_together_make(
            one in prop::collection::vec(0.0_f64..1_000.0, 0..100),
            other in prop::collection::vec(0.0_f64..1_000.0, 0..100),
        ) {
            let mut merged = of(&one);
            merged.merge(&of(&other));
            let all: Vec<f64> = other.iter().chain(&one).copied().collect();
            prop_assert_eq!(&merged, &of(&all));
            let mut bytes = Vec::new();
            merged.encode(&mut bytes);
            let mut rest = &*bytes;
            prop_assert_eq!(Histogram::decode(&mut rest), Some(merged));
            prop_assert!(rest.is_empty());
        }

        #[test]
        fn bytes_of_anything_are_read_or_refused(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
            let _ = Histogram::decode(&mut &*bytes);
        }
    }

    #[test]
    fn what_is_no_round_trip_time_changes_nothing_or_is_the_nearest_that_is() {
        assert_eq!(of(&[f64::NAN, f64::INFINITY]).quantile(0.5), None);
        let ends = of(&[-1.0, 0.0, 1e300]);
        assert!((ends.quantile(0.0).unwrap() - SHORTEST).abs() < 1e-4);
        assert!(ends.quantile(1.0).unwrap() > 9.8e6);
    }
}
