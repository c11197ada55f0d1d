//! One value of the configuration, read as what it should be.

use std::fmt::Display;
use std::ops::RangeInclusive;
use std::time::Duration;

use toml::Spanned;
use toml::de::DeValue;

use super::document::Table;
use super::report::Place;
use super::values::{self, nearest, short, spell};
use crate::observation::Name;

/// A value with its place. Its readers note what is wrong with it, and give `None` then.
pub struct Value<'a> {
    place: Place<'a>,
    /// What it is called in problems.
    label: String,
    value: &'a DeValue<'a>,
}

impl<'a> Value<'a> {
    /// A value of a text, of which `near` is any place.
    pub(super) fn new(near: Place<'a>, label: String, value: &'a Spanned<DeValue<'a>>) -> Self {
        Self { place: near.at(value.span().start), label, value: value.get_ref() }
    }

    /// Where it begins.
    #[must_use]
    pub fn place(&self) -> Place<'a> {
        self.place
    }

    /// Notes that it is wrong.
    pub fn wrong<T>(&self, message: impl Display) -> Option<T> {
        self.place.wrong(message)
    }

    fn expected<T>(&self, expected: impl Display) -> Option<T> {
        let found = match self.value {
            DeValue::String(_) => "text",
            DeValue::Integer(_) => "an integer",
            DeValue::Float(_) => "a float",
            DeValue::Boolean(_) => "a boolean",
            DeValue::Datetime(_) => "a date or time",
            DeValue::Array(_) => "an array",
            DeValue::Table(_) => "a table",
        };
        self.wrong(format!("{} must be {expected}, not {found}", self.label))
    }

    /// Whether it is an array.
    #[must_use]
    pub fn is_array(&self) -> bool {
        self.value.is_array()
    }

    /// Whether it is text in quotes.
    #[must_use]
    pub fn is_text(&self) -> bool {
        matches!(self.value, DeValue::String(_))
    }

    /// Text in quotes.
    #[must_use]
    pub fn text(&self) -> Option<&'a str> {
        self.text_like("text in quotes")
    }

    fn text_like(&self, expected: &str) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            _ => self.expected(expected),
        }
    }

    /// Text, such as `example`, that `read` makes into something, or says what to write instead.
    pub fn parsed<T>(&self, example: &str, read: impl FnOnce(&str) -> Result<T, String>) -> Option<T> {
        match read(self.text_like(&format!("text in quotes, such as \"{example}\""))?) {
            Ok(value) => Some(value),
            Err(message) => self.wrong(self.say(&message)),
        }
    }

    /// A sentence without a subject gets this value's key for one.
    fn say(&self, message: &str) -> String {
        if message.starts_with("must ") { format!("{} {message}", self.label) } else { message.to_owned() }
    }

    /// The name of a rule, a receiver or a probe; see [`values::name`].
    #[must_use]
    pub fn name(&self) -> Option<Name> {
        self.parsed("ping-failed", |text| values::name(text).map(|()| text.into()))
    }

    /// The name of a site or a link; see [`values::place_name`].
    #[must_use]
    pub fn place_name(&self) -> Option<Name> {
        self.parsed("us-east-1", |text| values::place_name(text).map(|()| text.into()))
    }

    /// One of these words.
    #[must_use]
    pub fn word<T: Copy>(&self, words: &[(&str, T)]) -> Option<T> {
        let text = self.text()?;
        if let Some((_, value)) = words.iter().find(|(word, _)| *word == text) {
            return Some(*value);
        }
        let all: Vec<&str> = words.iter().map(|(word, _)| *word).collect();
        let near = nearest(text, all.iter().copied());
        let suggestion = near.map_or(String::new(), |near| format!("did you mean '{near}'? "));
        self.wrong(format!(
            "{} can't be '{}'; {suggestion}known: {}",
            self.label,
            short(text),
            all.join(", ")
        ))
    }

    /// A duration within bounds, such as `"500ms"`.
    #[must_use]
    pub fn duration(&self, within: RangeInclusive<Duration>) -> Option<Duration> {
        let text = self.text_like("a duration in quotes with its unit, such as \"1s\"")?;
        let duration = match values::duration(text) {
            Ok(duration) => duration,
            Err(message) => return self.wrong(self.say(&message)),
        };
        if duration < *within.start() {
            self.wrong(format!("{} must be at least {}", self.label, spell(*within.start())))
        } else if duration > *within.end() {
            self.wrong(format!("{} must be at most {}", self.label, spell(*within.end())))
        } else {
            Some(duration)
        }
    }

    /// A whole number within bounds.
    #[must_use]
    pub fn integer(&self, within: RangeInclusive<i64>) -> Option<i64> {
        let DeValue::Integer(integer) = self.value else {
            return self.expected("a whole number");
        };
        match i64::from_str_radix(integer.as_str(), integer.radix()) {
            Ok(integer) if within.contains(&integer) => Some(integer),
            _ => self.wrong(format!("{} must be from {} to {}", self.label, within.start(), within.end())),
        }
    }

    /// A finite number, whole or not.
    #[must_use]
    pub fn number(&self) -> Option<f64> {
        let number = match self.value {
            DeValue::Float(float) => float.as_str().parse::<f64>().ok(),
            DeValue::Integer(integer) => {
                i64::from_str_radix(integer.as_str(), integer.radix()).ok().map(|integer| integer as f64)
            }
            _ => return self.expected("a number"),
        };
        match number {
            Some(number) if number.is_finite() => Some(number),
            _ => self.wrong(format!("{} must be a finite number that fits 64 bits", self.label)),
        }
    }

    /// `true` or `false`.
    #[must_use]
    pub fn boolean(&self) -> Option<bool> {
        match self.value {
            DeValue::Boolean(boolean) => Some(*boolean),
            _ => self.expected("true or false"),
        }
    }

    /// The elements of an array; `example` is what to write.
    #[must_use]
    pub fn array(&self, example: &str) -> Option<Vec<Value<'a>>> {
        let DeValue::Array(array) = self.value else {
            return self.expected(format!("an array, such as {example}"));
        };
        let label = format!("an entry of {}", self.label);
        let element = |value| Value::new(self.place, label.clone(), value);
        Some(array.iter().map(element).collect())
    }

    /// Each element of an array made by `read`; `None` when one of them is wrong, after all were read.
    pub fn each<T>(&self, example: &str, read: impl FnMut(&Value<'a>) -> Option<T>) -> Option<Vec<T>> {
        let read: Vec<Option<T>> = self.array(example)?.iter().map(read).collect();
        read.into_iter().collect()
    }

    /// A table; `what` names it in problems, such as "a probe".
    #[must_use]
    pub fn table(&self, what: &str) -> Option<Table<'a>> {
        match self.value {
            DeValue::Table(entries) => Some(Table::new(self.place, what.to_owned(), entries)),
            _ => self.expected("a table"),
        }
    }
}
