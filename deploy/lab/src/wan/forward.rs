//! The forwarder's loop: one thread, which waits for packets and for the next arrival. This is where its clock is.

use std::fs::File;
use std::io::{self, ErrorKind, Read as _, Write as _};
use std::time::{Duration, Instant};

use nix::sys::epoll::{Epoll, EpollCreateFlags, EpollEvent, EpollFlags, EpollTimeout};
use nix::sys::time::TimeSpec;
use nix::sys::timerfd::{ClockId, Expiration, TimerFd, TimerFlags, TimerSetTimeFlags};

use super::control::Shared;
use super::line::{Line, Policy};
use super::record::Recorder;
use crate::Site;

/// How many packets are read of one side before the other and what has arrived get their turn.
const BURST: usize = 64;

/// The longest packet of a TUN device.
const LONGEST_PACKET: usize = 65_536;

/// What an event is about: the sides are 0 and 1.
const TIMER: u64 = 2;

/// Copies packets between the devices until one breaks, and says why. The same seed makes the same choices of the same
/// packets.
pub(super) fn run(
    devices: [File; 2],
    seed: Option<u64>,
    recorder: Option<Recorder>,
    shared: &Shared,
) -> io::Error {
    let forwarder = Forwarder::new(devices, seed, recorder);
    match forwarder.and_then(|mut forwarder| forwarder.forward(shared)) {
        Ok(never) => match never {},
        Err(error) => error,
    }
}

struct Forwarder {
    devices: [File; 2],
    /// By the sending side.
    lines: [Line; 2],
    recorder: Option<Recorder>,
    epoll: Epoll,
    timer: TimerFd,
    /// What the timer is set to. A timerfd is precise to microseconds, where epoll's own timeout counts milliseconds.
    armed: Option<Instant>,
}

impl Forwarder {
    fn new(devices: [File; 2], seed: Option<u64>, recorder: Option<Recorder>) -> io::Result<Self> {
        let epoll = Epoll::new(EpollCreateFlags::EPOLL_CLOEXEC)?;
        let timer =
            TimerFd::new(ClockId::CLOCK_MONOTONIC, TimerFlags::TFD_NONBLOCK | TimerFlags::TFD_CLOEXEC)?;
        for (side, device) in (0..).zip(&devices) {
            epoll.add(device, EpollEvent::new(EpollFlags::EPOLLIN, side))?;
        }
        epoll.add(&timer, EpollEvent::new(EpollFlags::EPOLLIN, TIMER))?;
        let mut random = seed.map_or_else(fastrand::Rng::new, fastrand::Rng::with_seed);
        let lines = [Line::new(random.fork()), Line::new(random.fork())];
        Ok(Self { devices, lines, recorder, epoll, timer, armed: None })
    }

    fn forward(&mut self, shared: &Shared) -> io::Result<std::convert::Infallible> {
        let mut buffer = vec![0; LONGEST_PACKET];
        let mut events = [EpollEvent::empty(); 3];
        loop {
            let due = self.deliver(Instant::now())?;
            shared.count([self.lines[0].counts, self.lines[1].counts]);
            if !self.arm(due)? {
                // It has arrived meanwhile.
                continue;
            }
            let ready = match self.epoll.wait(&mut events, EpollTimeout::NONE) {
                Err(nix::errno::Errno::EINTR) => 0,
                ready => ready?,
            };
            let policies = shared.policies();
            for event in events.iter().take(ready) {
                match event.data() {
                    0 => self.read(0, &policies[0], &mut buffer)?,
                    1 => self.read(1, &policies[1], &mut buffer)?,
                    _ => {
                        self.armed = None;
                        self.timer.wait().or_else(ignore_again)?;
                    }
                }
            }
        }
    }

    /// Hands over what has arrived by `now`; gives when the next will.
    fn deliver(&mut self, now: Instant) -> io::Result<Option<Instant>> {
        let [near, far] = &mut self.devices;
        for ((from, line), device) in Site::ALL.into_iter().zip(&mut self.lines).zip([far, near]) {
            while let Some(packet) = line.pop(now) {
                // Before: the kernel may have it answered by the time that writing returns.
                let left = Instant::now();
                // A device that is down or has no room takes no packet; on a wire it would be lost, too.
                if device.write_all(&packet.bytes).is_err() {
                    line.counts.refused += 1;
                    continue;
                }
                line.counts.delivered += 1;
                if let Some(recorder) = &mut self.recorder {
                    recorder.note(from, left.saturating_duration_since(packet.came), &packet.bytes)?;
                }
            }
        }
        self.recorder.as_mut().map_or(Ok(()), Recorder::write)?;
        Ok(self.lines.iter().filter_map(Line::next_due).min())
    }

    /// Sets the timer, where it is not set to that already; `false` where the time has come.
    fn arm(&mut self, due: Option<Instant>) -> io::Result<bool> {
        let Some(due) = due.filter(|_| due != self.armed) else {
            return Ok(true);
        };
        let left = due.saturating_duration_since(Instant::now());
        // Zero would switch the timer off.
        if left == Duration::ZERO {
            return Ok(false);
        }
        self.timer.set(Expiration::OneShot(TimeSpec::from_duration(left)), TimerSetTimeFlags::empty())?;
        self.armed = Some(due);
        Ok(true)
    }

    fn read(&mut self, side: usize, policy: &Policy, buffer: &mut [u8]) -> io::Result<()> {
        let (device, line) = (&mut self.devices[side], &mut self.lines[side]);
        for _ in 0..BURST {
            match device.read(buffer) {
                Ok(length) => line.push(Instant::now(), policy, buffer.get(..length).unwrap_or_default()),
                Err(error) if error.kind() == ErrorKind::WouldBlock => break,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }
}

fn ignore_again(errno: nix::errno::Errno) -> nix::Result<()> {
    if errno == nix::errno::Errno::EAGAIN { Ok(()) } else { Err(errno) }
}
