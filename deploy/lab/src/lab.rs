//! A lab as a whole: up, broken, healed, down.

use std::fs;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use crosswatch_shared::time::Timestamp;
use nix::sys::signal::Signal;

use crate::Site;
use crate::aws;
use crate::config;
use crate::error::{Error, Result};
use crate::fault::{self, Fault};
use crate::folder::{self, CONFIG, DATA, GATE_SOCKET, IPSEC, LOGS, WAN_SOCKET};
use crate::gate::Gate;
use crate::namespace::Namespace;
use crate::network::Network;
use crate::options::Options;
use crate::process::{self, Process};
use crate::record::{self, Cloud, Lock, Record, Setup, State};
use crate::tunnels::{self, TUNNELS};
use crate::wan::{LONGEST_DELAY, Wan};

/// A lab that is up. Dropping one that was made by [`Lab::up`] takes it down, unless [`Lab::keep`] was called.
#[derive(Debug)]
pub struct Lab {
    pub(crate) folder: PathBuf,
    pub(crate) record: Record,
    pub(crate) network: Network,
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
        let Options { folder, program, lab, cloud, plain, delay, every, change_config, prepare } = options;
        if delay > LONGEST_DELAY {
            let range = format!("at most {} ms", LONGEST_DELAY.as_millis());
            return Err(Error::Range { what: "the WAN's delay", range });
        }
        if !plain {
            tunnels::check()?;
        }
        let folder = folder::make(&folder)?;
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
            folder::clear(&folder.join(name))?;
        }
        let logs = folder.join(LOGS);
        fs::create_dir(&logs).map_err(|source| Error::File { path: logs, source })?;
        let setup = Setup {
            program: folder::absolute(&program),
            lab: folder::absolute(&lab),
            cloud: cloud.absolute(),
            tunnels: !plain,
            delay,
        };
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
        let tunnels = self.record.setup.tunnels;
        self.network.make(tunnels)?;
        self.launch(Process::Wan)?;
        self.await_up(Process::Wan)?;
        if tunnels {
            self.make_tunnels()?;
        }
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
        fs::write(&path, change_config(config::text(made.as_ref(), every, self.appliances())))
            .map_err(|source| Error::File { path, source })?;
        self.tell_of_tunnels()?;
        prepare(self);
        let reflectors = if tunnels { &Site::ALL[..] } else { &[] };
        let stages: Vec<_> = (reflectors.iter().copied().map(Process::Reflector))
            .chain([Process::Publisher, Process::Alerter])
            .chain(Site::ALL.map(Process::Collector))
            .collect();
        for stage in stages.iter().copied() {
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

    /// Breaks something, in place of what was broken in the same way. Returns when it is broken; that a tunnel is down its ends
    /// find out later.
    ///
    /// # Errors
    /// A number is out of range; the lab has not what it needs; a part does not answer.
    pub fn fault(&mut self, fault: Fault) -> Result<()> {
        fault.check()?;
        if !matches!(self.record.setup.cloud, Cloud::Gate { .. })
            && (matches!(fault, Fault::Throttled { .. })
                || matches!(fault, Fault::TunnelDown { .. }) && !self.record.setup.tunnels)
        {
            return Err(Error::Lacks { fault: fault.name(), part: "the gate before the local AWS" });
        }
        if matches!(fault, Fault::Mtu { .. }) && !self.record.setup.tunnels {
            return Err(Error::Lacks { fault: fault.name(), part: TUNNELS });
        }
        let _lock = self.lock()?;
        let mut faults = self.record.faults.clone();
        faults.retain(|old| !fault.replaces(old));
        faults.push(fault);
        self.apply(faults)
    }

    /// Ends all faults; returns when they are ended, and tunnels and a killed collector are up again.
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
        self.network.cut(
            |site| fault::is_cut_off(&faults, site),
            self.link_device(),
            |site| fault::of_link(&faults, site),
        )?;
        if let Some(link) = self.link()? {
            link.set(fault::of_tunnels(&faults))?;
        }
        if let Some(gate) = self.gate() {
            let (throttles, before_it) = (fault::throttles(&faults), fault::throttles(&before));
            if throttles != before_it {
                before_it.iter().try_for_each(|(id, _)| gate.remove_fault(id))?;
                throttles.iter().try_for_each(|(_, throttle)| gate.add_fault(throttle))?;
            }
            // Left alone otherwise: a table that somebody else has set stays, and so do the times in it.
            if !self.record.setup.tunnels && fault::tunnels_up(&faults) != fault::tunnels_up(&before) {
                self.tell_of_tunnels()?;
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
        self.await_tunnels()
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

    pub(crate) fn gate(&self) -> Option<Gate> {
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

    pub(crate) fn save(&self) -> Result<()> {
        self.record.save(&self.folder)
    }

    /// Locks the lab, and reads what another process has changed of it.
    pub(crate) fn lock(&mut self) -> Result<Lock> {
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
    for name in [WAN_SOCKET, GATE_SOCKET, IPSEC] {
        folder::clear(&folder.join(name))?;
    }
    record.state = State::Down;
    record.faults.clear();
    record.processes.clear();
    record.save(folder)
}

/// Now, as AWS writes times.
pub(crate) fn now() -> String {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap_or_default();
    Timestamp::from_micros(i64::try_from(now.as_micros()).unwrap_or(i64::MAX)).to_string()
}
