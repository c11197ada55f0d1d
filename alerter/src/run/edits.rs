//! Edits of the configuration and of silences, taken over between two reads of the queue.

use std::sync::Arc;

use crosswatch_judge::mute::{Silence, Silences};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use super::Judging;
use crate::config::Config;
use crate::edit::{self, Edit};
use crate::error::Error;
use crate::record::Recorder;
use crate::{dispatch, judged, reconcile};

impl Judging {
    /// Takes an edit over, where there is one. When it cannot be written it is tried again with the next step.
    pub(super) fn obey(&mut self) -> Result<(), Error> {
        let Some(order) = self.order.take().or_else(|| self.orders.try_recv().ok()) else {
            return Ok(());
        };
        match self.take(&order.edit) {
            Ok(answer) => {
                // Nobody may wait for it any more.
                let _ = order.answer.send(answer);
                Ok(())
            }
            Err(error) => {
                self.stale = true;
                self.order = Some(order);
                Err(error)
            }
        }
    }

    pub(super) fn take(&mut self, edit: &Edit) -> Result<Result<(), String>, Error> {
        let now = self.clock.wall();
        match edit {
            Edit::Config { file, judged, config } => self.take_over(file, judged, config, now),
            Edit::Silences { file, text, all } => self.silence(file, text, all, now).map(Ok),
            Edit::Refused { file, why } => self.refuse(file, why, now).map(Ok),
        }
    }

    /// Other silences are in force from now on.
    pub(super) fn silence(
        &mut self,
        file: &Name,
        text: &[u8],
        all: &[Silence],
        now: Timestamp,
    ) -> Result<(), Error> {
        let any = !self.recorder.silences().is_empty() || !all.is_empty();
        self.recorder.silence(Silences::new(all.to_vec(), &self.topology));
        let due = self.due(now);
        let Self { consumer, recorder, memory, .. } = self;
        let mended = memory.mend(|of| *of == **file, now);
        consumer.transaction(|step| {
            step.execute("INSERT OR REPLACE INTO silences (only, text) VALUES (0, ?)", [text])?;
            recorder.write(step, &mended, now)?;
            recorder.release(step, memory.open(), due, now)?;
            Ok::<_, Error>(())
        })?;
        if any {
            tracing::info!(%file, silences = all.len(), "the silences are in force");
        }
        self.count(&mended, now);
        self.wake.notify_one();
        Ok(())
    }

    /// Another config is in force from now on; or why it cannot be.
    pub(super) fn take_over(
        &mut self,
        file: &Name,
        judged: &str,
        config: &Config,
        now: Timestamp,
    ) -> Result<Result<(), String>, Error> {
        let mut recorder = Recorder::new(config, self.rank);
        recorder.silence(self.recorder.silences().clone());
        let ledger = Arc::clone(&recorder.ledger);
        let ways = match dispatch::ways(&config.receivers, &ledger, &self.world) {
            Ok(ways) => ways,
            Err(error) => return Ok(Err(error.to_string())),
        };
        let rules = config.rules();
        let Self { consumer, path, topology, memory, .. } = self;
        let (agreed, mended) = consumer.transaction(|step| {
            let with = (rules.as_slice(), &*topology);
            let mut agreed = reconcile::agree(step, path, with, &recorder, Some(memory), now)?;
            let mended = agreed.memory.mend(|of| *of == **file, now);
            judged::config(step, now, agreed.memory.places(), judged)?;
            recorder.write(step, &mended, now)?;
            Ok::<_, Error>((agreed, mended))
        })?;
        for line in edit::differences(&self.config, config) {
            tracing::info!("{line}");
        }
        self.memory = agreed.memory;
        (self.config, self.rules, self.recorder) = (config.clone(), rules, recorder);
        // It has ended where this fails, which is told elsewhere.
        let _ = self.receivers.send((ledger, ways));
        self.count_agreed(&agreed.abandoned, agreed.open);
        self.count(&agreed.change, now);
        self.count(&mended, now);
        self.wake.notify_one();
        Ok(Ok(()))
    }

    pub(super) fn refuse(&mut self, file: &Name, why: &str, now: Timestamp) -> Result<(), Error> {
        let change = self.memory.refuse(file, why, now);
        let Self { consumer, recorder, .. } = self;
        consumer.transaction(|step| Ok::<_, Error>(recorder.write(step, &change, now)?))?;
        self.count(&change, now);
        self.wake.notify_one();
        Ok(())
    }
}
