//! The sending thread: waits for the next slot, deadline or packet, and for nothing else.

use std::collections::VecDeque;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd as _;
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_shared::observation::Lost;
use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;

use crate::bank::{Banks, Key};
use crate::beside::Beside;
use crate::burst::{APART, Bursts};
use crate::deadlines::Deadlines;
use crate::engine::{Probe, Protocol, Shared};
use crate::heard::{Fate, Heard};
use crate::icmp::Request;
use crate::packet::Mark;
use crate::schedule::{LONGEST, Schedule, TICK};
use crate::tcp::{Begun, Tcp};
use crate::udp::Udp;
use crate::{Error, failure};

/// What the epoll calls its members: the end of it, and from [`TCP`] on connections.
const STOP: u64 = 0;
const TCP: u64 = 1;

/// After replies were read no more are for so long: the kernel has stamped them, so those of some ticks can wait and be read
/// together. Before a deadline is judged all is read, whatever the time.
const TOGETHER: Duration = TICK.saturating_mul(5);

/// And for so long where there are many, for which a socket has no room for ever.
const MANY_TOGETHER: Duration = TICK.saturating_mul(2);

/// So many packets sent, or messages read at once, are many. A machine that gives a socket no more than its default has room
/// for some two hundred stamps and replies.
const MANY: usize = 50;

/// By so much it may be shorter, where the loop is awake anyhow.
const EARLIER: Duration = Duration::from_millis(5);

/// So often all sockets are read at least, also those that had nothing to read when they were last looked at.
const ALL: Duration = Duration::from_secs(1);

/// When more comes in than can be read, what is past its deadline may be answered among the unread; so long it is waited
/// for.
const PATIENCE: Duration = Duration::from_secs(1);

/// A loop that goes on so much later than it meant to did not run: the process was stopped, or the machine had no time for it, such as one
/// whose processor a hypervisor gave to others. What came in then, its kernel may have stamped late or not have sent on at all.
const STILL: Duration = Duration::from_millis(250);

/// Everything the thread owns.
#[derive(Debug)]
pub(crate) struct Loop {
    pub(crate) probes: Vec<Probe>,
    schedule: Schedule,
    /// The rest of bursts, by when they are due.
    following: VecDeque<(Instant, Mark)>,
    deadlines: Deadlines<(Mark, Flight)>,
    pub(crate) bursts: Vec<Bursts>,
    pub(crate) beside: Beside,
    icmp: Banks,
    tcp: Tcp,
    udp: Udp,
    /// What must be looked at without delay.
    urgent: Epoll,
    /// Until then ICMP and UDP are not looked at.
    resting: Instant,
    /// Whether the kernel stamped the replies that were read last; what it does not stamp is timed when it is read, and
    /// must not wait.
    stamped: bool,
    /// When was read last.
    read: Instant,
    /// How much was sent since: there are its stamps to read at least.
    unread: usize,
    /// When all sockets are read next.
    all_at: Instant,
    /// Whether ICMP has more to read.
    backlog: bool,
    /// When the loop is to go on at the latest.
    goes_on: Option<Instant>,
    /// When the owner is to be told of what is not pressing.
    tell_at: Option<Instant>,
    /// How many messages the sockets had dropped when that was last told.
    told: u64,
    heard: Vec<Heard>,
    pub(crate) shared: Arc<Shared>,
    /// Held open for the epoll: its other end is the handle's.
    _stopped: UnixStream,
}

/// Under what a packet is waited for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Flight {
    Icmp(Key),
    Tcp(u64),
    Udp(crosswatch_stamp::Key),
}

/// A packet to be sent now.
#[derive(Debug)]
struct Sending {
    mark: Mark,
    protocol: Protocol,
    to: Option<IpAddr>,
    size: Option<u16>,
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
        let urgent = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC).map_err(failed)?;
        urgent.add(&stopped, EpollEvent::new(EpollFlags::EPOLLIN, STOP)).map_err(failed)?;
        let intervals: Vec<Duration> = probes.iter().map(|probe| probe.every).collect();
        Ok(Self {
            schedule: Schedule::new(&intervals, start),
            following: VecDeque::new(),
            deadlines: Deadlines::new(),
            bursts: probes.iter().map(|_| Bursts::default()).collect(),
            beside: Beside::new(&probes),
            icmp: Banks::open(&probes)?,
            tcp: Tcp::new(TCP),
            udp: Udp::open(&probes)?,
            urgent,
            resting: start,
            stamped: false,
            read: start,
            unread: 0,
            all_at: start,
            backlog: false,
            goes_on: None,
            tell_at: None,
            told: 0,
            heard: Vec::new(),
            probes,
            shared,
            _stopped: stopped,
        })
    }

    pub(crate) fn run(mut self, ready: impl Fn()) {
        let mut events = [EpollEvent::empty(); 256];
        loop {
            let (found, stamped) = match self.wait(&mut events) {
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
            let now = now();
            self.look_whether_it_stood_still(now);
            // In this order: what has come in before a deadline is read before the deadline is judged.
            let seen = stamped || self.backlog;
            if seen || self.is_rested(now) || self.next_deadline().is_some_and(|at| at <= now) {
                self.receive(seen, now);
            }
            for event in events {
                self.heard.extend(self.tcp.ready(event.data(), now));
            }
            self.expire(now);
            self.send(now);
            // On a short way the replies are there by now.
            if self.is_rested(now) {
                self.receive(false, now);
            }
            if self.settle(now) {
                ready();
            }
        }
    }

    /// Sleeps until something is due or comes in; how many events there are, and whether ICMP or UDP has any.
    fn wait(&mut self, events: &mut [EpollEvent]) -> Result<(usize, bool), Errno> {
        let now = now();
        self.look_whether_it_stood_still(now);
        let resting = (self.resting > now).then_some(self.resting);
        let backlog = self.backlog.then_some(now);
        let following = self.following.front().map(|(at, _)| *at);
        let (due, deadline, tell) = (self.schedule.next_due(), self.next_deadline(), self.tell_at);
        let times = [due, deadline, following, self.beside.next(), resting, backlog, tell];
        let next = times.into_iter().flatten().min();
        self.goes_on = next.map(|next| next.max(now));
        // An epoll's own timeout is in milliseconds, too coarse for a schedule.
        let timeout = next.map(|next| TimeSpec::from_duration(next.saturating_duration_since(now)));
        let urgent = std::iter::once(self.urgent.0.as_fd());
        let stamped = self.icmp.descriptors().chain(self.udp.descriptors()).filter(|_| resting.is_none());
        let mut any: Vec<PollFd<'_>> =
            urgent.chain(stamped).map(|descriptor| PollFd::new(descriptor, PollFlags::POLLIN)).collect();
        match ppoll(&mut any, timeout, None) {
            Ok(0) | Err(Errno::EINTR) => return Ok((0, false)),
            Ok(_) => {}
            Err(errno) => return Err(errno),
        }
        let mut has = any.iter().map(|one| one.any().unwrap_or_default());
        let found = match has.next() {
            Some(true) => match self.urgent.wait(events, EpollTimeout::ZERO) {
                Err(Errno::EINTR) => 0,
                found => found?,
            },
            _ => 0,
        };
        Ok((found, has.any(|has| has)))
    }

    /// Before it sleeps and after: either may have taken longer than it was meant to.
    fn look_whether_it_stood_still(&mut self, now: Instant) {
        if self.goes_on.is_some_and(|goes_on| now.saturating_duration_since(goes_on) > STILL) {
            self.shared.lock().stood_still = Some(now);
        }
        self.goes_on = Some(now);
    }

    /// The deadline of the first packet still in flight.
    fn next_deadline(&mut self) -> Option<Instant> {
        let Self { deadlines, icmp, tcp, udp, .. } = self;
        deadlines.next(|(mark, flight)| match flight {
            Flight::Icmp(key) => icmp.is_flying(*key, *mark),
            Flight::Tcp(key) => tcp.waits(*key),
            Flight::Udp(_) => udp.waits(*mark),
        })
    }

    /// Whether there is something to read for which it is time.
    fn is_rested(&self, now: Instant) -> bool {
        self.unread > 0 && self.resting <= now + EARLIER
    }

    fn receive(&mut self, seen: bool, now: Instant) {
        let before = self.heard.len();
        let all = seen || self.all_at <= now;
        if all {
            self.all_at = now + ALL;
        }
        self.backlog = self.icmp.receive(all, &mut self.heard);
        self.udp.receive(&mut self.heard);
        self.read = now;
        self.unread = 0;
        let replies = self.heard.iter().skip(before).filter_map(|heard| match heard {
            Heard::Fate(_, Fate::Reply(reply)) => Some(!reply.user_stamped),
            _ => None,
        });
        self.stamped = replies.reduce(|one, other| one && other).unwrap_or(self.stamped);
        let many = self.heard.len().saturating_sub(before) > MANY;
        self.resting = match self.stamped {
            true if many => now + MANY_TOGETHER,
            true => now + TOGETHER,
            false => now,
        };
    }

    /// Gives up what is past its deadline.
    fn expire(&mut self, now: Instant) {
        let Self { deadlines, icmp, tcp, udp, heard, backlog, .. } = self;
        let until = if *backlog { now.checked_sub(PATIENCE).unwrap_or(now) } else { now };
        deadlines.expire(until, |(mark, flight)| {
            let fate = match flight {
                Flight::Icmp(key) => icmp.expire(key, mark).map(|fate| {
                    if *backlog {
                        Fate::Local("more came in than could be read in time".to_owned())
                    } else {
                        fate
                    }
                }),
                Flight::Tcp(key) => tcp.forget(key).then_some(Fate::Lost(Lost::Timeout)),
                Flight::Udp(key) => udp.expire(key, mark).then_some(Fate::Lost(Lost::Timeout)),
            };
            heard.extend(fate.map(|fate| Heard::Fate(mark, fate)));
        });
    }

    /// Sends what is due.
    fn send(&mut self, now: Instant) {
        let following = self.following.front().is_some_and(|(due, _)| *due <= now);
        if !following && self.schedule.next_due().is_none_or(|due| due > now) {
            return;
        }
        let sendings = self.due(now);
        self.unread += sendings.len();
        if self.unread > MANY {
            self.resting = self.resting.min(self.read + MANY_TOGETHER);
        }
        let mut requests = Vec::new();
        for sending in sendings {
            let Sending { mark, protocol, to, size, timeout } = sending;
            let Some(to) = to else {
                let why = "the target's name was never resolved".to_owned();
                self.heard.push(Heard::Fate(mark, Fate::Local(why)));
                continue;
            };
            match protocol {
                Protocol::Icmp => requests.push(Request { mark, to, size, timeout }),
                Protocol::Tcp(port) => self.connect(mark, SocketAddr::new(to, port), timeout),
                Protocol::Udp(port) => match self.udp.send(mark, SocketAddr::new(to, port), timeout) {
                    Ok(key) => self.deadlines.push(self::now(), timeout, (mark, Flight::Udp(key))),
                    Err(fate) => self.heard.push(Heard::Fate(mark, fate)),
                },
            }
        }
        let mut flying = Vec::with_capacity(requests.len());
        self.icmp.send(&requests, &mut self.heard, |request, key| {
            flying.push((request.timeout, (request.mark, Flight::Icmp(key))));
        });
        let sent = self::now();
        for (timeout, flight) in flying {
            self.deadlines.push(sent, timeout, flight);
        }
    }

    /// The packets that are due, those of begun bursts first.
    fn due(&mut self, now: Instant) -> Vec<Sending> {
        let mut due = Vec::new();
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let at = state.now();
        while let Some((_, mark)) = self.following.pop_front_if(|(at, _)| *at <= now) {
            due.push(mark);
        }
        self.schedule.due(now, |slot| {
            let Some(probe) = self.probes.get(slot.probe) else { return };
            let account = state.account(probe.protocol);
            account.skipped += slot.skipped;
            let Some(lag) = slot.lag else { return };
            account.sent += 1;
            account.lag = account.lag.max(lag);
            let Some(ticket) = state.release.sent(slot.probe, at) else { return };
            if let Some(bursts) = self.bursts.get_mut(slot.probe) {
                bursts.begin(packets(probe), now, lag);
            }
            self.beside.begin(slot.probe, ticket.number, now);
            due.push(Mark { ticket, index: 0 });
        });
        let mut sendings = Vec::with_capacity(due.len());
        for mark in due {
            let place = mark.ticket.probe as usize;
            let Some(probe) = self.probes.get(place) else { continue };
            if mark.index + 1 < packets(probe) {
                // From now and not from when this one was due: late ones keep their distance.
                self.following.push_back((now + APART, Mark { index: mark.index + 1, ..mark }));
            }
            sendings.push(Sending {
                mark,
                protocol: probe.protocol,
                to: state.addresses.get(place).copied().flatten(),
                size: probe.size,
                timeout: probe.timeout.min(LONGEST),
            });
        }
        sendings
    }

    fn connect(&mut self, mark: Mark, to: SocketAddr, timeout: Duration) {
        let fate = match self.tcp.connect(mark, to, timeout, &self.urgent) {
            Ok(Begun::Waiting(key)) => {
                return self.deadlines.push(now(), timeout, (mark, Flight::Tcp(key)));
            }
            Ok(Begun::Open(reply)) => Fate::Reply(reply),
            Err(errno) => match failure::lost(errno) {
                Lost::Local => Fate::Local(format!("sending: {errno}")),
                lost => Fate::Lost(lost),
            },
        };
        self.heard.push(Heard::Fate(mark, fate));
    }

    /// Makes outcomes of what was heard; whether the owner is to be told.
    fn settle(&mut self, now: Instant) -> bool {
        let heard = std::mem::take(&mut self.heard);
        let shared = self.shared.clone();
        let mut state = shared.lock();
        let dropped = self.icmp.dropped();
        self.udp.tell(&mut state.udp);
        state.icmp.dropped += dropped.saturating_sub(std::mem::replace(&mut self.told, dropped));
        self.judge(&mut state, heard, now);
        let announced = state.announce(now);
        self.tell_at = announced.err().flatten();
        announced.is_ok()
    }
}

/// How many packets a probe sends each time.
fn packets(probe: &Probe) -> u32 {
    match probe.protocol {
        Protocol::Tcp(_) => 1,
        Protocol::Icmp | Protocol::Udp(_) => probe.burst.clamp(1, MOST),
    }
}

/// The most packets a burst has; what asks for more is held to it.
const MOST: u32 = 1_000;

#[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
fn now() -> Instant {
    Instant::now()
}
