//! `replay --into queue`: observations once more to the stages, marked as replayed.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail};
use crosswatch_aws::Kind as Failing;
use crosswatch_aws::cloudwatch::LATE;
use crosswatch_aws::sqs::Sqs;
use crosswatch_collector::forward::plan::Share;
use crosswatch_host::clock;
use crosswatch_publisher::config::Kind;
use crosswatch_replay::PutBackOf;
use crosswatch_replay::put_back::{Desk, Packing};
use crosswatch_replay::source::Piece;
use crosswatch_shared::config::topology::{Queue, QueueKind, SqsQueue};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{PutBack, encode_put_back};
use crosswatch_sqs::body::fitting;
use crosswatch_sqs::send::{Load, Post, Sender};
use crosswatch_sqs::way_out;
use tokio::runtime::Runtime;
use tokio::time::Instant;

use crate::cli::InputArgs;
use crate::config::Config;
use crate::input;
use crate::owner::as_owner_of;
use crate::progress::Progress;
use crate::queue::Stage;

/// How many messages are put back at a time.
const TOGETHER: usize = 50;

/// How long a queue may take nothing.
const PATIENCE: Duration = Duration::from_secs(60);

/// Puts back what is named. `pages` says whether the alerters are to judge it.
pub(crate) fn run(config: &Config, args: &InputArgs, pages: bool) -> anyhow::Result<()> {
    let (topology, now) = (&config.topology, clock::now());
    let period = config.metrics.period;
    let (mut source, narrowed) = input::open_periods(args, topology, period, now)?;
    let mut queues = Queues::open(&topology.queue, pages, now)?;
    let mut packing = Packing::new(&narrowed, period, pages);
    let (mut ready, mut progress) = (Vec::new(), Progress::begin());
    let (mut read, mut oldest) = (0, Timestamp::MAX);
    let mut put = |ready: &mut Vec<PutBack>| {
        let times = ready.iter().flat_map(|of| &of.observations).map(|of| of.at);
        oldest = times.min().map_or(oldest, |at| at.min(oldest));
        queues.put(ready)?;
        ready.clear();
        anyhow::Ok(())
    };
    let again = "what was put back is; the same command once more puts back the rest, and nothing twice";
    while let Some(piece) = source.next()? {
        read += match &piece {
            Piece::Row(..) => 1,
            Piece::Batch(batch, _) => batch.observations.len() as u64,
            Piece::Skipped(_) => 0,
        };
        packing.take(&piece, &mut ready);
        if ready.len() >= TOGETHER {
            put(&mut ready).context(again)?;
        }
        progress.tell(read, source.progress());
    }
    let counts = packing.end(&mut ready);
    put(&mut ready).context(again)?;
    progress.end();
    eprint!("{}", PutBackOf(&counts));
    if config.metrics.kind == Kind::CloudWatch && now.since(oldest) > LATE {
        eprintln!("some of it is older than 3 h: CloudWatch shows that hours later, and no alarm sees it");
    }
    Ok(())
}

/// Where it goes.
enum Queues {
    /// Beside the journals of this machine.
    Desk(Desk),
    /// Queues of SQS, each with the links that go there.
    Sqs(Runtime, Vec<(SqsQueue, Share, Sender)>),
}

impl Queues {
    fn open(queue: &Queue, pages: bool, now: Timestamp) -> anyhow::Result<Self> {
        let QueueKind::Sqs { publisher, alerter } = &queue.kind else {
            let files = [Stage::Publisher, Stage::Alerter].map(|stage| stage.file(queue));
            let desk = as_owner_of(&queue.path, || Ok(Desk::open(&queue.path, &files, now)))?;
            return Ok(Self::Desk(desk?));
        };
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.context("cannot start the runtime")?;
        // Who is not to judge it need not get it.
        let stages = [publisher.as_slice(), if pages { alerter.as_slice() } else { &[] }];
        let queues = runtime.block_on(async {
            let session = crate::aws::session().await;
            let post = |url: &String| Arc::new(Sqs::new(session, url)) as Arc<dyn Post>;
            let sender = |queue: &SqsQueue| Sender::new(post(&queue.url), queue.standby.as_ref().map(post));
            let of_stage = |queues: &&[SqsQueue]| {
                let of = queues.len();
                let with = move |(index, queue): (usize, &SqsQueue)| {
                    // Of two alerters each judges for itself.
                    let second =
                        queue.second.iter().cloned().map(|url| SqsQueue { url, standby: None, second: None });
                    let all = std::iter::once(queue.clone()).chain(second);
                    all.map(move |queue| (queue, Share { index, of })).collect::<Vec<_>>()
                };
                queues.iter().enumerate().flat_map(with).collect::<Vec<_>>()
            };
            let queues = stages.iter().flat_map(of_stage);
            queues
                .map(|(queue, share)| {
                    let sender = sender(&queue);
                    (queue, share, sender)
                })
                .collect()
        });
        Ok(Self::Sqs(runtime, queues))
    }

    /// All of these are in the queues when this returns.
    fn put(&mut self, all: &[PutBack]) -> anyhow::Result<()> {
        match self {
            Self::Desk(desk) => Ok(desk.put(all, clock::now())?),
            Self::Sqs(runtime, queues) => runtime.block_on(async {
                for (queue, share, sender) in queues {
                    let mut bodies = Vec::new();
                    for of in all {
                        let mut own = PutBack { observations: Vec::new(), ..of.clone() };
                        own.observations.extend(of.observations.iter().filter(|of| share.has(of)).cloned());
                        bodies_of(own, &mut bodies)?;
                    }
                    deliver(queue, sender, bodies).await?;
                }
                Ok(())
            }),
        }
    }
}

/// One message, or as many as it takes.
fn bodies_of(mut put_back: PutBack, bodies: &mut Vec<String>) -> anyhow::Result<()> {
    if put_back.observations.is_empty() {
        return Ok(());
    }
    if let Some(body) = fitting(encode_put_back(&put_back)) {
        bodies.push(body);
        return Ok(());
    }
    let half = put_back.observations.len() / 2;
    if half == 0 {
        bail!("an observation of {} is larger than a message of SQS may be", put_back.origin.site);
    }
    let rest = PutBack { observations: put_back.observations.split_off(half), ..put_back.clone() };
    bodies_of(put_back, bodies)?;
    bodies_of(rest, bodies)
}

async fn deliver(queue: &SqsQueue, sender: &mut Sender, bodies: Vec<String>) -> anyhow::Result<()> {
    let mut load = Load::new(bodies);
    let mut taken = Instant::now();
    while !load.is_done() {
        let attempt = sender.attempt(&mut load).await;
        match attempt.failure {
            _ if attempt.taken > 0 => taken = Instant::now(),
            Some(failure)
                if taken.elapsed() > PATIENCE
                    || matches!(failure.kind, Failing::Refused | Failing::Denied) =>
            {
                bail!("queue {}: {failure}; {}", queue.url, way_out(&failure));
            }
            _ => {}
        }
    }
    Ok(())
}
