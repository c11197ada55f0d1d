//! What a lab writes down of itself, so that whoever comes later can look at it, change it and take it down.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::error::{Error, Result};
use crate::fault::Fault;
use crate::process::{Identity, Process};

const FILE: &str = "lab.json";
const LOCK: &str = "lab.lock";

/// What the processes are made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Setup {
    /// `crosswatch`.
    pub(crate) program: PathBuf,
    /// `lab`.
    pub(crate) lab: PathBuf,
    pub(crate) cloud: Cloud,
    /// Whether the link has IPsec tunnels.
    #[serde(default)]
    pub(crate) tunnels: bool,
    /// Of the WAN, each way.
    pub(crate) delay: Duration,
}

/// Which AWS the stages have.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cloud {
    /// The emulator behind the gate, which is as strict as AWS and can fail.
    Gate {
        /// `crosswatch-gate`.
        gate: PathBuf,
        /// `ministack`, which the gate starts.
        ministack: PathBuf,
    },
    /// The emulator alone: no tunnels to poll, nothing is throttled.
    Emulator {
        /// `ministack`.
        ministack: PathBuf,
    },
    /// None: the embedded queue and store in the lab's folder.
    None,
}

/// The file `lab.json`. What is about to be made is written down before it is made.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(crate) struct Record {
    /// What the names of the namespaces begin with; the mark of the processes.
    pub(crate) stem: String,
    /// The boot of the machine in which it was made.
    pub(crate) boot: String,
    pub(crate) state: State,
    pub(crate) setup: Setup,
    pub(crate) faults: Vec<Fault>,
    pub(crate) processes: Vec<(Process, Identity)>,
}

/// How far it has come.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum State {
    /// Being made, or what was left when making it was cut short.
    Unfinished,
    Up,
    Down,
}

impl Record {
    /// Of the lab in a folder; `None` where there never was one.
    pub(crate) fn load(folder: &Path) -> Result<Option<Self>> {
        let path = folder.join(FILE);
        let text = match fs::read(&path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            text => text.map_err(|source| Error::File { path: path.clone(), source })?,
        };
        serde_json::from_slice(&text).map(Some).map_err(|source| Error::Record { path, source })
    }

    /// Replaces the file in one step.
    pub(crate) fn save(&self, folder: &Path) -> Result<()> {
        let path = folder.join(FILE);
        let text =
            serde_json::to_vec_pretty(self).map_err(|source| Error::Record { path: path.clone(), source })?;
        let new = folder.join("lab.json.new");
        let replaced = fs::write(&new, text).and_then(|()| fs::rename(&new, &path));
        replaced.map_err(|source| Error::File { path, source })
    }

    pub(crate) fn process(&self, process: Process) -> Option<Identity> {
        self.processes.iter().find(|(of, _)| *of == process).map(|(_, identity)| *identity)
    }
}

/// The folder's lock, held until it is dropped: one process changes a lab at a time.
#[derive(Debug)]
pub(crate) struct Lock(File);

impl Drop for Lock {
    fn drop(&mut self) {
        // Closing alone would not do at once: a process that another thread is just starting has the file too, until it
        // has become its program.
        let _ = self.0.unlock();
    }
}

/// Takes the lock.
pub(crate) fn lock(folder: &Path) -> Result<Lock> {
    let path = folder.join(LOCK);
    let file = |source| Error::File { path: path.clone(), source };
    let lock = File::options().create(true).append(true).open(&path).map_err(file)?;
    match lock.try_lock() {
        Ok(()) => Ok(Lock(lock)),
        Err(fs::TryLockError::WouldBlock) => Err(Error::Busy { folder: folder.to_owned() }),
        Err(fs::TryLockError::Error(source)) => Err(file(source)),
    }
}

/// Whether all that is in a folder is a lab's: it has a record, or is empty.
pub(crate) fn is_ours(folder: &Path) -> Result<bool> {
    if folder.join(FILE).exists() {
        return Ok(true);
    }
    let entries = fs::read_dir(folder).map_err(|source| Error::File { path: folder.to_owned(), source })?;
    Ok(entries.flatten().all(|entry| entry.file_name() == LOCK))
}

/// What names everything of the lab in this folder: the same for the same folder, another for another.
pub(crate) fn stem(folder: &Path) -> String {
    // FNV-1a, which will be the same in every version, unlike the standard library's.
    let hash = folder.as_os_str().as_encoded_bytes().iter().fold(0xcbf2_9ce4_8422_2325_u64, |hash, byte| {
        (hash ^ u64::from(*byte)).wrapping_mul(0x0100_0000_01b3)
    });
    format!("cwlab-{:08x}", hash >> 32)
}
