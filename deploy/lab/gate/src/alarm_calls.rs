//! CloudWatch's calls about alarms: kept by the gate alone, with the limits that AWS documents.

use std::collections::{BTreeMap, VecDeque};
use std::time::Duration;

use crosswatch_evaluator::{Comparison, MetricAlarm, Missing, State, Statistic, composite};
use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::answer::{Answer, Refusal};
use crate::call::{Call, Input};
use crate::cbor::Value;
use crate::gate::{State as Gate, lock};
use crate::metrics::{self, Series};

const ACTIONS: usize = 5;
const DAY: i64 = 86_400;
/// How many transitions of an alarm are kept.
const HISTORY: usize = 1_000;

type Key = (String, String, String);

/// Account, region and name of each alarm, and the alarm.
#[derive(Debug, Default)]
pub(crate) struct Alarms(BTreeMap<Key, Alarm>);

#[derive(Debug)]
pub(crate) struct Alarm {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) name: String,
    pub(crate) kind: Kind,
    /// As it was put; tells it back.
    pub(crate) input: Value,
    pub(crate) state: State,
    pub(crate) reason: String,
    pub(crate) updated: Timestamp,
    configured: Timestamp,
    tags: BTreeMap<String, String>,
    pub(crate) enabled: bool,
    history: VecDeque<Transition>,
    failed_actions: Vec<String>,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Metric { alarm: MetricAlarm, series: Series },
    Composite { rule: composite::Rule, text: String },
}

/// A message that a change of state owes.
#[derive(Clone, Debug)]
pub(crate) struct Publication {
    pub(crate) account: String,
    pub(crate) region: String,
    pub(crate) topic: String,
    pub(crate) alarm: String,
    pub(crate) state: State,
    /// The JSON that subscribers other than phones get.
    pub(crate) message: String,
}

/// An alarm as `GET /alarms` tells it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct AlarmView {
    /// Its account.
    pub account: String,
    /// Its region.
    pub region: String,
    /// Its name.
    pub name: String,
    /// `metric` or `composite`.
    pub kind: String,
    /// `OK`, `ALARM` or `INSUFFICIENT_DATA`.
    pub state: String,
    /// Why it is in this state.
    pub reason: String,
    /// Its tags.
    pub tags: BTreeMap<String, String>,
    /// Its changes of state, the newest thousand, oldest first.
    pub history: Vec<Transition>,
    /// Actions that failed, with the topic and the error's code.
    pub failed_actions: Vec<String>,
}

/// A change of an alarm's state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Transition {
    /// When.
    pub at: Timestamp,
    /// From which state.
    pub from: String,
    /// To which state.
    pub to: String,
    /// Why.
    pub reason: String,
}

impl Alarms {
    pub(crate) fn iter_mut(&mut self) -> impl Iterator<Item = &mut Alarm> {
        self.0.values_mut()
    }

    pub(crate) fn len(&self) -> usize {
        self.0.len()
    }

    pub(crate) fn states(&self) -> BTreeMap<Key, State> {
        self.0.iter().map(|(key, alarm)| (key.clone(), alarm.state)).collect()
    }

    pub(crate) fn action_failed(&mut self, account: &str, region: &str, name: &str, why: &str) {
        if let Some(alarm) = self.0.get_mut(&(account.to_owned(), region.to_owned(), name.to_owned())) {
            alarm.failed_actions.push(why.to_owned());
        }
    }

    pub(crate) fn views(&self) -> Vec<AlarmView> {
        self.0.values().map(Alarm::view).collect()
    }

    pub(crate) fn forget_history(&mut self) {
        for alarm in self.0.values_mut() {
            alarm.history.clear();
            alarm.failed_actions.clear();
        }
    }

    /// Those of a caller.
    fn of<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Alarm> {
        self.0.values().filter(|alarm| alarm.account == call.account && alarm.region == call.region)
    }

    /// The composites that depend on an alarm.
    fn parents<'a>(&'a self, call: &'a Call, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.of(call).filter_map(move |alarm| match &alarm.kind {
            Kind::Composite { rule, .. } => {
                rule.children().iter().any(|child| bare(child) == name).then_some(alarm.name.as_str())
            }
            Kind::Metric { .. } => None,
        })
    }
}

impl Alarm {
    pub(crate) fn arn(&self) -> String {
        format!("arn:aws:cloudwatch:{}:{}:alarm:{}", self.region, self.account, self.name)
    }

    /// The state of a composite's child. One that was deleted behind its back has none.
    pub(crate) fn child_state(&self, states: &BTreeMap<Key, State>, child: &str) -> State {
        let key = (self.account.clone(), self.region.clone(), bare(child).to_owned());
        states.get(&key).copied().unwrap_or(State::InsufficientData)
    }

    pub(crate) fn note(&mut self, before: State, reason: String, now: Timestamp) {
        if self.history.len() == HISTORY {
            self.history.pop_front();
        }
        self.history.push_back(Transition {
            at: now,
            from: before.word().to_owned(),
            to: self.state.word().to_owned(),
            reason,
        });
    }

    fn view(&self) -> AlarmView {
        AlarmView {
            account: self.account.clone(),
            region: self.region.clone(),
            name: self.name.clone(),
            kind: if matches!(self.kind, Kind::Metric { .. }) { "metric" } else { "composite" }.to_owned(),
            state: self.state.word().to_owned(),
            reason: self.reason.clone(),
            tags: self.tags.clone(),
            history: self.history.iter().cloned().collect(),
            failed_actions: self.failed_actions.clone(),
        }
    }

    /// As `DescribeAlarms` tells it: what was put, and what became of it.
    fn described(&self) -> Value {
        let Value::Map(input) = &self.input else { return Value::Null };
        let told = |name: &str| !["Tags", "ActionsEnabled"].contains(&name);
        let mut fields: Vec<_> = input.iter().filter(|(name, _)| told(name)).cloned().collect();
        for name in ["OKActions", "AlarmActions", "InsufficientDataActions"] {
            if !fields.iter().any(|(field, _)| field == name) {
                fields.push((name.to_owned(), Value::List(Vec::new())));
            }
        }
        let time = |at: Timestamp| Value::Time(at.as_micros() as f64 / 1e6);
        fields.extend([
            ("ActionsEnabled".to_owned(), Value::Bool(self.enabled)),
            ("AlarmArn".to_owned(), Value::Text(self.arn())),
            ("StateValue".to_owned(), self.state.word().into()),
            ("StateReason".to_owned(), Value::Text(self.reason.clone())),
            ("StateUpdatedTimestamp".to_owned(), time(self.updated)),
            ("StateTransitionedTimestamp".to_owned(), time(self.updated)),
            ("AlarmConfigurationUpdatedTimestamp".to_owned(), time(self.configured)),
        ]);
        Value::Map(fields)
    }
}

/// The name of an alarm that a rule names by name or by ARN.
fn bare(child: &str) -> &str {
    match child.strip_prefix("arn:aws:cloudwatch:") {
        Some(rest) => rest.split_once(":alarm:").map_or(child, |(_, name)| name),
        None => child,
    }
}

/// `None` for a call that is not about alarms.
pub(crate) fn answer(gate: &Gate, call: &Call) -> Option<Result<Answer, Refusal>> {
    let Input::Cbor(input) = &call.input else { return None };
    Some(match call.operation.as_str() {
        "PutMetricAlarm" => put_metric(gate, call, input),
        "PutCompositeAlarm" => put_composite(gate, call, input),
        "DescribeAlarms" => describe(gate, call, input),
        "DeleteAlarms" => delete(gate, call, input),
        "SetAlarmState" => set_state(gate, call, input),
        "EnableAlarmActions" | "DisableAlarmActions" => enable(gate, call, input),
        "ListTagsForResource" | "TagResource" | "UntagResource" => tags(gate, call, input),
        "DescribeAlarmHistory" | "DescribeAlarmsForMetric" => Err(Refusal::new(
            400,
            "InvalidAction",
            "the gate does not answer this: see /alarms of its control socket",
        )),
        _ => return None,
    })
}

fn done() -> Result<Answer, Refusal> {
    Ok(Answer::cbor(&Value::Map(Vec::new())))
}

fn put_metric(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
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

fn put_composite(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
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

fn read_tags(input: &Value) -> Result<BTreeMap<String, String>, Refusal> {
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

/// Keeps a new alarm, or gives a present one another meaning: its state and its tags stay.
fn keep(gate: &Gate, call: &Call, input: &Value, kind: Kind) -> Result<Answer, Refusal> {
    let name = input.text("AlarmName").unwrap_or("").to_owned();
    let now = gate.now();
    let mut alarms = lock(&gate.alarms);
    let key = (call.account.clone(), call.region.clone(), name.clone());
    let enabled = input.get("ActionsEnabled") != Some(&Value::Bool(false));
    if let Some(present) = alarms.0.get_mut(&key) {
        if std::mem::discriminant(&present.kind) != std::mem::discriminant(&kind) {
            return Err(invalid(format!("{name} is an alarm of the other kind; delete it first")));
        }
        present.kind = kind;
        present.input = input.clone();
        present.enabled = enabled;
        present.configured = now;
        return done();
    }
    let alarm = Alarm {
        account: call.account.clone(),
        region: call.region.clone(),
        name,
        kind,
        input: input.clone(),
        state: State::InsufficientData,
        reason: "Unchecked: Initial alarm creation".to_owned(),
        updated: now,
        configured: now,
        tags: read_tags(input)?,
        enabled,
        history: VecDeque::new(),
        failed_actions: Vec::new(),
    };
    alarms.0.insert(key, alarm);
    done()
}

fn describe(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let names = input.texts("AlarmNames");
    if names.len() > 100 {
        return Err(invalid("AlarmNames must have at most 100 members"));
    }
    let prefix = input.text("AlarmNamePrefix");
    if !names.is_empty() && prefix.is_some() {
        return Err(invalid("AlarmNames and AlarmNamePrefix exclude each other"));
    }
    if input.get("ParentsOfAlarmName").is_some() || input.get("ChildrenOfAlarmName").is_some() {
        return Err(invalid("the gate does not tell parents or children"));
    }
    let records = input.int("MaxRecords").unwrap_or(50);
    if !(1..=100).contains(&records) {
        return Err(invalid("MaxRecords must be between 1 and 100"));
    }
    // What AWS does where no type is asked for: composite alarms are not told.
    let types = input.texts("AlarmTypes");
    let wanted_type = |alarm: &Alarm| {
        let own = if matches!(alarm.kind, Kind::Metric { .. }) { "MetricAlarm" } else { "CompositeAlarm" };
        if types.is_empty() { own == "MetricAlarm" } else { types.iter().any(|wanted| wanted == own) }
    };
    let alarms = lock(&gate.alarms);
    let found: Vec<_> = alarms
        .of(call)
        .filter(|alarm| names.is_empty() || names.contains(&alarm.name))
        .filter(|alarm| prefix.is_none_or(|prefix| alarm.name.starts_with(prefix)))
        .filter(|alarm| input.text("StateValue").is_none_or(|state| alarm.state.word() == state))
        .filter(|alarm| {
            let all = ["OKActions", "AlarmActions", "InsufficientDataActions"];
            input.text("ActionPrefix").is_none_or(|prefix| {
                all.iter()
                    .flat_map(|actions| alarm.input.texts(actions))
                    .any(|action| action.starts_with(prefix))
            })
        })
        .filter(|alarm| wanted_type(alarm))
        .collect();
    let start = match input.text("NextToken") {
        None => 0,
        Some(token) => token
            .strip_prefix("from-")
            .and_then(|start| start.parse().ok())
            .ok_or_else(|| Refusal::new(400, "InvalidNextToken", "The next token is invalid."))?,
    };
    let end = found.len().min(start + usize::try_from(records).unwrap_or(50));
    let page = found.get(start..end).unwrap_or(&[]);
    let of_kind = |metric: bool| {
        let one_kind = page.iter().filter(|alarm| matches!(alarm.kind, Kind::Metric { .. }) == metric);
        Value::List(one_kind.map(|alarm| alarm.described()).collect())
    };
    let mut fields =
        vec![("MetricAlarms".to_owned(), of_kind(true)), ("CompositeAlarms".to_owned(), of_kind(false))];
    if end < found.len() {
        fields.push(("NextToken".to_owned(), Value::Text(format!("from-{end}"))));
    }
    Ok(Answer::cbor(&Value::Map(fields)))
}

fn delete(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let names = input.texts("AlarmNames");
    if names.is_empty() || names.len() > 100 {
        return Err(invalid("AlarmNames must have 1 to 100 members"));
    }
    let mut alarms = lock(&gate.alarms);
    let composites = alarms
        .of(call)
        .filter(|alarm| names.contains(&alarm.name) && matches!(alarm.kind, Kind::Composite { .. }))
        .count();
    if composites > 1 {
        return Err(invalid("no more than one composite alarm can be deleted at once"));
    }
    for name in &names {
        let dependent: Vec<_> =
            alarms.parents(call, name).filter(|parent| !names.iter().any(|name| name == parent)).collect();
        if !dependent.is_empty() {
            return Err(invalid(format!(
                "Alarms cannot be deleted as there are composite alarms depending on them: {name} is used by {}",
                dependent.join(", ")
            )));
        }
    }
    // Names that nobody has are passed over.
    for name in names {
        alarms.0.remove(&(call.account.clone(), call.region.clone(), name));
    }
    done()
}

fn set_state(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let wanted = input.text("StateValue").unwrap_or("");
    let state = [State::Ok, State::Alarm, State::InsufficientData]
        .into_iter()
        .find(|state| state.word() == wanted)
        .ok_or_else(|| invalid("StateValue is OK, ALARM or INSUFFICIENT_DATA"))?;
    let reason = input.text("StateReason").unwrap_or("");
    if reason.is_empty() || reason.chars().count() > 1_023 {
        return Err(invalid("StateReason must have 1 to 1023 characters"));
    }
    let name = input.text("AlarmName").unwrap_or("").to_owned();
    let publications = {
        let mut alarms = lock(&gate.alarms);
        let key = (call.account.clone(), call.region.clone(), name.clone());
        let alarm = alarms
            .0
            .get_mut(&key)
            .ok_or_else(|| Refusal::new(404, "ResourceNotFound", format!("Alarm {name} does not exist")))?;
        alarm.change(state, reason.to_owned(), gate.now())
    };
    lock(&gate.owed).extend(publications);
    done()
}

fn enable(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let mut alarms = lock(&gate.alarms);
    for name in input.texts("AlarmNames") {
        if let Some(alarm) = alarms.0.get_mut(&(call.account.clone(), call.region.clone(), name)) {
            alarm.enabled = call.operation == "EnableAlarmActions";
        }
    }
    done()
}

fn tags(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let arn = input.text("ResourceARN").unwrap_or("");
    let mut alarms = lock(&gate.alarms);
    let theirs = |alarm: &&mut Alarm| alarm.account == call.account && alarm.region == call.region;
    let alarm = alarms
        .iter_mut()
        .filter(theirs)
        .find(|alarm| alarm.arn() == arn)
        .ok_or_else(|| Refusal::new(404, "ResourceNotFoundException", format!("{arn} does not exist")))?;
    match call.operation.as_str() {
        "TagResource" => alarm.tags.extend(read_tags(input)?),
        "UntagResource" => {
            let keys = input.texts("TagKeys");
            alarm.tags.retain(|key, _| !keys.contains(key));
        }
        _ => {
            let pair = |(key, value): (&String, &String)| {
                let text = |text: &String| Value::Text(text.clone());
                Value::Map(vec![("Key".to_owned(), text(key)), ("Value".to_owned(), text(value))])
            };
            let tags = Value::List(alarm.tags.iter().map(pair).collect());
            return Ok(Answer::cbor(&Value::Map(vec![("Tags".to_owned(), tags)])));
        }
    }
    done()
}

fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "ValidationError", message)
}
