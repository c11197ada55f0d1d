//! A rule's thresholds: numbers, or so many times the subject's own baseline.

use crosswatch_judge::rule::{Metric, Side, Threshold};
use crosswatch_shared::config::document::{Table, Value};
use crosswatch_shared::config::values::short;

/// How a threshold of the baseline is written.
const EXAMPLE: &str = "1.5 x baseline";

/// Takes which side breaches, the threshold, and the threshold while firing.
pub(super) fn take(table: &mut Table<'_>, metric: Option<Metric>) -> Option<(Side, Threshold, Option<f64>)> {
    let place = table.place();
    let below = table.get("below");
    let above = table.get("above");
    let clear_below = table.get("clear_below");
    let clear_above = table.get("clear_above");
    let fixed = table.get("fixed");
    let (side, threshold, clear, other) = match (below, above) {
        (Some(below), None) => (Side::Below, below, clear_above, clear_below),
        (None, Some(above)) => (Side::Above, above, clear_below, clear_above),
        (Some(_), Some(_)) => {
            return place.wrong("a rule has both 'below' and 'above'; make two rules of it");
        }
        (None, None) => return place.missing("a rule needs a threshold: below = NUMBER or above = NUMBER"),
    };
    if let Some(other) = other {
        return other.wrong(match side {
            Side::Below => "a rule with 'below' clears above: write 'clear_above' instead of 'clear_below'",
            Side::Above => "a rule with 'above' clears below: write 'clear_below' instead of 'clear_above'",
        });
    }
    let of_baseline = is_factor(&threshold);
    if of_baseline && let Some(metric) = metric.filter(|metric| !metric.has_baseline()) {
        return threshold.wrong(format!(
            "{} has no baseline; write a number, or judge latency_ms or collection_ms, which have one",
            metric.word()
        ));
    }
    // Each is looked at, so that all that is wrong is told at once.
    let fixed = fixed_of(fixed, of_baseline);
    let number = limit(&threshold, side, of_baseline);
    let clear = match clear {
        Some(value) => clear_of(&value, side, of_baseline, number).map(Some),
        None => Some(None),
    };
    let (fixed, number, clear) = (fixed?, number?, clear?);
    let threshold = match of_baseline {
        true => Threshold::OfBaseline { factor: number, fixed },
        false => Threshold::Fixed(number),
    };
    Some((side, threshold, clear))
}

/// Whether it is to be read as a factor: it is text, and no number in quotes.
fn is_factor(value: &Value<'_>) -> bool {
    value.is_text() && value.text().is_some_and(|text| text.trim().parse::<f64>().is_err())
}

/// What counts until there is a baseline.
fn fixed_of(value: Option<Value<'_>>, of_baseline: bool) -> Option<Option<f64>> {
    let Some(value) = value else {
        return Some(None);
    };
    if !of_baseline {
        return value.wrong(format!(
            "'fixed' is the threshold until there is a baseline; leave it out, or write above = \"{EXAMPLE}\""
        ));
    }
    match value.number()? {
        number if number > 0.0 => Some(Some(number)),
        _ => value.wrong("'fixed' must be more than zero"),
    }
}

fn clear_of(value: &Value<'_>, side: Side, of_baseline: bool, threshold: Option<f64>) -> Option<f64> {
    let (key, other) = match side {
        Side::Below => ("clear_above", "below"),
        Side::Above => ("clear_below", "above"),
    };
    if is_factor(value) != of_baseline {
        return value.wrong(match of_baseline {
            true => format!(
                "'{other}' is of the baseline, and so must '{key}' be: write it as \"1.3 x baseline\""
            ),
            false => format!(
                "'{other}' is a number, and so must '{key}' be; or write '{other}' as \"{EXAMPLE}\", too"
            ),
        });
    }
    let clear = limit(value, side, of_baseline)?;
    let threshold = threshold?;
    let times = if of_baseline { " x baseline" } else { "" };
    match side {
        Side::Below if clear < threshold => {
            value.wrong(format!("'{key}' must not be less than '{other}', which is {threshold}{times}"))
        }
        Side::Above if clear > threshold => {
            value.wrong(format!("'{key}' must not be more than '{other}', which is {threshold}{times}"))
        }
        _ => Some(clear),
    }
}

/// A number, or the factor of the baseline.
fn limit(value: &Value<'_>, side: Side, of_baseline: bool) -> Option<f64> {
    if !of_baseline {
        return value.number();
    }
    match factor(value.text()?, side) {
        Ok(factor) => Some(factor),
        Err(message) => value.wrong(message),
    }
}

/// Reads `1.5 x baseline`, a factor that leaves what is usual on the good side.
fn factor(text: &str, side: Side) -> Result<f64, String> {
    let number = text.trim_end().strip_suffix("baseline").and_then(|rest| rest.trim_end().strip_suffix('x'));
    let factor =
        number.and_then(|number| number.trim().parse::<f64>().ok()).filter(|factor| factor.is_finite());
    match (factor, side) {
        (None, _) => Err(format!(
            "'{}' is no threshold; write a number such as 200, or how many times what is usual of the subject, such as \
             \"{EXAMPLE}\"",
            short(text)
        )),
        (Some(factor), Side::Above) if factor <= 1.0 => {
            Err(format!("{factor} x baseline is what is usual, or less; write a factor of more than 1"))
        }
        (Some(factor), Side::Below) if factor >= 1.0 || factor <= 0.0 => Err(format!(
            "{factor} x baseline is what is usual, or more, or nothing; write a factor from 0 to 1"
        )),
        (Some(factor), _) => Ok(factor),
    }
}
