//! The status page, put together: the console, and what the alerter's file and the config tell.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use crosswatch_alerter::config::Config as Alerts;
use crosswatch_alerter::status::{self, Standing};
use crosswatch_alerter::story::{self, Incident, Story, Which};
use crosswatch_console::judged::{Alerter, Unexplained};
use crosswatch_explain::{ExplainError, Explanation};
use crosswatch_judge::mute::Silence;
use crosswatch_shared::config::topology::{QueueKind, Topology};
use crosswatch_shared::time::Timestamp;

use crate::config::Config;
use crate::run::{ALERTER_FILE, journals};
use crate::status::baselines;
use crate::{explain, report};

/// What the alerter of this config knows; `file` is where the config is from, whose rules may be edited meanwhile.
pub(crate) fn alerter(config: &Config, file: Option<&Path>) -> Arc<dyn Alerter> {
    Arc::new(Known {
        file: config.topology.queue.path.join(ALERTER_FILE),
        topology: config.topology.clone(),
        config: file.map(Path::to_owned),
        alerts: Mutex::new((Vec::new(), config.alerts.clone())),
    })
}

/// The journals to follow: with SQS the alerter's own history of what it received.
pub(crate) fn folder(topology: &Topology) -> PathBuf {
    match topology.queue.kind {
        QueueKind::Embedded => journals(&topology.queue),
        QueueKind::Sqs { .. } => topology.queue.path.join(crosswatch_alerter::HISTORY),
    }
}

struct Known {
    /// The alerter's.
    file: PathBuf,
    topology: Topology,
    config: Option<PathBuf>,
    /// The text that was read last, and what the newest one that was right says.
    alerts: Mutex<(Vec<u8>, Alerts)>,
}

impl Known {
    /// What is judged now: an edit that is wrong changes nothing, as for the alerter.
    fn alerts(&self) -> Alerts {
        let mut known = self.alerts.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(path) = &self.config
            && let Ok(text) = std::fs::read(path)
            && text != known.0
        {
            if let Ok(config) = Config::parse(&text, path) {
                known.1 = config.alerts;
            }
            known.0 = text;
        }
        known.1.clone()
    }
}

impl Alerter for Known {
    fn now(&self, now: Timestamp) -> Result<Option<Standing>, String> {
        status::standing(&self.file, now).map_err(|error| error.to_string())
    }

    fn incidents(
        &self,
        from: Timestamp,
        to: Timestamp,
        link: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Incident>, String> {
        let which = Which::Between { from, to, link, limit };
        story::incidents(&self.file, which).map_err(|error| error.to_string())
    }

    fn story(&self, id: &str) -> Result<Option<Story>, String> {
        let found = story::stories(&self.file, Which::Id(id)).map_err(|error| error.to_string())?;
        // The beginning of an id is not the id.
        Ok(found.into_iter().find(|of| of.incident.id == id))
    }

    fn report(&self, id: &str, now: Timestamp) -> Result<Option<String>, String> {
        let Some(story) = self.story(id)? else { return Ok(None) };
        report::of_incident(&self.topology, story, now).map(Some).map_err(|error| format!("{error:#}"))
    }

    fn silences(&self) -> Result<Vec<Silence>, String> {
        status::silences_in_force(&self.file).map_err(|error| error.to_string())
    }

    fn baselines(&self, now: Timestamp) -> Result<HashMap<String, Option<f64>>, String> {
        let usual = baselines(&self.topology, &self.alerts(), now).map_err(|error| format!("{error:#}"))?;
        Ok(usual.into_iter().map(|(subject, of)| (subject, of.ms)).collect())
    }

    fn explain(
        &self,
        asked: &str,
        at: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Explanation, Unexplained> {
        let explained = explain::of(&self.topology, &self.alerts(), (asked, at, None), now);
        explained.map_err(|error| match error {
            ExplainError::NotKnown(_) | ExplainError::Future { .. } => Unexplained::Asked(error.to_string()),
            ExplainError::Alerter(_) | ExplainError::Journal { .. } => Unexplained::Broken(error.to_string()),
        })
    }
}
