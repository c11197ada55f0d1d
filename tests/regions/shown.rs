//! What CloudWatch was given while faults came and went, held against what docs/incidents.md says of them. That it is what was
//! observed, to each sample, is held by the books.

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::books::time;
use crate::table::{Row, Seen, Series, Shows};
use crate::world::World;

/// The length of a window.
pub(crate) const WINDOW: Duration = Duration::from_secs(10);
/// A probe that was under way when something broke may fare as if nothing had.
const ON_ITS_WAY: Duration = Duration::from_secs(1);
/// How long after its end a fault may still be seen: tunnels are asked for every ten seconds, and what AWS tells of them follows
/// theirs within two.
const AFTERWARDS: Duration = Duration::from_secs(12);

/// The metrics that are looked at, each with what is seen of it while nothing is broken.
const METRICS: [(&str, Option<(f64, f64)>); 5] = [
    // A machine that stands still for a second loses what was under way.
    ("PingSuccess", Some((0.6, 1.0))),
    ("PingLatency", Some((80.0, 200.0))),
    ("TunnelsUp", Some((2.0, 2.0))),
    ("CollectionSuccess", Some((1.0, 1.0))),
    ("PipelineDelay", None),
];

/// The average of each window of each series; of round trips the shortest, for a busy machine makes them longer.
type Put = BTreeMap<Series, BTreeMap<Timestamp, f64>>;

/// A fault that was, and when.
pub(crate) struct Episode<'a> {
    pub(crate) row: &'a Row,
    pub(crate) begun: Timestamp,
    /// When healing began.
    pub(crate) over: Timestamp,
    /// When it was done.
    pub(crate) healed: Timestamp,
}

impl Episode<'_> {
    /// The windows in which something of it may be seen.
    fn touches(&self, window: Timestamp) -> bool {
        self.begun.floor(WINDOW) <= window && window <= self.healed + AFTERWARDS
    }

    /// The windows in which nothing else can be.
    fn spans(&self, window: Timestamp) -> bool {
        self.begun + ON_ITS_WAY <= window && window + WINDOW <= self.over
    }
}

fn put(world: &World) -> Put {
    let mut put = Put::new();
    for (metric, _) in METRICS {
        let mut samples: BTreeMap<Series, BTreeMap<Timestamp, Vec<(f64, f64)>>> = BTreeMap::new();
        for point in world.list(&format!("/datapoints?metric={metric}")) {
            let window =
                samples.entry(Series::of(&point)).or_default().entry(time(&point["at"])).or_default();
            let numbers = |field: &str| -> Vec<f64> {
                point[field].as_array().unwrap().iter().map(|value| value.as_f64().unwrap()).collect()
            };
            // CloudWatch adds up what is put for the same time.
            for (value, count) in numbers("values").iter().zip(numbers("counts")) {
                window.push((*value, count));
            }
        }
        for (series, windows) in samples {
            let shown = windows.into_iter().map(|(at, samples)| {
                let count: f64 = samples.iter().map(|(_, count)| count).sum();
                let sum: f64 = samples.iter().map(|(value, count)| value * count).sum();
                let least = samples.iter().map(|(value, _)| *value).fold(f64::INFINITY, f64::min);
                (at, if metric == "PingLatency" { least } else { sum / count })
            });
            put.insert(series, shown.collect());
        }
    }
    put
}

/// Whether each entry of the row that says what is seen is shown by now, by each series that it is about, in a window in which there
/// was nothing but the fault since `begun`.
pub(crate) fn shows_by_now(world: &World, row: &Row, begun: Timestamp) -> bool {
    let put = put(world);
    row.shows.iter().all(|shows| {
        let Seen::Average(from, to) = shows.seen else { return true };
        let shown = |windows: &BTreeMap<Timestamp, f64>| {
            windows.range(begun + ON_ITS_WAY..).any(|(_, average)| (from..=to).contains(average))
        };
        let mut about = put.iter().filter(|(series, _)| shows.is_about(series)).peekable();
        about.peek().is_some()
            && about.all(|(series, windows)| !is_expected(row, shows, series) || shown(windows))
    })
}

/// Whether a series is to show what an entry says while the fault lasts: not where it comes late, and of what there is once a
/// minute only where it is named.
fn is_expected(row: &Row, shows: &Shows, series: &Series) -> bool {
    !row.is_late(series) && (!series.is_sparse() || shows.is_sparse())
}

/// Nothing is there by now of what comes late, or never, while a fault lasts since `begun`.
pub(crate) fn assert_nothing_of_the_late(world: &World, row: &Row, begun: Timestamp) {
    for (series, windows) in put(world) {
        if row.is_late(&series) || row.seen_of(&series) == Some(Seen::Nothing) {
            let there: Vec<_> = windows.range(begun + WINDOW..).collect();
            assert!(there.is_empty(), "{:?}: {series:?}: {there:?}", row.faults);
        }
    }
}

/// All that was put from the first fault until `end` is as the rows say of the time of their faults, and as usual otherwise.
pub(crate) fn assert_right(world: &World, episodes: &[Episode<'_>], end: Timestamp) {
    let put = put(world);
    let first = episodes.first().unwrap().begun.floor(WINDOW);
    let mut wrong = Vec::new();
    for (series, windows) in &put {
        let usual = METRICS.iter().find(|(metric, _)| *metric == series.metric).unwrap().1;
        for (window, average) in windows.range(first..end) {
            let of_faults = episodes.iter().any(|of| of.touches(*window) && of.row.seen_of(series).is_some());
            // The shortest of one is what a busy machine made of it.
            let has_shortest = series.metric != "PingLatency" || !series.is_sparse();
            let is_usual =
                usual.is_none_or(|(from, to)| from <= *average && (*average <= to || !has_shortest));
            if !of_faults && !is_usual {
                wrong.push(format!("{series:?} at {window}: {average}, while nothing of it was broken"));
            }
        }
    }
    for episode in episodes {
        let Episode { row, begun, over, .. } = episode;
        for (series, windows) in &put {
            let mut within = windows.range(begun.floor(WINDOW)..*over).filter(|(at, _)| episode.spans(**at));
            match row.seen_of(series) {
                None => {}
                Some(Seen::Nothing | Seen::Late) => wrong.extend(within.next().map(|(window, average)| {
                    format!("{:?}: {series:?} at {window}: {average}, and there should be none", row.faults)
                })),
                // It may take its time until it is seen; from then on it is seen to the end.
                Some(Seen::Average(from, to)) => {
                    let is_shown = |average: &f64| (from..=to).contains(average);
                    let mut shown = within.skip_while(|(_, average)| !is_shown(average)).peekable();
                    if shown.peek().is_none() && !series.is_sparse() {
                        wrong.push(format!("{:?}: {series:?} never shows {from} to {to}", row.faults));
                    }
                    wrong.extend(shown.find(|(_, average)| !is_shown(average)).map(|(window, average)| {
                        format!("{:?}: {series:?} at {window}: {average} after {from} to {to}", row.faults)
                    }));
                }
            }
            // Of delays there is one a batch, and what waited comes in few.
            let may_lack = series.metric == "PipelineDelay";
            if row.is_late(series) && row.seen_of(series).is_none() && !may_lack {
                let there = windows.range(*begun..*over).filter(|(at, _)| episode.spans(**at)).count();
                if there == 0 {
                    wrong.push(format!("{:?}: {series:?} did not come late, but never", row.faults));
                }
            }
        }
    }
    assert!(wrong.is_empty(), "{} of the metrics: {:#?}", wrong.len(), &wrong[..wrong.len().min(20)]);
}
