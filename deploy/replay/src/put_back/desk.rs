//! Where messages are put back on one machine: a journal of their own beside those of the sites.

use std::path::PathBuf;
use std::time::Duration;

use crosswatch_journal::{JournalError, Writer};
use crosswatch_queue::{positions, put_back};
use crosswatch_shared::observation::Batch;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{PutBack, encode_put_back};

/// See the module. One at a time.
#[derive(Debug)]
pub struct Desk {
    writer: Writer,
    number: u64,
}

impl Desk {
    /// Opens the journal in the queue's folder, or begins it, and lets go of what all these consumers' files have had.
    ///
    /// # Errors
    /// Another replay holds it, the folder cannot be used, or the file is foreign, newer or damaged.
    pub fn open(
        queue: &std::path::Path,
        consumers: &[PathBuf],
        now: Timestamp,
    ) -> Result<Self, JournalError> {
        let mut writer = Writer::open(&put_back::folder(queue), put_back::NAME)?;
        let had = positions(put_back::PLACE, writer.identity(), consumers);
        while writer.prune(now, Duration::ZERO, u64::MAX, &had)?.more {}
        Ok(Self { writer, number: 0 })
    }

    /// Puts these back, all or none; they are on the disk when this returns.
    ///
    /// # Errors
    /// Nothing was written.
    pub fn put(&mut self, all: &[PutBack], now: Timestamp) -> Result<(), JournalError> {
        let entry = |(number, of): (u64, &PutBack)| Batch {
            origin: of.origin.clone(),
            number,
            through: now,
            observations: of.observations.clone(),
        };
        let entries: Vec<Batch> = (self.number..).zip(all).map(entry).collect();
        let messages = entries.iter().zip(all.iter().map(encode_put_back));
        self.writer.append_texts(messages, now)?;
        self.number += entries.len() as u64;
        Ok(())
    }
}
