//! `replay --into queue` on one machine: metrics that were lost are made again, whatever the replay is stopped at.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod program;

use std::io::Write as _;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use crosswatch_journal::Writer;
use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use program::{Stage, command, until};
use serde_json::Value;

const CONFIG: &str = "[site.a]\n[[link]]\nname = 'l'\nbetween = ['a']\nprobe = [{ from = 'a', name = 'p', icmp = '10.1.0.10' }]\n\
                      [http]\nlisten = '127.0.0.1:0'\n";

/// So many seconds of one probe, which ended an hour ago at a whole minute.
const SECONDS: u64 = 600;

fn says(folder: &Path, arguments: &[&str]) -> String {
    let output = command(folder, arguments).stderr(Stdio::piped()).output().unwrap();
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// A publisher of what is in this folder.
fn publisher(folder: &Path) -> Stage {
    Stage::start(&mut command(folder, &["publisher"]))
}

/// What was measured of each period: when it began, how many replies, and what they came to.
fn measured(folder: &Path) -> Vec<(String, u64, String)> {
    // Before the publisher has begun its file there is nothing to show.
    let output = command(folder, &["metrics", "PingLatency", "--format", "json"]).output().unwrap();
    let rows = String::from_utf8(output.stdout).unwrap();
    let mut rows: Vec<Value> = rows.lines().map(|row| serde_json::from_str(row).unwrap()).collect();
    let text =
        |row: &Value, key: &str| row[key].as_f64().map_or(String::new(), |value| format!("{value:.6}"));
    rows.drain(..)
        .map(|row| {
            let count = row["count"].as_u64().unwrap();
            let of = ["average", "minimum", "maximum", "p50", "p99"].map(|key| text(&row, key)).join(" ");
            (row["start"].to_string(), count, of)
        })
        .collect()
}

fn replies(measured: &[(String, u64, String)]) -> u64 {
    measured.iter().map(|(_, count, _)| count).sum()
}

#[test]
fn lost_metrics_are_made_again_by_a_replay_that_is_killed_and_begun_again() {
    let folder = tempfile::tempdir().unwrap();
    let folder = folder.path();
    std::fs::write(folder.join("crosswatch.toml"), CONFIG).unwrap();
    std::fs::create_dir(folder.join("data")).unwrap();
    let now = Timestamp::from(std::time::SystemTime::now());
    let start = now.floor(Duration::from_secs(60)) - Duration::from_secs(3_600 + SECONDS);
    let batch = |second: u64| Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
        number: second,
        through: start + Duration::from_secs(second + 1),
        observations: vec![Observation {
            at: start + Duration::from_secs(second),
            seq: second,
            body: Body::Probe {
                link: "l".into(),
                probe: "p".into(),
                outcome: Outcome::Reply { rtt_ms: (second * 7919 % 97) as f64 },
                detail: None,
            },
        }],
    };
    let mut batches: Vec<Batch> = (0..SECONDS).map(batch).collect();
    let last = Batch {
        observations: Vec::new(),
        through: start + Duration::from_secs(2 * SECONDS),
        ..batch(SECONDS)
    };
    batches.push(last);
    let journal = folder.join("data/journal");
    Writer::open(&journal, "a").unwrap().append_all(&batches, now).unwrap();

    let running = publisher(folder);
    until("all is put", || (replies(&measured(folder)) == SECONDS).then_some(()));
    let undisturbed = measured(folder);
    drop(running);
    let seen = says(folder, &["export"]);
    assert_eq!(seen.lines().count() as u64, SECONDS);

    // What was seen is left alone in a file.
    std::fs::remove_dir_all(folder.join("data")).unwrap();
    std::fs::create_dir(folder.join("data")).unwrap();
    let _publisher = publisher(folder);
    let rows: Vec<&str> = seen.split_inclusive('\n').collect();
    for rows_given in [1, 150, 400, 599] {
        let mut replay = command(folder, &["replay", "--from", "-", "--into", "queue"])
            .stdin(Stdio::piped())
            .spawn()
            .unwrap();
        let mut input = replay.stdin.take().unwrap();
        input.write_all(rows[..rows_given].concat().as_bytes()).unwrap();
        replay.kill().unwrap();
        replay.wait().unwrap();
    }
    std::fs::write(folder.join("seen.jsonl"), &seen).unwrap();
    for _ in 0..2 {
        says(folder, &["replay", "--from", "seen.jsonl", "--into", "queue"]);
        let waiting = || says(folder, &["queue", "depth", "--stage", "publisher"]);
        until("it is read", || waiting().contains(": 0 batches wait").then_some(()));
        assert_eq!(measured(folder), undisturbed);
    }
}

#[test]
fn what_means_nothing_together_is_refused() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("crosswatch.toml"), CONFIG).unwrap();
    for arguments in [
        &["replay", "--page"][..],
        &["replay", "--into", "queue", "--metrics"],
        &["replay", "--into", "queue", "--format", "text"],
        &["replay", "--into", "queue", "--speed", "10x"],
        &["replay", "--into", "elsewhere"],
    ] {
        assert_eq!(
            command(folder.path(), arguments).output().unwrap().status.code(),
            Some(2),
            "{arguments:?}"
        );
    }
    std::fs::write(folder.path().join("seen.jsonl"), "").unwrap();
    let output = command(folder.path(), &["replay", "--from", "seen.jsonl", "--into", "queue"])
        .stderr(Stdio::piped())
        .output()
        .unwrap();
    let told = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!output.status.success() && told.contains("must be there and writable"), "{told}");
}

#[test]
fn who_asks_for_parquet_of_a_program_without_it_is_told_how_to_build_it() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("crosswatch.toml"), CONFIG).unwrap();
    let output =
        command(folder.path(), &["export", "--format", "parquet"]).stderr(Stdio::piped()).output().unwrap();
    if cfg!(feature = "parquet") {
        assert!(output.status.success() && output.stdout.starts_with(b"PAR1"), "{output:?}");
    } else {
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains("--features crosswatch/parquet"), "{told}");
    }
}
