//! `fetch-config`: what replaces a config, and what does not.

use std::fs;
use std::os::unix::fs::{PermissionsExt as _, symlink};
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crosswatch_tests::process::program;
use crosswatch_tests::tools::repository;
use tempfile::TempDir;

const GOOD: &str =
    "[site.a]\n[[link]]\nname = \"l\"\nbetween = [\"a\"]\nprobe = [{ from = \"a\", icmp = \"127.0.0.1\" }]\n";

/// What the stand-in for `systemctl` does.
const TOLD: &str = "echo \"systemctl $*\" >>\"$LOG\"";

/// A machine: a folder for the config, two stages and a reflector that are enabled, and stand-ins for `aws` and `systemctl`.
struct Machine {
    folder: TempDir,
}

impl Machine {
    fn new() -> Self {
        let machine = Self { folder: tempfile::tempdir().unwrap() };
        for folder in ["etc", "wanted", "bin"] {
            fs::create_dir(machine.path(folder)).unwrap();
        }
        // A reflector, too, which reads none.
        for unit in [
            "crosswatch-alerter.service",
            "crosswatch-collector@us-east-1.service",
            "crosswatch-reflector.service",
        ] {
            symlink("/nowhere", machine.path("wanted").join(unit)).unwrap();
        }
        // What is there is handed out, by S3 as a file and by the Parameter Store on standard output.
        machine.tool("aws", "case $1 in s3) cp \"$REMOTE\" \"$5\" ;; ssm) cat \"$REMOTE\" ;; esac; echo \"aws $*\" >>\"$LOG\"");
        machine.tool("systemctl", TOLD);
        machine
    }

    fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    fn tool(&self, name: &str, does: &str) {
        let path = self.path("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\nset -eu\n{does}\n")).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// Fetches what is there now; what it had others do is in the log.
    fn fetch(&self, from: &str, remote: Option<&str>) -> (Output, String) {
        let (log, there) = (self.path("log"), self.path("remote"));
        let _ = fs::remove_file(&log);
        let _ = fs::remove_file(&there);
        if let Some(text) = remote {
            fs::write(&there, text).unwrap();
        }
        let path = format!("{}:{}", self.path("bin").display(), std::env::var("PATH").unwrap());
        let mut fetch = Command::new(repository().join("deploy/systemd/fetch-config"));
        fetch.env("CONFIG_FROM", from).env("PATH", path).env("LOG", &log).env("REMOTE", &there);
        fetch.env("CROSSWATCH_FOLDER", self.path("etc")).env("CROSSWATCH_WANTED", self.path("wanted"));
        let output = fetch.env("CROSSWATCH_PROGRAM", program()).output().unwrap();
        (output, fs::read_to_string(log).unwrap_or_default())
    }

    fn config(&self) -> Option<String> {
        fs::read_to_string(self.path("etc/crosswatch.toml")).ok()
    }
}

fn restarted(log: &str) -> Vec<&str> {
    log.lines().filter_map(|line| line.strip_prefix("systemctl ")).collect()
}

fn names(folder: &Path) -> Vec<String> {
    fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
}

#[test]
fn a_config_that_is_right_replaces_the_old_one_and_is_taken_up_and_any_other_changes_nothing() {
    let machine = Machine::new();
    let s3 = "s3://bucket/crosswatch.toml";
    // All in one, and not waited for.
    let taken_up = ["--no-block restart crosswatch-alerter.service crosswatch-collector@us-east-1.service"];

    let (output, log) = machine.fetch(s3, Some(GOOD));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(machine.config().as_deref(), Some(GOOD));
    assert_eq!(restarted(&log), taken_up);
    let mode = fs::metadata(machine.path("etc/crosswatch.toml")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o640, "it may hold keys");

    let (output, log) = machine.fetch(s3, Some(GOOD));
    assert!(output.status.success());
    assert_eq!(restarted(&log), [""; 0], "the same as before is nothing new");

    let wrong = format!("{GOOD}[[rule]]\nname = \"r\"\nmetric = \"ping_okay\"\nbelow = 1\n");
    for (remote, says) in [(Some(&*wrong), "did you mean 'ping_ok'"), (Some(""), "is empty"), (None, "")] {
        let (output, log) = machine.fetch(s3, remote);
        let said = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(1), "{said}");
        assert!(said.contains(says), "{said}");
        assert_eq!(machine.config().as_deref(), Some(GOOD), "the old one stays");
        assert_eq!(restarted(&log), [""; 0]);
        assert_eq!(names(&machine.path("etc")), ["crosswatch.toml"], "and nothing beside it");
    }

    // Whoever supervises does not answer: the stages are told by the next, which finds nothing else new.
    let changed = GOOD.replace("127.0.0.1", "127.0.0.2");
    machine.tool("systemctl", "exit 1");
    let (output, _) = machine.fetch(s3, Some(&changed));
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(machine.config().as_deref(), Some(&*changed));
    machine.tool("systemctl", TOLD);
    let (output, log) = machine.fetch(s3, Some(&changed));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(restarted(&log), taken_up);
    assert_eq!(names(&machine.path("etc")), ["crosswatch.toml"]);

    let changed = GOOD.replace("127.0.0.1", "127.0.0.3");
    let (output, log) = machine.fetch("ssm:/crosswatch/config", Some(&changed));
    assert!(output.status.success(), "{output:?}");
    assert_eq!(machine.config(), Some(changed));
    assert_eq!(restarted(&log), taken_up);

    let (output, _) = machine.fetch("https://example.com/crosswatch.toml", Some(GOOD));
    assert!(
        String::from_utf8_lossy(&output.stderr).contains("write s3://BUCKET/KEY or ssm:NAME"),
        "{output:?}"
    );
}
