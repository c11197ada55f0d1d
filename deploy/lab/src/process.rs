//! The lab's processes: started detached, and found again by a mark in their environment, or by id and start time.

use std::fmt;
use std::fs::{self, File};
use std::os::unix::process::CommandExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, waitpid};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};

use crate::Site;
use crate::error::{Error, Result};

/// The environment variable that each process of a lab has, and all that it starts: its value is the lab's stem.
const MARK: &str = "CROSSWATCH_LAB";

/// How long processes have to end by themselves; a stage takes up to 15 s for a notification under way.
const DRAIN: Duration = Duration::from_secs(20);

/// How long the kernel has after SIGKILL.
const DEATH: Duration = Duration::from_secs(10);

/// How often to look.
pub(crate) const LOOK: Duration = Duration::from_millis(20);

/// A process of the lab.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Process {
    /// The forwarder between the regions, and the host in each.
    Wan,
    /// The local AWS, with the gate before it.
    Aws,
    /// The publisher, in the centre.
    Publisher,
    /// The alerter, in the centre.
    Alerter,
    /// What makes the gate's telemetry follow the tunnels.
    Telemetry,
    /// A region's end of the tunnels.
    Charon(Site),
    /// What answers STAMP's test packets in a region.
    Reflector(Site),
    /// A region's collector.
    Collector(Site),
}

impl fmt::Display for Process {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Wan => f.write_str("wan"),
            Self::Aws => f.write_str("aws"),
            Self::Publisher => f.write_str("publisher"),
            Self::Alerter => f.write_str("alerter"),
            Self::Telemetry => f.write_str("telemetry"),
            Self::Charon(site) => write!(f, "charon-{site}"),
            Self::Reflector(site) => write!(f, "reflector-{site}"),
            Self::Collector(site) => write!(f, "collector-{site}"),
        }
    }
}

/// A process of this boot of the machine: ids come again, but not with the same start.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Identity {
    pub(crate) pid: i32,
    /// In clock ticks since the boot.
    started: u64,
}

impl Identity {
    /// Of the process that has this id and runs; `None` too for one that has ended and only waits to be reaped.
    fn of(pid: i32) -> Option<Self> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The second field, the name in parentheses, may hold anything; state, threads and start are fields 3, 20 and 22.
        let mut fields = stat.rsplit_once(')')?.1.split_whitespace();
        let state = fields.next()?;
        let threads: u32 = fields.nth(16)?.parse().ok()?;
        let started = fields.nth(1)?.parse().ok()?;
        // While other threads of it are still on their way out, it has its files yet.
        if matches!(state, "Z" | "X") && threads <= 1 {
            // Ours to reap where we started it in this very process; not our child otherwise, which does no harm.
            let _ = waitpid(Pid::from_raw(pid), Some(WaitPidFlag::WNOHANG));
            return None;
        }
        Some(Self { pid, started })
    }

    pub(crate) fn is_running(self) -> bool {
        Self::of(self.pid) == Some(self)
    }

    /// Signals it, if it still runs; gives whether it did.
    pub(crate) fn signal(self, signal: Signal) -> Result<bool, Errno> {
        if !self.is_running() {
            return Ok(false);
        }
        match kill(Pid::from_raw(self.pid), signal) {
            Ok(()) => Ok(true),
            Err(Errno::ESRCH) => Ok(false),
            Err(errno) => Err(errno),
        }
    }
}

/// Starts a command for good: without a terminal's signals, input from nothing, output to the end of `log`.
pub(crate) fn start(mut command: Command, stem: &str, log: &Path) -> Result<Identity> {
    let file = |source| Error::File { path: log.to_owned(), source };
    let output = File::options().create(true).append(true).open(log).map_err(file)?;
    let errors = output.try_clone().map_err(file)?;
    command.env(MARK, stem).process_group(0).stdin(Stdio::null()).stdout(output).stderr(errors);
    match command.spawn() {
        Ok(child) => {
            let pid = i32::try_from(child.id()).map_err(std::io::Error::other).map_err(file)?;
            // One that has ended already is told by whoever waits for it to come up.
            Ok(Identity::of(pid).unwrap_or(Identity { pid, started: 0 }))
        }
        Err(source) => Err(Error::Program { program: command.get_program().into(), source }),
    }
}

/// Every running process with the mark of this lab.
fn marked(stem: &str) -> Vec<Identity> {
    let entry = format!("{MARK}={stem}");
    let pids = fs::read_dir("/proc").into_iter().flatten().flatten();
    pids.filter_map(|pid| pid.file_name().to_str()?.parse().ok())
        .filter(|pid| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == entry.as_bytes())
        })
        .filter_map(Identity::of)
        .collect()
}

/// Ends the lab's processes, those that are known and those that bear its mark: politely at first, then by SIGKILL.
pub(crate) fn end(stem: &str, known: &[Identity]) -> Result<()> {
    let running = || {
        let mut running = marked(stem);
        running.extend(known.iter().filter(|known| known.is_running()));
        running
    };
    for (signal, patience) in [(Signal::SIGTERM, DRAIN), (Signal::SIGKILL, DEATH)] {
        for process in running() {
            // It is looked for below whether it has gone.
            let _ = process.signal(signal);
        }
        let since = Instant::now();
        while since.elapsed() < patience {
            if running().is_empty() {
                return Ok(());
            }
            thread::sleep(LOOK);
        }
    }
    Err(Error::Immortal { pids: running().iter().map(|process| process.pid).collect() })
}

/// What tells this boot of the machine from the others.
pub(crate) fn boot() -> Result<String> {
    let path = Path::new("/proc/sys/kernel/random/boot_id");
    let boot = fs::read_to_string(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
    Ok(boot.trim().to_owned())
}
