//! `queue capture`: a queue's batches into journals.

use std::collections::{BTreeMap, HashSet};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context, bail};
use crosswatch_aws::Session;
use crosswatch_host::clock;
use crosswatch_journal::Writer;
use crosswatch_queue::Queue as _;
use crosswatch_shared::config::topology::Queue;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::wire::{Decoded, Message as Wire, Names, decode_message};
use crosswatch_sqs::receive::Receiver;

use super::{Stage, needs_sqs};

/// How many batches are written at once.
const LIMIT: usize = 100;

/// How long a read waits.
const WAIT: Duration = Duration::from_secs(1);

/// How many reads in a row may give nothing although the queue is not empty, as while it fails.
const PATIENCE: u32 = 15;

const IN_THE_WAY: &str = "messages that are not captured are in the way; let the stage run, which takes them, or puts what cannot be read among its dead letters";

/// Longer than any capture: what cannot be read is not handed out again meanwhile, and given back in the end.
const ASIDE: Duration = Duration::from_hours(12);

pub(super) async fn run(queue: &Queue, stage: Stage, into: &Path) -> anyhow::Result<()> {
    needs_sqs(queue, "capture")?;
    std::fs::create_dir_all(into).with_context(|| format!("cannot make the folder {}", into.display()))?;
    let session = Session::load().await;
    for queue in stage.queues(queue).unwrap_or_default() {
        let mut receiver = Receiver::open(&session, queue);
        let mut captured = Captured::default();
        let result = captured.all(&mut receiver, into).await;
        receiver.close().await;
        let Captured { batches, repeated, observations, unreadable, others, .. } = captured;
        println!(
            "{}: {batches} batches of {observations} observations are in {}; {repeated} came twice",
            queue.url,
            into.display()
        );
        if unreadable > 0 {
            println!("{unreadable} messages cannot be read and stay in the queue");
        }
        if others > 0 {
            println!(
                "{others} messages are no collector's: what a replay put back, or what another alerter tells; they stay in the \
                 queue"
            );
        }
        result?;
    }
    Ok(())
}

/// What was captured so far.
#[derive(Default)]
struct Captured {
    writers: BTreeMap<Name, Writer>,
    known: HashSet<(Name, Name, u64)>,
    names: Names,
    batches: u64,
    repeated: u64,
    observations: u64,
    unreadable: u64,
    others: u64,
}

impl Captured {
    /// Until the queue is empty.
    async fn all(&mut self, receiver: &mut Receiver, into: &Path) -> anyhow::Result<()> {
        let mut in_vain = 0;
        loop {
            let page = receiver.receive(LIMIT, WAIT).await?;
            in_vain = if page.messages.is_empty() && !page.empty { in_vain + 1 } else { 0 };
            if in_vain > PATIENCE {
                bail!("{}", page.failing.unwrap_or_else(|| IN_THE_WAY.to_owned()));
            }
            let (mut done, mut aside) = (Vec::new(), Vec::new());
            let mut of_sites: BTreeMap<Name, Vec<Batch>> = BTreeMap::new();
            for message in page.messages {
                let batch = match message.unreadable {
                    Some(_) => None,
                    None => match decode_message(&message.payload, &mut self.names) {
                        Ok(Wire::Batch(Decoded { batch, told, .. })) if told.is_empty() => Some(batch),
                        Ok(Wire::Batch(_) | Wire::PutBack(..)) => {
                            self.others += 1;
                            aside.push(message.receipt);
                            continue;
                        }
                        Err(_) => None,
                    },
                };
                let Some(batch) = batch.filter(|batch| self.opens(batch, into)) else {
                    self.unreadable += 1;
                    aside.push(message.receipt);
                    continue;
                };
                done.push(message.receipt);
                let Batch { origin, number, .. } = &batch;
                if self.known.insert((origin.collector.clone(), origin.boot.clone(), *number)) {
                    self.batches += 1;
                    self.observations += batch.observations.len() as u64;
                    of_sites.entry(origin.site.clone()).or_default().push(batch);
                } else {
                    self.repeated += 1;
                }
            }
            let now = clock::now();
            for (site, batches) in &of_sites {
                if let Some(writer) = self.writers.get_mut(site) {
                    writer.append_all(batches, now)?;
                }
            }
            receiver.commit(&done).await?;
            receiver.extend(&aside, ASIDE).await?;
            if page.empty && done.is_empty() && aside.is_empty() {
                return Ok(());
            }
        }
    }

    /// Whether there is a journal for this batch; one that is there already is appended to.
    fn opens(&mut self, batch: &Batch, into: &Path) -> bool {
        let site = &batch.origin.site;
        if self.writers.contains_key(site) {
            return i64::try_from(batch.number).is_ok();
        }
        match Writer::open(into, site) {
            Ok(writer) => {
                self.writers.insert(site.clone(), writer);
                i64::try_from(batch.number).is_ok()
            }
            Err(error) => {
                eprintln!("{error}; the batch stays in the queue");
                false
            }
        }
    }
}
