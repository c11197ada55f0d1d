//! The status page, put together: the console, and what the alerter's file tells.

use std::path::PathBuf;
use std::sync::Arc;

use crosswatch_alerter::status::{self, Standing};
use crosswatch_alerter::story::{self, Incident, Story, Which};
use crosswatch_console::judged::Alerter;
use crosswatch_shared::config::topology::{QueueKind, Topology};
use crosswatch_shared::time::Timestamp;

use crate::run::{ALERTER_FILE, journals};

/// What the alerter of this folder knows.
pub(crate) fn alerter(topology: &Topology) -> Arc<dyn Alerter> {
    Arc::new(File(topology.queue.path.join(ALERTER_FILE)))
}

/// The journals to follow: with SQS the alerter's own history of what it received.
pub(crate) fn folder(topology: &Topology) -> PathBuf {
    match topology.queue.kind {
        QueueKind::Embedded => journals(&topology.queue),
        QueueKind::Sqs { .. } => topology.queue.path.join(crosswatch_alerter::HISTORY),
    }
}

struct File(PathBuf);

impl Alerter for File {
    fn now(&self, now: Timestamp) -> Result<Option<Standing>, String> {
        status::standing(&self.0, now).map_err(|error| error.to_string())
    }

    fn incidents(
        &self,
        from: Timestamp,
        to: Timestamp,
        link: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Incident>, String> {
        let which = Which::Between { from, to, link, limit };
        story::incidents(&self.0, which).map_err(|error| error.to_string())
    }

    fn story(&self, id: &str) -> Result<Option<Story>, String> {
        let found = story::stories(&self.0, Which::Id(id)).map_err(|error| error.to_string())?;
        // The beginning of an id is not the id.
        Ok(found.into_iter().find(|of| of.incident.id == id))
    }
}
