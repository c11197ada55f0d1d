//! The whole configuration: every stage's sections of one file.

mod gateway;
mod starter;

use std::collections::HashMap;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use crosswatch_judge::rule::{Metric, Rule, Side};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::config::{self, Problems};
use crosswatch_shared::observation::Name;
use toml_edit::{Item, TableLike, Value};
use wildmatch::WildMatch;

pub(crate) use gateway::default_gateway;
pub(crate) use starter::starter_text;

/// The config's name where none is given.
pub(crate) const FILE: &str = "crosswatch.toml";

/// The config of an installed machine: what its units read.
pub(crate) const INSTALLED: &str = "/etc/crosswatch/crosswatch.toml";

/// How the built-in starter is named where a file's name is expected.
const STARTER: &str = "built-in starter";

/// What one file says, read and checked in full.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Config {
    /// Who watches what, and over which queue.
    pub(crate) topology: Topology,
    /// What is published.
    pub(crate) metrics: crosswatch_publisher::config::Config,
    /// What is judged, and who is told.
    pub(crate) alerts: crosswatch_alerter::config::Config,
    /// What of the text is judged by: sites, links, the queue and rules, without whom they tell and how.
    pub(crate) judged: String,
    /// Where the status page is, if there is one.
    pub(crate) page: Option<crosswatch_console::config::Config>,
}

/// A config could not be had; trying again can't help until somebody has changed something.
#[derive(Debug, thiserror::Error)]
pub(crate) enum LoadError {
    /// There is no such file.
    #[error(
        "{}: there is no config here; name one with --config, or let 'crosswatch init' write one to start from",
        path.display()
    )]
    Absent {
        /// Where it was looked for.
        path: PathBuf,
    },
    /// It could not be read.
    #[error("{}: the config can't be read ({source}); check what it is and who may read it", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It, or the folder that it is in, is not for this user.
    #[error(
        "{}: the config of this machine can't be read ({source}); call it with sudo, or name another with --config",
        path.display()
    )]
    Forbidden {
        /// The file.
        path: PathBuf,
        /// What the system said.
        source: std::io::Error,
    },
    /// It is wrong.
    #[error(transparent)]
    Wrong(#[from] Problems),
}

impl Config {
    /// Reads a file.
    pub(crate) fn load(path: &Path) -> Result<Self, LoadError> {
        let text = std::fs::read(path).map_err(|source| match source.kind() {
            std::io::ErrorKind::NotFound => LoadError::Absent { path: path.to_owned() },
            _ => LoadError::Unreadable { path: path.to_owned(), source },
        })?;
        Ok(Self::parse(&text, path)?)
    }

    /// Reads a file's text; `file` names it in the problems, and its paths are relative to that file's folder.
    pub(crate) fn parse(text: &[u8], file: &Path) -> Result<Self, Problems> {
        config::read(file, text, |root| {
            let topology = Topology::take(root);
            let metrics = crosswatch_publisher::config::Config::take(root);
            let alerts = crosswatch_alerter::config::Config::take(root, topology.as_ref());
            let page = crosswatch_console::config::Config::take(root);
            let judged = judged(text);
            Some(Self { topology: topology?, metrics: metrics?, alerts: alerts?, judged, page: page? })
        })
    }

    /// What `run` does without a config: probes loopback and this gateway.
    pub(crate) fn starter(gateway: Option<IpAddr>) -> Result<Self, Problems> {
        Self::parse(starter_text(gateway).as_bytes(), Path::new(STARTER))
    }
}

/// What of a config's text is judged by. Receivers may have secrets, so that nothing of them is in it, and no comment, which may
/// be a line that was one.
fn judged(text: &[u8]) -> String {
    let text = String::from_utf8_lossy(text);
    let Ok(mut document) = text.parse::<toml_edit::DocumentMut>() else { return String::new() };
    document.retain(|key, _| matches!(key, "site" | "link" | "queue" | "rule"));
    let rules = document.get_mut("rule").and_then(toml_edit::Item::as_array_of_tables_mut);
    rules.into_iter().flat_map(|rules| rules.iter_mut()).for_each(|rule| {
        rule.remove("notify");
    });
    document.set_trailing("");
    bare(document.as_table_mut());
    document.to_string()
}

/// Takes away what stands around keys and values.
fn bare(table: &mut dyn TableLike) {
    for (mut key, item) in table.iter_mut() {
        key.leaf_decor_mut().clear();
        key.dotted_decor_mut().clear();
        match item {
            Item::None => {}
            Item::Value(value) => bare_value(value),
            Item::Table(table) => {
                table.decor_mut().clear();
                bare(table);
            }
            Item::ArrayOfTables(tables) => tables.iter_mut().for_each(|table| {
                table.decor_mut().clear();
                bare(table);
            }),
        }
    }
}

fn bare_value(value: &mut Value) {
    value.decor_mut().clear();
    match value {
        Value::Array(array) => {
            array.set_trailing("");
            array.iter_mut().for_each(bare_value);
        }
        Value::InlineTable(table) => {
            table.set_trailing("");
            bare(table);
        }
        _ => {}
    }
}

/// The file that a stage's config is read from: the one named, or the one in this folder. `None` where there is none, and the
/// built-in starter does. That of the machine is for those whom its units name it: nobody begins its stages a second time by the way.
pub(crate) fn here(named: Option<&Path>) -> Option<PathBuf> {
    let here = || Some(Path::new(FILE)).filter(|file| file.exists());
    named.or_else(here).map(Path::to_path_buf)
}

/// The file that a tool's config is read from: the one named, or the one in this folder, or the machine's own. `None` where there is none,
/// and the built-in starter does.
///
/// # Errors
/// Nobody can tell this user whether the machine has one.
pub(crate) fn found(named: Option<&Path>) -> Result<Option<PathBuf>, LoadError> {
    match named {
        Some(named) => Ok(Some(named.to_owned())),
        None => first_of(Path::new(FILE), Path::new(INSTALLED)),
    }
}

fn first_of(here: &Path, installed: &Path) -> Result<Option<PathBuf>, LoadError> {
    if std::fs::symlink_metadata(here).is_ok() {
        return Ok(Some(here.to_owned()));
    }
    // Opened, since who may see that it is there may still not read it: the starter in its place would say that all is well.
    match std::fs::File::open(installed) {
        Ok(_) => Ok(Some(installed.to_owned())),
        Err(source) if source.kind() == std::io::ErrorKind::PermissionDenied => {
            Err(LoadError::Forbidden { path: installed.to_owned(), source })
        }
        Err(_) => Ok(None),
    }
}

/// A probe, as (link, site, probe).
pub(crate) type ProbeKey = (Name, Name, Name);

/// The round-trip time in milliseconds above which a probe's reply is news: the lowest `above` of any `latency_ms` rule
/// that covers it. A rule of the baseline counts by its `fixed` alone: what the baseline is only the alerter knows, so that
/// what is slow by nothing else waits as routine does. Probes that no such rule covers are left out.
pub(crate) fn news_thresholds(config: &Config) -> HashMap<ProbeKey, f64> {
    let rules: Vec<(Vec<WildMatch>, f64)> = config
        .alerts
        .rules
        .iter()
        .map(|configured| &configured.rule)
        .filter(|rule| rule.metric == Metric::LatencyMs && rule.side == Side::Above)
        .filter_map(|rule| Some((globs(rule), rule.threshold.fixed()?)))
        .collect();
    let mut thresholds = HashMap::new();
    for (link, probe) in config.topology.probes() {
        let subject = format!("{}/{}/{}", link.name, probe.from, probe.name);
        let lowest = rules
            .iter()
            .filter(|(globs, _)| globs.is_empty() || globs.iter().any(|glob| glob.matches(&subject)))
            .map(|(_, threshold)| *threshold)
            .min_by(f64::total_cmp);
        if let Some(lowest) = lowest {
            let key = (link.name.clone(), probe.from.clone(), probe.name.clone());
            thresholds.insert(key, lowest);
        }
    }
    thresholds
}

fn globs(rule: &Rule) -> Vec<WildMatch> {
    rule.subjects.iter().map(|glob| WildMatch::new(glob)).collect()
}

#[cfg(test)]
mod tests;
