//! The program as the tests start it: its tools, and its stages, which end with their test and whose log is waited for.
//!
//! The harness of `tests` may not be seen from here: what is deployed depends on no test.

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::time::{Duration, Instant};

/// How long a test waits for what must come.
pub(crate) const BOUND: Duration = Duration::from_secs(150);

/// The program in this folder, without input.
pub(crate) fn command(folder: &Path, arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_crosswatch"));
    command.args(arguments).current_dir(folder).stdin(Stdio::null());
    command
}

/// The same, whose AWS is at this URL.
pub(crate) fn command_with_aws(folder: &Path, arguments: &[&str], endpoint: &str) -> Command {
    let mut command = command(folder, arguments);
    command.env("AWS_ENDPOINT_URL", endpoint).envs([
        ("AWS_REGION", "us-east-1"),
        ("AWS_ACCESS_KEY_ID", "test"),
        ("AWS_SECRET_ACCESS_KEY", "test"),
    ]);
    command
}

/// A stage that runs until this is dropped, as a power cut would end it.
pub(crate) struct Stage {
    /// Of 127.0.0.1, where its metrics and its health are.
    pub(crate) port: u16,
    child: Child,
    log: Receiver<String>,
}

impl Stage {
    /// Starts it, and waits until it listens.
    pub(crate) fn start(command: &mut Command) -> Self {
        let mut child = command.stderr(Stdio::piped()).spawn().unwrap();
        let lines = BufReader::new(child.stderr.take().unwrap()).lines().map_while(Result::ok);
        let (sender, log) = mpsc::channel();
        let name: Vec<String> = command.get_args().map(|of| of.to_string_lossy().into_owned()).collect();
        std::thread::spawn(move || {
            for line in lines {
                println!("{}: {line}", name.join(" "));
                // Nobody may wait for it any more.
                let _ = sender.send(line);
            }
        });
        let mut stage = Self { port: 0, child, log };
        stage.port = stage.port_of("listening on");
        stage
    }

    /// The port that its log tells after these words.
    pub(crate) fn port_of(&self, words: &str) -> u16 {
        let line = self.says(words);
        line.rsplit(':').next().unwrap().parse().unwrap_or_else(|_| panic!("no port: {line}"))
    }

    /// The next line of its log with these words, after those that were waited for before.
    pub(crate) fn says(&self, words: &str) -> String {
        let end = Instant::now() + BOUND;
        loop {
            let left = end.saturating_duration_since(Instant::now());
            match self.log.recv_timeout(left) {
                Ok(line) if line.contains(words) => return line,
                Ok(_) => {}
                Err(error) => panic!("it never said '{words}': {error}"),
            }
        }
    }
}

impl Drop for Stage {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Asks again and again, of what tells nobody when it changes: a file, a queue, the ledger.
pub(crate) fn until<T>(what: &str, mut found: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + BOUND;
    loop {
        if let Some(found) = found() {
            return found;
        }
        assert!(Instant::now() < end, "waited in vain: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}
