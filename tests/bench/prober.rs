//! Resident memory and time of a core: a collector with its journal, all stages in one process, then what is installed of
//! fping, smokeping_prober and blackbox_exporter with Prometheus, each on the same loopback targets at one probe a second.
//!
//! `cargo bench -p crosswatch-tests --bench prober -- [targets] [seconds]`. Needs root.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::sync::OnceLock;
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_tests::netns::{Namespace, Pair};
use crosswatch_tests::peers::{Blackbox, missing};
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::root::require_root;

/// Not measured: starting, and the first round.
const WARM_UP: Duration = Duration::from_secs(5);

fn main() {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let targets: u32 = numbers.next().unwrap_or(10);
    let seconds: u32 = numbers.next().unwrap_or(60);
    assert!(targets <= 60_000 && targets > 0 && seconds > 0, "1 to 60000 targets, 1 second or more");
    if !require_root("prober") {
        std::process::exit(1);
    }
    let pair = Pair::new();
    pair.a.allow_ping_sockets(0..=i32::MAX as u32);
    let targets: Vec<_> = (0..targets).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let time = Duration::from_secs(seconds.into());
    let run = Run { inside: &pair.a, targets, time, collector: OnceLock::new() };

    println!("{} targets, one probe a second each, {seconds} s", run.targets.len());
    println!("{:<24}{:>10}{:>14}{:>16}{:>18}", "", "RSS MB", "% of a core", "µs a probe", "× the collector");
    run.crosswatch("crosswatch collector", &["collector", "--site", "here"]);
    run.crosswatch("crosswatch run", &["run"]);
    run.fping();
    run.smokeping_prober();
    run.blackbox();
}

struct Run<'a> {
    inside: &'a Namespace,
    targets: Vec<String>,
    time: Duration,
    /// What the collector, which comes first, took a probe.
    collector: OnceLock<f64>,
}

impl Run<'_> {
    fn crosswatch(&self, name: &str, job: &[&str]) {
        let folder = tempfile::tempdir().unwrap();
        let mut probes = String::new();
        for target in &self.targets {
            writeln!(probes, r#"{{ from = "here", icmp = "{target}", every = "1s", timeout = "500ms" }},"#)
                .unwrap();
        }
        let config = format!(
            "[site.here]\n[site.there]\n[[link]]\nname = \"l\"\nbetween = [\"here\", \"there\"]\nprobe = [\n{probes}]\n\
             [queue]\nkind = \"embedded\"\npath = \"data\"\n[http]\nlisten = \"127.0.0.1:0\"\n"
        );
        fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
        let command = &mut self.inside.command(program());
        let process = Process::start(command.current_dir(&folder).args(job));
        self.measure(&[(name, &process)]);
    }

    fn fping(&self) {
        if self.can_run(&["fping"]) {
            let command = &mut self.inside.command("fping");
            let process =
                Process::start(command.args(["-l", "-q", "-p", "1000", "-i", "1"]).args(&self.targets));
            self.measure(&[("fping", &process)]);
        }
    }

    fn smokeping_prober(&self) {
        let name = "prometheus-smokeping-prober";
        if self.can_run(&[name]) {
            let folder = tempfile::tempdir().unwrap();
            let hosts = self.targets.join(", ");
            let config =
                format!("targets: [{{ hosts: [{hosts}], interval: 1s, network: ip4, protocol: icmp }}]\n");
            let file = write(folder.path(), "smokeping.yml", &config);
            let command = &mut self.inside.command(name);
            let process = Process::start(command.arg(format!("--config.file={file}")).arg("--privileged"));
            self.measure(&[("smokeping_prober", &process)]);
        }
    }

    fn blackbox(&self) {
        if self.can_run(&Blackbox::PROGRAMS) {
            let folder = tempfile::tempdir().unwrap();
            let launch = |program: &str| self.inside.command(program);
            let stack = Blackbox::start(folder.path(), &launch, &self.targets, None);
            self.inside.enter(|| stack.wait_for_success(1, self.targets.len()));
            self.measure(&[
                ("blackbox_exporter", &stack.exporter),
                ("prometheus scraping it", &stack.prometheus),
            ]);
        }
    }

    fn can_run(&self, programs: &[&str]) -> bool {
        let absent = missing(programs);
        if !absent.is_empty() {
            println!("not measured for want of Debian's {}", absent.join(" "));
        }
        absent.is_empty()
    }

    /// The most memory seen at the two ends, and the CPU time between them.
    fn measure(&self, processes: &[(&str, &Process)]) {
        thread::sleep(WARM_UP);
        let start = Instant::now();
        let before: Vec<_> = processes.iter().map(|(name, process)| sample(name, process)).collect();
        thread::sleep(self.time);
        for ((name, process), (cpu_before, memory_before)) in processes.iter().zip(before) {
            let (cpu, memory) = sample(name, process);
            let share = (cpu - cpu_before).as_secs_f64() / start.elapsed().as_secs_f64();
            let megabytes = memory.max(memory_before) as f64 / 1e6;
            let each = share * 1e6 / self.targets.len() as f64;
            let ratio = each / self.collector.get_or_init(|| each);
            println!("{name:<24}{megabytes:>10.1}{:>14.2}{each:>16.1}{ratio:>18.2}", share * 100.0);
        }
    }
}

fn sample(name: &str, process: &Process) -> (Duration, u64) {
    let printed = || process.lines().into_iter().map(|line| line.text + "\n").collect::<String>();
    assert!(process.is_running(), "{name} has ended; it printed:\n{}", printed());
    (process.cpu_time(), process.resident())
}

fn write(folder: &Path, name: &str, text: &str) -> String {
    let file = folder.join(name);
    fs::write(&file, text).unwrap();
    file.to_str().unwrap().to_owned()
}
