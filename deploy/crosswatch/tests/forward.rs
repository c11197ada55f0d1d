//! Stages by themselves, whose queues are those of a local AWS: what a collector sees arrives there, nothing is lost when the queues
//! are away, and an alerter's page shows what came. Wants `ministack`: named by `MINISTACK`, or found by `PATH`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use crosswatch_shared::observation::{Batch, Body, Outcome};
use crosswatch_shared::wire::{Names, decode_batch};
use crosswatch_sqs::body::decode;
use serde_json::{Value, json};

const LONG: Duration = Duration::from_secs(60);

/// A process that does not outlive its test.
struct Process(Child);

impl Drop for Process {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A local AWS, and the way to it.
struct Aws {
    port: u16,
    _process: Process,
    /// Where the way begins.
    front: u16,
    cut: Arc<AtomicBool>,
}

impl Aws {
    fn start() -> Self {
        // Free a moment ago; nobody else takes it by chance so soon.
        let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = std::env::var_os("MINISTACK").unwrap_or_else(|| "ministack".into());
        let child = Command::new(&program)
            .env("GATEWAY_PORT", port.to_string())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; name it by MINISTACK", program.display()));
        let process = Process(child);
        until("the local AWS answers", || TcpStream::connect(("127.0.0.1", port)).ok());
        let (front, cut) = way(port);
        Self { port, _process: process, front, cut }
    }

    fn cut(&self, cut: bool) {
        self.cut.store(cut, Ordering::Relaxed);
    }

    fn call(&self, operation: &str, body: &Value) -> Value {
        let headers = [
            ("X-Amz-Target", format!("AmazonSQS.{operation}")),
            ("Content-Type", "application/x-amz-json-1.0".to_owned()),
        ];
        let answer = http(self.port, "POST", "/", &headers, &body.to_string());
        serde_json::from_str(&answer).unwrap_or_else(|_| panic!("{operation}: {answer}"))
    }

    fn queue(&self, name: &str) -> String {
        self.call("CreateQueue", &json!({ "QueueName": name }))["QueueUrl"].as_str().unwrap().to_owned()
    }

    /// The batches in a queue now, which are gone from it then.
    fn receive(&self, url: &str) -> Vec<Batch> {
        let answer = self.call("ReceiveMessage", &json!({ "QueueUrl": url, "MaxNumberOfMessages": 10 }));
        let messages = answer["Messages"].as_array().cloned().unwrap_or_default();
        let batches = messages.iter().map(|message| {
            let handle = &message["ReceiptHandle"];
            self.call("DeleteMessage", &json!({ "QueueUrl": url, "ReceiptHandle": handle }));
            let wire = decode(message["Body"].as_str().unwrap()).unwrap();
            decode_batch(&wire, &mut Names::default()).unwrap().batch
        });
        batches.collect()
    }
}

/// A port that leads to this one until it is cut: then what goes over it is lost, and nobody gets on.
fn way(to: u16) -> (u16, Arc<AtomicBool>) {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let front = listener.local_addr().unwrap().port();
    let cut = Arc::new(AtomicBool::new(false));
    let is_cut = cut.clone();
    std::thread::spawn(move || {
        for near in listener.incoming().map_while(Result::ok) {
            let Some(far) =
                TcpStream::connect(("127.0.0.1", to)).ok().filter(|_| !is_cut.load(Ordering::Relaxed))
            else {
                continue;
            };
            for (mut from, mut to) in
                [(near.try_clone().unwrap(), far.try_clone().unwrap()), (far.try_clone().unwrap(), near)]
            {
                let is_cut = is_cut.clone();
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 16];
                    while let Ok(length @ 1..) = from.read(&mut buffer)
                        && !is_cut.load(Ordering::Relaxed)
                        && to.write_all(&buffer[..length]).is_ok()
                    {}
                    let _ = (from.shutdown(Shutdown::Both), to.shutdown(Shutdown::Both));
                });
            }
        }
    });
    (front, cut)
}

fn http(port: u16, method: &str, path: &str, headers: &[(&str, String)], body: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).unwrap();
    let headers: String = headers.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    let length = body.len();
    write!(
        stream,
        "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n{headers}Content-Length: {length}\r\n\r\n{body}"
    )
    .unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer.split_once("\r\n\r\n").unwrap().1.to_owned()
}

fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let begun = Instant::now();
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(begun.elapsed() < LONG, "waited for a minute: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// A collector of the site `here`, and the port on which it listens.
fn collector(config: &Path, aws: &Aws) -> (Process, u16) {
    stage(&["collector", "--site", "here"], "listening on", config, aws)
}

/// A stage, and the port that it prints after these words.
fn stage(job: &[&str], words: &str, config: &Path, aws: &Aws) -> (Process, u16) {
    let mut child = Command::new(env!("CARGO_BIN_EXE_crosswatch"))
        .args(job)
        .arg("--config")
        .arg(config)
        .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", aws.front))
        .envs([("AWS_REGION", "us-east-1"), ("AWS_ACCESS_KEY_ID", "test"), ("AWS_SECRET_ACCESS_KEY", "test")])
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let mut lines = BufReader::new(child.stderr.take().unwrap()).lines();
    let process = Process(child);
    let start = format!("{words} http://127.0.0.1:");
    let port = lines
        .by_ref()
        .map(Result::unwrap)
        .inspect(|line| println!("{line}"))
        .find_map(|line| line.strip_prefix(&start).map(|port| port.parse().unwrap()))
        .expect("it listens");
    std::thread::spawn(move || lines.map_while(Result::ok).for_each(|line| println!("{line}")));
    (process, port)
}

fn config(folder: &Path, target: u16, publisher: &str, alerter: &str) -> PathBuf {
    let file = folder.join("crosswatch.toml");
    let text = format!(
        r#"
[site.here]
[[link]]
name = "l"
between = ["here"]
probe = [{{ from = "here", tcp = "127.0.0.1:{target}", every = "200ms", timeout = "100ms" }}]
[queue]
kind = "sqs"
publisher = "{publisher}"
alerter = "{alerter}"
[http]
listen = "127.0.0.1:0"
"#
    );
    std::fs::write(&file, text).unwrap();
    file
}

#[test]
fn what_a_collector_sees_arrives_in_both_queues_and_nothing_is_lost_while_they_are_away() {
    let aws = Aws::start();
    let (publisher, alerter) = (aws.queue("publisher"), aws.queue("alerter"));
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let folder = tempfile::tempdir().unwrap();
    let config = config(folder.path(), target.local_addr().unwrap().port(), &publisher, &alerter);
    let (first, port) = collector(&config, &aws);
    until("ready", || http(port, "GET", "/readyz", &[], "").contains("ready\n").then_some(()));

    // The target goes: losses are news, and come long before the hold of 10 s.
    drop(target);
    let mut batches = BTreeMap::new();
    let mut take = |aws: &Aws| {
        for batch in aws.receive(&alerter) {
            let key = (batch.origin.boot.clone(), batch.number);
            let known = batches.entry(key).or_insert_with(|| batch.clone());
            assert_eq!(*known, batch, "another batch under the same number");
        }
        let all = batches.values().flat_map(|batch: &Batch| &batch.observations);
        all.filter(|one| matches!(&one.body, Body::Probe { outcome: Outcome::Lost(_), .. })).count()
    };
    until("losses in the alerter's queue", || (take(&aws) >= 3).then_some(()));
    assert!(!aws.receive(&publisher).is_empty(), "the publisher's first batch");

    // The queues are away, and meanwhile the collector is killed.
    aws.cut(true);
    until("the queue's failure", || {
        http(port, "GET", "/readyz", &[], "")
            .contains("forward alerter here: the queue takes nothing")
            .then_some(())
    });
    drop(first);
    aws.cut(false);
    let (_second, _) = collector(&config, &aws);
    let before = take(&aws);
    until("what was seen while the queues were away, and after", || (take(&aws) > before + 20).then_some(()));
    let boots: Vec<_> = batches.keys().map(|(boot, _)| boot.clone()).collect();
    assert_ne!(boots.first(), boots.last(), "two lives");
    for boot in [boots.first().unwrap(), boots.last().unwrap()] {
        let of_boot = || batches.iter().filter(|((of, _), _)| of == boot).map(|(_, batch)| batch);
        let numbers: Vec<_> = of_boot().map(|batch| batch.number).collect();
        assert_eq!(numbers, (0..numbers.len() as u64).collect::<Vec<_>>());
        let seqs: Vec<_> = of_boot().flat_map(|batch| &batch.observations).map(|one| one.seq).collect();
        assert_eq!(seqs, (0..seqs.len() as u64).collect::<Vec<_>>(), "nothing is missing or twice");
    }
}

#[test]
fn the_page_of_an_alerter_over_sqs_shows_and_explains_what_it_received() {
    let aws = Aws::start();
    let (publisher, alerter) = (aws.queue("publisher"), aws.queue("alerter"));
    let target = TcpListener::bind("127.0.0.1:0").unwrap();
    let [near, far] = [(); 2].map(|()| tempfile::tempdir().unwrap());
    let config_of = |folder: &Path| {
        let file = config(folder, target.local_addr().unwrap().port(), &publisher, &alerter);
        let rule = "[[rule]]\nname = \"lost\"\nmetric = \"ping_ok\"\nbelow = 1\nbreach = \"3 of 3\"\nnotify = [\"me\"]\n\
                    [notify.me]\nconsole = true\n[page]\nlisten = \"127.0.0.1:0\"\n";
        let text = std::fs::read_to_string(&file).unwrap();
        std::fs::write(&file, text + rule).unwrap();
        file
    };
    // The alerter is elsewhere: it has nothing but the queue.
    let (_collector, _) = collector(&config_of(near.path()), &aws);
    let (_alerter, port) = stage(&["alerter"], "status page on", &config_of(far.path()), &aws);
    let get = |path: &str| http(port, "GET", path, &[], "");
    let json = |path: &str| serde_json::from_str::<Value>(&get(path)).unwrap_or_default();
    let state = || json("/api/v1/state");
    until("the link is up", || (state()["links"][0]["state"] == "up").then_some(()));
    drop(target);
    let id = until("an incident is open", || {
        let state = state();
        let id = state["judged"]["incidents"][0]["id"].as_str()?.to_owned();
        (state["links"][0]["state"] == "down").then_some(id)
    });
    let told = until("somebody was told", || {
        let told = json(&format!("/api/v1/incidents/{id}"))["told"][0].clone();
        (told["standing"] == "accepted").then_some(told)
    });
    assert_eq!((&told["receiver"], &told["channel"]), (&json!("me"), &json!("console")));
    let now = json("/api/v1/explain?of=l");
    assert_eq!(now["subjects"][0]["judged"][0]["state"], "firing", "{now}");
    // What is past is judged anew from the alerter's own history.
    let fired = now["incidents"][0]["opened_at"].as_str().unwrap();
    let then = json(&format!("/api/v1/explain?of=l&at={fired}"));
    assert_eq!(then["basis"]["by"], "history", "{then}");
    assert_eq!(then["subjects"][0]["judged"][0]["state"], "firing", "{then}");
    let seen = until("what was seen is kept", || {
        let seen = json("/api/v1/series?link=l&range=1h")[0]["points"][0].clone();
        (!seen.is_null()).then_some(seen)
    });
    assert!(seen["replies"].as_u64() > Some(0), "{seen}");
    until("what was captured is kept", || get("/link/l?range=1h").contains("class=\"bundle\"").then_some(()));
    let page = get("/link/l?range=1h");
    assert!(page.contains("lost: FIRING since"), "{page}");
}
