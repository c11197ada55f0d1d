//! CloudWatch's calls about alarms: answered by the gate alone, with the limits that AWS documents.

use crosswatch_evaluator::State;

use crate::alarm_puts::{put_composite, put_metric, read_tags};
use crate::alarm_store::{Alarm, Kind};
use crate::answer::{Answer, Refusal};
use crate::call::{Call, Input};
use crate::cbor::Value;
use crate::gate::{State as Gate, lock};

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

pub(crate) fn done() -> Result<Answer, Refusal> {
    Ok(Answer::cbor(&Value::Map(Vec::new())))
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
        alarms.remove(call, name);
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
        let alarm = alarms
            .get_mut(call, &name)
            .ok_or_else(|| Refusal::new(404, "ResourceNotFound", format!("Alarm {name} does not exist")))?;
        alarm.change(state, reason.to_owned(), gate.now())
    };
    lock(&gate.owed).extend(publications);
    done()
}

fn enable(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let mut alarms = lock(&gate.alarms);
    for name in input.texts("AlarmNames") {
        if let Some(alarm) = alarms.get_mut(call, &name) {
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

pub(crate) fn invalid(message: impl Into<String>) -> Refusal {
    Refusal::new(400, "ValidationError", message)
}
