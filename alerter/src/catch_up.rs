//! Catching up: an alerter that was down reads what came meanwhile at full speed, and judges it as of then. Pure.
//!
//! Paging follows the present. What fires by a batch that has lain in the queue for long is kept back, in the transaction
//! that says so, until the queue was read to its end. What fires then is told by one page, and what has ended by one digest.
//! What a fresh batch decides is never kept back; and nothing is for ever, where a queue is never read to its end.

use std::collections::HashSet;
use std::time::Duration;

use crosswatch_judge::incident::{Ended, Event, What};
use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::{Batch, Body, Name};
use crosswatch_shared::time::Timestamp;

/// The rule that a digest of what began and ended meanwhile names; and by what the ledger says it was kept back.
pub(crate) const CATCH_UP: &str = "catch-up";

/// A batch that the queue took longer ago than this is of the past.
pub(crate) const OLD: Duration = Duration::from_secs(60);

/// The same beside another alerter, who may have paged what this one reads late: shorter than that one waits.
pub(crate) const OLD_BESIDE: Duration = Duration::from_secs(15);

/// For so long after its death a consumer has in its hands what it had received: the other's word may be among it.
pub(crate) const HANDS: Duration = Duration::from_secs(20);

/// For so long at most a page is kept back, by the alerter's own clock.
pub(crate) const KEPT: Duration = Duration::from_secs(60);

/// And what has ended for so long, before it is told although there is more to read: a backlog of days is read in minutes.
pub(crate) const ENDED: Duration = Duration::from_secs(600);

/// What was kept back by when is due now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Due {
    /// Of what still fires.
    pub(crate) fires: Timestamp,
    /// Of what is over.
    pub(crate) ended: Timestamp,
}

impl Due {
    /// All of it: the queue was read to its end.
    pub(crate) const ALL: Self = Self { fires: Timestamp::MAX, ended: Timestamp::MAX };

    /// While there is more to read, for an alerter that has run for so long: what nobody was there for was not kept back by it.
    pub(crate) fn behind(running: Duration, now: Timestamp) -> Self {
        let by = |kept| if running < kept { Timestamp::MIN } else { now - kept };
        Self { fires: by(KEPT), ended: by(ENDED) }
    }
}

/// What of a step was decided by batches of the past.
#[derive(Debug, Default)]
pub(crate) struct Past {
    fired: HashSet<(Name, Name, Timestamp)>,
    /// Beside another alerter, who may have told of it.
    ended: HashSet<(Name, Name, Timestamp)>,
    /// The links and sites that they tell of.
    places: HashSet<Name>,
}

/// From when on a batch is of the present.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum Present {
    /// There is no other alerter.
    #[default]
    Alone,
    /// There is one. What it says that it has paged lies in the queue: before that was read to its end once, everything is
    /// of the past, and so is what a collector could not send in time.
    Beside {
        /// It was read to its end since the start.
        read: bool,
    },
}

impl Present {
    /// Whether a batch is of the past that the queue took at `sent`, and whose promise is of `through`.
    pub(crate) fn is_past(self, sent: Timestamp, through: Timestamp, now: Timestamp) -> bool {
        match self {
            Self::Alone => now.since(sent) > OLD,
            Self::Beside { read } => !read || now.since(sent.min(through)) > OLD_BESIDE,
        }
    }
}

impl Past {
    /// Puts what another step says to it.
    pub(crate) fn join(&mut self, other: Self) {
        let Self { fired, ended, places } = other;
        self.fired.extend(fired);
        self.ended.extend(ended);
        self.places.extend(places);
    }

    /// A batch of the past decided these.
    pub(crate) fn note(&mut self, present: Present, batch: &Batch, decided: &[Transition]) {
        let of = |of: &Transition| (of.rule.clone(), of.subject.clone(), of.at);
        self.fired.extend(decided.iter().filter(|of| of.state == State::Firing).map(of));
        if present != Present::Alone {
            self.ended.extend(decided.iter().filter(|of| of.state == State::Resolved).map(of));
        }
        self.places.insert(batch.origin.site.clone());
        for observation in &batch.observations {
            if let Body::Probe { link, .. } | Body::Tunnels { link, .. } = &observation.body
                && !self.places.contains(link)
            {
                self.places.insert(link.clone());
            }
        }
    }

    /// Whether there is anything of the past.
    pub(crate) fn is_empty(&self) -> bool {
        self.places.is_empty()
    }

    /// Whether what would be told of this is of the past.
    pub(crate) fn has(&self, event: &Event) -> bool {
        match &event.what {
            What::Opened(symptom) | What::Joined(symptom) => {
                self.fired.contains(&(symptom.rule.clone(), symptom.subject.clone(), symptom.at))
            }
            What::Worse => self.places.contains(event.incident.place.name()),
            What::Closed(Ended { symptom, at, .. }) => {
                !self.ended.is_empty()
                    && self.ended.contains(&(symptom.rule.clone(), symptom.subject.clone(), *at))
            }
            What::Left(_) | What::Refined => false,
        }
    }
}
