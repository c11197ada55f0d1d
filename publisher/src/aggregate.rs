//! From batches to datapoints: the windows and each site's event time, with their copy in the publisher's file.
//!
//! Whatever is done here is done in a transaction of the caller. Where that does not commit, memory is ahead of the
//! file and has to be loaded from it again: [`Aggregate::load`].

use std::time::Duration;

use crosswatch_shared::config::topology::{QueueKind, Topology};
use crosswatch_shared::event_time::{Advance, EventTime};
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::PutBack;
use crosswatch_window::{Datapoint, GRACE, Metric, Saved, Taken, Windows};
use rusqlite::{Connection, Transaction, params};
use rustc_hash::{FxHashMap, FxHashSet};

use crate::Error;
use crate::config::{Config, Kind};
use crate::had::Had;
use crate::sink::Sink;
use crate::watched::Watched;

/// The tables of the state between two transactions.
pub(crate) const SCHEMA: &str = "
    CREATE TABLE window_state (key TEXT PRIMARY KEY, value BLOB NOT NULL) STRICT, WITHOUT ROWID;
    CREATE TABLE event_time (site TEXT PRIMARY KEY, state TEXT NOT NULL) STRICT, WITHOUT ROWID;
";

/// How long a batch that was sent may be missing while later ones come: one that was taken from the queue by a consumer
/// that died comes again after 20 s, and SQS keeps no order. Within a boot the batches' numbers show it. What is left of
/// a former boot shows by nothing: a window that closes before it has come gets the rest as a remainder, and where the
/// first put is repeated, since its outcome is not known, the average and the percentiles weigh that part twice.
const SETTLING: Duration = Duration::from_secs(25);

/// The windows and event times, as after the last transaction that committed.
pub(crate) struct Aggregate {
    config: Config,
    watched: Watched,
    sink: Box<dyn Sink>,
    windows: Windows,
    had: Had,
    event_times: FxHashMap<Name, EventTime>,
    /// How long a site settles.
    settling: Duration,
    /// The sites whose collectors may run once each time: each run is a boot of its own that leaves nothing behind.
    at_rest: FxHashSet<Name>,
    /// The sites that were heard, for as long as this process lives.
    heard: FxHashMap<Name, Heard>,
    /// The sites of which it was said in the log that something of theirs is foreign.
    foreign_told: FxHashSet<Name>,
}

/// Which boot of a site was heard last, and since when windows wait for what may be left of an earlier one.
struct Heard {
    boot: Name,
    settles_since: Option<Timestamp>,
}

impl Heard {
    /// Takes note of a boot; gives whether the windows may close. One boot on another's heels does not make them wait
    /// for longer, and each run of a collector `at_rest` is another: at every second run they would close, with what the run
    /// before saw twice as late.
    fn is_settled(&mut self, boot: &Name, at_rest: bool, settling: Duration, now: Timestamp) -> bool {
        if self.boot != *boot {
            self.boot = boot.clone();
            if !at_rest {
                self.settles_since.get_or_insert(now);
            }
        }
        if self.settles_since.is_some_and(|since| now.since(since) < settling) {
            return false;
        }
        self.settles_since = None;
        true
    }
}

/// What one transaction did, to be counted once it has committed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Done {
    pub(crate) batches: u64,
    /// All that were received, whatever became of them.
    pub(crate) observations: u64,
    /// Counted in a remainder.
    pub(crate) late: u64,
    /// Of a site, link, probe or VPN connection that the config lacks.
    pub(crate) foreign: u64,
    pub(crate) gaps_skipped: u64,
    pub(crate) datapoints: u64,
    pub(crate) late_datapoints: u64,
    /// Observations that a replay put back and that count now.
    pub(crate) put_back: u64,
    /// Observations that came by a replay and by a batch, or twice by replays, and count once.
    pub(crate) had: u64,
}

impl Aggregate {
    /// Empty, to be loaded.
    pub(crate) fn new(config: Config, topology: &Topology, sink: Box<dyn Sink>) -> Self {
        Self {
            watched: Watched::new(topology),
            sink,
            windows: windows(&config),
            had: Had::default(),
            event_times: FxHashMap::default(),
            settling: match topology.queue.kind {
                QueueKind::Embedded => Duration::ZERO,
                QueueKind::Sqs { .. } => SETTLING,
            },
            at_rest: topology
                .sites
                .iter()
                .map(|site| site.name.clone())
                .filter(|site| !topology.rhythm(site).is_zero())
                .collect(),
            heard: FxHashMap::default(),
            foreign_told: FxHashSet::default(),
            config,
        }
    }

    /// Takes its state from the file, whatever memory held.
    pub(crate) fn load(&mut self, db: &Connection) -> Result<(), Error> {
        self.windows = windows(&self.config);
        self.had = Had::load(db)?;
        self.event_times.clear();
        let mut saved = db.prepare_cached("SELECT key, value FROM window_state")?;
        let saved = saved.query_map([], |row| Ok(Saved { key: row.get(0)?, value: Some(row.get(1)?) }))?;
        self.windows.restore(saved.collect::<Result<Vec<_>, _>>()?)?;
        let mut times = db.prepare_cached("SELECT site, state FROM event_time")?;
        let times = times.query_map([], |row| Ok((row.get(0)?, row.get(1)?)))?;
        for time in times {
            let (site, state): (String, String) = time?;
            let time = serde_json::from_str(&state)
                .map_err(|source| Error::EventTime { site: site.clone(), source })?;
            self.event_times.insert(site.into(), time);
        }
        Ok(())
    }

    /// Counts batches in the order received, puts what is over, and saves what changed. `now` is when they were received.
    pub(crate) fn apply<'a>(
        &mut self,
        tx: &Transaction<'_>,
        batches: impl IntoIterator<Item = &'a Batch>,
        now: Timestamp,
    ) -> rusqlite::Result<Done> {
        let mut done = Done::default();
        let mut closed = Vec::new();
        let mut sites = Vec::new();
        for batch in batches {
            let foreign = done.foreign;
            let Batch { origin, number, through, observations } = batch;
            done.batches += 1;
            done.observations += observations.len() as u64;
            let watched = self.watched.has_site(&origin.site);
            self.had.hear(origin, now);
            let asked = self.had.batch(origin, observations);
            for observation in observations {
                if asked && self.had.was_put_back(origin, observation.seq) {
                    done.had += 1;
                } else if !watched || !self.watched.has(&origin.site, &observation.body) {
                    done.foreign += 1;
                } else if self.windows.observe(origin, observation) == Taken::Late {
                    done.late += 1;
                }
            }
            if done.foreign > foreign {
                self.tell_foreign(&origin.site);
            }
            if !watched {
                continue;
            }
            self.windows.delay(&origin.site, *through, now);
            let time = self.event_times.entry(origin.site.clone()).or_default();
            if let Some(Advance { at, boot }) = time.receive(origin, *number, *through, now)
                && self
                    .heard
                    .entry(origin.site.clone())
                    .or_insert_with(|| Heard { boot: boot.clone(), settles_since: Some(now) })
                    .is_settled(&boot, self.at_rest.contains(&origin.site), self.settling, now)
            {
                closed.append(&mut self.windows.advance(&origin.site, at));
            }
            if !sites.contains(&origin.site) {
                sites.push(origin.site.clone());
            }
        }
        self.finish(tx, &closed, &sites, now, &mut done)?;
        Ok(done)
    }

    /// Counts what replays put back and did not come before, and puts it at once, as a part of windows that are over or not:
    /// it moves nobody's event time, and so waits for nobody's.
    pub(crate) fn put_back(
        &mut self,
        tx: &Transaction<'_>,
        all: &[PutBack],
        now: Timestamp,
        done: &mut Done,
    ) -> rusqlite::Result<()> {
        let mut windows = windows(&self.config);
        let mut sites: FxHashSet<&Name> = FxHashSet::default();
        for PutBack { origin, observations, .. } in all {
            self.had.hear(origin, now);
            let foreign = done.foreign;
            let watched = self.watched.has_site(&origin.site);
            for observation in observations {
                if !watched || !self.watched.has(&origin.site, &observation.body) {
                    done.foreign += 1;
                } else if self.had.put_back(origin, observation.seq) {
                    done.put_back += 1;
                    windows.observe(origin, observation);
                } else {
                    done.had += 1;
                }
            }
            if done.foreign > foreign {
                self.tell_foreign(&origin.site);
            }
            sites.insert(&origin.site);
        }
        let mut closed = Vec::new();
        for site in sites {
            closed.append(&mut windows.advance(site, Timestamp::MAX));
        }
        closed.iter_mut().for_each(|datapoint| datapoint.late = true);
        self.finish(tx, &closed, &[], now, done)
    }

    /// Whether a gap has been open long enough to be skipped.
    pub(crate) fn gap_is_due(&self, now: Timestamp) -> bool {
        self.event_times.values().any(|time| {
            let mut then = time.clone();
            then.skip_gaps(now);
            then.gaps_skipped() != time.gaps_skipped()
        })
    }

    /// Skips the gaps that have been open long enough, puts what is over then, and saves what changed.
    pub(crate) fn skip_gaps(&mut self, tx: &Transaction<'_>, now: Timestamp) -> rusqlite::Result<Done> {
        let mut done = Done::default();
        let mut closed = Vec::new();
        let mut sites = Vec::new();
        for (site, time) in &mut self.event_times {
            let before = time.gaps_skipped();
            if let Some(Advance { at, .. }) = time.skip_gaps(now) {
                closed.append(&mut self.windows.advance(site, at));
            }
            if time.gaps_skipped() != before {
                done.gaps_skipped += time.gaps_skipped() - before;
                sites.push(site.clone());
            }
        }
        self.finish(tx, &closed, &sites, now, &mut done)?;
        Ok(done)
    }

    /// Each site with its event time.
    pub(crate) fn event_times(&self) -> impl Iterator<Item = (&Name, Timestamp)> {
        let times = self.event_times.iter();
        times.filter_map(|(site, time)| Some((site, time.at()?)))
    }

    /// Says so once a site, since it goes on until the configs agree again.
    fn tell_foreign(&mut self, site: &Name) {
        // Names come off the wire: they must not fill memory.
        if self.foreign_told.len() < 1_000 && self.foreign_told.insert(site.clone()) {
            tracing::warn!(%site, "observations of links, probes or a site that the config lacks are skipped");
        }
    }

    fn finish(
        &mut self,
        tx: &Transaction<'_>,
        closed: &[Datapoint],
        sites: &[Name],
        now: Timestamp,
        done: &mut Done,
    ) -> rusqlite::Result<()> {
        if !closed.is_empty() {
            self.sink.put(tx, closed, now)?;
        }
        self.had.save(tx, self.config.keep, now)?;
        done.datapoints += closed.len() as u64;
        done.late_datapoints += closed.iter().filter(|datapoint| datapoint.late).count() as u64;

        let mut write = tx.prepare_cached("INSERT OR REPLACE INTO window_state VALUES (?, ?)")?;
        let mut remove = tx.prepare_cached("DELETE FROM window_state WHERE key = ?")?;
        for Saved { key, value } in self.windows.changed() {
            match value {
                Some(value) => write.execute(params![key, value])?,
                None => remove.execute([key])?,
            };
        }
        let mut write = tx.prepare_cached("INSERT OR REPLACE INTO event_time VALUES (?, ?)")?;
        for site in sites {
            if let Some(time) = self.event_times.get(site) {
                let state = serde_json::to_string(time)
                    .map_err(|error| rusqlite::Error::ToSqlConversionFailure(error.into()))?;
                write.execute(params![&**site, state])?;
            }
        }
        Ok(())
    }
}

fn windows(config: &Config) -> Windows {
    // The delay is each collector's heartbeat: an alarm waits for it, whatever else is published.
    let heartbeat = (config.kind == Kind::CloudWatch).then_some(Metric::PipelineDelay);
    let published = config.publish.iter().copied().chain(heartbeat).collect();
    Windows::new(config.period, published, GRACE)
}
