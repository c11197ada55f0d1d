//! The window engine against a slow and obvious model, and the promises an operator relies on one by one.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on has failed")]

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_shared::observation::{Body, Detail, Lost, Name, Observation, Origin, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::{Datapoint, GRACE, Metric, MetricSet, Saved, Taken, Values, Windows};
use proptest::prelude::*;

const PERIOD: Duration = Duration::from_secs(60);

fn windows() -> Windows {
    Windows::new(PERIOD, Metric::ALL.into_iter().collect(), GRACE)
}

fn origin(site: &str) -> Origin {
    Origin { site: site.into(), collector: "c".into(), boot: "b".into() }
}

fn secs(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

fn probe(at: Timestamp, seq: u64, probe: &str, outcome: Outcome) -> Observation {
    let body = Body::Probe { link: "l".into(), probe: probe.into(), outcome, detail: None };
    Observation { at, seq, body }
}

fn reply(at: i64, rtt_ms: f64) -> Observation {
    probe(secs(at), at.cast_unsigned(), "p", Outcome::Reply { rtt_ms })
}

fn tunnels(at: Timestamp, up: &[bool]) -> Observation {
    let tunnels = up.iter().enumerate().map(|(number, &up)| Tunnel {
        outside_ip: format!("52.0.0.{number}"),
        up,
        accepted_routes: 0,
        since: None,
        message: String::new(),
    });
    let body = Body::Tunnels { link: "l".into(), vpn: "vpn-0".into(), tunnels: tunnels.collect() };
    Observation { at, seq: 0, body }
}

/// A datapoint in the form tests compare: `Metric Dimension=name… @start [value×count …] late`.
fn text(datapoint: &Datapoint) -> String {
    let mut text = datapoint.metric.word().to_owned();
    for (dimension, name) in &datapoint.dimensions {
        text += &format!(" {dimension}={name}");
    }
    text += &format!(" @{}", datapoint.start.as_micros() / 1_000_000);
    for (value, count) in datapoint.values.pairs() {
        text += &format!(" {value}×{count}");
    }
    if datapoint.late {
        text += " late";
    }
    text
}

fn texts(datapoints: &[Datapoint]) -> Vec<String> {
    let mut texts: Vec<String> = datapoints.iter().map(text).collect();
    texts.sort();
    texts
}

#[test]
fn each_packet_of_a_burst_counts() {
    let mut windows = windows();
    let detail = Detail { burst: vec![Some(10.0), None, Some(14.0), Some(11.0)], ..Detail::default() };
    let body = Body::Probe {
        link: "l".into(),
        probe: "p".into(),
        outcome: Outcome::Reply { rtt_ms: 11.0 },
        detail: Some(Box::new(detail)),
    };
    assert_eq!(windows.observe(&origin("a"), &Observation { at: secs(0), seq: 0, body }), Taken::OnTime);
    let wanted = [
        "Jitter Link=l Site=a Probe=p @0 3.5×1",
        "PingLatency Link=l Site=a Probe=p @0 10×1 11×1 14×1",
        "PingSuccess Link=l Site=a Probe=p @0 0×1 1×3",
    ];
    assert_eq!(texts(&windows.advance(&"a".into(), secs(62))), wanted);
}

#[test]
fn each_metric_counts_what_it_says() {
    let mut windows = windows();
    let site = origin("a");
    for observation in [
        reply(0, 10.0),
        reply(1, 14.0),
        probe(secs(2), 2, "p", Outcome::Lost(Lost::Timeout)),
        reply(3, 11.0),
        probe(secs(4), 4, "p", Outcome::Lost(Lost::Refused)),
        tunnels(secs(5), &[true, false]),
        tunnels(secs(6), &[true, true]),
        Observation {
            at: secs(7),
            seq: 7,
            body: Body::Collection {
                source: "ec2:vpn-status".into(),
                ok: false,
                error: Some("RequestLimitExceeded".into()),
                took_ms: 143.0,
            },
        },
    ] {
        assert_eq!(windows.observe(&site, &observation), Taken::OnTime);
    }
    for nothing in [probe(secs(8), 8, "p", Outcome::Lost(Lost::Local)), tunnels(secs(9), &[])] {
        assert_eq!(windows.observe(&site, &nothing), Taken::Nothing);
    }
    windows.delay(&site.site, secs(10), Timestamp::from_micros(10_250_000));
    assert_eq!(
        texts(&windows.advance(&site.site, secs(62))),
        [
            "CollectionLatency Site=a Source=ec2:vpn-status @0 143×1",
            "CollectionSuccess Site=a Source=ec2:vpn-status @0 0×1",
            "Jitter Link=l Site=a Probe=p @0 3.5×1",
            "PingLatency Link=l Site=a Probe=p @0 10×1 11×1 14×1",
            "PingSuccess Link=l Site=a Probe=p @0 0×2 1×3",
            "PipelineDelay Site=a @0 250×1",
            "TunnelState Link=l Vpn=vpn-0 Tunnel=52.0.0.0 @0 1×2",
            "TunnelState Link=l Vpn=vpn-0 Tunnel=52.0.0.1 @0 0×1 1×1",
            "TunnelsUp Link=l Vpn=vpn-0 @0 1×1 2×1",
        ]
    );
}

#[test]
fn what_the_config_does_not_ask_for_costs_nothing() {
    let only: MetricSet = [Metric::PingSuccess].into_iter().collect();
    let mut windows = Windows::new(PERIOD, only, GRACE);
    let site = origin("a");
    windows.observe(&site, &reply(0, 10.0));
    assert_eq!(windows.observe(&site, &tunnels(secs(1), &[true])), Taken::Nothing);
    assert_eq!(windows.delay(&site.site, secs(1), secs(2)), Taken::Nothing);
    assert_eq!(texts(&windows.advance(&site.site, secs(900))), ["PingSuccess Link=l Site=a Probe=p @0 1×1"]);
}

/// The period's end itself belongs to the next period; the grace is whole before anything is given out.
#[test]
fn a_period_is_given_out_once_when_event_time_is_past_it_by_the_grace() {
    let only: MetricSet = [Metric::PingLatency].into_iter().collect();
    let mut windows = Windows::new(PERIOD, only, GRACE);
    let site = origin("a");
    windows.observe(&site, &reply(59, 1.0));
    windows.observe(&site, &reply(60, 2.0));
    let almost = Timestamp::from_micros(61_999_999);
    assert_eq!(windows.advance(&site.site, almost), []);
    assert_eq!(windows.advance(&"b".into(), secs(1_000)), []);
    let first = windows.advance(&site.site, secs(62));
    assert_eq!(texts(&first), ["PingLatency Link=l Site=a Probe=p @0 1×1"]);
    assert_eq!(windows.advance(&site.site, secs(63)), []);
    let second = windows.advance(&site.site, secs(122));
    assert_eq!(texts(&second), ["PingLatency Link=l Site=a Probe=p @60 2×1"]);
}

#[test]
fn late_data_is_a_remainder_given_out_at_the_next_advance() {
    let only: MetricSet = [Metric::PingLatency].into_iter().collect();
    let mut windows = Windows::new(PERIOD, only, GRACE);
    let site = origin("a");
    windows.observe(&site, &reply(10, 1.0));
    windows.advance(&site.site, secs(62));
    assert_eq!(windows.observe(&site, &reply(11, 2.0)), Taken::Late);
    assert_eq!(windows.observe(&site, &reply(12, 3.0)), Taken::Late);
    assert_eq!(
        texts(&windows.advance(&site.site, secs(63))),
        ["PingLatency Link=l Site=a Probe=p @0 2×1 3×1 late"]
    );
}

/// A clock set back by an hour: one remainder a period, not one an advance; and what the former clock had left open far
/// ahead does not wait for that hour to pass again.
#[test]
fn a_clock_set_back_loses_nothing_and_splits_no_period() {
    let only: MetricSet = [Metric::PingLatency].into_iter().collect();
    let mut windows = Windows::new(PERIOD, only, GRACE);
    let site = origin("a");
    windows.observe(&site, &reply(3_610, 1.0));
    windows.advance(&site.site, secs(3_612));
    windows.observe(&site, &reply(20, 2.0));
    assert_eq!(
        texts(&windows.advance(&site.site, secs(21))),
        ["PingLatency Link=l Site=a Probe=p @3600 1×1"]
    );
    windows.observe(&site, &reply(30, 3.0));
    assert_eq!(windows.advance(&site.site, secs(31)), []);
    assert_eq!(
        texts(&windows.advance(&site.site, secs(62))),
        ["PingLatency Link=l Site=a Probe=p @0 2×1 3×1 late"]
    );
}

#[test]
fn a_period_begun_before_the_config_changed_ends_as_it_began() {
    let only: MetricSet = [Metric::PingLatency].into_iter().collect();
    let site = origin("a");
    let mut before = Windows::new(PERIOD, only, GRACE);
    before.observe(&site, &reply(10, 1.0));
    let mut after = Windows::new(Duration::from_secs(10), only, GRACE);
    after.restore(before.changed()).unwrap();
    after.observe(&site, &reply(11, 2.0));
    let datapoints = after.advance(&site.site, secs(100));
    let periods: Vec<_> =
        datapoints.iter().map(|datapoint| (datapoint.period.as_secs(), datapoint.values.average())).collect();
    assert_eq!(periods, [(10, 2.0), (60, 1.0)]);
}

#[test]
fn damaged_state_is_refused_by_name() {
    let mut before = windows();
    before.observe(&origin("a"), &reply(10, 1.0));
    let mut saved = before.changed();
    saved[0].value.as_mut().unwrap().pop();
    let error = windows().restore(saved).unwrap_err().to_string();
    assert!(error.contains(r#"0-60000000 ["probe","a","l","p"]"#), "{error}");
}

/// One thing that happens to the engine.
#[derive(Clone, Debug)]
enum Step {
    Probe(usize, usize, i64, u8),
    Tunnels(usize, i64, Vec<bool>),
    Delay(usize, i64, i64),
    Advance(usize, i64),
    Save,
    Restart,
}

const SITES: [&str; 2] = ["a", "b"];
const PROBES: [&str; 3] = ["p", "q", "r \" \u{1f}"];

fn step() -> impl Strategy<Value = Step> {
    let at = 0..400_i64;
    prop_oneof![
        12 => (0..2_usize, 0..3_usize, at.clone(), 0..8_u8).prop_map(|(s, p, at, o)| Step::Probe(s, p, at, o)),
        2 => (0..2_usize, at.clone(), proptest::collection::vec(any::<bool>(), 0..3))
            .prop_map(|(site, at, up)| Step::Tunnels(site, at, up)),
        1 => (0..2_usize, at.clone(), -5..50_i64).prop_map(|(site, at, delay)| Step::Delay(site, at, delay)),
        3 => (0..2_usize, at).prop_map(|(site, at)| Step::Advance(site, at)),
        2 => Just(Step::Save),
        1 => Just(Step::Restart),
    ]
}

fn outcome(code: u8) -> Outcome {
    match code {
        0 => Outcome::Lost(Lost::Timeout),
        1 => Outcome::Lost(Lost::Local),
        rtt => Outcome::Reply { rtt_ms: f64::from(rtt) },
    }
}

/// The slow and obvious model: every sample kept by itself until its period is given out. Jitter is left to a test of
/// its own.
#[derive(Default)]
struct Model {
    samples: Vec<Sample>,
    at: [i64; 2],
    over: [i64; 2],
}

struct Sample {
    site: usize,
    /// What shares a window.
    subject: String,
    start: i64,
    late: bool,
    /// Metric and dimensions.
    series: String,
    value: f64,
}

impl Model {
    fn add(&mut self, step: &Step) {
        match step {
            Step::Probe(site, probe, at, code) => {
                let subject = format!("Link=l Site={} Probe={}", SITES[*site], PROBES[*probe]);
                match outcome(*code) {
                    Outcome::Reply { rtt_ms } => {
                        self.sample(*site, &subject, *at, format!("PingLatency {subject}"), rtt_ms);
                        self.sample(*site, &subject, *at, format!("PingSuccess {subject}"), 1.0);
                    }
                    Outcome::Lost(Lost::Local) => {}
                    Outcome::Lost(_) => {
                        self.sample(*site, &subject, *at, format!("PingSuccess {subject}"), 0.0);
                    }
                }
            }
            Step::Tunnels(site, at, up) if !up.is_empty() => {
                let count = up.iter().filter(|up| **up).count() as f64;
                // Each site polls a connection of its own.
                let subject = format!("Link=l Vpn=vpn-{site}");
                self.sample(*site, &subject, *at, format!("TunnelsUp {subject}"), count);
                for (number, up) in up.iter().enumerate() {
                    let series = format!("TunnelState {subject} Tunnel=52.0.0.{number}");
                    self.sample(*site, &subject, *at, series, f64::from(u8::from(*up)));
                }
            }
            Step::Delay(site, at, delay) => {
                let series = format!("PipelineDelay Site={}", SITES[*site]);
                self.sample(*site, "delay", *at, series, *delay as f64 * 1e3);
            }
            _ => {}
        }
    }

    fn sample(&mut self, site: usize, subject: &str, at: i64, series: String, value: f64) {
        let start = at - at % 60;
        let mut pending = self.samples.iter();
        let same =
            pending.find(|sample| (sample.site, &*sample.subject, sample.start) == (site, subject, start));
        self.samples.push(Sample {
            site,
            subject: subject.to_owned(),
            start,
            late: same.map_or(start + 60 <= self.over[site], |same| same.late),
            series,
            value,
        });
    }

    fn advance(&mut self, site: usize, to: i64) -> Vec<String> {
        let before = std::mem::replace(&mut self.at[site], to);
        if to == before {
            return Vec::new();
        }
        self.over[site] = self.over[site].max(to - 2);
        let (gone, kept): (Vec<_>, Vec<_>) = self.samples.drain(..).partition(|sample| {
            let end = sample.start + 60;
            sample.site == site && (end + 2 <= to || (to < before && end > to + 120))
        });
        self.samples = kept;
        let mut datapoints: BTreeMap<(String, i64, bool), Vec<(f64, u64)>> = BTreeMap::new();
        for sample in gone {
            if sample.start + 62 > to {
                self.over[site] = self.over[site].max(sample.start + 60);
            }
            let datapoint = (sample.series, sample.start, sample.late);
            datapoints.entry(datapoint).or_default().push((sample.value, 1));
        }
        let mut texts: Vec<String> = datapoints
            .into_iter()
            .map(|((series, start, late), pairs)| {
                let mut text = format!("{series} @{start}");
                for (value, count) in Values::new(pairs).unwrap().pairs() {
                    text += &format!(" {value}×{count}");
                }
                if late { text + " late" } else { text }
            })
            .collect();
        texts.sort();
        texts
    }
}

fn published() -> MetricSet {
    let all = Metric::ALL.into_iter();
    all.filter(|metric| *metric != Metric::Jitter).collect()
}

proptest! {
    /// Any order of data, advances forth and back, savings and restarts: each datapoint comes when the model says so,
    /// with exactly the samples the model has, and in the end each sample has been counted exactly once.
    #[test]
    fn agrees_with_the_model(steps in proptest::collection::vec(step(), 1..200)) {
        let mut windows = Windows::new(PERIOD, published(), GRACE);
        let mut model = Model { at: [i64::MIN, i64::MIN], over: [i64::MIN, i64::MIN], ..Model::default() };
        let mut file: BTreeMap<String, Vec<u8>> = BTreeMap::new();
        let last = SITES.iter().enumerate().map(|(site, _)| Step::Advance(site, 1_000));
        for step in steps.into_iter().chain(last) {
            model.add(&step);
            match step {
                Step::Probe(site, name, at, code) => {
                    windows.observe(&origin(SITES[site]), &probe(secs(at), 0, PROBES[name], outcome(code)));
                }
                Step::Tunnels(site, at, up) => {
                    let mut observation = tunnels(secs(at), &up);
                    if let Body::Tunnels { vpn, .. } = &mut observation.body {
                        *vpn = format!("vpn-{site}").into();
                    }
                    windows.observe(&origin(SITES[site]), &observation);
                }
                Step::Delay(site, at, delay) => {
                    windows.delay(&SITES[site].into(), secs(at), secs(at + delay));
                }
                Step::Advance(site, to) => {
                    let datapoints = windows.advance(&Name::from(SITES[site]), secs(to));
                    prop_assert_eq!(texts(&datapoints), model.advance(site, to));
                }
                Step::Save => save(&mut windows, &mut file),
                Step::Restart => {
                    save(&mut windows, &mut file);
                    windows = Windows::new(PERIOD, published(), GRACE);
                    windows.restore(file.iter().map(|(key, value)| {
                        Saved { key: key.clone(), value: Some(value.clone()) }
                    })).unwrap();
                }
            }
        }
        prop_assert!(model.samples.is_empty());
        save(&mut windows, &mut file);
        // Nothing of a window that closed stays behind; a site's event time does.
        prop_assert_eq!(file.keys().filter(|key| !key.starts_with("site ")).count(), 0);
    }

    /// Jitter follows the order of sending, whatever order the replies come in and wherever a restart falls.
    #[test]
    fn jitter_follows_the_order_of_sending(
        (rtts, order) in proptest::collection::vec(0.0..100.0_f64, 1..60)
            .prop_flat_map(|rtts| {
                let order: Vec<usize> = (0..rtts.len()).collect();
                (Just(rtts), Just(order).prop_shuffle())
            }),
        restart in 0..60_usize,
    ) {
        let only: MetricSet = [Metric::Jitter].into_iter().collect();
        let mut windows = Windows::new(PERIOD, only, GRACE);
        let mut file = BTreeMap::new();
        for (step, &number) in order.iter().enumerate() {
            if step == restart {
                save(&mut windows, &mut file);
                windows = Windows::new(PERIOD, only, GRACE);
                windows.restore(file.iter().map(|(key, value)| {
                    Saved { key: key.clone(), value: Some(value.clone()) }
                })).unwrap();
            }
            windows.observe(&origin("a"), &reply(number as i64, rtts[number]));
        }
        let steps: Vec<f64> = rtts.windows(2).map(|pair| (pair[1] - pair[0]).abs()).collect();
        let datapoints = windows.advance(&"a".into(), secs(100));
        if steps.is_empty() {
            prop_assert_eq!(datapoints, []);
        } else {
            let mean = steps.iter().sum::<f64>() / steps.len() as f64;
            prop_assert_eq!(datapoints[0].values.pairs(), &[(mean, 1)]);
        }
    }
}

fn save(windows: &mut Windows, file: &mut BTreeMap<String, Vec<u8>>) {
    for Saved { key, value } in windows.changed() {
        match value {
            Some(value) => file.insert(key, value),
            None => file.remove(&key),
        };
    }
}
