//! The wire form: observations as JSON, one object each, alone in a line or together in a batch.
//!
//! A line carries its origin; in a batch the origin stands once, in the envelope. A reader skips fields it does not
//! know and observations of a kind it does not know, and refuses a major version it does not know.

mod put_back;

use std::borrow::Cow;
use std::fmt;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;

use crate::evidence::Evidence;
use crate::observation::{Batch, Body, Detail, Lost, Name, Observation, Origin, Outcome, Tunnel, Way};
use crate::time::Timestamp;
use crate::told::Told;

pub use put_back::{Message, PutBack, decode_message, encode_put_back};

/// The major version written, and the only one read. An absent version field means 1; 2 is what a replay put back
/// ([`PutBack`]), so that the next one is 3.
pub const VERSION: u32 = 1;

/// Why a message could not be read. Reading it again cannot help.
#[derive(Debug, thiserror::Error)]
pub enum WireError {
    /// A newer program wrote it.
    #[error("wire version {found} is not known to this program, which reads version {VERSION}: upgrade it")]
    Version {
        /// The version the message names.
        found: u32,
    },
    /// A replay put it back: only who asks for such messages reads them, as [`decode_message`] does.
    #[error("a replay put these observations back, for a publisher and an alerter alone")]
    PutBack,
    /// Not JSON, cut off, or a field of another type.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// A field is absent, or its value means nothing.
    #[error("{kind}: {problem}")]
    Field {
        /// The message's `kind`, or `batch`.
        kind: String,
        /// What is wrong with which field.
        problem: String,
    },
}

impl WireError {
    /// Whether the text ended in the middle, as a line does whose writer was stopped.
    #[must_use]
    pub fn is_cut_off(&self) -> bool {
        matches!(self, Self::Json(error) if error.is_eof())
    }
}

/// A line read.
#[derive(Clone, Debug, PartialEq)]
pub enum Row {
    /// An observation and who made it.
    Observation(Origin, Observation),
    /// A kind that this version does not know.
    UnknownKind(String),
}

/// A batch read, with what was skipped in it.
#[derive(Clone, Debug, PartialEq)]
pub struct Decoded {
    /// The batch, without the observations of unknown kinds.
    pub batch: Batch,
    /// How many observations were of a kind that this version does not know.
    pub unknown_kinds: u64,
    /// What another alerter says that receivers have accepted.
    pub told: Vec<Told>,
}

/// Keeps one copy of each name, so that a million observations share a handful of strings.
#[derive(Debug, Default)]
pub struct Names {
    known: FxHashSet<Name>,
}

/// Beyond this many names the copies are let go: a stream that never repeats a name must not fill memory.
const NAMES_KEPT: usize = 100_000;

impl Names {
    /// The shared copy of this name.
    pub fn get(&mut self, text: &str) -> Name {
        if let Some(name) = self.known.get(text) {
            return name.clone();
        }
        if self.known.len() >= NAMES_KEPT {
            self.known.clear();
        }
        let name = Name::from(text);
        self.known.insert(name.clone());
        name
    }
}

/// Writes one observation as a line, without the line's end.
#[must_use]
pub fn encode_row(origin: &Origin, observation: &Observation) -> String {
    json(&written(Some(origin), observation))
}

/// Reads one line.
///
/// # Errors
/// As [`WireError`] says: another version, no JSON, or a field that means nothing.
pub fn decode_row(text: &[u8], names: &mut Names) -> Result<Row, WireError> {
    let read = match item(text)? {
        Ok(read) => read,
        Err(kind) => return Ok(Row::UnknownKind(kind)),
    };
    let kind = &read.kind.0;
    let name = |field: &Option<Text<'_>>, what, names: &mut Names| {
        field.as_ref().map(|text| names.get(&text.0)).ok_or_else(|| absent(kind, what))
    };
    version(read.v)?;
    if !KINDS.contains(&kind.as_ref()) {
        return Ok(Row::UnknownKind(kind.chars().take(80).collect()));
    }
    let origin = Origin {
        site: name(&read.site, "site", names)?,
        collector: name(&read.collector, "collector", names)?,
        boot: name(&read.boot, "boot", names)?,
    };
    match understood(read, names)? {
        Ok(observation) => Ok(Row::Observation(origin, observation)),
        Err(kind) => Ok(Row::UnknownKind(kind)),
    }
}

/// Writes a batch as one message: JSON text.
#[must_use]
pub fn encode_batch(batch: &Batch) -> String {
    let Batch { origin, number, through, observations } = batch;
    json(&WrittenBatch {
        site: &origin.site,
        collector: &origin.collector,
        boot: &origin.boot,
        batch: *number,
        through: *through,
        observations: observations.iter().map(|observation| written(None, observation)).collect(),
    })
}

/// Writes what an alerter tells the other one as one message: a batch of no site, with one entry of a kind of its own. A reader that
/// does not know that skips it and counts it.
#[must_use]
pub fn encode_told(origin: &Origin, number: u64, now: Timestamp, told: &Told) -> String {
    #[derive(Serialize)]
    struct Entry<'a> {
        kind: &'static str,
        told: &'a Told,
    }
    let Origin { site, collector, boot } = origin;
    json(&WrittenBatch {
        site,
        collector,
        boot,
        batch: number,
        through: now,
        observations: vec![Entry { kind: TOLD, told }],
    })
}

/// Reads a batch.
///
/// # Errors
/// As [`WireError`] says. One observation that means nothing condemns the whole batch, since its sender is broken.
pub fn decode_batch(text: &[u8], names: &mut Names) -> Result<Decoded, WireError> {
    match batch(text, names) {
        Err(WireError::Version { found: put_back::VERSION }) if put_back::is_marked(text) => {
            Err(WireError::PutBack)
        }
        read => read,
    }
}

fn batch(text: &[u8], names: &mut Names) -> Result<Decoded, WireError> {
    let read = match envelope(text) {
        Ok(read) => read,
        Err(error) => {
            // The fields of a newer batch may look like anything: then that it is newer is what to say.
            let Version { v } = serde_json::from_slice(text)?;
            version(v)?;
            return Err(error);
        }
    };
    version(read.v)?;
    let (observations, unknown_kinds, told) = each_understood(read.observations, names)?;
    let origin = Origin {
        site: names.get(&read.site.0),
        collector: names.get(&read.collector.0),
        boot: names.get(&read.boot.0),
    };
    Ok(Decoded {
        batch: Batch { origin, number: read.batch, through: read.through, observations },
        unknown_kinds,
        told,
    })
}

/// The observations of a message, how many are of kinds that are not known, and what another alerter tells.
fn each_understood(
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
fn item(text: &[u8]) -> Result<Result<Read<'_>, String>, WireError> {
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
fn envelope(text: &[u8]) -> Result<ReadBatch<Option<Read<'_>>, Text<'_>>, WireError> {
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
fn one_by_one<'a>(raw: Vec<&'a RawValue>) -> Result<Vec<Option<Read<'a>>>, WireError> {
    raw.into_iter().map(|raw| Ok(item(raw.get().as_bytes())?.ok())).collect()
}

/// The kind of what is no observation.
const TOLD: &str = "told";

const KINDS: [&str; 5] = ["probe", "tunnels", "evidence", "drill", "collection"];

fn version(v: Option<u32>) -> Result<(), WireError> {
    match v {
        None | Some(VERSION) => Ok(()),
        Some(found) => Err(WireError::Version { found }),
    }
}

fn absent(kind: &str, field: &str) -> WireError {
    wrong(kind, format!("the field '{field}' is absent"))
}

fn wrong(kind: &str, problem: String) -> WireError {
    WireError::Field { kind: kind.to_owned(), problem }
}

fn json<T: Serialize>(value: &T) -> String {
    // Only a map with keys that are no strings, or a failing Serialize, can fail here; these forms have neither.
    serde_json::to_string(value).unwrap_or_default()
}

/// Text borrowed from the message where it holds no escapes. (`serde(borrow)` does not reach into an `Option`.)
struct Text<'a>(Cow<'a, str>);

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
struct Version {
    v: Option<u32>,
}

#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Kind<'a> {
    v: Option<u32>,
    kind: Text<'a>,
}

#[derive(Deserialize)]
struct ReadBatch<O, T> {
    v: Option<u32>,
    site: T,
    collector: T,
    boot: T,
    batch: u64,
    through: Timestamp,
    observations: Vec<O>,
}

/// Every field that any kind has. One flat form is several times faster to read than a tagged enum, which has to
/// keep the fields it meets before the tag.
#[derive(Deserialize)]
#[serde(bound(deserialize = "'de: 'a"))]
struct Read<'a> {
    v: Option<u32>,
    kind: Text<'a>,
    // Text at first: an unknown kind may have other ideas of time.
    at: Option<Text<'a>>,
    site: Option<Text<'a>>,
    collector: Option<Text<'a>>,
    boot: Option<Text<'a>>,
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

/// The observation, or the name of the kind that is not known.
fn understood(read: Read<'_>, names: &mut Names) -> Result<Result<Observation, String>, WireError> {
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
        Some(ReadWay { variation_ms: Some(value), .. }) if !value.is_finite() => {
            Err(wrong(kind, format!("variation_ms of '{field}' is {value}, not a number")))
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

/// Who stamped a round-trip time when the kernel did not.
const USER: &str = "user";

fn milliseconds(kind: &str, field: &str, value: f64) -> Result<f64, WireError> {
    if value.is_finite() && value >= 0.0 {
        return Ok(value);
    }
    Err(wrong(kind, format!("{field} is {value}, not a number of milliseconds")))
}

fn reason(kind: &str, word: &str) -> Result<Lost, WireError> {
    Lost::ALL.into_iter().find(|lost| lost.word() == word).ok_or_else(|| {
        let known = Lost::ALL.map(Lost::word).join(", ");
        wrong(kind, format!("lost is '{}', none of {known}", word.chars().take(80).collect::<String>()))
    })
}

#[derive(Serialize)]
struct WrittenBatch<'a, O> {
    site: &'a str,
    collector: &'a str,
    boot: &'a str,
    batch: u64,
    through: Timestamp,
    observations: Vec<O>,
}

#[derive(Serialize)]
struct WrittenOrigin<'a> {
    site: &'a str,
    collector: &'a str,
    boot: &'a str,
}

#[derive(Serialize)]
struct Written<'a> {
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

fn written<'a>(origin: Option<&'a Origin>, observation: &'a Observation) -> Written<'a> {
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

#[cfg(test)]
mod tests;
