//! An explanation in words, on a page of its own or as a part of another.

use crosswatch_explain::{Explanation, words};
use crosswatch_shared::time::Timestamp;
use maud::{Markup, html};

use super::{Frame, page};

/// The explanation, or why there is none.
pub(crate) fn why(explained: &Result<Explanation, String>) -> Markup {
    html! {
        section aria-labelledby="h-why" {
            h2 #h-why { "Why" }
            @match explained {
                Ok(explanation) => div.scroll tabindex="0" role="region" aria-label="Explanation" { pre { (words(explanation)) } },
                Err(problem) => p { (problem) },
            }
        }
    }
}

/// The page that asks for a name and a moment, and explains it.
pub(crate) fn explain(
    asked: &str,
    at: Option<Timestamp>,
    explained: Option<&Result<Explanation, String>>,
) -> String {
    let at = at.map(|at| at.to_string());
    let main = html! {
        h1 { "Why it pages, or why not" }
        form method="get" action="/explain" {
            label for="of" { "Link, subject or incident" }
            input #of name="of" value=(asked) required;
            label for="at" { "At, UTC; nothing for now" }
            input #at name="at" value=[at] placeholder="2026-11-22T07:00:00Z";
            button type="submit" { "Explain" }
        }
        @if let Some(explained) = explained { (why(explained)) }
    };
    page(&Frame { title: "Why", version: 0, refresh: 0 }, &main)
}
