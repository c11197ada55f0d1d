//! Child processes whose output is waited on line by line: the built program, and whatever else a test runs beside it.

use std::env;
use std::fs;
use std::io::{self, BufRead, BufReader, Read};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex, OnceLock};
use std::thread::{self, JoinHandle};
use std::time::{Duration, Instant};

use nix::sys::signal::{self, Signal};
use nix::sys::wait::{Id, WaitPidFlag, waitid};
use nix::unistd::Pid;

/// The built `crosswatch`, in the profile of this test. Builds it first, once a test process, so that no test runs an
/// old one.
#[must_use]
pub fn program() -> &'static Path {
    static PROGRAM: OnceLock<PathBuf> = OnceLock::new();
    PROGRAM.get_or_init(|| build("crosswatch", "crosswatch"))
}

/// The built `lab` and `crosswatch-gate`, likewise.
#[must_use]
pub fn laboratory() -> &'static [PathBuf; 2] {
    static PROGRAMS: OnceLock<[PathBuf; 2]> = OnceLock::new();
    PROGRAMS.get_or_init(|| [build("crosswatch-lab", "lab"), build("crosswatch-gate", "crosswatch-gate")])
}

fn build(package: &str, program: &str) -> PathBuf {
    // <target>/<profile's folder>/deps/<this test>
    let this = env::current_exe().expect("the path of this test");
    let folder = this.ancestors().nth(2).expect("the profile's folder");
    let target = folder.parent().expect("the target folder");
    let profile = match folder.file_name().and_then(|name| name.to_str()) {
        Some("debug") | None => "dev",
        Some(profile) => profile,
    };
    let status = Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into()))
        .args(["build", "--quiet", "--locked", "--package", package, "--bin", program])
        .args(["--profile", profile, "--target-dir"])
        .arg(target)
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .status()
        .expect("cargo");
    assert!(status.success(), "cargo build --package {package}: {status}");
    folder.join(program)
}

/// A line that a process printed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Line {
    /// When it had come whole.
    pub at: Instant,
    /// On which stream.
    pub stream: Stream,
    /// Without its end.
    pub text: String,
}

/// A standard stream.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Stream {
    /// Standard output.
    Out,
    /// Standard error.
    Err,
}

/// A running process, killed when dropped: it alone, not what it started.
#[derive(Debug)]
pub struct Process {
    name: String,
    child: Child,
    seen: Arc<Seen>,
    /// The first line that `wait_for` has not looked at.
    next: usize,
    waiter: Option<JoinHandle<()>>,
}

#[derive(Debug, Default)]
struct Seen {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: Vec<Line>,
    exited: bool,
    /// How many of the two streams have ended.
    ended: usize,
}

impl Process {
    /// Starts it. Its standard input is empty, unless the command says otherwise.
    #[must_use]
    pub fn start(command: &mut Command) -> Self {
        let name = format!("{command:?}");
        let mut child = command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("{name}: {error}"));
        let seen = Arc::new(Seen::default());
        // The readers end when the streams do, which a grandchild may hold open: nobody waits for them.
        spawn_reader(child.stdout.take().expect("standard output"), Stream::Out, seen.clone());
        spawn_reader(child.stderr.take().expect("standard error"), Stream::Err, seen.clone());
        let waiter = Some(spawn_waiter(pid_of(&child), seen.clone()));
        Self { name, child, seen, next: 0, waiter }
    }

    /// Its process id.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Waits for a line that the predicate accepts, among those after the line found last. Panics after `bound`, or when
    /// the process has ended without one, with everything it printed.
    pub fn wait_for(&mut self, mut accept: impl FnMut(&Line) -> bool, bound: Duration) -> Line {
        let mut next = self.next;
        let found = self.wait("the line waited for", bound, |state| {
            let new = state.lines.get(next..).unwrap_or_default();
            if let Some(index) = new.iter().position(&mut accept) {
                next += index + 1;
                return Some(Some(new[index].clone()));
            }
            next = state.lines.len();
            (state.ended == 2).then_some(None)
        });
        self.next = next;
        found.unwrap_or_else(|| {
            let printed = self.printed();
            panic!("{} ended without the line waited for; it printed:\n{printed}", self.name)
        })
    }

    /// Waits for a line that contains this text; see [`Process::wait_for`].
    pub fn wait_for_text(&mut self, text: &str, bound: Duration) -> Line {
        self.wait_for(|line| line.text.contains(text), bound)
    }

    /// Every line so far.
    #[must_use]
    pub fn lines(&self) -> Vec<Line> {
        self.seen.state.lock().expect("the lines").lines.clone()
    }

    /// Every line so far of one stream, each with its end.
    #[must_use]
    pub fn text(&self, stream: Stream) -> String {
        let lines = self.lines();
        lines.iter().filter(|line| line.stream == stream).map(|line| format!("{}\n", line.text)).collect()
    }

    /// Whether it still runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        !self.seen.state.lock().expect("the lines").exited
    }

    /// Sends it a signal.
    pub fn signal(&self, signal: Signal) {
        // Not reaped before `wait_exit` or `drop`, so the id is still its own.
        signal::kill(pid_of(&self.child), signal)
            .unwrap_or_else(|error| panic!("{}: {signal}: {error}", self.name));
    }

    /// Waits until it has ended and all it printed was read. Panics after `bound`.
    pub fn wait_exit(&mut self, bound: Duration) -> ExitStatus {
        self.wait("its end", bound, |state| (state.exited && state.ended == 2).then_some(()));
        self.child.wait().unwrap_or_else(|error| panic!("{}: {error}", self.name))
    }

    /// Ends it as a power cut would, and waits until it is gone.
    pub fn kill(mut self) {
        self.end();
    }

    /// CPU time that its present threads have used, user and system, to the nanosecond: what `stat` tells is sampled by
    /// the kernel's tick, which a thread that wakes at regular times may always miss, or always meet.
    #[must_use]
    pub fn cpu_time(&self) -> Duration {
        let threads = fs::read_dir(format!("/proc/{}/task", self.child.id())).expect("its threads");
        let used = |thread: io::Result<fs::DirEntry>| {
            // A thread may end meanwhile.
            let stat = fs::read_to_string(thread.ok()?.path().join("schedstat")).ok()?;
            stat.split_whitespace().next()?.parse::<u64>().ok()
        };
        Duration::from_nanos(threads.filter_map(used).sum())
    }

    /// Resident memory now, in bytes.
    #[must_use]
    pub fn resident(&self) -> u64 {
        let status = self.proc("status");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("VmRSS");
        1024 * line.trim_end_matches("kB").trim().parse::<u64>().expect("VmRSS in kB")
    }

    fn proc(&self, file: &str) -> String {
        let path = format!("/proc/{}/{file}", self.id());
        std::fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {path}: {error}", self.name))
    }

    fn wait<T>(&self, what: &str, bound: Duration, mut look: impl FnMut(&State) -> Option<T>) -> T {
        let start = Instant::now();
        let mut state = self.seen.state.lock().expect("the lines");
        loop {
            if let Some(found) = look(&state) {
                return found;
            }
            let Some(left) = bound.checked_sub(start.elapsed()) else {
                drop(state);
                let printed = self.printed();
                panic!("{}: {what} did not come within {bound:?}; it printed:\n{printed}", self.name);
            };
            state = self.seen.changed.wait_timeout(state, left).expect("the lines").0;
        }
    }

    fn printed(&self) -> String {
        self.lines().iter().map(|line| format!("{:?}: {}\n", line.stream, line.text)).collect()
    }

    fn end(&mut self) {
        let _ = self.child.kill();
        // The waiter first: until it is done the child must not be reaped, or the id could be another's.
        if let Some(waiter) = self.waiter.take() {
            let _ = waiter.join();
        }
        let _ = self.child.wait();
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.end();
    }
}

fn pid_of(child: &Child) -> Pid {
    Pid::from_raw(child.id().try_into().expect("a process id"))
}

fn spawn_reader(stream: impl Read + Send + 'static, which: Stream, seen: Arc<Seen>) {
    thread::spawn(move || {
        for line in BufReader::new(stream).split(b'\n') {
            let Ok(line) = line else { break };
            let line =
                Line { at: Instant::now(), stream: which, text: String::from_utf8_lossy(&line).into_owned() };
            seen.state.lock().expect("the lines").lines.push(line);
            seen.changed.notify_all();
        }
        seen.state.lock().expect("the lines").ended += 1;
        seen.changed.notify_all();
    });
}

/// Notes the end of a process without reaping it.
fn spawn_waiter(pid: Pid, seen: Arc<Seen>) -> JoinHandle<()> {
    thread::spawn(move || {
        while waitid(Id::Pid(pid), WaitPidFlag::WEXITED | WaitPidFlag::WNOWAIT) == Err(nix::Error::EINTR) {}
        seen.state.lock().expect("the lines").exited = true;
        seen.changed.notify_all();
    })
}
