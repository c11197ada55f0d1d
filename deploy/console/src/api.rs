//! The interface for programs, `/api/v1`: what the pages show, as JSON. docs/page.md describes it.

use std::sync::Arc;

use crosswatch_shared::time::Timestamp;
use hyper::{Response, StatusCode};
use serde::Serialize;
use serde_json::json;

use crate::drawing;
use crate::graph::Span;
use crate::history::{Cell, Key};
use crate::site::{Answer, Body, Failure, Site, get, typed};
use crate::window::Window;
use crosswatch_alerter::story::Incident;

/// How many incidents are told at most.
const INCIDENTS: usize = 1_000;

/// What was seen of a probe within a span of time.
#[derive(Serialize)]
struct Series {
    link: String,
    site: String,
    probe: String,
    from: Timestamp,
    to: Timestamp,
    /// A point's length in seconds.
    step_s: u64,
    points: Vec<Point>,
}

/// What was seen within a step; steps in which nothing was seen are left out.
#[derive(Serialize)]
struct Point {
    at: Timestamp,
    replies: u64,
    lost: u32,
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

/// Answers what is below `/api/v1`.
pub(crate) async fn answer(site: &Arc<Site>, path: &[&str], query: &str) -> Answer {
    let query = query.to_owned();
    match path {
        ["state"] => site.draw(|_, snapshot, _| json_of(&snapshot.overview)).await,
        ["incidents"] => {
            site.draw(move |site, _, now| {
                let window = Window::of_query(&query, now);
                let link = get(&query, "link");
                let (from, to) = (window.from(), window.to());
                let found =
                    site.alerter.incidents(from, to, link.as_deref(), INCIDENTS).map_err(Failure::Broken)?;
                json_of::<Vec<Incident>>(&found)
            })
            .await
        }
        ["incidents", id] => {
            let id = (*id).to_owned();
            site.draw(move |site, _, _| match site.alerter.story(&id).map_err(Failure::Broken)? {
                Some(story) => json_of(&story),
                None => Err(Failure::NotFound("there is no such incident".to_owned())),
            })
            .await
        }
        ["series"] => site.draw(move |site, _, now| series(site, &query, now)).await,
        _ => Err(Failure::NotFound("there is no such thing in this interface; see docs/page.md".to_owned())),
    }
}

/// The probes of a link, or those of a site or name.
fn series(site: &Site, query: &str, now: Timestamp) -> Answer {
    let name = get(query, "link").ok_or(Failure::NotFound("name a link: ?link=NAME".to_owned()))?;
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

fn json_of<T: Serialize>(value: &T) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| Failure::Broken(error.to_string()))?;
    Ok(typed(StatusCode::OK, "application/json", text))
}

/// Why there is no answer, as JSON.
pub(crate) fn problem(status: StatusCode, words: &str) -> Response<Body> {
    typed(status, "application/json", json!({ "error": words }).to_string())
}
