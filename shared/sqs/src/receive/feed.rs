//! The task of one queue: polls, keeps hidden what is held, deletes what is done with; in the end gives back the rest.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crosswatch_aws::sqs::{MESSAGES, Sqs};
use crosswatch_aws::{Failure, Kind};
use crosswatch_host::clock;
use crosswatch_host::retry::Backoff;
use tokio::sync::Notify;
use tokio_util::sync::CancellationToken;

use super::shelf::{Handle, Shelf};
use super::{POLL, VISIBILITY, way_out};

/// How long the first poll stays open, and one after a failure: it is to be known soon whether all is well.
const FIRST: Duration = Duration::from_secs(1);

/// How often it is looked whether something held must be hidden for another while.
const LOOK: Duration = Duration::from_secs(2);

/// The longest pause after a failure.
const PAUSE: Duration = Duration::from_secs(10);

pub(super) struct Feed {
    pub(super) sqs: Sqs,
    pub(super) shelf: Arc<Mutex<Shelf>>,
    pub(super) turn: Arc<Notify>,
    pub(super) news: Arc<Notify>,
}

impl Feed {
    /// Until it is stopped; then what is committed is deleted and what is held given back.
    pub(super) async fn run(self, stop: CancellationToken) {
        let (room, due) = (Notify::new(), Notify::new());
        let work = async {
            tokio::join!(self.wake(&room, &due), self.poll(&room), self.hide(), self.delete(&due));
        };
        stop.run_until_cancelled(work).await;
        self.finish().await;
    }

    /// The consumer wakes the task; two parts of it want to know.
    async fn wake(&self, room: &Notify, due: &Notify) {
        loop {
            self.turn.notified().await;
            room.notify_one();
            due.notify_one();
        }
    }

    async fn poll(&self, room: &Notify) {
        let mut log = Log::new(self.sqs.url(), "it cannot be received from", "it is received from again");
        let mut backoff = Backoff::new(Duration::from_millis(200), PAUSE);
        let mut wait = FIRST;
        loop {
            while !self.lock().has_room() {
                room.notified().await;
            }
            self.lock().polling(Instant::now(), wait);
            match self.sqs.receive(wait, VISIBILITY).await {
                Ok(messages) => {
                    self.lock().answered(messages, Instant::now(), clock::now());
                    self.news.notify_one();
                    log.well();
                    backoff.reset();
                    wait = POLL;
                }
                Err(failure) => {
                    self.lock().failed(told(&failure));
                    log.failed(&failure);
                    wait = FIRST;
                    tokio::time::sleep(backoff.pause()).await;
                }
            }
        }
    }

    async fn hide(&self) {
        loop {
            tokio::time::sleep(LOOK).await;
            loop {
                let handles = self.lock().to_hide(Instant::now());
                if handles.is_empty() {
                    break;
                }
                // SQS counts from later on.
                let now = Instant::now();
                match self.sqs.extend(&texts(&handles), VISIBILITY).await {
                    Ok(each) => {
                        let mut shelf = self.lock();
                        for ((id, _), done) in handles.iter().zip(each) {
                            // One that is refused may come again, which does no harm.
                            shelf.hidden(id, done.is_ok().then_some(now));
                        }
                    }
                    Err(error) => {
                        tracing::debug!(queue = self.sqs.url(), %error, "messages were not kept; they may come again");
                        break;
                    }
                }
            }
        }
    }

    async fn delete(&self, due: &Notify) {
        let mut log = Log::new(
            self.sqs.url(),
            "nothing can be deleted from it: what was consumed comes again",
            "it can be deleted from again",
        );
        let mut backoff = Backoff::new(Duration::from_millis(200), PAUSE);
        loop {
            let next = self.lock().deletion_due();
            match next {
                None => due.notified().await,
                Some(at) if at > Instant::now() => tokio::select! {
                    () = due.notified() => {}
                    () = tokio::time::sleep_until(at.into()) => {}
                },
                Some(_) => match self.delete_some().await {
                    Ok(()) => {
                        log.well();
                        self.lock().deleting(None);
                        backoff.reset();
                    }
                    Err(failure) => {
                        log.failed(&failure);
                        self.lock().deleting(Some(told(&failure)));
                        tokio::time::sleep(backoff.pause()).await;
                    }
                },
            }
        }
    }

    /// One call. What fails of it is tried again, unless the message is not there any more.
    async fn delete_some(&self) -> Result<(), Failure> {
        let handles = self.lock().to_delete();
        let each = self.sqs.delete(&texts(&handles)).await?;
        let mut shelf = self.lock();
        for ((id, _), done) in handles.iter().zip(each) {
            match done {
                Err(failure) if failure.kind != Kind::Refused => shelf.not_deleted(id, Instant::now()),
                _ => shelf.deleted(id),
            }
        }
        Ok(())
    }

    async fn finish(&self) {
        let back = self.lock().give_back();
        for handles in back.chunks(MESSAGES) {
            if let Err(error) = self.sqs.extend(&texts(handles), Duration::ZERO).await {
                let queue = self.sqs.url();
                tracing::info!(queue, %error, "messages were not given back; they come again in {VISIBILITY:?}");
                break;
            }
        }
        while self.lock().done() > 0 {
            if let Err(error) = self.delete_some().await {
                tracing::info!(queue = self.sqs.url(), %error, "not all that was consumed is deleted; it comes again");
                break;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn texts(handles: &[Handle]) -> Vec<&str> {
    handles.iter().map(|(_, handle)| handle.as_str()).collect()
}

fn told(failure: &Failure) -> String {
    format!("{failure}; {}", way_out(failure))
}

/// Says in the log when something changes, not at every try.
struct Log<'a> {
    queue: &'a str,
    fails: &'static str,
    well: &'static str,
    code: Option<String>,
}

impl<'a> Log<'a> {
    fn new(queue: &'a str, fails: &'static str, well: &'static str) -> Self {
        Self { queue, fails, well, code: None }
    }

    fn well(&mut self) {
        if self.code.take().is_some() {
            tracing::info!(queue = self.queue, "{}", self.well);
        }
    }

    fn failed(&mut self, failure: &Failure) {
        if self.code.as_deref() != Some(&failure.code) {
            let way_out = way_out(failure);
            tracing::error!(queue = self.queue, %failure, way_out, "{}", self.fails);
            self.code = Some(failure.code.clone());
        }
    }
}
