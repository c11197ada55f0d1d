//! The two IPsec tunnels of the link: where their ends are, how they are brought up, and what EC2 tells of them.
//!
//! The end in us-east-1 is AWS's, whose telemetry the gate gives; that in eu-west-1 is the appliance.

use std::io::ErrorKind;
use std::net::{SocketAddr, TcpStream};
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::thread;
use std::time::Duration;

use crosswatch_ipsec::{self as ipsec, CHILD, Charon, Detection, Link, NotANetwork, Side, TUNNELS as NAMES};
use nix::sys::signal::Signal;

use crate::Site;
use crate::error::{Error, Result};
use crate::fault;
use crate::folder::{GATE_SOCKET, IPSEC};
use crate::gate::Gate;
use crate::lab::{Lab, now};
use crate::lives::{GLANCE, wait_for};
use crate::network::Network;
use crate::process::Process;
use crate::record::{Cloud, Record};
use crate::site::HOST_PORT;

/// What a plain lab lacks.
pub(crate) const TUNNELS: &str = "IPsec tunnels";

/// A dead peer is found within 12 s; AWS takes 30 to 40 s. That is longer than any round trip that the lab's usual faults
/// make, and of ten questions one is answered though half of them are lost.
const DETECTION: Detection =
    Detection { every: Duration::from_secs(2), give_up: Duration::from_secs(10), questions: 10 };

/// How often the telemetry looks at the tunnels; a change is told after two looks.
const LOOK: Duration = Duration::from_millis(500);

impl Lab {
    /// The link of the regions; none in a plain lab.
    pub(crate) fn link(&self) -> Result<Option<Link>> {
        if !self.record.setup.tunnels {
            return Ok(None);
        }
        Ok(Some(Link::at(&self.folder.join(IPSEC), sides(&self.network)?, DETECTION)))
    }

    /// Where what a region gets from the other comes in.
    pub(crate) fn link_device(&self) -> &'static str {
        if self.record.setup.tunnels { ipsec::DEVICE } else { crate::wan::DEVICE }
    }

    /// Starts both charons and brings both tunnels up; the WAN is there.
    pub(crate) fn make_tunnels(&mut self) -> Result<()> {
        for site in Site::ALL {
            self.await_underlay(site)?;
        }
        let mut link = Link::new(&self.folder.join(IPSEC), sides(&self.network)?, DETECTION)?;
        // For charons that are started anew; it goes when the lab does.
        link.keep();
        for site in Site::ALL {
            // What it logs is in the lab's logs, which stay.
            let (log, name) = (self.log_path(Process::Charon(site)), end(&link, site).log());
            symlink(log, &name).map_err(|source| Error::File { path: name, source })?;
            self.launch(Process::Charon(site))?;
        }
        for (side, site) in Site::ALL.into_iter().enumerate() {
            self.await_up(Process::Charon(site))?;
            link.tell(side)?;
        }
        Ok(link.initiate()?)
    }

    /// After its charon has come up anew.
    pub(crate) fn restore_end(&self, site: Site) -> Result<()> {
        let Some(link) = self.link()? else { return Ok(()) };
        let [near, _] = Site::ALL;
        if site != near {
            return Ok(link.tell(1)?);
        }
        link.tell(0)?;
        for (tunnel, to_be_up) in NAMES.into_iter().zip(fault::tunnels_to_be_up(&self.record.faults)) {
            let initiated = link.near().initiate(tunnel);
            // One that is broken: charon goes on trying.
            if to_be_up {
                initiated?;
            }
        }
        Ok(())
    }

    /// Lets the gate know of the tunnels, from nothing.
    pub(crate) fn tell_of_tunnels(&mut self) -> Result<()> {
        let Some(gate) = self.gate() else { return Ok(()) };
        if self.record.setup.tunnels {
            // It begins by telling everything.
            self.end(Process::Telemetry, Signal::SIGKILL)?;
            self.launch(Process::Telemetry)?;
            return self.await_up(Process::Telemetry);
        }
        let now = now();
        gate.set_tunnels(&fault::tunnel_table(fault::tunnels_up(&self.record.faults).map(|up| (up, &*now))))
    }

    /// Returns when the tunnels that are not broken are up at both ends, if both have a charon.
    pub(crate) fn await_tunnels(&self) -> Result<()> {
        let Some(link) = self.link()? else { return Ok(()) };
        if !Site::ALL.iter().all(|site| self.is_running(Process::Charon(*site))) {
            return Ok(());
        }
        let to_be_up = fault::tunnels_to_be_up(&self.record.faults);
        wait_for("the tunnels that are not broken", || {
            for site in Site::ALL {
                let up = end(&link, site).are_up(NAMES).map_err(|error| error.to_string())?;
                if up.iter().zip(to_be_up).any(|(up, to_be_up)| to_be_up && !up) {
                    return Err(format!("{site} has {up:?}"));
                }
            }
            Ok(())
        })
    }

    /// Which tunnels are up as a region's end sees them; `None` in a plain lab.
    ///
    /// # Errors
    /// Its charon does not answer.
    pub fn tunnels(&self, site: Site) -> Result<Option<[bool; 2]>> {
        let Some(link) = self.link()? else { return Ok(None) };
        Ok(Some(end(&link, site).are_up(NAMES)?))
    }

    /// How many packets a region has sent through each tunnel since that came up; `None` in a plain lab.
    ///
    /// # Errors
    /// Its charon does not answer.
    pub fn sent(&self, site: Site) -> Result<Option<[u64; 2]>> {
        let Some(link) = self.link()? else { return Ok(None) };
        let [first, second] = NAMES.map(|tunnel| end(&link, site).sent(tunnel));
        Ok(Some([first?, second?]))
    }

    /// What is polled at its VICI socket: the appliance, and AWS's end where no AWS tells of that.
    pub(crate) fn appliances(&self) -> Vec<(Site, PathBuf)> {
        let [aws, appliance] = Site::ALL;
        let polled =
            if self.record.setup.cloud == Cloud::None { vec![aws, appliance] } else { vec![appliance] };
        polled.into_iter().filter_map(|site| Some((site, self.vici(site)?.0))).collect()
    }

    /// The VICI socket of a region's charon and the name of the tunnels' children there; `None` in a plain lab.
    #[must_use]
    pub fn vici(&self, site: Site) -> Option<(PathBuf, &'static str)> {
        let link = self.link().ok().flatten()?;
        Some((end(&link, site).socket(), CHILD))
    }

    /// Until the outside addresses are reached: a device that has just come up drops what is sent at first.
    fn await_underlay(&self, from: Site) -> Result<()> {
        for outside in from.other().outside() {
            let there = SocketAddr::from((outside, HOST_PORT));
            wait_for(&format!("the way from {from} to {outside}"), || {
                let connect = || TcpStream::connect_timeout(&there, GLANCE);
                match self.region(from).enter(connect).map_err(|error| error.to_string())? {
                    // Nobody is there, but there it is.
                    Err(error) if error.kind() == ErrorKind::ConnectionRefused => Ok(()),
                    connected => connected.map(drop).map_err(|error| format!("{there}: {error}")),
                }
            })?;
        }
        Ok(())
    }
}

/// Lets the gate's telemetry follow the tunnels of the lab in this folder, as AWS's end sees them, until the process is
/// ended. Written is what changes: a table that somebody else has set stays until then.
///
/// # Errors
/// No lab with tunnels is there, or the gate refuses the table.
pub fn follow(folder: &Path) -> Result<std::convert::Infallible> {
    let folder = folder.canonicalize().map_err(|source| Error::File { path: folder.to_owned(), source })?;
    let record = Record::load(&folder)?.ok_or_else(|| Error::Down { folder: folder.clone() })?;
    let link = Link::at(&folder.join(IPSEC), sides(&Network::of(&record.stem))?, DETECTION);
    let gate = Gate::at(folder.join(GATE_SOCKET));
    let (mut told, mut seen): (Option<[bool; 2]>, _) = (None, None);
    let mut since = [now(), now()];
    loop {
        // Without a charon nothing goes through, and AWS would tell so.
        let states = link.states().unwrap_or_default();
        // charon's answer is no snapshot: while an SA is replaced it may be without both.
        if seen == Some(states) && told != Some(states) {
            let [first, second] = states;
            for ((since, up), before) in since.iter_mut().zip(states).zip(told.unwrap_or(states)) {
                if up != before {
                    *since = now();
                }
            }
            let [since_first, since_second] = &since;
            let table = fault::tunnel_table([(first, since_first), (second, since_second)]);
            // A gate that is down is told when it is up again.
            if gate.set_tunnels(&table).is_ok() {
                told = Some(states);
            }
        }
        seen = Some(states);
        thread::sleep(LOOK);
    }
}

/// Both ends, in the order of [`Site::ALL`]; the first brings the tunnels up.
fn sides(network: &Network) -> Result<[Side; 2]> {
    let side = |site: Site| -> Result<Side, NotANetwork> {
        Ok(Side {
            namespace: network.region(site).name().to_owned(),
            outside: site.outside(),
            network: site.network().parse()?,
            inside: site.address(),
        })
    };
    let [near, far] = Site::ALL;
    Ok([side(near)?, side(far)?])
}

pub(crate) fn end(link: &Link, site: Site) -> &Charon {
    match site {
        Site::UsEast1 => link.near(),
        Site::EuWest1 => link.far(),
    }
}

/// What of strongSwan this machine lacks; nothing where tunnels can be made.
#[must_use]
pub fn missing() -> Option<&'static std::path::Path> {
    ipsec::missing()
}

/// Whether this machine can make tunnels.
pub(crate) fn check() -> Result<()> {
    match missing() {
        Some(missing) => Err(Error::NoIpsec { missing: missing.to_owned() }),
        None => Ok(()),
    }
}
