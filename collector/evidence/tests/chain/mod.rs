//! Four network namespaces in a row: this machine, two routers, the target.

use std::fs;
use std::io::Write;
use std::net::IpAddr;
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;

use nix::sched::{CloneFlags, setns};

pub(crate) const FAR_V4: &str = "10.78.2.2";
pub(crate) const FAR_V6: &str = "fd78:2::2";

/// Where what stands.
pub(crate) const NEAR: usize = 0;
pub(crate) const FIRST: usize = 1;
pub(crate) const SECOND: usize = 2;
pub(crate) const FAR: usize = 3;

/// The chain; gone with this, also after a panic. Link `i` joins `right` of namespace `i`, which has `10.78.i.1` and
/// `fd78:i::1`, to `left` of the next, which has `….2`.
pub(crate) struct Chain(Vec<String>);

impl Chain {
    /// Makes it and waits until both families reach from end to end; `None` below root, with a word about it.
    pub(crate) fn new(test: &str) -> Option<Self> {
        if !nix::unistd::geteuid().is_root() {
            // Not `eprintln!`: the test runner would swallow it, for the test passes.
            let _ = writeln!(std::io::stderr(), "NOT RUN: {test}: network namespaces need root");
            return None;
        }
        static MADE: AtomicU32 = AtomicU32::new(0);
        let stem = format!("cwe{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let chain = Self((0..4).map(|place| format!("{stem}-{place}")).collect());
        chain.0.iter().for_each(|name| ip(&format!("netns add {name}")));
        for link in 0..3 {
            let (one, next) = (&chain.0[link], &chain.0[link + 1]);
            ip(&format!("link add right netns {one} type veth peer name left netns {next}"));
            for (name, end, host) in [(one, "right", 1), (next, "left", 2)] {
                ip(&format!("-n {name} addr add 10.78.{link}.{host}/24 dev {end}"));
                // Without duplicate address detection, which takes a second.
                ip(&format!("-n {name} addr add fd78:{link}::{host}/64 dev {end} nodad"));
                ip(&format!("-n {name} link set {end} up"));
            }
        }
        for place in [NEAR, FIRST, SECOND, FAR] {
            chain.ip(place, "link set lo up");
            chain.inside(place, || {
                // Routers send only so many errors a second; here each counts.
                for (name, value) in
                    [("ipv4/icmp_ratemask", "0"), ("ipv6/icmp/ratelimit", "0"), ("ipv4/ip_forward", "1")]
                {
                    set(name, value);
                }
                set("ipv6/conf/all/forwarding", "1");
                set("ipv4/ping_group_range", "0 2147483647");
            });
        }
        for (place, net, via) in [(NEAR, 1, "0"), (NEAR, 2, "0"), (FIRST, 2, "1")] {
            chain.ip(place, &format!("route add 10.78.{net}.0/24 via 10.78.{via}.2"));
            chain.ip(place, &format!("route add fd78:{net}::/64 via fd78:{via}::2"));
        }
        for (place, net, via) in [(FAR, 0, "2"), (FAR, 1, "2"), (SECOND, 0, "1")] {
            chain.ip(place, &format!("route add 10.78.{net}.0/24 via 10.78.{via}.1"));
            chain.ip(place, &format!("route add fd78:{net}::/64 via fd78:{via}::1"));
        }
        for far in [FAR_V4, FAR_V6] {
            // Sends until one comes back: a fresh link drops what comes before both its ends are up.
            let ping = format!("ping -n -q -i 0.02 -c 1 -w 30 {far}");
            chain.exec(NEAR, &ping.split(' ').collect::<Vec<_>>());
        }
        Some(chain)
    }

    pub(crate) fn name(&self, place: usize) -> &str {
        &self.0[place]
    }

    pub(crate) fn ip(&self, place: usize, arguments: &str) {
        ip(&format!("-n {} {arguments}", self.0[place]));
    }

    /// Has a hook of a namespace do this: `rules` as nft takes them in a chain.
    pub(crate) fn nft(&self, place: usize, hook: &str, rules: &str) {
        let ruleset =
            format!("table inet {hook} {{ chain c {{ type filter hook {hook} priority 0; {rules}\n}}\n}}");
        self.exec(place, &["nft", &ruleset]);
    }

    pub(crate) fn exec(&self, place: usize, command: &[&str]) {
        run("ip", &[&["netns", "exec", &self.0[place]], command].concat());
    }

    /// Runs this in a namespace, on a thread of its own.
    pub(crate) fn inside<T: Send>(&self, place: usize, work: impl FnOnce() -> T + Send) -> T {
        let file = fs::File::open(format!("/run/netns/{}", self.0[place])).unwrap();
        thread::scope(|scope| {
            let work = || {
                setns(&file, CloneFlags::CLONE_NEWNET).unwrap();
                work()
            };
            scope.spawn(work).join().unwrap()
        })
    }
}

impl Drop for Chain {
    fn drop(&mut self) {
        for name in &self.0 {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

pub(crate) fn address(text: &str) -> IpAddr {
    text.parse().unwrap()
}

/// Sets a value under `/proc/sys/net` of the thread's own namespace.
pub(crate) fn set(name: &str, value: &str) {
    fs::write(format!("/proc/sys/net/{name}"), value).unwrap();
}

fn ip(arguments: &str) {
    run("ip", &arguments.split(' ').collect::<Vec<_>>());
}

fn run(program: &str, arguments: &[&str]) {
    let out = Command::new(program).args(arguments).output().unwrap();
    assert!(out.status.success(), "{program} {arguments:?}: {}", String::from_utf8_lossy(&out.stderr));
}
