//! `test`: a user's own cases played through the rules in virtual time.

mod starter;

use std::io::{self, Write};
use std::path::{Path, PathBuf};

use anyhow::Context;
use crosswatch_ruletest::{Case, config_of, play, read};
use crosswatch_shared::config::Problems;
use crosswatch_shared::config::values::nearest;
use wildmatch::WildMatch;

use crate::config::{self, Config, LoadError};

pub(crate) use starter::starter_text;

/// The file of cases where none is named.
pub(crate) const FILE: &str = "rules.test.toml";

/// Files of cases that cannot be played; trying again cannot help until somebody has changed something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TestError {
    /// There is no such file, or it cannot be read.
    #[error("{}: the cases can't be read ({source}); 'crosswatch init' writes some to start from", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// What is wrong with the files, one after another.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n"))]
    Wrong(Vec<Problems>),
    /// No case is called so.
    #[error("--only {only}: no case is called so{}", .near.as_ref().map(|near| format!("; did you mean '{near}'?")).unwrap_or_default())]
    NoCase {
        /// What was asked for.
        only: String,
        /// The nearest that there is.
        near: Option<String>,
    },
}

/// Some cases did not come to what they expect.
#[derive(Debug, thiserror::Error)]
#[error("{failed} of {all} cases failed")]
struct Failed {
    failed: usize,
    all: usize,
}

/// Plays the cases of all files, or those of this name; a glob may name several. Prints a line each, and what differs.
pub(crate) fn run(files: &[PathBuf], named: Option<&Path>, only: Option<&str>) -> anyhow::Result<()> {
    let mut suites = load(files, named)?;
    if let Some(only) = only {
        keep(&mut suites, only)?;
    }
    let mut out = io::stdout().lock();
    let (mut failed, mut all) = (0, 0);
    for (config, cases) in &suites {
        for case in cases {
            let played = play(case, &config.topology, &config.alerts)
                .with_context(|| format!("cannot play the case '{}'", case.name))?;
            all += 1;
            match case.differs(&played) {
                None => writeln!(out, "ok      {}", case.name)?,
                Some(differences) => {
                    failed += 1;
                    write!(out, "FAILED  {}\n{differences}", case.name)?;
                }
            }
        }
    }
    out.flush()?;
    if failed == 0 { Ok(()) } else { Err(Failed { failed, all }.into()) }
}

/// Every file's cases with its config; or all that is wrong with all of them.
fn load(files: &[PathBuf], named: Option<&Path>) -> anyhow::Result<Vec<(Config, Vec<Case>)>> {
    let default = [PathBuf::from(FILE)];
    let files = if files.is_empty() { &default } else { files };
    let mut suites = Vec::new();
    let mut wrong = Vec::new();
    for file in files {
        let bytes =
            std::fs::read(file).map_err(|source| TestError::Unreadable { path: file.clone(), source })?;
        let own = match config_of(file, &bytes) {
            Ok(own) => own,
            Err(problems) => {
                wrong.push(problems);
                continue;
            }
        };
        let beside = || file.with_file_name(config::FILE);
        let path = named.map(Path::to_owned).or(own).unwrap_or_else(beside);
        let config = match Config::load(&path) {
            Ok(config) => config,
            Err(LoadError::Wrong(problems)) => {
                wrong.push(problems);
                continue;
            }
            Err(error) => return Err(error.into()),
        };
        match read(file, &bytes, &config.topology, &config.alerts) {
            Ok(cases) => suites.push((config, cases)),
            Err(problems) => wrong.push(problems),
        }
    }
    if wrong.is_empty() { Ok(suites) } else { Err(TestError::Wrong(wrong).into()) }
}

fn keep(suites: &mut [(Config, Vec<Case>)], only: &str) -> Result<(), TestError> {
    let glob = WildMatch::new(only);
    let names: Vec<String> =
        suites.iter().flat_map(|(_, cases)| cases).map(|case| case.name.clone()).collect();
    if !names.iter().any(|name| glob.matches(name)) {
        let near = nearest(only, names.iter().map(String::as_str)).map(str::to_owned);
        return Err(TestError::NoCase { only: only.to_owned(), near });
    }
    for (_, cases) in suites {
        cases.retain(|case| glob.matches(&case.name));
    }
    Ok(())
}
