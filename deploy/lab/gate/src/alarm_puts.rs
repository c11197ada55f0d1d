//! `PutMetricAlarm` and `PutCompositeAlarm`, with the limits that AWS documents.

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_evaluator::{Comparison, MetricAlarm, Missing, Statistic, composite};

use crate::alarm_calls::{done, invalid};
use crate::alarm_store::{Alarm, Kind, bare};
use crate::answer::{Answer, Refusal};
use crate::call::Call;
use crate::cbor::Value;
use crate::gate::{State as Gate, lock};
use crate::metrics::{self, Series};

const ACTIONS: usize = 5;
const DAY: i64 = 86_400;

pub(crate) fn put_metric(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    check_common(call, input)?;
    if input.get("Metrics").is_some() || input.get("ThresholdMetricId").is_some() {
        return Err(invalid(
            "the gate takes alarms on one metric alone, not on metric math or anomaly bands",
        ));
    }
    let alarm = read_metric(input)?;
    let dimensions = metrics::dimensions(input, "Alarm").map_err(|refusal| invalid(refusal.message))?;
    let text = |name: &str| input.text(name).unwrap_or("").to_owned();
    for name in ["MetricName", "Namespace"] {
        if text(name).trim().is_empty() || text(name).len() > 255 {
            return Err(invalid(format!("{name} must have 1 to 255 characters")));
        }
    }
    if let Some(unit) = input.text("Unit")
        && !metrics::UNITS.contains(&unit)
    {
        return Err(invalid(format!(
            "Value '{unit}' at 'unit' failed to satisfy constraint: Member must satisfy enum value set"
        )));
    }
    let series = Series {
        account: call.account.clone(),
        region: call.region.clone(),
        namespace: text("Namespace"),
        name: text("MetricName"),
        dimensions,
    };
    keep(gate, call, input, Kind::Metric { alarm, series })
}

fn read_metric(input: &Value) -> Result<MetricAlarm, Refusal> {
    let number =
        |name: &str| input.int(name).ok_or_else(|| invalid(format!("The parameter {name} is required")));
    let (period, periods) = (number("Period")?, number("EvaluationPeriods")?);
    if !([10, 20, 30].contains(&period) || (period > 0 && period % 60 == 0)) {
        return Err(invalid("Invalid Period: periods must be 10, 20, 30 or a multiple of 60"));
    }
    if periods < 1 {
        return Err(invalid("EvaluationPeriods must be 1 or more"));
    }
    let datapoints = input.int("DatapointsToAlarm").unwrap_or(periods);
    if !(1..=periods).contains(&datapoints) {
        return Err(invalid("DatapointsToAlarm must be between 1 and EvaluationPeriods"));
    }
    let longest = if period >= 3_600 { 7 * DAY } else { DAY };
    if period.checked_mul(periods).is_none_or(|whole| whole > longest) {
        return Err(invalid(format!(
            "Metrics cannot be checked across more than {} (EvaluationPeriods * Period must be <= {longest})",
            if period >= 3_600 { "a week" } else { "a day" }
        )));
    }
    let threshold = input.get("Threshold").and_then(Value::number).filter(|threshold| threshold.is_finite());
    let threshold = threshold.ok_or_else(|| invalid("Threshold must be a number"))?;
    let operator = input.text("ComparisonOperator").unwrap_or("");
    let comparison = Comparison::parse(operator).ok_or_else(|| {
        invalid(format!("Value '{operator}' at 'comparisonOperator' failed to satisfy constraint"))
    })?;
    let missing = input.text("TreatMissingData").unwrap_or("missing");
    let missing = Missing::parse(missing).ok_or_else(|| {
        invalid(format!("TreatMissingData was '{missing}': breaching, notBreaching, ignore or missing"))
    })?;
    let u32 = |number: i64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(MetricAlarm {
        period: Duration::from_secs(period.unsigned_abs()),
        evaluation_periods: u32(periods),
        datapoints_to_alarm: u32(datapoints),
        statistic: statistic(input)?,
        comparison,
        threshold,
        missing,
    })
}

fn statistic(input: &Value) -> Result<Statistic, Refusal> {
    match (input.text("Statistic"), input.text("ExtendedStatistic")) {
        (Some(_), Some(_)) => Err(invalid("Statistic and ExtendedStatistic exclude each other")),
        (None, None) => Err(invalid("Statistic or ExtendedStatistic is required")),
        (Some(simple), None) => Statistic::parse(simple)
            .filter(|statistic| !matches!(statistic, Statistic::Percentile(_)))
            .ok_or_else(|| invalid(format!("Value '{simple}' at 'statistic' failed to satisfy constraint"))),
        (None, Some(extended)) => Statistic::parse(extended)
            .filter(|statistic| matches!(statistic, Statistic::Percentile(_)))
            .ok_or_else(|| {
                invalid(format!("ExtendedStatistic '{extended}': the gate takes p0 to p100, such as p99.9"))
            }),
    }
}

pub(crate) fn put_composite(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    check_common(call, input)?;
    let text = input.text("AlarmRule").unwrap_or("");
    let rule = composite::parse(text).map_err(|error| invalid(format!("Invalid AlarmRule: {error}")))?;
    if input.get("ActionsSuppressor").is_some() {
        return Err(invalid("the gate does not know ActionsSuppressor, so it does not take it"));
    }
    {
        let alarms = lock(&gate.alarms);
        let name = input.text("AlarmName").unwrap_or("");
        let children = rule.children();
        let there = |child: &str| alarms.of(call).any(|alarm| is_child(alarm, child));
        let absent: Vec<_> = children.iter().copied().filter(|child| !there(child)).collect();
        if !absent.is_empty() {
            return Err(invalid(format!(
                "Could not save the composite alarm as alarms [{}] in the alarm rule do not exist",
                absent.join(", ")
            )));
        }
        // What depends on this one, at any distance, cannot be among its children.
        let mut above = vec![name];
        let mut at = 0;
        while let Some(alarm) = above.get(at).copied() {
            if children.iter().any(|child| bare(child) == alarm) {
                return Err(invalid(format!("the alarm rule makes a cycle through {alarm}")));
            }
            let more: Vec<_> = alarms.parents(call, alarm).filter(|parent| !above.contains(parent)).collect();
            above.extend(more);
            at += 1;
        }
    }
    keep(gate, call, input, Kind::Composite { rule, text: text.to_owned() })
}

fn is_child(alarm: &Alarm, child: &str) -> bool {
    if child.starts_with("arn:") { alarm.arn() == child } else { alarm.name == child }
}

/// What both kinds of alarms have.
fn check_common(call: &Call, input: &Value) -> Result<(), Refusal> {
    let name = input.text("AlarmName").unwrap_or("");
    if name.is_empty() || name.chars().count() > 255 || name.chars().any(char::is_control) {
        return Err(invalid("AlarmName must have 1 to 255 characters"));
    }
    if input.text("AlarmDescription").is_some_and(|text| text.chars().count() > 1_024) {
        return Err(invalid("AlarmDescription must have at most 1024 characters"));
    }
    for actions in ["OKActions", "AlarmActions", "InsufficientDataActions"] {
        let list = input.texts(actions);
        if list.len() > ACTIONS {
            return Err(invalid(format!("{actions} must have at most 5 members")));
        }
        for action in list {
            let parts: Vec<_> = action.split(':').collect();
            let [arn, partition, service, region, _, ..] = parts[..] else {
                return Err(invalid(format!("Invalid ARN: {action}")));
            };
            if arn != "arn" || !partition.starts_with("aws") || parts.len() < 6 {
                return Err(invalid(format!("Invalid ARN: {action}")));
            }
            if !["sns", "lambda", "automate", "ssm", "autoscaling", "swf", "ssm-incidents"].contains(&service)
            {
                return Err(invalid(format!("Invalid ARN: {action}: no alarm acts on {service}")));
            }
            if service != "automate" && region != call.region {
                return Err(invalid(format!(
                    "Invalid region {region} specified. Only {} is supported.",
                    call.region
                )));
            }
        }
    }
    read_tags(input).map(drop)
}

pub(crate) fn read_tags(input: &Value) -> Result<BTreeMap<String, String>, Refusal> {
    let mut tags = BTreeMap::new();
    for tag in input.list("Tags") {
        let (key, value) = (tag.text("Key").unwrap_or(""), tag.text("Value").unwrap_or(""));
        let allowed = |c: char| c.is_alphanumeric() || " _.:/=+-@".contains(c);
        let fine = (1..=128).contains(&key.chars().count())
            && value.chars().count() <= 256
            && key.chars().chain(value.chars()).all(allowed)
            && !key.to_ascii_lowercase().starts_with("aws:");
        if !fine {
            return Err(invalid(format!("the tag '{key}' = '{value}' is invalid")));
        }
        if tags.insert(key.to_owned(), value.to_owned()).is_some() {
            return Err(invalid(format!("the tag '{key}' is there twice")));
        }
    }
    if tags.len() > 50 {
        return Err(invalid("at most 50 tags"));
    }
    Ok(tags)
}

fn keep(gate: &Gate, call: &Call, input: &Value, kind: Kind) -> Result<Answer, Refusal> {
    let tags = read_tags(input)?;
    if lock(&gate.alarms).keep(call, input, kind, tags, gate.now()) {
        return done();
    }
    let name = input.text("AlarmName").unwrap_or("");
    Err(invalid(format!("{name} is an alarm of the other kind; delete it first")))
}
