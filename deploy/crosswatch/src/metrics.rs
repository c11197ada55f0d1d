//! `metrics`: queries the embedded metrics.

use std::io::{self, BufWriter, Write};

use anyhow::{Context, bail};
use crosswatch_publisher::query::{Filter, Row, query};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::Metric;
use serde_json::json;

use crate::cli::Format;
use crate::config::Config;

/// Prints the datapoints wanted, oldest first.
pub(crate) fn run(
    config: &Config,
    name: Option<String>,
    dimensions: &[String],
    (from, to): (Timestamp, Timestamp),
    format: Format,
) -> anyhow::Result<()> {
    if let Some(name) = &name
        && Metric::from_word(name).is_none()
    {
        let known: Vec<_> = Metric::ALL.iter().map(|metric| metric.word()).collect();
        bail!("there is no metric '{name}'; there are {}", known.join(", "));
    }
    let dimensions = dimensions.iter().map(|text| {
        let (name, value) = text
            .split_once('=')
            .with_context(|| format!("--dimension {text}: write it as NAME=VALUE, such as Link=use1-euw1"))?;
        Ok((name.to_owned(), value.to_owned()))
    });
    let dimensions = dimensions.collect::<anyhow::Result<_>>()?;
    let filter = Filter { metric: name, dimensions, from: Some(from), to: Some(to) };
    let rows = query(&config.topology.queue.path.join(crosswatch_publisher::FILE), &filter)?;
    let mut out = BufWriter::new(io::stdout().lock());
    for row in &rows {
        writeln!(out, "{}", told(row, format))?;
    }
    out.flush()?;
    Ok(())
}

/// A datapoint as one line, without the line's end.
pub(crate) fn told(row: &Row, format: Format) -> String {
    match format {
        Format::Json => line(row),
        Format::Text => text(row),
    }
}

/// A datapoint as one line of JSON.
fn line(row: &Row) -> String {
    let dimensions: serde_json::Map<_, _> =
        row.dimensions.iter().map(|(name, value)| ((*name).clone(), json!(value))).collect();
    json!({
        "metric": row.metric, "dimensions": dimensions, "start": row.start,
        "period_s": row.period.as_secs_f64(), "count": row.count, "sum": row.sum,
        "average": row.average, "minimum": row.minimum, "maximum": row.maximum,
        "p50": row.p50, "p90": row.p90, "p95": row.p95, "p99": row.p99,
    })
    .to_string()
}

fn text(row: &Row) -> String {
    let dimensions: Vec<_> = row.dimensions.iter().map(|(name, value)| format!("{name}={value}")).collect();
    format!(
        "{} {:<18} {:<48} n={:<5} avg={:<9.3} min={:<9.3} max={:<9.3} p50={:<9.3} p99={:.3}",
        row.start,
        row.metric,
        dimensions.join(" "),
        row.count,
        row.average,
        row.minimum,
        row.maximum,
        row.p50,
        row.p99
    )
}
