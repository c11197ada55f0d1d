//! Why charon could not be asked.

use std::fmt;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

/// Asking charon failed. Its text names the socket, what happened, and the way out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{}: {message}", socket.display())]
pub struct Failure {
    /// What kind of failure it is.
    pub kind: Kind,
    /// The VICI socket that was asked.
    pub socket: PathBuf,
    /// What happened, and what helps.
    pub message: String,
}

/// Kinds of failure. All may pass without a change to Crosswatch's configuration, but `Protocol`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kind {
    /// Nobody listens there, or the daemon went while it was asked.
    NotRunning,
    /// This process may not use the socket.
    Denied,
    /// No answer, or no end of it, in time.
    Timeout,
    /// What is there does not speak VICI, or not as it is written.
    Protocol,
    /// This machine is short of something, such as file descriptors.
    Local,
}

impl Kind {
    /// The word for the `collection` observation, as AWS's error codes are.
    #[must_use]
    pub fn word(self) -> &'static str {
        match self {
            Self::NotRunning => "NotRunning",
            Self::Denied => "Denied",
            Self::Timeout => "Timeout",
            Self::Protocol => "Protocol",
            Self::Local => "Local",
        }
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.word())
    }
}

impl Failure {
    pub(crate) fn new(kind: Kind, socket: &Path, message: impl Into<String>) -> Self {
        Self { kind, socket: socket.to_owned(), message: message.into() }
    }

    pub(crate) fn timeout(socket: &Path, patience: Duration) -> Self {
        let message = format!(
            "no whole answer within {} s: charon hangs or is very busy; its log says with what, restarting it helps",
            patience.as_secs_f64()
        );
        Self::new(Kind::Timeout, socket, message)
    }

    pub(crate) fn protocol(socket: &Path, what: impl fmt::Display) -> Self {
        let message = format!(
            "not an answer of VICI: {what}; name charon's own socket, as its strongswan.conf has it in \
             charon.plugins.vici.socket (by default /run/charon.vici)"
        );
        Self::new(Kind::Protocol, socket, message)
    }

    /// Connecting failed.
    pub(crate) fn connect(socket: &Path, error: &io::Error) -> Self {
        const START: &str = "start charon, with its plugin vici, or name the socket that it has";
        let (kind, message) = match error.kind() {
            ErrorKind::NotFound | ErrorKind::NotADirectory => {
                (Kind::NotRunning, format!("there is no such socket; {START}"))
            }
            // A file of another sort refuses as a socket without a listener does.
            ErrorKind::ConnectionRefused => match std::fs::metadata(socket) {
                Ok(file) if !is_socket(&file) => return Self::protocol(socket, "this is not a socket"),
                _ => (Kind::NotRunning, format!("nobody listens there, charon is not running; {START}")),
            },
            ErrorKind::PermissionDenied => (
                Kind::Denied,
                "this user may not use the socket; charon makes it for root: give the user its group \
                 (charon.group in strongswan.conf), or write access to it"
                    .to_owned(),
            ),
            // Of a Unix socket: as many wait already as charon lets wait.
            ErrorKind::WouldBlock => (
                Kind::Timeout,
                "charon takes no connection, others wait already; its log says with what it is busy"
                    .to_owned(),
            ),
            ErrorKind::InvalidInput => {
                return Self::protocol(socket, format!("this cannot be a socket's path ({error})"));
            }
            _ if error.raw_os_error() == Some(PROTOTYPE) => {
                return Self::protocol(socket, "this is a socket of another sort (not a stream)");
            }
            _ => (Kind::Local, format!("cannot connect: {error}; see to this machine's limits and memory")),
        };
        Self::new(kind, socket, message)
    }

    /// Reading or writing failed on a connection that was there.
    pub(crate) fn transfer(socket: &Path, error: &io::Error) -> Self {
        match error.kind() {
            ErrorKind::UnexpectedEof
            | ErrorKind::BrokenPipe
            | ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted => Self::new(
                Kind::NotRunning,
                socket,
                "the connection was closed before the answer's end: charon was stopped or died; its log says why",
            ),
            _ => Self::new(
                Kind::Local,
                socket,
                format!("the connection broke: {error}; see to this machine's limits and memory"),
            ),
        }
    }
}

/// EPROTOTYPE of Linux: the socket is one of datagrams or packets.
const PROTOTYPE: i32 = 91;

fn is_socket(file: &std::fs::Metadata) -> bool {
    use std::os::unix::fs::FileTypeExt as _;
    file.file_type().is_socket()
}
