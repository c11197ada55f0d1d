//! How many 64 KiB sends AWS bills for a million observations at 1,000 probes a second without news, for each hold, and
//! what a body costs to make. A batch a call, as the forwarder sends them.
//!
//! `cargo bench -p crosswatch-sqs --bench billed`. The observations are made up after real ones: each probe has its own
//! distance, a jitter with a long tail, times of sending a few tens of microseconds late. Round-trip times are to the microsecond, as
//! the prober gives them, and to the nanosecond, which is harder.

#![allow(missing_docs, clippy::unwrap_used)]

use std::time::{Duration, Instant};

use crosswatch_shared::observation::{Batch, Body, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch, encode_batch};
use crosswatch_sqs::body::{billed, decode, encode};

const PROBES: u64 = 1_000;
const OBSERVATIONS: u64 = 1_000_000;

fn main() {
    println!("resolution  jitter  hold  bytes/observation  billed/million  wire us  body us  back us");
    for (resolution, parts) in [("us", 1e3), ("ns", 1e6)] {
        for jitter_ms in [0.15, 2.0] {
            for hold in [10, 30] {
                let (bytes, billed, times) = measure(parts, jitter_ms, hold);
                let [wire, body, back] =
                    times.map(|time: Duration| time.as_secs_f64() * 1e6 / OBSERVATIONS as f64);
                println!(
                    "{resolution:>10}  {jitter_ms:>3} ms  {hold:>2} s  {:>17.2}  {billed:>14}  {wire:>7.2}  {body:>7.2}  {back:>7.2}",
                    bytes as f64 / OBSERVATIONS as f64
                );
            }
        }
    }
}

/// Bytes of bodies, billed sends, and the processor's time for wire form, body, and both back.
fn measure(parts: f64, jitter_ms: f64, hold: u64) -> (usize, u64, [Duration; 3]) {
    let mut site = Site::new(parts, jitter_ms);
    let (mut bytes, mut sends) = (0, 0);
    let mut times = [Duration::ZERO; 3];
    let mut left = OBSERVATIONS;
    while left > 0 {
        let batch = site.batch((hold * PROBES).min(left));
        left -= batch.observations.len() as u64;
        let begun = Instant::now();
        let wire = encode_batch(&batch);
        times[0] += begun.elapsed();
        let begun = Instant::now();
        let text = encode(wire);
        times[1] += begun.elapsed();
        bytes += text.len();
        sends += billed(text.len());
        let begun = Instant::now();
        let back = decode_batch(&decode(&text).unwrap(), &mut Names::default()).unwrap();
        times[2] += begun.elapsed();
        assert_eq!(back.batch, batch);
    }
    (bytes, sends, times)
}

/// A site with probes of four to a link, sent one after the other.
struct Site {
    random: u64,
    /// Parts of a millisecond that a round-trip time is told in.
    parts: f64,
    jitter_ms: f64,
    probes: Vec<(Name, Name, f64)>,
    sent: u64,
    number: u64,
}

impl Site {
    fn new(parts: f64, jitter_ms: f64) -> Self {
        let mut site =
            Self { random: 0x9E37_79B9_7F4A_7C15, parts, jitter_ms, probes: vec![], sent: 0, number: 0 };
        for number in 0..PROBES {
            let link = format!("use1-euw{}", number / 4);
            let probe = format!("icmp:10.{}.{}.10", number / 250, number % 250);
            let distance = 1.0 + 200.0 * site.uniform();
            site.probes.push((link.as_str().into(), probe.as_str().into(), distance));
        }
        site
    }

    fn batch(&mut self, count: u64) -> Batch {
        let start = 1_795_330_800_000_000;
        let observations = (0..count).map(|_| {
            let sent = self.sent;
            self.sent += 1;
            let slot = start + i64::try_from(sent * 1_000_000 / PROBES).unwrap();
            let late = (self.exponential() * 60.0) as i64;
            let tail = if self.uniform() < 0.02 { 5.0 * self.exponential() } else { 0.0 };
            let jitter = self.jitter_ms * self.exponential() + tail;
            let (link, probe, distance) = &self.probes[usize::try_from(sent % PROBES).unwrap()];
            let rtt_ms = ((distance + jitter) * self.parts).round() / self.parts;
            Observation {
                at: Timestamp::from_micros(slot + late),
                seq: 50_000_000 + sent,
                body: Body::Probe {
                    link: link.clone(),
                    probe: probe.clone(),
                    outcome: Outcome::Reply { rtt_ms },
                    detail: None,
                },
            }
        });
        let observations: Vec<_> = observations.collect();
        self.number += 1;
        Batch {
            origin: Origin {
                site: "us-east-1".into(),
                collector: "i-0a1b2c3d4e5f60718".into(),
                boot: "01935f2e-7c00-7a1b-8c2d-3e4f50617283".into(),
            },
            number: self.number - 1,
            through: observations.last().unwrap().at,
            observations,
        }
    }

    /// From 0 to 1 (xorshift64).
    fn uniform(&mut self) -> f64 {
        self.random ^= self.random << 13;
        self.random ^= self.random >> 7;
        self.random ^= self.random << 17;
        (self.random >> 11) as f64 / (1_u64 << 53) as f64
    }

    fn exponential(&mut self) -> f64 {
        -(1.0 - self.uniform()).ln()
    }
}
