//! From owed windows to one request within CloudWatch's limits, and when to send it; pure.

use std::time::Duration;

use crosswatch_aws::cloudwatch::{
    AHEAD, BYTES, DATUMS, DIMENSIONS, Datum, GREATEST, OLDEST, Resolution, Unit, VALUES, request_size,
};
use crosswatch_shared::time::Timestamp;
use crosswatch_window::{GRACE, Metric, Values};

use super::owed::{Key, Summary, Window};

/// A request, and what of the windows can be in none.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Packed {
    /// The windows in it.
    pub(super) windows: Vec<Key>,
    pub(super) datums: Vec<Datum>,
    /// Too old, or too far ahead, to be taken by CloudWatch.
    pub(super) out_of_time: Vec<Key>,
    /// What CloudWatch would refuse, and why.
    pub(super) unfit: Vec<(Key, String)>,
}

/// Packs windows in their order until one does not fit: it and what follows is for the next request. A window is in a
/// request with all of its samples, in as many datums as those need.
pub(super) fn pack(
    namespace: &str,
    heartbeat: Option<Datum>,
    windows: impl IntoIterator<Item = Window>,
    now: Timestamp,
) -> Packed {
    let mut packed = Packed::default();
    let mut room = BYTES - request_size(namespace);
    if let Some(beat) = heartbeat {
        room -= beat.size();
        packed.datums.push(beat);
    }
    for window in windows {
        if window.start < now - OLDEST || window.start > now + AHEAD {
            packed.out_of_time.push(window.key);
            continue;
        }
        let datums = match datums(&window) {
            Ok(datums) => datums,
            Err(why) => {
                packed.unfit.push((window.key, why));
                continue;
            }
        };
        let size: usize = datums.iter().map(Datum::size).sum();
        // Beside a heartbeat, in a request of its own.
        if datums.len() >= DATUMS || size + request_size(namespace) + 256 > BYTES {
            packed.unfit.push((window.key, format!("{} datums are more than a request takes", datums.len())));
            continue;
        }
        if packed.datums.len() + datums.len() <= DATUMS && size <= room {
            room -= size;
            packed.windows.push(window.key);
            packed.datums.extend(datums);
        } else {
            break;
        }
    }
    packed
}

/// A window's datums; or why CloudWatch would refuse them.
fn datums(window: &Window) -> Result<Vec<Datum>, String> {
    let Window { metric, dimensions, start, period, .. } = window;
    let values = window.values.as_ref().ok_or("the samples are damaged, or are not kept any more")?;
    if dimensions.len() > DIMENSIONS {
        return Err(format!("{} dimensions are more than {DIMENSIONS}", dimensions.len()));
    }
    for (name, value) in dimensions {
        is_name(name, 255)?;
        is_name(value, 1_024)?;
    }
    let allowed = |value: f64| value == 0.0 || (GREATEST.recip()..=GREATEST).contains(&value.abs());
    if let Some((value, _)) = values.pairs().iter().find(|(value, _)| !allowed(*value)) {
        return Err(format!("the value {value} is none that CloudWatch takes"));
    }
    let datum = |part: Values| Datum {
        name: metric.clone(),
        dimensions: dimensions.clone(),
        at: *start,
        values: part.pairs().to_vec(),
        unit: unit(metric),
        resolution: if *period < Duration::from_mins(1) { Resolution::Second } else { Resolution::Minute },
    };
    Ok(values.parts(VALUES).map(datum).collect())
}

/// As the API reference has it, `Dimension`: ASCII without control characters, not blank.
fn is_name(text: &str, longest: usize) -> Result<(), String> {
    let printable = text.bytes().all(|byte| (b' '..=b'~').contains(&byte));
    if printable && !text.trim().is_empty() && text.len() <= longest {
        Ok(())
    } else {
        let shown: String = text.chars().take(80).collect();
        Err(format!("'{}' is no dimension that CloudWatch takes", shown.escape_debug()))
    }
}

fn unit(metric: &str) -> Unit {
    match Metric::from_word(metric) {
        Some(Metric::PingLatency | Metric::Jitter | Metric::CollectionLatency | Metric::PipelineDelay) => {
            Unit::Milliseconds
        }
        Some(Metric::TunnelsUp) => Unit::Count,
        Some(Metric::TunnelState | Metric::PingSuccess | Metric::CollectionSuccess) | None => Unit::None,
    }
}

/// Whether what is owed should go now, so that a period is one put: when a request is full, when each site that keeps up
/// is past the newest period, or when the first has `waited` for `most`.
///
/// `sites` are the event times. One that is further behind than it can be while it keeps up is not waited for.
pub(super) fn is_due(
    owed: &Summary,
    waited: Duration,
    most: Duration,
    sites: impl IntoIterator<Item = Timestamp>,
    now: Timestamp,
) -> bool {
    let Some(end) = owed.newest_end else { return false };
    let keeps_up = |at: &Timestamp| now.since(*at) <= 2 * most;
    owed.ready >= DATUMS - 1
        || waited >= most
        || sites.into_iter().filter(keeps_up).all(|at| at >= end + GRACE)
}

#[cfg(test)]
#[path = "pack_tests.rs"]
mod tests;
