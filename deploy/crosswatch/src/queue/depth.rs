//! `queue depth`: how much lies where.

use std::io::{self, Write};

use crosswatch_aws::Session;
use crosswatch_host::clock;
use crosswatch_queue::{Embedded, Queue as _, places, put_back};
use crosswatch_shared::time::Timestamp;
use serde::Serialize;

use super::{Role, Stage, find, of};
use crate::cli::Format;
use crate::config::Config;
use crate::run::journals;

/// One line. What the backend cannot tell is absent.
#[derive(Debug, Serialize)]
struct Line {
    stage: Stage,
    role: Role,
    queue: String,
    /// Batches that wait to be read.
    waiting: u64,
    /// Batches received and not settled yet.
    #[serde(skip_serializing_if = "Option::is_none")]
    in_flight: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    observations: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest: Option<Timestamp>,
    /// Why it is not known how old the oldest is, where that was asked and not told.
    #[serde(skip_serializing_if = "Option::is_none")]
    oldest_unknown: Option<String>,
}

pub(super) async fn run(config: &Config, stage: Option<Stage>, format: Format) -> anyhow::Result<()> {
    let queue = &config.topology.queue;
    let mut lines = Vec::new();
    for stage in Stage::all(stage).filter(|stage| stage.queues(queue).is_none()) {
        let sites: Vec<_> = config.topology.sites.iter().map(|site| site.name.clone()).collect();
        let places = places(&stage.file(queue))?;
        let journals = Embedded::open(&journals(queue), &sites, &places)?;
        let mut journals = journals.beside(&put_back::folder(&queue.path), &places)?;
        let backlog = journals.backlog().await?;
        lines.push(Line {
            stage,
            role: Role::Queue,
            queue: "journals".to_owned(),
            waiting: backlog.batches,
            in_flight: None,
            observations: backlog.observations,
            oldest: backlog.oldest,
            oldest_unknown: None,
        });
    }
    if lines.is_empty() {
        let session = Session::load().await;
        for found in find(&session, queue, stage).await? {
            let (oldest, oldest_unknown) = match found.sqs.oldest(&session, clock::now()).await {
                Ok(age) => (age.map(|age| clock::now() - age), None),
                Err(failure) => (None, Some(failure.to_string())),
            };
            let depth = found.sqs.depth().await.map_err(|failure| of(found.sqs.url(), &failure))?;
            lines.push(Line {
                stage: found.stage,
                role: found.role,
                queue: found.sqs.url().to_owned(),
                waiting: depth.visible + depth.delayed,
                in_flight: Some(depth.in_flight),
                observations: None,
                oldest,
                oldest_unknown,
            });
        }
    }
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&lines)?)?,
        Format::Text => {
            let now = clock::now();
            for Line { stage, role, queue, waiting, in_flight, observations, oldest, oldest_unknown } in lines
            {
                write!(out, "{} {} {queue}: {waiting} batches wait", stage.word(), role.word())?;
                if let Some(in_flight) = in_flight {
                    write!(out, ", {in_flight} are in flight")?;
                }
                if let Some(observations) = observations {
                    write!(out, ", {observations} observations")?;
                }
                if let Some(oldest) = oldest {
                    write!(out, ", the oldest for {:.0} s", now.since(oldest).as_secs_f64())?;
                }
                if let Some(why) = oldest_unknown {
                    write!(out, ", for how long is not known: {why}")?;
                }
                writeln!(out)?;
            }
        }
    }
    Ok(())
}
