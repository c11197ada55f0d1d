//! What the program cannot work with: it says what, and what to do about it, and leaves things as they are.
//!
//! Nothing here needs a namespace but the one without a right to ping: the probes connect to a port of the loopback.

use std::collections::BTreeMap;
use std::fs::{self, Permissions};
use std::io::{Seek, SeekFrom, Write};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::Duration;

use crosswatch_tests::netns::Namespace;
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::root::require_root;
use nix::sys::signal::Signal;
use rusqlite::Connection;

use crate::world::{BOUND, number, wait_until};

const PAGE: u64 = 4096;

/// The files of ours, and the jobs that use each: those that write it first.
const FILES: [(&str, &[&str]); 3] = [
    ("journal/here.db", &["run", "collector --site here", "publisher", "alerter", "export", "status"]),
    ("publisher.db", &["run", "publisher", "metrics"]),
    ("alerter.db", &["run", "alerter", "status"]),
];

fn config(probe: &str, listen: &str) -> String {
    format!(
        "[site.here]\n[[link]]\nname = \"loop\"\nbetween = [\"here\"]\n\
         probe = [{{ from = \"here\", {probe}, every = \"20ms\", timeout = \"20ms\" }}]\n\
         [metrics]\nkind = \"embedded\"\nperiod = \"1s\"\n[http]\nlisten = \"{listen}\"\n\
         [[rule]]\nname = \"ping-failed\"\nmetric = \"ping_ok\"\nbelow = 1\nnotify = [\"screen\"]\n\
         [notify.screen]\nconsole = true\n"
    )
}

/// A folder with a config whose probe anyone may send.
fn folder() -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("crosswatch.toml"), config("tcp = \"127.0.0.1:1\"", "127.0.0.1:0")).unwrap();
    folder
}

/// A folder in which the program has run.
fn used_folder() -> tempfile::TempDir {
    let folder = folder();
    let mut program = Process::start(Command::new(program()).current_dir(folder.path()).arg("run"));
    let data = folder.path().join("data");
    wait_until("all have something", || {
        number(&data.join("publisher.db"), "SELECT count(*) FROM datapoint") > 0
            && number(&data.join("alerter.db"), "SELECT count(*) FROM incident") > 0
    });
    program.signal(Signal::SIGTERM);
    assert!(program.wait_exit(BOUND).success());
    FILES.iter().for_each(|(file, _)| empty_wal(&data.join(file)));
    folder
}

/// Brings all of a database into its one file.
fn empty_wal(path: &Path) {
    let db = Connection::open(path).unwrap();
    let busy: i64 = db.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get(0)).unwrap();
    assert_eq!(busy, 0);
}

/// Runs a job that must end by itself.
fn run(folder: &Path, job: &str) -> Output {
    output(Command::new(program()).args(job.split(' ')), folder)
}

fn output(command: &mut Command, folder: &Path) -> Output {
    let mut process = Process::start(command.current_dir(folder));
    let status = process.wait_exit(BOUND);
    let [stdout, stderr] = [crosswatch_tests::process::Stream::Out, crosswatch_tests::process::Stream::Err]
        .map(|stream| process.text(stream).into_bytes());
    Output { status, stdout, stderr }
}

/// It ended with this status, and said all of these words on standard error.
#[track_caller]
fn assert_says(output: &Output, status: i32, words: &[&str]) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert_eq!(output.status.code(), Some(status), "{said}");
    for word in words {
        assert!(said.contains(word), "'{word}' is not in: {said}");
    }
    assert!(!said.contains("panicked"), "{said}");
}

fn snapshot(folder: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(folder).unwrap().map(Result::unwrap) {
        let path = entry.path();
        if path.is_dir() {
            files.extend(snapshot(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// Makes one file bad in one way, runs each job that uses it, and sees that it says so and leaves the file alone.
fn check_bad_files(spoil: impl Fn(&Path), words: &[&str]) {
    let good = used_folder();
    for (file, jobs) in FILES {
        let path = good.path().join("data").join(file);
        empty_wal(&path);
        let kept = fs::read(&path).unwrap();
        spoil(&path);
        let bad = fs::read(&path).unwrap();
        assert_ne!(bad, kept);
        for job in jobs {
            let said = run(good.path(), job);
            assert_says(&said, 1, &[&format!("data/{file}: ")]);
            assert_says(&said, 1, words);
            assert!(fs::read(&path).unwrap() == bad, "{job} has changed {}", path.display());
            let wal = fs::metadata(format!("{}-wal", path.display())).map_or(0, |wal| wal.len());
            assert_eq!(wal, 0, "{job} has written to {}", path.display());
        }
        // What was good is as good as before.
        fs::write(&path, kept).unwrap();
        for job in ["export", "metrics", "status"] {
            assert_says(&run(good.path(), job), 0, &[]);
        }
    }
}

#[test]
fn a_file_of_a_newer_version_is_left_as_it_is() {
    let spoil = |path: &Path| {
        let db = Connection::open(path).unwrap();
        db.pragma_update(None, "user_version", i32::MAX).unwrap();
    };
    check_bad_files(
        spoil,
        &["2147483647", "this program knows up to", "left as it is", "upgrade the program"],
    );
}

#[test]
fn a_database_of_somebody_else_is_left_as_it_is() {
    let spoil = |path: &Path| {
        fs::remove_file(path).unwrap();
        Connection::open(path)
            .unwrap()
            .execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1);")
            .unwrap();
    };
    check_bad_files(spoil, &["of Crosswatch", "left as it is", "move it away"]);
}

#[test]
fn a_file_that_is_no_database_is_left_as_it_is() {
    let spoil = |path: &Path| fs::write(path, "Dear diary,\n".repeat(1_000)).unwrap();
    check_bad_files(spoil, &["of Crosswatch", "left as it is", "move it away"]);
}

#[test]
fn a_damaged_file_is_left_as_it_is() {
    // All but the first page, which holds the header and the schema.
    let spoil = |path: &Path| overwrite(path, PAGE..fs::metadata(path).unwrap().len());
    check_bad_files(spoil, &["damaged", "left as it is", "restore it or move it away"]);
}

fn overwrite(path: &Path, bytes: std::ops::Range<u64>) {
    let mut file = fs::OpenOptions::new().write(true).open(path).unwrap();
    file.seek(SeekFrom::Start(bytes.start)).unwrap();
    file.write_all(&vec![0xa5; usize::try_from(bytes.end - bytes.start).unwrap()]).unwrap();
}

#[test]
fn a_broken_config_gives_all_its_errors_and_changes_nothing() {
    let folder = folder();
    let file = folder.path().join("crosswatch.toml");
    let broken = fs::read_to_string(&file)
        .unwrap()
        .replace("every = \"20ms\"", "evry = \"20ms\"")
        .replace("from = \"here\"", "from = \"nowhere\"")
        .replace("notify = [\"screen\"]", "notify = [\"sceen\"]")
        .replace("period = \"1s\"", "period = \"0s\"");
    fs::write(&file, broken).unwrap();
    for job in
        ["check", "run", "collector --site here", "publisher", "alerter", "status", "export", "metrics"]
    {
        let output = run(folder.path(), job);
        let words = ["'evry'", "did you mean 'every'", "'nowhere'", "'sceen'", "'screen'", "'period'"];
        assert_says(&output, 2, &words);
        assert!(output.stdout.is_empty(), "{job}: {output:?}");
        let said = String::from_utf8(output.stderr).unwrap();
        let places = said.lines().filter(|line| line.starts_with("crosswatch.toml:")).count();
        assert!(places >= 4, "each with its place: {said}");
    }
    assert_eq!(snapshot(folder.path()).len(), 1, "nothing but the config is there");
}

#[test]
fn an_unknown_site_is_told_with_those_there_are() {
    let folder = folder();
    let output = run(folder.path(), "collector --site nowhere");
    assert_says(&output, 2, &["--site nowhere", "it has here"]);
    assert_eq!(snapshot(folder.path()).len(), 1, "nothing but the config is there");
}

#[test]
fn a_port_in_use_is_told_with_the_way_out() {
    let folder = used_folder();
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    fs::write(folder.path().join("crosswatch.toml"), config("tcp = \"127.0.0.1:1\"", &address)).unwrap();
    let before = snapshot(folder.path());
    for job in ["run", "collector --site here", "publisher", "alerter"] {
        assert_says(&run(folder.path(), job), 1, &[&address, "[http] listen", "port 0"]);
    }
    assert!(snapshot(folder.path()) == before, "nothing has changed");
}

/// The program without the rights that let root write anywhere and open raw sockets.
fn unprivileged() -> Command {
    if !nix::unistd::geteuid().is_root() {
        return Command::new(program());
    }
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set=-all", "--inh-caps=-all", "--"]).arg(program());
    command
}

#[test]
fn a_folder_that_may_not_be_written_is_told_by_name() {
    let folder = folder();
    let data = folder.path().join("data");
    let job = |job: &str| output(unprivileged().args(job.split(' ')), folder.path());
    let mode = |mode| Permissions::from_mode(mode);

    // The folder of the folder.
    fs::set_permissions(folder.path(), mode(0o555)).unwrap();
    assert_says(&job("run"), 1, &["data", "ermission denied", "[queue] path"]);
    // An empty one.
    fs::set_permissions(folder.path(), mode(0o755)).unwrap();
    fs::create_dir(&data).unwrap();
    fs::set_permissions(&data, mode(0o555)).unwrap();
    for (of, file) in
        [("run", "publisher.lock"), ("collector --site here", "journal"), ("alerter", "alerter.lock")]
    {
        assert_says(&job(of), 1, &[&format!("data/{file}"), "ermission denied", "writable"]);
    }
    assert!(snapshot(&data).is_empty());
    fs::set_permissions(&data, mode(0o755)).unwrap();

    // One that was used, and what is in it.
    let folder = used_folder();
    let data = folder.path().join("data");
    let all: Vec<PathBuf> = snapshot(&data).into_keys().chain([data.join("journal"), data.clone()]).collect();
    let before = snapshot(&data);
    for path in &all {
        fs::set_permissions(path, mode(if path.is_dir() { 0o555 } else { 0o444 })).unwrap();
    }
    let job = |job: &str| output(unprivileged().args(job.split(' ')), folder.path());
    for (of, file) in
        [("run", "publisher"), ("collector --site here", "journal/here"), ("alerter", "alerter")]
    {
        assert_says(&job(of), 1, &[&format!("data/{file}."), "writable"]);
    }
    assert!(snapshot(&data) == before, "nothing has changed");
    for path in all.iter().rev() {
        fs::set_permissions(path, mode(0o755)).unwrap();
    }
}

#[test]
fn who_may_not_ping_is_told_exactly_what_to_set() {
    if !require_root("who_may_not_ping_is_told_exactly_what_to_set") {
        return;
    }
    let namespace = Namespace::alone();
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("crosswatch.toml"), config("icmp = \"127.0.0.1\"", "127.0.0.1:0")).unwrap();
    // A user who may not read where the program was built.
    let copy = folder.path().join("crosswatch");
    fs::copy(program(), &copy).unwrap();
    fs::set_permissions(folder.path(), Permissions::from_mode(0o777)).unwrap();
    let nobody = || {
        let mut command = namespace.command("setpriv");
        command.args(["--reuid=65534", "--regid=65534", "--clear-groups", "--"]).arg(&copy);
        command
    };
    let words = [
        "here",
        "group 65534",
        "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"",
        &format!("setcap cap_net_raw+ep {}", copy.display()),
    ];
    for job in ["run", "collector --site here"] {
        assert_says(&output(nobody().args(job.split(' ')), folder.path()), 1, &words);
    }
    // What it says to set is enough.
    namespace.allow_ping_sockets(0..=i32::MAX as u32);
    let mut program = Process::start(nobody().current_dir(folder.path()).arg("run"));
    let journal = folder.path().join("data/journal/here.db");
    wait_until("something is observed", || number(&journal, "SELECT max(total) FROM batch") > 0);
    program.signal(Signal::SIGTERM);
    assert!(program.wait_exit(Duration::from_secs(30)).success());
}
