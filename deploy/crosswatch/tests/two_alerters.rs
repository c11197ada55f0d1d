//! Two alerters as two processes, each with a queue of its own in a local AWS: one page while both live, one when the first is
//! killed, and none from it for what the second paged meanwhile. Wants `ministack`: named by `MINISTACK`, or found by `PATH`.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[allow(dead_code)]
mod program;
#[path = "../../../shared/sqs/tests/server/mod.rs"]
#[allow(dead_code)]
mod server;

use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::JoinHandle;

use program::{Stage, command, command_with_aws, until};
use serde_json::Value;
use server::Server;

/// What is watched: it takes connections until it is dropped.
struct Target {
    port: u16,
    over: Arc<AtomicBool>,
    taking: Option<JoinHandle<()>>,
}

impl Target {
    fn at(port: u16) -> Self {
        let listener = TcpListener::bind(("127.0.0.1", port)).unwrap();
        let port = listener.local_addr().unwrap().port();
        let over = Arc::new(AtomicBool::new(false));
        let is_over = Arc::clone(&over);
        let taking = std::thread::spawn(move || {
            listener.incoming().take_while(|_| !is_over.load(Ordering::Relaxed)).for_each(drop);
        });
        Self { port, over, taking: Some(taking) }
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        self.over.store(true, Ordering::Relaxed);
        let _ = TcpStream::connect(("127.0.0.1", self.port));
        let _ = self.taking.take().map(JoinHandle::join);
    }
}

/// A machine with a config, and what runs on it.
struct Machine {
    folder: tempfile::TempDir,
    endpoint: String,
}

impl Machine {
    fn new(aws: &Server, config: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
        Self { folder, endpoint: aws.endpoint() }
    }

    fn command(&self, job: &[&str]) -> Command {
        command_with_aws(self.folder.path(), job, &self.endpoint)
    }

    fn start(&self, job: &[&str]) -> Stage {
        Stage::start(&mut self.command(job))
    }

    /// How the ledger has the newest incident of the link: each notification's state and standing.
    fn told(&self) -> Vec<(String, String)> {
        let output = self.command(&["explain", "l", "--format", "json"]).output().unwrap();
        let Ok(explained) = serde_json::from_slice::<Value>(&output.stdout) else { return Vec::new() };
        let incidents = explained["incidents"].as_array().cloned().unwrap_or_default();
        let of_link = incidents.iter().filter(|of| of["place"] == "l");
        let newest = of_link.max_by_key(|of| of["opened_at"].as_str().unwrap_or_default().to_owned());
        let told = newest.map(|of| of["told"].as_array().cloned().unwrap_or_default()).unwrap_or_default();
        let word = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
        told.iter().map(|of| (word(of, "state"), word(of, "standing"))).collect()
    }
}

/// What the receiver got of the rule, in order.
fn pages(file: &Path) -> Vec<String> {
    let text = std::fs::read_to_string(file).unwrap_or_default();
    // The last may be on its way.
    serde_json::Deserializer::from_str(&text)
        .into_iter::<Value>()
        .map_while(Result::ok)
        .filter(|page| page["rule"] == "unreachable")
        .map(|page| page["state"].as_str().unwrap().to_owned())
        .collect()
}

fn config(target: u16, pages: &Path, publisher: &str, [first, second]: [&str; 2]) -> String {
    format!(
        r#"
[site.here]
[[link]]
name = "l"
between = ["here"]
probe = [{{ from = "here", tcp = "127.0.0.1:{target}", every = "200ms", timeout = "100ms" }}]
[queue]
kind = "sqs"
publisher = "{publisher}"
alerter = "{first}"
second_alerter = "{second}"
[[rule]]
name = "unreachable"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 3
notify = ["oncall"]
[notify.oncall]
command = ["tee", "-a", "{}"]
[http]
listen = "127.0.0.1:0"
"#,
        pages.display()
    )
}

#[test]
fn one_page_while_both_live_and_one_when_the_first_is_killed() {
    let aws = Server::start();
    let [publisher, first, second] = ["publisher", "first", "second"].map(|name| aws.queue(name));
    let receiver = tempfile::tempdir().unwrap();
    let file: PathBuf = receiver.path().join("pages.jsonl");
    let target = Target::at(0);
    let port = target.port;
    let text = config(port, &file, &publisher, [&first, &second]);
    let [site, one, two] = [(); 3].map(|()| Machine::new(&aws, &text));
    let _collector = site.start(&["collector", "--site", "here"]);
    let killed = one.start(&["alerter"]);
    let _second = two.start(&["alerter", "--second"]);
    let standing = |machine: &Machine, state: &str, standing: &str| {
        machine.told().contains(&(state.to_owned(), standing.to_owned())).then_some(())
    };
    let is_judged = |machine: &Machine| {
        let output = machine.command(&["explain", "l", "--format", "json"]).output().unwrap();
        let Ok(explained) = serde_json::from_slice::<Value>(&output.stdout) else { return None };
        (explained["subjects"][0]["judged"][0]["state"] == "ok").then_some(())
    };
    [&one, &two].into_iter().for_each(|machine| until("it judges", || is_judged(machine)));

    // Refused from now on.
    drop(target);
    until("the first pages", || standing(&one, "firing", "accepted"));
    until("the second knows", || standing(&two, "firing", "told-by-other"));
    assert_eq!(pages(&file), ["firing"]);

    drop(killed);
    let target = Target::at(port);
    until("the second tells the end", || standing(&two, "resolved", "accepted"));
    assert_eq!(pages(&file), ["firing", "resolved"]);
    drop(target);
    until("the second pages", || standing(&two, "firing", "accepted"));
    assert_eq!(pages(&file), ["firing", "resolved", "firing"]);

    // The first is back, and is told in its own queue what it missed.
    let _first = one.start(&["alerter"]);
    until("the first knows", || standing(&one, "firing", "told-by-other"));
    let _target = Target::at(port);
    // Which of them tells the end depends on how soon after the second's page the first is back.
    until("one tells the end", || {
        let told = [&one, &two].map(|machine| standing(machine, "resolved", "accepted").is_some());
        let knows = [&two, &one].map(|machine| standing(machine, "resolved", "told-by-other").is_some());
        (told == knows && told.contains(&true)).then_some(())
    });
    assert_eq!(pages(&file), ["firing", "resolved", "firing", "resolved"]);
}

#[test]
fn a_second_alerter_needs_a_queue_of_its_own_and_is_told_so() {
    let aws_less = |config: &str| {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("crosswatch.toml"), config).unwrap();
        let output = command(folder.path(), &["alerter", "--second"]).output().unwrap();
        (output.status.code(), String::from_utf8_lossy(&output.stderr).into_owned())
    };
    let site = "[site.here]\n[[link]]\nname = \"l\"\nbetween = [\"here\"]\nprobe = [{ from = \"here\", icmp = \"127.0.0.1\" }]\n";
    let (code, said) = aws_less(site);
    assert_eq!(code, Some(2));
    assert!(said.contains("write kind = \"sqs\", and 'second_alerter'"), "{said}");
    let sqs = "[queue]\nkind = \"sqs\"\npublisher = \"https://sqs/p\"\nalerter = \"https://sqs/a\"\n";
    let (code, said) = aws_less(&format!("{site}{sqs}"));
    assert_eq!(code, Some(2));
    assert!(said.contains("write 'second_alerter' with the URL of its queue"), "{said}");
    let (code, said) = aws_less(&format!("{site}{sqs}second_alerter = \"https://sqs/a\"\n"));
    assert_eq!(code, Some(2));
    assert!(said.contains("each stage and each of its workers reads a queue of its own"), "{said}");
    let (code, said) = aws_less(&format!("{site}[queue]\nsecond_alerter = \"https://sqs/b\"\n"));
    assert_eq!(code, Some(2));
    assert!(said.contains("'second_alerter' is for kind = \"sqs\""), "{said}");
}
