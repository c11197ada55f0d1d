//! Packets a second and core of the reflector over the loopback, and the allocations it makes for them.
//!
//! A thread keeps some hundreds of packets in flight from many sessions, and reads the answers. What counts is the CPU
//! time of the reflector's own thread, which the kernel accounts for: with that and what it answered, packets a second and
//! core. On the loopback that time holds the delivery of each answer into the asker's socket as well, which a network card would
//! save it. The project's target is 100,000.
//!
//! Allocations are counted in the whole process between two points of a run whose only two busy threads are the
//! reflector's and the asker's, neither of which may allocate.
//!
//! `cargo bench -p crosswatch-stamp --bench reflector [-- ROUNDS]`

#![allow(missing_docs, clippy::unwrap_used, clippy::panic)]
#![allow(clippy::disallowed_methods, reason = "a benchmark measures time")]

use std::alloc::{GlobalAlloc, Layout, System};
use std::fs;
use std::io::{IoSlice, IoSliceMut};
use std::net::UdpSocket;
use std::os::fd::AsRawFd;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use crosswatch_stamp::mirror::Policy;
use crosswatch_stamp::ntp::Stamp;
use crosswatch_stamp::packet::{ErrorEstimate, LENGTH, SenderPacket};
use crosswatch_stamp::{Options, Reflector};
use nix::errno::Errno;
use nix::sys::socket::{MsgFlags, MultiHeaders, SockaddrIn, recvmmsg, sendmmsg};

const SESSIONS: usize = 100;
const BATCH: usize = 32;
const PACKETS: u64 = 1_000_000;

static ALLOCATIONS: AtomicU64 = AtomicU64::new(0);

struct Counting;

#[global_allocator]
static GLOBAL: Counting = Counting;

#[allow(
    unsafe_code,
    reason = "an allocator that counts is unsafe by its interface; it hands everything on as it came"
)]
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, memory: *mut u8, layout: Layout) {
        unsafe { System.dealloc(memory, layout) }
    }

    unsafe fn realloc(&self, memory: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.fetch_add(1, Ordering::Relaxed);
        unsafe { System.realloc(memory, layout, size) }
    }
}

fn main() {
    let rounds = std::env::args().find_map(|arg| arg.parse().ok()).unwrap_or(5_usize);
    let policy = Policy::new(vec!["127.0.0.0/8".parse().unwrap()]);
    let reflector =
        Reflector::spawn(Options { listen: vec!["127.0.0.1:0".parse().unwrap()], policy }).unwrap();
    let thread = thread_named("reflector");
    let to = reflector.addresses()[0];
    let askers: Vec<UdpSocket> = (0..SESSIONS)
        .map(|_| {
            let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
            socket.connect(to).unwrap();
            socket.set_nonblocking(true).unwrap();
            socket
        })
        .collect();
    let mut asker = Asker::new(&askers);
    asker.ask(10_000);

    let mut rates = Vec::new();
    for round in 1..=rounds {
        let before = reflector.counts().unwrap();
        let (cpu, begin) = (cpu_of(thread), Instant::now());
        let allocations = ALLOCATIONS.load(Ordering::Relaxed);
        asker.ask(PACKETS);
        let allocations = ALLOCATIONS.load(Ordering::Relaxed) - allocations;
        let (wall, cpu) = (begin.elapsed(), cpu_of(thread) - cpu);
        let after = reflector.counts().unwrap();
        let answered = after.reflected - before.reflected;
        let rate = answered as f64 / cpu.as_secs_f64();
        println!(
            "round {round}: {rate:.0} packets/s and core: {answered} answered in {:.2} s, {:.2} s of CPU of the \
             reflector's thread, {allocations} allocations in the process",
            wall.as_secs_f64(),
            cpu.as_secs_f64(),
        );
        assert_eq!(allocations, 0, "no allocation for a packet");
        rates.push(rate);
    }
    rates.sort_by(f64::total_cmp);
    println!("median: {:.0} packets/s and core of {rounds} rounds", rates[rates.len() / 2]);
}

/// Asks from each socket in turn, a batch at a time, and reads what has come back.
struct Asker<'a> {
    askers: &'a [UdpSocket],
    sending: MultiHeaders<SockaddrIn>,
    receiving: MultiHeaders<SockaddrIn>,
    number: u32,
    turn: usize,
}

impl<'a> Asker<'a> {
    fn new(askers: &'a [UdpSocket]) -> Self {
        let headers = || MultiHeaders::preallocate(BATCH, None);
        Self { askers, sending: headers(), receiving: headers(), number: 0, turn: 0 }
    }

    fn ask(&mut self, packets: u64) {
        let (mut sent, mut came, mut quiet) = (0, 0, 0_u32);
        // A packet may be lost when this process's threads do not get their turns: then the rest is waited for a while only.
        while came < packets && quiet < 1_000_000 {
            let asker = &self.askers[self.turn % self.askers.len()];
            self.turn += 1;
            if sent < packets && sent - came < 512 {
                sent += self.send(asker);
            }
            let now = self.receive(asker);
            came += now;
            quiet = if now == 0 { quiet + 1 } else { 0 };
        }
    }

    fn send(&mut self, asker: &UdpSocket) -> u64 {
        let packets: [[u8; LENGTH]; BATCH] = std::array::from_fn(|index| {
            let sequence = self.number.wrapping_add(u32::try_from(index).unwrap());
            SenderPacket { sequence, sent: Stamp(1), error: ErrorEstimate::UNKNOWN, ssid: 0 }.bytes()
        });
        self.number = self.number.wrapping_add(u32::try_from(BATCH).unwrap());
        let slices = packets.each_ref().map(|packet| [IoSlice::new(packet)]);
        let flags = MsgFlags::MSG_DONTWAIT;
        match sendmmsg(asker.as_raw_fd(), &mut self.sending, &slices, [None; BATCH], [], flags) {
            Ok(sent) => sent.count() as u64,
            Err(Errno::EAGAIN) => 0,
            Err(errno) => panic!("{errno}"),
        }
    }

    fn receive(&mut self, asker: &UdpSocket) -> u64 {
        let mut rooms = [[0; 64]; BATCH];
        let mut slices = rooms.each_mut().map(|room| [IoSliceMut::new(room)]);
        match recvmmsg(asker.as_raw_fd(), &mut self.receiving, &mut slices, MsgFlags::MSG_DONTWAIT, None) {
            Ok(came) => came.count() as u64,
            Err(Errno::EAGAIN) => 0,
            Err(errno) => panic!("{errno}"),
        }
    }
}

/// The thread of this process that has this name.
fn thread_named(name: &str) -> u32 {
    let deadline = Instant::now() + Duration::from_secs(10);
    while Instant::now() < deadline {
        for entry in fs::read_dir("/proc/self/task").unwrap() {
            let path = entry.unwrap().path();
            if fs::read_to_string(path.join("comm")).is_ok_and(|comm| comm.trim() == name) {
                return path.file_name().unwrap().to_str().unwrap().parse().unwrap();
            }
        }
    }
    panic!("no thread is called {name}");
}

/// How long a thread was on a core (proc(5): schedstat, in nanoseconds).
fn cpu_of(thread: u32) -> Duration {
    let text = fs::read_to_string(format!("/proc/self/task/{thread}/schedstat")).unwrap();
    Duration::from_nanos(text.split(' ').next().unwrap().parse().unwrap())
}
