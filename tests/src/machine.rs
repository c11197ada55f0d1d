//! A machine with a systemd of its own: a Debian that `tests/run` made, booted as the first process of namespaces of its own. Its
//! packages, units, users and cgroups are real; only kernel and processors are shared.
//!
//! It has no network but its loopback. Needs root, Debian's `util-linux`, and a kernel with overlayfs and cgroup v2.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

use crate::deployment::{BOUND, wait_until};
use crate::http;
use crate::process::Process;

/// What our cgroups' names begin with: `<prefix><pid>-<number>`.
const PREFIX: &str = "crosswatch-test-";

/// A booted machine; dropped, all of it is gone.
#[derive(Debug)]
pub struct Machine {
    /// Outside its namespaces, and ends with them.
    outside: Option<Process>,
    /// Its first process, as seen from outside.
    init: u32,
    // After the processes in them.
    _cgroup: Cgroup,
    _scratch: TempDir,
}

impl Machine {
    /// Boots what is in this folder, which stays as it is, and waits until all its units have started.
    #[must_use]
    pub fn boot(base: &Path) -> Self {
        let (cgroup, scratch) = (Cgroup::new(), tempfile::tempdir().expect("a folder"));
        // Killed with the test, and the machine with it: nothing of a machine outlives its first process.
        let mut command = Command::new("setpriv");
        command.args([
            "--pdeathsig",
            "KILL",
            "sh",
            "-euc",
            "echo $$ >\"$1/cgroup.procs\"; shift; exec \"$@\"",
            "sh",
        ]);
        command.arg(&cgroup.0);
        command.args([
            "unshare",
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--net",
            "--cgroup",
            "--fork",
            "--kill-child",
        ]);
        command.arg(Path::new(env!("CARGO_MANIFEST_DIR")).join("src/boot")).arg(base).arg(scratch.path());
        let outside = Process::start(&mut command);
        let children = format!("/proc/{id}/task/{id}/children", id = outside.id());
        let mut init = None;
        wait_until("systemd", || {
            assert!(outside.is_running(), "the machine does not boot: {:#?}", outside.lines());
            init = fs::read_to_string(&children).ok().and_then(|children| children.trim().parse().ok());
            let name = init.and_then(|init: u32| fs::read_to_string(format!("/proc/{init}/comm")).ok());
            name.is_some_and(|name| name.trim() == "systemd")
        });
        let init = init.expect("a first process");
        let machine = Self { outside: Some(outside), init, _cgroup: cgroup, _scratch: scratch };
        let state = || machine.output("systemctl is-system-running --wait");
        wait_until("all its units", || {
            let state = String::from_utf8_lossy(&state().stdout).trim().to_owned();
            assert_ne!(
                state,
                "degraded",
                "{}",
                machine.run("systemctl list-units --failed; journalctl --boot")
            );
            state == "running"
        });
        machine
    }

    /// Where a file of it is seen from outside.
    #[must_use]
    pub fn path(&self, inside: &str) -> PathBuf {
        PathBuf::from(format!("/proc/{}/root{inside}", self.init))
    }

    /// Writes a file in it, with the folders that it needs.
    pub fn write(&self, inside: &str, text: &str) {
        let path = self.path(inside);
        fs::create_dir_all(path.parent().expect("a folder")).expect("the folder");
        fs::write(&path, text).unwrap_or_else(|error| panic!("{inside}: {error}"));
    }

    /// Runs a script of `sh` in it as root, as over a console.
    #[must_use]
    pub fn output(&self, script: &str) -> Output {
        let init = self.init.to_string();
        let mut command = Command::new("nsenter");
        command.args([
            "--target", &init, "--mount", "--pid", "--uts", "--ipc", "--net", "--cgroup", "--root", "--wd",
        ]);
        command.args(["env", "-i", "PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "sh", "-euc", script]);
        command.stdin(Stdio::null()).output().unwrap_or_else(|error| panic!("nsenter: {error}"))
    }

    /// What a script prints that must succeed, without the last line's end.
    #[expect(clippy::must_use_candidate, reason = "most scripts are run for what they do")]
    pub fn run(&self, script: &str) -> String {
        let output = self.output(script);
        let [out, err] =
            [&output.stdout, &output.stderr].map(|text| String::from_utf8_lossy(text).into_owned());
        assert!(output.status.success(), "{script}: {}: {out}{err}\n{}", output.status, self.log());
        out.trim_end().to_owned()
    }

    /// A property of a unit, as `systemctl show` has it.
    #[must_use]
    pub fn property(&self, unit: &str, name: &str) -> String {
        self.run(&format!("systemctl show --property {name} --value {unit}"))
    }

    /// The main process of a unit, by its id inside.
    #[must_use]
    pub fn main_process(&self, unit: &str) -> u32 {
        let id = self.property(unit, "MainPID").parse().expect("an id");
        assert_ne!(id, 0, "{unit} does not run: {}", self.log());
        id
    }

    /// The last that was logged in it.
    #[must_use]
    pub fn log(&self) -> String {
        String::from_utf8_lossy(&self.output("journalctl --no-pager --quiet --lines 200").stdout).into_owned()
    }

    /// GETs a path from its loopback.
    ///
    /// # Errors
    /// Nobody listens there, or what answers is not HTTP.
    pub fn get(&self, address: SocketAddr, path: &str) -> std::io::Result<http::Response> {
        let network = fs::File::open(format!("/proc/{}/ns/net", self.init))?;
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(network, CloneFlags::CLONE_NEWNET)?;
                http::get(address, path)
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // With what is outside the first process ends, and with that all others, before any of them is seen as ended.
        drop(self.outside.take());
    }
}

/// A cgroup that is the root of a machine's own; dropped, it is gone with those in it.
#[derive(Debug)]
struct Cgroup(PathBuf);

impl Cgroup {
    fn new() -> Self {
        static JANITOR: Once = Once::new();
        static COUNTER: AtomicU32 = AtomicU32::new(0);
        let root = hierarchy();
        JANITOR.call_once(|| remove_orphans(&root));
        let number = COUNTER.fetch_add(1, Ordering::Relaxed);
        let folder = root.join(format!("{PREFIX}{}-{number}", std::process::id()));
        fs::create_dir(&folder).unwrap_or_else(|error| panic!("{}: {error}", folder.display()));
        Self(folder)
    }
}

impl Drop for Cgroup {
    fn drop(&mut self) {
        let start = Instant::now();
        // What was killed is still going. No panic here: this also runs while a test's own panic unwinds.
        while let Err(error) = remove(&self.0) {
            if start.elapsed() > BOUND {
                eprintln!("{}: {error}", self.0.display());
                return;
            }
            thread::sleep(Duration::from_millis(20));
        }
    }
}

/// Where the kernel's cgroups, of the second version, are mounted.
fn hierarchy() -> PathBuf {
    let mounts = fs::read_to_string("/proc/self/mounts").expect("the mounts");
    let mut of = mounts.lines().filter_map(|line| {
        let mut words = line.split(' ').skip(1);
        let path = words.next()?;
        (words.next()? == "cgroup2").then(|| PathBuf::from(path))
    });
    of.next_back().expect("cgroup v2 is mounted nowhere")
}

/// Removes a cgroup, and first those in it.
fn remove(folder: &Path) -> std::io::Result<()> {
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            remove(&entry.path())?;
        }
    }
    fs::remove_dir(folder)
}

/// Removes what processes left behind that were killed.
fn remove_orphans(root: &Path) {
    for entry in fs::read_dir(root).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker =
            name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(pid, _)| pid.to_owned());
        if maker.is_some_and(|pid| !Path::new("/proc").join(pid).exists()) {
            let _ = remove(&entry.path());
        }
    }
}
