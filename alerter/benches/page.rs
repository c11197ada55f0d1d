//! From the alerter's receive of the deciding observation to the notifier's request, with 10,000 subjects; and all of them failing at
//! once. The whole alerter, its file on this disk, and a webhook on loopback.
//!
//! `cargo bench -p crosswatch-alerter --bench page -- [pages] [folder]`
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, missing_docs)]

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_alerter::Alerter;
use crosswatch_alerter::config::Config;
use crosswatch_host::clock;
use crosswatch_host::health::Health;
use crosswatch_queue::{Backlog, Message, Page, Pending, Queue, Receipt, Source};
use crosswatch_shared::config::document;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Lost, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::encode_batch;
use prometheus_client::registry::Registry;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

const LINKS: usize = 1_000;
const PROBES: usize = 10;
const BATCH: usize = 5_000;

/// When a page was received and when it was settled.
#[derive(Default)]
struct Times {
    received: Option<Instant>,
    settled: Option<Instant>,
}

/// A queue that is given its pages, and notes when each was taken and done with.
struct Fed {
    pages: mpsc::UnboundedReceiver<Vec<String>>,
    times: Arc<Mutex<Times>>,
    given: u64,
}

impl Queue for Fed {
    fn receive(&mut self, _: usize, wait: Duration) -> Pending<'_, Page> {
        Box::pin(async move {
            let Ok(Some(payloads)) = tokio::time::timeout(wait, self.pages.recv()).await else {
                return Ok(Page { empty: true, ..Page::default() });
            };
            self.times.lock().unwrap().received = Some(Instant::now());
            let messages = payloads.into_iter().map(|payload| {
                self.given += 1;
                let receipt = Receipt::Handle { queue: "fed".into(), handle: self.given.to_string() };
                Message { receipt, sent: clock::now(), payload: payload.into_bytes(), unreadable: None }
            });
            Ok(Page { messages: messages.collect(), empty: true, ..Page::default() })
        })
    }

    fn commit<'a>(&'a mut self, _: &'a [Receipt]) -> Pending<'a, ()> {
        self.times.lock().unwrap().settled = Some(Instant::now());
        Box::pin(async { Ok(()) })
    }

    fn extend<'a>(&'a mut self, _: &'a [Receipt], _: Duration) -> Pending<'a, ()> {
        Box::pin(async { Ok(()) })
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        Box::pin(async { Ok(Backlog::default()) })
    }

    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }
}

/// A webhook: when each request came, and for what link.
fn webhook() -> (String, std::sync::mpsc::Receiver<(Instant, String)>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}/", listener.local_addr().unwrap());
    let (sender, requests) = std::sync::mpsc::channel();
    thread::spawn(move || {
        for stream in listener.incoming() {
            let (stream, sender) = (stream.unwrap(), sender.clone());
            thread::spawn(move || serve(stream, &sender));
        }
    });
    (url, requests)
}

fn serve(mut stream: TcpStream, sender: &std::sync::mpsc::Sender<(Instant, String)>) {
    let mut read = Vec::new();
    let mut chunk = [0; 16_384];
    let mut began = None;
    while let Ok(count @ 1..) = stream.read(&mut chunk) {
        let began_at = *began.get_or_insert_with(Instant::now);
        read.extend_from_slice(&chunk[..count]);
        let text = String::from_utf8_lossy(&read);
        let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
        let length = head.lines().find_map(|line| line.strip_prefix("content-length: "));
        if body.len() < length.map_or(0, |length| length.parse().unwrap()) {
            continue;
        }
        let sent = sender.send((began_at, body.to_owned()));
        read.clear();
        began = None;
        if sent.is_err() || stream.write_all(b"HTTP/1.1 204 OK\r\n\r\n").is_err() {
            return;
        }
    }
}

/// An alerter over a queue that is fed, with nothing seen yet.
struct Fixture {
    pages: mpsc::UnboundedSender<Vec<String>>,
    times: Arc<Mutex<Times>>,
    stop: CancellationToken,
    running: Option<thread::JoinHandle<()>>,
    number: u64,
    seq: u64,
    at: Timestamp,
}

impl Fixture {
    fn new(folder: &Path, receivers: &str) -> Self {
        let mut text = String::from("[site.a]\n");
        for link in 0..LINKS {
            let probes: Vec<String> = (0..PROBES)
                .map(|probe| format!("{{ from = \"a\", name = \"p{probe}\", icmp = \"10.0.0.{probe}\" }}"))
                .collect();
            text += &format!(
                "[[link]]\nname = \"link-{link:04}\"\nbetween = [\"a\"]\nprobe = [{}]\n",
                probes.join(",")
            );
        }
        text += "[[rule]]\nname = \"ping-failed\"\nmetric = \"ping_ok\"\nbelow = 1\nbreach = \"3 of 3\"\nclear = 30\n";
        text += "notify = [\"oncall\"]\n";
        text += "[[rule]]\nname = \"latency-high\"\nmetric = \"latency_ms\"\nabove = 200\nbreach = \"10 of 15\"\n";
        text += receivers;
        let read = document::read(Path::new("crosswatch.toml"), text.as_bytes(), |root| {
            let topology = Topology::take(root)?;
            let config = Config::take(root, Some(&topology))?;
            Some((topology, config))
        });
        let (mut topology, config) = read.unwrap_or_else(|problems| panic!("{problems}"));
        topology.queue.path = folder.to_owned();
        let (pages, fed) = mpsc::unbounded_channel();
        let times = Arc::new(Mutex::new(Times::default()));
        let queue_times = times.clone();
        let source = Source::new(move |_| Ok(Fed { pages: fed, times: queue_times, given: 0 }));
        let part = Health::default().part("alerter");
        let file = folder.join("alerter.db");
        let alerter =
            Alerter::open(None, config, &topology, &file, source, &mut Registry::default(), part).unwrap();
        let stop = CancellationToken::new();
        let stopped = stop.clone();
        let running = thread::spawn(move || {
            let runtime =
                tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
            runtime.block_on(alerter.run(stopped)).unwrap();
        });
        Self { pages, times, stop, running: Some(running), number: 0, seq: 0, at: clock::now() }
    }

    /// One outcome of each of these probes, a second after the last; gives when its page was received and settled.
    fn page(&mut self, probes: impl Iterator<Item = usize>, lost: bool) -> (Instant, Instant) {
        self.at = self.at + Duration::from_secs(1);
        let mut observations: Vec<Observation> = probes
            .map(|probe| {
                self.seq += 1;
                let outcome =
                    if lost { Outcome::Lost(Lost::Timeout) } else { Outcome::Reply { rtt_ms: 80.5 } };
                let (link, probe) = (probe / PROBES, probe % PROBES);
                let (link, probe) = (format!("link-{link:04}").into(), format!("p{probe}").into());
                let body = Body::Probe { link, probe, outcome, detail: None };
                Observation { at: self.at, seq: self.seq, body }
            })
            .collect();
        let mut payloads = Vec::new();
        while !observations.is_empty() {
            let rest = observations.split_off(observations.len().min(BATCH));
            let batch = Batch {
                origin: Origin { site: "a".into(), collector: "c".into(), boot: "b".into() },
                number: self.number,
                through: self.at,
                observations: std::mem::replace(&mut observations, rest),
            };
            self.number += 1;
            payloads.push(encode_batch(&batch));
        }
        *self.times.lock().unwrap() = Times::default();
        self.pages.send(payloads).unwrap();
        loop {
            if let Times { received: Some(received), settled: Some(settled) } = *self.times.lock().unwrap() {
                return (received, settled);
            }
            thread::sleep(Duration::from_micros(50));
        }
    }
}

impl Drop for Fixture {
    fn drop(&mut self) {
        self.stop.cancel();
        if let Some(running) = self.running.take() {
            let _ = running.join();
        }
    }
}

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let pages: usize = args.first().map_or(200, |pages| pages.parse().unwrap());
    let folder = args.get(1).map_or_else(tempfile::tempdir, tempfile::tempdir_in).unwrap();
    one_page(&folder.path().join("one"), pages.min(LINKS));
    all_at_once(&folder.path().join("all"));
}

/// The processor's time of all threads.
fn processor() -> Duration {
    let tasks = std::fs::read_dir("/proc/self/task").unwrap();
    let of =
        |task: std::fs::DirEntry| std::fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
    let nanos = tasks.map(|task| of(task.unwrap()).split(' ').next().map_or(0, |of| of.parse().unwrap_or(0)));
    Duration::from_nanos(nanos.sum())
}

/// One probe's third loss at a time, each of another link.
fn one_page(folder: &Path, pages: usize) {
    std::fs::create_dir(folder).unwrap();
    let (url, requests) = webhook();
    let mut fixture = Fixture::new(folder, &format!("[notify.oncall]\nwebhook = \"{url}\"\n"));
    fixture.page(0..LINKS * PROBES, false);
    let (mut to_request, mut to_settled) = (Vec::new(), Vec::new());
    for page in 0..pages {
        if page % 20 == 0 {
            fixture.page((page * PROBES..LINKS * PROBES).filter(|probe| probe % PROBES > 0), false);
        }
        let probe = page * PROBES;
        for _ in 0..2 {
            fixture.page([probe].into_iter(), true);
        }
        let (received, settled) = fixture.page([probe].into_iter(), true);
        let (request, body) = requests.recv_timeout(Duration::from_secs(60)).expect("no page came");
        assert!(body.contains(&format!("\"link\":\"link-{page:04}\"")), "{body}");
        to_request.push(request.duration_since(received).as_secs_f64() * 1e3);
        to_settled.push(settled.duration_since(received).as_secs_f64() * 1e3);
    }
    println!(
        "{} subjects, {pages} pages one by one, ms from the receive of the deciding observation",
        LINKS * PROBES
    );
    for (what, mut times) in
        [("to the ledger's commit", to_settled), ("to the notifier's request", to_request)]
    {
        times.sort_by(f64::total_cmp);
        let rank = |percent: usize| times[(times.len() * percent).div_ceil(100).max(1) - 1];
        println!("  {what}: p50 {:.2}, p90 {:.2}, p99 {:.2}", rank(50), rank(90), rank(99));
    }
}

/// All probes' third losses in one page.
fn all_at_once(folder: &Path) {
    std::fs::create_dir(folder).unwrap();
    let ((url, requests), (limited_url, limited)) = (webhook(), webhook());
    let receivers = format!(
        "[notify.oncall]\nwebhook = \"{url}\"\n[notify.limited]\nwebhook = \"{limited_url}\"\nat_most = \"10 per 1h\"\n\
         [[rule]]\nname = \"ping-failed-too\"\nmetric = \"ping_ok\"\nbelow = 1\nbreach = \"3 of 3\"\nnotify = [\"limited\"]\n"
    );
    let mut fixture = Fixture::new(folder, &receivers);
    let all = || 0..LINKS * PROBES;
    fixture.page(all(), false);
    fixture.page(all(), true);
    fixture.page(all(), true);
    let before = processor();
    let (received, settled) = fixture.page(all(), true);
    let taken = processor().saturating_sub(before);
    let last = (0..LINKS)
        .map(|_| requests.recv_timeout(Duration::from_secs(120)).expect("a page is missing").0)
        .max();
    thread::sleep(Duration::from_secs(8));
    let more = requests.try_iter().count();
    let told = limited.try_iter().count();
    println!("all {} subjects of {LINKS} links at once", LINKS * PROBES);
    println!(
        "  evaluated and written after {:.0} ms, {} ms of processor with what goes on beside it",
        settled.duration_since(received).as_secs_f64() * 1e3,
        taken.as_millis()
    );
    println!(
        "  {LINKS} pages, {more} more, the last requested after {:.0} ms",
        last.unwrap().duration_since(received).as_secs_f64() * 1e3
    );
    println!("  a receiver with at_most = 10 per 1h got {told}, a digest among them");
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let peak = status.lines().find(|line| line.starts_with("VmHWM")).unwrap_or_default();
    println!(
        "  resident at most, this bench and its webhooks included: {}",
        peak.trim_start_matches("VmHWM:").trim()
    );
    assert_eq!(more, 0, "one page a link");
    assert!(told <= 11, "{told}");
}
