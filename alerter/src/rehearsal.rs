//! A rehearsal: what the alerter would judge, record and tell, in virtual time, without a queue, a disk or a receiver.
//!
//! It is the alerter's own memory, incidents and ledger over a file in memory; only the receivers are made up: each accepts
//! at once whatever it is told.

use std::time::Instant;

use crosswatch_judge::{Engine, Transition};
use crosswatch_queue::Delivery;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Name};
use crosswatch_shared::time::Timestamp;
use rusqlite::Connection;

use crate::config::Config;
use crate::error::Error;
use crate::json;
use crate::ledger::{self, Body};
use crate::memory::Memory;
use crate::record::Recorder;
use crate::run;
use crate::schema::SCHEMA;
use crate::status::{self, SiteTime, Subject};
use crate::story::{self, Story, Which};

/// How many notifications of one channel are taken at a time.
const AT_ONCE: usize = 1_000;

/// A notification that a receiver would have got.
#[derive(Clone, Debug, PartialEq)]
pub struct Told {
    /// When.
    pub at: Timestamp,
    /// The receiver.
    pub receiver: Name,
    /// By which of its ways: `webhook`, `command`, `console`, `topic` or `sms:<number>`.
    pub channel: Name,
    /// The incident's id, or the digest's.
    pub id: String,
    /// `firing` or `resolved`.
    pub state: String,
    /// The rule; `at-most` for a digest.
    pub rule: String,
    /// The subject.
    pub subject: String,
    /// All of it in one line.
    pub text: String,
}

/// See the module.
pub struct Rehearsal {
    file: Connection,
    memory: Memory,
    recorder: Recorder,
    /// When it began, by either clock.
    begun: (Instant, Timestamp),
    told: Vec<Told>,
}

impl Rehearsal {
    /// Of these rules and receivers, beginning at this time with nothing known.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn new(config: &Config, topology: &Topology, start: Timestamp) -> Result<Self, Error> {
        let file = Connection::open_in_memory()?;
        for migration in SCHEMA.migrations {
            file.execute_batch(migration)?;
        }
        let rules: Vec<_> = config.rules.iter().map(|of| of.rule.clone()).collect();
        let memory = run::load(&file, ":memory:".as_ref(), &rules, topology)?;
        let recorder = Recorder::new(config, None);
        // Only differences of it count.
        let begun = (Instant::now(), start);
        Ok(Self { file, memory, recorder, begun, told: Vec::new() })
    }

    /// Reads these batches from the queue at `now`, to its end, and does what follows. Time must not go back. Gives the
    /// transitions, in the order in which they were decided.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn read(&mut self, batches: Vec<Batch>, now: Timestamp) -> Result<Vec<Transition>, Error> {
        self.tell_digests(Some(now))?;
        let deliveries: Vec<Delivery> =
            batches.into_iter().map(|batch| Delivery { batch, sent: now }).collect();
        let (steady, wall) = self.begun;
        let change = self.memory.step(&deliveries, true, steady + now.since(wall), now);
        let step = self.file.transaction()?;
        self.recorder.write(&step, &change, now)?;
        step.commit()?;
        if !change.events.is_empty() {
            self.tell(now)?;
        }
        Ok(change.transitions)
    }

    /// The rules' state as of now.
    #[must_use]
    pub fn engine(&self) -> &Engine {
        self.memory.engine()
    }

    /// What each rule said of each subject last, and why.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn subjects(&self) -> Result<Vec<Subject>, Error> {
        Ok(status::subjects(&self.file)?)
    }

    /// How far each site's data is known to be complete.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn sites(&self) -> Result<Vec<SiteTime>, Error> {
        Ok(status::sites(&self.file)?)
    }

    /// The incidents that there are, with what was told of them.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn incidents(&self, which: Which<'_>) -> Result<Vec<Story>, Error> {
        Ok(story::stories_in(&self.file, which)?)
    }

    /// Ends it: what is still held back goes in its digests, each when it is due. Gives all that was told, by its time.
    ///
    /// # Errors
    /// There is no memory for its file.
    pub fn end(mut self) -> Result<Vec<Told>, Error> {
        self.tell_digests(None)?;
        Ok(self.told)
    }

    /// Makes the digests that are due until then, each at its time.
    fn tell_digests(&mut self, until: Option<Timestamp>) -> Result<(), Error> {
        let ledger = self.recorder.ledger.clone();
        let mut now = until.unwrap_or(Timestamp::MAX);
        while let Some(due) =
            ledger.next_digest(&self.file, now)?.filter(|due| until.is_none_or(|end| *due <= end))
        {
            now = due;
            ledger.make_digests(&self.file, due)?;
            self.tell(due)?;
        }
        Ok(())
    }

    /// Every receiver accepts all that it is owed.
    fn tell(&mut self, now: Timestamp) -> Result<(), Error> {
        let ledger = self.recorder.ledger.clone();
        // A `resolved` is handed out once its `firing` was accepted.
        let mut told = usize::MAX;
        while std::mem::replace(&mut told, self.told.len()) != self.told.len() {
            for to in ledger.destinations() {
                for due in ledger::due(&self.file, to, now, AT_ONCE)? {
                    ledger::accepted(&self.file, due.number, now)?;
                    let body: Body = json::read(&due.body)?;
                    let Body { id, state, rule, subject, text, .. } = body;
                    let (receiver, channel) = (to.receiver.clone(), to.channel.clone());
                    self.told.push(Told { at: now, receiver, channel, id, state, rule, subject, text });
                }
            }
        }
        Ok(())
    }
}
