//! What was judged live, judged again: the same batches after the same decisions by the same engine, so that the same comes of it,
//! transition for transition.
//!
//! The batches come from the journals, each site's in their order. What the alerter decided otherwise is in its file
//! ([`crate::judged`]), and takes its place after the batches after which it was decided.

use std::collections::{BTreeMap, HashMap, HashSet, VecDeque};
use std::time::Instant;

use crosswatch_judge::Transition;
use crosswatch_queue::Delivery;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, params};

use crate::config::Config;
use crate::error::Error;
use crate::judged::{Decision, Judged, Place, place};
use crate::memory::{Change, Memory};
use crate::reconcile;
use crate::record::Recorder;
use crate::schema::SCHEMA;

/// Reads the text of a config; `None` where it means nothing today, or has other sites.
pub type Parse<'a> = Box<dyn FnMut(&str) -> Option<(Config, Topology)> + 'a>;

/// See the module.
pub struct Again<'a> {
    file: Connection,
    memory: Memory,
    recorder: Recorder,
    parse: Parse<'a>,
    /// Not counted on: what is silent is told by the decisions.
    steady: Instant,
    /// The engine's state that is not in the file yet.
    pending: HashMap<String, Vec<u8>>,
    decisions: VecDeque<Judged>,
    /// Batches that are judged when a page says so, and those of them that came.
    withheld: HashSet<(Name, Place)>,
    aside: HashMap<(Name, Place), (Batch, Timestamp)>,
    /// What came of each site and waits for a decision.
    held: BTreeMap<Name, VecDeque<(Batch, Timestamp)>>,
    /// The newest batch of each site that was judged.
    judged: BTreeMap<Name, Place>,
    unread: u64,
}

impl<'a> Again<'a> {
    /// Begins with nothing known, by this config as long as no decision names another.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn new(
        config: &Config,
        topology: &Topology,
        decisions: Vec<Judged>,
        parse: Parse<'a>,
    ) -> Result<Self, Error> {
        let file = Connection::open_in_memory()?;
        for migration in SCHEMA.migrations {
            file.execute_batch(migration)?;
        }
        let recorder = Recorder::new(config, None);
        let agreed = reconcile::agree(
            &file,
            ":memory:".as_ref(),
            (&config.rules(), topology),
            &recorder,
            None,
            Timestamp::MIN,
        )?;
        let pages = decisions.iter().filter_map(|of| match &of.decision {
            Decision::Page(page) => Some(page.iter().cloned()),
            _ => None,
        });
        Ok(Self {
            memory: agreed.memory,
            withheld: pages.flatten().collect(),
            file,
            recorder,
            parse,
            steady: Instant::now(),
            pending: HashMap::new(),
            decisions: decisions.into(),
            aside: HashMap::new(),
            held: BTreeMap::new(),
            judged: BTreeMap::new(),
            unread: 0,
        })
    }

    /// Takes a batch of a journal, and when it was written there. Adds what is said then.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn take(&mut self, batch: Batch, written: Timestamp, out: &mut Vec<Transition>) -> Result<(), Error> {
        let key = (batch.origin.site.clone(), place(&batch));
        if self.withheld.contains(&key) {
            self.aside.insert(key, (batch, written));
        } else {
            self.held.entry(key.0).or_default().push_back((batch, written));
        }
        self.go(false, out)
    }

    /// Ends it: nothing more comes. Gives how many configs of then mean nothing today, and were passed over.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn end(mut self, out: &mut Vec<Transition>) -> Result<u64, Error> {
        self.go(true, out)?;
        Ok(self.unread)
    }

    /// Judges what can be, up to the first decision that waits for batches.
    fn go(&mut self, ended: bool, out: &mut Vec<Transition>) -> Result<(), Error> {
        while let Some(next) = self.decisions.front() {
            if let Some(said) = next.decision.transition() {
                out.push(said);
                self.decisions.pop_front();
                continue;
            }
            let next = next.clone();
            let mut waits = false;
            // Other sites stay where they are: a later decision may be about them.
            for (site, place) in &next.places {
                waits |= !self.reach(site, place, next.at, out)? && !ended;
            }
            if let Decision::Page(page) = &next.decision {
                waits |= !ended && page.iter().any(|key| !self.aside.contains_key(key));
            }
            if waits {
                return Ok(());
            }
            self.decisions.pop_front();
            self.decide(next, out)?;
        }
        let held = std::mem::take(&mut self.held);
        for (batch, written) in held.into_values().flatten() {
            self.judge(batch, written, out)?;
        }
        Ok(())
    }

    /// Judges what of a site was judged before a decision, up to this place, as far as it came. Gives whether all of it did.
    fn reach(
        &mut self,
        site: &Name,
        place: &Place,
        decided: Timestamp,
        out: &mut Vec<Transition>,
    ) -> Result<bool, Error> {
        while self.judged.get(site) != Some(place) {
            let Some(held) = self.held.get_mut(site).filter(|held| !held.is_empty()) else {
                return Ok(false);
            };
            // What was written after the decision was not judged before it: the place is of a batch that was pruned.
            let Some((batch, written)) = held.pop_front_if(|(_, written)| *written <= decided) else { break };
            self.judge(batch, written, out)?;
        }
        Ok(true)
    }

    fn judge(&mut self, batch: Batch, written: Timestamp, out: &mut Vec<Transition>) -> Result<(), Error> {
        self.judged.insert(batch.origin.site.clone(), place(&batch));
        let delivery = Delivery { batch, sent: written };
        // Not to its end: neither silence nor gaps are judged by a clock here.
        let change = self.memory.step(&[delivery], false, self.steady, written);
        self.write(change, written, out)
    }

    fn decide(&mut self, judged: Judged, out: &mut Vec<Transition>) -> Result<(), Error> {
        let Judged { at, decision, .. } = judged;
        match decision {
            Decision::Skipped { site, next } => {
                let change = self.memory.skip_to(&site, next);
                self.write(change, at, out)
            }
            Decision::Page(page) => {
                for key in page {
                    self.withheld.remove(&key);
                    if let Some((batch, written)) = self.aside.remove(&key) {
                        self.judge(batch, written, out)?;
                    }
                }
                Ok(())
            }
            Decision::Config(text) => {
                let Some((config, topology)) = (self.parse)(&text) else {
                    self.unread += 1;
                    return Ok(());
                };
                for (key, value) in self.pending.drain() {
                    self.file.execute(
                        "INSERT OR REPLACE INTO engine (key, value) VALUES (?, ?)",
                        params![key, value],
                    )?;
                }
                self.recorder = Recorder::new(&config, None);
                let with = (config.rules(), topology);
                let path = ":memory:".as_ref();
                let agreed =
                    reconcile::agree(&self.file, path, (&with.0, &with.1), &self.recorder, None, at)?;
                self.memory = agreed.memory;
                out.extend(agreed.change.transitions);
                Ok(())
            }
            Decision::PutBack(of) => {
                let (change, _) = self.memory.put_back(&[of]);
                self.write(change, at, out)
            }
            Decision::Said { .. } => Ok(()),
        }
    }

    fn write(&mut self, mut change: Change, now: Timestamp, out: &mut Vec<Transition>) -> Result<(), Error> {
        self.pending.extend(change.take_engine());
        self.recorder.write(&self.file, &change, now)?;
        out.append(&mut change.transitions);
        Ok(())
    }
}
