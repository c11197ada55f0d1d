//! What can go wrong in a lab.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

use crate::process::Process;

/// A lab could not be made, changed or taken down. Trying again helps where the text says so, or where something outside
/// has changed.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// Network namespaces are for root.
    #[error("the lab makes network namespaces, which takes root; run it by sudo")]
    NotRoot,
    /// The folder has things in it that no lab put there.
    #[error("{}: this folder is not empty and not a lab's; name another with --folder", folder.display())]
    Foreign {
        /// The folder.
        folder: PathBuf,
    },
    /// There is one in this folder.
    #[error("{}: a lab is up here; take it down first, or name another folder with --folder", folder.display())]
    Running {
        /// The folder.
        folder: PathBuf,
    },
    /// There is none in this folder.
    #[error("{}: no lab is up here; 'lab up' makes one, --folder names another folder", folder.display())]
    Down {
        /// The folder.
        folder: PathBuf,
    },
    /// Another process changes this lab at the moment.
    #[error("{}: another process is changing this lab; try again when it is done", folder.display())]
    Busy {
        /// The folder.
        folder: PathBuf,
    },
    /// A Unix socket in the folder would have too long a path.
    #[error("{}: a socket's path has at most 107 bytes; name a folder with a shorter path", path.display())]
    LongPath {
        /// The socket.
        path: PathBuf,
    },
    /// A file or folder.
    #[error("{}: {source}", path.display())]
    File {
        /// Which.
        path: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// The lab's own record cannot be read.
    #[error("{}: not the record of a lab of this version: {source}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        source: serde_json::Error,
    },
    /// A program is not there, or may not be started.
    #[error("cannot start {}: {source}; {}", program.display(), way_out(program))]
    Program {
        /// Which.
        program: PathBuf,
        /// Why not.
        source: io::Error,
    },
    /// A command of iproute2 or nftables failed.
    #[error("'{command}' failed: {said}")]
    Command {
        /// With its arguments.
        command: String,
        /// What it printed on standard error.
        said: String,
    },
    /// A network namespace cannot be entered.
    #[error("cannot enter the network namespace {name}: {source}")]
    Namespace {
        /// Its name.
        name: String,
        /// Why not.
        source: io::Error,
    },
    /// A process ended instead of coming up.
    #[error("{process} ended instead of coming up; the end of {}:\n{said}", log.display())]
    Ended {
        /// Which.
        process: Process,
        /// Its log.
        log: PathBuf,
        /// The log's last lines.
        said: String,
    },
    /// Something did not come up in time.
    #[error("{what} did not come up within {} s: {why}", waited.as_secs())]
    Late {
        /// What was waited for.
        what: String,
        /// How long.
        waited: Duration,
        /// What was wrong when it was last looked at.
        why: String,
    },
    /// A process is still there after SIGKILL.
    #[error("processes {pids:?} do not end; 'lab down' tries again")]
    Immortal {
        /// Their ids.
        pids: Vec<i32>,
    },
    /// A signal could not be sent.
    #[error("{process}: cannot send {signal}: {why}")]
    Signal {
        /// To which.
        process: Process,
        /// Which.
        signal: &'static str,
        /// Why not.
        why: String,
    },
    /// A service did not answer, or not as it should.
    #[error("{service}: {what}: {why}")]
    Service {
        /// Which: the WAN, the gate, SQS, SNS.
        service: &'static str,
        /// What was asked of it.
        what: String,
        /// Why it failed.
        why: String,
    },
    /// This machine lacks a part of strongSwan.
    #[error(
        "{} is not there, and the link's tunnels need it: Debian's packages strongswan-charon, strongswan-swanctl and \
         libcharon-extra-plugins have what is needed; 'lab up --plain' goes without tunnels", missing.display()
    )]
    NoIpsec {
        /// The file that is not there.
        missing: PathBuf,
    },
    /// The tunnels, or one of their ends.
    #[error(transparent)]
    Tunnels(#[from] crosswatch_ipsec::Error),
    /// The regions' own addresses do not make networks.
    #[error(transparent)]
    Network(#[from] crosswatch_ipsec::NotANetwork),
    /// A fault needs a part that this lab does not have.
    #[error("{fault} needs {part}, which this lab was made without")]
    Lacks {
        /// The fault, or what else was asked for.
        fault: &'static str,
        /// The part.
        part: &'static str,
    },
    /// A fault's number is out of range.
    #[error("{what} must be {range}")]
    Range {
        /// Which number.
        what: &'static str,
        /// What it may be.
        range: String,
    },
}

/// A result of this crate.
pub(crate) type Result<T, E = Error> = std::result::Result<T, E>;

fn way_out(program: &std::path::Path) -> &'static str {
    match program.to_str() {
        Some("ip") => "Debian's package iproute2 has it",
        Some("nft") => "Debian's package nftables has it",
        _ => "its option names where it is",
    }
}
