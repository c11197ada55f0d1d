//! The reflector as its user sees it: a thread that answers, until the handle is dropped.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::OwnedFd;
use std::os::unix::net::UnixStream;
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use nix::errno::Errno;
use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};

use crate::Error;
use crate::exchange::{Exchange, listen};
use crate::mirror::{Counts, Heard, Mirror, Policy};
use crate::packet::PORT;

/// How often idle sessions are looked for.
const SWEEP_MILLIS: u16 = 60_000;

/// Where to listen, and whom to answer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Options {
    /// Each gets a socket. The unspecified address means all of its family; port 0 means any that is free.
    pub listen: Vec<SocketAddr>,
    /// Whom to answer.
    pub policy: Policy,
}

impl Options {
    /// At port 862 of the loopback, for whom the policy allows.
    #[must_use]
    pub fn new(policy: Policy) -> Self {
        Self { listen: vec![(Ipv4Addr::LOCALHOST, PORT).into()], policy }
    }
}

/// A stateful Session-Reflector's handle; it stops when this is dropped.
#[derive(Debug)]
pub struct Reflector {
    addresses: Vec<SocketAddr>,
    shared: Arc<Shared>,
    /// Closing it wakes the thread for the last time.
    stop: Option<UnixStream>,
    thread: Option<JoinHandle<()>>,
}

/// What the thread and its handle both touch, never across a system call that waits.
#[derive(Debug)]
struct Shared {
    mirror: Mutex<Mirror>,
    ended: Mutex<Option<String>>,
}

impl Reflector {
    /// Opens the sockets and begins to answer, on a thread of its own.
    ///
    /// # Errors
    /// As [`Error`] says: no network is allowed, nowhere to listen, or an address cannot be listened at.
    pub fn spawn(options: Options) -> Result<Self, Error> {
        if options.policy.allow.is_empty() {
            return Err(Error::NobodyAllowed);
        }
        if options.listen.is_empty() {
            return Err(Error::NowhereToListen);
        }
        let open = |&at: &SocketAddr| listen(at).map_err(|errno| Error::Listen { at, source: errno.into() });
        let sockets = options.listen.iter().map(open).collect::<Result<Vec<_>, _>>()?;
        let addresses = sockets.iter().map(|(_, bound)| *bound).collect();
        let start = |what| move |source| Error::Start { what, source };
        let (stop, stopped) = UnixStream::pair().map_err(start("a pair of sockets"))?;
        let epoll = wait_for(&stopped, &sockets).map_err(|errno| start("an epoll")(errno.into()))?;
        #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
        let mirror = Mutex::new(Mirror::new(options.policy, Instant::now()));
        let shared = Arc::new(Shared { mirror, ended: Mutex::new(None) });
        let thread = std::thread::Builder::new()
            .name("reflector".to_owned())
            .spawn({
                let shared = shared.clone();
                // The room for batches is made there: it must not move between threads.
                move || {
                    let sockets =
                        sockets.into_iter().map(|(socket, bound)| Exchange::new(socket, bound)).collect();
                    run(sockets, &epoll, &shared);
                    // Held open for the epoll: its other end is the handle's.
                    drop(stopped);
                }
            })
            .map_err(start("a thread"))?;
        Ok(Self { addresses, shared, stop: Some(stop), thread: Some(thread) })
    }

    /// Where it listens, in the order of the options; port 0 is replaced by the port taken.
    #[must_use]
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    /// What it has counted since it was started.
    ///
    /// # Errors
    /// When its thread has ended: nothing is answered any more.
    pub fn counts(&self) -> Result<Counts, Error> {
        self.alive()?;
        Ok(self.shared.mirror.lock().unwrap_or_else(PoisonError::into_inner).counts)
    }

    /// The sessions there are, in no order.
    ///
    /// # Errors
    /// When its thread has ended: nothing is answered any more.
    pub fn heard(&self) -> Result<Vec<Heard>, Error> {
        self.alive()?;
        Ok(self.shared.mirror.lock().unwrap_or_else(PoisonError::into_inner).heard())
    }

    fn alive(&self) -> Result<(), Error> {
        if self.thread.as_ref().is_some_and(|thread| !thread.is_finished()) {
            return Ok(());
        }
        let why = self.shared.ended.lock().unwrap_or_else(PoisonError::into_inner).clone();
        Err(Error::Ended { why: why.unwrap_or_else(|| "a defect".to_owned()) })
    }
}

impl Drop for Reflector {
    fn drop(&mut self) {
        drop(self.stop.take());
        if let Some(thread) = self.thread.take() {
            // A thread that panicked has said so on standard error.
            let _ = thread.join();
        }
    }
}

/// What the epoll calls the stop; a socket has its place, counted from one.
const STOP: u64 = 0;

fn wait_for(stopped: &UnixStream, sockets: &[(OwnedFd, SocketAddr)]) -> Result<Epoll, Errno> {
    let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
    epoll.add(stopped, EpollEvent::new(EpollFlags::EPOLLIN, STOP))?;
    for (place, (socket, _)) in (STOP + 1..).zip(sockets) {
        epoll.add(socket, EpollEvent::new(EpollFlags::EPOLLIN, place))?;
    }
    Ok(epoll)
}

fn run(mut sockets: Vec<Exchange>, epoll: &Epoll, shared: &Shared) {
    let mut events = [EpollEvent::empty(); 16];
    #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
    let mut swept = Instant::now();
    loop {
        let found = match epoll.wait(&mut events, EpollTimeout::from(SWEEP_MILLIS)) {
            Ok(found) => found,
            Err(Errno::EINTR) => 0,
            Err(errno) => {
                *shared.ended.lock().unwrap_or_else(PoisonError::into_inner) =
                    Some(format!("waiting: {errno}"));
                return;
            }
        };
        for event in events.iter().take(found) {
            let place = event.data();
            if place == STOP {
                return;
            }
            let socket = usize::try_from(place - 1).ok().and_then(|index| sockets.get_mut(index));
            socket.into_iter().for_each(|socket| socket.turn(&shared.mirror));
        }
        #[allow(clippy::disallowed_methods, reason = "the loop owns the clock")]
        let now = Instant::now();
        if now.saturating_duration_since(swept) >= Duration::from_millis(SWEEP_MILLIS.into()) {
            swept = now;
            shared.mirror.lock().unwrap_or_else(PoisonError::into_inner).sweep(now);
        }
    }
}
