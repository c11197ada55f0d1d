//! What is noted while a text is read, and which of it is shown in the end.

use std::cell::RefCell;
use std::collections::HashSet;
use std::fmt::Display;
use std::path::Path;

use super::problem::{Problem, Problems};
use super::repair::Repaired;
use super::values::{nearest, short};

/// What is noted while a text is read.
pub(super) struct Report<'a> {
    file: &'a Path,
    text: &'a str,
    lines: Lines,
    repaired: &'a Repaired,
    found: RefCell<Vec<Found>>,
}

struct Found {
    /// In the file's own text.
    at: usize,
    kind: Kind,
    message: String,
}

/// What a problem rests on. Where the text could not be read in full, some would only mislead.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Kind {
    /// The text is not TOML.
    Syntax,
    /// The text is not TOML, but what was meant is plain, and reading went on with that.
    Repaired,
    /// A value or a key that is there is wrong.
    Wrong,
    /// Something is not there; it may be in a part that could not be read.
    Missing,
    /// Something refers to a section that is not there.
    Dangling,
}

impl<'a> Report<'a> {
    /// Of a text of which this is to be read.
    pub(super) fn new(file: &'a Path, text: &'a str, repaired: &'a Repaired) -> Self {
        let found = repaired.repairs().iter().map(|repair| Found {
            at: repair.at,
            kind: Kind::Repaired,
            message: repair.message.clone(),
        });
        Self { file, text, lines: Lines::of(text), repaired, found: RefCell::new(found.collect()) }
    }

    /// The file's name.
    pub(super) fn file(&self) -> &'a Path {
        self.file
    }

    fn note(&self, at: usize, kind: Kind, message: String) {
        let at = self.repaired.original(at);
        self.found.borrow_mut().push(Found { at, kind, message });
    }

    /// Notes that the text is not TOML.
    pub(super) fn syntax(&self, error: &toml::de::Error) {
        let span = error.span().unwrap_or(0..0);
        let written = short(self.repaired.text().get(span.clone()).unwrap_or_default());
        if error.message() == "duplicate key" {
            // Nothing is lost by it: the parser goes on with one of them, or with both tables joined.
            let message = format!("'{written}' is here for the second time; keep one of them");
            return self.note(span.start, Kind::Wrong, message);
        }
        let message = match error.message() {
            message if message.starts_with("string values must be quoted") && written.is_empty() => {
                "no value follows; write one, such as \"text\" or 1".to_owned()
            }
            message if message.starts_with("string values must be quoted") => {
                format!("text must stand in quotes: \"{written}\"")
            }
            "invalid basic string, expected `\"`" => "a text lacks its closing '\"' here".to_owned(),
            "invalid literal string, expected `'`" => "a text lacks its closing ' here".to_owned(),
            message => format!("not TOML: {message}"),
        };
        self.note(span.start, Kind::Syntax, message);
    }

    /// What is to be shown.
    pub(super) fn problems(self) -> Problems {
        let mut found = self.found.into_inner();
        found.sort_by_key(|found| found.at);
        let place = |found: &Found| self.lines.position(self.text, found.at);
        let unread = || found.iter().filter(|found| found.kind == Kind::Syntax);
        let broken_lines: HashSet<usize> = found
            .iter()
            .filter(|found| matches!(found.kind, Kind::Syntax | Kind::Repaired))
            .map(|found| place(found).0)
            .collect();
        // An array that is never closed takes in the rest of the file, with the sections in it.
        let swallowed = unread().any(|found| found.message.contains("unclosed"));
        let header_lost = unread().any(|found| {
            let line = self.lines.text(self.text, place(found).0);
            line.trim_start().starts_with('[')
        });
        let sections_lost = swallowed || header_lost;

        let mut problems = Vec::new();
        let mut said = HashSet::new();
        for one in &found {
            let (line, column) = place(one);
            let shown = match one.kind {
                // What else is wrong with such a line mostly follows from the first.
                Kind::Syntax | Kind::Repaired => said.insert(line),
                Kind::Wrong => !broken_lines.contains(&line),
                Kind::Missing => broken_lines.is_empty(),
                Kind::Dangling => !sections_lost && !broken_lines.contains(&line),
            };
            if shown {
                let message = one.message.clone();
                problems.push(Problem { line, column, message });
            }
        }
        Problems::new(self.file, problems)
    }
}

/// A place in the text, to note problems at.
#[derive(Clone, Copy)]
pub struct Place<'a> {
    report: &'a Report<'a>,
    /// In the repaired text.
    at: usize,
}

impl<'a> Place<'a> {
    /// The start of the text.
    pub(super) fn start(report: &'a Report<'a>) -> Self {
        Self { report, at: 0 }
    }

    /// Another place in the same text, by its byte.
    pub(super) fn at(self, at: usize) -> Self {
        Self { at, ..self }
    }

    /// What is noted of its text.
    pub(super) fn report(self) -> &'a Report<'a> {
        self.report
    }

    /// Its line, from 1.
    pub(super) fn line(self) -> usize {
        let at = self.report.repaired.original(self.at);
        self.report.lines.position(self.report.text, at).0
    }

    /// Notes that what is here is wrong. Gives `None`, so that a reader can end with it.
    pub fn wrong<T>(&self, message: impl Display) -> Option<T> {
        self.report.note(self.at, Kind::Wrong, message.to_string());
        None
    }

    /// Notes that something is missing here. Not shown where the text could not be read in full.
    pub fn missing<T>(&self, message: impl Display) -> Option<T> {
        self.report.note(self.at, Kind::Missing, message.to_string());
        None
    }

    /// Notes that what is written here refers to nothing, and names the nearest of what it could refer to.
    pub fn dangling<'b, T>(
        &self,
        what: &str,
        word: &str,
        known: impl IntoIterator<Item = &'b str>,
        way_out: &str,
    ) -> Option<T> {
        let suggestion = match nearest(word, known) {
            Some(near) => format!("did you mean '{near}'? Otherwise "),
            None => String::new(),
        };
        let message = format!("there is no {what} '{}'; {suggestion}{way_out}", short(word));
        self.report.note(self.at, Kind::Dangling, message);
        None
    }

    /// Notes that a pattern written here matches none of what is configured.
    pub fn unmatched<T>(&self, message: impl Display) -> Option<T> {
        self.report.note(self.at, Kind::Dangling, message.to_string());
        None
    }

    /// How many problems were noted so far, wherever.
    #[must_use]
    pub fn problems(&self) -> usize {
        self.report.found.borrow().len()
    }
}

/// Where the lines of a text begin.
pub(super) struct Lines(Vec<usize>);

impl Lines {
    pub(super) fn of(text: &str) -> Self {
        let newlines = text.match_indices('\n').map(|(at, _)| at + 1);
        Self(std::iter::once(0).chain(newlines).collect())
    }

    /// Line and column of a byte, from 1, the column in characters.
    pub(super) fn position(&self, text: &str, at: usize) -> (usize, usize) {
        let at = text.floor_char_boundary(at);
        let line = self.0.partition_point(|start| *start <= at);
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or_default();
        let before = text.get(start..at).unwrap_or_default();
        (line, 1 + before.chars().count())
    }

    /// The text of a line, from 1.
    fn text<'a>(&self, text: &'a str, line: usize) -> &'a str {
        let start = self.0.get(line.saturating_sub(1)).copied().unwrap_or(text.len());
        let end = self.0.get(line).copied().unwrap_or(text.len());
        text.get(start..end).unwrap_or_default()
    }
}
