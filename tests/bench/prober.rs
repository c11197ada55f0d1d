//! Resident memory and time of a core: a collector with its journal, all stages in one process, then what is installed of
//! fping, smokeping_prober and blackbox_exporter with Prometheus, each on the same loopback targets at one probe a second.
//!
//! `cargo bench -p crosswatch-tests --bench prober -- [targets] [seconds] [rounds]`. Needs root. Collector and fping take turns, and
//! of each the median round is printed, and of the ratios the median ratio; the others have one round. A probe is one that the
//! kernel was seen to get, for not everybody sends as many as asked for.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::fmt::Write;
use std::fs;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_tests::http;
use crosswatch_tests::netns::{Namespace, Pair};
use crosswatch_tests::peers::{Blackbox, missing};
use crosswatch_tests::process::{Process, program};
use crosswatch_tests::root::require_root;

/// Not measured: starting, and the first rounds.
const WARM_UP: Duration = Duration::from_secs(5);

/// smokeping_prober listens once all its pingers run, which takes it longer the more of the processor those need.
const PATIENCE: Duration = Duration::from_secs(300);

fn main() {
    let mut numbers = env::args().skip(1).filter_map(|argument| argument.parse().ok());
    let targets: u32 = numbers.next().unwrap_or(10);
    let seconds: u32 = numbers.next().unwrap_or(60);
    let rounds: u32 = numbers.next().unwrap_or(1);
    assert!(
        targets <= 60_000 && targets > 0 && seconds > 0 && rounds > 0,
        "1 to 60000 targets, the rest 1 or more"
    );
    if !require_root("prober") {
        std::process::exit(1);
    }
    let pair = Pair::new();
    pair.a.allow_ping_sockets(0..=i32::MAX as u32);
    let targets: Vec<_> = (0..targets).map(|n| format!("127.1.{}.{}", n / 250, n % 250 + 1)).collect();
    let time = Duration::from_secs(seconds.into());
    let run = Run { inside: &pair.a, targets, time };

    println!(
        "{} targets, one probe a second each, {seconds} s, {rounds} rounds; load {}",
        run.targets.len(),
        load()
    );
    println!(
        "{:<24}{:>10}{:>12}{:>14}{:>14}{:>18}",
        "", "RSS MB", "probes/s", "% of a core", "µs a probe", "× the collector"
    );
    let (mut collector, mut even, mut at_once) = (Vec::new(), Vec::new(), Vec::new());
    for _ in 0..rounds {
        collector.extend(run.crosswatch(&["collector", "--site", "here"]));
        even.extend(run.fping(900.0 / run.targets.len() as f64));
        at_once.extend(run.fping(0.01));
    }
    let print = |name: &str, rows: &[Measured]| print(name, rows, &collector);
    print("crosswatch collector", &collector);
    print("fping, evenly spread", &even);
    print("fping, all at once", &at_once);
    print("crosswatch run", &run.crosswatch(&["run"]));
    // A core takes either of them to little more than a thousand a second.
    if run.targets.len() <= 2_000 {
        print("smokeping_prober", &run.smokeping_prober());
        let [exporter, prometheus] = run.blackbox();
        print("blackbox_exporter", &exporter);
        print("prometheus scraping it", &prometheus);
    } else {
        println!("(smokeping_prober and blackbox_exporter cannot send to so many each second)");
    }
    println!("load {}", load());
}

/// One round of one process.
#[derive(Clone, Copy, Debug)]
struct Measured {
    /// The most at the two ends, in megabytes.
    resident: f64,
    /// Of a core.
    share: f64,
    /// Echo requests that the kernel got, a second.
    rate: f64,
}

impl Measured {
    fn each(&self) -> f64 {
        self.share * 1e6 / self.rate
    }
}

/// The medians; nothing for what was not measured.
fn print(name: &str, rounds: &[Measured], collector: &[Measured]) {
    if rounds.is_empty() {
        return;
    }
    let of = |value: &dyn Fn(&Measured) -> f64| median(rounds.iter().map(value).collect());
    // Round by round where both have as many: what else the machine did fell on both.
    let ours = median(collector.iter().map(Measured::each).collect());
    let ratio = if rounds.len() == collector.len() {
        median(rounds.iter().zip(collector).map(|(one, ours)| one.each() / ours.each()).collect())
    } else {
        of(&Measured::each) / ours
    };
    let [resident, rate, share] = [of(&|of| of.resident), of(&|of| of.rate), of(&|of| of.share * 100.0)];
    println!("{name:<24}{resident:>10.1}{rate:>12.0}{share:>14.2}{:>14.1}{ratio:>18.2}", of(&Measured::each));
}

/// The upper of two in the middle.
fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

struct Run<'a> {
    inside: &'a Namespace,
    targets: Vec<String>,
    time: Duration,
}

impl Run<'_> {
    fn crosswatch(&self, job: &[&str]) -> Vec<Measured> {
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
        self.measure([("crosswatch", &process)]).to_vec()
    }

    /// So many milliseconds from one target to the next.
    fn fping(&self, apart: f64) -> Vec<Measured> {
        // It keeps each sequence number for ten seconds, and ends when it has none left.
        if self.targets.len() > 6_000 {
            println!("(fping cannot send to so many each second)");
            return Vec::new();
        }
        if !can_run(&["fping"]) {
            return Vec::new();
        }
        // It prints each reply, quiet or not, which is to cost it as little as can be.
        let mut command = self.inside.command("sh");
        command.args([
            "-c",
            "exec fping -l -q -p 1000 -i \"$@\" >/dev/null 2>&1",
            "fping",
            &apart.to_string(),
        ]);
        self.measure([("fping", &Process::start(command.args(&self.targets)))]).to_vec()
    }

    fn smokeping_prober(&self) -> Vec<Measured> {
        let name = "prometheus-smokeping-prober";
        if !can_run(&[name]) {
            return Vec::new();
        }
        let folder = tempfile::tempdir().unwrap();
        let hosts = self.targets.join(", ");
        let config =
            format!("targets: [{{ hosts: [{hosts}], interval: 1s, network: ip4, protocol: icmp }}]\n");
        let file = write(folder.path(), "smokeping.yml", &config);
        let command = &mut self.inside.command(name);
        let process = Process::start(command.arg(format!("--config.file={file}")).arg("--privileged"));
        let start = Instant::now();
        let up = || self.inside.enter(|| http::get(([127, 0, 0, 1], 9374).into(), "/").is_ok());
        while !up() {
            assert!(start.elapsed() < PATIENCE, "{name} does not listen within {PATIENCE:?}");
            thread::sleep(Duration::from_millis(100));
        }
        println!("({name} took {:.0?} to start all its pingers)", start.elapsed());
        self.measure([(name, &process)]).to_vec()
    }

    /// The exporter, and Prometheus.
    fn blackbox(&self) -> [Vec<Measured>; 2] {
        if !can_run(&Blackbox::PROGRAMS) {
            return [Vec::new(), Vec::new()];
        }
        let folder = tempfile::tempdir().unwrap();
        let launch = |program: &str| self.inside.command(program);
        let stack = Blackbox::start(folder.path(), &launch, &self.targets, None);
        let both = [("blackbox_exporter", &stack.exporter), ("prometheus", &stack.prometheus)];
        self.measure(both).map(|of| vec![of])
    }

    /// CPU time of processes that run, and what they send, after a while.
    fn measure<const N: usize>(&self, processes: [(&str, &Process); N]) -> [Measured; N] {
        thread::sleep(WARM_UP);
        let start = Instant::now();
        let (sent_before, before) = (self.sent(), processes.map(|(name, process)| sample(name, process)));
        thread::sleep(self.time);
        let (sent, after) = (self.sent(), processes.map(|(name, process)| sample(name, process)));
        let seconds = start.elapsed().as_secs_f64();
        let mut ends = before.into_iter().zip(after);
        processes.map(|_| {
            let ((cpu_before, memory_before), (cpu, memory)) = ends.next().unwrap();
            Measured {
                resident: memory.max(memory_before) as f64 / 1e6,
                share: (cpu - cpu_before).as_secs_f64() / seconds,
                rate: (sent - sent_before) as f64 / seconds,
            }
        })
    }

    /// How many echo requests came to the namespace, where all targets are.
    fn sent(&self) -> u64 {
        let counts = self.inside.enter(|| fs::read_to_string("/proc/thread-self/net/snmp")).unwrap();
        let mut lines = counts.lines().filter_map(|line| line.strip_prefix("IcmpMsg: "));
        let (names, values) = (lines.next().unwrap_or_default(), lines.next().unwrap_or_default());
        let of = names.split(' ').zip(values.split(' ')).find(|(name, _)| *name == "InType8");
        of.map_or(0, |(_, value)| value.parse().unwrap())
    }
}

fn can_run(programs: &[&str]) -> bool {
    let absent = missing(programs);
    if !absent.is_empty() {
        println!("not measured for want of Debian's {}", absent.join(" "));
    }
    absent.is_empty()
}

fn load() -> String {
    fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned()
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
