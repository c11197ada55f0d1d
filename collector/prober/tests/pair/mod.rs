//! Two network namespaces joined by a veth pair, and what is probed over it. For the tests of this crate.

#![allow(dead_code, reason = "each test file uses its part of it")]

use std::fs;
use std::io::{IoSliceMut, Read};
use std::net::{SocketAddr, UdpSocket};
use std::os::fd::AsRawFd as _;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{OnceLock, mpsc};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_prober::{Account, Engine, Probe, Protocol, Released};
use crosswatch_shared::observation::Outcome;
use nix::sched::{CloneFlags, setns};
use nix::sys::socket::{
    ControlMessageOwned, MsgFlags, SockaddrStorage, TimestampingFlag, recvmsg, setsockopt, sockopt,
};

pub(crate) const NEAR_V4: &str = "10.77.0.1";
pub(crate) const FAR_V4: &str = "10.77.0.2";
pub(crate) const FAR_V6: &str = "fd77::2";

/// Nothing here takes longer than a few seconds; it is a bound against hanging, not a measurement.
pub(crate) const BOUND: Duration = Duration::from_secs(30);

/// Two namespaces joined by a veth pair; gone with this, also after a panic.
pub(crate) struct Pair {
    pub(crate) near: String,
    pub(crate) far: String,
}

/// The kernel begins to stamp what it receives a moment after the first socket asked for it, and does so while one asks.
fn have_the_kernel_stamp() {
    static ASKS: OnceLock<UdpSocket> = OnceLock::new();
    ASKS.get_or_init(|| {
        let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
        let wanted =
            TimestampingFlag::SOF_TIMESTAMPING_SOFTWARE | TimestampingFlag::SOF_TIMESTAMPING_RX_SOFTWARE;
        setsockopt(&socket, sockopt::Timestamping, &wanted).unwrap();
        let (asked, mut control) = (Instant::now(), vec![0; 256]);
        loop {
            socket.send_to(b"?", socket.local_addr().unwrap()).unwrap();
            let mut bytes = [0; 8];
            let mut room = [IoSliceMut::new(&mut bytes)];
            let flags = MsgFlags::empty();
            let message =
                recvmsg::<SockaddrStorage>(socket.as_raw_fd(), &mut room, Some(&mut control), flags).unwrap();
            let is_stamp = |one| matches!(one, ControlMessageOwned::ScmTimestampsns(_));
            if message.cmsgs().unwrap().any(is_stamp) {
                return socket;
            }
            assert!(asked.elapsed() < BOUND, "the kernel stamps nothing");
        }
    });
}

impl Pair {
    pub(crate) fn new() -> Self {
        have_the_kernel_stamp();
        static MADE: AtomicU32 = AtomicU32::new(0);
        let name = format!("cwp{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let pair = Self { near: format!("{name}a"), far: format!("{name}b") };
        ip(&format!("netns add {}", pair.near));
        ip(&format!("netns add {}", pair.far));
        ip(&format!("-n {} link add near type veth peer name far netns {}", pair.near, pair.far));
        for (namespace, link, host) in [(&pair.near, "near", 1), (&pair.far, "far", 2)] {
            ip(&format!("-n {namespace} addr add 10.77.0.{host}/24 dev {link}"));
            ip(&format!("-n {namespace} addr add fd77::{host}/64 dev {link} nodad"));
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} link set {link} address 02:00:00:00:00:0{host} up"));
        }
        // Known from the start: the first IPv6 packets after a link came up would else wait a second for the neighbour.
        for (namespace, link, other) in [(&pair.near, "near", 2), (&pair.far, "far", 1)] {
            ip(&format!(
                "-n {namespace} neigh replace fd77::{other} lladdr 02:00:00:00:00:0{other} nud permanent dev {link}"
            ));
            wait_until_up(namespace, link);
        }
        pair
    }

    /// Loads an nft ruleset on one side.
    pub(crate) fn nft(&self, namespace: &str, chain: &str, rules: &str) {
        let ruleset =
            format!("table inet {chain}s {{ chain c {{ type filter hook {chain} priority 0; {rules}\n}}\n}}");
        run("ip", &["netns", "exec", namespace, "nft", &ruleset]);
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = Command::new("ip").args(["netns", "del", namespace]).output();
        }
    }
}

pub(crate) fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

pub(crate) fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Until the kernel has taken note of the carrier it drops what is sent, and what waits for a neighbour.
pub(crate) fn wait_until_up(namespace: &str, link: &str) {
    let asked = Instant::now();
    while !is_up(namespace, link) {
        assert!(asked.elapsed() < BOUND, "{link} in {namespace} does not come up");
    }
}

fn is_up(namespace: &str, link: &str) -> bool {
    let out = Command::new("ip").args(["-n", namespace, "-o", "link", "show", link]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).contains("state UP")
}

/// Runs this in a namespace, on a thread of its own.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(fs::File::open(format!("/run/netns/{namespace}")).unwrap(), CloneFlags::CLONE_NEWNET)
                .unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

pub(crate) fn allow_ping_sockets() {
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
}

/// The kernel sends only so many ICMP errors a second, to each target and in all, and drops any of the rest.
pub(crate) fn unlimited_icmp_errors() {
    fs::write("/proc/sys/net/ipv4/icmp_ratemask", "0").unwrap();
    fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").unwrap();
}

pub(crate) fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("not run: network namespaces need root");
    }
    root
}

pub(crate) fn probe(protocol: Protocol, to: &str) -> Probe {
    Probe {
        protocol,
        address: Some(to.parse().unwrap()),
        every: Duration::from_millis(50),
        timeout: Duration::from_millis(400),
        burst: 1,
        size: None,
        beside: None,
    }
}

/// Sends until each probe has this many outcomes; the accounts of ICMP and TCP too.
pub(crate) fn outcomes(probes: &[Probe], each: usize) -> (Vec<Vec<Outcome>>, Account, Account) {
    let (ready, readied) = mpsc::channel();
    let engine =
        Engine::spawn(probes.to_vec(), |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
    let mut found: Vec<Vec<Outcome>> = vec![Vec::new(); probes.len()];
    let (mut icmp, mut tcp) = (Account::default(), Account::default());
    while found.iter().any(|of| of.len() < each) {
        readied.recv_timeout(BOUND).unwrap();
        let taken = engine.take().unwrap();
        for released in taken.outcomes {
            found[released.probe].push(released.outcome);
        }
        add(&mut icmp, taken.icmp);
        add(&mut tcp, taken.tcp);
    }
    (found, icmp, tcp)
}

pub(crate) fn add(sum: &mut Account, more: Account) {
    sum.sent += more.sent;
    sum.local += more.local;
    sum.local_error = more.local_error.or(sum.local_error.take());
    sum.late += more.late;
    sum.duplicate += more.duplicate;
    sum.stray += more.stray;
    sum.dropped += more.dropped;
    sum.user_stamped += more.user_stamped;
}

/// Sends each probe once, as one burst, and gives what came of each and the account of ICMP. Nothing is in flight then.
pub(crate) fn once(probes: &[Probe]) -> (Vec<Released>, Account) {
    let probes: Vec<Probe> =
        probes.iter().map(|probe| Probe { every: Duration::from_secs(24 * 3600), ..probe.clone() }).collect();
    let (ready, readied) = mpsc::channel();
    // The phases divide the day: only a probe with an interval of its own is sent at once.
    let engines: Vec<Engine> = probes
        .iter()
        .map(|probe| {
            let ready = ready.clone();
            Engine::spawn(vec![probe.clone()], |_, _| true, move || ready.send(()).unwrap_or_default())
                .unwrap()
        })
        .collect();
    let mut found: Vec<Option<Released>> = probes.iter().map(|_| None).collect();
    let mut account = Account::default();
    while found.iter().any(Option::is_none) {
        readied.recv_timeout(BOUND).unwrap();
        for (engine, found) in engines.iter().zip(&mut found) {
            let taken = engine.take().unwrap();
            add(&mut account, taken.icmp);
            for released in taken.outcomes {
                assert!(found.replace(released).is_none(), "sent twice");
            }
        }
    }
    (found.into_iter().flatten().collect(), account)
}

/// When copies of a request go back, and which byte of each is spoilt.
pub(crate) type Answers = fn(&Asked) -> Vec<(Duration, Option<usize>)>;

/// What a responder knows of a request.
pub(crate) struct Asked {
    pub(crate) sequence: u16,
    /// Its place in the burst.
    pub(crate) index: u32,
}

/// Answers echo requests in the kernel's place, each as `answers` says: the delays after which copies go back, and
/// which byte of each is spoilt. The answers come from this address.
pub(crate) fn responder(from: &str, answers: Answers) -> mpsc::Sender<()> {
    fs::write("/proc/sys/net/ipv4/icmp_echo_ignore_all", "1").unwrap();
    let socket =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
            .unwrap();
    socket.set_read_timeout(Some(Duration::from_millis(10))).unwrap();
    let sender =
        socket2::Socket::new(socket2::Domain::IPV4, socket2::Type::RAW, Some(socket2::Protocol::ICMPV4))
            .unwrap();
    let from: SocketAddr = format!("{from}:0").parse().unwrap();
    sender.bind(&from.into()).unwrap();
    let (stop, stopped) = mpsc::channel();
    thread::spawn(move || {
        let to: SocketAddr = format!("{NEAR_V4}:0").parse().unwrap();
        while stopped.try_recv() != Err(mpsc::TryRecvError::Disconnected) {
            let mut packet = [0; 256];
            let Ok(length) = (&socket).read(&mut packet) else {
                continue;
            };
            let request = &packet[20..length];
            if request[0] != 8 || request.len() < 32 {
                continue;
            }
            let asked = Asked {
                sequence: u16::from_be_bytes([request[6], request[7]]),
                index: u32::from_be_bytes(request[12..16].try_into().unwrap()),
            };
            for (delay, spoilt) in answers(&asked) {
                let mut reply = request.to_vec();
                reply[0] = 0;
                if let Some(place) = spoilt {
                    reply[place] ^= 1;
                }
                reply[2..4].fill(0);
                let sum: u32 = reply.chunks(2).map(|pair| u32::from(pair[0]) << 8 | u32::from(pair[1])).sum();
                let sum = (sum & 0xffff) + (sum >> 16);
                let sum = !u16::try_from((sum & 0xffff) + (sum >> 16)).unwrap();
                reply[2..4].copy_from_slice(&sum.to_be_bytes());
                let socket = sender.try_clone().unwrap();
                thread::spawn(move || {
                    thread::sleep(delay);
                    let _ = socket.send_to(&reply, &to.into());
                });
            }
        }
    });
    stop
}
