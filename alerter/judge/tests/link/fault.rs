//! What goes wrong with a link, and what it may be called then.

use std::fmt;

use crosswatch_judge::verdict::Kind;

use super::{Link, Probe, SECOND, clock};

/// So long AWS may take to call a dead peer down.
pub(crate) const DEAD: i64 = 40 * SECOND;

#[derive(Clone, Debug, PartialEq)]
pub(crate) enum What {
    BlackHole,
    TunnelsDown,
    /// What this site sends is lost.
    OneWay(usize),
    /// Of all that this site sends, what goes to this host.
    Target(usize, u8),
    Protocol(&'static str),
    Chance(f64),
    Slow,
    OneTunnel,
    Large,
    Blip {
        packets: i64,
        probes: Vec<bool>,
    },
}

#[derive(Clone)]
pub(crate) struct Fault {
    pub(crate) what: What,
    pub(crate) from: i64,
    pub(crate) to: i64,
    /// How long it takes until each tunnel is called down, and how long before the end up again.
    called: [i64; 2],
    early: i64,
}

impl fmt::Debug for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?} from {} to {}", self.what, clock(self.from), clock(self.to))
    }
}

impl Fault {
    pub(crate) fn new(rng: &mut fastrand::Rng, what: What, from: i64, to: i64) -> Self {
        let called = [(); 2].map(|()| rng.i64(0..DEAD));
        Self { what, from, to, called, early: rng.i64(0..20 * SECOND) }
    }

    pub(super) fn is_on(&self, at: i64) -> bool {
        (self.from..self.to).contains(&at)
    }

    pub(super) fn takes_down(&self, tunnel: usize, at: i64) -> bool {
        match self.what {
            What::TunnelsDown => (self.from + self.called[tunnel]..self.to - self.early).contains(&at),
            What::OneTunnel => tunnel == 0 && self.is_on(at),
            _ => false,
        }
    }
}

impl What {
    /// Any but a blip.
    pub(crate) fn draw(rng: &mut fastrand::Rng, link: &Link) -> Self {
        match rng.u8(0..10) {
            0..=3 => Self::total(rng, link),
            4..=6 => Self::part(rng, link).unwrap_or(Self::BlackHole),
            7 => Self::Chance(rng.f64() * 0.5 + 0.1),
            8 if link.probes.iter().all(|probe| probe.timeout > 600_000) => Self::Slow,
            _ if !link.vpns.is_empty() => Self::OneTunnel,
            _ => Self::BlackHole,
        }
    }

    pub(crate) fn total(rng: &mut fastrand::Rng, link: &Link) -> Self {
        match rng.u8(0..3) {
            0 => Self::OneWay(rng.usize(0..2)),
            1 if !link.vpns.is_empty() => Self::TunnelsDown,
            _ => Self::BlackHole,
        }
    }

    /// Something that is lost in part, where the link has a name for it.
    pub(crate) fn part(rng: &mut fastrand::Rng, link: &Link) -> Option<Self> {
        let mut all = vec![Self::Large];
        for probe in link.small() {
            all.push(Self::Target(probe.site, probe.host));
            all.push(Self::Protocol(probe.protocol));
        }
        all.retain(|what| {
            let hit = link.probes.iter().filter(|probe| what.hits(probe)).count();
            let small = link.small().filter(|probe| what.hits(probe)).count();
            hit > 0 && small < link.small().count() && !what.names(link).is_empty()
        });
        rng.shuffle(&mut all);
        all.pop()
    }

    pub(super) fn hits(&self, probe: &Probe) -> bool {
        match self {
            Self::BlackHole | Self::TunnelsDown | Self::OneWay(_) => true,
            Self::Target(site, host) => probe.site == *site && probe.host == *host,
            Self::Protocol(protocol) => probe.protocol == *protocol,
            Self::Large => probe.large,
            _ => false,
        }
    }

    pub(crate) fn is_total(&self) -> bool {
        matches!(self, Self::BlackHole | Self::TunnelsDown | Self::OneWay(_))
    }

    /// Whether some probe loses more than a packet or two.
    pub(crate) fn loses(&self) -> bool {
        self.is_total()
            || matches!(self, Self::Target(..) | Self::Protocol(_) | Self::Large | Self::Chance(_))
    }

    pub(crate) fn is_surely_told(&self) -> bool {
        !matches!(self, Self::Chance(_))
    }

    /// What it may be called while it lasts, once enough was seen.
    pub(crate) fn names(&self, link: &Link) -> Vec<Kind> {
        let tunnels = !link.vpns.is_empty();
        match self {
            Self::BlackHole | Self::OneWay(_) if tunnels => vec![Kind::BlackHole],
            Self::BlackHole | Self::OneWay(_) => vec![Kind::LinkLost],
            Self::TunnelsDown => vec![Kind::TunnelsDown],
            Self::Target(..) | Self::Protocol(_) => {
                let lost: Vec<&Probe> = link.small().filter(|probe| self.hits(probe)).collect();
                let rest: Vec<&Probe> = link.small().filter(|probe| !self.hits(probe)).collect();
                let Some(first) = lost.first() else { return Vec::new() };
                let one = |what: &dyn Fn(&Probe) -> bool| {
                    lost.iter().all(|of| what(of)) && !rest.iter().any(|of| what(of))
                };
                let target = one(&|of| of.host == first.host && of.site == first.site);
                let others = rest.iter().any(|of| of.site == first.site);
                match () {
                    () if target && others => vec![Kind::TargetDown],
                    () if one(&|of| of.protocol == first.protocol) || one(&|of| of.site == first.site) => {
                        vec![Kind::Filtered]
                    }
                    () => Vec::new(),
                }
            }
            // That as many small ones are not lost in a row may be chance, too.
            Self::Chance(_) if link.probes.iter().any(|probe| probe.large) => vec![Kind::Lossy, Kind::TooBig],
            Self::Chance(_) => vec![Kind::Lossy],
            Self::Slow => vec![Kind::Slow],
            Self::OneTunnel => vec![Kind::RedundancyLost],
            Self::Large => vec![Kind::TooBig],
            Self::Blip { .. } => Vec::new(),
        }
    }

    /// What it may be called at its end.
    pub(crate) fn ends(&self, link: &Link) -> Vec<Kind> {
        match self {
            // Told by what did arrive over there, and was lost on its way back.
            Self::OneWay(site) if link.small().any(|of| of.site != *site && of.protocol == "udp") => {
                vec![Kind::OneWay]
            }
            Self::OneTunnel => vec![Kind::TunnelReplaced],
            _ => self.names(link),
        }
    }
}
