//! What a receiver was sent, with when: filled by the receiver's threads, waited on by the test.

use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A message as it came.
#[derive(Clone, Debug)]
pub struct Message {
    /// When it had come whole.
    pub at: Instant,
    /// Its body.
    pub body: String,
    /// Whether the receiver accepted it.
    pub accepted: bool,
}

impl Message {
    /// The body as JSON; panics with the body if it is none.
    #[must_use]
    pub fn json(&self) -> serde_json::Value {
        serde_json::from_str(&self.body).unwrap_or_else(|error| panic!("not JSON: {error}: {}", self.body))
    }
}

/// The messages of one receiver, oldest first; clones share them.
#[derive(Clone, Debug, Default)]
pub struct Inbox(Arc<Shared>);

#[derive(Debug, Default)]
struct Shared {
    messages: Mutex<Vec<Message>>,
    came: Condvar,
}

impl Inbox {
    pub(crate) fn push(&self, message: Message) {
        self.messages().push(message);
        self.0.came.notify_all();
    }

    /// Everything so far.
    #[must_use]
    pub fn all(&self) -> Vec<Message> {
        self.messages().clone()
    }

    /// Waits until there are `n`, and returns all; panics with what there is after `bound`.
    #[must_use]
    pub fn wait_for(&self, n: usize, bound: Duration) -> Vec<Message> {
        self.wait_until(bound, |messages| (messages.len() >= n).then(|| messages.to_vec()))
    }

    /// Waits until `find` finds what it looks for among all messages so far; panics with them after `bound`.
    pub fn wait_until<T>(&self, bound: Duration, find: impl FnMut(&[Message]) -> Option<T>) -> T {
        self.find_within(bound, find).unwrap_or_else(|| {
            let all = self.all();
            panic!("what was waited for did not come within {bound:?}; what came: {all:#?}")
        })
    }

    /// Waits until `find` finds what it looks for among all messages so far; `None` after `bound`.
    pub fn find_within<T>(
        &self,
        bound: Duration,
        mut find: impl FnMut(&[Message]) -> Option<T>,
    ) -> Option<T> {
        let start = Instant::now();
        let mut messages = self.messages();
        loop {
            if let Some(found) = find(&messages) {
                return Some(found);
            }
            let left = bound.checked_sub(start.elapsed())?;
            messages = self.0.came.wait_timeout(messages, left).expect("the inbox").0;
        }
    }

    fn messages(&self) -> MutexGuard<'_, Vec<Message>> {
        self.0.messages.lock().expect("the inbox")
    }
}
