//! The collector's journal on disk: appended to by this collector alone, and pruned of what every consumer has had.

use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_host::clock;
use crosswatch_journal::{Dropped, Writer};
use crosswatch_queue::positions;
use crosswatch_shared::config::topology::Queue;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;

use crate::spool::{Journal, JournalError};

/// How many small steps one pruning takes at the most, so that appending is never kept waiting for long.
const STEPS: usize = 16;

/// A site's journal in the queue's folder.
#[derive(Debug)]
pub struct OnDisk {
    site: Name,
    writer: Writer,
    keep: Duration,
    max_bytes: u64,
    consumers: Vec<PathBuf>,
}

impl OnDisk {
    /// Opens the site's journal, or begins it. `consumers` are the files of those who read it, in the queue's folder:
    /// what one of them has not had stays, unless the journal grows beyond its size.
    ///
    /// # Errors
    /// The journal is damaged, foreign, newer or in use, or the folder does not let it be written.
    pub fn open(
        queue: &Queue,
        site: &Name,
        consumers: &[&Path],
    ) -> Result<Self, crosswatch_journal::JournalError> {
        Ok(Self {
            site: site.clone(),
            writer: Writer::open(&queue.path.join("journal"), site)?,
            keep: queue.keep,
            max_bytes: queue.max_bytes,
            consumers: consumers.iter().map(|file| queue.path.join(file)).collect(),
        })
    }
}

impl Journal for OnDisk {
    fn append(&mut self, batch: &Batch) -> Result<(), JournalError> {
        self.writer.append(batch, clock::now())?;
        Ok(())
    }

    fn prune(&mut self, now: Timestamp) -> Result<(), JournalError> {
        let consumers = positions(&self.site, self.writer.identity(), &self.consumers);
        let mut dropped = Vec::new();
        for _ in 0..STEPS {
            let pruned = self.writer.prune(now, self.keep, self.max_bytes, &consumers)?;
            dropped.extend(pruned.dropped);
            if !pruned.more {
                break;
            }
        }
        if dropped.is_empty() {
            return Ok(());
        }
        let gaps: Vec<_> = dropped.iter().map(gap).collect();
        Err(format!("the journal was beyond its size of {} bytes: {}", self.max_bytes, gaps.join("; "))
            .into())
    }
}

fn gap(dropped: &Dropped) -> String {
    let Dropped { consumer, observations, first_at, last_at, .. } = dropped;
    format!("{consumer} lost {observations} observations made from {first_at} to {last_at}")
}
