//! Real packets between two network namespaces: each kind of outcome comes as it should.
//!
//! They need root; without it each test says so on standard error and checks that this is the reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

use std::collections::HashMap;
use std::fs;
use std::io::Read;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::mpsc;
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_prober::{Account, Engine, Probe, Protocol};
use crosswatch_shared::observation::{Lost, Outcome};
use nix::sched::{CloneFlags, setns};

const NEAR_V4: &str = "10.77.0.1";
const FAR_V4: &str = "10.77.0.2";
const FAR_V6: &str = "fd77::2";

/// Nothing here takes longer than a few seconds; it is a bound against hanging, not a measurement.
const BOUND: Duration = Duration::from_secs(30);

/// Two namespaces joined by a veth pair; gone with this, also after a panic.
struct Pair {
    near: String,
    far: String,
}

impl Pair {
    fn new() -> Self {
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
            // Until the kernel has taken note of the carrier it drops what is sent, and what waits for a neighbour.
            let asked = Instant::now();
            while !is_up(namespace, link) {
                assert!(asked.elapsed() < BOUND, "{link} in {namespace} does not come up");
            }
        }
        pair
    }

    /// Loads an nft ruleset on one side.
    fn nft(&self, namespace: &str, chain: &str, rules: &str) {
        let ruleset =
            format!("table inet t {{ chain c {{ type filter hook {chain} priority 0; {rules}\n}}\n}}");
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

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}

fn is_up(namespace: &str, link: &str) -> bool {
    let out = Command::new("ip").args(["-n", namespace, "-o", "link", "show", link]).output().unwrap();
    String::from_utf8_lossy(&out.stdout).contains("state UP")
}

/// Runs this in a namespace, on a thread of its own.
fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            setns(fs::File::open(format!("/run/netns/{namespace}")).unwrap(), CloneFlags::CLONE_NEWNET)
                .unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

fn allow_ping_sockets() {
    fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
}

/// The kernel sends only so many ICMP errors a second, to each target and in all, and drops any of the rest.
fn unlimited_icmp_errors() {
    fs::write("/proc/sys/net/ipv4/icmp_ratemask", "0").unwrap();
    fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").unwrap();
}

fn root() -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        eprintln!("not run: network namespaces need root");
    }
    root
}

fn probe(protocol: Protocol, to: &str) -> Probe {
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
fn outcomes(probes: &[Probe], each: usize) -> (Vec<Vec<Outcome>>, Account, Account) {
    let (ready, readied) = mpsc::channel();
    let engine = Engine::spawn(probes.to_vec(), move || ready.send(()).unwrap_or_default()).unwrap();
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

fn add(sum: &mut Account, more: Account) {
    sum.sent += more.sent;
    sum.local += more.local;
    sum.local_error = more.local_error.or(sum.local_error.take());
    sum.late += more.late;
    sum.duplicate += more.duplicate;
    sum.stray += more.stray;
}

/// Every outcome of every probe is this loss.
fn all_lost(probes: &[Probe], lost: Lost) {
    let (found, _, _) = outcomes(probes, 3);
    for (probe, found) in probes.iter().zip(found) {
        assert!(
            found.iter().all(|outcome| *outcome == Outcome::Lost(lost)),
            "{probe:?} should be {lost:?}: {found:?}"
        );
    }
}

fn all_reply(probes: &[Probe]) {
    let (found, icmp, tcp) = outcomes(probes, 3);
    for (probe, found) in probes.iter().zip(found) {
        for outcome in found {
            let Outcome::Reply { rtt_ms } = outcome else { panic!("{probe:?}: {outcome:?}") };
            assert!(rtt_ms > 0.0 && rtt_ms <= 400.0, "{probe:?}: {rtt_ms}");
        }
    }
    assert_eq!((icmp.late, icmp.duplicate, icmp.stray, icmp.local), (0, 0, 0, 0));
    assert_eq!(tcp.local, 0);
}

fn both_and_tcp(port: u16) -> Vec<Probe> {
    vec![
        probe(Protocol::Icmp, FAR_V4),
        probe(Protocol::Icmp, FAR_V6),
        probe(Protocol::Tcp(port), FAR_V4),
        probe(Protocol::Tcp(port), FAR_V6),
    ]
}

/// How many sockets of this kind the namespace has, as the kernel lists them.
fn sockets(kind: &str) -> usize {
    let list = fs::read_to_string(format!("/proc/thread-self/net/{kind}")).unwrap();
    list.lines().count() - 1
}

#[test]
fn replies_come_over_ping_sockets() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let listener = inside(&pair.far, || TcpListener::bind("[::]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    inside(&pair.near, || {
        allow_ping_sockets();
        all_reply(&both_and_tcp(port));
        let engine = Engine::spawn(both_and_tcp(port), || ()).unwrap();
        assert_eq!((sockets("raw"), sockets("raw6")), (0, 0), "the ping sockets suffice");
        drop(engine);
    });
}

#[test]
fn replies_come_over_raw_sockets_where_ping_sockets_are_not_allowed() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let listener = inside(&pair.far, || TcpListener::bind("[::]:0").unwrap());
    let port = listener.local_addr().unwrap().port();
    inside(&pair.near, || {
        fs::write("/proc/sys/net/ipv4/ping_group_range", "1 0").unwrap();
        all_reply(&both_and_tcp(port));
        let engine = Engine::spawn(both_and_tcp(port), || ()).unwrap();
        assert_eq!((sockets("raw"), sockets("raw6")), (1, 1));
        drop(engine);
    });
}

#[test]
fn what_is_dropped_times_out() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    pair.nft(&pair.far, "input", "meta l4proto { icmp, tcp } drop; icmpv6 type echo-request drop");
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            all_lost(&both_and_tcp(80), Lost::Timeout);
        });
    }
}

#[test]
fn an_icmp_word_that_there_is_no_way_is_unreachable_at_once() {
    if !root() {
        return;
    }
    for ping in [true, false] {
        let pair = Pair::new();
        inside(&pair.far, unlimited_icmp_errors);
        pair.nft(
            &pair.far,
            "input",
            "meta l4proto { icmp, tcp } meta nfproto ipv4 reject with icmp host-unreachable; \
             icmpv6 type echo-request reject with icmpv6 addr-unreachable; \
             meta nfproto ipv6 meta l4proto tcp reject with icmpv6 addr-unreachable",
        );
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let mut probes = both_and_tcp(80);
            for probe in &mut probes {
                // It must not be the timeout that ends them.
                probe.timeout = BOUND * 2;
            }
            all_lost(&probes, Lost::Unreachable);
        });
    }
}

#[test]
fn one_target_without_a_way_takes_no_other_with_it() {
    if !root() {
        return;
    }
    for ping in [true, false] {
        let pair = Pair::new();
        inside(&pair.far, unlimited_icmp_errors);
        ip(&format!("-n {} addr add 10.77.0.3/24 dev far", pair.far));
        pair.nft(&pair.far, "input", "ip daddr 10.77.0.3 reject with icmp host-unreachable");
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let fast = |to| Probe { every: Duration::from_millis(2), ..probe(Protocol::Icmp, to) };
            let (found, _, _) = outcomes(&[fast("10.77.0.3"), fast(FAR_V4)], 200);
            assert!(found[0].iter().all(|outcome| *outcome == Outcome::Lost(Lost::Unreachable)));
            assert!(
                found[1].iter().all(|outcome| matches!(outcome, Outcome::Reply { .. })),
                "{:?}",
                found[1]
            );
        });
    }
}

#[test]
fn a_refused_connection_is_refused() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    pair.nft(&pair.far, "input", "tcp dport 81 reject with tcp reset");
    inside(&pair.near, || {
        all_lost(
            &[
                probe(Protocol::Tcp(80), FAR_V4),
                probe(Protocol::Tcp(80), FAR_V6),
                probe(Protocol::Tcp(81), FAR_V4),
            ],
            Lost::Refused,
        );
    });
}

#[test]
fn no_route_and_a_firewall_of_our_own_are_unreachable() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let elsewhere = [
        probe(Protocol::Icmp, "10.99.0.1"),
        probe(Protocol::Icmp, "fd99::1"),
        probe(Protocol::Tcp(80), "10.99.0.1"),
        probe(Protocol::Tcp(80), "fd99::1"),
    ];
    inside(&pair.near, || all_lost(&elsewhere, Lost::Unreachable));
    pair.nft(&pair.near, "output", "icmp type echo-request drop; icmpv6 type echo-request drop");
    inside(&pair.near, || all_lost(&both_and_tcp(80)[..2], Lost::Unreachable));
}

#[test]
fn nobody_at_the_address_is_unreachable_once_the_kernel_has_given_up() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    inside(&pair.near, || {
        unlimited_icmp_errors();
        let probes =
            ["10.77.0.99", "fd77::99"].map(|to| Probe { timeout: BOUND, ..probe(Protocol::Icmp, to) });
        all_lost(&probes, Lost::Unreachable);
    });
}

#[test]
fn a_name_never_resolved_is_local_until_it_has_an_address() {
    let probe = Probe { address: None, ..probe(Protocol::Tcp(1), "127.0.0.1") };
    let (ready, readied) = mpsc::channel();
    let engine = Engine::spawn(vec![probe], move || ready.send(()).unwrap_or_default()).unwrap();
    readied.recv_timeout(BOUND).unwrap();
    let taken = engine.take().unwrap();
    assert_eq!(taken.outcomes[0].outcome, Outcome::Lost(Lost::Local));
    assert_eq!(taken.tcp.local_error.as_deref(), Some("the target's name was never resolved"));
    engine.set_address(0, Ipv4Addr::LOCALHOST.into());
    loop {
        readied.recv_timeout(BOUND).unwrap();
        let outcomes = engine.take().unwrap().outcomes;
        if outcomes.iter().any(|released| released.outcome == Outcome::Lost(Lost::Refused)) {
            break;
        }
    }
}

/// Answers echo requests in the kernel's place, each as `answers` says: the delays after which copies go back, and
/// which byte of each is spoilt. The answers come from this address.
fn responder(from: &str, answers: fn(u16) -> Vec<(Duration, Option<usize>)>) -> mpsc::Sender<()> {
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
            if request[0] != 8 {
                continue;
            }
            for (delay, spoilt) in answers(u16::from_be_bytes([request[6], request[7]])) {
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

#[test]
fn strays_count_for_nothing_and_duplicates_once() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // A wrong proof, another sequence number, and only then the reply, twice.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |_| {
            vec![
                (Duration::ZERO, Some(27)),
                (Duration::ZERO, Some(7)),
                (Duration::from_millis(100), None),
                (Duration::from_millis(120), None),
            ]
        })
    });
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let (found, icmp, _) = outcomes(&[probe(Protocol::Icmp, FAR_V4)], 20);
            for outcome in &found[0] {
                let Outcome::Reply { rtt_ms } = outcome else { panic!("{outcome:?}") };
                assert!(*rtt_ms >= 100.0, "a stray was taken for the reply: {rtt_ms}");
            }
            assert!(icmp.stray >= 40, "{icmp:?}");
            assert!(icmp.duplicate >= 10, "{icmp:?}");
            assert_eq!(icmp.late, 0);
        });
    }
}

#[test]
fn a_reply_from_somebody_else_is_a_stray() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    ip(&format!("-n {} addr add 10.77.0.3/24 dev far", pair.far));
    let _responder = inside(&pair.far, || responder("10.77.0.3", |_| vec![(Duration::ZERO, None)]));
    for ping in [true, false] {
        inside(&pair.near, || {
            if ping {
                allow_ping_sockets();
            }
            let (found, icmp, _) = outcomes(&[probe(Protocol::Icmp, FAR_V4)], 3);
            assert!(found[0].iter().all(|outcome| *outcome == Outcome::Lost(Lost::Timeout)), "{found:?}");
            assert!(icmp.stray >= 3, "{icmp:?}");
        });
    }
}

#[test]
fn a_reply_after_its_timeout_is_late_and_the_probe_stays_lost() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    let _responder = inside(&pair.far, || responder(FAR_V4, |_| vec![(Duration::from_millis(300), None)]));
    inside(&pair.near, || {
        let probe = Probe { timeout: Duration::from_millis(100), ..probe(Protocol::Icmp, FAR_V4) };
        let (found, icmp, _) = outcomes(&[probe], 20);
        assert!(found[0].iter().all(|outcome| *outcome == Outcome::Lost(Lost::Timeout)), "{found:?}");
        assert!(icmp.late >= 5, "{icmp:?}");
        assert_eq!(icmp.duplicate, 0);
    });
}

#[test]
fn outcomes_are_released_in_the_order_of_sending() {
    if !root() {
        return;
    }
    let pair = Pair::new();
    // Every third has no answer, and the others overtake one another.
    let _responder = inside(&pair.far, || {
        responder(FAR_V4, |sequence| match sequence % 3 {
            0 => vec![],
            1 => vec![(Duration::from_millis(200), None)],
            _ => vec![(Duration::ZERO, None)],
        })
    });
    inside(&pair.near, || {
        let (ready, readied) = mpsc::channel();
        let engine =
            Engine::spawn(vec![probe(Protocol::Icmp, FAR_V4)], move || ready.send(()).unwrap_or_default())
                .unwrap();
        let mut all = Vec::new();
        let mut promise = None;
        while all.len() < 30 {
            readied.recv_timeout(BOUND).unwrap();
            let taken = engine.take().unwrap();
            for released in taken.outcomes {
                assert!(Some(released.at) >= promise, "earlier than promised");
                all.push(released);
            }
            promise = Some(taken.through);
        }
        assert!(all.is_sorted_by(|one, next| one.at < next.at));
        let kinds = all.iter().fold(HashMap::new(), |mut kinds, released| {
            *kinds.entry(matches!(released.outcome, Outcome::Reply { .. })).or_insert(0) += 1;
            kinds
        });
        assert_eq!((kinds[&true], kinds[&false]), (20, 10));
    });
}
