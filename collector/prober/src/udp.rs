//! STAMP test packets (RFC 8762) to reflectors: one socket a family, and over it one session with each reflector.

use std::collections::{HashMap, HashSet};
use std::net::{IpAddr, SocketAddr};
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crosswatch_shared::observation::{Lost, Way};
use crosswatch_stamp::session::{Kind, Told};
use crosswatch_stamp::{Key, Mode, Sender};
use nix::errno::Errno;

use crate::engine::{Account, Probe, Protocol};
use crate::family::Family;
use crate::heard::{Fate, Heard, Reply, Ways};
use crate::packet::Mark;
use crate::{Error, failure};

/// The sessions with all reflectors.
#[derive(Debug)]
pub(crate) struct Udp {
    v4: Option<Sender<Flight>>,
    v6: Option<Sender<Flight>>,
    /// What is waited for.
    flying: HashSet<Mark>,
    /// Where each probe's last packet went, by its place.
    asked: HashMap<u32, SocketAddr>,
    /// Packets lost there and back of which replies that came too late, or again, have told, until one is in time.
    owed: HashMap<SocketAddr, (i64, i64)>,
    late: u64,
    duplicate: u64,
    stray: u64,
}

/// What is known of a packet under way.
#[derive(Clone, Copy, Debug)]
struct Flight {
    mark: Mark,
    to: SocketAddr,
    timeout: Duration,
}

impl Udp {
    /// Opens what the probes may need: nothing, or a socket of each family, since a name may turn out to be of either.
    pub(crate) fn open(probes: &[Probe]) -> Result<Self, Error> {
        let mut own = probes.iter().filter(|probe| matches!(probe.protocol, Protocol::Udp(_))).peekable();
        let needed = own.peek().is_some();
        let v6_needed = own.any(|probe| probe.address.is_some_and(|to| to.is_ipv6()));
        let open = |family: crosswatch_stamp::Family| match Sender::open(family) {
            Ok(sender) => Ok(Some(sender)),
            // A machine without IPv6 needs none for the rest.
            Err(_) if family == crosswatch_stamp::Family::V6 && !v6_needed => Ok(None),
            Err(source) => Err(Error::Udp { source }),
        };
        let (v4, v6) = if needed {
            (open(crosswatch_stamp::Family::V4)?, open(crosswatch_stamp::Family::V6)?)
        } else {
            (None, None)
        };
        Ok(Self {
            v4,
            v6,
            flying: HashSet::new(),
            asked: HashMap::new(),
            owed: HashMap::new(),
            late: 0,
            duplicate: 0,
            stray: 0,
        })
    }

    /// Sends a packet; what it flies under, or its fate.
    pub(crate) fn send(&mut self, mark: Mark, to: SocketAddr, timeout: Duration) -> Result<Key, Fate> {
        let before = self.asked.insert(mark.ticket.probe, to);
        if let Some(before) = before.filter(|&before| before != to)
            && !self.asked.values().any(|&asked| asked == before)
        {
            // The name is at another address now.
            self.owed.remove(&before);
            self.sender(before.ip()).into_iter().for_each(|sender| sender.close(before));
        }
        let Some(sender) = self.sender(to.ip()) else {
            return Err(Fate::Local(format!("this machine has no socket for {to}")));
        };
        match sender.send(Flight { mark, to, timeout }, to) {
            Ok(key) => {
                self.flying.insert(mark);
                Ok(key)
            }
            Err(errno) => Err(refused(errno)),
        }
    }

    /// Whether it is still waited for.
    pub(crate) fn waits(&self, mark: Mark) -> bool {
        self.flying.contains(&mark)
    }

    /// Gives it up; whether it was still waited for.
    pub(crate) fn expire(&mut self, key: Key, mark: Mark) -> bool {
        self.sender(key.to.ip()).into_iter().for_each(|sender| sender.forget(key));
        self.flying.remove(&mark)
    }

    /// Reads what has come in.
    pub(crate) fn receive(&mut self, heard: &mut Vec<Heard>) {
        let mut said = Vec::new();
        for sender in [&mut self.v4, &mut self.v6].into_iter().flatten() {
            let before = sender.strays().total();
            sender.receive(&mut said);
            self.stray += sender.strays().total() - before;
        }
        for said in said {
            match said {
                crosswatch_stamp::Heard::Reply(told) => heard.extend(self.reply(&told)),
                crosswatch_stamp::Heard::Lost(Flight { mark, .. }, lost) => {
                    let flying = self.flying.remove(&mark);
                    heard.extend(flying.then_some(Heard::Fate(mark, Fate::Lost(lost))));
                }
            }
        }
    }

    fn reply(&mut self, told: &Told<Flight>) -> Option<Heard> {
        let Flight { mark, to, timeout } = told.ticket;
        let lost = told.path.since.lost;
        let owed = self.owed.entry(to).or_default();
        *owed = (owed.0 + lost.forward, owed.1 + lost.back);
        // By the kernel's stamp it is late; its deadline, which has passed or will in a moment, makes it a loss.
        let late = told.kind == Kind::Late || told.stamped && told.rtt > timeout;
        if late || told.kind == Kind::Duplicate {
            *(if late { &mut self.late } else { &mut self.duplicate }) += 1;
            return None;
        }
        if !self.flying.remove(&mark) {
            self.late += 1;
            return None;
        }
        if told.rtt > timeout {
            return Some(Heard::Fate(mark, Fate::Local("a reply was read too late to be timed".to_owned())));
        }
        let (forward, back) = std::mem::take(self.owed.entry(to).or_default());
        let stateful = self.sender(to.ip()).and_then(|sender| sender.mode(to)) == Some(Mode::Stateful);
        let way = |lost: i64, variation: Option<i64>| Way {
            lost: i32::try_from(lost).unwrap_or(i32::MAX),
            variation_ms: variation.map(|nanos| (nanos as f64 / 1e3).round() / 1e3),
        };
        let ways = (stateful && !told.path.restarted).then(|| Ways {
            forward: way(forward, told.variation.map(|variation| variation.forward)),
            back: way(back, told.variation.map(|variation| variation.back)),
        });
        let reply = Reply { rtt: told.rtt, arrived: told.arrived, user_stamped: !told.stamped, ways };
        Some(Heard::Fate(mark, Fate::Reply(reply)))
    }

    /// What came late, again, or without being asked for since the last time.
    pub(crate) fn tell(&mut self, account: &mut Account) {
        account.late += std::mem::take(&mut self.late);
        account.duplicate += std::mem::take(&mut self.duplicate);
        account.stray += std::mem::take(&mut self.stray);
    }

    /// The sockets.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        [&self.v4, &self.v6].into_iter().flatten().map(AsFd::as_fd)
    }

    fn sender(&mut self, to: IpAddr) -> Option<&mut Sender<Flight>> {
        match Family::of(to) {
            Family::V4 => self.v4.as_mut(),
            Family::V6 => self.v6.as_mut(),
        }
    }
}

fn refused(errno: Errno) -> Fate {
    match failure::lost(errno) {
        Lost::Local => Fate::Local(format!("sending: {errno}")),
        lost => Fate::Lost(lost),
    }
}
