//! The door to what the alerter knows, as the console shows it. Where the alerter's file is, and how the config is read, is the
//! matter of whoever composes the program: he brings an [`Alerter`].

use crosswatch_alerter::status::Standing;
use crosswatch_alerter::story::{Incident, Story};
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
}

/// How bad a verdict is: the less, the worse.
pub(crate) fn gravity(verdict: &str) -> usize {
    Kind::ALL.iter().position(|kind| kind.word() == verdict).unwrap_or(Kind::ALL.len())
}

/// Whether a verdict says that nothing gets through, or that nobody can tell.
pub(crate) fn is_down(verdict: &str) -> bool {
    Kind::of_word(verdict).is_some_and(Kind::is_down)
}
