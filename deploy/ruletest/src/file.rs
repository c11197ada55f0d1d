//! The file of cases, read against a config with everything that is wrong with it at once.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_alerter::config::Config;
use crosswatch_shared::config::Problems;
use crosswatch_shared::config::document::{self, Table, Unique, Value};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::config::values::{nearest, short};
use crosswatch_shared::time::Timestamp;

use crate::Case;
use crate::expected::{Known, needs_something, seconds};
use crate::series::{LONGEST, Series};
use crate::subject::{self, Subject};

/// When a case begins that does not say: a whole minute, and hour, of no importance.
const START: Timestamp = Timestamp::from_secs(1_795_330_800);

/// The config that the file names, relative to the present folder; `None` if it names none.
///
/// # Errors
/// The file is no TOML, or names it wrongly; what else is wrong with it [`read`] tells.
pub fn config_of(file: &Path, bytes: &[u8]) -> Result<Option<PathBuf>, Problems> {
    document::read(file, bytes, |root| {
        let config = take_config(root);
        // Looked at by `read`.
        let _ = root.sections("case");
        config
    })
}

/// Reads a file of cases against the config that they are of.
///
/// # Errors
/// Everything that is wrong with it, of which there is at least one.
pub fn read(file: &Path, bytes: &[u8], topology: &Topology, config: &Config) -> Result<Vec<Case>, Problems> {
    document::read(file, bytes, |root| {
        let _ = take_config(root);
        let mut names = Unique::new("case named", "give one of them another name");
        let tables = root.sections("case");
        if tables.is_empty() {
            return root
                .place()
                .missing("the file has no case; write [[case]] with name, series and transitions");
        }
        let cases: Vec<Option<Case>> =
            tables.into_iter().map(|table| take_case(table, topology, config, &mut names)).collect();
        cases.into_iter().collect()
    })
}

fn take_config(root: &mut Table<'_>) -> Option<Option<PathBuf>> {
    let folder = root.folder();
    root.maybe("config", |value| match value.text()? {
        "" => value.wrong("'config' names no file; write one such as \"crosswatch.toml\", or leave it out"),
        path => Some(folder.join(path)),
    })
}

fn take_case(mut table: Table<'_>, topology: &Topology, config: &Config, names: &mut Unique) -> Option<Case> {
    let name = table.need("name", "\"three losses page\"", |value| take_name(value, names));
    let start = table.or("start", START, |value| {
        value.parsed("2026-11-22T07:00:00Z", |text| text.parse().map_err(|error| format!("{error}")))
    });
    let series = table
        .need("series", "{ \"LINK/SITE/PROBE\" = \"80x10 lost x3\" }", |value| take_series(value, topology));
    let longest = series.as_ref().and_then(|series| longest(series));
    let asked = table.maybe("lasts", |value| {
        let lasts = value.duration(Duration::from_millis(1)..=LONGEST)?;
        match longest {
            Some(longest) if lasts < longest => value.wrong(format!(
                "'lasts' is shorter than the longest series, which is {}; leave it out, or make it longer",
                seconds(longest)
            )),
            _ => Some(lasts),
        }
    });
    let lasts = asked.and_then(|asked| asked.or(longest));
    let known = Known { config, subjects: subjects(series.as_deref(), topology, config), lasts };
    let rules = table.maybe("rules", |value| known.rules(value));
    let expects = needs_something(&table);
    let transitions = table.maybe("transitions", |value| known.transitions(value));
    let notifications = table.maybe("notifications", |value| known.notifications(value));
    table.finish();
    expects?;
    Some(Case {
        name: name?,
        start: start?,
        lasts: lasts?,
        series: series?,
        rules: rules?,
        transitions: transitions?,
        notifications: notifications?,
    })
}

fn take_name(value: &Value<'_>, names: &mut Unique) -> Option<String> {
    let name = value.text()?;
    if name.trim().is_empty() || name.chars().any(char::is_control) {
        return value
            .wrong("a case's name is one line that says what it shows, such as \"three losses page\"");
    }
    names.check(value.place(), name)?;
    Some(name.to_owned())
}

fn take_series(value: &Value<'_>, topology: &Topology) -> Option<Vec<Series>> {
    let named = value.table("[case.series]")?.named();
    if named.is_empty() {
        return value
            .wrong("a case without a series shows nothing; write \"LINK/SITE/PROBE\" = \"80x10 lost x3\"");
    }
    let series: Vec<Option<Series>> = named
        .into_iter()
        .map(|named| {
            let Some(of) = subject::find(topology, named.name) else {
                return no_subject(&named, topology);
            };
            named.value.parsed("80x10 lost:timeout x3", |text| Series::parse(named.name, of, text))
        })
        .collect();
    series.into_iter().collect()
}

fn no_subject<T>(named: &document::Named<'_>, topology: &Topology) -> Option<T> {
    let known = subject::known(topology);
    let near = nearest(named.name, known.iter().map(String::as_str));
    let near = near.map(|near| format!("did you mean '{near}'? Otherwise ")).unwrap_or_default();
    named.place.wrong(format!(
        "the config has no subject '{}'; {near}write LINK/SITE/PROBE, LINK/VPN, SITE/SOURCE, or SITE for its collector",
        short(named.name)
    ))
}

/// How long the longest lasts.
fn longest(series: &[Series]) -> Option<Duration> {
    series.iter().filter_map(Series::length).max()
}

/// What an expectation may be of.
fn subjects(series: Option<&[Series]>, topology: &Topology, config: &Config) -> Vec<String> {
    let seen: Vec<String> = match series {
        Some(series) => series
            .iter()
            .filter(|series| series.of.subject != Subject::Collector)
            .map(|series| series.name.clone())
            .collect(),
        // What is wrong with the series is told; what of them is expected is not looked at for that.
        None => subject::known(topology),
    };
    let links = topology.links.iter().map(|link| link.name.to_string());
    let sites = topology.sites.iter().map(|site| site.name.to_string());
    let receivers = config.receivers.iter().map(|receiver| receiver.name.to_string());
    seen.into_iter().chain(links).chain(sites).chain(receivers).chain(["alerter".to_owned()]).collect()
}
