//! What can be broken, and what several faults at once mean for each part.

use std::time::Duration;

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Site;
use crate::error::{Error, Result};
use crate::wan::{LONGEST_DELAY, Policy};

/// Something broken on purpose, until `heal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// The WAN takes every packet and delivers none.
    BlackHole,
    /// A round trip over the WAN takes this long, instead of twice the delay.
    Slow {
        /// From request to reply.
        rtt: Duration,
    },
    /// So many round trips in a hundred fail: each way loses its share.
    Loss {
        /// 1 to 99.
        percent: u8,
    },
    /// A region does not reach the centre, nor the centre it: what is sent vanishes. The link goes on.
    QueueCut {
        /// Which region.
        site: Site,
    },
    /// A region reaches neither the centre nor the other region.
    RegionCut {
        /// Which region.
        site: Site,
    },
    /// AWS answers one in so many requests by a throttling error.
    Throttled {
        /// Of this service only, as the gate names it: `sqs`, `cloudwatch`, `sns`, `ec2`.
        service: Option<String>,
        /// 1 means every request.
        one_in: u32,
    },
    /// EC2 tells that tunnels of the VPN connection are down; the packets go on.
    TunnelDown {
        /// Which.
        tunnel: Tunnel,
    },
    /// A region's collector is killed.
    CollectorDead {
        /// Which region's.
        site: Site,
    },
}

/// The tunnels of the VPN connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Tunnel {
    /// The first.
    First,
    /// The second.
    Second,
    /// Both, which is what the rule `tunnels-down` waits for.
    Both,
}

/// The id of the gate's fault that is ours.
pub(crate) const THROTTLED: &str = "lab-throttled";

/// The VPN connection of the lab's link, polled from us-east-1.
pub const VPN: &str = "vpn-0a1b2c3d4e5f60718";

impl Fault {
    /// As the command line writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::BlackHole => "black-hole",
            Self::Slow { .. } => "slow",
            Self::Loss { .. } => "loss",
            Self::QueueCut { .. } => "queue-cut",
            Self::RegionCut { .. } => "region-cut",
            Self::Throttled { .. } => "throttled",
            Self::TunnelDown { .. } => "tunnel-down",
            Self::CollectorDead { .. } => "collector-dead",
        }
    }

    /// The name and what it was given.
    #[must_use]
    pub fn describe(&self) -> String {
        let name = self.name();
        match self {
            Self::BlackHole => name.to_owned(),
            Self::Slow { rtt } => format!("{name} --ms {}", rtt.as_millis()),
            Self::Loss { percent } => format!("{name} --percent {percent}"),
            Self::QueueCut { site } | Self::RegionCut { site } | Self::CollectorDead { site } => {
                format!("{name} --site {site}")
            }
            Self::Throttled { service: None, one_in } => format!("{name} --one-in {one_in}"),
            Self::Throttled { service: Some(service), one_in } => {
                format!("{name} --service {service} --one-in {one_in}")
            }
            Self::TunnelDown { tunnel: Tunnel::First } => format!("{name} --tunnel 1"),
            Self::TunnelDown { tunnel: Tunnel::Second } => format!("{name} --tunnel 2"),
            Self::TunnelDown { tunnel: Tunnel::Both } => format!("{name} --tunnel both"),
        }
    }

    /// Whether its numbers are in range.
    pub(crate) fn check(&self) -> Result<()> {
        let longest = 2 * LONGEST_DELAY;
        match self {
            Self::Slow { rtt } if *rtt > longest => Err(Error::Range {
                what: "the round trip",
                range: format!("at most {} ms", longest.as_millis()),
            }),
            Self::Loss { percent } if !(1..=99).contains(percent) => {
                Err(Error::Range { what: "the loss", range: "1 to 99 percent".to_owned() })
            }
            Self::Throttled { one_in: 0, .. } => {
                Err(Error::Range { what: "one in", range: "1 or more".to_owned() })
            }
            _ => Ok(()),
        }
    }

    /// Whether it takes the place of another: one of its kind, and where the kind has a site, of its site.
    pub(crate) fn replaces(&self, other: &Self) -> bool {
        use Fault::{CollectorDead, QueueCut, RegionCut};
        match (self, other) {
            (QueueCut { site: a }, QueueCut { site: b })
            | (RegionCut { site: a }, RegionCut { site: b })
            | (CollectorDead { site: a }, CollectorDead { site: b }) => a == b,
            (a, b) => std::mem::discriminant(a) == std::mem::discriminant(b),
        }
    }
}

/// What the WAN does each way.
pub(crate) fn policy(faults: &[Fault], delay: Duration) -> Policy {
    let mut policy = Policy { delay, loss: 0.0 };
    for fault in faults {
        match fault {
            Fault::BlackHole | Fault::RegionCut { .. } => policy.loss = 1.0,
            Fault::Slow { rtt } => policy.delay = *rtt / 2,
            // Both ways survive with (1 - loss)², which is to be what of the round trips is left.
            Fault::Loss { percent } => {
                policy.loss = policy.loss.max(1.0 - (1.0 - f64::from(*percent) / 100.0).sqrt());
            }
            _ => {}
        }
    }
    policy
}

/// Whether a region is cut off from the centre.
pub(crate) fn is_cut_off(faults: &[Fault], site: Site) -> bool {
    faults.contains(&Fault::QueueCut { site }) || faults.contains(&Fault::RegionCut { site })
}

/// The fault that the gate is to have.
pub(crate) fn throttle(faults: &[Fault]) -> Option<Value> {
    faults.iter().find_map(|fault| {
        let Fault::Throttled { service, one_in } = fault else { return None };
        let matching = service.as_ref().map_or_else(|| json!({}), |service| json!({"service": service}));
        Some(json!({"id": THROTTLED, "match": matching, "effect": {"throttle": true}, "one_in": one_in}))
    })
}

/// Which tunnels are up.
pub(crate) fn tunnels_up(faults: &[Fault]) -> [bool; 2] {
    let down = faults.iter().find_map(|fault| match fault {
        Fault::TunnelDown { tunnel } => Some(*tunnel),
        _ => None,
    });
    match down {
        None => [true, true],
        Some(Tunnel::First) => [false, true],
        Some(Tunnel::Second) => [true, false],
        Some(Tunnel::Both) => [false, false],
    }
}

/// The gate's table of VPN connections; `now` is when the tunnels became what they are, as AWS writes times.
pub(crate) fn tunnel_table(up: [bool; 2], now: &str) -> Value {
    let tunnel = |outside_ip: &str, up: bool| {
        json!({
            "outside_ip": outside_ip,
            "status": if up { "UP" } else { "DOWN" },
            "last_status_change": now,
            "message": if up { "" } else { "IPSEC IS DOWN" },
            "accepted_routes": if up { 4 } else { 0 },
        })
    };
    json!([{
        "region": Site::UsEast1.name(),
        "vpn": VPN,
        "tags": {"Name": "use1-euw1"},
        "state": "available",
        "gateway": "vgw-0a1b2c3d4e5f60718",
        "tunnels": [tunnel("198.51.100.1", up[0]), tunnel("198.51.100.2", up[1])],
    }])
}

#[cfg(test)]
mod tests {
    use super::*;

    const DELAY: Duration = Duration::from_millis(40);

    #[test]
    fn several_faults_meet_in_one_policy() {
        let slow = Fault::Slow { rtt: Duration::from_millis(250) };
        let loss = Fault::Loss { percent: 20 };
        let policy = policy(&[slow, loss.clone()], DELAY);
        assert_eq!(policy.delay, Duration::from_millis(125));
        assert!(((1.0 - policy.loss).powi(2) - 0.8).abs() < 1e-12, "{policy:?}");
        let cut = Fault::RegionCut { site: Site::EuWest1 };
        assert_eq!(super::policy(&[cut.clone(), loss], DELAY).loss, 1.0, "whatever comes after");
        assert!(is_cut_off(std::slice::from_ref(&cut), Site::EuWest1));
        assert!(!is_cut_off(&[cut], Site::UsEast1));
    }

    #[test]
    fn a_fault_takes_the_place_of_one_of_its_kind_and_site() {
        let slow = |ms| Fault::Slow { rtt: Duration::from_millis(ms) };
        assert!(slow(250).replaces(&slow(300)));
        assert!(!slow(250).replaces(&Fault::BlackHole));
        let cut = |site| Fault::QueueCut { site };
        assert!(cut(Site::UsEast1).replaces(&cut(Site::UsEast1)));
        assert!(!cut(Site::UsEast1).replaces(&cut(Site::EuWest1)));
    }

    #[test]
    fn numbers_out_of_range_are_refused() {
        let wrong = [
            Fault::Slow { rtt: Duration::from_secs(21) },
            Fault::Loss { percent: 0 },
            Fault::Loss { percent: 100 },
            Fault::Throttled { service: None, one_in: 0 },
        ];
        assert!(wrong.iter().all(|fault| fault.check().is_err()));
        assert!(Fault::Loss { percent: 99 }.check().is_ok());
    }

    #[test]
    fn one_tunnel_or_both_are_down() {
        let up = |tunnel| tunnels_up(&[Fault::TunnelDown { tunnel }]);
        assert_eq!(
            [up(Tunnel::First), up(Tunnel::Second), up(Tunnel::Both)],
            [[false, true], [true, false], [false; 2]]
        );
        let table = tunnel_table([false, true], "2026-11-22T07:00:00Z");
        assert_eq!(table[0]["tunnels"][0]["status"], "DOWN");
        assert_eq!(table[0]["tunnels"][1]["status"], "UP");
    }
}
