//! The prober beside fping, smokeping_prober and blackbox_exporter, in turns on the same targets: the processor's time a
//! probe, and the error of round-trip times against a packet capture: `cargo bench -p crosswatch-prober --bench peers`. Needs
//! root and Debian's `fping prometheus-smokeping-prober prometheus-blackbox-exporter`; what is missing is left out and said.
//!
//! 1,000 and 10,000 targets, each once a second, behind a veth pair. The prober's time is that of its thread. The exporters
//! are left out at 10,000, which would take them more cores than there are. smokeping_prober tells no single round trip: of it
//! the sums by target, which are exact, and percentiles over all targets, which are as fine as its buckets, are compared with
//! those of the very same replies in the capture.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod exporters;
mod wire;

use std::collections::HashMap;
use std::fs::File;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::Ipv4Addr;
use std::process::{Command, Stdio};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_prober::{Engine, Probe, Protocol};
use crosswatch_shared::observation::Outcome;
use nix::sys::resource::UsageWho;
use nix::unistd::geteuid;

use exporters::{BLACKBOX, Cost, SMOKEPING, Told};
use wire::{Capture, Far, far_targets, processor};

const SECONDS: u64 = 8;
const ROUNDS: usize = 3;

/// The times seen of each target, in the order of sending, in microseconds; `None` for a loss.
type Rtts = HashMap<Ipv4Addr, Vec<Option<f64>>>;

fn main() {
    if !geteuid().is_root() {
        println!("NOT RUN: the bench makes network namespaces, which needs root");
        return;
    }
    let has = |program: &str| {
        let found = Command::new(program).arg("--version").output().is_ok();
        if !found {
            println!("not measured for want of Debian's {program}");
        }
        found
    };
    let [has_fping, has_smokeping, has_blackbox] = ["fping", SMOKEPING, BLACKBOX].map(has);
    println!("load before: {}", wire::load());
    wire::alone();
    let _far = Far::new();
    for targets in [1_000, 10_000] {
        for round in 1..=ROUNDS {
            let name = |who: &str| format!("{targets} targets, round {round}: {who}");
            line(&name("prober"), || prober(targets));
            if has_fping {
                line(&name("fping"), || fping(targets));
            }
            if has_blackbox && targets == 1_000 {
                line(&name("blackbox_exporter"), || {
                    let ((used, probes), rtts, wire) = exporters::blackbox(targets, SECONDS);
                    (used, Some(probes), rtts, wire)
                });
            }
        }
        if has_smokeping && targets == 1_000 {
            // Once: of a thousand it takes a minute to start. A hundred leave it time to keep up.
            for targets in [100, 1_000] {
                let name = format!("{targets} targets: smokeping_prober");
                line_of_sums(&name, exporters::smokeping(targets, SECONDS));
            }
        }
    }
    println!("load after: {}", wire::load());
}

fn line(name: &str, run: impl FnOnce() -> (Duration, Option<usize>, Rtts, Wire)) {
    let (used, probes, rtts, wire) = run();
    let mut errors = Vec::new();
    let (mut sent, mut lost) = (0, 0);
    for (target, rtts) in &rtts {
        let Some(exchanges) = wire.by_target.get(target) else { continue };
        sent += rtts.len();
        for (rtt, (_, out, back)) in rtts.iter().zip(exchanges) {
            match (rtt, back) {
                (Some(rtt), Some(back)) => errors.push((rtt - (back - out) as f64 / 1e3).abs()),
                (None, _) => lost += 1,
                (Some(_), None) => {}
            }
        }
    }
    errors.sort_by(f64::total_cmp);
    let quantile = |part: f64| nearest(&errors, part);
    println!(
        "{name}: {:.2} us of processor a probe, {sent} probes, {lost} lost; error us: mean {:.1}, median {:.1}, p99 {:.1}, \
         p99.9 {:.1}, most {:.1}",
        used.as_secs_f64() * 1e6 / probes.unwrap_or(sent) as f64,
        errors.iter().sum::<f64>() / errors.len() as f64,
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        errors.last().unwrap(),
    );
}

/// Of a sorted list.
fn nearest(sorted: &[f64], part: f64) -> f64 {
    sorted[((sorted.len() - 1) as f64 * part) as usize]
}

fn line_of_sums(name: &str, ((used, probes), told, wire): (Cost, Told, Wire)) {
    let (mut real, mut errors) = (Vec::new(), Vec::new());
    let (mut theirs, mut ours) = (0.0, 0.0);
    for (target, &(count, sum)) in &told.sums {
        let Some(exchanges) = wire.by_target.get(target) else { continue };
        let replies = exchanges.iter().filter_map(|(_, out, back)| Some((((*back)? - out) as f64) / 1e3));
        let replies: Vec<f64> = replies.take(count).collect();
        if count == 0 || replies.len() < count {
            continue;
        }
        let captured: f64 = replies.iter().sum();
        errors.push((sum - captured) / count as f64);
        (theirs, ours) = (theirs + sum, ours + captured);
        real.extend(replies);
    }
    real.sort_by(f64::total_cmp);
    errors.sort_by(f64::total_cmp);
    let count = real.len() as f64;
    println!(
        "{name}: {:.2} us of processor a probe, {probes} probes; mean {:.1} us where the capture has {:.1}, error of the mean \
         {:.1}; error of a target's mean: median {:.1}, p99 {:.1}; p50 at most {:.0} us where the capture has {:.1}, p99 at \
         most {:.0} where it has {:.1}",
        used.as_secs_f64() * 1e6 / probes as f64,
        theirs / count,
        ours / count,
        (theirs - ours) / count,
        nearest(&errors, 0.5),
        nearest(&errors, 0.99),
        told.percentile(0.5),
        nearest(&real, 0.5),
        told.percentile(0.99),
        nearest(&real, 0.99),
    );
}

/// Identifier and sequence number, and when the request went out and its reply came back.
type Exchange = ((u16, u16), i64, Option<i64>);

/// What was seen on the wire, by target in the order of sending.
#[derive(Default)]
struct Wire {
    by_target: HashMap<Ipv4Addr, Vec<Exchange>>,
}

impl Wire {
    fn read(&mut self, capture: &Capture) {
        capture.read(|packet, stamp| {
            let number = |place: usize| u16::from_be_bytes([packet[place], packet[place + 1]]);
            let address =
                |place: usize| Ipv4Addr::from(<[u8; 4]>::try_from(&packet[place..place + 4]).unwrap());
            let key = (number(24), number(26));
            if packet[20] == 8 {
                self.by_target.entry(address(16)).or_default().push((key, stamp, None));
            } else if let Some(exchanges) = self.by_target.get_mut(&address(12))
                && let Some((_, _, back)) = exchanges.iter_mut().rev().find(|(of, _, _)| *of == key)
            {
                back.get_or_insert(stamp);
            }
        });
    }
}

fn prober(targets: u32) -> (Duration, Option<usize>, Rtts, Wire) {
    let (capture, mut wire, mut rtts) = (Capture::new(), Wire::default(), Rtts::new());
    let list: Vec<Ipv4Addr> = far_targets(targets).collect();
    let probe = |target: &Ipv4Addr| Probe {
        protocol: Protocol::Icmp,
        address: Some((*target).into()),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        burst: 1,
        size: None,
        beside: None,
    };
    let used = || processor(UsageWho::RUSAGE_SELF) - processor(UsageWho::RUSAGE_THREAD);
    let before = used();
    let engine = Engine::spawn(list.iter().map(probe).collect(), |_, _| true, || ()).unwrap();
    let begun = Instant::now();
    while begun.elapsed() < Duration::from_secs(SECONDS) {
        thread::sleep(Duration::from_millis(50));
        for released in engine.take().unwrap().outcomes {
            let rtt = match released.outcome {
                Outcome::Reply { rtt_ms } => Some(rtt_ms * 1e3),
                Outcome::Lost(_) => None,
            };
            rtts.entry(list[released.probe]).or_default().push(rtt);
        }
        wire.read(&capture);
    }
    // Closed first: the time of a thread that has ended counts all the same.
    drop(engine);
    (used() - before, None, rtts, wire)
}

fn fping(targets: u32) -> (Duration, Option<usize>, Rtts, Wire) {
    let (capture, mut wire, mut rtts) = (Capture::new(), Wire::default(), Rtts::new());
    let directory = std::env::temp_dir().join(format!("crosswatch-peers-{}", std::process::id()));
    std::fs::create_dir_all(&directory).unwrap();
    let (list, said) = (directory.join("targets"), directory.join("said"));
    let mut file = File::create(&list).unwrap();
    far_targets(targets).for_each(|target| writeln!(file, "{target}").unwrap());
    let before = processor(UsageWho::RUSAGE_CHILDREN);
    let pause = format!("{}", 900.0 / f64::from(targets));
    let mut child = Command::new("fping")
        .args(["-c", &SECONDS.to_string(), "-p", "1000", "-t", "1000", "-i", &pause, "-f"])
        .arg(&list)
        .stdout(File::create(&said).unwrap())
        .stderr(Stdio::null())
        .spawn()
        .unwrap();
    while child.try_wait().unwrap().is_none() {
        thread::sleep(Duration::from_millis(50));
        wire.read(&capture);
    }
    wire.read(&capture);
    let used = processor(UsageWho::RUSAGE_CHILDREN) - before;
    // "10.64.0.1 : [0], 64 bytes, 0.051 ms (0.051 avg, 0% loss)"
    for line in BufReader::new(File::open(&said).unwrap()).lines().map(Result::unwrap) {
        let words: Vec<&str> = line.split_whitespace().collect();
        let [target, ":", number, rest @ ..] = words.as_slice() else { continue };
        let number: usize = number.trim_matches(['[', ']', ',']).parse().unwrap();
        let rtt = match rest {
            [_, "bytes,", rtt, "ms", ..] => Some(rtt.parse::<f64>().unwrap() * 1e3),
            _ => None,
        };
        let of = rtts.entry(target.parse().unwrap()).or_default();
        of.resize(of.len().max(number + 1), None);
        of[number] = rtt;
    }
    std::fs::remove_dir_all(&directory).unwrap();
    (used, None, rtts, wire)
}
