//! Observations a second through the rule engine: 1,000 probes, each with `ping_ok` 3 of 3 and `latency_ms` 10 of 15,
//! in batches of 1,000 with event time following, as the alerter's loop does it. One core.
//!
//! `cargo bench -p crosswatch-judge --bench judge`

use std::time::{Duration, Instant};

use crosswatch_judge::Engine;
use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side};
use crosswatch_shared::config::topology::{Host, Link, Probe, Queue, QueueKind, Site, Target, Topology};
use crosswatch_shared::observation::{Body, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;

const SUBJECTS: usize = 1_000;
const SECONDS: usize = 1_000;
const ROUNDS: usize = 7;

#[allow(clippy::disallowed_methods, reason = "a benchmark measures time")]
fn main() {
    let mut rates: Vec<f64> = (0..ROUNDS)
        .map(|round| {
            let mut engine = Engine::new(rules(), &topology());
            let batches = batches(round);
            let mut out = Vec::new();
            let begin = Instant::now();
            for (origin, through, batch) in &batches {
                for observation in batch {
                    engine.observe(origin, observation, &mut out);
                }
                engine.advance(&origin.site, &origin.boot, *through, &mut out);
            }
            let rate = (SUBJECTS * SECONDS) as f64 / begin.elapsed().as_secs_f64();
            println!("{rate:.0} observations/s, {} transitions", out.len());
            rate
        })
        .collect();
    rates.sort_by(f64::total_cmp);
    println!("median {:.0} observations/s of {ROUNDS} rounds", rates[ROUNDS / 2]);
}

fn rules() -> Vec<Rule> {
    let rule = |name: &str, metric, side, threshold: f64, m, n| Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m, n },
        clear: Some(30),
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    };
    vec![
        rule("ping-failed", Metric::PingOk, Side::Below, 1.0, 3, 3),
        rule("latency-high", Metric::LatencyMs, Side::Above, 200.0, 10, 15),
    ]
}

fn topology() -> Topology {
    let probe = |index: usize| Probe {
        name: name(index),
        from: "here".into(),
        target: Target::Icmp(Host::Name(name(index).to_string())),
        every: Duration::from_secs(1),
        timeout: Duration::from_millis(500),
        burst: 1,
        size: None,
    };
    Topology {
        sites: vec![Site { name: "here".into(), region: None, role: None, topic: None }],
        links: vec![Link {
            name: "mesh".into(),
            between: vec!["here".into()],
            vpns: Vec::new(),
            appliances: Vec::new(),
            probes: (0..SUBJECTS).map(probe).collect(),
        }],
        queue: Queue {
            path: "data".into(),
            kind: QueueKind::Embedded,
            keep: Duration::MAX,
            max_bytes: u64::MAX,
        },
        listen: None,
    }
}

fn name(index: usize) -> Name {
    format!("icmp:10.1.{}.{}", index / 250, index % 250).into()
}

/// A second a batch; about one observation in a hundred is a loss, as a cheap generator falls.
fn batches(round: usize) -> Vec<(Origin, Timestamp, Vec<Observation>)> {
    let origin = Origin { site: "here".into(), collector: "bench".into(), boot: "0".into() };
    let link = Name::from("mesh");
    let names: Vec<Name> = (0..SUBJECTS).map(name).collect();
    let mut random = 0x9e37_79b9_u32.wrapping_add(round as u32);
    (0..SECONDS)
        .map(|second| {
            let begin = Timestamp::from_secs(1_800_000_000 + second as i64);
            let batch = (0..SUBJECTS)
                .map(|index| {
                    random = random.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    let outcome = match random >> 25 {
                        0 => Outcome::Lost(crosswatch_shared::observation::Lost::Timeout),
                        part => Outcome::Reply { rtt_ms: 80.0 + f64::from(part) },
                    };
                    Observation {
                        at: begin + Duration::from_millis(index as u64),
                        seq: (second * SUBJECTS + index) as u64,
                        body: Body::Probe {
                            link: link.clone(),
                            probe: names[index].clone(),
                            outcome,
                            detail: None,
                        },
                    }
                })
                .collect();
            (origin.clone(), begin + Duration::from_secs(1), batch)
        })
        .collect()
}
