//! How many observations a second the window engine takes on one core: 1,000 probes at one a second, event time
//! advancing every second, the default metrics, state handed over every second of event time as the publisher does.
//!
//! `cargo bench -p crosswatch-window --bench windows`

#![allow(clippy::disallowed_methods, reason = "a benchmark reads the clock")]

use std::hint::black_box;
use std::time::{Duration, Instant};

use crosswatch_shared::observation::{Body, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::{GRACE, Metric, MetricSet, Windows};

const SUBJECTS: usize = 1_000;
const SECONDS: usize = 600;
const ROUNDS: usize = 9;

fn main() {
    let origin = Origin { site: "us-east-1".into(), collector: "i-0abc".into(), boot: "0193".into() };
    let observations = observations();
    println!("{} observations of {SUBJECTS} probes a round, median of {ROUNDS} rounds", observations.len());
    for (title, metrics, each, saving) in [
        ("default metrics", &Metric::DEFAULT[..], SUBJECTS, false),
        ("every metric", &Metric::ALL[..], SUBJECTS, false),
        ("default metrics, state handed over", &Metric::DEFAULT[..], SUBJECTS, true),
        // An advance so late that every period holds 600 round-trip times, in logarithmic buckets.
        ("default metrics, 600 samples a period", &Metric::DEFAULT[..], SUBJECTS * 10, false),
    ] {
        // Ten times as many a second where ten seconds stand for one.
        let period = Duration::from_secs(60 * (each / SUBJECTS) as u64);
        let mut rates: Vec<f64> = (0..ROUNDS)
            .map(|_| {
                let published: MetricSet = metrics.iter().copied().collect();
                let mut windows = Windows::new(period, published, GRACE);
                round(&mut windows, &origin, &observations, each, saving)
            })
            .collect();
        rates.sort_by(f64::total_cmp);
        let median = rates[ROUNDS / 2];
        println!("{title:40} {:6.2} million/s  {:5.0} ns each", median / 1e6, 1e9 / median);
    }
}

/// Observations a second.
fn round(
    windows: &mut Windows,
    origin: &Origin,
    observations: &[Observation],
    each: usize,
    saving: bool,
) -> f64 {
    let begun = Instant::now();
    for batch in observations.chunks(each) {
        for observation in batch {
            black_box(windows.observe(origin, observation));
        }
        if let Some(last) = batch.last() {
            windows.delay(&origin.site, last.at, last.at + Duration::from_millis(800));
            black_box(windows.advance(&origin.site, last.at));
        }
        if saving {
            black_box(windows.changed());
        }
    }
    observations.len() as f64 / begun.elapsed().as_secs_f64()
}

/// Every probe once a second; round-trip times that hardly repeat, and a loss in a hundred.
fn observations() -> Vec<Observation> {
    let probes: Vec<(Name, Name)> = (0..SUBJECTS)
        .map(|number| {
            (
                Name::from(format!("use1-euw1-{}", number / 10)),
                Name::from(format!("icmp:10.1.{}.{}", number / 250, number % 250)),
            )
        })
        .collect();
    let mut seed = 0x9e37_79b9_7f4a_7c15_u64;
    let mut all = Vec::with_capacity(SUBJECTS * SECONDS);
    for second in 0..SECONDS {
        for (number, (link, probe)) in probes.iter().enumerate() {
            seed ^= seed << 13;
            seed ^= seed >> 7;
            seed ^= seed << 17;
            let outcome = if seed.is_multiple_of(100) {
                Outcome::Lost(Lost::Timeout)
            } else {
                Outcome::Reply { rtt_ms: (80_000_000 + seed % 3_000_000) as f64 / 1e6 }
            };
            all.push(Observation {
                at: Timestamp::from_micros(
                    1_795_330_800_000_000 + (second * 1_000_000 + number * 1_000) as i64,
                ),
                seq: all.len() as u64,
                body: Body::Probe { link: link.clone(), probe: probe.clone(), outcome, detail: None },
            });
        }
    }
    all
}
