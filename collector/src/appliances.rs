//! Asks the strongSwan daemons of a site for their tunnels, each in a task of its own, so that one that hangs holds up
//! nothing else, and at once when a probe of the link begins to fail.

use std::time::{Duration, Instant};

use crosswatch_host::clock;
use crosswatch_shared::config::topology::{Appliance, Topology};
use crosswatch_shared::observation::{Name, Tunnel};
use crosswatch_strongswan::{Failure, PATIENCE, tunnels};
use tokio::task::JoinSet;

use crate::poll::Polled;
use crate::resolve::until;
use crate::tunnels::Seen;

/// The shortest time between two askings of one daemon.
const HASTY: Duration = Duration::from_secs(1);

/// A site's appliances.
#[derive(Debug)]
pub(crate) struct Appliances {
    watches: Vec<Watch>,
    running: JoinSet<Answer>,
}

#[derive(Debug)]
struct Watch {
    link: Name,
    appliance: Appliance,
    due: Instant,
    asked: Option<Instant>,
    running: bool,
    /// What is wrong with it at present.
    fault: Option<String>,
}

/// What came of asking the daemon at this place.
#[derive(Debug)]
struct Answer {
    place: usize,
    tunnels: Result<Vec<Tunnel>, Failure>,
    took: Duration,
}

impl Appliances {
    /// Those of this site; all are due now.
    pub(crate) fn new(topology: &Topology, site: &str, now: Instant) -> Self {
        let watch = |(link, appliance): (&crosswatch_shared::config::topology::Link, &Appliance)| Watch {
            link: link.name.clone(),
            appliance: appliance.clone(),
            due: now,
            asked: None,
            running: false,
            fault: None,
        };
        let own = topology.appliances().filter(|(_, appliance)| *appliance.site == *site);
        Self { watches: own.map(watch).collect(), running: JoinSet::new() }
    }

    /// A probe of this link begins to fail.
    pub(crate) fn hasten(&mut self, link: &Name, now: Instant) {
        for watch in self.watches.iter_mut().filter(|watch| watch.link == *link) {
            let soonest = watch.asked.map_or(now, |asked| now.max(asked + HASTY));
            watch.due = watch.due.min(soonest);
        }
    }

    /// Waits for the next answer, and asks the daemons that are due; for ever where there is none.
    pub(crate) async fn next(&mut self) -> Polled {
        loop {
            #[allow(clippy::disallowed_methods, reason = "polls follow the steady clock")]
            let now = Instant::now();
            for place in self.begin(now) {
                let Some(Watch { appliance, .. }) = self.watches.get(place) else { continue };
                self.running.spawn(ask(place, appliance.clone()));
            }
            let due = self.watches.iter().filter(|watch| !watch.running).map(|watch| watch.due).min();
            tokio::select! {
                Some(ended) = self.running.join_next() => match ended {
                    Ok(answer) => return self.end(answer),
                    Err(error) => {
                        tracing::error!(%error, "asking a strongSwan ended by a defect");
                        let fault = Some(format!("a defect: {error}"));
                        return Polled { seen: Vec::new(), fault, took: Duration::ZERO };
                    }
                },
                () = until(due) => {}
            }
        }
    }

    /// Which are to be asked now.
    fn begin(&mut self, now: Instant) -> Vec<usize> {
        let mut begun = Vec::new();
        for (place, watch) in self.watches.iter_mut().enumerate() {
            if watch.due <= now && !watch.running {
                // What was missed is not made up for.
                watch.due = now + watch.appliance.every;
                watch.asked = Some(now);
                watch.running = true;
                begun.push(place);
            }
        }
        begun
    }

    fn end(&mut self, Answer { place, tunnels, took }: Answer) -> Polled {
        let mut seen = Vec::new();
        if let Some(watch) = self.watches.get_mut(place) {
            watch.running = false;
            let name = &watch.appliance.name;
            watch.fault = match tunnels {
                Ok(tunnels) if tunnels.is_empty() => {
                    Some(format!("{name}: no connection has a child of this name"))
                }
                Ok(tunnels) => {
                    seen.push(Seen { link: watch.link.clone(), vpn: name.clone(), tunnels });
                    None
                }
                Err(failure) => {
                    tracing::warn!(%name, error = %failure, "a strongSwan could not be asked for its tunnels");
                    Some(format!("{name}: {}", failure.kind))
                }
            };
        }
        let faults: Vec<&str> = self.watches.iter().filter_map(|watch| watch.fault.as_deref()).collect();
        let fault = (!faults.is_empty()).then(|| faults.join("; "));
        Polled { seen, fault, took }
    }
}

async fn ask(place: usize, appliance: Appliance) -> Answer {
    #[allow(clippy::disallowed_methods, reason = "how long the answer takes")]
    let begun = Instant::now();
    let tunnels = tunnels(&appliance.socket, &appliance.child, clock::now(), PATIENCE).await;
    Answer { place, tunnels, took: begun.elapsed() }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crosswatch_shared::config::topology::{Link, Queue, QueueKind};

    fn topology(sockets: &[(&str, &str)]) -> Topology {
        let link = |&(link, socket): &(&str, &str)| Link {
            name: link.into(),
            between: vec!["a".into()],
            vpns: Vec::new(),
            appliances: vec![Appliance {
                site: "a".into(),
                name: format!("strongswan:{link}@a").into(),
                socket: socket.into(),
                child: "net".into(),
                every: Duration::from_secs(5),
                expect_up: 2,
            }],
            probes: Vec::new(),
        };
        Topology {
            sites: Vec::new(),
            links: sockets.iter().map(link).collect(),
            queue: Queue {
                path: "data".into(),
                kind: QueueKind::Embedded,
                keep: Duration::from_secs(1),
                max_bytes: 1,
            },
            listen: None,
        }
    }

    #[test]
    fn a_loss_hastens_its_own_link_and_a_daemon_is_asked_once_at_a_time() {
        let (start, second) = (Instant::now(), Duration::from_secs(1));
        let mut appliances = Appliances::new(&topology(&[("l", "/l"), ("m", "/m")]), "a", start);
        assert_eq!(appliances.begin(start), [0, 1]);
        appliances.hasten(&"l".into(), start);
        assert_eq!(appliances.begin(start + 2 * second), [0; 0], "no answer yet");
        for place in [0, 1] {
            appliances.end(Answer { place, tunnels: Ok(Vec::new()), took: second });
        }
        assert_eq!(appliances.begin(start + second / 2), [0; 0], "not twice within a second");
        assert_eq!(appliances.begin(start + second), [0]);
        assert_eq!(appliances.begin(start + 5 * second), [1]);
    }

    #[tokio::test]
    async fn what_cannot_be_asked_is_told_by_its_name_until_it_can() {
        let mut appliances =
            Appliances::new(&topology(&[("l", "/nowhere/charon.vici")]), "a", Instant::now());
        let polled = appliances.next().await;
        assert_eq!(polled.fault.as_deref(), Some("strongswan:l@a: NotRunning"));
        let nothing = appliances.end(Answer { place: 0, tunnels: Ok(Vec::new()), took: Duration::ZERO });
        assert_eq!(
            nothing.fault.as_deref(),
            Some("strongswan:l@a: no connection has a child of this name"),
            "for empty tunnels are no datapoint"
        );
        let tunnel = Tunnel {
            outside_ip: "192.0.2.1".to_owned(),
            up: true,
            accepted_routes: 1,
            since: None,
            message: String::new(),
        };
        let up = appliances.end(Answer { place: 0, tunnels: Ok(vec![tunnel]), took: Duration::ZERO });
        assert_eq!((up.fault, &*up.seen[0].vpn), (None, "strongswan:l@a"));
    }
}
