//! An incident: what happened when, why, and what was told to whom.

use crosswatch_shared::time::Timestamp;
use maud::{Markup, html};

use super::{Frame, href, page, table, why_href};
use crate::text::{moment, spell};
use crosswatch_alerter::story::{Incident, Notice, Story};

/// An incident's page.
pub(crate) fn incident(story: &Story, version: u64, now: Timestamp) -> String {
    let of = &story.incident;
    let title = format!("{} {}", of.verdict, of.place);
    let lasted = of.resolved_at.unwrap_or(now).since(of.opened_at);
    let main = html! {
        h1 { (of.verdict) " " (of.place) }
        p role="status" {
            strong { @if of.resolved_at.is_some() { "Over after " } @else { "Firing for " } (spell(lasted)) }
            ": " (of.summary)
        }
        @if !of.link.is_empty() { p { a href=(around(of, now)) { "The link's graphs around it" } } }
        @if let Some(silence) = &of.muted { p { "Nobody was told: muted by " (silence) "." } }
        p {
            a href=(why_href(&of.id, None)) { "Why it paged, or why not" } ", "
            a href={ "/incident/" (of.id) "/report" } { "the report, as a file to keep" }
        }
        (timeline(story))
        (captured(&story.evidence))
        (told(&story.told))
    };
    page(&Frame { title: &title, version, refresh: if of.resolved_at.is_none() { 10 } else { 0 } }, &main)
}

/// The link at the time of the incident, with an hour on both sides.
fn around(of: &Incident, now: Timestamp) -> String {
    let hour = std::time::Duration::from_secs(3_600);
    let second = |at: Timestamp| at.as_micros().div_euclid(1_000_000);
    let to = (of.resolved_at.unwrap_or(now) + hour).min(now.max(of.opened_at + hour));
    format!("{}?from={}&to={}", href(&of.link), second(of.opened_at - hour), second(to))
}

fn timeline(story: &Story) -> Markup {
    let of = &story.incident;
    let mut lines: Vec<(Timestamp, u8, Markup)> = Vec::new();
    for symptom in &of.symptoms {
        lines.push((
            symptom.fired_at,
            0,
            html! { strong { (symptom.rule) } " fires for " (symptom.subject) ": " (symptom.reason) },
        ));
        if let Some(at) = symptom.resolved_at {
            let why = symptom.resolved_reason.as_deref().unwrap_or_default();
            lines.push((
                at,
                2,
                html! { strong { (symptom.rule) } " is over for " (symptom.subject) ": " (why) },
            ));
        }
    }
    for notice in &story.told {
        if let Some(at) = notice.accepted_at {
            let line = html! { (notice.receiver) " was told " em { (notice.state) } " by " (notice.channel) };
            lines.push((at, 1, line));
        }
    }
    if let Some(at) = of.resolved_at {
        lines.push((at, 3, html! { strong { "The incident is over" } ": " (of.resolved_reason.as_deref().unwrap_or_default()) }));
    }
    lines.sort_by_key(|(at, rank, _)| (*at, *rank));
    html! {
        section aria-labelledby="h-timeline" {
            h2 #h-timeline { "Timeline" }
            ol.timeline { @for (at, _, line) in lines { li { time datetime=(at) { (at.to_string().replace('T', " ")) } " " (line) } } }
        }
    }
}

/// What was captured of its probes, as it was told last.
fn captured(evidence: &[String]) -> Markup {
    html! {
        @if !evidence.is_empty() {
            section aria-labelledby="h-evidence" {
                h2 #h-evidence { "Evidence" }
                ul.evidence { @for line in evidence { li { (line) } } }
            }
        }
    }
}

fn told(notices: &[Notice]) -> Markup {
    let rows = html! {
        @for of in notices {
            tr {
                th scope="row" { (of.receiver) " " small { (of.channel) @if of.is_digest { " digest" } } }
                td { (of.state) @if of.revision > 0 { " (" (of.revision + 1) ")" } }
                td { time datetime=(of.created) { (moment(of.created)) } }
                td {
                    @match of.accepted_at {
                        Some(at) => time datetime=(at) { (moment(at)) },
                        None => { (of.standing) @if let Some(error) = &of.error { ": " (error) } }
                    }
                }
                td { (of.attempts) }
                td { (of.text) }
            }
        }
    };
    html! {
        section aria-labelledby="h-told" {
            h2 #h-told { "Who was told" }
            @if notices.is_empty() { p { "Nobody: its rules tell no receiver." } }
            @else { (table("Notifications", &["Receiver", "What", "Written", "Accepted", "Tries", "Text"], &rows)) }
        }
    }
}
