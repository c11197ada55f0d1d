//! The `command` notifier: a program, started without a shell, given the JSON as one line on its standard input.
//!
//! Exit 0 within the time accepts, whether or not it read its input. Whoever takes longer is killed with everything
//! that it started.

use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::process::ChildStderr;

use super::{NotifyError, WORDS, words};

/// How long its last words are waited for once it has ended; somebody else may hold its standard error open.
const LAST_WORDS: Duration = Duration::from_millis(100);

/// A program and its arguments.
#[derive(Clone, Debug)]
pub(crate) struct Command {
    program: Arc<str>,
    arguments: Arc<[String]>,
    within: Duration,
}

impl Command {
    /// Of the program and its arguments; without any program it can only fail.
    pub(super) fn new(words: &[String], within: Duration) -> Self {
        let (program, arguments) = words.split_first().map_or(("", words), |(first, rest)| (first, rest));
        Self { program: program.into(), arguments: arguments.into(), within }
    }

    pub(super) async fn send(&self, body: &str) -> Result<(), NotifyError> {
        let program = self.program.to_string();
        let spawned = tokio::process::Command::new(&*self.program)
            .args(&*self.arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::piped())
            .process_group(0)
            .kill_on_drop(true)
            .spawn();
        let mut child = match spawned {
            Ok(child) => child,
            Err(source) => return Err(NotifyError::Spawn { program, source }),
        };
        let mut group = Group(child.id().and_then(|id| i32::try_from(id).ok()).map(Pid::from_raw));
        let input = child.stdin.take();
        let mut errors = child.stderr.take();
        let mut said = Vec::new();
        let ended = {
            let tell = async {
                if let Some(mut input) = input {
                    // A program need not read what it is told: its exit status is its answer.
                    // The line's end is for those that append it to a file.
                    let line = format!("{body}\n");
                    let _ = input.write_all(line.as_bytes()).await;
                }
            };
            let talk = async { tokio::join!(tell, listen(&mut errors, &mut said)) };
            tokio::pin!(talk);
            let mut talking = true;
            let wait = async {
                loop {
                    tokio::select! {
                        ended = child.wait() => return ended,
                        _ = &mut talk, if talking => talking = false,
                    }
                }
            };
            tokio::time::timeout(self.within, wait).await
        };
        let Ok(ended) = ended else {
            group.kill();
            let _ = child.wait().await;
            let within = self.within;
            return Err(NotifyError::TooLong { program, within });
        };
        group.0 = None;
        let status = match ended {
            Ok(status) if status.success() => return Ok(()),
            Ok(status) => status.to_string(),
            Err(error) => error.to_string(),
        };
        let _ = tokio::time::timeout(LAST_WORDS, listen(&mut errors, &mut said)).await;
        Err(NotifyError::Exit { program, status, words: words(&said) })
    }
}

/// Reads standard error to its end, and keeps the start of it.
async fn listen(errors: &mut Option<ChildStderr>, said: &mut Vec<u8>) {
    let Some(errors) = errors else {
        return;
    };
    let mut chunk = [0; 512];
    while let Ok(count @ 1..) = errors.read(&mut chunk).await {
        if said.len() < WORDS {
            said.extend_from_slice(chunk.get(..count).unwrap_or_default());
        }
    }
}

/// The process group of a running program; killed when it is dropped, so also when the try is given up.
struct Group(Option<Pid>);

impl Group {
    fn kill(&mut self) {
        if let Some(leader) = self.0.take() {
            // The leader has not been waited for, so its number cannot have become somebody else's.
            let _ = killpg(leader, Signal::SIGKILL);
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.kill();
    }
}
