//! Text for people: times, spans, and what came from elsewhere made harmless.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

/// What would change how other text is shown: control characters, and those that turn its direction.
fn is_hostile(c: char) -> bool {
    (c.is_control() && c != '\n')
        || matches!(c, '\u{200e}' | '\u{200f}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{fffe}' | '\u{ffff}')
}

/// The text without what would change how other text is shown.
#[must_use]
pub(crate) fn harmless(text: &str) -> String {
    text.chars().map(|c| if is_hostile(c) { '\u{fffd}' } else { c }).collect()
}

/// The text as XML and HTML write it, in elements and in quoted attributes.
#[must_use]
pub(crate) fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '&' => escaped.push_str("&amp;"),
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            '\n' => escaped.push(' '),
            c if is_hostile(c) => escaped.push('\u{fffd}'),
            c => escaped.push(c),
        }
    }
    escaped
}

/// A span in its two largest units: `41s`, `3m 20s`, `5h 7m`, `12d 3h`.
#[must_use]
pub fn spell(span: Duration) -> String {
    let seconds = span.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3_600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3_600..86_400 => format!("{}h {}m", seconds / 3_600, seconds / 60 % 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds / 3_600 % 24),
    }
}

/// `2026-11-22 07:00:01`, UTC.
#[must_use]
pub(crate) fn moment(at: Timestamp) -> String {
    at.to_string().get(..19).unwrap_or_default().replace('T', " ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn spans_are_told_in_two_units() {
        for (seconds, text) in [(41, "41s"), (200, "3m 20s"), (18_420, "5h 7m"), (1_047_600, "12d 3h")] {
            assert_eq!(spell(Duration::from_secs(seconds)), text);
        }
    }
}
