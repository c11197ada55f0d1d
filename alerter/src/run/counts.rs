//! What the loop counts and logs of what it received and wrote.

use crosswatch_judge::incident::{Event, What};
use crosswatch_queue::Received;
use crosswatch_shared::time::Timestamp;

use super::Judging;
use crate::drill::Drill;
use crate::error::Error;
use crate::incident;
use crate::memory::Change;

impl Judging {
    /// What came otherwise than to be applied.
    pub(super) fn count_received(&mut self, received: &Received) {
        self.metrics.received("repeated", received.repeated);
        self.metrics.received("dead", received.dead);
        // The same ones are told until a page is settled that told them.
        let missed = received.missed.saturating_sub(self.missed);
        if missed > 0 {
            tracing::error!(missed, "the queue let batches go before they were judged");
            self.metrics.received("missed", missed);
        }
        let nothing_new = received.deliveries.is_empty() && received.put_back.is_empty();
        let settled = nothing_new && received.repeated + received.dead > 0;
        self.missed = if settled { 0 } else { received.missed };
    }

    /// What an edit, or the config's own at the start, brought about.
    pub(super) fn count_agreed(&self, abandoned: &[(String, String, i64)], open: i64) {
        self.metrics.incidents_open.set(open);
        for (receiver, channel, count) in abandoned {
            tracing::warn!(
                receiver,
                channel,
                count,
                "the config has no such receiver any more: what it was owed is abandoned"
            );
            self.metrics.notified(receiver, channel, "abandoned", u64::try_from(*count).unwrap_or(0));
        }
    }

    /// What was written.
    pub(super) fn count(&mut self, change: &Change, now: Timestamp) {
        let metrics = &self.metrics;
        let [judged, seen, foreign] = change.taken;
        for (taken, count) in [("judged", judged), ("seen", seen), ("foreign", foreign)] {
            metrics.observed(taken, count);
        }
        for Drill { id, rule, site, at } in &change.drills {
            tracing::info!(%id, rule = rule.as_deref(), %site, %at, "a drill");
        }
        for transition in &change.transitions {
            let (rule, subject, state) = (&transition.rule, &transition.subject, transition.state.word());
            tracing::info!(%rule, %subject, state, at = %transition.at, reason = transition.reason, "transition");
            metrics.transition(state);
        }
        for (site, time) in self.memory.sites() {
            if let Some(at) = time.at() {
                metrics.site(site, now.since(at).as_secs_f64(), time.gaps_skipped());
            }
        }
        for Event { incident, what, .. } in &change.events {
            let (id, place, verdict) = (&incident.id, incident.place.name(), incident.verdict.kind.word());
            let words = &incident.verdict.words;
            match what {
                What::Opened(_) => tracing::info!(id, place, verdict, words, "an incident begins"),
                What::Refined | What::Worse => {
                    tracing::info!(id, place, verdict, words, "its verdict is another")
                }
                What::Closed(_) => tracing::info!(id, place, verdict, "it is over"),
                What::Joined(_) | What::Left(_) => {}
            }
        }
        if !change.events.is_empty() {
            // A number for the eye; when it cannot be read the next transition brings it up to date.
            let open = self.consumer.transaction(|step| Ok::<_, Error>(incident::count_open(step)?));
            if let Ok(open) = open {
                self.metrics.incidents_open.set(open);
            }
        }
    }
}
