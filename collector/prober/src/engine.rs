//! The prober as its user sees it: probes in, outcomes in order out, and a promise of what will not come any more.

use std::collections::VecDeque;
use std::fmt;
use std::net::IpAddr;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_shared::observation::{Detail, Outcome};
use crosswatch_shared::time::Timestamp;

use crate::Error;
use crate::clock::Clock;
use crate::release::{Release, Released, Ticket};
use crate::run::Loop;

/// What to send, how often.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// By which protocol.
    pub protocol: Protocol,
    /// To where; `None` until it is known, and until then each slot's outcome is `local`.
    pub address: Option<IpAddr>,
    /// How often.
    pub every: Duration,
    /// How long a reply is waited for.
    pub timeout: Duration,
    /// How many packets are sent each time, a few milliseconds apart; at least 1. TCP opens one connection.
    pub burst: u32,
    /// The size of its IP packets in bytes, sent with Don't Fragment set; `None`: small ones. ICMP only.
    pub size: Option<u16>,
    /// The probe of small packets to the same target, by its place in the list: what this one of large packets is
    /// compared with.
    pub beside: Option<usize>,
}

/// How a probe is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Protocol {
    /// ICMP or `ICMPv6` echo, as the address asks.
    Icmp,
    /// A TCP connection opened to this port.
    Tcp(u16),
    /// STAMP test packets (RFC 8762) to the reflector at this UDP port.
    Udp(u16),
}

/// What came about since the last time.
#[derive(Clone, Debug, PartialEq)]
pub struct Taken {
    /// The outcomes, in the order of sending for each probe.
    pub outcomes: VecDeque<Released>,
    /// How many outcomes went because nobody took them; the oldest.
    pub dropped: u64,
    /// The present epoch of the clock; a new one is a wall clock that stepped.
    pub epoch: u32,
    /// A promise: in this epoch no outcome will come of what was sent before.
    pub through: Timestamp,
    /// The time now, by the prober's clock; later than any time it told before in this epoch.
    pub now: Timestamp,
    /// How ICMP went.
    pub icmp: Account,
    /// How TCP went.
    pub tcp: Account,
    /// How UDP went.
    pub udp: Account,
}

/// How the sending of one protocol went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Probes sent, or tried to.
    pub sent: u64,
    /// Slots that passed unused, since the process or the machine stood still or had no time.
    pub skipped: u64,
    /// Packets that this machine is to blame for: of outcomes that are `local`, and of bursts that tell of the rest.
    pub local: u64,
    /// What the newest of them was for.
    pub local_error: Option<String>,
    /// Replies that came after their timeout.
    pub late: u64,
    /// Replies that came again.
    pub duplicate: u64,
    /// Replies to nothing that was asked, or from somebody else.
    pub stray: u64,
    /// By how much the latest was sent too late.
    pub lag: Duration,
    /// Messages that came in and were dropped for want of room in the receive buffer; replies, stamps of sending or
    /// strays. What was in flight then and stays silent is `local`.
    pub dropped: u64,
    /// Replies whose round-trip time is from this process's clock, since the kernel did not stamp the sending or the
    /// receiving; TCP has no others, and does not count them.
    pub user_stamped: u64,
}

/// How long the owner is not told of what is not pressing.
pub const HOLD: Duration = Duration::from_millis(200);

/// The sending thread's handle; it stops, without waiting for what is in flight, when this is dropped.
#[derive(Debug)]
pub struct Engine {
    shared: Arc<Shared>,
    /// Closing it wakes the thread for the last time.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its handle both touch, briefly and never across a system call that waits.
#[derive(Debug)]
pub(crate) struct Shared(Mutex<State>);

#[derive(Debug)]
pub(crate) struct State {
    clock: Clock,
    pub(crate) release: Release,
    pub(crate) addresses: Vec<Option<IpAddr>>,
    pub(crate) icmp: Account,
    pub(crate) tcp: Account,
    pub(crate) udp: Account,
    pub(crate) ended: Option<String>,
    /// When the wall clock was last seen to have jumped ahead of the steady one, as it does when the machine was suspended.
    pub(crate) suspended: Option<Instant>,
    /// Until when the sending thread last stood still.
    pub(crate) stood_still: Option<Instant>,
    pressing: Pressing,
    /// Whether what is to be taken is pressing.
    urgent: bool,
    /// Since when there is something to take of which the handle's owner was not told.
    untold: Option<Instant>,
    /// Whether the handle's owner was told that there is something to take.
    announced: bool,
}

/// Says of each outcome of a probe, in the order of sending, whether its owner wants it at once.
pub(crate) struct Pressing(Box<Judge>);

type Judge = dyn FnMut(usize, &Outcome) -> bool + Send;

impl fmt::Debug for Pressing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Pressing")
    }
}

impl Engine {
    /// Opens the sockets that the probes need and begins to send. The sending thread asks `pressing` of each outcome, by the
    /// probe's place and in the order of sending, whether it cannot wait. It calls `ready` once something pressing is to be
    /// taken, and of the rest [`HOLD`] after the first of it. Neither may wait.
    ///
    /// # Errors
    /// As [`Error`] says: most often that this process may open no ICMP socket.
    pub fn spawn(
        probes: Vec<Probe>,
        pressing: impl FnMut(usize, &Outcome) -> bool + Send + 'static,
        ready: impl Fn() + Send + 'static,
    ) -> Result<Self, Error> {
        let (steady, wall) = clocks();
        let shared = Arc::new(Shared(Mutex::new(State::new(&probes, Box::new(pressing), wall, steady))));
        let start = |what| move |source| Error::Start { what, source };
        let (stop, stopped) = UnixStream::pair().map_err(start("a pair of sockets"))?;
        let sending = Loop::new(probes, shared.clone(), stopped, steady)?;
        let thread = std::thread::Builder::new()
            .name("prober".to_owned())
            .spawn(move || sending.run(ready))
            .map_err(start("a thread"))?;
        Ok(Self { shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Takes what came about since the last time.
    ///
    /// # Errors
    /// When the sending thread has ended.
    pub fn take(&self) -> Result<Taken, Error> {
        let gone = self.thread.as_ref().is_none_or(JoinHandle::is_finished);
        let mut state = self.shared.lock();
        if gone {
            return Err(Error::Ended { why: state.ended.take().unwrap_or_else(|| "a defect".to_owned()) });
        }
        (state.announced, state.urgent, state.untold) = (false, false, None);
        let now = state.now();
        let through = state.release.oldest_in_flight().unwrap_or(now);
        let (outcomes, dropped) = state.release.take();
        Ok(Taken {
            outcomes,
            dropped,
            epoch: state.release.epoch(),
            through,
            now,
            icmp: std::mem::take(&mut state.icmp),
            tcp: std::mem::take(&mut state.tcp),
            udp: std::mem::take(&mut state.udp),
        })
    }

    /// From its next slot on this probe goes to this address.
    pub fn set_address(&self, probe: usize, address: IpAddr) {
        if let Some(place) = self.shared.lock().addresses.get_mut(probe) {
            *place = Some(address);
        }
    }
}

impl Drop for Engine {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

impl Shared {
    pub(crate) fn lock(&self) -> MutexGuard<'_, State> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl State {
    pub(crate) fn new(probes: &[Probe], pressing: Box<Judge>, wall: Timestamp, steady: Instant) -> Self {
        Self {
            clock: Clock::new(wall, steady),
            release: Release::new(probes.len()),
            addresses: probes.iter().map(|probe| probe.address).collect(),
            icmp: Account::default(),
            tcp: Account::default(),
            udp: Account::default(),
            ended: None,
            suspended: None,
            stood_still: None,
            pressing: Pressing(pressing),
            urgent: false,
            untold: None,
            announced: false,
        }
    }

    /// The time now; a step of the wall clock moves what is in flight into the new epoch.
    pub(crate) fn now(&mut self) -> Timestamp {
        let (steady, wall) = clocks();
        let reading = self.clock.read(wall, steady);
        if let Some(micros) = reading.stepped {
            self.release.step(micros);
            if micros > 0 {
                self.suspended = Some(steady);
            }
        }
        reading.at
    }

    /// Whether the owner is to be told now that there is something to take, or else when.
    pub(crate) fn announce(&mut self, now: Instant) -> Result<(), Option<Instant>> {
        if self.announced || self.release.is_empty() {
            return Err(None);
        }
        let due = *self.untold.get_or_insert(now) + HOLD;
        if !self.urgent && now < due {
            return Err(Some(due));
        }
        self.announced = true;
        Ok(())
    }

    /// What became of a sending; asks of what is let out by it whether it is pressing.
    pub(crate) fn decide(&mut self, ticket: Ticket, outcome: Outcome, detail: Option<Box<Detail>>) {
        let before = self.release.let_out();
        self.release.decide_with(ticket, outcome, detail);
        for released in self.release.since(before) {
            released.pressing = (self.pressing.0)(released.probe, &released.outcome);
            self.urgent |= released.pressing;
        }
    }

    pub(crate) fn account(&mut self, protocol: Protocol) -> &mut Account {
        match protocol {
            Protocol::Icmp => &mut self.icmp,
            Protocol::Tcp(_) => &mut self.tcp,
            Protocol::Udp(_) => &mut self.udp,
        }
    }
}

#[allow(clippy::disallowed_methods, reason = "the prober's one look at both clocks")]
fn clocks() -> (Instant, Timestamp) {
    (Instant::now(), SystemTime::now().into())
}
