//! Two namespaces joined by a veth pair, over which two ends reach each other's outside addresses; gone with this, also
//! after a panic. The near end has one address, the far end two, as AWS's has.

use std::fs;
use std::net::Ipv4Addr;
use std::path::Path;
use std::process::Command;
use std::sync::Once;
use std::sync::atomic::{AtomicU32, Ordering};

use crosswatch_ipsec::Side;
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, Uid};

/// What the namespaces' names begin with: `<prefix><pid>-<number><n or f>`.
const PREFIX: &str = "cwi";

const NEAR: Ipv4Addr = Ipv4Addr::new(192, 0, 2, 1);
const FAR: [Ipv4Addr; 2] = [Ipv4Addr::new(198, 51, 100, 1), Ipv4Addr::new(198, 51, 100, 2)];
const INSIDE: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 0, 0, 10), Ipv4Addr::new(10, 1, 0, 10)];

pub(crate) struct Underlay {
    near: String,
    far: String,
}

impl Underlay {
    /// `None` below root.
    pub(crate) fn new() -> Option<Self> {
        static JANITOR: Once = Once::new();
        static MADE: AtomicU32 = AtomicU32::new(0);
        if !Uid::effective().is_root() {
            eprintln!("NOT RUN: namespaces and tunnels need root");
            return None;
        }
        JANITOR.call_once(remove_orphans);
        let name = format!("{PREFIX}{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let underlay = Self { near: format!("{name}n"), far: format!("{name}f") };
        let Self { near, far } = &underlay;
        ip(&format!("netns add {near}"));
        ip(&format!("netns add {far}"));
        ip(&format!("-n {near} link add wan type veth peer name wan netns {far}"));
        for (namespace, outside, inside) in [(near, &[NEAR][..], INSIDE[0]), (far, &FAR[..], INSIDE[1])] {
            ip(&format!("-n {namespace} link set lo up"));
            ip(&format!("-n {namespace} addr add {inside}/32 dev lo"));
            for address in outside {
                ip(&format!("-n {namespace} addr add {address}/32 dev wan"));
            }
            ip(&format!("-n {namespace} link set wan up"));
        }
        ip(&format!("-n {near} route add 198.51.100.0/24 dev wan src {NEAR}"));
        ip(&format!("-n {far} route add {NEAR}/32 dev wan"));
        // A fresh link drops what is sent before the kernel has noticed that both ends are up: until one comes back.
        let ready = underlay.near(&format!("ping -n -q -i 0.02 -c 1 -w 30 {}", FAR[0]));
        assert!(ready, "the underlay does not come up");
        Some(underlay)
    }

    pub(crate) fn sides(&self) -> [Side; 2] {
        let side = |namespace: &str, outside: [Ipv4Addr; 2], network: &str, inside| Side {
            namespace: namespace.to_owned(),
            outside,
            network: network.parse().unwrap(),
            inside,
        };
        [
            side(&self.near, [NEAR; 2], "10.0.0.0/16", INSIDE[0]),
            side(&self.far, FAR, "10.1.0.0/16", INSIDE[1]),
        ]
    }

    /// Traffic goes through: whoever is behind the far end answers whoever is behind the near one.
    pub(crate) fn ping(&self) {
        assert!(self.passes(56), "nothing comes back");
    }

    /// Whether a packet with so many bytes gets there and back, as it is, unfragmented.
    pub(crate) fn passes(&self, bytes: u16) -> bool {
        // One is enough of three: the first may come while a tunnel changes.
        let [near, far] = INSIDE;
        self.near(&format!("ping -n -q -M do -s {bytes} -i 0.2 -c 3 -W 1 -I {near} {far}"))
    }

    fn near(&self, command: &str) -> bool {
        let mut ip = Command::new("ip");
        ip.args(["netns", "exec", &self.near]).args(command.split(' '));
        ip.output().unwrap().status.success()
    }
}

impl Drop for Underlay {
    fn drop(&mut self) {
        for namespace in [&self.near, &self.far] {
            remove(namespace);
        }
    }
}

fn ip(arguments: &str) {
    let out = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}

/// Removes a namespace and ends what still runs in it.
fn remove(name: &str) {
    if let Ok(output) = Command::new("ip").args(["netns", "pids", name]).output() {
        for pid in String::from_utf8_lossy(&output.stdout).lines().filter_map(|pid| pid.parse().ok()) {
            let _ = kill(Pid::from_raw(pid), Signal::SIGKILL);
        }
    }
    let _ = Command::new("ip").args(["netns", "del", name]).output();
}

/// What a test left behind that was killed itself.
fn remove_orphans() {
    for entry in fs::read_dir("/run/netns").into_iter().flatten().flatten() {
        let name = entry.file_name().to_string_lossy().into_owned();
        let maker = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-'));
        if let Some(pid) = maker.and_then(|(pid, _)| pid.parse::<u32>().ok())
            && !Path::new("/proc").join(pid.to_string()).exists()
        {
            remove(&name);
        }
    }
}
