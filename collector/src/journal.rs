//! The site's journal on this machine's disk, as the collector uses it: appended to, and pruned.

use std::path::Path;
use std::time::Duration;

use crosswatch_host::clock;
use crosswatch_journal::{Dropped, JournalError, Position, Sealing, Writer};
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;

use crate::spool::{self, Journal, Pruned};

/// Where the consumers are in the journal of this identity; asked before each pruning.
pub type Positions = Box<dyn FnMut(&str) -> Vec<Position> + Send>;

/// The site's journal, of which this is the only writer.
pub struct SiteJournal {
    writer: Writer,
    keep: Duration,
    max_bytes: u64,
    positions: Positions,
    sealing: Sealing,
}

impl SiteJournal {
    /// Opens the journal in this folder, or begins it. What every consumer has had is kept this long; beyond so many
    /// bytes the oldest goes, had or not, and the gap is observed.
    ///
    /// # Errors
    /// As [`Writer::open`].
    pub fn open(
        folder: &Path,
        site: &str,
        keep: Duration,
        max_bytes: u64,
        positions: Positions,
    ) -> Result<Self, JournalError> {
        let (writer, sealing) = (Writer::open(folder, site)?, Sealing::default());
        Ok(Self { writer, keep, max_bytes, positions, sealing })
    }
}

impl Journal for SiteJournal {
    fn append(&mut self, batch: &Batch) -> Result<(), spool::JournalError> {
        self.writer.append(batch, clock::now())?;
        Ok(())
    }

    fn newest_boot(&self) -> Result<Option<Name>, spool::JournalError> {
        Ok(self.writer.newest(1)?.pop().map(|(_, boot, _)| boot))
    }

    fn prune(&mut self, now: Timestamp) -> Result<Pruned, spool::JournalError> {
        let positions = (self.positions)(self.writer.identity());
        let pruned = self.writer.prune(now, self.keep, self.max_bytes, &positions)?;
        let sealing = match self.sealing.step(&mut self.writer, now, &positions) {
            Ok(step) => step.more,
            // The rows are as they were; keeping them so is no harm but for room.
            Err(error) => {
                tracing::warn!(%error, "the journal's old entries were not sealed");
                false
            }
        };
        Ok(Pruned { gaps: pruned.dropped.iter().map(gap).collect(), more: pruned.more, sealing })
    }

    fn prune_all(&mut self, now: Timestamp) -> Result<Vec<String>, spool::JournalError> {
        let positions = (self.positions)(self.writer.identity());
        let mut gaps = Vec::new();
        loop {
            let pruned = self.writer.prune(now, self.keep, self.max_bytes, &positions)?;
            gaps.extend(pruned.dropped.iter().map(gap));
            if !pruned.more {
                break;
            }
        }
        if let Err(error) = self.sealing.all(&mut self.writer, now, &positions) {
            tracing::warn!(%error, "the journal's old entries were not sealed");
        }
        Ok(gaps)
    }
}

fn gap(dropped: &Dropped) -> String {
    let Dropped { consumer, batches, observations, first_at, last_at } = dropped;
    format!(
        "the journal is beyond its size: {consumer} will never get {observations} observations ({batches} batches) \
         from {first_at} to {last_at}"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_shared::observation::{Body, Observation, Origin, Outcome};

    fn batch(number: u64) -> Batch {
        Batch {
            origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
            number,
            through: Timestamp::from_secs(1),
            observations: vec![Observation {
                at: Timestamp::from_secs(0),
                seq: number,
                body: Body::Probe {
                    link: "l".into(),
                    probe: "p".into(),
                    outcome: Outcome::Reply { rtt_ms: 1.0 },
                    detail: None,
                },
            }],
        }
    }

    /// Else a site with more than 1,092 observations a second would have ever more unsealed ones.
    #[test]
    fn one_segment_after_the_other_is_sealed_with_no_pause_between_them() {
        let folder = tempfile::tempdir().unwrap();
        let path = crosswatch_journal::file(folder.path(), "a");
        let open = || {
            let nobody = Box::new(|_: &str| Vec::new());
            SiteJournal::open(folder.path(), "a", Duration::from_hours(24), u64::MAX >> 1, nobody).unwrap()
        };
        let mut journal = open();
        // Three segments, and what stays as it is.
        let large = |number| {
            let one = batch(number).observations.pop().unwrap();
            let observations = (0..10_000).map(|seq| Observation { seq, ..one.clone() }).collect();
            Batch { observations, ..batch(number) }
        };
        (0..18).for_each(|number| journal.append(&large(number)).unwrap());
        (18..18 + 1_024).for_each(|number| journal.append(&batch(number)).unwrap());
        let later = clock::now() + Duration::from_hours(2);
        let segments = || std::fs::read_dir(crosswatch_journal::segments(&path)).map_or(0, Iterator::count);
        let (mut pauses, begun) = (0, std::time::Instant::now());
        loop {
            assert!(begun.elapsed() < Duration::from_secs(60), "{} segments", segments());
            let pruned = journal.prune(later).unwrap();
            if pruned.again_in() > Duration::from_secs(1) {
                pauses += 1;
                if pauses > 1 {
                    break;
                }
            }
            std::thread::yield_now();
        }
        assert_eq!(segments(), 3);
    }

    /// Nobody comes back to it before it ends.
    #[test]
    fn who_ends_soon_prunes_and_seals_all_at_once() {
        let folder = tempfile::tempdir().unwrap();
        let path = crosswatch_journal::file(folder.path(), "a");
        let keep = Duration::from_hours(48);
        let nobody = Box::new(|_: &str| Vec::new());
        let mut journal = SiteJournal::open(folder.path(), "a", keep, u64::MAX >> 1, nobody).unwrap();
        (0..2_500).for_each(|number| journal.append(&batch(number)).unwrap());
        let hours = |hours| clock::now() + Duration::from_hours(hours);
        let segments = || std::fs::read_dir(crosswatch_journal::segments(&path)).map_or(0, Iterator::count);
        assert_eq!(journal.prune_all(hours(26)).unwrap(), [""; 0]);
        assert_eq!(segments(), 1);
        let reader = || crosswatch_journal::Reader::open(&path).unwrap();
        assert_eq!(reader().backlog(0).unwrap().batches, 2_500);
        journal.prune_all(hours(50)).unwrap();
        assert_eq!((segments(), reader().backlog(0).unwrap().batches), (0, 0));
    }

    #[test]
    fn what_a_consumer_has_not_had_goes_only_for_want_of_room_and_is_told() {
        let folder = tempfile::tempdir().unwrap();
        let open = |max_bytes| {
            let behind = |_: &str| vec![Position { consumer: "alerter".to_owned(), id: 0 }];
            SiteJournal::open(folder.path(), "a", Duration::ZERO, max_bytes, Box::new(behind)).unwrap()
        };
        let mut journal = open(u64::MAX >> 1);
        journal.append(&batch(0)).unwrap();
        journal.append(&batch(1)).unwrap();
        let later = clock::now() + Duration::from_secs(3600);
        assert_eq!(journal.prune(later).unwrap(), Pruned::default());
        drop(journal);
        let pruned = open(1).prune(later).unwrap();
        assert_eq!(pruned.gaps.len(), 1, "{pruned:?}");
        assert!(pruned.gaps[0].contains("alerter will never get "), "{pruned:?}");
    }
}
