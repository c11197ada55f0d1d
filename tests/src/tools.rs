//! Tools that `tests/run` installs, and what to say where they are not.

use std::env;
use std::io::Write as _;
use std::path::{Path, PathBuf};

use crate::root::NOT_RUN;

/// The folder of the repository.
#[must_use]
pub fn repository() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the folder above tests")
}

/// The file that a variable names, which `tests/run` sets; without it this test did not run, which is said on standard error.
#[must_use]
pub fn require(variable: &str, test: &str) -> Option<PathBuf> {
    let found = env::var_os(variable).map(PathBuf::from);
    if found.is_none() {
        not_run(test, &format!("{variable} is not set, as tests/run does"));
    }
    found
}

/// Says that a test did not run, and why. Not by `eprintln!`: the test runner would swallow it, for the test passes.
pub fn not_run(test: &str, why: &str) {
    let _ = writeln!(std::io::stderr(), "{NOT_RUN}: {test}: {why}");
}
