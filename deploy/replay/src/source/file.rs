//! A file of JSON lines, as `crosswatch export` prints them, in its own order.

use std::io::BufRead;

use crosswatch_shared::wire::{self, Names, Row};

use super::{Piece, Skipped, Source, SourceError, Wanted};

/// See the module.
#[derive(Debug)]
pub struct File<R> {
    input: R,
    name: String,
    wanted: Wanted,
    names: Names,
    line: u64,
    text: Vec<u8>,
    read: u64,
    size: Option<u64>,
}

impl<R: BufRead> File<R> {
    /// Reads `input`, which errors call `name`; `size` is its length in bytes where that is known.
    pub fn new(input: R, name: &str, size: Option<u64>, wanted: Wanted) -> Self {
        let name = name.to_owned();
        Self { input, name, wanted, names: Names::default(), line: 0, text: Vec::new(), read: 0, size }
    }
}

impl<R: BufRead> Source for File<R> {
    fn next(&mut self) -> Result<Option<Piece>, SourceError> {
        loop {
            self.text.clear();
            self.line += 1;
            let read = self.input.read_until(b'\n', &mut self.text);
            let read = read.map_err(|source| SourceError::Read { file: self.name.clone(), source })?;
            self.read += read as u64;
            if read == 0 {
                return Ok(None);
            }
            if self.text.trim_ascii().is_empty() {
                continue;
            }
            return match wire::decode_row(&self.text, &mut self.names) {
                Ok(Row::Observation(origin, observation)) => {
                    if !self.wanted.has(&origin.site, &observation) {
                        return Ok(Some(Piece::Skipped(Skipped::Unwanted(1))));
                    }
                    Ok(Some(Piece::Row(origin, observation)))
                }
                Ok(Row::UnknownKind(kind)) => Ok(Some(Piece::Skipped(Skipped::UnknownKind(kind)))),
                Err(error) if !self.text.ends_with(b"\n") && error.is_cut_off() => {
                    Ok(Some(Piece::Skipped(Skipped::Torn)))
                }
                Err(source) => Err(SourceError::Row { file: self.name.clone(), line: self.line, source }),
            };
        }
    }

    fn progress(&self) -> Option<f64> {
        self.size.filter(|size| *size > 0).map(|size| self.read as f64 / size as f64)
    }
}
