//! Two network namespaces joined by a veth pair: two sites on one machine, and a cable between them that can be cut.
//!
//! Needs root and Debian's `iproute2`, `nftables` and `iputils-ping`. The namespaces are named after the process that made them, so that
//! those of a process that was killed are found and removed by the next.

use std::fs;
use std::io::Write;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::ops::RangeInclusive;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

/// What our namespaces' names begin with: `<prefix><pid>-<number><a or b>`.
const PREFIX: &str = "cwtest";
/// Where `ip netns` keeps the names.
const NAMES: &str = "/run/netns";
const TABLE: &str = "inet crosswatch_test";

/// Two namespaces, `a` and `b`, that reach each other over one cable.
#[derive(Debug)]
pub struct Pair {
    /// The side that tests usually probe from: 192.0.2.1 and 2001:db8::1.
    pub a: Namespace,
    /// The side that tests usually cut: 192.0.2.2 and 2001:db8::2.
    pub b: Namespace,
}

impl Pair {
    /// Makes both, joins them, and waits until both families reach across.
    #[expect(clippy::new_without_default, reason = "making one changes the machine")]
    #[must_use]
    pub fn new() -> Self {
        let stem = new_stem();
        let a = Namespace::new(format!("{stem}a"), 1);
        let b = Namespace::new(format!("{stem}b"), 2);
        ip(&format!("link add veth0 netns {a} type veth peer name veth0 netns {b}", a = a.name, b = b.name));
        for side in [&a, &b] {
            ip(&format!("-n {} addr add {}/24 dev veth0", side.name, side.v4));
            // Without duplicate address detection, which takes a second.
            ip(&format!("-n {} addr add {}/64 dev veth0 nodad", side.name, side.v6));
            ip(&format!("-n {} link set lo up", side.name));
            ip(&format!("-n {} link set veth0 up", side.name));
        }
        // A fresh link drops what is sent before the kernel has noticed that both ends are up.
        for (from, to) in [(&a, b.v4.to_string()), (&a, b.v6.to_string()), (&b, a.v6.to_string())] {
            // Sends until one comes back.
            let ping = format!("ping -n -q -i 0.02 -c 1 -w 30 {to}");
            must_succeed(&format!("{ping} in {}", from.name), &from.exec(&ping));
        }
        Self { a, b }
    }
}

/// A network namespace; removed when dropped.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    /// Its address on the cable.
    pub v4: Ipv4Addr,
    /// Its address on the cable.
    pub v6: Ipv6Addr,
}

/// How a namespace refuses what comes to it; each is what a router or host on the way may answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reject {
    /// ICMP host unreachable, `ICMPv6` address unreachable: a router that cannot find the host.
    HostUnreachable,
    /// ICMP and `ICMPv6` administratively prohibited: a firewall that says so.
    AdminProhibited,
    /// A TCP reset to TCP; all else passes: a port where nothing listens.
    TcpReset,
}

impl Namespace {
    /// A namespace alone, named as that process would name it.
    #[must_use]
    pub fn of_process(pid: u32) -> Self {
        Self::new(format!("{PREFIX}{pid}-0"), 1)
    }

    /// A namespace alone, with nothing but its loopback.
    #[must_use]
    pub fn alone() -> Self {
        let alone = Self::new(format!("{}a", new_stem()), 1);
        ip(&format!("-n {} link set lo up", alone.name));
        alone
    }

    fn new(name: String, host: u8) -> Self {
        ip(&format!("netns add {name}"));
        Self {
            name,
            v4: Ipv4Addr::new(192, 0, 2, host),
            v6: Ipv6Addr::new(0x2001, 0xdb8, 0, 0, 0, 0, 0, host.into()),
        }
    }

    /// The file that holds it while it has a name.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        Path::new(NAMES).join(&self.name)
    }

    /// Both its addresses.
    #[must_use]
    pub fn addresses(&self) -> [IpAddr; 2] {
        [self.v4.into(), self.v6.into()]
    }

    /// A command to be run inside; what is started is the program itself, not a wrapper.
    #[must_use]
    pub fn command(&self, program: impl AsRef<std::ffi::OsStr>) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }

    /// Runs a command inside to its end, and returns what it printed; the words are split at spaces.
    #[must_use]
    pub fn exec(&self, command: &str) -> Output {
        let mut words = command.split_whitespace();
        self.command(words.next().expect("a command"))
            .args(words)
            .output()
            .unwrap_or_else(|error| panic!("ip netns exec {} {command}: {error}", self.name))
    }

    /// Calls a function on a thread inside; the sockets it opens stay inside for good.
    pub fn enter<T: Send>(&self, act: impl FnOnce() -> T + Send) -> T {
        let file = self.file();
        let inside = fs::File::open(&file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
        thread::scope(|scope| {
            let thread = scope.spawn(move || {
                setns(inside, CloneFlags::CLONE_NEWNET).expect("setns");
                act()
            });
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }

    /// Sets which groups may open ping sockets inside. Until then none may, not even root's.
    pub fn allow_ping_sockets(&self, groups: RangeInclusive<u32>) {
        let value = format!("{} {}", groups.start(), groups.end());
        // One file for both families; /proc/sys/net shows the namespace of the thread that opens it.
        self.enter(|| fs::write("/proc/sys/net/ipv4/ping_group_range", value).expect("ping_group_range"));
    }

    /// Drops whatever comes to this namespace from now on, over the cable and the loopback.
    pub fn cut(&self) {
        self.filter("drop");
    }

    /// Drops this many percent of what comes, at random.
    pub fn lose(&self, percent: u8) {
        match percent {
            0 => self.heal(),
            1..100 => self.filter(&format!("numgen random mod 100 < {percent} drop")),
            100 => self.cut(),
            _ => panic!("{percent} percent"),
        }
    }

    /// Refuses what comes.
    pub fn reject(&self, how: Reject) {
        self.filter(match how {
            Reject::HostUnreachable => "reject with icmpx type host-unreachable",
            Reject::AdminProhibited => "reject with icmpx type admin-prohibited",
            Reject::TcpReset => "meta l4proto tcp reject with tcp reset",
        });
    }

    /// Drops the first packet of each TCP connection over IPv4: connecting takes as long as the kernel waits before it
    /// sends it again, one second (RFC 6298, section 2.1).
    pub fn slow_connects(&self) {
        self.filter_with(
            "set known { type ipv4_addr . inet_service; flags dynamic, timeout; timeout 10s; }",
            "tcp flags & (syn|ack) == syn ip saddr . tcp sport != @known add @known { ip saddr . tcp sport } drop",
        );
    }

    /// Takes the routes over the cable away, for both families, as a router does that withdraws them.
    pub fn withdraw_routes(&self) {
        self.routes("del");
    }

    /// Gives them back.
    pub fn restore_routes(&self) {
        self.routes("add");
    }

    fn routes(&self, verb: &str) {
        for network in ["192.0.2.0/24", "2001:db8::/64"] {
            ip(&format!("-n {} route {verb} {network} dev veth0", self.name));
        }
    }

    /// Lifts the kernel's limits on the ICMP errors it sends, beyond which it says nothing to what it rejects.
    pub fn unlimited_icmp_errors(&self) {
        self.enter(|| {
            fs::write("/proc/sys/net/ipv4/icmp_ratemask", "0").expect("icmp_ratemask");
            fs::write("/proc/sys/net/ipv6/icmp/ratelimit", "0").expect("ratelimit");
        });
    }

    /// Lets everything through again.
    pub fn heal(&self) {
        self.nft(&format!("table {TABLE} {{}}\ndelete table {TABLE}\n"));
    }

    /// Puts this rule in place of whatever stood before, in one step.
    fn filter(&self, rule: &str) {
        self.filter_with("", rule);
    }

    /// The same with a set that the rule keeps.
    fn filter_with(&self, set: &str, rule: &str) {
        // Neighbours stay known, as they do in IPv4, where ARP passes an `inet` table: both families fail alike.
        let neighbours = "icmpv6 type { nd-neighbor-solicit, nd-neighbor-advert } accept";
        self.nft(&format!(
            "table {TABLE} {{}}\ndelete table {TABLE}\ntable {TABLE} {{\n{set}\nchain input {{\n\
             type filter hook input priority 0; policy accept;\n{neighbours}\n{rule}\n}}\n}}\n"
        ));
    }

    fn nft(&self, script: &str) {
        let mut child = self
            .command("nft")
            .args(["-f", "-"])
            .stdin(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap_or_else(|error| panic!("nft: {error}"));
        let mut stdin = child.stdin.take().expect("nft's standard input");
        stdin.write_all(script.as_bytes()).unwrap_or_else(|error| panic!("nft: {error}"));
        drop(stdin);
        let output = child.wait_with_output().unwrap_or_else(|error| panic!("nft: {error}"));
        must_succeed(&format!("nft in {}:\n{script}", self.name), &output);
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        remove(&self.name);
    }
}

/// What the names of the next namespaces begin with. The first of a process removes what others left behind.
fn new_stem() -> String {
    static JANITOR: Once = Once::new();
    static COUNTER: AtomicU32 = AtomicU32::new(0);
    JANITOR.call_once(remove_orphans);
    format!("{PREFIX}{}-{}", std::process::id(), COUNTER.fetch_add(1, Ordering::Relaxed))
}

fn ip(arguments: &str) {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .unwrap_or_else(|error| panic!("ip {arguments}: {error}"));
    must_succeed(&format!("ip {arguments}"), &output);
}

fn must_succeed(what: &str, output: &Output) {
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{what}: {}: {said}", output.status);
}

/// Removes a namespace and ends what still runs in it: while that runs, the namespace only loses its name.
fn remove(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        for pid in String::from_utf8_lossy(&output.stdout).lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    // No panic here: this also runs while a test's own panic unwinds.
    match Command::new("ip").args(["netns", "del", name]).output() {
        Ok(output) if output.status.success() => {}
        problem => eprintln!("ip netns del {name}: {problem:?}"),
    }
}

/// Removes what processes left behind that had no chance to. The first namespace of a process does it.
pub fn remove_orphans() {
    for entry in fs::read_dir(NAMES).into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        if is_orphan(&name, |pid| Path::new("/proc").join(pid.to_string()).exists()) {
            remove(&name);
        }
    }
}

/// Whether a namespace of this name is ours and its maker is gone.
fn is_orphan(name: &str, is_alive: impl Fn(u32) -> bool) -> bool {
    name.strip_prefix(PREFIX)
        .and_then(|rest| rest.split_once('-'))
        .and_then(|(pid, _)| pid.parse().ok())
        .is_some_and(|pid| !is_alive(pid))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_our_namespaces_without_their_maker_are_orphans() {
        let alive = |pid| pid == 12;
        assert!(is_orphan("cwtest11-0a", alive));
        assert!(!is_orphan("cwtest12-0a", alive), "its maker lives");
        assert!(!is_orphan("cwtest-0a", alive), "no pid");
        assert!(!is_orphan("somebody-elses", alive));
    }
}
