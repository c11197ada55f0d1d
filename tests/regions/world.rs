//! A lab for a test, and what the tests ask of it.

use std::collections::BTreeMap;
use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::{Duration, SystemTime};

use crosswatch_lab::{Cloud, Gate, Lab, Options};
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::deployment::{json_lines, wait_until, wait_within};
use crosswatch_tests::http;
use crosswatch_tests::judged;
use crosswatch_tests::process::{laboratory, program};
use serde_json::Value;
use tempfile::TempDir;

pub(crate) const NUMBER: &str = "+15555550100";
pub(crate) const LINK: &str = "use1-euw1";
pub(crate) const VPN: &str = "use1-euw1/vpn-0a1b2c3d4e5f60718";
pub(crate) const PROBES: [&str; 3] = [
    "use1-euw1/us-east-1/icmp:10.1.0.10",
    "use1-euw1/eu-west-1/icmp:10.0.0.10",
    "use1-euw1/eu-west-1/tcp:10.0.0.10:443",
];

/// As long as a window may be under way with both holds, the receiver's and the sender's, and patience besides.
pub(crate) const UNDER_WAY: Duration = Duration::from_secs(180);

/// A lab in a folder of its own. Unless it is told otherwise it probes five times a second.
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
        Self::of(true, Duration::from_millis(200), change, prepare)
    }

    /// With a probe a second, as labs are: for what lasts.
    pub(crate) fn probing_each_second(change: impl FnOnce(String) -> String + 'static) -> Self {
        Self::of(true, Duration::from_secs(1), change, |_| ())
    }

    /// With IPsec tunnels between the regions, both ends of which are watched, and reflectors.
    pub(crate) fn with_tunnels(change: impl FnOnce(String) -> String + 'static) -> Self {
        Self::of(false, Duration::from_millis(200), change, |_| ())
    }

    fn of(
        plain: bool,
        every: Duration,
        change: impl FnOnce(String) -> String + 'static,
        prepare: impl FnOnce(&Lab) + 'static,
    ) -> Self {
        let [lab, gate] = laboratory().clone();
        let ministack = PathBuf::from(env::var_os("MINISTACK").expect("MINISTACK, as tests/run sets it"));
        let folder = tempfile::tempdir().unwrap();
        let lab = Lab::up(Options {
            plain,
            cloud: Cloud::Gate { gate, ministack },
            every,
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
            let told = text.split_once(": ").map_or(text, |(told, _)| told);
            *texts.entry(told.to_owned()).or_default() += 1;
        }
        texts
    }

    /// Waits until there is a text of this state for each of these places after the first `seen`, and gives them; there may be
    /// no others. A probe of large packets tells something once a minute.
    pub(crate) fn wait_for_texts(&self, seen: &mut usize, state: &str, places: &[&str]) -> Vec<String> {
        let mut new = Vec::new();
        wait_within(UNDER_WAY, &format!("{state} of {places:?}"), || {
            new = self.whole_texts().split_off(*seen);
            new.len() >= places.len()
        });
        *seen += places.len();
        let mut told: Vec<_> = new.iter().map(|text| place(text)).collect();
        told.sort_unstable();
        let mut wanted: Vec<_> = places.iter().map(|place| (state, *place)).collect();
        wanted.sort_unstable();
        assert_eq!(told, wanted, "{new:#?}");
        new
    }

    /// Waits until the newest incident of a link or site has one of these verdicts.
    pub(crate) fn wait_for_verdict(&self, place: &str, kinds: &[impl AsRef<str>]) {
        wait_until(
            &format!("the verdict {}", kinds.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(" or ")),
            || {
                let incidents = judged::incidents(&self.alerter());
                incidents
                    .iter()
                    .rfind(|of| of.place == place)
                    .is_some_and(|of| kinds.iter().any(|kind| of.kind == kind.as_ref()))
            },
        );
    }

    /// Waits until a rule fires for each of these subjects, or for none of them.
    pub(crate) fn wait_until_fires(&self, rule: &str, subjects: &[&str], fires: bool) {
        wait_until(&format!("{rule} fires: {fires}"), || {
            let open = judged::symptoms(&self.alerter());
            let is_open = |subject: &&str| {
                open.iter().any(|of| of.rule == rule && of.subject == **subject && of.resolved_at.is_none())
            };
            subjects.iter().all(|subject| is_open(subject) == fires)
        });
    }

    /// The alerter's file.
    pub(crate) fn alerter(&self) -> PathBuf {
        self.lab.folder().join("data/alerter.db")
    }

    /// Each text to the phone, in the order accepted.
    pub(crate) fn whole_texts(&self) -> Vec<String> {
        let messages = self.list("/messages");
        let to_phone = messages.iter().filter(|message| message["to"] == NUMBER);
        to_phone.map(|message| message["text"].as_str().unwrap().to_owned()).collect()
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

/// The state and the place of a text: `FIRING black-hole use1-euw1: …`.
pub(crate) fn place(text: &str) -> (&str, &str) {
    let (head, _) = text.split_once(": ").unwrap_or((text, ""));
    let mut words = head.split(' ');
    (words.next().unwrap(), words.nth(1).unwrap())
}
