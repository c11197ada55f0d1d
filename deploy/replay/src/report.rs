//! An incident's report: one HTML file without scripts or anything to load, for who asks afterwards.
//!
//! [`Seen`] gathers from a source what the probes, the tunnels and the evidence were; [`html`] writes it beside what the alerter
//! judged and told. Names and words come from configs and networks, and are text here, never markup.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use crosswatch_shared::observation::{Body, Lost, Observation, Outcome, Tunnel};
use crosswatch_shared::time::Timestamp;

use crate::plot::{self, Line, PlotError};
use crate::print::{count, span};
use crate::source::Piece;

/// About how many points a line of a drawing has.
const POINTS: u32 = 360;

/// How many lines of evidence, and how many changes of tunnels, are shown.
const SHOWN: usize = 200;

/// An incident, as the alerter judged and told it.
#[derive(Clone, Debug, Default)]
pub struct Incident {
    /// Its id.
    pub id: String,
    /// The link or site.
    pub place: String,
    /// The verdict's word.
    pub verdict: String,
    /// What the verdict rested on.
    pub summary: String,
    /// When it began.
    pub opened: Timestamp,
    /// When it ended, and why.
    pub resolved: Option<(Timestamp, String)>,
    /// What fired: rule, subject, from when, why, until when.
    pub symptoms: Vec<(String, String, Timestamp, String, Option<Timestamp>)>,
    /// What was told: when it was written down, to whom, how it stands, its words, and when it was accepted.
    pub told: Vec<(Timestamp, String, String, String, Option<Timestamp>)>,
}

/// What was seen from one time to another.
#[derive(Debug)]
pub struct Seen {
    from: Timestamp,
    until: Timestamp,
    bucket: Duration,
    /// By link, then by `site/probe`.
    links: BTreeMap<String, BTreeMap<String, Vec<Bucket>>>,
    /// The newest state of each tunnel, and its changes.
    tunnels: BTreeMap<String, bool>,
    changes: Vec<(Timestamp, String, String)>,
    evidence: Vec<(Timestamp, String, String)>,
    observations: u64,
    left_out: usize,
}

#[derive(Clone, Copy, Debug, Default)]
struct Bucket {
    replies: u32,
    sum: f64,
    lost: u32,
}

impl Seen {
    /// Nothing yet.
    #[must_use]
    pub fn new(from: Timestamp, until: Timestamp) -> Self {
        let bucket = (until.since(from) / POINTS).max(Duration::from_secs(1));
        Self {
            from,
            until,
            bucket,
            links: BTreeMap::new(),
            tunnels: BTreeMap::new(),
            changes: Vec::new(),
            evidence: Vec::new(),
            observations: 0,
            left_out: 0,
        }
    }

    /// Takes note of a piece.
    pub fn take(&mut self, piece: &Piece) {
        match piece {
            Piece::Row(origin, observation) => self.observe(&origin.site, observation),
            Piece::Batch(batch, _) => {
                batch.observations.iter().for_each(|of| self.observe(&batch.origin.site, of));
            }
            Piece::Skipped(_) => {}
        }
    }

    fn observe(&mut self, site: &str, observation: &Observation) {
        let at = observation.at;
        if at < self.from || at >= self.until {
            return;
        }
        self.observations += 1;
        match &observation.body {
            Body::Probe { link, probe, outcome, .. } => {
                let place = at.since(self.from).as_micros() / self.bucket.as_micros().max(1);
                let place = usize::try_from(place).unwrap_or(0);
                let of_link = self.links.entry(link.to_string()).or_default();
                let buckets = of_link.entry(format!("{site}/{probe}")).or_default();
                if buckets.len() <= place {
                    buckets.resize(place + 1, Bucket::default());
                }
                let Some(bucket) = buckets.get_mut(place) else { return };
                match outcome {
                    Outcome::Reply { rtt_ms } => {
                        bucket.replies += 1;
                        bucket.sum += rtt_ms;
                    }
                    // The link is not to blame.
                    Outcome::Lost(Lost::Local) => {}
                    Outcome::Lost(_) => bucket.lost += 1,
                }
            }
            Body::Tunnels { link, vpn, tunnels } => {
                tunnels.iter().for_each(|tunnel| self.tunnel(at, link, vpn, tunnel));
            }
            Body::Evidence { link, probe, evidence } => {
                if self.evidence.len() < SHOWN {
                    self.evidence.push((at, format!("{link}/{site}/{probe}"), evidence.summary()));
                } else {
                    self.left_out += 1;
                }
            }
            Body::Collection { .. } | Body::Drill { .. } => {}
        }
    }

    fn tunnel(&mut self, at: Timestamp, link: &str, vpn: &str, tunnel: &Tunnel) {
        let name = format!("{link}/{vpn} {}", tunnel.outside_ip);
        let before = self.tunnels.insert(name.clone(), tunnel.up);
        if before == Some(tunnel.up) {
            return;
        }
        if self.changes.len() == SHOWN {
            self.left_out += 1;
            return;
        }
        let state = if tunnel.up { "up" } else { "down" };
        let first = if before.is_none() { "first seen " } else { "" };
        let message = if tunnel.message.is_empty() { String::new() } else { format!(": {}", tunnel.message) };
        self.changes.push((at, name, format!("{first}{state}{message}")));
    }

    /// The mean of each bucket that has replies, in milliseconds, parted where all was lost; and the share lost of each that
    /// has outcomes.
    fn lines(&self, buckets: &[Bucket]) -> [Vec<Vec<(f64, f64)>>; 2] {
        let (mut rtts, mut losses) = (vec![Vec::new()], Vec::new());
        for (place, Bucket { replies, sum, lost }) in buckets.iter().enumerate() {
            let seconds = (place as f64 + 0.5) * self.bucket.as_secs_f64();
            match (*replies, *lost) {
                // Nothing was sent: a probe may be slower than the drawing.
                (0, 0) => continue,
                (0, _) => rtts.push(Vec::new()),
                (replies, _) => {
                    if let Some(part) = rtts.last_mut() {
                        part.push((seconds, sum / f64::from(replies)));
                    }
                }
            }
            losses.push((seconds, 100.0 * f64::from(*lost) / f64::from(replies + lost)));
        }
        rtts.retain(|part| !part.is_empty());
        [rtts, vec![losses]]
    }
}

/// Writes the report.
///
/// # Errors
/// A drawing fails.
pub fn html(title: &str, incidents: &[Incident], seen: &Seen) -> Result<String, PlotError> {
    let mut out = String::new();
    let title = escape(title);
    // Writing to a string cannot fail, here and below.
    let _ = write!(
        out,
        "<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n\
         <meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src 'unsafe-inline'\">\n\
         <meta name=\"viewport\" content=\"width=device-width\">\n<title>{title}</title>\n<style>{STYLE}</style>\n\
         </head>\n<body>\n<h1>{title}</h1>\n<p>From {} to {}, {} observations.</p>\n",
        seen.from,
        seen.until,
        count(seen.observations)
    );
    for incident in incidents {
        told_of(&mut out, incident);
    }
    if incidents.is_empty() {
        out.push_str("<p>The alerter has no incident of this time.</p>\n");
    }
    timeline(&mut out, incidents, seen);
    for (link, probes) in &seen.links {
        let _ = writeln!(out, "<h2>{}</h2>\n<figure>", escape(link));
        let spans: Vec<(f64, f64)> = incidents.iter().map(|of| spanned(of, seen)).collect();
        let (mut rtts, mut losses) = (Vec::new(), Vec::new());
        for (name, buckets) in probes {
            let [rtt, loss] = seen.lines(buckets);
            rtts.push(Line { name, parts: rtt });
            losses.push(Line { name, parts: loss });
        }
        let whole = (seen.from, seen.until);
        out.push_str(&plot::over_time(whole, &spans, ("round trip, ms", &rtts), ("lost, %", &losses))?);
        let _ = writeln!(
            out,
            "<figcaption>Means of {} each; an incident's time is shaded.</figcaption></figure>",
            span(seen.bucket.as_secs_f64())
        );
    }
    rows(&mut out, "Tunnels", &["at", "tunnel", "state"], seen.changes.iter().map(three));
    rows(&mut out, "Evidence", &["at", "probe", "seen"], seen.evidence.iter().map(three));
    if seen.left_out > 0 {
        let _ = writeln!(out, "<p>{} more lines are left out.</p>", seen.left_out);
    }
    out.push_str("</body>\n</html>\n");
    Ok(out)
}

fn three((at, name, words): &(Timestamp, String, String)) -> Vec<String> {
    vec![at.to_string(), name.clone(), words.clone()]
}

fn told_of(out: &mut String, incident: &Incident) {
    let Incident { id, place, verdict, summary, opened, resolved, symptoms, told } = incident;
    let ended = match resolved {
        Some((at, why)) => format!("until {at}, {}: {why}", span(at.since(*opened).as_secs() as f64)),
        None => "still open".to_owned(),
    };
    let _ = writeln!(
        out,
        "<section>\n<h2>{} {}</h2>\n<p class=\"verdict\">{}</p>\n<p>From {opened} {}.</p>\n<p class=\"id\">{}</p>",
        escape(verdict),
        escape(place),
        escape(summary),
        escape(&ended),
        escape(id)
    );
    let open = |at: &Option<Timestamp>| at.map_or_else(|| "still".to_owned(), |at| at.to_string());
    let fired = symptoms.iter().map(|(rule, subject, from, why, until)| {
        vec![from.to_string(), open(until), rule.clone(), subject.clone(), why.clone()]
    });
    rows(out, "What fired", &["from", "until", "rule", "subject", "why"], fired);
    let paged = told.iter().map(|(at, whom, standing, words, accepted)| {
        let accepted = accepted.map_or_else(|| standing.clone(), |at| format!("accepted {at}"));
        vec![at.to_string(), whom.clone(), accepted, words.clone()]
    });
    rows(out, "What was told", &["written", "to", "standing", "words"], paged);
    out.push_str("</section>\n");
}

/// Everything with a time, in its order.
fn timeline(out: &mut String, incidents: &[Incident], seen: &Seen) {
    let mut events: Vec<(Timestamp, String)> = Vec::new();
    for incident in incidents {
        let Incident { place, verdict, opened, resolved, symptoms, told, .. } = incident;
        events.push((*opened, format!("incident of {place} begins: {verdict}")));
        for (rule, subject, from, why, until) in symptoms {
            events.push((*from, format!("{rule} fires for {subject}: {why}")));
            events.extend(until.map(|at| (at, format!("{rule} resolves for {subject}"))));
        }
        events.extend(told.iter().map(|(at, whom, _, words, _)| (*at, format!("told {whom}: {words}"))));
        events.extend(resolved.iter().map(|(at, why)| (*at, format!("incident of {place} is over: {why}"))));
    }
    events.extend(seen.changes.iter().map(|(at, name, state)| (*at, format!("tunnel {name} {state}"))));
    // In a stable order, so that what is of one moment stays as it was told.
    events.sort_by_key(|(at, _)| *at);
    rows(out, "Timeline", &["at", ""], events.into_iter().map(|(at, what)| vec![at.to_string(), what]));
}

/// A table; nothing where it has no rows.
fn rows(out: &mut String, title: &str, heads: &[&str], rows: impl Iterator<Item = Vec<String>>) {
    let mut rows = rows.peekable();
    if rows.peek().is_none() {
        return;
    }
    let cells = |cells: &mut dyn Iterator<Item = &str>, tag: &str| {
        cells.map(|cell| format!("<{tag}>{}</{tag}>", escape(cell))).collect::<String>()
    };
    let _ = writeln!(out, "<h3>{}</h3>\n<table>", escape(title));
    let _ = writeln!(out, "<tr>{}</tr>", cells(&mut heads.iter().copied(), "th"));
    for row in rows {
        let _ = writeln!(out, "<tr>{}</tr>", cells(&mut row.iter().map(String::as_str), "td"));
    }
    out.push_str("</table>\n");
}

/// Where an incident lies in the drawing, in seconds.
fn spanned(incident: &Incident, seen: &Seen) -> (f64, f64) {
    let end = incident.resolved.as_ref().map_or(seen.until, |(at, _)| *at);
    (incident.opened.since(seen.from).as_secs_f64(), end.min(seen.until).since(seen.from).as_secs_f64())
}

/// Text, and no markup, whatever is in it.
fn escape(text: &str) -> String {
    let mut escaped = String::with_capacity(text.len());
    for c in text.chars() {
        match c {
            '<' => escaped.push_str("&lt;"),
            '>' => escaped.push_str("&gt;"),
            '&' => escaped.push_str("&amp;"),
            '"' => escaped.push_str("&quot;"),
            '\'' => escaped.push_str("&#39;"),
            c if c.is_control() => escaped.push(' '),
            c => escaped.push(c),
        }
    }
    escaped
}

const STYLE: &str = "body{font:14px/1.4 sans-serif;max-width:60em;margin:2em auto;padding:0 1em;color:#111;background:#fff}\
    h1{font-size:1.5em}h2{font-size:1.2em;margin-top:2em}h3{font-size:1em}table{border-collapse:collapse;width:100%}\
    th,td{text-align:left;vertical-align:top;padding:.2em .8em .2em 0;border-bottom:1px solid #ddd;overflow-wrap:break-word}\
    td:last-child{overflow-wrap:anywhere}td:first-child{white-space:nowrap;font-variant-numeric:tabular-nums}.verdict{font-size:1.15em}.id{color:#666}\
    figure{margin:0}figure svg{max-width:100%;height:auto}figcaption{color:#666}\
    @media print{body{margin:0;max-width:none}section,figure,tr{break-inside:avoid}}";
