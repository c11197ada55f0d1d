//! The loop behind the page: follows the journals, keeps the history, and says how everything is whenever that changes. It has a
//! thread and a runtime of its own; no stage waits for it.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crosswatch_host::clock;
use crosswatch_host::health::Part;
use crosswatch_host::retry::Backoff;
use crosswatch_queue::Source;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Name, Tunnel};
use crosswatch_shared::time::Timestamp;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

use crate::figures::Figures;
use crate::history::{Error, History, Key, TunnelSpan, Writer};
use crate::judged::Alerter;
use crate::live::{Live, Told};
use crate::state::{Overview, overview};
use crosswatch_alerter::status::Standing;

/// How long a read waits, and how often it is looked how things are.
const TICK: Duration = Duration::from_millis(200);
/// How often numbers are told anew while all else stays as it is.
const NUMBERS: Duration = Duration::from_secs(2);
/// How often the medians of the history are read, of which there are many.
const MEDIANS: Duration = Duration::from_secs(3_600);
/// How often the baselines of the rules are.
const BASELINES: Duration = Duration::from_secs(60);
/// The pause after each page of a backlog: whoever detects comes first.
const BACKLOG_PAUSE: Duration = Duration::from_millis(5);

/// How everything is, and the how manieth saying of it this is.
#[derive(Clone, Debug)]
pub(crate) struct Snapshot {
    pub(crate) version: u64,
    /// Tells the states and incidents of one snapshot from those of another.
    pub(crate) states: u64,
    pub(crate) overview: Overview,
}

/// What it follows.
pub(crate) struct Follower {
    /// The history's file.
    pub(crate) file: PathBuf,
    /// The folder of the journals.
    pub(crate) journals: PathBuf,
    pub(crate) topology: Topology,
    pub(crate) alerter: Arc<dyn Alerter>,
    pub(crate) figures: Figures,
    pub(crate) told: watch::Sender<Arc<Snapshot>>,
    pub(crate) part: Part,
}

impl Follower {
    /// Follows until it is stopped. What fails is tried again: a page that cannot be drawn ends no stage.
    pub(crate) async fn run(self, stop: CancellationToken) {
        let mut backoff = Backoff::new(Duration::from_millis(500), Duration::from_secs(60));
        while !stop.is_cancelled() {
            let Err(error) = self.follow(&stop, &mut backoff).await else { return };
            let pause = backoff.pause();
            tracing::error!(%error, ?pause, "the page's history is not written; trying again");
            self.part.failing(error.to_string());
            self.tell(
                overview(
                    &self.topology,
                    &Live::default(),
                    None,
                    &HashMap::new(),
                    vec![format!("what was seen cannot be read or kept: {error}")],
                    clock::now(),
                ),
                0,
            );
            let _ = stop.run_until_cancelled(tokio::time::sleep(pause)).await;
        }
    }

    async fn follow(&self, stop: &CancellationToken, backoff: &mut Backoff) -> Result<(), Error> {
        let sites: Vec<Name> = self.topology.sites.iter().map(|site| site.name.clone()).collect();
        let source = Source::gathered(self.journals.clone(), sites);
        let mut writer = Writer::open(&self.file, source)?;
        let mut live = Live::restored(writer.series()?);
        let mut medians = HashMap::new();
        let mut baselines = HashMap::new();
        let [mut medians_at, mut baselines_at]: [Option<Instant>; 2] = [None; 2];
        let mut told: Option<(u64, Instant)> = None;
        let mut looked: Option<Instant> = None;
        while let Some(page) = stop.run_until_cancelled(writer.receive(TICK, Instant::now())).await {
            let page = page?;
            for delivery in &page.deliveries {
                live.take(&delivery.batch, delivery.sent, |told| {
                    count(&self.figures, &told);
                    keep(&mut writer, told);
                });
            }
            let (steady, now) = (Instant::now(), clock::now());
            writer.turn(steady, now).await?;
            if medians_at.is_none_or(|at| steady >= at) {
                medians = self.read_medians(now)?;
                medians_at = Some(steady + MEDIANS);
                baselines_at = None;
            }
            if baselines_at.is_none_or(|at| steady >= at) {
                baselines = self.baselines(&medians, now);
                baselines_at = Some(steady + BASELINES);
            }
            if !page.empty {
                tokio::time::sleep(BACKLOG_PAUSE).await;
            }
            if looked.is_some_and(|at| steady.saturating_duration_since(at) < TICK) {
                continue;
            }
            looked = Some(steady);
            let mut problems: Vec<String> =
                page.failing.into_iter().map(|why| format!("a journal cannot be read: {why}")).collect();
            let judged = self.alerter.now(now).unwrap_or_else(|why| {
                problems.push(format!("the alerter's file cannot be read: {why}"));
                None
            });
            match problems.first() {
                Some(why) => self.part.failing(why.clone()),
                None => {
                    backoff.reset();
                    self.part.ok();
                }
            }
            let seen = overview(&self.topology, &live, judged.as_ref(), &baselines, problems, now);
            let print = fingerprint(&seen);
            let stale = |(before, at): (u64, Instant)| {
                before != print || steady.saturating_duration_since(at) >= NUMBERS
            };
            if told.is_none_or(stale) {
                told = Some((print, steady));
                self.tell(seen, print);
            }
        }
        writer.close().await
    }

    fn tell(&self, overview: Overview, states: u64) {
        let version = self.told.borrow().version + 1;
        self.told.send_replace(Arc::new(Snapshot { version, states, overview }));
    }

    /// What a rule holds a probe against, and what `status` shows of it; for others the median of the history.
    fn baselines(&self, medians: &HashMap<Key, f64>, now: Timestamp) -> HashMap<Key, f64> {
        let of_rules = self.alerter.baselines(now).unwrap_or_else(|why| {
            tracing::warn!(%why, "the rules' baselines cannot be read; the page shows medians of its own");
            HashMap::new()
        });
        joined(&self.topology, medians, &of_rules)
    }

    fn read_medians(&self, now: Timestamp) -> Result<HashMap<Key, f64>, Error> {
        let Some(history) = History::open(&self.file)? else { return Ok(HashMap::new()) };
        let keys = self.topology.probes().map(|(link, probe)| {
            let key: Key = (link.name.clone(), probe.from.clone(), probe.name.clone());
            Ok(history.baseline(&key, now)?.map(|baseline| (key, baseline)))
        });
        keys.filter_map(Result::transpose).collect()
    }
}

/// Of each probe the baseline of its rules, where one of them goes by one, which may not be there yet; else the median.
fn joined(
    topology: &Topology,
    medians: &HashMap<Key, f64>,
    of_rules: &HashMap<String, Option<f64>>,
) -> HashMap<Key, f64> {
    let keys = topology.probes().map(|(link, probe)| {
        let key: Key = (link.name.clone(), probe.from.clone(), probe.name.clone());
        let baseline = match of_rules.get(&format!("{}/{}/{}", key.0, key.1, key.2)) {
            Some(baseline) => *baseline,
            None => medians.get(&key).copied(),
        };
        (key, baseline)
    });
    keys.filter_map(|(key, baseline)| Some((key, baseline?))).collect()
}

/// Counts what was seen for whoever scrapes.
fn count(figures: &Figures, told: &Told<'_>) {
    match told {
        Told::Probe { key, outcome, detail, .. } => figures.probe(key, *outcome, *detail),
        Told::Tunnels { link, vpn, tunnels, .. } => figures.tunnels(link, vpn, tunnels),
        Told::Evidence { .. } => {}
    }
}

/// Keeps what was seen in the history.
fn keep(writer: &mut Writer, told: Told<'_>) {
    match told {
        Told::Probe { key, at, outcome, detail, since } => {
            writer.deltas().cell(key, at).add(outcome, detail);
            if let Some(since) = since {
                writer.deltas().since(key, since);
            }
        }
        Told::Evidence { key, evidence } => writer.deltas().evidence(key, evidence),
        Told::Tunnels { link, vpn, at, tunnels } => {
            for Tunnel { outside_ip, up, message, .. } in tunnels {
                let span = TunnelSpan {
                    vpn: vpn.to_string(),
                    outside_ip: outside_ip.clone(),
                    up: *up,
                    message: message.clone(),
                    since: at,
                    until: at,
                };
                writer.deltas().tunnel(link, span);
            }
        }
    }
}

/// What a viewer is told of at once when it changes: states and incidents, not numbers.
fn fingerprint(seen: &Overview) -> u64 {
    let mut hasher = DefaultHasher::new();
    for site in &seen.sites {
        site.state.hash(&mut hasher);
    }
    for link in &seen.links {
        (&link.link, link.state, &link.verdict, &link.incident).hash(&mut hasher);
        link.directions.iter().for_each(|of| of.state.hash(&mut hasher));
        link.vpns.iter().for_each(|of| (of.state, of.up).hash(&mut hasher));
    }
    let incidents = seen.judged.iter().flat_map(|Standing { incidents, .. }| incidents);
    for incident in incidents {
        (&incident.id, &incident.verdict, &incident.muted, incident.symptoms.len()).hash(&mut hasher);
    }
    for silence in seen.judged.iter().flat_map(|judged| &judged.silences) {
        (&silence.id, silence.until).hash(&mut hasher);
    }
    seen.problems.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::topology;

    #[test]
    fn what_a_rule_goes_by_is_shown_and_no_other_median_where_it_has_none_yet() {
        let links = topology(&["l", "m", "n"]);
        let key = |link: &str| -> Key { (link.into(), "a".into(), "p".into()) };
        let medians = ["l", "m", "n"].map(|link| (key(link), 80.0)).into();
        let of_rules = [("l/a/p".to_owned(), Some(40.0)), ("m/a/p".to_owned(), None)].into();
        let shown = joined(&links, &medians, &of_rules);
        assert_eq!(shown, [(key("l"), 40.0), (key("n"), 80.0)].into());
    }
}
