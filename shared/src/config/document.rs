//! Reading a TOML text with all that is wrong with it at once.
//!
//! [`read`] hands out the text as a [`Table`]. A stage takes its keys, typed; each one that is wrong is noted at its
//! place in the file, and reading goes on. What nobody took is unknown. In the end there is a value, or every problem.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::path::{Path, PathBuf};

use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::problem::{Problem, Problems};
use super::repair::Repaired;
use super::report::{Lines, Report};
use super::values::{nearest, short};

pub use super::report::Place;
pub use super::value::Value;

/// Reads a TOML file's bytes; `take` takes the sections. `file` names it in the problems.
///
/// # Errors
/// Everything that is wrong with it, of which there is at least one.
pub fn read<T>(
    file: &Path,
    bytes: &[u8],
    take: impl FnOnce(&mut Table<'_>) -> Option<T>,
) -> Result<T, Problems> {
    let text = match std::str::from_utf8(bytes) {
        Ok(text) => text.strip_prefix('\u{feff}').unwrap_or(text),
        Err(error) => return Err(not_utf8(file, bytes, error.valid_up_to())),
    };
    let repaired = Repaired::of(text);
    let (root, errors) = DeTable::parse_recoverable(repaired.text());
    let report = Report::new(file, text, &repaired);
    for error in errors {
        report.syntax(&error);
    }
    let mut table = Table::new(Place::start(&report), String::new(), root.get_ref());
    let taken = take(&mut table);
    table.finish();
    let problems = report.problems();
    match taken {
        Some(taken) if problems.list().is_empty() => Ok(taken),
        _ => Err(problems),
    }
}

fn not_utf8(file: &Path, bytes: &[u8], at: usize) -> Problems {
    let before = String::from_utf8_lossy(bytes.get(..at).unwrap_or_default());
    let text = before.strip_prefix('\u{feff}').unwrap_or(&before);
    let (line, column) = Lines::of(text).position(text, text.len());
    let byte = bytes.get(at).copied().unwrap_or_default();
    let message = format!("byte 0x{byte:02x} is not UTF-8 text; save the file as UTF-8");
    Problems::new(file, vec![Problem { line, column, message }])
}

/// A table whose keys are taken one by one; what was not taken in the end is unknown.
pub struct Table<'a> {
    place: Place<'a>,
    /// What it is called in problems; empty for the whole file.
    what: String,
    entries: &'a DeTable<'a>,
    known: Vec<&'static str>,
}

impl<'a> Table<'a> {
    pub(super) fn new(place: Place<'a>, what: String, entries: &'a DeTable<'a>) -> Self {
        Self { place, what, entries, known: Vec::new() }
    }

    /// Where it begins.
    #[must_use]
    pub fn place(&self) -> Place<'a> {
        self.place
    }

    /// The folder of the file, to which its paths are relative; empty when the file was named without one.
    #[must_use]
    pub fn folder(&self) -> PathBuf {
        self.place.report().file().parent().map(Path::to_path_buf).unwrap_or_default()
    }

    /// Whether a key is there; does not take it.
    #[must_use]
    pub fn has(&self, key: &str) -> bool {
        self.entries.contains_key(key)
    }

    /// Takes a key that may be left out.
    pub fn get(&mut self, key: &'static str) -> Option<Value<'a>> {
        if !self.known.contains(&key) {
            self.known.push(key);
        }
        let value = self.entries.get(key)?;
        Some(self.value(format!("'{key}'"), value))
    }

    /// Takes a key that may be left out: `Some(None)` without it, `None` when its value is wrong.
    pub fn maybe<T>(
        &mut self,
        key: &'static str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<Option<T>> {
        match self.get(key) {
            Some(value) => read(&value).map(Some),
            None => Some(None),
        }
    }

    /// Takes a key that has a default: `None` when its value is wrong.
    pub fn or<T>(
        &mut self,
        key: &'static str,
        default: T,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        self.maybe(key, read).map(|value| value.unwrap_or(default))
    }

    /// Takes a key that must be there; `example` is what to write.
    pub fn need<T>(
        &mut self,
        key: &'static str,
        example: &str,
        read: impl FnOnce(&Value<'a>) -> Option<T>,
    ) -> Option<T> {
        match self.get(key) {
            Some(value) => read(&value),
            None => self.place.missing(format!("{} needs '{key}', such as {key} = {example}", self.what)),
        }
    }

    /// Takes a table of its own that may be left out: `Some(None)` without it, `None` when it is no table.
    pub fn section(&mut self, key: &'static str) -> Option<Option<Table<'a>>> {
        self.maybe(key, |value| value.table(&format!("[{key}]")))
    }

    /// Takes the tables `[[key]]`, in the order of the file; none without the key, or when it is something else.
    pub fn sections(&mut self, key: &'static str) -> Vec<Table<'a>> {
        let what = format!("a {key}");
        let tables = self.get(key).and_then(|value| {
            let tables = value.array(&format!("[[{key}]]"))?;
            Some(tables.iter().filter_map(|value| value.table(&what)).collect())
        });
        tables.unwrap_or_default()
    }

    /// Its entries as named things, such as the sites of `site`, in the order of the file.
    #[must_use]
    pub fn named(&self) -> Vec<Named<'a>> {
        let mut named: Vec<_> = self
            .entries
            .iter()
            .map(|(key, value)| {
                let at = key.span().start;
                let named = Named {
                    name: key.get_ref(),
                    place: self.place.at(at),
                    value: self.value(format!("'{}'", short(key.get_ref())), value),
                };
                (at, named)
            })
            .collect();
        named.sort_by_key(|(at, _)| *at);
        named.into_iter().map(|(_, named)| named).collect()
    }

    /// Notes every key that was not taken, with the nearest that could have been.
    pub fn finish(self) {
        for (key, _) in self.entries {
            let word: &str = key.get_ref();
            if self.known.contains(&word) {
                continue;
            }
            let (kind, place) = if self.what.is_empty() {
                ("section", String::new())
            } else {
                ("key", format!(" in {}", self.what))
            };
            let way_out = match nearest(word, self.known.iter().copied()) {
                Some(near) => format!("did you mean '{near}'?"),
                None => format!("known: {}", self.known.join(", ")),
            };
            let message = format!("unknown {kind} '{}'{place}; {way_out}", short(word));
            let _: Option<()> = self.place.at(key.span().start).wrong(message);
        }
    }

    fn value(&self, label: String, value: &'a Spanned<DeValue<'a>>) -> Value<'a> {
        Value::new(self.place, label, value)
    }
}

/// An entry whose key is a name given by the user.
pub struct Named<'a> {
    /// The key.
    pub name: &'a str,
    /// Where the key is.
    pub place: Place<'a>,
    /// What it names.
    pub value: Value<'a>,
}

/// Notes what is named twice among things whose names must differ.
pub struct Unique {
    what: &'static str,
    way_out: &'static str,
    /// Names with the line of the first.
    seen: HashMap<String, usize>,
}

impl Unique {
    /// For things called so, such as "link", and what to do about a second.
    #[must_use]
    pub fn new(what: &'static str, way_out: &'static str) -> Self {
        Self { what, way_out, seen: HashMap::new() }
    }

    /// `None`, and noted, when this name was there before.
    pub fn check(&mut self, place: Place<'_>, name: &str) -> Option<()> {
        match self.seen.entry(name.to_owned()) {
            Entry::Vacant(entry) => {
                entry.insert(place.line());
                Some(())
            }
            Entry::Occupied(first) => place.wrong(format!(
                "a second {} '{}', the first is on line {}; {}",
                self.what,
                short(name),
                first.get(),
                self.way_out
            )),
        }
    }
}
