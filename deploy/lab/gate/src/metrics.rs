//! CloudWatch's metrics: what `PutMetricData` refuses, and a store of what it took.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::answer::Refusal;
use crate::call::{Call, Input};
use crate::cbor::Value;

const DATUMS: usize = 1_000;
const VALUES: usize = 150;
const DIMENSIONS: usize = 30;
/// Of a request's body on the wire: a compressed one counts compressed.
const BYTES: usize = 1_000_000;
/// 2^360: no value is farther from zero.
const FARTHEST: f64 = 2.348_542_582_773_833e108;
const OLDEST: Duration = Duration::from_secs(14 * 86_400);
const NEWEST: Duration = Duration::from_secs(2 * 3_600);
/// How many datums of a series are kept.
const KEPT: usize = 50_000;

pub(crate) const UNITS: [&str; 27] = [
    "Seconds",
    "Microseconds",
    "Milliseconds",
    "Bytes",
    "Kilobytes",
    "Megabytes",
    "Gigabytes",
    "Terabytes",
    "Bits",
    "Kilobits",
    "Megabits",
    "Gigabits",
    "Terabits",
    "Percent",
    "Count",
    "Bytes/Second",
    "Kilobytes/Second",
    "Megabytes/Second",
    "Gigabytes/Second",
    "Terabytes/Second",
    "Bits/Second",
    "Kilobits/Second",
    "Megabits/Second",
    "Gigabits/Second",
    "Terabits/Second",
    "Count/Second",
    "None",
];

/// What makes a metric one metric.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Series {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) namespace: String,
    pub(crate) name: String,
    /// Sorted.
    pub(crate) dimensions: Vec<(String, String)>,
}

/// One datum that was taken.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Stored {
    pub(crate) at: Timestamp,
    /// Values and how often each.
    pub(crate) values: Vec<(f64, f64)>,
    pub(crate) unit: Option<String>,
    pub(crate) resolution: i64,
    pub(crate) received_at: Timestamp,
}

/// A datum as `GET /datapoints` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Datapoint {
    /// The account it belongs to.
    pub account: String,
    /// The region it was put in.
    pub region: String,
    /// Its namespace.
    pub namespace: String,
    /// The metric's name.
    pub name: String,
    /// The metric's dimensions.
    pub dimensions: BTreeMap<String, String>,
    /// Its own time.
    pub at: Timestamp,
    /// Its distinct values.
    pub values: Vec<f64>,
    /// How often each was there.
    pub counts: Vec<f64>,
    /// Its unit, where one was given.
    pub unit: Option<String>,
    /// Storage resolution, in seconds: 1 or 60.
    pub resolution: i64,
    /// When the gate took it.
    pub received_at: Timestamp,
}

#[derive(Debug, Default)]
pub(crate) struct Metrics {
    series: BTreeMap<Series, VecDeque<Stored>>,
}

impl Metrics {
    pub(crate) fn add(&mut self, series: Series, stored: Stored) {
        let kept = self.series.entry(series).or_default();
        if kept.len() == KEPT {
            kept.pop_front();
        }
        kept.push_back(stored);
    }

    /// The datums of a series since a time, in the order they came.
    pub(crate) fn since(&self, series: &Series, start: Timestamp) -> impl Iterator<Item = &Stored> {
        self.series.get(series).into_iter().flatten().filter(move |stored| stored.at >= start)
    }

    pub(crate) fn list(&self, metric: Option<&str>, dimensions: &[(String, String)]) -> Vec<Datapoint> {
        let wanted = |series: &Series| {
            metric.is_none_or(|metric| series.name == metric)
                && dimensions.iter().all(|wanted| series.dimensions.contains(wanted))
        };
        let found = self.series.iter().filter(|(series, _)| wanted(series));
        found.flat_map(|(series, stored)| stored.iter().map(move |stored| view(series, stored))).collect()
    }

    pub(crate) fn clear(&mut self) {
        self.series.clear();
    }
}

fn view(series: &Series, stored: &Stored) -> Datapoint {
    Datapoint {
        account: series.account.clone(),
        region: series.region.clone(),
        namespace: series.namespace.clone(),
        name: series.name.clone(),
        dimensions: series.dimensions.iter().cloned().collect(),
        at: stored.at,
        values: stored.values.iter().map(|(value, _)| *value).collect(),
        counts: stored.values.iter().map(|(_, count)| *count).collect(),
        unit: stored.unit.clone(),
        resolution: stored.resolution,
        received_at: stored.received_at,
    }
}

/// The datums of a `PutMetricData`; one that is wrong refuses them all.
pub(crate) fn read(call: &Call, now: Timestamp) -> Result<Vec<(Series, Stored)>, Refusal> {
    let Input::Cbor(input) = &call.input else { return Err(value("no input")) };
    if call.body.len() > BYTES {
        let message = format!("the request has {} bytes; 1 MB is the most", call.body.len());
        return Err(Refusal::new(413, "RequestEntityTooLarge", message));
    }
    let namespace = input.text("Namespace").unwrap_or("");
    check_namespace(namespace)?;
    let data = input.list("MetricData");
    if data.is_empty() {
        return Err(missing("The parameter MetricData is required."));
    }
    if data.len() > DATUMS {
        return Err(value("The collection MetricData must not have a size greater than 1000."));
    }
    let numbered = data.iter().enumerate();
    numbered.map(|(index, datum)| read_datum(call, namespace, index + 1, datum, now)).collect()
}

fn check_namespace(namespace: &str) -> Result<(), Refusal> {
    if namespace.is_empty() {
        return Err(missing("The parameter Namespace is required."));
    }
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/#: ".contains(c);
    let fine = namespace.len() <= 255
        && namespace.chars().all(allowed)
        && !namespace.starts_with(':')
        && !namespace.starts_with("AWS/")
        && !namespace.trim().is_empty();
    if fine {
        Ok(())
    } else {
        Err(value(format!("The value {namespace} for parameter Namespace is invalid.")))
    }
}

fn read_datum(
    call: &Call,
    namespace: &str,
    place: usize,
    datum: &Value,
    now: Timestamp,
) -> Result<(Series, Stored), Refusal> {
    let member = format!("MetricData.member.{place}");
    let name = datum.text("MetricName").unwrap_or("");
    if name.trim().is_empty() {
        return Err(missing(format!("The parameter {member}.MetricName is required.")));
    }
    if name.len() > 255 || name.chars().any(|c| c.is_control()) {
        return Err(value(format!("The value {name} for parameter {member}.MetricName is invalid.")));
    }
    let dimensions = dimensions(datum, &member)?;
    let at = match datum.get("Timestamp") {
        None => now,
        Some(at) => time(at).ok_or_else(|| value(format!("The parameter {member}.Timestamp is no time.")))?,
    };
    if at < now - OLDEST {
        return Err(value(format!(
            "The parameter {member}.Timestamp must specify a time no more than two weeks in the past."
        )));
    }
    if at > now + NEWEST {
        return Err(value(format!(
            "The parameter {member}.Timestamp must specify a time within the next two hours."
        )));
    }
    let resolution = datum.int("StorageResolution").unwrap_or(60);
    if ![1, 60].contains(&resolution) {
        return Err(value(format!(
            "The value {resolution} for parameter {member}.StorageResolution is invalid."
        )));
    }
    let unit = datum.text("Unit");
    if let Some(unit) = unit
        && !UNITS.contains(&unit)
    {
        return Err(value(format!("The value {unit} for parameter {member}.Unit is invalid.")));
    }
    let series = Series {
        account: call.account.clone(),
        region: call.region.clone(),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        dimensions,
    };
    let values = values(datum, &member)?;
    let unit = unit.map(str::to_owned);
    Ok((series, Stored { at, values, unit, resolution, received_at: now }))
}

/// The dimensions of a datum or an alarm, sorted.
pub(crate) fn dimensions(of: &Value, member: &str) -> Result<Vec<(String, String)>, Refusal> {
    let list = of.list("Dimensions");
    if list.len() > DIMENSIONS {
        return Err(value(format!(
            "The collection {member}.Dimensions must not have a size greater than 30."
        )));
    }
    let mut dimensions = Vec::new();
    for (index, dimension) in list.iter().enumerate() {
        let member = format!("{member}.Dimensions.member.{}", index + 1);
        for (field, longest) in [("Name", 255), ("Value", 1_024)] {
            let text = dimension.text(field).unwrap_or("");
            if text.trim().is_empty() {
                return Err(missing(format!("The parameter {member}.{field} is required.")));
            }
            let printable = text.chars().all(|c| c.is_ascii() && !c.is_ascii_control());
            if text.len() > longest || !printable || (field == "Name" && text.starts_with(':')) {
                return Err(value(format!("The value {text} for parameter {member}.{field} is invalid.")));
            }
        }
        let text = |field| dimension.text(field).unwrap_or("").to_owned();
        if dimensions.iter().any(|(name, _)| *name == text("Name")) {
            return Err(value("No Metric may specify the same dimension name twice."));
        }
        dimensions.push((text("Name"), text("Value")));
    }
    dimensions.sort();
    Ok(dimensions)
}

fn values(datum: &Value, member: &str) -> Result<Vec<(f64, f64)>, Refusal> {
    let given: Vec<_> =
        ["Value", "Values", "StatisticValues"].into_iter().filter(|name| datum.get(name).is_some()).collect();
    if let [one, other, ..] = given[..] {
        return Err(combination(format!(
            "The parameters {member}.{one} and {member}.{other} are mutually exclusive and you have specified both."
        )));
    }
    let finite = |number: Option<f64>, field: &str| match number {
        Some(number) if number.is_finite() && number.abs() <= FARTHEST => Ok(number),
        Some(number) => Err(value(format!("The value {number} for parameter {member}.{field} is invalid."))),
        None => Err(value(format!("The parameter {member}.{field} is no number."))),
    };
    match given.first() {
        Some(&"Value") => {
            let number = finite(datum.get("Value").and_then(Value::number), "Value")?;
            Ok(vec![(number, 1.0)])
        }
        Some(&"Values") => {
            let numbers = datum.list("Values");
            let counts = datum.list("Counts");
            if numbers.is_empty() {
                return Err(value(format!("The parameter {member}.Values must not be empty.")));
            }
            if numbers.len() > VALUES {
                return Err(value(format!(
                    "The collection {member}.Values must not have a size greater than 150."
                )));
            }
            if datum.get("Counts").is_some() && counts.len() != numbers.len() {
                return Err(combination(format!(
                    "The parameters {member}.Values and {member}.Counts must be of the same size."
                )));
            }
            let mut values: Vec<(f64, f64)> = Vec::new();
            for (index, number) in numbers.iter().enumerate() {
                let number = finite(number.number(), &format!("Values.member.{}", index + 1))?;
                let count = match counts.get(index) {
                    None => 1.0,
                    Some(count) => finite(count.number(), &format!("Counts.member.{}", index + 1))?,
                };
                if count <= 0.0 {
                    return Err(value(format!(
                        "The value {count} for parameter {member}.Counts.member.{} must be greater than 0.",
                        index + 1
                    )));
                }
                values.push((number, count));
            }
            Ok(values)
        }
        Some(_) => {
            let set = datum.get("StatisticValues").unwrap_or(&Value::Null);
            let field = |name: &str| {
                finite(set.get(name).and_then(Value::number), &format!("StatisticValues.{name}"))
            };
            let (count, sum) = (field("SampleCount")?, field("Sum")?);
            let (least, most) = (field("Minimum")?, field("Maximum")?);
            if count <= 0.0 || least > most {
                return Err(value(format!("The parameter {member}.StatisticValues is inconsistent.")));
            }
            // Values with the same count, sum, minimum and maximum.
            Ok(if count <= 2.0 || least == most {
                vec![(least, count / 2.0), (most, count / 2.0)]
            } else {
                vec![(least, 1.0), (most, 1.0), ((sum - least - most) / (count - 2.0), count - 2.0)]
            })
        }
        None => Err(missing(format!(
            "At least one of the parameters {member}.Value, {member}.Values or {member}.StatisticValues must be specified."
        ))),
    }
}

fn time(value: &Value) -> Option<Timestamp> {
    let seconds = value.number().filter(|seconds| seconds.is_finite())?;
    // Saturates, and is held within what can be written.
    Some(Timestamp::from_micros((seconds * 1e6).round() as i64))
}

fn value(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "InvalidParameterValue", message)
}

fn combination(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "InvalidParameterCombination", message)
}

fn missing(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "MissingParameter", message)
}
