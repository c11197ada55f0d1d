//! `queue`: what lies in the queues, and what could not be read of it.

mod capture;
mod dead;
mod depth;
mod peek;

use std::path::PathBuf;

use anyhow::{Context, anyhow};
use clap::{Subcommand, ValueEnum};
use crosswatch_aws::sqs::Sqs;
use crosswatch_aws::{Failure, Session};
use crosswatch_replay::source::Letter;
use crosswatch_shared::config::topology::{Queue, SqsQueue};
use crosswatch_sqs::way_out;
use serde::Serialize;

use crate::cli::Format;
use crate::config::Config;
use crate::run::{ALERTER_FILE, StageQueues};

/// The tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// Show how much lies in each queue, its standby and its dead letters
    ///
    /// Of the embedded queue: how much each stage has yet to read of the journals, and since when. SQS does not say how
    /// old its oldest message is; CloudWatch does: AWS/SQS ApproximateAgeOfOldestMessage.
    #[command(verbatim_doc_comment)]
    Depth {
        /// Only this stage's.
        #[arg(long)]
        stage: Option<Stage>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Show messages of the dead-letter queues on SQS, and leave them there
    ///
    /// To look is to receive: others are not shown the messages for some seconds, and SQS counts it. So a queue in use
    /// is looked into with --force only: what was received too often goes to its dead letters.
    #[command(verbatim_doc_comment)]
    Peek {
        /// Only this stage's.
        #[arg(long)]
        stage: Option<Stage>,
        /// Look into the queue itself, too.
        #[arg(long)]
        force: bool,
        /// How many messages of each queue, at most.
        #[arg(long, default_value_t = 10)]
        limit: usize,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Move the batches of a stage's SQS queue into journals, for `export --journals` and `replay`
    ///
    /// The stage never sees them: stop it first. A batch is deleted from the queue once it is on the disk; what can't be read stays in
    /// the queue.
    #[command(verbatim_doc_comment)]
    Capture {
        /// Whose queue.
        #[arg(long)]
        stage: Stage,
        /// The folder for the journals, one a site; made if it is absent.
        #[arg(long, value_name = "FOLDER")]
        into: PathBuf,
    },
    /// What could not be read: in the stages' own files, and in the dead-letter queues on SQS
    #[command(subcommand)]
    Dead(dead::Tool),
}

/// A stage that reads a queue.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, ValueEnum)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Stage {
    /// The publisher.
    Publisher,
    /// The alerter.
    Alerter,
}

/// Runs a tool.
pub(crate) fn run(config: &Config, tool: Tool) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(async {
        match tool {
            Tool::Depth { stage, format } => depth::run(config, stage, format).await,
            Tool::Peek { stage, force, limit, format } => {
                peek::run(&config.topology.queue, stage, force, limit, format).await
            }
            Tool::Capture { stage, into } => capture::run(&config.topology.queue, stage, &into).await,
            Tool::Dead(tool) => dead::run(&config.topology.queue, tool).await,
        }
    })
}

/// What lies in a stage's dead-letter queues on SQS, read and left there.
pub(crate) fn letters(queue: &Queue, stage: Stage) -> anyhow::Result<Vec<Letter>> {
    if StageQueues::of(&queue.kind).is_none() {
        return Ok(Vec::new());
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    runtime.context("cannot start the runtime")?.block_on(dead::letters(queue, stage))
}

impl Stage {
    /// The one asked for, or both.
    fn all(only: Option<Self>) -> impl Iterator<Item = Self> {
        [Self::Publisher, Self::Alerter]
            .into_iter()
            .filter(move |stage| only.is_none_or(|only| only == *stage))
    }

    fn word(self) -> &'static str {
        match self {
            Self::Publisher => "publisher",
            Self::Alerter => "alerter",
        }
    }

    /// The stage's own file.
    pub(crate) fn file(self, queue: &Queue) -> PathBuf {
        queue.path.join(match self {
            Self::Publisher => crosswatch_publisher::FILE,
            Self::Alerter => ALERTER_FILE,
        })
    }

    /// Its queues on SQS.
    fn queues(self, queue: &Queue) -> Option<&[SqsQueue]> {
        let queues = StageQueues::of(&queue.kind)?;
        Some(match self {
            Self::Publisher => queues.publisher,
            Self::Alerter => queues.alerter,
        })
    }
}

/// What a queue of SQS is for a stage.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Role {
    Queue,
    Standby,
    Second,
    #[serde(rename = "dead letters")]
    Dead,
}

impl Role {
    fn word(self) -> &'static str {
        match self {
            Self::Queue => "queue",
            Self::Standby => "standby",
            Self::Second => "second",
            Self::Dead => "dead letters",
        }
    }
}

/// A queue of SQS, and whose it is.
struct Found {
    stage: Stage,
    role: Role,
    sqs: Sqs,
    /// Of dead letters: where they came from.
    source: Option<Sqs>,
}

/// The queues of these stages, the standbys, and the dead-letter queues of both. One that two queues share is there
/// once.
async fn find(session: &Session, queue: &Queue, only: Option<Stage>) -> anyhow::Result<Vec<Found>> {
    let mut found: Vec<Found> = Vec::new();
    for stage in Stage::all(only) {
        for SqsQueue { url, standby, second } in stage.queues(queue).unwrap_or_default() {
            let standby = standby.iter().map(|url| (Role::Standby, url));
            let second = second.iter().map(|url| (Role::Second, url));
            for (role, url) in std::iter::once((Role::Queue, url)).chain(standby).chain(second) {
                let sqs = Sqs::new(session, url);
                let dead = sqs.dead_letters().await.map_err(|failure| of(url, &failure))?;
                found.push(Found { stage, role, sqs: sqs.clone(), source: None });
                let Some(arn) = dead else { continue };
                let dead = Sqs::of_arn(session, &arn).await.map_err(|failure| of(&arn, &failure))?;
                if !found.iter().any(|known| known.sqs.url() == dead.url()) {
                    found.push(Found { stage, role: Role::Dead, sqs: dead, source: Some(sqs) });
                }
            }
        }
    }
    Ok(found)
}

/// A failure with the queue and the way out.
fn of(queue: &str, failure: &Failure) -> anyhow::Error {
    anyhow!("queue {queue}: {failure}; {}", way_out(failure))
}

/// Tools for SQS have nothing to do elsewhere.
fn needs_sqs(queue: &Queue, what: &str) -> anyhow::Result<()> {
    anyhow::ensure!(
        StageQueues::of(&queue.kind).is_some(),
        "[queue] kind = \"embedded\": {what} is for the queues of kind = \"sqs\"; 'crosswatch export' shows what lies in the \
         journals"
    );
    Ok(())
}
