//! The forms that are written: what serde makes JSON of, borrowed from the observations.

use serde::Serialize;

use crate::evidence::Evidence;
use crate::observation::{Body, Detail, Observation, Origin, Outcome, Way};
use crate::time::Timestamp;

/// Who stamped a round-trip time when the kernel did not.
pub(super) const USER: &str = "user";

pub(super) fn json<T: Serialize>(value: &T) -> String {
    // Only a map with keys that are no strings, or a failing Serialize, can fail here; these forms have neither.
    serde_json::to_string(value).unwrap_or_default()
}

#[derive(Serialize)]
pub(super) struct WrittenBatch<'a, O> {
    pub(super) site: &'a str,
    pub(super) collector: &'a str,
    pub(super) boot: &'a str,
    pub(super) batch: u64,
    pub(super) through: Timestamp,
    pub(super) observations: Vec<O>,
}

#[derive(Serialize)]
struct WrittenOrigin<'a> {
    site: &'a str,
    collector: &'a str,
    boot: &'a str,
}

#[derive(Serialize)]
pub(super) struct Written<'a> {
    kind: &'static str,
    at: Timestamp,
    #[serde(flatten, skip_serializing_if = "Option::is_none")]
    origin: Option<WrittenOrigin<'a>>,
    seq: u64,
    #[serde(flatten)]
    body: WrittenBody<'a>,
}

#[derive(Serialize)]
#[serde(untagged)]
enum WrittenBody<'a> {
    Reply {
        link: &'a str,
        probe: &'a str,
        rtt_ms: f64,
        #[serde(flatten)]
        detail: Option<WrittenDetail<'a>>,
    },
    Lost {
        link: &'a str,
        probe: &'a str,
        lost: &'static str,
        #[serde(flatten)]
        detail: Option<WrittenDetail<'a>>,
    },
    Tunnels {
        link: &'a str,
        vpn: &'a str,
        tunnels: Vec<WrittenTunnel<'a>>,
    },
    Evidence {
        link: &'a str,
        probe: &'a str,
        evidence: &'a Evidence,
    },
    Drill {
        id: &'a str,
        #[serde(skip_serializing_if = "Option::is_none")]
        rule: Option<&'a str>,
    },
    Collection {
        source: &'a str,
        ok: bool,
        #[serde(skip_serializing_if = "Option::is_none")]
        error: Option<&'a str>,
        took_ms: f64,
    },
}

#[derive(Serialize)]
struct WrittenDetail<'a> {
    #[serde(skip_serializing_if = "<[_]>::is_empty")]
    burst: &'a [Option<f64>],
    #[serde(skip_serializing_if = "is_zero")]
    reordered: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    jitter_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    mtu: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    forward: Option<WrittenWay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    back: Option<WrittenWay>,
    #[serde(skip_serializing_if = "Option::is_none")]
    late_ms: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    stamped: Option<&'static str>,
}

#[derive(Serialize)]
struct WrittenWay {
    lost: i32,
    #[serde(skip_serializing_if = "Option::is_none")]
    variation_ms: Option<f64>,
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(number: &u32) -> bool {
    *number == 0
}

fn written_detail(detail: &Detail) -> WrittenDetail<'_> {
    let way = |way: Way| WrittenWay { lost: way.lost, variation_ms: way.variation_ms };
    WrittenDetail {
        burst: &detail.burst,
        reordered: detail.reordered,
        jitter_ms: detail.jitter_ms,
        mtu: detail.mtu,
        forward: detail.forward.map(way),
        back: detail.back.map(way),
        late_ms: detail.late_ms,
        stamped: detail.user_stamped.then_some(USER),
    }
}

#[derive(Serialize)]
struct WrittenTunnel<'a> {
    outside_ip: &'a str,
    up: bool,
    accepted_routes: u32,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<Timestamp>,
    message: &'a str,
}

pub(super) fn written<'a>(origin: Option<&'a Origin>, observation: &'a Observation) -> Written<'a> {
    let (kind, body) = match &observation.body {
        Body::Probe { link, probe, outcome, detail } => {
            let detail = detail.as_deref().map(written_detail);
            let body = match outcome {
                Outcome::Reply { rtt_ms } => WrittenBody::Reply { link, probe, rtt_ms: *rtt_ms, detail },
                Outcome::Lost(lost) => WrittenBody::Lost { link, probe, lost: lost.word(), detail },
            };
            ("probe", body)
        }
        Body::Tunnels { link, vpn, tunnels } => {
            let tunnels = tunnels
                .iter()
                .map(|tunnel| WrittenTunnel {
                    outside_ip: &tunnel.outside_ip,
                    up: tunnel.up,
                    accepted_routes: tunnel.accepted_routes,
                    since: tunnel.since,
                    message: &tunnel.message,
                })
                .collect();
            ("tunnels", WrittenBody::Tunnels { link, vpn, tunnels })
        }
        Body::Evidence { link, probe, evidence } => {
            ("evidence", WrittenBody::Evidence { link, probe, evidence })
        }
        Body::Drill { id, rule } => ("drill", WrittenBody::Drill { id, rule: rule.as_deref() }),
        Body::Collection { source, ok, error, took_ms } => (
            "collection",
            WrittenBody::Collection { source, ok: *ok, error: error.as_deref(), took_ms: *took_ms },
        ),
    };
    let origin = origin.map(|Origin { site, collector, boot }| WrittenOrigin { site, collector, boot });
    Written { kind, at: observation.at, origin, seq: observation.seq, body }
}
