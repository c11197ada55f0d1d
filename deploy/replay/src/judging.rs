//! Judging what a source gives, as the alerter does: the same engine, the same incidents, the same event time.
//!
//! A batch moves event time by its promise, as it does live. A row of a file moves it to its own time. What the alerter
//! judges by its own clock, that a site has fallen silent, is not part of it.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crosswatch_judge::incident::{Event, Incidents};
use crosswatch_judge::rule::Rule;
use crosswatch_judge::{Engine, Taken, Transition};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::event_time::EventTime;
use crosswatch_shared::observation::{Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::{Datapoint, GRACE, MetricSet, Windows};

use crate::counts::{Counts, concerned};
use crate::source::Piece;

/// How often the verdicts of open incidents are judged anew while nothing else happens: the rhythm of a collector's batches.
const REVIEW: Duration = Duration::from_secs(1);

/// What came of a piece.
#[derive(Debug, Default)]
pub struct Found {
    /// In the order in which they were decided.
    pub transitions: Vec<Transition>,
    /// What became of incidents, where they are followed.
    pub events: Vec<Event>,
    /// Windows that are over, where they are made.
    pub datapoints: Vec<Datapoint>,
}

/// See the module.
#[derive(Debug)]
pub struct Judging {
    engine: Engine,
    incidents: Option<Incidents>,
    windows: Option<Windows>,
    /// Of the sites that batches came of.
    sites: BTreeMap<Name, EventTime>,
    /// The largest `at` of each site that rows came of.
    rows: HashMap<Name, Timestamp>,
    /// When the newest batch was received.
    received: Timestamp,
    /// When the verdicts of open incidents are due.
    review: Timestamp,
    counts: Counts,
}

impl Judging {
    /// By these rules, nothing known yet.
    #[must_use]
    pub fn new(rules: Vec<Rule>, topology: &Topology) -> Self {
        Self {
            engine: Engine::new(rules, topology),
            incidents: None,
            windows: None,
            sites: BTreeMap::new(),
            rows: HashMap::new(),
            received: Timestamp::MIN,
            review: Timestamp::MIN,
            counts: Counts::default(),
        }
    }

    /// The same, which also follows incidents.
    #[must_use]
    pub fn with_incidents(mut self) -> Self {
        self.incidents = Some(Incidents::default());
        self
    }

    /// The same, which also makes windows. A period is more than zero.
    #[must_use]
    pub fn with_windows(mut self, period: Duration, metrics: MetricSet) -> Self {
        self.windows = Some(Windows::new(period, metrics, GRACE));
        self
    }

    /// Judges a piece, and adds what comes of it.
    pub fn take(&mut self, piece: &Piece, found: &mut Found) {
        let before = found.transitions.len();
        let at = match piece {
            Piece::Skipped(skipped) => return self.counts.skip(skipped),
            Piece::Row(origin, observation) => {
                let taken = self.engine.row(origin, observation, &mut found.transitions);
                if self.count(taken, origin, observation) && self.windows.is_some() {
                    self.row(origin, observation, found);
                }
                observation.at
            }
            Piece::Batch(batch, received) => {
                if *received > self.received {
                    // The queue was read to its end before this came, or else this would have come with the others.
                    self.received = *received;
                    self.skip_gaps(*received, found);
                }
                for observation in &batch.observations {
                    let taken = self.engine.observe(&batch.origin, observation, &mut found.transitions);
                    if self.count(taken, &batch.origin, observation)
                        && let Some(windows) = &mut self.windows
                    {
                        windows.observe(&batch.origin, observation);
                    }
                }
                let site = &batch.origin.site;
                let time = match self.sites.get_mut(site) {
                    Some(time) => time,
                    None => self.sites.entry(site.clone()).or_default(),
                };
                if let Some(advance) = time.receive(&batch.origin, batch.number, batch.through, *received) {
                    self.engine.advance(site, &advance.boot, advance.at, &mut found.transitions);
                    if let Some(windows) = &mut self.windows {
                        found.datapoints.extend(windows.advance(site, advance.at));
                    }
                }
                batch.through
            }
        };
        self.tell(before, at, found);
    }

    /// Ends it: what is missing will not come any more. Gives what was counted.
    pub fn end(mut self, found: &mut Found) -> Counts {
        let before = found.transitions.len();
        self.skip_gaps(Timestamp::MAX, found);
        self.tell(before, Timestamp::MAX, found);
        if let Some(mut windows) = self.windows {
            for site in self.sites.keys().chain(self.rows.keys()) {
                self.counts.unfinished += windows.advance(site, Timestamp::MAX).len() as u64;
            }
        }
        self.counts.late = self.engine.late();
        self.counts.gaps = self.sites.values().map(EventTime::gaps_skipped).sum();
        self.counts
    }

    /// A row's part of the windows: it first moves event time, then it is counted.
    fn row(&mut self, origin: &Origin, observation: &Observation, found: &mut Found) {
        let Some(windows) = &mut self.windows else { return };
        let at = self.rows.entry(origin.site.clone()).or_insert(Timestamp::MIN);
        if observation.at > *at {
            *at = observation.at;
            found.datapoints.extend(windows.advance(&origin.site, observation.at));
        }
        windows.observe(origin, observation);
    }

    fn skip_gaps(&mut self, now: Timestamp, found: &mut Found) {
        for (site, time) in &mut self.sites {
            if let Some(advance) = time.skip_gaps(now) {
                self.engine.advance(site, &advance.boot, advance.at, &mut found.transitions);
                if let Some(windows) = &mut self.windows {
                    found.datapoints.extend(windows.advance(site, advance.at));
                }
            }
        }
    }

    /// Takes the new transitions to the incidents.
    fn tell(&mut self, before: usize, at: Timestamp, found: &mut Found) {
        let Some(incidents) = &mut self.incidents else { return };
        let new = found.transitions.get(before..).unwrap_or_default();
        if new.is_empty() && (at < self.review || incidents.open().next().is_none()) {
            return;
        }
        self.review = at + REVIEW;
        found.events.extend(self.engine.tell(new, incidents));
    }

    /// Whether it was judged.
    fn count(&mut self, taken: Taken, origin: &Origin, observation: &Observation) -> bool {
        match taken {
            Taken::Judged => self.counts.judged += 1,
            Taken::Seen => self.counts.seen += 1,
            Taken::Foreign => {
                *self.counts.foreign.entry(concerned(origin, observation)).or_default() += 1;
            }
        }
        taken == Taken::Judged
    }
}
