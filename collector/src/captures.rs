//! When evidence is captured: once a probe turns from ok to lost, at most once a minute and link.
//!
//! A capture takes seconds on a thread of its own, so only so many run at once, and the rest waits its turn; evidence that
//! could begin only long after the loss would be of something else, and is let go.

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use crosswatch_evidence::{Request, capture};
use crosswatch_shared::evidence::Evidence;
use crosswatch_shared::observation::Name;
use tokio::sync::mpsc;

/// How long a link is left alone after a capture has begun.
const REST: Duration = Duration::from_secs(60);

/// So many captures run at once.
const AT_ONCE: usize = 4;

/// How long after the loss a capture may begin.
const PATIENCE: Duration = Duration::from_secs(10);

/// The captures under way, and those that wait.
#[derive(Debug)]
pub(crate) struct Captures {
    /// When each link's last was asked for.
    asked: HashMap<Name, Instant>,
    waiting: VecDeque<Wanted>,
    running: usize,
    /// What ends is sent here; `None` is a defect.
    done: mpsc::UnboundedSender<Option<Captured>>,
    ended: mpsc::UnboundedReceiver<Option<Captured>>,
}

#[derive(Debug)]
struct Wanted {
    of: (Name, Name),
    request: Request,
    since: Instant,
}

/// What was seen of a probe's target.
#[derive(Debug)]
pub(crate) struct Captured {
    pub(crate) link: Name,
    pub(crate) probe: Name,
    pub(crate) evidence: Box<Evidence>,
}

impl Captures {
    /// A probe of the link is lost that was ok.
    pub(crate) fn lost(&mut self, link: &Name, probe: &Name, request: Request, now: Instant) {
        let resting = |asked: &Instant| now.saturating_duration_since(*asked) < REST;
        if self.asked.get(link).is_some_and(resting) {
            return;
        }
        self.asked.insert(link.clone(), now);
        self.waiting.push_back(Wanted { of: (link.clone(), probe.clone()), request, since: now });
        self.begin(now);
    }

    /// The next one that ends; for ever while none runs.
    pub(crate) async fn next(&mut self) -> Captured {
        loop {
            // This end holds a sender too, so that there is always one.
            let Some(ended) = self.ended.recv().await else { return std::future::pending().await };
            self.running -= 1;
            #[allow(clippy::disallowed_methods, reason = "what waits is let go by the steady clock")]
            self.begin(Instant::now());
            match ended {
                Some(captured) => return captured,
                None => tracing::error!("a capture of evidence ended by a defect"),
            }
        }
    }

    fn begin(&mut self, now: Instant) {
        while self.running < AT_ONCE
            && let Some(Wanted { of: (link, probe), request, since }) = self.waiting.pop_front()
        {
            if now.saturating_duration_since(since) > PATIENCE {
                continue;
            }
            let done = self.done.clone();
            let look = move || {
                let evidence = catch_unwind(AssertUnwindSafe(|| Box::new(capture(&request))));
                let captured = evidence.ok().map(|evidence| Captured { link, probe, evidence });
                let _ = done.send(captured);
            };
            // Not the runtime's: its end would wait for it.
            match std::thread::Builder::new().name("evidence".to_owned()).spawn(look) {
                Ok(_) => self.running += 1,
                Err(error) => tracing::error!(%error, "evidence is not captured: no thread for it"),
            }
        }
    }
}

impl Default for Captures {
    fn default() -> Self {
        let (done, ended) = mpsc::unbounded_channel();
        Self { asked: HashMap::new(), waiting: VecDeque::new(), running: 0, done, ended }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_evidence::Protocol;

    fn request() -> Request {
        Request {
            target: [127, 0, 0, 1].into(),
            protocol: Protocol::Icmp,
            // Nothing is waited for.
            within: Duration::ZERO,
        }
    }

    #[tokio::test]
    async fn a_link_is_looked_at_once_a_minute_and_one_that_waited_too_long_is_let_go() {
        let (mut captures, start) = (Captures::default(), Instant::now());
        let names: Vec<Name> = (0..AT_ONCE + 2).map(|number| format!("l{number}").into()).collect();
        let (first, last) = (&names[0], &names[AT_ONCE + 1]);
        captures.lost(first, &"p".into(), request(), start);
        captures.lost(first, &"q".into(), request(), start + REST / 2);
        assert_eq!((captures.running, captures.waiting.len()), (1, 0), "another probe of the link");
        for link in &names[1..] {
            captures.lost(link, &"p".into(), request(), start);
        }
        assert_eq!((captures.running, captures.waiting.len()), (AT_ONCE, 2));
        let captured = captures.next().await;
        assert_eq!((&*captured.probe, captured.evidence.target), ("p", [127, 0, 0, 1].into()));
        captures.waiting.iter_mut().for_each(|wanted| wanted.since = start - 2 * PATIENCE);
        while captures.running > 0 {
            assert_ne!(captures.next().await.link, *last);
        }
        captures.lost(first, &"q".into(), request(), start + REST);
        assert_eq!(captures.running, 1, "a minute later");
    }
}
