//! What the page costs who looks: the overview of 1,000 links with 100 live viewers, and a graph of 30 days.
//!
//! `cargo bench -p crosswatch-console --bench page`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_alerter::status::Standing;
use crosswatch_alerter::story::{Incident, Story};
use crosswatch_console::Page;
use crosswatch_console::config::Config;
use crosswatch_console::figures::Figures;
use crosswatch_console::judged::{Alerter, Unexplained};
use crosswatch_explain::Explanation;
use crosswatch_host::health::Health;
use crosswatch_journal::Writer;
use crosswatch_judge::mute::Silence;
use crosswatch_shared::config::topology::{Host, Link, Probe, Queue, QueueKind, Site, Target, Topology};
use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use tokio_util::sync::CancellationToken;

const LINKS: usize = 1_000;
const VIEWERS: usize = 100;
const SECONDS: u64 = 20;
const MINUTES: u32 = 30 * 24 * 60;

struct Quiet;

impl Alerter for Quiet {
    fn now(&self, _: Timestamp) -> Result<Option<Standing>, String> {
        Ok(Some(Standing::default()))
    }
    fn incidents(
        &self,
        _: Timestamp,
        _: Timestamp,
        _: Option<&str>,
        _: usize,
    ) -> Result<Vec<Incident>, String> {
        Ok(Vec::new())
    }
    fn story(&self, _: &str) -> Result<Option<Story>, String> {
        Ok(None)
    }
    fn report(&self, _: &str, _: Timestamp) -> Result<Option<String>, String> {
        Ok(None)
    }
    fn silences(&self) -> Result<Vec<Silence>, String> {
        Ok(Vec::new())
    }
    fn baselines(&self, _: Timestamp) -> Result<HashMap<String, Option<f64>>, String> {
        Ok(HashMap::new())
    }
    fn explain(&self, asked: &str, _: Option<Timestamp>, _: Timestamp) -> Result<Explanation, Unexplained> {
        Err(Unexplained::Asked(format!("nothing is called '{asked}'")))
    }
}

fn topology(folder: &std::path::Path) -> Topology {
    let site = |name: &str| Site { name: name.into(), region: None, role: None, topic: None };
    let probe = |from: &str| Probe {
        name: "icmp:10.0.0.1".into(),
        from: from.into(),
        target: Target::Icmp(Host::Name("there".to_owned())),
        every: Duration::from_secs(1),
        timeout: Duration::from_secs(1),
        burst: 1,
        size: None,
    };
    let link = |number: usize| Link {
        name: format!("link-{number:04}").into(),
        between: vec!["us-east-1".into(), "eu-west-1".into()],
        vpns: Vec::new(),
        appliances: Vec::new(),
        probes: vec![probe("us-east-1"), probe("eu-west-1")],
    };
    Topology {
        sites: vec![site("us-east-1"), site("eu-west-1")],
        links: (0..LINKS).map(link).collect(),
        queue: Queue {
            path: folder.to_owned(),
            kind: QueueKind::Embedded,
            keep: Duration::MAX,
            max_bytes: u64::MAX,
        },
        listen: None,
    }
}

/// A site's collector: numbers what it sees.
struct Collector {
    site: &'static str,
    journal: Writer,
    batches: u64,
    observations: u64,
}

impl Collector {
    fn sees(&mut self, seen: Vec<(Timestamp, usize)>) {
        let now: Timestamp = std::time::SystemTime::now().into();
        let observations = seen.into_iter().map(|(at, link)| {
            self.observations += 1;
            let outcome =
                Outcome::Reply { rtt_ms: 80.0 + (self.observations * 7_919 % 1_000) as f64 / 200.0 };
            let link = format!("link-{link:04}").into();
            let body = Body::Probe { link, probe: "icmp:10.0.0.1".into(), outcome, detail: None };
            Observation { at, seq: self.observations - 1, body }
        });
        let batch = Batch {
            origin: Origin { site: self.site.into(), collector: self.site.into(), boot: "1".into() },
            number: self.batches,
            through: now,
            observations: observations.collect(),
        };
        self.batches += 1;
        self.journal.append_all([&batch], now).unwrap();
    }
}

fn ask(address: SocketAddr, path: &str) -> (Duration, String) {
    let begun = Instant::now();
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").unwrap();
    let mut bytes = Vec::new();
    stream.read_to_end(&mut bytes).unwrap();
    (begun.elapsed(), String::from_utf8_lossy(&bytes).into_owned())
}

fn tell(what: &str, mut took: Vec<Duration>, bytes: usize) {
    took.sort();
    let part = |part: f64| took[((took.len() - 1) as f64 * part) as usize];
    println!(
        "{what}: {} asked, p50 {:.1?}, p99 {:.1?}, most {:.1?}, {bytes} bytes",
        took.len(),
        part(0.5),
        part(0.99),
        part(1.0)
    );
}

fn main() {
    let folder = tempfile::tempdir().unwrap();
    let topology = topology(folder.path());
    let journals = folder.path().join("journal");
    let collector = |site| Collector {
        site,
        journal: Writer::open(&journals, site).unwrap(),
        batches: 0,
        observations: 0,
    };
    let mut collectors = ["us-east-1", "eu-west-1"].map(collector);
    let now: Timestamp = std::time::SystemTime::now().into();
    for collector in &mut collectors {
        let minutes: Vec<u32> = (0..MINUTES).collect();
        for some in minutes.chunks(1_000) {
            let at = |minute: &u32| (now - Duration::from_secs(60) * (MINUTES - minute), 0);
            collector.sees(some.iter().map(at).collect());
        }
    }
    let runtime = tokio::runtime::Runtime::new().unwrap();
    let listen = Some("127.0.0.1:0".parse().unwrap());
    let page = runtime.block_on(Page::bind(Config { listen, token_file: None, hosts: Vec::new() })).unwrap();
    let (address, stop) = (page.address(), CancellationToken::new());
    let figures = Figures::register(&mut prometheus_client::registry::Registry::default(), &topology);
    let part = Health::default().part("page");
    runtime.spawn(page.run(topology, journals, Arc::new(Quiet), figures, part, stop.clone()));

    let seeing = stop.clone();
    let seen = thread::spawn(move || {
        while !seeing.is_cancelled() {
            let now: Timestamp = std::time::SystemTime::now().into();
            for collector in &mut collectors {
                collector.sees((0..LINKS).map(|link| (now, link)).collect());
            }
            thread::sleep(Duration::from_secs(1));
        }
    });
    while !ask(address, "/").1.contains("All 1000 links are up") {
        thread::sleep(Duration::from_millis(100));
    }
    // What is seen is on the disk within ten seconds.
    while !ask(address, "/api/v1/series?link=link-0000&range=30d").1.contains("\"replies\"") {
        thread::sleep(Duration::from_millis(100));
    }
    let graphs: Vec<_> = (0..50).map(|_| ask(address, "/link/link-0000?range=30d")).collect();
    let bytes = graphs.iter().map(|(_, text)| text.len()).max().unwrap();
    tell("a link's page of 30 days", graphs.iter().map(|(took, _)| *took).collect(), bytes);

    let begun = Instant::now();
    let viewers: Vec<_> = (0..VIEWERS)
        .map(|_| {
            thread::spawn(move || {
                let mut events = TcpStream::connect(address).unwrap();
                events.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
                let mut took = Vec::new();
                let mut bytes = [0; 4_096];
                // As a browser does it: each event, and the page anew.
                while begun.elapsed() < Duration::from_secs(SECONDS) && events.read(&mut bytes).unwrap() > 0 {
                    let (time, text) = ask(address, "/");
                    took.push((time, text.len()));
                }
                took
            })
        })
        .collect();
    let asked: Vec<_> = viewers.into_iter().flat_map(|viewer| viewer.join().unwrap()).collect();
    let bytes = asked.iter().map(|(_, bytes)| *bytes).max().unwrap();
    tell("the overview of 1000 links, 100 viewers", asked.into_iter().map(|(took, _)| took).collect(), bytes);
    stop.cancel();
    seen.join().unwrap();
}
