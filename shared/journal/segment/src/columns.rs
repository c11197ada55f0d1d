//! The parts that a segment is made of: sections with their length, columns of numbers, compressed text.

use pco::ChunkConfig;
use pco::data_types::Number;
use pco::standalone::{simple_compress, simple_decompress};

use crate::SegmentError;

/// How hard text is compressed: beyond this it takes much longer for little.
const LEVEL: i32 = 6;

/// The most that text may come to: a length that lies must not fill memory.
const MOST_TEXT: usize = 1 << 30;

/// Writes sections one after the other.
#[derive(Default)]
pub(crate) struct Sections(pub(crate) Vec<u8>);

impl Sections {
    fn put(&mut self, bytes: &[u8]) -> Result<(), SegmentError> {
        let length = u32::try_from(bytes.len()).map_err(|_| SegmentError::TooLarge)?;
        self.0.extend_from_slice(&length.to_le_bytes());
        self.0.extend_from_slice(bytes);
        Ok(())
    }

    pub(crate) fn column<T: Number>(&mut self, numbers: &[T]) -> Result<(), SegmentError> {
        let config = ChunkConfig::default();
        self.put(&simple_compress(numbers, &config).map_err(|_| SegmentError::TooLarge)?)
    }

    pub(crate) fn text(&mut self, text: &[u8]) -> Result<(), SegmentError> {
        if text.len() > MOST_TEXT {
            return Err(SegmentError::TooLarge);
        }
        let length = (text.len() as u64).to_le_bytes();
        let packed = zstd::bulk::compress(text, LEVEL).map_err(|_| SegmentError::TooLarge)?;
        self.put(&[&length[..], &packed].concat())
    }
}

/// Reads them in the same order.
pub(crate) struct Reading<'a>(pub(crate) &'a [u8]);

impl<'a> Reading<'a> {
    fn take(&mut self) -> Result<&'a [u8], SegmentError> {
        let (length, rest) = self.0.split_first_chunk().ok_or_else(|| damaged("a section is missing"))?;
        let length = u32::from_le_bytes(*length) as usize;
        let (section, rest) = rest.split_at_checked(length).ok_or_else(|| damaged("a section is cut off"))?;
        self.0 = rest;
        Ok(section)
    }

    /// A column of so many numbers.
    pub(crate) fn column<T: Number>(&mut self, count: usize) -> Result<Vec<T>, SegmentError> {
        let numbers: Vec<T> = simple_decompress(self.take()?).map_err(damaged)?;
        if numbers.len() != count {
            return Err(damaged(format!("a column has {} numbers, not {count}", numbers.len())));
        }
        Ok(numbers)
    }

    pub(crate) fn text(&mut self) -> Result<Vec<u8>, SegmentError> {
        let (length, packed) =
            self.take()?.split_first_chunk().ok_or_else(|| damaged("a text is cut off"))?;
        let length = usize::try_from(u64::from_le_bytes(*length)).unwrap_or(usize::MAX);
        if length > MOST_TEXT {
            return Err(damaged("a text is too long"));
        }
        zstd::bulk::decompress(packed, length).map_err(damaged)
    }
}

pub(crate) fn damaged(why: impl std::fmt::Display) -> SegmentError {
    SegmentError::Damaged(why.to_string())
}
