//! `queue peek`: what a message is, without taking it.

use std::io::{self, Write};
use std::time::Duration;

use crosswatch_aws::Session;
use crosswatch_aws::sqs::{MESSAGES, Received, Sqs};
use crosswatch_shared::config::topology::Queue;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Message as Wire, Names, PutBack, decode_message};
use crosswatch_sqs::body;
use serde::Serialize;

use super::{Role, Stage, find, needs_sqs, of};
use crate::cli::Format;

/// How long what is looked at is hidden from others, if it cannot be given back.
const HIDDEN: Duration = Duration::from_secs(30);

/// What a message holds.
#[derive(Debug, Serialize)]
pub(super) struct Looked {
    pub(super) stage: Stage,
    pub(super) role: Role,
    pub(super) queue: String,
    pub(super) id: String,
    pub(super) sent: Timestamp,
    pub(super) receives: u32,
    /// A batch in a few words, or why it is none.
    #[serde(flatten)]
    pub(super) content: Content,
}

#[derive(Debug, Serialize)]
#[serde(untagged)]
pub(super) enum Content {
    Batch { site: String, boot: String, number: u64, through: Timestamp, observations: usize },
    PutBack { site: String, boot: String, pages: bool, observations: usize },
    Unreadable { reason: String },
}

pub(super) async fn run(
    queue: &Queue,
    stage: Option<Stage>,
    force: bool,
    limit: usize,
    format: Format,
) -> anyhow::Result<()> {
    needs_sqs(queue, "peek")?;
    let session = Session::load().await;
    let mut looked = Vec::new();
    let mut looked_into = 0;
    for found in find(&session, queue, stage).await? {
        if found.role != Role::Dead && !force {
            continue;
        }
        looked_into += 1;
        let messages = look(&found.sqs, limit).await?;
        looked.extend(messages.iter().map(|message| content(found.stage, found.role, &found.sqs, message)));
    }
    if looked_into == 0 {
        eprintln!(
            "the queues have no dead-letter queue (RedrivePolicy); --force looks into the queues themselves"
        );
    } else if looked.is_empty() {
        eprintln!("no message lies there");
    }
    print(&looked, format)
}

pub(super) fn print(looked: &[Looked], format: Format) -> anyhow::Result<()> {
    let mut out = io::stdout().lock();
    if format == Format::Json {
        writeln!(out, "{}", serde_json::to_string_pretty(looked)?)?;
        return Ok(());
    }
    for Looked { stage, role, id, sent, receives, content, .. } in looked {
        write!(out, "{} {} {id} sent {sent}, received {receives} times: ", stage.word(), role.word())?;
        match content {
            Content::Batch { site, boot, number, through, observations } => writeln!(
                out,
                "batch {number} of {site}, boot {boot}, {observations} observations through {through}"
            )?,
            Content::PutBack { site, boot, pages, observations } => {
                let pages = if *pages { ", to be judged" } else { "" };
                writeln!(
                    out,
                    "{observations} observations of {site}, boot {boot}, put back by a replay{pages}"
                )?
            }
            Content::Unreadable { reason } => writeln!(out, "cannot be read: {reason}")?,
        }
    }
    Ok(())
}

/// Receives up to so many messages, and gives them back at once.
pub(super) async fn look(sqs: &Sqs, limit: usize) -> anyhow::Result<Vec<Received>> {
    look_for(sqs, limit, HIDDEN).await
}

/// The same where they are many: none is shown twice as long as they are hidden from others.
pub(super) async fn look_for(sqs: &Sqs, limit: usize, hidden: Duration) -> anyhow::Result<Vec<Received>> {
    let mut messages = Vec::new();
    let mut failed = None;
    while messages.len() < limit {
        match sqs.receive(Duration::from_secs(1), hidden).await {
            Ok(some) if some.is_empty() => break,
            Ok(some) => messages.extend(some),
            Err(failure) => {
                failed = Some(of(sqs.url(), &failure));
                break;
            }
        }
    }
    // Before anything is said: whoever reads the output may end this process.
    for some in messages.chunks(MESSAGES) {
        let handles: Vec<&str> = some.iter().map(|message| message.handle.as_str()).collect();
        if let Err(failure) = sqs.extend(&handles, Duration::ZERO).await {
            eprintln!("messages were not given back; they are hidden for {hidden:?}: {failure}");
        }
    }
    messages.truncate(limit);
    failed.map_or(Ok(messages), Err)
}

pub(super) fn content(stage: Stage, role: Role, sqs: &Sqs, message: &Received) -> Looked {
    let batch = body::decode(&message.body)
        .map_err(|error| error.to_string())
        .and_then(|wire| decode_message(&wire, &mut Names::default()).map_err(|error| error.to_string()));
    let content = match batch {
        Ok(Wire::PutBack(PutBack { origin, pages, observations }, _)) => Content::PutBack {
            site: origin.site.to_string(),
            boot: origin.boot.to_string(),
            pages,
            observations: observations.len(),
        },
        Ok(Wire::Batch(decoded)) => Content::Batch {
            site: decoded.batch.origin.site.to_string(),
            boot: decoded.batch.origin.boot.to_string(),
            number: decoded.batch.number,
            through: decoded.batch.through,
            observations: decoded.batch.observations.len(),
        },
        Err(reason) => Content::Unreadable { reason },
    };
    Looked {
        stage,
        role,
        queue: sqs.url().to_owned(),
        id: message.id.clone(),
        sent: message.sent,
        receives: message.receives,
        content,
    }
}
