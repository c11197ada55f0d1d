//! The contract of a queue: what a backend promises and what a consumer may rely on.

use std::pin::Pin;
use std::time::Duration;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use crate::QueueError;

/// What a backend's call comes to.
pub type Pending<'a, T> = Pin<Box<dyn Future<Output = Result<T, QueueError>> + Send + 'a>>;

/// A queue of batches in their wire form, delivered **at least once**: receive, commit, extend.
///
/// - A message is received again and again until it is committed. It may be received again even after that.
/// - Messages come in any order, and one may come twice in a page.
/// - A received message is the receiver's for a time that the backend sets, if it sets one. Then its receipt is
///   expired: the message comes again, under another receipt, and to commit the old one may do nothing.
/// - Whoever drops a future of [`Self::receive`], or what it received, loses nothing.
///
/// So a consumer makes its own record of what it has seen, before it commits.
pub trait Queue: Send {
    /// Takes up to `limit` messages, one at least when there is one; waits up to `wait` for the first.
    ///
    /// # Errors
    /// The queue cannot be read; see [`QueueError::is_temporary`].
    fn receive(&mut self, limit: usize, wait: Duration) -> Pending<'_, Page>;

    /// Says that these are done with: they need not come again.
    ///
    /// # Errors
    /// Some of them will come again.
    fn commit<'a>(&'a mut self, receipts: &'a [Receipt]) -> Pending<'a, ()>;

    /// Asks to keep these for `by` from now on; zero gives them back, to be received again at once.
    ///
    /// # Errors
    /// Some of them may come again earlier, or later.
    fn extend<'a>(&'a mut self, receipts: &'a [Receipt], by: Duration) -> Pending<'a, ()>;

    /// How much lies in the queue uncommitted. For the metrics; nothing is promised of it.
    ///
    /// # Errors
    /// The queue cannot be asked.
    fn backlog(&mut self) -> Pending<'_, Backlog>;

    /// Ends the receiving in order: what a backend puts off of its commits is done, and what it holds back goes to
    /// whoever receives next, at once. As well as can be, and soon: without it the same comes about with time.
    fn close(&mut self) -> Pin<Box<dyn Future<Output = ()> + Send + '_>> {
        Box::pin(async {})
    }
}

/// What one call received.
#[derive(Debug, Default)]
pub struct Page {
    /// The messages.
    pub messages: Vec<Message>,
    /// The queue was read to its end just now: after these there was nothing more. A part of it that fails, or does not
    /// answer, was not read.
    pub empty: bool,
    /// How many messages the queue let go before this consumer had them, found out with this page.
    pub missed: u64,
    /// Why a part of the queue could not be read, while the rest goes on.
    pub failing: Option<String>,
}

/// One message.
#[derive(Clone, Debug)]
pub struct Message {
    /// What to commit or extend it by.
    pub receipt: Receipt,
    /// When the queue took it, by the queue's clock.
    pub sent: Timestamp,
    /// A batch in its wire form, if its sender is sound.
    pub payload: Vec<u8>,
    /// Why the backend could not even make that of it; the payload is the message as it came then.
    pub unreadable: Option<String>,
}

/// What a message is committed by.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Receipt {
    /// Its place in a log. The log keeps no record of its readers, so the consumer keeps the place with its state
    /// and goes on from there after a restart.
    Place(Place),
    /// What the queue itself remembers the message by.
    Handle {
        /// Which queue.
        queue: Name,
        /// The queue's own text.
        handle: String,
    },
}

/// A place in a log: all up to and including it has been taken.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Whose log: the site.
    pub journal: Name,
    /// Tells the log from one begun anew under the same name.
    pub identity: Name,
    /// The entry's id.
    pub id: i64,
}

/// What lies in a queue.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Backlog {
    /// How many batches; with some backends roughly.
    pub batches: u64,
    /// How many observations, where the backend can tell.
    pub observations: Option<u64>,
    /// When the queue took the oldest of them.
    pub oldest: Option<Timestamp>,
}
