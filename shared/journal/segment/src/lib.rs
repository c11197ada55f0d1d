//! Sealed segments: entries of a journal in columns, a few bytes an observation; pure.
//!
//! [`encode`] takes entries as the journal holds them, [`Segment::decode`] gives them back: the same batches, and the same
//! payloads byte for byte. What the columns cannot give back exactly (a payload of a newer program, one that means nothing)
//! is kept as it is.
//!
//! ```text
//! magic, version │ section … │ crc32 of all before it          section: length (u32), bytes
//! head: names, boots, series                        JSON, zstd
//! entries: written, boot, number, through, count    pco, a column each
//! observations: seq in their order; then series by series: place, time, outcome, round-trip time     pco
//! others: what is no plain outcome of a probe       JSON lines, zstd
//! raw: payloads kept as they are                    zstd
//! ```

mod columns;
mod decode;
mod encode;

use crosswatch_shared::observation::Batch;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;

pub use decode::Segment;
pub use encode::encode;

/// An entry of a journal.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// When it was written.
    pub written_at: Timestamp,
    /// What it holds.
    pub content: Content,
}

/// What an entry holds.
#[derive(Clone, Debug, PartialEq)]
pub enum Content {
    /// A batch, whose payload is its wire form.
    Batch(Batch),
    /// Bytes that are no such batch.
    Raw(Vec<u8>),
}

impl Content {
    /// The payload as the journal had it.
    #[must_use]
    pub fn payload(self) -> Vec<u8> {
        match self {
            Self::Batch(batch) => wire::encode_batch(&batch).into_bytes(),
            Self::Raw(payload) => payload,
        }
    }
}

/// A segment that cannot be read, or entries that cannot be put into one. Trying again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum SegmentError {
    /// Another file.
    #[error("this is no segment of Crosswatch")]
    Foreign,
    /// A newer program wrote it.
    #[error("this segment has version {found}, this program knows {VERSION}: upgrade the program")]
    Newer {
        /// Its version.
        found: u32,
    },
    /// It is not what was written: cut off, or changed.
    #[error("this segment is damaged: {0}")]
    Damaged(String),
    /// It is too large to be one.
    #[error("these entries are too many for a segment")]
    TooLarge,
}

/// The first bytes.
const MAGIC: &[u8; 4] = b"CWSG";

/// The version written, and the only one read.
const VERSION: u32 = 1;
