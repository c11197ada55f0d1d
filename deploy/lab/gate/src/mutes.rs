//! CloudWatch's alarm mute rules: kept by the gate alone, with the limits that AWS documents, and stricter: a time that has
//! passed is refused. What is muted once keeps its actions back; a crontab is checked, and mutes nothing here.

use std::collections::BTreeMap;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;

use crate::alarm_calls::{done, invalid};
use crate::alarm_puts::read_tags;
use crate::alarm_store::Publication;
use crate::answer::{Answer, Refusal};
use crate::call::{Call, Input};
use crate::cbor::Value;
use crate::gate::{State as Gate, lock};

const SHORTEST: Duration = Duration::from_secs(60);
const LONGEST: Duration = Duration::from_secs(15 * 86_400);
const MOST_ALARMS: usize = 100;

/// Account, region and name of each mute rule, and the rule.
#[derive(Debug, Default)]
pub(crate) struct Mutes(BTreeMap<(String, String, String), Mute>);

#[derive(Debug)]
struct Mute {
    /// As it was put; tells it back.
    input: Value,
    alarms: Vec<String>,
    /// From when until when, of one that is once.
    span: Option<(Timestamp, Timestamp)>,
    expires: Option<Timestamp>,
}

/// `None` for a call that is not about mute rules.
pub(crate) fn answer(gate: &Gate, call: &Call) -> Option<Result<Answer, Refusal>> {
    let Input::Cbor(input) = &call.input else { return None };
    Some(match call.operation.as_str() {
        "PutAlarmMuteRule" => put(gate, call, input),
        "GetAlarmMuteRule" => get(gate, call, input),
        "DeleteAlarmMuteRule" => delete(gate, call, input),
        "ListAlarmMuteRules" => Err(Refusal::new(
            400,
            "InvalidAction",
            "the gate does not list mute rules: ask for one by its name",
        )),
        _ => return None,
    })
}

impl Mutes {
    /// Whether an alarm's actions are kept back.
    pub(crate) fn mutes(&self, publication: &Publication, now: Timestamp) -> bool {
        self.0.iter().any(|((account, region, _), mute)| {
            (account, region) == (&publication.account, &publication.region)
                && mute.alarms.contains(&publication.alarm)
                && mute.span.is_some_and(|(from, until)| from <= now && now < until)
                && mute.expires.is_none_or(|expires| now < expires)
        })
    }
}

fn put(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let name = name(input, "Name")?;
    if input.text("Description").is_some_and(|text| text.chars().count() > 1_024) {
        return Err(invalid("Description must have at most 1024 characters"));
    }
    read_tags(input)?;
    let none = Value::Null;
    let schedule = input.get("Rule").and_then(|rule| rule.get("Schedule")).unwrap_or(&none);
    let within = |key: &str, most: usize| {
        let text = schedule.text(key).unwrap_or("");
        if (1..=most).contains(&text.chars().count()) {
            Ok(text.to_owned())
        } else {
            Err(invalid(format!("{key} must have 1 to {most} characters")))
        }
    };
    let (expression, lasts) = (within("Expression", 256)?, within("Duration", 50)?);
    if schedule.get("Timezone").is_some() {
        within("Timezone", 50)?;
    }
    let lasts = duration(&lasts)
        .filter(|lasts| (SHORTEST..=LONGEST).contains(lasts))
        .ok_or_else(|| invalid(format!("Duration '{lasts}' is not from PT1M to P15D")))?;
    let now = gate.now();
    let utc = schedule.text("Timezone").is_none_or(|zone| zone == "UTC");
    let span = match once(&expression) {
        Some(_) if !utc => return Err(invalid("the gate takes at() in UTC alone")),
        Some(Some(at)) if at < now => return Err(invalid(format!("{expression} has passed"))),
        Some(Some(at)) => Some((at, at + lasts)),
        None if is_crontab(&expression) => None,
        _ => return Err(invalid(format!("Invalid schedule expression: {expression}"))),
    };
    let expires = input.get("ExpireDate").and_then(Value::number);
    let expires = expires.map(|at| Timestamp::from_micros((at * 1e6) as i64));
    if expires.is_some_and(|expires| expires <= now) {
        return Err(invalid("ExpireDate must be in the future"));
    }
    let alarms = input.get("MuteTargets").map(|targets| targets.texts("AlarmNames")).unwrap_or_default();
    if !(1..=MOST_ALARMS).contains(&alarms.len()) {
        return Err(invalid("MuteTargets must name 1 to 100 alarms"));
    }
    {
        let there = lock(&gate.alarms);
        if let Some(absent) = alarms.iter().find(|name| !there.of(call).any(|alarm| alarm.name == **name)) {
            return Err(invalid(format!("the alarm {absent} does not exist")));
        }
    }
    let mute = Mute { input: input.clone(), alarms, span, expires };
    lock(&gate.mutes).0.insert(key(call, name), mute);
    done()
}

fn get(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let name = name(input, "AlarmMuteRuleName")?;
    let mutes = lock(&gate.mutes);
    let mute = mutes.0.get(&key(call, name.clone())).ok_or_else(|| absent(&name))?;
    let now = gate.now();
    let over = mute.expires.into_iter().chain(mute.span.map(|span| span.1)).min();
    let status = match mute.span {
        _ if over.is_some_and(|over| over <= now) => "EXPIRED",
        Some((from, _)) if from <= now => "ACTIVE",
        _ => "SCHEDULED",
    };
    let Value::Map(mut fields) = mute.input.clone() else { return Err(absent(&name)) };
    fields.retain(|(field, _)| field != "Tags");
    fields.push(("Status".to_owned(), Value::Text(status.to_owned())));
    Ok(Answer::cbor(&Value::Map(fields)))
}

fn delete(gate: &Gate, call: &Call, input: &Value) -> Result<Answer, Refusal> {
    let name = name(input, "AlarmMuteRuleName")?;
    lock(&gate.mutes).0.remove(&key(call, name.clone())).ok_or_else(|| absent(&name))?;
    done()
}

fn absent(name: &str) -> Refusal {
    Refusal::new(404, "ResourceNotFoundException", format!("the mute rule {name} does not exist"))
}

fn name(input: &Value, field: &str) -> Result<String, Refusal> {
    let name = input.text(field).unwrap_or("");
    if (1..=255).contains(&name.chars().count()) && !name.chars().any(char::is_control) {
        Ok(name.to_owned())
    } else {
        Err(invalid(format!("{field} must have 1 to 255 characters")))
    }
}

fn key(call: &Call, name: String) -> (String, String, String) {
    (call.account.clone(), call.region.clone(), name)
}

/// `at(yyyy-MM-ddThh:mm)`: its time, if it is one; `None` for another expression.
fn once(expression: &str) -> Option<Option<Timestamp>> {
    let text = expression.strip_prefix("at(")?.strip_suffix(')')?;
    let minutes = text.len() == "2026-11-22T07:00".len();
    Some(format!("{text}:00Z").parse().ok().filter(|_| minutes))
}

/// `cron(…)` of five fields, in which AWS takes numbers, names, `*`, `-` and `,` alone.
fn is_crontab(expression: &str) -> bool {
    let text = expression.strip_prefix("cron(").and_then(|rest| rest.strip_suffix(')'));
    let field = |field: &str| field.chars().all(|c| c.is_ascii_alphanumeric() || "*-,".contains(c));
    text.is_some_and(|text| {
        text.split(' ').count() == 5 && text.split(' ').all(|of| !of.is_empty() && field(of))
    })
}

/// `P2DT12H30M`, of whole days, hours and minutes.
fn duration(text: &str) -> Option<Duration> {
    let (days, rest) = match text.strip_prefix('P')?.split_once('T') {
        Some((days, rest)) => (days, rest),
        None => (text.strip_prefix('P')?, ""),
    };
    if (days.is_empty() && rest.is_empty()) || (text.contains('T') && rest.is_empty()) {
        return None;
    }
    let mut seconds = 0_u64;
    let mut take = |part: &str, units: &[(char, u64)]| {
        let (mut number, mut units) = (String::new(), units.iter());
        for c in part.chars() {
            if c.is_ascii_digit() {
                number.push(c);
                continue;
            }
            // In this order, each once at most.
            let (_, each) = units.find(|(unit, _)| *unit == c)?;
            seconds = seconds.checked_add(number.parse::<u64>().ok()?.checked_mul(*each)?)?;
            number.clear();
        }
        number.is_empty().then_some(())
    };
    take(days, &[('D', 86_400)])?;
    take(rest, &[('H', 3_600), ('M', 60)])?;
    Some(Duration::from_secs(seconds))
}

#[cfg(test)]
mod tests {
    use crosswatch_evaluator::State as AlarmState;

    use super::*;

    #[test]
    fn what_is_muted_tells_nobody_from_its_first_moment_to_its_last() {
        let at = Timestamp::from_secs;
        let mute = |expires| Mute {
            input: Value::Null,
            alarms: vec!["a".to_owned()],
            span: Some((at(100), at(200))),
            expires,
        };
        let mutes = |expires, alarm: &str, region: &str, now| {
            let key = ("1".to_owned(), "us-east-1".to_owned(), "m".to_owned());
            let publication = Publication {
                account: "1".to_owned(),
                region: region.to_owned(),
                topic: String::new(),
                alarm: alarm.to_owned(),
                state: AlarmState::Alarm,
                message: String::new(),
            };
            Mutes([(key, mute(expires))].into()).mutes(&publication, at(now))
        };
        let muted: Vec<i64> =
            [99, 100, 199, 200].into_iter().filter(|now| mutes(None, "a", "us-east-1", *now)).collect();
        assert_eq!(muted, [100, 199]);
        assert!(mutes(Some(at(150)), "a", "us-east-1", 149) && !mutes(Some(at(150)), "a", "us-east-1", 150));
        assert!(!mutes(None, "b", "us-east-1", 150) && !mutes(None, "a", "eu-west-1", 150));
    }

    #[test]
    fn durations_and_expressions_are_those_of_the_documentation() {
        let minutes = |text| duration(text).map(|lasts| lasts.as_secs() / 60);
        let durations =
            [("PT4H", Some(240)), ("P2DT12H", Some(3_600)), ("P7D", Some(10_080)), ("PT1M", Some(1))];
        for (text, expected) in durations {
            assert_eq!(minutes(text), expected, "{text}");
        }
        for text in ["", "P", "PT", "4H", "PT4", "PTH", "PT5M4H", "P1M"] {
            assert_eq!(minutes(text), None, "{text}");
        }
        assert!(once("at(2024-05-10T14:00)").unwrap().is_some());
        for text in ["at(2024-05-10T14:00:00)", "at(2024-05-10)", "at(2024-05-10T14:00Z)", "at()"] {
            assert_eq!(once(text), Some(None), "{text}");
        }
        for text in ["cron(0 2 * * SUN)", "cron(0 1 1 * *)", "cron(0,30 2-4 * JAN-MAR *)"] {
            assert!(is_crontab(text), "{text}");
        }
        for text in
            ["cron(*/5 * * * *)", "cron(0 2 * *)", "cron(0 2 * * * SUN)", "0 2 * * SUN", "cron(0  2 * * *)"]
        {
            assert!(!is_crontab(text), "{text}");
        }
    }
}
