//! A lab for a test, and what the tests ask of it.

use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crosswatch_lab::{Cloud, Gate, Lab, Options};
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::deployment::{json_lines, wait_until};
use crosswatch_tests::http;
use crosswatch_tests::process::{laboratory, program};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const NUMBER: &str = "+15555550100";
pub(crate) const VPN: &str = "use1-euw1/vpn-0a1b2c3d4e5f60718";
pub(crate) const PROBES: [&str; 3] = [
    "use1-euw1/us-east-1/icmp:10.1.0.10",
    "use1-euw1/eu-west-1/icmp:10.0.0.10",
    "use1-euw1/eu-west-1/tcp:10.0.0.10:443",
];

/// As long as a window may be under way with both holds, the receiver's and the sender's, and patience besides.
pub(crate) const UNDER_WAY: Duration = Duration::from_secs(180);

/// A lab that probes five times a second, in a folder of its own.
pub(crate) struct World {
    pub(crate) lab: Lab,
    folder: TempDir,
}

impl World {
    /// Windows of ten seconds, and five good probes that clear.
    pub(crate) fn up() -> Self {
        Self::prepared(|text| text, |_| ())
    }

    /// With another config, and with something done before the stages start.
    pub(crate) fn prepared(
        change: impl FnOnce(String) -> String + 'static,
        prepare: impl FnOnce(&Lab) + 'static,
    ) -> Self {
        Self::of(true, change, prepare)
    }

    /// With IPsec tunnels between the regions, both ends of which are watched, and reflectors.
    pub(crate) fn with_tunnels() -> Self {
        Self::of(false, |text| text, |_| ())
    }

    fn of(
        plain: bool,
        change: impl FnOnce(String) -> String + 'static,
        prepare: impl FnOnce(&Lab) + 'static,
    ) -> Self {
        let [lab, gate] = laboratory().clone();
        let ministack = PathBuf::from(env::var_os("MINISTACK").expect("MINISTACK, as tests/run sets it"));
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::up(Options {
            plain,
            cloud: Cloud::Gate { gate, ministack },
            every: Duration::from_millis(200),
            change_config: Box::new(|text| {
                change(
                    text.replace("period = \"60s\"", "period = \"10s\"").replace("clear = 30", "clear = 5"),
                )
            }),
            prepare: Box::new(prepare),
            ..Options::new(folder.path().join("lab"), program().to_owned(), lab)
        });
        Self { lab: lab.unwrap_or_else(|error| panic!("{error}")), folder }
    }

    /// Waits until all that is watched is up.
    pub(crate) fn wait_until_up(&self) {
        self.wait_until_these_are_up(&[&PROBES[..], &[VPN]].concat());
    }

    pub(crate) fn wait_until_these_are_up(&self, subjects: &[&str]) {
        wait_until("everything is up", || {
            let status = self.tool(&["status"]);
            subjects
                .iter()
                .all(|subject| status.lines().any(|line| line.starts_with(subject) && line.contains(" up ")))
        });
    }

    pub(crate) fn gate(&self) -> Gate {
        self.lab.control().unwrap()
    }

    /// What is at a path of the gate's control socket, a list.
    pub(crate) fn list(&self, path: &str) -> Vec<Value> {
        self.gate().get(path).unwrap().as_array().unwrap().clone()
    }

    /// What a tool prints that must succeed.
    pub(crate) fn tool(&self, tool: &[&str]) -> String {
        self.run(Command::new(self.lab.program()).args(tool))
    }

    /// The same inside the centre, where AWS is reached.
    pub(crate) fn tool_with_aws(&self, tool: &[&str]) -> String {
        let mut command = Command::new(self.lab.program());
        command.args(tool).envs(Lab::environment());
        self.lab.centre().enter(|| self.run(&mut command)).unwrap()
    }

    fn run(&self, command: &mut Command) -> String {
        let output = command.arg("--config").arg(self.lab.config_path()).output().unwrap();
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{command:?}: {}: {said}", output.status);
        String::from_utf8(output.stdout).unwrap()
    }

    /// The folder of the collectors' journals.
    pub(crate) fn journals(&self) -> PathBuf {
        self.lab.folder().join("data/journal")
    }

    /// Every observation that the collectors' journals hold.
    pub(crate) fn observed(&self) -> Vec<Value> {
        json_lines(&self.tool(&["export", "--journals", self.journals().to_str().unwrap()]))
    }

    /// Every observation that the alerter received.
    pub(crate) fn received(&self) -> Vec<Value> {
        json_lines(&self.tool(&["export"]))
    }

    /// What the rules say of these observations.
    pub(crate) fn replay(&self, observations: &[Value]) -> Vec<Value> {
        let file = self.scratch().join("observations.jsonl");
        let text: String = observations.iter().map(|row| format!("{row}\n")).collect();
        std::fs::write(&file, text).unwrap();
        json_lines(&self.tool(&["replay", "--format", "jsonl", "--from", file.to_str().unwrap()]))
    }

    fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// How often each text to the phone, up to what it says of the reason, was accepted.
    pub(crate) fn texts(&self) -> BTreeMap<String, usize> {
        let mut texts = BTreeMap::new();
        for message in self.list("/messages").iter().filter(|message| message["to"] == NUMBER) {
            assert_eq!(message["attributes"]["AWS.SNS.SMS.SMSType"], "Transactional");
            let text = message["text"].as_str().unwrap();
            let told = text.rsplit_once(": ").map_or(text, |(told, _)| told);
            *texts.entry(told.to_owned()).or_default() += 1;
        }
        texts
    }

    pub(crate) fn wait_for_texts(&self, state: &str, rule: &str, subjects: &[&str]) {
        self.wait_for_nth_texts(1, state, rule, subjects);
    }

    /// Waits until each was told so many times.
    pub(crate) fn wait_for_nth_texts(&self, times: usize, state: &str, rule: &str, subjects: &[&str]) {
        let all = |texts: &BTreeMap<String, usize>| {
            subjects.iter().all(|subject| {
                texts.get(&format!("{state} {rule} {subject}")).is_some_and(|told| *told >= times)
            })
        };
        wait_until(&format!("{state} {rule}"), || all(&self.texts()));
    }

    /// A value of the alerter's own metrics; 0 for one that is not there yet.
    pub(crate) fn of_alerter(&self, metric: &str) -> f64 {
        let address = SocketAddr::from((Ipv4Addr::LOCALHOST, 9466));
        let page = self.lab.centre().enter(|| http::get(address, "/metrics")).unwrap().unwrap().body;
        let line = page.lines().find_map(|line| line.strip_prefix(metric)?.strip_prefix(' '));
        line.map_or(0.0, |value| value.parse().unwrap())
    }
}

pub(crate) fn now() -> Timestamp {
    SystemTime::now().into()
}
