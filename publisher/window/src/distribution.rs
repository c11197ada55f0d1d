//! A distribution: what remains of a period's samples, in little memory, with every percentile within one per cent.

use crate::codec::{Bytes, Damaged, put_f64, put_varint};
use crate::values::{MOST_VALUES, Values};

/// The width of a bucket: its greatest value is at most this times its least, so its mean is within 1 % of each.
const GAMMA: f64 = 1.01;

/// Samples with exact values while these are few, in logarithmic buckets beyond that.
///
/// Count, minimum and maximum are exact always, the sum up to rounding. Samples are finite.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Distribution {
    shape: Shape,
}

#[derive(Clone, Debug, PartialEq)]
enum Shape {
    /// Distinct values in ascending order with their counts.
    Exact(Vec<(f64, u64)>),
    /// In ascending order; and the least and the greatest sample, which are samples of the buckets too.
    Buckets { buckets: Vec<Bucket>, minimum: f64, maximum: f64 },
}

impl Default for Shape {
    fn default() -> Self {
        Self::Exact(Vec::new())
    }
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Bucket {
    key: i32,
    count: u64,
    sum: f64,
}

impl Distribution {
    /// Adds a sample. What is not finite is no sample and adds nothing.
    pub(crate) fn add(&mut self, sample: f64) {
        if sample.is_finite() {
            // Adding zero makes the negative zero a positive one.
            self.shape.add(sample + 0.0, 1);
        }
    }

    /// The samples as values with counts: each sample by itself, or by the mean of its bucket's samples, which is at
    /// most 1 % away; the least and the greatest always by themselves. `None` when there are no samples.
    pub(crate) fn values(&self) -> Option<Values> {
        match &self.shape {
            Shape::Exact(pairs) => Values::new(pairs.clone()),
            Shape::Buckets { buckets, minimum, maximum } => {
                let mut pairs = vec![(*minimum, 1), (*maximum, 1)];
                let (low, high) = (key(*minimum), key(*maximum));
                for bucket in buckets {
                    let mut rest = *bucket;
                    for (key, extreme) in [(low, minimum), (high, maximum)] {
                        if key == rest.key {
                            rest.count = rest.count.saturating_sub(1);
                            rest.sum -= extreme;
                        }
                    }
                    if rest.count > 0 {
                        // Taking the extremes out again may round a mean past them.
                        let mean = (rest.sum / rest.count as f64).max(*minimum).min(*maximum);
                        pairs.push((mean, rest.count));
                    }
                }
                Values::new(pairs)
            }
        }
    }

    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        match &self.shape {
            Shape::Exact(pairs) => {
                bytes.push(EXACT);
                put_varint(bytes, pairs.len() as u64);
                for &(value, count) in pairs {
                    put_f64(bytes, value);
                    put_varint(bytes, count);
                }
            }
            Shape::Buckets { buckets, minimum, maximum } => {
                bytes.push(BUCKETS);
                put_f64(bytes, *minimum);
                put_f64(bytes, *maximum);
                put_varint(bytes, buckets.len() as u64);
                for bucket in buckets {
                    bytes.extend_from_slice(&bucket.key.to_le_bytes());
                    put_varint(bytes, bucket.count);
                    put_f64(bytes, bucket.sum);
                }
            }
        }
    }

    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Result<Self, Damaged> {
        let shape = match bytes.byte()? {
            EXACT => {
                let len = bytes.length()?;
                let pairs = (0..len).map(|_| Ok((bytes.f64()?, bytes.varint()?)));
                Shape::Exact(pairs.collect::<Result<_, Damaged>>()?)
            }
            BUCKETS => {
                let (minimum, maximum) = (bytes.f64()?, bytes.f64()?);
                let len = bytes.length()?;
                let buckets = (0..len)
                    .map(|_| Ok(Bucket { key: bytes.i32()?, count: bytes.varint()?, sum: bytes.f64()? }));
                Shape::Buckets { buckets: buckets.collect::<Result<_, Damaged>>()?, minimum, maximum }
            }
            _ => return Err(Damaged),
        };
        Ok(Self { shape })
    }
}

const EXACT: u8 = 0;
const BUCKETS: u8 = 1;

impl Shape {
    fn add(&mut self, value: f64, count: u64) {
        match self {
            Self::Exact(pairs) => match pairs.binary_search_by(|pair| pair.0.total_cmp(&value)) {
                Ok(place) => pairs[place].1 += count,
                Err(place) if pairs.len() < MOST_VALUES => pairs.insert(place, (value, count)),
                Err(_) => {
                    let pairs = std::mem::take(pairs);
                    *self = Self::Buckets { buckets: Vec::new(), minimum: value, maximum: value };
                    for (value, count) in pairs {
                        self.add(value, count);
                    }
                    self.add(value, count);
                }
            },
            Self::Buckets { buckets, minimum, maximum } => {
                *minimum = minimum.min(value);
                *maximum = maximum.max(value);
                let key = key(value);
                let sum = value * count as f64;
                match buckets.binary_search_by_key(&key, |bucket| bucket.key) {
                    Ok(place) => {
                        buckets[place].count += count;
                        buckets[place].sum += sum;
                    }
                    Err(place) => buckets.insert(place, Bucket { key, count, sum }),
                }
            }
        }
    }
}

/// The bucket of a value; greater values have greater keys. Zero has a bucket of its own, negative values mirror the
/// positive ones.
fn key(value: f64) -> i32 {
    /// Above any exponent of a float, so that keys keep the sign of their values.
    const MIDDLE: i32 = 100_000;
    if value == 0.0 {
        return 0;
    }
    // A float's logarithm to the base 1.01 lies between -75,000 and 72,000.
    let magnitude = (value.abs().ln() / GAMMA.ln()).ceil() as i32 + MIDDLE;
    if value > 0.0 { magnitude } else { -magnitude }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Every shape of sample: few values, round-trip times, many magnitudes, both signs.
    fn samples() -> impl Strategy<Value = Vec<f64>> {
        prop_oneof![
            proptest::collection::vec((0..5_i32).prop_map(f64::from), 1..2_000),
            proptest::collection::vec(80.0..90.0_f64, 1..2_000),
            proptest::collection::vec((-20.0..20.0_f64).prop_map(f64::exp), 1..2_000),
            proptest::collection::vec(-5_000.0..5_000.0_f64, 1..2_000),
            proptest::collection::vec(
                prop_oneof![Just(0.0), Just(-0.0), Just(f64::MIN_POSITIVE), Just(1e300), -1.0..1.0_f64],
                1..400
            ),
        ]
    }

    fn distribution(samples: &[f64]) -> Distribution {
        let mut distribution = Distribution::default();
        for &sample in samples {
            distribution.add(sample);
        }
        distribution
    }

    /// The slow and obvious model: the sorted samples themselves.
    fn check(values: &Values, samples: &[f64]) -> Result<(), TestCaseError> {
        let mut sorted = samples.to_vec();
        sorted.sort_by(|a, b| a.partial_cmp(b).unwrap());
        prop_assert_eq!(values.count(), sorted.len() as u64);
        prop_assert_eq!(values.minimum(), sorted[0]);
        prop_assert_eq!(values.maximum(), sorted[sorted.len() - 1]);
        let sum: f64 = sorted.iter().sum();
        let scale: f64 = sorted.iter().map(|sample| sample.abs()).sum();
        prop_assert!((values.sum() - sum).abs() <= scale * 1e-12, "{} {}", values.sum(), sum);
        for percent in 1..=100 {
            let rank = (sorted.len() * usize::from(percent)).div_ceil(100);
            let exact = sorted[rank - 1];
            let error = (values.percentile(percent) - exact).abs();
            prop_assert!(error <= exact.abs() * 0.010_000_001, "p{percent} of {exact} off by {error}");
        }
        Ok(())
    }

    proptest! {
        #[test]
        fn agrees_with_the_sorted_samples(samples in samples()) {
            check(&distribution(&samples).values().unwrap(), &samples)?;
        }

        #[test]
        fn few_values_are_exact(samples in proptest::collection::vec(0..150_u32, 1..1_000)) {
            let samples: Vec<f64> = samples.into_iter().map(|sample| f64::from(sample) * 0.1).collect();
            let exact = Values::new(samples.iter().map(|&sample| (sample, 1)).collect());
            prop_assert_eq!(distribution(&samples).values(), exact);
        }

        #[test]
        fn parts_read_back_and_joined_stay_within_one_per_cent(first in samples(), second in samples()) {
            let parts = [&first, &second].into_iter().flat_map(|samples| {
                let values = distribution(samples).values().unwrap();
                values.parts(MOST_VALUES).map(|part| part.encode()).collect::<Vec<_>>()
            });
            let joined = parts.map(|part| Values::decode(&part).unwrap()).reduce(Values::merge).unwrap();
            check(&joined, &[first, second].concat())?;
        }

        #[test]
        fn order_changes_nothing_but_rounding((samples, shuffled) in samples()
            .prop_flat_map(|samples| (Just(samples.clone()), Just(samples).prop_shuffle())))
        {
            let (one, other) = (distribution(&samples).values().unwrap(), distribution(&shuffled).values().unwrap());
            prop_assert_eq!(one.pairs().len(), other.pairs().len());
            for (one, other) in one.pairs().iter().zip(other.pairs()) {
                prop_assert_eq!(one.1, other.1);
                prop_assert!((one.0 - other.0).abs() <= one.0.abs() * 1e-9, "{} {}", one.0, other.0);
            }
        }

        #[test]
        fn saved_and_restored_in_the_middle_is_the_same_to_the_bit(samples in samples(), at in 0..2_000_usize) {
            let (before, after) = samples.split_at(at.min(samples.len()));
            let mut bytes = Vec::new();
            distribution(before).write(&mut bytes);
            let mut restored = Distribution::read(&mut Bytes::new(&bytes)).unwrap();
            for &sample in after {
                restored.add(sample);
            }
            prop_assert_eq!(restored, distribution(&samples));
        }
    }

    #[test]
    fn what_is_not_finite_is_no_sample() {
        assert_eq!(distribution(&[f64::NAN, f64::INFINITY]).values(), None);
    }
}
