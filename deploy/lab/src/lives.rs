//! The lives of a lab's processes: how each is started, whether it answers, how it ends.

use std::fs;
use std::io;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::net::UnixStream;
use std::path::PathBuf;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use nix::sys::signal::Signal;

use crate::Site;
use crate::aws;
use crate::error::{Error, Result};
use crate::fault;
use crate::folder::{self, GATE_SOCKET, LOGS, WAN_SOCKET};
use crate::http::{self, Answer, Request};
use crate::lab::Lab;
use crate::namespace::Namespace;
use crate::process::{self, LOOK, Process};
use crate::record::Cloud;
use crate::site::{AWS, HOST_PORT, REFLECTOR_PORT};
use crate::tunnels::{TUNNELS, end};

/// How long a part may take to come up: the emulator takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a look at a part may take.
pub(crate) const GLANCE: Duration = Duration::from_secs(5);

impl Lab {
    /// Sends a signal to a process; after SIGKILL it is gone when this returns.
    ///
    /// # Errors
    /// It may not be signalled.
    pub fn kill(&mut self, process: Process, signal: Signal) -> Result<()> {
        let _lock = self.lock()?;
        self.end(process, signal)
    }

    pub(crate) fn end(&self, process: Process, signal: Signal) -> Result<()> {
        let Some(identity) = self.record.process(process) else { return Ok(()) };
        let sent = identity.signal(signal);
        sent.map_err(|errno| Error::Signal { process, signal: signal.as_str(), why: errno.to_string() })?;
        if signal == Signal::SIGKILL {
            wait_for(&format!("the end of {process}"), || {
                if identity.is_running() { Err("it still runs".to_owned()) } else { Ok(()) }
            })?;
        }
        Ok(())
    }

    /// Starts a process that has ended, and returns when it answers; one that runs is left alone. The WAN and AWS are as the
    /// faults want them then; what was in the queues is lost, for the emulator keeps nothing.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(&mut self, process: Process) -> Result<()> {
        let _lock = self.lock()?;
        if self.is_running(process) {
            return Ok(());
        }
        self.launch(process)?;
        self.await_up(process)?;
        let faults = &self.record.faults;
        match process {
            Process::Wan => {
                self.wan().set(&[fault::policy(faults, self.record.setup.delay); 2])?;
            }
            Process::Aws => {
                self.network.centre.enter(aws::make)??;
                let throttles = fault::throttles(faults);
                self.tell_of_tunnels()?;
                if let Some(gate) = self.gate() {
                    throttles.iter().try_for_each(|(_, throttle)| gate.add_fault(throttle))?;
                }
            }
            Process::Charon(site) => self.restore_end(site)?,
            _ => {}
        }
        Ok(())
    }

    /// Whether a process runs.
    #[must_use]
    pub fn is_running(&self, process: Process) -> bool {
        self.record.process(process).is_some_and(process::Identity::is_running)
    }

    /// A process's id, while it runs.
    #[must_use]
    pub fn pid(&self, process: Process) -> Option<i32> {
        self.record.process(process).filter(|identity| identity.is_running()).map(|identity| identity.pid)
    }

    /// Whether a process answers, or why not.
    ///
    /// # Errors
    /// Why not.
    pub fn health(&self, process: Process) -> Result<(), String> {
        if !self.is_running(process) {
            return Err("not running".to_owned());
        }
        let port = match process {
            Process::Wan => return self.wan().report().map(drop).map_err(|error| error.to_string()),
            Process::Aws => {
                if let Some(gate) = self.gate() {
                    gate.get("/counts").map_err(|error| error.to_string())?;
                }
                return connect(&self.network.centre, AWS.into());
            }
            Process::Charon(site) => {
                let (socket, _) = self.vici(site).ok_or("no tunnels")?;
                return UnixStream::connect(socket).map(drop).map_err(|error| error.to_string());
            }
            Process::Telemetry => {
                let table = self.control().and_then(|gate| gate.get("/tunnels"));
                let table = table.map_err(|error| error.to_string())?;
                let told = table.as_array().is_some_and(|table| !table.is_empty());
                return if told { Ok(()) } else { Err("the gate has not been told".to_owned()) };
            }
            Process::Reflector(_) => 9467,
            Process::Collector(_) => 9464,
            Process::Publisher => 9465,
            Process::Alerter => 9466,
        };
        let request = Request { method: "GET", path: "/healthz", headers: &[], body: "" };
        let ask = || http::over_tcp(SocketAddr::from(([127, 0, 0, 1], port)), request);
        let answer = self.namespace(process).enter(ask).map_err(|error| error.to_string())?;
        answer.map_err(|error| error.to_string()).and_then(Answer::ok).map(drop)
    }

    /// The processes that the lab has, dead or alive.
    #[must_use]
    pub fn processes(&self) -> Vec<Process> {
        let mut processes: Vec<_> = self.record.processes.iter().map(|(process, _)| *process).collect();
        processes.sort();
        processes
    }

    /// What a process printed, on both streams, over all its lives.
    #[must_use]
    pub fn log_path(&self, process: Process) -> PathBuf {
        self.folder.join(LOGS).join(format!("{process}.log"))
    }

    fn namespace(&self, process: Process) -> &Namespace {
        match process {
            Process::Collector(site) | Process::Reflector(site) => self.network.region(site),
            _ => &self.network.centre,
        }
    }

    /// The environment by which a stage, or a test's own client, finds the local AWS.
    #[must_use]
    pub fn environment() -> [(&'static str, String); 5] {
        [
            ("AWS_ENDPOINT_URL", format!("http://{AWS}")),
            ("AWS_REGION", Site::UsEast1.name().to_owned()),
            ("AWS_ACCESS_KEY_ID", "test".to_owned()),
            ("AWS_SECRET_ACCESS_KEY", "test".to_owned()),
            ("AWS_EC2_METADATA_DISABLED", "true".to_owned()),
        ]
    }

    pub(crate) fn launch(&mut self, process: Process) -> Result<()> {
        let command = self.command(process)?;
        let log = self.log_path(process);
        let stem = &self.record.stem;
        let identity = match process {
            // They go where they have to by themselves.
            Process::Wan | Process::Charon(_) => process::start(command, stem, &log),
            _ => self.namespace(process).enter(|| process::start(command, stem, &log))?,
        }?;
        self.record.processes.retain(|(other, _)| *other != process);
        self.record.processes.push((process, identity));
        self.save()
    }

    fn command(&self, process: Process) -> Result<Command> {
        let setup = &self.record.setup;
        let mut command = match process {
            Process::Charon(site) => {
                let link = self.link()?.ok_or(Error::Lacks { fault: "a charon", part: TUNNELS })?;
                return Ok(end(&link, site).command());
            }
            Process::Wan | Process::Telemetry => Command::new(&setup.lab),
            Process::Aws => match &setup.cloud {
                Cloud::Gate { gate, .. } => Command::new(gate),
                Cloud::Emulator { ministack } => Command::new(ministack),
                Cloud::None => return Err(Error::Lacks { fault: "the process aws", part: "a local AWS" }),
            },
            _ => Command::new(&setup.program),
        };
        // Of whoever is logged in to the real one.
        for variable in ["AWS_PROFILE", "AWS_SESSION_TOKEN", "AWS_DEFAULT_REGION"] {
            command.env_remove(variable);
        }
        command.envs(Self::environment()).current_dir(&self.folder);
        if let Some(key) = key(process) {
            command.env("AWS_ACCESS_KEY_ID", key);
        }
        match process {
            Process::Wan => {
                command.arg("wan");
                for site in Site::ALL {
                    command.args(["--region", self.network.region(site).name()]);
                }
                command.arg("--socket").arg(folder::socket(&self.folder, WAN_SOCKET)?);
                command.arg("--delay-ms").arg(setup.delay.as_millis().to_string());
            }
            Process::Aws => match &setup.cloud {
                Cloud::Gate { ministack, .. } => {
                    command.arg("--listen").arg(AWS.to_string());
                    command.arg("--control").arg(folder::socket(&self.folder, GATE_SOCKET)?);
                    command.arg("--ministack").arg(ministack);
                }
                _ => {
                    command.env("GATEWAY_PORT", AWS.port().to_string());
                }
            },
            Process::Telemetry => {
                command.arg("telemetry").arg("--folder").arg(&self.folder);
            }
            Process::Reflector(site) => {
                let at = format!("{}:{REFLECTOR_PORT}", site.address());
                command.args(["reflector", "--listen", &at, "--allow", &site.other().network()]);
            }
            Process::Charon(_) => {}
            Process::Publisher => {
                command.arg("publisher").arg("--config").arg(self.config_path());
            }
            Process::Alerter => {
                command.arg("alerter").arg("--config").arg(self.config_path());
            }
            Process::Collector(site) => {
                command.args(["collector", "--site", site.name(), "--config"]).arg(self.config_path());
            }
        }
        Ok(command)
    }

    pub(crate) fn await_up(&self, process: Process) -> Result<()> {
        let late = wait_for(&process.to_string(), || {
            match self.health(process) {
                // Waiting longer would not help; told below.
                Err(_) if !self.is_running(process) => Ok(()),
                health => health,
            }
        });
        if self.is_running(process) {
            return late;
        }
        let log = self.log_path(process);
        let said = fs::read_to_string(&log).unwrap_or_default();
        let lines: Vec<_> = said.lines().collect();
        let said = lines.get(lines.len().saturating_sub(10)..).unwrap_or_default().join("\n");
        Err(Error::Ended { process, log, said })
    }

    /// Until packets go from a region to the other and back: a device that has just come up drops what is sent at first.
    pub(crate) fn await_way(&self, from: Site) -> Result<()> {
        let there = SocketAddr::from((from.other().address(), HOST_PORT));
        let what = format!("the way from {from} to {}", from.other());
        wait_for(&what, || connect(self.network.region(from), there))
    }
}

/// The access key's id of a stage's own: so the gate tells who calls.
fn key(process: Process) -> Option<&'static str> {
    match process {
        Process::Collector(_) => Some("collector"),
        Process::Publisher => Some("publisher"),
        Process::Alerter => Some("alerter"),
        _ => None,
    }
}

fn connect(from: &Namespace, to: SocketAddr) -> Result<(), String> {
    let connected = from.enter(|| TcpStream::connect_timeout(&to, GLANCE));
    connected
        .map_err(|error| error.to_string())?
        .map(drop)
        .map_err(|error: io::Error| format!("{to}: {error}"))
}

/// Looks until all is well.
pub(crate) fn wait_for(what: &str, mut look: impl FnMut() -> Result<(), String>) -> Result<()> {
    let since = Instant::now();
    loop {
        match look() {
            Ok(()) => return Ok(()),
            Err(why) if since.elapsed() > PATIENCE => {
                return Err(Error::Late { what: what.to_owned(), waited: PATIENCE, why });
            }
            Err(_) => thread::sleep(LOOK),
        }
    }
}
