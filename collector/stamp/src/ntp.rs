//! The 64-bit timestamps of STAMP packets, and nanoseconds since the Unix epoch made of them and into them. Pure.

use crosswatch_shared::time::Timestamp;

/// Seconds from 1900-01-01, where NTP's era 0 begins, to 1970-01-01 (RFC 5905, appendix A.4).
const NTP_TO_UNIX: i64 = 2_208_988_800;
const NANOS: i64 = 1_000_000_000;

/// How the 64 bits are to be read; the Z bit of the error estimate says which (RFC 8762, section 4.2.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Format {
    /// 32 bits of seconds since 1900, 32 bits of fraction (RFC 5905): the default.
    #[default]
    Ntp,
    /// The truncated PTP timestamp of IEEE 1588: 32 bits of seconds since 1970, by TAI, and 32 bits of nanoseconds.
    Ptp,
}

/// A timestamp as it stands in a packet. Its 32 bits of seconds come around every 136 years.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub struct Stamp(pub u64);

impl Stamp {
    /// In NTP's format, from nanoseconds since the Unix epoch. Exact: [`Stamp::unix_nanos`] gives back the same.
    #[must_use]
    pub fn ntp(unix_nanos: i64) -> Self {
        let seconds = unix_nanos.div_euclid(NANOS) + NTP_TO_UNIX;
        let nanos = unix_nanos.rem_euclid(NANOS).unsigned_abs();
        // Rounded to the nearest; the largest, of 999,999,999 ns, stays below 2^32. The era is cut off.
        let fraction = ((nanos << 32) + NANOS.unsigned_abs() / 2) / NANOS.unsigned_abs();
        Self(seconds.rem_euclid(1 << 32).unsigned_abs() << 32 | fraction)
    }

    /// The same for a [`Timestamp`].
    #[must_use]
    pub fn of(time: Timestamp) -> Self {
        Self::ntp(time.as_micros().saturating_mul(1_000))
    }

    /// Nanoseconds since the Unix epoch (by TAI for PTP), in the era that puts it nearest to `near`, also nanoseconds
    /// since the Unix epoch: right when the two are within 68 years of each other. `None` when the bits are no time: a PTP
    /// timestamp with a second of nanoseconds or more, or what nanoseconds in 64 bits cannot hold.
    #[must_use]
    pub fn unix_nanos(self, format: Format, near: i64) -> Option<i64> {
        let [seconds, low] = [self.0 >> 32, self.0 & 0xffff_ffff].map(i64::try_from);
        let (seconds, low) = (seconds.ok()?, low.ok()?);
        let (epoch, nanos) = match format {
            Format::Ntp => {
                (NTP_TO_UNIX, i64::try_from((i128::from(low) * i128::from(NANOS) + (1 << 31)) >> 32).ok()?)
            }
            Format::Ptp => (0, (low < NANOS).then_some(low)?),
        };
        let pivot = near.div_euclid(NANOS) + epoch;
        // How far it is from the pivot, in whole seconds modulo 2^32, taken as signed.
        let ahead = (seconds - pivot).rem_euclid(1 << 32);
        let ahead = if ahead >= 1 << 31 { ahead - (1 << 32) } else { ahead };
        i64::try_from(i128::from(pivot + ahead - epoch) * i128::from(NANOS) + i128::from(nanos)).ok()
    }

    /// The same as a [`Timestamp`], cut to microseconds.
    #[must_use]
    pub fn time(self, format: Format, near: Timestamp) -> Option<Timestamp> {
        let nanos = self.unix_nanos(format, near.as_micros().saturating_mul(1_000))?;
        Some(Timestamp::from_micros(nanos.div_euclid(1_000)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Seconds since 1970 of 2036-02-07T06:28:16Z, where NTP's era 1 begins.
    const ERA_1: i64 = (1 << 32) - NTP_TO_UNIX;

    #[test]
    fn known_times_have_the_bits_of_ntp() {
        assert_eq!(Stamp::ntp(0), Stamp(2_208_988_800 << 32));
        assert_eq!(Stamp::ntp(500_000_000), Stamp(2_208_988_800 << 32 | 1 << 31));
        assert_eq!(Stamp::ntp(-NTP_TO_UNIX * NANOS), Stamp(0), "where NTP's time begins");
        assert_eq!(Stamp::ntp(ERA_1 * NANOS - 1).0 >> 32, 0xffff_ffff);
        assert_eq!(Stamp::ntp(ERA_1 * NANOS), Stamp(0), "where its second era begins");
        let time: Timestamp = "2026-11-22T07:00:01.000123Z".parse().unwrap();
        assert_eq!(Stamp::of(time).time(Format::Ntp, time), Some(time));
    }

    #[test]
    fn an_era_is_chosen_by_what_it_is_near() {
        let zero = Stamp(0);
        assert_eq!(zero.unix_nanos(Format::Ntp, ERA_1 * NANOS), Some(ERA_1 * NANOS));
        assert_eq!(
            zero.unix_nanos(Format::Ntp, (ERA_1 - 3_600) * NANOS),
            Some(ERA_1 * NANOS),
            "an hour before"
        );
        assert_eq!(zero.unix_nanos(Format::Ntp, -NTP_TO_UNIX * NANOS), Some(-NTP_TO_UNIX * NANOS));
        assert_eq!(
            Stamp::ntp((ERA_1 - 1) * NANOS).unix_nanos(Format::Ntp, (ERA_1 + 1) * NANOS),
            Some((ERA_1 - 1) * NANOS)
        );
    }

    #[test]
    fn ptp_counts_nanoseconds_from_1970() {
        assert_eq!(
            Stamp(1_700_000_000 << 32 | 7).unix_nanos(Format::Ptp, 1_690_000_000 * NANOS),
            Some(1_700_000_000 * NANOS + 7)
        );
        assert_eq!(
            Stamp(1_700_000_000 << 32 | 1_000_000_000).unix_nanos(Format::Ptp, 0),
            None,
            "a whole second of nanoseconds"
        );
    }

    proptest! {
        #[test]
        fn there_and_back_is_exact_within_68_years(nanos in any::<i64>(), away in -60 * 31_557_600_i64..60 * 31_557_600) {
            let near = nanos.saturating_add(away * NANOS);
            prop_assert_eq!(Stamp::ntp(nanos).unix_nanos(Format::Ntp, near), Some(nanos));
        }

        #[test]
        fn any_bits_are_a_time_or_none(bits in any::<u64>(), near in any::<i64>()) {
            for format in [Format::Ntp, Format::Ptp] {
                let _ = Stamp(bits).unix_nanos(format, near);
            }
        }
    }
}
