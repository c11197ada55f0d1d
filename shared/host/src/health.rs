//! Which parts of a process work, for `/readyz`, and which of their loops turn, for the watchdog.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

/// The health of a process: that of its parts. Cheap to clone; all clones are one.
#[derive(Clone, Debug, Default)]
pub struct Health {
    parts: Arc<Mutex<BTreeMap<String, Result<(), String>>>>,
    /// When each loop last turned.
    turns: Arc<Mutex<BTreeMap<String, Instant>>>,
}

/// One part's own handle, with which it says how it is.
#[derive(Clone, Debug)]
pub struct Part {
    name: String,
    health: Health,
}

impl Health {
    /// A new part, failing with `starting` until it says otherwise.
    #[must_use]
    pub fn part(&self, name: &str) -> Part {
        let part = Part { name: name.to_owned(), health: self.clone() };
        part.failing("starting");
        part
    }

    /// What fails and why, a line each; empty when everything works.
    #[must_use]
    pub fn failures(&self) -> Vec<String> {
        let parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        parts
            .iter()
            .filter_map(|(name, state)| state.as_ref().err().map(|why| format!("{name}: {why}")))
            .collect()
    }

    /// The parts whose loops have not turned for so long. One that never turned has no loop.
    #[must_use]
    pub fn stalled(&self, within: Duration, now: Instant) -> Vec<String> {
        let turns = self.turns.lock().unwrap_or_else(PoisonError::into_inner);
        let stalled = turns.iter().filter(|(_, turned)| now.saturating_duration_since(**turned) > within);
        stalled.map(|(name, _)| name.clone()).collect()
    }

    fn set(&self, name: &str, state: Result<(), String>) {
        let mut parts = self.parts.lock().unwrap_or_else(PoisonError::into_inner);
        match parts.get_mut(name) {
            Some(part) => *part = state,
            None => {
                parts.insert(name.to_owned(), state);
            }
        }
    }
}

impl Part {
    /// A part of this one, which works until it says otherwise.
    #[must_use]
    pub fn section(&self, name: &str) -> Self {
        let section = Self { name: format!("{}: {name}", self.name), health: self.health.clone() };
        section.ok();
        section
    }

    /// It works.
    pub fn ok(&self) {
        self.health.set(&self.name, Ok(()));
    }

    /// Its loop has turned once more, whether or not it works. From here on it must go on turning.
    pub fn turned(&self) {
        #[allow(clippy::disallowed_methods, reason = "loops turn by the steady clock")]
        let now = Instant::now();
        let mut turns = self.health.turns.lock().unwrap_or_else(PoisonError::into_inner);
        match turns.get_mut(&self.name) {
            Some(turned) => *turned = now,
            None => {
                turns.insert(self.name.clone(), now);
            }
        }
    }

    /// It does not, for this reason.
    pub fn failing(&self, why: impl Into<String>) {
        self.health.set(&self.name, Err(why.into()));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loop_that_has_turned_must_go_on_and_a_part_without_one_need_not() {
        let health = Health::default();
        let (publisher, _sms) = (health.part("publisher"), health.part("sms"));
        publisher.turned();
        let now = Instant::now();
        let minute = Duration::from_secs(60);
        assert_eq!(health.stalled(minute, now), Vec::<String>::new());
        assert_eq!(health.stalled(minute, now + minute * 2), ["publisher"]);
    }

    #[test]
    fn a_part_fails_until_it_says_that_it_works() {
        let health = Health::default();
        let (publisher, alerter) = (health.part("publisher"), health.part("alerter"));
        publisher.ok();
        assert_eq!(health.failures(), ["alerter: starting"]);
        alerter.ok();
        publisher.failing("the disk is full");
        assert_eq!(health.failures(), ["publisher: the disk is full"]);
        publisher.ok();
        publisher.section("disk").failing("full");
        assert_eq!(health.failures(), ["publisher: disk: full"]);
    }
}
