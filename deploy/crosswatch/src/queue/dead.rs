//! `queue dead`: what could not be read, wherever it ended.

use std::collections::HashSet;
use std::io::{self, Write};
use std::time::Duration;

use anyhow::bail;
use clap::Subcommand;
use crosswatch_aws::sqs::{MESSAGES, Sqs};
use crosswatch_aws::{Kind, Session};
use crosswatch_queue::{DeadLetter, dead_letters};
use crosswatch_replay::source;
use crosswatch_shared::config::topology::Queue;
use crosswatch_shared::time::Timestamp;
use crosswatch_sqs::body;
use serde::Serialize;

use super::peek::{self, Content, Looked};
use super::{Found, Role, Stage, find, needs_sqs, of};
use crate::cli::Format;
use crate::run::StageQueues;

/// The tools.
#[derive(Debug, Subcommand)]
pub(crate) enum Tool {
    /// List the dead letters: id, when, why.
    List {
        /// Only this stage's.
        #[arg(long)]
        stage: Option<Stage>,
        /// How to print it.
        #[arg(long, value_enum, default_value_t = Format::Text)]
        format: Format,
    },
    /// Print one as it came.
    Show {
        /// Its id, as `list` gives it.
        id: String,
    },
    /// Send the messages of the dead-letter queues on SQS to the queues they came from
    ///
    /// Without the permission sqs:StartMessageMoveTask, or where the server does not know it, they are received, sent and then deleted
    /// one by one. What lies in a stage's own file stays there.
    #[command(verbatim_doc_comment)]
    Redrive {
        /// Only this stage's.
        #[arg(long)]
        stage: Option<Stage>,
    },
}

/// How many are looked at.
const MOST: usize = 1_000;

/// How long messages are hidden while all of a queue are read.
const READING: Duration = Duration::from_mins(10);

/// How long a message is hidden while it is sent to where it came from.
const MOVING: Duration = Duration::from_secs(60);

#[derive(Debug, Serialize)]
struct Letter {
    id: String,
    stage: Stage,
    source: String,
    at: Timestamp,
    reason: String,
    bytes: usize,
}

pub(super) async fn run(queue: &Queue, tool: Tool) -> anyhow::Result<()> {
    match tool {
        Tool::List { stage, format } => list(queue, stage, format).await,
        Tool::Show { id } => show(queue, &id).await,
        Tool::Redrive { stage } => redrive(queue, stage).await,
    }
}

async fn list(queue: &Queue, stage: Option<Stage>, format: Format) -> anyhow::Result<()> {
    let mut letters = Vec::new();
    for stage in Stage::all(stage) {
        let own = in_file(queue, stage)?;
        letters.extend(own.into_iter().map(|DeadLetter { id, received_at, source, reason, payload }| {
            Letter {
                id: format!("{}:{id}", stage.word()),
                stage,
                source,
                at: received_at,
                reason,
                bytes: payload.len(),
            }
        }));
    }
    for Found { stage, sqs, .. } in in_queues(queue, stage).await? {
        for message in peek::look(&sqs, MOST).await? {
            let Looked { id, queue, sent, content, receives, .. } =
                peek::content(stage, Role::Dead, &sqs, &message);
            let reason = match content {
                Content::Unreadable { reason } => reason,
                Content::Batch { .. } | Content::PutBack { .. } => {
                    format!("a sound batch, received {receives} times")
                }
            };
            let source = format!("queue {queue}");
            letters.push(Letter { id, stage, source, at: sent, reason, bytes: message.body.len() });
        }
    }
    let mut out = io::stdout().lock();
    match format {
        Format::Json => writeln!(out, "{}", serde_json::to_string_pretty(&letters)?)?,
        Format::Text => {
            if letters.is_empty() {
                eprintln!("no dead letters");
            }
            for Letter { id, source, at, reason, bytes, .. } in letters {
                writeln!(out, "{id} {at} {bytes} bytes from {source}: {reason}")?;
            }
        }
    }
    Ok(())
}

async fn show(queue: &Queue, id: &str) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    for stage in Stage::all(None) {
        for letter in in_file(queue, stage)? {
            if id == format!("{}:{}", stage.word(), letter.id) {
                out.write_all(&letter.payload)?;
                writeln!(out)?;
                return Ok(());
            }
        }
    }
    for Found { sqs, .. } in in_queues(queue, None).await? {
        if let Some(message) = peek::look(&sqs, MOST).await?.into_iter().find(|message| message.id == id) {
            writeln!(out, "{}", message.body)?;
            return Ok(());
        }
    }
    bail!("there is no dead letter '{id}' among the first {MOST}; 'crosswatch queue dead list' names them")
}

async fn redrive(queue: &Queue, stage: Option<Stage>) -> anyhow::Result<()> {
    needs_sqs(queue, "redrive")?;
    let found = in_queues(queue, stage).await?;
    if found.is_empty() {
        println!("the queues have no dead-letter queue (RedrivePolicy): there is nothing to send");
    }
    for Found { sqs, source, .. } in found {
        match (sqs.move_back().await, source) {
            (Ok(()), _) => {
                println!("SQS has begun to move the messages of {} to the queues they came from", sqs.url())
            }
            (Err(failure), Some(source)) if matches!(failure.kind, Kind::Refused | Kind::Denied) => {
                eprintln!("{failure}: they are moved one by one");
                let moved = one_by_one(&sqs, &source).await?;
                println!("{moved} messages of {} are in {} again", sqs.url(), source.url());
            }
            (Err(failure), _) => return Err(of(sqs.url(), &failure)),
        }
    }
    Ok(())
}

/// A message is deleted once it was taken; a death in between leaves it in both, which does no harm.
async fn one_by_one(dead: &Sqs, source: &Sqs) -> anyhow::Result<usize> {
    let mut moved = 0;
    loop {
        let received = dead.receive(Duration::from_secs(1), MOVING).await;
        let messages = received.map_err(|failure| of(dead.url(), &failure))?;
        if messages.is_empty() {
            return Ok(moved);
        }
        // One a call: ten may be larger together than a call takes.
        let mut sent = Vec::with_capacity(MESSAGES);
        for message in &messages {
            let each = source.send(std::slice::from_ref(&message.body)).await;
            let each = each.map_err(|failure| of(source.url(), &failure))?;
            each.into_iter().collect::<Result<(), _>>().map_err(|failure| of(source.url(), &failure))?;
            sent.push(message.handle.as_str());
        }
        let each = dead.delete(&sent).await.map_err(|failure| of(dead.url(), &failure))?;
        each.into_iter().collect::<Result<(), _>>().map_err(|failure| of(dead.url(), &failure))?;
        moved += sent.len();
    }
}

/// The messages of a stage's dead-letter queues, each once.
pub(super) async fn letters(queue: &Queue, stage: Stage) -> anyhow::Result<Vec<source::Letter>> {
    let (mut letters, mut known) = (Vec::new(), HashSet::new());
    for Found { sqs, .. } in in_queues(queue, Some(stage)).await? {
        let messages = peek::look_for(&sqs, MOST, READING).await?;
        if messages.len() == MOST {
            eprintln!("{}: only the first {MOST} messages are read", sqs.url());
        }
        for message in messages.into_iter().filter(|message| known.insert(message.id.clone())) {
            let place = format!("message {} of {}", message.id, sqs.url());
            let payload = body::decode(&message.body).map_err(|error| error.to_string());
            letters.push(source::Letter { place, sent: message.sent, payload });
        }
    }
    // SQS gives them in any order.
    letters.sort_by_key(|letter| letter.sent);
    Ok(letters)
}

fn in_file(queue: &Queue, stage: Stage) -> anyhow::Result<Vec<DeadLetter>> {
    Ok(dead_letters(&stage.file(queue), 0, MOST)?)
}

async fn in_queues(queue: &Queue, stage: Option<Stage>) -> anyhow::Result<Vec<Found>> {
    if StageQueues::of(&queue.kind).is_none() {
        return Ok(Vec::new());
    }
    let found = find(&Session::load().await, queue, stage).await?;
    Ok(found.into_iter().filter(|found| found.role == Role::Dead).collect())
}
