//! Points in time as Crosswatch keeps them: whole microseconds since the Unix epoch, UTC.
//!
//! Nothing here reads a clock. A process's loop does that, and passes the time on as an argument.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de};

/// A point in time: microseconds since 1970-01-01T00:00:00Z, without leap seconds.
///
/// Arithmetic saturates. Text is RFC 3339 with six fraction digits and `Z`; reading takes any offset and any
/// number of fraction digits, what is finer than a microsecond is cut off.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Timestamp(i64);

/// The text was not an RFC 3339 time.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{text}' is not a time as RFC 3339 writes it, such as 2026-11-22T07:00:01.000123Z")]
pub struct NotATime {
    text: String,
}

const SECOND: i64 = 1_000_000;
const DAY: i64 = 86_400;

/// The years RFC 3339 can write, 0000 to 9999, as microseconds.
const EARLIEST: i64 = -62_167_219_200 * SECOND;
const LATEST: i64 = 253_402_300_800 * SECOND - 1;

#[cfg(feature = "schema")]
impl schemars::JsonSchema for Timestamp {
    fn schema_name() -> std::borrow::Cow<'static, str> {
        "Timestamp".into()
    }

    fn json_schema(_: &mut schemars::SchemaGenerator) -> schemars::Schema {
        schemars::json_schema!({ "type": "string", "format": "date-time" })
    }
}

impl Timestamp {
    /// The earliest time that can be written, 0000-01-01T00:00:00Z.
    pub const MIN: Self = Self(EARLIEST);
    /// The latest time that can be written, 9999-12-31T23:59:59.999999Z.
    pub const MAX: Self = Self(LATEST);

    /// From microseconds since the epoch, held within what can be written.
    #[must_use]
    pub const fn from_micros(micros: i64) -> Self {
        if micros < EARLIEST {
            Self::MIN
        } else if micros > LATEST {
            Self::MAX
        } else {
            Self(micros)
        }
    }

    /// From seconds since the epoch, held within what can be written.
    #[must_use]
    pub const fn from_secs(secs: i64) -> Self {
        Self::from_micros(secs.saturating_mul(SECOND))
    }

    /// Microseconds since the epoch.
    #[must_use]
    pub const fn as_micros(self) -> i64 {
        self.0
    }

    /// How long after `earlier` this is; zero when it is not after.
    #[must_use]
    pub fn since(self, earlier: Self) -> Duration {
        Duration::from_micros(u64::try_from(self.0.saturating_sub(earlier.0)).unwrap_or(0))
    }

    /// Milliseconds from `earlier` to this, negative when this is before it.
    #[must_use]
    pub fn millis_since(self, earlier: Self) -> f64 {
        // Differences of written times stay far below 2^53.
        (self.0 - earlier.0) as f64 / 1e3
    }

    /// The start of the UTC-aligned period of this length that holds this time. A zero period holds only itself.
    #[must_use]
    pub fn floor(self, period: Duration) -> Self {
        match micros(period) {
            0 => self,
            period => Self::from_micros(self.0 - self.0.rem_euclid(period)),
        }
    }
}

fn micros(duration: Duration) -> i64 {
    i64::try_from(duration.as_micros()).unwrap_or(i64::MAX)
}

impl std::ops::Add<Duration> for Timestamp {
    type Output = Self;
    fn add(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_add(micros(duration)))
    }
}

impl std::ops::Sub<Duration> for Timestamp {
    type Output = Self;
    fn sub(self, duration: Duration) -> Self {
        Self::from_micros(self.0.saturating_sub(micros(duration)))
    }
}

impl From<std::time::SystemTime> for Timestamp {
    fn from(time: std::time::SystemTime) -> Self {
        match time.duration_since(std::time::UNIX_EPOCH) {
            Ok(after) => Self::from_micros(micros(after)),
            Err(before) => Self::from_micros(-micros(before.duration())),
        }
    }
}

impl fmt::Display for Timestamp {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.encode();
        f.write_str(std::str::from_utf8(&text).map_err(|_| fmt::Error)?)
    }
}

impl Timestamp {
    /// The 27 ASCII bytes of this time's text; written by hand because it is done for each observation.
    fn encode(self) -> [u8; 27] {
        let seconds = self.0.div_euclid(SECOND);
        let fraction = self.0.rem_euclid(SECOND);
        let (year, month, day) = civil(seconds.div_euclid(DAY));
        let second = seconds.rem_euclid(DAY);
        let mut text = *b"0000-00-00T00:00:00.000000Z";
        digits(&mut text[0..4], year);
        digits(&mut text[5..7], month);
        digits(&mut text[8..10], day);
        digits(&mut text[11..13], second / 3600);
        digits(&mut text[14..16], second / 60 % 60);
        digits(&mut text[17..19], second % 60);
        digits(&mut text[20..26], fraction);
        text
    }

    /// Reads exactly the form `encode` writes; `None` for any other, which the slower reader then judges.
    fn decode(text: &[u8]) -> Option<Self> {
        let text: &[u8; 27] = text.try_into().ok()?;
        let marks = [(4, b'-'), (7, b'-'), (10, b'T'), (13, b':'), (16, b':'), (19, b'.'), (26, b'Z')];
        if marks.iter().any(|&(at, mark)| text[at] != mark) {
            return None;
        }
        let year = number(&text[0..4])?;
        let month = number(&text[5..7])?;
        let day = number(&text[8..10])?;
        let hour = number(&text[11..13])?;
        let minute = number(&text[14..16])?;
        let second = number(&text[17..19])?;
        let fraction = number(&text[20..26])?;
        let days = days(year, month, day)?;
        if hour > 23 || minute > 59 || second > 59 {
            return None;
        }
        Some(Self(((days * 24 + hour) * 60 + minute) * 60 * SECOND + second * SECOND + fraction))
    }
}

fn digits(place: &mut [u8], mut value: i64) {
    for digit in place.iter_mut().rev() {
        *digit = b'0' + u8::try_from(value % 10).unwrap_or(0);
        value /= 10;
    }
}

fn number(text: &[u8]) -> Option<i64> {
    text.iter().try_fold(0, |value, byte| byte.is_ascii_digit().then(|| value * 10 + i64::from(byte - b'0')))
}

/// The proleptic Gregorian date of a day counted from 1970-01-01. Counts from March, so that the leap day
/// comes last in its year, in eras of 400 years (146,097 days).
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days + 719_468;
    let era = days.div_euclid(146_097);
    let of_era = days.rem_euclid(146_097);
    let year_of_era = (of_era - of_era / 1_460 + of_era / 36_524 - of_era / 146_096) / 365;
    let of_year = of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let march_month = (5 * of_year + 2) / 153;
    let day = of_year - (153 * march_month + 2) / 5 + 1;
    let month = if march_month < 10 { march_month + 3 } else { march_month - 9 };
    (year_of_era + era * 400 + i64::from(month <= 2), month, day)
}

/// The day counted from 1970-01-01, or `None` for a date that does not exist.
fn days(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(1..=12).contains(&month) || !(1..=31).contains(&day) {
        return None;
    }
    let shifted = year - i64::from(month <= 2);
    let era = shifted.div_euclid(400);
    let of_era = shifted.rem_euclid(400);
    let march_month = if month > 2 { month - 3 } else { month + 9 };
    let of_year = (153 * march_month + 2) / 5 + day - 1;
    let count = era * 146_097 + of_era * 365 + of_era / 4 - of_era / 100 + of_year - 719_468;
    (civil(count) == (year, month, day)).then_some(count)
}

impl FromStr for Timestamp {
    type Err = NotATime;
    fn from_str(text: &str) -> Result<Self, NotATime> {
        if let Some(time) = Self::decode(text.as_bytes()) {
            return Ok(time);
        }
        let time: jiff::Timestamp =
            text.parse().map_err(|_| NotATime { text: text.chars().take(80).collect() })?;
        let whole = time.as_nanosecond().div_euclid(1_000);
        Ok(Self::from_micros(i64::try_from(whole).unwrap_or(i64::MAX)))
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let text = self.encode();
        serializer.serialize_str(std::str::from_utf8(&text).map_err(serde::ser::Error::custom)?)
    }
}

impl<'de> Deserialize<'de> for Timestamp {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Text;
        impl de::Visitor<'_> for Text {
            type Value = Timestamp;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a time as RFC 3339 writes it")
            }
            fn visit_str<E: de::Error>(self, text: &str) -> Result<Timestamp, E> {
                text.parse().map_err(E::custom)
            }
        }
        deserializer.deserialize_str(Text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn writes_six_fraction_digits_and_reads_them_back() {
        let time: Timestamp = "2026-11-22T07:00:01.000123Z".parse().unwrap();
        assert_eq!(time.as_micros(), 1_795_330_801_000_123);
        assert_eq!(time.to_string(), "2026-11-22T07:00:01.000123Z");
    }

    #[test]
    fn reads_other_spellings_of_the_same_moment() {
        let time = Timestamp::from_micros(1_795_330_801_500_000);
        for text in
            ["2026-11-22T07:00:01.5Z", "2026-11-22T08:00:01.5+01:00", "2026-11-22t07:00:01.500000999z"]
        {
            assert_eq!(text.parse(), Ok(time), "{text}");
        }
    }

    #[test]
    fn refuses_what_is_no_time() {
        for text in ["", "now", "2026-02-30T00:00:00.000000Z", "2026-11-22T24:00:00.000000Z", "2026-11-22"] {
            assert!(text.parse::<Timestamp>().is_err(), "{text}");
        }
    }

    #[test]
    fn periods_are_aligned_before_the_epoch_too() {
        let minute = Duration::from_secs(60);
        assert_eq!(Timestamp::from_secs(119).floor(minute), Timestamp::from_secs(60));
        assert_eq!(Timestamp::from_secs(-1).floor(minute), Timestamp::from_secs(-60));
    }

    proptest! {
        #[test]
        fn agrees_with_a_calendar_library(micros in EARLIEST..=LATEST) {
            let time = Timestamp::from_micros(micros);
            let peer = jiff::Timestamp::from_microsecond(micros).unwrap();
            prop_assert_eq!(time.to_string(), format!("{peer:.6}"));
            prop_assert_eq!(Timestamp::decode(time.to_string().as_bytes()), Some(time));
        }
    }
}
