//! Cut to notification through SQS and SNS, beside the same rule on one machine: what the way between the stages costs.
//!
//! `crosswatch run` watches over a veth pair and tells a webhook; a lab's collectors watch over its WAN, without delay, and
//! the alerter tells SNS, before which the gate notes the time of each `Publish`. Both probe every 100 ms and fire at
//! `3 of 3`; each trial cuts either at a random moment. Then the resident memory of a collector whose clients of AWS are
//! up. `cargo bench -p crosswatch-tests --bench through_sqs -- [trials]`. Needs root, and MINISTACK as tests/run sets it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_lab::wan::Policy;
use crosswatch_lab::{Cloud, Lab, Options, Process as Part, Site};
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::hook::Hook;
use crosswatch_tests::netns::Pair;
use crosswatch_tests::process::{Process, laboratory, program};
use crosswatch_tests::root::require_root;

/// What takes longer than this to be told is taken for never told.
const BOUND: Duration = Duration::from_secs(60);

fn main() {
    let trials: usize = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(10);
    if !require_root("through_sqs") {
        std::process::exit(1);
    }
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new();
    let mut one = OneMachine::start(&folder.path().join("one"), &pair);
    let mut regions = Regions::start(&folder.path().join("lab"));

    println!("seconds from the cut to the notification, {trials} trials");
    println!("{:<8}{:>20}{:>20}", "trial", "one machine", "through SQS");
    // The first cut only shows that both are at work.
    let mut times = [Vec::new(), Vec::new()];
    for trial in 0..=trials {
        let told = [one.trial(&pair), regions.trial()];
        if trial > 0 {
            print_row(&trial.to_string(), &told);
            times.iter_mut().zip(told).for_each(|(times, told)| times.push(told));
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    if trials > 0 {
        print_row("median", &times.each_ref().map(|times| median(times)));
        print_row("worst", &times.each_ref().map(|times| times[trials - 1]));
    }
    for site in Site::ALL {
        println!(
            "collector of {site} at rest, with its clients of AWS: {:.1} MB RSS",
            regions.resident(site)
        );
    }
}

/// `crosswatch run` and the webhook it tells.
struct OneMachine {
    hook: Hook,
    /// How many messages have been looked at.
    seen: usize,
    process: Process,
}

impl OneMachine {
    fn start(folder: &Path, pair: &Pair) -> Self {
        fs::create_dir(folder).unwrap();
        pair.a.allow_ping_sockets(0..=i32::MAX as u32);
        let hook = Hook::inside(&pair.a);
        // The other site has a probe that always answers: a site without any would be silent, and tell that too.
        let config = format!(
            r#"
            [site.here]
            [site.there]
            [[link]]
            name = "cable"
            between = ["here", "there"]
            probe = [
              {{ from = "here", icmp = "{target}", every = "100ms", timeout = "100ms" }},
              {{ from = "there", icmp = "127.0.0.1", every = "1s", timeout = "200ms" }},
            ]
            [queue]
            kind = "embedded"
            path = "data"
            [[rule]]
            name = "ping-failed"
            metric = "ping_ok"
            below = 1
            breach = "3 of 3"
            subjects = ["cable/here/*"]
            notify = ["hook"]
            [notify.hook]
            webhook = "{url}"
            [http]
            listen = "127.0.0.1:0"
            "#,
            target = pair.b.v4,
            url = hook.url(),
        );
        fs::write(folder.join("crosswatch.toml"), config).unwrap();
        let command = &mut pair.a.command(program());
        let process =
            Process::start(command.current_dir(folder).args(["run", "--config", "crosswatch.toml"]));
        Self { hook, seen: 0, process }
    }

    fn trial(&mut self, pair: &Pair) -> Duration {
        pause();
        let cut = Instant::now();
        pair.b.cut();
        let told = self.wait_for("firing") - cut;
        pair.b.heal();
        self.wait_for("resolved");
        told
    }

    fn wait_for(&mut self, state: &str) -> Instant {
        let seen = self.seen;
        let found = self.hook.find_within(BOUND, |messages| {
            let index =
                messages.iter().skip(seen).position(|message| message.json()["state"] == state)? + seen;
            Some((messages[index].at, index + 1))
        });
        let printed = || self.process.lines().into_iter().map(|line| line.text + "\n").collect::<String>();
        let (at, seen) = found.unwrap_or_else(|| panic!("no '{state}' within {BOUND:?}:\n{}", printed()));
        self.seen = seen;
        at
    }
}

/// A lab, each stage a process of its own.
struct Regions {
    lab: Lab,
    seen: usize,
}

impl Regions {
    fn start(folder: &Path) -> Self {
        let [lab, gate] = laboratory().clone();
        let ministack = PathBuf::from(env::var_os("MINISTACK").expect("MINISTACK, as tests/run sets it"));
        let lab = Lab::up(Options {
            plain: true,
            cloud: Cloud::Gate { gate, ministack },
            delay: Duration::ZERO,
            every: Duration::from_millis(100),
            change_config: Box::new(|text| {
                let text = text.replace("timeout = \"500ms\"", "timeout = \"100ms\"");
                let text = text.replace("clear = 30\n", "subjects = [\"use1-euw1/us-east-1/*\"]\n");
                // One message a notification: the topic would get its own.
                text.lines()
                    .filter(|line| !line.starts_with("topic = ") || !line.contains("oncall"))
                    .map(|line| format!("{line}\n"))
                    .collect()
            }),
            ..Options::new(folder.to_owned(), program().to_owned(), lab)
        });
        Self { lab: lab.unwrap_or_else(|error| panic!("{error}")), seen: 0 }
    }

    fn trial(&mut self) -> Duration {
        pause();
        let cut = Timestamp::from(SystemTime::now());
        self.lose(1.0);
        let told = self.wait_for("FIRING ping-failed ").since(cut);
        self.lose(0.0);
        self.wait_for("RESOLVED ping-failed ");
        told
    }

    fn lose(&self, loss: f64) {
        self.lab.wan().set(&[Policy { loss, ..Policy::default() }; 2]).unwrap();
    }

    /// When SNS took the next text that begins so.
    fn wait_for(&mut self, begins: &str) -> Timestamp {
        let begun = Instant::now();
        loop {
            let messages = self.lab.control().unwrap().get("/messages").unwrap();
            let messages = messages.as_array().unwrap();
            let is = |message: &serde_json::Value| message["text"].as_str().unwrap().starts_with(begins);
            if let Some(index) = messages.iter().skip(self.seen).position(is) {
                self.seen += index + 1;
                return messages[self.seen - 1]["at"].as_str().unwrap().parse().unwrap();
            }
            assert!(begun.elapsed() < BOUND, "no '{begins}' within {BOUND:?}; got {messages:#?}");
            thread::sleep(Duration::from_millis(20));
        }
    }

    /// In megabytes.
    fn resident(&self, site: Site) -> f64 {
        let pid = self.lab.pid(Part::Collector(site)).expect("a collector that runs");
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim_end_matches("kB").trim().parse::<f64>().unwrap() * 1024.0 / 1e6
    }
}

/// Until a random moment.
fn pause() {
    let share = (RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64;
    thread::sleep(Duration::from_secs(2) + Duration::from_secs(1).mul_f64(share));
}

fn median(sorted: &[Duration]) -> Duration {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2 }
}

fn print_row(name: &str, times: &[Duration; 2]) {
    println!("{name:<8}{:>20.3}{:>20.3}", times[0].as_secs_f64(), times[1].as_secs_f64());
}
