//! Percentiles of round-trip times over a WAN of 80 ms ± 5 ms, beside what the WAN really took of the same packets:
//! `cargo bench -p crosswatch-lab --bench wan -- [seconds] [seed] [probes]`. Needs root.
//!
//! 100 probes of one target, each a second, 40 ms ± 2.5 ms each way; and what the engine's thread takes of the processor then. What the WAN takes counts from when it has read a packet
//! until it writes it, by its own clock; the kernel's hand-over to the WAN, twice, is in the prober's time alone.
#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

#[path = "../tests/wan/world.rs"]
mod world;

use std::thread;
use std::time::{Duration, Instant};

use crosswatch_lab::Site;
use crosswatch_lab::wan::Policy;
use crosswatch_prober::{Engine, Probe, Protocol};
use crosswatch_shared::observation::Outcome;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike as _;
use world::World;

fn main() {
    if !nix::unistd::geteuid().is_root() {
        println!("NOT RUN: the bench makes network namespaces, which needs root");
        return;
    }
    let mut numbers = std::env::args().skip(1).filter_map(|argument| argument.parse::<u64>().ok());
    let span = Duration::from_secs(numbers.next().unwrap_or(30));
    let seed = numbers.next().unwrap_or(8762).to_string();
    let probes = numbers.next().unwrap_or(100) as usize;
    let world = World::new(&["--delay-ms", "40", "--seed", &seed]);
    // A WAN does not wait for what else this machine does.
    let process = world.process().to_string();
    let real_time = std::process::Command::new("chrt").args(["--fifo", "--pid", "10", &process]).status();
    if !real_time.is_ok_and(|status| status.success()) {
        println!("the WAN is no real-time process: chrt failed");
    }
    let jitter = Duration::from_micros(2_500);
    let policy = Policy { jitter, ..world.wan().report().unwrap().policies[0] };
    world.wan().set(&[policy; 2]).unwrap();
    let (rtts, lost, cost) = world.inside(|| probe(probes, span));
    let took = world.record().round_trips();
    let mut both: Vec<(f64, f64)> = Vec::new();
    for (place, of) in (0..).zip(&rtts) {
        for (number, rtt) in (0..).zip(of) {
            if let (Some(rtt), Some(took)) = (rtt, took.get(&(place, 0, number))) {
                both.push((*rtt, took.as_secs_f64() * 1e3));
            }
        }
    }
    println!(
        "load {}; seed {seed}; {} round trips compared, {lost} lost; {cost:.1} us of processor a probe",
        load(),
        both.len()
    );
    let sorted = |of: fn(&(f64, f64)) -> f64| {
        let mut values: Vec<f64> = both.iter().map(of).collect();
        values.sort_by(f64::total_cmp);
        values
    };
    let rows = [sorted(|of| of.0), sorted(|of| of.1), sorted(|of| of.0 - of.1)];
    // By exact nearest rank, as everywhere here.
    let percentile =
        |values: &[f64], part: f64| values[((values.len() as f64 * part).ceil() as usize).max(1) - 1];
    println!("{:>16}{:>12}{:>12}{:>14}{:>20}", "ms", "prober", "WAN", "difference", "of single packets");
    for (name, part) in [("least", 0.0), ("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("most", 1.0)] {
        let [ours, wan, single] = rows.each_ref().map(|values| percentile(values, part));
        println!("{name:>16}{ours:>12.3}{wan:>12.3}{:>14.3}{single:>20.3}", ours - wan);
    }
}

/// Round-trip times in milliseconds by probe in the order of sending, `None` for a loss; how many losses; and the microseconds
/// of processor a probe that the engine's thread took.
fn probe(probes: usize, span: Duration) -> (Vec<Vec<Option<f64>>>, u64, f64) {
    let probe = Probe {
        protocol: Protocol::Icmp,
        address: Some(Site::EuWest1.address().into()),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        burst: 1,
        size: None,
        beside: None,
    };
    let used = |who| {
        let usage = getrusage(who).unwrap();
        let time = usage.user_time() + usage.system_time();
        time.num_microseconds() as f64
    };
    // That of a thread that has ended counts all the same.
    let of_engine = || used(UsageWho::RUSAGE_SELF) - used(UsageWho::RUSAGE_THREAD);
    let before = of_engine();
    let engine = Engine::spawn(vec![probe; probes], |_, _| true, || ()).unwrap();
    let (mut rtts, mut lost, mut unstamped) = (vec![Vec::new(); probes], 0, 0);
    let begun = Instant::now();
    while begun.elapsed() < span {
        thread::sleep(Duration::from_millis(50));
        let taken = engine.take().unwrap();
        unstamped += taken.icmp.user_stamped;
        for released in taken.outcomes {
            let rtt = match released.outcome {
                Outcome::Reply { rtt_ms } => Some(rtt_ms),
                Outcome::Lost(_) => None,
            };
            lost += u64::from(rtt.is_none());
            rtts[released.probe].push(rtt);
        }
    }
    drop(engine);
    if unstamped > 0 {
        println!("{unstamped} round trips were timed by the process");
    }
    let sent = rtts.iter().map(Vec::len).sum::<usize>() as f64;
    (rtts, lost, (of_engine() - before) / sent)
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").unwrap().trim().to_owned()
}
