//! Which outcomes are news, and go to the journal at once. Pure.
//!
//! News is a loss, a round-trip time over the lowest threshold of any rule for the probe, and what follows until ten good
//! ones in a row. A `local` loss says nothing of the link: alone it is no news, nor is it good.

use crosswatch_shared::observation::{Lost, Outcome};

/// So many good ones in a row end the news of a probe.
pub const GOOD: u32 = 10;

/// The state of each probe.
#[derive(Debug)]
pub struct News {
    probes: Vec<Probe>,
}

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
        Self { probes: probes.collect() }
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
}
