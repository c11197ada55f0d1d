//! What the alerter sends over HTTP: to webhooks, and to a dead-man service. No error of it names an address, whose rest
//! is often a secret.

use std::error::Error as _;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use reqwest::header::{DATE, HeaderMap, RETRY_AFTER};
use reqwest::redirect::Policy;
use reqwest::{Client, Response, StatusCode, Url};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// The longest that somebody may ask to be left alone: a page is not held back longer than between two tries.
const LONGEST_REST: Duration = Duration::from_secs(60);

/// A client whose requests end `within` a time. Otherwise what is wrong.
pub(crate) fn client(within: Duration) -> Result<Client, String> {
    // Whoever was first has it; only one is there to be had.
    let _ = rustls::crypto::ring::default_provider().install_default();
    Client::builder()
        .user_agent(concat!("crosswatch/", env!("CARGO_PKG_VERSION")))
        .timeout(within)
        .connect_timeout(CONNECT.min(within))
        .redirect(same_host())
        .build()
        .map_err(because)
}

/// A URL, or what is wrong with it.
pub(crate) fn url(text: &str) -> Result<Url, String> {
    Url::parse(text).map_err(|error| error.to_string())
}

/// The start of what somebody answered, of about `most` bytes.
pub(crate) async fn start_of(mut answer: Response, most: usize) -> Vec<u8> {
    let mut said = Vec::new();
    while said.len() < most {
        match answer.chunk().await {
            Ok(Some(chunk)) => said.extend_from_slice(&chunk),
            _ => break,
        }
    }
    said
}

/// How long somebody asks to be left alone (RFC 9110, section 10.2.3), by whole seconds or a date in any of HTTP's forms; held
/// to [`LONGEST_REST`]. A date is of his own clock: it counts from the answer's `Date`, and from `now` where that is missing.
pub(crate) fn retry_after(headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    let text = |name| headers.get(name)?.to_str().ok().map(str::trim);
    let date = |text| httpdate::parse_http_date(text).ok().map(Timestamp::from);
    let after = text(RETRY_AFTER)?;
    let rest = match after.parse() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => date(after)?.since(text(DATE).and_then(date).unwrap_or(now)),
    };
    Some(rest.min(LONGEST_REST))
}

/// An error with what is behind it, in one line, without the address.
pub(crate) fn because(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}

/// Follows a redirect only to the host that was configured, and only where a POST stays one.
fn same_host() -> Policy {
    Policy::custom(|attempt| {
        let keeps =
            [StatusCode::TEMPORARY_REDIRECT, StatusCode::PERMANENT_REDIRECT].contains(&attempt.status());
        let same = attempt.previous().first().is_some_and(|first| {
            let (from, to) = (first, attempt.url());
            from.host_str() == to.host_str() && (to.scheme() == "https" || from.scheme() == to.scheme())
        });
        if keeps && same && attempt.previous().len() <= REDIRECTS { attempt.follow() } else { attempt.stop() }
    })
}
