//! What the forwarder writes down of each packet that it handed over: who sent it, how long it really was under way, and
//! enough of it to be known by.

use std::fs::File;
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::Site;
use crate::error::{Error, Result};

/// So much of a packet is written down: an IPv4 header, an ICMP header and what a probe carries.
const HEAD: usize = 64;

/// A packet that was handed over, as a line of JSON.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Passage {
    /// The region that sent it.
    pub from: Site,
    /// In nanoseconds, from when it was read of one device until it was written to the other.
    pub held_ns: u64,
    /// Its first 64 bytes, from the IP header on, in hexadecimal.
    pub head: String,
}

impl Passage {
    /// How long it was under way.
    #[must_use]
    pub fn held(&self) -> Duration {
        Duration::from_nanos(self.held_ns)
    }

    /// The packet's first bytes; none where `head` is not hexadecimal.
    #[must_use]
    pub fn bytes(&self) -> Vec<u8> {
        let digits = |at: usize| u8::from_str_radix(self.head.get(at..at + 2)?, 16).ok();
        (0..self.head.len()).step_by(2).map(digits).collect::<Option<_>>().unwrap_or_default()
    }
}

/// Reads what a forwarder wrote down so far.
///
/// # Errors
/// The file cannot be read, or a line in it is none.
pub fn read(path: &Path) -> Result<Vec<Passage>> {
    let text = std::fs::read_to_string(path);
    let text = text.map_err(|source| Error::File { path: path.to_owned(), source })?;
    // The last may be half written.
    let whole = text.rfind('\n').and_then(|end| text.get(..end)).unwrap_or_default();
    let passages = whole.lines().map(serde_json::from_str).collect::<Result<_, _>>();
    passages.map_err(|source| Error::Record { path: path.to_owned(), source })
}

/// The file, and the lines not yet written: none is while a packet waits.
#[derive(Debug)]
pub(super) struct Recorder {
    file: File,
    lines: Vec<u8>,
}

impl Recorder {
    /// Makes the file, in place of one that is there.
    pub(super) fn create(path: PathBuf) -> Result<Self> {
        let file = File::create(&path).map_err(|source| Error::File { path, source })?;
        Ok(Self { file, lines: Vec::new() })
    }

    pub(super) fn note(&mut self, from: Site, held: Duration, packet: &[u8]) -> io::Result<()> {
        let head = packet.iter().take(HEAD).map(|byte| format!("{byte:02x}")).collect();
        let held_ns = u64::try_from(held.as_nanos()).unwrap_or(u64::MAX);
        serde_json::to_writer(&mut self.lines, &Passage { from, held_ns, head })?;
        self.lines.push(b'\n');
        Ok(())
    }

    pub(super) fn write(&mut self) -> io::Result<()> {
        if !self.lines.is_empty() {
            self.file.write_all(&self.lines)?;
            self.lines.clear();
        }
        Ok(())
    }
}
