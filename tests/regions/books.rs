//! The books: what the collectors' journals hold against what CloudWatch has, window by window, reckoned anew.

use std::collections::{BTreeMap, BTreeSet};
use std::time::Duration;

use crosswatch_lab::Site;
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::deployment::{json_lines, wait_within};
use serde_json::Value;

use crate::world::{UNDER_WAY, World, now};

const METRICS: [&str; 5] =
    ["PingSuccess", "PingLatency", "TunnelsUp", "CollectionSuccess", "CollectionLatency"];

/// A period of a series.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Window {
    metric: String,
    dimensions: BTreeMap<String, String>,
    start: Timestamp,
}

/// How often each value occurred; in millionths, which is finer than anything measured.
type Samples = BTreeMap<i64, u64>;

/// What was found to be right of every window that is over.
#[derive(Debug)]
pub(crate) struct Books {
    pub(crate) windows: usize,
    /// How many windows CloudWatch has several times as a whole, which changes no statistic but sum and count.
    pub(crate) repeated: usize,
    /// How many it has whole, and a part of them again: put at first without what came after their close, with an outcome
    /// that nobody knows. Minimum and maximum are exact; average and percentiles count that part twice.
    pub(crate) uneven: usize,
}

/// Waits until CloudWatch has everything of both sites up to now; gives that time, which begins a period.
pub(crate) fn wait_for_all_until_now(world: &World, period: Duration) -> Timestamp {
    let end = now().floor(period);
    for site in Site::ALL {
        wait_within(UNDER_WAY, &format!("the windows of {site} until {end}"), || {
            let delays = world.list(&format!("/datapoints?metric=PipelineDelay&dimension=Site={site}"));
            delays.iter().any(|point| time(&point["at"]) >= end)
        });
    }
    end
}

/// Compares all windows that begin before `end`: none is missing, none is invented, and each has every observation, so that
/// minimum and maximum are exact. Average and percentiles are, too, but for the windows that are [`Books::uneven`].
pub(crate) fn compare(world: &World, period: Duration, end: Timestamp) -> Books {
    let observed = observed(&world.observed(), period);
    let put = put(world);
    let mut wrong = Vec::new();
    let windows: BTreeSet<&Window> =
        observed.keys().chain(put.keys()).filter(|window| window.start < end).collect();
    let mut books = Books { windows: windows.len(), repeated: 0, uneven: 0 };
    for window in windows {
        let (Some(observed), Some(Put { times, samples })) = (observed.get(window), put.get(window)) else {
            let why = if put.contains_key(window) { "nobody observed it" } else { "missing" };
            wrong.push(format!("{window:?}: {why}"));
            continue;
        };
        let whole = observed.keys().eq(samples.keys())
            && observed.iter().all(|(value, count)| samples.get(value) >= Some(count));
        let (wanted, found) = (Statistics::of(observed), Statistics::of(samples));
        if whole && wanted.agrees(&found) && found.count.is_multiple_of(wanted.count) {
            books.repeated += usize::from(found.count > wanted.count);
        } else if whole && times.len() > 1 {
            books.uneven += 1;
        } else {
            wrong.push(format!("{window:?}: {found:?} instead of {wanted:?}, put at {times:?}"));
        }
    }
    let shown = &wrong[..wrong.len().min(20)];
    assert!(wrong.is_empty(), "{} of {}: {shown:#?}", wrong.len(), books.windows);
    books
}

/// Compares all windows that begin before `end` with those of an undisturbed twin, which a replay of the collectors' journals
/// makes: none is missing, none is invented, and whatever CloudWatch can be asked for is the same. Gives how many they are.
pub(crate) fn compare_with_twin(world: &World, end: Timestamp) -> usize {
    let (twin, put) = (twin(world), put(world));
    let windows: BTreeSet<&Window> =
        twin.keys().chain(put.keys()).filter(|window| window.start < end).collect();
    let differing = windows.iter().filter_map(|window| {
        let (wanted, found) = (twin.get(window), put.get(window).map(|put| Statistics::of(&put.samples)));
        let (Some(wanted), Some(found)) = (wanted, &found) else {
            return Some(format!("{window:?}: {found:?} instead of {wanted:?}"));
        };
        // One that is put again as a whole is the same in all but sum and count.
        let same = wanted.agrees(found) && found.count.is_multiple_of(wanted.count);
        (!same).then(|| format!("{window:?}: {found:?} instead of {wanted:?}"))
    });
    let wrong: Vec<String> = differing.collect();
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), windows.len(), &wrong[..wrong.len().min(20)]);
    windows.len()
}

/// What CloudWatch can be asked for.
#[derive(Debug)]
struct Statistics {
    count: u64,
    minimum: Option<i64>,
    maximum: Option<i64>,
    average: f64,
    percentiles: Vec<Option<i64>>,
}

impl Statistics {
    fn of(samples: &Samples) -> Self {
        let count: u64 = samples.values().sum();
        let sum: f64 = samples.iter().map(|(value, count)| *value as f64 * *count as f64).sum();
        let percentile = |percent: u64| {
            let mut seen = 0;
            let mut values = samples.iter();
            values.find_map(|(value, of)| {
                seen += of;
                (seen * 100 >= count * percent).then_some(*value)
            })
        };
        Self {
            count,
            minimum: samples.keys().next().copied(),
            maximum: samples.keys().next_back().copied(),
            average: sum / count as f64,
            percentiles: [50, 90, 95, 99].map(percentile).to_vec(),
        }
    }

    fn agrees(&self, other: &Self) -> bool {
        self.minimum == other.minimum
            && self.maximum == other.maximum
            && self.percentiles == other.percentiles
            // A millionth of a millisecond: sums are added up in another order.
            && (self.average - other.average).abs() <= 1.0
    }
}

/// The windows of the observations, as docs/configuration.md says what each metric is of.
fn observed(rows: &[Value], period: Duration) -> BTreeMap<Window, Samples> {
    let mut windows: BTreeMap<Window, Samples> = BTreeMap::new();
    let mut count = |row: &Value, metric: &str, names: &[(&str, &str)], value: f64| {
        let dimension = |(name, field): &(&str, &str)| ((*name).to_owned(), text(&row[*field]));
        let dimensions = names.iter().map(dimension).collect();
        let start = time(&row["at"]).floor(period);
        let window = Window { metric: metric.to_owned(), dimensions, start };
        *windows.entry(window).or_default().entry(millionths(value)).or_default() += 1;
    };
    for row in rows {
        match row["kind"].as_str().unwrap() {
            "probe" if row["lost"] == "local" => {}
            "probe" => {
                let names = [("Link", "link"), ("Site", "site"), ("Probe", "probe")];
                let one = [row["rtt_ms"].clone()];
                // Each packet of a burst counts.
                for packet in row["burst"].as_array().map_or(&one[..], Vec::as_slice) {
                    count(row, "PingSuccess", &names, f64::from(u8::from(packet.is_number())));
                    if let Some(rtt) = packet.as_f64() {
                        count(row, "PingLatency", &names, rtt);
                    }
                }
            }
            "tunnels" => {
                let tunnels = row["tunnels"].as_array().unwrap();
                let up = tunnels.iter().filter(|tunnel| tunnel["up"] == true).count();
                if !tunnels.is_empty() {
                    count(row, "TunnelsUp", &[("Link", "link"), ("Vpn", "vpn")], up as f64);
                }
            }
            "collection" if is_put(row.get("source")) => {
                let names = [("Site", "site"), ("Source", "source")];
                count(row, "CollectionSuccess", &names, f64::from(u8::from(row["ok"] == true)));
                count(row, "CollectionLatency", &names, row["took_ms"].as_f64().unwrap());
            }
            _ => {}
        }
    }
    windows
}

/// The windows that the publisher would have made of the collectors' journals, those that go to CloudWatch.
fn twin(world: &World) -> BTreeMap<Window, Statistics> {
    let journals = world.journals();
    let replayed =
        world.tool(&["replay", "--metrics", "--format", "jsonl", "--journal", journals.to_str().unwrap()]);
    let mut windows = BTreeMap::new();
    for row in json_lines(&replayed) {
        if !is_put(row["dimensions"].get("Source")) {
            continue;
        }
        let value = |field: &str| row[field].as_f64().unwrap();
        let statistics = Statistics {
            count: row["count"].as_u64().unwrap(),
            minimum: Some(millionths(value("minimum"))),
            maximum: Some(millionths(value("maximum"))),
            average: value("average") * 1e6,
            percentiles: ["p50", "p90", "p95", "p99"].map(|of| Some(millionths(value(of)))).to_vec(),
        };
        let window =
            Window { metric: text(&row["metric"]), dimensions: dimensions(&row), start: time(&row["start"]) };
        assert!(windows.insert(window, statistics).is_none(), "made twice: {row}");
    }
    windows
}

/// Of the sources, those of EC2 go to CloudWatch unless the config says otherwise.
fn is_put(source: Option<&Value>) -> bool {
    source.is_none_or(|source| text(source).starts_with("ec2:"))
}

fn dimensions(row: &Value) -> BTreeMap<String, String> {
    let dimensions = row["dimensions"].as_object().unwrap();
    dimensions.iter().map(|(name, value)| (name.clone(), text(value))).collect()
}

/// What CloudWatch was given of a window, put together: it adds up what is put for the same time.
#[derive(Default)]
struct Put {
    /// When: one for each request.
    times: BTreeSet<Timestamp>,
    samples: Samples,
}

fn put(world: &World) -> BTreeMap<Window, Put> {
    let mut windows: BTreeMap<Window, Put> = BTreeMap::new();
    for metric in METRICS {
        for point in world.list(&format!("/datapoints?metric={metric}")) {
            let window = Window {
                metric: metric.to_owned(),
                dimensions: dimensions(&point),
                start: time(&point["at"]),
            };
            let Put { times, samples } = windows.entry(window).or_default();
            times.insert(time(&point["received_at"]));
            let numbers = |field: &str| point[field].as_array().unwrap().clone();
            for (value, count) in numbers("values").iter().zip(numbers("counts")) {
                *samples.entry(millionths(value.as_f64().unwrap())).or_default() +=
                    count.as_f64().unwrap() as u64;
            }
        }
    }
    windows
}

fn millionths(value: f64) -> i64 {
    (value * 1e6).round() as i64
}

fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

pub(crate) fn time(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}
