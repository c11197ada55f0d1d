//! Which outcomes are news, and go to the journal at once. Pure.
//!
//! News is a loss, a round-trip time over the lowest threshold of any rule for the probe, and what follows until ten good
//! ones in a row. A `local` loss says nothing of the link: alone it is no news, nor is it good. A tunnel that has changed
//! since it was last observed is news, too.

use std::collections::HashMap;

use crosswatch_shared::observation::{Lost, Name, Outcome, Tunnel};

/// So many good ones in a row end the news of a probe.
pub const GOOD: u32 = 10;

/// The state of each probe.
#[derive(Debug)]
pub struct News {
    probes: Vec<Probe>,
    /// By link and VPN connection, what its tunnels last were.
    tunnels: HashMap<(Name, Name), Vec<Kept>>,
}

/// What of a tunnel makes news: outside address, up, routes.
type Kept = (String, bool, u32);

#[derive(Debug)]
struct Probe {
    over_ms: Option<f64>,
    /// How many more good ones it takes.
    wanting: u32,
}

impl News {
    /// For each probe the round-trip time in milliseconds over which a reply is news; `None`: no reply is.
    #[must_use]
    pub fn new(over_ms: impl IntoIterator<Item = Option<f64>>) -> Self {
        let probes = over_ms.into_iter().map(|over_ms| Probe { over_ms, wanting: 0 });
        Self { probes: probes.collect(), tunnels: HashMap::new() }
    }

    /// Whether this outcome of this probe is news. To be asked once for each, in the order of sending.
    pub fn judge(&mut self, probe: usize, outcome: &Outcome) -> bool {
        let Some(probe) = self.probes.get_mut(probe) else {
            return false;
        };
        let follows = probe.wanting > 0;
        match outcome {
            Outcome::Lost(Lost::Local) => return follows,
            Outcome::Reply { rtt_ms } if probe.over_ms.is_none_or(|over| *rtt_ms <= over) => {
                probe.wanting = probe.wanting.saturating_sub(1);
                return follows;
            }
            Outcome::Reply { .. } | Outcome::Lost(_) => probe.wanting = GOOD,
        }
        true
    }

    /// Whether these tunnels of a VPN connection are news: another set of them than before, one up or down that was not, or
    /// with other routes. What is seen for the first time is none. To be asked once for each observation, in their order.
    pub fn tunnels(&mut self, link: &Name, vpn: &Name, tunnels: &[Tunnel]) -> bool {
        let of = |tunnel: &Tunnel| (tunnel.outside_ip.clone(), tunnel.up, tunnel.accepted_routes);
        let mut now: Vec<Kept> = tunnels.iter().map(of).collect();
        now.sort_unstable();
        let before = self.tunnels.insert((link.clone(), vpn.clone()), now);
        before.is_some_and(|before| self.tunnels.get(&(link.clone(), vpn.clone())) != Some(&before))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOST: Outcome = Outcome::Lost(Lost::Timeout);
    const LOCAL: Outcome = Outcome::Lost(Lost::Local);

    fn reply(rtt_ms: f64) -> Outcome {
        Outcome::Reply { rtt_ms }
    }

    fn judged(news: &mut News, outcomes: &[Outcome]) -> Vec<bool> {
        outcomes.iter().map(|outcome| news.judge(0, outcome)).collect()
    }

    #[test]
    fn a_loss_is_news_and_so_are_the_ten_good_ones_after_it() {
        let mut news = News::new([None, None]);
        assert_eq!(judged(&mut news, &[reply(1.0), LOST]), [false, true]);
        assert_eq!(judged(&mut news, &[reply(1.0); 9]), [true; 9]);
        assert!(!news.judge(1, &reply(1.0)), "each probe has its own");
        assert_eq!(judged(&mut news, &[LOST]), [true]);
        assert_eq!(judged(&mut news, &[reply(1.0); 10]), [true; 10], "ten in a row");
        assert_eq!(judged(&mut news, &[reply(1.0)]), [false]);
    }

    #[test]
    fn a_round_trip_over_the_threshold_is_news_and_on_it_is_not() {
        let mut news = News::new([Some(200.0)]);
        assert_eq!(judged(&mut news, &[reply(200.0), reply(200.1), reply(1.0)]), [false, true, true]);
    }

    #[test]
    fn a_local_loss_is_no_news_and_not_good_either() {
        let mut news = News::new([None]);
        assert_eq!(judged(&mut news, &[LOCAL, LOST, LOCAL]), [false, true, true]);
        assert_eq!(judged(&mut news, &[reply(1.0); 10]), [true; 10]);
        assert_eq!(judged(&mut news, &[LOCAL]), [false]);
    }

    #[test]
    fn a_tunnel_that_changed_is_news_and_the_order_of_the_answer_is_not() {
        let mut news = News::new([]);
        let tunnel = |ip: &str, up, routes| Tunnel {
            outside_ip: ip.to_owned(),
            up,
            accepted_routes: routes,
            since: None,
            message: String::new(),
        };
        let mut judge = |tunnels: &[Tunnel]| news.tunnels(&"l".into(), &"vpn-1".into(), tunnels);
        let (a, b) = (tunnel("1", true, 2), tunnel("2", true, 2));
        assert!(!judge(&[a.clone(), b.clone()]), "the first time");
        assert!(!judge(&[b.clone(), a.clone()]));
        assert!(judge(&[tunnel("1", false, 2), b.clone()]), "down");
        assert!(judge(&[tunnel("1", false, 0), b.clone()]), "routes");
        assert!(judge(std::slice::from_ref(&b)), "one less");
        assert!(!judge(&[Tunnel { message: "IPSEC IS UP".to_owned(), ..b }]));
        assert!(!news.tunnels(&"other".into(), &"vpn-1".into(), &[a]), "each link has its own");
    }
}
