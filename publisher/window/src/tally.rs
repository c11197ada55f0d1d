//! What one period of one subject has seen so far, and the values its metrics are made of.

use crosswatch_shared::observation::{Body, Lost, Name, Observation, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;

use crate::codec::{Bytes, Damaged, put_f64, put_i64, put_text, put_varint};
use crate::distribution::Distribution;
use crate::metric::{Metric, MetricSet};
use crate::values::Values;

/// What one period of one subject has seen so far.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Tally {
    Probe {
        success: Rate,
        latency: Distribution,
        /// Kept whole, since only all of a period's replies have an order: empty unless jitter is published.
        replies: Vec<Reply>,
    },
    Tunnels {
        up: Distribution,
        /// By outside address, in the order first seen: empty unless the state of each is published.
        each: Vec<(Name, Rate)>,
    },
    Collection {
        success: Rate,
        took: Distribution,
    },
    Site {
        delay: Distribution,
    },
}

/// How often a thing was good and how often bad: the values 1 and 0.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Rate {
    good: u64,
    bad: u64,
}

/// A reply, in the order of sending.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) struct Reply {
    at: i64,
    seq: u64,
    rtt_ms: f64,
}

/// One metric of a tally; the third field tells the tunnel where the metric is of one.
pub(crate) type Made = (Metric, Values, Option<Name>);

impl Tally {
    /// An empty one for what such an observation is about, where it measures something.
    pub(crate) fn of(body: &Body) -> Option<Self> {
        Some(match body {
            Body::Probe { .. } => Self::Probe {
                success: Rate::default(),
                latency: Distribution::default(),
                replies: Vec::new(),
            },
            Body::Tunnels { .. } => Self::Tunnels { up: Distribution::default(), each: Vec::new() },
            Body::Evidence { .. } | Body::Drill { .. } => return None,
            Body::Collection { .. } => {
                Self::Collection { success: Rate::default(), took: Distribution::default() }
            }
        })
    }

    /// Whether the observation counts for any metric of the set.
    pub(crate) fn counts(body: &Body, published: MetricSet) -> bool {
        let any = |metrics: &[Metric]| metrics.iter().any(|&metric| published.has(metric));
        match body {
            Body::Probe { outcome, .. } => match outcome {
                Outcome::Reply { .. } => any(&[Metric::PingSuccess, Metric::PingLatency, Metric::Jitter]),
                Outcome::Lost(Lost::Local) => false,
                Outcome::Lost(_) => published.has(Metric::PingSuccess),
            },
            Body::Tunnels { tunnels, .. } => {
                !tunnels.is_empty() && any(&[Metric::TunnelsUp, Metric::TunnelState])
            }
            Body::Evidence { .. } | Body::Drill { .. } => false,
            Body::Collection { .. } => any(&[Metric::CollectionSuccess, Metric::CollectionLatency]),
        }
    }

    /// Adds an observation of its own kind; one of another kind adds nothing.
    pub(crate) fn add(&mut self, observation: &Observation, published: MetricSet) {
        match (self, &observation.body) {
            (Self::Probe { success, latency, replies }, Body::Probe { outcome, detail, .. }) => {
                let one = match *outcome {
                    Outcome::Reply { rtt_ms } => [Some(rtt_ms)],
                    Outcome::Lost(Lost::Local) => return,
                    Outcome::Lost(_) => [None],
                };
                // Each packet of a burst counts.
                let burst = detail.as_deref().map_or(&[][..], |detail| &detail.burst);
                for (place, packet) in (0..).zip(if burst.is_empty() { &one } else { burst }) {
                    success.add(packet.is_some());
                    let Some(rtt_ms) = *packet else { continue };
                    if published.has(Metric::PingLatency) {
                        latency.add(rtt_ms);
                    }
                    if published.has(Metric::Jitter) {
                        // A microsecond apart, so that they have an order.
                        let at = observation.at.as_micros().saturating_add(place);
                        replies.push(Reply { at, seq: observation.seq, rtt_ms });
                    }
                }
            }
            (Self::Tunnels { up, each }, Body::Tunnels { tunnels, .. }) if !tunnels.is_empty() => {
                up.add(tunnels.iter().filter(|tunnel| tunnel.up).count() as f64);
                if published.has(Metric::TunnelState) {
                    for tunnel in tunnels {
                        of_tunnel(each, tunnel).add(tunnel.up);
                    }
                }
            }
            (Self::Collection { success, took }, Body::Collection { ok, took_ms, .. }) => {
                success.add(*ok);
                took.add(*took_ms);
            }
            _ => {}
        }
    }

    /// The values of every metric of the set for which something was counted.
    pub(crate) fn metrics(self, published: MetricSet) -> Vec<Made> {
        let made = match self {
            Self::Probe { success, latency, replies } => vec![
                (Metric::PingSuccess, success.values(), None),
                (Metric::PingLatency, latency.values(), None),
                (Metric::Jitter, jitter(replies), None),
            ],
            Self::Tunnels { up, each } => {
                let states = each
                    .into_iter()
                    .map(|(tunnel, state)| (Metric::TunnelState, state.values(), Some(tunnel)));
                std::iter::once((Metric::TunnelsUp, up.values(), None)).chain(states).collect()
            }
            Self::Collection { success, took } => vec![
                (Metric::CollectionSuccess, success.values(), None),
                (Metric::CollectionLatency, took.values(), None),
            ],
            Self::Site { delay } => vec![(Metric::PipelineDelay, delay.values(), None)],
        };
        made.into_iter()
            .filter(|(metric, ..)| published.has(*metric))
            .filter_map(|(metric, values, tunnel)| Some((metric, values?, tunnel)))
            .collect()
    }

    pub(crate) fn write(&self, bytes: &mut Vec<u8>) {
        match self {
            Self::Probe { success, latency, replies } => {
                bytes.push(PROBE);
                success.write(bytes);
                latency.write(bytes);
                put_varint(bytes, replies.len() as u64);
                for reply in replies {
                    put_i64(bytes, reply.at);
                    put_varint(bytes, reply.seq);
                    put_f64(bytes, reply.rtt_ms);
                }
            }
            Self::Tunnels { up, each } => {
                bytes.push(TUNNELS);
                up.write(bytes);
                put_varint(bytes, each.len() as u64);
                for (tunnel, state) in each {
                    put_text(bytes, tunnel);
                    state.write(bytes);
                }
            }
            Self::Collection { success, took } => {
                bytes.push(COLLECTION);
                success.write(bytes);
                took.write(bytes);
            }
            Self::Site { delay } => {
                bytes.push(SITE);
                delay.write(bytes);
            }
        }
    }

    pub(crate) fn read(bytes: &mut Bytes<'_>) -> Result<Self, Damaged> {
        Ok(match bytes.byte()? {
            PROBE => Self::Probe {
                success: Rate::read(bytes)?,
                latency: Distribution::read(bytes)?,
                replies: {
                    let len = bytes.length()?;
                    let replies = (0..len)
                        .map(|_| Ok(Reply { at: bytes.i64()?, seq: bytes.varint()?, rtt_ms: bytes.f64()? }));
                    replies.collect::<Result<_, Damaged>>()?
                },
            },
            TUNNELS => Self::Tunnels {
                up: Distribution::read(bytes)?,
                each: {
                    let len = bytes.length()?;
                    let each = (0..len).map(|_| Ok((bytes.text()?.into(), Rate::read(bytes)?)));
                    each.collect::<Result<_, Damaged>>()?
                },
            },
            COLLECTION => Self::Collection { success: Rate::read(bytes)?, took: Distribution::read(bytes)? },
            SITE => Self::Site { delay: Distribution::read(bytes)? },
            _ => return Err(Damaged),
        })
    }
}

const PROBE: u8 = 0;
const TUNNELS: u8 = 1;
const COLLECTION: u8 = 2;
const SITE: u8 = 3;

fn of_tunnel<'a>(each: &'a mut Vec<(Name, Rate)>, tunnel: &Tunnel) -> &'a mut Rate {
    let known = each.iter().position(|(name, _)| **name == *tunnel.outside_ip);
    let place = known.unwrap_or_else(|| {
        each.push((tunnel.outside_ip.as_str().into(), Rate::default()));
        each.len() - 1
    });
    &mut each[place].1
}

/// The mean difference of consecutive round-trip times, which takes two of them; one value a period.
fn jitter(mut replies: Vec<Reply>) -> Option<Values> {
    let steps = replies.len().checked_sub(1).filter(|&steps| steps > 0)?;
    replies.sort_by(|a, b| {
        let order = (a.at, a.seq).cmp(&(b.at, b.seq));
        order.then_with(|| a.rtt_ms.total_cmp(&b.rtt_ms))
    });
    let differences = replies.iter().zip(replies.iter().skip(1));
    let sum: f64 = differences.map(|(one, next)| (next.rtt_ms - one.rtt_ms).abs()).sum();
    Values::new(vec![(sum / steps as f64, 1)])
}

impl Rate {
    fn add(&mut self, good: bool) {
        if good {
            self.good += 1;
        } else {
            self.bad += 1;
        }
    }

    fn values(self) -> Option<Values> {
        Values::new(vec![(0.0, self.bad), (1.0, self.good)])
    }

    fn write(self, bytes: &mut Vec<u8>) {
        put_varint(bytes, self.good);
        put_varint(bytes, self.bad);
    }

    fn read(bytes: &mut Bytes<'_>) -> Result<Self, Damaged> {
        Ok(Self { good: bytes.varint()?, bad: bytes.varint()? })
    }
}

impl Tally {
    /// An empty one for a site's delays.
    pub(crate) fn of_site() -> Self {
        Self::Site { delay: Distribution::default() }
    }

    /// Adds a batch's delay in milliseconds.
    pub(crate) fn add_delay(&mut self, through: Timestamp, received: Timestamp) {
        if let Self::Site { delay } = self {
            delay.add(received.millis_since(through));
        }
    }
}
