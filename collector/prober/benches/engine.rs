//! What the prober costs and how wrong it is: `cargo bench -p crosswatch-prober --bench engine`. Needs root, for network
//! namespaces of its own.
//!
//! 1. The engine at 10,000 targets a second on one core: how many samples are `local` or late, and its memory.
//! 2. The processor's time a probe at 100,000 probes a second on loopback, and at 1,000, beside the floor: the same system
//!    calls in a loop that does nothing else. In turns, so that what else the machine does falls on both.
//! 3. The error of round-trip times against a packet capture with the kernel's stamps on the same veth pair, at 10 and at
//!    10,000 targets, idle and with all cores busy; and while made-up replies come to the same socket, 100,000 a second.

#![allow(missing_docs, clippy::unwrap_used, clippy::panic, clippy::disallowed_methods)]

mod wire;

use std::collections::HashMap;
use std::fs;
use std::io::{IoSlice, IoSliceMut, Read as _};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_prober::{Account, Engine, Probe, Protocol};
use crosswatch_shared::observation::{Lost, Outcome};
use nix::sched::{CloneFlags, CpuSet, sched_getaffinity, sched_setaffinity, setns};
use nix::sys::resource::UsageWho;
use nix::sys::socket::{
    AddressFamily, MsgFlags, MultiHeaders, SockFlag, SockProtocol, SockType, SockaddrStorage,
    TimestampingFlag, recvmmsg, setsockopt, socket, sockopt,
};
use nix::unistd::{Pid, geteuid};
use rustix::net::{MMsgHdr, SendAncillaryBuffer, SendFlags, SocketAddrAny, sendmmsg};

use wire::{BATCH, Capture, Far, far_targets, processor};

fn main() {
    if !geteuid().is_root() {
        println!("NOT RUN: the bench makes network namespaces, which needs root");
        return;
    }
    println!("load before: {}", wire::load());
    wire::alone();
    // `cost` or another of them alone, where it is named.
    let named: Vec<String> = std::env::args().skip(1).collect();
    let parts: [(&str, fn()); 3] = [("one_core", one_core), ("cost", cost), ("error", error)];
    let is_named = |name: &str| named.iter().any(|of| of == name);
    let any = parts.iter().any(|(name, _)| is_named(name));
    parts.iter().filter(|(name, _)| !any || is_named(name)).for_each(|(_, part)| part());
    println!("load after: {}", wire::load());
}

fn probes(targets: impl Iterator<Item = Ipv4Addr>, every: Duration) -> Vec<Probe> {
    targets
        .map(|target| Probe {
            protocol: Protocol::Icmp,
            address: Some(target.into()),
            every,
            timeout: Duration::from_secs(1),
            burst: 1,
            size: None,
            beside: None,
        })
        .collect()
}

fn loopback(count: u32) -> impl Iterator<Item = Ipv4Addr> {
    (1..=count).map(|number| Ipv4Addr::from(0x7f01_0000 + number))
}

/// Takes from the engine as the collector does, for so long.
fn drive(engine: &Engine, span: Duration, mut each: impl FnMut(usize, Outcome)) -> Account {
    let mut sum = Account::default();
    let begun = Instant::now();
    while begun.elapsed() < span {
        thread::sleep(Duration::from_millis(10));
        let taken = engine.take().unwrap();
        for released in taken.outcomes {
            each(released.probe, released.outcome);
        }
        sum.sent += taken.icmp.sent;
        sum.skipped += taken.icmp.skipped;
        sum.local += taken.icmp.local;
        sum.dropped += taken.icmp.dropped;
        sum.user_stamped += taken.icmp.user_stamped;
        sum.stray += taken.icmp.stray;
        sum.lag = sum.lag.max(taken.icmp.lag);
    }
    sum
}

fn one_core() {
    let all = sched_getaffinity(Pid::from_raw(0)).unwrap();
    let mut one = CpuSet::new();
    one.set(0).unwrap();
    sched_setaffinity(Pid::from_raw(0), &one).unwrap();
    let before = memory();
    let engine = Engine::spawn(probes(loopback(10_000), Duration::from_secs(1)), |_, _| true, || ()).unwrap();
    let begun = processor(UsageWho::RUSAGE_SELF);
    let mut lost: HashMap<Lost, u64> = HashMap::new();
    let mut replies = 0;
    let account = drive(&engine, Duration::from_secs(20), |_, outcome| match outcome {
        Outcome::Reply { .. } => replies += 1,
        Outcome::Lost(why) => *lost.entry(why).or_default() += 1,
    });
    let used = processor(UsageWho::RUSAGE_SELF) - begun;
    println!(
        "one core, 10,000 targets at 1 s for 20 s: {replies} replies, lost {lost:?}, skipped {}, local {}, dropped {}, \
         stamped by the process {}, most lag {:?}, {:.2} us a probe, memory {} KiB before and {} KiB after",
        account.skipped,
        account.local,
        account.dropped,
        account.user_stamped,
        account.lag,
        used.as_secs_f64() * 1e6 / account.sent as f64,
        before,
        memory(),
    );
    drop(engine);
    sched_setaffinity(Pid::from_raw(0), &all).unwrap();
}

/// Resident, in KiB.
fn memory() -> u64 {
    let status = fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse().unwrap()
}

/// At 100,000 a second, where the work counts, and at 1,000 a second, where waking up for it counts as well.
fn cost() {
    const ROUNDS: usize = 5;
    let span = Duration::from_secs(3);
    for (targets, every, a_second) in
        [(10_000, Duration::from_millis(100), 100_000), (1_000, Duration::from_secs(1), 1_000)]
    {
        let mut figures = [Vec::new(), Vec::new(), Vec::new()];
        for _ in 0..ROUNDS {
            let engine = Engine::spawn(probes(loopback(targets), every), |_, _| true, || ()).unwrap();
            // Of its thread: whoever takes, here far more often than the collector does, is not the engine.
            let of_thread = || processor(UsageWho::RUSAGE_SELF) - processor(UsageWho::RUSAGE_THREAD);
            let begun = of_thread();
            let account = drive(&engine, span, |_, _| ());
            drop(engine);
            figures[0].push((of_thread() - begun).as_secs_f64() * 1e6 / account.sent as f64);
            if account.skipped > 0 {
                println!(
                    "{} of {} slots passed unused: the machine was busy",
                    account.skipped,
                    account.skipped + account.sent
                );
            }
            for (place, tx) in [(1, true), (2, false)] {
                let begun = processor(UsageWho::RUSAGE_THREAD);
                let sent = floor(span, targets, a_second as usize / 100, tx);
                let used = processor(UsageWho::RUSAGE_THREAD) - begun;
                figures[place].push(used.as_secs_f64() * 1e6 / sent as f64);
            }
        }
        let ratios: Vec<f64> =
            figures[0].iter().zip(&figures[1]).map(|(engine, floor)| engine / floor).collect();
        println!(
            "{a_second} a second on loopback, us of processor a probe, median of {ROUNDS}: engine {:.2} {:.2?}, floor \
             {:.2} {:.2?}, ratio {:.2} {:.2?}; floor without stamps of sending {:.2}",
            median(&figures[0]),
            figures[0],
            median(&figures[1]),
            figures[1],
            median(&ratios),
            ratios,
            median(&figures[2]),
        );
    }
}

fn median(of: &[f64]) -> f64 {
    let mut sorted = of.to_vec();
    sorted.sort_by(f64::total_cmp);
    sorted[sorted.len() / 2]
}

/// So many requests each 10 ms and all that comes of them, over one ping socket; how many were sent. With stamps of sending,
/// or without.
fn floor(span: Duration, targets: u32, each_tick: usize, tx: bool) -> u64 {
    let socket =
        socket(AddressFamily::Inet, SockType::Datagram, SockFlag::SOCK_NONBLOCK, SockProtocol::Icmp).unwrap();
    let mut stamps = TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_ID
        | TimestampingFlag::SOF_TIMESTAMPING_OPT_TSONLY;
    stamps.set(TimestampingFlag::SOF_TIMESTAMPING_TX_SOFTWARE, tx);
    setsockopt(&socket, sockopt::Timestamping, &stamps).unwrap();
    setsockopt(&socket, sockopt::Ipv4RecvErr, &true).unwrap();
    setsockopt(&socket, sockopt::RcvBufForce, &(8 << 20)).unwrap();
    setsockopt(&socket, sockopt::SndBufForce, &(8 << 20)).unwrap();
    let targets: Vec<SocketAddrAny> =
        loopback(targets).map(|target| SocketAddr::new(IpAddr::V4(target), 0).into()).collect();
    let request =
        [8u8, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let (begun, mut sent, mut next) = (Instant::now(), 0, Instant::now());
    let mut ticks = targets.chunks(each_tick).cycle();
    while begun.elapsed() < span {
        for batch in ticks.next().unwrap().chunks(BATCH) {
            let slices = [IoSlice::new(&request)];
            let mut controls: Vec<_> = batch.iter().map(|_| SendAncillaryBuffer::default()).collect();
            let mut headers: Vec<MMsgHdr<'_>> = batch
                .iter()
                .zip(&mut controls)
                .map(|(to, control)| MMsgHdr::new_with_addr(to, &slices, control))
                .collect();
            sent += sendmmsg(&socket, &mut headers, SendFlags::DONTWAIT).unwrap() as u64;
            while read(&socket, MsgFlags::MSG_ERRQUEUE) == BATCH {}
            while read(&socket, MsgFlags::empty()) == BATCH {}
        }
        next += Duration::from_millis(10);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent
}

fn read(socket: &OwnedFd, flags: MsgFlags) -> usize {
    let mut room = [0u8; BATCH * 256];
    let mut slices: Vec<[IoSliceMut<'_>; 1]> =
        room.chunks_exact_mut(256).map(|room| [IoSliceMut::new(room)]).collect();
    let mut headers = MultiHeaders::<SockaddrStorage>::preallocate(BATCH, Some(Vec::with_capacity(192)));
    let flags = flags | MsgFlags::MSG_DONTWAIT;
    recvmmsg(socket.as_raw_fd(), &mut headers, slices.iter_mut(), flags, None).map_or(0, Iterator::count)
}

type Seen = HashMap<(u32, u64), (Option<i64>, Option<i64>)>;

/// Far away: a namespace that answers for all of 10.64.0.0/16.
fn error() {
    let far = Far::new();
    for targets in [10u32, 10_000] {
        for busy in [false, true] {
            let stop = Arc::new(AtomicBool::new(false));
            let cores = if busy { thread::available_parallelism().unwrap().get() } else { 0 };
            let busy_threads: Vec<_> = (0..cores)
                .map(|_| {
                    let stop = stop.clone();
                    thread::spawn(move || while !stop.load(Ordering::Relaxed) {})
                })
                .collect();
            compare(targets, if busy { "all cores busy" } else { "idle" });
            stop.store(true, Ordering::Relaxed);
            busy_threads.into_iter().for_each(|thread| thread.join().unwrap());
        }
    }
    let stop = Arc::new(AtomicBool::new(false));
    let (until, there) = (stop.clone(), fs::File::open(format!("/run/netns/{}", far.0)).unwrap());
    let flood = thread::spawn(move || {
        setns(there, CloneFlags::CLONE_NEWNET).unwrap();
        flood(&until)
    });
    compare(1_000, "flooded");
    stop.store(true, Ordering::Relaxed);
    println!("made-up replies: {:.0} a second", flood.join().unwrap());
}

/// Replies with the identifier of the first request that comes here and a proof of nothing, 100 each millisecond; how many a
/// second those were.
fn flood(stop: &AtomicBool) -> f64 {
    let kind = (socket2::Domain::IPV4, socket2::Type::RAW, socket2::Protocol::ICMPV4);
    let socket = socket2::Socket::new(kind.0, kind.1, Some(kind.2)).unwrap();
    let mut packet = [0; 128];
    while (&socket).read(&mut packet).unwrap() < 28 || packet[20] != 8 {}
    let mut reply = [0xff; 32];
    reply[..4].fill(0);
    reply[4..8].copy_from_slice(&packet[24..28]);
    // All but the identifier and the number are zeros or ones, which count for nothing.
    let sum: u32 = reply.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
    let sum = (sum & 0xffff) + (sum >> 16);
    let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
    reply[2..4].copy_from_slice(&sum.to_be_bytes());
    let to: SocketAddrAny = "10.63.0.1:0".parse::<SocketAddr>().unwrap().into();
    let (begun, mut sent, mut next) = (Instant::now(), 0, Instant::now());
    while !stop.load(Ordering::Relaxed) {
        let slices = [IoSlice::new(&reply)];
        let mut controls: Vec<_> = (0..100).map(|_| SendAncillaryBuffer::default()).collect();
        let mut headers: Vec<MMsgHdr<'_>> =
            controls.iter_mut().map(|control| MMsgHdr::new_with_addr(&to, &slices, control)).collect();
        sent += sendmmsg(&socket, &mut headers, SendFlags::empty()).unwrap_or(0);
        next += Duration::from_millis(1);
        thread::sleep(next.saturating_duration_since(Instant::now()));
    }
    sent as f64 / begun.elapsed().as_secs_f64()
}

fn compare(targets: u32, while_what: &str) {
    let capture = Capture::new();
    let every = if targets < 100 { Duration::from_millis(20) } else { Duration::from_secs(1) };
    let engine = Engine::spawn(probes(far_targets(targets), every), |_, _| true, || ()).unwrap();
    let mut rtts: Vec<Vec<Outcome>> = vec![Vec::new(); targets as usize];
    let mut seen: Seen = HashMap::new();
    let mut account = Account::default();
    for _ in 0..80 {
        let part = drive(&engine, Duration::from_millis(100), |probe, outcome| rtts[probe].push(outcome));
        account.sent += part.sent;
        account.user_stamped += part.user_stamped;
        account.local += part.local;
        account.stray += part.stray;
        account.dropped += part.dropped;
        account.lag = account.lag.max(part.lag);
        capture.read(|packet, stamp| {
            let Some(mark) = packet.get(28..44) else { return };
            let probe = u32::from_be_bytes(mark[..4].try_into().unwrap());
            let number = u64::from_be_bytes(mark[8..].try_into().unwrap());
            let (out, back) = seen.entry((probe, number)).or_default();
            *(if packet[20] == 8 { out } else { back }) = Some(stamp);
        });
    }
    drop(engine);
    let mut errors = Vec::new();
    let (mut lost, mut uncaptured) = (0, 0);
    for ((probe, number), stamps) in &seen {
        match (rtts.get(*probe as usize).and_then(|of| of.get(*number as usize)), stamps) {
            (Some(Outcome::Reply { rtt_ms }), (Some(out), Some(back))) => {
                errors.push((rtt_ms * 1e3 - (back - out) as f64 / 1e3).abs());
            }
            (Some(Outcome::Reply { .. }), _) => uncaptured += 1,
            (Some(Outcome::Lost(_)), _) => lost += 1,
            (None, _) => {}
        }
    }
    errors.sort_by(f64::total_cmp);
    let quantile = |part: f64| errors[((errors.len() - 1) as f64 * part) as usize];
    println!(
        "{targets} targets each {every:?}, {while_what}: error against the capture, us: median {:.1}, p99 {:.1}, p99.9 {:.1}, \
         most {:.1}; {} compared, {lost} lost, {uncaptured} not captured, {} stamped by the process, {} local, {} strays, {} \
         dropped, most lag {:?}",
        quantile(0.5),
        quantile(0.99),
        quantile(0.999),
        errors.last().unwrap(),
        errors.len(),
        account.user_stamped,
        account.local,
        account.stray,
        account.dropped,
        account.lag,
    );
}
