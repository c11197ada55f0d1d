//! What was written, read again: JSON into one flat form that has every field of every kind, and that into an observation, or what
//! is wrong with it.

use std::borrow::Cow;
use std::fmt;

use serde::{Deserialize, de};
use serde_json::value::RawValue;

use super::write::USER;
use super::{Names, TOLD, WireError, version};
use crate::evidence::Evidence;
use crate::observation::{Body, Detail, Lost, Observation, Outcome, Tunnel, Way};
use crate::time::Timestamp;
use crate::told::Told;

/// The kinds of observations.
pub(super) const KINDS: [&str; 5] = ["probe", "tunnels", "evidence", "drill", "collection"];

/// Text borrowed from the message where it holds no escapes. (`serde(borrow)` does not reach into an `Option`.)
pub(super) struct Text<'a>(pub(super) Cow<'a, str>);

impl<'de: 'a, 'a> Deserialize<'de> for Text<'a> {
    fn deserialize<D: de::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Visitor;
        impl<'de> de::Visitor<'de> for Visitor {
            type Value = Text<'de>;
            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a string")
            }
            fn visit_borrowed_str<E>(self, text: &'de str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Borrowed(text)))
            }
            fn visit_str<E>(self, text: &str) -> Result<Text<'de>, E> {
                Ok(Text(Cow::Owned(text.to_owned())))
            }
        }
        deserializer.deserialize_str(Visitor)
    }
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Kind<'a> {
    v: Option<u32>,
    kind: Text<'a>,
}

#[derive(Deserialize)]
pub(super) struct ReadBatch<O, T> {
    pub(super) v: Option<u32>,
    pub(super) site: T,
    pub(super) collector: T,
    pub(super) boot: T,
    pub(super) batch: u64,
    pub(super) through: Timestamp,
    pub(super) observations: Vec<O>,
}

/// Every field that any kind has. One flat form is several times faster to read than a tagged enum, which has to
/// keep the fields it meets before the tag.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
pub(super) struct Read<'a> {
    pub(super) v: Option<u32>,
    pub(super) kind: Text<'a>,
    // Text at first: an unknown kind may have other ideas of time.
    at: Option<Text<'a>>,
    pub(super) site: Option<Text<'a>>,
    pub(super) collector: Option<Text<'a>>,
    pub(super) boot: Option<Text<'a>>,
    seq: Option<u64>,
    link: Option<Text<'a>>,
    probe: Option<Text<'a>>,
    rtt_ms: Option<f64>,
    lost: Option<Text<'a>>,
    #[serde(default)]
    burst: Vec<Option<f64>>,
    #[serde(default)]
    reordered: u32,
    jitter_ms: Option<f64>,
    mtu: Option<u32>,
    forward: Option<ReadWay>,
    back: Option<ReadWay>,
    late_ms: Option<f64>,
    stamped: Option<Text<'a>>,
    vpn: Option<Text<'a>>,
    tunnels: Option<Vec<ReadTunnel<'a>>>,
    evidence: Option<Box<Evidence>>,
    source: Option<Text<'a>>,
    ok: Option<bool>,
    error: Option<Text<'a>>,
    took_ms: Option<f64>,
    id: Option<Text<'a>>,
    rule: Option<Text<'a>>,
    told: Option<Box<Told>>,
}

#[derive(Deserialize)]
struct ReadWay {
    lost: i32,
    variation_ms: Option<f64>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct ReadTunnel<'a> {
    outside_ip: Text<'a>,
    up: bool,
    #[serde(default)]
    accepted_routes: u32,
    since: Option<Timestamp>,
    message: Option<Text<'a>>,
}

/// The observations of a message, how many are of kinds that are not known, and what another alerter tells.
pub(super) fn each_understood(
    read: Vec<Option<Read<'_>>>,
    names: &mut Names,
) -> Result<(Vec<Observation>, u64, Vec<Told>), WireError> {
    let mut observations = Vec::with_capacity(read.len());
    let (mut unknown_kinds, mut told) = (0, Vec::new());
    for observation in read {
        match observation {
            Some(Read { kind: Text(kind), told: Some(of), .. }) if kind == TOLD => told.push(*of),
            Some(observation) => match understood(observation, names)? {
                Ok(observation) => observations.push(observation),
                Err(_) => unknown_kinds += 1,
            },
            None => unknown_kinds += 1,
        }
    }
    Ok((observations, unknown_kinds, told))
}

/// Reads one observation; `Err` in it is the name of a kind that is not known, whose fields may be of any type.
pub(super) fn item(text: &[u8]) -> Result<Result<Read<'_>, String>, WireError> {
    let error = match serde_json::from_slice(text) {
        Ok(read) => return Ok(Ok(read)),
        Err(error) => error,
    };
    match serde_json::from_slice::<Kind<'_>>(text) {
        Ok(Kind { v, kind }) if !KINDS.contains(&kind.0.as_ref()) => {
            version(v)?;
            Ok(Err(kind.0.chars().take(80).collect()))
        }
        _ => Err(error.into()),
    }
}

/// Reads a batch with its observations, `None` for those of kinds that are not known.
pub(super) fn envelope(text: &[u8]) -> Result<ReadBatch<Option<Read<'_>>, Text<'_>>, WireError> {
    if let Ok(read) = serde_json::from_slice(text) {
        return Ok(read);
    }
    // Either it is broken, or a newer kind gives a field another type: then one by one.
    let read: ReadBatch<&RawValue, Text<'_>> = serde_json::from_slice(text)?;
    let ReadBatch { v, site, collector, boot, batch, through, observations } = read;
    let observations = one_by_one(observations)?;
    Ok(ReadBatch { v, site, collector, boot, batch, through, observations })
}

/// `None` for those of kinds that are not known.
pub(super) fn one_by_one<'a>(raw: Vec<&'a RawValue>) -> Result<Vec<Option<Read<'a>>>, WireError> {
    raw.into_iter().map(|raw| Ok(item(raw.get().as_bytes())?.ok())).collect()
}

/// The observation, or the name of the kind that is not known.
pub(super) fn understood(
    read: Read<'_>,
    names: &mut Names,
) -> Result<Result<Observation, String>, WireError> {
    let detail = detail(&read)?;
    let kind = read.kind.0.as_ref();
    if !KINDS.contains(&kind) {
        return Ok(Err(kind.chars().take(80).collect()));
    }
    let mut name = |field: Option<Text<'_>>, what| {
        field.map(|text| names.get(&text.0)).ok_or_else(|| absent(kind, what))
    };
    let body = match kind {
        "probe" => Body::Probe {
            link: name(read.link, "link")?,
            probe: name(read.probe, "probe")?,
            outcome: match (read.rtt_ms, read.lost) {
                (Some(rtt_ms), None) => Outcome::Reply { rtt_ms: milliseconds(kind, "rtt_ms", rtt_ms)? },
                (None, Some(lost)) => Outcome::Lost(reason(kind, &lost.0)?),
                (None, None) => return Err(wrong(kind, "one of 'rtt_ms' and 'lost' is needed".to_owned())),
                (Some(_), Some(_)) => {
                    return Err(wrong(kind, "'rtt_ms' and 'lost' exclude each other".to_owned()));
                }
            },
            detail,
        },
        "tunnels" => Body::Tunnels {
            link: name(read.link, "link")?,
            vpn: name(read.vpn, "vpn")?,
            tunnels: read
                .tunnels
                .ok_or_else(|| absent(kind, "tunnels"))?
                .into_iter()
                .map(|tunnel| Tunnel {
                    outside_ip: tunnel.outside_ip.0.into_owned(),
                    up: tunnel.up,
                    accepted_routes: tunnel.accepted_routes,
                    since: tunnel.since,
                    message: tunnel.message.map(|text| text.0.into_owned()).unwrap_or_default(),
                })
                .collect(),
        },
        "evidence" => Body::Evidence {
            link: name(read.link, "link")?,
            probe: name(read.probe, "probe")?,
            evidence: read.evidence.ok_or_else(|| absent(kind, "evidence"))?,
        },
        "drill" => Body::Drill {
            id: name(read.id, "id")?,
            rule: read.rule.map(|rule| name(Some(rule), "rule")).transpose()?,
        },
        _ => Body::Collection {
            source: name(read.source, "source")?,
            ok: read.ok.ok_or_else(|| absent(kind, "ok"))?,
            error: read.error.map(|text| text.0.into_owned()),
            took_ms: milliseconds(kind, "took_ms", read.took_ms.ok_or_else(|| absent(kind, "took_ms"))?)?,
        },
    };
    let at = read.at.ok_or_else(|| absent(kind, "at"))?;
    Ok(Ok(Observation {
        at: at.0.parse().map_err(|error| wrong(kind, format!("at: {error}")))?,
        seq: read.seq.ok_or_else(|| absent(kind, "seq"))?,
        body,
    }))
}

/// What more a probe's message tells; nothing for most.
fn detail(read: &Read<'_>) -> Result<Option<Box<Detail>>, WireError> {
    let kind = read.kind.0.as_ref();
    let checked = |field, value: Option<f64>| value.map(|value| milliseconds(kind, field, value)).transpose();
    for packet in read.burst.iter().flatten() {
        milliseconds(kind, "burst", *packet)?;
    }
    let way = |field, way: &Option<ReadWay>| match way {
        Some(ReadWay { variation_ms: Some(value), .. }) if !value.is_finite() || value.abs() > LONGEST_MS => {
            Err(wrong(
                kind,
                format!(
                    "variation_ms of '{field}' is {value:e}, no number of milliseconds up to {LONGEST_MS:e}"
                ),
            ))
        }
        way => Ok(way.as_ref().map(|way| Way { lost: way.lost, variation_ms: way.variation_ms })),
    };
    let detail = Detail {
        burst: read.burst.clone(),
        reordered: read.reordered,
        jitter_ms: checked("jitter_ms", read.jitter_ms)?,
        mtu: read.mtu,
        forward: way("forward", &read.forward)?,
        back: way("back", &read.back)?,
        late_ms: checked("late_ms", read.late_ms)?,
        user_stamped: read.stamped.as_ref().is_some_and(|by| by.0 == USER),
    };
    Ok((detail != Detail::default()).then(|| Box::new(detail)))
}

/// Eleven days: nothing that is measured lasts as long, and any sum of such is a number.
const LONGEST_MS: f64 = 1e9;

fn milliseconds(kind: &str, field: &str, value: f64) -> Result<f64, WireError> {
    if !value.is_finite() || value < 0.0 {
        return Err(wrong(kind, format!("{field} is {value}, not a number of milliseconds")));
    }
    if value > LONGEST_MS {
        return Err(wrong(kind, format!("{field} is {value:e} milliseconds; {LONGEST_MS:e} are the most")));
    }
    Ok(value)
}

fn reason(kind: &str, word: &str) -> Result<Lost, WireError> {
    Lost::ALL.into_iter().find(|lost| lost.word() == word).ok_or_else(|| {
        let known = Lost::ALL.map(Lost::word).join(", ");
        wrong(kind, format!("lost is '{}', none of {known}", word.chars().take(80).collect::<String>()))
    })
}

pub(super) fn absent(kind: &str, field: &str) -> WireError {
    wrong(kind, format!("the field '{field}' is absent"))
}

fn wrong(kind: &str, problem: String) -> WireError {
    WireError::Field { kind: kind.to_owned(), problem }
}
