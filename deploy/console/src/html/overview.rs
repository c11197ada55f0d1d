//! The overview: what fires first, then a matrix of the sites, then the links by trouble.

use std::collections::HashMap;

use maud::{Markup, html};

use super::{Frame, badge, href, incident_line, page, sign, table};
use crate::graph::milliseconds;
use crate::state::{Direction, LinkState, Overview, State};
use crate::text::{moment, spell};
use crosswatch_alerter::story::Incident;

/// How many links a page lists; the others are on the next.
pub(crate) const LINKS: usize = 200;
/// How many sites the matrix has at most, those with the worst links first.
const SITES: usize = 24;

/// The overview, with the links from this place on.
pub(crate) fn overview(of: &Overview, version: u64, from: usize) -> String {
    let main = html! {
        h1 #summary role="status" { (summary(of)) }
        p { small { "as of " time datetime=(of.at) { (moment(of.at)) } " UTC" } }
        @for problem in &of.problems { p.problem role="alert" { (problem) } }
        (incidents(of))
        (sites(of))
        (matrix(of))
        (links(of, from))
    };
    page(&Frame { title: &summary(of), version, refresh: 10 }, &main)
}

/// The incidents of the last days.
pub(crate) fn incidents_page(incidents: &[Incident], version: u64) -> String {
    let main = html! {
        h1 { "Incidents" }
        @if incidents.is_empty() { p { "There were none in the last 35 days." } }
        @else { ul.incidents { @for of in incidents { (incident_line(of)) } } }
    };
    page(&Frame { title: "Incidents", version, refresh: 10 }, &main)
}

/// One line: how many links are not up, and in which way.
fn summary(of: &Overview) -> String {
    let all = of.links.len();
    let count = |state| of.links.iter().filter(|link| link.state == state).count();
    let parts: Vec<String> = [State::Down, State::Degraded, State::Silent, State::Unknown]
        .into_iter()
        .map(|state| (count(state), state))
        .filter(|(count, _)| *count > 0)
        .map(|(count, state)| format!("{count} {}", state.word()))
        .collect();
    match (all, parts.is_empty()) {
        (0, _) => "No links are watched".to_owned(),
        (1, true) => "The link is up".to_owned(),
        (_, true) => format!("All {all} links are up"),
        _ => format!("{} of {all} links", parts.join(", ")),
    }
}

fn incidents(of: &Overview) -> Markup {
    html! {
        section aria-labelledby="h-incidents" {
            h2 #h-incidents { "Firing" }
            @match &of.judged {
                None => p { "No alerter has run here: nothing is judged." },
                Some(judged) => {
                    @if judged.incidents.is_empty() { p { "Nothing fires." } }
                    @else { ul.incidents { @for one in judged.incidents.iter().take(50) { (incident_line(one)) } } }
                    @if judged.incidents.len() > 50 { p { (judged.incidents.len() - 50) " more" } }
                    @if let Some((count, since)) = judged.owed {
                        @if of.at.since(since).as_secs() >= 2 {
                            p.problem { (count) " notifications are not delivered, the oldest for " (spell(of.at.since(since))) }
                        }
                    }
                }
            }
        }
    }
}

/// Sites from which nothing comes.
fn sites(of: &Overview) -> Markup {
    let quiet: Vec<_> = of.sites.iter().filter(|site| site.state != State::Up).collect();
    html! {
        @if !quiet.is_empty() {
            ul.sites {
                @for site in quiet {
                    li {
                        (badge(site.state)) " " (site.site) " "
                        @match site.heard_at {
                            Some(at) => small { "heard " (spell(of.at.since(at))) " ago" },
                            None => small { "never heard of" },
                        }
                    }
                }
            }
        }
    }
}

/// Sites by sites: a row measures, towards a column.
fn matrix(of: &Overview) -> Markup {
    let mut cells: HashMap<(&str, &str), (&LinkState, &Direction)> = HashMap::new();
    let mut order: Vec<&str> = Vec::new();
    // The worst links come first, and so do their sites.
    for link in &of.links {
        for direction in &link.directions {
            for site in [&*direction.from, &*direction.to] {
                if !order.contains(&site) && order.len() < SITES {
                    order.push(site);
                }
            }
            let cell = cells.entry((&direction.from, &direction.to)).or_insert((link, direction));
            if direction.state < cell.1.state {
                *cell = (link, direction);
            }
        }
    }
    // In the config's order, so that nothing moves while somebody looks.
    let order: Vec<&str> =
        of.sites.iter().map(|site| &*site.site).filter(|site| order.contains(site)).collect();
    html! {
        @if order.len() > 1 {
            section aria-labelledby="h-matrix" {
                h2 #h-matrix { "Sites" }
                div.scroll tabindex="0" role="region" aria-label="From each site to each site" {
                    table.matrix {
                        thead { tr { td { "from \\ to" } @for to in &order { th scope="col" { (to) } } } }
                        tbody {
                            @for from in &order {
                                tr {
                                    th scope="row" { (from) }
                                    @for to in &order {
                                        @match cells.get(&(*from, *to)) {
                                            Some((link, direction)) => (cell(link, direction)),
                                            None => td {},
                                        }
                                    }
                                }
                            }
                        }
                    }
                }
                @if of.sites.len() > order.len() { p { small { "The sites with the worst links, of " (of.sites.len()) "." } } }
            }
        }
    }
}

fn cell(link: &LinkState, direction: &Direction) -> Markup {
    let shade = direction.over_baseline.map_or(0, shade);
    let rtt = direction.rtt_ms.filter(|_| matches!(direction.state, State::Up | State::Degraded));
    html! {
        td class={ (direction.state.word()) " s" (shade) } {
            a href=(href(&link.link)) title={ (link.link) ": " (direction.state.word()) } {
                span aria-hidden="true" { (sign(direction.state)) }
                span.sr { (direction.state.word()) }
                @if let Some(rtt) = rtt { " " (milliseconds(rtt)) }
            }
        }
    }
}

/// How dark a cell is by how far the latency is over its baseline.
fn shade(over: f64) -> u8 {
    match over {
        ..1.2 => 0,
        ..1.5 => 1,
        ..2.0 => 2,
        ..3.0 => 3,
        _ => 4,
    }
}

fn links(of: &Overview, from: usize) -> Markup {
    let all = of.links.len();
    let from = from.min(all.saturating_sub(1) / LINKS * LINKS);
    let rows = html! { @for link in of.links.iter().skip(from).take(LINKS) { (row(link)) } };
    html! {
        section aria-labelledby="h-links" {
            h2 #h-links { "Links" }
            (table("Links", &["Link", "State", "What", "Directions", "Tunnels"], &rows))
            @if all > LINKS {
                nav aria-label="More links" {
                    (from + 1) " to " (all.min(from + LINKS)) " of " (all) " "
                    @if from > 0 { a href={ "/?from=" (from - LINKS) } { "worse" } " " }
                    @if from + LINKS < all { a href={ "/?from=" (from + LINKS) } { "better" } }
                }
            }
        }
    }
}

fn row(link: &LinkState) -> Markup {
    html! {
        tr {
            th scope="row" { a href=(href(&link.link)) { (link.link) } }
            td { (badge(link.state)) }
            td {
                @if let (Some(verdict), Some(incident)) = (&link.verdict, &link.incident) {
                    a href={ "/incident/" (incident) } { (verdict) }
                }
            }
            td {
                @for direction in &link.directions {
                    div { (direction.from) "→" (direction.to) " " (measured(direction)) }
                }
            }
            td {
                @for vpn in &link.vpns {
                    div class=(vpn.state.word()) { span aria-hidden="true" { (sign(vpn.state)) } " " (vpn.up) "/" (vpn.expected) }
                }
            }
        }
    }
}

/// In a few signs what a direction is like.
pub(super) fn measured(direction: &Direction) -> Markup {
    html! {
        span class={ "mark " (direction.state.word()) } { (sign(direction.state)) }
        @match direction.state {
            State::Silent | State::Unknown => { " " (direction.state.word()) }
            _ => {
                @if let Some(rtt) = direction.rtt_ms { " " (milliseconds(rtt)) }
                @if direction.loss > 0.0 { " " (format!("{:.0} % lost", direction.loss * 100.0)) }
            }
        }
    }
}
