//! What is wrong with a configuration: everything at once, in the order of the file.

use std::fmt;
use std::path::{Path, PathBuf};

/// One thing that is wrong, where, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Problem {
    /// Counted from 1.
    pub line: usize,
    /// Counted from 1, in characters.
    pub column: usize,
    /// A sentence that names what is wrong and what to write instead.
    pub message: String,
}

/// Everything that is wrong with one file; trying again can't help until it is changed.
///
/// Displayed as `FILE:LINE:COLUMN: MESSAGE`, one line each, in the order of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Problems {
    file: PathBuf,
    problems: Vec<Problem>,
}

impl Problems {
    /// Of this file.
    pub(super) fn new(file: &Path, mut problems: Vec<Problem>) -> Self {
        problems.sort();
        problems.dedup();
        Self { file: file.to_owned(), problems }
    }

    /// The file, as it was named when it was read.
    #[must_use]
    pub fn file(&self) -> &Path {
        &self.file
    }

    /// In the order of the file.
    #[must_use]
    pub fn list(&self) -> &[Problem] {
        &self.problems
    }

    /// The first of it with its line, and how many more there are: what a page has room for.
    #[must_use]
    pub fn brief(&self) -> String {
        let first = match self.problems.first() {
            Some(problem) => format!("line {}: {}", problem.line, problem.message),
            None => "it is wrong".to_owned(),
        };
        match self.problems.len() {
            0 | 1 => first,
            count => format!("{} more; {first}", count - 1),
        }
    }
}

impl fmt::Display for Problems {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, problem) in self.problems.iter().enumerate() {
            if index > 0 {
                writeln!(f)?;
            }
            write!(f, "{}:{}:{}: {}", self.file.display(), problem.line, problem.column, problem.message)?;
        }
        Ok(())
    }
}

impl std::error::Error for Problems {}
