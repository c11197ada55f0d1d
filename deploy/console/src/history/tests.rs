//! The history through its real consumer, journals and file.

use std::path::Path;
use std::time::Duration;
use std::time::Instant;

use crosswatch_journal::Writer as Journal;
use crosswatch_queue::Source;
use crosswatch_shared::evidence::{Evidence, Protocol};
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;

use super::store::{Deltas, row_of_test};
use super::*;

const SECOND: Duration = Duration::from_secs(1);

fn key() -> Key {
    ("l".into(), "a".into(), "p".into())
}

fn start() -> Timestamp {
    "2026-11-22T07:59:50Z".parse().unwrap()
}

fn batch(number: u64, outcome: Outcome) -> Batch {
    let at = start() + SECOND * u32::try_from(number).unwrap();
    Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
        number,
        through: at,
        observations: vec![Observation {
            at,
            seq: number,
            body: Body::Probe { link: "l".into(), probe: "p".into(), outcome, detail: None },
        }],
    }
}

/// As the follower does it.
async fn take(writer: &mut Writer) -> usize {
    let page = writer.receive(Duration::ZERO, Instant::now()).await.unwrap();
    for delivery in &page.deliveries {
        for observation in &delivery.batch.observations {
            if let Body::Probe { outcome, detail, .. } = &observation.body {
                writer.deltas().cell(&key(), observation.at).add(*outcome, detail.as_deref());
            }
        }
    }
    page.deliveries.len()
}

fn open(folder: &Path) -> Writer {
    let source = Source::gathered(folder.join("journal"), vec![Name::from("a")]);
    Writer::open(&folder.join(FILE), source).unwrap()
}

fn counts(folder: &Path, grain: Grain) -> Vec<(String, u64, u32)> {
    let history = History::open(&folder.join(FILE)).unwrap().unwrap();
    let cells = history.cells(&key(), grain, Timestamp::MIN, Timestamp::MAX).unwrap();
    cells
        .iter()
        .map(|(at, cell)| (at.to_string()[11..16].to_owned(), cell.replies.count(), cell.lost))
        .collect()
}

#[tokio::test]
async fn each_observation_is_counted_once_however_often_the_reader_dies_before_or_after_it_has_written() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    let mut journal = Journal::open(&folder.path().join("journal"), "a").unwrap();
    for number in 0..80 {
        let lost = number % 10 == 0;
        let outcome = if lost { Outcome::Lost(Lost::Timeout) } else { Outcome::Reply { rtt_ms: 80.0 } };
        journal.append_all([&batch(number, outcome)], start()).unwrap();
        let mut writer = open(folder.path());
        assert!(take(&mut writer).await > 0, "what was not written comes again");
        if number % 3 == 0 {
            writer.close().await.unwrap();
        }
    }
    let mut last = open(folder.path());
    take(&mut last).await;
    last.close().await.unwrap();
    let minutes = [("07:59".to_owned(), 9, 1), ("08:00".to_owned(), 54, 6), ("08:01".to_owned(), 9, 1)];
    assert_eq!(counts(folder.path(), Grain::Minutes), minutes);
    assert_eq!(
        counts(folder.path(), Grain::Hours),
        [("07:00".to_owned(), 9, 1), ("08:00".to_owned(), 63, 7)]
    );
}

#[tokio::test]
async fn minutes_go_after_35_days_and_hours_after_400() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    let mut writer = open(folder.path());
    let day = Duration::from_secs(86_400);
    let now = start() + day * 500;
    let mut journal = Journal::open(&folder.path().join("journal"), "a").unwrap();
    journal.append_all([&batch(0, Outcome::Reply { rtt_ms: 1.0 })], now).unwrap();
    writer.receive(Duration::ZERO, Instant::now()).await.unwrap();
    for ago in [401_u32, 399, 36, 34, 0] {
        writer.deltas().cell(&key(), now - day * ago).add(Outcome::Reply { rtt_ms: 1.0 }, None);
    }
    writer.settle().await.unwrap();
    assert_eq!(counts(folder.path(), Grain::Hours).len(), 5);
    writer.turn(Instant::now(), now).await.unwrap();
    assert_eq!(counts(folder.path(), Grain::Hours).len(), 4);
    assert_eq!(counts(folder.path(), Grain::Minutes).len(), 2);
}

#[tokio::test]
async fn a_tunnels_polls_are_spans_and_a_long_time_without_a_poll_is_none() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    let mut writer = open(folder.path());
    let mut journal = Journal::open(&folder.path().join("journal"), "a").unwrap();
    for (number, (minute, up)) in
        [(0, true), (1, true), (2, false), (3, false), (20, false)].iter().enumerate()
    {
        journal.append_all([&batch(number as u64, Outcome::Reply { rtt_ms: 1.0 })], start()).unwrap();
        writer.receive(Duration::ZERO, Instant::now()).await.unwrap();
        let at = start() + SECOND * 60 * *minute;
        let span = TunnelSpan {
            vpn: "vpn-1".to_owned(),
            outside_ip: "192.0.2.1".to_owned(),
            up: *up,
            message: String::new(),
            since: at,
            until: at,
        };
        writer.deltas().tunnel(&"l".into(), span);
        writer.settle().await.unwrap();
    }
    let history = History::open(&folder.path().join(FILE)).unwrap().unwrap();
    let spans = history.tunnels("l", Timestamp::MIN, Timestamp::MAX).unwrap();
    let told: Vec<_> = spans
        .iter()
        .map(|of| (of.up, of.since.since(start()).as_secs() / 60, of.until.since(start()).as_secs() / 60))
        .collect();
    assert_eq!(told, [(true, 0, 1), (false, 2, 3), (false, 20, 20)]);
}

#[tokio::test]
async fn evidence_is_kept_once_for_as_long_as_minutes_are() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::create_dir(folder.path().join("journal")).unwrap();
    let mut journal = Journal::open(&folder.path().join("journal"), "a").unwrap();
    let mut writer = open(folder.path());
    let target = "10.1.0.10".parse().unwrap();
    let captured = |ago: u32| Evidence::new(start() - SECOND * 86_400 * ago, Protocol::Icmp, target, None);
    for number in 0..2 {
        journal.append_all([&batch(number, Outcome::Reply { rtt_ms: 1.0 })], start()).unwrap();
        writer.receive(Duration::ZERO, Instant::now()).await.unwrap();
        // What is read again after a death.
        [36, 34, 0].iter().for_each(|ago| writer.deltas().evidence(&key(), &captured(*ago)));
        writer.settle().await.unwrap();
    }
    let history = History::open(&folder.path().join(FILE)).unwrap().unwrap();
    let found = |link, limit| history.evidence(link, Timestamp::MIN, Timestamp::MAX, limit).unwrap();
    assert_eq!(found("l", 9).len(), 3);
    writer.turn(Instant::now(), start()).await.unwrap();
    let told: Vec<_> = found("l", 9).into_iter().map(|of| (of.site, of.probe, of.evidence)).collect();
    let (site, probe) = ("a".to_owned(), "p".to_owned());
    assert_eq!(told, [(site.clone(), probe.clone(), captured(0)), (site, probe, captured(34))]);
    assert_eq!((found("l", 1).len(), found("m", 9).len()), (1, 0));
}

/// A link of 80 ms whose jitter has a long tail, measured each second.
#[test]
fn a_year_of_a_hundred_links_with_two_probes_takes_less_than_a_gigabyte_and_a_half() {
    let mut random = fastrand::Rng::with_seed(7);
    let mut deltas = Deltas::default();
    let days = 1;
    for second in 0..days * 86_400_u32 {
        let at = Timestamp::from_secs(1_795_000_000 / 86_400 * 86_400) + SECOND * second;
        let jitter = -random.f64().max(1e-9).ln();
        let outcome = if random.u32(..1_000) == 0 {
            Outcome::Lost(Lost::Timeout)
        } else {
            Outcome::Reply {
                rtt_ms: 80.0 + 0.5 * jitter + if random.u32(..100) == 0 { 20.0 * jitter } else { 0.0 },
            }
        };
        deltas.cell(&key(), at).add(outcome, None);
    }
    let [minutes, hours] = row_of_test(&deltas).map(|bytes| bytes as f64 / f64::from(days));
    let year = 200.0 * (minutes * 35.0 + hours * 400.0);
    println!(
        "a day of one probe: {minutes} bytes of minutes, {hours} of hours; a year of 200: {:.0} MB",
        year / 1e6
    );
    // Half of a page of the tree is empty at the worst.
    assert!(year * 2.0 < 1.5e9, "{year}");
}
