//! A link: two ends with a charon each, two tunnels between them, and what can be broken of it.

use std::fmt::Write as _;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crate::charon::{Charon, DEVICE, run};
use crate::connection::{Connection, Detection};
use crate::error::{Error, Result};
use crate::network::Network;
use crate::secret::Secret;

/// The names of the tunnels' connections, at either end: the one that is preferred first.
pub const TUNNELS: [&str; 2] = ["tunnel-1", "tunnel-2"];

/// What is in a link's folder: a folder for each end, and the secret.
const ENDS: [&str; 2] = ["near", "far"];
const SECRET: &str = "secret.conf";

const TABLE: &str = "inet crosswatch_ipsec";

/// How long a state is waited for: a dead peer is found within seconds, a tunnel is made in less.
const PATIENCE: Duration = Duration::from_secs(60);

const LOOK: Duration = Duration::from_millis(50);

/// One end of a link.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Side {
    /// The namespace's name, as `ip netns` knows it.
    pub namespace: String,
    /// The outside address for each tunnel, which the other side reaches. AWS's end has two; the other usually has one, for
    /// both.
    pub outside: [Ipv4Addr; 2],
    /// The network behind it. The far end also takes the last address of that half of it in which `inside` is not.
    pub network: Network,
    /// Its own address in that network, which is there already.
    pub inside: Ipv4Addr,
}

/// What befalls a tunnel's packets, until it is told otherwise. They vanish where they arrive.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Fault {
    /// Nothing.
    #[default]
    None,
    /// All vanish. The ends find out, and call the tunnel down.
    Cut,
    /// Those that this side sends vanish, 0 or 1. The ends find out, since no questions are answered.
    OneWay {
        /// The side that sends in vain.
        from: usize,
    },
    /// Those larger than this vanish, IP header included, and nobody is told, as where a router is silent. The tunnel stays
    /// up. What a tunnel's packet takes is up to 77 bytes more than what is in it; a packet of 1400, the device's MTU, is
    /// never fragmented below an MTU of 1500.
    Mtu {
        /// In bytes.
        largest: u16,
    },
}

/// Two ends and the tunnels between them. Dropping it ends the charons that it started, and removes the secret that it
/// made, unless [`Link::keep`] was called.
#[derive(Debug)]
pub struct Link {
    sides: [Side; 2],
    ends: [Charon; 2],
    secret: Secret,
}

impl Link {
    /// Makes the files of both ends and the secret, which is new, below this folder; nothing runs yet. For whoever keeps
    /// processes himself: he starts each end's [`Charon::command`], and calls [`Link::tell`] when it answers.
    ///
    /// # Errors
    /// strongSwan or a namespace is not there; the folder cannot be used.
    pub fn new(folder: &Path, sides: [Side; 2], detection: Detection) -> Result<Self> {
        let [near, far] = &sides;
        // charon 5.9 makes no policy for a network in which its machine has no address, and one half has `inside`.
        for half in far.network.halves().into_iter().filter(|half| !half.contains(far.inside)) {
            ip(&far.namespace, &format!("addr replace {}/32 dev lo", half.last()))?;
        }
        let ends = [
            Charon::new(&near.namespace, &folder.join(ENDS[0]), detection)?,
            Charon::new(&far.namespace, &folder.join(ENDS[1]), detection)?,
        ];
        let secret = Secret::make(&folder.join(SECRET))?;
        Ok(Self { sides, ends, secret })
    }

    /// The link of another process, made with the same arguments. It stays when this is dropped.
    #[must_use]
    pub fn at(folder: &Path, sides: [Side; 2], detection: Detection) -> Self {
        let [near, far] = &sides;
        let ends = [
            Charon::at(&near.namespace, &folder.join(ENDS[0]), detection),
            Charon::at(&far.namespace, &folder.join(ENDS[1]), detection),
        ];
        Self { sides, ends, secret: Secret::at(&folder.join(SECRET)) }
    }

    /// Makes it, starts a charon at either end, and brings both tunnels up.
    ///
    /// # Errors
    /// Something does not come up; what was made is ended then.
    pub fn up(folder: &Path, sides: [Side; 2], detection: Detection) -> Result<Self> {
        let mut link = Self::new(folder, sides, detection)?;
        for side in 0..2 {
            link.start(side)?;
        }
        link.initiate()?;
        Ok(link)
    }

    /// Brings both tunnels up, and returns when they are.
    ///
    /// # Errors
    /// An end does not answer, or they do not agree.
    pub fn initiate(&self) -> Result<()> {
        TUNNELS.iter().try_for_each(|tunnel| self.near().initiate(tunnel))
    }

    /// Lets the secret stay when this is dropped, for an end that is started anew.
    pub fn keep(&mut self) {
        self.secret.keep();
    }

    /// The end that brings tunnels up, and up again.
    #[must_use]
    pub fn near(&self) -> &Charon {
        let [near, _] = &self.ends;
        near
    }

    /// The other end.
    #[must_use]
    pub fn far(&self) -> &Charon {
        let [_, far] = &self.ends;
        far
    }

    /// Both ends, the near first, to be stopped and killed.
    pub fn ends(&mut self) -> &mut [Charon; 2] {
        &mut self.ends
    }

    /// The secret of both tunnels.
    #[must_use]
    pub fn secret(&self) -> &Secret {
        &self.secret
    }

    /// Starts the charon of a side, 0 or 1, anew, and tells it everything. The near end does not bring up a tunnel by this
    /// alone; the far one's come back by themselves, since the near end tries.
    ///
    /// # Errors
    /// It does not come up.
    pub fn start(&mut self, side: usize) -> Result<()> {
        if let Some(end) = self.ends.get_mut(side) {
            end.start()?;
        }
        self.tell(side)
    }

    /// Tells the charon of a side, 0 or 1, which has just come up, what it has to know, and sends what is for the other
    /// side's network into its device.
    ///
    /// # Errors
    /// It does not answer.
    pub fn tell(&self, side: usize) -> Result<()> {
        let (Some(end), Some(own)) = (self.ends.get(side), self.sides.get(side)) else { return Ok(()) };
        end.load(&connections(&self.sides, side == 0, end.detection()), &self.secret)?;
        // The device went with the charon before, and this route with it.
        let to = self.other(side).network;
        ip(&own.namespace, &format!("route replace {to} dev {DEVICE} src {}", own.inside))
    }

    /// Which tunnels are up, as the near end sees it.
    ///
    /// # Errors
    /// It does not answer.
    pub fn states(&self) -> Result<[bool; 2]> {
        self.near().are_up(TUNNELS)
    }

    /// Returns when the near end sees the tunnels so.
    ///
    /// # Errors
    /// It does not within a minute, or does not answer.
    pub fn wait_for(&self, states: [bool; 2]) -> Result<()> {
        let since = Instant::now();
        while self.states()? != states {
            if since.elapsed() > PATIENCE {
                let what = format!("the tunnels' state {states:?}");
                return Err(Error::Late { what, waited: PATIENCE, log: self.near().log() });
            }
            thread::sleep(LOOK);
        }
        Ok(())
    }

    /// What befalls the first and the second tunnel from now on, in place of what did.
    ///
    /// # Errors
    /// nft fails.
    pub fn set(&self, faults: [Fault; 2]) -> Result<()> {
        for (place, side) in self.sides.iter().enumerate() {
            let mut rules = String::new();
            for ((fault, local), remote) in faults.iter().zip(side.outside).zip(self.other(place).outside) {
                let Some(condition) = fault.condition(1 - place) else { continue };
                // Writing to a string cannot fail.
                let _ = writeln!(
                    rules,
                    "ip saddr {remote} ip daddr {local} udp dport {{ 500, 4500 }} {condition} drop"
                );
            }
            let ruleset = format!(
                "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\nchain input {{\n\
                 type filter hook input priority 0; policy accept;\n{rules}}}\n}}\n"
            );
            let mut command = Command::new("ip");
            command.args(["netns", "exec", &side.namespace, "nft", &ruleset]);
            run(command, &format!("nft in {}", side.namespace))?;
        }
        Ok(())
    }

    fn other(&self, place: usize) -> &Side {
        let [near, far] = &self.sides;
        if place == 0 { far } else { near }
    }
}

impl Fault {
    /// What is dropped of what comes from this side; `None` if nothing.
    fn condition(self, from_side: usize) -> Option<String> {
        match self {
            Self::Cut => Some(String::new()),
            Self::OneWay { from } if from == from_side => Some(String::new()),
            Self::Mtu { largest } => Some(format!("meta length > {largest}")),
            Self::None | Self::OneWay { .. } => None,
        }
    }
}

/// `ip -n NAMESPACE …`.
fn ip(namespace: &str, arguments: &str) -> Result<()> {
    let mut command = Command::new("ip");
    command.args(["-n", namespace]).args(arguments.split(' '));
    run(command, &format!("ip -n {namespace} {arguments}")).map(drop)
}

/// Both tunnels, as one end has them.
fn connections([near, far]: &[Side; 2], is_near: bool, detection: Detection) -> Vec<Connection> {
    let (own, other) = if is_near { (near, far) } else { (far, near) };
    // The far end's network is what the two tunnels tell apart: halves against the whole.
    let networks = |side: &Side, halves| {
        if halves && side == far { side.network.halves().to_vec() } else { vec![side.network] }
    };
    let tunnels = TUNNELS.into_iter().zip(own.outside).zip(other.outside);
    let tunnels = tunnels.zip(1..).map(|(((name, local), remote), reqid)| Connection {
        name: name.to_owned(),
        reqid,
        local,
        remote,
        local_networks: networks(own, reqid == 1),
        remote_networks: networks(other, reqid == 1),
        detection,
        persistent: is_near,
    });
    tunnels.collect()
}
