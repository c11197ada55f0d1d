//! Two regions and a centre, each stage a process of its own, between them SQS, CloudWatch and SNS as the lab has them:
//! what breaks is told once by SMS, and so is its end, and the metrics show it.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::BTreeMap;
use std::env;
use std::path::PathBuf;
use std::process::Command;
use std::time::Duration;

use crosswatch_lab::{Cloud, Fault, Lab, Options, Tunnel};
use crosswatch_tests::deployment::wait_until;
use crosswatch_tests::process::{laboratory, program};
use crosswatch_tests::root::require_root;
use serde_json::Value;

const NUMBER: &str = "+15555550100";
const VPN: &str = "use1-euw1/vpn-0a1b2c3d4e5f60718";
const PROBES: [&str; 3] = [
    "use1-euw1/us-east-1/icmp:10.1.0.10",
    "use1-euw1/eu-west-1/icmp:10.0.0.10",
    "use1-euw1/eu-west-1/tcp:10.0.0.10:443",
];

/// A lab that probes five times a second and closes its windows every ten.
fn lab(folder: &tempfile::TempDir) -> Lab {
    let [lab, gate] = laboratory().clone();
    let ministack = PathBuf::from(env::var_os("MINISTACK").expect("MINISTACK, as tests/run sets it"));
    Lab::up(Options {
        cloud: Cloud::Gate { gate, ministack },
        every: Duration::from_millis(200),
        change_config: Box::new(|text| {
            text.replace("period = \"60s\"", "period = \"10s\"").replace("clear = 30", "clear = 5")
        }),
        ..Options::new(folder.path().join("lab"), program().to_owned(), lab)
    })
    .unwrap_or_else(|error| panic!("{error}"))
}

/// How often each text to the phone, up to what it says of the reason, was accepted.
fn texts(lab: &Lab) -> BTreeMap<String, usize> {
    let messages = lab.control().unwrap().get("/messages").unwrap();
    let mut texts = BTreeMap::new();
    for message in messages.as_array().unwrap().iter().filter(|message| message["to"] == NUMBER) {
        assert_eq!(message["attributes"]["AWS.SNS.SMS.SMSType"], "Transactional");
        let text = message["text"].as_str().unwrap();
        let told = text.rsplit_once(": ").map_or(text, |(told, _)| told);
        *texts.entry(told.to_owned()).or_default() += 1;
    }
    texts
}

fn wait_for_texts(lab: &Lab, state: &str, rule: &str, subjects: &[&str]) {
    let all = |texts: &BTreeMap<String, usize>| {
        subjects.iter().all(|subject| texts.contains_key(&format!("{state} {rule} {subject}")))
    };
    wait_until(&format!("{state} {rule}"), || all(&texts(lab)));
}

/// The values of a metric with this dimension, with how often each was there.
fn values(lab: &Lab, metric: &str, dimension: &str) -> Vec<f64> {
    let points = lab.control().unwrap().get(&format!("/datapoints?metric={metric}&dimension={dimension}"));
    let points = points.unwrap();
    let values = points.as_array().unwrap().iter().flat_map(|point: &Value| {
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
    let folder = tempfile::tempdir().unwrap();
    let mut lab = lab(&folder);
    wait_until("everything is up", || {
        let status =
            Command::new(lab.program()).args(["status", "--config"]).arg(lab.config_path()).output().unwrap();
        let status = String::from_utf8(status.stdout).unwrap();
        PROBES
            .iter()
            .chain([&VPN])
            .all(|subject| status.lines().any(|line| line.starts_with(subject) && line.contains(" up ")))
    });

    let faults: [(Fault, &str, &[&str]); 3] = [
        (Fault::BlackHole, "ping-failed", &PROBES),
        (Fault::Slow { rtt: Duration::from_millis(300) }, "latency-high", &PROBES),
        (Fault::TunnelDown { tunnel: Tunnel::Both }, "tunnels-down", &[VPN]),
    ];
    let mut expected = BTreeMap::new();
    for (fault, rule, subjects) in faults {
        lab.fault(fault).unwrap();
        wait_for_texts(&lab, "FIRING", rule, subjects);
        lab.heal().unwrap();
        wait_for_texts(&lab, "RESOLVED", rule, subjects);
        for subject in subjects {
            expected.insert(format!("FIRING {rule} {subject}"), 1);
            expected.insert(format!("RESOLVED {rule} {subject}"), 1);
        }
    }
    // Nothing else was told, and nothing twice.
    assert_eq!(texts(&lab), expected);

    for probe in ["icmp:10.1.0.10", "icmp:10.0.0.10", "tcp:10.0.0.10:443"] {
        let of_probe = format!("Probe={probe}");
        wait_until(&format!("the metrics of {probe} show both faults"), || {
            let success = values(&lab, "PingSuccess", &of_probe);
            let latency = values(&lab, "PingLatency", &of_probe);
            success.contains(&0.0)
                && success.contains(&1.0)
                && latency.iter().any(|ms| (300.0..500.0).contains(ms))
        });
        let latency = values(&lab, "PingLatency", &of_probe);
        assert!(latency.iter().all(|ms| *ms >= 80.0), "{latency:?}");
    }
    wait_until("the metrics show the tunnels down and up again", || {
        let up = values(&lab, "TunnelsUp", "Vpn=vpn-0a1b2c3d4e5f60718");
        up.contains(&0.0) && up.last() == Some(&2.0)
    });
    wait_until("both stages give signs of life", || {
        ["publisher", "alerter"].iter().all(|stage| !values_of_heartbeat(&lab, stage).is_empty())
    });
}

fn values_of_heartbeat(lab: &Lab, stage: &str) -> Vec<Value> {
    let points = lab.control().unwrap().get(&format!("/datapoints?metric=Heartbeat&dimension=Stage={stage}"));
    points.unwrap().as_array().unwrap().clone()
}
