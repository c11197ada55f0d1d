//! A place for a lab, with a stand-in for the program, and what is asked of its network.

use std::fs;
use std::io::{Read, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixListener;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crosswatch_lab::{AWS, Namespace, Options, Site};
use tempfile::TempDir;

pub(crate) const LAB: &str = env!("CARGO_BIN_EXE_lab");
pub(crate) const A: Site = Site::UsEast1;
pub(crate) const B: Site = Site::EuWest1;

/// How the stand-in is told what to be: `JOB MANNER`.
const STAND_IN: &str = "CROSSWATCH_LAB_STAND_IN";

/// Not a test: with the variable set, this is a stage as far as the lab looks, which answers `/healthz`.
#[test]
fn stand_in() {
    let Ok(told) = std::env::var(STAND_IN) else { return };
    let (job, manner) = told.split_once(' ').unwrap();
    let port = match job {
        "collector" => 9464,
        "publisher" => 9465,
        "reflector" => 9467,
        _ => 9466,
    };
    println!("this is the stand-in's {job}");
    if manner == "fails" {
        eprintln!("it fails as it was told");
        std::process::exit(1);
    }
    if job == "--listen" {
        return stand_in_gate();
    }
    let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
    for connection in listener.incoming() {
        let mut connection = connection.unwrap();
        if manner == "deaf" {
            std::thread::park();
        }
        let _ = connection.read(&mut [0; 1024]);
        let _ = connection.write_all(b"HTTP/1.1 200 OK\r\ncontent-length: 3\r\n\r\nok\n");
    }
}

/// Answers what the lab asks of SQS and SNS, and writes down what comes to the control socket, in the lab's folder.
fn stand_in_gate() {
    let _ = fs::remove_file("gate.sock");
    let control = UnixListener::bind("gate.sock").unwrap();
    std::thread::spawn(move || {
        let mut requests = fs::File::create("gate.requests").unwrap();
        let mut table = "{}".to_owned();
        for connection in control.incoming() {
            let mut connection = connection.unwrap();
            let request = read_request(&mut connection);
            if !request.starts_with("GET ") {
                let (head, body) = request.split_once("\r\n\r\n").unwrap();
                writeln!(requests, "{} {body}", head.split_once(" HTTP").unwrap().0).unwrap();
            }
            if let Some((_, new)) =
                request.split_once("\r\n\r\n").filter(|_| request.starts_with("PUT /tunnels "))
            {
                table = new.to_owned();
            }
            let answer = if request.starts_with("GET /tunnels ") { &*table } else { "{}" };
            write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len())
                .unwrap();
        }
    });
    for connection in TcpListener::bind(AWS).unwrap().incoming() {
        let mut connection = connection.unwrap();
        let request = read_request(&mut connection);
        let name = |after: &str, end: char| Some(request.split_once(after)?.1.split_once(end)?.0.to_owned());
        let answer = if request.contains("AmazonSQS.GetQueueAttributes") {
            r#"{"Attributes":{"QueueArn":"arn:aws:sqs:us-east-1:000000000000:dead"}}"#.to_owned()
        } else if let Some(queue) = name("\"QueueName\":\"", '"') {
            format!("{{\"QueueUrl\":\"http://localhost:1/000000000000/{queue}\"}}")
        } else if let Some(topic) = name("Name=", '&') {
            format!("<R><TopicArn>arn:aws:sns:us-east-1:000000000000:{topic}</TopicArn></R>")
        } else {
            continue;
        };
        write!(connection, "HTTP/1.1 200 OK\r\ncontent-length: {}\r\n\r\n{answer}", answer.len()).unwrap();
    }
}

fn read_request(connection: &mut impl Read) -> String {
    let mut request = String::new();
    let mut buffer = [0; 4096];
    loop {
        let read = connection.read(&mut buffer).unwrap_or_default();
        request += std::str::from_utf8(&buffer[..read]).unwrap();
        let length = request.split_once("content-length: ").and_then(|(_, rest)| rest.split_once("\r"));
        let length = length.map_or(0, |(length, _)| length.parse().unwrap());
        if read == 0 || request.split_once("\r\n\r\n").is_some_and(|(_, body)| body.len() >= length) {
            return request;
        }
    }
}

/// A folder for a lab, and a program beside it that stands in for `crosswatch` in this manner: well, fails or deaf.
pub(crate) struct Place {
    pub(crate) folder: TempDir,
    pub(crate) program: PathBuf,
}

impl Place {
    pub(crate) fn new(manner: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let program = folder.path().join("crosswatch");
        let this = std::env::current_exe().unwrap();
        let script = format!(
            "#!/bin/sh\n{STAND_IN}=\"$1 {manner}\" exec '{}' place::stand_in --exact --nocapture\n",
            this.display()
        );
        fs::write(&program, script).unwrap();
        fs::set_permissions(&program, fs::Permissions::from_mode(0o755)).unwrap();
        Self { folder, program }
    }

    pub(crate) fn lab(&self) -> PathBuf {
        self.folder.path().join("lab")
    }

    pub(crate) fn options(&self) -> Options {
        Options { plain: true, ..self.options_with_tunnels() }
    }

    pub(crate) fn options_with_tunnels(&self) -> Options {
        Options::new(self.lab(), self.program.clone(), LAB.into())
    }

    /// Namespaces, processes, sockets and secrets of the lab in this place.
    pub(crate) fn remains(&self) -> Vec<String> {
        let record = fs::read_to_string(self.lab().join("lab.json")).unwrap();
        let stem = record.split_once("\"stem\": \"").unwrap().1.split_once('"').unwrap().0;
        let names = fs::read_dir("/run/netns").unwrap().map(|entry| entry.unwrap().file_name());
        let mut remains: Vec<_> = names.map(|name| name.into_string().unwrap()).collect();
        remains.retain(|name| name.starts_with(stem));
        let mark = format!("CROSSWATCH_LAB={stem}");
        for process in fs::read_dir("/proc").unwrap().flatten() {
            let environment = fs::read(process.path().join("environ")).unwrap_or_default();
            if environment.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes()) {
                remains.push(process.path().display().to_string());
            }
        }
        let sockets = ["wan.sock", "gate.sock", "ipsec"].map(|name| self.lab().join(name));
        remains.extend(sockets.iter().filter(|socket| socket.exists()).map(|s| s.display().to_string()));
        remains
    }
}

pub(crate) fn require_root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        // Not `eprintln!`: the test runner would swallow it, for the test passes.
        let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: network namespaces need root");
    }
    root
}

pub(crate) struct Pings {
    pub(crate) sent: u32,
    pub(crate) received: u32,
    /// Of the fastest; absent when none came back.
    pub(crate) fastest_ms: Option<f64>,
}

/// Pings from inside a namespace, `every` so many seconds.
pub(crate) fn ping(from: &Namespace, to: Site, count: u32, every: f64) -> Pings {
    let command =
        format!("netns exec {} ping -n -q -W 1 -i {every} -c {count} {}", from.name(), to.address());
    let output = Command::new("ip").args(command.split(' ')).output().unwrap();
    let text = String::from_utf8(output.stdout).unwrap();
    let number = |before: &str, after: &str| {
        let (head, _) = text.split_once(after)?;
        head.rsplit_once(before)?.1.trim().parse::<f64>().ok()
    };
    let sent = number("\n", " packets transmitted").expect(&text);
    let received = number("transmitted,", " received").expect(&text);
    let fastest_ms =
        text.split_once("mdev = ").map(|(_, rest)| rest.split_once('/').unwrap().0.parse().unwrap());
    Pings { sent: sent as u32, received: received as u32, fastest_ms }
}

pub(crate) fn reaches(from: &Namespace, to: SocketAddr) -> bool {
    from.enter(|| TcpStream::connect_timeout(&to, Duration::from_secs(3))).unwrap().is_ok()
}
