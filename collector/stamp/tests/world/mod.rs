//! What the tests with sockets share: a reflector, waiting without sleeping, and namespaces.

#![allow(dead_code, reason = "each test file uses a part")]
#![allow(clippy::disallowed_methods, reason = "a bound against hanging is real time")]

use std::fs;
use std::os::fd::AsFd;
use std::process::{Command, Output};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_stamp::mirror::Policy;
use crosswatch_stamp::session::Told;
use crosswatch_stamp::{Heard, Options, Reflector, Sender};
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sched::{CloneFlags, setns};

/// Nothing here takes longer than a few seconds; it is a bound against hanging, not a measurement.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

/// A reflector at these addresses for one network.
pub(crate) fn reflector(listen: &[&str], allow: &str) -> Reflector {
    let policy = Policy::new(vec![allow.parse().unwrap()]);
    Reflector::spawn(Options { listen: listen.iter().map(|at| at.parse().unwrap()).collect(), policy })
        .unwrap()
}

/// The next thing a sender hears, which must be the only one that is there.
pub(crate) fn hear<T: Copy + std::fmt::Debug>(sender: &mut Sender<T>) -> Heard<T> {
    let mut heard = Vec::new();
    while heard.is_empty() {
        wait(sender);
        sender.receive(&mut heard);
    }
    assert_eq!(heard.len(), 1, "{heard:?}");
    heard.remove(0)
}

/// The next reply.
pub(crate) fn told<T: Copy + std::fmt::Debug>(sender: &mut Sender<T>) -> Told<T> {
    match hear(sender) {
        Heard::Reply(told) => told,
        lost @ Heard::Lost(..) => panic!("{lost:?}"),
    }
}

/// Waits until something comes in.
pub(crate) fn wait<T>(sender: &Sender<T>) {
    let mut any = [PollFd::new(sender.as_fd(), PollFlags::POLLIN)];
    assert_ne!(poll(&mut any, PollTimeout::try_from(BOUND).unwrap()).unwrap(), 0, "nothing came");
}

/// Asks again and again.
pub(crate) fn until(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < BOUND, "not within {BOUND:?}: {what}");
        thread::yield_now();
    }
}

/// Two namespaces joined by a cable; gone with this, also after a panic. Their addresses end in 1 and 2.
pub(crate) struct Pair {
    pub(crate) near: String,
    pub(crate) far: String,
}

impl Pair {
    pub(crate) fn new() -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let stem = format!("cws{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let pair = Self { near: format!("{stem}a"), far: format!("{stem}b") };
        let Self { near, far } = &pair;
        for namespace in [near, far] {
            succeed(&format!("ip netns add {namespace}"));
            succeed(&format!("ip -n {namespace} link set lo up"));
        }
        succeed(&format!("ip -n {near} link add cable type veth peer name cable netns {far}"));
        for (namespace, host) in [(near, 1), (far, 2)] {
            succeed(&format!("ip -n {namespace} addr add 10.78.0.{host}/24 dev cable"));
            succeed(&format!("ip -n {namespace} addr add fd78::{host}/64 dev cable nodad"));
            succeed(&format!("ip -n {namespace} link set cable up"));
        }
        // A fresh link drops what is sent before the kernel has noticed that both ends are up: until one comes back.
        for to in ["10.78.0.2", "fd78::2"] {
            succeed(&format!("ip netns exec {near} ping -n -q -i 0.02 -c 1 -w 30 {to}"));
        }
        pair
    }
}

impl Drop for Pair {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            let _ = run(&format!("ip netns del {namespace}"));
        }
    }
}

/// Runs this in a namespace, on a thread of its own; sockets it opens stay inside.
pub(crate) fn inside<T: Send>(namespace: &str, work: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            let file = fs::File::open(format!("/run/netns/{namespace}")).unwrap();
            setns(file, CloneFlags::CLONE_NEWNET).unwrap();
            work()
        });
        thread.join().unwrap()
    })
}

/// Drops datagrams that come in with this rule, and counts them, until [`pass`].
pub(crate) fn drop_incoming(namespace: &str, rule: &str) {
    let rules = format!(
        "table inet t {{ counter dropped {{}}\nchain c {{ type filter hook input priority 0; {rule} counter name dropped drop\n}}\n}}"
    );
    let out = Command::new("ip").args(["netns", "exec", namespace, "nft", &rules]).output().unwrap();
    assert!(out.status.success(), "{}", String::from_utf8_lossy(&out.stderr));
}

/// How many it dropped; from then on it drops none.
pub(crate) fn pass(namespace: &str) -> u64 {
    succeed(&format!("ip netns exec {namespace} nft flush chain inet t c"));
    let text = succeed(&format!("ip netns exec {namespace} nft list counter inet t dropped"));
    let mut words = text.split_whitespace();
    words.find(|word| *word == "packets").unwrap();
    let count = words.next().unwrap().parse().unwrap();
    succeed(&format!("ip netns exec {namespace} nft delete table inet t"));
    count
}

/// Runs a command to its end; what it printed.
pub(crate) fn succeed(command: &str) -> String {
    let out = run(command);
    assert!(out.status.success(), "{command}: {}", String::from_utf8_lossy(&out.stderr));
    String::from_utf8(out.stdout).unwrap()
}

fn run(command: &str) -> Output {
    let mut words = command.split(' ');
    Command::new(words.next().unwrap())
        .args(words)
        .output()
        .unwrap_or_else(|error| panic!("{command}: {error}"))
}

/// Says on standard error why a test did not run, past the test runner, which shows nothing of what passes.
pub(crate) fn not_run(test: &str, why: &str) {
    use std::io::Write;
    let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: {why}");
}

/// Whether this process is root; where it is not, it says that the test did not run.
pub(crate) fn root(test: &str) -> bool {
    let root = nix::unistd::geteuid().is_root();
    if !root {
        not_run(test, "network namespaces need root");
    }
    root
}
