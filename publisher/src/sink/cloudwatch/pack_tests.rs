use std::collections::BTreeMap;

use super::*;
use proptest::prelude::*;

const NOW: Timestamp = Timestamp::from_secs(1_795_330_800);

fn window(id: i64, values: Vec<(f64, u64)>) -> Window {
    Window {
        key: Key { id, last: 0 },
        metric: "PingLatency".to_owned(),
        dimensions: vec![("Link".to_owned(), "l".to_owned())],
        start: NOW,
        period: Duration::from_secs(60),
        values: Values::new(values),
    }
}

/// Packed to the end, a request after another.
fn all(windows: &[Window], heartbeat: bool) -> (Vec<Packed>, Vec<Key>, Vec<Key>) {
    let mut left = windows;
    let (mut requests, mut out_of_time, mut unfit) = (Vec::new(), Vec::new(), Vec::new());
    while !left.is_empty() {
        let beat = heartbeat.then(|| Datum::heartbeat("publisher", NOW));
        let packed = pack("Crosswatch", beat, left.iter().cloned(), NOW);
        out_of_time.extend(&packed.out_of_time);
        unfit.extend(packed.unfit.iter().map(|(key, _)| *key));
        let done = packed.windows.len() + packed.out_of_time.len() + packed.unfit.len();
        assert!(done > 0, "packing does not end");
        left = &left[done..];
        requests.push(packed);
    }
    (requests, out_of_time, unfit)
}

fn value() -> impl Strategy<Value = f64> {
    prop_oneof![
        20 => 0.0..1e4,
        1 => Just(0.0),
        1 => -1e9..1e9,
    ]
}

fn any_window() -> impl Strategy<Value = Window> {
    let values = prop_oneof![
        30 => proptest::collection::vec((value(), 1..3_u64), 1..70),
        1 => proptest::collection::vec((value(), 1..3_u64), 140..900),
    ];
    let length = || 1..200_usize;
    let dimensions = proptest::collection::vec((length(), length()), 0..4).prop_map(|lengths| {
        lengths.into_iter().map(|(name, value)| ("N".repeat(name), "v".repeat(value))).collect()
    });
    // A few are out of time, or hold what no datum may.
    let start = prop_oneof![
        30 => -1_209_600..7_200_i64,
        1 => Just(-1_209_601_i64),
        1 => Just(7_201_i64),
    ];
    let spoiled = prop_oneof![30 => Just(None), 1 => prop::sample::select(vec![
        f64::NAN, f64::INFINITY, f64::NEG_INFINITY, 1e109, -1e109, 1e-120,
    ]).prop_map(Some)];
    (values, dimensions, start, spoiled).prop_map(|(mut values, dimensions, start, spoiled)| {
        values.extend(spoiled.map(|value| (value, 1)));
        Window {
            dimensions,
            start: Timestamp::from_secs(NOW.as_micros() / 1_000_000 + start),
            ..window(0, values)
        }
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]
    #[test]
    fn every_limit_is_held_and_every_window_is_in_one_request_whole(
        mut windows in proptest::collection::vec(any_window(), 1..1_300),
        heartbeat in any::<bool>(),
    ) {
        for (id, window) in (0..).zip(&mut windows) {
            window.key.id = id;
            window.metric = format!("Metric{id}");
        }
        let (requests, out_of_time, unfit) = all(&windows, heartbeat);
        let mut put: BTreeMap<String, Values> = BTreeMap::new();
        for request in &requests {
            prop_assert!(request.datums.len() <= DATUMS);
            let size: usize = request.datums.iter().map(Datum::size).sum();
            prop_assert!(size + request_size("Crosswatch") <= BYTES);
            let mut here: BTreeMap<String, Values> = BTreeMap::new();
            for datum in request.datums.iter().filter(|datum| datum.name != "Heartbeat") {
                prop_assert!(datum.values.len() <= VALUES);
                prop_assert!(datum.values.iter().all(|(value, _)| value.abs() <= GREATEST));
                prop_assert!(datum.at >= NOW - OLDEST && datum.at <= NOW + AHEAD);
                let values = Values::new(datum.values.clone()).unwrap();
                let before = here.remove(&datum.name);
                here.insert(datum.name.clone(), before.into_iter().fold(values, Values::merge));
            }
            prop_assert_eq!(here.len(), request.windows.len());
            for (name, values) in here {
                prop_assert!(put.insert(name, values).is_none(), "in two requests");
            }
        }
        for window in &windows {
            let spoiled = |(value, _): &(f64, u64)| !value.is_finite() || value.abs() > GREATEST || *value == 1e-120;
            let late = window.start < NOW - OLDEST || window.start > NOW + AHEAD;
            let bad = !late && window.values.as_ref().unwrap().pairs().iter().any(spoiled);
            prop_assert_eq!(out_of_time.contains(&window.key), late);
            prop_assert_eq!(unfit.contains(&window.key), bad);
            let expected = if late || bad { None } else { window.values.clone() };
            prop_assert_eq!(put.get(&window.metric), expected.as_ref());
        }
    }
}

#[test]
fn a_thousand_series_with_the_heartbeat_are_one_request() {
    let samples = || (0..60).map(|sample| (80.0 + f64::from(sample) / 7.0, 1)).collect();
    let windows: Vec<_> = (0..999).map(|id| window(id, samples())).collect();
    let (requests, ..) = all(&windows, true);
    assert_eq!(requests.iter().map(|request| request.datums.len()).collect::<Vec<_>>(), [1_000]);
}

#[test]
fn what_cloudwatch_would_refuse_is_named() {
    let many = (0..31).map(|number| (format!("D{number}"), "x".to_owned())).collect();
    let one = |value: &str| vec![("Link".to_owned(), value.to_owned())];
    for (window, why) in [
        (Window { values: None, ..window(1, vec![]) }, "are damaged, or are not kept"),
        (Window { dimensions: many, ..window(1, vec![(1.0, 1)]) }, "31 dimensions are more than 30"),
        (Window { dimensions: one("ü"), ..window(1, vec![(1.0, 1)]) }, "'ü' is no dimension"),
        (Window { dimensions: one(" "), ..window(1, vec![(1.0, 1)]) }, "' ' is no dimension"),
        (window(1, vec![(1.0, 1), (1e200, 1)]), "is none that CloudWatch takes"),
        (window(1, (0..150_000).map(|value| (f64::from(value), 1)).collect()), "more than a request takes"),
    ] {
        let packed = pack("Crosswatch", None, [window], NOW);
        let [(_, reason)] = &packed.unfit[..] else { panic!("{why}") };
        assert!(reason.contains(why), "{reason}");
    }
}

#[test]
fn a_period_waits_for_the_sites_that_keep_up_and_not_for_long() {
    let end = NOW;
    let owed = Summary { count: 10, oldest: Some(NOW), ready: 10, newest_end: Some(end) };
    let secs = Duration::from_secs;
    let due = |owed: &Summary, waited: u64, sites: &[Timestamp]| {
        is_due(owed, secs(waited), secs(35), sites.iter().copied(), end + secs(10))
    };
    assert!(due(&owed, 0, &[end + secs(2)]), "a lone site waits for nobody");
    assert!(!due(&owed, 0, &[end + secs(2), end + secs(1)]));
    assert!(due(&owed, 0, &[end + secs(2), end + secs(3)]));
    assert!(due(&owed, 35, &[end + secs(2), end + secs(1)]));
    assert!(due(&owed, 0, &[end + secs(2), end - secs(61)]), "a silent one is not waited for");
    assert!(due(&Summary { ready: 999, ..owed }, 0, &[end + secs(2), end + secs(1)]), "it is full");
    assert!(!due(&Summary::default(), 99, &[]));
}
