//! Which crate may see which, what the pure crates may bring along, and what lies at the top of the repository.
//!
//! The rules are those of `docs/architecture.md`. Cargo holds them by what each `Cargo.toml` lists; this test reads
//! `cargo metadata`, so that a line too many in one is a failure that names the crate, the dependency and the way to it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::env;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use serde_json::Value;

/// Crates that compute and do nothing else.
const PURE: [&str; 7] = [
    "crosswatch-shared",
    "crosswatch-segment",
    "crosswatch-window",
    "crosswatch-judge",
    "crosswatch-alarms",
    "crosswatch-evaluator",
    "crosswatch-cost",
];
/// What no pure crate may have anywhere below it; a `*` at the end stands for any text.
const IMPURE: [&str; 10] =
    ["tokio", "mio", "socket2", "rusqlite", "libsqlite3-sys", "reqwest", "hyper", "axum", "aws-*", "backoff"];
/// What the pure crates' `clippy.toml` must ban.
const CLOCKS: [&str; 5] = [
    "std::time::Instant::now",
    "std::time::Instant::elapsed",
    "std::time::SystemTime::now",
    "std::time::SystemTime::elapsed",
    "std::thread::sleep",
];
/// What may lie at the top besides dot-files.
const TOP: [&str; 16] = [
    "CHANGELOG.md",
    "Cargo.lock",
    "Cargo.toml",
    "LICENSE-APACHE",
    "LICENSE-MIT",
    "README.md",
    "alerter",
    "clippy.toml",
    "collector",
    "deny.toml",
    "deploy",
    "docs",
    "publisher",
    "rustfmt.toml",
    "shared",
    "tests",
];

/// The crates by name, and what each needs.
#[derive(Default)]
struct Graph(BTreeMap<String, Crate>);

#[derive(Default)]
struct Crate {
    /// Where a crate of this workspace lies in the repository; `None` for one from outside.
    folder: Option<String>,
    /// What it is linked with.
    normal: BTreeSet<String>,
    /// The same and what its build and its tests need.
    all: BTreeSet<String>,
}

impl Graph {
    fn read() -> Self {
        let metadata = cargo_metadata();
        let root = metadata["workspace_root"].as_str().unwrap();
        let members: Vec<_> = array(&metadata["workspace_members"]).collect();
        // Two versions of a crate are one here: a crate is forbidden in all its versions.
        let names: BTreeMap<_, _> = array(&metadata["packages"])
            .map(|p| (p["id"].as_str().unwrap(), p["name"].as_str().unwrap()))
            .collect();

        let mut graph = Self::default();
        for package in array(&metadata["packages"]).filter(|package| members.contains(&&package["id"])) {
            let manifest = Path::new(package["manifest_path"].as_str().unwrap());
            let folder = manifest.parent().unwrap().strip_prefix(root).unwrap().to_str().unwrap().to_owned();
            graph.0.entry(package["name"].as_str().unwrap().to_owned()).or_default().folder = Some(folder);
        }
        for node in array(&metadata["resolve"]["nodes"]) {
            let from = graph.0.entry(names[node["id"].as_str().unwrap()].to_owned()).or_default();
            for dependency in array(&node["deps"]) {
                let to = names[dependency["pkg"].as_str().unwrap()].to_owned();
                if array(&dependency["dep_kinds"]).any(|kind| kind["kind"].is_null()) {
                    from.normal.insert(to.clone());
                }
                from.all.insert(to);
            }
        }
        graph
    }

    /// What is wrong with the dependencies of the pure crates.
    fn impurities(&self) -> Vec<String> {
        PURE.iter().flat_map(|pure| self.impurities_of(pure)).collect()
    }

    fn impurities_of(&self, pure: &str) -> Vec<String> {
        if !self.0.contains_key(pure) {
            return vec![format!(
                "{pure}: not in the workspace; if it has a new name, this test needs it too"
            )];
        }
        // Breadth first: the way told is a shortest one.
        let mut came_from = BTreeMap::from([(pure, pure)]);
        let mut queue = VecDeque::from([pure]);
        let mut wrong = Vec::new();
        while let Some(name) = queue.pop_front() {
            if IMPURE.iter().any(|pattern| matches(pattern, name)) {
                let mut way = vec![name];
                while *way.last().unwrap() != pure {
                    way.push(came_from[way.last().unwrap()]);
                }
                way.reverse();
                wrong.push(format!("{pure} is pure and must not depend on {name}: {}", way.join(" → ")));
            }
            for next in &self.0[name].normal {
                came_from.entry(next).or_insert_with(|| {
                    queue.push_back(next);
                    name
                });
            }
        }
        wrong
    }

    /// Which crates of the workspace see one that they must not.
    fn crossings(&self) -> Vec<String> {
        let mut wrong = Vec::new();
        for (name, krate) in &self.0 {
            let Some(folder) = &krate.folder else { continue };
            for dependency in &krate.all {
                let Some(target) = self.0.get(dependency).and_then(|krate| krate.folder.as_ref()) else {
                    continue;
                };
                if let Some(why) = forbidden(top(folder), top(target)) {
                    wrong
                        .push(format!("{name} ({folder}) must not depend on {dependency} ({target}): {why}"));
                }
            }
        }
        wrong
    }
}

/// Why crates in one top-level folder may not depend on those in another, tests and builds included.
fn forbidden(from: &str, to: &str) -> Option<&'static str> {
    match (from, to) {
        _ if from == to => None,
        ("deploy", "tests") | (_, "deploy") if from != "tests" => {
            Some("nothing sees deploy or tests but tests")
        }
        ("tests" | "deploy", _) | (_, "shared") => None,
        ("shared", _) => Some("shared sees only shared"),
        ("collector" | "publisher" | "alerter", _) => Some("a stage sees only itself and shared"),
        _ => Some("a folder that this test does not know"),
    }
}

fn top(folder: &str) -> &str {
    folder.split('/').next().unwrap()
}

fn matches(pattern: &str, name: &str) -> bool {
    pattern.strip_suffix('*').map_or(name == pattern, |start| name.starts_with(start))
}

fn array(value: &Value) -> impl Iterator<Item = &Value> {
    value.as_array().expect("an array").iter()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap().to_owned()
}

fn cargo_metadata() -> Value {
    // For this host alone, whose crates are all here already: others would have to be fetched.
    let version = run(Command::new(env::var_os("RUSTC").unwrap_or_else(|| "rustc".into())).arg("-vV"));
    let host = version.lines().find_map(|line| line.strip_prefix("host: ")).expect("the host").to_owned();
    let text = run(Command::new(env::var_os("CARGO").unwrap_or_else(|| "cargo".into())).args([
        "metadata",
        "--format-version",
        "1",
        "--locked",
        "--offline",
        "--filter-platform",
        &host,
    ]));
    serde_json::from_str(&text).expect("JSON from cargo metadata")
}

fn tracked_files() -> Vec<String> {
    run(Command::new("git").args(["ls-files", "-z"])).split_terminator('\0').map(str::to_owned).collect()
}

fn run(command: &mut Command) -> String {
    let output = command.current_dir(root()).output().unwrap_or_else(|error| panic!("{command:?}: {error}"));
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
    String::from_utf8(output.stdout).expect("UTF-8")
}

fn read(path: &Path) -> String {
    fs::read_to_string(path).unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn read_toml(path: &Path) -> toml::Table {
    read(path).parse().unwrap_or_else(|error| panic!("{}: {error}", path.display()))
}

fn assert_none(wrong: &[String]) {
    assert!(wrong.is_empty(), "\n{}\n", wrong.join("\n"));
}

#[test]
fn pure_crates_bring_no_runtime_no_database_and_no_network() {
    assert_none(&Graph::read().impurities());
}

#[test]
fn crates_see_only_what_is_below_them() {
    assert_none(&Graph::read().crossings());
}

#[test]
fn pure_crates_cannot_read_a_clock() {
    let workspace = read_toml(&root().join("Cargo.toml"));
    let level = workspace["workspace"]["lints"]["clippy"]["disallowed_methods"].as_str();
    assert_eq!(level, Some("deny"), "the workspace's level of clippy::disallowed_methods");

    let graph = Graph::read();
    for name in PURE {
        let folder = root().join(graph.0[name].folder.as_ref().expect("a crate of the workspace"));
        let manifest = read_toml(&folder.join("Cargo.toml"));
        let lints = manifest.get("lints").and_then(|lints| lints.get("workspace")?.as_bool());
        assert_eq!(lints, Some(true), "{name}: its Cargo.toml takes the workspace's lints");

        let clippy = read_toml(&folder.join("clippy.toml"));
        let banned =
            clippy.get("disallowed-methods").and_then(|list| list.as_array()).expect("disallowed-methods");
        for clock in CLOCKS {
            let bans =
                |entry: &toml::Value| entry.as_str().or_else(|| entry.get("path")?.as_str()) == Some(clock);
            assert!(banned.iter().any(bans), "{name}: its clippy.toml does not ban {clock}");
        }
    }
    // An exception in the source would undo the ban.
    let folders: Vec<_> =
        PURE.iter().map(|name| format!("{}/src/", graph.0[*name].folder.as_ref().unwrap())).collect();
    for file in tracked_files() {
        if folders.iter().any(|folder| file.starts_with(folder)) {
            assert!(!read(&root().join(&file)).contains("disallowed_methods"), "{file}: allows a clock");
        }
    }
}

#[test]
fn the_top_level_stays() {
    let allowed = |name: &str| name.starts_with('.') || TOP.contains(&name);
    let files = tracked_files();
    let extra: BTreeSet<_> = files.iter().map(|file| top(file)).filter(|name| !allowed(name)).collect();
    assert!(extra.is_empty(), "not a place for these: {extra:?}; see docs/architecture.md");
}

/// A test file that no `[[test]]` names is never run.
#[test]
fn every_test_file_is_run() {
    let manifest = read_toml(&root().join("tests/Cargo.toml"));
    let named: BTreeSet<_> =
        manifest["test"].as_array().unwrap().iter().map(|test| test["path"].as_str().unwrap()).collect();
    let found = fs::read_dir(root().join("tests")).unwrap().map(|entry| entry.unwrap().file_name());
    let found: Vec<_> =
        found.map(|name| name.into_string().unwrap()).filter(|name| name.ends_with(".rs")).collect();
    assert!(found.len() > 1);
    for file in found {
        assert!(named.contains(file.as_str()), "tests/Cargo.toml has no [[test]] with path = \"{file}\"");
    }
}

/// The rules themselves, on a workspace with every kind of fault.
#[test]
fn faults_are_found_and_told_with_the_way_to_them() {
    let mut graph = Graph::default();
    let mut add = |name: &str, folder: Option<&str>, normal: &[&str], dev: &[&str]| {
        let normal: BTreeSet<_> = normal.iter().map(ToString::to_string).collect();
        let all = normal.iter().cloned().chain(dev.iter().map(ToString::to_string)).collect();
        graph.0.insert(name.to_owned(), Crate { folder: folder.map(str::to_owned), normal, all });
    };
    add("crosswatch-shared", Some("shared"), &["serde"], &["tokio"]);
    add("crosswatch-segment", Some("shared/journal/segment"), &["crosswatch-shared"], &[]);
    add("crosswatch-window", Some("publisher/window"), &["crosswatch-shared", "helper"], &[]);
    add("crosswatch-judge", Some("alerter/judge"), &["crosswatch-shared", "aws-sdk-sqs"], &[]);
    add("crosswatch-alarms", Some("deploy/alarms"), &["crosswatch-judge"], &[]);
    add("crosswatch-evaluator", Some("deploy/lab/evaluator"), &["crosswatch-shared"], &[]);
    add("crosswatch-cost", Some("deploy/cost"), &["crosswatch-shared"], &[]);
    add("crosswatch-queue", Some("shared/queue"), &["crosswatch-judge"], &[]);
    add("crosswatch-collector", Some("collector"), &["crosswatch-shared"], &["crosswatch-publisher"]);
    add("crosswatch-publisher", Some("publisher"), &["crosswatch-window", "tokio"], &["crosswatch"]);
    add("crosswatch", Some("deploy/crosswatch"), &["crosswatch-collector", "crosswatch-publisher"], &[]);
    add("helper", None, &["tokio"], &[]);
    for outside in ["serde", "tokio", "aws-sdk-sqs"] {
        add(outside, None, &[], &[]);
    }
    assert_eq!(
        graph.impurities(),
        [
            "crosswatch-window is pure and must not depend on tokio: crosswatch-window → helper → tokio",
            "crosswatch-judge is pure and must not depend on aws-sdk-sqs: crosswatch-judge → aws-sdk-sqs",
            "crosswatch-alarms is pure and must not depend on aws-sdk-sqs: \
             crosswatch-alarms → crosswatch-judge → aws-sdk-sqs",
        ]
    );
    assert_eq!(
        graph.crossings(),
        [
            "crosswatch-collector (collector) must not depend on crosswatch-publisher (publisher): \
             a stage sees only itself and shared",
            "crosswatch-publisher (publisher) must not depend on crosswatch (deploy/crosswatch): \
             nothing sees deploy or tests but tests",
            "crosswatch-queue (shared/queue) must not depend on crosswatch-judge (alerter/judge): \
             shared sees only shared",
        ]
    );
}
