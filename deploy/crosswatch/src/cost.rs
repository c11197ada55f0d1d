//! `cost`: prints the month's AWS bill for a config.

use std::io::{self, Write};

use crosswatch_cost::{Alarms, Bill, Deployment, Options, bill};
use crosswatch_publisher::config::Kind;

use crate::alarms;
use crate::cli::Format;
use crate::config::Config;

/// Prints the bill.
pub(crate) fn run(config: &Config, options: &Options, format: Format) -> anyhow::Result<()> {
    let Config { topology, metrics, alerts, .. } = config;
    let alarms = match metrics.kind {
        Kind::Embedded => None,
        // In which region they are changes nothing of their number.
        Kind::CloudWatch => {
            Some(alarms::plan(config, metrics.region.as_deref().or(Some("us-east-1")))?.counts())
        }
    };
    let deployment = Deployment {
        topology,
        publish: &metrics.publish,
        period: metrics.period,
        alarms: alarms.map(|of| Alarms {
            standard: of.standard,
            high_resolution: of.high_resolution,
            composite: of.composite,
        }),
        numbers: alerts.receivers.iter().map(|receiver| receiver.sms.len()).sum(),
    };
    let bill = bill(&deployment, options);
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string(&bill)?)?,
        Format::Text => text(&mut out, &bill)?,
    }
    Ok(())
}

fn text(out: &mut impl Write, bill: &Bill) -> io::Result<()> {
    writeln!(
        out,
        "A month of 730 hours on AWS in US dollars, prices of {}, {}",
        bill.region, bill.prices_of
    )?;
    let widest = bill.lines.iter().map(|line| line.what.chars().count()).max().unwrap_or(0);
    for line in &bill.lines {
        let (service, what, count, unit, dollars) =
            (line.service, &line.what, line.count, line.unit, line.dollars);
        writeln!(out, "{service:<10}  {what:<widest$}  {count:>12.0}  {dollars:>9.2}  per {unit}")?;
    }
    writeln!(out, "without instances and network: {:.2}", bill.services)?;
    writeln!(out, "in all: {:.2}", bill.total)?;
    let monitor = bill.network_synthetic_monitor;
    writeln!(
        out,
        "the same probes with Network Synthetic Monitor: {monitor:.2}, without tunnels, pages and alarms"
    )?;
    for note in &bill.notes {
        writeln!(out, "note: {note}")?;
    }
    Ok(())
}
