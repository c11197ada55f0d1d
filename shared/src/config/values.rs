//! Values that the configuration writes as text: durations, sizes, "M of N", rates and names.
//!
//! Each reader gives the value, or a sentence that says what to write instead.

use std::time::Duration;

/// The longest duration a config may name: ten years.
pub const LONGEST: Duration = Duration::from_hours(24 * 3650);

/// How long a name may be, in bytes.
const LONGEST_NAME: usize = 64;

const UNITS: [(&str, u64); 5] = [("ms", 1), ("s", 1_000), ("m", 60_000), ("h", 3_600_000), ("d", 86_400_000)];

const SIZES: [(&str, u64); 5] =
    [("B", 1), ("KiB", 1 << 10), ("MiB", 1 << 20), ("GiB", 1 << 30), ("TiB", 1 << 40)];

/// At most so many in so long.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Rate {
    /// How many; 1 or more.
    pub count: u32,
    /// In how long; more than zero.
    pub per: Duration,
}

/// Reads a whole number and a unit of ms, s, m, h or d, such as `500ms`. More than zero, at most [`LONGEST`].
///
/// # Errors
/// A sentence that says what to write instead.
pub fn duration(text: &str) -> Result<Duration, String> {
    let (number, unit) = split(text);
    let Some(&(_, millis)) = UNITS.iter().find(|(word, _)| *word == unit) else {
        return Err(format!(
            "'{}' is not a duration; write a whole number and ms, s, m, h or d, such as \"500ms\"",
            short(text)
        ));
    };
    if number.is_empty() {
        return Err(format!(
            "'{}' is not a duration; a whole number comes before the unit, such as \"500ms\"",
            short(text)
        ));
    }
    let millis = number.parse::<u64>().ok().and_then(|count| count.checked_mul(millis));
    match millis.map(Duration::from_millis) {
        Some(Duration::ZERO) => Err("must be longer than zero".to_owned()),
        Some(duration) if duration <= LONGEST => Ok(duration),
        _ => Err(format!("'{}' is too long; at most {}", short(text), spell(LONGEST))),
    }
}

/// Writes a duration as [`duration`] reads it, in the largest unit that fits; what is finer than a millisecond is
/// cut off.
#[must_use]
pub fn spell(duration: Duration) -> String {
    let millis = u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let (unit, size) = UNITS.into_iter().rfind(|(_, size)| millis % size == 0).unwrap_or(("ms", 1));
    format!("{}{unit}", millis / size)
}

/// Reads a whole number and a unit of B, KiB, MiB, GiB or TiB, such as `1GiB`, in bytes.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn size(text: &str) -> Result<u64, String> {
    let (number, unit) = split(text);
    let known = SIZES.iter().find(|(word, _)| *word == unit);
    let Some((_, bytes)) = known.filter(|_| !number.is_empty()) else {
        return Err(format!(
            "'{}' is not a size; write a whole number and B, KiB, MiB, GiB or TiB, such as \"1GiB\"",
            short(text)
        ));
    };
    number
        .parse::<u64>()
        .ok()
        .and_then(|count| count.checked_mul(*bytes))
        .filter(|bytes| i64::try_from(*bytes).is_ok())
        .ok_or_else(|| format!("'{}' is too large", short(text)))
}

/// Reads `M of N`, such as `3 of 5`: 1 <= M <= N <= `most`.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn m_of_n(text: &str, most: usize) -> Result<(usize, usize), String> {
    let Some((m, n)) = text.split_once(" of ") else {
        return Err(format!("'{}' is not a breach; write \"M of N\", such as \"3 of 5\"", short(text)));
    };
    let (m, n) = (m.trim(), n.trim());
    if !digits(m) || !digits(n) {
        return Err(format!(
            "'{}' is not a breach; M and N of \"M of N\" are whole numbers, such as \"3 of 5\"",
            short(text)
        ));
    }
    match (m.parse::<usize>(), n.parse::<usize>()) {
        (Ok(0), _) => Err("M of \"M of N\" must be 1 or more".to_owned()),
        (_, Ok(n)) if n > most => Err(format!("N of \"M of N\" must be at most {most}")),
        (Ok(m), Ok(n)) if m <= n => Ok((m, n)),
        (_, Err(_)) => Err(format!("N of \"M of N\" must be at most {most}")),
        _ => Err(format!("'{}' can never be reached; M of \"M of N\" must not be more than N", short(text))),
    }
}

/// Reads `COUNT per DURATION`, such as `10 per 1h`.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn rate(text: &str) -> Result<Rate, String> {
    let Some((count, per)) = text.split_once(" per ") else {
        return Err(format!(
            "'{}' is not a rate; write a count and a duration, such as \"10 per 1h\"",
            short(text)
        ));
    };
    let count = count.trim();
    if !digits(count) {
        return Err(format!(
            "'{}' is not a rate; it begins with a whole number, such as \"10 per 1h\"",
            short(text)
        ));
    }
    let per = duration(per.trim())?;
    match count.parse() {
        Ok(0) => Err("the count of a rate must be 1 or more".to_owned()),
        Ok(count) => Ok(Rate { count, per }),
        Err(_) => Err(format!("the count of a rate must be at most {}", u32::MAX)),
    }
}

/// Checks the name of a rule, a receiver or a probe: letters, digits and `. _ : -`, up to 64.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn name(text: &str) -> Result<(), String> {
    checked_name(text, true)
}

/// Checks the name of a site or a link, which becomes part of file names and dimensions: begins with a letter or a
/// digit, then also `. _ -`, up to 64.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn place_name(text: &str) -> Result<(), String> {
    checked_name(text, false)?;
    if text.starts_with(|first: char| first.is_ascii_alphanumeric()) {
        Ok(())
    } else {
        Err(format!("the name '{text}' must begin with a letter or a digit"))
    }
}

fn checked_name(text: &str, colon: bool) -> Result<(), String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "._-".contains(c) || (colon && c == ':');
    let marks = if colon { ". _ : -" } else { ". _ -" };
    if text.is_empty() {
        Err("a name must not be empty".to_owned())
    } else if let Some(refused) = text.chars().find(|c| !allowed(*c)) {
        Err(format!(
            "the name '{}' must not contain '{}'; letters a-z A-Z, digits and {marks} may stand in it",
            short(text),
            refused.escape_debug()
        ))
    } else if text.len() > LONGEST_NAME {
        Err(format!("the name '{}' is too long; at most {LONGEST_NAME} characters", short(text)))
    } else {
        Ok(())
    }
}

/// Checks that a text is a URL of HTTP or HTTPS with a host, as far as that can be told without asking anyone.
///
/// # Errors
/// A sentence that says what to write instead.
pub fn http_url(text: &str) -> Result<(), String> {
    let rest = text.strip_prefix("https://").or_else(|| text.strip_prefix("http://"));
    let host = rest.and_then(|rest| rest.split(['/', '?', '#']).next());
    let printable = text.chars().all(|c| c.is_ascii_graphic());
    if printable && host.is_some_and(|host| host.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '['))
    {
        Ok(())
    } else {
        Err(format!("'{}' is not a URL; it begins with https:// or http:// and a host", short(text)))
    }
}

/// The candidate that a mistyped word most likely meant; none when all are too far from it.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    let word = short(word);
    let (distance, candidate) = candidates
        .into_iter()
        .map(|candidate| (strsim::osa_distance(&word, candidate), candidate))
        .min_by_key(|(distance, _)| *distance)?;
    let length = word.chars().count().max(candidate.chars().count());
    (distance <= 1 + length / 3 && distance < length).then_some(candidate)
}

/// At most 80 characters of it, printable: a message quotes what was written, and that may be anything.
#[must_use]
pub fn short(text: &str) -> String {
    let mut cut = String::new();
    for (count, c) in text.chars().enumerate() {
        if count == 80 {
            cut.push('…');
            break;
        }
        if c.is_control() {
            cut.extend(c.escape_debug());
        } else {
            cut.push(c);
        }
    }
    cut
}

fn split(text: &str) -> (&str, &str) {
    text.split_at(text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len()))
}

fn digits(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn durations_in_every_unit() {
        for (text, millis) in [
            ("500ms", 500),
            ("1s", 1_000),
            ("5m", 300_000),
            ("2h", 7_200_000),
            ("7d", 604_800_000),
            ("3650d", 315_360_000_000),
        ] {
            assert_eq!(duration(text), Ok(Duration::from_millis(millis)), "{text}");
            assert_eq!(spell(Duration::from_millis(millis)), text);
        }
    }

    #[test]
    fn refuses_what_is_no_duration() {
        for text in [
            "",
            "1",
            "s",
            "1.5s",
            "-1s",
            "+1s",
            "1 s",
            "1S",
            "1h30m",
            "0s",
            "0ms",
            "3651d",
            "１s",
            "18446744073709551615d",
            "99999999999999999999999s",
        ] {
            assert!(duration(text).is_err(), "{text}");
        }
    }

    #[test]
    fn sizes() {
        assert_eq!(size("1GiB"), Ok(1 << 30));
        assert_eq!(size("512B"), Ok(512));
        for text in ["", "GiB", "1", "1GB", "1.5GiB", "99999999999TiB"] {
            assert!(size(text).is_err(), "{text}");
        }
    }

    #[test]
    fn m_of_n_holds_m_below_n_and_n_within_bounds() {
        assert_eq!(m_of_n("3 of 5", 10), Ok((3, 5)));
        assert_eq!(m_of_n("10 of 10", 10), Ok((10, 10)));
        for text in [
            "",
            "3",
            "3 of",
            "0 of 3",
            "4 of 3",
            "1 of 11",
            "1 of 99999999999999999999999",
            "-1 of 3",
            "a of b",
        ] {
            assert!(m_of_n(text, 10).is_err(), "{text}");
        }
    }

    #[test]
    fn rates() {
        let hourly = Rate { count: 10, per: Duration::from_hours(1) };
        assert_eq!(rate("10 per 1h"), Ok(hourly));
        for text in ["", "10", "10 per", "0 per 1h", "10 per 0s", "4294967296 per 1h", "ten per 1h"] {
            assert!(rate(text).is_err(), "{text}");
        }
    }

    #[test]
    fn names_of_places_can_be_file_names() {
        for text in ["us-east-1", "a", "A.b_c-9"] {
            assert_eq!(place_name(text), Ok(()), "{text}");
        }
        for text in ["", ".", "..", "a/b", "a:b", "-a", "a b", "é", &"a".repeat(65)] {
            assert!(place_name(text).is_err(), "{text}");
        }
        assert_eq!(name("icmp:10.1.0.10"), Ok(()));
    }

    #[test]
    fn the_nearest_word_is_named_only_when_it_is_near() {
        let words = ["every", "timeout", "from", "icmp"];
        assert_eq!(nearest("evry", words), Some("every"));
        assert_eq!(nearest("timeuot", words), Some("timeout"));
        assert_eq!(nearest("colour", words), None);
        assert_eq!(nearest("x", ["y"]), None);
    }

    proptest! {
        #[test]
        fn a_duration_is_read_as_it_was_spelled(millis in 1..=315_360_000_000u64) {
            let written = Duration::from_millis(millis);
            prop_assert_eq!(duration(&spell(written)), Ok(written));
        }
    }
}
