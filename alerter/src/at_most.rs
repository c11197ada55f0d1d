//! `at_most`: how many single notifications a receiver gets on a channel, and when a digest tells of the others. Pure.
//!
//! A message takes its place from the moment it may be tried until one span after it was accepted. Since a place is
//! only given while fewer than `count` are taken, no span ever sees more than `count` single messages accepted,
//! however long the receiver was down before. Digests have one place of their own, so it is `count` + 1 in all.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crosswatch_shared::config::values::Rate;

/// How long after the first notification was held back its digest goes: an outage brings more of them at once.
pub(crate) const GATHER: Duration = Duration::from_secs(5);

/// What one channel of one receiver was sent, and what is held back for it.
#[derive(Clone, Debug, Default)]
pub(crate) struct History {
    /// Single messages that may be tried and were not accepted yet.
    pub(crate) waiting: usize,
    /// When single messages were accepted; those of the newest span suffice.
    pub(crate) accepted: Vec<Timestamp>,
    /// Whether a digest may be tried and was not accepted yet.
    pub(crate) digest_waiting: bool,
    /// When the newest digest was accepted.
    pub(crate) last_digest: Option<Timestamp>,
    /// When the first of what is held back was.
    pub(crate) held_since: Option<Timestamp>,
}

impl History {
    /// Whether one more single message may be tried at `now`; otherwise it is held back.
    #[must_use]
    pub(crate) fn admits(&self, limit: Rate, now: Timestamp) -> bool {
        let taken = self.accepted.iter().filter(|&&at| now < at + limit.per).count();
        self.waiting + taken < usize::try_from(limit.count).unwrap_or(usize::MAX)
    }

    /// When what is held back is to be told by a digest; `None` when nothing is, or when that depends on a digest
    /// that waits itself. Without a limit (any more) only gathering takes time.
    #[must_use]
    pub(crate) fn digest_due(&self, limit: Option<Rate>) -> Option<Timestamp> {
        let gathered = self.held_since? + GATHER;
        if self.digest_waiting {
            return None;
        }
        match (limit, self.last_digest) {
            (Some(limit), Some(last)) => Some(gathered.max(last + limit.per)),
            _ => Some(gathered),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LIMIT: Rate = Rate { count: 2, per: Duration::from_secs(60) };

    fn at(secs: i64) -> Timestamp {
        Timestamp::from_secs(secs)
    }

    #[test]
    fn a_place_is_taken_until_one_span_after_acceptance() {
        let mut history = History { waiting: 1, accepted: vec![at(100)], ..History::default() };
        assert!(!history.admits(LIMIT, at(159)), "one waits, one was accepted within the span");
        assert!(history.admits(LIMIT, at(160)));
        history.waiting = 2;
        assert!(!history.admits(LIMIT, at(100_000)), "what a dead receiver is owed keeps its place");
    }

    #[test]
    fn the_first_digest_gathers_and_the_next_waits_for_its_span() {
        let mut history = History::default();
        assert_eq!(history.digest_due(Some(LIMIT)), None);
        history.held_since = Some(at(100));
        assert_eq!(history.digest_due(Some(LIMIT)), Some(at(105)));
        history.digest_waiting = true;
        assert_eq!(history.digest_due(Some(LIMIT)), None);
        history.digest_waiting = false;
        history.last_digest = Some(at(90));
        assert_eq!(history.digest_due(Some(LIMIT)), Some(at(150)));
        assert_eq!(history.digest_due(None), Some(at(105)), "a limit that was taken out holds nothing");
    }

    proptest! {
        /// A receiver that accepts when it likes: never more than N singles and one digest a span, nothing forgotten.
        #[test]
        fn the_limit_holds_and_nothing_held_is_forgotten(
            count in 1..4u32,
            per in 1..40u64,
            steps in proptest::collection::vec((0..4u64, 0..3usize, 0..4usize), 0..120),
        ) {
            let limit = Rate { count, per: Duration::from_secs(per) };
            let mut history = History::default();
            let (mut now, mut singles, mut digests) = (at(1_000), Vec::new(), Vec::new());
            let (mut made, mut held, mut told) = (0, 0, 0);
            let mut in_digest = 0;
            // In the end the receiver accepts everything and nothing new comes.
            let end = std::iter::repeat_n((1, 0, 9), 200);
            for (pause, new, accepts) in steps.into_iter().chain(end) {
                now = now + Duration::from_secs(pause);
                for _ in 0..new {
                    made += 1;
                    if history.admits(limit, now) {
                        history.waiting += 1;
                    } else {
                        held += 1;
                        history.held_since.get_or_insert(now);
                    }
                }
                if history.digest_due(Some(limit)).is_some_and(|due| due <= now) {
                    history.digest_waiting = true;
                    history.held_since = None;
                    in_digest = std::mem::take(&mut held);
                }
                for accept in 0..accepts {
                    if accept == 0 && history.digest_waiting {
                        history.digest_waiting = false;
                        history.last_digest = Some(now);
                        digests.push(now);
                        told += std::mem::take(&mut in_digest);
                    } else if history.waiting > 0 {
                        history.waiting -= 1;
                        history.accepted.push(now);
                        singles.push(now);
                    }
                }
            }
            prop_assert_eq!(singles.len() + told, made, "told in the end, once");
            for &end in singles.iter().chain(&digests) {
                let within = |sent: &Vec<Timestamp>| {
                    sent.iter().filter(|&&at| at <= end && end < at + limit.per).count()
                };
                prop_assert!(within(&singles) <= count as usize);
                prop_assert!(within(&digests) <= 1);
            }
        }
    }
}
