//! Windows: one subject, one UTC-aligned period, given out once its site's event time is past it.
//!
//! A period's windows are given out once, whole, when event time passes the period's end by a grace. What comes for a
//! period that is already over gathers in a window of its own, the late remainder, given out at the next advance past
//! it. So each observation is counted in exactly one datapoint, whatever order or delay it came in.

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_shared::observation::{Body, Name, Observation, Origin};
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;

use crate::codec::{Bytes, Damaged, put_i64};
use crate::metric::{Metric, MetricSet};
use crate::tally::Tally;
use crate::values::Values;

/// How far event time must be past a period's end before its windows are given out.
pub const GRACE: Duration = Duration::from_secs(2);

/// One metric of one subject for one period.
#[derive(Clone, Debug, PartialEq)]
pub struct Datapoint {
    /// What was measured.
    pub metric: Metric,
    /// Of what: the metric's dimensions, always in the order Link, Site, Probe or Link, Vpn, Tunnel or Site, Source.
    pub dimensions: Vec<(&'static str, Name)>,
    /// The start of the period.
    pub start: Timestamp,
    /// Its length.
    pub period: Duration,
    /// Whether it is a remainder: its period had been given out before.
    pub late: bool,
    /// The samples.
    pub values: Values,
}

/// What became of an observation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Taken {
    /// It counts in a period that is not over.
    OnTime,
    /// It counts in the remainder of a period that is over.
    Late,
    /// It counts for no metric that is published.
    Nothing,
}

/// A piece of state to be kept: written under its key, or removed where there is no value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Saved {
    /// Unique.
    pub key: String,
    /// The new value; `None` when there is no such piece any more.
    pub value: Option<Vec<u8>>,
}

/// A saved piece could not be read. Trying again cannot help.
#[derive(Debug, thiserror::Error)]
#[error(
    "the saved window state '{key}' is not understood: it is damaged or of another version of this program"
)]
pub struct RestoreError {
    key: String,
}

/// All windows that are open.
#[derive(Debug)]
pub struct Windows {
    period: Duration,
    published: MetricSet,
    grace: Duration,
    series: FxHashMap<Subject, Vec<Window>>,
    sites: FxHashMap<Name, Site>,
    changed: Vec<Changed>,
}

/// What a window is about. The site is the one whose event time closes it.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Subject {
    Probe { site: Name, link: Name, probe: Name },
    Vpn { site: Name, link: Name, vpn: Name },
    Source { site: Name, source: Name },
    Site { site: Name },
}

/// A period, ordered by its end. Its length is its own, so that what was begun before the config changed is finished
/// as it was begun.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Span {
    end: Timestamp,
    start: Timestamp,
}

#[derive(Debug)]
struct Window {
    span: Span,
    late: bool,
    /// Whether `changed` has been told, and has yet to hand it over.
    noted: bool,
    /// Whether it was ever handed over, and has to be taken back when it closes.
    saved: bool,
    tally: Tally,
}

#[derive(Debug)]
struct Site {
    /// Event time as last told; may go back with a new boot.
    at: Timestamp,
    /// Every period that ended by then is over; never goes back.
    over: Timestamp,
    /// The subjects with an open window, by its period.
    open: BTreeMap<Span, Vec<Subject>>,
    /// Whether `changed` has been told.
    noted: bool,
}

#[derive(Debug)]
enum Changed {
    Window(Subject, Span),
    Closed(Subject, Span),
    Site(Name),
}

impl Windows {
    /// No windows yet. A period is more than zero.
    #[must_use]
    pub fn new(period: Duration, published: MetricSet, grace: Duration) -> Self {
        Self {
            period,
            published,
            grace,
            series: FxHashMap::default(),
            sites: FxHashMap::default(),
            changed: Vec::new(),
        }
    }

    /// Counts an observation.
    pub fn observe(&mut self, origin: &Origin, observation: &Observation) -> Taken {
        if !Tally::counts(&observation.body, self.published) {
            return Taken::Nothing;
        }
        let (Some(subject), Some(empty)) =
            (Subject::of(&origin.site, &observation.body), Tally::of(&observation.body))
        else {
            return Taken::Nothing;
        };
        let published = self.published;
        let empty = || empty;
        self.count(subject, observation.at, empty, |tally| {
            tally.add(observation, published);
        })
    }

    /// Counts how long a batch was under way: from its `through`, in whose period it counts, to its receipt.
    pub fn delay(&mut self, site: &Name, through: Timestamp, received: Timestamp) -> Taken {
        if !self.published.has(Metric::PipelineDelay) {
            return Taken::Nothing;
        }
        let subject = Subject::Site { site: site.clone() };
        self.count(subject, through, Tally::of_site, |tally| {
            tally.add_delay(through, received);
        })
    }

    /// Takes note of a site's event time, and gives out what is over.
    ///
    /// Where event time goes back, a new boot has begun with an earlier clock. What the former boot left more than a
    /// period ahead would wait for the clock to get there again, so it is given out as it is.
    pub fn advance(&mut self, site: &Name, event_time: Timestamp) -> Vec<Datapoint> {
        let state = site_state(&mut self.sites, site);
        if event_time == state.at {
            return Vec::new();
        }
        let went_back = event_time < state.at;
        state.at = event_time;
        let over = event_time - self.grace;
        state.over = state.over.max(over);

        let mut closed = Vec::new();
        while let Some(entry) = state.open.first_entry()
            && entry.key().end <= over
        {
            closed.push(entry.remove_entry());
        }
        if went_back {
            // Past the end of the next period, so that nothing of the new boot's own is among it.
            let ahead = Span { end: event_time + self.period + self.period, start: Timestamp::MAX };
            closed.extend(state.open.split_off(&ahead));
            if let Some((span, _)) = closed.last() {
                state.over = state.over.max(span.end);
            }
        }
        if !state.noted {
            state.noted = true;
            self.changed.push(Changed::Site(site.clone()));
        }

        let mut out = Vec::new();
        for (span, subjects) in closed {
            for subject in subjects {
                self.close(subject, span, &mut out);
            }
        }
        out
    }

    /// What changed since the last call.
    pub fn changed(&mut self) -> Vec<Saved> {
        let mut saved = Vec::with_capacity(self.changed.len());
        for changed in std::mem::take(&mut self.changed) {
            match changed {
                Changed::Closed(subject, span) => saved.push(Saved { key: subject.key(span), value: None }),
                Changed::Window(subject, span) => {
                    // It may have closed in between.
                    if let Some(window) = window(&mut self.series, &subject, span) {
                        window.noted = false;
                        window.saved = true;
                        saved.push(Saved { key: subject.key(span), value: Some(window.encode()) });
                    }
                }
                Changed::Site(name) => {
                    if let Some(site) = self.sites.get_mut(&name) {
                        site.noted = false;
                        saved.push(Saved { key: site_key(&name), value: Some(site.encode()) });
                    }
                }
            }
        }
        saved
    }

    /// Takes back what was saved, into windows that are new.
    ///
    /// # Errors
    /// When a piece is not what [`Windows::changed`] gave.
    pub fn restore(&mut self, saved: impl IntoIterator<Item = Saved>) -> Result<(), RestoreError> {
        for Saved { key, value } in saved {
            let Some(value) = value else { continue };
            self.restore_piece(&key, &value).map_err(|Damaged| RestoreError { key })?;
        }
        Ok(())
    }

    fn count(
        &mut self,
        subject: Subject,
        at: Timestamp,
        empty: impl FnOnce() -> Tally,
        add: impl FnOnce(&mut Tally),
    ) -> Taken {
        let start = at.floor(self.period);
        let span = Span { start, end: start + self.period };
        // The one lookup of the common case, an open window.
        let window = match window(&mut self.series, &subject, span) {
            Some(window) => window,
            None => open(&mut self.series, &mut self.sites, &subject, span, empty()),
        };
        add(&mut window.tally);
        let late = window.late;
        if !window.noted {
            window.noted = true;
            self.changed.push(Changed::Window(subject, span));
        }
        if late { Taken::Late } else { Taken::OnTime }
    }

    fn close(&mut self, subject: Subject, span: Span, out: &mut Vec<Datapoint>) {
        let Some(windows) = self.series.get_mut(&subject) else {
            return;
        };
        let Some(place) = windows.iter().position(|window| window.span == span) else {
            return;
        };
        let window = windows.swap_remove(place);
        if windows.is_empty() {
            self.series.remove(&subject);
        }
        for (metric, values, tunnel) in window.tally.metrics(self.published) {
            out.push(Datapoint {
                metric,
                dimensions: subject.dimensions(tunnel),
                start: span.start,
                period: span.end.since(span.start),
                late: window.late,
                values,
            });
        }
        if window.saved {
            self.changed.push(Changed::Closed(subject, span));
        }
    }

    fn restore_piece(&mut self, key: &str, value: &[u8]) -> Result<(), Damaged> {
        let mut bytes = Bytes::new(value);
        let (span, names) = key.split_once(' ').ok_or(Damaged)?;
        let names: Vec<Name> = serde_json::from_str::<Vec<String>>(names)
            .map_err(|_| Damaged)?
            .into_iter()
            .map(Name::from)
            .collect();
        if span == SITE {
            let [name] = names.try_into().map_err(|_| Damaged)?;
            let site = site_state(&mut self.sites, &name);
            site.at = Timestamp::from_micros(bytes.i64()?);
            site.over = Timestamp::from_micros(bytes.i64()?);
        } else {
            let subject = Subject::from_names(names)?;
            let span = Span::read(span)?;
            let late = bytes.byte()? != 0;
            let tally = Tally::read(&mut bytes)?;
            let window = open(&mut self.series, &mut self.sites, &subject, span, tally);
            window.late = late;
            window.saved = true;
        }
        bytes.is_empty().then_some(()).ok_or(Damaged)
    }
}

fn window<'a>(
    series: &'a mut FxHashMap<Subject, Vec<Window>>,
    subject: &Subject,
    span: Span,
) -> Option<&'a mut Window> {
    // There is rarely more than one, and the newest is last.
    series.get_mut(subject)?.iter_mut().rev().find(|window| window.span == span)
}

fn open<'a>(
    series: &'a mut FxHashMap<Subject, Vec<Window>>,
    sites: &mut FxHashMap<Name, Site>,
    subject: &Subject,
    span: Span,
    tally: Tally,
) -> &'a mut Window {
    let site = site_state(sites, subject.site());
    site.open.entry(span).or_default().push(subject.clone());
    let windows = series.entry(subject.clone()).or_default();
    windows.push_mut(Window { span, late: span.end <= site.over, noted: false, saved: false, tally })
}

fn site_state<'a>(sites: &'a mut FxHashMap<Name, Site>, name: &Name) -> &'a mut Site {
    sites.entry(name.clone()).or_insert_with(|| Site {
        at: Timestamp::MIN,
        over: Timestamp::MIN,
        open: BTreeMap::new(),
        noted: false,
    })
}

impl Subject {
    /// What an observation is about, where it is about something measured.
    fn of(site: &Name, body: &Body) -> Option<Self> {
        let site = site.clone();
        Some(match body {
            Body::Probe { link, probe, .. } => Self::Probe { site, link: link.clone(), probe: probe.clone() },
            Body::Tunnels { link, vpn, .. } => Self::Vpn { site, link: link.clone(), vpn: vpn.clone() },
            Body::Evidence { .. } | Body::Drill { .. } => return None,
            Body::Collection { source, .. } => Self::Source { site, source: source.clone() },
        })
    }

    fn site(&self) -> &Name {
        match self {
            Self::Probe { site, .. }
            | Self::Vpn { site, .. }
            | Self::Source { site, .. }
            | Self::Site { site } => site,
        }
    }

    fn dimensions(&self, tunnel: Option<Name>) -> Vec<(&'static str, Name)> {
        let mut dimensions = match self.clone() {
            Self::Probe { site, link, probe } => vec![("Link", link), ("Site", site), ("Probe", probe)],
            Self::Vpn { link, vpn, .. } => vec![("Link", link), ("Vpn", vpn)],
            Self::Source { site, source } => vec![("Site", site), ("Source", source)],
            Self::Site { site } => vec![("Site", site)],
        };
        dimensions.extend(tunnel.map(|tunnel| ("Tunnel", tunnel)));
        dimensions
    }

    /// The key of its window for a period; names may hold any character, so they are written as JSON.
    fn key(&self, span: Span) -> String {
        let names = match self {
            Self::Probe { site, link, probe } => json(&[PROBE, site, link, probe]),
            Self::Vpn { site, link, vpn } => json(&[VPN, site, link, vpn]),
            Self::Source { site, source } => json(&[SOURCE, site, source]),
            Self::Site { site } => json(&[SITE, site]),
        };
        format!("{}-{} {names}", span.start.as_micros(), span.end.as_micros())
    }

    fn from_names(names: Vec<Name>) -> Result<Self, Damaged> {
        let mut names = names.into_iter();
        let kind = names.next().ok_or(Damaged)?;
        let mut name = || names.next().ok_or(Damaged);
        let site = name()?;
        let subject = match &*kind {
            PROBE => Self::Probe { site, link: name()?, probe: name()? },
            VPN => Self::Vpn { site, link: name()?, vpn: name()? },
            SOURCE => Self::Source { site, source: name()? },
            SITE => Self::Site { site },
            _ => return Err(Damaged),
        };
        names.next().is_none().then_some(subject).ok_or(Damaged)
    }
}

const PROBE: &str = "probe";
const VPN: &str = "vpn";
const SOURCE: &str = "source";
const SITE: &str = "site";

fn site_key(site: &str) -> String {
    format!("{SITE} {}", json(&[site]))
}

fn json(names: &[&str]) -> String {
    // A list of strings cannot fail to be written.
    serde_json::to_string(names).unwrap_or_default()
}

impl Span {
    fn read(text: &str) -> Result<Self, Damaged> {
        // A time before 1970 has a sign of its own.
        let middle = text.get(1..).and_then(|text| text.find('-')).ok_or(Damaged)? + 1;
        let (start, end) = text.split_at_checked(middle).ok_or(Damaged)?;
        let time = |text: &str| text.parse().map(Timestamp::from_micros).map_err(|_| Damaged);
        Ok(Self { start: time(start)?, end: time(&end[1..])? })
    }
}

impl Window {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = vec![u8::from(self.late)];
        self.tally.write(&mut bytes);
        bytes
    }
}

impl Site {
    fn encode(&self) -> Vec<u8> {
        let mut bytes = Vec::with_capacity(16);
        put_i64(&mut bytes, self.at.as_micros());
        put_i64(&mut bytes, self.over.as_micros());
        bytes
    }
}
