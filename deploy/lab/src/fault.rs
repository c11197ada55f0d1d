//! What can be broken, and what several faults at once mean for each part.

use std::ops::RangeInclusive;
use std::time::Duration;

use crosswatch_ipsec as ipsec;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::Site;
use crate::error::{Error, Result};
use crate::wan::{LONGEST_DELAY, Policy};

/// Something broken on purpose, until `heal`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Fault {
    /// What the regions send each other vanishes. Tunnels stay up: what they ask each other is answered.
    BlackHole,
    /// What one region sends the other vanishes; the other way goes on, and tunnels stay up.
    OneWay {
        /// The region that sends in vain.
        from: Site,
    },
    /// TCP that a region is sent over the link vanishes, as where a security group or a firewall forgets it; all else passes.
    Filtered {
        /// The region whose TCP does not come in.
        to: Site,
    },
    /// The host of a region refuses TCP connections that come over the link, as where a service has died.
    Refused {
        /// The region of the host.
        by: Site,
    },
    /// Packets of the WAN that are larger vanish, and nobody is told. A tunnel's packet is up to 77 bytes larger than what is
    /// in it.
    Mtu {
        /// In bytes, IP header included: 576 to 1500.
        largest: u16,
    },
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
        /// Of this service only, as the gate names it, one of [`SERVICES`]; otherwise of each.
        service: Option<String>,
        /// 1 means every request.
        one_in: u32,
    },
    /// All packets of a tunnel vanish, and both its ends find that out. In a lab without tunnels EC2 only tells so, and the
    /// packets go on.
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

/// From what any network takes at least (RFC 791), so that the ends of a tunnel go on hearing each other, to the WAN's own.
const SMALLER_MTUS: RangeInclusive<u16> = 576..=1500;

/// The services that may be throttled, as the gate names them.
pub const SERVICES: [&str; 5] = ["sqs", "cloudwatch", "sns", "ec2", "sts"];

/// The VPN connection of the lab's link, polled from us-east-1.
pub const VPN: &str = "vpn-0a1b2c3d4e5f60718";

impl Fault {
    /// As the command line writes it.
    #[must_use]
    pub fn name(&self) -> &'static str {
        match self {
            Self::BlackHole => "black-hole",
            Self::OneWay { .. } => "one-way",
            Self::Filtered { .. } => "filtered",
            Self::Refused { .. } => "refused",
            Self::Mtu { .. } => "mtu",
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
            Self::OneWay { from } => format!("{name} --from {from}"),
            Self::Filtered { to } => format!("{name} --to {to}"),
            Self::Refused { by } => format!("{name} --by {by}"),
            Self::Mtu { largest } => format!("{name} --bytes {largest}"),
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
            Self::Mtu { largest } if !SMALLER_MTUS.contains(largest) => Err(Error::Range {
                what: "the MTU",
                range: format!("{} to {} bytes", SMALLER_MTUS.start(), SMALLER_MTUS.end()),
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
    let mut policy = Policy { delay, ..Policy::default() };
    for fault in faults {
        match fault {
            Fault::RegionCut { .. } => policy.loss = 1.0,
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

/// What befalls packets that come to a region from the other, as nft says it.
pub(crate) fn of_link(faults: &[Fault], to: Site) -> Vec<&'static str> {
    let rules = faults.iter().filter_map(|fault| match fault {
        Fault::BlackHole => Some("drop"),
        Fault::OneWay { from } if from.other() == to => Some("drop"),
        Fault::Filtered { to: filtered } if *filtered == to => Some("meta l4proto tcp drop"),
        Fault::Refused { by } if *by == to => Some("meta l4proto tcp reject with tcp reset"),
        _ => None,
    });
    rules.collect()
}

/// What befalls the packets of each tunnel.
pub(crate) fn of_tunnels(faults: &[Fault]) -> [ipsec::Fault; 2] {
    let smaller = faults.iter().find_map(|fault| match fault {
        Fault::Mtu { largest } => Some(ipsec::Fault::Mtu { largest: *largest }),
        _ => None,
    });
    tunnels_up(faults).map(|up| if up { smaller.unwrap_or_default() } else { ipsec::Fault::Cut })
}

/// Which tunnels are up before long, whatever chance does.
pub(crate) fn tunnels_to_be_up(faults: &[Fault]) -> [bool; 2] {
    let doubtful =
        |fault: &Fault| matches!(fault, Fault::RegionCut { .. } | Fault::Loss { .. } | Fault::Slow { .. });
    if faults.iter().any(doubtful) { [false; 2] } else { tunnels_up(faults) }
}

/// The faults that the gate is to have. Each service counts for itself, as AWS does: what is asked again is not refused again because
/// of what others ask.
pub(crate) fn throttles(faults: &[Fault]) -> Vec<(String, Value)> {
    let throttled = faults.iter().find_map(|fault| match fault {
        Fault::Throttled { service, one_in } => Some((service.as_deref(), one_in)),
        _ => None,
    });
    let Some((only, one_in)) = throttled else { return Vec::new() };
    let services = SERVICES.iter().filter(|service| only.is_none_or(|only| only == **service));
    let throttle = |service: &&str| {
        let id = format!("lab-throttled-{service}");
        let fault = json!({
            "id": id, "match": {"service": service}, "effect": {"throttle": true}, "one_in": one_in,
        });
        (id, fault)
    };
    services.map(throttle).collect()
}

/// Which tunnels are not broken themselves.
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

/// The gate's table of VPN connections, which is AWS's end of the tunnels: whether each is up, and since when, as AWS writes
/// times.
pub(crate) fn tunnel_table(tunnels: [(bool, &str); 2]) -> Value {
    let tunnels = tunnels.into_iter().zip(Site::UsEast1.outside()).map(|((up, since), outside)| {
        json!({
            "outside_ip": outside,
            "status": if up { "UP" } else { "DOWN" },
            "last_status_change": since,
            "message": if up { "" } else { "IPSEC IS DOWN" },
            "accepted_routes": if up { 4 } else { 0 },
        })
    });
    let tunnels: Vec<_> = tunnels.collect();
    json!([{
        "region": Site::UsEast1.name(),
        "vpn": VPN,
        "tags": {"Name": "use1-euw1"},
        "state": "available",
        "gateway": "vgw-0a1b2c3d4e5f60718",
        "tunnels": tunnels,
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
            Fault::Mtu { largest: 575 },
            Fault::Mtu { largest: 1501 },
        ];
        assert!(wrong.iter().all(|fault| fault.check().is_err()));
        assert!(Fault::Loss { percent: 99 }.check().is_ok());
    }

    #[test]
    fn a_service_is_throttled_alone_or_each_for_itself() {
        let of = |service: Option<&str>| {
            throttles(&[Fault::Throttled { service: service.map(str::to_owned), one_in: 2 }])
        };
        assert_eq!(of(Some("sns")).len(), 1);
        let matched: Vec<Value> =
            of(None).into_iter().map(|(_, fault)| fault["match"]["service"].clone()).collect();
        assert_eq!(matched, SERVICES);
        assert!(throttles(&[Fault::BlackHole]).is_empty());
    }

    #[test]
    fn one_tunnel_or_both_are_down() {
        let up = |tunnel| tunnels_up(&[Fault::TunnelDown { tunnel }]);
        assert_eq!(
            [up(Tunnel::First), up(Tunnel::Second), up(Tunnel::Both)],
            [[false, true], [true, false], [false; 2]]
        );
        let table = tunnel_table([(false, "2026-11-22T07:00:00Z"), (true, "2026-11-22T06:00:00Z")]);
        assert_eq!(table[0]["tunnels"][0]["status"], "DOWN");
        assert_eq!(table[0]["tunnels"][0]["outside_ip"], "198.51.100.1");
        assert_eq!(table[0]["tunnels"][1]["status"], "UP");
    }

    #[test]
    fn what_swallows_traffic_leaves_tunnels_alone_and_what_cuts_a_tunnel_is_worse_than_a_smaller_mtu() {
        let one_way = [Fault::OneWay { from: Site::UsEast1 }];
        assert_eq!(Site::ALL.map(|site| of_link(&one_way, site)), [vec![], vec!["drop"]]);
        assert_eq!(Site::ALL.map(|site| of_link(&[Fault::BlackHole], site)), [["drop"], ["drop"]]);
        for swallowing in [&one_way, &[Fault::BlackHole]] {
            assert_eq!(of_tunnels(swallowing), [ipsec::Fault::None; 2]);
            assert_eq!(policy(swallowing, DELAY), Policy { delay: DELAY, ..Policy::default() });
            assert_eq!(tunnels_to_be_up(swallowing), [true; 2]);
        }
        let both = [Fault::Mtu { largest: 1300 }, Fault::TunnelDown { tunnel: Tunnel::First }];
        assert_eq!(of_tunnels(&both), [ipsec::Fault::Cut, ipsec::Fault::Mtu { largest: 1300 }]);
        assert_eq!(tunnels_to_be_up(&both), [false, true]);
        assert_eq!(tunnels_to_be_up(&[Fault::RegionCut { site: Site::EuWest1 }]), [false; 2]);
    }
}
