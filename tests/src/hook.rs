//! Receivers of notifications: a webhook on loopback, and a command that passes its standard input on.

use std::fs::{self, File, OpenOptions};
use std::io::{self, BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::ops::Deref;
use std::os::fd::AsRawFd;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex};
use std::thread;
use std::time::Instant;

use nix::sys::socket::{Shutdown, shutdown};
use nix::sys::stat::Mode;

use crate::http;
use crate::inbox::{Inbox, Message};
use crate::netns::Namespace;

/// What a webhook answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// This status; 2xx accepts.
    Status(u16),
    /// Nothing, for as long as the sender waits.
    Hang,
}

/// A webhook receiver on loopback. What it was sent is its [`Inbox`]; dropped, it listens no more.
#[derive(Debug)]
pub struct Hook {
    inbox: Inbox,
    address: SocketAddr,
    answer: Arc<Mutex<Answer>>,
    listener: Arc<TcpListener>,
}

impl Hook {
    /// Listens on a free port of the loopback, and accepts what is sent.
    #[must_use]
    pub fn new() -> Self {
        Self::on(TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a free port on loopback"))
    }

    /// The same on the loopback inside a namespace.
    #[must_use]
    pub fn inside(namespace: &Namespace) -> Self {
        namespace.enter(Self::new)
    }

    fn on(listener: TcpListener) -> Self {
        let address = listener.local_addr().expect("the port taken");
        let hook = Self {
            inbox: Inbox::default(),
            address,
            answer: Arc::new(Mutex::new(Answer::Status(200))),
            listener: Arc::new(listener),
        };
        let (inbox, answer, listener) = (hook.inbox.clone(), hook.answer.clone(), hook.listener.clone());
        thread::spawn(move || {
            // Ends when `drop` shuts the listener down.
            while let Ok((stream, _)) = listener.accept() {
                let (inbox, answer) = (inbox.clone(), answer.clone());
                thread::spawn(move || {
                    if let Err(error) = serve(stream, &inbox, &answer) {
                        eprintln!("webhook: {error}");
                    }
                });
            }
        });
        hook
    }

    /// Where it listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// Where to send to.
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}/", self.address)
    }

    /// What to answer from now on.
    pub fn answer(&self, answer: Answer) {
        *self.answer.lock().expect("the answer") = answer;
    }
}

impl Default for Hook {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for Hook {
    type Target = Inbox;
    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

impl Drop for Hook {
    fn drop(&mut self) {
        let _ = shutdown(self.listener.as_raw_fd(), Shutdown::Both);
    }
}

/// Takes one request of a connection and closes it.
fn serve(mut stream: TcpStream, inbox: &Inbox, answer: &Mutex<Answer>) -> io::Result<()> {
    let message = http::read_message(&stream)?;
    let at = Instant::now();
    let answer = *answer.lock().expect("the answer");
    let accepted = matches!(answer, Answer::Status(200..=299));
    let body = message.body;
    match answer {
        Answer::Status(status) => {
            // Noted before the sender knows: who has seen the answer finds the message.
            inbox.push(Message { at, body, accepted });
            write!(stream, "HTTP/1.1 {status} -\r\ncontent-length: 0\r\nconnection: close\r\n\r\n")
        }
        Answer::Hang => {
            inbox.push(Message { at, body, accepted });
            // Returns when the sender hangs up.
            stream.read(&mut [0]).map(drop)
        }
    }
}

/// A command that passes what it is given on to its [`Inbox`]; dropped, it and its folder are gone.
#[derive(Debug)]
pub struct CommandHook {
    inbox: Inbox,
    folder: tempfile::TempDir,
}

impl CommandHook {
    /// Writes the command, which accepts what it is given.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        let hook = Self { inbox: Inbox::default(), folder };
        hook.exit_with(0);

        let pipe = hook.pipe();
        nix::unistd::mkfifo(&pipe, Mode::S_IRWXU).expect("a named pipe");
        // Opened for writing too, so that it does not end when a command does.
        let reader = OpenOptions::new().read(true).write(true).open(&pipe).expect("the named pipe");

        // The exit code goes first: the test can tell by the message alone whether it was accepted.
        let script = "#!/bin/sh\nread -r code <\"${0%/*}/code\"\nbody=$(cat)\n\
            printf '%s %s\\n' \"$code\" \"$body\" >\"${0%/*}/pipe\"\nexit \"$code\"\n";
        fs::write(hook.path(), script).expect("the command");
        fs::set_permissions(hook.path(), fs::Permissions::from_mode(0o755)).expect("the command");

        let inbox = hook.inbox.clone();
        thread::spawn(move || pass_on(reader, &inbox));
        hook
    }

    /// The command; it takes no arguments.
    #[must_use]
    pub fn path(&self) -> PathBuf {
        self.folder.path().join("notify")
    }

    /// What it exits with from now on; 0 accepts.
    pub fn exit_with(&self, code: u8) {
        // Renamed into place: a command that runs now reads the old one or the new one, never half of it.
        let (new, code_file) = (self.folder.path().join("code.new"), self.folder.path().join("code"));
        fs::write(&new, format!("{code}\n")).expect("the exit code");
        fs::rename(new, code_file).expect("the exit code");
    }

    fn pipe(&self) -> PathBuf {
        self.folder.path().join("pipe")
    }
}

impl Default for CommandHook {
    fn default() -> Self {
        Self::new()
    }
}

impl Deref for CommandHook {
    type Target = Inbox;
    fn deref(&self) -> &Inbox {
        &self.inbox
    }
}

impl Drop for CommandHook {
    fn drop(&mut self) {
        let _ = end(&self.pipe());
    }
}

/// An empty line ends the reading thread.
fn end(pipe: &Path) -> io::Result<()> {
    OpenOptions::new().read(true).write(true).open(pipe)?.write_all(b"\n")
}

fn pass_on(pipe: File, inbox: &Inbox) {
    for line in BufReader::new(pipe).lines() {
        let line = line.expect("a line of the command's");
        let Some((code, body)) = line.split_once(' ') else {
            return;
        };
        inbox.push(Message { at: Instant::now(), body: body.to_owned(), accepted: code == "0" });
    }
}
