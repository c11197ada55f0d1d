//! A link: its smoke graphs, one below the other on one time axis, and how each of its parts is.

use maud::{Markup, PreEscaped, html};

use super::evidence::evidence;
use super::explain::why;
use super::overview::measured;
use super::{Frame, badge, href, incident_line, page, table, why_href};
use crate::graph::{Span, milliseconds};
use crate::history::Captured;
use crate::state::{LinkState, ProbeState};
use crate::text::{moment, spell};
use crate::window::{RANGES, Window};
use crosswatch_alerter::story::Incident;
use crosswatch_explain::Explanation;

/// What a link's page is made of.
pub(crate) struct Shown<'a> {
    pub(crate) link: &'a LinkState,
    pub(crate) version: u64,
    pub(crate) window: Window,
    pub(crate) span: Span,
    /// As [`crate::graph::Graph::svg`] makes it, which escapes what it is given.
    pub(crate) svg: String,
    /// Those of the time shown.
    pub(crate) incidents: &'a [Incident],
    /// What was captured in it, the newest first.
    pub(crate) evidence: &'a [Captured],
    /// How many bundles are shown at most.
    pub(crate) bundles: usize,
    /// Why the link pages, or why not, or why that cannot be told; nothing for a time that is over.
    pub(crate) why: Option<&'a Result<Explanation, String>>,
}

/// A link's page.
pub(crate) fn link(shown: &Shown<'_>) -> String {
    let Shown { link, window, span, .. } = shown;
    let path = href(&link.link);
    let main = html! {
        h1 { (link.link) " " (badge(link.state)) }
        @if let (Some(verdict), Some(summary), Some(incident)) = (&link.verdict, &link.summary, &link.incident) {
            p role="status" { a href={ "/incident/" (incident) } { strong { (verdict) } } " " (summary) }
        }
        (ranges(&path, window))
        p { small { (moment(span.from)) " to " (moment(span.to)) " UTC, " (spell(span.step)) " a column" } }
        div.scroll.graphs tabindex="0" role="region" aria-label="Graphs" { (PreEscaped(&shown.svg)) }
        p.legend {
            small {
                "Line: median. Bands: the middle half, and 5 % to 95 %. Loss: "
                span.k0 { "■ none" } " " span.k1 { "■ to 2 %" } " " span.k2 { "■ to 10 %" } " " span.k3 { "■ to 50 %" } " "
                span.k4 { "■ more" } ". Hatched: nothing was seen. Drag over the graph to zoom. "
                "As a file: "
                a href={ "/graph/" (path.trim_start_matches("/link/")) ".svg?" (window.query()) } { "SVG" } ", "
                a href={ "/graph/" (path.trim_start_matches("/link/")) ".png?" (window.query()) } { "PNG" }
            }
        }
        (parts(link))
        section aria-labelledby="h-incidents" {
            h2 #h-incidents { "Incidents" }
            @if shown.incidents.is_empty() { p { "None in this time." } }
            @else { ul.incidents { @for of in shown.incidents { (incident_line(of)) } } }
        }
        (evidence(shown.evidence, shown.bundles))
        @match shown.why {
            Some(explained) => (why(explained)),
            None => p { a href=(why_href(&link.link, Some(span.to))) { "Why it paged then, or why not" } },
        }
    };
    let refresh = if window.is_live() { 10 } else { 0 };
    page(&Frame { title: &link.link, version: shown.version, refresh }, &main)
}

fn ranges(path: &str, window: &Window) -> Markup {
    html! {
        nav.ranges aria-label="Time" {
            @for (word, _) in RANGES {
                a href={ (path) "?range=" (word) } aria-current=[(window.word() == Some(word)).then_some("true")] { (word) }
            }
            @for (word, other) in window.moved() {
                a href={ (path) "?" (other.query()) } { (word) }
            }
        }
    }
}

fn parts(link: &LinkState) -> Markup {
    let rows = html! {
        @for direction in &link.directions {
            tr { th colspan="6" scope="rowgroup" { (direction.from) "→" (direction.to) " " (measured(direction)) } }
            @for probe in &direction.probes { (probe_row(probe)) }
        }
        @for vpn in &link.vpns {
            tr {
                th scope="row" { (vpn.vpn) } td { (badge(vpn.state)) }
                td colspan="3" { (vpn.up) " tunnels up, " (vpn.expected) " expected" }
                td { @if let Some(at) = vpn.last_at { "polled " (moment(at)) } @else { "not polled yet" } }
            }
        }
    };
    html! {
        section aria-labelledby="h-now" {
            h2 #h-now { "Now" }
            (table("Probes and tunnels", &["Probe", "State", "Median", "Usual", "Lost", "Since"], &rows))
        }
    }
}

fn probe_row(probe: &ProbeState) -> Markup {
    html! {
        tr {
            th scope="row" { (probe.probe) }
            td { (badge(probe.state)) }
            td { @if let Some(rtt) = probe.rtt_ms { (milliseconds(rtt)) } }
            td { @if let Some(rtt) = probe.baseline_ms { (milliseconds(rtt)) } }
            td { (format!("{:.0} %", probe.loss * 100.0)) @if let Some(lost) = probe.lost { " " (lost) } }
            td { @if let Some(since) = probe.since { time datetime=(since) { (moment(since)) } } }
        }
    }
}
