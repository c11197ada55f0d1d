//! Dead letters: messages that a stage could not read, as far as this version can.

use std::path::{Path, PathBuf};

use crosswatch_queue::{DeadLetter, dead_letters};
use crosswatch_shared::wire::{Names, decode_batch};

use super::{Piece, Skipped, Source, SourceError, Wanted};

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
    skipped: Vec<Skipped>,
}

impl Dead {
    /// Those in a stage's own file, in the order in which they came; none where there is no file.
    #[must_use]
    pub fn open(file: &Path, wanted: Wanted) -> Self {
        let (names, page) = (Names::default(), Vec::new().into_iter());
        Self { file: file.to_owned(), wanted, names, page, after: 0, skipped: Vec::new() }
    }
}

impl Source for Dead {
    fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        if let Some(skipped) = self.skipped.pop() {
            return Ok(Some(Piece::Skipped(skipped)));
        }
        if self.page.len() == 0 {
            self.page = dead_letters(&self.file, self.after, PAGE)?.into_iter();
        }
        let Some(DeadLetter { id, received_at, source, payload, .. }) = self.page.next() else {
            return Ok(None);
        };
        self.after = id;
        match decode_batch(&payload, &mut self.names) {
            Ok(decoded) => {
                let (batch, unwanted) = self.wanted.cut(decoded.batch);
                if decoded.unknown_kinds > 0 {
                    self.skipped.push(Skipped::UnknownKinds(decoded.unknown_kinds));
                }
                if unwanted > 0 {
                    self.skipped.push(Skipped::Unwanted(unwanted));
                }
                Ok(Some(Piece::Batch(batch, received_at)))
            }
            Err(error) => {
                let place = format!("dead letter {id} ({source})");
                Ok(Some(Piece::Skipped(Skipped::Unreadable { place, reason: error.to_string() })))
            }
        }
    }

    fn progress(&self) -> Option<f64> {
        None
    }
}
