//! `crosswatch alarms` against a CloudWatch on this machine: `ministack`, found by the variable `MINISTACK` or in the
//! path. Before it stands a relay that counts the requests and refuses those that a test wants refused, which the
//! emulator can't.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::env;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value;

const CONFIG: &str = r#"
[site.us-east-1]
region = "us-east-1"
topic = "arn:aws:sns:us-east-1:123456789012:site"
[site.eu-west-1]
region = "eu-west-1"
topic = "arn:aws:sns:eu-west-1:123456789012:site"
[[link]]
name = "use1-euw1"
between = ["us-east-1", "eu-west-1"]
vpn = [{ site = "us-east-1", id = "vpn-1" }, { site = "eu-west-1", id = "vpn-2" }]
probe = [{ from = "us-east-1", icmp = "10.1.0.10" }]
[metrics]
kind = "cloudwatch"
region = "us-east-1"
alarm_topic = "arn:aws:sns:us-east-1:123456789012:pages"
[[rule]]
name = "ping-failed"
metric = "ping_ok"
below = 1
notify = ["oncall"]
[[rule]]
name = "slow"
metric = "latency_ms"
above = 200
period = "60s"
statistic = "p95"
breach = "2 of 3"
notify = ["oncall"]
[notify.oncall]
console = true
"#;

/// Of it: two rules' alarms, four heartbeats, two composites here, and one on a VPN connection in each region.
const ALL: usize = 9;

/// CloudWatch, with the relay before it; ended when dropped.
struct Cloud {
    child: Child,
    port: u16,
    relay: Arc<Relay>,
    folder: tempfile::TempDir,
}

#[derive(Default)]
struct Relay {
    upstream: Mutex<u16>,
    /// The operation of each request.
    seen: Mutex<Vec<String>>,
    /// Requests that hold this text get this status instead of an answer, so often.
    refuse: Mutex<Option<(&'static str, u16, usize)>>,
}

impl Cloud {
    fn start() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let upstream = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
        let program = env::var_os("MINISTACK").unwrap_or_else(|| "ministack".into());
        let mut child = Command::new(&program)
            .env("GATEWAY_PORT", upstream.to_string())
            .current_dir(&folder)
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap_or_else(|error| panic!("{}: {error}; set MINISTACK to the program", program.display()));
        let begun = Instant::now();
        while TcpStream::connect(("127.0.0.1", upstream)).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "ministack ended");
            assert!(begun.elapsed() < Duration::from_secs(60), "ministack does not listen");
            thread::park_timeout(Duration::from_millis(20));
        }
        let relay = Arc::new(Relay { upstream: Mutex::new(upstream), ..Relay::default() });
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let serving = Arc::clone(&relay);
        thread::spawn(move || {
            for stream in listener.incoming() {
                let relay = Arc::clone(&serving);
                thread::spawn(move || relay.serve(stream.unwrap()));
            }
        });
        fs_write(folder.path(), CONFIG);
        Self { child, port, relay, folder }
    }

    fn configure(&self, from: &str, to: &str) {
        assert!(CONFIG.contains(from), "{from}");
        fs_write(self.folder.path(), &CONFIG.replace(from, to));
    }

    fn crosswatch(&self, job: &str) -> Output {
        self.run(&["alarms", job])
    }

    fn run(&self, words: &[&str]) -> Output {
        Command::new(env!("CARGO_BIN_EXE_crosswatch"))
            .args(words)
            .current_dir(&self.folder)
            .env("AWS_ENDPOINT_URL", format!("http://127.0.0.1:{}", self.port))
            .env("AWS_REGION", "us-east-1")
            .env("AWS_ACCESS_KEY_ID", "test")
            .env("AWS_SECRET_ACCESS_KEY", "test")
            .env("AWS_EC2_METADATA_DISABLED", "true")
            .env("CROSSWATCH_LOG", "off")
            .output()
            .unwrap()
    }

    /// What it printed, once it succeeded.
    fn done(&self, job: &str) -> String {
        let output = self.crosswatch(job);
        assert!(output.status.success(), "{job}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// Asks CloudWatch as the AWS CLI does with JSON; gives the answer.
    fn ask(&self, region: &str, operation: &str, body: &str) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", *self.relay.upstream.lock().unwrap())).unwrap();
        write!(
            stream,
            "POST / HTTP/1.1\r\nhost: monitoring.{region}.amazonaws.com\r\nconnection: close\r\n\
             content-type: application/x-amz-json-1.0\r\nx-amz-target: GraniteServiceVersion20100801.{operation}\r\n\
             authorization: AWS4-HMAC-SHA256 Credential=test/20261122/{region}/monitoring/aws4_request, \
             SignedHeaders=host, Signature=0\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        )
        .unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        assert!(answer.starts_with("HTTP/1.1 200"), "{answer}");
        let (_, body) = answer.split_once("\r\n\r\n").unwrap();
        let body = body.find('{').map_or("{}", |start| &body[start..=body.rfind('}').unwrap()]);
        serde_json::from_str(body).unwrap_or_else(|error| panic!("{error}: {answer}"))
    }

    fn names(&self, region: &str) -> Vec<String> {
        let answer = self.ask(
            region,
            "DescribeAlarms",
            r#"{"AlarmTypes":["MetricAlarm","CompositeAlarm"],"MaxRecords":100}"#,
        );
        let list = |key: &str| answer[key].as_array().unwrap().clone();
        let alarms = list("MetricAlarms").into_iter().chain(list("CompositeAlarms"));
        alarms.map(|alarm| alarm["AlarmName"].as_str().unwrap().to_owned()).collect()
    }

    fn count(&self) -> usize {
        self.names("us-east-1").len() + self.names("eu-west-1").len()
    }

    fn refuse(&self, text: &'static str, status: u16, times: usize) {
        *self.relay.refuse.lock().unwrap() = Some((text, status, times));
    }
}

impl Drop for Cloud {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn fs_write(folder: &Path, config: &str) {
    std::fs::write(folder.join("crosswatch.toml"), config).unwrap();
}

impl Relay {
    /// Request after request of a connection, each over a connection of its own to the emulator.
    fn serve(&self, mut client: TcpStream) {
        let mut reader = BufReader::new(client.try_clone().unwrap());
        while let Some((head, body)) = request(&mut reader) {
            let operation = head.lines().next().unwrap_or_default().split(['/', ' ']);
            let operation =
                operation.skip_while(|part| *part != "operation").nth(1).unwrap_or_default().to_owned();
            self.seen.lock().unwrap().push(operation.clone());
            let all = format!("{operation} {}", String::from_utf8_lossy(&body));
            let mut refuse = self.refuse.lock().unwrap();
            if let Some((text, status, times)) = refuse.as_mut()
                && *times > 0
                && all.contains(*text)
            {
                *times -= 1;
                let answer = format!(
                    "HTTP/1.1 {status} No\r\nsmithy-protocol: rpc-v2-cbor\r\ncontent-length: 0\r\n\r\n"
                );
                client.write_all(answer.as_bytes()).unwrap();
                continue;
            }
            drop(refuse);
            let mut upstream = TcpStream::connect(("127.0.0.1", *self.upstream.lock().unwrap())).unwrap();
            let head = head.replacen("\r\n", "\r\nconnection: close\r\n", 1);
            upstream.write_all(head.as_bytes()).unwrap();
            upstream.write_all(&body).unwrap();
            // The emulator's answer ends with its connection, and so does this one.
            let mut answer = Vec::new();
            upstream.read_to_end(&mut answer).unwrap();
            client.write_all(&answer).unwrap();
            return;
        }
    }
}

/// A request's head with its empty line, and its body; none at the end.
fn request(reader: &mut BufReader<TcpStream>) -> Option<(String, Vec<u8>)> {
    let mut head = String::new();
    while !head.ends_with("\r\n\r\n") {
        if reader.read_line(&mut head).ok()? == 0 {
            return None;
        }
    }
    let lower = head.to_ascii_lowercase();
    let length = lower.lines().find_map(|line| line.strip_prefix("content-length: ")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    reader.read_exact(&mut body).ok()?;
    Some((head, body))
}

#[test]
fn what_is_applied_is_there_and_only_what_differs_is_changed_and_only_ours_removed() {
    let cloud = Cloud::start();
    // Not ours: one in our place without our tag, one of another deployment, one that looks alike.
    for name in ["Crosswatch rule old on x", "Crosswatch2 rule old on x"] {
        let body = format!(
            r#"{{"AlarmName":"{name}","Namespace":"N","MetricName":"M","Statistic":"Average","Period":60,"EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"LessThanThreshold","Tags":[{{"Key":"crosswatch","Value":"Crosswatch2"}}]}}"#
        );
        cloud.ask("us-east-1", "PutMetricAlarm", &body);
    }

    let planned = cloud.done("plan");
    assert!(planned.contains("  + use1-euw1 broken or slow (Crosswatch)\n"), "{planned}");
    assert!(planned.contains("  + Crosswatch VPN use1-euw1/vpn-2: all tunnels down\n"), "{planned}");
    assert!(planned.ends_with("9 to create, 0 to change, 0 to delete, 0 as they should be\n"), "{planned}");
    assert_eq!(cloud.count(), 2, "a plan changes nothing");

    cloud.relay.seen.lock().unwrap().clear();
    let begun = Instant::now();
    let applied = cloud.done("apply");
    let requests = u32::try_from(cloud.relay.seen.lock().unwrap().len()).unwrap();
    assert!(
        begun.elapsed() * 3 >= Duration::from_secs(1) * (requests - 1),
        "three requests a second at most"
    );
    assert!(applied.ends_with("9 done, 0 failed\n"), "{applied}");
    assert_eq!(cloud.count(), ALL + 2);
    assert_eq!(cloud.names("eu-west-1"), ["Crosswatch VPN use1-euw1/vpn-2: all tunnels down"]);
    assert!(cloud.done("plan").ends_with("0 to create, 0 to change, 0 to delete, 9 as they should be\n"));

    cloud.configure("above = 200", "above = 250");
    let changed = cloud.done("apply");
    let expected = "us-east-1\n  ~ Crosswatch rule slow on use1-euw1/us-east-1/icmp:10.1.0.10\n      \
                    breaches: above 200 → above 250\n      \
                    description: Crosswatch: latency_ms above 200 (rule slow) → Crosswatch: latency_ms above 250 (rule slow)\n\
                    note: rule ping-failed: 1 of 1 single observations are judged as every observation of 60 s, so that it pages later\n\
                    0 to create, 1 to change, 0 to delete, 8 as they should be\n1 done, 0 failed\n";
    assert_eq!(changed, expected);

    // A rule that is renamed takes its alarm with it, out of the composite that names it.
    cloud.configure("name = \"slow\"", "name = \"high\"");
    let renamed = cloud.done("apply");
    assert!(
        renamed.contains("1 to create, 1 to change, 1 to delete, 7 as they should be\n3 done, 0 failed\n"),
        "{renamed}"
    );

    cloud.configure(
        "region = \"us-east-1\"\nalarm_topic",
        "region = \"us-east-1\"\nalarms = \"off\"\nalarm_topic",
    );
    assert!(cloud.done("plan").ends_with("0 to create, 0 to change, 9 to delete, 0 as they should be\n"));
    let destroyed = cloud.done("destroy");
    assert!(destroyed.ends_with("9 done, 0 failed\n"), "{destroyed}");
    assert_eq!(cloud.names("us-east-1"), ["Crosswatch rule old on x", "Crosswatch2 rule old on x"]);
    assert_eq!(cloud.count(), 2);

    let seen = cloud.relay.seen.lock().unwrap();
    let puts = seen.iter().filter(|operation| operation.starts_with("Put")).count();
    assert_eq!(puts, 9 + 1 + 2, "only what differs is put");
}

#[test]
fn what_failed_is_told_the_others_go_on_and_the_next_run_does_the_rest() {
    let cloud = Cloud::start();
    cloud.refuse("rule slow on", 403, usize::MAX);
    let output = cloud.crosswatch("apply");
    assert_eq!(output.status.code(), Some(1));
    let told = String::from_utf8(output.stderr).unwrap();
    assert!(
        told.contains(
            "us-east-1: Crosswatch rule slow on use1-euw1/us-east-1/icmp:10.1.0.10: cloudwatch:PutMetricAlarm"
        ),
        "{told}"
    );
    assert!(told.contains("2 alarms are not as they should be"), "{told}");
    assert_eq!(cloud.count(), ALL - 2, "without it, and without the composite that names it");

    // Asked for fewer requests, more often than the SDK tries by itself, it waits and does it.
    cloud.refuse("PutCompositeAlarm", 429, 4);
    let rest = cloud.done("apply");
    assert!(
        rest.contains("2 to create, 0 to change, 0 to delete, 7 as they should be\n2 done, 0 failed\n"),
        "{rest}"
    );
    assert_eq!(cloud.relay.refuse.lock().unwrap().unwrap().2, 0);
    assert_eq!(cloud.count(), ALL);
}

#[test]
fn an_alarm_in_our_place_without_our_tag_stays_as_it_is() {
    let cloud = Cloud::start();
    let foreign = r#"{"AlarmName":"Crosswatch alerter silent","Namespace":"N","MetricName":"M","Statistic":"Average","Period":60,"EvaluationPeriods":1,"Threshold":1,"ComparisonOperator":"LessThanThreshold"}"#;
    cloud.ask("us-east-1", "PutMetricAlarm", foreign);
    let output = cloud.crosswatch("apply");
    assert_eq!(output.status.code(), Some(1));
    let shown = String::from_utf8(output.stdout).unwrap();
    assert!(shown.contains("  ! Crosswatch alerter silent\n"), "{shown}");
    let there = cloud.ask("us-east-1", "DescribeAlarms", r#"{"AlarmNames":["Crosswatch alerter silent"]}"#);
    assert_eq!(there["MetricAlarms"][0]["Namespace"], "N");
    assert_eq!(cloud.count(), ALL);
}

#[test]
fn a_topic_elsewhere_is_a_config_that_is_wrong() {
    let cloud = Cloud::start();
    cloud.configure("sns:us-east-1:123456789012:pages", "sns:eu-west-1:123456789012:pages");
    let output = cloud.crosswatch("plan");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(cloud.relay.seen.lock().unwrap().is_empty());
}

/// The emulator knows no mute rules: what it is asked is told by the relay. `crosswatch-gate` has what AWS takes of them.
#[test]
fn a_silence_mutes_its_alarms_where_it_is_asked_to_and_says_when_it_could_not() {
    let cloud = Cloud::start();
    let silence = |words: &[&str]| {
        let all: Vec<&str> =
            ["silence", "add", "--for", "2h", "--why", "swap"].iter().chain(words).copied().collect();
        cloud.run(&all)
    };
    let seen =
        |operation: &str| cloud.relay.seen.lock().unwrap().iter().filter(|of| *of == operation).count();
    let plain = silence(&["--link", "use1-euw1"]);
    assert!(plain.status.success() && seen("PutAlarmMuteRule") == 0, "{plain:?}");
    assert!(String::from_utf8_lossy(&plain.stderr).contains("--alarms mutes them, too"), "{plain:?}");

    // What CloudWatch cannot be told is refused before anything is written.
    let file = cloud.folder.path().join("silences.toml");
    let before = std::fs::read_to_string(&file).unwrap();
    let refused = silence(&["--rule", "slow", "--alarms"]);
    assert_eq!(refused.status.code(), Some(1), "{refused:?}");
    assert!(String::from_utf8_lossy(&refused.stderr).contains("leave --alarms out"), "{refused:?}");
    assert_eq!(std::fs::read_to_string(&file).unwrap(), before);

    cloud.refuse("PutAlarmMuteRule", 403, 1);
    let failed = silence(&["--link", "use1-euw1", "--alarms"]);
    assert_eq!((failed.status.code(), seen("PutAlarmMuteRule")), (Some(1), 1), "{failed:?}");
    let told = String::from_utf8_lossy(&failed.stderr).into_owned();
    assert!(told.contains("Crosswatch silence ") && told.contains("alarms page"), "{told}");
    let id = String::from_utf8(failed.stdout).unwrap().trim().to_owned();
    assert!(std::fs::read_to_string(&file).unwrap().contains(&id), "the alerters keep quiet");
    cloud.refuse("DeleteAlarmMuteRule", 403, 9);
    let ended = cloud.run(&["silence", "end", &id, "--alarms"]);
    assert_eq!(ended.status.code(), Some(1), "{ended:?}");
    assert!(seen("DeleteAlarmMuteRule") >= 1);
}
