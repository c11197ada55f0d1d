//! What can go wrong with tunnels.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// A daemon or a tunnel could not be made, asked or changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The folder's path cannot stand in strongSwan's files, or its socket's cannot be one.
    #[error("{}: {why}; name another folder", path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// What is wrong with it.
        why: &'static str,
    },
    /// A program is not there, or may not be started.
    #[error("cannot start {}: {source}; {}", program.display(), way_out(program))]
    Program {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A command failed.
    #[error("'{command}' failed: {said}")]
    Command {
        /// With its arguments.
        command: String,
        /// What it printed.
        said: String,
    },
    /// charon ended instead of coming up.
    #[error("charon in {namespace} ended instead of coming up; the end of {}:\n{said}", log.display())]
    Ended {
        /// The namespace.
        namespace: String,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        said: String,
    },
    /// Something did not come about in time.
    #[error("{what} did not come about within {} s; {} says more", waited.as_secs(), log.display())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// charon's log.
        log: PathBuf,
    },
}

/// A result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

impl Error {
    pub(crate) fn file(path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::File { path, source }
    }
}

fn way_out(program: &Path) -> &'static str {
    match program.file_name().and_then(|name| name.to_str()) {
        Some("charon") => {
            "Debian's packages strongswan-charon and libcharon-extra-plugins have what is needed"
        }
        Some("swanctl") => "Debian's package strongswan-swanctl has it",
        Some("ip") => "Debian's package iproute2 has it",
        Some("nft") => "Debian's package nftables has it",
        _ => "it is part of any Debian",
    }
}
