//! The pages, as HTML. Pure: what is shown and the time are arguments; nothing in them is markup but what stands here.

mod evidence;
pub(crate) mod explain;
pub(crate) mod incident;
pub(crate) mod link;
pub(crate) mod overview;
#[cfg(test)]
mod tests;

use crosswatch_shared::time::Timestamp;
use maud::{DOCTYPE, Markup, html};

use crate::state::State;
use crate::text::{harmless, moment};
use crosswatch_alerter::story::Incident;

/// What is around a page.
pub(crate) struct Frame<'a> {
    pub(crate) title: &'a str,
    /// The how manieth state it shows, which a live page compares.
    pub(crate) version: u64,
    /// How often a page without JavaScript reads itself anew; 0 for one that does not change.
    pub(crate) refresh: u32,
}

/// A whole page; what would change how other text is shown is taken out, wherever it came from.
pub(crate) fn page(frame: &Frame<'_>, main: &Markup) -> String {
    let page = html! {
        (DOCTYPE)
        html lang="en" {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="color-scheme" content="light dark";
                title { (frame.title) " – Crosswatch" }
                link rel="icon" href="/assets/icon.svg" type="image/svg+xml";
                link rel="stylesheet" href="/assets/page.css";
                script src="/assets/page.js" defer {}
                @if frame.refresh > 0 {
                    noscript { meta http-equiv="refresh" content=(frame.refresh); }
                }
            }
            body {
                a.skip href="#main" { "To the content" }
                header {
                    nav aria-label="Pages" {
                        a.brand href="/" { "Crosswatch" }
                        a href="/" { "Overview" }
                        a href="/incidents" { "Incidents" }
                        a href="/explain" { "Why" }
                    }
                    p #live hidden { "live" }
                }
                main #main tabindex="-1" data-version=(frame.version) data-live=[(frame.refresh > 0).then_some("1")] { (main) }
            }
        }
    };
    harmless(&page.into_string())
}

/// A page that says one thing.
pub(crate) fn note(title: &str, words: &str) -> String {
    let main = html! { h1 { (title) } p { (words) } p { a href="/" { "Overview" } } };
    page(&Frame { title, version: 0, refresh: 0 }, &main)
}

/// Asks for the token.
pub(crate) fn login(problem: Option<&str>) -> String {
    let main = html! {
        h1 { "Token" }
        p { "This page shows how the network is made. Enter the token that stands in the file of " code { "[page] token_file" } "." }
        @if let Some(problem) = problem { p.problem role="alert" { (problem) } }
        form method="post" action="/login" {
            label for="token" { "Token" }
            input #token name="token" type="password" autocomplete="current-password" required;
            button type="submit" { "Enter" }
        }
    };
    page(&Frame { title: "Token", version: 0, refresh: 0 }, &main)
}

/// A state is told by colour, sign and word.
const fn sign(state: State) -> &'static str {
    match state {
        State::Down => "✕",
        State::Degraded => "!",
        State::Silent => "…",
        State::Unknown => "?",
        State::Up => "✓",
    }
}

fn badge(state: State) -> Markup {
    html! { span class={ "badge " (state.word()) } { span aria-hidden="true" { (sign(state)) } " " (state.word()) } }
}

/// A table under these headings. Where it is wider than the page it is scrolled by itself, by the keyboard, too.
fn table(label: &str, headings: &[&str], rows: &Markup) -> Markup {
    html! {
        div.scroll tabindex="0" role="region" aria-label=(label) {
            table.links {
                thead { tr { @for heading in headings { th scope="col" { (heading) } } } }
                tbody { (rows) }
            }
        }
    }
}

/// A link's page; its name is part of a path.
fn href(link: &str) -> String {
    let encoded: String = form_urlencoded::byte_serialize(link.as_bytes()).collect();
    // A plus is a plus in a path.
    format!("/link/{}", encoded.replace('+', "%20"))
}

/// The explanation of something at a moment.
fn why_href(asked: &str, at: Option<Timestamp>) -> String {
    let mut query = form_urlencoded::Serializer::for_suffix("/explain?".to_owned(), "/explain?".len());
    query.append_pair("of", asked);
    if let Some(at) = at {
        query.append_pair("at", &at.to_string());
    }
    query.finish()
}

/// An incident in a list.
fn incident_line(of: &Incident) -> Markup {
    html! {
        li class=(if of.resolved_at.is_some() { "over" } else { "open" }) {
            a href={ "/incident/" (of.id) } { strong { (of.verdict) } " " (of.place) }
            " " span { (of.summary) } " "
            small {
                "since " time datetime=(of.opened_at) { (moment(of.opened_at)) }
                @if let Some(at) = of.resolved_at { ", over at " time datetime=(at) { (moment(at)) } }
                @if let Some(silence) = &of.muted { ", muted: " (silence) }
            }
        }
    }
}
