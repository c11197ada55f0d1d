//! The alerter's loop: reads the queue, judges, writes what follows in one transaction, and wakes the dispatcher.

mod counts;
mod edits;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_host::clock::Clock;
use crosswatch_host::health::Part;
use crosswatch_host::retry::Backoff;
use crosswatch_judge::mute::{Silence, Silences};
use crosswatch_judge::rule::Rule;
use crosswatch_queue::{Consumer, Received, Source};
use crosswatch_shared::config::topology::{QueueKind, Topology};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::told::ABOUT_TO;
use prometheus_client::registry::Registry;
use rusqlite::{Connection, OptionalExtension as _};
use tokio::sync::{Notify, mpsc};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::catch_up::{Due, HANDS, KEPT, Present};
use crate::config::Config;

use crate::dispatch::{self, Changed, Dispatcher};
use crate::edit::{Edit, Edits, Order};
use crate::error::Error;
use crate::heartbeat::Pulse;
use crate::history::History;
use crate::judged::{self, Decision};
use crate::memory::{Change, LoadError, Memory};
use crate::metrics::Metrics;
use crate::notify::{Aws, TIMEOUT, World};
use crate::peer::{Heard, Peer, Rank, Teller};
use crate::reconcile::{self, Agreed};
use crate::record::Recorder;
use crate::schema::SCHEMA;
use crate::{forget, incident, ledger, silences};

/// How many batches are taken at once.
const LIMIT: usize = 256;

/// How long a read waits for news: the rhythm of silence, which is counted between reads.
const WAIT: Duration = Duration::from_millis(200);

/// How often the end of a silence, or of being behind, is looked for while something is kept back.
const RELEASE: Duration = Duration::from_secs(1);

/// The alerter.
pub struct Alerter {
    judging: Judging,
    dispatcher: Dispatcher,
    teller: Option<Teller>,
    changes: mpsc::UnboundedReceiver<Changed>,
    edits: Edits,
}

/// What is outside of the alerter's file and its queue: the clocks, and the receivers.
pub(crate) struct Outside {
    pub(crate) clock: Clock,
    pub(crate) world: World,
    /// The other alerter.
    pub(crate) peer: Option<Peer>,
}

/// The half that judges.
struct Judging {
    consumer: Consumer,
    /// With SQS alone: the journals hold it otherwise.
    history: Option<History>,
    path: PathBuf,
    config: Config,
    rules: Vec<Rule>,
    topology: Topology,
    memory: Memory,
    /// What is in memory is not what is in the file: a transaction failed.
    stale: bool,
    /// When the end of silences was last looked for.
    released: Timestamp,
    /// When what is over for long is forgotten.
    forgets: forget::Next,
    /// The queue may hold more of the past: as long as it was not read to its end since it gave some.
    behind: bool,
    begun: Instant,
    /// Beside another alerter.
    rank: Option<Rank>,
    /// The queue was read to its end since the start.
    read: bool,
    /// Beside another alerter, what is of before the start rests until its words must be there.
    rests: bool,
    /// How many missed batches were counted since a page was settled.
    missed: u64,
    recorder: Recorder,
    wake: Arc<Notify>,
    /// Rung when there is something to tell the other alerter.
    tells: Arc<Notify>,
    /// Tells the dispatcher whom to tell.
    receivers: mpsc::UnboundedSender<Changed>,
    orders: mpsc::Receiver<Order>,
    /// An edit that could not be written yet.
    order: Option<Order>,
    world: World,
    clock: Clock,
    part: Part,
    pulse: Pulse,
    /// Until when the other alerter was heard.
    heard: Heard,
    metrics: Metrics,
}

impl Alerter {
    /// Opens the alerter's own file and its queue, takes up what was left, and makes it agree with the config; beside another
    /// alerter, if there is one.
    ///
    /// # Errors
    /// The file or the queue cannot be used, or what the file remembers cannot be understood: nothing was changed.
    pub fn open(
        peer: Option<Peer>,
        config: Config,
        topology: &Topology,
        file: &Path,
        source: Source,
        registry: &mut Registry,
        part: Part,
    ) -> Result<Self, Error> {
        let outside = Outside { clock: Clock::machine(), world: World::Real(Aws::default(), TIMEOUT), peer };
        Self::open_in(outside, config, topology, file, source, registry, part)
    }

    /// The same, with what is outside of its file and its queue.
    pub(crate) fn open_in(
        outside: Outside,
        config: Config,
        topology: &Topology,
        file: &Path,
        source: Source,
        registry: &mut Registry,
        part: Part,
    ) -> Result<Self, Error> {
        let Outside { clock, world, peer } = outside;
        let rank = peer.as_ref().map(|peer| peer.rank);
        let metrics = Metrics::register(registry);
        let mut recorder = Recorder::new(&config, rank);
        let of_silences = name_of(&config.silences);
        let rules = config.rules();
        let wall = clock.clone();
        let mut consumer = Consumer::open(file, SCHEMA, source.by_clock(move || wall.wall()))?;
        let history = match topology.queue.kind {
            QueueKind::Embedded => None,
            QueueKind::Sqs { .. } => Some(History::open(topology, clock.steady())?),
        };
        let now = clock.wall();
        let agreed = consumer.transaction(|step| {
            if rank.is_some() {
                ledger::tell_before(step, now)?;
            }
            let agreed = reconcile::agree(step, file, (&rules, topology), &recorder, None, now)?;
            Ok::<_, Error>(begin(step, agreed, &recorder, &of_silences, now)?)
        })?;
        let silenced = consumer.transaction(|step| Ok::<_, Error>(silences_in_force(step)?))?;
        recorder.silence(Silences::new(silenced, topology));
        let ledger = Arc::clone(&recorder.ledger);
        let ways = dispatch::ways(&config.receivers, &ledger, &world)?;
        let (metrics_, clock_) = (metrics.clone(), clock.clone());
        let dispatcher = Dispatcher::open(file, (ledger, ways), world.clone(), clock_, &part, metrics_)?;
        let teller = peer.map(|peer| Teller::open(file, &peer, clock.clone(), &part)).transpose()?;
        let (edits, orders) = Edits::channel();
        let (receivers, changes) = mpsc::unbounded_channel();
        let mut judging = Judging {
            consumer,
            history,
            path: file.to_owned(),
            config,
            rules,
            topology: topology.clone(),
            memory: agreed.memory,
            stale: false,
            released: Timestamp::MIN,
            forgets: forget::Next::new(clock.steady()),
            behind: true,
            begun: clock.steady(),
            rank,
            read: false,
            rests: rank.is_some(),
            missed: 0,
            recorder,
            wake: Arc::new(Notify::new()),
            receivers,
            orders,
            order: None,
            world,
            clock,
            part,
            pulse: Pulse::default(),
            heard: dispatcher.heard(),
            tells: dispatcher.tells(),
            metrics,
        };
        judging.count_agreed(&agreed.abandoned, agreed.open);
        judging.count(&agreed.change, now);
        Ok(Self { judging, dispatcher, teller, changes, edits })
    }

    /// Takes an edit before it runs: the file of silences, which is in force, or wrong, from the first page on. Without it
    /// those stay in force that were when it last ran. Gives why it cannot be taken over.
    ///
    /// # Errors
    /// Its own file fails.
    pub fn take(&mut self, edit: &Edit) -> Result<Result<(), String>, Error> {
        self.judging.take(edit)
    }

    /// Writes down by what text it judges, before it runs: with that and the journals it can be judged again.
    ///
    /// # Errors
    /// Its own file fails.
    pub fn judges_by(&mut self, text: &str) -> Result<(), Error> {
        let Judging { consumer, memory, clock, topology, .. } = &mut self.judging;
        let (now, keep) = (clock.wall(), topology.queue.keep);
        consumer.transaction(|step| {
            judged::forget(step, now, keep)?;
            Ok(judged::config(step, now, memory.places(), text)?)
        })
    }

    /// By which it is told of edits of the configuration.
    #[must_use]
    pub fn edits(&self) -> Edits {
        self.edits.clone()
    }

    /// By which another task sees that it judges.
    #[must_use]
    pub fn pulse(&self) -> Pulse {
        self.judging.pulse.clone()
    }

    /// Judges and notifies until it is stopped; then what is being sent may end, within a bound.
    ///
    /// # Errors
    /// The file or the queue fails in a way that trying again does not help.
    pub async fn run(self, stop: CancellationToken) -> Result<(), Error> {
        let Self { mut judging, dispatcher, teller, changes, .. } = self;
        judging.rest()?;
        let dispatched = CancellationToken::new();
        let telling = teller.map(|teller| {
            AbortOnDropHandle::new(tokio::spawn(teller.run(dispatcher.tells(), dispatched.clone())))
        });
        let judged = CancellationToken::new();
        let dispatching = dispatcher.run(Arc::clone(&judging.wake), changes, judged.clone());
        let mut dispatching = AbortOnDropHandle::new(tokio::spawn(dispatching));
        let result = tokio::select! {
            // In this order, as below, so that a simulation is the same each time.
            biased;
            ended = &mut dispatching => {
                let problem = ended.err().map_or_else(String::new, |error| error.to_string());
                return Err(Error::Dispatcher(problem));
            }
            result = judging.run(stop) => result,
        };
        judged.cancel();
        let (ended, ()) = tokio::join!(dispatching, judging.consumer.close());
        // What was accepted last is told, too.
        dispatched.cancel();
        if let Some(telling) = telling {
            telling.await.map_err(|error| Error::Dispatcher(error.to_string()))?;
        }
        ended.map_err(|error| Error::Dispatcher(error.to_string()))?;
        result
    }
}

impl Judging {
    /// Beside another alerter, what is owed at the start waits for what its queue says of that: all that was owed before, and
    /// what the config and the silences brought about.
    fn rest(&mut self) -> Result<(), Error> {
        if self.rests {
            let then = self.clock.wall() + KEPT;
            self.consumer.transaction(|step| Ok::<_, Error>(ledger::rest_until(step, then)?))?;
        }
        Ok(())
    }

    async fn run(&mut self, stop: CancellationToken) -> Result<(), Error> {
        // Nobody else reads its queue or writes its file.
        let mut backoff = Backoff::new(Duration::from_millis(100), Duration::from_secs(10)).even();
        while !stop.is_cancelled() {
            self.part.turned();
            let Err(error) = self.step(&stop).await else {
                backoff.reset();
                continue;
            };
            if !error.is_temporary() {
                return Err(error);
            }
            self.metrics.file_errors.inc();
            self.part.failing(error.to_string());
            let pause = backoff.pause();
            tracing::error!(%error, ?pause, "trying again");
            tokio::select! {
                biased;
                () = stop.cancelled() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// One read of the queue and what follows from it. When it fails nothing has happened.
    async fn step(&mut self, stop: &CancellationToken) -> Result<(), Error> {
        if self.stale {
            let Self { path, rules, topology, .. } = self;
            self.memory = self.consumer.transaction(|step| load(step, path, rules, topology))?;
            self.stale = false;
        }
        self.obey()?;
        let received = tokio::select! {
            biased;
            () = stop.cancelled() => return Ok(()),
            received = self.consumer.receive(LIMIT, WAIT) => received,
        };
        let steady = self.clock.steady();
        let received = received.inspect_err(|_| self.memory.cut_off(steady))?;
        let now = received.at;
        let mut again = Vec::new();
        if let Some(history) = &mut self.history {
            let appended = history.append(&received.deliveries, now);
            again = appended.inspect_err(|_| self.memory.cut_off(steady))?;
            history.prune(steady, now);
        }
        let before = (!again.is_empty()).then(|| self.memory.places().clone());
        self.count_received(&received);
        let failing = received.failing.clone();
        let (batches, unknown) = (received.deliveries.len(), received.unknown_kinds);
        let late = self.memory.late();
        self.memory.present = match self.rank {
            Some(_) => Present::Beside { read: self.read },
            None => Present::Alone,
        };
        let to_its_end = received.empty;
        let mut change = self.memory.step(&received.deliveries, to_its_end, steady, now);
        if let Some(before) = before {
            let of = received.deliveries.iter().filter(|of| again.contains(&of.batch.origin.site));
            change.page = Some((Decision::page(of), before));
        }
        let unjudged = self.put_back(&received, &mut change);
        let late = self.memory.late().saturating_sub(late);
        if let Err(error) = self.write(received, &change, now).await {
            self.stale = true;
            return Err(error);
        }
        self.metrics.received("applied", u64::try_from(batches).unwrap_or(u64::MAX));
        self.metrics.observed("late", late);
        self.metrics.observed("unknown", unknown);
        self.metrics.observed("replayed", unjudged);
        if to_its_end {
            self.heard.at(now);
        }
        self.count(&change, now);
        if self.rests && to_its_end && self.running() >= HANDS {
            let Self { consumer, recorder, .. } = self;
            consumer.transaction(|step| Ok::<_, Error>(recorder.ledger.go_on(step, now)?))?;
            self.rests = false;
            self.released = Timestamp::MIN;
            self.wake.notify_one();
        }
        self.has_read(to_its_end, !change.past.is_empty());
        self.release(now)?;
        self.forget(steady, now);
        match failing {
            Some(why) => self.part.failing(why),
            None => {
                self.part.ok();
                self.pulse.beat(steady);
                if self.memory.is_fresh() {
                    self.pulse.fresh(steady);
                }
            }
        }
        Ok(())
    }

    /// Forgets some of what is over for long, when it is time. What fails is tried again an hour later, and
    /// keeps nothing back.
    fn forget(&mut self, steady: Instant, now: Timestamp) {
        if !self.forgets.is_due(steady) {
            return;
        }
        let keep = self.topology.queue.keep;
        let forgotten = self.consumer.transaction(|step| {
            judged::forget(step, now, keep)?;
            Ok::<_, Error>(forget::some(step, now)?)
        });
        match forgotten {
            Ok(more) => self.forgets.looked(more, steady),
            Err(error) => {
                tracing::warn!(%error, "what is over for long was not forgotten");
                self.forgets.looked(false, steady);
            }
        }
    }

    /// Judges what replays put back for that. Gives how many observations are not to be judged.
    fn put_back(&mut self, received: &Received, change: &mut Change) -> u64 {
        let others = received.put_back.iter().filter(|of| !of.pages);
        let unjudged = others.map(|of| of.observations.len() as u64).sum();
        if received.put_back.iter().all(|of| !of.pages) {
            return unjudged;
        }
        let (judged, unplaced) = self.memory.put_back(&received.put_back);
        if unplaced > 0 {
            tracing::warn!(
                observations = unplaced,
                "what a replay put back is of boots that were never seen and whose ids tell no order: it is not judged"
            );
        }
        change.join(judged);
        unjudged + unplaced
    }

    /// The queue was read, to its end or not, and gave something of the past or did not.
    fn has_read(&mut self, to_its_end: bool, past: bool) {
        let behind = !to_its_end && (self.behind || past);
        self.read |= to_its_end;
        if behind && !self.behind {
            tracing::info!(
                "the queue holds what is old: until it is read to its end pages of that are kept back"
            );
        }
        if !behind && (self.behind || past) {
            // What was kept back is released with this step.
            self.released = Timestamp::MIN;
        }
        self.behind = behind;
    }

    /// For how long it has run.
    fn running(&self) -> Duration {
        self.clock.steady().saturating_duration_since(self.begun)
    }

    /// What of the past is due.
    fn due(&self, now: Timestamp) -> Due {
        match self.behind || self.rests {
            true => Due::behind(self.running(), now),
            false => Due::ALL,
        }
    }

    /// Owes what was kept back until a silence ended, or the alerter had caught up.
    fn release(&mut self, now: Timestamp) -> Result<(), Error> {
        let is_soon = self.released <= now && now < self.released + RELEASE;
        if !self.recorder.keeps() || is_soon {
            return Ok(());
        }
        self.released = now;
        let due = self.due(now);
        let Self { consumer, recorder, memory, .. } = self;
        if consumer.transaction(|step| Ok::<_, Error>(recorder.release(step, memory.open(), due, now)?))? {
            self.wake.notify_one();
        }
        Ok(())
    }

    async fn write(&mut self, mut received: Received, change: &Change, now: Timestamp) -> Result<(), Error> {
        let Self { consumer, recorder, rank, .. } = self;
        let mut told = std::mem::take(&mut received.told);
        // Nobody may say so where there is no other alerter.
        told.retain(|_| rank.is_some());
        if !received.deliveries.is_empty() || !received.put_back.is_empty() {
            let write = |step: &rusqlite::Transaction<'_>, _: &[_]| {
                // First, since what it is of may be written now.
                for told in &told {
                    recorder.ledger.heard(step, told, now)?;
                }
                Ok::<_, Error>(recorder.write(step, change, now)?)
            };
            consumer.settle(received, write).await?;
            self.missed = 0;
        } else if !change.is_empty() {
            consumer.transaction(|step| Ok::<_, Error>(recorder.write(step, change, now)?))?;
        }
        for of in told.iter().filter(|of| of.state != ABOUT_TO) {
            let (id, state, receiver, at) = (&of.id, &of.state, &of.receiver, of.at);
            tracing::info!(id, state, receiver, %at, "the other alerter has told this");
        }
        if told.iter().any(|of| of.state == ABOUT_TO) {
            self.tells.notify_one();
        }
        if !change.events.is_empty() || !change.drills.is_empty() || !told.is_empty() {
            self.wake.notify_one();
        }
        Ok(())
    }
}

/// What only a start does: the config was read, and is right; of the silences nothing is known yet.
fn begin(
    file: &Connection,
    mut agreed: Agreed,
    recorder: &Recorder,
    of_silences: &str,
    now: Timestamp,
) -> rusqlite::Result<Agreed> {
    let mended = agreed.memory.mend(|of| *of != *of_silences, now);
    recorder.write(file, &mended, now)?;
    agreed.open = incident::count_open(file)?;
    Ok(agreed)
}

/// A file's name, without its folder.
fn name_of(file: &Path) -> String {
    file.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default()
}

/// The silences that were in force when an alerter last ran.
pub(crate) fn silences_in_force(file: &Connection) -> rusqlite::Result<Vec<Silence>> {
    let text: Option<Vec<u8>> =
        file.query_row("SELECT text FROM silences", [], |row| row.get(0)).optional()?;
    let parsed = silences::parse(&text.unwrap_or_default(), silences::FILE.as_ref(), None, Timestamp::MIN);
    Ok(parsed.unwrap_or_else(|problems| {
        tracing::error!(%problems, "the silences that were in force cannot be read any more");
        Vec::new()
    }))
}

pub(crate) fn load(
    file: &Connection,
    path: &Path,
    rules: &[Rule],
    topology: &Topology,
) -> Result<Memory, Error> {
    Memory::load(file, rules.to_vec(), topology).map_err(|error| match error {
        LoadError::File(error) => error.into(),
        LoadError::State(problem) => Error::State { path: path.to_owned(), problem },
    })
}
