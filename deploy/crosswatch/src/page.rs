//! The status page, put together: the console, and what the alerter's file tells.

use std::path::PathBuf;
use std::sync::Arc;

use crosswatch_alerter::story;
use crosswatch_console::judged::{Alerter, Incident, Judged, Notice, Story, Symptom};
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
    fn now(&self) -> Result<Option<Judged>, String> {
        let standing = story::standing(&self.0).map_err(|error| error.to_string())?;
        Ok(standing.map(|of| Judged {
            incidents: of.incidents.into_iter().map(incident).collect(),
            silent: of.silent,
            owed: of.owed,
        }))
    }

    fn incidents(
        &self,
        from: Timestamp,
        to: Timestamp,
        link: Option<&str>,
        limit: usize,
    ) -> Result<Vec<Incident>, String> {
        let found = story::between(&self.0, from, to, link, limit).map_err(|error| error.to_string())?;
        Ok(found.into_iter().map(incident).collect())
    }

    fn story(&self, id: &str) -> Result<Option<Story>, String> {
        let found = story::of(&self.0, id).map_err(|error| error.to_string())?;
        Ok(found.map(|(of, notices)| Story {
            incident: incident(of),
            notices: notices.into_iter().map(notice).collect(),
        }))
    }
}

fn incident(of: story::Told) -> Incident {
    let symptom = |of: story::Symptom| Symptom {
        rule: of.rule,
        subject: of.subject,
        fired_at: of.fired_at,
        value: of.value,
        reason: of.reason,
        resolved_at: of.resolved_at,
        resolved_reason: of.resolved_reason,
    };
    Incident {
        id: of.id,
        place: of.place,
        link: of.link,
        verdict: of.verdict,
        summary: of.summary,
        opened_at: of.opened_at,
        resolved_at: of.resolved_at,
        resolved_reason: of.resolved_reason,
        symptoms: of.symptoms.into_iter().map(symptom).collect(),
    }
}

fn notice(of: story::Notice) -> Notice {
    Notice {
        state: of.state,
        revision: of.revision,
        receiver: of.receiver,
        channel: of.channel,
        standing: of.standing,
        created: of.created,
        attempts: of.attempts,
        error: of.error,
        accepted_at: of.accepted_at,
        text: of.text,
    }
}
