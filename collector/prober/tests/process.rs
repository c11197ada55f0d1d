//! What needs a process of its own: one without rights, one that is stopped, and one that is flooded meanwhile.
//!
//! Each starts this very program again with one of the tests named `child_…`, which do nothing unless told to.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod pair;

use std::io::{BufRead, BufReader};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::mpsc;
use std::time::Duration;

use crosswatch_prober::{Engine, Probe, Protocol};
use crosswatch_shared::observation::Outcome;
use crosswatch_shared::time::Timestamp;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Gid, Pid, Uid, geteuid, setgid, setgroups, setuid};

const CHILD: &str = "CROSSWATCH_TEST_CHILD";

fn again(test: &str) -> Command {
    let mut command = Command::new(std::env::current_exe().unwrap());
    command.args(["--exact", test, "--nocapture"]).env(CHILD, "1").stdout(Stdio::piped());
    command
}

fn is_child() -> bool {
    std::env::var_os(CHILD).is_some()
}

fn loopback(every: Duration) -> Probe {
    Probe {
        protocol: Protocol::Icmp,
        address: Some([127, 0, 0, 1].into()),
        every,
        timeout: Duration::from_millis(90),
        burst: 1,
        size: None,
        beside: None,
    }
}

#[test]
fn without_rights_the_error_says_what_to_set() {
    if !geteuid().is_root() {
        eprintln!("not run: only root can give up its rights");
        return;
    }
    let out = again("child_without_rights").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}");
    let program = std::env::current_exe().unwrap();
    for part in [
        "ICMP: this process may open neither a ping socket nor a raw socket".to_owned(),
        "its group 65534".to_owned(),
        "sysctl -w net.ipv4.ping_group_range=\"0 2147483647\"".to_owned(),
        format!("setcap cap_net_raw+ep {}", program.display()),
        "AmbientCapabilities=CAP_NET_RAW".to_owned(),
    ] {
        assert!(text.contains(&part), "'{part}' is not in: {text}");
    }
}

#[test]
fn child_without_rights() {
    if !is_child() {
        return;
    }
    // A namespace of its own, where no group may open ping sockets, whatever the machine allows.
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(65534)).unwrap();
    setuid(Uid::from_raw(65534)).unwrap();
    let refused = Engine::spawn(vec![loopback(Duration::from_secs(1))], |_, _| true, || ()).unwrap_err();
    println!("{refused}");
}

#[test]
fn with_no_right_but_ping_sockets_the_kernel_stamps_all_the_same() {
    if !geteuid().is_root() {
        eprintln!("not run: only root can give up its rights");
        return;
    }
    let out = again("child_with_ping_sockets_alone").output().unwrap();
    let text = String::from_utf8_lossy(&out.stdout);
    assert!(out.status.success(), "{text}{}", String::from_utf8_lossy(&out.stderr));
    assert!(
        text.contains("small Reply, large Reply, stamped by the process 0, dropped 0, local 0"),
        "{text}"
    );
}

#[test]
fn child_with_ping_sockets_alone() {
    if !is_child() {
        return;
    }
    nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNET).unwrap();
    pair::ip("link set lo up");
    pair::allow_ping_sockets();
    setgroups(&[]).unwrap();
    setgid(Gid::from_raw(65534)).unwrap();
    setuid(Uid::from_raw(65534)).unwrap();
    let small = Probe { burst: 100, timeout: pair::BOUND, ..loopback(Duration::from_secs(3600)) };
    let large = Probe { size: Some(9_000), ..small.clone() };
    let (found, account) = pair::once(&[small, large]);
    let kind = |place: usize| match found[place].outcome {
        Outcome::Reply { .. } if found[place].detail.as_ref().unwrap().burst.contains(&None) => "with a loss",
        Outcome::Reply { .. } => "Reply",
        Outcome::Lost(lost) => lost.word(),
    };
    println!(
        "small {}, large {}, stamped by the process {}, dropped {}, local {}",
        kind(0),
        kind(1),
        account.user_stamped,
        account.dropped,
        account.local
    );
}

/// A child, ended when this goes.
struct Ended(Child);

impl Drop for Ended {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn a_stopped_process_goes_on_without_a_burst() {
    if !geteuid().is_root() {
        eprintln!("not run: it needs to open ICMP sockets");
        return;
    }
    let mut child = Ended(again("child_that_probes").spawn().unwrap());
    let mut lines = BufReader::new(child.0.stdout.take().unwrap()).lines();
    let pid = Pid::from_raw(i32::try_from(child.0.id()).unwrap());
    let mut sent = times(&mut lines, 2000);
    kill(pid, Signal::SIGSTOP).unwrap();
    // Not to wait for anything: this is how long the process stands still.
    std::thread::sleep(Duration::from_secs(2));
    kill(pid, Signal::SIGCONT).unwrap();
    sent.extend(times(&mut lines, 6000));
    sent.sort_unstable();

    let longest = sent.windows(2).map(|pair| pair[1].since(pair[0])).max().unwrap();
    assert!(longest > Duration::from_millis(1500), "it never stood still: {longest:?}");
    // 200 probes each 100 ms are 100 in 50 ms and 20 in a tick; up to 50 ms of slots may be made good at once.
    let window = Duration::from_millis(50);
    let most = (0..sent.len())
        .map(|first| sent[first..].iter().take_while(|at| at.since(sent[first]) < window).count())
        .max()
        .unwrap();
    assert!(most <= 240, "{most} sends within 50 ms");
}

fn times(lines: &mut std::io::Lines<BufReader<ChildStdout>>, count: usize) -> Vec<Timestamp> {
    lines.filter_map(|line| line.unwrap().parse().ok()).take(count).collect()
}

#[test]
fn child_that_probes() {
    if !is_child() {
        return;
    }
    let (ready, readied) = mpsc::channel();
    let probes = vec![loopback(Duration::from_millis(100)); 200];
    let engine = Engine::spawn(probes, |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
    while readied.recv().is_ok() {
        for released in engine.take().unwrap().outcomes {
            println!("{}", released.at);
        }
    }
}

#[test]
fn silence_while_the_receive_buffer_overflowed_is_local() {
    if !pair::root() {
        return;
    }
    let pair = pair::Pair::new();
    let flood = || {
        pair::inside(&pair.far, || {
            let kind = (socket2::Domain::IPV4, socket2::Type::RAW, socket2::Protocol::ICMPV4);
            let socket = socket2::Socket::new(kind.0, kind.1, Some(kind.2)).unwrap();
            let to: std::net::SocketAddr = format!("{}:0", pair::NEAR_V4).parse().unwrap();
            // An echo reply of nothing, with its checksum: more of them than 16 MiB hold.
            let reply = [[0, 0, 0xff, 0xff, 0, 0, 0, 0], [0; 8]].concat();
            for _ in 0..60_000 {
                socket.send_to(&reply, &to.into()).unwrap();
            }
        });
    };
    silence_is_local_for(&pair, flood, "the receive buffer overflowed");
}

/// What the kernel stamps itself is stamped in time; but on a machine whose processors are taken away it stamps late, too.
#[test]
fn silence_while_the_process_stood_still_is_local() {
    if !pair::root() {
        return;
    }
    let pair = pair::Pair::new();
    // Not to wait for anything: this is how long the process stands still.
    silence_is_local_for(&pair, || std::thread::sleep(Duration::from_secs(1)), "stood still");
}

/// Nobody answers, so all are lost; only of those in flight while the process is stopped, and `meanwhile` happens, it is in doubt why.
fn silence_is_local_for(pair: &pair::Pair, meanwhile: impl FnOnce(), why: &str) {
    pair.nft(&pair.far, "input", "icmp type echo-request drop");
    let mut child = Ended(again("child_that_hears_nothing").env(NAMESPACE, &pair.near).spawn().unwrap());
    let lines = BufReader::new(child.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let mut words = lines.filter(|line| line.starts_with("Lost("));
    assert_eq!(words.next().unwrap(), "Lost(Timeout)");
    let pid = Pid::from_raw(i32::try_from(child.0.id()).unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    meanwhile();
    kill(pid, Signal::SIGCONT).unwrap();
    // Those in flight were sent within two seconds, each 20 ms.
    let words: Vec<String> = words.take(300).collect();
    let local: Vec<&String> = words.iter().filter(|word| word.starts_with("Lost(Local)")).collect();
    assert!((50..=110).contains(&local.len()), "{}", local.len());
    assert!(local.iter().any(|word| word.contains(why)), "{local:#?}");
    assert_eq!(words[299], "Lost(Timeout)", "and then it is known again");
}

const NAMESPACE: &str = "CROSSWATCH_TEST_NAMESPACE";

#[test]
fn child_that_hears_nothing() {
    if !is_child() {
        return;
    }
    // A raw socket, since a ping socket gets nothing but what bears its own number.
    pair::inside(&std::env::var(NAMESPACE).unwrap(), || {
        let (ready, readied) = mpsc::channel();
        let probe = Probe {
            address: Some(pair::FAR_V4.parse().unwrap()),
            timeout: Duration::from_secs(2),
            ..loopback(Duration::from_millis(20))
        };
        let engine =
            Engine::spawn(vec![probe], |_, _| true, move || ready.send(()).unwrap_or_default()).unwrap();
        while readied.recv().is_ok() {
            let taken = engine.take().unwrap();
            for released in taken.outcomes {
                match &taken.icmp.local_error {
                    Some(why) => println!("{:?} {why}", released.outcome),
                    None => println!("{:?}", released.outcome),
                }
            }
        }
    });
}
