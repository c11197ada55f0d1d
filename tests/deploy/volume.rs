//! `use-volume`: an instance waits for its volume, and all that is on it becomes the stages'.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Output};

use crosswatch_tests::tools::repository;
use tempfile::TempDir;

/// An instance whose every tool is a stand-in that writes down how it was called.
struct Instance(TempDir);

impl Instance {
    fn new() -> Self {
        let instance = Self(tempfile::tempdir().unwrap());
        for folder in ["bin", "devices"] {
            fs::create_dir(instance.0.path().join(folder)).unwrap();
        }
        fs::write(instance.0.path().join("fstab"), "").unwrap();
        instance.tool("curl", "echo i-0123");
        for tool in ["sleep", "mkfs.ext4", "mount", "resize2fs", "chown"] {
            instance.tool(tool, "");
        }
        instance.tool("mountpoint", "exit 1");
        instance.tool("blkid", "echo ext4");
        instance
    }

    fn path(&self, name: &str) -> String {
        self.0.path().join(name).display().to_string()
    }

    fn tool(&self, name: &str, does: &str) {
        let path = self.0.path().join("bin").join(name);
        fs::write(&path, format!("#!/bin/sh\necho \"{name} $*\" >>\"$LOG\"\n{does}\n")).unwrap();
        fs::set_permissions(path, fs::Permissions::from_mode(0o755)).unwrap();
    }

    /// What it said, and the calls of these tools.
    fn run(&self, tools: &[&str]) -> (Output, Vec<String>) {
        let log = self.path("log");
        let _ = fs::remove_file(&log);
        let mut command = Command::new(repository().join("deploy/systemd/use-volume"));
        command.args(["eu-west-1", "vol-0abc"]).env("LOG", &log);
        command.env("PATH", format!("{}:/usr/bin:/bin", self.path("bin")));
        command.env("CROSSWATCH_DATA", self.path("data")).env("CROSSWATCH_FSTAB", self.path("fstab"));
        let output = command.env("CROSSWATCH_DEVICES", self.path("devices")).output().unwrap();
        let log = fs::read_to_string(log).unwrap_or_default();
        let called = log.lines().filter(|line| tools.contains(&line.split(' ').next().unwrap()));
        (output, called.map(str::to_owned).collect())
    }
}

const DEVICE: &str = "devices/nvme-Amazon_Elastic_Block_Store_vol0abc";

#[test]
fn an_instance_waits_for_its_volume_says_so_each_minute_and_makes_all_on_it_the_stages_own() {
    let instance = Instance::new();
    // A quarter of an hour, five seconds a try.
    let device = instance.path(DEVICE);
    let attach = format!("[ $(grep -c ^aws \"$LOG\") -ge 181 ] && touch {device}");
    instance.tool("aws", &attach);
    let (output, calls) = instance.run(&["aws", "sleep", "mount", "mkfs.ext4", "chown"]);
    assert!(output.status.success(), "{output:?}");
    let of = |tool: &str| calls.iter().filter(|call| call.starts_with(tool)).collect::<Vec<_>>();
    assert_eq!(of("sleep").len(), 180);
    let attached = "aws ec2 attach-volume --region eu-west-1 --volume-id vol-0abc --instance-id i-0123 --device /dev/sdf";
    assert!(of("aws").iter().all(|call| *call == attached), "{calls:?}");
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(said.matches("waiting for vol-0abc").count(), 15, "{said}");
    assert_eq!(of("mkfs"), [""; 0], "what has a file system is never formatted");
    let data = instance.path("data");
    assert_eq!(of("mount"), [&format!("mount {data}")]);
    assert_eq!(of("chown"), [&format!("chown -R crosswatch:crosswatch {data}")]);
    let mode = fs::metadata(&data).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o700);
    let line = format!("{device} {data} ext4 defaults,nofail 0 2\n");
    assert_eq!(fs::read_to_string(instance.path("fstab")).unwrap(), line);

    // Called by hand, once more: it is attached already. An empty one is formatted.
    instance.tool("aws", "exit 1");
    instance.tool("blkid", "");
    let (output, calls) = instance.run(&["aws", "mkfs.ext4"]);
    assert!(output.status.success(), "{output:?}");
    assert_eq!(calls, [format!("mkfs.ext4 -q -L crosswatch {device}")]);
    assert_eq!(fs::read_to_string(instance.path("fstab")).unwrap(), line, "and no second line");
    assert!(Path::new(&data).is_dir());
}
