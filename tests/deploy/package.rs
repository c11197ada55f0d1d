//! The packages: what is in them, and that what they bring is right where it is installed.

use std::collections::BTreeSet;
use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;

use crosswatch_tests::process::program;
use crosswatch_tests::tools::{repository, require};

/// What `deploy/package` makes of the program of this test's profile.
pub(super) struct Packages {
    pub(super) deb: PathBuf,
    pub(super) tar: PathBuf,
    zip: PathBuf,
    /// The package's files as they lie once installed.
    pub(super) root: PathBuf,
}

pub(super) fn packages(test: &str) -> Option<&'static Packages> {
    static PACKAGES: OnceLock<Packages> = OnceLock::new();
    let cargo_deb = require("CARGO_DEB", test)?;
    Some(PACKAGES.get_or_init(|| make(&cargo_deb)))
}

fn make(cargo_deb: &Path) -> Packages {
    let built = program().parent().unwrap();
    let profile = match built.file_name().unwrap().to_str().unwrap() {
        "debug" => "dev",
        profile => profile,
    };
    // In the folder that Cargo has for tests: nothing removes what a whole process shares.
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("package");
    let _ = fs::remove_dir_all(&target);
    fs::create_dir_all(&target).unwrap();
    std::os::unix::fs::symlink(built.canonicalize().unwrap(), target.join(built.file_name().unwrap()))
        .unwrap();
    let config = target.join("crosswatch.toml");
    fs::write(
        &config,
        "[site.a]\n[[link]]\nname = \"l\"\nbetween = [\"a\"]\nvpn = [{ site = \"a\", id = \"vpn-0a\" }]\n",
    )
    .unwrap();
    let mut package = Command::new(repository().join("deploy/package"));
    package.args(["--no-build", "--profile", profile, "--lambda"]).arg(config);
    said(package.env("CARGO_TARGET_DIR", &target).env("CARGO_DEB", cargo_deb));

    let made = target.join("packages");
    let deb = fs::read_dir(&made).unwrap().map(|entry| entry.unwrap().path());
    let deb = deb.into_iter().find(|path| path.extension().is_some_and(|of| of == "deb")).expect("a .deb");
    let root = target.join("root");
    said(Command::new("dpkg-deb").arg("-x").arg(&deb).arg(&root));
    Packages { deb, tar: made.join("crosswatch.tar.gz"), zip: made.join("crosswatch-lambda.zip"), root }
}

/// What a command prints that must succeed.
pub(super) fn said(command: &mut Command) -> String {
    let output = command.output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let [out, err] = [output.stdout, output.stderr].map(|text| String::from_utf8_lossy(&text).into_owned());
    assert!(output.status.success(), "{command:?}: {}: {out}{err}", output.status);
    out + &err
}

/// All files below a folder, relative to it.
fn files(folder: &Path) -> BTreeSet<String> {
    let listed = said(Command::new("find").arg(folder).args(["-type", "f", "-printf", "%P\n"]));
    listed.lines().map(str::to_owned).collect()
}

#[test]
fn the_package_has_program_units_man_pages_and_completions_and_belongs_to_root() {
    let test = "the_package_has_program_units_man_pages_and_completions_and_belongs_to_root";
    let Some(packages) = packages(test) else { return };
    let files = files(&packages.root);
    let units = [
        "crosswatch.service",
        "crosswatch-collector@.service",
        "crosswatch-publisher.service",
        "crosswatch-alerter.service",
        "crosswatch-reflector.service",
        "crosswatch-fetch.service",
        "crosswatch-fetch.timer",
    ];
    let scripts = ["prepare", "fetch-config", "use-volume"];
    let pages = [
        "",
        "-run",
        "-collector",
        "-publisher",
        "-alerter",
        "-reflector",
        "-check",
        "-status",
        "-alarms-apply",
    ];
    let needed = (units.iter().map(|unit| format!("usr/lib/systemd/system/{unit}")))
        .chain(scripts.iter().map(|script| format!("usr/lib/crosswatch/{script}")))
        .chain(pages.iter().map(|page| format!("usr/share/man/man1/crosswatch{page}.1")))
        .chain([
            "usr/bin/crosswatch".to_owned(),
            "usr/lib/sysusers.d/crosswatch.conf".to_owned(),
            "usr/share/bash-completion/completions/crosswatch".to_owned(),
            "usr/share/fish/vendor_completions.d/crosswatch.fish".to_owned(),
            "usr/share/zsh/vendor-completions/_crosswatch".to_owned(),
            "usr/share/doc/crosswatch/docs/operations.md".to_owned(),
            "usr/share/doc/crosswatch/copyright".to_owned(),
        ]);
    for file in needed {
        let packed = format!("{file}.gz");
        assert!(files.contains(&file) || files.contains(&packed), "{file} is missing: {files:#?}");
    }
    assert!(!files.iter().any(|file| file.contains("documents")), "what is hidden has no page: {files:#?}");
    // Config is the user's: the package brings none that an upgrade could overwrite.
    assert!(!files.iter().any(|file| file.starts_with("etc/") || file.starts_with("var/")), "{files:#?}");

    let listed = said(Command::new("dpkg-deb").arg("-c").arg(&packages.deb));
    for line in listed.lines() {
        assert!(line.contains(" 0/0 ") || line.contains(" root/root "), "{line}");
        assert!(
            !line[..10].contains('s') && line.as_bytes()[8] != b'w',
            "set-id, or anybody may write: {line}"
        );
    }
    for executable in ["usr/bin/crosswatch", "usr/lib/crosswatch/fetch-config"] {
        let mode = fs::metadata(packages.root.join(executable)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o755, "{executable}");
    }
    let scripts = tempfile::tempdir().unwrap();
    said(Command::new("dpkg-deb").arg("-e").arg(&packages.deb).arg(scripts.path()));
    for script in ["postinst", "prerm", "postrm"] {
        said(Command::new("sh").arg("-n").arg(scripts.path().join(script)));
    }
    let version = said(Command::new(packages.root.join("usr/bin/crosswatch")).arg("--version"));
    let field = said(Command::new("dpkg-deb").arg("-f").arg(&packages.deb).arg("Version"));
    assert!(field.trim().starts_with(version.trim().trim_start_matches("crosswatch ")), "{field} {version}");

    let unpacked = tempfile::tempdir().unwrap();
    said(Command::new("tar").arg("-xzf").arg(&packages.tar).arg("-C").arg(unpacked.path()));
    assert_eq!(self::files(unpacked.path()), files, "the same for those without dpkg");
}

#[test]
fn the_units_are_right_where_they_are_installed_and_expose_little() {
    let test = "the_units_are_right_where_they_are_installed_and_expose_little";
    let Some(packages) = packages(test) else { return };
    let root = &packages.root;
    // Another root would have to hold all of systemd's own units: so the paths in the units are made those of the scratch root.
    let units = tempfile::tempdir().unwrap();
    for entry in fs::read_dir(root.join("usr/lib/systemd/system")).unwrap() {
        let path = entry.unwrap().path();
        let usr = format!("={}/usr/", root.display());
        let name = path.file_name().unwrap().to_str().unwrap().replace("@.", "@us-east-1.");
        fs::write(units.path().join(name), fs::read_to_string(&path).unwrap().replace("=/usr/", &usr))
            .unwrap();
    }
    let mut names = Vec::new();
    for entry in fs::read_dir(units.path()).unwrap() {
        let unit = entry.unwrap().path();
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=yes"]).arg(&unit);
        // A colon at the end: and where else they are looked for.
        verify.env("SYSTEMD_UNIT_PATH", format!("{}:", units.path().display()));
        let warnings = said(verify.env("MANPATH", format!("{}:", root.join("usr/share/man").display())));
        assert_eq!(warnings, "", "{}", unit.display());
        names.push(unit);
    }
    assert_eq!(names.len(), 7);
    for unit in names.iter().filter(|unit| unit.extension().is_some_and(|of| of == "service")) {
        let mut security = Command::new("systemd-analyze");
        // In tenths: at most 2.0.
        security.args(["security", "--no-pager", "--offline=true", "--threshold=20"]).arg(unit);
        let table = said(&mut security);
        assert!(table.contains("Overall exposure level"), "{table}");
        let text = fs::read_to_string(unit).unwrap();
        let capabilities: Vec<&str> = text
            .lines()
            .filter_map(|line| {
                line.strip_prefix("AmbientCapabilities=").or(line.strip_prefix("CapabilityBoundingSet="))
            })
            .filter(|set| !set.is_empty())
            .collect();
        let allowed = match unit.file_stem().and_then(|name| name.to_str()) {
            Some("crosswatch-fetch") => "CAP_DAC_READ_SEARCH",
            Some("crosswatch-reflector") => "CAP_NET_BIND_SERVICE",
            _ => "CAP_NET_RAW",
        };
        assert!(capabilities.iter().all(|set| *set == allowed), "{}: {capabilities:?}", unit.display());
    }
    let users = tempfile::tempdir().unwrap();
    fs::create_dir(users.path().join("etc")).unwrap();
    let sysusers = root.join("usr/lib/sysusers.d/crosswatch.conf");
    said(Command::new("systemd-sysusers").arg("--root").arg(users.path()).arg(&sysusers));
    let passwd = fs::read_to_string(users.path().join("etc/passwd")).unwrap();
    assert!(passwd.contains("crosswatch:") && passwd.contains("nologin"), "{passwd}");
}

#[test]
fn the_man_pages_and_completions_can_be_read() {
    let Some(packages) = packages("the_man_pages_and_completions_can_be_read") else { return };
    let share = packages.root.join("usr/share");
    for entry in fs::read_dir(share.join("man/man1")).unwrap() {
        let page = entry.unwrap().path();
        let mut man = Command::new("man");
        let output =
            man.args(["--warnings", "-E", "UTF-8", "-l"]).arg(&page).env("MANWIDTH", "80").output().unwrap();
        assert!(output.status.success(), "{}", page.display());
        assert_eq!(String::from_utf8_lossy(&output.stderr), "", "{}", page.display());
        assert!(String::from_utf8_lossy(&output.stdout).contains("SYNOPSIS"), "{}", page.display());
    }
    let completions = share.join("bash-completion/completions/crosswatch");
    let script = format!(
        "source {}; COMP_WORDS=(crosswatch coll); COMP_CWORD=1; _crosswatch crosswatch coll crosswatch; echo \"${{COMPREPLY[@]}}\"",
        completions.display()
    );
    assert_eq!(said(Command::new("bash").args(["-c", &script])).trim(), "collector");
}

/// Amazon Linux 2023, which the instances and the function run, has glibc 2.34.
#[test]
fn the_program_runs_where_the_templates_run_it() {
    let Some(packages) = packages("the_program_runs_where_the_templates_run_it") else { return };
    let symbols = said(Command::new("objdump").arg("-T").arg(packages.root.join("usr/bin/crosswatch")));
    let needed = symbols.split("GLIBC_2.").skip(1).filter_map(|rest| {
        let digits: String = rest.chars().take_while(char::is_ascii_digit).collect();
        digits.parse::<u32>().ok()
    });
    let newest = needed.max().expect("it needs glibc");
    assert!(newest <= 34, "it needs glibc 2.{newest}");

    let listed = said(Command::new("python3").args(["-m", "zipfile", "-l"]).arg(&packages.zip));
    for file in ["bootstrap", "crosswatch", "crosswatch.toml"] {
        assert!(listed.lines().any(|line| line.starts_with(&format!("{file} "))), "{listed}");
    }
    let modes = "import sys, zipfile; print([oct(i.external_attr >> 16 & 0o777) for i in zipfile.ZipFile(sys.argv[1]).infolist()])";
    let modes = said(Command::new("python3").args(["-c", modes]).arg(&packages.zip));
    assert_eq!(modes.trim(), "['0o755', '0o755', '0o644']");
}

#[test]
fn a_target_that_no_package_is_made_for_is_said_before_anything_is_built() {
    let target = tempfile::tempdir().unwrap();
    let mut package = Command::new(repository().join("deploy/package"));
    let output =
        package.args(["--target", "aarch64"]).env("CARGO_TARGET_DIR", target.path()).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(said.contains("'aarch64' is not known; write aarch64-unknown-linux-gnu"), "{said}");
    assert_eq!(fs::read_dir(target.path()).unwrap().count(), 0);
}
