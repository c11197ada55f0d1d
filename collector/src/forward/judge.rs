//! Whether what the journal holds is news, judged again on its way to a queue. Pure.

use std::collections::HashMap;

use crosswatch_shared::observation::{Body, Name, Observation};

use crate::news::News;

/// The state of everything that has been seen.
#[derive(Debug)]
pub struct Judge {
    probes: HashMap<(Name, Name), usize>,
    news: News,
}

impl Judge {
    /// For these probes, by link and name, each with the round-trip time in milliseconds over which a reply is news.
    #[must_use]
    pub fn new(probes: impl IntoIterator<Item = ((Name, Name), Option<f64>)>) -> Self {
        let (keys, over_ms): (Vec<_>, Vec<_>) = probes.into_iter().unzip();
        let probes = keys.into_iter().enumerate().map(|(place, key)| (key, place)).collect();
        Self { probes, news: News::new(over_ms) }
    }

    /// Whether this is news. To be asked once for each, in the journal's order. A probe that the config no longer has makes none.
    pub fn judge(&mut self, observation: &Observation) -> bool {
        match &observation.body {
            Body::Probe { link, probe, outcome, .. } => match self.probes.get(&(link.clone(), probe.clone()))
            {
                Some(&place) => self.news.judge(place, outcome),
                None => false,
            },
            Body::Tunnels { link, vpn, tunnels } => self.news.tunnels(link, vpn, tunnels),
            Body::Evidence { .. } | Body::Drill { .. } => true,
            Body::Collection { .. } => false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_shared::observation::{Lost, Outcome, Tunnel};
    use crosswatch_shared::time::Timestamp;

    fn news(judge: &mut Judge, body: Body) -> bool {
        judge.judge(&Observation { at: Timestamp::from_secs(1), seq: 0, body })
    }

    #[test]
    fn losses_slow_replies_and_changed_tunnels_are_news() {
        let probe =
            |link: &str, outcome| Body::Probe { link: link.into(), probe: "p".into(), outcome, detail: None };
        let tunnels = |up| {
            let tunnel = Tunnel {
                outside_ip: "52.1.2.3".to_owned(),
                up,
                accepted_routes: 1,
                since: None,
                message: String::new(),
            };
            Body::Tunnels { link: "a".into(), vpn: "vpn-1".into(), tunnels: vec![tunnel] }
        };
        let keys = [(("a".into(), "p".into()), Some(200.0)), (("b".into(), "p".into()), None)];
        let mut judge = Judge::new(keys);
        let slow = Outcome::Reply { rtt_ms: 300.0 };
        assert!(!news(&mut judge, probe("b", slow)));
        assert!(news(&mut judge, probe("a", slow)));
        assert!(news(&mut judge, probe("b", Outcome::Lost(Lost::Timeout))));
        assert!(!news(&mut judge, probe("gone", Outcome::Lost(Lost::Timeout))));
        assert!(!news(&mut judge, tunnels(true)));
        assert!(news(&mut judge, tunnels(false)));
        let round = Body::Collection { source: "icmp".into(), ok: false, error: None, took_ms: 1.0 };
        assert!(!news(&mut judge, round));
    }
}
