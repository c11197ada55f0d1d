//! When packets in flight are given up. Pure.
//!
//! What has the same timeout is given up in the order of sending: a queue for each timeout suffices.

use std::collections::VecDeque;
use std::time::{Duration, Instant};

/// Things that are waited for until a time.
#[derive(Debug)]
pub(crate) struct Deadlines<T> {
    queues: Vec<(Duration, VecDeque<(Instant, T)>)>,
}

impl<T> Deadlines<T> {
    pub(crate) fn new() -> Self {
        Self { queues: Vec::new() }
    }

    /// Waits for it from `now` on, which never goes back.
    pub(crate) fn push(&mut self, now: Instant, timeout: Duration, what: T) {
        let queue = match self.queues.binary_search_by_key(&timeout, |(of, _)| *of) {
            Ok(place) => self.queues.get_mut(place),
            Err(place) => {
                self.queues.insert(place, (timeout, VecDeque::new()));
                self.queues.get_mut(place)
            }
        };
        if let Some((_, queue)) = queue {
            queue.push_back((now + timeout, what));
        }
    }

    /// The first time at which something is given up; what is not `waited` for any more is forgotten on the way.
    pub(crate) fn next(&mut self, mut waited: impl FnMut(&T) -> bool) -> Option<Instant> {
        let firsts = self.queues.iter_mut().filter_map(|(_, queue)| {
            while queue.pop_front_if(|(_, what)| !waited(what)).is_some() {}
            queue.front().map(|(at, _)| *at)
        });
        firsts.min()
    }

    /// What is given up by `now`.
    pub(crate) fn expire(&mut self, now: Instant, mut each: impl FnMut(T)) {
        for (_, queue) in &mut self.queues {
            while let Some((_, what)) = queue.pop_front_if(|(at, _)| *at <= now) {
                each(what);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// Against the obvious model: each expires in the first look at or after its time, and `next` never sleeps past one.
        #[test]
        fn as_the_model_says(moves in prop::collection::vec((0u64..50, 0usize..3, any::<bool>()), 1..200)) {
            let timeouts = [5, 40, 40_000].map(Duration::from_millis);
            let mut deadlines = Deadlines::new();
            let mut model: Vec<(Instant, usize, bool)> = Vec::new();
            let mut now = Instant::now();
            for (number, (later, which, waited)) in moves.into_iter().enumerate() {
                now += Duration::from_millis(later);
                let mut expired = Vec::new();
                deadlines.expire(now, |number| expired.push(number));
                expired.sort_unstable();
                let due: Vec<_> = model.iter().filter(|(at, _, waited)| *at <= now && *waited).map(|of| of.1).collect();
                prop_assert!(due.iter().all(|number| expired.contains(number)), "{due:?} {expired:?}");
                prop_assert!(expired.iter().all(|number| model.iter().any(|of| of.1 == *number && of.0 <= now)));
                model.retain(|(at, _, _)| *at > now);
                deadlines.push(now, timeouts[which], number);
                model.push((now + timeouts[which], number, waited));
                let next = deadlines.next(|number| model.iter().any(|of| of.1 == *number && of.2));
                prop_assert_eq!(next, model.iter().filter(|of| of.2).map(|of| of.0).min());
            }
        }
    }
}
