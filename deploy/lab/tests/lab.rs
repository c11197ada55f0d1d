//! A real lab, with a stand-in for the program: what its faults do to real packets, and that nothing of it stays.
//!
//! They need root; without it each says on standard error that it did not run.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a test fails by panicking")]

#[path = "lab/place.rs"]
mod place;
#[path = "lab/tunnels.rs"]
mod tunnels;

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use crosswatch_lab::{AWS, Cloud, Error, Fault, HOST_PORT, Lab, Options, Process, Site, Status, Tunnel};
use nix::sys::signal::Signal;
use place::{A, B, LAB, Place, ping, reaches, require_root};

/// Against hanging, not a measurement.
const BOUND: Duration = Duration::from_secs(120);

#[test]
fn the_wan_delays_slows_loses_and_swallows_as_told() {
    if !require_root("the_wan_delays_slows_loses_and_swallows_as_told") {
        return;
    }
    let place = Place::new("well");
    let mut lab = Lab::up(place.options()).unwrap();
    for (from, to) in [(A, B), (B, A)] {
        let pings = ping(lab.region(from), to, 20, 0.01);
        let fastest = pings.fastest_ms.unwrap();
        assert!((80.0..160.0).contains(&fastest), "from {from}: {fastest} ms");
        assert_eq!(pings.received, 20);
    }

    lab.fault(Fault::Slow { rtt: Duration::from_millis(250) }).unwrap();
    let slow = ping(lab.region(A), B, 10, 0.01);
    assert!(slow.fastest_ms.unwrap() >= 250.0);
    lab.heal().unwrap();

    lab.fault(Fault::Loss { percent: 20 }).unwrap();
    let lossy = ping(lab.region(B), A, 600, 0.001);
    let lost = lossy.sent - lossy.received;
    // 120 expected; one standard deviation is 10.
    assert!((70..170).contains(&lost), "{lost} of {} lost", lossy.sent);

    // Besides: the worse counts, and both end with heal.
    lab.fault(Fault::BlackHole).unwrap();
    lab.kill(Process::Wan, Signal::SIGKILL).unwrap();
    lab.start(Process::Wan).unwrap();
    assert_eq!(ping(lab.region(A), B, 20, 0.01).received, 0);
    assert_eq!(lab.faults().len(), 2);
    lab.heal().unwrap();
    let healed = ping(lab.region(A), B, 200, 0.005);
    assert_eq!(healed.received, 200);
    assert!(healed.fastest_ms.unwrap() < 160.0);
    let report = lab.wan().report().unwrap();
    assert!(report.counts.iter().all(|counts| counts.overflowed + counts.refused == 0), "{report:?}");
}

#[test]
fn a_cut_of_a_region_s_way_to_the_centre_is_of_that_way_alone() {
    if !require_root("a_cut_of_a_region_s_way_to_the_centre_is_of_that_way_alone") {
        return;
    }
    let place = Place::new("well");
    let mut lab = Lab::up(place.options()).unwrap();
    // Where the local AWS would listen; the kernel takes the connections.
    let _aws = lab.centre().enter(|| TcpListener::bind(AWS)).unwrap().unwrap();
    let link = |from: Site| SocketAddr::from((from.other().address(), HOST_PORT));
    let picture = |lab: &Lab| {
        let [a, b] = [A, B].map(|site| lab.region(site));
        [reaches(a, AWS.into()), reaches(b, AWS.into()), reaches(a, link(A)), reaches(b, link(B))]
    };
    assert_eq!(picture(&lab), [true; 4]);
    lab.fault(Fault::QueueCut { site: A }).unwrap();
    assert_eq!(picture(&lab), [false, true, true, true]);
    lab.heal().unwrap();
    assert_eq!(picture(&lab), [true; 4]);
    lab.fault(Fault::RegionCut { site: B }).unwrap();
    assert_eq!(picture(&lab), [true, false, false, false]);
    lab.heal().unwrap();
    assert_eq!(picture(&lab), [true; 4]);

    let gone = lab.fault(Fault::Mtu { largest: 1300 }).unwrap_err();
    assert!(matches!(gone, Error::Lacks { fault: "mtu", .. }), "{gone}");
    let gone = lab.fault(Fault::Throttled { service: None, one_in: 2 }).unwrap_err();
    assert!(matches!(gone, Error::Lacks { fault: "throttled", .. }), "{gone}");
    assert!(lab.faults().is_empty());
}

#[test]
fn a_dead_collector_is_seen_and_healed_and_down_leaves_only_what_is_to_be_read() {
    if !require_root("a_dead_collector_is_seen_and_healed_and_down_leaves_only_what_is_to_be_read") {
        return;
    }
    let place = Place::new("well");
    let mut options = place.options();
    options.change_config = Box::new(|text| text + "# and this\n");
    let lab = Lab::up(options).unwrap();
    let config = fs::read_to_string(lab.config_path()).unwrap();
    assert!(config.contains("icmp = \"10.1.0.10\"") && config.ends_with("# and this\n"), "{config}");
    lab.keep();

    // Another process, as the command line is.
    let mut lab = Lab::open(&place.lab()).unwrap();
    let before = lab.pid(Process::Collector(A)).unwrap();
    lab.fault(Fault::CollectorDead { site: A }).unwrap();
    assert!(!lab.is_running(Process::Collector(A)) && lab.is_running(Process::Collector(B)));
    let status = Status::of(&lab);
    assert!(!status.is_well());
    assert!(status.to_string().contains("not running"), "{status}");
    lab.heal().unwrap();
    assert_ne!(lab.pid(Process::Collector(A)).unwrap(), before);
    assert!(Status::of(&lab).is_well());

    lab.kill(Process::Publisher, Signal::SIGKILL).unwrap();
    lab.start(Process::Publisher).unwrap();
    assert!(lab.health(Process::Publisher).is_ok());
    let said = fs::read_to_string(lab.log_path(Process::Publisher)).unwrap();
    assert_eq!(said.matches("this is the stand-in's publisher").count(), 2, "{said}");

    let again = Lab::up(place.options()).unwrap_err();
    assert!(matches!(again, Error::Running { .. }), "{again}");
    drop(lab);
    assert!(!place.remains().is_empty(), "it is kept up");
    Lab::down(&place.lab()).unwrap();
    assert_eq!(place.remains(), [""; 0]);
    Lab::down(&place.lab()).unwrap();
    assert!(place.lab().join("crosswatch.toml").exists() && place.lab().join("logs/publisher.log").exists());
    assert!(matches!(Lab::open(&place.lab()), Err(Error::Down { .. })));
}

#[test]
fn an_up_that_is_killed_half_way_is_cleared_away_by_down_and_by_the_next_up() {
    if !require_root("an_up_that_is_killed_half_way_is_cleared_away_by_down_and_by_the_next_up") {
        return;
    }
    for by_down in [true, false] {
        let place = Place::new("deaf");
        let mut up = Command::new(LAB)
            .args(["up", "--plain", "--aws", "none", "--program"])
            .arg(&place.program)
            .arg("--folder")
            .arg(place.lab())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .unwrap();
        let since = Instant::now();
        let log = place.lab().join("logs/collector-eu-west-1.log");
        while !fs::read_to_string(&log).is_ok_and(|said| said.contains("stand-in")) {
            assert!(since.elapsed() < BOUND && up.try_wait().unwrap().is_none(), "it does not come so far");
        }
        up.kill().unwrap();
        up.wait().unwrap();
        assert!(place.remains().len() >= 8, "three namespaces and five processes: {:?}", place.remains());
        if by_down {
            Lab::down(&place.lab()).unwrap();
        } else {
            let well = Place::new("well");
            let options = Options { program: well.program.clone(), ..place.options() };
            drop(Lab::up(options).unwrap());
        }
        assert_eq!(place.remains(), [""; 0]);
    }
}

#[test]
fn an_up_that_fails_says_why_and_clears_up() {
    if !require_root("an_up_that_fails_says_why_and_clears_up") {
        return;
    }
    let place = Place::new("fails");
    let error = Lab::up(place.options()).unwrap_err();
    assert!(matches!(&error, Error::Ended { said, .. } if said.contains("fails as it was told")), "{error}");
    assert_eq!(place.remains(), [""; 0]);

    let missing = Options { program: "/nowhere/crosswatch".into(), ..place.options() };
    let error = Lab::up(missing).unwrap_err().to_string();
    assert!(error.contains("/nowhere/crosswatch"), "{error}");
    assert_eq!(place.remains(), [""; 0]);
}

#[test]
fn a_reader_of_what_up_prints_may_go_and_the_lab_stays() {
    if !require_root("a_reader_of_what_up_prints_may_go_and_the_lab_stays") {
        return;
    }
    let place = Place::new("well");
    let mut command = Command::new(LAB);
    command
        .args(["up", "--plain", "--aws", "none", "--program"])
        .arg(&place.program)
        .arg("--folder")
        .arg(place.lab());
    let mut up = command.stdout(Stdio::piped()).spawn().unwrap();
    drop(up.stdout.take());
    assert!(up.wait().unwrap().success());
    assert!(Status::of(&Lab::open(&place.lab()).unwrap()).is_well());
    Lab::down(&place.lab()).unwrap();
}

#[test]
fn two_labs_stand_side_by_side_and_a_strange_folder_is_left_alone() {
    if !require_root("two_labs_stand_side_by_side_and_a_strange_folder_is_left_alone") {
        return;
    }
    let [one, two] = [Place::new("well"), Place::new("well")];
    let first = Lab::up(one.options()).unwrap();
    let second = Lab::up(two.options()).unwrap();
    drop(first);
    assert_eq!(one.remains(), [""; 0]);
    assert_eq!(ping(second.region(A), B, 5, 0.01).received, 5);
    assert!(Status::of(&second).is_well());

    let strange = tempfile::tempdir().unwrap();
    fs::write(strange.path().join("data"), "mine").unwrap();
    let options = Options { folder: strange.path().to_owned(), ..one.options() };
    assert!(matches!(Lab::up(options), Err(Error::Foreign { .. })));
    assert!(matches!(Lab::down(strange.path()), Err(Error::Foreign { .. })));
    assert_eq!(fs::read_to_string(strange.path().join("data")).unwrap(), "mine");
    Lab::down(Path::new("/nowhere/at/all")).unwrap();
}

#[test]
fn faults_of_aws_are_asked_of_the_gate_and_taken_back_and_a_table_of_others_is_left_alone() {
    if !require_root("faults_of_aws_are_asked_of_the_gate_and_taken_back_and_a_table_of_others_is_left_alone")
    {
        return;
    }
    let place = Place::new("well");
    let cloud = Cloud::Gate { gate: place.program.clone(), ministack: "ministack".into() };
    let mut lab = Lab::up(Options { cloud, ..place.options() }).unwrap();
    let config = fs::read_to_string(lab.config_path()).unwrap();
    for line in [
        "publisher = \"http://172.31.0.1:4566/000000000000/crosswatch-publisher\"",
        "topic = \"arn:aws:sns:us-east-1:000000000000:crosswatch-oncall\"",
    ] {
        assert!(config.lines().any(|other| other == line), "{line} in:\n{config}");
    }
    let requests = place.lab().join("gate.requests");
    let mut seen = 0;
    let mut new = || -> Vec<String> {
        let lines: Vec<_> = fs::read_to_string(&requests).unwrap().lines().map(str::to_owned).collect();
        let new = lines[seen..].to_vec();
        seen = lines.len();
        new
    };
    assert!(matches!(&*new(), [table] if table.starts_with("PUT /tunnels ") && !table.contains("DOWN")));

    lab.fault(Fault::Throttled { service: Some("ec2".to_owned()), one_in: 1 }).unwrap();
    lab.fault(Fault::BlackHole).unwrap();
    assert_eq!(
        new(),
        [
            r#"POST /faults {"effect":{"throttle":true},"id":"lab-throttled-ec2","match":{"service":"ec2"},"one_in":1}"#
        ],
        "nothing is asked that stays as it is"
    );
    lab.fault(Fault::TunnelDown { tunnel: Tunnel::Second }).unwrap();
    let down = new();
    assert_eq!(down.len(), 1);
    assert_eq!(down[0].matches("\"DOWN\"").count(), 1, "{down:?}");
    lab.heal().unwrap();
    let healed = new();
    assert_eq!(healed[0], "DELETE /faults/lab-throttled-ec2 ");
    assert!(healed[1].starts_with("PUT /tunnels ") && !healed[1].contains("DOWN"), "{healed:?}");
    // A gate that is started anew is told what it should be like; the stand-in begins a new file.
    lab.fault(Fault::TunnelDown { tunnel: Tunnel::Both }).unwrap();
    lab.fault(Fault::Throttled { service: None, one_in: 2 }).unwrap();
    lab.kill(Process::Aws, Signal::SIGKILL).unwrap();
    lab.start(Process::Aws).unwrap();
    let again = fs::read_to_string(&requests).unwrap();
    assert!(again.contains("DOWN") && again.contains("POST /faults "), "{again}");
    assert_eq!(lab.control().unwrap().get("/messages").unwrap(), serde_json::json!({}));
}
