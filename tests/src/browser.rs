//! A headless Chromium, driven over its debugging pipe: pages as people see and use them.
//!
//! The protocol is Chromium's DevTools protocol, JSON messages that end in a NUL, on the file descriptors 3 and 4.

use std::cell::RefCell;
use std::io::{BufRead, BufReader, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::thread;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::peers::missing;

/// Far longer than a page takes.
const BOUND: Duration = Duration::from_secs(60);

/// Whether there is a browser. Where there is none, it says on standard error that this test did not run, and why.
#[must_use]
pub fn require_browser(test: &str) -> bool {
    let there = missing(&["chromium"]).is_empty();
    if !there {
        // Not `eprintln!`: the test runner would swallow it, for the test passes.
        let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: chromium is missing");
    }
    there
}

/// A browser with one page; dropped, it is gone with all its processes.
#[derive(Debug)]
pub struct Browser {
    child: Child,
    to: RefCell<ChildStdin>,
    from: Receiver<Value>,
    number: RefCell<u64>,
    session: String,
    _profile: TempDir,
}

impl Browser {
    /// Starts it.
    #[must_use]
    pub fn start() -> Self {
        let profile = tempfile::tempdir().expect("a folder");
        let mut command = Command::new("sh");
        command
            .args(["-c", "exec \"$@\" 3<&0 4>&1 </dev/null >/dev/null 2>&1", "sh", "chromium"])
            .args([
                "--headless",
                "--remote-debugging-pipe",
                "--no-sandbox",
                "--disable-gpu",
                "--no-first-run",
            ])
            .args(["--disable-dev-shm-usage", "--hide-scrollbars", "--disable-extensions"])
            .args(["--disable-background-networking", "--disable-component-update", "--disable-sync"])
            .arg(format!("--user-data-dir={}", profile.path().display()))
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .process_group(0);
        let mut child = command.spawn().expect("chromium");
        let to = child.stdin.take().expect("a pipe");
        let from = messages(child.stdout.take().expect("a pipe"));
        let number = RefCell::new(0);
        let mut browser =
            Self { child, to: RefCell::new(to), from, number, session: String::new(), _profile: profile };
        let target = browser.call("Target.createTarget", json!({ "url": "about:blank" }));
        let attach = json!({ "targetId": target["targetId"], "flatten": true });
        let session = browser.call("Target.attachToTarget", attach);
        browser.session = session["sessionId"].as_str().expect("a session").to_owned();
        browser.call("Page.enable", json!({}));
        browser.resize(1_200, 900);
        browser
    }

    /// Goes to a page and waits until it is there.
    pub fn go(&self, url: &str) {
        self.call("Page.navigate", json!({ "url": url }));
        self.wait_for_load();
    }

    /// Waits until a page is there that was gone to otherwise.
    pub fn wait_for_load(&self) {
        loop {
            let event = self.from.recv_timeout(BOUND).expect("a page that is there");
            if event["method"] == "Page.loadEventFired" {
                return;
            }
        }
    }

    /// What an expression of JavaScript gives; a promise is waited for.
    #[must_use]
    pub fn value(&self, expression: &str) -> Value {
        let ask = json!({ "expression": expression, "awaitPromise": true, "returnByValue": true });
        let answer = self.call("Runtime.evaluate", ask);
        assert!(answer["exceptionDetails"].is_null(), "{expression}: {answer}");
        answer["result"]["value"].clone()
    }

    /// What it gives, as text.
    #[must_use]
    pub fn text(&self, expression: &str) -> String {
        self.value(expression).as_str().unwrap_or_default().to_owned()
    }

    /// Makes the window so large.
    pub fn resize(&self, width: u32, height: u32) {
        let size = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": false });
        self.call("Emulation.setDeviceMetricsOverride", size);
    }

    /// Prefers dark pages, or light ones.
    pub fn prefer(&self, scheme: &str) {
        let media = json!({ "features": [{ "name": "prefers-color-scheme", "value": scheme }] });
        self.call("Emulation.setEmulatedMedia", media);
    }

    /// Runs the scripts of pages that are gone to from now on, or does not.
    pub fn allow_scripts(&self, allowed: bool) {
        self.call("Emulation.setScriptExecutionDisabled", json!({ "value": !allowed }));
    }

    /// Drags the mouse from one place to another.
    pub fn drag(&self, from: (f64, f64), to: (f64, f64)) {
        for (kind, (x, y)) in [("mousePressed", from), ("mouseMoved", to), ("mouseReleased", to)] {
            let event =
                json!({ "type": kind, "x": x, "y": y, "button": "left", "buttons": 1, "clickCount": 1 });
            self.call("Input.dispatchMouseEvent", event);
        }
    }

    /// A picture of the window, as PNG.
    #[must_use]
    pub fn picture(&self) -> Vec<u8> {
        let answer = self.call("Page.captureScreenshot", json!({ "format": "png" }));
        STANDARD.decode(answer["data"].as_str().expect("a picture")).expect("base64")
    }

    /// Calls a method of the protocol and gives its result; events that come meanwhile are passed over.
    fn call(&self, method: &str, params: Value) -> Value {
        let id = self.number.replace_with(|number| *number + 1);
        let mut message = json!({ "id": id, "method": method, "params": params });
        if !self.session.is_empty() {
            message["sessionId"] = json!(self.session);
        }
        let mut to = self.to.borrow_mut();
        write!(to, "{message}\0").and_then(|()| to.flush()).expect("chromium listens");
        loop {
            let answer = self.from.recv_timeout(BOUND).unwrap_or_else(|_| panic!("{method}: no answer"));
            if answer["id"] == json!(id) {
                assert!(answer["error"].is_null(), "{method}: {answer}");
                return answer["result"].clone();
            }
        }
    }
}

impl Drop for Browser {
    fn drop(&mut self) {
        // Its helpers are of its group.
        let group = Pid::from_raw(i32::try_from(self.child.id()).expect("a process id"));
        let _ = killpg(group, Signal::SIGKILL);
        let _ = self.child.wait();
    }
}

fn messages(from: ChildStdout) -> Receiver<Value> {
    let (tell, told) = mpsc::channel();
    thread::spawn(move || {
        let mut from = BufReader::new(from);
        let mut message = Vec::new();
        while from.read_until(0, &mut message).is_ok_and(|count| count > 0) {
            message.pop();
            let Ok(value) = serde_json::from_slice(&message) else { break };
            if tell.send(value).is_err() {
                break;
            }
            message.clear();
        }
    });
    told
}
