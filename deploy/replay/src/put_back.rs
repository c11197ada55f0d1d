//! Putting observations back into a queue, marked as replayed: [`Packing`] makes messages of what a source gives, [`Desk`] lays
//! them beside the journals of one machine.
//!
//! A message holds observations of one boot and one period of the metrics, whole where that fits: so a window that was put
//! already is put again as it was, and one that was cut off gets its rest in one piece.

mod desk;

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_judge::{Engine, Taken};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Body, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::PutBack;

use crate::counts::{Counts, concerned};
use crate::source::Piece;

pub use desk::Desk;

/// How many observations a message has at most.
pub const MOST: usize = 10_000;

/// How long after a period's end a row of a file may still come for it: a file keeps no promises.
const PATIENCE: Duration = Duration::from_secs(60);

/// See the module.
#[derive(Debug)]
pub struct Packing {
    period: Duration,
    pages: bool,
    /// Without rules: it knows what the config has, and what it was given before.
    engine: Engine,
    /// By period, then by boot.
    open: BTreeMap<Timestamp, BTreeMap<Origin, Vec<Observation>>>,
    counts: Counts,
}

impl Packing {
    /// For metrics of this period; `pages` says whether alerters are to judge it.
    #[must_use]
    pub fn new(topology: &Topology, period: Duration, pages: bool) -> Self {
        let engine = Engine::new(Vec::new(), topology);
        Self { period, pages, engine, open: BTreeMap::new(), counts: Counts::default() }
    }

    /// Takes a piece, and adds the messages that are ready.
    pub fn take(&mut self, piece: &Piece, out: &mut Vec<PutBack>) {
        let (site, over) = match piece {
            Piece::Skipped(skipped) => return self.counts.skip(skipped),
            Piece::Row(origin, observation) => {
                self.add(origin, observation, out);
                (&origin.site, observation.at - PATIENCE)
            }
            Piece::Batch(batch, _) => {
                batch.observations.iter().for_each(|of| self.add(&batch.origin, of, out));
                (&batch.origin.site, batch.through)
            }
        };
        self.close(Some(site), over, out);
    }

    /// Ends it. Gives what was counted; what was put back is counted as judged.
    pub fn end(mut self, out: &mut Vec<PutBack>) -> Counts {
        self.close(None, Timestamp::MAX, out);
        self.counts
    }

    fn add(&mut self, origin: &Origin, observation: &Observation, out: &mut Vec<PutBack>) {
        // A drill is over.
        if matches!(observation.body, Body::Drill { .. }) {
            self.counts.unwanted += 1;
            return;
        }
        match self.engine.observe(origin, observation, &mut Vec::new()) {
            Taken::Judged => self.counts.judged += 1,
            Taken::Seen => {
                self.counts.seen += 1;
                return;
            }
            Taken::Foreign => {
                *self.counts.foreign.entry(concerned(origin, observation)).or_default() += 1;
                return;
            }
        }
        let of_period = self.open.entry(observation.at.floor(self.period)).or_default();
        let observations = of_period.entry(origin.clone()).or_default();
        observations.push(observation.clone());
        if observations.len() >= MOST {
            let observations = std::mem::take(observations);
            out.push(PutBack { origin: origin.clone(), pages: self.pages, observations });
        }
    }

    /// Gives out the periods of a site, or of all, that are over.
    fn close(&mut self, site: Option<&Name>, over: Timestamp, out: &mut Vec<PutBack>) {
        let (period, pages) = (self.period, self.pages);
        let ended = self.open.iter_mut().take_while(|(start, _)| **start + period <= over);
        for (_, boots) in ended {
            let of_site = boots.extract_if(.., |origin, _| site.is_none_or(|site| *site == origin.site));
            out.extend(of_site.filter(|(_, observations)| !observations.is_empty()).map(
                |(origin, mut observations)| {
                    observations.sort_by_key(|observation| observation.seq);
                    PutBack { origin, pages, observations }
                },
            ));
        }
        self.open.retain(|_, boots| !boots.is_empty());
    }
}
