//! The function of `lambda.yaml`: the collector run once an invocation, by `bootstrap`, against a stand-in for Lambda's runtime API.

use std::env;
use std::fs;
use std::io::Write as _;
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::mpsc::{self, Receiver, Sender};

use crosswatch_lab::{Cloud, Lab, Options};
use crosswatch_tests::deployment::{BOUND, json_lines, wait_until};
use crosswatch_tests::http::read_message;
use crosswatch_tests::process::{Process, laboratory, program};
use crosswatch_tests::root::require_root;
use serde_json::{Value, json};

const SITE: &str = "\n[site.tunnels]\nregion = \"us-east-1\"\n\n[[link]]\nname = \"polled\"\nbetween = [\"us-east-1\", \"tunnels\"]\n\
     vpn = [{ site = \"tunnels\", id = \"vpn-0a1b2c3d4e5f60718\", every = \"60s\" }]\n";

/// Lambda, as far as a runtime sees it: gives out invocations when it is told to, and hears what came of each.
struct Runtime {
    address: SocketAddr,
    invoke: Sender<&'static str>,
    answers: Receiver<(String, String)>,
}

impl Runtime {
    /// To be called where the runtime is to reach it.
    fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let (invoke, invocations) = mpsc::channel::<&'static str>();
        let (answered, answers) = mpsc::channel();
        // Ends with the invocations, that is with the test.
        std::thread::spawn(move || {
            for stream in listener.incoming() {
                let mut stream = stream.unwrap();
                let message = read_message(&stream).unwrap();
                let path = message.start.split(' ').nth(1).unwrap().to_owned();
                let path = path
                    .strip_prefix("/2018-06-01/runtime/invocation/")
                    .expect("the API's version")
                    .to_owned();
                if path == "next" {
                    let Ok(id) = invocations.recv() else { return };
                    let deadline = "4102444800000";
                    let head = format!(
                        "Lambda-Runtime-Aws-Request-Id: {id}\r\nLambda-Runtime-Deadline-Ms: {deadline}"
                    );
                    write!(stream, "HTTP/1.1 200 OK\r\n{head}\r\ncontent-length: 2\r\n\r\n{{}}").unwrap();
                } else {
                    write!(stream, "HTTP/1.1 202 Accepted\r\ncontent-length: 0\r\n\r\n").unwrap();
                    answered.send((path, message.body)).unwrap();
                }
            }
        });
        Self { address, invoke, answers }
    }

    /// Invokes the function; what it answers, as JSON, and how.
    fn invoke(&self, id: &'static str) -> (String, Value) {
        self.invoke.send(id).unwrap();
        let (path, body) = self.answers.recv_timeout(BOUND).unwrap();
        let how = path.strip_prefix(&format!("{id}/")).expect("the invocation's own id").to_owned();
        (how, serde_json::from_str(&body).unwrap_or_else(|error| panic!("{error}: {body}")))
    }
}

#[test]
fn the_function_polls_and_forwards_each_time_and_what_a_queue_did_not_take_comes_with_the_next() {
    let test = "the_function_polls_and_forwards_each_time_and_what_a_queue_did_not_take_comes_with_the_next";
    if !require_root(test) {
        return;
    }
    let [lab_program, gate] = laboratory().clone();
    let ministack = PathBuf::from(env::var_os("MINISTACK").expect("MINISTACK, as tests/run sets it"));
    let folder = tempfile::tempdir().unwrap();
    let lab = Lab::up(Options {
        plain: true,
        cloud: Cloud::Gate { gate, ministack },
        change_config: Box::new(|text| text + SITE),
        ..Options::new(folder.path().join("lab"), program().to_owned(), lab_program)
    });
    let lab = lab.unwrap_or_else(|error| panic!("{error}"));
    let control = lab.control().unwrap();

    // The package's folder, which is not written to.
    let package = folder.path().join("package");
    fs::create_dir(&package).unwrap();
    // Its `path` is that of the instances, which a function cannot make: here a place where nobody can.
    let config = fs::read_to_string(lab.config_path()).unwrap();
    let own = config.lines().find(|line| line.starts_with("path = ")).expect("[queue] path");
    let config = config.replace(own, "path = \"/proc/lib/crosswatch\"");
    fs::write(package.join("crosswatch.toml"), config).unwrap();
    std::os::unix::fs::symlink(program(), package.join("crosswatch")).unwrap();
    let runtime = lab.centre().enter(Runtime::start).unwrap();
    let bootstrap = crosswatch_tests::tools::repository().join("deploy/aws/bootstrap");
    let mut command = Command::new(bootstrap);
    command.envs(Lab::environment()).env("AWS_ACCESS_KEY_ID", "collector-once");
    command.env("LAMBDA_TASK_ROOT", &package).env("CROSSWATCH_WORK", folder.path().join("tmp"));
    command.env("AWS_LAMBDA_RUNTIME_API", runtime.address.to_string()).env("CROSSWATCH_SITE", "tunnels");
    let function = lab.centre().enter(|| Process::start(&mut command)).unwrap();

    assert_eq!(runtime.invoke("r-1"), ("response".to_owned(), json!({})), "{:#?}", function.lines());
    let received = || {
        let export =
            Command::new(program()).args(["export", "--config"]).arg(lab.config_path()).output().unwrap();
        let rows = json_lines(&String::from_utf8(export.stdout).unwrap()).into_iter();
        rows.filter(|row| row["site"] == "tunnels").collect::<Vec<_>>()
    };
    let polls = |kind: &str| received().iter().filter(|row| row["kind"] == kind).count();
    wait_until("the first poll reaches the alerter", || polls("tunnels") == 1 && polls("collection") == 1);
    let rows = received();
    assert_eq!(rows[0]["tunnels"].as_array().map(Vec::len), Some(2), "{rows:?}");

    // SQS refuses everything: it is an error that says so, and nothing is lost.
    control
        .add_fault(&json!({"id": "cut", "match": {"service": "sqs", "operation": "SendMessageBatch"},
        "effect": {"throttle": true}}))
        .unwrap();
    let (how, why) = runtime.invoke("r-2");
    assert_eq!(how, "error", "{why}");
    assert!(why["errorMessage"].as_str().unwrap().contains("stays in the journal"), "{why}");
    control.remove_fault("cut").unwrap();
    assert_eq!(runtime.invoke("r-3").0, "response");
    wait_until("all polls have come", || polls("tunnels") == 3);
    let boots: std::collections::BTreeSet<_> = received().iter().map(|row| row["boot"].to_string()).collect();
    assert_eq!(boots.len(), 3, "each run is a boot of its own");

    // A config that a run cannot do with.
    let collector_of = |site: &str, config: &Path| {
        let mut once = Command::new(program());
        once.args(["collector", "--once", "--site", site, "--config"]).arg(config).output().unwrap()
    };
    let output = collector_of("tunnels", &package.join("crosswatch.toml"));
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "without --data: {said}");
    assert!(said.contains("cannot make the folder /proc/lib/crosswatch of [queue] path"), "{said}");
    let collector = |site: &str| collector_of(site, &lab.config_path());
    let output = collector("us-east-1");
    assert_eq!(output.status.code(), Some(2), "{output:?}");
    assert!(String::from_utf8_lossy(&output.stderr).contains("it sends probes"), "{output:?}");
    drop(function);
}
