//! Cut to notification: Crosswatch at 1 s and at 100 ms probes beside blackbox_exporter → Prometheus → Alertmanager.
//!
//! All watch the same address over one veth pair and tell a webhook; each trial cuts once, at a random moment, and takes
//! each one's time to its webhook. `cargo bench -p crosswatch-tests --bench detect -- [trials]`. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_tests::hook::Hook;
use crosswatch_tests::inbox::Message;
use crosswatch_tests::netns::Pair;
use crosswatch_tests::peers::{Alertmanager, Blackbox, missing};
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::root::require_root;

/// What takes longer than this to be told is taken for never told.
const BOUND: Duration = Duration::from_secs(60);

fn main() {
    let trials: usize = env::args().skip(1).find_map(|argument| argument.parse().ok()).unwrap_or(20);
    if !require_root("detect") {
        std::process::exit(1);
    }
    let folder = tempfile::tempdir().unwrap();
    let pair = Pair::new();
    pair.a.allow_ping_sockets(0..=i32::MAX as u32);

    let mut watchers = vec![
        Watcher::crosswatch("crosswatch 1 s", &folder.path().join("1s"), &pair, "1s"),
        Watcher::crosswatch("crosswatch 100 ms", &folder.path().join("100ms"), &pair, "100ms"),
    ];
    let absent = missing(&[Blackbox::PROGRAMS[0], Blackbox::PROGRAMS[1], Alertmanager::PROGRAM]);
    if absent.is_empty() {
        watchers.push(Watcher::blackbox("blackbox_exporter", &folder.path().join("blackbox"), &pair));
    } else {
        println!("not measured for want of Debian's {}: the blackbox_exporter stack", absent.join(" "));
    }

    println!("seconds from the cut to the webhook, {trials} trials");
    println!("trial{}", watchers.iter().map(|watcher| format!("{:>20}", watcher.name)).collect::<String>());
    // The first cut only shows that all of them are at work.
    let mut times = vec![Vec::new(); watchers.len()];
    for trial in 0..=trials {
        thread::sleep(Duration::from_secs(3) + random_below(Duration::from_secs(2)));
        let cut = Instant::now();
        pair.b.cut();
        let told: Vec<_> = watchers.iter_mut().map(|watcher| watcher.wait_for("firing") - cut).collect();
        pair.b.heal();
        for watcher in &mut watchers {
            watcher.wait_for("resolved");
        }
        if trial > 0 {
            print_row(&trial.to_string(), &told);
            times.iter_mut().zip(told).for_each(|(times, told)| times.push(told));
        }
    }
    times.iter_mut().for_each(|times| times.sort());
    if trials > 0 {
        print_row("median", &times.iter().map(|times| median(times)).collect::<Vec<_>>());
        print_row("worst", &times.iter().map(|times| times[trials - 1]).collect::<Vec<_>>());
    }
}

/// A monitor at work and the webhook it tells.
struct Watcher {
    name: &'static str,
    /// In the JSON it sends: the field that says firing or resolved.
    field: &'static str,
    hook: Hook,
    /// How many messages have been looked at.
    seen: usize,
    processes: Vec<Process>,
}

impl Watcher {
    fn crosswatch(name: &'static str, folder: &Path, pair: &Pair, every: &str) -> Self {
        fs::create_dir(folder).unwrap();
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
              {{ from = "here", icmp = "{target}", every = "{every}", timeout = "{timeout}" }},
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
            at_most = "100000 per 1h"

            [http]
            listen = "127.0.0.1:0"
            "#,
            target = pair.b.v4,
            timeout = if every == "1s" { "200ms" } else { "100ms" },
            url = hook.url(),
        );
        fs::write(folder.join("crosswatch.toml"), config).unwrap();
        let command = &mut pair.a.command(program());
        let process =
            Process::start(command.current_dir(folder).args(["run", "--config", "crosswatch.toml"]));
        Self { name, field: "state", hook, seen: 0, processes: vec![process] }
    }

    fn blackbox(name: &'static str, folder: &Path, pair: &Pair) -> Self {
        fs::create_dir(folder).unwrap();
        let hook = Hook::inside(&pair.a);
        let alertmanager = Alertmanager::start(folder, &pair.a, &hook.url());
        let launch = |program: &str| pair.a.command(program);
        let targets = [pair.b.v4.to_string()];
        let blackbox = Blackbox::start(folder, &launch, &targets, Some(alertmanager.address));
        pair.a.enter(|| blackbox.wait_for_success(1, targets.len()));
        let processes = vec![alertmanager.process, blackbox.exporter, blackbox.prometheus];
        Self { name, field: "status", hook, seen: 0, processes }
    }

    /// When the next message of this state came.
    fn wait_for(&mut self, state: &str) -> Instant {
        let is = |message: &Message| message.json()[self.field] == state;
        let found = self.hook.find_within(BOUND, |messages| {
            let index = messages.iter().skip(self.seen).position(is)? + self.seen;
            Some((messages[index].at, index + 1))
        });
        let Some((at, seen)) = found else {
            let printed: String =
                self.processes.iter().flat_map(Process::lines).map(|line| line.text + "\n").collect();
            panic!(
                "{}: no '{state}' within {BOUND:?}; got {:#?}; it printed:\n{printed}",
                self.name,
                self.hook.all()
            );
        };
        self.seen = seen;
        at
    }
}

fn random_below(bound: Duration) -> Duration {
    bound.mul_f64((RandomState::new().hash_one(0) >> 11) as f64 / (1_u64 << 53) as f64)
}

fn median(sorted: &[Duration]) -> Duration {
    let middle = sorted.len() / 2;
    if sorted.len() % 2 == 1 { sorted[middle] } else { (sorted[middle - 1] + sorted[middle]) / 2 }
}

fn print_row(name: &str, times: &[Duration]) {
    println!(
        "{name:<5}{}",
        times.iter().map(|time| format!("{:>20.3}", time.as_secs_f64())).collect::<String>()
    );
}
