//! A deployment: a config in a folder of its own, the jobs run on it, and the tools asked about it.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write;
use std::path::Path;
use std::process::{Command, Output, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;
use serde_json::Value;
use tempfile::TempDir;

use crate::netns::Namespace;
use crate::process::{Process, program};

/// Far longer than anything takes that is waited for here.
pub const BOUND: Duration = Duration::from_secs(60);

/// The rule of a config that asks for no other: a probe lost three times in a row is an outage, which five replies end; `oncall`
/// is told of it.
pub const OUTAGE_RULE: &str = r#"
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 5
notify = ["oncall"]
"#;

/// A config in a folder of its own; dropped, the folder is gone.
#[derive(Debug)]
pub struct Deployment {
    folder: TempDir,
}

impl Deployment {
    /// Writes the config.
    #[must_use]
    pub fn new(config: &str) -> Self {
        let deployment = Self { folder: tempfile::tempdir().expect("a folder") };
        fs::write(deployment.path().join("crosswatch.toml"), config).expect("the config");
        deployment
    }

    /// The folder.
    #[must_use]
    pub fn path(&self) -> &Path {
        self.folder.path()
    }

    /// Starts a job inside a namespace; it reads the config, listens, and is not looked at any further.
    #[must_use]
    pub fn start(&self, inside: &Namespace, job: &[&str]) -> Process {
        Process::start(inside.command(program()).args(job).current_dir(self.path()))
    }

    /// Runs a tool to its end. Tools read files alone, so it runs here.
    #[must_use]
    pub fn output(&self, tool: &[&str]) -> Output {
        let run = Command::new(program()).args(tool).current_dir(self.path()).stdin(Stdio::null()).output();
        run.unwrap_or_else(|error| panic!("{tool:?}: {error}"))
    }

    /// What a tool prints that must succeed.
    #[must_use]
    pub fn tool(&self, tool: &[&str]) -> String {
        let output = self.output(tool);
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{tool:?}: {}: {said}", output.status);
        String::from_utf8(output.stdout).expect("text")
    }

    /// What a tool prints as JSON lines.
    #[must_use]
    pub fn rows(&self, tool: &[&str]) -> Vec<Value> {
        json_lines(&self.tool(tool))
    }

    /// Every observation so far.
    #[must_use]
    pub fn export(&self) -> Vec<Value> {
        self.rows(&["export"])
    }

    /// What the rules say of these observations.
    #[must_use]
    pub fn replay(&self, observations: &[Value]) -> Vec<Value> {
        let mut file = tempfile::NamedTempFile::new().expect("a file");
        for row in observations {
            writeln!(file, "{row}").expect("the rows");
        }
        let path = file.path().to_str().expect("a path in UTF-8");
        self.rows(&["replay", "--format", "jsonl", "--from", path])
    }

    /// The status.
    #[must_use]
    pub fn status(&self) -> Value {
        serde_json::from_str(&self.tool(&["status", "--format", "json"])).expect("the status as JSON")
    }

    /// The state of every probe, in the config's order.
    #[must_use]
    pub fn probe_states(&self) -> Vec<String> {
        let status = self.status();
        let links = status["links"].as_array().expect("links");
        let probes = links.iter().flat_map(|link| link["probes"].as_array().expect("probes"));
        probes.map(|probe| probe["state"].as_str().expect("a state").to_owned()).collect()
    }

    /// Waits until every probe is in this state.
    pub fn wait_for_probes(&self, state: &str) {
        wait_until(&format!("every probe is {state}"), || self.probe_states().iter().all(|of| of == state));
    }
}

/// JSON lines, one value each.
#[must_use]
pub fn json_lines(text: &str) -> Vec<Value> {
    let value = |line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
    text.lines().map(value).collect()
}

/// Panics unless `seq` counts from 0 within each boot, without a gap or a repetition. Gives how many boots there are.
pub fn assert_each_once(observations: &[Value]) -> usize {
    let mut seqs: BTreeMap<&str, Vec<u64>> = BTreeMap::new();
    for row in observations {
        let (boot, seq) = (row["boot"].as_str().expect("a boot"), row["seq"].as_u64().expect("a seq"));
        seqs.entry(boot).or_default().push(seq);
    }
    for (boot, seqs) in &mut seqs {
        seqs.sort_unstable();
        assert!(seqs.iter().copied().eq(0..seqs.len() as u64), "boot {boot}: {seqs:?}");
    }
    seqs.len()
}

/// Asks again and again: files tell nobody when they change.
pub fn wait_until(what: &str, done: impl FnMut() -> bool) {
    wait_within(BOUND, what, done);
}

/// The same for what may take longer.
pub fn wait_within(bound: Duration, what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < bound, "not within {bound:?}: {what}");
        thread::sleep(Duration::from_millis(50));
    }
}

/// Ends a process as an operator does, and it must end well.
pub fn terminate(mut process: Process) {
    process.signal(Signal::SIGTERM);
    let status = process.wait_exit(BOUND);
    assert!(status.success(), "{status}; it printed:\n{:#?}", process.lines());
}
