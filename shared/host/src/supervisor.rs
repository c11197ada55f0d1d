//! What supervises the process, systemd's `Type=notify`: it hears that the process is ready, that it stops, and, while the loops
//! of its stages turn, that it is alive. A process that only exists gives no sign of life: one that hangs is started again.
//!
//! The protocol is that of sd_notify(3): datagrams to the Unix socket that `NOTIFY_SOCKET` names. Without it nothing is said.

use std::env;
use std::ffi::OsString;
use std::io;
use std::os::linux::net::SocketAddrExt as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::net::{SocketAddr, UnixDatagram};
use std::time::{Duration, Instant};

use tokio_util::sync::CancellationToken;

use crate::health::Health;

/// How to reach who supervises.
#[derive(Debug)]
pub struct Supervisor {
    socket: Option<(UnixDatagram, SocketAddr)>,
    /// How long it waits for a sign of life.
    patience: Option<Duration>,
}

impl Supervisor {
    /// As the environment names it; the variables are for this process alone.
    ///
    /// # Errors
    /// What is named is no socket's address, or no socket can be made.
    pub fn of_environment() -> io::Result<Self> {
        let own = env::var("WATCHDOG_PID").ok().is_none_or(|pid| pid == std::process::id().to_string());
        let patience = env::var("WATCHDOG_USEC").ok().filter(|_| own).and_then(|text| text.parse().ok());
        Self::at(env::var_os("NOTIFY_SOCKET"), patience.map(Duration::from_micros))
    }

    fn at(socket: Option<OsString>, patience: Option<Duration>) -> io::Result<Self> {
        let socket = match socket {
            None => None,
            Some(path) => {
                // A name that begins so is not in the file system.
                let address = match path.as_bytes().strip_prefix(b"@") {
                    Some(name) => SocketAddr::from_abstract_name(name)?,
                    None => SocketAddr::from_pathname(&path)?,
                };
                Some((UnixDatagram::unbound()?, address))
            }
        };
        Ok(Self { socket, patience })
    }

    /// Everything is open, and the loops begin.
    pub fn ready(&self) {
        self.say("READY=1");
    }

    /// Gives signs of life while every loop turns, until the process stops.
    pub async fn watch(self, health: Health, stop: CancellationToken) {
        let mut told = false;
        if let Some(patience) = self.patience {
            // Two that are late still leave one in time.
            while !pause(patience / 4, &stop).await {
                #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
                let stalled = health.stalled(patience / 2, Instant::now());
                if stalled.is_empty() {
                    self.say("WATCHDOG=1");
                } else if !told {
                    tracing::error!(
                        parts = stalled.join(", "),
                        "does not turn any more: no sign of life is given"
                    );
                }
                told = !stalled.is_empty();
            }
        }
        stop.cancelled().await;
        self.say("STOPPING=1");
    }

    fn say(&self, what: &str) {
        if let Some((socket, address)) = &self.socket
            && let Err(error) = socket.send_to_addr(what.as_bytes(), address)
        {
            tracing::warn!(%error, "the supervisor does not hear {what}");
        }
    }
}

/// Whether it was stopped meanwhile.
async fn pause(time: Duration, stop: &CancellationToken) -> bool {
    stop.run_until_cancelled(tokio::time::sleep(time)).await.is_none()
}

#[cfg(test)]
mod tests {
    use super::*;

    const PATIENCE: Duration = Duration::from_millis(200);

    fn heard(socket: &UnixDatagram) -> String {
        let mut buffer = [0; 64];
        let length = socket.recv(&mut buffer).unwrap();
        String::from_utf8(buffer[..length].to_vec()).unwrap()
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn signs_of_life_come_while_the_loop_turns_and_none_once_it_hangs() {
        let name = format!("crosswatch-supervisor-{}", std::process::id());
        let address = SocketAddr::from_abstract_name(name.as_bytes()).unwrap();
        let socket = UnixDatagram::bind_addr(&address).unwrap();
        let supervisor = Supervisor::at(Some(format!("@{name}").into()), Some(PATIENCE)).unwrap();
        supervisor.ready();
        assert_eq!(heard(&socket), "READY=1");

        let (health, stop) = (Health::default(), CancellationToken::new());
        let part = health.part("publisher");
        part.turned();
        let watching = tokio::spawn(supervisor.watch(health, stop.clone()));
        let (turning, turned) = (CancellationToken::new(), part.clone());
        let turn = turning.clone();
        tokio::spawn(async move {
            while !pause(PATIENCE / 20, &turn).await {
                turned.turned();
            }
        });
        for _ in 0..10 {
            assert_eq!(heard(&socket), "WATCHDOG=1");
        }
        turning.cancel();
        // It hangs: what is still heard soon ends, and then nothing is.
        socket.set_read_timeout(Some(PATIENCE * 3)).unwrap();
        let mut buffer = [0; 64];
        let mut signs = 0;
        while socket.recv(&mut buffer).is_ok() {
            signs += 1;
            assert!(signs < 20, "it hangs, and signs of life go on");
        }
        stop.cancel();
        watching.await.unwrap();
        assert_eq!(heard(&socket), "STOPPING=1");
    }

    #[tokio::test]
    async fn without_a_supervisor_nothing_is_said_and_the_watch_ends_with_the_process() {
        let stop = CancellationToken::new();
        let supervisor = Supervisor::at(None, None).unwrap();
        supervisor.ready();
        stop.cancel();
        supervisor.watch(Health::default(), stop).await;
    }
}
