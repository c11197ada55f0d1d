//! What of an engine must survive a restart, key by key, and how it is taken up again.

use std::collections::BTreeSet;

use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use super::Engine;
use crate::baseline::{Baseline, Ended, Hour};
use crate::boots::Boots;
use crate::rule::Rule;
use crate::series::{Kept, Series};

/// What the keys of baselines begin with: of the hours that are over, and of those that are open.
const ENDED: &str = "usual";
const OPEN: &str = "hours";

/// State to be kept under a key; the value is opaque.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// What it is the state of: `series/<rule>/<site>/<subject>`, so that what belongs to a rule stands under one prefix;
    /// `site/<site>`, `link/<link>` or `collector/<site>`; `usual/<metric>/<site>/<subject>` and `hours/…`, the baseline of a
    /// subject for all rules that ask for it.
    pub key: String,
    /// The state.
    pub value: Vec<u8>,
}

/// Saved state that cannot be read: a newer or a broken program wrote it, or the disk changed it.
#[derive(Debug, thiserror::Error)]
#[error("the saved state '{key}' cannot be read: {source}")]
pub struct RestoreError {
    key: String,
    source: serde_json::Error,
}

/// What of a site must survive a restart.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub(super) struct KeptSite {
    /// The time of its first observation.
    pub(super) started: Option<Timestamp>,
    pub(super) event_time: Option<Timestamp>,
    /// The boot whose promise event time is.
    pub(super) boot: Option<Name>,
    /// Its boots.
    #[serde(flatten)]
    pub(super) boots: Boots,
}

impl Engine {
    /// The state that has changed since the last call, to be kept in place of what was kept under the same keys.
    pub fn changed(&mut self) -> Vec<Saved> {
        let Self { rules, sites, facts, .. } = self;
        let mut saved = facts.changed();
        for site in sites {
            if std::mem::take(&mut site.changed) {
                saved.push(save(format!("site/{}", site.name), &site.kept));
            }
            for series in site.series.iter_mut().filter(|series| series.changed) {
                series.changed = false;
                saved.push(save(key(&rules[series.rule], &site.name, series), &series.kept));
            }
            for series in &mut site.series {
                let metric = rules[series.rule].metric;
                // Two rules of one subject have the same.
                let Some(baseline) = &mut series.baseline else { continue };
                let key = |what| format!("{what}/{}/{}/{}", metric.word(), site.name, series.subject);
                if std::mem::take(&mut baseline.ended_changed) {
                    saved.push(save(key(ENDED), baseline.parts().0));
                }
                if std::mem::take(&mut baseline.open_changed) {
                    saved.push(save(key(OPEN), &baseline.parts().1));
                }
            }
        }
        saved
    }

    /// Takes up what was saved. What belongs to a rule, subject or site that the config lacks is left out.
    ///
    /// # Errors
    /// A value cannot be read.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = Saved>) -> Result<(), RestoreError> {
        let mut kept = FxHashMap::default();
        let mut baselines: FxHashMap<String, (Ended, Vec<Hour>)> = FxHashMap::default();
        for Saved { key, value } in saved {
            let unreadable = |source| RestoreError { key: key.clone(), source };
            if self.facts.restore(&key, &value).map_err(unreadable)? {
                continue;
            }
            if let Some(name) = key.strip_prefix("site/") {
                if let Some(&site) = self.site_of.get(name) {
                    self.sites[site].kept = serde_json::from_slice(&value).map_err(unreadable)?;
                }
            } else if let Some(of) = key.strip_prefix(ENDED) {
                baselines.entry(of.to_owned()).or_default().0 =
                    serde_json::from_slice(&value).map_err(unreadable)?;
            } else if let Some(of) = key.strip_prefix(OPEN) {
                baselines.entry(of.to_owned()).or_default().1 =
                    serde_json::from_slice(&value).map_err(unreadable)?;
            } else if let Some((rule, rest)) = key.strip_prefix("series/").and_then(|key| key.split_once('/'))
                && let Some((site, subject)) = rest.split_once('/')
            {
                let state: Kept = serde_json::from_slice(&value).map_err(unreadable)?;
                self.make_seen(site, rule, subject);
                kept.insert((site.to_owned(), rule.to_owned(), subject.to_owned()), state);
            }
        }
        for site in &mut self.sites {
            for series in &mut site.series {
                let rule = &self.rules[series.rule];
                if series.baseline.is_some() {
                    let key = format!("/{}/{}/{}", rule.metric.word(), site.name, series.subject);
                    let (ended, open) = baselines.get(&key).cloned().unwrap_or_default();
                    series.baseline = Some(Baseline::restore(ended, open));
                }
                if let Some(state) =
                    kept.remove(&(site.name.to_string(), rule.name.to_string(), series.subject.to_string()))
                {
                    series.restore(rule, state);
                } else if let Some(started) = site.kept.started {
                    // A rule or subject that is new to a site already seen.
                    series.start(site.kept.event_time.map_or(started, |now| now.max(started)));
                }
            }
            site.next = Timestamp::MIN;
        }
        Ok(())
    }

    /// The keys under which the state of each rule and subject is kept.
    #[must_use]
    pub fn keys(&self) -> BTreeSet<String> {
        let series = self.sites.iter().flat_map(|site| site.series.iter().map(move |of| (site, of)));
        series.map(|(site, of)| key(&self.rules[of.rule], &site.name, of)).collect()
    }
}

fn key(rule: &Rule, site: &str, series: &Series) -> String {
    format!("series/{}/{site}/{}", rule.name, series.subject)
}

pub(crate) fn save<T: Serialize>(key: String, state: &T) -> Saved {
    // These types hold no map with keys that are no strings, so that this cannot fail.
    Saved { key, value: serde_json::to_vec(state).unwrap_or_default() }
}
