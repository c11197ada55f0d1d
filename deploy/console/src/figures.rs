//! What is watched as metrics of Prometheus, for who has Prometheus: each probe's round-trip times and losses, each tunnel.

use std::collections::HashSet;

use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Detail, Lost, Name, Outcome, Tunnel};
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::metrics::histogram::{Histogram, exponential_buckets};
use prometheus_client::registry::{Registry, Unit};

use crate::history::Key;

type OfProbe = [(&'static str, Name); 3];
type OfLoss = [(&'static str, Name); 4];
type OfTunnel = [(&'static str, Name); 3];

/// Registered once a process. What the config does not have is not counted.
#[derive(Clone, Debug)]
pub struct Figures {
    rtt: Family<OfProbe, Histogram, fn() -> Histogram>,
    lost: Family<OfLoss, Counter>,
    tunnel: Family<OfTunnel, Gauge>,
    known: HashSet<Key>,
    links: HashSet<Name>,
}

impl Figures {
    /// Registers them.
    pub fn register(registry: &mut Registry, topology: &Topology) -> Self {
        // 0.5 ms doubling to 4 s.
        let buckets: fn() -> Histogram = || Histogram::new(exponential_buckets(0.0005, 2.0, 14));
        let known = topology
            .probes()
            .map(|(link, probe)| (link.name.clone(), probe.from.clone(), probe.name.clone()));
        let figures = Self {
            rtt: Family::new_with_constructor(buckets),
            lost: Family::default(),
            tunnel: Family::default(),
            known: known.collect(),
            links: topology.links.iter().map(|link| link.name.clone()).collect(),
        };
        // A rate that is zero is there from the beginning.
        for (link, site, probe) in &figures.known {
            let labels = [("link", link.clone()), ("site", site.clone()), ("probe", probe.clone())];
            drop(figures.rtt.get_or_create(&labels));
            let [link, site, probe] = labels;
            drop(figures.lost.get_or_create(&[link, site, probe, ("reason", Lost::Timeout.word().into())]));
        }
        registry.register_with_unit(
            "crosswatch_probe_rtt",
            "Round-trip times of replies, by link, site and probe",
            Unit::Seconds,
            figures.rtt.clone(),
        );
        registry.register(
            "crosswatch_probe_lost",
            "Packets lost, by link, site, probe and reason; local is this machine's own fault and no loss of the link",
            figures.lost.clone(),
        );
        registry.register(
            "crosswatch_tunnel_up",
            "1 for a tunnel that is up, 0 for one that is down, by link, VPN connection and outside address",
            figures.tunnel.clone(),
        );
        figures
    }

    /// Counts an outcome; of a burst each packet.
    pub(crate) fn probe(&self, key: &Key, outcome: Outcome, detail: Option<&Detail>) {
        if !self.known.contains(key) {
            return;
        }
        let (link, site, probe) = key;
        let labels = [("link", link.clone()), ("site", site.clone()), ("probe", probe.clone())];
        let burst = detail.map_or(&[][..], |detail| &detail.burst);
        let reason = match outcome {
            Outcome::Lost(lost) => lost,
            Outcome::Reply { .. } => Lost::Timeout,
        };
        let single = [match outcome {
            Outcome::Reply { rtt_ms } => Some(rtt_ms),
            Outcome::Lost(_) => None,
        }];
        let packets = if burst.is_empty() || reason == Lost::Local { &single[..] } else { burst };
        for packet in packets {
            match packet {
                Some(ms) => self.rtt.get_or_create(&labels).observe(ms / 1e3),
                None => {
                    let [link, site, probe] = labels.clone();
                    let of = [link, site, probe, ("reason", Name::from(reason.word()))];
                    self.lost.get_or_create(&of).inc();
                }
            }
        }
    }

    /// Shows what a poll said.
    pub(crate) fn tunnels(&self, link: &Name, vpn: &Name, tunnels: &[Tunnel]) {
        if self.links.contains(link) {
            for tunnel in tunnels {
                let labels = [
                    ("link", link.clone()),
                    ("vpn", vpn.clone()),
                    ("tunnel", Name::from(&*tunnel.outside_ip)),
                ];
                self.tunnel.get_or_create(&labels).set(i64::from(tunnel.up));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::state::tests::{LOSS, REPLY, topology};

    #[test]
    fn each_packet_is_counted_by_what_it_was_and_what_the_config_lacks_is_not() {
        let mut registry = Registry::default();
        let figures = Figures::register(&mut registry, &topology(&["l"]));
        let key: Key = ("l".into(), "a".into(), "p".into());
        let burst = Detail { burst: vec![Some(80.0), None], ..Detail::default() };
        figures.probe(&key, REPLY, None);
        figures.probe(&key, REPLY, Some(&burst));
        figures.probe(&key, Outcome::Lost(Lost::Local), Some(&burst));
        figures.probe(&key, LOSS, None);
        figures.probe(&("other".into(), "a".into(), "p".into()), LOSS, None);
        let tunnel = Tunnel {
            outside_ip: "192.0.2.1".to_owned(),
            up: true,
            accepted_routes: 0,
            since: None,
            message: String::new(),
        };
        figures.tunnels(&"l".into(), &"vpn-1".into(), &[tunnel]);
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &registry).unwrap();
        let probe = "link=\"l\",site=\"a\",probe=\"p\"";
        for line in [
            format!("crosswatch_probe_rtt_seconds_count{{{probe}}} 2"),
            format!("crosswatch_probe_lost_total{{{probe},reason=\"timeout\"}} 2"),
            format!("crosswatch_probe_lost_total{{{probe},reason=\"local\"}} 1"),
            "crosswatch_tunnel_up{link=\"l\",vpn=\"vpn-1\",tunnel=\"192.0.2.1\"} 1".to_owned(),
        ] {
            assert!(text.contains(&line), "{line} is not in {text}");
        }
        assert!(!text.contains("other"), "{text}");
    }
}
