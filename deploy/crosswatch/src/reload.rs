//! The config's file, watched while an alerter runs: what is edited, read and right is taken over without a restart.
//!
//! The file's content is watched, not its name or its times: editors write, rename and truncate. What is read is taken once
//! it has stayed the same for a moment, and a file that is wrong is called so only after a longer one, so that one that is
//! being saved is neither. SIGHUP asks for it at once.

mod watched;

use std::io::IsTerminal as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crosswatch_alerter::edit::{Edit, Edits};
use crosswatch_host::clock;
use crosswatch_shared::config::Problems;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, news_thresholds};
use watched::{Content, Watched};

/// How often the file is looked at.
const LOOK: Duration = Duration::from_millis(250);

/// How long it must stay the same before it is taken.
const SETTLE: Duration = Duration::from_secs(1);

/// How long it must stay the same before it is called wrong.
const PATIENCE: Duration = Duration::from_secs(3);

/// Watches a config's file.
pub(crate) struct Reload {
    path: PathBuf,
    /// The file's name, by which it is told of.
    name: Name,
    /// With which the process was started: what needs a restart is as there.
    started: Config,
    edits: Edits,
    watched: Watched,
    metrics: Metrics,
}

/// What is known of the file in force.
#[derive(Clone, Debug, Default)]
struct Metrics {
    hash: Family<[(&'static str, String); 1], Gauge>,
    successful: Family<[(&'static str, String); 1], Gauge>,
    since: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
}

impl Reload {
    /// Of the file that this config is from.
    pub(crate) fn new(config: &Config, path: &Path, edits: Edits, registry: &mut Registry) -> Self {
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        Self {
            path: path.to_owned(),
            name: name.into_owned().into(),
            started: config.clone(),
            edits,
            watched: Watched::default(),
            metrics: Metrics::register(registry),
        }
    }

    /// Watches until it is stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut hangup = hangup();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.begin(read(&self.path).await);
        loop {
            let at_once = tokio::select! {
                () = stop.cancelled() => return,
                () = hung_up(&mut hangup) => true,
                _ = looks.tick() => false,
            };
            let content = read(&self.path).await;
            tokio::select! {
                () = stop.cancelled() => return,
                () = self.look(content, Instant::now(), at_once) => {}
            }
        }
    }

    /// What the file holds now is what the process was started with, unless it was edited since.
    fn begin(&mut self, content: Content) {
        if self.parse(&content).is_ok_and(|config| config == self.started) {
            self.metrics.in_force(&self.name, &content, clock::now());
            self.watched.settle(content);
        }
    }

    /// The file holds this.
    async fn look(&mut self, content: Content, at: Instant, at_once: bool) {
        let age = self.watched.look(&content, at);
        let is_new = age.is_some();
        let age = if at_once { Duration::MAX } else { age.unwrap_or_default() };
        if age < SETTLE {
            return;
        }
        let why = match self.parse(&content) {
            Ok(config) => {
                let why = self.take(&config).await;
                if why.is_none() {
                    self.metrics.in_force(&self.name, &content, clock::now());
                }
                why
            }
            Err(_) if age < PATIENCE => return,
            Err(why) => Some(why),
        };
        self.watched.settle(content);
        let Some(why) = why else {
            return;
        };
        let (file, problems) = (self.path.display(), &why.all);
        tracing::error!(%file, "the file was edited and is not taken over; what was in force stays: {problems}");
        self.metrics.refused(&self.name);
        if is_new {
            let refused = Edit::Refused { file: self.name.clone(), why: why.first };
            if let Err(error) = self.edits.tell(refused).await {
                tracing::error!(error, "nobody is told of it");
            }
        }
    }

    fn parse(&self, content: &Content) -> Result<Config, Why> {
        match content {
            Ok(text) => Config::parse(text, &self.path).map_err(|problems| Why::of(&problems)),
            Err(error) => Err(Why::one(error)),
        }
    }

    /// Has a config taken over; or why it is not.
    async fn take(&self, config: &Config) -> Option<Why> {
        let alerts = Box::new(config.alerts.clone());
        if let Err(why) = self.edits.tell(Edit::Config { file: self.name.clone(), config: alerts }).await {
            return Some(Why::one(&why));
        }
        let (file, sections) = (self.path.display(), need_a_restart(&self.started, config).join(", "));
        tracing::info!(%file, "read again: its rules and receivers are in force");
        if !sections.is_empty() {
            tracing::warn!(%file, sections, "these sections were edited too: they come into force with a restart");
        }
        if news_thresholds(&self.started) != news_thresholds(config) {
            tracing::warn!(
                "what of a latency is news, and is sent at once, follows the edited thresholds once the collectors are restarted"
            );
        }
        None
    }
}

/// The sections that are otherwise than the process was started with, and that it cannot take over while it runs.
fn need_a_restart(started: &Config, now: &Config) -> Vec<&'static str> {
    let (before, after) = (&started.topology, &now.topology);
    let sections = [
        ("site", before.sites != after.sites),
        ("link", before.links != after.links),
        ("queue", before.queue != after.queue),
        ("metrics", started.metrics != now.metrics),
        ("heartbeat", started.alerts.heartbeat != now.alerts.heartbeat),
        ("http", before.listen != after.listen),
    ];
    sections.into_iter().filter(|section| section.1).map(|section| section.0).collect()
}

/// Why a file is not taken.
struct Why {
    /// All that is wrong, with the places.
    all: String,
    /// The first of it, for a page.
    first: String,
}

impl Why {
    fn one(why: &str) -> Self {
        Self { all: why.to_owned(), first: why.to_owned() }
    }

    fn of(problems: &Problems) -> Self {
        let mut first = match problems.list().first() {
            Some(problem) => format!("line {}: {}", problem.line, problem.message),
            None => "it is wrong".to_owned(),
        };
        if let more @ 1.. = problems.list().len().saturating_sub(1) {
            first = format!("{more} more; {first}");
        }
        Self { all: problems.to_string(), first }
    }
}

async fn read(path: &Path) -> Content {
    tokio::fs::read(path).await.map_err(|error| format!("cannot be read: {error}"))
}

/// SIGHUP, but not of a terminal that is closed: that ends the process, as ever.
fn hangup() -> Option<Signal> {
    if std::io::stderr().is_terminal() {
        return None;
    }
    let hangup = signal(SignalKind::hangup());
    hangup.inspect_err(|error| tracing::warn!(%error, "SIGHUP cannot be listened to")).ok()
}

async fn hung_up(hangup: &mut Option<Signal>) {
    match hangup {
        Some(hangup) => drop(hangup.recv().await),
        None => std::future::pending().await,
    }
}

impl Metrics {
    fn register(registry: &mut Registry) -> Self {
        let metrics = Self::default();
        let all = registry.sub_registry_with_prefix("crosswatch_config");
        all.register(
            "hash",
            "A hash of the file in force, the same for the same content",
            metrics.hash.clone(),
        );
        all.register(
            "last_reload_successful",
            "1 while the file is in force as it is, 0 once it was edited and refused",
            metrics.successful.clone(),
        );
        all.register(
            "last_reload_success_timestamp_seconds",
            "When the file in force was taken, in seconds since 1970",
            metrics.since.clone(),
        );
        metrics
    }

    fn in_force(&self, file: &str, content: &Content, now: Timestamp) {
        let label = [("file", file.to_owned())];
        let text = content.as_deref().unwrap_or_default();
        self.hash.get_or_create(&label).set(watched::hash(text));
        self.successful.get_or_create(&label).set(1);
        self.since.get_or_create(&label).set(now.since(Timestamp::from_secs(0)).as_secs_f64());
    }

    fn refused(&self, file: &str) {
        self.successful.get_or_create(&[("file", file.to_owned())]).set(0);
    }
}

#[cfg(test)]
mod tests;
