//! The alarms that there are: what was put, their states and how they came to them.

use std::collections::{BTreeMap, VecDeque};

use crosswatch_evaluator::{MetricAlarm, State, composite};
use crosswatch_shared::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::call::Call;
use crate::cbor::Value;
use crate::metrics::Series;

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
    pub(crate) tags: BTreeMap<String, String>,
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

    /// Keeps a new alarm, or gives a present one another meaning: its state and its tags stay. False where the present one
    /// is of the other kind.
    pub(crate) fn keep(
        &mut self,
        call: &Call,
        input: &Value,
        kind: Kind,
        tags: BTreeMap<String, String>,
        now: Timestamp,
    ) -> bool {
        let name = input.text("AlarmName").unwrap_or("").to_owned();
        let enabled = input.get("ActionsEnabled") != Some(&Value::Bool(false));
        if let Some(present) = self.get_mut(call, &name) {
            if std::mem::discriminant(&present.kind) != std::mem::discriminant(&kind) {
                return false;
            }
            present.kind = kind;
            present.input = input.clone();
            present.enabled = enabled;
            present.configured = now;
            return true;
        }
        let alarm = Alarm {
            account: call.account.clone(),
            region: call.region.clone(),
            name: name.clone(),
            kind,
            input: input.clone(),
            state: State::InsufficientData,
            reason: "Unchecked: Initial alarm creation".to_owned(),
            updated: now,
            configured: now,
            tags,
            enabled,
            history: VecDeque::new(),
            failed_actions: Vec::new(),
        };
        self.0.insert(key(call, name), alarm);
        true
    }

    /// A caller's alarm.
    pub(crate) fn get_mut(&mut self, call: &Call, name: &str) -> Option<&mut Alarm> {
        self.0.get_mut(&key(call, name.to_owned()))
    }

    /// A name that nobody has is passed over.
    pub(crate) fn remove(&mut self, call: &Call, name: String) {
        self.0.remove(&key(call, name));
    }

    /// Those of a caller.
    pub(crate) fn of<'a>(&'a self, call: &'a Call) -> impl Iterator<Item = &'a Alarm> {
        self.0.values().filter(|alarm| alarm.account == call.account && alarm.region == call.region)
    }

    /// The composites that depend on an alarm.
    pub(crate) fn parents<'a>(&'a self, call: &'a Call, name: &'a str) -> impl Iterator<Item = &'a str> {
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
    pub(crate) fn described(&self) -> Value {
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
pub(crate) fn bare(child: &str) -> &str {
    match child.strip_prefix("arn:aws:cloudwatch:") {
        Some(rest) => rest.split_once(":alarm:").map_or(child, |(_, name)| name),
        None => child,
    }
}

fn key(call: &Call, name: String) -> Key {
    (call.account.clone(), call.region.clone(), name)
}
