//! A connection to charon's VICI socket, and the calls that are made over it. None of them changes anything there.

use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::UnixStream;
use tokio::time;

use crate::endpoint::{Association, Children, Connection};
use crate::failure::{Failure, Kind};
use crate::message::{Section, Value};
use crate::packet::{LONGEST, Packet, Request};

/// The longest answer to one call. An IKE SA with one child SA takes about 1 KiB, so that tens of thousands fit; what
/// is kept of it is far less.
pub(crate) const LONGEST_ANSWER: usize = 64 * 1024 * 1024;

/// A connection to charon.
#[derive(Debug)]
pub struct Client {
    stream: UnixStream,
    socket: PathBuf,
    patience: Duration,
    /// Which events come; registered for twice, they would come twice.
    registered: Vec<String>,
}

/// What answers.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Version {
    /// The daemon's name, `charon` or `charon-systemd`.
    pub daemon: String,
    /// strongSwan's version, such as `5.9.8`.
    pub version: String,
}

impl Client {
    /// Connects; this and each call after it may take as long as `patience`.
    ///
    /// # Errors
    /// Nobody listens at the socket, it is not for this process, or it is none.
    pub async fn connect(socket: &Path, patience: Duration) -> Result<Self, Failure> {
        let connected = time::timeout(patience, UnixStream::connect(socket)).await;
        let stream = connected.map_err(|_| Failure::timeout(socket, patience))?;
        let stream = stream.map_err(|error| Failure::connect(socket, &error))?;
        Ok(Self { stream, socket: socket.to_owned(), patience, registered: Vec::new() })
    }

    /// Which daemon answers, and its version (`version`).
    ///
    /// # Errors
    /// The call failed.
    pub async fn version(&mut self) -> Result<Version, Failure> {
        let answer = self.call("version", &Section::default(), None, |_| Ok(())).await?;
        let text = |name| answer.text(name).unwrap_or_default().to_owned();
        Ok(Version { daemon: text("daemon"), version: text("version") })
    }

    /// The connections that are configured to have such children (`list-conns`).
    pub(crate) async fn list_conns(&mut self, children: &Children) -> Result<Vec<Connection>, Failure> {
        let mut connections = Vec::new();
        let take = |message: &Section| {
            for (name, section) in message.sections() {
                connections.extend(Connection::read(name, section, children));
            }
            Ok(())
        };
        self.call("list-conns", &Section::default(), Some("list-conn"), take).await?;
        Ok(connections)
    }

    /// All IKE SAs, each with what child SAs of these it has (`list-sas`). charon waits for one that is in use: with its
    /// option `noblock` it would leave that out, and a tunnel would seem down while it is rekeyed.
    pub(crate) async fn list_sas(&mut self, children: &Children) -> Result<Vec<Association>, Failure> {
        let arguments = match children.exact() {
            Some(child) => Section::default().with("child", Value::Text(child.to_owned())),
            None => Section::default(),
        };
        let mut associations = Vec::new();
        let take = |message: &Section| {
            for (name, section) in message.sections() {
                associations.push(Association::read(name, section, children)?);
            }
            Ok(())
        };
        self.call("list-sas", &arguments, Some("list-sa"), take).await?;
        Ok(associations)
    }

    /// Sends a command, passes the events of this name on as they come, and gives its response.
    async fn call(
        &mut self,
        command: &str,
        arguments: &Section,
        event: Option<&str>,
        mut take: impl FnMut(&Section) -> Result<(), String>,
    ) -> Result<Section, Failure> {
        if let Some(event) = event.filter(|event| self.registered.iter().all(|known| known != event)) {
            self.send(&Request::Register(event)).await?;
            match self.receive().await?.0 {
                Packet::Confirmed => self.registered.push(event.to_owned()),
                Packet::UnknownEvent => return Err(self.lacks(event)),
                other => return Err(self.protocol(unexpected(&other, "to be told that events will come"))),
            }
        }
        self.send(&Request::Command(command, arguments)).await?;
        let mut length = 0;
        loop {
            let (packet, bytes) = self.receive().await?;
            length += bytes;
            if length > LONGEST_ANSWER {
                let most = LONGEST_ANSWER / 1024 / 1024;
                return Err(self.protocol(format!("{command} does not end within {most} MiB")));
            }
            match packet {
                Packet::Response(answer) => return Ok(answer),
                Packet::Event { name, message } if Some(&*name) == event => {
                    take(&message).map_err(|what| self.protocol(what))?;
                }
                Packet::UnknownCommand => return Err(self.lacks(command)),
                other => return Err(self.protocol(unexpected(&other, command))),
            }
        }
    }

    async fn send(&mut self, request: &Request<'_>) -> Result<(), Failure> {
        // The names are ours; only the child's comes from a config.
        let bytes = request.encode().map_err(|error| self.protocol(error))?;
        match time::timeout(self.patience, self.stream.write_all(&bytes)).await {
            Ok(written) => written.map_err(|error| Failure::transfer(&self.socket, &error)),
            Err(_) => Err(Failure::timeout(&self.socket, self.patience)),
        }
    }

    /// The next packet, and its length.
    async fn receive(&mut self) -> Result<(Packet, usize), Failure> {
        let read = time::timeout(self.patience, read(&mut self.stream)).await;
        let read = read.map_err(|_| Failure::timeout(&self.socket, self.patience))?;
        let bytes = match read.map_err(|error| Failure::transfer(&self.socket, &error))? {
            Ok(bytes) => bytes,
            Err(length) => {
                return Err(
                    self.protocol(format!("a packet of {length} bytes, where VICI has {LONGEST} at most"))
                );
            }
        };
        let packet = Packet::decode(&bytes).map_err(|error| self.protocol(error))?;
        Ok((packet, bytes.len()))
    }

    fn protocol(&self, what: impl std::fmt::Display) -> Failure {
        Failure::protocol(&self.socket, what)
    }

    /// It speaks VICI, but not all of it.
    fn lacks(&self, what: &str) -> Failure {
        let message = format!("charon does not know {what}: it is too old; strongSwan has it since 5.2.0");
        Failure::new(Kind::Protocol, &self.socket, message)
    }
}

/// A packet's bytes, or the length that none has.
async fn read(stream: &mut UnixStream) -> io::Result<Result<Vec<u8>, usize>> {
    let length = stream.read_u32().await? as usize;
    if length > LONGEST {
        return Ok(Err(length));
    }
    let mut bytes = vec![0; length];
    stream.read_exact(&mut bytes).await?;
    Ok(Ok(bytes))
}

fn unexpected(packet: &Packet, during: &str) -> String {
    let what = match packet {
        Packet::Response(_) => "a response",
        Packet::UnknownCommand => "'unknown command'",
        Packet::Confirmed => "a confirmation of events",
        Packet::UnknownEvent => "'unknown event'",
        Packet::Event { .. } => "an event of another name",
    };
    format!("{what} where {during} was asked for")
}
