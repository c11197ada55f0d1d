//! Columns into entries.

use std::ops::Range;

use crosswatch_shared::observation::{Batch, Body, Detail, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::{self, Names, Row};

use crate::columns::{Reading, damaged};
use crate::encode::{Head, RAW, USER_STAMPED, milliseconds};
use crate::{Content, Entry, MAGIC, SegmentError, VERSION};

/// A segment read: columns, of which entries are made one by one.
#[derive(Debug)]
pub struct Segment {
    boots: Vec<Origin>,
    series: Vec<(Name, Name)>,
    entries: Vec<Place>,
    seqs: Vec<u64>,
    times: Vec<i64>,
    /// The series of each observation; of another the place of its body.
    of: Vec<u32>,
    codes: Vec<u8>,
    rtts: Vec<f64>,
    others: Vec<(Timestamp, Body)>,
    raw: Vec<u8>,
}

/// An entry, and where its observations or bytes are.
#[derive(Debug)]
struct Place {
    written: i64,
    boot: u32,
    number: u64,
    through: i64,
    from: usize,
    to: usize,
}

/// What stands in place of an outcome's code for what is no plain outcome.
const OTHER: u8 = u8::MAX;

impl Segment {
    /// Reads a segment whole, after its checksum.
    ///
    /// # Errors
    /// It is something else, newer or damaged.
    pub fn decode(bytes: &[u8]) -> Result<Self, SegmentError> {
        let body = bytes.strip_prefix(MAGIC).ok_or(SegmentError::Foreign)?;
        let (version, _) = body.split_first_chunk().ok_or_else(|| damaged("it is cut off"))?;
        let found = u32::from_le_bytes(*version);
        if found != VERSION {
            return Err(SegmentError::Newer { found });
        }
        let (whole, sum) = bytes.split_last_chunk().ok_or_else(|| damaged("it is cut off"))?;
        if crc32fast::hash(whole) != u32::from_le_bytes(*sum) {
            return Err(damaged("its checksum is another"));
        }
        let sections = whole.get(MAGIC.len() + size_of_val(&VERSION)..);
        Self::read(Reading(sections.ok_or_else(|| damaged("it is cut off"))?))
    }

    fn read(mut reading: Reading<'_>) -> Result<Self, SegmentError> {
        let head: Head = serde_json::from_slice(&reading.text()?).map_err(damaged)?;
        let written: Vec<i64> = reading.column(head.entries)?;
        let boots: Vec<u32> = reading.column(head.entries)?;
        let numbers: Vec<u64> = reading.column(head.entries)?;
        let behind: Vec<i64> = reading.column(head.entries)?;
        let counts: Vec<u64> = reading.column(head.entries)?;
        let seqs: Vec<u64> = reading.column(head.observations)?;
        let places: Vec<u32> = reading.column(head.plain)?;
        let at: Vec<i64> = reading.column(head.plain)?;
        let code: Vec<u32> = reading.column(head.plain)?;
        let rtt: Vec<f64> = if head.nanoseconds {
            reading.column::<i64>(head.replies)?.into_iter().map(milliseconds).collect()
        } else {
            reading.column(head.replies)?
        };
        let other_places: Vec<u32> = reading.column(head.observations - head.plain.min(head.observations))?;
        let others = others(&reading.text()?)?;
        let raw = reading.text()?;

        let mut entries = Vec::with_capacity(head.entries);
        let (mut observed, mut kept) = (0, 0);
        for index in 0..head.entries {
            let of = |column: &[u64]| column.get(index).copied().unwrap_or(0);
            let boot = boots.get(index).copied().unwrap_or(RAW);
            let end = if boot == RAW { &mut kept } else { &mut observed };
            let from = *end;
            *end += usize::try_from(of(&counts)).unwrap_or(usize::MAX / 4);
            let (written, behind) = (written.get(index).copied(), behind.get(index).copied());
            let (written, behind) = (written.unwrap_or(0), behind.unwrap_or(0));
            let through = written.wrapping_sub(behind);
            entries.push(Place { written, boot, number: of(&numbers), through, from, to: *end });
        }
        if observed != head.observations || kept != raw.len() || others.len() != other_places.len() {
            return Err(damaged("its entries hold other counts than its columns"));
        }

        // From series by series into the order of the entries.
        let mut times = vec![0; head.observations];
        let mut of = vec![0; head.observations];
        let mut codes = vec![OTHER; head.observations];
        let mut rtts = vec![0.0; head.observations];
        let mut replies = rtt.into_iter();
        let mut next = 0;
        for (series, length) in head.lengths.iter().enumerate() {
            for index in next..next + length {
                let (Some(place), Some(code)) = (places.get(index), code.get(index)) else {
                    return Err(damaged("a series is longer than its columns"));
                };
                let place = *place as usize;
                let (Some(time), Some(at)) = (times.get_mut(place), at.get(index)) else {
                    return Err(damaged("an observation is beyond the last"));
                };
                *time = *at;
                of[place] = series as u32;
                codes[place] = u8::try_from(*code).map_err(damaged)?;
                if code % USER_STAMPED == 0 {
                    rtts[place] = replies.next().ok_or_else(|| damaged("a reply has no time"))?;
                }
            }
            next += length;
        }
        for (index, place) in other_places.iter().enumerate() {
            let of =
                of.get_mut(*place as usize).ok_or_else(|| damaged("an observation is beyond the last"))?;
            *of = index as u32;
        }
        let name = |text: &String| Name::from(text.as_str());
        Ok(Self {
            boots: head
                .boots
                .iter()
                .map(|(site, collector, boot)| Origin {
                    site: name(site),
                    collector: name(collector),
                    boot: name(boot),
                })
                .collect(),
            series: head.series.iter().map(|(link, probe)| (name(link), name(probe))).collect(),
            entries,
            seqs,
            times,
            of,
            codes,
            rtts,
            others,
            raw,
        })
    }

    /// How many entries it has.
    #[must_use]
    pub fn len(&self) -> usize {
        self.entries.len()
    }

    /// Whether it has none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// The entry at this place, from 0.
    ///
    /// # Errors
    /// What the columns say of it contradicts itself, or there is no such place.
    pub fn entry(&self, place: usize) -> Result<Entry, SegmentError> {
        let beyond = || damaged("an entry names what is not there");
        let Place { written, boot, number, through, from, to } =
            self.entries.get(place).ok_or_else(beyond)?;
        let written_at = Timestamp::from_micros(*written);
        if *boot == RAW {
            let payload = self.raw.get(*from..*to).ok_or_else(beyond)?.to_vec();
            return Ok(Entry { written_at, content: Content::Raw(payload) });
        }
        let origin = self.boots.get(*boot as usize).ok_or_else(beyond)?.clone();
        let observations = self.observations(*from..*to).ok_or_else(beyond)?;
        let through = Timestamp::from_micros(*through);
        let batch = Batch { origin, number: *number, through, observations };
        Ok(Entry { written_at, content: Content::Batch(batch) })
    }

    fn observations(&self, places: Range<usize>) -> Option<Vec<Observation>> {
        let seqs = self.seqs.get(places.clone())?.iter();
        let times = self.times.get(places.clone())?.iter();
        let of = self.of.get(places.clone())?.iter();
        let codes = self.codes.get(places.clone())?.iter();
        let rtts = self.rtts.get(places)?.iter();
        let mut observations = Vec::with_capacity(seqs.len());
        for ((((seq, time), of), code), rtt_ms) in seqs.zip(times).zip(of).zip(codes).zip(rtts) {
            let (at, body) = if *code == OTHER {
                self.others.get(*of as usize)?.clone()
            } else {
                let (link, probe) = self.series.get(*of as usize)?.clone();
                let (code, stamped) = (u32::from(*code) % USER_STAMPED, u32::from(*code) >= USER_STAMPED);
                let outcome = match code {
                    0 => Outcome::Reply { rtt_ms: *rtt_ms },
                    code => Outcome::Lost(*Lost::ALL.get(code as usize - 1)?),
                };
                let detail = stamped.then(|| Box::new(Detail { user_stamped: true, ..Detail::default() }));
                (Timestamp::from_micros(*time), Body::Probe { link, probe, outcome, detail })
            };
            observations.push(Observation { at, seq: *seq, body });
        }
        Some(observations)
    }
}

fn others(text: &[u8]) -> Result<Vec<(Timestamp, Body)>, SegmentError> {
    let mut names = Names::default();
    let lines = text.split(|byte| *byte == b'\n').filter(|line| !line.is_empty());
    lines
        .map(|line| match wire::decode_row(line, &mut names).map_err(damaged)? {
            Row::Observation(_, observation) => Ok((observation.at, observation.body)),
            Row::UnknownKind(kind) => Err(damaged(format!("an observation of the kind '{kind}'"))),
        })
        .collect()
}
