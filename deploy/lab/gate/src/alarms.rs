//! The life of alarms: when they are evaluated, and what a change of state sets off.
//!
//! How an alarm's state follows from its data is not decided here but by `crosswatch_evaluator`.

use std::sync::Arc;
use std::time::Duration;

use crosswatch_evaluator::{Datum, Evaluation, State, acts};
use crosswatch_shared::time::Timestamp;
use serde_json::json;

use crate::alarm_store::{Alarm, Kind, Publication};
use crate::gate::{State as Gate, lock};
use crate::metrics::{Series, Stored};
use crate::sns::Message;

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
                let all = every.is_some() || step.is_multiple_of(SLOW);
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
        let Evaluation { state, reason } = crosswatch_evaluator::evaluate(rule, &data, now, alarm.state);
        publications.extend(alarm.change(state, reason, now));
    }
    // A composite of composites settles one layer a round.
    for _ in 0..alarms.len() {
        let before = publications.len();
        let states = alarms.states();
        for alarm in alarms.iter_mut() {
            let Kind::Composite { rule, text } = &alarm.kind else { continue };
            let state = rule.evaluate(|child| alarm.child_state(&states, child));
            let reason = format!("{text} is {}", state == State::Alarm);
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
    let now = gate.now();
    let (muted, publications): (Vec<_>, Vec<_>) =
        publications.into_iter().partition(|of| lock(&gate.mutes).mutes(of, now));
    for Publication { account, region, alarm, .. } in muted {
        lock(&gate.alarms).action_failed(&account, &region, &alarm, "muted");
    }
    for Publication { account, region, topic, alarm, state, message } in publications {
        let text = format!("{}: \"{alarm}\" in {region}", state.word());
        let subject: String = text.chars().filter(|c| (' '..='~').contains(c)).take(100).collect();
        let each = json!({"default": message, "sms": text}).to_string();
        let answer = gate.upstream.publish(&account, &region, &topic, &subject, &each).await;
        if answer.is_success() {
            let attributes = [("alarm", alarm), ("state", state.word().to_owned()), ("message", message)];
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
        if !acts(before, state, self.enabled) {
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
            "NewStateValue": state.word(),
            "NewStateReason": reason,
            "StateChangeTime": now,
            "Region": self.region,
            "AlarmArn": self.arn(),
            "OldStateValue": before.word(),
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
