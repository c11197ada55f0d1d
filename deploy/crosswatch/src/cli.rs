//! The command line.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand, ValueEnum};
use crosswatch_shared::time::Timestamp;

use crate::queue::{Stage, Tool};
use crate::reflector::ReflectorArgs;
use crate::silence;
use crate::when;

/// Watches private connectivity between regions: is it broken or slow, what kind of broken, since when
///
/// Start with `crosswatch run`: without a config it watches loopback and this machine's default gateway. `crosswatch
/// init` writes that down as a config to change, `crosswatch status` shows how things are.
#[derive(Debug, Parser)]
#[command(
    name = "crosswatch",
    version,
    verbatim_doc_comment,
    after_help = "Exit status: 0 done, 1 something went wrong, 2 the config or an input file is wrong, or the command line cannot be read.\n\
                  CROSSWATCH_LOG sets what is logged on standard error, such as 'debug'; 'info' without it."
)]
pub(crate) struct Cli {
    /// The config file [default: crosswatch.toml in this folder; without that, for all but run, collector, publisher and alerter,
    /// /etc/crosswatch/crosswatch.toml; without that, a built-in starter].
    #[arg(short, long, global = true, value_name = "FILE")]
    pub config: Option<PathBuf>,
    #[command(subcommand)]
    pub command: Command,
}

/// Which of a stage's queues.
#[derive(Debug, Args)]
pub(crate) struct QueueArg {
    /// Which of the stage's queues to read, from 1, where `[queue]` has several: links are spread over them.
    #[arg(long, value_name = "N")]
    pub queue: Option<usize>,
}

/// The jobs and the tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Run everything in one process: every site's collector, the publisher and the alerter
    ///
    /// Greets with the status, prints the notifications of `console` receivers on standard output, logs on standard
    /// error, and ends with Ctrl-C. The metrics of the process itself and whether it is well are served by HTTP; the
    /// address is printed.
    #[command(verbatim_doc_comment)]
    Run,
    /// Run one site's collector: probes to observations, kept in the site's journal
    ///
    /// With `publisher` and `alerter` as processes of their own this is `run` in parts, over the same folder. Only one
    /// collector a site.
    #[command(verbatim_doc_comment)]
    Collector {
        /// The site of the config whose probes to send from here.
        #[arg(long)]
        site: String,
        /// Poll the site's VPN connections once, forward what was seen, and end: for a schedule, such as a function's.
        #[arg(long)]
        once: bool,
        /// With --once: keep the journal in this folder in place of `[queue] path`, where that cannot be written to.
        #[arg(long, value_name = "FOLDER", requires = "once")]
        data: Option<PathBuf>,
    },
    /// Run the publisher: observations to metrics.
    Publisher {
        #[command(flatten)]
        queue: QueueArg,
    },
    /// Run the alerter: observations to notifications.
    ///
    /// Of two alerters, in two regions, the second waits 30 s with each page for the word of the first that it has paged.
    #[command(verbatim_doc_comment)]
    Alerter {
        #[command(flatten)]
        queue: QueueArg,
        /// Be the second of two, which reads the queue of `[queue] second_alerter`.
        #[arg(long)]
        second: bool,
    },
    /// Answer STAMP test packets (RFC 8762), for the `udp` probes of other sites
    ///
    /// A stateful session-reflector: its own numbers tell the sender in which direction packets were lost. It needs no
    /// config, answers only networks it is told of, and never sends more than it got. Port 862 needs root or
    /// CAP_NET_BIND_SERVICE.
    #[command(verbatim_doc_comment)]
    Reflector(ReflectorArgs),
    /// Say everything that is wrong with the config, or else what it watches, judges and tells
    ///
    /// With --aws or --probe also whether it works from here: exit 1 when something on AWS is missing.
    #[command(verbatim_doc_comment)]
    Check {
        /// Try one harmless call for each permission that the config needs on AWS, as this machine's identity.
        #[arg(long)]
        aws: bool,
        /// With --aws: only what this stage needs, whose role it is then called under; of the collector with --site.
        #[arg(long, value_enum, value_name = "STAGE", requires = "aws")]
        stage: Option<CallingStage>,
        /// Measure each probe for ten seconds from this machine, and compare with the thresholds.
        #[arg(long)]
        probe: bool,
        /// Where this machine is: only this site's probes are measured, and with --stage collector only what it needs is tried.
        #[arg(long)]
        site: Option<String>,
    },
    /// Show what the config costs a month on AWS, line by line
    ///
    /// By a dated price table of us-east-1, at most and without free tiers, beside the same probes bought as Network
    /// Synthetic Monitor. Only what the config has on AWS is counted: SQS for `[queue] kind = "sqs"`, CloudWatch for
    /// `[metrics] kind = "cloudwatch"`.
    #[command(verbatim_doc_comment)]
    Cost {
        #[command(flatten)]
        args: CostArgs,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Write a commented config to start from, what `run` does without one, and cases that test its rules.
    Init {
        /// The file to write; one that is there is left as it is, and so are cases [default: that of --config, or crosswatch.toml].
        #[arg(value_name = "FILE")]
        path: Option<PathBuf>,
    },
    /// Show what is up, down, unknown or silent, since when, and which incidents are open
    ///
    /// Works beside running stages and after they have ended. `silent`: the site's collector has written nothing for
    /// some seconds; `unknown`: nothing was ever seen, or not for long.
    #[command(verbatim_doc_comment)]
    Status {
        /// How to print it.
        #[arg(long, value_enum, default_value_t = StatusFormat::Text)]
        format: StatusFormat,
        /// Keep showing it, once a second.
        #[arg(long)]
        watch: bool,
    },
    /// Say why something paged, or why not: datapoints, thresholds, evidence, and who was told what when
    ///
    /// As things are now the alerter's file tells it. With --at, and of an incident that is over, the journals are judged anew by
    /// the rules of the config up to that moment; what was told then still comes from the alerter's file.
    #[command(verbatim_doc_comment)]
    Explain {
        /// A link, a rule's subject such as `LINK/SITE/PROBE`, or an incident's id or the beginning of one.
        #[arg(value_name = "SUBJECT")]
        subject: String,
        /// As of this moment: a time (2026-11-22T07:00:00Z), or how long ago (90s, 15m, 6h, 7d).
        #[arg(long, value_name = "TIME", value_parser = when::parse)]
        at: Option<when::When>,
        /// Judge anew from here on [default: an hour before, or as far as the rules look back].
        #[arg(long, value_name = "TIME", value_parser = when::parse)]
        since: Option<when::When>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Send one test page, marked as a drill, down the whole way of a real one, and say how long each hop took
    ///
    /// A running collector observes it; over its journal and the queue it comes to the running alerter, whose receivers get
    /// a DRILL FIRING and its DRILL RESOLVED. No rule, incident or metric is touched, and no limit counts it. A hop that does
    /// not answer is named, with exit 1.
    #[command(verbatim_doc_comment)]
    Drill {
        /// Tell whom this rule tells [default: every receiver].
        #[arg(long, value_name = "NAME")]
        rule: Option<String>,
        /// The site whose collector observes it, which runs on this machine [default: the first that has a journal here].
        #[arg(long, value_name = "NAME")]
        site: Option<String>,
        /// How long to wait for the last hop.
        #[arg(long, value_name = "DURATION", default_value = "30s", value_parser = crosswatch_shared::config::values::duration)]
        wait: std::time::Duration,
    },
    /// Keep showing the status in a terminal: incidents, then links by trouble with their latest round-trip times
    ///
    /// Reads what `status` reads, so that it works over SSH beside running stages, with or without a status page.
    #[command(verbatim_doc_comment)]
    Top,
    /// Write a link's smoke graph as SVG, to paste into a ticket
    ///
    /// Out of the history that the status page keeps (`[page]` in the config), whether it runs or not: six hours without
    /// --since.
    #[command(verbatim_doc_comment)]
    Graph {
        /// The link.
        link: String,
        #[command(flatten)]
        range: RangeArgs,
        /// The file to write, in place of standard output.
        #[arg(short, long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Print a dashboard made from the config, for who looks elsewhere.
    #[command(subcommand)]
    Dashboard(DashboardCommand),
    /// Print what was observed as JSON lines, oldest first, or as a Parquet file
    ///
    /// Parquet takes a program that was built with it: cargo build --release --features crosswatch/parquet
    #[command(verbatim_doc_comment)]
    Export {
        #[command(flatten)]
        range: RangeArgs,
        /// Only what this site saw.
        #[arg(long)]
        site: Option<String>,
        /// Only what was seen of this link.
        #[arg(long)]
        link: Option<String>,
        /// The journals in this folder, such as one that `queue capture` wrote, in place of the config's.
        #[arg(long, value_name = "FOLDER")]
        journals: Option<PathBuf>,
        /// As what.
        #[arg(long, value_enum, default_value_t = Exported::Jsonl)]
        format: Exported,
    },
    /// Judge once more what was observed, by the config's rules, and print what they would have said
    ///
    /// Reads the journals of the config, or with SQS the alerter's history; or a file of JSON lines, other journals, dead
    /// letters. Prints one JSON object a transition: firing, resolved, unknown, ok. Nobody is notified. What was skipped is told
    /// on standard error. With --into queue nothing is judged here: what was observed goes to the stages once more.
    #[command(verbatim_doc_comment)]
    Replay {
        #[command(flatten)]
        input: InputArgs,
        /// How to print it: a JSON object a line, or a timeline for people.
        #[arg(long, value_enum, default_value_t = Printed::Jsonl)]
        format: Printed,
        /// Print the windows of the metrics instead, as `crosswatch metrics` does.
        #[arg(long)]
        metrics: bool,
        /// How fast: `max`, or so many times as fast as it happened, such as `10x`.
        #[arg(long, value_name = "SPEED", default_value = "max", value_parser = speed)]
        speed: Speed,
        /// Judge it as the alerter did: by its configs of then and after its own decisions, such as which site was silent; the
        /// journals from their beginning, of which --since and --until say what is printed.
        #[arg(long, conflicts_with_all = ["from", "dead", "link", "site", "metrics", "speed", "into"])]
        as_judged: bool,
        /// Put the observations back into the queue of the config, marked as replayed: what of them the publisher has not had is in
        /// the metrics then, and nobody is paged. Twice is as once.
        #[arg(long, value_enum, value_name = "WHERE", conflicts_with_all = ["metrics", "format", "speed"])]
        into: Option<Into>,
        /// With --into: let the alerter judge what of them it has not had, and page for it.
        #[arg(long, requires = "into")]
        page: bool,
    },
    /// Judge what was observed by the config's rules and by new ones, and print what the change would have meant
    ///
    /// Pages then and now, incidents lost and gained, pages sooner or later and by how much. With --sweep instead: one number of
    /// one rule through a range, and what each value would have paged.
    #[command(verbatim_doc_comment)]
    Backtest {
        /// The new config, whose rules are taken; sites, links and history are those of --config.
        #[arg(long, value_name = "FILE", required_unless_present = "sweep")]
        rules: Option<PathBuf>,
        #[command(flatten)]
        input: InputArgs,
        /// Exit with status 1 where the new rules do that; may be given several times.
        #[arg(long, value_enum, value_delimiter = ',')]
        fail_on: Vec<FailOn>,
        /// Sweep a number of the new rules, or the config's: RULE.KEY=FROM..TO[/VALUES], such as latency-high.above=120..300.
        #[arg(long, value_name = "SWEEP", conflicts_with = "fail_on")]
        sweep: Option<String>,
        /// Draw the sweep into this file, as SVG.
        #[arg(long, value_name = "FILE", requires = "sweep")]
        svg: Option<PathBuf>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Write an incident, or all of a time, down as one HTML file to keep, print and pass on
    ///
    /// Timeline, verdict, what fired, what was told to whom, round trips and losses of every probe of the link, tunnels, evidence. It
    /// loads nothing and has no script.
    #[command(verbatim_doc_comment)]
    Report {
        /// The incident's id, as notifications have it, or its first characters.
        #[arg(value_name = "INCIDENT", required_unless_present = "since")]
        incident: Option<String>,
        #[command(flatten)]
        range: RangeArgs,
        /// Only what was seen of this link.
        #[arg(long)]
        link: Option<String>,
        /// The file to write; one that is there is left as it is [default: incident-ID.html or report.html].
        #[arg(long, value_name = "FILE")]
        out: Option<PathBuf>,
    },
    /// Play cases of your own through the rules in virtual time, and compare what comes of them with what they expect
    ///
    /// A case says what is seen of probes and tunnels, and which transitions and notifications are to come of it. Prints a
    /// line each, and what differs: - for what is missing, + for what was not expected. Exit 1 when a case failed.
    #[command(verbatim_doc_comment)]
    Test {
        /// The files of cases [default: rules.test.toml].
        #[arg(value_name = "FILE")]
        files: Vec<PathBuf>,
        /// Only the case of this name; a glob, `*` for any text, may name several.
        #[arg(long, value_name = "NAME")]
        only: Option<String>,
    },
    /// Silence pages for a time: what is silenced is judged and shown, and nobody is told
    ///
    /// They are kept in silences.toml beside the config, which every alerter reads and watches. What still fires when a
    /// silence ends is paged then.
    #[command(subcommand, verbatim_doc_comment)]
    Silence(silence::Tool),
    /// Look after the queues: how much lies in them, and what could not be read.
    #[command(subcommand)]
    Queue(Tool),
    /// Show the metrics that the publisher has kept, a line a datapoint, oldest first.
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
    /// Write man pages and shell completions into a folder, for packages.
    #[command(hide = true)]
    Documents {
        /// The folder; made if it is absent.
        folder: PathBuf,
    },
    /// Make CloudWatch alarms of the rules, so that somebody is paged even when all of this is dead
    ///
    /// They are told from others by their names and the tag `crosswatch`; no other alarm is changed or deleted. What an
    /// alarm cannot say as the rule does is told in notes.
    #[command(subcommand, verbatim_doc_comment)]
    Alarms(AlarmsCommand),
}

/// A stage with rights of its own on AWS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum CallingStage {
    /// A site's collector.
    Collector,
    /// The publisher.
    Publisher,
    /// The alerter, of two the first.
    Alerter,
    /// The second of two alerters.
    SecondAlerter,
}

/// Whose dashboard.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum DashboardCommand {
    /// The body of a dashboard of CloudWatch, for `aws cloudwatch put-dashboard`.
    Cloudwatch,
}

/// What to do about the alarms.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Subcommand)]
pub(crate) enum AlarmsCommand {
    /// Show what `apply` would do: + create, ~ change, - delete.
    Plan,
    /// Create, change and delete until the alarms are those of the config; asks nobody.
    Apply,
    /// Delete all alarms of this deployment, in all regions of the config; asks nobody.
    Destroy,
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

/// What a bill depends on besides the config.
#[derive(Debug, Args)]
pub(crate) struct CostArgs {
    /// How many incidents page in the month, each by a firing and a resolved text to every number.
    #[arg(long, value_name = "N", default_value_t = 10)]
    pub pages: u32,
    /// What one SMS costs, in US dollars [default: the table's, to a number in the US].
    #[arg(long, value_name = "DOLLARS", value_parser = dollars)]
    pub sms_price: Option<f64>,
    /// Leave the instances and their disks out, when they are there anyway.
    #[arg(long)]
    pub no_instances: bool,
    /// How the instances reach AWS.
    #[arg(long, value_enum, default_value_t = Way::PublicIpv4)]
    pub network: Way,
}

impl CostArgs {
    pub(crate) fn options(&self) -> crosswatch_cost::Options {
        crosswatch_cost::Options {
            pages: self.pages,
            sms_price: self.sms_price,
            instances: !self.no_instances,
            network: match self.network {
                Way::PublicIpv4 => crosswatch_cost::Network::PublicIpv4,
                Way::Nat => crosswatch_cost::Network::Nat,
                Way::Endpoints => crosswatch_cost::Network::Endpoints,
                Way::None => crosswatch_cost::Network::Free,
            },
        }
    }
}

fn dollars(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(dollars) if dollars.is_finite() && dollars >= 0.0 => Ok(dollars),
        _ => Err("write a price in US dollars, such as 0.05".to_owned()),
    }
}

/// How instances reach AWS's services.
#[derive(Clone, Copy, Debug, ValueEnum)]
pub(crate) enum Way {
    /// A public IPv4 address each.
    PublicIpv4,
    /// A NAT gateway a region, and one for the centre.
    Nat,
    /// Interface endpoints, four each.
    Endpoints,
    /// It is there already.
    None,
}

/// For people or for programs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people.
    Text,
    /// For programs.
    Json,
}

/// For people, for programs, or for tickets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum StatusFormat {
    /// For people.
    Text,
    /// For programs.
    Json,
    /// For tickets and chats.
    Markdown,
}

/// Where observations are read from, and which.
#[derive(Debug, Args)]
pub(crate) struct InputArgs {
    /// A file of JSON lines that `export` prints; `-` for standard input.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["journal", "dead"])]
    pub from: Option<PathBuf>,
    /// The journals in this folder, such as one that `queue capture` wrote [default: the config's, or the alerter's history].
    #[arg(long, value_name = "FOLDER", num_args = 0..=1, conflicts_with = "dead")]
    pub journal: Option<Option<PathBuf>>,
    /// The messages that this stage could not read, as far as this version can.
    #[arg(long, value_name = "STAGE", value_enum)]
    pub dead: Option<Stage>,
    /// From here on: a time (2026-11-22T07:00:00Z), or how long ago (90s, 15m, 6h, 7d). Default: the beginning.
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub since: Option<when::When>,
    /// Up to here, not included; written likewise. Default: the end.
    #[arg(long, value_name = "TIME", value_parser = when::parse)]
    pub until: Option<when::When>,
    /// Only what was seen of this link.
    #[arg(long)]
    pub link: Option<String>,
    /// Only what this site saw.
    #[arg(long)]
    pub site: Option<String>,
}

/// Where a replay puts what it reads.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Into {
    /// The queue of the config, whichever it is.
    Queue,
}

/// As what observations are exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Exported {
    /// JSON lines.
    Jsonl,
    /// A Parquet file, for notebooks and DuckDB.
    Parquet,
}

/// How a replay is printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Printed {
    /// One JSON object a line.
    Jsonl,
    /// A timeline for people.
    Text,
}

/// What a changed rule must not do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum FailOn {
    /// An incident that paged pages nobody any more.
    Lost,
    /// An incident pages that did not.
    Gained,
    /// An incident pages later than it did.
    Later,
}

/// How fast a replay is.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum Speed {
    /// As fast as it can be read and judged.
    Max,
    /// So many times as fast as it happened.
    Times(f64),
}

fn speed(text: &str) -> Result<Speed, String> {
    if text == "max" {
        return Ok(Speed::Max);
    }
    match text.strip_suffix('x').map(str::parse::<f64>) {
        Some(Ok(times)) if times.is_finite() && times > 0.0 => Ok(Speed::Times(times)),
        _ => Err("write max, or how many times as fast it is to be, such as 10x".to_owned()),
    }
}
