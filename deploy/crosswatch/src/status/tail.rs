//! The end of a site's journal: each probe's newest outcome, and since when it has been like that.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use crosswatch_journal::{JournalError, Reader, file};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::evidence::Evidence;
use crosswatch_shared::observation::{Body, Lost, Name, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch};

/// How far back is looked at the most.
const BACK: Duration = Duration::from_secs(3_600);
const OBSERVATIONS: usize = 200_000;

/// How much is read at a time.
const PAGE_BATCHES: usize = 64;
const PAGE_BYTES: usize = 4 << 20;

/// What a site's journal ends with.
#[derive(Debug, Default)]
pub(super) struct Tail {
    /// When the collector last wrote.
    pub(super) written_at: Option<Timestamp>,
    probes: HashMap<(Name, Name), Seen>,
    /// When the tunnels were last seen, and how many were up.
    vpns: HashMap<(Name, Name), (Timestamp, usize)>,
    /// The newest of each probe.
    evidence: HashMap<(Name, Name), Box<Evidence>>,
}

/// A probe's newest outcome.
#[derive(Debug)]
pub(super) struct Seen {
    pub(super) at: Timestamp,
    pub(super) outcome: Outcome,
    /// The oldest of the unbroken row of outcomes like it.
    pub(super) since: Timestamp,
    /// Whether the row may go on further back than was looked.
    pub(super) or_longer: bool,
}

impl Seen {
    pub(super) fn is_up(&self) -> bool {
        matches!(self.outcome, Outcome::Reply { .. })
    }
}

impl Tail {
    /// Reads backwards until every probe's row of like outcomes has begun, or far enough.
    pub(super) fn read(
        folder: &Path,
        site: &Name,
        topology: &Topology,
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let mut reader = Reader::open(&file(folder, site))?;
        let mut tail = Self::default();
        let mut names = Names::default();
        let mut open = topology.probes().filter(|(_, probe)| probe.from == *site).count();
        let (mut read, mut before) = (0, None);
        while open > 0 && read < OBSERVATIONS {
            let page = reader.newest(before, PAGE_BATCHES, PAGE_BYTES)?;
            let Some(oldest) = page.last() else {
                // All there is has been read: a row begins with the first observation of all.
                tail.probes.values_mut().for_each(|seen| seen.or_longer = false);
                break;
            };
            before = Some(oldest.id);
            let far = now.since(oldest.written_at) > BACK;
            for entry in page {
                tail.written_at = tail.written_at.max(Some(entry.written_at));
                // What cannot be read is the consumers' matter, who keep it as a dead letter.
                let Ok(decoded) = decode_batch(&entry.payload, &mut names) else { continue };
                read += decoded.batch.observations.len();
                for observation in decoded.batch.observations.into_iter().rev() {
                    open -= usize::from(tail.take(observation.at, observation.body));
                }
            }
            if far {
                break;
            }
        }
        Ok(tail)
    }

    pub(super) fn probe(&self, link: &Name, probe: &Name) -> Option<&Seen> {
        self.probes.get(&(link.clone(), probe.clone()))
    }

    /// What was seen once the probe was lost, if that was since it has been down.
    pub(super) fn evidence(&self, link: &Name, probe: &Name) -> Option<&Evidence> {
        let key = (link.clone(), probe.clone());
        let down_since = self.probes.get(&key).filter(|seen| !seen.is_up())?.since;
        self.evidence.get(&key).filter(|evidence| evidence.at >= down_since).map(|evidence| &**evidence)
    }

    pub(super) fn vpn(&self, link: &Name, id: &str) -> Option<(Timestamp, usize)> {
        self.vpns.get(&(link.clone(), id.into())).copied()
    }

    pub(super) fn vpns<'a>(&'a self, link: &'a Name) -> impl Iterator<Item = &'a str> {
        self.vpns.keys().filter(move |(of, _)| of == link).map(|(_, id)| &**id)
    }

    /// Takes an observation older than all before; `true` if it ends a probe's row.
    fn take(&mut self, at: Timestamp, body: Body) -> bool {
        match body {
            Body::Probe { outcome: Outcome::Lost(Lost::Local), .. }
            | Body::Collection { .. }
            | Body::Drill { .. } => false,
            Body::Probe { link, probe, outcome, .. } => {
                let seen = self.probes.entry((link, probe)).or_insert(Seen {
                    at,
                    outcome,
                    since: at,
                    or_longer: true,
                });
                if !seen.or_longer {
                    return false;
                }
                if seen.is_up() == matches!(outcome, Outcome::Reply { .. }) {
                    seen.since = at;
                    return false;
                }
                seen.or_longer = false;
                true
            }
            Body::Evidence { link, probe, evidence } => {
                self.evidence.entry((link, probe)).or_insert(evidence);
                false
            }
            Body::Tunnels { link, vpn, tunnels } => {
                let up = tunnels.iter().filter(|tunnel| tunnel.up).count();
                self.vpns.entry((link, vpn)).or_insert((at, up));
                false
            }
        }
    }
}
