//! What only root may do, and what to say where we are not.

use std::io::Write;

/// The words by which `tests/run` finds and counts the tests that did not run.
pub(crate) const NOT_RUN: &str = "NOT RUN";

/// Whether this process is root. Where it is not, it says on standard error that this test did not run, and why.
///
/// A test that needs network namespaces begins with `if !require_root("its name") { return; }`. On a root machine it
/// runs, and whatever it then may not do fails it.
#[must_use]
pub fn require_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Not `eprintln!`: the test runner would swallow it, for the test passes.
        let _ = writeln!(std::io::stderr(), "{NOT_RUN}: {test}: network namespaces need root");
    }
    root
}
