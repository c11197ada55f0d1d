//! Dead letters: messages that a stage could not read, as far as this version can.

use std::path::{Path, PathBuf};

use crosswatch_queue::{DeadLetter, dead_letters};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Names, decode_batch};

use super::{Piece, Skipped, Source, SourceError, Wanted};

/// A message that lies among dead letters elsewhere, as it was read there.
#[derive(Clone, Debug)]
pub struct Letter {
    /// Which, for who is told that it cannot be read.
    pub place: String,
    /// When it was sent.
    pub sent: Timestamp,
    /// What it holds, or why that cannot be told.
    pub payload: Result<Vec<u8>, String>,
}

/// How many are read at a time.
const PAGE: usize = 100;

/// See the module.
#[derive(Debug)]
pub struct Dead {
    file: PathBuf,
    wanted: Wanted,
    names: Names,
    page: std::vec::IntoIter<DeadLetter>,
    after: i64,
    elsewhere: std::vec::IntoIter<Letter>,
    skipped: Vec<Skipped>,
}

impl Dead {
    /// Those in a stage's own file, in the order in which they came; none where there is no file.
    #[must_use]
    pub fn open(file: &Path, wanted: Wanted) -> Self {
        let (names, page) = (Names::default(), Vec::new().into_iter());
        let elsewhere = Vec::new().into_iter();
        Self { file: file.to_owned(), wanted, names, page, after: 0, elsewhere, skipped: Vec::new() }
    }

    /// With these from elsewhere, after those of the file.
    #[must_use]
    pub fn with(self, letters: Vec<Letter>) -> Self {
        Self { elsewhere: letters.into_iter(), ..self }
    }

    /// The next letter of the file, or else from elsewhere.
    fn letter(&mut self) -> Result<Option<Letter>, SourceError> {
        if self.page.len() == 0 {
            self.page = dead_letters(&self.file, self.after, PAGE)?.into_iter();
        }
        let Some(DeadLetter { id, received_at, source, payload, .. }) = self.page.next() else {
            return Ok(self.elsewhere.next());
        };
        self.after = id;
        let place = format!("dead letter {id} ({source})");
        Ok(Some(Letter { place, sent: received_at, payload: Ok(payload) }))
    }
}

impl Source for Dead {
    fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        if let Some(skipped) = self.skipped.pop() {
            return Ok(Some(Piece::Skipped(skipped)));
        }
        let Some(Letter { place, sent, payload }) = self.letter()? else { return Ok(None) };
        let decoded = payload
            .and_then(|payload| decode_batch(&payload, &mut self.names).map_err(|error| error.to_string()));
        match decoded {
            Ok(decoded) => {
                let (batch, unwanted) = self.wanted.cut(decoded.batch);
                if decoded.unknown_kinds > 0 {
                    self.skipped.push(Skipped::UnknownKinds(decoded.unknown_kinds));
                }
                if unwanted > 0 {
                    self.skipped.push(Skipped::Unwanted(unwanted));
                }
                Ok(Some(Piece::Batch(batch, sent)))
            }
            Err(reason) => Ok(Some(Piece::Skipped(Skipped::Unreadable { place, reason }))),
        }
    }

    fn progress(&self) -> Option<f64> {
        None
    }
}
