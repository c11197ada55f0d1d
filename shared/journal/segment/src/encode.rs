//! Entries into columns.

use crosswatch_shared::observation::{Body, Detail, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::wire;
use rustc_hash::FxHashMap;
use serde::{Deserialize, Serialize};

use crate::columns::Sections;
use crate::{Content, Entry, MAGIC, SegmentError, VERSION};

/// The names that numbers in the columns stand for.
#[derive(Default, Serialize, Deserialize)]
pub(crate) struct Head {
    pub(crate) entries: usize,
    /// Observations in all, of which so many are outcomes in columns.
    pub(crate) observations: usize,
    pub(crate) plain: usize,
    /// How many of those are replies.
    pub(crate) replies: usize,
    /// Who made batches.
    pub(crate) boots: Vec<Origin3>,
    /// Link and probe.
    pub(crate) series: Vec<(String, String)>,
    /// How many outcomes each series has.
    pub(crate) lengths: Vec<usize>,
    /// Whether round-trip times are whole nanoseconds.
    pub(crate) nanoseconds: bool,
}

/// Site, collector and boot.
pub(crate) type Origin3 = (String, String, String);

/// What stands for an entry without a boot: one that is kept as it is.
pub(crate) const RAW: u32 = u32::MAX;

/// Added to an outcome's code where this process's clock stamped it.
pub(crate) const USER_STAMPED: u32 = 16;

/// Makes a segment of entries.
///
/// # Errors
/// They are too many.
pub fn encode(entries: &[Entry]) -> Result<Vec<u8>, SegmentError> {
    let mut head = Head { entries: entries.len(), ..Head::default() };
    let mut of_entries = Entries::default();
    let mut boots: FxHashMap<&Origin, u32> = FxHashMap::default();
    let mut places: FxHashMap<(&Name, &Name), usize> = FxHashMap::default();
    let mut series: Vec<Series> = Vec::new();
    let (mut seqs, mut others, mut raw) = (Vec::new(), Vec::new(), Vec::new());
    let mut other_places: Vec<u32> = Vec::new();
    for Entry { written_at, content } in entries {
        of_entries.written.push(written_at.as_micros());
        let batch = match content {
            Content::Batch(batch) => batch,
            Content::Raw(payload) => {
                of_entries.put(RAW, 0, 0, payload.len());
                raw.extend_from_slice(payload);
                continue;
            }
        };
        let boot = *boots.entry(&batch.origin).or_insert_with(|| {
            let Origin { site, collector, boot } = &batch.origin;
            head.boots.push((site.to_string(), collector.to_string(), boot.to_string()));
            head.boots.len() as u32 - 1
        });
        of_entries.put(boot, batch.number, batch.through.as_micros(), batch.observations.len());
        for observation in &batch.observations {
            let place = u32::try_from(seqs.len()).map_err(|_| SegmentError::TooLarge)?;
            seqs.push(observation.seq);
            let Some((link, probe, code, rtt_ms)) = plain(observation) else {
                other_places.push(place);
                others.extend_from_slice(wire::encode_row(&batch.origin, observation).as_bytes());
                others.push(b'\n');
                continue;
            };
            let index = *places.entry((link, probe)).or_insert_with(|| {
                head.series.push((link.to_string(), probe.to_string()));
                series.push(Series::default());
                series.len() - 1
            });
            if let Some(of) = series.get_mut(index) {
                of.places.push(place);
                of.times.push(observation.at.as_micros());
                of.codes.push(code);
                of.rtts.extend(rtt_ms);
            }
        }
    }
    head.observations = seqs.len();
    head.lengths = series.iter().map(|of| of.places.len()).collect();
    head.plain = head.lengths.iter().sum();
    head.replies = series.iter().map(|of| of.rtts.len()).sum();
    let whole: Option<Vec<i64>> =
        series.iter().flat_map(|of| &of.rtts).map(|rtt| nanoseconds(*rtt)).collect();
    head.nanoseconds = whole.is_some();

    let mut out = Sections::default();
    out.0.extend_from_slice(MAGIC);
    out.0.extend_from_slice(&VERSION.to_le_bytes());
    let text = serde_json::to_vec(&head).map_err(|_| SegmentError::TooLarge)?;
    out.text(&text)?;
    of_entries.write(&mut out)?;
    out.column(&seqs)?;
    out.column(&joined(&series, |of| &of.places))?;
    out.column(&joined(&series, |of| &of.times))?;
    out.column(&joined(&series, |of| &of.codes))?;
    match whole {
        Some(whole) => out.column(&whole)?,
        None => out.column(&joined(&series, |of| &of.rtts))?,
    }
    out.column(&other_places)?;
    out.text(&others)?;
    out.text(&raw)?;
    let sum = crc32fast::hash(&out.0);
    out.0.extend_from_slice(&sum.to_le_bytes());
    Ok(out.0)
}

#[derive(Default)]
struct Entries {
    written: Vec<i64>,
    boots: Vec<u32>,
    numbers: Vec<u64>,
    throughs: Vec<i64>,
    /// How many observations, or of one that is kept as it is how many bytes.
    counts: Vec<u64>,
}

impl Entries {
    fn put(&mut self, boot: u32, number: u64, through: i64, count: usize) {
        self.boots.push(boot);
        self.numbers.push(number);
        self.throughs.push(through);
        self.counts.push(count as u64);
    }

    fn write(&self, out: &mut Sections) -> Result<(), SegmentError> {
        out.column(&self.written)?;
        out.column(&self.boots)?;
        out.column(&self.numbers)?;
        // A promise is made shortly before it is written.
        let behind: Vec<i64> = self
            .written
            .iter()
            .zip(&self.throughs)
            .map(|(written, through)| written.wrapping_sub(*through))
            .collect();
        out.column(&behind)?;
        out.column(&self.counts)
    }
}

/// The outcomes of one probe: their places among all observations, and what they were.
#[derive(Default)]
struct Series {
    places: Vec<u32>,
    times: Vec<i64>,
    codes: Vec<u32>,
    rtts: Vec<f64>,
}

fn joined<T: Copy>(series: &[Series], of: impl Fn(&Series) -> &Vec<T>) -> Vec<T> {
    series.iter().flat_map(|series| of(series).iter().copied()).collect()
}

/// An outcome that the columns can hold: 0 for a reply, else the kind of loss.
fn plain(observation: &Observation) -> Option<(&Name, &Name, u32, Option<f64>)> {
    let Body::Probe { link, probe, outcome, detail } = &observation.body else { return None };
    let stamped = match detail.as_deref() {
        None => 0,
        Some(detail) if *detail == (Detail { user_stamped: true, ..Detail::default() }) => USER_STAMPED,
        Some(_) => return None,
    };
    let (code, rtt_ms) = match outcome {
        Outcome::Reply { rtt_ms } => (0, Some(*rtt_ms)),
        Outcome::Lost(lost) => (Lost::ALL.iter().position(|known| known == lost)? as u32 + 1, None),
    };
    Some((link, probe, code + stamped, rtt_ms))
}

/// A round-trip time as whole nanoseconds, where it is exactly that.
fn nanoseconds(rtt_ms: f64) -> Option<i64> {
    let whole = (rtt_ms * 1e6).round();
    // Beyond this not every whole number is one.
    if !(0.0..9e15).contains(&whole) {
        return None;
    }
    let whole = whole as i64;
    (milliseconds(whole).to_bits() == rtt_ms.to_bits()).then_some(whole)
}

/// And back.
pub(crate) fn milliseconds(nanoseconds: i64) -> f64 {
    nanoseconds as f64 / 1e6
}
