//! Which receipt handles are alive.

use std::collections::{HashMap, VecDeque};
use std::time::{Duration, Instant};

use super::limits::{LONGEST_VISIBILITY, bad_handle, invalid};
use crate::answer::Refusal;

/// How many handles the gate remembers, beyond those in flight.
const REMEMBERED: usize = 250_000;

/// What was received and by which handle.
#[derive(Debug, Default)]
pub(crate) struct Handles {
    held: HashMap<String, Held>,
    order: VecDeque<String>,
}

#[derive(Debug)]
struct Held {
    queue: String,
    received: Instant,
    /// Until when it is in flight.
    until: Instant,
}

impl Handles {
    pub(super) fn add(&mut self, queue: &str, handle: &str, now: Instant, visibility: Duration) {
        let held = Held { queue: queue.to_owned(), received: now, until: now + visibility };
        if self.held.insert(handle.to_owned(), held).is_none() {
            self.order.push_back(handle.to_owned());
        }
        while self.order.len() > REMEMBERED {
            match self.order.pop_front() {
                // One still in flight is looked at again later.
                Some(oldest) if self.held.get(&oldest).is_some_and(|held| held.until > now) => {
                    self.order.push_back(oldest);
                    break;
                }
                Some(oldest) => {
                    self.held.remove(&oldest);
                }
                None => break,
            }
        }
    }

    pub(super) fn in_flight(&self, queue: &str, now: Instant) -> usize {
        self.held.values().filter(|held| held.queue == queue && held.until > now).count()
    }

    pub(super) fn is_known(&self, queue: &str, handle: &str) -> bool {
        self.held.get(handle).is_some_and(|held| held.queue == queue)
    }

    pub(super) fn end(&mut self, handle: &str, now: Instant) {
        if let Some(held) = self.held.get_mut(handle) {
            held.until = held.until.min(now);
        }
    }

    pub(super) fn check_change(
        &self,
        queue: &str,
        handle: &str,
        now: Instant,
        seconds: i64,
    ) -> Result<(), Refusal> {
        let held = self.held.get(handle).filter(|held| held.queue == queue).ok_or_else(bad_handle)?;
        if held.until <= now {
            return Err(Refusal::new(400, "MessageNotInflight", "The message referred to isn't in flight."));
        }
        let total = now.duration_since(held.received) + Duration::from_secs(seconds.unsigned_abs());
        if total > Duration::from_secs(LONGEST_VISIBILITY.unsigned_abs()) {
            return Err(invalid(
                "Total VisibilityTimeout for the message is beyond the limit [43200 seconds]",
            ));
        }
        Ok(())
    }

    pub(super) fn change(&mut self, handle: &str, now: Instant, seconds: i64) {
        if let Some(held) = self.held.get_mut(handle) {
            held.until = now + Duration::from_secs(seconds.unsigned_abs());
        }
    }
}
