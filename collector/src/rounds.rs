//! How the collecting itself goes: one `collection` observation for each source in use and round. Pure. Tunnels are
//! not collected in rounds: there each poll has one.
//!
//! `took_ms` is the collecting's own worst delay in the round: for `icmp`, `tcp` and `udp` between a probe's slot and its sending,
//! for `dns` the slowest lookup, for `journal` the slowest append, for `sqs:…` the slowest sending to a queue. A round is not ok when anything of it failed, and its
//! error says what and how often.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crosswatch_shared::observation::{Body, Name};

/// How long a round is.
pub const ROUND: Duration = Duration::from_secs(10);

/// So many kinds of failure are told apart in one round.
const KINDS: usize = 5;

/// What is collected from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// ICMP echo.
    Icmp,
    /// TCP connections.
    Tcp,
    /// STAMP test packets over UDP.
    Udp,
    /// Names of targets.
    Dns,
    /// The journal that takes the observations.
    Journal,
    /// The state of VPN connections, from EC2.
    Vpn,
    /// The tunnels of software VPN appliances, from strongSwan.
    Strongswan,
}

impl Source {
    /// Its name in observations.
    #[must_use]
    pub const fn word(self) -> &'static str {
        match self {
            Self::Icmp => "icmp",
            Self::Tcp => "tcp",
            Self::Udp => "udp",
            Self::Dns => "dns",
            Self::Journal => "journal",
            Self::Vpn => "ec2:vpn-status",
            Self::Strongswan => "strongswan:tunnels",
        }
    }
}

/// The present round of each source.
#[derive(Debug)]
pub struct Rounds {
    sources: BTreeMap<Source, Round>,
}

#[derive(Debug, Default)]
struct Round {
    took: Duration,
    failures: BTreeMap<String, u64>,
}

impl Rounds {
    /// For the sources in use.
    #[must_use]
    pub fn new(sources: impl IntoIterator<Item = Source>) -> Self {
        let sources = sources.into_iter().map(|source| (source, Round::default()));
        Self { sources: sources.collect() }
    }

    /// Something took so long.
    pub fn took(&mut self, source: Source, took: Duration) {
        if let Some(round) = self.sources.get_mut(&source) {
            round.took(took);
        }
    }

    /// Something failed so many times.
    pub fn failed(&mut self, source: Source, times: u64, why: &str) {
        if let Some(round) = self.sources.get_mut(&source) {
            round.failed(times, why);
        }
    }

    /// Ends the round: what it comes to.
    pub fn end(&mut self) -> Vec<Body> {
        let ended = self.sources.iter_mut().map(|(source, round)| {
            let round = std::mem::take(round);
            collection(*source, round.error(), round.took)
        });
        ended.collect()
    }
}

/// A source that reports from elsewhere in the process. Cheap to clone; all clones are one.
#[derive(Clone, Debug)]
pub struct Report {
    source: Name,
    round: Arc<Mutex<Round>>,
}

impl Report {
    /// For the source of this name.
    #[must_use]
    pub fn new(source: &str) -> Self {
        Self { source: Name::from(source), round: Arc::default() }
    }

    /// Something took so long.
    pub fn took(&self, took: Duration) {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).took(took);
    }

    /// Something failed so many times.
    pub fn failed(&self, times: u64, why: &str) {
        self.round.lock().unwrap_or_else(PoisonError::into_inner).failed(times, why);
    }

    /// Ends the round: what it comes to.
    #[must_use]
    pub fn end(&self) -> Body {
        let round = std::mem::take(&mut *self.round.lock().unwrap_or_else(PoisonError::into_inner));
        of(self.source.clone(), round.error(), round.took)
    }
}

impl Round {
    fn took(&mut self, took: Duration) {
        self.took = self.took.max(took);
    }

    fn failed(&mut self, times: u64, why: &str) {
        if times == 0 {
            return;
        }
        let known = self.failures.contains_key(why) || self.failures.len() < KINDS;
        let why = if known { why } else { "other failures" };
        *self.failures.entry(why.to_owned()).or_default() += times;
    }

    fn error(&self) -> Option<String> {
        let failures = self.failures.iter().map(|(why, times)| match times {
            1 => why.clone(),
            _ => format!("{why} ({times} times)"),
        });
        let failures: Vec<_> = failures.collect();
        (!failures.is_empty()).then(|| failures.join("; "))
    }
}

/// A `collection` observation.
#[must_use]
pub fn collection(source: Source, error: Option<String>, took: Duration) -> Body {
    of(Name::from(source.word()), error, took)
}

fn of(source: Name, error: Option<String>, took: Duration) -> Body {
    Body::Collection { source, ok: error.is_none(), error, took_ms: took.as_secs_f64() * 1e3 }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_failure_is_told_in_its_round_with_its_number_and_not_again() {
        let mut rounds = Rounds::new([Source::Icmp, Source::Journal]);
        rounds.took(Source::Icmp, Duration::from_millis(3));
        rounds.took(Source::Icmp, Duration::from_millis(2));
        rounds.failed(Source::Icmp, 2, "sending: ENOBUFS");
        rounds.failed(Source::Icmp, 1, "sending: ENOBUFS");
        rounds.failed(Source::Icmp, 1, "a");
        rounds.failed(Source::Tcp, 1, "not in use");
        let error = Some("a; sending: ENOBUFS (3 times)".to_owned());
        assert_eq!(
            rounds.end(),
            [
                collection(Source::Icmp, error, Duration::from_millis(3)),
                collection(Source::Journal, None, Duration::ZERO),
            ]
        );
        assert_eq!(rounds.end()[0], collection(Source::Icmp, None, Duration::ZERO));
    }

    #[test]
    fn ever_new_failures_do_not_fill_memory() {
        let mut rounds = Rounds::new([Source::Dns]);
        for number in 0..1_000 {
            rounds.failed(Source::Dns, 1, &format!("failure {number}"));
        }
        let Body::Collection { error, .. } = &rounds.end()[0] else { panic!() };
        assert!(error.as_deref().unwrap().contains("other failures (995 times)"), "{error:?}");
    }
}
