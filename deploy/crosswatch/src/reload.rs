//! The config's file and that of the silences, watched while an alerter runs: what is edited, read and right is taken over
//! without a restart.
//!
//! The file's content is watched, not its name or its times: editors write, rename and truncate. What is read is taken once
//! it has stayed the same for a moment, and a file that is wrong is called so only after a longer one, so that one that is
//! being saved is neither. SIGHUP asks for it at once.

mod watched;

use std::io::{self, IsTerminal as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::AtomicU64;
use std::time::{Duration, Instant};

use crosswatch_alerter::edit::{Edit, Edits};
use crosswatch_alerter::silences::{self, Known};
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

/// Watches the config's file, and that of the silences.
pub(crate) struct Reload {
    /// With which the process was started: what needs a restart is as there.
    started: Config,
    /// What silences may name.
    known: Known,
    edits: Edits,
    /// None where the built-in starter runs.
    config: Option<File>,
    silences: File,
    metrics: Metrics,
}

/// A file that is watched.
struct File {
    path: PathBuf,
    /// Its name, by which it is told of.
    name: Name,
    watched: Watched,
}

/// Which file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Which {
    Config,
    Silences,
}

/// The silences as a start finds them.
pub(crate) struct Begun {
    content: Content,
    /// What the alerter is told before it runs.
    pub(crate) edit: Edit,
}

impl Begun {
    /// Reads the config's file of silences.
    pub(crate) fn read(config: &Config) -> Self {
        let file = File::new(&config.alerts.silences);
        let content = of_silences(std::fs::read(&file.path));
        let known = Known::of(&config.topology, &config.alerts);
        let edit = match file.silences(&content, &known) {
            Ok(edit) => edit,
            Err(why) => {
                tracing::error!(
                    file = %file.path.display(),
                    "the silences are wrong; those stay in force that were when the alerter last ran: {}",
                    why.all
                );
                Edit::Refused { file: file.name, why: why.first }
            }
        };
        Self { content, edit }
    }
}

/// What is known of the file in force.
#[derive(Clone, Debug, Default)]
struct Metrics {
    hash: Family<[(&'static str, String); 1], Gauge>,
    successful: Family<[(&'static str, String); 1], Gauge>,
    since: Family<[(&'static str, String); 1], Gauge<f64, AtomicU64>>,
}

impl Reload {
    /// Of the file that this config is from, and of the silences as they were at the start.
    pub(crate) fn new(
        config: &Config,
        path: Option<&Path>,
        begun: Begun,
        edits: Edits,
        registry: &mut Registry,
    ) -> Self {
        let metrics = Metrics::register(registry);
        let mut silences = File::new(&config.alerts.silences);
        match begun.edit {
            Edit::Refused { .. } => metrics.refused(&silences.name),
            _ => metrics.in_force(&silences.name, &begun.content, clock::now()),
        }
        silences.watched.settle(begun.content);
        let known = Known::of(&config.topology, &config.alerts);
        let config_file = path.map(File::new);
        Self { started: config.clone(), known, edits, config: config_file, silences, metrics }
    }

    /// Watches until it is stopped.
    pub(crate) async fn run(mut self, stop: CancellationToken) {
        let mut hangup = hangup();
        let mut looks = tokio::time::interval(LOOK);
        looks.set_missed_tick_behavior(MissedTickBehavior::Delay);
        self.begin().await;
        loop {
            let at_once = tokio::select! {
                () = stop.cancelled() => return,
                () = hung_up(&mut hangup) => true,
                _ = looks.tick() => false,
            };
            tokio::select! {
                () = stop.cancelled() => return,
                // The config first: silences may name what is new in it.
                () = async {
                    self.look(Which::Config, at_once).await;
                    self.look(Which::Silences, at_once).await;
                } => {}
            }
        }
    }

    /// What the config's file holds now is what the process was started with, unless it was edited since.
    async fn begin(&mut self) {
        let Some(file) = &mut self.config else { return };
        let content = file.read(Which::Config).await;
        if file.config(&content).is_ok_and(|config| config == self.started) {
            self.metrics.in_force(&file.name, &content, clock::now());
            file.watched.settle(content);
        }
    }

    fn file(&mut self, which: Which) -> Option<&mut File> {
        match which {
            Which::Config => self.config.as_mut(),
            Which::Silences => Some(&mut self.silences),
        }
    }

    /// Looks into a file, and takes over what it holds, or says why not.
    async fn look(&mut self, which: Which, at_once: bool) {
        let Some(file) = self.file(which) else { return };
        let content = file.read(which).await;
        let age = file.watched.look(&content, Instant::now());
        let is_new = age.is_some();
        let age = if at_once { Duration::MAX } else { age.unwrap_or_default() };
        if age < SETTLE {
            return;
        }
        let (path, name) = (file.path.clone(), file.name.clone());
        let read = match which {
            Which::Config => file.config(&content).map(Box::new).map(Read::Config),
            Which::Silences => self.silences.silences(&content, &self.known).map(Read::Silences),
        };
        let why = match read {
            Ok(read) => self.take(&path, &name, read).await,
            Err(_) if age < PATIENCE => return,
            Err(why) => Some(why),
        };
        if why.is_none() {
            self.metrics.in_force(&name, &content, clock::now());
        }
        if let Some(file) = self.file(which) {
            file.watched.settle(content);
        }
        let Some(why) = why else { return };
        let (file, problems) = (path.display(), &why.all);
        tracing::error!(%file, "the file was edited and is not taken over; what was in force stays: {problems}");
        self.metrics.refused(&name);
        if is_new {
            let refused = Edit::Refused { file: name, why: why.first };
            if let Err(error) = self.edits.tell(refused).await {
                tracing::error!(error, "nobody is told of it");
            }
        }
    }

    /// Has it taken over; or why it is not.
    async fn take(&mut self, path: &Path, name: &Name, read: Read) -> Option<Why> {
        let edit = match &read {
            Read::Silences(edit) => edit.clone(),
            Read::Config(config) => Edit::Config {
                file: name.clone(),
                judged: config.judged.clone(),
                config: Box::new(config.alerts.clone()),
            },
        };
        if let Err(why) = self.edits.tell(edit).await {
            return Some(Why::one(&why));
        }
        let Read::Config(config) = read else {
            return None;
        };
        self.known = Known::of(&config.topology, &config.alerts);
        let (file, sections) = (path.display(), need_a_restart(&self.started, &config).join(", "));
        tracing::info!(%file, "read again: its rules and receivers are in force");
        if !sections.is_empty() {
            tracing::warn!(%file, sections, "these were edited too: they come into force with a restart");
        }
        if news_thresholds(&self.started) != news_thresholds(&config) {
            tracing::warn!(
                "what of a latency is news, and is sent at once, follows the edited thresholds once the collectors are restarted"
            );
        }
        None
    }
}

/// What a file says.
enum Read {
    Config(Box<Config>),
    Silences(Edit),
}

impl File {
    fn new(path: &Path) -> Self {
        let name = path.file_name().map_or_else(|| path.to_string_lossy(), |name| name.to_string_lossy());
        Self { path: path.to_owned(), name: name.into_owned().into(), watched: Watched::default() }
    }

    async fn read(&self, which: Which) -> Content {
        let read = tokio::fs::read(&self.path).await;
        match which {
            Which::Config => read.map_err(unreadable),
            Which::Silences => of_silences(read),
        }
    }

    fn config(&self, content: &Content) -> Result<Config, Why> {
        let text = content.as_ref().map_err(|error| Why::one(error))?;
        Config::parse(text, &self.path).map_err(|problems| Why::of(&problems))
    }

    fn silences(&self, content: &Content, known: &Known) -> Result<Edit, Why> {
        let text = content.as_ref().map_err(|error| Why::one(error))?;
        let all = silences::parse(text, &self.path, Some(known), clock::now());
        let all = all.map_err(|problems| Why::of(&problems))?;
        Ok(Edit::Silences { file: self.name.clone(), text: text.clone(), all })
    }
}

/// No file of silences is an empty one.
fn of_silences(read: io::Result<Vec<u8>>) -> Content {
    match read {
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read.map_err(unreadable),
    }
}

fn unreadable(error: io::Error) -> String {
    format!("cannot be read: {error}")
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
        ("silences", started.alerts.silences != now.alerts.silences),
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
        Self { all: problems.to_string(), first: problems.brief() }
    }
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
            "1 while the file is in force as it is, 0 while what it holds is refused",
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
