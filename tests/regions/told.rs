//! What breaks is told once by SMS, and so is its end, and the metrics show it.

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_lab::{Fault, Site, Tunnel};
use crosswatch_tests::deployment::wait_until;
use crosswatch_tests::root::require_root;
use serde_json::Value;

use crate::books::time;
use crate::world::{PROBES, VPN, World, now};

/// The values of a metric with this dimension, with how often each was there.
fn values(world: &World, metric: &str, dimension: &str) -> Vec<f64> {
    let points = world.list(&format!("/datapoints?metric={metric}&dimension={dimension}"));
    let values = points.iter().flat_map(|point: &Value| {
        // Windows begin at whole tens of seconds.
        let at = point["at"].as_str().unwrap();
        assert!(at.ends_with("0.000000Z"), "{at}");
        point["values"].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect::<Vec<_>>()
    });
    values.collect()
}

#[test]
fn what_breaks_between_two_regions_is_told_once_and_so_is_its_end_and_the_metrics_show_it() {
    if !require_root("what_breaks_between_two_regions_is_told_once_and_so_is_its_end_and_the_metrics_show_it")
    {
        return;
    }
    let mut world = World::up();
    world.wait_until_up();

    let faults: [(Fault, &str, &[&str]); 3] = [
        (Fault::BlackHole, "ping-failed", &PROBES),
        (Fault::Slow { rtt: Duration::from_millis(300) }, "latency-high", &PROBES),
        (Fault::TunnelDown { tunnel: Tunnel::Both }, "tunnels-down", &[VPN]),
    ];
    let mut expected = BTreeMap::new();
    for (fault, rule, subjects) in faults {
        world.lab.fault(fault).unwrap();
        world.wait_for_texts("FIRING", rule, subjects);
        world.lab.heal().unwrap();
        world.wait_for_texts("RESOLVED", rule, subjects);
        for subject in subjects {
            expected.insert(format!("FIRING {rule} {subject}"), 1);
            expected.insert(format!("RESOLVED {rule} {subject}"), 1);
        }
    }
    // Nothing else was told, and nothing twice.
    assert_eq!(world.texts(), expected);

    for probe in ["icmp:10.1.0.10", "icmp:10.0.0.10", "tcp:10.0.0.10:443"] {
        let of_probe = format!("Probe={probe}");
        wait_until(&format!("the metrics of {probe} show both faults"), || {
            let success = values(&world, "PingSuccess", &of_probe);
            let latency = values(&world, "PingLatency", &of_probe);
            success.contains(&0.0)
                && success.contains(&1.0)
                && latency.iter().any(|ms| (300.0..500.0).contains(ms))
        });
        let latency = values(&world, "PingLatency", &of_probe);
        assert!(latency.iter().all(|ms| *ms >= 80.0), "{latency:?}");
    }
    wait_until("the metrics show the tunnels down and up again", || {
        let up = values(&world, "TunnelsUp", "Vpn=vpn-0a1b2c3d4e5f60718");
        up.contains(&0.0) && up.last() == Some(&2.0)
    });
    wait_until("both stages give signs of life", || {
        ["publisher", "alerter"].iter().all(|stage| {
            let beats = world.list(&format!("/datapoints?metric=Heartbeat&dimension=Stage={stage}"));
            !beats.is_empty()
        })
    });
}

/// What a lab with tunnels has besides: STAMP's probes, and the appliance's end of the tunnels.
const STAMP: [&str; 2] = ["use1-euw1/us-east-1/udp:10.1.0.10:862", "use1-euw1/eu-west-1/udp:10.0.0.10:862"];
const APPLIANCE: &str = "use1-euw1/strongswan:net@eu-west-1";

#[test]
fn tunnels_that_break_are_told_of_both_ends_and_traffic_that_vanishes_in_them_without_the_tunnels() {
    if !require_root(
        "tunnels_that_break_are_told_of_both_ends_and_traffic_that_vanishes_in_them_without_the_tunnels",
    ) {
        return;
    }
    let mut world = World::with_tunnels();
    let probes = [&PROBES[..], &STAMP].concat();
    let ends = [VPN, APPLIANCE];
    world.wait_until_these_are_up(&[&probes[..], &ends].concat());

    let mut expected = BTreeMap::new();
    let mut told = |subjects: &[&str], rule: &str| {
        for (state, subject) in
            ["FIRING", "RESOLVED"].iter().flat_map(|state| subjects.iter().map(move |of| (state, of)))
        {
            *expected.entry(format!("{state} {rule} {subject}")).or_default() += 1;
        }
    };
    world.lab.fault(Fault::BlackHole).unwrap();
    world.wait_for_texts("FIRING", "ping-failed", &probes);
    world.lab.heal().unwrap();
    world.wait_for_texts("RESOLVED", "ping-failed", &probes);
    told(&probes, "ping-failed");

    world.lab.fault(Fault::TunnelDown { tunnel: Tunnel::Both }).unwrap();
    world.wait_for_texts("FIRING", "tunnels-down", &ends);
    world.lab.heal().unwrap();
    world.wait_for_texts("RESOLVED", "tunnels-down", &ends);
    told(&probes, "ping-failed");
    told(&ends, "tunnels-down");
    wait_until("the end of what was lost is told, too", || world.texts() == expected);

    // One way only: every probe fails, and STAMP's tell which way.
    let since = now();
    world.lab.fault(Fault::OneWay { from: Site::EuWest1 }).unwrap();
    world.wait_for_nth_texts(3, "FIRING", "ping-failed", &probes);
    world.lab.heal().unwrap();
    world.wait_for_nth_texts(3, "RESOLVED", "ping-failed", &probes);
    let rows = world.observed();
    let lost = |site: Site, way: &str| -> i64 {
        let of_site = rows.iter().filter(|row| row["site"] == site.name() && time(&row["at"]) >= since);
        of_site.filter_map(|row| row[way]["lost"].as_i64()).sum()
    };
    let [near, far] = Site::ALL.map(|site| (lost(site, "forward"), lost(site, "back")));
    assert!(near.0 == 0 && near.1 > 0, "its questions come, the answers do not: {near:?}");
    assert!(far.0 > 0 && far.1 == 0, "its questions do not come: {far:?}");
    assert_eq!(world.texts().keys().filter(|text| text.contains("tunnels-down")).count(), 2 * ends.len());
}
