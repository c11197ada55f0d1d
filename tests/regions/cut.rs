//! A region that does not reach its queues while probing goes on.

use std::sync::mpsc;
use std::time::Duration;

use crosswatch_lab::{Fault, Lab, Site};
use crosswatch_tests::deployment::{wait_until, wait_within};
use crosswatch_tests::root::require_root;
use serde_json::Value;

use crate::books::{compare, time, wait_for_all_until_now};
use crate::past;
use crate::world::{PROBES, UNDER_WAY, World, now};

const HOUR: Duration = Duration::from_secs(3_600);
const WINDOW: Duration = Duration::from_secs(10);
const UNKNOWN: &str = "crosswatch_alerter_transitions_total{state=\"unknown\"}";

/// Two cuts of one region. The first is an hour long: what its collector wrote down in that hour, with nothing of it sent,
/// is in its journal when the collector starts again and reaches the queues; the alerter has not heard of the region
/// before. The second is real and shorter: the packets between region and centre vanish while everything runs, for longer
/// than a site may be silent. What an hour differs in is how much has to follow, and how old it is.
#[test]
fn a_region_that_reaches_no_queue_for_an_hour_misses_nothing_afterwards_and_the_other_never_notices() {
    if !require_root(
        "a_region_that_reaches_no_queue_for_an_hour_misses_nothing_afterwards_and_the_other_never_notices",
    ) {
        return;
    }
    let cut_off = Site::EuWest1;
    // Only then: how long a lab takes to come so far is no part of the hour.
    let (written, begun) = mpsc::channel();
    let prepare = move |lab: &Lab| {
        written.send(now()).unwrap();
        past::write(lab, cut_off, HOUR);
    };
    let mut world = World::prepared(|text| text, prepare);
    let begun = begun.recv().unwrap();
    world.wait_until_up();
    assert_eq!(world.texts(), [].into());

    world.lab.fault(Fault::QueueCut { site: cut_off }).unwrap();
    wait_within(UNDER_WAY, "its silence is told", || {
        assert_eq!(world.of_alerter(UNKNOWN), 0.0, "a healthy probe was taken for unknown");
        !world.texts().is_empty()
    });
    world.lab.heal().unwrap();
    wait_until("its voice is told", || world.texts().len() > 1);
    let end = wait_for_all_until_now(&world, WINDOW);

    let silent = |state: &str| (format!("{state} site-silent {cut_off}"), 1);
    assert_eq!(world.texts(), [silent("FIRING"), silent("RESOLVED")].into(), "told once, and nothing else");
    assert_eq!(world.of_alerter(UNKNOWN), 0.0, "a healthy probe was taken for unknown");

    let rows = world.observed();
    let before = |rows: &[Value]| {
        let mut rows: Vec<String> =
            rows.iter().filter(|row| time(&row["at"]) < end).map(Value::to_string).collect();
        rows.sort_unstable();
        rows
    };
    let (observed, received) = (before(&rows), before(&world.received()));
    assert_eq!(observed.len(), received.len(), "observed and received");
    assert!(observed == received, "what the alerter has is what was observed, to the time of each");
    // Probing went on: no probe that should have been sent is missing, of the past or of the present.
    for probe in PROBES.iter().filter(|probe| probe.contains(cut_off.name())) {
        let mut times: Vec<_> = rows
            .iter()
            .filter(|row| row["kind"] == "probe" && probe.ends_with(row["probe"].as_str().unwrap()))
            .filter(|row| row["site"] == cut_off.name())
            .map(|row| time(&row["at"]))
            .collect();
        times.sort_unstable();
        assert!(begun.since(times[0]) >= HOUR - WINDOW, "{probe}: from {}", times[0]);
    }
    // A machine that stands still may have looked too late, and says so.
    let failed = rows
        .iter()
        .find(|row| row["kind"] == "probe" && row.get("rtt_ms").is_none() && row["lost"] != "local");
    assert_eq!(failed, None, "probes go on");
    let sends = |site: Site| {
        let of_site = rows.iter().filter(move |row| row["site"] == site.name());
        of_site.filter(|row| row["source"].as_str().is_some_and(|source| source.starts_with("sqs:")))
    };
    assert!(sends(cut_off).any(|row| row["ok"] == false), "it was cut off");
    assert!(sends(cut_off.other()).all(|row| row["ok"] == true), "the other was not");

    let books = compare(&world, WINDOW, end);
    println!("{} observations; {books:?}", observed.len());
    assert!(books.windows > 4 * 360, "the hour is in CloudWatch");
    assert_eq!((books.repeated, books.uneven), (0, 0));
}
