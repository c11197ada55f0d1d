//! The tunnels of a lab: real ones, told of as they are at both ends, broken, and gone with the lab.

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_lab::{Cloud, Fault, Lab, Namespace, Options, Process, Site, Status, Tunnel};
use crosswatch_strongswan::{PATIENCE, tunnels};
use nix::sys::signal::Signal;
use serde_json::Value;

use crate::BOUND;
use crate::place::{A, B, LAB, Place, ping, reaches, require_root};

const UP: [bool; 2] = [true; 2];

/// With a gate that stands in for the real one.
fn up(place: &Place) -> Lab {
    let cloud = Cloud::Gate { gate: place.program.clone(), ministack: "ministack".into() };
    Lab::up(Options { cloud, ..place.options_with_tunnels() }).unwrap()
}

/// Which tunnels charon has up, asked as a collector asks.
fn by_vici(lab: &Lab, site: Site) -> Option<[bool; 2]> {
    let (socket, child) = lab.vici(site).unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let seen = runtime.block_on(tunnels(&socket, child, SystemTime::now().into(), PATIENCE));
    let mut seen = seen.ok()?;
    seen.sort_by(|a, b| a.message.cmp(&b.message));
    seen.iter().map(|tunnel| tunnel.up).collect::<Vec<_>>().try_into().ok()
}

/// What the gate tells.
fn by_gate(lab: &Lab) -> Vec<Value> {
    let table = lab.control().unwrap().get("/tunnels").unwrap();
    table[0]["tunnels"].as_array().unwrap().clone()
}

fn are(told: &[Value]) -> Vec<bool> {
    told.iter().map(|tunnel| tunnel["status"] == "UP").collect()
}

fn wait_until(what: &str, mut so: impl FnMut() -> bool) {
    let since = Instant::now();
    while !so() {
        assert!(since.elapsed() < BOUND, "not {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

/// Waits until both ends and the gate see the tunnels so.
fn wait_for(lab: &Lab, states: [bool; 2]) {
    wait_until(&format!("{states:?} at both ends and at the gate"), || {
        [A, B].iter().all(|site| by_vici(lab, *site) == Some(states)) && are(&by_gate(lab)) == states
    });
}

/// How many echo requests have come in, by the kernel's own counter (RFC 2011).
fn requests(region: &Namespace) -> u64 {
    let snmp = region.enter(|| fs::read_to_string("/proc/thread-self/net/snmp")).unwrap().unwrap();
    let mut lines = snmp.lines().filter(|line| line.starts_with("Icmp:"));
    let (names, values) = (lines.next().unwrap(), lines.next().unwrap());
    let place = names.split(' ').position(|name| name == "InEchos").unwrap();
    values.split(' ').nth(place).unwrap().parse().unwrap()
}

/// Whether a packet of so many bytes in all gets there and back, whole.
fn passes(from: &Namespace, to: Site, bytes: u32) -> bool {
    let command = format!(
        "netns exec {} ping -n -q -M do -s {} -i 0.2 -c 3 -W 1 {}",
        from.name(),
        bytes - 28,
        to.address()
    );
    Command::new("ip").args(command.split(' ')).output().unwrap().status.success()
}

#[test]
fn both_ends_and_the_gate_tell_of_each_tunnel_as_it_really_is() {
    if !require_root("both_ends_and_the_gate_tell_of_each_tunnel_as_it_really_is") {
        return;
    }
    let place = Place::new("well");
    let mut lab = up(&place);
    wait_for(&lab, UP);
    let told = by_gate(&lab);
    assert_eq!(told[1]["outside_ip"], "198.51.100.2");
    assert_eq!(ping(lab.region(A), B, 5, 0.01).received, 5);
    assert!(lab.sent(A).unwrap().unwrap()[0] >= 5, "they went through the first");

    lab.fault(Fault::TunnelDown { tunnel: Tunnel::First }).unwrap();
    wait_for(&lab, [false, true]);
    let one = by_gate(&lab);
    assert_ne!(one[0]["last_status_change"], told[0]["last_status_change"]);
    assert_eq!(one[1], told[1], "the other one is as it was");
    assert_eq!(ping(lab.region(A), B, 5, 0.01).received, 5, "through the second");

    lab.fault(Fault::TunnelDown { tunnel: Tunnel::Both }).unwrap();
    wait_for(&lab, [false; 2]);
    assert!(Status::of(&lab).to_string().contains("tunnels    at eu-west-1: DOWN, DOWN"));
    assert_eq!(ping(lab.region(B), A, 5, 0.01).received, 0);
    lab.heal().unwrap();
    assert_eq!([A, B].map(|site| lab.tunnels(site).unwrap()), [Some(UP); 2], "up when heal returns");
    wait_for(&lab, UP);
    assert_eq!(ping(lab.region(B), A, 5, 0.01).received, 5);

    // Nobody tells the lab of these.
    let charon = |lab: &Lab| nix::unistd::Pid::from_raw(lab.pid(Process::Charon(B)).unwrap());
    nix::sys::signal::kill(charon(&lab), Signal::SIGKILL).unwrap();
    wait_until("down at the gate", || are(&by_gate(&lab)) == [false; 2]);
    assert_eq!((by_vici(&lab, A), by_vici(&lab, B)), (Some([false; 2]), None));
    lab.start(Process::Charon(B)).unwrap();
    wait_for(&lab, UP);
    lab.kill(Process::Charon(A), Signal::SIGKILL).unwrap();
    wait_until("down at the gate", || are(&by_gate(&lab)) == [false; 2]);
    lab.start(Process::Charon(A)).unwrap();
    wait_for(&lab, UP);
    assert_eq!(ping(lab.region(A), B, 5, 0.01).received, 5);

    // A gate that is started anew knows.
    lab.kill(Process::Aws, Signal::SIGKILL).unwrap();
    lab.start(Process::Aws).unwrap();
    assert_eq!(are(&by_gate(&lab)), UP);
}

#[test]
fn what_is_swallowed_one_way_or_both_is_lost_under_tunnels_that_are_up() {
    if !require_root("what_is_swallowed_one_way_or_both_is_lost_under_tunnels_that_are_up") {
        return;
    }
    let place = Place::new("well");
    let mut lab = up(&place);
    // Of ten that each region sends, how many the other gets.
    let arrive = |lab: &Lab| {
        [A, B].map(|from| {
            let before = requests(lab.region(from.other()));
            ping(lab.region(from), from.other(), 10, 0.01);
            requests(lab.region(from.other())) - before
        })
    };
    assert_eq!(arrive(&lab), [10, 10]);
    for (fault, expected) in [
        (Fault::OneWay { from: A }, [0, 10]),
        (Fault::OneWay { from: B }, [10, 0]),
        (Fault::BlackHole, [0, 0]),
    ] {
        lab.fault(fault.clone()).unwrap();
        assert_eq!(arrive(&lab), expected, "{fault:?}");
        // Longer than the ends take to find out that a peer is dead.
        let since = Instant::now();
        while since.elapsed() < Duration::from_secs(14) {
            assert_eq!([A, B].map(|site| by_vici(&lab, site)), [Some(UP); 2], "{fault:?}");
        }
        assert_eq!(are(&by_gate(&lab)), UP);
        lab.heal().unwrap();
    }
    assert_eq!(arrive(&lab), [10, 10]);
}

#[test]
fn a_smaller_mtu_takes_large_packets_alone_and_slow_and_lossy_ways_leave_tunnels_up() {
    if !require_root("a_smaller_mtu_takes_large_packets_alone_and_slow_and_lossy_ways_leave_tunnels_up") {
        return;
    }
    let place = Place::new("well");
    let mut lab = Lab::up(place.options_with_tunnels()).unwrap();
    assert!(passes(lab.region(A), B, 1400));
    lab.fault(Fault::Mtu { largest: 1300 }).unwrap();
    assert!(!passes(lab.region(A), B, 1300) && passes(lab.region(A), B, 1200));
    assert!(reaches(lab.region(A), (B.address(), crosswatch_lab::HOST_PORT).into()));
    lab.heal().unwrap();
    assert!(passes(lab.region(A), B, 1400));

    lab.fault(Fault::Slow { rtt: Duration::from_secs(1) }).unwrap();
    lab.fault(Fault::Loss { percent: 20 }).unwrap();
    let since = Instant::now();
    while since.elapsed() < Duration::from_secs(14) {
        assert_eq!([A, B].map(|site| by_vici(&lab, site)), [Some(UP); 2]);
    }
}

#[test]
fn the_secret_is_in_its_file_while_the_lab_is_up_and_nothing_of_it_stays() {
    if !require_root("the_secret_is_in_its_file_while_the_lab_is_up_and_nothing_of_it_stays") {
        return;
    }
    let place = Place::new("well");
    let lab = up(&place);
    let file = place.lab().join("ipsec/secret.conf");
    assert_eq!(fs::metadata(&file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(&file).unwrap();
    let key = text.split_once("0x").unwrap().1.split_whitespace().next().unwrap().to_owned();
    assert_eq!(files_with(&place.lab(), &key), [file.display().to_string()]);
    let config = fs::read_to_string(lab.config_path()).unwrap();
    assert!(
        config.contains("strongswan = \"unix:///") && config.contains("udp = \"10.1.0.10:862\""),
        "{config}"
    );
    drop(lab);
    assert_eq!(place.remains(), [""; 0]);
    assert_eq!(files_with(&place.lab(), &key), [""; 0]);
    let log = fs::read_to_string(place.lab().join("logs/charon-eu-west-1.log")).unwrap();
    assert!(log.contains("established"), "{log}");
}

/// The files below a folder in which this stands.
fn files_with(folder: &Path, text: &str) -> Vec<String> {
    let mut found = Vec::new();
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files_with(&path, text));
        } else if let Ok(read) = fs::read(&path)
            && read.windows(text.len()).any(|part| part == text.as_bytes())
        {
            found.push(path.display().to_string());
        }
    }
    found
}

#[test]
fn a_machine_without_strongswan_is_told_what_to_install_and_how_to_go_without() {
    if !require_root("a_machine_without_strongswan_is_told_what_to_install_and_how_to_go_without") {
        return;
    }
    let place = Place::new("well");
    // The folder of charon is an empty one, for this process alone.
    let mut up = Command::new("unshare");
    up.args(["-m", "sh", "-c", "mount -t tmpfs tmpfs /usr/lib/ipsec && exec \"$@\"", "sh", LAB]);
    up.args(["up", "--aws", "none", "--folder"]).arg(place.lab()).arg("--program").arg(&place.program);
    let output = up.output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(!output.status.success());
    assert!(said.contains("strongswan-charon") && said.contains("--plain"), "{said}");
    assert!(!place.lab().exists(), "nothing was made");
}
