//! `alarms`: CloudWatch alarms made of the rules: what should be there, what is, and making it so.
//!
//! What should be there is decided by `crosswatch_alarms`, which does no I/O. Here CloudWatch is asked and told, at most
//! three requests a second. What was done stays done: after a failure or an interruption the next run does the rest.

mod door;
pub(crate) mod mutes;

use std::io::{self, Write};

use anyhow::bail;
use crosswatch_alarms::{Changes, Input, Judged, Mode, Place, Plan, Published, plan_text, summary};
use crosswatch_aws::Session;
use crosswatch_publisher::config::{Alarms, Kind};

use crate::cli::AlarmsCommand;
use crate::config::Config;
use door::Door;

/// Shows or makes the alarms of a config.
pub(crate) fn run(config: &Config, command: AlarmsCommand) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let session = Session::load().await;
        let plan = plan(config, session.region())?;
        carry_out(&session, plan, command).await
    })
}

/// The alarms that the config asks for. `region` is CloudWatch's where the config names none.
pub(crate) fn plan(config: &Config, region: Option<&str>) -> Result<Plan, crosswatch_alarms::Impossible> {
    let Config { topology, metrics, alerts, .. } = config;
    crosswatch_alarms::plan(&Input {
        topology,
        rules: alerts
            .rules
            .iter()
            .map(|configured| Judged { rule: &configured.rule, notifies: !configured.notify.is_empty() })
            .collect(),
        published: Published {
            to_cloudwatch: metrics.kind == Kind::CloudWatch,
            namespace: &metrics.namespace,
            region: metrics.region.as_deref().or(region),
            region_is_named: metrics.region.is_some(),
            period: metrics.period,
            metrics: &metrics.publish,
            sources: &metrics.sources,
        },
        mode: match metrics.alarms {
            Alarms::Both => Mode::Both,
            Alarms::Backup => Mode::Backup,
            Alarms::Off => Mode::Off,
        },
        topic: metrics.alarm_topic.as_deref(),
    })
}

async fn carry_out(session: &Session, plan: Plan, command: AlarmsCommand) -> anyhow::Result<()> {
    let plan = if command == AlarmsCommand::Destroy { plan.emptied() } else { plan };
    let mut door = Door::new(session.clone());
    let mut failed = 0;
    let mut changes: Vec<(Place, Changes)> = Vec::new();
    for (place, desired) in &plan.places {
        match door.compare(&plan, place, desired).await {
            Ok(at_place) => changes.push((place.clone(), at_place)),
            Err(failure) => {
                eprintln!("{}: {failure}", door::told(place));
                failed += 1;
            }
        }
    }
    let mut out = io::stdout().lock();
    write!(out, "{}", plan_text(&changes, &plan.differences))?;
    writeln!(out, "{}", summary(&changes))?;
    out.flush()?;
    let unreadable = failed;
    if command != AlarmsCommand::Plan {
        let mut done = 0;
        for (place, changes) in &changes {
            let (made, not) = door.apply(&plan.marks, place, changes).await;
            done += made;
            failed += not;
        }
        writeln!(out, "{done} done, {} failed", failed - unreadable)?;
    }
    if unreadable > 0 {
        bail!("{unreadable} of {} regions could not be read; the others are as told", plan.places.len());
    }
    if failed > 0 {
        bail!("{failed} alarms are not as they should be; run it again once the reason is gone");
    }
    let foreign: usize = changes.iter().map(|(_, changes)| changes.foreign.len()).sum();
    if foreign > 0 && command == AlarmsCommand::Apply {
        bail!(
            "{foreign} alarms have a name of ours without our tag; delete or rename them, then run it again"
        );
    }
    Ok(())
}
