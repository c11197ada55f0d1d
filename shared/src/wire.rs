//! The wire form: observations as JSON, one object each, alone in a line or together in a batch.
//!
//! A line carries its origin; in a batch the origin stands once, in the envelope. A reader skips fields it does not
//! know and observations of a kind it does not know, and refuses a major version it does not know.

use std::borrow::Cow;
use std::fmt;

use rustc_hash::FxHashSet;
use serde::{Deserialize, Serialize, de};
use serde_json::value::RawValue;

use crate::evidence::Evidence;
use crate::observation::{Batch, Body, Detail, Lost, Name, Observation, Origin, Outcome, Tunnel, Way};
use crate::time::Timestamp;

/// The major version written, and the only one read. An absent version field means 1.
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

/// Reads a batch.
///
/// # Errors
/// As [`WireError`] says. One observation that means nothing condemns the whole batch, since its sender is broken.
pub fn decode_batch(text: &[u8], names: &mut Names) -> Result<Decoded, WireError> {
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
    let mut observations = Vec::with_capacity(read.observations.len());
    let mut unknown_kinds = 0;
    for observation in read.observations {
        match observation {
            Some(observation) => match understood(observation, names)? {
                Ok(observation) => observations.push(observation),
                Err(_) => unknown_kinds += 1,
            },
            None => unknown_kinds += 1,
        }
    }
    let origin = Origin {
        site: names.get(&read.site.0),
        collector: names.get(&read.collector.0),
        boot: names.get(&read.boot.0),
    };
    Ok(Decoded {
        batch: Batch { origin, number: read.batch, through: read.through, observations },
        unknown_kinds,
    })
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
    let observations = observations
        .into_iter()
        .map(|raw| Ok(item(raw.get().as_bytes())?.ok()))
        .collect::<Result<_, WireError>>()?;
    Ok(ReadBatch { v, site, collector, boot, batch, through, observations })
}

const KINDS: [&str; 4] = ["probe", "tunnels", "evidence", "collection"];

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
struct WrittenBatch<'a> {
    site: &'a str,
    collector: &'a str,
    boot: &'a str,
    batch: u64,
    through: Timestamp,
    observations: Vec<Written<'a>>,
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
        Body::Collection { source, ok, error, took_ms } => (
            "collection",
            WrittenBody::Collection { source, ok: *ok, error: error.as_deref(), took_ms: *took_ms },
        ),
    };
    let origin = origin.map(|Origin { site, collector, boot }| WrittenOrigin { site, collector, boot });
    Written { kind, at: observation.at, origin, seq: observation.seq, body }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const LINES: [&str; 7] = [
        r#"{"kind":"probe","at":"2026-11-22T07:00:01.000123Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":41,"link":"use1-euw1","probe":"icmp:10.1.0.10","rtt_ms":81.7}"#,
        r#"{"kind":"probe","at":"2026-11-22T07:00:02.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":42,"link":"use1-euw1","probe":"icmp:10.1.0.10","lost":"timeout"}"#,
        r#"{"kind":"tunnels","at":"2026-11-22T07:00:03.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":43,"link":"use1-euw1","vpn":"vpn-0a1b","tunnels":[{"outside_ip":"52.1.2.3","up":true,"accepted_routes":4,"since":"2026-11-21T00:00:00.000000Z","message":""}]}"#,
        r#"{"kind":"collection","at":"2026-11-22T07:00:04.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":44,"source":"ec2:vpn-status","ok":false,"error":"RequestLimitExceeded","took_ms":143.0}"#,
        r#"{"kind":"probe","at":"2026-11-22T07:00:05.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":45,"link":"use1-euw1","probe":"udp:10.1.0.10:862","rtt_ms":81.7,"burst":[81.5,null,81.7],"reordered":1,"jitter_ms":0.2,"forward":{"lost":1,"variation_ms":-0.1},"back":{"lost":0},"late_ms":12.5,"stamped":"user"}"#,
        r#"{"kind":"probe","at":"2026-11-22T07:00:06.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":46,"link":"use1-euw1","probe":"icmp:10.1.0.10@1436","lost":"too-big","mtu":1400}"#,
        r#"{"kind":"evidence","at":"2026-11-22T07:00:08.000000Z","site":"us-east-1","collector":"i-0abc","boot":"0193","seq":47,"link":"use1-euw1","probe":"icmp:10.1.0.10","evidence":{"at":"2026-11-22T07:00:07.000000Z","took_ms":900.0,"protocol":"icmp","target":"10.1.0.10","route":{"kind":"unicast","source":"10.0.0.10","gateway":"10.0.0.1","interface":"eth0"},"neighbour":{"address":"10.0.0.1","state":"reachable"},"path":{"hops":[{"ttl":1,"address":"10.0.0.1","rtt_ms":0.2,"said":"time-exceeded"}],"reached":false,"hidden_from":2},"sweep":{"absent":"no small packet passes"},"loopback":{"address":"127.0.0.1","rtt_ms":0.1},"gateway":{"address":"10.0.0.1","rtt_ms":0.2}}}"#,
    ];

    fn read(line: &str) -> Result<Row, WireError> {
        decode_row(line.as_bytes(), &mut Names::default())
    }

    #[test]
    fn the_documented_lines_are_written_as_they_were_read() {
        for line in LINES {
            let Row::Observation(origin, observation) = read(line).unwrap() else { panic!("{line}") };
            assert_eq!(encode_row(&origin, &observation), line);
        }
    }

    #[test]
    fn a_newer_major_version_is_refused_by_name() {
        let line = LINES[0].replace(r#""seq":41"#, r#""v":2,"seq":41"#);
        assert!(read(&line).unwrap_err().to_string().contains("wire version 2"));
        let batch = br#"{"v":7,"observations":"of another shape"}"#;
        let error = decode_batch(batch, &mut Names::default()).unwrap_err();
        assert!(error.to_string().contains("wire version 7"), "{error}");
    }

    #[test]
    fn unknown_fields_are_skipped_and_unknown_kinds_named() {
        let line = LINES[0].replace(r#""seq":41"#, r#""seq":41,"ttl":[{"deep":1}]"#);
        assert_eq!(read(&line).unwrap(), read(LINES[0]).unwrap());
        assert_eq!(read(r#"{"kind":"weather","at":5}"#).unwrap(), Row::UnknownKind("weather".to_owned()));
    }

    #[test]
    fn what_means_nothing_is_an_error_that_names_the_field() {
        let cases = [
            (LINES[0].replace(r#""link":"use1-euw1","#, ""), "'link' is absent"),
            (LINES[0].replace("81.7", "-1"), "rtt_ms is -1"),
            (LINES[0].replace("81.7", "1e999"), "number out of range"),
            (LINES[0].replace(r#","rtt_ms":81.7"#, ""), "one of 'rtt_ms' and 'lost'"),
            (LINES[1].replace("timeout", "tired"), "lost is 'tired', none of timeout, unreachable"),
            (LINES[1].replace("2026-11-22T", "yesterday "), "is not a time"),
            (LINES[3].replace(r#""ok":false,"#, ""), "'ok' is absent"),
            (LINES[0].replace(r#""boot":"0193","#, ""), "'boot' is absent"),
        ];
        for (line, wanted) in cases {
            let error = read(&line).unwrap_err().to_string();
            assert!(error.contains(wanted), "{error} for {line}");
        }
        assert!(read(&LINES[0][..60]).unwrap_err().is_cut_off());
        assert!(!read("{}").unwrap_err().is_cut_off());
    }

    fn name() -> impl Strategy<Value = Name> {
        "\\PC{0,12}|[\\x00-\\x1f\"\\\\]{1,4}".prop_map(|text| Name::from(text.as_str()))
    }

    fn body() -> impl Strategy<Value = Body> {
        let outcome = prop_oneof![
            (0.0..1e6).prop_map(|rtt_ms| Outcome::Reply { rtt_ms }),
            (0..Lost::ALL.len()).prop_map(|index| Outcome::Lost(Lost::ALL[index])),
        ];
        let tunnel = (name(), any::<bool>(), any::<u32>(), proptest::option::of(time()), name()).prop_map(
            |(outside_ip, up, accepted_routes, since, message)| Tunnel {
                outside_ip: outside_ip.to_string(),
                up,
                accepted_routes,
                since,
                message: message.to_string(),
            },
        );
        prop_oneof![
            (name(), name(), outcome, proptest::option::of(detail())).prop_map(
                |(link, probe, outcome, detail)| {
                    let detail = detail.filter(|detail| *detail != Detail::default()).map(Box::new);
                    Body::Probe { link, probe, outcome, detail }
                }
            ),
            (name(), name(), proptest::collection::vec(tunnel, 0..3))
                .prop_map(|(link, vpn, tunnels)| Body::Tunnels { link, vpn, tunnels }),
            (name(), any::<bool>(), proptest::option::of(name()), 0.0..1e6).prop_map(
                |(source, ok, error, took_ms)| Body::Collection {
                    source,
                    ok,
                    error: error.map(|text| text.to_string()),
                    took_ms,
                }
            ),
        ]
    }

    fn detail() -> impl Strategy<Value = Detail> {
        let ms = || proptest::option::of(0.0..1e6);
        let way = || {
            let way = (any::<i32>(), proptest::option::of(-1e6..1e6));
            proptest::option::of(way.prop_map(|(lost, variation_ms)| Way { lost, variation_ms }))
        };
        let burst = proptest::collection::vec(ms(), 0..6);
        let mtu = proptest::option::of(any::<u32>());
        (burst, any::<u32>(), ms(), mtu, way(), way(), ms(), any::<bool>()).prop_map(
            |(burst, reordered, jitter_ms, mtu, forward, back, late_ms, user_stamped)| Detail {
                burst,
                reordered,
                jitter_ms,
                mtu,
                forward,
                back,
                late_ms,
                user_stamped,
            },
        )
    }

    fn time() -> impl Strategy<Value = Timestamp> {
        (Timestamp::MIN.as_micros()..=Timestamp::MAX.as_micros()).prop_map(Timestamp::from_micros)
    }

    fn observation() -> impl Strategy<Value = Observation> {
        (time(), any::<u64>(), body()).prop_map(|(at, seq, body)| Observation { at, seq, body })
    }

    proptest! {
        #[test]
        fn a_batch_survives_the_wire(
            site in name(), collector in name(), boot in name(), number in any::<u64>(), through in time(),
            observations in proptest::collection::vec(observation(), 0..8),
        ) {
            let batch = Batch { origin: Origin { site, collector, boot }, number, through, observations };
            let decoded = decode_batch(encode_batch(&batch).as_bytes(), &mut Names::default()).unwrap();
            prop_assert_eq!(decoded, Decoded { batch, unknown_kinds: 0 });
        }

        #[test]
        fn no_input_makes_the_reader_panic(text in "\\PC*", cut in 0..200usize) {
            let _ = read(&text);
            let _ = read(&LINES[2][..cut]);
            let _ = decode_batch(text.as_bytes(), &mut Names::default());
        }
    }
}
