//! What was asked: a summary of each request, the newest of them, and counters that forget nothing.

use std::collections::{BTreeMap, VecDeque};

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

/// How many requests are kept.
const KEPT: usize = 100_000;

/// One request.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// Its number, from 0.
    pub n: u64,
    /// When it was answered, or reset.
    pub at: Timestamp,
    /// The client's IP address.
    pub source: String,
    /// The region asked.
    pub region: String,
    /// The account of the credentials.
    pub account: String,
    /// The service, as faults name it.
    pub service: String,
    /// Such as `SendMessageBatch`.
    pub operation: String,
    /// What it was about; see [`crate::faults::Match::resource`].
    pub resource: String,
    /// The HTTP status; null where the connection was reset.
    pub status: Option<u16>,
    /// The error's code; `Reset` or `AnswerLost` where the connection was reset.
    pub code: Option<String>,
    /// The body's length as it came.
    pub bytes: u64,
    /// What SQS bills for it: 64 KiB of bodies sent are one; 1 for any other request.
    pub billed: u64,
    /// Messages, datums, alarms: what a request holds several of, or else 1.
    pub entries: u64,
    /// Why it was refused, by the gate or by the emulator; null for a fault that was ordered.
    pub refused: Option<String>,
    /// More about it, another thing for each service.
    pub summary: serde_json::Value,
}

/// A page of the record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Page {
    /// What to ask for next time.
    pub next: u64,
    /// How many since `since` are no longer there.
    pub dropped: u64,
    /// The requests asked for, in the order of their answers.
    pub requests: Vec<Request>,
}

/// Sums over the requests of one service, operation and resource.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Count {
    /// The service.
    pub service: String,
    /// The operation.
    pub operation: String,
    /// The resource.
    pub resource: String,
    /// Requests, whatever became of them.
    pub requests: u64,
    /// Entries of those that were done.
    pub entries: u64,
    /// Billed requests of those that were done.
    pub billed: u64,
    /// Requests refused.
    pub refused: u64,
    /// Requests that a fault struck down, or whose answer was lost.
    pub failed: u64,
}

#[derive(Debug, Default)]
pub(crate) struct Record {
    next: u64,
    requests: VecDeque<Request>,
    counts: BTreeMap<(String, String, String), Count>,
}

impl Record {
    pub(crate) fn push(&mut self, mut request: Request) {
        request.n = self.next;
        self.next += 1;
        let key = (request.service.clone(), request.operation.clone(), request.resource.clone());
        let count = self.counts.entry(key).or_default();
        count.requests += 1;
        if request.refused.is_some() {
            count.refused += 1;
        } else if request.code.as_deref() == Some("AnswerLost") {
            // It had its effect.
            count.failed += 1;
            count.entries += request.entries;
            count.billed += request.billed;
        } else if request.code.is_some() {
            count.failed += 1;
        } else {
            count.entries += request.entries;
            count.billed += request.billed;
        }
        if self.requests.len() == KEPT {
            self.requests.pop_front();
        }
        self.requests.push_back(request);
    }

    pub(crate) fn page(&self, service: Option<&str>, operation: Option<&str>, since: u64) -> Page {
        let oldest = self.requests.front().map_or(self.next, |request| request.n);
        let wanted = |request: &&Request| {
            request.n >= since
                && service.is_none_or(|service| request.service == service)
                && operation.is_none_or(|operation| request.operation == operation)
        };
        Page {
            next: self.next,
            dropped: oldest.saturating_sub(since),
            requests: self.requests.iter().filter(wanted).cloned().collect(),
        }
    }

    pub(crate) fn counts(&self) -> Vec<Count> {
        let named = |((service, operation, resource), count): (&(String, String, String), &Count)| Count {
            service: service.clone(),
            operation: operation.clone(),
            resource: resource.clone(),
            ..count.clone()
        };
        self.counts.iter().map(named).collect()
    }

    /// Numbers go on.
    pub(crate) fn clear(&mut self) {
        self.requests.clear();
        self.counts.clear();
    }
}
