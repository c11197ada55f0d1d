//! A lab as a whole: up, broken, healed, down.

use std::fmt;
use std::fs;
use std::io::{self, ErrorKind};
use std::net::{SocketAddr, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_shared::time::Timestamp;
use nix::sys::signal::Signal;

use crate::Site;
use crate::aws;
use crate::config;
use crate::error::{Error, Result};
use crate::fault::{self, Fault};
use crate::gate::Gate;
use crate::http::{self, Answer, Request};
use crate::namespace::Namespace;
use crate::network::Network;
use crate::process::{self, LOOK, Process};
use crate::record::{self, Cloud, Lock, Record, Setup, State};
use crate::site::{AWS, HOST_PORT};
use crate::wan::{LONGEST_DELAY, Wan};

/// How long a part may take to come up: the emulator takes seconds on a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// How long a look at a part may take.
const GLANCE: Duration = Duration::from_secs(5);

const CONFIG: &str = "crosswatch.toml";
const LOGS: &str = "logs";
const DATA: &str = "data";
const WAN_SOCKET: &str = "wan.sock";
const GATE_SOCKET: &str = "gate.sock";

/// The longest path that a Unix socket's address holds, with the zero at its end.
const SOCKET_PATH: usize = 108;

/// What a lab is to be like.
pub struct Options {
    /// Where config, logs, data and the lab's record go; made if absent. It must be empty, or a lab's that is down,
    /// whose config, logs and data are then replaced.
    pub folder: PathBuf,
    /// `crosswatch`, or what stands in for it.
    pub program: PathBuf,
    /// `lab`, which is also the WAN's forwarder.
    pub lab: PathBuf,
    /// Which AWS there is.
    pub cloud: Cloud,
    /// The delay of the WAN each way.
    pub delay: Duration,
    /// How often each probe is sent.
    pub every: Duration,
    /// Gets the config's text and gives the one that is written.
    pub change_config: Box<dyn FnOnce(String) -> String>,
    /// Called once network, WAN, AWS and config are there, before the stages are started.
    pub prepare: Box<dyn FnOnce(&Lab)>,
}

impl Options {
    /// 40 ms each way, a probe a second, the config as it is, and no AWS.
    #[must_use]
    pub fn new(folder: PathBuf, program: PathBuf, lab: PathBuf) -> Self {
        Self {
            folder,
            program,
            lab,
            cloud: Cloud::None,
            delay: Duration::from_millis(40),
            every: Duration::from_secs(1),
            change_config: Box::new(|text| text),
            prepare: Box::new(|_| ()),
        }
    }
}

impl fmt::Debug for Options {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { folder, program, lab, cloud, delay, every, change_config: _, prepare: _ } = self;
        f.debug_struct("Options")
            .field("folder", folder)
            .field("program", program)
            .field("lab", lab)
            .field("cloud", cloud)
            .field("delay", delay)
            .field("every", every)
            .finish_non_exhaustive()
    }
}

/// A lab that is up. Dropping one that was made by [`Lab::up`] takes it down, unless [`Lab::keep`] was called.
#[derive(Debug)]
pub struct Lab {
    folder: PathBuf,
    record: Record,
    network: Network,
    keep: bool,
}

impl Lab {
    /// Makes a lab, and returns when each of its processes answers. What an `up` that was cut short left in the folder is
    /// removed first; what this one made is removed if it fails.
    ///
    /// # Errors
    /// Not root; the folder is another's; a program is missing; something did not come up.
    pub fn up(options: Options) -> Result<Self> {
        need_root()?;
        let Options { folder, program, lab, cloud, delay, every, change_config, prepare } = options;
        if delay > LONGEST_DELAY {
            let range = format!("at most {} ms", LONGEST_DELAY.as_millis());
            return Err(Error::Range { what: "the WAN's delay", range });
        }
        let folder = make_folder(&folder)?;
        let _lock = record::lock(&folder)?;
        if !record::is_ours(&folder)? {
            return Err(Error::Foreign { folder });
        }
        if let Some(old) = Record::load(&folder)? {
            let running = old.boot == process::boot()?
                && old.processes.iter().any(|(_, identity)| identity.is_running());
            if old.state == State::Up && running {
                return Err(Error::Running { folder });
            }
            take_down(&folder, old)?;
        }
        for name in [CONFIG, LOGS, DATA] {
            clear(&folder.join(name))?;
        }
        let logs = folder.join(LOGS);
        fs::create_dir(&logs).map_err(|source| Error::File { path: logs, source })?;
        let setup =
            Setup { program: absolute(&program), lab: absolute(&lab), cloud: cloud.absolute(), delay };
        let record = Record {
            stem: record::stem(&folder),
            boot: process::boot()?,
            state: State::Unfinished,
            setup,
            faults: Vec::new(),
            processes: Vec::new(),
        };
        record.save(&folder)?;
        let network = Network::of(&record.stem);
        let mut lab = Self { folder, record, network, keep: true };
        match lab.build(every, change_config, prepare) {
            Ok(()) => {
                lab.keep = false;
                Ok(lab)
            }
            Err(error) => {
                // The first error is the one to tell; 'down' tells what stays.
                let _ = take_down(&lab.folder, lab.record.clone());
                Err(error)
            }
        }
    }

    fn build(
        &mut self,
        every: Duration,
        change_config: Box<dyn FnOnce(String) -> String>,
        prepare: Box<dyn FnOnce(&Self)>,
    ) -> Result<()> {
        self.network.make()?;
        self.launch(Process::Wan)?;
        self.await_up(Process::Wan)?;
        for site in Site::ALL {
            self.await_way(site)?;
        }
        let mut made = None;
        if self.record.setup.cloud != Cloud::None {
            self.launch(Process::Aws)?;
            self.await_up(Process::Aws)?;
            made = Some(self.network.centre.enter(aws::make)??);
        }
        let path = self.config_path();
        fs::write(&path, change_config(config::text(made.as_ref(), every)))
            .map_err(|source| Error::File { path, source })?;
        if let Some(gate) = self.gate() {
            gate.set_tunnels(&fault::tunnel_table([true, true], &now()))?;
        }
        prepare(self);
        let stages =
            [Process::Publisher, Process::Alerter].into_iter().chain(Site::ALL.map(Process::Collector));
        for stage in stages.clone() {
            self.launch(stage)?;
        }
        for stage in stages {
            self.await_up(stage)?;
        }
        self.record.state = State::Up;
        self.save()
    }

    /// The lab in a folder, made by another process; it stays up when this is dropped.
    ///
    /// # Errors
    /// None is up there; not root.
    pub fn open(folder: &Path) -> Result<Self> {
        need_root()?;
        let down = || Error::Down { folder: folder.to_owned() };
        let folder = folder.canonicalize().map_err(|_| down())?;
        let record = Record::load(&folder)?.filter(|record| record.state == State::Up).ok_or_else(down)?;
        if record.boot != process::boot()? {
            return Err(down());
        }
        let network = Network::of(&record.stem);
        Ok(Self { folder, record, network, keep: true })
    }

    /// Lets it stay up when this is dropped.
    pub fn keep(mut self) {
        self.keep = true;
    }

    /// Takes down what is in a folder: ends the lab's processes, removes its namespaces and sockets. Config, logs and data
    /// stay to be looked at. Nothing happens where no lab is, or was.
    ///
    /// # Errors
    /// Something could not be ended or removed; calling it again goes on.
    pub fn down(folder: &Path) -> Result<()> {
        need_root()?;
        let folder = match folder.canonicalize() {
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(()),
            canonical => canonical.map_err(|source| Error::File { path: folder.to_owned(), source })?,
        };
        if !record::is_ours(&folder)? {
            return Err(Error::Foreign { folder });
        }
        let _lock = record::lock(&folder)?;
        Record::load(&folder)?.map_or(Ok(()), |record| take_down(&folder, record))
    }

    /// Breaks something, in place of what was broken in the same way. Returns when it is broken.
    ///
    /// # Errors
    /// A number is out of range; the lab has not what it needs; a part does not answer.
    pub fn fault(&mut self, fault: Fault) -> Result<()> {
        fault.check()?;
        if !matches!(self.record.setup.cloud, Cloud::Gate { .. })
            && matches!(fault, Fault::Throttled { .. } | Fault::TunnelDown { .. })
        {
            return Err(Error::Lacks { fault: fault.name(), part: "the gate before the local AWS" });
        }
        let _lock = self.lock()?;
        let mut faults = self.record.faults.clone();
        faults.retain(|old| !fault.replaces(old));
        faults.push(fault);
        self.apply(faults)
    }

    /// Ends all faults; returns when they are ended and a killed collector is up again.
    ///
    /// # Errors
    /// A part does not answer, or does not come up.
    pub fn heal(&mut self) -> Result<()> {
        let _lock = self.lock()?;
        self.apply(Vec::new())
    }

    /// Lets every part be as these faults want it. They are written down first: what fails half-way is healed too.
    fn apply(&mut self, faults: Vec<Fault>) -> Result<()> {
        let before = std::mem::replace(&mut self.record.faults, faults);
        self.save()?;
        let faults = self.record.faults.clone();
        self.wan().set(&[fault::policy(&faults, self.record.setup.delay); 2])?;
        self.network.cut(|site| fault::is_cut_off(&faults, site))?;
        if let Some(gate) = self.gate() {
            let throttle = fault::throttle(&faults);
            if throttle != fault::throttle(&before) {
                if fault::throttle(&before).is_some() {
                    gate.remove_fault(fault::THROTTLED)?;
                }
                if let Some(throttle) = throttle {
                    gate.add_fault(&throttle)?;
                }
            }
            // Left alone otherwise: a table that somebody else has set stays, and so do the times in it.
            let up = fault::tunnels_up(&faults);
            if up != fault::tunnels_up(&before) {
                gate.set_tunnels(&fault::tunnel_table(up, &now()))?;
            }
        }
        for site in Site::ALL {
            let dead = Fault::CollectorDead { site };
            let process = Process::Collector(site);
            if faults.contains(&dead) {
                self.end(process, Signal::SIGKILL)?;
            } else if before.contains(&dead) && !self.is_running(process) {
                self.launch(process)?;
                self.await_up(process)?;
            }
        }
        Ok(())
    }

    /// Sends a signal to a process; after SIGKILL it is gone when this returns.
    ///
    /// # Errors
    /// It may not be signalled.
    pub fn kill(&mut self, process: Process, signal: Signal) -> Result<()> {
        let _lock = self.lock()?;
        self.end(process, signal)
    }

    fn end(&self, process: Process, signal: Signal) -> Result<()> {
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
                if let Some(gate) = self.gate() {
                    gate.set_tunnels(&fault::tunnel_table(fault::tunnels_up(faults), &now()))?;
                    if let Some(throttle) = fault::throttle(faults) {
                        gate.add_fault(&throttle)?;
                    }
                }
            }
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

    /// What is broken.
    #[must_use]
    pub fn faults(&self) -> &[Fault] {
        &self.record.faults
    }

    /// The gate's control socket.
    ///
    /// # Errors
    /// This lab has no gate.
    pub fn control(&self) -> Result<Gate> {
        self.gate().ok_or(Error::Lacks { fault: "the control socket", part: "the gate before the local AWS" })
    }

    fn gate(&self) -> Option<Gate> {
        matches!(self.record.setup.cloud, Cloud::Gate { .. }).then(|| Gate::at(self.folder.join(GATE_SOCKET)))
    }

    /// The forwarder's control socket.
    #[must_use]
    pub fn wan(&self) -> Wan {
        Wan::at(self.folder.join(WAN_SOCKET))
    }

    /// The lab's folder, as an absolute path.
    #[must_use]
    pub fn folder(&self) -> &Path {
        &self.folder
    }

    /// The config that the stages were given.
    #[must_use]
    pub fn config_path(&self) -> PathBuf {
        self.folder.join(CONFIG)
    }

    /// What a process printed, on both streams, over all its lives.
    #[must_use]
    pub fn log_path(&self, process: Process) -> PathBuf {
        self.folder.join(LOGS).join(format!("{process}.log"))
    }

    /// `crosswatch`, as it was named.
    #[must_use]
    pub fn program(&self) -> &Path {
        &self.record.setup.program
    }

    /// A region's namespace.
    #[must_use]
    pub fn region(&self, site: Site) -> &Namespace {
        self.network.region(site)
    }

    /// The centre's namespace.
    #[must_use]
    pub fn centre(&self) -> &Namespace {
        &self.network.centre
    }

    fn namespace(&self, process: Process) -> &Namespace {
        match process {
            Process::Collector(site) => self.network.region(site),
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

    fn launch(&mut self, process: Process) -> Result<()> {
        let command = self.command(process)?;
        let log = self.log_path(process);
        let stem = &self.record.stem;
        let identity = match process {
            // It goes into both regions by itself.
            Process::Wan => process::start(command, stem, &log),
            _ => self.namespace(process).enter(|| process::start(command, stem, &log))?,
        }?;
        self.record.processes.retain(|(other, _)| *other != process);
        self.record.processes.push((process, identity));
        self.save()
    }

    fn command(&self, process: Process) -> Result<Command> {
        let setup = &self.record.setup;
        let mut command = match process {
            Process::Wan => Command::new(&setup.lab),
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
        match process {
            Process::Wan => {
                command.arg("wan");
                for site in Site::ALL {
                    command.args(["--region", self.network.region(site).name()]);
                }
                command.arg("--socket").arg(self.socket(WAN_SOCKET)?);
                command.arg("--delay-ms").arg(setup.delay.as_millis().to_string());
            }
            Process::Aws => match &setup.cloud {
                Cloud::Gate { ministack, .. } => {
                    command.arg("--listen").arg(AWS.to_string());
                    command.arg("--control").arg(self.socket(GATE_SOCKET)?);
                    command.arg("--ministack").arg(ministack);
                }
                _ => {
                    command.env("GATEWAY_PORT", AWS.port().to_string());
                }
            },
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

    fn socket(&self, name: &str) -> Result<PathBuf> {
        let path = self.folder.join(name);
        if path.as_os_str().len() < SOCKET_PATH { Ok(path) } else { Err(Error::LongPath { path }) }
    }

    fn await_up(&self, process: Process) -> Result<()> {
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
    fn await_way(&self, from: Site) -> Result<()> {
        let there = SocketAddr::from((from.other().address(), HOST_PORT));
        let what = format!("the way from {from} to {}", from.other());
        wait_for(&what, || connect(self.network.region(from), there))
    }

    fn save(&self) -> Result<()> {
        self.record.save(&self.folder)
    }

    /// Locks the lab, and reads what another process has changed of it.
    fn lock(&mut self) -> Result<Lock> {
        let lock = record::lock(&self.folder)?;
        let record = Record::load(&self.folder)?.filter(|record| record.state == State::Up);
        self.record = record.ok_or_else(|| Error::Down { folder: self.folder.clone() })?;
        Ok(lock)
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        if !self.keep
            && let Err(error) = Self::down(&self.folder)
        {
            eprintln!("cannot take the lab down: {error}");
        }
    }
}

fn need_root() -> Result<()> {
    if nix::unistd::geteuid().is_root() { Ok(()) } else { Err(Error::NotRoot) }
}

/// Ends and removes what a record tells of, and what it has not come to tell.
fn take_down(folder: &Path, mut record: Record) -> Result<()> {
    // Processes of an earlier boot are gone, whoever has their ids now; what bears the mark is still looked for.
    let same_boot = record.boot == process::boot()?;
    let known: Vec<_> = record.processes.iter().map(|(_, identity)| *identity).collect();
    process::end(&record.stem, if same_boot { &known } else { &[] })?;
    Network::of(&record.stem).remove()?;
    for name in [WAN_SOCKET, GATE_SOCKET] {
        clear(&folder.join(name))?;
    }
    record.state = State::Down;
    record.faults.clear();
    record.processes.clear();
    record.save(folder)
}

fn make_folder(folder: &Path) -> Result<PathBuf> {
    let file = |source| Error::File { path: folder.to_owned(), source };
    fs::create_dir_all(folder).map_err(file)?;
    folder.canonicalize().map_err(file)
}

/// Removes a file or a folder, if it is there.
fn clear(path: &Path) -> Result<()> {
    let removed = match fs::symlink_metadata(path) {
        Err(error) => Err(error),
        Ok(of) if of.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
    };
    match removed {
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(()),
        removed => removed.map_err(|source| Error::File { path: path.to_owned(), source }),
    }
}

/// Processes run in the lab's folder: a path in the present one must not change its meaning. A bare name is searched for
/// in PATH.
fn absolute(program: &Path) -> PathBuf {
    if program.components().count() == 1 && !program.is_absolute() {
        return program.to_owned();
    }
    std::path::absolute(program).unwrap_or_else(|_| program.to_owned())
}

impl Cloud {
    fn absolute(self) -> Self {
        match self {
            Self::Gate { gate, ministack } => {
                Self::Gate { gate: absolute(&gate), ministack: absolute(&ministack) }
            }
            Self::Emulator { ministack } => Self::Emulator { ministack: absolute(&ministack) },
            Self::None => Self::None,
        }
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
fn wait_for(what: &str, mut look: impl FnMut() -> Result<(), String>) -> Result<()> {
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

/// Now, as AWS writes times.
fn now() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX)).to_string()
}
