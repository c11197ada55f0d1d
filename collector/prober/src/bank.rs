//! The ICMP sockets: one a family, and one more a family for packets that must not be fragmented. Another of a kind is
//! opened when all sequence numbers of those before it are in flight.

use std::net::IpAddr;
use std::os::fd::{AsFd, BorrowedFd};
use std::time::Duration;

use crate::Error;
use crate::engine::{Probe, Protocol};
use crate::family::Family;
use crate::heard::{Fate, Heard};
use crate::icmp::{Icmp, Request};
use crate::packet::{Mark, Secret};

/// The most sockets of a kind; a million packets in flight.
const SOCKETS: usize = 16;

/// Under what a packet is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Key {
    bank: u8,
    socket: u8,
    sequence: u16,
}

/// All kinds.
#[derive(Debug)]
pub(crate) struct Banks([Bank; 4]);

/// The sockets of one kind.
#[derive(Debug)]
struct Bank {
    family: Family,
    whole: bool,
    capacity: usize,
    secret: Secret,
    sockets: Vec<Icmp>,
    /// Why there is none.
    missing: String,
}

impl Banks {
    /// Opens what the probes need. A family that no address asks for yet may be missing; what is sent to a name that turns
    /// out to be of it says so.
    pub(crate) fn open(probes: &[Probe]) -> Result<Self, Error> {
        let secret = Secret::default();
        let bank = |family, whole| {
            let users = || {
                let icmp = probes.iter().filter(|probe| probe.protocol == Protocol::Icmp);
                icmp.filter(move |probe| probe.size.is_some() == whole)
            };
            let mut bank = Bank {
                family,
                whole,
                capacity: capacity(users()),
                secret: secret.clone(),
                sockets: Vec::new(),
                missing: "no probe uses it".to_owned(),
            };
            if users().next().is_some() {
                // A name is of IPv4 until it is known.
                let asked = users().any(|probe| probe.address.map_or(Family::V4, Family::of) == family);
                match bank.grow() {
                    Err(error) if asked => return Err(error),
                    Err(error) => bank.missing = error.to_string(),
                    Ok(()) => {}
                }
            }
            Ok(bank)
        };
        Ok(Self([
            bank(Family::V4, false)?,
            bank(Family::V6, false)?,
            bank(Family::V4, true)?,
            bank(Family::V6, true)?,
        ]))
    }

    /// Sends them, which may be of any kind; those in flight then are given to `flying`, the others' fates are heard.
    pub(crate) fn send(
        &mut self,
        requests: &[Request],
        heard: &mut Vec<Heard>,
        mut flying: impl FnMut(&Request, Key),
    ) {
        for (number, bank) in (0..).zip(&mut self.0) {
            let of = |to: IpAddr, size: Option<u16>| (Family::of(to), size.is_some());
            let own: Vec<Request> = requests
                .iter()
                .filter(|request| of(request.to, request.size) == (bank.family, bank.whole))
                .copied()
                .collect();
            if !own.is_empty() {
                bank.send(&own, heard, |request, socket, sequence| {
                    flying(request, Key { bank: number, socket, sequence });
                });
            }
        }
    }

    /// What the end of its time makes of a packet, unless it is decided.
    pub(crate) fn expire(&mut self, key: Key, mark: Mark) -> Option<Fate> {
        self.socket(key)?.expire(key.sequence, mark)
    }

    /// Whether it is still waited for.
    pub(crate) fn is_flying(&mut self, key: Key, mark: Mark) -> bool {
        self.socket(key).is_some_and(|socket| socket.is_flying(key.sequence, mark))
    }

    /// Reads what has come in, over all sockets or those alone over which anything was ever sent; whether there is more.
    pub(crate) fn receive(&mut self, all: bool, heard: &mut Vec<Heard>) -> bool {
        let mut more = false;
        let sockets = self.0.iter_mut().flat_map(|bank| &mut bank.sockets);
        for socket in sockets.filter(|socket| all || socket.is_used()) {
            more |= socket.receive(heard);
        }
        more
    }

    /// How many messages all sockets have dropped for want of room, ever.
    pub(crate) fn dropped(&self) -> u64 {
        self.0.iter().flat_map(|bank| &bank.sockets).map(|socket| u64::from(socket.dropped())).sum()
    }

    /// What is to be waited on.
    pub(crate) fn descriptors(&self) -> impl Iterator<Item = BorrowedFd<'_>> {
        self.0.iter().flat_map(|bank| &bank.sockets).map(AsFd::as_fd)
    }

    fn socket(&mut self, key: Key) -> Option<&mut Icmp> {
        self.0.get_mut(usize::from(key.bank))?.sockets.get_mut(usize::from(key.socket))
    }
}

impl Bank {
    fn grow(&mut self) -> Result<(), Error> {
        self.sockets.push(Icmp::open(self.family, self.whole, self.capacity, self.secret.clone())?);
        Ok(())
    }

    fn send(
        &mut self,
        requests: &[Request],
        heard: &mut Vec<Heard>,
        mut flying: impl FnMut(&Request, u8, u16),
    ) {
        let mut left = requests;
        for number in 0..SOCKETS {
            if self.sockets.len() <= number {
                // The first was to be opened at the start.
                if number == 0 {
                    break;
                }
                if let Err(error) = self.grow() {
                    self.missing = error.to_string();
                    break;
                }
            }
            let (Some(socket), Ok(name)) = (self.sockets.get_mut(number), u8::try_from(number)) else {
                break;
            };
            let taken = socket.send(left, heard, |place, sequence| {
                if let Some(request) = left.get(place) {
                    flying(request, name, sequence);
                }
            });
            left = left.get(taken..).unwrap_or_default();
            if left.is_empty() {
                return;
            }
        }
        let why =
            if self.sockets.len() == SOCKETS { "too many packets are in flight" } else { &self.missing };
        heard.extend(left.iter().map(|request| Heard::Fate(request.mark, Fate::Local(why.to_owned()))));
    }
}

/// How many packets of these can be in flight, and some more.
fn capacity<'a>(probes: impl Iterator<Item = &'a Probe>) -> usize {
    let in_flight: u128 = probes
        .map(|probe| {
            let every = probe.every.max(Duration::from_millis(1)).as_nanos();
            u128::from(probe.burst) * (probe.timeout.as_nanos() / every + 1)
        })
        .sum();
    usize::try_from(in_flight + in_flight / 4).unwrap_or(usize::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Ticket;
    use crosswatch_shared::observation::Lost;
    use std::fs;
    use std::time::Instant;

    fn request(number: u64) -> Request {
        let mark = Mark { ticket: Ticket { probe: 0, number }, index: 0 };
        Request { mark, to: [127, 0, 0, 1].into(), size: None, timeout: Duration::from_secs(60) }
    }

    /// In a namespace of its own, where nobody answers until told to.
    fn alone(work: impl FnOnce() + Send) {
        if !nix::unistd::geteuid().is_root() {
            eprintln!("not run: network namespaces need root");
            return;
        }
        let inside = || {
            nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
            let up = std::process::Command::new("ip").args(["link", "set", "lo", "up"]).status().unwrap();
            assert!(up.success());
            fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
            fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1").unwrap();
            work();
        };
        std::thread::scope(|scope| scope.spawn(inside).join().unwrap());
    }

    #[test]
    fn another_socket_is_opened_when_one_has_all_its_numbers_in_flight() {
        alone(|| {
            let probe = Probe {
                protocol: Protocol::Icmp,
                address: Some([127, 0, 0, 1].into()),
                every: Duration::from_secs(60),
                timeout: Duration::from_secs(60),
                burst: 1,
                size: None,
                beside: None,
            };
            let mut banks = Banks::open(&[probe]).unwrap();
            let (mut heard, mut flying) = (Vec::new(), Vec::new());
            let send = |banks: &mut Banks, heard: &mut Vec<Heard>, flying: &mut Vec<(Mark, Key)>, numbers| {
                let requests: Vec<Request> = Iterator::map(numbers, request).collect();
                banks.send(&requests, heard, |request, key| flying.push((request.mark, key)));
            };
            send(&mut banks, &mut heard, &mut flying, 0..600);
            assert_eq!((flying.len(), heard.len()), (600, 0));
            assert_eq!(banks.0[0].sockets.len(), 3, "of 256 each");
            assert!(flying.iter().all(|(mark, key)| banks.is_flying(*key, *mark)));
            fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "0").unwrap();
            send(&mut banks, &mut heard, &mut flying, 600..700);
            let begun = Instant::now();
            while heard.len() < 100 {
                banks.receive(false, &mut heard);
                assert!(begun.elapsed() < Duration::from_secs(30), "{} replies", heard.len());
            }
            for heard in &heard {
                let Heard::Fate(mark, Fate::Reply(reply)) = heard else { panic!("{heard:?}") };
                assert!(mark.ticket.number >= 600 && reply.rtt > Duration::ZERO, "{heard:?}");
            }
            for (mark, key) in &flying {
                let silent = (mark.ticket.number < 600).then_some(Fate::Lost(Lost::Timeout));
                assert_eq!(banks.expire(*key, *mark), silent, "{mark:?}");
                assert_eq!(banks.expire(*key, *mark), None, "once");
            }
        });
    }
}
