//! How much goes in one call, and how long that may take: what the way to the queue was found to carry. Pure.
//!
//! A call that could not be uploaded in its time would fail for ever if it were made again just the same. So what timed out
//! goes in parts, down to one message; and since a message that may have been sent keeps what is in it, one that timed out alone
//! gets more time. Messages that are made from then on are small. What is taken in a fraction of its time brings both back.

use std::time::Duration;

use crosswatch_aws::sqs::BYTES;

/// Calls and messages are never made smaller than this for the way's sake: what is as small and late was not late for its
/// size.
pub(crate) const LEAST: usize = 8 << 10;

/// So often the time for a call is doubled at most: the largest message takes 53 kbit/s then.
const DOUBLINGS: u32 = 4;

/// A call gets no more time than its bytes take at so many a second, 14 kbit/s: what is small and hangs is given up as soon
/// as ever. [`LEAST`] bytes take less than the patience with a first queue.
const LEAST_RATE: usize = 1_700;

/// A call that took no more than this part of its time says that twice as much would be taken as well.
const QUICK: u32 = 4;

/// What a call may be.
#[derive(Debug)]
pub(super) struct Allowance {
    bytes: usize,
    doublings: u32,
}

impl Allowance {
    /// All that a call takes.
    pub(super) const fn new() -> Self {
        Self { bytes: BYTES, doublings: 0 }
    }

    /// The most bytes of a call of several messages.
    pub(super) const fn bytes(&self) -> usize {
        self.bytes
    }

    /// How long a call of so many bytes may take that has this long where nothing was slow.
    pub(super) fn within(&self, time: Duration, bytes: usize) -> Duration {
        let upload = Duration::from_millis((bytes * 1_000 / LEAST_RATE) as u64);
        time.max(upload.min(time * (1 << self.doublings)))
    }

    /// A call of so many messages and bytes had no answer in its time.
    pub(super) fn late(&mut self, messages: usize, bytes: usize) {
        if bytes <= LEAST {
            return;
        }
        self.bytes = (bytes.min(self.bytes) / 2).max(LEAST);
        if messages == 1 {
            self.doublings = (self.doublings + 1).min(DOUBLINGS);
        }
    }

    /// A call of so many bytes was answered.
    pub(super) fn answered(&mut self, bytes: usize, took: Duration, within: Duration) {
        if took * QUICK > within {
            return;
        }
        if self.doublings > 0 {
            self.doublings -= 1;
        } else if bytes >= self.bytes / 2 {
            // Less than was allowed says nothing of more.
            self.bytes = (self.bytes * 2).min(BYTES);
        }
    }
}
