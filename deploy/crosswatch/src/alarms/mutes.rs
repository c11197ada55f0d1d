//! A silence told to CloudWatch: mute rules over the alarms that page of what it covers, which end by themselves.

use anyhow::bail;
use crosswatch_alarms::Plan;
use crosswatch_alarms::mutes::{Mute, mutes};
use crosswatch_aws::Session;
use crosswatch_aws::mutes::MuteRule;
use crosswatch_judge::mute::Silence;
use crosswatch_shared::time::Timestamp;

use super::door::{self, Door};
use super::plan;
use crate::config::Config;

/// The mute rules of a silence, which may not be in its file yet.
pub(crate) struct Muting {
    session: Session,
    plan: Plan,
    rules: Vec<(Mute, MuteRule)>,
}

impl Muting {
    /// Of a silence; an error where CloudWatch cannot be told of it, or has no alarm to mute.
    pub(crate) fn of(config: &Config, silence: &Silence, now: Timestamp) -> anyhow::Result<Self> {
        let session = runtime()?.block_on(Session::load());
        let plan = plan(config, session.region())?;
        let mutes = match mutes(&plan, &config.topology, silence, now) {
            Ok(mutes) if mutes.is_empty() => {
                bail!("--alarms: no alarm of the config pages for what it covers; leave --alarms out")
            }
            Ok(mutes) => mutes,
            Err(why) => bail!("--alarms: {why}; leave --alarms out"),
        };
        let mut rules: Vec<(Mute, MuteRule)> = Vec::new();
        for mute in mutes {
            let earlier = rules.iter().filter(|(other, _)| other.place == mute.place).count();
            let rule = MuteRule {
                name: name(&plan, &silence.id, earlier),
                description: silence.why.chars().take(1_024).collect(),
                expression: mute.expression.clone(),
                duration: mute.duration.clone(),
                zone: mute.zone.clone(),
                alarms: mute.alarms.clone(),
                expires: mute.expires.map(|at| at.as_micros().div_euclid(1_000_000)),
            };
            rules.push((mute, rule));
        }
        Ok(Self { session, plan, rules })
    }

    /// Makes them. Gives how many alarms they mute.
    pub(crate) fn put(self) -> anyhow::Result<usize> {
        let Self { session, plan, rules } = self;
        let tag = (plan.marks.key, plan.marks.value.as_str());
        runtime()?.block_on(async {
            let mut door = Door::new(session);
            let mut failed = 0;
            for (mute, rule) in &rules {
                if let Err(failure) = door.mute(&mute.place, rule, tag).await {
                    eprintln!("{}: {}: {failure}", door::told(&mute.place), rule.name);
                    failed += 1;
                }
            }
            if failed > 0 {
                bail!(
                    "{failed} of {} mute rules were not made: the alerters keep quiet, and alarms page; once the reason is \
                     gone, end the silence and add it again",
                    rules.len()
                );
            }
            Ok(rules.iter().map(|(_, rule)| rule.alarms.len()).sum())
        })
    }
}

/// Deletes the mute rules of a silence, where there are any.
pub(crate) fn unmute(config: &Config, id: &str) -> anyhow::Result<()> {
    runtime()?.block_on(async {
        let session = Session::load().await;
        let plan = plan(config, session.region())?;
        let mut door = Door::new(session);
        let mut failed = 0;
        for (place, alarms) in &plan.places {
            for number in 0..alarms.len().div_ceil(crosswatch_alarms::mutes::MOST_ALARMS) {
                let name = name(&plan, id, number);
                if let Err(failure) = door.unmute(place, &name).await {
                    eprintln!("{}: {name}: {failure}", door::told(place));
                    failed += 1;
                }
            }
        }
        if failed > 0 {
            bail!(
                "{failed} mute rules were not deleted: alarms stay muted until the silence would have ended"
            );
        }
        Ok(())
    })
}

/// `Crosswatch silence 3f9a01c7`, and a number from the second one on.
fn name(plan: &Plan, id: &str, number: usize) -> String {
    let more = if number == 0 { String::new() } else { format!(" {}", number + 1) };
    format!("{}silence {id}{more}", plan.marks.prefix)
}

fn runtime() -> std::io::Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()
}
