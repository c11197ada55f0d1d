//! What an operator relies on: whatever CloudWatch does, it ends up with what was measured, and says so when it can't.

use std::collections::BTreeMap;
use std::future::poll_fn;
use std::path::Path;
use std::pin::pin;
use std::task::Poll;
use std::time::{Duration, SystemTime};

use crosswatch_aws::cloudwatch::CloudWatch;
use crosswatch_host::health::Health;
use crosswatch_journal::Writer;
use crosswatch_queue::{Source, put_back};
use crosswatch_shared::config::topology::{Probe, Topology};
use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::Metric;
use prometheus_client::registry::Registry;
use rusqlite::Connection;

use super::standin::{Fault, StandIn, State};
use crate::FILE;
use crate::config::{Config, Kind};
use crate::query::{Filter, Row, query};
use crate::run::Publisher;

pub(super) const MINUTE: Duration = Duration::from_secs(60);

pub(super) struct Stage {
    publisher: Publisher,
    registry: Registry,
    health: Health,
}

/// Both sites see the probes of these names.
fn topology(folder: &Path, probes: &[String]) -> Topology {
    let mut topology = super::topology();
    topology.queue.path = folder.to_owned();
    let link = &mut topology.links[0];
    let named = |probe: &Probe| {
        let probe = probe.clone();
        probes.iter().map(move |name| Probe { name: name.as_str().into(), ..probe.clone() })
    };
    link.probes = link.probes.iter().flat_map(named).collect();
    topology
}

fn open_with(folder: &Path, client: &CloudWatch, config: Config, probes: &[String]) -> Stage {
    let topology = topology(folder, probes);
    let sites = topology.sites.iter().map(|site| site.name.clone()).collect();
    let source = Source::of_stage(folder.to_owned(), sites, put_back::folder(folder));
    let (mut registry, health) = (Registry::default(), Health::default());
    let part = health.part("publisher");
    let client = Some(client.clone());
    let mut publisher = Publisher::open(
        config,
        &topology,
        source,
        client.map(|client| (client, "publisher".to_owned())),
        &mut registry,
        part,
    )
    .unwrap();
    publisher.hurry();
    Stage { publisher, registry, health }
}

fn config() -> Config {
    Config { kind: Kind::CloudWatch, ..Config::default() }
}

pub(super) fn open(folder: &Path, client: &CloudWatch) -> Stage {
    open_with(folder, client, config(), &["p".to_owned(), "q".to_owned(), "bad".to_owned()])
}

impl Stage {
    pub(super) fn metric(&self, name: &str) -> f64 {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.registry).unwrap();
        let lines = text.lines().filter(|line| line.starts_with(&format!("crosswatch_publisher_{name}")));
        lines.map(|line| line.rsplit(' ').next().unwrap().parse::<f64>().unwrap()).sum()
    }

    /// Steps until it is so.
    pub(super) async fn until(&mut self, mut so: impl FnMut(&Self) -> bool) {
        for _ in 0..10_000 {
            self.publisher.step().await.unwrap();
            if so(self) {
                return;
            }
        }
        panic!("it never came to that");
    }

    /// Steps until so many batches were received, and all that they made was put.
    pub(super) async fn put(&mut self, batches: u32) {
        self.until(|stage| stage.metric("batches") == f64::from(batches)).await;
        self.until(|stage| stage.metric("cloudwatch_owed ") == 0.0).await;
    }
}

/// The start of a minute some minutes back, so that all of it is over.
pub(super) fn begin() -> Timestamp {
    Timestamp::from(SystemTime::now()).floor(MINUTE) - 40 * MINUTE
}

fn reply(at: Timestamp, probe: &str, rtt_ms: f64) -> Observation {
    let body = Body::Probe {
        link: "l".into(),
        probe: probe.into(),
        outcome: Outcome::Reply { rtt_ms },
        detail: None,
    };
    Observation { at, seq: 0, body }
}

/// A minute of a site, with a sample a second of each probe, and the promise that closes it; the delay of that is a
/// datapoint of the minute after.
pub(super) fn minute(site: &str, number: u64, start: Timestamp, probes: &[&str]) -> Batch {
    let samples = (0..60_u32).flat_map(|second| {
        let at = start + Duration::from_secs(second.into());
        let rtt = f64::from(second * 7919 % 61) / 7.0 + number as f64;
        probes.iter().map(move |probe| reply(at, probe, rtt))
    });
    Batch {
        origin: Origin { site: site.into(), collector: "c".into(), boot: "1".into() },
        number,
        through: start + MINUTE + Duration::from_secs(2),
        observations: samples.collect(),
    }
}

pub(super) fn append(folder: &Path, site: &str, batches: &[Batch]) {
    let mut journal = Writer::open(folder, site).unwrap();
    journal.append_all(batches, Timestamp::from(SystemTime::now())).unwrap();
}

pub(super) fn kept(folder: &Path) -> Vec<Row> {
    query(&folder.join(FILE), &Filter::default()).unwrap()
}

fn owed(folder: &Path) -> i64 {
    let db = Connection::open(folder.join(FILE)).unwrap();
    db.query_row("SELECT count(*) FROM owed", [], |row| row.get(0)).unwrap()
}

/// That CloudWatch holds what is kept here, and nothing else.
pub(super) fn assert_holds(state: &State, kept: &[Row]) {
    let held = state.held();
    let mut expected = BTreeMap::new();
    for row in kept {
        let key = (row.metric.clone(), row.dimensions.clone(), row.start.as_micros() / 1_000_000);
        expected.insert(key, row);
    }
    assert_eq!(held.keys().collect::<Vec<_>>(), expected.keys().collect::<Vec<_>>());
    for (key, values) in held {
        let row = expected[&key];
        let exact = [values.minimum(), values.maximum(), values.percentile(50), values.percentile(99)];
        assert_eq!(exact, [row.minimum, row.maximum, row.p50, row.p99], "{key:?}");
        assert!((values.average() - row.average).abs() <= 1e-12 * row.average.abs(), "{key:?}");
    }
}

#[tokio::test]
async fn failing_one_time_in_three_it_has_everything_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    let mut stage = open(folder.path(), &server.client);
    let faults = [Fault::Down, Fault::Throttled, Fault::Reset, Fault::AnswerLost];
    let faults = faults.into_iter().cycle().flat_map(|fault| [Fault::None, Fault::None, fault]);
    server.state.lock().unwrap().faults = faults.take(90).collect();
    for number in 0..20_u32 {
        let start = begin() + number * MINUTE;
        append(folder.path(), "a", &[minute("a", number.into(), start, &["p", "q"])]);
        stage.put(number + 1).await;
    }
    let state = server.state.lock().unwrap();
    assert!(state.requests >= 26, "a third of them failed: {}", state.requests);
    assert_eq!(state.refused, [""; 0]);
    assert_holds(&state, &kept(folder.path()));
    assert_eq!(state.held().len(), 20 * 4 + 19);
}

#[tokio::test]
async fn a_period_of_a_thousand_series_is_one_put() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    let probes: Vec<String> = (0..500).map(|number| format!("probe-{number}")).collect();
    let names: Vec<&str> = probes.iter().map(String::as_str).collect();
    let config = Config { publish: vec![Metric::PingLatency], ..config() };
    let mut stage = open_with(folder.path(), &server.client, config, &probes);
    let start = begin();
    append(folder.path(), "a", &[minute("a", 0, start, &names)]);
    append(folder.path(), "b", &[minute("b", 0, start, &names[1..])]);
    stage.put(2).await;
    let state = server.state.lock().unwrap();
    // 999 of the probes and the heartbeat, which has gone alone at the end of a minute.
    let data: Vec<usize> = state.taken.iter().map(Vec::len).filter(|len| *len > 1).collect();
    assert!(data == [1_000] || (data == [999] && state.heartbeats() > 0), "{data:?}");
    assert_eq!(state.refused, [""; 0]);
    drop(state);
    assert_holds(&server.state.lock().unwrap(), &kept(folder.path()));
}

#[tokio::test]
async fn what_is_put_says_what_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    // The delay is every collector's heartbeat: it needs no asking for.
    let publish = vec![Metric::PingSuccess, Metric::PingLatency, Metric::CollectionSuccess];
    let config = Config { publish, period: Duration::from_secs(30), ..config() };
    let mut stage = open_with(folder.path(), &server.client, config, &["p".to_owned()]);
    let start = begin();
    let mut batch = minute("a", 0, start, &["p"]);
    for source in ["ec2:vpn-status", "icmp"] {
        let body = Body::Collection { source: source.into(), ok: true, error: None, took_ms: 1.0 };
        batch.observations.push(Observation { at: start, seq: 0, body });
    }
    append(folder.path(), "a", &[batch]);
    stage.put(1).await;
    let state = server.state.lock().unwrap();
    let datums: Vec<_> = state.taken.iter().flatten().collect();
    let of = |name: &str| datums.iter().filter(|datum| datum.name == name).copied().collect::<Vec<_>>();
    let latency = of("PingLatency");
    let dimensions = [("Link", "l"), ("Site", "a"), ("Probe", "p")];
    assert_eq!(latency[0].dimensions, dimensions.map(|(name, value)| (name.to_owned(), value.to_owned())));
    let begins = start.as_micros() / 1_000_000;
    assert_eq!(latency.iter().map(|datum| datum.at).collect::<Vec<_>>(), [begins, begins + 30]);
    assert!(latency.iter().all(|datum| datum.unit == "Milliseconds" && datum.resolution == 1));
    assert_eq!(of("PingSuccess")[0].values, [(1.0, 30)]);
    assert_eq!(of("PingSuccess")[0].unit, "None");
    let collections = of("CollectionSuccess");
    assert_eq!(collections.len(), 1, "{collections:?}");
    assert_eq!(collections[0].dimensions[1].1, "ec2:vpn-status");
    let beat = of("Heartbeat")[0];
    assert_eq!((beat.values.as_slice(), &*beat.unit, beat.resolution), (&[(1.0, 1)][..], "Count", 60));
    assert_eq!(beat.dimensions, [("Stage".to_owned(), "publisher".to_owned())]);
    // The embedded store has all of it.
    assert_eq!(kept(folder.path()).iter().filter(|row| row.metric == "CollectionSuccess").count(), 2);
}

#[tokio::test]
async fn one_bad_datum_is_found_recorded_and_left_while_the_rest_goes() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    server.state.lock().unwrap().bad = Some("bad".to_owned());
    let mut stage = open(folder.path(), &server.client);
    let batches: Vec<_> = (0..9_u32)
        .map(|number| minute("a", number.into(), begin() + number * MINUTE, &["p", "bad", "q"]))
        .collect();
    append(folder.path(), "a", &batches[..8]);
    stage.put(8).await;
    let rows = kept(folder.path());
    let good: Vec<Row> =
        rows.iter().filter(|row| row.dimensions.iter().all(|(_, name)| name != "bad")).cloned().collect();
    assert_eq!((rows.len(), good.len()), (8 * 6 + 7, 8 * 4 + 7));
    assert_holds(&server.state.lock().unwrap(), &good);
    assert_eq!(stage.metric("cloudwatch_refused"), 16.0);
    let db = Connection::open(folder.path().join(FILE)).unwrap();
    let sql = "SELECT count(*), min(reason) FROM refused JOIN series ON series = series.id
               WHERE dimensions LIKE '%\"bad\"%'";
    let refused: (i64, String) = db.query_row(sql, [], |row| Ok((row.get(0)?, row.get(1)?))).unwrap();
    assert_eq!(refused, (16, "InvalidParameterValue: said the stand-in".to_owned()));
    // The next period goes as if nothing had been, and the refused ones do not come again.
    let refusals = server.state.lock().unwrap().refused.len();
    server.state.lock().unwrap().bad = None;
    append(folder.path(), "a", &batches[8..]);
    stage.put(9).await;
    assert_eq!(server.state.lock().unwrap().refused.len(), refusals);
    assert_eq!(server.state.lock().unwrap().held().len(), 9 * 4 + 8 + 2);
    assert!(stage.health.failures().is_empty(), "{:?}", stage.health.failures());
}

#[tokio::test]
async fn a_datum_at_which_the_service_breaks_down_blocks_no_other() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    server.state.lock().unwrap().breaks = Some("bad".to_owned());
    let mut stage = open(folder.path(), &server.client);
    append(folder.path(), "a", &[minute("a", 0, begin(), &["p", "bad", "q"])]);
    stage.until(|stage| stage.metric("cloudwatch_set_aside") == 2.0).await;
    append(folder.path(), "a", &[minute("a", 1, begin() + MINUTE, &["p", "q"])]);
    stage.until(|stage| stage.metric("batches") == 2.0).await;
    stage.until(|stage| stage.metric("cloudwatch_owed ") == 2.0).await;
    let rows = kept(folder.path());
    let good: Vec<Row> =
        rows.into_iter().filter(|row| row.dimensions.iter().all(|(_, name)| name != "bad")).collect();
    assert_eq!(good.len(), 9);
    assert_holds(&server.state.lock().unwrap(), &good);
    assert_eq!(stage.metric("cloudwatch_refused"), 0.0, "what may pass is not given up");
}

#[tokio::test]
async fn while_nothing_is_taken_no_batch_is_received_and_nothing_given_up() {
    for fault in [Fault::Denied, Fault::Refused] {
        let folder = tempfile::tempdir().unwrap();
        let server = StandIn::start().await;
        server.state.lock().unwrap().always = Some(fault);
        let mut stage = open(folder.path(), &server.client);
        append(folder.path(), "a", &[minute("a", 0, begin(), &["p"])]);
        stage
            .until(|stage| !stage.health.failures().is_empty() && stage.metric("cloudwatch_failures") > 3.0)
            .await;
        let [why] = &stage.health.failures()[..] else { panic!() };
        assert!(why.contains("CloudWatch does not take what is put (cloudwatch:PutMetricData: "), "{why}");
        assert!(
            why.contains("2 datapoints are owed to it") && why.contains("batches wait in the queue"),
            "{why}"
        );
        append(folder.path(), "a", &[minute("a", 1, begin() + MINUTE, &["p"])]);
        stage.publisher.step().await.unwrap();
        assert_eq!(stage.metric("batches"), 1.0, "the second one waits in the queue");

        server.state.lock().unwrap().always = None;
        stage.put(2).await;
        assert!(stage.health.failures().is_empty());
        assert_eq!(stage.metric("cloudwatch_refused"), 0.0);
        assert_holds(&server.state.lock().unwrap(), &kept(folder.path()));
    }
}

#[tokio::test]
async fn what_is_too_old_or_too_far_ahead_is_counted_and_not_tried() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    let mut stage = open(folder.path(), &server.client);
    let start = begin();
    let times = [start - 15 * 24 * 60 * MINUTE, start, start + 4 * 60 * MINUTE];
    let batches: Vec<_> =
        (0..).zip(times).map(|(number, start)| minute("a", number, start, &["p"])).collect();
    append(folder.path(), "a", &batches);
    stage.put(3).await;
    let state = server.state.lock().unwrap();
    assert_eq!(state.refused, [""; 0]);
    assert_eq!(stage.metric("cloudwatch_out_of_time"), 5.0);
    assert_eq!((state.held().len(), kept(folder.path()).len()), (3, 8));
}

#[tokio::test]
async fn a_remainder_that_comes_while_its_window_is_under_way_is_put_too() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    let mut stage = open(folder.path(), &server.client);
    let start = begin();
    append(folder.path(), "a", &[minute("a", 0, start, &["p"])]);
    stage.publisher.step().await.unwrap();
    // Late, for the same minute, and received in the step in which the first put begins.
    let late = Batch { through: start + 3 * MINUTE, ..minute("a", 1, start, &["p"]) };
    append(folder.path(), "a", &[late]);
    stage.publisher.step().await.unwrap();
    stage.until(|stage| stage.metric("late_datapoints") == 2.0).await;
    stage.put(2).await;
    let state = server.state.lock().unwrap();
    let latency = state.held().into_iter().find(|((name, ..), _)| name == "PingLatency").unwrap();
    assert_eq!(latency.1.count(), 120);
    assert_holds(&state, &kept(folder.path()));
}

#[tokio::test]
async fn killed_at_any_moment_it_puts_the_same_in_the_end() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    // However far it comes, it dies then; an answer may be lost before.
    for number in 0..24_u32 {
        append(folder.path(), "a", &[minute("a", number.into(), begin() + number * MINUTE, &["p", "q"])]);
        let mut stage = open(folder.path(), &server.client);
        if number % 3 == 0 {
            server.state.lock().unwrap().faults.push_back(Fault::AnswerLost);
        }
        let mut left = number % 12;
        while left > 0 {
            let mut step = pin!(stage.publisher.step());
            let ended = poll_fn(|context| match step.as_mut().poll(context) {
                Poll::Ready(result) => Poll::Ready(Some(result)),
                Poll::Pending if left == 0 => Poll::Ready(None),
                Poll::Pending => {
                    left -= 1;
                    Poll::Pending
                }
            });
            match ended.await {
                Some(result) => result.unwrap(),
                None => break,
            }
            left = left.saturating_sub(1);
        }
    }
    server.state.lock().unwrap().faults.clear();
    let mut stage = open(folder.path(), &server.client);
    stage.until(|_| kept(folder.path()).len() == 24 * 4 + 23 && owed(folder.path()) == 0).await;
    assert_holds(&server.state.lock().unwrap(), &kept(folder.path()));
}

#[tokio::test]
async fn asked_to_stop_it_lets_a_put_end_and_records_it() {
    let folder = tempfile::tempdir().unwrap();
    let server = StandIn::start().await;
    let mut stage = open(folder.path(), &server.client);
    append(folder.path(), "a", &[minute("a", 0, begin(), &["p"])]);
    // It was taken, and the answer is on its way.
    let taken = async {
        while server.state.lock().unwrap().held().is_empty() {
            tokio::task::yield_now().await;
        }
    };
    let steps = async {
        loop {
            stage.publisher.step().await.unwrap();
        }
    };
    tokio::select! {
        biased;
        () = taken => {}
        () = steps => {}
    }
    let stop = tokio_util::sync::CancellationToken::new();
    stop.cancel();
    stage.publisher.run(stop).await.unwrap();
    let taken = server.state.lock().unwrap().held().len();
    assert_eq!((taken, owed(folder.path())), (2, 0));
}

/// A local AWS: the program of the environment's MINISTACK, or that of the PATH.
struct Ministack {
    process: std::process::Child,
    endpoint: String,
}

impl Ministack {
    async fn start() -> Self {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        drop(listener);
        let program = std::env::var("MINISTACK").unwrap_or_else(|_| "ministack".to_owned());
        let process = std::process::Command::new(&program)
            .env("GATEWAY_PORT", port.to_string())
            .stdout(std::process::Stdio::null())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{program}: {error}; install ministack, or name it in MINISTACK"));
        let endpoint = format!("http://127.0.0.1:{port}");
        let mut ministack = Self { process, endpoint };
        while tokio::net::TcpStream::connect(("127.0.0.1", port)).await.is_err() {
            assert_eq!(ministack.process.try_wait().unwrap(), None, "it ended");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        ministack
    }

    /// What it holds of a metric since the given time: count, sum, least and greatest, by the old query protocol.
    async fn statistics(&self, metric: &str, from: Timestamp) -> String {
        use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
        let body = format!(
            "Action=GetMetricStatistics&Version=2010-08-01&Namespace=Crosswatch&MetricName={metric}&StartTime={from}\
             &EndTime={}&Period=60&Statistics.member.1=SampleCount&Statistics.member.2=Sum\
             &Statistics.member.3=Minimum&Statistics.member.4=Maximum&Dimensions.member.1.Name=Link\
             &Dimensions.member.1.Value=l&Dimensions.member.2.Name=Site&Dimensions.member.2.Value=a\
             &Dimensions.member.3.Name=Probe&Dimensions.member.3.Value=p",
            from + MINUTE
        );
        let request = format!(
            "POST / HTTP/1.1\r\nhost: monitoring.us-east-1.amazonaws.com\r\nconnection: close\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20260101/us-east-1/monitoring/aws4_request\r\n\
             content-type: application/x-www-form-urlencoded\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        let mut stream =
            tokio::net::TcpStream::connect(self.endpoint.strip_prefix("http://").unwrap()).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).await.unwrap();
        answer
    }
}

impl Drop for Ministack {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

#[tokio::test]
async fn an_emulator_that_is_not_ours_understands_what_is_put() {
    let ministack = Ministack::start().await;
    let session = crosswatch_aws::Session::emulated(&ministack.endpoint, "us-east-1");
    let folder = tempfile::tempdir().unwrap();
    // Enough to be compressed.
    let probes: Vec<String> =
        (0..100).map(|number| format!("probe-{number}")).chain(["p".to_owned()]).collect();
    let names: Vec<&str> = probes.iter().map(String::as_str).collect();
    let mut stage = open_with(folder.path(), &CloudWatch::new(&session), config(), &probes);
    append(folder.path(), "a", &[minute("a", 0, begin(), &names)]);
    stage.put(1).await;
    assert_eq!(stage.metric("cloudwatch_failures"), 0.0);
    let kept = kept(folder.path());
    let row = kept.iter().find(|row| row.metric == "PingLatency" && row.dimensions[2].1 == "p").unwrap();
    let answer = ministack.statistics("PingLatency", begin()).await;
    let number = |name: &str| -> f64 {
        let (_, after) = answer.split_once(&format!("<{name}>")).unwrap_or_else(|| panic!("{answer}"));
        after.split_once('<').unwrap().0.parse().unwrap()
    };
    assert_eq!(number("SampleCount"), 60.0);
    assert!((number("Sum") - row.sum).abs() < 1e-9);
    assert_eq!((number("Minimum"), number("Maximum")), (row.minimum, row.maximum));
}
