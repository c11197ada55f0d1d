//! What came from each site, kept on this machine: with SQS nothing of it is here otherwise, and `status`, `export` and
//! `replay` read journals. A batch is on the disk before it is judged, and so before the queue is told.
//!
//! A batch that was appended and then not settled (a crash, a full disk) comes again; it is among the newest then, and
//! those are remembered, so that it is not there twice.

use std::collections::{BTreeMap, VecDeque};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use crosswatch_journal::{JournalError, Sealing, Writer};
use crosswatch_queue::{Delivery, blocking};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;

/// The folder of the journals in the queue's folder.
pub const HISTORY: &str = "history";

/// How many of a site's newest batches are remembered: more than can have been received and not settled.
const NEWEST: usize = 1_024;

/// How often it is pruned.
const PRUNE: Duration = Duration::from_secs(60);

/// How soon the next segment is looked for after one that was sealed: a history must be sealed as fast as it grows.
const SEAL: Duration = Duration::from_secs(1);

/// A journal a site, of which this is the only writer.
#[derive(Debug)]
pub(crate) struct History {
    sites: BTreeMap<Name, Site>,
    keep: Duration,
    max_bytes: u64,
    /// When the next pruning is due.
    prune: Instant,
}

#[derive(Debug)]
struct Site {
    writer: Writer,
    sealing: Sealing,
    newest: VecDeque<(u64, Name, Name)>,
}

/// The folder of the history.
pub(crate) fn folder(queue: &Path) -> PathBuf {
    queue.join(HISTORY)
}

impl History {
    /// Opens the journals of the configured sites, or begins them.
    pub(crate) fn open(topology: &Topology, now: Instant) -> Result<Self, JournalError> {
        let folder = folder(&topology.queue.path);
        let site = |name: &Name| {
            let writer = Writer::open(&folder, name)?;
            let newest = writer.newest(NEWEST)?;
            let newest =
                newest.into_iter().map(|(collector, boot, number)| (number, collector, boot)).collect();
            Ok((name.clone(), Site { writer, sealing: Sealing::default(), newest }))
        };
        Ok(Self {
            sites: topology.sites.iter().map(|of| site(&of.name)).collect::<Result<_, JournalError>>()?,
            keep: topology.queue.keep,
            max_bytes: topology.queue.max_bytes,
            prune: now + PRUNE,
        })
    }

    /// Appends what is not there yet, in the order received; it is on the disk when this returns. What comes from a site
    /// that the config lacks has no journal. Gives the sites of which something was there already.
    pub(crate) fn append(
        &mut self,
        deliveries: &[Delivery],
        now: Timestamp,
    ) -> Result<Vec<Name>, JournalError> {
        let mut again = Vec::new();
        blocking(|| {
            self.sites.iter_mut().try_for_each(|(name, site)| {
                let of_site = deliveries.iter().map(|delivery| &delivery.batch);
                let of_site = of_site.filter(|batch| batch.origin.site == *name);
                let (new, known): (Vec<&Batch>, Vec<_>) =
                    of_site.partition(|batch| !site.newest.contains(&key(batch)));
                if !known.is_empty() {
                    again.push(name.clone());
                }
                if new.is_empty() {
                    return Ok(());
                }
                site.writer.append_all(new.iter().copied(), now)?;
                site.newest.extend(new.into_iter().map(key));
                let beyond = site.newest.len().saturating_sub(NEWEST);
                site.newest.drain(..beyond);
                Ok(())
            })
        })
        .map(|()| again)
    }

    /// Prunes what is due, one small step a site; what fails is tried again with the next.
    pub(crate) fn prune(&mut self, steady: Instant, now: Timestamp) {
        if steady < self.prune {
            return;
        }
        let (mut more, mut sealing_more) = (false, false);
        for (site, Site { writer, sealing, .. }) in &mut self.sites {
            match blocking(|| sealing.step(writer, now, &[])) {
                Ok(step) => sealing_more |= step.more,
                Err(error) => tracing::warn!(%site, %error, "the history's old entries were not sealed"),
            }
            match blocking(|| writer.prune(now, self.keep, self.max_bytes, &[])) {
                Ok(pruned) => more |= pruned.more,
                Err(error) => tracing::warn!(%site, %error, "the history was not pruned"),
            }
        }
        if !more {
            self.prune = steady + if sealing_more { SEAL } else { PRUNE };
        }
    }
}

fn key(batch: &Batch) -> (u64, Name, Name) {
    (batch.number, batch.origin.collector.clone(), batch.origin.boot.clone())
}
