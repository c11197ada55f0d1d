//! `replay`: what the rules would have said of what was observed.

use std::io::{self, BufWriter, Write};
use std::thread;
use std::time::Instant;

use crosswatch_publisher::query::Row;
use crosswatch_replay::pace::Pace;
use crosswatch_replay::print::{Timeline, line};
use crosswatch_replay::source::{Source, each_ahead};
use crosswatch_replay::{Found, Judging, sort};
use crosswatch_window::Datapoint;

use crate::cli::{Format, InputArgs, Printed, Speed};
use crate::config::Config;
use crate::progress::Progress;
use crate::{input, metrics};

/// How it is to be done.
pub(crate) struct Options {
    pub(crate) format: Printed,
    pub(crate) metrics: bool,
    pub(crate) speed: Speed,
}

/// Prints what comes of it on standard output, and what was skipped on standard error.
pub(crate) fn run(config: Config, args: &InputArgs, options: Options) -> anyhow::Result<()> {
    let (mut source, topology) = input::open(args, &config.topology)?;
    let rules = config.alerts.rules.into_iter().map(|configured| configured.rule).collect();
    let mut judging = Judging::new(rules, &topology);
    if options.metrics {
        let published = config.metrics.publish.iter().copied().collect();
        judging = judging.with_windows(config.metrics.period, published);
    }
    if options.format == Printed::Text {
        judging = judging.with_incidents();
    }
    let printing = Printing { options: &options, timeline: Timeline::default() };
    match options.speed {
        Speed::Max => at_once(&mut *source, judging, printing),
        Speed::Times(times) => paced(&mut *source, judging, printing, times),
    }
}

/// All of it, then what came of it by its time. Windows are printed as they are over: of a long history there are many.
fn at_once(
    source: &mut (dyn Source + Send),
    judging: Judging,
    mut printing: Printing<'_>,
) -> anyhow::Result<()> {
    /// What is found of a page.
    struct Taker {
        judging: Judging,
        found: Found,
        all: Found,
        metrics: bool,
        failed: Option<io::Error>,
    }
    let (mut progress, metrics) = (Progress::begin(), printing.options.metrics);
    let taker = Taker { judging, found: Found::default(), all: Found::default(), metrics, failed: None };
    let mut takers = [taker];
    let format = printing.options.format;
    let read = each_ahead(
        source,
        &mut takers,
        |taker, piece| {
            let Taker { judging, found, all, metrics, failed } = taker;
            judging.take(piece, found);
            all.events.append(&mut found.events);
            if *metrics {
                found.transitions.clear();
                if failed.is_none() {
                    *failed = print_windows(&mut found.datapoints, format).err();
                }
            }
            all.transitions.append(&mut found.transitions);
        },
        |observations, part| progress.tell(observations, part),
    );
    progress.end();
    read?;
    let [Taker { judging, mut all, failed, .. }] = takers;
    if let Some(error) = failed {
        return Err(error.into());
    }
    let counts = judging.end(&mut all);
    eprint!("{counts}");
    let mut out = BufWriter::new(io::stdout().lock());
    printing.print(&mut out, &mut all)?;
    out.flush()?;
    Ok(())
}

/// At the pace of people: each piece when it is due, and at once what comes of it.
fn paced(
    source: &mut dyn Source,
    mut judging: Judging,
    mut printing: Printing<'_>,
    times: f64,
) -> anyhow::Result<()> {
    let (mut pace, begun) = (Pace::new(times), Instant::now());
    let mut out = io::stdout().lock();
    let mut found = Found::default();
    while let Some(piece) = source.next()? {
        thread::sleep(pace.due(&piece).saturating_sub(begun.elapsed()));
        judging.take(&piece, &mut found);
        printing.print(&mut out, &mut found)?;
    }
    let counts = judging.end(&mut found);
    printing.print(&mut out, &mut found)?;
    eprint!("{counts}");
    Ok(())
}

/// What is printed of what is found.
struct Printing<'a> {
    options: &'a Options,
    timeline: Timeline,
}

impl Printing<'_> {
    fn print(&mut self, out: &mut impl Write, found: &mut Found) -> io::Result<()> {
        let Options { format, metrics, .. } = self.options;
        sort(&mut found.transitions);
        match (metrics, format) {
            (true, _) => write_windows(out, &mut found.datapoints, *format)?,
            (false, Printed::Jsonl) => {
                for transition in &found.transitions {
                    writeln!(out, "{}", line(transition))?;
                }
            }
            (false, Printed::Text) => {
                for told in self.timeline.merged(&found.transitions, &found.events) {
                    write!(out, "{told}")?;
                }
            }
        }
        found.transitions.clear();
        found.events.clear();
        Ok(())
    }
}

fn print_windows(datapoints: &mut Vec<Datapoint>, format: Printed) -> io::Result<()> {
    if datapoints.is_empty() {
        return Ok(());
    }
    let mut out = BufWriter::new(io::stdout().lock());
    write_windows(&mut out, datapoints, format)?;
    out.flush()
}

fn write_windows(out: &mut impl Write, datapoints: &mut Vec<Datapoint>, format: Printed) -> io::Result<()> {
    let format = match format {
        Printed::Jsonl => Format::Json,
        Printed::Text => Format::Text,
    };
    for datapoint in datapoints.drain(..) {
        writeln!(out, "{}", metrics::told(&row(datapoint), format))?;
    }
    Ok(())
}

/// A datapoint as the publisher keeps it.
fn row(datapoint: Datapoint) -> Row {
    let Datapoint { metric, dimensions, start, period, values, .. } = datapoint;
    let dimensions = dimensions.into_iter().map(|(name, value)| (name.to_owned(), value.to_string()));
    Row::of(metric.word(), dimensions.collect(), start, period, &values)
}
