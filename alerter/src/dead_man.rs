//! The beats to an outside dead-man service: a GET at intervals, only while every site is heard. Where they stop, for
//! whatever reason, that service pages: it is the watch over everything here, the alerter and its machine included.

use std::time::{Duration, Instant};

use crosswatch_host::clock;
use crosswatch_shared::time::Timestamp;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::registry::Registry;
use reqwest::Client;
use tokio_util::sync::CancellationToken;

use crate::config::{Heartbeat, Secret};
use crate::error::Error;
use crate::heartbeat::Pulse;
use crate::http;

/// How long the service has to answer.
const TIMEOUT: Duration = Duration::from_secs(10);

/// How old the last sign that every site is heard may be: judging gives several a second.
const FRESH: Duration = Duration::from_secs(5);

/// How often it is looked whether a beat is due.
const TICK: Duration = Duration::from_secs(1);

/// The task that sends the beats.
#[derive(Debug)]
pub struct DeadMan {
    client: Client,
    url: Secret,
    every: Duration,
    pulse: Pulse,
    /// When the next beat is due.
    due: Option<Instant>,
    last: Option<Timestamp>,
    beats: Counter,
    failures: Counter,
}

impl DeadMan {
    /// For the alerter whose queue is at this place, while its pulse says that every site is heard; `None` where nobody
    /// waits for that alerter.
    ///
    /// # Errors
    /// The URL cannot be used or read from its file, or TLS could not be set up.
    pub fn new(
        config: &Heartbeat,
        place: usize,
        pulse: Pulse,
        registry: &mut Registry,
    ) -> Result<Option<Self>, Error> {
        let Some(url) = config.urls.get(place) else {
            return Ok(None);
        };
        let of = |problem| Error::Heartbeat { problem };
        let text = url.read().map_err(|error| of(error.to_string()))?;
        http::url(&text).map_err(of)?;
        let client = http::client(TIMEOUT).map_err(of)?;
        let (beats, failures) = (Counter::default(), Counter::default());
        registry.register(
            "crosswatch_alerter_outside_beats",
            "Heartbeats that the outside service accepted",
            beats.clone(),
        );
        registry.register(
            "crosswatch_alerter_outside_beat_failures",
            "Heartbeats that it did not; the next follows as ever",
            failures.clone(),
        );
        let (url, every) = (url.clone(), config.every);
        Ok(Some(Self { client, url, every, pulse, due: None, last: None, beats, failures }))
    }

    /// Until it is stopped.
    pub async fn run(mut self, stop: CancellationToken) {
        let mut tick = tokio::time::interval(TICK);
        tick.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let beating = async {
            loop {
                tick.tick().await;
                self.step(Instant::now()).await;
            }
        };
        let _: Option<()> = stop.run_until_cancelled(beating).await;
    }

    /// Sends the beat that is due, unless a site is not heard: then it stays due.
    async fn step(&mut self, steady: Instant) {
        if self.due.is_some_and(|due| steady < due) || !self.pulse.was_fresh(FRESH, steady) {
            return;
        }
        self.due = Some(steady + self.every);
        match self.beat().await {
            Ok(()) => {
                self.beats.inc();
                self.last = Some(clock::now());
            }
            Err(error) => {
                self.failures.inc();
                let last = self.last.map_or_else(|| "never".to_owned(), |at| at.to_string());
                tracing::warn!(
                    error,
                    last,
                    "the outside service did not take a heartbeat: the next is sent as ever"
                );
            }
        }
    }

    async fn beat(&self) -> Result<(), String> {
        let url = self.url.clone();
        // A file may lie where reading hangs.
        let read = tokio::task::spawn_blocking(move || url.read());
        let url = match tokio::time::timeout(TIMEOUT, read).await {
            Ok(Ok(read)) => read.map_err(|error| error.to_string())?,
            Ok(Err(error)) => return Err(error.to_string()),
            Err(_) => return Err("the file of its URL cannot be read in time".to_owned()),
        };
        let answer = self.client.get(http::url(&url)?).send().await;
        let answer = answer.map_err(|error| format!("no answer: {}", http::because(error)))?;
        match answer.status() {
            status if status.is_success() => Ok(()),
            status => Err(format!("refused with status {}", status.as_u16())),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{Answer, BOUND, Endpoint, OK};

    const EVERY: Duration = Duration::from_secs(60);

    fn dead_man(endpoint: &Endpoint, pulse: &Pulse) -> DeadMan {
        let urls = vec![Secret::Value(endpoint.url.clone())];
        let config = Heartbeat { urls, every: EVERY };
        DeadMan::new(&config, 0, pulse.clone(), &mut Registry::default()).unwrap().unwrap()
    }

    #[tokio::test]
    async fn it_beats_at_its_interval_while_every_site_is_heard_and_at_once_when_all_are_again() {
        let mut endpoint = Endpoint::start([]).await;
        let (pulse, begun) = (Pulse::default(), Instant::now());
        let mut dead_man = dead_man(&endpoint, &pulse);
        let secs = Duration::from_secs;
        // What was heard until then, what second it is looked in, and how many beats there were by then.
        for (fresh, second, beats) in [
            (None, 0, 0),
            (Some(1), 1, 1),
            (Some(60), 60, 1),
            (Some(61), 61, 2),
            (Some(100), 105, 2),
            (Some(100), 121, 2),
            (Some(100), 600, 2),
            (Some(607), 607, 3),
            (Some(660), 660, 3),
            (Some(667), 668, 4),
        ] {
            // That rules are judged is not enough.
            pulse.beat(begun + secs(second));
            if let Some(fresh) = fresh {
                pulse.fresh(begun + secs(fresh));
            }
            dead_man.step(begun + secs(second)).await;
            assert_eq!(dead_man.beats.get(), beats, "in second {second}");
        }
        for _ in 0..4 {
            let request = endpoint.requests.recv().await.unwrap();
            assert!(request.starts_with("GET /hook?key=secret HTTP/1.1\r\n"), "{request}");
        }
        assert!(endpoint.requests.is_empty());
    }

    #[tokio::test]
    async fn what_is_not_taken_is_counted_and_told_without_the_address_and_the_next_follows_as_ever() {
        let answers =
            [Answer::Status(503, "", "busy"), Answer::Close, Answer::Status(302, "location: /\r\n", "")];
        let endpoint = Endpoint::start(answers).await;
        let (pulse, begun) = (Pulse::default(), Instant::now());
        let mut dead_man = dead_man(&endpoint, &pulse);
        for wanted in ["refused with status 503", "no answer: ", "refused with status 302"] {
            let error = dead_man.beat().await.unwrap_err();
            assert!(error.starts_with(wanted), "{error}");
            assert!(!error.contains("secret") && !error.contains("hook"), "{error}");
        }
        drop(endpoint);
        pulse.fresh(begun);
        dead_man.step(begun).await;
        dead_man.step(begun + TICK).await;
        assert_eq!((dead_man.beats.get(), dead_man.failures.get()), (0, 1), "it is not tried again at once");
        pulse.fresh(begun + EVERY);
        dead_man.step(begun + EVERY).await;
        assert_eq!(dead_man.failures.get(), 2);
    }

    #[tokio::test]
    async fn it_runs_until_it_is_stopped() {
        let mut endpoint = Endpoint::start([OK]).await;
        let pulse = Pulse::default();
        pulse.fresh(Instant::now() + BOUND);
        let stop = CancellationToken::new();
        let run = tokio::spawn(dead_man(&endpoint, &pulse).run(stop.clone()));
        tokio::time::timeout(BOUND, endpoint.requests.recv()).await.unwrap().unwrap();
        stop.cancel();
        tokio::time::timeout(BOUND, run).await.unwrap().unwrap();
    }

    #[test]
    fn each_alerter_has_a_url_of_its_own() {
        let urls = vec![Secret::Value("http://127.0.0.1:1/".to_owned())];
        let config = Heartbeat { urls, every: EVERY };
        let of = |place| DeadMan::new(&config, place, Pulse::default(), &mut Registry::default()).unwrap();
        assert!(of(0).is_some());
        assert!(of(1).is_none());
    }
}
