//! The dispatcher: sends what the ledger owes, on a connection of its own, and records who accepted.
//!
//! One task decides and records; each try is a task of its own, so that a receiver that hangs delays nobody else, and
//! of its own notifications only as many as are tried at once. The order of an incident's notifications is the
//! ledger's: it hands out a `resolved` only once its `firing` was accepted.

#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use crosswatch_host::clock::Clock;
use crosswatch_host::health::Part;
use crosswatch_shared::time::Timestamp;
use rusqlite::{Connection, TransactionBehavior};
use tokio::sync::{Notify, mpsc};
use tokio::task::{Id, JoinError, JoinSet};
use tokio_util::sync::CancellationToken;
use tokio_util::task::AbortOnDropHandle;

use crate::config::Receiver;
use crate::error::Error;
use crate::ledger::{self, Destination, Due, Ledger};
use crate::metrics::Metrics;
use crate::notify::{Notifier, NotifyError, World};
use crate::peer::{Heard, LEAD, Turn};

/// How many tries one channel makes at once.
const AT_ONCE: usize = 4;

/// The longest pause.
const IDLE: Duration = Duration::from_secs(5);

/// How often what is owed is counted for the metrics; counting takes longer the more it is.
const COUNT: Duration = Duration::from_secs(1);

/// How long to wait after the file could not be written.
const AFTER_ERROR: Duration = Duration::from_secs(1);

/// How long the loop's transactions are waited for.
const BUSY: Duration = Duration::from_secs(10);

/// How long the tries under way may take when the alerter stops; what is not accepted then is tried again by the next.
const DRAIN: Duration = Duration::from_secs(5);

/// What became of a try, and when.
type Answer = (Result<(), NotifyError>, Timestamp);

/// Sends what is owed.
#[derive(Debug)]
pub(crate) struct Dispatcher {
    file: Connection,
    ledger: Arc<Ledger>,
    lanes: Vec<Lane>,
    /// Its AWS session is loaded beside everything else, where some lane needs it.
    world: World,
    clock: Clock,
    tries: JoinSet<Answer>,
    under_way: HashMap<Id, (usize, Due)>,
    /// Tries that ended and are not in the file yet; none of them is tried again before.
    ended: Vec<Ended>,
    last_pass: Timestamp,
    counted: Timestamp,
    part: Part,
    metrics: Metrics,
    /// Rung when there is something to tell the other alerter.
    tells: Arc<Notify>,
    /// Until when that one was heard.
    heard: Heard,
}

/// A receiver's channel, and the way to tell it.
pub(crate) type Way = (Destination, Notifier);

/// Whom to tell from now on, when that has changed.
pub(crate) type Changed = (Arc<Ledger>, Vec<Way>);

/// The ways to these receivers.
///
/// # Errors
/// One of them cannot be used.
pub(crate) fn ways(receivers: &[Receiver], ledger: &Ledger, world: &World) -> Result<Vec<Way>, Error> {
    let of = |to: &Destination| receivers.iter().find(|receiver| receiver.name == to.receiver);
    let destinations = ledger.destinations().iter();
    destinations
        .filter_map(|to| Some((to, of(to)?)))
        .map(|(to, receiver)| Ok((to.clone(), Notifier::new(receiver, to, world)?)))
        .collect()
}

/// One channel of a receiver.
#[derive(Debug)]
struct Lane {
    to: Destination,
    notifier: Notifier,
    /// Until when nothing is tried: its service asked for fewer calls.
    rests_until: Timestamp,
    /// Beside another alerter: its turn, once it has said that it is about to tell something.
    turn: Option<Turn>,
    /// Says in `/readyz` that somebody must do something; only for ways that tell this from a passing failure.
    part: Option<Part>,
}

#[derive(Debug)]
struct Ended {
    due: Due,
    error: Option<String>,
    rest: Duration,
    at: Timestamp,
}

impl Dispatcher {
    /// Opens its connection to the alerter's file, which must exist with its tables.
    pub(crate) fn open(
        path: &Path,
        (ledger, ways): Changed,
        world: World,
        clock: Clock,
        part: &Part,
        metrics: Metrics,
    ) -> Result<Self, Error> {
        let file = connect(path).map_err(|source| Error::File { path: path.to_owned(), source })?;
        let mut dispatcher = Self {
            file,
            ledger: Arc::clone(&ledger),
            lanes: Vec::new(),
            world,
            clock,
            tries: JoinSet::new(),
            under_way: HashMap::new(),
            ended: Vec::new(),
            last_pass: Timestamp::MAX,
            counted: Timestamp::MIN,
            part: part.clone(),
            metrics,
            tells: Arc::default(),
            heard: Heard::default(),
        };
        dispatcher.change((ledger, ways));
        Ok(dispatcher)
    }

    /// Tells these from now on. What is under way to whoever stays goes on, and so does a rest that was asked for.
    fn change(&mut self, (ledger, ways): Changed) {
        let mut former: Vec<Option<Lane>> = std::mem::take(&mut self.lanes).into_iter().map(Some).collect();
        let mut moved: HashMap<usize, usize> = HashMap::new();
        for (to, notifier) in ways {
            let same = |of: &Option<Lane>| {
                of.as_ref().is_some_and(|of| (&of.to.receiver, &of.to.channel) == (&to.receiver, &to.channel))
            };
            let place = former.iter().position(same);
            let before = place.and_then(|place| former.get_mut(place)?.take());
            moved.extend(place.map(|place| (place, self.lanes.len())));
            let (rests_until, turn, part) =
                before.map_or((Timestamp::MIN, None, None), |of| (of.rests_until, of.turn, of.part));
            let part = match part {
                Some(part) => Some(part),
                None => notifier
                    .tells_refusals()
                    .then(|| self.part.section(&format!("notify.{} {}", to.receiver, to.channel))),
            };
            self.lanes.push(Lane { to, notifier, rests_until, turn, part });
        }
        for part in former.into_iter().flatten().filter_map(|lane| lane.part) {
            part.ok();
        }
        // One that is no more is at no place.
        for (lane, _) in self.under_way.values_mut() {
            *lane = moved.get(lane).copied().unwrap_or(usize::MAX);
        }
        self.ledger = ledger;
    }

    /// What rings when there is something to tell the other alerter.
    pub(crate) fn tells(&self) -> Arc<Notify> {
        Arc::clone(&self.tells)
    }

    /// By which it knows until when the other alerter was heard.
    pub(crate) fn heard(&self) -> Heard {
        self.heard.clone()
    }

    /// Sends until it is stopped: at once when woken, else when something is due. Then finishes what is under way.
    pub(crate) async fn run(
        mut self,
        wake: Arc<Notify>,
        mut changes: mpsc::UnboundedReceiver<Changed>,
        stop: CancellationToken,
    ) {
        let needs_aws = self.lanes.iter().any(|lane| matches!(lane.notifier, Notifier::Sns(_)));
        let _loading = self.world.aws().filter(|_| needs_aws).map(|aws| {
            let aws = aws.clone();
            AbortOnDropHandle::new(tokio::spawn(async move { _ = aws.session().await }))
        });
        loop {
            // All that ended meanwhile is recorded at once.
            while let Some(ended) = self.tries.try_join_next_with_id() {
                self.end(ended);
            }
            let pause = self.pass(self.clock.wall());
            tokio::select! {
                // In this order, so that a simulation is the same each time.
                biased;
                () = stop.cancelled() => break,
                Some(changed) = changes.recv() => self.change(changed),
                () = wake.notified() => {}
                Some(ended) = self.tries.join_next_with_id() => self.end(ended),
                () = tokio::time::sleep(pause) => {}
            }
        }
        // What was written last goes out too, if its receiver takes it soon.
        self.pass(self.clock.wall());
        let drain = async {
            while let Some(ended) = self.tries.join_next_with_id().await {
                self.end(ended);
            }
        };
        let drained = tokio::time::timeout(DRAIN, drain).await.is_ok();
        if let Err(error) = self.record() {
            tracing::error!(%error, "cannot record what was accepted: it may be sent once more");
        }
        if !drained {
            let tries = self.tries.len();
            tracing::warn!(tries, "gave up tries to notify; the next start makes them again");
        }
    }

    /// Records, makes digests, starts what is due. Gives how long to wait for more.
    fn pass(&mut self, now: Timestamp) -> Duration {
        match self.try_pass(now) {
            Ok(pause) => pause,
            Err(error) => {
                self.metrics.file_errors.inc();
                tracing::error!(%error, "the ledger cannot be read or written: trying again");
                AFTER_ERROR
            }
        }
    }

    fn try_pass(&mut self, now: Timestamp) -> rusqlite::Result<Duration> {
        if now < self.last_pass {
            // Also on the first pass: the clock may have been set back while no alerter ran.
            let file = self.file.transaction_with_behavior(TransactionBehavior::Immediate)?;
            ledger::clock_set_back(&file, now)?;
            file.commit()?;
            self.counted = Timestamp::MIN;
            self.lanes.iter_mut().for_each(|lane| lane.rests_until = Timestamp::MIN);
        }
        self.last_pass = now;
        self.record()?;
        if self.ledger.next_digest(&self.file, now)?.is_some_and(|due| due <= now) {
            let file = self.file.transaction_with_behavior(TransactionBehavior::Immediate)?;
            self.ledger.make_digests(&file, now)?;
            file.commit()?;
        }
        let mut next = self.ledger.next_digest(&self.file, now)?;
        for lane in 0..self.lanes.len() {
            let later = self.start(lane, now)?;
            next = next.into_iter().chain(later).min();
        }
        let pause = next.map_or(IDLE, |next| next.since(now)).min(IDLE);
        if now.since(self.counted) < COUNT {
            return Ok(pause.min(COUNT));
        }
        self.counted = now;
        let totals = ledger::totals(&self.file)?;
        self.metrics.owed.set(totals.owed);
        self.metrics.held.set(totals.held);
        let age = totals.oldest.map_or(Duration::ZERO, |oldest| now.since(oldest));
        self.metrics.oldest_owed.set(age.as_secs_f64());
        Ok(pause)
    }

    /// Starts what is due on one channel, as far as it has room. Gives when more will be.
    fn start(&mut self, lane: usize, now: Timestamp) -> rusqlite::Result<Option<Timestamp>> {
        let Some(Lane { to, rests_until, .. }) = self.lanes.get(lane) else {
            return Ok(None);
        };
        if now < *rests_until {
            return Ok(Some(*rests_until));
        }
        let under_way: Vec<i64> =
            self.under_way.values().filter(|(its, _)| *its == lane).map(|(_, due)| due.number).collect();
        let room = AT_ONCE.saturating_sub(under_way.len());
        if room == 0 {
            // The end of one of them goes on from here.
            return Ok(None);
        }
        let most = AT_ONCE + under_way.len();
        let others = match self.ledger.is_beside() {
            false => None,
            true if to.patience.is_zero() => ledger::others_turn(&self.file, to, now)?,
            true => Some(now),
        };
        let (due, next) = match others {
            None => (ledger::due(&self.file, to, now, most)?, ledger::next_try(&self.file, to, now)?),
            Some(until) if now < until => return Ok(Some(until)),
            Some(_) => self.due_in_turn(lane, most, now)?,
        };
        let Some(Lane { notifier, .. }) = self.lanes.get(lane) else {
            return Ok(None);
        };
        for due in due.into_iter().filter(|due| !under_way.contains(&due.number)).take(room) {
            let (notifier, body, clock) = (notifier.clone(), due.body.clone(), self.clock.clone());
            let handle = self.tries.spawn(async move { (notifier.send(&body).await, clock.wall()) });
            self.under_way.insert(handle.id(), (lane, due));
        }
        Ok(next)
    }

    /// What one of two alerters may try now that the other may be trying, too, and when it will be more: the second always, the
    /// first when it was lately the second's turn. It says beforehand that it is about to tell something; so the other keeps still,
    /// or tells it once more what was accepted.
    fn due_in_turn(
        &mut self,
        lane: usize,
        most: usize,
        now: Timestamp,
    ) -> rusqlite::Result<(Vec<Due>, Option<Timestamp>)> {
        let Some(Lane { to, turn, .. }) = self.lanes.get_mut(lane) else {
            return Ok((Vec::new(), None));
        };
        let mut due = ledger::due(&self.file, to, now + LEAD, most)?;
        let (mut from, mut again) = (now, None);
        if due.iter().any(|due| due.shared) {
            let (its, is_new) = Turn::at(*turn, now);
            if is_new {
                ledger::announce(&self.file, to, now)?;
                self.tells.notify_one();
            }
            *turn = Some(its);
            (from, again) = (its.tells_from(&self.heard, now), Some(its.next()));
        }
        let when = |due: &Due| if due.shared { due.next_try.max(from) } else { due.next_try };
        let later = ledger::next_try(&self.file, to, now + LEAD)?.map(|next| next - LEAD);
        let next = due.iter().map(when).filter(|when| *when > now).chain(later).chain(again).min();
        due.retain(|due| when(due) <= now);
        Ok((due, next))
    }

    /// Takes note of a try's end.
    fn end(&mut self, ended: Result<(Id, Answer), JoinError>) {
        let (id, answer, defect, at) = match ended {
            Ok((id, (result, at))) => (id, result.err(), None, at),
            Err(error) => (error.id(), None, Some(error.to_string()), self.clock.wall()),
        };
        let Some((lane, due)) = self.under_way.remove(&id) else {
            return;
        };
        let error = answer.as_ref().map(ToString::to_string).or(defect);
        let stuck = answer.as_ref().is_some_and(NotifyError::needs_somebody);
        if let Some(Lane { to, rests_until, part, .. }) = self.lanes.get_mut(lane) {
            *rests_until =
                (*rests_until).max(at + answer.as_ref().map_or(Duration::ZERO, NotifyError::rest_of_all));
            match (part, &error) {
                (Some(part), None) => part.ok(),
                (Some(part), Some(error)) if stuck => part.failing(error),
                _ => {}
            }
            let (receiver, channel) = (&to.receiver, &to.channel);
            let (id, state, tries) = (&due.id, &due.state, due.attempts + 1);
            match &error {
                None => tracing::info!(%receiver, %channel, id, state, tries, "notified"),
                Some(error) => {
                    tracing::error!(%receiver, %channel, id, state, tries, error, "not notified: trying again");
                }
            }
            let result = match &error {
                None => "accepted",
                Some(_) if stuck => "refused",
                Some(_) => "failed",
            };
            self.metrics.notified(receiver, channel, result, 1);
        }
        let rest = answer.map_or(Duration::ZERO, |error| error.rest());
        self.ended.push(Ended { due, error, rest, at });
    }

    /// Writes what ended into the file.
    fn record(&mut self) -> rusqlite::Result<()> {
        if self.ended.is_empty() {
            return Ok(());
        }
        let file = self.file.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut tells = false;
        for Ended { due, error, rest, at } in &self.ended {
            match error {
                None => tells |= self.ledger.accepted(&file, due.number, *at)?,
                Some(error) => ledger::failed(&file, due, error, *rest, *at)?,
            }
        }
        file.commit()?;
        self.ended.clear();
        if tells {
            self.tells.notify_one();
        }
        Ok(())
    }
}

/// A connection of one's own to the alerter's file.
pub(crate) fn connect(path: &Path) -> rusqlite::Result<Connection> {
    let file = Connection::open(path)?;
    file.busy_timeout(BUSY)?;
    file.pragma_update(None, "synchronous", "FULL")?;
    Ok(file)
}
