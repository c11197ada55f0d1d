//! How the forwarder is told what to do while it runs, and asked what it did: one line of JSON each way over a Unix socket.
//! The request is the new policies, or `null` to ask only.

use std::io::{self, BufRead as _, BufReader, Write as _};
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::LONGEST_DELAY;
use super::line::{Counts, Policy};
use crate::error::{Error, Result};

/// How long either side waits for the other's line.
const PATIENCE: Duration = Duration::from_secs(5);

/// What the WAN does, and did. Pairs are by the sending site, in the order of [`crate::Site::ALL`].
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Report {
    /// What it does from now on.
    pub policies: [Policy; 2],
    /// What became of the packets since it was started.
    pub counts: [Counts; 2],
}

/// The client's end.
#[derive(Clone, Debug)]
pub struct Wan {
    socket: PathBuf,
}

impl Wan {
    /// The forwarder that listens on this socket.
    #[must_use]
    pub fn at(socket: PathBuf) -> Self {
        Self { socket }
    }

    /// What it does and did.
    ///
    /// # Errors
    /// It does not answer: it may have ended.
    pub fn report(&self) -> Result<Report> {
        self.ask("asking", None)
    }

    /// Lets it do this from now on: all packets that are sent after this returns meet it.
    ///
    /// # Errors
    /// It does not answer, or refuses a delay over [`LONGEST_DELAY`], a jitter over the delay or a share outside of 0 to 1.
    pub fn set(&self, policies: &[Policy; 2]) -> Result<Report> {
        self.ask("setting policies", Some(policies))
    }

    fn ask(&self, what: &str, request: Option<&[Policy; 2]>) -> Result<Report> {
        let failed =
            |why: String| Error::Service { service: "the WAN", what: what.to_owned(), why: why.clone() };
        let ask = || -> io::Result<String> {
            let stream = UnixStream::connect(&self.socket)?;
            stream.set_read_timeout(Some(PATIENCE))?;
            writeln!(&stream, "{}", serde_json::to_string(&request)?)?;
            read_line(&stream)
        };
        let answer = ask().map_err(|error| failed(format!("{}: {error}", self.socket.display())))?;
        let answer: Result<Report, String> =
            serde_json::from_str(&answer).map_err(|error| failed(format!("{error} in '{answer}'")))?;
        answer.map_err(failed)
    }
}

/// What the forwarder's loop and the socket's thread share.
#[derive(Clone, Debug)]
pub(super) struct Shared(Arc<Mutex<Report>>);

impl Shared {
    pub(super) fn new(policies: [Policy; 2]) -> Self {
        Self(Arc::new(Mutex::new(Report { policies, counts: Default::default() })))
    }

    pub(super) fn policies(&self) -> [Policy; 2] {
        self.lock().policies
    }

    pub(super) fn count(&self, counts: [Counts; 2]) {
        self.lock().counts = counts;
    }

    /// A few words are copied while it is held, so nobody waits for long.
    fn lock(&self) -> MutexGuard<'_, Report> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Answers on this socket from a thread of its own. One that a dead forwarder left is replaced.
pub(super) fn listen(socket: &Path, shared: Shared) -> Result<()> {
    let file = |source| Error::File { path: socket.to_owned(), source };
    match std::fs::remove_file(socket) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(file(error)),
        _ => {}
    }
    let listener = UnixListener::bind(socket).map_err(file)?;
    thread::spawn(move || {
        loop {
            // One that leaves us hanging is left, too: it has seen an error or is gone.
            if listener.accept().and_then(|(stream, _)| answer(&stream, &shared)).is_err() {
                thread::sleep(Duration::from_millis(10));
            }
        }
    });
    Ok(())
}

fn answer(stream: &UnixStream, shared: &Shared) -> io::Result<()> {
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    let request = serde_json::from_str::<Option<[Policy; 2]>>(&read_line(stream)?);
    let answer: Result<Report, String> = request.map_err(|error| error.to_string()).and_then(|request| {
        if let Some(policies) = request {
            policies.iter().try_for_each(check)?;
            shared.lock().policies = policies;
        }
        Ok(*shared.lock())
    });
    let mut stream = stream;
    writeln!(stream, "{}", serde_json::to_string(&answer)?)
}

pub(super) fn check(policy: &Policy) -> Result<(), String> {
    if policy.delay > LONGEST_DELAY {
        Err(format!("a delay of {:?} is over {LONGEST_DELAY:?}", policy.delay))
    } else if policy.jitter > policy.delay {
        Err(format!("a jitter of {:?} is over the delay of {:?}", policy.jitter, policy.delay))
    } else if !(0.0..=1.0).contains(&policy.loss) {
        Err(format!("a loss of {} is not from 0 to 1", policy.loss))
    } else if !(0.0..=1.0).contains(&policy.twice) {
        Err(format!("a share of {} that comes twice is not from 0 to 1", policy.twice))
    } else {
        Ok(())
    }
}

fn read_line(stream: &UnixStream) -> io::Result<String> {
    let mut line = String::new();
    BufReader::new(stream).read_line(&mut line)?;
    Ok(line)
}
