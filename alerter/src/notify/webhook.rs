//! The `webhook` notifier: JSON by HTTP POST, accepted by any 2xx.

use std::error::Error as _;
use std::time::Duration;

use reqwest::header::CONTENT_TYPE;
use reqwest::redirect::Policy;
use reqwest::{Client, StatusCode, Url};

use super::{NotifyError, WORDS, words};

/// How long a connection may take to come about.
const CONNECT: Duration = Duration::from_secs(3);

/// How many redirects are followed.
const REDIRECTS: usize = 5;

/// A URL and what posts to it.
#[derive(Clone)]
pub(crate) struct Webhook {
    client: Client,
    url: Url,
}

impl std::fmt::Debug for Webhook {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        // The rest of a webhook's URL is often its secret.
        f.debug_tuple("Webhook").field(&self.url.host_str()).finish()
    }
}

impl Webhook {
    /// For this URL; otherwise what is wrong.
    pub(super) fn new(url: &str, within: Duration) -> Result<Self, String> {
        let url = Url::parse(url).map_err(|error| error.to_string())?;
        let client = Client::builder()
            .user_agent(concat!("crosswatch/", env!("CARGO_PKG_VERSION")))
            .timeout(within)
            .connect_timeout(CONNECT.min(within))
            .redirect(same_host())
            .build()
            .map_err(|error| because(&error))?;
        Ok(Self { client, url })
    }

    pub(super) async fn send(&self, body: &str) -> Result<(), NotifyError> {
        let request = self.client.post(self.url.clone());
        let mut answer = request
            .header(CONTENT_TYPE, "application/json")
            .body(body.to_owned())
            .send()
            .await
            .map_err(|error| NotifyError::NoAnswer(because(&error.without_url())))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let mut said = Vec::new();
        while said.len() < WORDS {
            match answer.chunk().await {
                Ok(Some(chunk)) => said.extend_from_slice(&chunk),
                _ => break,
            }
        }
        Err(NotifyError::Refused { status: status.as_u16(), words: words(&said) })
    }
}

/// Follows a redirect only to the host that was configured, and only where the POST stays one.
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

/// An error with what is behind it, in one line.
fn because(error: &reqwest::Error) -> String {
    let mut text = error.to_string();
    let mut source = error.source();
    while let Some(error) = source {
        text = format!("{text}: {error}");
        source = error.source();
    }
    text
}
