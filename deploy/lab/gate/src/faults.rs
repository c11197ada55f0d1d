//! Faults that whoever tests has ordered: which requests they strike, and how.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::call::Call;

/// A fault, as `POST /faults` takes it. One of a present `id` replaces it and counts anew.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Fault {
    /// Its name, of letters, digits, `.`, `_` and `-`: it stands in a path.
    pub id: String,
    /// Which requests it is for; all where nothing is named.
    #[serde(rename = "match", default)]
    pub matching: Match,
    /// What it does.
    pub effect: Effect,
    /// It strikes every so many of the matching requests: 3 is the third, the sixth and so on.
    #[serde(default = "one")]
    pub one_in: u64,
    /// How often it strikes at most.
    #[serde(default)]
    pub times: Option<u64>,
}

/// Which requests a fault is for. What is absent matches all.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Match {
    /// `sqs`, `cloudwatch`, `sns`, `ec2`, `sts`, or another service's name as credentials are scoped to it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// Such as `SendMessageBatch`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operation: Option<String>,
    /// The region asked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub region: Option<String>,
    /// A part of the queue's URL, the topic, the phone number, the VPN connections, the alarm, the namespace or the role.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub resource: Option<String>,
    /// The client's IP address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<String>,
}

/// What a fault does. A flag must be true.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(untagged, deny_unknown_fields)]
pub enum Effect {
    /// The request waits before anything else happens to it.
    Latency {
        /// Milliseconds.
        latency_ms: u64,
    },
    /// The request fails without effect.
    Status {
        /// The HTTP status.
        status: u16,
        /// The error's code.
        #[serde(default = "internal")]
        code: String,
    },
    /// The service asks for fewer calls, each in its own words.
    Throttle {
        /// True.
        throttle: bool,
    },
    /// The connection is reset before the request has an effect.
    Reset {
        /// True.
        reset: bool,
    },
    /// The request has its effect, then the connection is reset.
    LoseAnswer {
        /// True.
        lose_answer: bool,
    },
    /// Of the entries of SQS batches each second one fails, under HTTP 200.
    Partial {
        /// True.
        partial: bool,
    },
    /// A message that is received is given again to the next receiver.
    Duplicate {
        /// True.
        duplicate: bool,
    },
}

/// A fault and how often it was met.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Struck {
    /// The fault.
    #[serde(flatten)]
    pub fault: Fault,
    /// Requests that matched.
    pub matched: u64,
    /// Requests that it struck.
    pub struck: u64,
}

fn one() -> u64 {
    1
}

fn internal() -> String {
    "InternalFailure".to_owned()
}

/// What befalls one request.
#[derive(Clone, Debug, Default)]
pub(crate) struct Strike {
    pub(crate) latency: Duration,
    /// The first ordered of those that end a request.
    pub(crate) end: Option<Effect>,
    pub(crate) lose_answer: bool,
    pub(crate) partial: bool,
    pub(crate) duplicate: bool,
}

#[derive(Debug, Default)]
pub(crate) struct Faults(Vec<Struck>);

impl Faults {
    pub(crate) fn order(&mut self, fault: Fault) -> Result<(), String> {
        let (Effect::Throttle { throttle: flag }
        | Effect::Reset { reset: flag }
        | Effect::LoseAnswer { lose_answer: flag }
        | Effect::Partial { partial: flag }
        | Effect::Duplicate { duplicate: flag }) = fault.effect
        else {
            return self.put(fault);
        };
        if flag { self.put(fault) } else { Err("an effect is true, or the fault is deleted".to_owned()) }
    }

    fn put(&mut self, fault: Fault) -> Result<(), String> {
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
        if fault.id.is_empty() || !fault.id.bytes().all(allowed) {
            return Err(format!("the id '{}' must be of letters, digits, '.', '_' and '-'", fault.id));
        }
        if fault.one_in == 0 {
            return Err("one_in is 1 or more".to_owned());
        }
        if let Effect::Status { status, .. } = fault.effect
            && !(400..600).contains(&status)
        {
            return Err(format!("status {status} is no error: 400 to 599"));
        }
        let struck = Struck { fault, matched: 0, struck: 0 };
        match self.0.iter_mut().find(|present| present.fault.id == struck.fault.id) {
            Some(present) => *present = struck,
            None => self.0.push(struck),
        }
        Ok(())
    }

    pub(crate) fn list(&self) -> &[Struck] {
        &self.0
    }

    /// Whether it was there.
    pub(crate) fn remove(&mut self, id: &str) -> bool {
        let before = self.0.len();
        self.0.retain(|struck| struck.fault.id != id);
        self.0.len() < before
    }

    pub(crate) fn clear(&mut self) {
        self.0.clear();
    }

    pub(crate) fn strike(&mut self, call: &Call) -> Strike {
        let resource = call.resource();
        let mut strike = Strike::default();
        for Struck { fault, matched, struck } in &mut self.0 {
            if !fault.matching.holds(call, &resource) {
                continue;
            }
            *matched += 1;
            if *matched % fault.one_in != 0 || fault.times.is_some_and(|times| *struck >= times) {
                continue;
            }
            *struck += 1;
            match &fault.effect {
                Effect::Latency { latency_ms } => strike.latency += Duration::from_millis(*latency_ms),
                Effect::LoseAnswer { .. } => strike.lose_answer = true,
                Effect::Partial { .. } => strike.partial = true,
                Effect::Duplicate { .. } => strike.duplicate = true,
                end => {
                    strike.end.get_or_insert_with(|| end.clone());
                }
            }
        }
        strike
    }
}

impl Match {
    fn holds(&self, call: &Call, resource: &str) -> bool {
        let is =
            |wanted: &Option<String>, value: &str| wanted.as_deref().is_none_or(|wanted| wanted == value);
        is(&self.service, call.service.name())
            && is(&self.operation, &call.operation)
            && is(&self.region, &call.region)
            && is(&self.source, &call.source)
            && self.resource.as_deref().is_none_or(|part| resource.contains(part))
    }
}
