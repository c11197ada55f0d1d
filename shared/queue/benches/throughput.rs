//! How many observations a second go through the journal and the embedded queue: one writer appends batches of 500 with
//! `synchronous=FULL`, while two consumers receive, decode and commit all of them into files of their own. From the first
//! append to the last commit of the slower consumer. Once with a transaction for each batch, which the disk's sync time
//! limits, and once with ten batches in each, as much as a collector that has fallen behind puts into one batch.
//!
//! `cargo bench -p crosswatch-queue --bench throughput [-- ROUNDS]`; files go to a folder of their own under `TMPDIR`.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]

use std::error::Error;
use std::io::Write;
use std::path::Path;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_journal::Writer;
use crosswatch_queue::{Consumer, QueueError, Schema, Source};
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use nix::sys::resource::{UsageWho, getrusage};
use nix::sys::time::TimeValLike;

const BATCHES: u64 = 4_000;
const BATCH: u64 = 500;
const SUBJECTS: u64 = 1_000;
const SCHEMA: Schema = Schema {
    what: "benchmark's file",
    application_id: 0x4357_4245,
    migrations: &["CREATE TABLE counted (observations INTEGER NOT NULL); INSERT INTO counted VALUES (0)"],
};

fn main() -> Result<(), Box<dyn Error>> {
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(5_usize);
    let batches = batches();
    for together in [1, 10] {
        measure(&batches, together, rounds)?;
    }
    Ok(())
}

fn measure(batches: &[Batch], together: usize, rounds: usize) -> Result<(), Box<dyn Error>> {
    println!("{together} batches of {BATCH} in a transaction");
    let mut rates = Vec::new();
    for round in 1..=rounds {
        let folder = tempfile::tempdir()?;
        let sync = sync_time(folder.path())?;
        let (wall, cpu) = round_trip(folder.path(), batches, together)?;
        let observations = (BATCHES * BATCH) as f64;
        let rate = observations / wall.as_secs_f64();
        println!(
            "round {round}: {rate:.0} observations/s, {:.2} us of CPU an observation, {:.2} cores, \
             {:.2} ms for the disk to sync 64 KiB just before",
            cpu.as_secs_f64() * 1e6 / observations,
            cpu.as_secs_f64() / wall.as_secs_f64(),
            sync.as_secs_f64() * 1e3,
        );
        rates.push(rate);
    }
    rates.sort_by(f64::total_cmp);
    println!("median: {:.0} observations/s", rates[rates.len() / 2]);
    Ok(())
}

fn round_trip(
    folder: &Path,
    batches: &[Batch],
    together: usize,
) -> Result<(Duration, Duration), Box<dyn Error>> {
    let journals = folder.join("journal");
    let mut writer = Writer::open(&journals, "site")?;
    let (start, before) = (Instant::now(), cpu()?);
    thread::scope(|scope| {
        let consumers = ["publisher.db", "alerter.db"]
            .map(|file| (folder.join(file), journals.clone()))
            .map(|(file, journals)| scope.spawn(move || consume(&file, &journals)));
        for group in batches.chunks(together) {
            writer.append_all(group, SystemTime::now().into()).unwrap();
        }
        for consumer in consumers {
            let counted = consumer.join().unwrap().unwrap();
            assert_eq!(counted, BATCHES * BATCH, "each observation once");
        }
    });
    Ok((start.elapsed(), cpu()?.saturating_sub(before)))
}

fn consume(file: &Path, journals: &Path) -> Result<u64, QueueError> {
    let source = Source::embedded(journals.to_owned(), vec![Name::from("site")]);
    let mut consumer = Consumer::open(file, SCHEMA, source)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let mut counted = 0;
        while counted < BATCHES * BATCH {
            let received = consumer.receive(64, Duration::from_secs(1)).await?;
            counted += consumer
                .settle(received, |tx, deliveries| {
                    let count = deliveries.iter().map(|one| one.batch.observations.len() as u64).sum::<u64>();
                    tx.execute("UPDATE counted SET observations = observations + ?1", [count as i64])?;
                    Ok::<_, QueueError>(count)
                })
                .await?;
        }
        Ok(counted)
    })
}

/// Probes of 1,000 subjects in turn, each once a second: replies of about 80 ms, one in a hundred lost.
fn batches() -> Vec<Batch> {
    let links: Vec<Name> = (0..SUBJECTS / 4).map(|link| format!("link-{link}").into()).collect();
    let probes: Vec<Name> =
        (0..SUBJECTS).map(|probe| format!("icmp:10.{}.{}.10", probe / 250, probe % 250).into()).collect();
    let origin = Origin {
        site: "site".into(),
        collector: "i-0a1b2c3d4e5f60718".into(),
        boot: "01939f3e-7b5a-7c3e-9a41-2f6d8e0c1b57".into(),
    };
    let start = Timestamp::from_secs(1_795_330_801);
    let observation = |seq: u64| {
        let subject = (seq % SUBJECTS) as usize;
        // A cheap, fixed scatter.
        let scatter = seq.wrapping_mul(0x9E37_79B9_7F4A_7C15) >> 40;
        Observation {
            at: start + Duration::from_micros(seq * 1_000 + scatter % 900),
            seq,
            body: Body::Probe {
                link: links[subject / 4].clone(),
                probe: probes[subject].clone(),
                outcome: match scatter % 100 {
                    0 => Outcome::Lost(Lost::Timeout),
                    _ => Outcome::Reply { rtt_ms: 78.0 + (scatter % 9_000) as f64 / 1e3 },
                },
                detail: None,
            },
        }
    };
    (0..BATCHES)
        .map(|number| {
            let observations: Vec<_> = (number * BATCH..(number + 1) * BATCH).map(observation).collect();
            Batch { origin: origin.clone(), number, through: observations.last().unwrap().at, observations }
        })
        .collect()
}

/// How long the disk takes to make 64 KiB durable: about one append, and no less than that.
fn sync_time(folder: &Path) -> std::io::Result<Duration> {
    const TIMES: u32 = 100;
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let start = Instant::now();
    for _ in 0..TIMES {
        file.write_all(&[0xA5; 64 << 10])?;
        file.sync_data()?;
    }
    Ok(start.elapsed() / TIMES)
}

/// User and system time of this process.
fn cpu() -> Result<Duration, nix::Error> {
    let usage = getrusage(UsageWho::RUSAGE_SELF)?;
    let micros = usage.user_time().num_microseconds() + usage.system_time().num_microseconds();
    Ok(Duration::from_micros(micros.unsigned_abs()))
}
