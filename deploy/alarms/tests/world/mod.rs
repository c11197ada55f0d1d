//! The example of design.md and its rules, and what may be varied in it.
#![allow(dead_code, reason = "each test file uses a part")]

use std::path::Path;
use std::time::Duration;

use crosswatch_alarms::{Alarm, Impossible, Input, Judged, Mode, Plan, Published, plan, plan_text};
use crosswatch_judge::rule::{Breach, Metric as Judging, Missing, Rule, Side};
use crosswatch_shared::config::topology::Topology;
use crosswatch_window::Metric;

pub(crate) const TOPIC: &str = "arn:aws:sns:us-east-1:123456789012:pages";

/// That of design.md, with topics.
pub(crate) const CLASSIC: &str = r#"
[site.us-east-1]
region = "us-east-1"
topic = "arn:aws:sns:us-east-1:123456789012:site"
[site.eu-west-1]
region = "eu-west-1"
[[link]]
name = "use1-euw1"
between = ["us-east-1", "eu-west-1"]
vpn = [{ site = "us-east-1", id = "vpn-0a1b2c3d4e5f60718", every = "60s", expect_up = 2 }]
probe = [
  { from = "us-east-1", icmp = "10.1.0.10", every = "1s", timeout = "500ms" },
  { from = "eu-west-1", tcp = "10.0.0.10:443", every = "1s", timeout = "500ms" },
]
"#;

fn topology(text: &str) -> Topology {
    crosswatch_shared::config::read(Path::new("c.toml"), text.as_bytes(), Topology::take).unwrap()
}

pub(crate) fn rule(name: &str, metric: Judging, side: Side, threshold: f64) -> Rule {
    Rule {
        name: name.into(),
        metric,
        side,
        threshold: threshold.into(),
        clear_threshold: None,
        breach: Breach { m: 1, n: 1 },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}

pub(crate) fn classic_rules() -> Vec<Rule> {
    vec![
        rule("tunnels-down", Judging::TunnelsUp, Side::Below, 1.0),
        Rule {
            breach: Breach { m: 3, n: 3 },
            clear: Some(30),
            ..rule("ping-failed", Judging::PingOk, Side::Below, 1.0)
        },
        Rule {
            breach: Breach { m: 10, n: 15 },
            clear: Some(30),
            subjects: vec!["use1-euw1/*".to_owned()],
            ..rule("latency-high", Judging::LatencyMs, Side::Above, 200.0)
        },
    ]
}

/// A plan with what may be varied.
pub(crate) struct World {
    pub(crate) topology: Topology,
    pub(crate) rules: Vec<Rule>,
    pub(crate) namespace: String,
    pub(crate) period: Duration,
    pub(crate) metrics: Vec<Metric>,
    pub(crate) mode: Mode,
    pub(crate) topic: Option<&'static str>,
    pub(crate) to_cloudwatch: bool,
    pub(crate) region_is_named: bool,
    pub(crate) sources: Vec<String>,
}

impl World {
    pub(crate) fn new(text: &str, rules: Vec<Rule>) -> Self {
        Self {
            topology: topology(text),
            rules,
            namespace: "Crosswatch".to_owned(),
            period: Duration::from_secs(60),
            metrics: Metric::DEFAULT.to_vec(),
            mode: Mode::Both,
            topic: Some(TOPIC),
            to_cloudwatch: true,
            region_is_named: true,
            sources: vec!["ec2:*".to_owned()],
        }
    }

    pub(crate) fn plan(&self) -> Result<Plan, Impossible> {
        plan(&Input {
            topology: &self.topology,
            rules: self.rules.iter().map(|rule| Judged { rule, notifies: true }).collect(),
            published: Published {
                to_cloudwatch: self.to_cloudwatch,
                namespace: &self.namespace,
                region: Some("us-east-1"),
                region_is_named: self.region_is_named,
                period: self.period,
                metrics: &self.metrics,
                sources: &self.sources,
            },
            mode: self.mode,
            topic: self.topic,
        })
    }

    pub(crate) fn alarms(&self) -> Vec<Alarm> {
        self.plan().unwrap().places.into_values().flatten().collect()
    }

    pub(crate) fn notes(&self) -> String {
        plan_text(&[], &self.plan().unwrap().differences)
    }
}
