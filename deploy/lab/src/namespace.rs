//! A network namespace with a name, and the commands that change it.

use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::thread;

use nix::sched::{CloneFlags, setns};

use crate::error::{Error, Result};

/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";

/// A network namespace by its name; dropping it changes nothing.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Namespace {
    name: String,
}

impl Namespace {
    /// The one of this name, which may be there or not.
    pub(crate) fn named(name: String) -> Self {
        Self { name }
    }

    /// As `ip netns exec` takes it.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    pub(crate) fn make(&self) -> Result<()> {
        ip(&["netns", "add", &self.name])
    }

    /// Takes its name away, with which it goes as soon as nobody is in it; nothing where it is gone already.
    pub(crate) fn remove(&self) -> Result<()> {
        if self.file().exists() { ip(&["netns", "del", &self.name]) } else { Ok(()) }
    }

    /// Whether it is there.
    #[must_use]
    pub fn exists(&self) -> bool {
        self.file().exists()
    }

    fn file(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Calls a function on a thread inside. Sockets that it opens and processes that it starts stay inside.
    ///
    /// # Errors
    /// The namespace is gone, or this process is not root.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> Result<T> {
        let failed = |source| Error::Namespace { name: self.name.clone(), source };
        let inside = File::open(self.file()).map_err(failed)?;
        thread::scope(|scope| {
            let act = move || -> io::Result<T> {
                setns(inside, CloneFlags::CLONE_NEWNET)?;
                Ok(act())
            };
            let thread = thread::Builder::new().spawn_scoped(scope, act).map_err(failed)?;
            match thread.join() {
                Ok(done) => done.map_err(failed),
                // A panic of the caller's own, which goes on where the caller is.
                Err(panic) => std::panic::resume_unwind(panic),
            }
        })
    }

    /// `ip -n NAME …`.
    pub(crate) fn ip(&self, arguments: &str) -> Result<()> {
        let mut words = vec!["-n", &self.name];
        words.extend(arguments.split(' '));
        ip(&words)
    }

    /// Writes a setting below `/proc/sys`, which shows the namespace of the thread that opens it.
    pub(crate) fn sysctl(&self, file: &str, value: &str) -> Result<()> {
        let path = Path::new("/proc/sys").join(file);
        self.enter(|| std::fs::write(&path, value))?.map_err(|source| Error::File { path, source })
    }

    /// Loads a ruleset, in one step.
    pub(crate) fn nft(&self, ruleset: &str) -> Result<()> {
        self.enter(|| {
            let mut command = Command::new("nft");
            command.args(["-f", "-"]).stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::piped());
            let started = |source| Error::Program { program: "nft".into(), source };
            let mut child = command.spawn().map_err(started)?;
            // Its end is the end of the input. If nft does not read to there, what it printed says why.
            let _ = child.stdin.take().map(|mut input| input.write_all(ruleset.as_bytes()));
            let output = child.wait_with_output().map_err(started)?;
            succeeded(&format!("nft in {}", self.name), &output)
        })?
    }
}

fn ip<A: AsRef<OsStr>>(arguments: &[A]) -> Result<()> {
    let output = Command::new("ip").args(arguments).stdin(Stdio::null()).output();
    let output = output.map_err(|source| Error::Program { program: "ip".into(), source })?;
    let words: Vec<_> = arguments.iter().map(|word| word.as_ref().to_string_lossy()).collect();
    succeeded(&format!("ip {}", words.join(" ")), &output)
}

fn succeeded(command: &str, output: &std::process::Output) -> Result<()> {
    if output.status.success() {
        return Ok(());
    }
    let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(Error::Command { command: command.to_owned(), said })
}
