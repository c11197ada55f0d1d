//! A history of sealed segments: how much it takes on the disk, and how fast it is judged again.
//!
//! 100 links with a probe from either end, each second: two sites with 100 probes each. Times of sending have a jitter of
//! some tens of microseconds, round trips an exponential one of 0.1 ms in nanoseconds, one in a thousand is lost. The rules are
//! `ping_ok` 3 of 3 and `latency_ms` 10 of 15. The first argument is the history's length in seconds, a day without.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use crosswatch_journal::{Policy, Writer, file, prepare, segments};
use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Side};
use crosswatch_replay::source::{Journals, Source, Wanted, each_ahead};
use crosswatch_replay::{Found, Judging};
use crosswatch_shared::config::document;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;

const LINKS: usize = 100;
const SITES: [&str; 2] = ["east", "west"];
const START: i64 = 1_795_330_800;

fn main() {
    let seconds = std::env::args().skip(1).find_map(|word| word.parse().ok()).unwrap_or(86_400);
    let folder = tempfile::tempdir().unwrap();
    let begun = Instant::now();
    std::thread::scope(|scope| {
        for site in SITES {
            let folder = folder.path();
            scope.spawn(move || write(folder, site, seconds));
        }
    });
    let written = begun.elapsed().as_secs_f64();
    let observations = (seconds as usize * LINKS * SITES.len()) as f64;
    let bytes: u64 = SITES.iter().map(|site| size(&segments(&file(folder.path(), site)))).sum();
    println!("{observations:.0} observations written and sealed in {written:.0} s");
    println!(
        "segments: {:.1} MB, {:.2} bytes an observation; the folder {:.1} MB",
        bytes as f64 / 1e6,
        bytes as f64 / observations,
        size(folder.path()) as f64 / 1e6
    );

    let topology = topology();
    let mut rates = Vec::new();
    for _ in 0..3 {
        let begun = Instant::now();
        let sites = SITES.map(|site| (site.into(), folder.path().to_owned()));
        let mut source = Journals::open(sites, Wanted::default()).unwrap();
        let judged = judge(&mut source, &topology);
        assert_eq!(judged as f64, observations);
        rates.push(begun.elapsed().as_secs_f64());
    }
    rates.sort_by(f64::total_cmp);
    println!(
        "judged in {:.1} s in the median of 3, {:.0} observations a second",
        rates[1],
        observations / rates[1]
    );
    println!("{}", peak());
}

fn judge(source: &mut (dyn Source + Send), topology: &Topology) -> u64 {
    struct Taker(Judging, Found);
    let mut takers = [Taker(Judging::new(rules(), topology).with_incidents(), Found::default())];
    let take = |Taker(judging, found): &mut Taker, piece: &_| judging.take(piece, found);
    each_ahead(source, &mut takers, take, |_, _| ()).unwrap();
    let [Taker(judging, mut found)] = takers;
    judging.end(&mut found).judged
}

/// A batch a second, sealed as it grows old.
fn write(folder: &Path, site: &str, seconds: i64) {
    let origin = Origin {
        site: site.into(),
        collector: "host".into(),
        boot: "019aa1c2-7b30-7c1e-9a52-0d4f2b8e6a11".into(),
    };
    let names: Vec<(Name, Name)> = (0..LINKS)
        .map(|link| (format!("link-{link}").as_str().into(), probe(link).as_str().into()))
        .collect();
    let mut random = site.len() as u64 ^ u64::from(site.as_bytes()[0]);
    let mut uniform = move || {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        ((random >> 33) as f64 + 0.5) / f64::from(1_u32 << 31)
    };
    let mut writer = Writer::open(folder, site).unwrap();
    let policy = Policy { after: Duration::from_secs(60), ..Policy::default() };
    let (mut seq, mut waiting) = (0, Vec::new());
    for second in 0..seconds {
        let mut observations = Vec::with_capacity(LINKS);
        for (link, (name, probe)) in names.iter().enumerate() {
            let jitter = -30.0 * (uniform() * uniform()).ln();
            let at = (START + second) * 1_000_000 + link as i64 * 10_000 + jitter as i64;
            let rtt = 80.0 + link as f64 / 10.0 - 0.1 * uniform().ln();
            let outcome = match uniform() < 0.001 {
                true => Outcome::Lost(Lost::Timeout),
                false => Outcome::Reply { rtt_ms: (rtt * 1e6).round() / 1e6 },
            };
            let body = Body::Probe { link: name.clone(), probe: probe.clone(), outcome, detail: None };
            observations.push(Observation { at: Timestamp::from_micros(at), seq, body });
            seq += 1;
        }
        let through = Timestamp::from_micros((START + second + 1) * 1_000_000 + (uniform() * 500.0) as i64);
        let batch = Batch { origin: origin.clone(), number: second as u64, through, observations };
        let now = through + Duration::from_micros((uniform() * 2_000.0) as u64);
        // Live each is a transaction of its own, which a bench need not wait for.
        waiting.push(batch);
        if second % 60 == 59 || second + 1 == seconds {
            writer.append_all(&waiting, now).unwrap();
            waiting.clear();
        }
        if second % 300 == 299 {
            while let Some(prepared) = prepare(&file(folder, site), now, &[], policy).unwrap() {
                writer.seal(&prepared).unwrap();
            }
        }
    }
    let last = Policy { enough: 1, newest: 1, ..policy };
    let now = Timestamp::from_secs(START + seconds + 1_000);
    while let Some(prepared) = prepare(&file(folder, site), now, &[], last).unwrap() {
        writer.seal(&prepared).unwrap();
    }
}

fn probe(link: usize) -> String {
    format!("icmp:10.1.0.{link}")
}

fn topology() -> Topology {
    let mut text = SITES.map(|site| format!("[site.{site}]\n")).concat();
    for link in 0..LINKS {
        let probes = SITES.map(|site| format!("{{ from = '{site}', icmp = '10.1.0.{link}' }}")).join(", ");
        write!(text, "[[link]]\nname = 'link-{link}'\nbetween = ['east', 'west']\nprobe = [{probes}]\n")
            .unwrap();
    }
    document::read(Path::new("crosswatch.toml"), text.as_bytes(), Topology::take)
        .unwrap_or_else(|problems| panic!("{problems}"))
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

fn size(path: &Path) -> u64 {
    let entries = fs::read_dir(path).unwrap().map(|entry| entry.unwrap());
    entries
        .map(|entry| match entry.metadata().unwrap() {
            data if data.is_dir() => size(&entry.path()),
            data => data.len(),
        })
        .sum()
}

/// The most memory this process has had, the writing included.
fn peak() -> String {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let of = |name: &str| status.lines().find(|line| line.starts_with(name)).unwrap_or_default().to_owned();
    format!("{}; {}", of("VmHWM"), of("VmRSS"))
}
