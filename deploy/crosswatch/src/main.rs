//! Crosswatch, the program: one subcommand a job, and the tools. Everything of substance is in the stages' crates; here
//! the config is read and the pieces are put together.

mod alarms;
mod as_judged;
mod aws;
mod backtest;
mod check;
mod cli;
mod config;
mod cost;
mod dashboard;
mod documents;
mod drill;
mod explain;
mod export;
mod forward;
mod graph;
mod init;
mod input;
mod metrics;
mod once;
mod owner;
mod page;
mod progress;
mod put_back;
mod queue;
mod reflector;
mod reload;
mod replay;
mod report;
mod run;
mod silence;
mod status;
mod test;
mod top;
mod when;

use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::Parser;
use cli::{Cli, Command};
use config::{Config, LoadError};
use crosswatch_alarms::Impossible;
use crosswatch_host::{allocator, clock};
use crosswatch_replay::source::{SourceError, Wanted};
use crosswatch_replay::sweep::SweepError;
use crosswatch_shared::config::Problems;
use graph::UnknownLink;
use run::{Job, UnknownSite, WrongQueue};
use test::TestError;

fn main() -> ExitCode {
    allocator::give_back();
    match dispatch(Cli::parse()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) if is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("{}", told(&error));
            ExitCode::from(status(&error))
        }
    }
}

fn dispatch(Cli { config, command }: Cli) -> anyhow::Result<()> {
    match command {
        Command::Run => {
            let file = config::here(config.as_deref());
            let config = read(file.as_deref())?;
            let job = Job::all(&config.topology)?;
            run::run(config, file, job)
        }
        Command::Collector { site, once: true, data } => {
            once::run(read(config::here(config.as_deref()).as_deref())?, site.into(), data)
        }
        Command::Collector { site, once: false, .. } => {
            let config = read(config::here(config.as_deref()).as_deref())?;
            run::run(config, None, Job::Collector(site.into()))
        }
        Command::Publisher { queue } => {
            let config = read(config::here(config.as_deref()).as_deref())?;
            let job = Job::publisher(&config.topology, queue.queue)?;
            run::run(config, None, job)
        }
        Command::Alerter { queue, second } => {
            let file = config::here(config.as_deref());
            let config = read(file.as_deref())?;
            let job = if second { Job::second_alerter } else { Job::alerter };
            let job = job(&config.topology, queue.queue)?;
            run::run(config, file, job)
        }
        Command::Alarms(command) => alarms::run(&load(config)?, command),
        Command::Check { aws, stage, probe, site } => {
            let config = load(config)?;
            let site = site.map(|site| run::known_site(&config, site.into())).transpose()?;
            check::run(&config)?;
            if probe {
                check::probe::run(&config, site.as_deref())?;
            }
            if aws { check::aws::run(&config, stage, site.as_deref()) } else { Ok(()) }
        }
        Command::Reflector(args) => reflector::run(args),
        Command::Cost { args, format } => cost::run(&load(config)?, &args.options(), format),
        Command::Documents { folder } => documents::run(&folder),
        Command::Init { path } => init::run(path.or(config).as_deref().unwrap_or(Path::new(config::FILE))),
        Command::Status { format, watch } => status::run(&load(config)?, format, watch),
        Command::Top => top::run(&load(config)?),
        Command::Graph { link, range, out } => {
            graph::run(&load(config)?, &link, range.at(clock::now()), out.as_deref())
        }
        Command::Dashboard(cli::DashboardCommand::Cloudwatch) => dashboard::cloudwatch(&load(config)?),
        Command::Explain { subject, at, since, format } => {
            explain::run(&load(config)?, &subject, at, since, format)
        }
        Command::Drill { rule, site, wait } => drill::run(&load(config)?, rule.as_deref(), site, wait),
        Command::Export { range, site, link, journals, format } => {
            let (since, until) = range.at(clock::now());
            let wanted = Wanted { since, until, link, site };
            export::run(&load(config)?, wanted, journals.as_deref(), format)
        }
        Command::Replay { input, into: Some(cli::Into::Queue), page, .. } => {
            put_back::run(&load(config)?, &input, page)
        }
        Command::Replay { input, format, as_judged: true, .. } => {
            as_judged::run(&load(config)?, &input, format)
        }
        Command::Replay { input, format, metrics, speed, .. } => {
            replay::run(load(config)?, &input, replay::Options { format, metrics, speed })
        }
        Command::Backtest { rules, input, fail_on, sweep, svg, format } => {
            let options = backtest::Options { fail_on, sweep, svg, format };
            let rules = rules.map(|path| Config::load(&path)).transpose()?;
            backtest::run(load(config)?, rules, &input, &options)
        }
        Command::Report { incident, range, link, out } => {
            report::run(&load(config)?, &report::Options { incident, range, link, out })
        }
        Command::Test { files, only } => test::run(&files, config.as_deref(), only.as_deref()),
        Command::Silence(tool) => silence::run(&load(config)?, tool),
        Command::Queue(tool) => queue::run(&load(config)?, tool),
        Command::Metrics { name, dimensions, range, format } => {
            metrics::run(&load(config)?, name, &dimensions, range.at(clock::now()), format)
        }
    }
}

/// For a tool: the config named, or the one in this folder, or that of the machine, or the built-in starter.
fn load(named: Option<PathBuf>) -> anyhow::Result<Config> {
    let path = config::found(named.as_deref())?;
    if let Some(path) =
        path.as_deref().filter(|path| *path == Path::new(config::INSTALLED) && named.is_none())
    {
        eprintln!("no crosswatch.toml here: using {}", path.display());
    }
    read(path.as_deref())
}

/// The config of a file, or the built-in starter.
fn read(file: Option<&Path>) -> anyhow::Result<Config> {
    let Some(path) = file else {
        let gateway = config::default_gateway();
        eprintln!("no crosswatch.toml here: using the built-in starter ('crosswatch init' writes it down)");
        return Ok(Config::starter(gateway).map_err(LoadError::Wrong)?);
    };
    Ok(Config::load(path)?)
}

/// An error with its causes; one that its effect has told already is not told again.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told {
        told if told.is_empty() => cause,
        told if told.contains(&cause) => told,
        told => format!("{told}: {cause}"),
    })
}

/// 2 for a config, an argument or an input that is wrong, 1 for what went wrong in the doing.
fn status(error: &anyhow::Error) -> u8 {
    let wrong = error.is::<LoadError>()
        || error.is::<UnknownSite>()
        || error.is::<WrongQueue>()
        || error.is::<UnknownLink>()
        || error.downcast_ref::<SourceError>().is_some_and(SourceError::is_wrong_input)
        || error.is::<SweepError>()
        || error.is::<TestError>()
        || error.is::<Problems>()
        || error.is::<silence::Refused>()
        || error.is::<Impossible>()
        || matches!(error.downcast_ref(), Some(crosswatch_collector::Error::NotOnce { .. }));
    if wrong { 2 } else { 1 }
}

/// Whoever read our output has seen enough, as `head` does.
fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.downcast_ref::<io::Error>().is_some_and(|error| error.kind() == io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_error_says_what_is_behind_it_once() {
        #[derive(Debug, thiserror::Error)]
        #[error("a.db: {source}; free the disk")]
        struct Store {
            source: io::Error,
        }
        let store = || Store { source: io::Error::other("disk full") };
        assert_eq!(told(&store().into()), "a.db: disk full; free the disk");
        let error = anyhow::Error::from(store()).context("cannot export");
        assert_eq!(told(&error), "cannot export: a.db: disk full; free the disk");
    }
}
