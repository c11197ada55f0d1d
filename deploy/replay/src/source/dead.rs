//! Dead letters: messages that a stage could not read, as far as this version can.

use std::path::{Path, PathBuf};

use crosswatch_queue::{DeadLetter, dead_letters};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{Message, Names, PutBack, decode_message};

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
    /// What a letter held beside what was given of it, the next one last.
    more: Vec<Piece>,
}

impl Dead {
    /// Those in a stage's own file, in the order in which they came; none where there is no file.
    #[must_use]
    pub fn open(file: &Path, wanted: Wanted) -> Self {
        let (names, page) = (Names::default(), Vec::new().into_iter());
        let elsewhere = Vec::new().into_iter();
        Self { file: file.to_owned(), wanted, names, page, after: 0, elsewhere, more: Vec::new() }
    }

    /// With these from elsewhere, after those of the file.
    #[must_use]
    pub fn with(self, letters: Vec<Letter>) -> Self {
        Self { elsewhere: letters.into_iter(), ..self }
    }

    fn skip(&mut self, unknown_kinds: u64, unwanted: u64) {
        if unknown_kinds > 0 {
            self.more.push(Piece::Skipped(Skipped::UnknownKinds(unknown_kinds)));
        }
        if unwanted > 0 {
            self.more.push(Piece::Skipped(Skipped::Unwanted(unwanted)));
        }
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
        if let Some(piece) = self.more.pop() {
            return Ok(Some(piece));
        }
        let Some(Letter { place, sent, payload }) = self.letter()? else { return Ok(None) };
        let decoded = payload
            .and_then(|payload| decode_message(&payload, &mut self.names).map_err(|error| error.to_string()));
        match decoded {
            // A replay's own, which a program from before them refused.
            Ok(Message::PutBack(put_back, unknown_kinds)) => {
                let PutBack { origin, observations, .. } = put_back;
                let (wanted, unwanted): (Vec<_>, Vec<_>) =
                    observations.into_iter().partition(|of| self.wanted.has(&origin.site, of));
                let rows = wanted.into_iter().rev().map(|of| Piece::Row(origin.clone(), of));
                self.more.extend(rows);
                self.skip(unknown_kinds, unwanted.len() as u64);
                self.next()
            }
            Ok(Message::Batch(decoded)) => {
                let (batch, unwanted) = self.wanted.cut(decoded.batch);
                self.skip(decoded.unknown_kinds, unwanted);
                Ok(Some(Piece::Batch(batch, sent)))
            }
            Err(reason) => Ok(Some(Piece::Skipped(Skipped::Unreadable { place, reason }))),
        }
    }

    fn progress(&self) -> Option<f64> {
        None
    }
}
