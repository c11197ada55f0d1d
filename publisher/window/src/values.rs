//! Values with counts: the form in which a distribution is put, kept and read.

use crate::codec::{Bytes, Damaged, put_f64, put_varint};

/// The most distinct values one put may carry; the limit of CloudWatch's `PutMetricData`.
pub const MOST_VALUES: usize = 150;

/// Distinct values in the metric's unit and in ascending order, each with how often it occurred; never empty.
#[derive(Clone, Debug, PartialEq)]
pub struct Values {
    pairs: Vec<(f64, u64)>,
}

impl Values {
    /// From values in any order, equal ones joined; `None` when none of them occurred.
    #[must_use]
    pub fn new(mut pairs: Vec<(f64, u64)>) -> Option<Self> {
        pairs.retain(|&(_, count)| count > 0);
        (!pairs.is_empty()).then(|| Self::joined(pairs))
    }

    /// Both together.
    #[must_use]
    pub fn merge(mut self, other: Self) -> Self {
        self.pairs.extend(other.pairs);
        Self::joined(self.pairs)
    }

    fn joined(mut pairs: Vec<(f64, u64)>) -> Self {
        pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
        pairs.dedup_by(|next, kept| {
            let same = next.0 == kept.0;
            if same {
                kept.1 += next.1;
            }
            same
        });
        Self { pairs }
    }

    /// The values in ascending order, each with its count.
    #[must_use]
    pub fn pairs(&self) -> &[(f64, u64)] {
        &self.pairs
    }

    /// How many samples there are.
    #[must_use]
    pub fn count(&self) -> u64 {
        self.pairs.iter().map(|&(_, count)| count).sum()
    }

    /// The sum of all samples.
    #[must_use]
    pub fn sum(&self) -> f64 {
        self.pairs.iter().map(|&(value, count)| value * count as f64).sum()
    }

    /// The mean of all samples.
    #[must_use]
    pub fn average(&self) -> f64 {
        self.sum() / self.count() as f64
    }

    /// The least sample.
    #[must_use]
    pub fn minimum(&self) -> f64 {
        self.pairs.first().map_or(f64::NAN, |&(value, _)| value)
    }

    /// The greatest sample.
    #[must_use]
    pub fn maximum(&self) -> f64 {
        self.pairs.last().map_or(f64::NAN, |&(value, _)| value)
    }

    /// The percentile by nearest rank: the least value that at least `percent` per cent of the samples do not exceed.
    #[must_use]
    pub fn percentile(&self, percent: u8) -> f64 {
        let rank = (u128::from(self.count()) * u128::from(percent)).div_ceil(100);
        let mut seen = 0;
        for &(value, count) in &self.pairs {
            seen += u128::from(count);
            if seen >= rank {
                return value;
            }
        }
        self.maximum()
    }

    /// Split into parts of at most `most` values; together they are the same samples.
    pub fn parts(&self, most: usize) -> impl Iterator<Item = Self> {
        self.pairs.chunks(most.max(1)).map(|pairs| Self { pairs: pairs.to_vec() })
    }

    /// A compact form to be stored.
    ///
    /// Round-trip times are whole nanoseconds, and close together once sorted: then each value is its distance from the
    /// one before it, three bytes instead of eight. Where that would change a value, all are written whole.
    #[must_use]
    pub fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(2 + self.pairs.len() * 5);
        put_varint(&mut bytes, self.pairs.len() as u64);
        let nanos: Option<Vec<i64>> = self.pairs.iter().map(|&(value, _)| whole_nanos(value)).collect();
        match nanos {
            Some(nanos) => {
                bytes.push(NANOS);
                let mut before = 0;
                for nanos in nanos {
                    put_varint(&mut bytes, zigzag(nanos - before));
                    before = nanos;
                }
            }
            None => {
                bytes.push(WHOLE);
                for &(value, _) in &self.pairs {
                    put_f64(&mut bytes, value);
                }
            }
        }
        // Most often every value occurred once: then nothing more is written.
        if self.pairs.iter().any(|&(_, count)| count != 1) {
            for &(_, count) in &self.pairs {
                put_varint(&mut bytes, count);
            }
        }
        bytes
    }

    /// What [`Values::encode`] wrote; `None` for anything else.
    #[must_use]
    pub fn decode(bytes: &[u8]) -> Option<Self> {
        let mut bytes = Bytes::new(bytes);
        let values = Self::read(&mut bytes).ok()?;
        bytes.is_empty().then_some(values)
    }

    fn read(bytes: &mut Bytes<'_>) -> Result<Self, Damaged> {
        let len = bytes.length()?;
        let mut values = Vec::with_capacity(len);
        match bytes.byte()? {
            NANOS => {
                let mut nanos = 0_i64;
                for _ in 0..len {
                    nanos = nanos.checked_add(unzigzag(bytes.varint()?)).ok_or(Damaged)?;
                    values.push(millis(nanos));
                }
            }
            WHOLE => {
                for _ in 0..len {
                    values.push(bytes.f64()?);
                }
            }
            _ => return Err(Damaged),
        }
        let all_once = bytes.is_empty();
        let pairs = values
            .into_iter()
            .map(|value| Ok((value, if all_once { 1 } else { bytes.varint()? })))
            .collect::<Result<_, Damaged>>()?;
        Self::new(pairs).ok_or(Damaged)
    }
}

const NANOS: u8 = 0;
const WHOLE: u8 = 1;

fn millis(nanos: i64) -> f64 {
    nanos as f64 / 1e6
}

/// The value in millionths, if it is exactly that many and survives the way back.
fn whole_nanos(value: f64) -> Option<i64> {
    let nanos = (value * 1e6).round();
    // Below 2^53 every whole number is a float of its own.
    (nanos.abs() < 9e15 && millis(nanos as i64).to_bits() == value.to_bits()).then_some(nanos as i64)
}

fn zigzag(value: i64) -> u64 {
    ((value << 1) ^ (value >> 63)).cast_unsigned()
}

fn unzigzag(value: u64) -> i64 {
    (value >> 1).cast_signed() ^ -((value & 1).cast_signed())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn value() -> impl Strategy<Value = f64> {
        prop_oneof![
            (0..200_000_000_i64).prop_map(millis),
            -1e9..1e9,
            Just(0.0),
            Just(f64::MIN_POSITIVE),
            Just(1e300),
        ]
    }

    #[test]
    fn round_trip_times_take_few_bytes() {
        let pairs = (0..60).map(|step| (millis(81_700_123 + step * 9_377), 1)).collect();
        let bytes = Values::new(pairs).unwrap().encode();
        assert!(bytes.len() < 200, "{}", bytes.len());
    }

    #[test]
    fn nearest_rank() {
        let values = Values::new(vec![(15.0, 1), (20.0, 1), (35.0, 1), (40.0, 1), (50.0, 1)]).unwrap();
        let percentiles = [5, 30, 40, 50, 100].map(|percent| values.percentile(percent));
        assert_eq!(percentiles, [15.0, 20.0, 20.0, 35.0, 50.0]);
    }

    proptest! {
        #[test]
        fn what_is_stored_is_read_back_to_the_bit(
            pairs in proptest::collection::vec((value(), 1..1_000_u64), 1..300),
        ) {
            let values = Values::new(pairs).unwrap();
            prop_assert_eq!(Values::decode(&values.encode()), Some(values));
        }

        #[test]
        fn no_bytes_make_the_reader_panic(bytes in proptest::collection::vec(any::<u8>(), 0..60)) {
            let _ = Values::decode(&bytes);
        }

        #[test]
        fn parts_are_small_and_together_the_whole(
            pairs in proptest::collection::vec((value(), 1..9_u64), 1..500),
        ) {
            let values = Values::new(pairs).unwrap();
            let parts: Vec<_> = values.parts(MOST_VALUES).collect();
            prop_assert!(parts.iter().all(|part| part.pairs().len() <= MOST_VALUES));
            prop_assert_eq!(parts.into_iter().reduce(Values::merge), Some(values));
        }
    }
}
