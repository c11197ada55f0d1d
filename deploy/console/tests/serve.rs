//! The page as it is served: what it answers to whom, and that who means ill, or is slow, harms nobody.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::HashMap;
use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::time::Duration;

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
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use serde_json::Value;
use tempfile::TempDir;
use tokio_util::sync::CancellationToken;

const BOUND: Duration = Duration::from_secs(60);
const TOKEN: &str = "0123456789abcdef0123456789abcdef";

/// An alerter that has said nothing so far.
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

/// A page over a journal of one site, `a`, with a probe `p` of the link `l` to `b`.
struct Served {
    folder: TempDir,
    address: SocketAddr,
    stop: CancellationToken,
    runtime: Option<tokio::runtime::Runtime>,
    journal: Writer,
    number: u64,
}

impl Served {
    fn new(token: Option<&str>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let token_file = token.map(|token| {
            let file = folder.path().join("token");
            std::fs::write(&file, token).unwrap();
            file
        });
        let site = |name: &str| Site { name: name.into(), region: None, role: None, topic: None };
        let topology = Topology {
            sites: vec![site("a"), site("b")],
            links: vec![Link {
                name: "l".into(),
                between: vec!["a".into(), "b".into()],
                vpns: Vec::new(),
                appliances: Vec::new(),
                probes: vec![Probe {
                    name: "p".into(),
                    from: "a".into(),
                    target: Target::Tcp(Host::Name("there".to_owned()), 443),
                    every: Duration::from_secs(1),
                    timeout: Duration::from_secs(1),
                    burst: 1,
                    size: None,
                }],
            }],
            queue: Queue {
                path: folder.path().to_owned(),
                kind: QueueKind::Embedded,
                keep: Duration::MAX,
                max_bytes: u64::MAX,
            },
            listen: None,
        };
        let journals = folder.path().join("journal");
        let journal = Writer::open(&journals, "a").unwrap();
        let config = Config { listen: Some("127.0.0.1:0".parse().unwrap()), token_file, hosts: Vec::new() };
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let page = runtime.block_on(Page::bind(config)).unwrap();
        let (address, stop) = (page.address(), CancellationToken::new());
        let part = Health::default().part("page");
        let figures = Figures::register(&mut prometheus_client::registry::Registry::default(), &topology);
        runtime.spawn(page.run(topology, journals, Arc::new(Quiet), figures, part, stop.clone()));
        Self { folder, address, stop, runtime: Some(runtime), journal, number: 0 }
    }

    /// The site's collector saw this just now.
    fn sees(&mut self, outcomes: &[Outcome]) {
        let now: Timestamp = std::time::SystemTime::now().into();
        let observation = |(place, outcome): (usize, &Outcome)| Observation {
            at: now - Duration::from_micros(1) * u32::try_from(outcomes.len() - place).unwrap(),
            seq: self.number * 100 + place as u64,
            body: Body::Probe { link: "l".into(), probe: "p".into(), outcome: *outcome, detail: None },
        };
        let batch = Batch {
            origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
            number: self.number,
            through: now,
            observations: outcomes.iter().enumerate().map(observation).collect(),
        };
        self.journal.append_all([&batch], now).unwrap();
        self.number += 1;
    }

    fn connect(&self) -> TcpStream {
        let stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(BOUND)).unwrap();
        stream.set_write_timeout(Some(BOUND)).unwrap();
        stream
    }

    fn ask(&self, path: &str, more: &str) -> (u16, String) {
        self.send(&format!("GET {path} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n{more}\r\n"))
    }

    /// Sends this, and gives the status and all that came.
    fn send(&self, request: &str) -> (u16, String) {
        let mut stream = self.connect();
        stream.write_all(request.as_bytes()).unwrap();
        read(&mut stream)
    }

    fn state(&self) -> Value {
        let (status, text) = self.ask("/api/v1/state", "");
        assert_eq!(status, 200, "{text}");
        serde_json::from_str(text.split_once("\r\n\r\n").unwrap().1).unwrap()
    }

    fn wait_for_state(&self, state: &str) {
        let begun = std::time::Instant::now();
        while self.state()["links"][0]["state"] != state {
            assert!(begun.elapsed() < BOUND, "never {state}: {}", self.state());
            std::thread::sleep(Duration::from_millis(20));
        }
    }
}

impl Drop for Served {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_timeout(BOUND);
        }
    }
}

fn read(stream: &mut TcpStream) -> (u16, String) {
    let mut bytes = Vec::new();
    match stream.read_to_end(&mut bytes) {
        Ok(_) => {}
        // Whoever sends on after he was refused may lose the end of the answer.
        Err(error) if error.kind() == ErrorKind::ConnectionReset => {}
        Err(error) => panic!("{error}"),
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    let status = text.split(' ').nth(1).and_then(|status| status.parse().ok()).unwrap_or(0);
    (status, text)
}

const REPLY: Outcome = Outcome::Reply { rtt_ms: 80.0 };
const LOSS: Outcome = Outcome::Lost(Lost::Timeout);

#[test]
fn what_the_collector_sees_is_on_the_page_and_told_to_who_looks() {
    let mut served = Served::new(None);
    served.wait_for_state("unknown");
    let mut live = served.connect();
    live.write_all(b"GET /events HTTP/1.1\r\nHost: localhost\r\n\r\n").unwrap();
    served.sees(&[REPLY; 3]);
    served.wait_for_state("up");
    let page = served.ask("/", "").1;
    assert!(page.contains("The link is up") && page.contains("td class=\"up s0\""), "{page}");
    served.sees(&[LOSS; 3]);
    served.wait_for_state("down");
    assert!(served.ask("/", "").1.contains("1 down of 1 links"));
    // At first, and each time that it changed.
    let mut told = String::new();
    while told.matches("event: states").count() < 3 {
        let mut bytes = [0; 1_024];
        let count = live.read(&mut bytes).unwrap();
        assert!(count > 0, "{told}");
        told.push_str(&String::from_utf8_lossy(&bytes[..count]));
    }
    for path in [
        "/link/l",
        "/link/l?range=1y",
        "/link/l?from=0&to=99999999999",
        "/incidents",
        "/graph/l.svg",
        "/assets/page.js",
    ] {
        assert_eq!(served.ask(path, "").0, 200, "{path}");
    }
    for path in
        ["/link/none", "/incident/none", "/nowhere", "/graph/l", "/assets/..%2fsite.rs", "/api/v1/none"]
    {
        assert_eq!(served.ask(path, "").0, 404, "{path}");
    }
}

#[test]
fn the_history_is_there_after_a_restart_and_its_series_count_everything_once() {
    let mut served = Served::new(None);
    served.sees(&[REPLY; 50]);
    served.wait_for_state("up");
    served.stop.cancel();
    let runtime = served.runtime.take().unwrap();
    // What waited to be written is written by whoever ends.
    runtime.shutdown_timeout(BOUND);
    let file = served.folder.path().join(crosswatch_console::history::FILE);
    let begun = std::time::Instant::now();
    let counted = || {
        let history = crosswatch_console::history::History::open(&file).unwrap().unwrap();
        let key = ("l".into(), "a".into(), "p".into());
        let grain = crosswatch_console::history::Grain::Minutes;
        let cells = history.cells(&key, grain, Timestamp::MIN, Timestamp::MAX).unwrap();
        cells.iter().map(|(_, cell)| cell.replies.count()).sum::<u64>()
    };
    while counted() != 50 {
        assert!(begun.elapsed() < BOUND, "{}", counted());
        std::thread::sleep(Duration::from_millis(20));
    }
}

#[test]
fn every_answer_forbids_what_a_browser_could_be_talked_into() {
    let served = Served::new(None);
    for path in ["/", "/nowhere", "/events-not", "/assets/page.css", "/api/v1/state"] {
        let (_, text) = served.ask(path, "");
        let head = text.split("\r\n\r\n").next().unwrap().to_ascii_lowercase();
        for must in [
            "default-src 'none'",
            "x-content-type-options: nosniff",
            "x-frame-options: deny",
            "frame-ancestors 'none'",
        ] {
            assert!(head.contains(must), "{path}: {must} is not in {head}");
        }
        assert!(!head.contains("unsafe"), "{head}");
    }
    // Nothing in a page needs more than that.
    let page = served.ask("/link/l", "").1;
    assert!(!page.contains("style=") && !page.contains("<style") && !page.contains("onclick"), "{page}");
    assert_eq!(
        served.send("POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n").0,
        405
    );
}

#[test]
fn a_name_that_is_made_to_lead_here_is_not_answered() {
    let served = Served::new(None);
    let ask =
        |host: &str| served.send(&format!("GET / HTTP/1.1\r\nHost: {host}\r\nConnection: close\r\n\r\n"));
    let (status, text) = ask("evil.example");
    assert!(status == 421 && text.contains("[page] hosts"), "{text}");
    assert_eq!(ask(&served.address.to_string()).0, 200);
}

#[test]
fn without_the_token_nothing_is_shown_and_with_it_a_cookie_is_given() {
    let served = Served::new(Some(TOKEN));
    for path in ["/", "/link/l", "/events", "/api/v1/state", "/graph/l.svg"] {
        let (status, text) = served.ask(path, "");
        assert_eq!(status, 401, "{path}");
        assert!(!text.contains("/link/l"), "{text}");
    }
    assert_eq!(served.ask("/assets/page.css", "").0, 200, "the form has a style");
    let login = |token: &str| {
        let form = format!("token={token}");
        served.send(&format!(
            "POST /login HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: {}\r\n\r\n{form}",
            form.len()
        ))
    };
    assert_eq!(login("wrong").0, 401);
    let (status, text) = login(TOKEN);
    assert_eq!(status, 303, "{text}");
    let cookie = text.lines().find_map(|line| line.strip_prefix("set-cookie: ")).unwrap();
    assert!(
        cookie.contains("HttpOnly") && cookie.contains("SameSite=Lax") && !cookie.contains(TOKEN),
        "{cookie}"
    );
    let session = cookie.split(';').next().unwrap();
    assert_eq!(served.ask("/", &format!("Cookie: {session}\r\n")).0, 200);
    assert_eq!(served.ask("/api/v1/state", &format!("Authorization: Bearer {TOKEN}\r\n")).0, 200);
    let guesses: Vec<u16> = (0..12).map(|_| login("wrong").0).collect();
    assert!(guesses.ends_with(&[429, 429]), "{guesses:?}");
}

#[test]
fn requests_of_ten_megabytes_slow_clients_and_many_connections_are_bounded_and_others_are_served() {
    let mut served = Served::new(None);
    served.sees(&[REPLY]);
    served.wait_for_state("up");
    // A form, a head and a path that never end.
    for head in [
        "POST /login HTTP/1.1\r\nHost: localhost\r\nContent-Length: 10485760\r\n\r\n",
        "GET / HTTP/1.1\r\nHost: localhost\r\nX: ",
        "GET /",
    ] {
        let mut stream = served.connect();
        stream.write_all(head.as_bytes()).unwrap();
        let chunk = [b'x'; 65_536];
        let refused = (0..160).any(|_| stream.write_all(&chunk).is_err());
        let (status, _) = if refused { (0, String::new()) } else { read(&mut stream) };
        assert!(matches!(status, 0 | 303 | 413 | 414 | 431 | 400), "{head}: {status}");
    }
    // Some hundred who say nothing, half a request, or never read what they are told.
    let idle: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = served.connect();
            match number % 3 {
                0 => {}
                1 => stream.write_all(b"GET / HTTP/1.1\r\nHost: loc").unwrap(),
                _ => stream.write_all(&b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n".repeat(20)).unwrap(),
            }
            stream
        })
        .collect();
    assert_eq!(served.ask("/", "").0, 200);
    served.sees(&[LOSS; 3]);
    served.wait_for_state("down");
    // Beyond the bound they are closed at once, and those before stay.
    let more: Vec<TcpStream> = (0..300).map(|_| served.connect()).collect();
    let closed = more
        .iter()
        .filter(|stream| {
            stream.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
            matches!((&**stream).read(&mut [0]), Ok(0))
        })
        .count();
    assert!(closed > 0, "600 connections and none too many");
    drop((idle, more));
    served.sees(&[LOSS]);
    served.wait_for_state("down");
}
