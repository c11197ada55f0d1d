//! The `webhook` notifier: JSON by HTTP, accepted by any 2xx, in the form of its [`template`].

use std::time::Duration;

use crosswatch_host::clock;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderValue};
use reqwest::{Client, Url};

use super::template::{self, Call};
use super::{NotifyError, WORDS, words};
use crate::config::{Secret, Template, problem_with_routing_key};
use crate::http;

/// How long a service is left alone that asks for fewer calls and does not say for how long.
const THROTTLED: Duration = Duration::from_secs(30);

/// A URL and what posts to it.
#[derive(Clone, Debug)]
pub(crate) struct Webhook {
    client: Client,
    url: Secret,
    template: Template,
    within: Duration,
}

impl Webhook {
    /// For this URL; otherwise what is wrong, of secrets in files too.
    pub(super) fn new(url: &Secret, template: &Template, within: Duration) -> Result<Self, String> {
        let webhook =
            Self { client: http::client(within)?, url: url.clone(), template: template.clone(), within };
        let (url, _) = webhook.read()?;
        http::url(&url)?;
        Ok(webhook)
    }

    /// Whether its refusals can be told from its passing failures.
    pub(super) fn is_of_a_service(&self) -> bool {
        self.template != Template::Plain
    }

    /// Tries once: each call in turn, up to the first that is not accepted.
    pub(super) async fn send(&self, body: &str) -> Result<(), NotifyError> {
        let (url, key) = self.secrets().await?;
        let url = http::url(&url).map_err(NotifyError::Address)?;
        let calls = match &self.template {
            Template::Plain => vec![Call::post(body.to_owned())],
            template => {
                let body =
                    serde_json::from_str(body).map_err(|error| NotifyError::Unreadable(error.to_string()))?;
                template::render(template, &body, &key)
            }
        };
        for call in calls {
            let answer = self.make(&call, url.clone(), &key).await;
            let Some(instead) = call.instead else {
                answer?;
                continue;
            };
            match answer {
                Err(NotifyError::Refused { status: 404 | 405, .. }) => {
                    return self.make(&instead, url, &key).await;
                }
                answer => answer?,
            }
        }
        Ok(())
    }

    async fn make(&self, call: &Call, mut url: Url, key: &str) -> Result<(), NotifyError> {
        call.extend(&mut url);
        let mut request =
            self.client.request(call.method.clone(), url).header(CONTENT_TYPE, "application/json");
        if let Some(authorization) = &call.authorization {
            let mut value = HeaderValue::from_str(authorization)
                .map_err(|_| NotifyError::Address("the key cannot stand in a header".to_owned()))?;
            value.set_sensitive(true);
            request = request.header(AUTHORIZATION, value);
        }
        let answer = request.body(call.json.clone()).send().await;
        let answer = answer.map_err(|error| NotifyError::NoAnswer(http::because(error)))?;
        let status = answer.status();
        if status.is_success() {
            return Ok(());
        }
        let rest = http::retry_after(answer.headers(), clock::now())
            .or((status.as_u16() == 429).then_some(THROTTLED));
        // Beyond the words that are kept, so that a key that is told back is seen as a whole.
        let said = http::start_of(answer, WORDS + key.len()).await;
        let said = if key.is_empty() {
            words(&said)
        } else {
            words(String::from_utf8_lossy(&said).replace(key, "KEY").as_bytes())
        };
        let status = status.as_u16();
        let lasting = (400..500).contains(&status) && ![408, 425, 429].contains(&status);
        let way_out = template::way_out(&self.template).filter(|_| lasting);
        Err(NotifyError::Refused { status, words: said, rest, way_out })
    }

    /// The URL and the key, each as its file has it now.
    async fn secrets(&self) -> Result<(String, String), NotifyError> {
        if !self.has_files() {
            return self.read().map_err(NotifyError::Address);
        }
        let it = self.clone();
        // A file may lie where reading hangs.
        let read = tokio::task::spawn_blocking(move || it.read());
        match tokio::time::timeout(self.within, read).await {
            Ok(Ok(read)) => read.map_err(NotifyError::Address),
            Ok(Err(error)) => Err(NotifyError::Address(error.to_string())),
            Err(_) => Err(NotifyError::Address("the file of a secret cannot be read in time".to_owned())),
        }
    }

    fn has_files(&self) -> bool {
        let is_file = |secret: &Secret| matches!(secret, Secret::File(_));
        is_file(&self.url) || self.key().is_some_and(is_file)
    }

    fn read(&self) -> Result<(String, String), String> {
        let url = self.url.read().map_err(|error| error.to_string())?;
        Ok((url, self.read_key()?))
    }

    fn key(&self) -> Option<&Secret> {
        match &self.template {
            Template::PagerDuty { key, .. } | Template::Opsgenie { key, .. } => Some(key),
            Template::Plain | Template::Slack => None,
        }
    }

    /// The key, or nothing for a template without one.
    fn read_key(&self) -> Result<String, String> {
        let Some(key) = self.key() else {
            return Ok(String::new());
        };
        let text = key.read().map_err(|error| error.to_string())?;
        let problem = match (&self.template, key) {
            (Template::PagerDuty { .. }, Secret::File(file)) => problem_with_routing_key(&text)
                .map(|problem| format!("{}: what it holds {problem}", file.display())),
            // What stands in the config was looked at there.
            _ => None,
        };
        problem.map_or(Ok(text), Err)
    }
}
