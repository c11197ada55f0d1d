//! `/api/v1/series`: what was seen of a link's probes.

use crosswatch_shared::time::Timestamp;
use schemars::JsonSchema;
use serde::Serialize;

use super::{Asked, json_of};
use crate::drawing;
use crate::follow::Snapshot;
use crate::graph::Span;
use crate::history::{Cell, Key};
use crate::site::{Answer, Failure, Site, get};
use crate::window::Window;

/// What was seen of a probe within a span of time.
#[derive(Serialize, JsonSchema)]
pub(super) struct Series {
    link: String,
    site: String,
    probe: String,
    from: Timestamp,
    to: Timestamp,
    /// A point's length in seconds.
    step_s: u64,
    points: Vec<Point>,
}

/// What was seen within a step; steps in which nothing was seen are left out. Times are milliseconds.
#[derive(Serialize, JsonSchema)]
struct Point {
    /// The step's beginning.
    at: Timestamp,
    replies: u64,
    lost: u32,
    /// Lost by the fault of the machine that measures, and no loss of the link.
    local: u32,
    p5_ms: Option<f64>,
    p25_ms: Option<f64>,
    p50_ms: Option<f64>,
    p75_ms: Option<f64>,
    p95_ms: Option<f64>,
    p99_ms: Option<f64>,
}

impl Point {
    fn of((at, cell): (Timestamp, Cell)) -> Self {
        let part = |part| cell.replies.quantile(part);
        Self {
            at,
            replies: cell.replies.count(),
            lost: cell.lost,
            local: cell.local,
            p5_ms: part(0.05),
            p25_ms: part(0.25),
            p50_ms: part(0.5),
            p75_ms: part(0.75),
            p95_ms: part(0.95),
            p99_ms: part(0.99),
        }
    }
}

/// The probes of a link, or those of a site or name.
pub(super) fn answer(site: &Site, _: &Snapshot, now: Timestamp, asked: &Asked) -> Answer {
    let query = &asked.query;
    let name = get(query, "link").unwrap_or_default();
    let (of_site, of_probe) = (get(query, "site"), get(query, "probe"));
    let window = Window::of_query(query, now);
    let span = Span::new(window.from(), window.to(), now);
    let history = site.history()?;
    let is_asked = |(_, from, probe): &Key| {
        of_site.as_deref().is_none_or(|of| of == &**from)
            && of_probe.as_deref().is_none_or(|of| of == &**probe)
    };
    let keys = drawing::probes(site.link_named(&name)?).into_iter().map(|(key, _)| key).filter(is_asked);
    let series = keys.map(|key| {
        let bins = drawing::bins(history.as_ref(), &key, &span)
            .map_err(|error| Failure::Broken(error.to_string()))?;
        let (link, site, probe) = key;
        Ok(Series {
            link: link.to_string(),
            site: site.to_string(),
            probe: probe.to_string(),
            from: span.from,
            to: span.to,
            step_s: span.step.as_secs(),
            points: bins.into_iter().map(Point::of).collect(),
        })
    });
    json_of(&series.collect::<Result<Vec<_>, _>>()?)
}
