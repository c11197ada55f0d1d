//! The sending thread: waits for the next slot, deadline or packet, and for nothing else.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, SocketAddr};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_shared::observation::{Lost, Outcome};
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

use crate::engine::{Probe, Protocol, Shared, State};
use crate::icmp::{Family, Heard, Icmp};
use crate::packet::Secret;
use crate::release::{Decided, Ticket};
use crate::schedule::{LONGEST, Schedule};
use crate::tcp::{Begun, Tcp};
use crate::{Error, failure};

/// What the epoll calls its members.
const STOP: u64 = 0;
const ICMP_V4: u64 = 1;
const ICMP_V6: u64 = 2;
const TCP: u64 = 3;

/// A connection found open so long after its deadline was open in time for all we know: this thread did not look.
const OVERSLEPT: Duration = Duration::from_millis(10);

/// Everything the thread owns.
#[derive(Debug)]
pub(crate) struct Loop {
    probes: Vec<Probe>,
    schedule: Schedule,
    deadlines: BinaryHeap<Reverse<Deadline>>,
    v4: Result<Icmp, String>,
    v6: Result<Icmp, String>,
    tcp: Tcp,
    epoll: Epoll,
    shared: Arc<Shared>,
    /// Held open for the epoll: its other end is the handle's.
    _stopped: UnixStream,
}

/// When a sending is given up.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Deadline {
    at: Instant,
    ticket: Ticket,
    flight: Flight,
}

/// Under what a sending is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Flight {
    V4(u16),
    V6(u16),
    Tcp(u64),
}

/// A slot being used.
#[derive(Debug)]
struct Sending {
    ticket: Ticket,
    protocol: Protocol,
    to: Option<IpAddr>,
    timeout: Duration,
}

impl Loop {
    pub(crate) fn new(
        probes: Vec<Probe>,
        shared: Arc<Shared>,
        stopped: UnixStream,
        start: Instant,
    ) -> Result<Self, Error> {
        let failed = |errno: Errno| Error::Start { what: "an epoll", source: errno.into() };
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        let readable = |key| EpollEvent::new(EpollFlags::EPOLLIN, key);
        epoll.add(&stopped, readable(STOP)).map_err(failed)?;
        let secret = Secret::default();
        let open = |family, key| {
            let icmp = match Icmp::open(family, secret.clone()) {
                Ok(icmp) => icmp,
                // A family that no address asks for yet may be missing; a name that turns out to be of it says so.
                Err(error) if !asked(&probes, family) => return Ok(Err(error.to_string())),
                Err(error) => return Err(error),
            };
            epoll.add(&icmp, readable(key)).map_err(failed)?;
            Ok(Ok(icmp))
        };
        let (v4, v6) = if probes.iter().any(|probe| probe.protocol == Protocol::Icmp) {
            (open(Family::V4, ICMP_V4)?, open(Family::V6, ICMP_V6)?)
        } else {
            let unused = || Err("no probe uses it".to_owned());
            (unused(), unused())
        };
        let intervals: Vec<Duration> = probes.iter().map(|probe| probe.every).collect();
        Ok(Self {
            schedule: Schedule::new(&intervals, start),
            probes,
            deadlines: BinaryHeap::new(),
            v4,
            v6,
            tcp: Tcp::new(TCP),
            epoll,
            shared,
            _stopped: stopped,
        })
    }

    pub(crate) fn run(mut self, ready: impl Fn()) {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let found = match self.wait(&mut events) {
                Ok(found) => found,
                Err(errno) => {
                    self.shared.lock().ended = Some(format!("waiting for packets: {errno}"));
                    return ready();
                }
            };
            let events = events.get(..found).unwrap_or_default();
            if events.iter().any(|event| event.data() == STOP) {
                return;
            }
            #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
            let now = Instant::now();
            // In this order: what has come in before a deadline is read before the deadline is judged.
            self.receive(events, now);
            self.expire(now);
            self.send(now);
            if self.shared.lock().announce() {
                ready();
            }
        }
    }

    /// Sleeps until something is due or comes in.
    fn wait(&mut self, events: &mut [EpollEvent]) -> Result<usize, Errno> {
        let next = match (self.schedule.next_due(), self.next_deadline()) {
            (Some(due), Some(deadline)) => Some(due.min(deadline)),
            (due, deadline) => due.or(deadline),
        };
        #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
        let timeout =
            next.map(|next| TimeSpec::from_duration(next.saturating_duration_since(Instant::now())));
        // An epoll's own timeout is in milliseconds, too coarse for a schedule.
        let mut any = [PollFd::new(std::os::fd::AsFd::as_fd(&self.epoll.0), PollFlags::POLLIN)];
        match ppoll(&mut any, timeout, None) {
            Ok(0) | Err(Errno::EINTR) => Ok(0),
            Ok(_) => match self.epoll.wait(events, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => Ok(0),
                found => found,
            },
            Err(errno) => Err(errno),
        }
    }

    /// The deadline of the first sending still in flight; those decided are forgotten on the way.
    fn next_deadline(&mut self) -> Option<Instant> {
        let state = self.shared.lock();
        while let Some(Reverse(first)) = self.deadlines.peek() {
            if state.release.in_flight(first.ticket) {
                return Some(first.at);
            }
            self.deadlines.pop();
        }
        None
    }

    fn receive(&mut self, events: &[EpollEvent], now: Instant) {
        let mut heard = Vec::new();
        let mut connected = Vec::new();
        for event in events {
            match event.data() {
                ICMP_V4 => self.v4.iter_mut().for_each(|icmp| icmp.receive(&mut heard)),
                ICMP_V6 => self.v6.iter_mut().for_each(|icmp| icmp.receive(&mut heard)),
                key => connected.extend(self.tcp.ready(key, now)),
            }
        }
        if heard.is_empty() && connected.is_empty() {
            return;
        }
        let mut state = self.shared.lock();
        for heard in heard {
            match heard {
                Heard::Reply { ticket, rtt, .. } if rtt <= self.timeout(ticket) => {
                    state.decide(Protocol::Icmp, ticket, reply(rtt));
                }
                // By the kernel's stamp it is late; its deadline, which has just passed, makes it a loss.
                Heard::Reply { stamped: true, .. } => state.icmp.late += 1,
                Heard::Reply { ticket, .. } => {
                    state.local(Protocol::Icmp, ticket, "a reply was read too late to be timed".to_owned());
                }
                Heard::Again(ticket) => {
                    if state.release.in_flight(ticket) {
                        // Under another sequence number than it was sent with.
                        state.icmp.stray += 1;
                    } else {
                        // It is decided, so this only tells late from duplicate.
                        state.decide(Protocol::Icmp, ticket, reply(Duration::ZERO));
                    }
                }
                Heard::Lost(ticket, lost) => state.decide(Protocol::Icmp, ticket, Outcome::Lost(lost)),
                Heard::Stray => state.icmp.stray += 1,
            }
        }
        for (ticket, outcome) in connected {
            let protocol = Protocol::Tcp(0);
            let timeout = self.timeout(ticket);
            match outcome {
                Ok(rtt) if rtt <= timeout => state.decide(protocol, ticket, reply(rtt)),
                Ok(rtt) if rtt <= timeout + OVERSLEPT => {
                    state.decide(protocol, ticket, Outcome::Lost(Lost::Timeout));
                }
                Ok(_) => state.local(
                    protocol,
                    ticket,
                    "a connection was looked at too late to be timed".to_owned(),
                ),
                Err(Lost::Local) => {
                    state.local(protocol, ticket, "a connection failed on this machine".to_owned())
                }
                Err(lost) => state.decide(protocol, ticket, Outcome::Lost(lost)),
            }
        }
    }

    /// Gives up what is past its deadline.
    fn expire(&mut self, now: Instant) {
        while let Some(Reverse(first)) = self.deadlines.peek() {
            if first.at > now {
                return;
            }
            let Some(Reverse(Deadline { ticket, flight, .. })) = self.deadlines.pop() else {
                return;
            };
            match flight {
                Flight::V4(sequence) => self.v4.iter_mut().for_each(|icmp| icmp.forget(sequence, ticket)),
                Flight::V6(sequence) => self.v6.iter_mut().for_each(|icmp| icmp.forget(sequence, ticket)),
                Flight::Tcp(key) => self.tcp.forget(key),
            }
            let mut state = self.shared.lock();
            if state.release.in_flight(ticket) {
                state.release.decide(ticket, Outcome::Lost(Lost::Timeout));
            }
        }
    }

    /// Sends what is due.
    fn send(&mut self, now: Instant) {
        if self.schedule.next_due().is_none_or(|due| due > now) {
            return;
        }
        let mut sendings = Vec::new();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        self.schedule.due(now, |due| {
            let Some(probe) = self.probes.get(due.probe) else {
                return;
            };
            let account = state.account(probe.protocol);
            account.skipped += due.skipped;
            let Some(lag) = due.lag else { return };
            account.sent += 1;
            account.lag = account.lag.max(lag);
            let at = state.now();
            let Some(ticket) = state.release.sent(due.probe, at) else {
                return;
            };
            sendings.push(Sending {
                ticket,
                protocol: probe.protocol,
                to: state.addresses.get(due.probe).copied().flatten(),
                timeout: probe.timeout.min(LONGEST),
            });
        });
        drop(state);
        for sending in sendings {
            let Sending { ticket, protocol, .. } = sending;
            match self.begin(&sending) {
                Ok(Sent::Reply(rtt)) => shared.lock().decide(protocol, ticket, reply(rtt)),
                Ok(Sent::Waiting(flight)) => {
                    #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
                    let at = Instant::now() + sending.timeout;
                    self.deadlines.push(Reverse(Deadline { at, ticket, flight }));
                }
                Err(NotSent::Errno(errno)) => match failure::lost(errno) {
                    Lost::Local => shared.lock().local(protocol, ticket, format!("sending: {errno}")),
                    lost => shared.lock().decide(protocol, ticket, Outcome::Lost(lost)),
                },
                Err(NotSent::Because(why)) => shared.lock().local(protocol, ticket, why),
            }
        }
    }

    fn begin(&mut self, sending: &Sending) -> Result<Sent, NotSent> {
        let ticket = sending.ticket;
        let Some(to) = sending.to else {
            return Err(NotSent::Because("the target's name was never resolved".to_owned()));
        };
        let because = |why: &mut String| NotSent::Because(why.clone());
        Ok(match (sending.protocol, Family::of(to)) {
            (Protocol::Icmp, Family::V4) => {
                Sent::Waiting(Flight::V4(self.v4.as_mut().map_err(because)?.send(ticket, to)?))
            }
            (Protocol::Icmp, Family::V6) => {
                Sent::Waiting(Flight::V6(self.v6.as_mut().map_err(because)?.send(ticket, to)?))
            }
            (Protocol::Udp(_), _) => return Err(NotSent::Because("UDP is not sent yet".to_owned())),
            (Protocol::Tcp(port), _) => {
                match self.tcp.connect(ticket, SocketAddr::new(to, port), &self.epoll)? {
                    Begun::Open(rtt) => Sent::Reply(rtt),
                    Begun::Waiting(key) => Sent::Waiting(Flight::Tcp(key)),
                }
            }
        })
    }

    fn timeout(&self, ticket: Ticket) -> Duration {
        let probe = self.probes.get(ticket.probe as usize);
        probe.map_or(Duration::ZERO, |probe| probe.timeout)
    }
}

enum Sent {
    Reply(Duration),
    Waiting(Flight),
}

enum NotSent {
    Errno(Errno),
    Because(String),
}

impl From<Errno> for NotSent {
    fn from(errno: Errno) -> Self {
        Self::Errno(errno)
    }
}

impl State {
    fn decide(&mut self, protocol: Protocol, ticket: Ticket, outcome: Outcome) {
        let decided = self.release.decide(ticket, outcome);
        let account = self.account(protocol);
        match decided {
            Decided::Counted => {}
            Decided::Duplicate => account.duplicate += 1,
            Decided::Late => account.late += 1,
            Decided::Unknown => account.stray += 1,
        }
    }

    fn local(&mut self, protocol: Protocol, ticket: Ticket, why: String) {
        let account = self.account(protocol);
        account.local += 1;
        account.local_error = Some(why);
        self.decide(protocol, ticket, Outcome::Lost(Lost::Local));
    }
}

/// To the microsecond: what is finer is this machine's noise, and would double a message's size.
fn reply(rtt: Duration) -> Outcome {
    let micros = u32::try_from((rtt.as_nanos() + 500) / 1_000).unwrap_or(u32::MAX);
    Outcome::Reply { rtt_ms: f64::from(micros) / 1e3 }
}

/// Whether a probe goes to an address of this family, or, for IPv4, to a name.
fn asked(probes: &[Probe], family: Family) -> bool {
    probes
        .iter()
        .filter(|probe| probe.protocol == Protocol::Icmp)
        .any(|probe| probe.address.map_or(Family::V4, Family::of) == family)
}
