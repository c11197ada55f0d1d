//! What one queue has given and is not done with. It calls nobody; time is an argument.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_aws::sqs::{MESSAGES, Received};
use crosswatch_shared::time::Timestamp;

use super::VISIBILITY;

/// How many messages are held at most: a few receives' worth.
const HELD: usize = 5 * MESSAGES;

/// Beyond so many bytes of bodies nothing more is received.
const BYTES: usize = 8 << 20;

/// How long committed messages are gathered for one call to delete them.
const GATHER: Duration = Duration::from_secs(10);

/// How many deletions wait at most, while they fail; then the oldest are given up: these messages come again.
const DELETIONS: usize = 1_000;

/// How often the deletion of one message is tried.
const TRIES: u32 = 5;

/// How long SQS hides a message at most, however often it is asked to.
const HIDDEN: Duration = Duration::from_hours(12);

/// A message that lay longer than this says that there is a backlog, as a full answer does ...
const FRESH: Duration = Duration::from_secs(5);
/// ... and is believed for so long.
const BELIEVED: Duration = Duration::from_secs(3);

/// A poll that was open for so long before it was answered had nothing to give until then.
const WAITED: Duration = Duration::from_secs(1);

/// How long the answer to a poll may be on its way.
const OVERDUE: Duration = Duration::from_secs(2);

/// The shelf of one queue.
#[derive(Debug, Default)]
pub(super) struct Shelf {
    /// To be handed out, the oldest first.
    waiting: VecDeque<Held>,
    /// In the consumer's hand.
    out: Vec<Held>,
    /// To be deleted.
    done: VecDeque<Done>,
    health: Health,
    /// The poll that is open: since when, and when it is overdue.
    poll: Option<(Instant, Instant)>,
    /// The newest answer was full.
    full: bool,
    /// When a message came that had been lying.
    backlog: Option<Instant>,
    /// How much this machine's clock is ahead of the queue's, in microseconds, with the way of a message.
    ahead: i64,
    /// Why nothing can be deleted.
    deleting: Option<String>,
}

#[derive(Debug, Default)]
enum Health {
    #[default]
    Unknown,
    Well,
    Failing(String),
}

#[derive(Debug)]
struct Held {
    id: Arc<str>,
    handle: String,
    sent: Timestamp,
    body: Arc<str>,
    first: Instant,
    /// Until when nobody else is shown it; `None` once that can't be prolonged any more.
    hidden: Option<Instant>,
    /// Until when the consumer asked to keep it.
    kept: Option<Instant>,
}

/// A message that was committed.
#[derive(Debug)]
struct Done {
    id: Arc<str>,
    handle: String,
    since: Instant,
    tries: u32,
}

/// What is handed out of a message.
#[derive(Debug)]
pub(super) struct Handed {
    pub(super) id: Arc<str>,
    pub(super) sent: Timestamp,
    pub(super) body: Arc<str>,
}

/// The id of a message and what SQS knows it by now.
pub(super) type Handle = (Arc<str>, String);

impl Shelf {
    /// Whether there is room for an answer.
    pub(super) fn has_room(&self) -> bool {
        let held = || self.waiting.iter().chain(&self.out);
        held().count() + MESSAGES <= HELD && held().map(|held| held.body.len()).sum::<usize>() < BYTES
    }

    /// A poll was begun that is answered within `wait`.
    pub(super) fn polling(&mut self, now: Instant, wait: Duration) {
        self.poll = Some((now, now + wait + OVERDUE));
    }

    /// The poll was answered. `wall` is this machine's clock.
    pub(super) fn answered(&mut self, messages: Vec<Received>, now: Instant, wall: Timestamp) {
        let waited =
            self.poll.take().map_or(Duration::ZERO, |(begun, _)| now.saturating_duration_since(begun));
        self.health = Health::Well;
        self.full = messages.len() >= MESSAGES;
        let age = |message: &Received| wall.as_micros().saturating_sub(message.sent.as_micros());
        if waited >= WAITED {
            // What was never received before came just now, so its age is what the clocks differ by.
            let first = messages.iter().filter(|message| message.receives == 1).map(age).min();
            self.ahead = first.unwrap_or(self.ahead);
        }
        for message in messages {
            let lay = age(&message).saturating_sub(self.ahead);
            if lay > i64::try_from(FRESH.as_micros()).unwrap_or(i64::MAX) {
                self.backlog = Some(now);
            }
            self.take_in(message, now);
        }
    }

    /// A message that is here already came again: its former handle may be void.
    fn take_in(&mut self, message: Received, now: Instant) {
        let Received { handle, id, sent, body, .. } = message;
        let hidden = Some(now + VISIBILITY);
        if let Some(held) = self.held(&id) {
            (held.handle, held.hidden, held.first) = (handle, hidden, now);
        } else if let Some(done) = self.done.iter_mut().find(|done| *done.id == *id) {
            done.handle = handle;
        } else {
            let (id, body) = (id.into(), body.into());
            self.waiting.push_back(Held { id, handle, sent, body, first: now, hidden, kept: None });
        }
    }

    /// The poll failed.
    pub(super) fn failed(&mut self, why: String) {
        self.poll = None;
        self.health = Health::Failing(why);
    }

    /// Nothing waits to be handed out.
    pub(super) fn is_bare(&self) -> bool {
        self.waiting.is_empty()
    }

    /// Whether the queue itself, as far as can be known, has nothing more to give.
    pub(super) fn is_at_end(&self, now: Instant) -> bool {
        let listening = self.poll.is_none_or(|(_, overdue)| now < overdue);
        // Between two polls the last answer stands, unless it is the room that is missing.
        let stopped = self.poll.is_none() && !self.has_room();
        let behind = self.backlog.is_some_and(|at| now.saturating_duration_since(at) < BELIEVED);
        // After a full answer there may be more, until a poll has waited in vain for a while.
        let waited = self.poll.is_some_and(|(begun, _)| now.saturating_duration_since(begun) >= BELIEVED);
        let more = self.full && !waited;
        matches!(self.health, Health::Well) && listening && !stopped && !behind && !more
    }

    /// What is wrong with the queue.
    pub(super) fn failing(&self, now: Instant) -> Option<String> {
        match (&self.health, self.poll) {
            (Health::Failing(why), _) => Some(why.clone()),
            (Health::Unknown, _) => Some("it has not answered yet".to_owned()),
            (Health::Well, Some((_, overdue))) if now >= overdue => Some("its answer is overdue".to_owned()),
            (Health::Well, _) => self.deleting.clone(),
        }
    }

    /// When the queue took the message that is next.
    pub(super) fn next_sent(&self) -> Option<Timestamp> {
        self.waiting.front().map(|held| held.sent)
    }

    /// Hands out the next message.
    pub(super) fn hand_out(&mut self) -> Option<Handed> {
        let held = self.waiting.pop_front()?;
        let handed = Handed { id: held.id.clone(), sent: held.sent, body: held.body.clone() };
        self.out.push(held);
        Some(handed)
    }

    /// What the consumer has in hand, and did not ask to keep, is handed out first again.
    pub(super) fn take_back(&mut self, now: Instant) {
        let kept = |held: &Held| held.kept.is_some_and(|until| now < until);
        let (kept, back): (Vec<_>, Vec<_>) = std::mem::take(&mut self.out).into_iter().partition(kept);
        self.out = kept;
        back.into_iter().rev().for_each(|held| self.waiting.push_front(held));
    }

    /// The consumer asks to keep this.
    pub(super) fn keep(&mut self, id: &str, until: Instant) {
        if let Some(held) = self.out.iter_mut().find(|held| *held.id == *id) {
            held.kept = Some(until);
        }
    }

    /// The consumer is done with this.
    pub(super) fn commit(&mut self, id: &str, now: Instant) {
        let held = match self.out.iter().position(|held| *held.id == *id) {
            Some(place) => Some(self.out.remove(place)),
            None => {
                let place = self.waiting.iter().position(|held| *held.id == *id);
                place.and_then(|place| self.waiting.remove(place))
            }
        };
        if let Some(Held { id, handle, .. }) = held {
            self.done.push_back(Done { id, handle, since: now, tries: 0 });
        }
        if self.done.len() > DELETIONS {
            self.done.pop_front();
        }
    }

    /// The next to be hidden for another while.
    pub(super) fn to_hide(&self, now: Instant) -> Vec<Handle> {
        let due = |held: &&Held| {
            let soon = held.hidden.is_some_and(|until| until < now + VISIBILITY / 2);
            soon && now.saturating_duration_since(held.first) + VISIBILITY < HIDDEN
        };
        let held = self.waiting.iter().chain(&self.out).filter(due);
        held.take(MESSAGES).map(|held| (held.id.clone(), held.handle.clone())).collect()
    }

    /// A message is hidden for another while from `now` on, or cannot be.
    pub(super) fn hidden(&mut self, id: &str, now: Option<Instant>) {
        if let Some(held) = self.held(id) {
            held.hidden = now.map(|now| now + VISIBILITY);
        }
    }

    /// All that is held, to be given back.
    pub(super) fn give_back(&mut self) -> Vec<Handle> {
        let held = self.out.drain(..).chain(self.waiting.drain(..));
        held.map(|held| (held.id, held.handle)).collect()
    }

    /// When the next call to delete is due.
    pub(super) fn deletion_due(&self) -> Option<Instant> {
        let first = self.done.front()?;
        Some(if self.done.len() >= MESSAGES { first.since } else { first.since + GATHER })
    }

    /// The next to be deleted.
    pub(super) fn to_delete(&self) -> Vec<Handle> {
        self.done.iter().take(MESSAGES).map(|done| (done.id.clone(), done.handle.clone())).collect()
    }

    /// A message was deleted, or cannot be.
    pub(super) fn deleted(&mut self, id: &str) {
        self.done.retain(|done| *done.id != *id);
    }

    /// A message was not deleted; it is tried again with the next ones, but not for ever.
    pub(super) fn not_deleted(&mut self, id: &str, now: Instant) {
        if let Some(place) = self.done.iter().position(|done| *done.id == *id)
            && let Some(mut done) = self.done.remove(place)
        {
            done.tries += 1;
            done.since = now;
            if done.tries < TRIES {
                self.done.push_back(done);
            }
        }
    }

    /// Why nothing can be deleted; `None` once it can.
    pub(super) fn deleting(&mut self, why: Option<String>) {
        self.deleting = why;
    }

    /// How many deletions wait.
    pub(super) fn done(&self) -> usize {
        self.done.len()
    }

    /// When the queue took the oldest that is held.
    pub(super) fn oldest(&self) -> Option<Timestamp> {
        self.waiting.iter().chain(&self.out).map(|held| held.sent).min()
    }

    fn held(&mut self, id: &str) -> Option<&mut Held> {
        self.waiting.iter_mut().chain(&mut self.out).find(|held| *held.id == *id)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WAIT: Duration = Duration::from_secs(10);
    const SENT: Timestamp = Timestamp::from_secs(1_795_330_800);

    fn message(id: u64, receives: u32) -> Received {
        Received {
            handle: format!("{id}-{receives}"),
            id: id.to_string(),
            sent: SENT,
            receives,
            body: "b".to_owned(),
        }
    }

    fn secs(secs: u64) -> Duration {
        Duration::from_secs(secs)
    }

    /// A shelf whose poll is answered with these, `lay` after they were sent; then the next poll is open.
    fn answered(shelf: &mut Shelf, now: Instant, lay: Duration, ids: std::ops::Range<u64>) {
        shelf.answered(ids.map(|id| message(id, 1)).collect(), now, SENT + lay);
        shelf.polling(now, WAIT);
    }

    fn hand_out_all(shelf: &mut Shelf) -> Vec<String> {
        std::iter::from_fn(|| shelf.hand_out()).map(|handed| handed.id.to_string()).collect()
    }

    #[test]
    fn an_open_poll_counts_as_empty_until_it_is_overdue_or_has_failed() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        shelf.polling(now, WAIT);
        assert!(!shelf.is_at_end(now + secs(1)), "nothing is known before the first answer");
        answered(&mut shelf, now + secs(1), secs(0), 0..0);
        assert!(shelf.is_at_end(now + secs(1)) && shelf.failing(now + secs(1)).is_none());
        assert!(shelf.is_at_end(now + secs(12)));
        assert!(!shelf.is_at_end(now + secs(13)), "it hangs");
        assert_eq!(shelf.failing(now + secs(13)).as_deref(), Some("its answer is overdue"));
        shelf.failed("denied".to_owned());
        shelf.polling(now + secs(20), secs(1));
        assert!(!shelf.is_at_end(now + secs(20)), "a poll that was begun after a failure proves nothing");
        assert_eq!(shelf.failing(now + secs(20)).as_deref(), Some("denied"));
        answered(&mut shelf, now + secs(21), secs(0), 0..0);
        assert!(shelf.is_at_end(now + secs(21)) && shelf.failing(now + secs(21)).is_none());
    }

    #[test]
    fn a_backlog_is_not_the_end_even_when_an_answer_is_small() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        // News of another site, five times a second: each answer empties the queue.
        for step in 0..5 {
            let now = now + Duration::from_millis(200 * step);
            answered(&mut shelf, now, secs(0), step..step + 1);
            hand_out_all(&mut shelf);
            assert!(shelf.is_at_end(now));
        }
        let now = now + secs(10);
        answered(&mut shelf, now, secs(0), 10..11);
        answered(&mut shelf, now, secs(6), 20..21);
        assert!(!shelf.is_at_end(now), "this one has lain for long");
        assert!(!shelf.is_at_end(now + secs(2)) && shelf.is_at_end(now + secs(3)));
        answered(&mut shelf, now + secs(4), secs(0), 30..40);
        assert!(!shelf.is_at_end(now + secs(4)), "a full answer");
        assert!(shelf.is_at_end(now + secs(7)));
    }

    #[test]
    fn clocks_that_differ_look_like_no_backlog_once_a_poll_has_waited() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        let ahead = secs(60);
        answered(&mut shelf, now, ahead, 0..1);
        assert!(!shelf.is_at_end(now), "nothing tells it from a backlog yet");
        answered(&mut shelf, now + secs(5), ahead, 1..2);
        assert!(shelf.is_at_end(now + secs(5)));
        answered(&mut shelf, now + secs(5), ahead + secs(6), 2..3);
        assert!(!shelf.is_at_end(now + secs(5)), "a backlog by the clock that is ahead");
    }

    #[test]
    fn what_is_held_is_bounded_kept_hidden_for_half_a_day_and_given_out_once() {
        let (mut shelf, begin) = (Shelf::default(), Instant::now());
        for ten in 0..5 {
            assert!(shelf.has_room());
            shelf.answered((ten * 10..ten * 10 + 10).map(|id| message(id, 1)).collect(), begin, SENT);
        }
        assert!(!shelf.has_room());
        hand_out_all(&mut shelf);
        assert!(!shelf.is_at_end(begin + secs(5)), "the queue was not asked any more");
        let (mut now, mut calls) = (begin, 0);
        while now < begin + HIDDEN + secs(3_600) {
            now += secs(2);
            for (id, _) in shelf.to_hide(now).into_iter().chain(shelf.to_hide(now)) {
                assert!(now < begin + HIDDEN - VISIBILITY);
                calls += 1;
                shelf.hidden(&id, Some(now));
            }
        }
        assert!(calls > 0);
        // Then SQS shows it again: the same message under another handle.
        shelf.answered(vec![message(7, 2)], now, SENT);
        shelf.take_back(now);
        let all = hand_out_all(&mut shelf);
        assert_eq!(all.len(), 50);
        all.iter().for_each(|id| shelf.commit(id, now));
        let seventh = shelf.to_delete();
        assert!(seventh.iter().any(|(_, handle)| handle == "7-2"), "{seventh:?}");
    }

    #[test]
    fn what_the_consumer_asked_to_keep_waits_for_that_and_the_rest_comes_first_again() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        answered(&mut shelf, now, secs(0), 0..3);
        hand_out_all(&mut shelf);
        shelf.keep("1", now + secs(30));
        shelf.answered(vec![message(9, 1)], now, SENT);
        shelf.take_back(now);
        assert_eq!(hand_out_all(&mut shelf), ["0", "2", "9"]);
        shelf.commit("0", now);
        shelf.take_back(now + secs(30));
        assert_eq!(hand_out_all(&mut shelf), ["1", "2", "9"]);
    }

    #[test]
    fn deletions_are_gathered_tried_again_and_given_up_in_the_end() {
        let (mut shelf, now) = (Shelf::default(), Instant::now());
        answered(&mut shelf, now, secs(0), 0..10);
        let ids = hand_out_all(&mut shelf);
        assert_eq!(shelf.deletion_due(), None);
        shelf.commit(&ids[0], now);
        assert_eq!(shelf.deletion_due(), Some(now + GATHER));
        ids[1..].iter().for_each(|id| shelf.commit(id, now));
        assert_eq!((shelf.deletion_due(), shelf.to_delete().len()), (Some(now), 10));
        for id in &ids[1..] {
            shelf.deleted(id);
        }
        for _ in 0..TRIES {
            assert_eq!(shelf.to_delete().len(), 1);
            shelf.not_deleted(&ids[0], now);
        }
        assert_eq!(shelf.done(), 0);
    }
}
