//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use crosswatch_shared::time::Timestamp;

use crate::when;

/// Watches private connectivity between regions: is it broken or slow, what kind of broken, since when.
#[derive(Debug, Parser)]
#[command(name = "crosswatch", version, max_term_width = 110)]
pub(crate) struct Cli {
    /// The config; without it `crosswatch.toml` in this folder, and without that a built-in starter, which probes
    /// loopback and this machine's default gateway.
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// The jobs and the tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: every site's collector, the publisher and the alerter.
    Run,
    /// Run one site's collector.
    Collector {
        /// The site whose vantage point this machine is.
        #[arg(long)]
        site: String,
    },
    /// Run the publisher: observations to metrics.
    Publisher,
    /// Run the alerter: observations to notifications.
    Alerter,
    /// Validate the config and say what it would do; exit status 2 if it has errors.
    Check,
    /// Write a commented starter config.
    Init {
        /// Where to; never overwrites.
        #[arg(default_value = "crosswatch.toml")]
        path: PathBuf,
    },
    /// Show what is up, down, unknown or silent, since when, with the last round-trip times.
    Status {
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
        /// Keep showing it, once a second.
        #[arg(long)]
        watch: bool,
    },
    /// Print observations as JSON lines, oldest first.
    Export {
        #[command(flatten)]
        range: RangeArgs,
        /// Only this site's.
        #[arg(long)]
        site: Option<String>,
        /// Only this link's.
        #[arg(long)]
        link: Option<String>,
    },
    /// Judge observations from a file by the config's rules, in their own time, and print each transition.
    Replay {
        /// The file; `-` for standard input.
        #[arg(long, value_name = "FILE")]
        from: PathBuf,
        /// The file's form.
        #[arg(long, value_enum, default_value_t = Rows::Jsonl)]
        format: Rows,
    },
    /// Query the embedded metrics.
    Metrics {
        /// The metric, such as `PingLatency`; without it every metric.
        name: Option<String>,
        /// Only series with this dimension, such as `Link=use1-euw1`; may be given several times.
        #[arg(short, long = "dimension", value_name = "NAME=VALUE")]
        dimensions: Vec<String>,
        #[command(flatten)]
        range: RangeArgs,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
}

/// A range of time.
#[derive(Debug, Args)]
pub(crate) struct RangeArgs {
    /// From here on: a time (2026-11-22T07:00:00Z), or how long ago (90s, 15m, 6h, 7d). Default: the beginning.
    #[arg(long, visible_alias = "from", value_name = "TIME", value_parser = when::parse)]
    pub since: Option<when::When>,
    /// Up to here, not included; written likewise. Default: now.
    #[arg(long, visible_alias = "to", value_name = "TIME", value_parser = when::parse)]
    pub until: Option<when::When>,
}

impl RangeArgs {
    /// The range as of `now`.
    pub(crate) fn at(&self, now: Timestamp) -> (Timestamp, Timestamp) {
        let since = self.since.map_or(Timestamp::MIN, |when| when.at(now));
        let until = self.until.map_or(Timestamp::MAX, |when| when.at(now));
        (since, until)
    }
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// How observations stand in a file.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Rows {
    /// One JSON object a line.
    Jsonl,
}
