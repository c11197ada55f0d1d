//! Evidence in one line, most important first.

use super::{Control, Evidence, Hop, Neighbour, Part, Path, Piece, RouteKind, Said, Sweep, short};

impl Evidence {
    /// One line in plain words, most important first; of [`super::TEXT`] characters at most.
    ///
    /// Such as: `stops after hop 2 (10.0.0.1); loopback and gateway answer; route via 10.0.0.1 dev eth0; 1436 bytes pass,
    /// 1437 do not`.
    #[must_use]
    pub fn summary(&self) -> String {
        let mut said = Vec::new();
        if lost(&self.loopback) {
            said.push("this machine does not answer itself".to_owned());
        }
        let no_way = self.no_way();
        let way_is_open = self.path.seen().is_some_and(|path| path.reached);
        // What is cut matters most where the way itself is open.
        let sweep = self.sweep.seen().map(Sweep::words);
        let cut = self.sweep.seen().is_some_and(Sweep::is_cut);
        if cut && way_is_open {
            said.extend(sweep.clone());
        }
        match (&no_way, &self.path) {
            (Some(no_way), _) => said.push(no_way.clone()),
            (None, Part::Seen(path)) => said.push(path.words(self.neighbour.seen())),
            (None, Part::Absent { absent }) => said.push(format!("path: {absent}")),
        }
        said.extend(self.controls());
        if no_way.is_none() {
            said.extend(self.way());
        }
        if !(cut && way_is_open) {
            said.extend(sweep);
        }
        if !self.cut_off.is_empty() {
            let pieces: Vec<_> = self.cut_off.iter().map(|piece| piece.word()).collect();
            said.push(format!("cut off for time: {}", pieces.join(", ")));
        }
        short(&said.join("; "))
    }

    fn no_way(&self) -> Option<String> {
        let target = self.target;
        Some(match self.route.seen()?.kind {
            RouteKind::None => format!("this machine has no route to {target}"),
            RouteKind::Unreachable => format!("this machine's route to {target} is 'unreachable'"),
            RouteKind::Blackhole => format!("this machine's route to {target} is 'blackhole'"),
            RouteKind::Prohibit => format!("this machine's route to {target} is 'prohibit'"),
            RouteKind::Unicast | RouteKind::Local | RouteKind::Other => return None,
        })
    }

    fn way(&self) -> Option<String> {
        let route = self.route.seen()?;
        let via = match (route.gateway, route.kind) {
            (Some(gateway), _) => format!("route via {gateway}"),
            (None, RouteKind::Local) => "the target is this machine".to_owned(),
            (None, _) => "the target is on the link".to_owned(),
        };
        Some(match &route.interface {
            Some(interface) => format!("{via} dev {interface}"),
            None => via,
        })
    }

    fn controls(&self) -> Option<String> {
        let missing = self.neighbour.seen().filter(|neighbour| neighbour.state.is_missing());
        Some(match (self.loopback.seen(), self.gateway.seen()) {
            (Some(Control { rtt_ms: Some(_), .. }), Some(Control { rtt_ms: Some(_), .. })) => {
                "loopback and gateway answer".to_owned()
            }
            (_, Some(Control { rtt_ms: Some(_), .. })) => "the gateway answers".to_owned(),
            (_, Some(Control { address, rtt_ms: None })) => match (missing, self.neighbour.seen()) {
                (Some(_), _) => format!("the gateway {address} is not on the link"),
                (None, Some(Neighbour { link_address: Some(_), .. })) => {
                    format!("the gateway {address} does not answer ping, its link address is known")
                }
                (None, _) => format!("the gateway {address} does not answer ping"),
            },
            (_, None) => format!("nothing at {} on the link", missing?.address),
        })
    }
}

fn lost(control: &Part<Control>) -> bool {
    control.seen().is_some_and(|control| control.rtt_ms.is_none())
}

impl Path {
    fn words(&self, neighbour: Option<&Neighbour>) -> String {
        let Some((hop, address)) = self.hops.iter().rev().find_map(|hop| Some((hop, hop.address?))) else {
            return "no hop answers".to_owned();
        };
        let Hop { ttl, said, .. } = hop;
        match (ttl, said) {
            (0, _) => match neighbour.filter(|neighbour| neighbour.state.is_missing()) {
                Some(next) => format!("stops at this machine: the next hop {} does not answer", next.address),
                None => format!("stops at this machine ({address}): {}", said.words()),
            },
            (_, Said::Reply) => format!("now reaches {address} at hop {ttl}"),
            _ if self.reached => format!("reaches {address} at hop {ttl}, which says {}", said.words()),
            _ if said.is_final() => {
                let before =
                    self.hops.iter().map(|hop| hop.ttl).filter(|before| before < ttl).max().unwrap_or(0);
                let least = before.saturating_add(1);
                let at = if least < *ttl { format!("{least} to {ttl}") } else { ttl.to_string() };
                format!("stops at hop {at} ({address}): {}", said.words())
            }
            _ => format!("stops after hop {ttl} ({address})"),
        }
    }
}

impl Sweep {
    fn words(&self) -> String {
        let Self { least: _, most, passed, failed, told_mtu, told_by } = *self;
        let Some(failed) = failed else {
            return if passed < most {
                format!("{passed} bytes pass, more is unknown")
            } else {
                format!("all sizes up to {most} bytes pass")
            };
        };
        let found = if failed.checked_sub(1) == Some(passed) {
            format!("{passed} bytes pass, {failed} do not")
        } else {
            format!("{passed} bytes pass, {failed} do not, between is unknown")
        };
        match (told_mtu, told_by) {
            (Some(mtu), Some(router)) => format!("{found} ({router} says {mtu})"),
            (Some(mtu), None) => format!("{found} (told: {mtu})"),
            (None, _) => found,
        }
    }
}

impl Piece {
    const fn word(self) -> &'static str {
        match self {
            Self::Route => "route",
            Self::Neighbour => "neighbour",
            Self::Path => "path",
            Self::Sweep => "sweep",
            Self::Loopback => "loopback",
            Self::Gateway => "gateway",
            Self::Other => "another part",
        }
    }
}
