//! One writer at a time: an advisory lock on a file of its own.
//!
//! On a file of its own because `SQLite`'s locks (fcntl) are lost when a process closes any descriptor of the
//! database's file. The system lets go of it when the process ends, however it ends.

use std::fs::{File, OpenOptions};
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::path::Path;

use nix::errno::Errno;
use nix::fcntl::{Flock, FlockArg};

use crate::JournalError;

/// Held until dropped. The file stays; it holds the process id of its last holder as text.
#[derive(Debug)]
pub struct Lock {
    file: Flock<File>,
    text: String,
}

impl Lock {
    /// Takes the lock; `what` names what it guards, such as `the journal of site 'a'`.
    ///
    /// # Errors
    /// Someone holds it, or the file cannot be opened.
    pub fn take(path: &Path, what: impl Into<String>) -> Result<Self, JournalError> {
        let folder = |source| JournalError::Folder {
            path: path.to_owned(),
            source,
            advice: "the folder must be there and writable, on a disk with room",
        };
        let file = OpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(folder)?;
        match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
            Ok(file) => {
                // Of one length, so that it can be written again and again without the file being empty in between.
                let lock = Self { file, text: format!("{:<10}\n", std::process::id()) };
                lock.ring();
                Ok(lock)
            }
            Err((mut file, Errno::EWOULDBLOCK)) => {
                let mut text = String::new();
                // Who it is is a courtesy.
                let _ = file.read_to_string(&mut text);
                Err(JournalError::Held {
                    what: what.into(),
                    path: path.to_owned(),
                    pid: text.trim().parse().ok(),
                })
            }
            Err((_, errno)) => Err(folder(errno.into())),
        }
    }

    /// Writes the file again, for those who watch it. Where that fails they look by themselves after a second.
    pub fn ring(&self) {
        if let Err(error) = self.file.write_all_at(self.text.as_bytes(), 0) {
            tracing::debug!(%error, "the lock's file was not written");
        }
    }
}
