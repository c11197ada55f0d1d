//! How each probe and tunnel is at present, by the newest observations. Pure.

use std::collections::{HashMap, VecDeque};

use crosswatch_shared::evidence::Evidence;
use crosswatch_shared::observation::{Batch, Body, Detail, Lost, Name, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;

use crate::history::{Key, Since};

/// How many of the newest outcomes are looked at.
const NEWEST: usize = 30;

/// A probe, by its newest outcomes. What this machine is to blame for is no outcome.
#[derive(Clone, Debug)]
pub(crate) struct Seen {
    /// When the newest was sent.
    pub(crate) at: Timestamp,
    /// Why the newest was lost, if it was.
    pub(crate) lost: Option<Lost>,
    /// Since the first of the outcomes like it.
    pub(crate) since: Timestamp,
    /// How many were lost in a row, up to the newest.
    pub(crate) lost_in_a_row: usize,
    /// The newest, oldest first: round-trip times in milliseconds, or a loss.
    newest: VecDeque<Option<f64>>,
}

impl Seen {
    /// The newest outcomes, the oldest first: round-trip times in milliseconds, or a loss.
    pub(crate) fn newest(&self) -> impl Iterator<Item = Option<f64>> {
        self.newest.iter().copied()
    }

    /// The median round-trip time of the newest replies, in milliseconds.
    #[must_use]
    pub(crate) fn median(&self) -> Option<f64> {
        let mut replies: Vec<f64> = self.newest.iter().flatten().copied().collect();
        replies.sort_by(f64::total_cmp);
        replies.get(replies.len() / 2).copied()
    }

    /// The part of the newest outcomes that were lost.
    #[must_use]
    pub(crate) fn loss(&self) -> f64 {
        let lost = self.newest.iter().filter(|of| of.is_none()).count();
        lost as f64 / self.newest.len().max(1) as f64
    }
}

/// The newest of everything.
#[derive(Debug, Default)]
pub(crate) struct Live {
    probes: HashMap<Key, Seen>,
    /// Since when, of probes that were not seen since this began.
    before: HashMap<Key, Since>,
    tunnels: HashMap<(Name, Name), (Timestamp, Vec<Tunnel>)>,
    heard: HashMap<Name, Timestamp>,
}

impl Live {
    /// With what was known when it ended.
    pub(crate) fn restored(series: Vec<(Key, Option<Since>)>) -> Self {
        let before = series.into_iter().filter_map(|(key, since)| Some((key, since?))).collect();
        Self { before, ..Self::default() }
    }

    /// A batch came, which its queue took in at `sent`.
    pub(crate) fn heard(&mut self, batch: &Batch, sent: Timestamp) {
        let heard = self.heard.entry(batch.origin.site.clone()).or_insert(sent);
        *heard = sent.max(*heard);
    }

    /// Takes a probe's outcome; gives since when it is as it is, if that has changed.
    pub(crate) fn probe(
        &mut self,
        key: &Key,
        at: Timestamp,
        outcome: Outcome,
        detail: Option<&Detail>,
    ) -> Option<Since> {
        let (rtt, lost) = match outcome {
            Outcome::Lost(Lost::Local) => return None,
            Outcome::Lost(lost) => (None, Some(lost)),
            Outcome::Reply { rtt_ms } => (Some(rtt_ms), None),
        };
        let up = lost.is_none();
        // A burst that lost some is answered, and is not all well.
        let burst_lost = detail.is_some_and(|detail| detail.burst.iter().any(Option::is_none));
        let mut changed = None;
        let before = self.before.get(key).copied();
        let seen = self.probes.entry(key.clone()).or_insert_with(|| {
            let same = before.filter(|before| before.up == up && before.since <= at);
            let since = same.map_or(at, |before| before.since);
            changed = same.is_none().then_some(Since { up, since });
            Seen { at, lost, since, lost_in_a_row: 0, newest: VecDeque::new() }
        });
        if at < seen.at {
            return None;
        }
        if seen.lost.is_none() != up {
            seen.since = at;
            changed = Some(Since { up, since: at });
        }
        seen.at = at;
        seen.lost = lost;
        seen.lost_in_a_row = if up { 0 } else { seen.lost_in_a_row + 1 };
        if burst_lost && up {
            seen.newest.push_back(None);
        }
        seen.newest.push_back(rtt);
        while seen.newest.len() > NEWEST {
            seen.newest.pop_front();
        }
        changed
    }

    /// Takes what a poll said of a VPN connection's tunnels.
    pub(crate) fn tunnels(&mut self, link: &Name, vpn: &Name, at: Timestamp, tunnels: &[Tunnel]) {
        let seen = self.tunnels.entry((link.clone(), vpn.clone())).or_insert_with(|| (at, Vec::new()));
        if at >= seen.0 {
            *seen = (at, tunnels.to_vec());
        }
    }

    /// Takes a batch, and tells `each` of every probe's outcome and every tunnel.
    pub(crate) fn take(&mut self, batch: &Batch, sent: Timestamp, mut each: impl FnMut(Told<'_>)) {
        self.heard(batch, sent);
        for observation in &batch.observations {
            let at = observation.at;
            match &observation.body {
                Body::Probe { link, probe, outcome, detail } => {
                    let key = (link.clone(), batch.origin.site.clone(), probe.clone());
                    let detail = detail.as_deref();
                    let since = self.probe(&key, at, *outcome, detail);
                    each(Told::Probe { key: &key, at, outcome: *outcome, detail, since });
                }
                Body::Tunnels { link, vpn, tunnels } => {
                    self.tunnels(link, vpn, at, tunnels);
                    each(Told::Tunnels { link, vpn, at, tunnels });
                }
                Body::Evidence { link, probe, evidence } => {
                    let key = (link.clone(), batch.origin.site.clone(), probe.clone());
                    each(Told::Evidence { key: &key, evidence });
                }
                Body::Collection { .. } | Body::Drill { .. } => {}
            }
        }
    }

    pub(crate) fn seen(&self, key: &Key) -> Option<&Seen> {
        self.probes.get(key)
    }

    /// When anything of a site was last taken in.
    pub(crate) fn heard_at(&self, site: &str) -> Option<Timestamp> {
        self.heard.get(site).copied()
    }

    /// The VPN connections of a link with their tunnels, by name.
    pub(crate) fn vpns<'a>(&'a self, link: &'a str) -> Vec<(&'a Name, Timestamp, &'a [Tunnel])> {
        let of = self.tunnels.iter().filter(|((of, _), _)| **of == *link);
        let mut vpns: Vec<_> = of.map(|((_, vpn), (at, tunnels))| (vpn, *at, &**tunnels)).collect();
        vpns.sort_by(|one, other| one.0.cmp(other.0));
        vpns
    }
}

/// What was taken.
pub(crate) enum Told<'a> {
    Probe { key: &'a Key, at: Timestamp, outcome: Outcome, detail: Option<&'a Detail>, since: Option<Since> },
    Tunnels { link: &'a Name, vpn: &'a Name, at: Timestamp, tunnels: &'a [Tunnel] },
    Evidence { key: &'a Key, evidence: &'a Evidence },
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key() -> Key {
        ("l".into(), "a".into(), "p".into())
    }

    const REPLY: Outcome = Outcome::Reply { rtt_ms: 80.0 };
    const LOSS: Outcome = Outcome::Lost(Lost::Timeout);

    #[test]
    fn since_when_it_is_down_outlives_a_restart_and_what_comes_again_changes_nothing() {
        let at = |second: i64| Timestamp::from_secs(1_000 + second);
        let mut live = Live::restored(vec![(key(), Some(Since { up: false, since: at(0) }))]);
        assert_eq!(live.probe(&key(), at(5), LOSS, None), None);
        assert_eq!(live.seen(&key()).unwrap().since, at(0));
        assert_eq!(live.probe(&key(), at(6), REPLY, None), Some(Since { up: true, since: at(6) }));
        assert_eq!(live.probe(&key(), at(5), LOSS, None), None, "it was overtaken");
        assert_eq!(live.seen(&key()).unwrap().lost, None);
    }

    #[test]
    fn what_the_machine_is_to_blame_for_is_no_loss() {
        let mut live = Live::default();
        live.probe(&key(), Timestamp::from_secs(1), REPLY, None);
        live.probe(&key(), Timestamp::from_secs(2), Outcome::Lost(Lost::Local), None);
        let seen = live.seen(&key()).unwrap();
        assert_eq!((seen.lost, seen.lost_in_a_row, seen.loss()), (None, 0, 0.0));
    }
}
