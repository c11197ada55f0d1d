//! The span of time that a link's page shows, as its URL says it.

use crosswatch_shared::time::Timestamp;

/// The spans that end now, by their words.
pub(crate) const RANGES: [(&str, u64); 7] = [
    ("1h", 3_600),
    ("6h", 21_600),
    ("24h", 86_400),
    ("7d", 604_800),
    ("30d", 2_592_000),
    ("90d", 7_776_000),
    ("1y", 31_536_000),
];

/// The shortest and the longest span that is shown.
const SHORTEST: i64 = 600;
const LONGEST: i64 = 400 * 86_400;

/// From when to when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Window {
    from: i64,
    to: i64,
    /// Which of [`RANGES`], for one that ends now.
    range: Option<&'static str>,
}

impl Window {
    /// As a query says it: `range=6h`, or `from=` and `to=` in seconds since the Unix epoch or as RFC 3339; six hours where it
    /// says nothing that can be read.
    pub(crate) fn of_query(query: &str, now: Timestamp) -> Self {
        let get = |key: &str| {
            form_urlencoded::parse(query.as_bytes())
                .find(|(of, _)| of == key)
                .map(|(_, value)| value.into_owned())
        };
        if let (Some(from), Some(to)) =
            (get("from").and_then(|of| second(&of)), get("to").and_then(|of| second(&of)))
            && from < to
        {
            return Self::between(from, to);
        }
        let asked = get("range");
        let range = RANGES.into_iter().find(|(word, _)| asked.as_deref() == Some(*word)).unwrap_or(RANGES[1]);
        Self::last(range, now)
    }

    fn last((word, length): (&'static str, u64), now: Timestamp) -> Self {
        let to = now.as_micros().div_euclid(1_000_000);
        Self { from: to - length.cast_signed(), to, range: Some(word) }
    }

    fn between(from: i64, to: i64) -> Self {
        let length = (to.saturating_sub(from)).clamp(SHORTEST, LONGEST);
        let middle = from.midpoint(to);
        let from = if to.saturating_sub(from) < SHORTEST { middle - length / 2 } else { to - length };
        Self { from, to: from + length, range: None }
    }

    pub(crate) fn from(&self) -> Timestamp {
        Timestamp::from_secs(self.from)
    }

    pub(crate) fn to(&self) -> Timestamp {
        Timestamp::from_secs(self.to)
    }

    /// Whether it ends now, and so goes on.
    pub(crate) fn is_live(&self) -> bool {
        self.range.is_some()
    }

    pub(crate) fn word(&self) -> Option<&'static str> {
        self.range
    }

    /// As [`Self::of_query`] reads it.
    pub(crate) fn query(&self) -> String {
        match self.range {
            Some(word) => format!("range={word}"),
            None => format!("from={}&to={}", self.from, self.to),
        }
    }

    /// Earlier, later, nearer and farther ones, by their words.
    pub(crate) fn moved(&self) -> [(&'static str, Self); 4] {
        let half = (self.to - self.from) / 2;
        let by =
            |from: i64, to: i64| Self::between(self.from.saturating_add(from), self.to.saturating_add(to));
        [
            ("earlier", by(-half, -half)),
            ("later", by(half, half)),
            ("zoom in", by(half / 2, -half / 2)),
            ("zoom out", by(-half, half)),
        ]
    }
}

fn second(text: &str) -> Option<i64> {
    let seconds = match text.parse::<i64>() {
        Ok(seconds) => Timestamp::from_secs(seconds),
        Err(_) => text.parse::<Timestamp>().ok()?,
    };
    Some(seconds.max(Timestamp::from_secs(0)).as_micros().div_euclid(1_000_000))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_url_says_the_same_span_again() {
        let now = Timestamp::from_secs(1_800_000_000);
        for (query, length) in
            [("", 21_600), ("range=1y", 31_536_000), ("range=9z", 21_600), ("from=5&to=4", 21_600)]
        {
            let window = Window::of_query(query, now);
            assert_eq!((window.to - window.from, window.is_live()), (length, true), "{query}");
        }
        let window = Window::of_query("from=1700000000&to=2023-11-14T23:13:20Z", now);
        assert_eq!((window.from, window.to), (1_700_000_000, 1_700_003_600));
        assert_eq!(Window::of_query(&window.query(), now), window);
        for (_, moved) in window.moved() {
            assert_eq!(Window::of_query(&moved.query(), now), moved);
        }
    }

    #[test]
    fn whatever_is_asked_for_is_a_span_that_can_be_drawn() {
        let now = Timestamp::from_secs(1_800_000_000);
        for query in [
            "from=-9223372036854775808&to=9223372036854775807",
            "from=1&to=2",
            "from=0&to=9999-12-31T23:59:59Z",
            "from=9223372036854775806&to=9223372036854775807",
        ] {
            let mut window = Window::of_query(query, now);
            for _ in 0..50 {
                assert!((SHORTEST..=LONGEST).contains(&(window.to - window.from)), "{query} {window:?}");
                window = window.moved()[3].1;
            }
        }
    }
}
