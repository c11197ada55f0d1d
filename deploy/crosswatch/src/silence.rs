//! `silence`: adds, lists and ends silences, in their file beside the config.

mod file;

use std::io::{self, Write as _};
use std::time::Duration;

use clap::{Args, Subcommand};
use crosswatch_alerter::silences::{self, Known};
use crosswatch_host::clock;
use crosswatch_judge::incident;
use crosswatch_judge::mute::{Silence, When};
use crosswatch_publisher::config::{Alarms, Kind};
use crosswatch_shared::config::values;
use crosswatch_shared::time::Timestamp;
use toml_edit::{Array, Table, value};

use crate::alarms::mutes::Muting;
use crate::config::Config;
use file::SilencesFile;

/// What to do about silences.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// Silence what every one of the given globs names, from now on or again and again; prints the silence's id.
    Add(Box<AddArgs>),
    /// Show the silences, a line each, but not those that are over.
    List {
        /// Those that are over, too.
        #[arg(long)]
        all: bool,
    },
    /// End a silence: one that is on ends now, one that recurs or is yet to come goes. What it muted and still fires is
    /// paged.
    End {
        /// Its id, as `list` shows it.
        id: String,
        /// Those of CloudWatch's alarms that it mutes, too.
        #[arg(long)]
        alarms: bool,
    },
}

/// A silence to add.
#[derive(Debug, Args)]
#[command(group = clap::ArgGroup::new("what").required(true).multiple(true).args(["link", "subject", "rule", "site"]))]
#[command(group = clap::ArgGroup::new("end").required(true).args(["lasts", "until"]))]
pub(crate) struct AddArgs {
    /// Links, as globs; given several times, any of them.
    #[arg(long, value_name = "GLOB")]
    link: Vec<String>,
    /// Subjects, as globs, such as 'use1-euw1/us-east-1/*'.
    #[arg(long, value_name = "GLOB")]
    subject: Vec<String>,
    /// Rules, as globs; the built-in ones too.
    #[arg(long, value_name = "GLOB")]
    rule: Vec<String>,
    /// Sites, as globs, with all links that end there.
    #[arg(long, value_name = "GLOB")]
    site: Vec<String>,
    /// For how long, such as 2h.
    #[arg(long = "for", value_name = "DURATION", value_parser = values::duration)]
    lasts: Option<Duration>,
    /// Until when, such as 2026-11-22T09:00:00Z.
    #[arg(long, value_name = "TIME", conflicts_with = "cron")]
    until: Option<Timestamp>,
    /// From when on [default: now].
    #[arg(long, value_name = "TIME", conflicts_with = "cron")]
    from: Option<Timestamp>,
    /// Each time of a crontab, such as '0 2 * * SUN', with --for.
    #[arg(long, value_name = "CRONTAB")]
    cron: Option<String>,
    /// The time zone of --cron [default: UTC].
    #[arg(long, value_name = "ZONE", requires = "cron")]
    zone: Option<String>,
    /// Why, for whoever wonders that nobody was paged.
    #[arg(long, value_name = "TEXT")]
    why: String,
    /// Mute the CloudWatch alarms that page of it, too, by a mute rule that ends by itself.
    #[arg(long)]
    alarms: bool,
    /// Who wants it [default: the user].
    #[arg(long, value_name = "NAME")]
    by: Option<String>,
}

/// What was asked for cannot be done to the file, which is as it was.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Refused {
    /// There is no such silence.
    #[error("there is no silence '{id}'; 'crosswatch silence list --all' shows them: {}", known.join(", "))]
    Unknown { id: String, known: Vec<String> },
    /// It is over.
    #[error("the silence '{id}' ended at {at}; there is nothing to end")]
    Over { id: String, at: Timestamp },
    /// It ends before it begins.
    #[error("--until {until} is not after {from}, when it begins; write a later time")]
    Empty { from: Timestamp, until: Timestamp },
    /// The file has them in a form that is not edited here.
    #[error("the silences are no [[silence]] tables; edit the file by hand")]
    Form,
}

/// Does it.
pub(crate) fn run(config: &Config, tool: Tool) -> anyhow::Result<()> {
    let file = SilencesFile::of(&config.alerts.silences);
    let known = Known::of(&config.topology, &config.alerts);
    let now = clock::now();
    match tool {
        Tool::Add(args) => {
            let alarms = args.alarms;
            let (id, table) = table(*args, now, user())?;
            // Before anything is written it is known whether CloudWatch can be told.
            let text = format!("[[silence]]\n{table}");
            let read = silences::parse(text.as_bytes(), "the silence".as_ref(), Some(&known), now)?;
            let muting = match read.first() {
                Some(silence) if alarms => Some(Muting::of(config, silence, now)?),
                _ => None,
            };
            file.edit(&known, now, |document, _| file::add(document, table))?;
            println!("{id}");
            match muting {
                Some(muting) => eprintln!("{} CloudWatch alarms are muted, too", muting.put()?),
                None if has_alarms(config) => {
                    eprintln!("CloudWatch's alarms page on; --alarms mutes them, too")
                }
                None => {}
            }
        }
        Tool::End { id, alarms } => {
            file.edit(&known, now, |document, all| file::end(document, all, &id, now))?;
            if alarms {
                crate::alarms::mutes::unmute(config, &id)?;
            }
        }
        Tool::List { all } => {
            let silences = file.read(&known, now)?;
            let mut out = io::stdout().lock();
            let shown = silences.iter().filter(|silence| all || !silence.when.is_over(now));
            for silence in shown {
                writeln!(out, "{}", line(silence, now))?;
            }
        }
    }
    Ok(())
}

/// Whether there are alarms of the config that page.
fn has_alarms(config: &Config) -> bool {
    config.metrics.kind == Kind::CloudWatch && config.metrics.alarms != Alarms::Off
}

/// All silences of the config's file, those that are over too.
pub(crate) fn all(config: &Config) -> anyhow::Result<Vec<Silence>> {
    let known = Known::of(&config.topology, &config.alerts);
    SilencesFile::of(&config.alerts.silences).read(&known, clock::now())
}

/// Who runs this, or for whom it is run.
fn user() -> Option<String> {
    ["SUDO_USER", "USER", "LOGNAME"]
        .iter()
        .find_map(|name| std::env::var(name).ok())
        .filter(|of| !of.is_empty())
}

/// A silence as the file has it, and its id.
fn table(args: AddArgs, now: Timestamp, user: Option<String>) -> Result<(String, Table), Refused> {
    let mut table = Table::new();
    let said = format!("{args:?}");
    let id: String = incident::id(&[&said, &now.to_string()]).chars().take(8).collect();
    table["id"] = value(&id);
    let lists = [("link", args.link), ("subject", args.subject), ("rule", args.rule), ("site", args.site)];
    for (key, globs) in lists {
        match globs.as_slice() {
            [] => {}
            [glob] => table[key] = value(glob),
            globs => table[key] = value(globs.iter().collect::<Array>()),
        }
    }
    if let Some(cron) = args.cron {
        table["cron"] = value(cron);
        table["zone"] = value(args.zone.unwrap_or_else(|| "UTC".to_owned()));
        table["lasts"] = value(values::spell(args.lasts.unwrap_or_default()));
    } else {
        let from = args.from.unwrap_or(now);
        let until = args.until.unwrap_or_else(|| from + args.lasts.unwrap_or_default());
        if until <= from {
            return Err(Refused::Empty { from, until });
        }
        table["from"] = value(from.to_string());
        table["until"] = value(until.to_string());
    }
    table["why"] = value(args.why);
    if let Some(by) = args.by.or(user) {
        table["by"] = value(by);
    }
    Ok((id, table))
}

/// `3f9a01c7  on until 2026-11-22T09:00:00.000000Z  link use1-euw1: router swap, by ana`.
fn line(silence: &Silence, now: Timestamp) -> String {
    let when = match (silence.when.until(now), &silence.when) {
        (Some(until), _) => format!("on until {until}"),
        (None, When::Once { until, .. }) if *until <= now => format!("over since {until}"),
        (None, When::Once { from, until }) => {
            let from = from.map_or_else(|| "now".to_owned(), |from| from.to_string());
            format!("from {from} until {until}")
        }
        (None, When::Every { .. }) => match silence.when.next(now) {
            Some(next) => format!("again at {next}"),
            None => "never again".to_owned(),
        },
    };
    let by = silence.by.as_ref().map(|by| format!(", by {by}")).unwrap_or_default();
    format!("{}  {when}  {}: {}{by}", silence.id, silences::covers(silence), silence.why)
}

#[cfg(test)]
mod tests;
