//! The image, built of the Dockerfile as it is, and run as the compose file says: by `buildah` and namespaces, for there is no Docker
//! where tests run, and no base image can be had.
//!
//! Two images stand in for those: one whose `cargo` hands out the program that is built already, and, for the distroless one, the C
//! library and no more, which is less than the real one has.

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::process::Command;

use crosswatch_tests::deployment::{BOUND, assert_each_once, json_lines, wait_until};
use crosswatch_tests::http;
use crosswatch_tests::netns::Namespace;
use crosswatch_tests::process::Process;
use crosswatch_tests::root::require_root;
use crosswatch_tests::tools::{not_run, repository, require};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use super::image::compose;
use super::package::{packages, said};

/// As the compose file's head asks for.
const CONFIG: &str = r#"
silences = "/var/lib/crosswatch/silences.toml"
[site.here]
[[link]]
name = "loopback"
between = ["here"]
probe = [{ from = "here", icmp = "127.0.0.1", every = "100ms" }]
[queue]
kind = "embedded"
path = "/var/lib/crosswatch"
"#;

const LIBRARIES: &str = "usr/lib/x86_64-linux-gnu";

/// Takes the place of the compiler, and of it alone.
const CARGO: &str = "#!/bin/sh
set -eu
test \"$PWD $*\" = '/src build --locked --release --package crosswatch --bin crosswatch'
for needed in Cargo.lock deploy/crosswatch/src/main.rs; do [ -e $needed ] || exit 3; done
for not in .git target; do [ ! -e $not ] || exit 4; done
mkdir -p target/release
cp /usr/local/lib/crosswatch target/release/crosswatch
";

/// Where images are, and what is made for them.
struct Store {
    folder: TempDir,
}

impl Store {
    fn buildah(&self, command: &str) -> Command {
        let mut buildah = Command::new("buildah");
        buildah.arg("--root").arg(self.folder.path().join("root"));
        buildah.arg("--runroot").arg(self.folder.path().join("run"));
        buildah.args(["--storage-driver", "vfs", command]).current_dir(repository());
        buildah
    }

    /// An image of a folder.
    fn image(&self, name: &str, files: &Path) {
        let container = said(self.buildah("from").arg("scratch"));
        let container = container.trim();
        said(self.buildah("add").arg(container).arg(files).arg("/"));
        said(self.buildah("commit").args(["--quiet", "--rm", "--disable-compression", container, name]));
    }

    /// A folder with these files of a Debian, to be an image's.
    fn files(&self, name: &str, debian: &Path, libraries: &[&str], programs: &[&str]) -> PathBuf {
        let files = self.folder.path().join(name);
        for folder in ["usr/bin", "usr/lib64", LIBRARIES, "usr/local/bin", "usr/local/lib", "etc"] {
            fs::create_dir_all(files.join(folder)).unwrap();
        }
        let copy = |what: &str| {
            let to = files.join(what);
            said(Command::new("cp").arg("--archive").arg(debian.join(what)).arg(to.parent().unwrap()));
        };
        // Links, where /usr was merged.
        for of_old in ["bin", "lib", "lib64"] {
            copy(of_old);
        }
        copy("usr/lib64/ld-linux-x86-64.so.2");
        for library in
            ["ld-linux-x86-64.so.2", "libc.so.6", "libm.so.6", "libgcc_s.so.1"].iter().chain(libraries)
        {
            // As it is called, and not where a link to its version leads.
            fs::copy(debian.join(LIBRARIES).join(library), files.join(LIBRARIES).join(library)).unwrap();
        }
        for program in programs {
            copy(&format!("usr/bin/{program}"));
        }
        files
    }
}

/// The image, built.
fn built(test: &str) -> Option<Store> {
    if !require_root(test) {
        return None;
    }
    let debian = require("DEBIAN_ROOT", test)?;
    let packages = packages(test)?;
    if !Command::new("buildah").arg("--version").output().is_ok_and(|output| output.status.success()) {
        not_run(test, "buildah is not installed, as tests/run does");
        return None;
    }
    let store = Store { folder: tempfile::tempdir().unwrap() };

    let with_compiler = store.files(
        "rust",
        &debian,
        &["libselinux.so.1", "libpcre2-8.so.0", "libacl.so.1", "libattr.so.1"],
        &["sh", "dash", "cp", "mkdir", "install"],
    );
    fs::copy(packages.root.join("usr/bin/crosswatch"), with_compiler.join("usr/local/lib/crosswatch"))
        .unwrap();
    let cargo = with_compiler.join("usr/local/bin/cargo");
    fs::write(&cargo, CARGO).unwrap();
    fs::set_permissions(&cargo, fs::Permissions::from_mode(0o755)).unwrap();
    store.image("docker.io/library/rust:1.95-bookworm", &with_compiler);
    let distroless = store.files("distroless", &debian, &[], &[]);
    fs::write(distroless.join("etc/passwd"), "nonroot:x:65532:65532:nonroot:/home/nonroot:/sbin/nologin\n")
        .unwrap();
    store.image("gcr.io/distroless/cc-debian12:nonroot", &distroless);

    let mut build = store.buildah("build");
    build.args(["--isolation", "chroot", "--pull=never", "--disable-compression", "--tag", "crosswatch"]);
    build.args([
        "--file",
        "deploy/docker/Dockerfile",
        "--ignorefile",
        "deploy/docker/Dockerfile.dockerignore",
        ".",
    ]);
    said(&mut build);
    Some(store)
}

/// Starts the first process of a container: ROOT and VOLUME as they lie, the config's folder, `USER:GROUP`, the working folder, and what to run.
const CONTAIN: &str = r#"
root=$1 data=$2 config=$3 user=$4 folder=$5
shift 5
mount --make-rprivate /
mount --bind "$root" "$root"
mount --bind "$data" "$root/var/lib/crosswatch"
mount --bind "$config" "$root/etc/crosswatch"
mkdir -p "$root/proc"
mount -t proc -o nosuid,nodev,noexec proc "$root/proc"
mount -o remount,bind,ro "$root/etc/crosswatch"
mount -o remount,bind,ro "$root"
exec setpriv --no-new-privs unshare --root "$root" --wd "$folder" --setgid "${user#*:}" --setuid "${user%:*}" "$@"
"#;

#[test]
fn the_image_is_built_and_as_compose_starts_it_it_probes_writes_into_its_volume_alone_and_stops_when_told() {
    let test = "the_image_is_built_and_as_compose_starts_it_it_probes_writes_into_its_volume_alone_and_stops_when_told";
    let Some(tools) = require("DEPLOY_TOOLS", test) else { return };
    let Some(store) = built(test) else { return };
    let image = said(store.buildah("inspect").args(["--type", "image", "crosswatch"]));
    let image = &serde_json::from_str::<Value>(&image).unwrap()["OCIv1"]["config"];
    assert_eq!(image["User"], "65532:65532");
    assert_eq!(image["Volumes"], json!({"/var/lib/crosswatch": {}}));
    let words = |of: &Value| -> Vec<String> { serde_json::from_value(of.clone()).unwrap() };
    let run = [words(&image["Entrypoint"]), words(&image["Cmd"])].concat();
    let folder = image["WorkingDir"].as_str().unwrap();

    let container = said(store.buildah("from").args(["--pull=never", "crosswatch"]));
    let root = PathBuf::from(said(store.buildah("mount").arg(container.trim())).trim());
    let listed = said(Command::new("find").arg(&root).args(["-perm", "/6000"]));
    assert_eq!(listed, "", "nothing in it takes another's rights");

    let compose = compose(&tools);
    let service = &compose["services"]["crosswatch"];
    let user = service["user"].as_str().unwrap();
    // A new volume is as the image's folder: the user's.
    let data = store.folder.path().join("data");
    said(Command::new("cp").arg("--archive").arg(root.join("var/lib/crosswatch")).arg(&data));
    assert_eq!(
        format!("{0}:{1}", fs::metadata(&data).unwrap().uid(), fs::metadata(&data).unwrap().gid()),
        user
    );
    let config = store.folder.path().join("config");
    fs::create_dir(&config).unwrap();
    fs::write(config.join("crosswatch.toml"), CONFIG).unwrap();

    let network = Namespace::alone();
    let sysctls = service["sysctls"].as_object().unwrap();
    network.enter(|| {
        for (name, value) in sysctls {
            fs::write(Path::new("/proc/sys").join(name.replace('.', "/")), value.as_str().unwrap()).unwrap();
        }
    });
    let start = |what: &[String]| {
        let mut command = network.command("unshare");
        command.args([
            "--mount",
            "--pid",
            "--uts",
            "--ipc",
            "--fork",
            "--kill-child",
            "sh",
            "-euc",
            CONTAIN,
            "sh",
        ]);
        command.args([&root, &data, &config]).args([user, folder]).args(what);
        Process::start(&mut command)
    };

    let mut version = start(&["/usr/bin/crosswatch".to_owned(), "--version".to_owned()]);
    assert!(version.wait_exit(BOUND).success(), "{:#?}", version.lines());
    let mut silences = 0;
    for _ in 0..2 {
        let mut process = start(&run);
        process.wait_for_text("listening on http://127.0.0.1:9464", BOUND);
        let health = network.enter(|| http::get("127.0.0.1:9464".parse().unwrap(), "/healthz")).unwrap();
        assert_eq!(health.status, 200);

        let first = fs::read_to_string(format!("/proc/{id}/task/{id}/children", id = process.id())).unwrap();
        let first: i32 = first.trim().parse().unwrap();
        let status = fs::read_to_string(format!("/proc/{first}/status")).unwrap();
        for line in [
            "Uid:\t65532\t65532\t65532\t65532",
            "CapEff:\t0000000000000000",
            "CapPrm:\t0000000000000000",
            "NoNewPrivs:\t1",
        ] {
            assert!(status.contains(line), "{line}: {status}");
        }
        // As 'docker compose exec crosswatch crosswatch status' does.
        let exec = |tool: &[&str]| {
            let mut exec = Command::new("nsenter");
            exec.args(["--target", &first.to_string(), "--mount", "--pid", "--net", "--root", "--wd"]);
            exec.args(["--setgid", "65532", "--setuid", "65532", "/usr/bin/crosswatch"]).args(tool);
            said(&mut exec)
        };
        let up = || {
            let status: Value = serde_json::from_str(&exec(&["status", "--format", "json"])).unwrap();
            status["links"][0]["probes"][0]["state"] == "up"
        };
        wait_until("its ping is answered", up);
        silences += 1;
        exec(&["silence", "add", "--link", "loopback", "--for", "1h", "--why", "work"]);
        assert_eq!(exec(&["silence", "list"]).lines().count(), silences, "they outlast a container");

        kill(Pid::from_raw(first), Signal::SIGTERM).unwrap();
        let ended = process.wait_exit(BOUND);
        assert!(ended.success(), "{ended}: {:#?}", process.lines());
    }
    assert_eq!(
        said(Command::new("find").arg(&data).args(["!", "-uid", "65532"])),
        "",
        "all in it is the user's"
    );
    let mut export = start(&["/usr/bin/crosswatch".to_owned(), "export".to_owned()]);
    assert!(export.wait_exit(BOUND).success(), "{:#?}", export.lines());
    let observed = json_lines(&export.text(crosswatch_tests::process::Stream::Out));
    assert_eq!(assert_each_once(&observed), 2, "lives");
}
