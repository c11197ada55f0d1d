//! The life of alarms: when they are evaluated, and what a change of state sets off.
//!
//! How an alarm's state follows from its data is not decided here but by an [`Evaluator`]; [`evaluator`] is the one
//! place where it is plugged in. Without one every alarm stays in the state it has.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use serde_json::json;

use crate::alarm_calls::{Alarm, Kind, Publication};
use crate::gate::{State as Gate, lock};
use crate::metrics::{Series, Stored};
use crate::sns::Message;

/// The data of a metric at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// Its own time.
    pub at: Timestamp,
    /// Values, and how often each.
    pub values: Vec<(f64, f64)>,
}

/// What an alarm on one metric says.
#[derive(Clone, Debug, PartialEq)]
pub struct MetricAlarm {
    /// The length of its periods.
    pub period: Duration,
    /// N of 'M of N'.
    pub evaluation_periods: u32,
    /// M of 'M of N'.
    pub datapoints_to_alarm: u32,
    /// What is made of a period's data.
    pub statistic: Statistic,
    /// How that is compared with the threshold.
    pub comparison: Comparison,
    /// The threshold.
    pub threshold: f64,
    /// How missing data is treated.
    pub missing: Missing,
}

/// What is made of a period's data.
#[derive(Clone, Copy, Debug, PartialEq)]
#[allow(missing_docs)]
pub enum Statistic {
    Average,
    Minimum,
    Maximum,
    Sum,
    SampleCount,
    /// From 0 to 100.
    Percentile(f64),
}

/// Which values breach.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Comparison {
    GreaterThanOrEqualToThreshold,
    GreaterThanThreshold,
    LessThanThreshold,
    LessThanOrEqualToThreshold,
}

/// How missing data is treated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Missing {
    Breaching,
    NotBreaching,
    Ignore,
    Missing,
}

/// The state of an alarm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum State {
    Ok,
    Alarm,
    InsufficientData,
}

impl State {
    /// As CloudWatch writes it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Ok => "OK",
            Self::Alarm => "ALARM",
            Self::InsufficientData => "INSUFFICIENT_DATA",
        }
    }

    pub(crate) fn of(name: &str) -> Option<Self> {
        [Self::Ok, Self::Alarm, Self::InsufficientData].into_iter().find(|state| state.name() == name)
    }
}

/// What an evaluation comes to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Evaluation {
    /// The state from now on.
    pub state: State,
    /// Why.
    pub reason: String,
}

/// What decides the states of alarms, by the rules that AWS documents.
pub trait Evaluator: fmt::Debug + Send + Sync {
    /// The state of an alarm on one metric, from its datums of at least the last N periods and ten more.
    fn evaluate(&self, alarm: &MetricAlarm, data: &[Datum], now: Timestamp, present: State) -> Evaluation;

    /// The names of the alarms that a composite rule depends on.
    ///
    /// # Errors
    /// It is no rule; says where.
    fn children(&self, rule: &str) -> Result<Vec<String>, String>;

    /// Whether a composite rule holds.
    ///
    /// # Errors
    /// It is no rule; says where.
    fn holds(&self, rule: &str, state: &dyn Fn(&str) -> State) -> Result<bool, String>;
}

/// The evaluator of this program.
#[must_use]
pub fn evaluator() -> Option<Arc<dyn Evaluator>> {
    None
}

/// How many more periods an evaluator is given than the alarm looks at.
const MORE: u32 = 10;

/// How often alarms with periods below a minute are evaluated, and the others in such steps.
const FAST: Duration = Duration::from_secs(10);
const SLOW: u64 = 6;

/// Evaluates alarms and makes tunnel metrics, for as long as the gate lives.
pub(crate) async fn run(gate: Arc<Gate>, every: Option<Duration>, tunnels: Duration) {
    let mut evaluations = tokio::time::interval(every.unwrap_or(FAST));
    let mut tunnel_states = tokio::time::interval(tunnels);
    let mut step: u64 = 0;
    loop {
        tokio::select! {
            _ = evaluations.tick() => {
                let all = every.is_some() || step % SLOW == 0;
                step += 1;
                let publications = evaluate(&gate, gate.now(), all);
                publish(&gate, publications).await;
            }
            _ = tunnel_states.tick() => tell_tunnels(&gate, gate.now()),
        }
    }
}

/// Evaluates the alarms on metrics that are due, then the composite ones, until nothing more changes.
fn evaluate(gate: &Gate, now: Timestamp, all: bool) -> Vec<Publication> {
    let Some(evaluator) = &gate.evaluator else { return Vec::new() };
    let metrics = lock(&gate.metrics);
    let mut alarms = lock(&gate.alarms);
    let mut publications = Vec::new();
    for alarm in alarms.iter_mut() {
        let Kind::Metric { alarm: rule, series } = &alarm.kind else { continue };
        if !all && rule.period >= Duration::from_secs(60) {
            continue;
        }
        let start = now.floor(rule.period) - rule.period * (rule.evaluation_periods + MORE);
        let data: Vec<_> = metrics
            .since(series, start)
            .map(|stored| Datum { at: stored.at, values: stored.values.clone() })
            .collect();
        let Evaluation { state, reason } = evaluator.evaluate(rule, &data, now, alarm.state);
        publications.extend(alarm.change(state, reason, now));
    }
    // A composite of composites settles one layer a round.
    for _ in 0..alarms.len() {
        let before = publications.len();
        let states = alarms.states();
        for alarm in alarms.iter_mut() {
            let Kind::Composite { rule, .. } = &alarm.kind else { continue };
            let state_of = |child: &str| alarm.child_state(&states, child);
            let Ok(holds) = evaluator.holds(rule, &state_of) else { continue };
            let state = if holds { State::Alarm } else { State::Ok };
            let reason = format!("{} is {}", rule, if holds { "true" } else { "false" });
            publications.extend(alarm.change(state, reason, now));
        }
        if publications.len() == before && alarms.states() == states {
            break;
        }
    }
    publications
}

/// Sends what changes of state owe to SNS, through the emulator, so that subscriptions work.
pub(crate) async fn publish(gate: &Gate, publications: Vec<Publication>) {
    for Publication { account, region, topic, alarm, state, message } in publications {
        let text = format!("{}: \"{alarm}\" in {region}", state.name());
        let subject: String = text.chars().filter(|c| (' '..='~').contains(c)).take(100).collect();
        let each = json!({"default": message, "sms": text}).to_string();
        let answer = gate.upstream.publish(&account, &region, &topic, &subject, &each).await;
        if answer.is_success() {
            let attributes = [("alarm", alarm), ("state", state.name().to_owned()), ("message", message)];
            lock(&gate.messages).push(Message {
                n: 0,
                at: gate.now(),
                kind: "topic".to_owned(),
                to: topic,
                text,
                subject: Some(subject),
                attributes: attributes.map(|(name, value)| (name.to_owned(), value)).into(),
                source: "alarm".to_owned(),
                region,
            });
        } else {
            let why = answer.code.unwrap_or_default();
            lock(&gate.alarms).action_failed(&account, &region, &alarm, &format!("{topic}: {why}"));
        }
    }
}

/// What AWS publishes by itself of VPN connections: for each and for each of its tunnels how much of it is up.
fn tell_tunnels(gate: &Gate, now: Timestamp) {
    let table = lock(&gate.tunnels).clone();
    let mut metrics = lock(&gate.metrics);
    for vpn in table.iter().filter(|vpn| vpn.state == "available" && !vpn.tunnels.is_empty()) {
        let up = |status: &str| if status == "UP" { 1.0 } else { 0.0 };
        let mut put = |name: &str, value: &str, state: f64| {
            let series = Series {
                account: vpn.account.clone().unwrap_or_else(|| crate::call::ACCOUNT.to_owned()),
                region: vpn.region.clone(),
                namespace: "AWS/VPN".to_owned(),
                name: "TunnelState".to_owned(),
                dimensions: vec![(name.to_owned(), value.to_owned())],
            };
            let values = vec![(state, 1.0)];
            metrics.add(series, Stored { at: now, values, unit: None, resolution: 60, received_at: now });
        };
        let sum: f64 = vpn.tunnels.iter().map(|tunnel| up(&tunnel.status)).sum();
        put("VpnId", &vpn.vpn, sum / vpn.tunnels.len() as f64);
        for tunnel in &vpn.tunnels {
            put("TunnelIpAddress", &tunnel.outside_ip, up(&tunnel.status));
        }
    }
}

impl Alarm {
    /// Takes up a state; gives what is to be published of it.
    pub(crate) fn change(&mut self, state: State, reason: String, now: Timestamp) -> Vec<Publication> {
        if state == self.state {
            return Vec::new();
        }
        let before = std::mem::replace(&mut self.state, state);
        self.reason.clone_from(&reason);
        self.updated = now;
        self.note(before, reason.clone(), now);
        if !self.actions_enabled() {
            return Vec::new();
        }
        let actions = match state {
            State::Ok => "OKActions",
            State::Alarm => "AlarmActions",
            State::InsufficientData => "InsufficientDataActions",
        };
        let message = json!({
            "AlarmName": self.name,
            "AlarmDescription": self.input.text("AlarmDescription"),
            "AWSAccountId": self.account,
            "NewStateValue": state.name(),
            "NewStateReason": reason,
            "StateChangeTime": now,
            "Region": self.region,
            "AlarmArn": self.arn(),
            "OldStateValue": before.name(),
        });
        let topics =
            self.input.texts(actions).into_iter().filter(|action| action.starts_with("arn:aws:sns:"));
        topics
            .map(|topic| Publication {
                account: self.account.clone(),
                region: self.region.clone(),
                topic,
                alarm: self.name.clone(),
                state,
                message: message.to_string(),
            })
            .collect()
    }
}
