//! The interface for programs, `/api/v1`: what the pages show, as JSON. [`ROUTES`] is all of it: what is answered, and what its
//! description in OpenAPI says, are both made of that.

mod openapi;
mod series;

use std::sync::Arc;

use crosswatch_alerter::story::{Incident, Story};
use crosswatch_explain::Explanation;
use crosswatch_shared::time::Timestamp;
use hyper::{Response, StatusCode};
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::Serialize;
use serde_json::json;

use crate::follow::Snapshot;
use crate::judged::Unexplained;
use crate::site::{Answer, Body, Failure, Site, decoded, get, typed};
use crate::state::Overview;
use crate::window::Window;
use series::Series;

/// How many incidents are told at most.
const INCIDENTS: usize = 1_000;

/// What can be asked for.
struct Route {
    /// A part in braces stands for any.
    path: &'static str,
    about: &'static str,
    takes: &'static [Parameter],
    gives: fn(&mut SchemaGenerator) -> Schema,
    answer: fn(&Site, &Snapshot, Timestamp, &Asked) -> Answer,
    /// Whether it may take seconds.
    slow: bool,
}

impl Route {
    /// What is wrong with the names of what was told with a question.
    fn wrong(&self, query: &str) -> Option<String> {
        let told: Vec<String> =
            form_urlencoded::parse(query.as_bytes()).map(|(name, _)| name.into_owned()).collect();
        let of_query = |of: &&Parameter| !self.path.contains(&format!("{{{}}}", of.name));
        let takes = || self.takes.iter().filter(of_query);
        let strange = told.iter().find(|name| takes().all(|of| of.name != **name));
        let missing = takes().find(|of| of.needed && told.iter().all(|name| name != of.name));
        if let Some(of) = missing {
            return Some(format!("the parameter '{}' is missing: {}", of.name, of.about));
        }
        let names: Vec<String> = takes().map(|of| format!("'{}'", of.name)).collect();
        let names = if names.is_empty() { "none".to_owned() } else { names.join(", ") };
        strange.map(|name| format!("there is no parameter '{name}': this takes {names}"))
    }
}

/// What is told with a question.
struct Parameter {
    name: &'static str,
    about: &'static str,
    needed: bool,
}

/// What was asked.
struct Asked {
    /// What stands for the path's part in braces.
    part: String,
    query: String,
}

const LINK: Parameter = Parameter { name: "link", about: "A link's name.", needed: false };
const RANGE: Parameter = Parameter {
    name: "range",
    about: "A span that ends now: 1h, 6h, 24h, 7d, 30d, 90d or 1y; without it and from and to, 6h.",
    needed: false,
};
const FROM: Parameter = Parameter {
    name: "from",
    about: "The span's beginning, in seconds since the Unix epoch or as RFC 3339, with to.",
    needed: false,
};
const TO: Parameter = Parameter { name: "to", about: "The span's end, likewise.", needed: false };

const ROUTES: [Route; 6] = [
    Route {
        path: "/state",
        about: "Everything as the overview shows it: sites, links by trouble, directions, probes, open incidents, silences.",
        takes: &[],
        gives: of::<Overview>,
        answer: |_, snapshot, _, _| json_of(&snapshot.overview),
        slow: false,
    },
    Route {
        path: "/incidents",
        about: "The incidents that were open at some time of a span, the newest first, 1,000 at most.",
        takes: &[RANGE, FROM, TO, LINK],
        gives: of::<Vec<Incident>>,
        answer: incidents,
        slow: false,
    },
    Route {
        path: "/incidents/{id}",
        about: "An incident, with all that was told of it.",
        takes: &[Parameter { name: "id", about: "Its id.", needed: true }],
        gives: of::<Story>,
        answer: incident,
        slow: false,
    },
    Route {
        path: "/series",
        about: "What was seen of a link's probes: replies, losses and percentiles, step by step.",
        takes: &[
            Parameter { needed: true, ..LINK },
            RANGE,
            FROM,
            TO,
            Parameter { name: "site", about: "Of the probes of one site alone.", needed: false },
            Parameter { name: "probe", about: "Of one probe alone, by its name.", needed: false },
        ],
        gives: of::<Vec<Series>>,
        answer: series::answer,
        slow: false,
    },
    Route {
        path: "/explain",
        about: "Why something pages, or why not: datapoints, thresholds, baselines, silences, evidence, and who was told what.",
        takes: &[
            Parameter {
                name: "of",
                about: "A link, a rule's subject, or an incident's id or the beginning of one.",
                needed: true,
            },
            Parameter {
                name: "at",
                about: "A moment of the past as RFC 3339, which is judged anew from the journals and may take seconds; without it, now.",
                needed: false,
            },
        ],
        gives: of::<Explanation>,
        answer: explain,
        slow: true,
    },
    Route {
        path: "/openapi.json",
        about: "This description.",
        takes: &[],
        gives: of::<serde_json::Map<String, serde_json::Value>>,
        answer: |_, _, _, _| json_of(&openapi::document()),
        slow: false,
    },
];

/// Why there is no answer.
#[derive(Serialize, JsonSchema)]
struct Problem {
    /// A sentence.
    error: String,
}

fn of<T: JsonSchema>(generator: &mut SchemaGenerator) -> Schema {
    generator.subschema_for::<T>()
}

/// Answers what is below `/api/v1`.
pub(crate) async fn answer(site: &Arc<Site>, path: &[&str], query: &str) -> Answer {
    let found = ROUTES.iter().find_map(|route| Some((route, bound(route.path, path)?)));
    let Some((route, part)) = found else {
        let words = "there is no such thing in this interface; /api/v1/openapi.json describes it";
        return Err(Failure::NotFound(words.to_owned()));
    };
    if let Some(words) = route.wrong(query) {
        return Err(Failure::NotFound(words));
    }
    let asked = Asked { part: decoded(part), query: query.to_owned() };
    let slots = if route.slow { &site.explaining } else { &site.drawing };
    site.work(slots, move |site, snapshot, now| (route.answer)(site, snapshot, now, &asked)).await
}

/// What stands for the part in braces, if the path is this one.
fn bound<'a>(template: &str, path: &[&'a str]) -> Option<&'a str> {
    let parts = template.split('/').skip(1);
    if parts.clone().count() != path.len() {
        return None;
    }
    let mut bound = "";
    for (part, given) in parts.zip(path) {
        if part.starts_with('{') {
            bound = given;
        } else if part != *given {
            return None;
        }
    }
    Some(bound)
}

fn incidents(site: &Site, _: &Snapshot, now: Timestamp, asked: &Asked) -> Answer {
    let window = Window::of_query(&asked.query, now);
    let link = get(&asked.query, "link");
    let found = site.alerter.incidents(window.from(), window.to(), link.as_deref(), INCIDENTS);
    json_of(&found.map_err(Failure::Broken)?)
}

fn incident(site: &Site, _: &Snapshot, _: Timestamp, asked: &Asked) -> Answer {
    match site.alerter.story(&asked.part).map_err(Failure::Broken)? {
        Some(story) => json_of(&story),
        None => Err(Failure::NotFound("there is no such incident".to_owned())),
    }
}

fn explain(site: &Site, _: &Snapshot, now: Timestamp, asked: &Asked) -> Answer {
    let of = get(&asked.query, "of").unwrap_or_default();
    let at = get(&asked.query, "at").map(|at| at.parse::<Timestamp>()).transpose();
    let at = at.map_err(|error| Failure::NotFound(error.to_string()))?;
    let explained = site.alerter.explain(&of, at, now).map_err(|failure| match failure {
        Unexplained::Asked(why) => Failure::NotFound(why),
        Unexplained::Broken(why) => Failure::Broken(why),
    });
    json_of(&explained?)
}

fn json_of<T: Serialize>(value: &T) -> Answer {
    let text = serde_json::to_vec(value).map_err(|error| Failure::Broken(error.to_string()))?;
    Ok(typed(StatusCode::OK, "application/json", text))
}

/// Why there is no answer, as JSON.
pub(crate) fn problem(status: StatusCode, words: &str) -> Response<Body> {
    typed(status, "application/json", json!(Problem { error: words.to_owned() }).to_string())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_parameter_that_is_missing_or_strange_is_named() {
        let route = |path| ROUTES.iter().find(|route| route.path == path).unwrap();
        assert_eq!(route("/explain").wrong("of=l&at=2026-11-28T00:00:00Z"), None);
        let missing = route("/explain").wrong("subject=l").unwrap();
        assert!(missing.starts_with("the parameter 'of' is missing: A link"), "{missing}");
        let strange = route("/incidents").wrong("range=1h&site=a").unwrap();
        assert_eq!(strange, "there is no parameter 'site': this takes 'range', 'from', 'to', 'link'");
        assert_eq!(route("/incidents/{id}").wrong(""), None);
        assert!(route("/state").wrong("id=3").is_some());
    }

    #[test]
    fn a_path_is_that_of_one_route() {
        let found = |path: &str| {
            let parts: Vec<&str> = path.split('/').collect();
            ROUTES.iter().filter(|route| bound(route.path, &parts).is_some()).count()
        };
        for path in ["state", "incidents", "incidents/x", "series", "explain", "openapi.json"] {
            assert_eq!(found(path), 1, "{path}");
        }
        for path in ["", "states", "incidents/x/y", "state/x"] {
            assert_eq!(found(path), 0, "{path}");
        }
        assert_eq!(bound("/incidents/{id}", &["incidents", "7"]), Some("7"));
    }
}
