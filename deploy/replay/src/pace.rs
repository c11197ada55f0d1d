//! The pace of a replay for people: so many times as fast as it happened.

use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::source::Piece;

/// When each piece is due, from the beginning of the replay. Purely arithmetic: whoever asks waits.
#[derive(Clone, Debug)]
pub struct Pace {
    factor: f64,
    first: Option<Timestamp>,
    due: Duration,
}

impl Pace {
    /// So many times as fast; more than zero.
    #[must_use]
    pub fn new(factor: f64) -> Self {
        Self { factor, first: None, due: Duration::ZERO }
    }

    /// How long after the beginning this piece is due. What is older than what came before it is due at once.
    pub fn due(&mut self, piece: &Piece) -> Duration {
        let at = match piece {
            Piece::Row(_, observation) => observation.at,
            Piece::Batch(batch, _) => batch.through,
            Piece::Skipped(_) => return self.due,
        };
        let first = *self.first.get_or_insert(at);
        let passed = at.since(first).as_secs_f64() / self.factor;
        // A span that no clock can wait for is one that nobody waits for.
        self.due = self.due.max(Duration::try_from_secs_f64(passed).unwrap_or(Duration::MAX));
        self.due
    }
}
