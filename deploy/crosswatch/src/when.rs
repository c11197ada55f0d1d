//! Times on the command line: a moment, or how long ago.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

/// A moment, or a distance back from now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum When {
    /// A moment.
    At(Timestamp),
    /// This long before now.
    Ago(Duration),
}

impl When {
    /// The moment, as of `now`.
    pub(crate) fn at(self, now: Timestamp) -> Timestamp {
        match self {
            Self::At(at) => at,
            Self::Ago(ago) => now - ago,
        }
    }
}

/// Reads `2026-11-22T07:00:00Z`, or `90s`, `15m`, `6h`, `7d`.
pub(crate) fn parse(text: &str) -> Result<When, String> {
    if let Ok(at) = text.parse() {
        return Ok(When::At(at));
    }
    let split = text.find(|character: char| !character.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(split);
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3_600,
        "d" => 86_400,
        _ => 0,
    };
    match number.parse::<u64>() {
        Ok(number) if seconds > 0 => Ok(When::Ago(Duration::from_secs(number.saturating_mul(seconds)))),
        _ => {
            Err("neither a time such as 2026-11-22T07:00:00Z nor a span such as 90s, 15m, 6h or 7d"
                .to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reads_moments_and_spans() {
        let now = Timestamp::from_secs(100_000);
        for (text, wanted) in [("90s", 99_910), ("2h", 92_800), ("1970-01-01T00:00:07Z", 7)] {
            assert_eq!(parse(text).unwrap().at(now), Timestamp::from_secs(wanted), "{text}");
        }
        assert_eq!(parse("99999999999999d").unwrap().at(now), Timestamp::MIN);
        for text in ["", "5", "h", "5 h", "-5h", "5w", "yesterday"] {
            assert!(parse(text).is_err(), "{text}");
        }
    }
}
