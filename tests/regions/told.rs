//! What breaks is told once by SMS, and so is its end, and the metrics show it.

use std::time::Duration;

use crosswatch_lab::{Fault, Site, Tunnel};
use crosswatch_tests::deployment::wait_until;
use crosswatch_tests::root::require_root;
use serde_json::Value;

use crate::books::time;
use crate::world::{LINK, PROBES, VPN, World, now};

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

    let faults: [(Fault, &str, &str, &[&str]); 3] = [
        (Fault::BlackHole, "black-hole", "ping-failed", &PROBES),
        (Fault::Slow { rtt: Duration::from_millis(300) }, "slow", "latency-high", &PROBES),
        (Fault::TunnelDown { tunnel: Tunnel::Both }, "tunnels-down", "tunnels-down", &[VPN]),
    ];
    let mut seen = 0;
    for (fault, kind, rule, subjects) in faults {
        breaks_and_heals(&mut world, &mut seen, fault, kind, &[(rule, subjects)]);
    }
    // Nothing else was told, and nothing twice.
    assert_eq!(world.whole_texts().len(), seen, "{:#?}", world.whole_texts());
    assert_eq!(world.texts().values().sum::<usize>(), seen);

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

/// A fault is told once, comes to this verdict while these rules fire, and its end is told once.
fn breaks_and_heals(
    world: &mut World,
    seen: &mut usize,
    fault: Fault,
    kind: &str,
    fires: &[(&str, &[&str])],
) -> String {
    world.lab.fault(fault).unwrap();
    world.wait_for_texts(seen, "FIRING", &[LINK]);
    for (rule, subjects) in fires {
        world.wait_until_fires(rule, subjects, true);
    }
    if kind != "one-way" {
        world.wait_for_verdict(LINK, &[kind]);
    }
    world.lab.heal().unwrap();
    let text = world.wait_for_texts(seen, "RESOLVED", &[LINK]).remove(0);
    assert!(text.starts_with(&format!("RESOLVED {kind} {LINK}: over after ")), "{text}");
    text
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
    // The tunnels' processes encrypt each packet themselves, and on a busy machine take their time: it is no matter here.
    let mut world = World::with_tunnels(|text| text.replace("above = 200", "above = 2000"));
    let probes = [&PROBES[..], &STAMP].concat();
    let ends = [VPN, APPLIANCE];
    world.wait_until_these_are_up(&[&probes[..], &ends].concat());

    let mut seen = 0;
    breaks_and_heals(&mut world, &mut seen, Fault::BlackHole, "black-hole", &[("ping-failed", &probes)]);
    let both = Fault::TunnelDown { tunnel: Tunnel::Both };
    let fires: [(&str, &[&str]); 2] = [("tunnels-down", &ends), ("ping-failed", &probes)];
    breaks_and_heals(&mut world, &mut seen, both, "tunnels-down", &fires);

    // One way only: every probe fails, and STAMP's tell which way once replies come again.
    let since = now();
    let one_way = Fault::OneWay { from: Site::EuWest1 };
    breaks_and_heals(&mut world, &mut seen, one_way, "one-way", &[("ping-failed", &probes)]);
    let rows = world.observed();
    let lost = |site: Site, way: &str| -> i64 {
        let of_site = rows.iter().filter(|row| row["site"] == site.name() && time(&row["at"]) >= since);
        of_site.filter_map(|row| row[way]["lost"].as_i64()).sum()
    };
    let [near, far] = Site::ALL.map(|site| (lost(site, "forward"), lost(site, "back")));
    let told = |site: Site| -> Vec<String> {
        let of_site = rows.iter().filter(|row| row["site"] == site.name() && time(&row["at"]) >= since);
        of_site.filter(|row| row["probe"].to_string().contains("udp")).map(Value::to_string).collect()
    };
    let [near_told, far_told] = Site::ALL.map(told);
    assert!(near.0 == 0 && near.1 > 0, "its questions come, the answers do not: {near:?}: {near_told:#?}");
    assert!(far.0 > 0 && far.1 == 0, "its questions do not come: {far:?}: {far_told:#?}");
    assert_eq!(world.whole_texts().len(), seen, "{:#?}", world.whole_texts());
}
