//! The door to what the alerter knows, as the console shows it. Where the alerter's file is, and how the config is read, is the
//! matter of whoever composes the program: he brings an [`Alerter`].

use std::collections::HashMap;

use crosswatch_alerter::status::Standing;
use crosswatch_alerter::story::{Incident, Story};
use crosswatch_explain::Explanation;
use crosswatch_judge::mute::Silence;
use crosswatch_judge::verdict::Kind;
use crosswatch_shared::time::Timestamp;

/// The door to what the alerter knows. Each call reads it anew, in a short transaction.
pub trait Alerter: Send + Sync {
    /// How things stand; `None` where no alerter has run.
    ///
    /// # Errors
    /// It cannot be read; a sentence that says why.
    fn now(&self, now: Timestamp) -> Result<Option<Standing>, String>;

    /// The incidents that were open at some time within a span, the newest first, at most `limit`; of one link, if one is
    /// named.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn incidents(
        &self,
        from: Timestamp,
        to: Timestamp,
        link: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Incident>, String>;

    /// An incident with what was told of it; `None` where there is none of this id.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn story(&self, id: &str) -> Result<Option<Story>, String>;

    /// The report of an incident, a page of its own to be kept: what was judged, told and seen; it may take seconds. `None` where
    /// there is none of this id.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn report(&self, id: &str, now: Timestamp) -> Result<Option<String>, String>;

    /// All silences in force, those that are over and those that are to come too.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn silences(&self) -> Result<Vec<Silence>, String>;

    /// What is usual of the round-trip time of each subject that a rule holds against its baseline, in milliseconds; nothing while
    /// there is not enough history. Other subjects are not in it.
    ///
    /// # Errors
    /// As [`Self::now`].
    fn baselines(&self, now: Timestamp) -> Result<HashMap<String, Option<f64>>, String>;

    /// Why it pages, or why not: of a link, a rule's subject, or an incident by its id; as it is at `now`, or as it was at a moment, which
    /// may take seconds.
    ///
    /// # Errors
    /// There is nothing of that name, or it cannot be read.
    fn explain(&self, asked: &str, at: Option<Timestamp>, now: Timestamp)
    -> Result<Explanation, Unexplained>;
}

/// Why there is no explanation; a sentence each.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unexplained {
    /// It is asked for what there is not.
    Asked(String),
    /// It cannot be read.
    Broken(String),
}

/// How bad a verdict is: the less, the worse.
pub(crate) fn gravity(verdict: &str) -> usize {
    Kind::ALL.iter().position(|kind| kind.word() == verdict).unwrap_or(Kind::ALL.len())
}

/// Whether a verdict says that nothing gets through, or that nobody can tell.
pub(crate) fn is_down(verdict: &str) -> bool {
    Kind::of_word(verdict).is_some_and(Kind::is_down)
}
