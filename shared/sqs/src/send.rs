//! Sending to one queue, and to the queue in another region that stands by for it.
//!
//! A message may be sent again, to either queue, whenever its fate is not known: it keeps what is in it, though its text may
//! be another after a restart, and who receives it knows it by its collector, boot and number. So nothing here remembers
//! what was sent beyond the [`Load`] in hand.
//!
//! The first queue gets everything while it takes it. Once it has failed for [`PATIENCE`] the standby gets it; beside
//! that the first is given a message of the load from time to time, and has everything again as soon as it takes that.
//!
//! A way too slow for what a call takes gets less in each, and more time for it: see `allowance`.

mod allowance;

use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use crosswatch_aws::sqs::{Each, MESSAGES, Sqs};
use crosswatch_aws::{Failure, Kind};
use crosswatch_host::retry::Backoff;
use tokio::task::JoinHandle;
use tokio::time::{Instant, timeout};

use crate::body::billed;
use allowance::Allowance;
pub(crate) use allowance::LEAST;

/// How long the first queue may fail before the standby gets what it can't take; and, where there is a standby, how long the
/// first has for an answer.
pub const PATIENCE: Duration = Duration::from_secs(5);

/// How long a call may take, its upload included, where none was too slow lately.
pub const ANSWER: Duration = Duration::from_secs(10);

/// The first wait after a failure, and the longest.
const AGAIN: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// The same between trials of a first queue that failed.
const TRIALS: (Duration, Duration) = (Duration::from_secs(2), Duration::from_secs(30));

/// What a call comes to.
pub type Sending<'a> = Pin<Box<dyn Future<Output = Result<Each, Failure>> + Send + 'a>>;

/// What takes messages: a queue of Amazon SQS.
pub trait Post: Send + Sync + 'static {
    /// Sends up to [`MESSAGES`] messages of up to [`BYTES`](crosswatch_aws::sqs::BYTES) together; fails with
    /// [`Kind::Timeout`] when there is no answer `within` that time.
    fn send<'a>(&'a self, bodies: &'a [String], within: Duration) -> Sending<'a>;
}

impl Post for Sqs {
    fn send<'a>(&'a self, bodies: &'a [String], within: Duration) -> Sending<'a> {
        Box::pin(self.send_within(bodies, within))
    }
}

/// Messages on their way, in their order.
#[derive(Debug, Default)]
pub struct Load {
    bodies: Vec<(String, bool)>,
}

/// Which of the two queues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Route {
    /// The queue itself.
    First,
    /// The one that stands by.
    Standby,
}

/// What became of one call.
#[derive(Clone, Debug)]
pub struct Attempt {
    /// To which queue.
    pub route: Route,
    /// When it began.
    pub begun: Instant,
    /// How long it took.
    pub took: Duration,
    /// How many messages were taken.
    pub taken: usize,
    /// How many bytes went, taken or not.
    pub bytes: usize,
    /// What AWS bills for them, if it bills them.
    pub billed: u64,
    /// Why not all were taken.
    pub failure: Option<Failure>,
}

/// Sends to a queue, or else to its standby.
pub struct Sender {
    first: Arc<dyn Post>,
    standby: Option<Arc<dyn Post>>,
    patience: Duration,
    allowance: Allowance,
    /// When the first began to fail.
    failing_since: Option<Instant>,
    backoff: Backoff,
    again_at: Option<Instant>,
    trial: Option<JoinHandle<bool>>,
    trial_at: Option<Instant>,
    trials: Backoff,
}

impl Load {
    /// Of these, none of which has been taken yet.
    #[must_use]
    pub fn new(bodies: impl IntoIterator<Item = String>) -> Self {
        Self { bodies: bodies.into_iter().map(|body| (body, false)).collect() }
    }

    /// Whether all were taken.
    #[must_use]
    pub fn is_done(&self) -> bool {
        self.bodies.iter().all(|(_, taken)| *taken)
    }

    /// The next of them that go in one call of so many bytes, one at least: their places, and their bodies.
    fn next(&self, most: usize) -> (Vec<usize>, Vec<String>) {
        let (mut places, mut bodies, mut bytes) = (Vec::new(), Vec::new(), 0);
        for (place, (body, _)) in self.bodies.iter().enumerate().filter(|(_, (_, taken))| !taken) {
            if bodies.len() == MESSAGES || (!bodies.is_empty() && bytes + body.len() > most) {
                break;
            }
            bytes += body.len();
            places.push(place);
            bodies.push(body.clone());
        }
        (places, bodies)
    }
}

impl Sender {
    /// To this queue, and to this one when it fails.
    pub fn new(first: Arc<dyn Post>, standby: Option<Arc<dyn Post>>) -> Self {
        Self {
            first,
            standby,
            patience: PATIENCE,
            allowance: Allowance::new(),
            failing_since: None,
            backoff: Backoff::new(AGAIN.0, AGAIN.1),
            again_at: None,
            trial: None,
            trial_at: None,
            trials: Backoff::new(TRIALS.0, TRIALS.1),
        }
    }

    /// With another patience than [`PATIENCE`].
    #[must_use]
    pub fn waiting(mut self, patience: Duration) -> Self {
        self.patience = patience;
        self
    }

    /// How many bytes a message should have at most that is made now: what the queue was found to take in its time.
    #[must_use]
    pub fn room(&self) -> usize {
        self.allowance.bytes()
    }

    /// Whether the standby gets what is sent now.
    #[must_use]
    pub fn is_on_standby(&self) -> bool {
        let failing = self.failing_since.is_some_and(|since| since.elapsed() >= self.patience);
        self.standby.is_some() && failing
    }

    /// Makes one call for what of the load has not been taken, after the wait that is due after a failure. Dropped in the
    /// middle, it may have sent what the load does not say so of: it is sent again.
    pub async fn attempt(&mut self, load: &mut Load) -> Attempt {
        if let Some(at) = self.again_at {
            tokio::time::sleep_until(at).await;
        }
        let begun = Instant::now();
        self.after_trial().await;
        let standby = self.standby.clone().filter(|_| self.is_on_standby());
        let route = if standby.is_some() { Route::Standby } else { Route::First };
        let (places, bodies) = load.next(self.allowance.bytes());
        let bytes = bodies.iter().map(String::len).sum();
        let mut within = self.allowance.within(ANSWER, bytes);
        let answer = match &standby {
            Some(standby) => {
                self.try_first(&bodies, begun);
                standby.send(&bodies, within).await
            }
            None if self.standby.is_some() => {
                within = self.allowance.within(self.patience, bytes);
                timeout(within, self.first.send(&bodies, within)).await.unwrap_or_else(|_| Err(late(within)))
            }
            None => self.first.send(&bodies, within).await,
        };
        match &answer {
            Ok(_) => self.allowance.answered(bytes, begun.elapsed(), within),
            Err(failure) if failure.kind == Kind::Timeout => self.allowance.late(bodies.len(), bytes),
            Err(_) => {}
        }
        let mut attempt = Attempt {
            route,
            begun,
            took: begun.elapsed(),
            taken: 0,
            bytes,
            billed: billed(bytes),
            failure: None,
        };
        match answer {
            Ok(each) => {
                // An entry that the answer does not have has not been taken as far as is known.
                for (place, entry) in places.into_iter().zip(each) {
                    match entry {
                        Ok(()) => {
                            attempt.taken += 1;
                            if let Some((_, taken)) = load.bodies.get_mut(place) {
                                *taken = true;
                            }
                        }
                        Err(failure) => attempt.failure = Some(failure),
                    }
                }
                if attempt.taken < bodies.len() && attempt.failure.is_none() {
                    attempt.failure =
                        Some(Failure::bad_answer("sqs:SendMessage", "it does not name every message"));
                }
            }
            Err(failure) => attempt.failure = Some(failure),
        }
        self.note(&attempt);
        attempt
    }

    /// What follows from an attempt.
    fn note(&mut self, attempt: &Attempt) {
        if attempt.failure.is_none() {
            self.again_at = None;
            self.backoff.reset();
            if attempt.route == Route::First {
                self.failing_since = None;
            }
            return;
        }
        let mut again_at = Instant::now() + self.backoff.pause();
        if attempt.route == Route::First {
            let since = *self.failing_since.get_or_insert(attempt.begun);
            if self.standby.is_some() {
                again_at = again_at.min(since + self.patience);
            }
        }
        self.again_at = Some(again_at);
    }

    /// Lets the first queue have a message of the load beside the standby, if it is time to try it.
    fn try_first(&mut self, bodies: &[String], now: Instant) {
        if self.trial.is_some() || self.trial_at.is_some_and(|at| now < at) {
            return;
        }
        let (first, body) = (self.first.clone(), bodies.first().cloned());
        let within = self.allowance.within(ANSWER, body.as_ref().map_or(0, String::len));
        self.trial = Some(tokio::spawn(async move {
            let Some(body) = body else { return false };
            matches!(first.send(&[body], within).await, Ok(each) if each.iter().all(Result::is_ok))
        }));
    }

    /// Takes up what came of a trial that has ended.
    async fn after_trial(&mut self) {
        let Some(trial) = self.trial.take_if(|trial| trial.is_finished()) else {
            return;
        };
        if trial.await.unwrap_or(false) {
            tracing::info!("the queue takes messages again: the standby is let go");
            self.failing_since = None;
            self.trial_at = None;
            self.trials.reset();
        } else {
            self.trial_at = Some(Instant::now() + self.trials.pause());
        }
    }
}

impl Drop for Sender {
    fn drop(&mut self) {
        if let Some(trial) = &self.trial {
            trial.abort();
        }
    }
}

fn late(patience: Duration) -> Failure {
    Failure {
        operation: "sqs:SendMessage",
        kind: Kind::Timeout,
        code: "Timeout".to_owned(),
        message: format!("no answer in {patience:?}"),
    }
}
