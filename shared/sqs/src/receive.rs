//! Receiving: one SQS queue, and its standby where there is one, as the [`Queue`] of a consumer.
//!
//! A consumer asks again and again, in fractions of a second; each call to SQS is billed. So a task of its own a queue
//! keeps one long poll open and puts what comes on a shelf, from which the consumer is served. The shelf is small:
//! while nobody takes from it (a sink fails), nothing is received either, and what lies there is received once, however long that
//! lasts. The task keeps it, and what the consumer has in hand, from being shown to others, and deletes what is committed
//! ten at a time. What cannot be told in time, a deletion say, only makes a message come again.
//!
//! **Read to its end** means: nothing is left on the shelf, the first queue has a long poll open that may still be
//! answered, and what came last was neither a full answer nor had been lying long. A standby is not asked: that its region is
//! down must not end the watching for silent sites. While the first queue fails nobody is called silent, since its
//! messages may be waiting there.

mod feed;
mod shelf;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crosswatch_aws::Session;
use crosswatch_aws::sqs::{Depth, Sqs};
use crosswatch_queue::{Backlog, Message, Page, Pending, Queue, QueueError, Receipt};
use crosswatch_shared::config::topology::SqsQueue;
use crosswatch_shared::observation::Name;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};

use crate::{body, way_out};
use feed::Feed;
use shelf::Shelf;

/// How long a message is this consumer's before it must be kept again. A consumer that dies holds some: they must come
/// again before the gap that they leave is skipped, after [`crosswatch_shared::event_time::GAP`].
pub const VISIBILITY: Duration = Duration::from_secs(20);

/// How long a poll stays open, but for the first and those after a failure.
const POLL: Duration = Duration::from_secs(10);

/// How long closing may take.
const CLOSE: Duration = Duration::from_secs(5);

/// One queue and its standby, being received from.
pub struct Receiver {
    queues: Vec<Received>,
    /// Something came, or something changed.
    news: Arc<Notify>,
    _stop: DropGuard,
    stop: CancellationToken,
}

/// One of the queues.
struct Received {
    name: Name,
    sqs: Sqs,
    shelf: Arc<Mutex<Shelf>>,
    /// Tells the task that there is room, or something to delete.
    turn: Arc<Notify>,
    task: Option<JoinHandle<()>>,
}

impl Receiver {
    /// Begins to receive. Needs a runtime around it.
    #[must_use]
    pub fn open(session: &Session, queue: &SqsQueue) -> Self {
        let news = Arc::new(Notify::new());
        let stop = CancellationToken::new();
        let urls = std::iter::once(&queue.url).chain(&queue.standby);
        let queues = urls
            .map(|url| {
                let sqs = Sqs::new(session, url);
                let (shelf, turn) = (Arc::<Mutex<Shelf>>::default(), Arc::new(Notify::new()));
                let feed = Feed {
                    sqs: sqs.clone(),
                    shelf: Arc::clone(&shelf),
                    turn: Arc::clone(&turn),
                    news: Arc::clone(&news),
                };
                let task = tokio::spawn(feed.run(stop.clone()));
                Received { name: url.as_str().into(), sqs, shelf, turn, task: Some(task) }
            })
            .collect();
        Self { queues, news, _stop: stop.clone().drop_guard(), stop }
    }

    /// What can be had now, without waiting.
    fn take(&mut self, limit: usize, now: Instant) -> Page {
        let mut page = Page::default();
        let mut bodies = Vec::new();
        while page.messages.len() + bodies.len() < limit.max(1) {
            let oldest = self.queues.iter().filter_map(|queue| Some((queue.lock().next_sent()?, queue)));
            let Some((_, queue)) = oldest.min_by_key(|(sent, _)| *sent) else { break };
            let taken = queue.lock().hand_out();
            bodies.extend(taken.map(|message| (queue.name.clone(), message)));
        }
        let failing: Vec<String> = self
            .queues
            .iter()
            .filter_map(|queue| Some(format!("queue {}: {}", queue.name, queue.lock().failing(now)?)))
            .collect();
        page.failing = (!failing.is_empty()).then(|| failing.join("; "));
        let nothing_left = self.queues.iter().all(|queue| queue.lock().is_bare());
        page.empty = nothing_left && self.queues.first().is_some_and(|first| first.lock().is_at_end(now));
        // Outside of the locks: a body may be large.
        page.messages = bodies.into_iter().map(|(queue, message)| read(queue, message)).collect();
        page
    }

    async fn wait_for_page(&mut self, limit: usize, wait: Duration) -> Page {
        let now = Instant::now();
        for queue in &self.queues {
            queue.lock().take_back(now);
        }
        let until = tokio::time::Instant::now() + wait;
        // A consumer that is always served at once must not keep the tasks from running.
        tokio::task::yield_now().await;
        loop {
            let news = Arc::clone(&self.news);
            let news = news.notified();
            if self.queues.iter().any(|queue| queue.lock().next_sent().is_some()) {
                break;
            }
            if tokio::time::timeout_at(until, news).await.is_err() {
                break;
            }
        }
        // From here on nothing is waited for: who drops this future has dropped it before anything was handed out.
        let page = self.take(limit, Instant::now());
        for queue in &self.queues {
            queue.turn.notify_one();
        }
        page
    }

    fn of(&self, receipt: &Receipt, does: impl Fn(&mut Shelf, &str)) {
        if let Receipt::Handle { queue, handle } = receipt
            && let Some(queue) = self.queues.iter().find(|one| one.name == *queue)
        {
            does(&mut queue.lock(), handle);
            queue.turn.notify_one();
        }
    }

    async fn ask(&mut self) -> Result<Backlog, QueueError> {
        let mut sum = Backlog::default();
        for queue in &self.queues {
            let depth = queue.sqs.depth().await;
            let Depth { visible, in_flight, delayed } = depth.map_err(|failure| QueueError::Unavailable {
                queue: queue.name.to_string(),
                source: format!("{failure}; {}", way_out(&failure)).into(),
            })?;
            let shelf = queue.lock();
            // What is about to be deleted is done with.
            sum.batches += visible + delayed + in_flight.saturating_sub(shelf.done() as u64);
            sum.oldest = sum.oldest.into_iter().chain(shelf.oldest()).min();
        }
        Ok(sum)
    }
}

impl Received {
    fn lock(&self) -> MutexGuard<'_, Shelf> {
        self.shelf.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A body as a message of the contract.
fn read(queue: Name, shelf::Handed { id, sent, body }: shelf::Handed) -> Message {
    let (payload, unreadable) = match body::decode(&body) {
        Ok(mut payload) => {
            // Decompressing makes room for the largest there may be.
            payload.shrink_to_fit();
            (payload, None)
        }
        Err(error) => (body.as_bytes().to_vec(), Some(error.to_string())),
    };
    Message { receipt: Receipt::Handle { queue, handle: id.to_string() }, sent, payload, unreadable }
}

impl Queue for Receiver {
    /// What the last page gave and was neither committed nor kept comes first again: the same consumer has it, so SQS
    /// is not asked.
    fn receive(&mut self, limit: usize, wait: Duration) -> Pending<'_, Page> {
        Box::pin(async move { Ok(self.wait_for_page(limit, wait).await) })
    }

    fn commit<'a>(&'a mut self, receipts: &'a [Receipt]) -> Pending<'a, ()> {
        let now = Instant::now();
        receipts.iter().for_each(|receipt| self.of(receipt, |shelf, id| shelf.commit(id, now)));
        Box::pin(async { Ok(()) })
    }

    fn extend<'a>(&'a mut self, receipts: &'a [Receipt], by: Duration) -> Pending<'a, ()> {
        let until = Instant::now() + by;
        receipts.iter().for_each(|receipt| self.of(receipt, |shelf, id| shelf.keep(id, until)));
        Box::pin(async { Ok(()) })
    }

    fn backlog(&mut self) -> Pending<'_, Backlog> {
        Box::pin(self.ask())
    }

    fn close(&mut self) -> std::pin::Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {
            self.stop.cancel();
            let until = tokio::time::Instant::now() + CLOSE;
            for queue in &mut self.queues {
                if let Some(task) = queue.task.take()
                    && tokio::time::timeout_at(until, task).await.is_err()
                {
                    tracing::warn!(queue = %queue.name, "not all could be given back in time; it comes again");
                }
            }
        })
    }
}
