//! Tunnels polled by the real SDK from a stand-in for EC2, which takes the one request that EC2's Query protocol allows
//! here and refuses any other.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod ec2;

use std::collections::HashMap;
use std::env;
use std::io::Read;
use std::net::{Ipv4Addr, TcpListener};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime};

use crosswatch_aws::Session;
use crosswatch_collector::journal::SiteJournal;
use crosswatch_collector::metrics::Metrics;
use crosswatch_collector::{Collector, Config, Error, Journal, JournalError, Pruned};
use crosswatch_host::health::Health;
use crosswatch_host::telemetry;
use crosswatch_journal::Reader;
use crosswatch_shared::config::topology::{
    Host, Link, Probe, Queue, QueueKind, Site, Target, Topology, Vpn, VpnSelect,
};
use crosswatch_shared::observation::{Batch, Body, Name, Observation, Tunnel};
use crosswatch_shared::time::Timestamp;
use ec2::{CANARY, Ec2, connection, telemetry as tunnel};
use prometheus_client::registry::Registry;
use tokio::sync::mpsc::{UnboundedReceiver, UnboundedSender, unbounded_channel};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

/// A bound against hanging, not a measurement.
const BOUND: Duration = Duration::from_secs(60);
const SELDOM: Duration = Duration::from_secs(3600);
/// Oftener than a config may ask for, so that a test need not wait.
const OFTEN: Duration = Duration::from_millis(100);

struct Told(UnboundedSender<Batch>);

impl Journal for Told {
    fn append(&mut self, batch: &Batch) -> Result<(), JournalError> {
        Ok(self.0.send(batch.clone())?)
    }
    fn newest_boot(&self) -> Result<Option<Name>, JournalError> {
        Ok(None)
    }
    fn prune(&mut self, _: Timestamp) -> Result<Pruned, JournalError> {
        Ok(Pruned::default())
    }
}

struct Running {
    since: Timestamp,
    batches: UnboundedReceiver<Batch>,
    stop: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    async fn start(ec2: &Ec2, vpns: Vec<Vpn>, probes: Vec<Probe>) -> Self {
        let since = SystemTime::now().into();
        let (tell, batches) = unbounded_channel();
        let topology = topology(vpns, probes);
        let session = Session::at(&ec2.url(), "us-east-1", "test", "test");
        let collector = open(&topology, Box::new(Told(tell))).with_session(session);
        let stop = CancellationToken::new();
        Self { since, batches, task: tokio::spawn(collector.run(stop.clone())), stop }
    }

    /// What is observed of VPN connections up to and with the next outcome of a poll: the tunnels by id, and the fault.
    async fn poll(&mut self) -> (HashMap<String, Vec<Tunnel>>, Option<String>) {
        let mut seen = HashMap::new();
        loop {
            let batch = tokio::time::timeout(BOUND, self.batches.recv()).await.unwrap().unwrap();
            for Observation { at, body, .. } in batch.observations {
                // However soon the first answer came.
                assert!(at >= self.since, "{at} is before the start");
                match body {
                    Body::Tunnels { link, vpn, tunnels } => {
                        assert_eq!(&*link, "a-b");
                        seen.insert(vpn.to_string(), tunnels);
                    }
                    Body::Collection { source, ok, error, .. } if &*source == "ec2:vpn-status" => {
                        assert_eq!(ok, error.is_none());
                        // A later poll in the same batch is left out: what is waited for comes again.
                        return (seen, error);
                    }
                    _ => {}
                }
            }
        }
    }

    /// Polls until one has this fault.
    async fn until(&mut self, fault: Option<&str>) -> HashMap<String, Vec<Tunnel>> {
        let mut last = None;
        for _ in 0..100 {
            let (seen, told) = self.poll().await;
            if told.as_deref() == fault {
                return seen;
            }
            last = told;
        }
        panic!("{fault:?} was not told, but {last:?}")
    }

    async fn stop(self) {
        self.stop.cancel();
        tokio::time::timeout(BOUND, self.task).await.unwrap().unwrap().unwrap();
    }
}

fn open(topology: &Topology, journal: Box<dyn Journal>) -> Collector {
    let config = Config {
        site: "a".into(),
        collector: Some("c".into()),
        topology,
        news_over: HashMap::new(),
        waiting: 10_000,
    };
    let metrics = Metrics::register(&mut Registry::default());
    Collector::open(config, journal, &metrics, Health::default().part("collector a")).unwrap()
}

fn topology(vpns: Vec<Vpn>, probes: Vec<Probe>) -> Topology {
    Topology {
        sites: vec![Site { name: "a".into(), region: Some("us-east-1".into()), role: None, topic: None }],
        links: vec![Link {
            name: "a-b".into(),
            between: vec!["a".into()],
            vpns,
            appliances: Vec::new(),
            probes,
        }],
        queue: Queue {
            path: "data".into(),
            kind: QueueKind::Embedded,
            keep: Duration::from_secs(60),
            max_bytes: 1 << 30,
        },
        listen: None,
    }
}

fn vpn(select: VpnSelect, every: Duration) -> Vpn {
    Vpn { site: "a".into(), select, every, expect_up: 2, region: None, role: None }
}

fn id(id: &str) -> VpnSelect {
    VpnSelect::Id(id.into())
}

fn tag(value: &str) -> VpnSelect {
    VpnSelect::Tag("Name".to_owned(), value.to_owned())
}

fn two_up() -> String {
    tunnel("52.1.2.3", "UP", "4") + &tunnel("52.1.2.4", "UP", "4")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_field_arrives_and_one_odd_connection_hides_no_other() {
    let ec2 = Ec2::start();
    ec2.set(vec![
        connection("vpn-1", "available", "one", &two_up()),
        connection("vpn-2", "available", "wild*", &tunnel("52.9.9.9", "DOWN", "0")),
        connection("vpn-3", "available", "wildcard", &two_up()),
        connection("vpn-4", "available", "four", ""),
    ]);
    let ids = ["vpn-1", "vpn-4", "vpn-404"].map(|name| vpn(id(name), SELDOM));
    let vpns = ids.into_iter().chain([vpn(tag("wild*"), SELDOM)]).collect();
    let mut running = Running::start(&ec2, vpns, vec![]).await;
    let (seen, fault) = running.poll().await;
    assert_eq!(fault.as_deref(), Some("vpn-4: has no telemetry; vpn-404: does not exist"));
    assert_eq!(seen.len(), 3, "the tag's star stands for itself: {seen:?}");
    assert_eq!(seen["vpn-4"], []);
    assert_eq!(
        seen["vpn-2"],
        [Tunnel {
            outside_ip: "52.9.9.9".to_owned(),
            up: false,
            accepted_routes: 0,
            since: Some(Timestamp::from_micros(1_763_625_600_123_000)),
            message: "2 BGP ROUTES".to_owned(),
        }]
    );
    assert_eq!(seen["vpn-1"].iter().filter(|tunnel| tunnel.up && tunnel.accepted_routes == 4).count(), 2);
    assert_eq!(ec2.asked(), 2, "one call for the ids, one for the tag");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_field_that_cannot_be_read_costs_its_connection_alone() {
    let ec2 = Ec2::start();
    let broken = || tunnel("52.1.1.1", "UP", "many");
    ec2.set(vec![
        connection("vpn-1", "available", "one", &broken()),
        connection("vpn-2", "available", "two", &two_up()),
        connection("vpn-3", "available", "x", &two_up()),
    ]);
    let vpns = vec![vpn(id("vpn-1"), OFTEN), vpn(id("vpn-2"), OFTEN), vpn(tag("x"), OFTEN)];
    let mut running = Running::start(&ec2, vpns, vec![]).await;
    let seen = running.until(Some("vpn-1: BadAnswer")).await;
    let mut names: Vec<_> = seen.keys().collect();
    names.sort();
    assert_eq!(names, ["vpn-2", "vpn-3"]);
    // With a tag it is the same, once it is known what has it.
    ec2.set(vec![
        connection("vpn-1", "available", "x", &broken()),
        connection("vpn-2", "available", "two", &two_up()),
        connection("vpn-3", "available", "x", &two_up()),
    ]);
    let seen = running.until(Some("vpn-1: BadAnswer; Name=x: BadAnswer")).await;
    assert!(seen.contains_key("vpn-3") && seen.contains_key("vpn-2"), "{seen:?}");
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_poll_that_fails_says_with_which_code_and_the_next_one_is_whole_again() {
    let ec2 = Ec2::start();
    ec2.set(vec![connection("vpn-1", "available", "one", &two_up())]);
    ec2.fail(403, &ec2::error("UnauthorizedOperation"));
    let mut running = Running::start(&ec2, vec![vpn(id("vpn-1"), OFTEN)], vec![]).await;
    running.until(Some("UnauthorizedOperation")).await;
    ec2.fail(503, &ec2::error("RequestLimitExceeded"));
    running.until(Some("RequestLimitExceeded")).await;
    ec2.fail(200, "<html>a proxy's page</html>");
    running.until(Some("vpn-1: BadAnswer")).await;
    ec2.heal();
    let seen = running.until(None).await;
    assert_eq!(seen["vpn-1"].len(), 2);
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_vanishes_is_told_and_what_appears_is_picked_up() {
    let ec2 = Ec2::start();
    let one = connection("vpn-1", "available", "x", &two_up());
    ec2.set(vec![one.clone()]);
    let mut running = Running::start(&ec2, vec![vpn(tag("x"), OFTEN), vpn(id("vpn-9"), OFTEN)], vec![]).await;
    let seen = running.until(Some("vpn-9: does not exist")).await;
    assert_eq!(seen.len(), 1);
    ec2.set(vec![one, connection("vpn-9", "available", "y", &two_up())]);
    assert_eq!(running.until(None).await.len(), 2);
    ec2.set(vec![connection("vpn-9", "deleted", "y", &two_up())]);
    let gone =
        "Name=x: no VPN connection has this tag; vpn-1: is gone, which Name=x had found; vpn-9: is deleted";
    assert!(running.until(Some(gone)).await.is_empty());
    running.stop().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_probe_that_fails_asks_at_once() {
    let ec2 = Ec2::start();
    ec2.set(vec![connection("vpn-1", "available", "one", &two_up())]);
    let target = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap();
    let port = target.local_addr().unwrap().port();
    let probe = Probe {
        name: "p".into(),
        from: "a".into(),
        target: Target::Tcp(Host::Address(Ipv4Addr::LOCALHOST.into()), port),
        every: Duration::from_millis(200),
        timeout: Duration::from_millis(100),
        burst: 1,
        size: None,
    };
    let mut running = Running::start(&ec2, vec![vpn(id("vpn-1"), SELDOM)], vec![probe]).await;
    running.until(None).await;
    drop(target);
    // An hour would pass without the probe.
    running.until(None).await;
    assert_eq!(ec2.asked(), 2);
    running.stop().await;
}

/// The keys of the answers must be nowhere: not in a log, even with everything logged that can be asked for, nor in what is
/// observed, nor in a file. The collector runs in a process of its own, as the environment alone tells the SDK where
/// AWS is, and to log bodies.
#[test]
fn the_pre_shared_keys_go_nowhere() {
    const FOLDER: &str = "CROSSWATCH_TEST_FOLDER";
    if let Some(folder) = env::var_os(FOLDER) {
        return tell_everything(folder.as_ref());
    }
    let ec2 = Ec2::start();
    ec2.set(vec![connection("vpn-1", "available", "x", &two_up())]);
    // In turn: a good answer, an unreadable one, a torn one, an error with the keys around it.
    let broken = connection("vpn-1", "available", "x", &tunnel("52.1.1.1", "UP", "many"));
    let torn = ec2::answer(std::slice::from_ref(&broken)).replace("</vpnConnectionSet>", "");
    let misplaced = format!("<acceptedRouteCount>{CANARY}</acceptedRouteCount>");
    let misplaced = ec2::answer(std::slice::from_ref(&broken))
        .replace("<acceptedRouteCount>many</acceptedRouteCount>", &misplaced);
    let refused = ec2::error("UnauthorizedOperation")
        .replace("<RequestID>", &format!("<psk>{CANARY}</psk><RequestID>"));
    ec2.then(&[(200, &torn), (200, &misplaced), (403, &refused), (500, CANARY)]);

    let folder = tempfile::tempdir().unwrap();
    let child = Command::new(env::current_exe().unwrap())
        .args(["--exact", "the_pre_shared_keys_go_nowhere", "--nocapture"])
        .env(FOLDER, folder.path())
        .envs([("AWS_ENDPOINT_URL", ec2.url()), ("AWS_REGION", "us-east-1".to_owned())])
        .envs([("AWS_ACCESS_KEY_ID", "AKIDTEST"), ("AWS_SECRET_ACCESS_KEY", "hidden-secret")])
        .envs([("LOG_SENSITIVE_BODIES", "true"), ("LOG_SIGNABLE_BODY", "true")])
        .envs([("CROSSWATCH_LOG", "trace,aws_smithy_runtime=trace"), ("RUST_LOG", "trace")])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let output = child.wait_with_output().unwrap();
    let (told, logged) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{told}{logged}");
    assert!(told.contains("tunnels") && told.contains("UnauthorizedOperation"), "all was seen: {told}");
    assert!(logged.contains("everything is logged"), "{logged}");
    assert!(ec2.asked() > 4, "{}", ec2.asked());
    for secret in [CANARY, "hidden-secret"] {
        assert!(!told.contains(secret) && !logged.contains(secret), "{secret}\n{told}{logged}");
        let mut files = vec![folder.path().to_owned()];
        while let Some(path) = files.pop() {
            if path.is_dir() {
                files.extend(path.read_dir().unwrap().map(|entry| entry.unwrap().path()));
                continue;
            }
            let mut bytes = Vec::new();
            std::fs::File::open(&path).unwrap().read_to_end(&mut bytes).unwrap();
            let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
            assert!(!found, "{secret} is in {}", path.display());
        }
    }
}

/// Runs a collector on the environment's AWS until it has polled eight times, and prints all that it observed.
fn tell_everything(folder: &std::path::Path) {
    telemetry::logs().unwrap();
    tracing::trace!(target: "another_crate", "everything is logged");
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.block_on(async {
        let nobody = Box::new(|_: &str| Vec::new());
        let journal = SiteJournal::open(folder, "a", BOUND, 1 << 30, nobody).unwrap();
        let topology = topology(vec![vpn(id("vpn-1"), OFTEN), vpn(tag("x"), OFTEN)], vec![]);
        let collector = open(&topology, Box::new(journal));
        let stop = CancellationToken::new();
        let task = tokio::spawn(collector.run(stop.clone()));
        let mut reader = loop {
            // It is made when the first batch goes.
            match Reader::open(&crosswatch_journal::file(folder, "a")) {
                Ok(reader) => break reader,
                Err(_) => tokio::time::sleep(OFTEN).await,
            }
        };
        let polls = async {
            loop {
                let entries = reader.after(0, 1_000, 1 << 20).unwrap();
                let text =
                    |entry: &crosswatch_journal::Entry| String::from_utf8(entry.payload.clone()).unwrap();
                let told: String = entries.iter().map(text).collect();
                if told.matches("ec2:vpn-status").count() >= 8 {
                    return told;
                }
                tokio::time::sleep(OFTEN).await;
            }
        };
        let told = tokio::time::timeout(BOUND, polls).await.unwrap();
        stop.cancel();
        task.await.unwrap().unwrap();
        println!("{told}");
    });
}
