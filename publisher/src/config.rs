//! The publisher's configuration: the section `metrics`.

use std::time::Duration;

use crosswatch_shared::config::aws;
use crosswatch_shared::config::document::{Table, Unique, Value};
use crosswatch_shared::config::values::{self, LONGEST, short};
use crosswatch_window::Metric;

/// What is published, and where to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Config {
    /// Where the metrics go.
    pub kind: Kind,
    /// The namespace they are published in.
    pub namespace: String,
    /// The length of a window.
    pub period: Duration,
    /// Which metrics, in the order of the file; at least one.
    pub publish: Vec<Metric>,
    /// The region of CloudWatch; `None` for the session's.
    pub region: Option<String>,
    /// Globs: of the metrics that are made of a collector's sources, those of these sources go to CloudWatch.
    pub sources: Vec<String>,
    /// What CloudWatch's alarms do.
    pub alarms: Alarms,
    /// The ARN of the SNS topic that the alarms page through.
    pub alarm_topic: Option<String>,
    /// How long a datapoint is kept in the publisher's own file after its period.
    pub keep: Duration,
    /// How many bytes the file may use; beyond it the oldest datapoints go.
    pub max_bytes: Option<u64>,
}

const DAY: Duration = Duration::from_secs(24 * 3600);

/// How long datapoints are kept where they are kept nowhere else.
const KEEP: Duration = Duration::from_secs(90 * 24 * 3600);

/// The same where CloudWatch has them. It takes what is no older than this, so that what it is owed is needed no longer, and
/// no shorter either.
const KEEP_OWED: Duration = Duration::from_secs(14 * 24 * 3600);

/// What else is in the file takes a fraction of this.
const LEAST_BYTES: u64 = 64 << 20;

/// What CloudWatch's alarms do beside the alerter.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Alarms {
    /// They page, and so does the alerter.
    Both,
    /// They page only while the alerter's heartbeat is missing.
    Backup,
    /// There are none.
    Off,
}

/// Where the metrics go.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// The publisher's own SQLite file.
    Embedded,
    /// Amazon CloudWatch.
    CloudWatch,
}

impl Default for Config {
    /// What a config without the section means.
    fn default() -> Self {
        Self {
            kind: Kind::Embedded,
            namespace: "Crosswatch".to_owned(),
            period: Duration::from_secs(60),
            publish: Metric::DEFAULT.to_vec(),
            region: None,
            sources: vec!["ec2:*".to_owned()],
            alarms: Alarms::Both,
            alarm_topic: None,
            keep: KEEP,
            max_bytes: None,
        }
    }
}

impl Config {
    /// Takes the section; `None` when something in it is wrong, which is noted then.
    pub fn take(root: &mut Table<'_>) -> Option<Self> {
        let default = Self::default();
        let Some(mut table) = root.section("metrics")? else {
            return Some(default);
        };
        let kind = table.or("kind", default.kind, |value| {
            value.word(&[("embedded", Kind::Embedded), ("cloudwatch", Kind::CloudWatch)])
        });
        let namespace =
            table.or("namespace", default.namespace, |value| value.parsed("Crosswatch", namespace));
        let period = table.or("period", default.period, take_period);
        let publish = table.or("publish", default.publish, take_publish);
        let cloudwatch = match kind {
            Some(Kind::Embedded) => refuse_cloudwatch(&mut table),
            _ => Some(()),
        };
        let region = table.maybe("region", |value| value.parsed("us-east-1", aws::region));
        let sources = table.or("sources", default.sources, take_sources);
        let alarms = table.or("alarms", default.alarms, |value| {
            value.word(&[("both", Alarms::Both), ("backup", Alarms::Backup), ("off", Alarms::Off)])
        });
        let alarm_topic = table.maybe("alarm_topic", |value| value.parsed(aws::TOPIC, aws::topic));
        let keep = match kind {
            Some(kind) => take_keep(&mut table, kind, period),
            None => table.or("keep", KEEP, |value| value.duration(DAY..=LONGEST)),
        };
        let max_bytes = table.maybe("max_size", |value| {
            value.parsed("1GiB", |text| match values::size(text)? {
                bytes if bytes < LEAST_BYTES => Err("must be at least 64MiB".to_owned()),
                bytes => Ok(bytes),
            })
        });
        table.finish();
        cloudwatch?;
        Some(Self {
            kind: kind?,
            namespace: namespace?,
            period: period?,
            publish: publish?,
            region: region?,
            sources: sources?,
            alarms: alarms?,
            alarm_topic: alarm_topic?,
            keep: keep?,
            max_bytes: max_bytes?,
        })
    }
}

/// What is for CloudWatch alone would do nothing.
fn refuse_cloudwatch(table: &mut Table<'_>) -> Option<()> {
    let mut refused = false;
    for key in ["region", "sources", "alarms", "alarm_topic"] {
        if let Some(value) = table.get(key) {
            refused = true;
            let _: Option<()> = value
                .wrong(format!("'{key}' is for kind = \"cloudwatch\"; leave it out, or write that kind"));
        }
    }
    (!refused).then_some(())
}

/// What is put to CloudWatch is read from the file, and what is over is put with what came late.
fn take_keep(table: &mut Table<'_>, kind: Kind, period: Option<Duration>) -> Option<Duration> {
    let default = match kind {
        Kind::Embedded => KEEP,
        Kind::CloudWatch => KEEP_OWED,
    };
    table.or("keep", default, |value| {
        let keep = value.duration(DAY..=LONGEST)?;
        if kind == Kind::CloudWatch && keep < KEEP_OWED {
            value.wrong("'keep' must be at least 14d with kind = \"cloudwatch\", which takes what is as old; write that or more")
        } else if period.is_some_and(|period| keep < 2 * period) {
            value.wrong("'keep' must be at least twice the 'period'; write \"2d\" or more")
        } else {
            Some(keep)
        }
    })
}

fn take_sources(value: &Value<'_>) -> Option<Vec<String>> {
    let mut unique = Unique::new("entry", "leave this one out");
    value.each("[\"ec2:*\"]", |value| match value.text()? {
        "" => value.wrong("a source must not be empty; write a glob such as \"ec2:*\""),
        glob => {
            unique.check(value.place(), glob)?;
            Some(glob.to_owned())
        }
    })
}

/// As CloudWatch takes it: `PutMetricData`, parameter Namespace.
fn namespace(text: &str) -> Result<String, String> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || ".-_/#".contains(c);
    if text.starts_with("AWS/") {
        Err("a namespace must not begin with 'AWS/', which is Amazon's own; write another such as \"Crosswatch\"".to_owned())
    } else if (1..=255).contains(&text.len()) && text.chars().all(allowed) {
        Ok(text.to_owned())
    } else {
        Err(format!(
            "'{}' is not a namespace; write 1 to 255 letters, digits and . - _ / #, such as \"Crosswatch\"",
            short(text)
        ))
    }
}

/// As CloudWatch has periods: 1, 5, 10 or 30 seconds, or whole minutes up to a day.
fn take_period(value: &Value<'_>) -> Option<Duration> {
    let period = value.duration(Duration::from_millis(1)..=LONGEST)?;
    let seconds = period.as_secs();
    let whole = period.subsec_nanos() == 0;
    if whole && (matches!(seconds, 1 | 5 | 10 | 30) || (seconds % 60 == 0 && seconds <= 86_400)) {
        Some(period)
    } else {
        value.wrong("'period' must be 1s, 5s, 10s, 30s or whole minutes up to 1d, such as \"60s\"")
    }
}

fn take_publish(value: &Value<'_>) -> Option<Vec<Metric>> {
    let words = Metric::ALL.map(|name| (name.word(), name));
    let mut unique = Unique::new("entry", "leave this one out");
    let names = value.each("[\"TunnelsUp\", \"PingLatency\"]", |value| {
        let name = value.word(&words)?;
        unique.check(value.place(), name.word())?;
        Some(name)
    })?;
    if names.is_empty() {
        return value.wrong("'publish' names no metric; leave it out for the default ones");
    }
    Some(names)
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;

    fn read(text: &str) -> Result<Config, String> {
        crosswatch_shared::config::read(Path::new("c.toml"), text.as_bytes(), Config::take)
            .map_err(|problems| problems.to_string())
    }

    #[test]
    fn without_the_section_the_default_metrics_are_kept_here() {
        assert_eq!(read(""), Ok(Config::default()));
        assert_eq!(read("[metrics]"), Ok(Config::default()));
    }

    #[test]
    fn periods_are_those_of_cloudwatch() {
        for period in ["1s", "5s", "10s", "30s", "60s", "1m", "5m", "1d"] {
            assert!(read(&format!("[metrics]\nperiod = \"{period}\"")).is_ok(), "{period}");
        }
        for period in ["500ms", "2s", "20s", "90s", "2d", "1001ms"] {
            assert!(read(&format!("[metrics]\nperiod = \"{period}\"")).is_err(), "{period}");
        }
    }

    #[test]
    fn metrics_that_cost_more_are_published_where_asked() {
        let config =
            read("[metrics]\nkind = \"cloudwatch\"\npublish = [\"Jitter\", \"TunnelState\"]").unwrap();
        assert_eq!(config.kind, Kind::CloudWatch);
        assert_eq!(config.publish, [Metric::Jitter, Metric::TunnelState]);
    }

    #[test]
    fn what_is_for_cloudwatch_is_refused_without_it() {
        let text = "[metrics]\nkind = \"cloudwatch\"\nregion = \"eu-west-1\"\nsources = [\"ec2:*\", \"icmp\"]\n\
                    alarms = \"backup\"\nalarm_topic = \"arn:aws:sns:eu-west-1:123456789012:oncall\"";
        let config = read(text).unwrap();
        assert_eq!(config.region.as_deref(), Some("eu-west-1"));
        assert_eq!(config.sources, ["ec2:*", "icmp"]);
        assert_eq!(config.alarms, Alarms::Backup);
        assert_eq!(config.alarm_topic.as_deref(), Some("arn:aws:sns:eu-west-1:123456789012:oncall"));
        assert_eq!(read("[metrics]\nkind = \"cloudwatch\"\nsources = []").unwrap().sources, [""; 0]);
        assert_eq!(
            read("[metrics]\nalarms = \"off\"").unwrap_err(),
            "c.toml:2:10: 'alarms' is for kind = \"cloudwatch\"; leave it out, or write that kind"
        );
        let text = "[metrics]\nkind = \"cloudwatch\"\nregion = \"EU\"\nsources = [\"\"]\nalarms = \"on\"\nalarm_topic = \"oncall\"";
        assert_eq!(
            read(text).unwrap_err(),
            "c.toml:3:10: 'EU' is not an AWS region; write one such as \"us-east-1\"\n\
             c.toml:4:12: a source must not be empty; write a glob such as \"ec2:*\"\n\
             c.toml:5:10: 'alarms' can't be 'on'; did you mean 'off'? known: both, backup, off\n\
             c.toml:6:15: 'oncall' is not the ARN of an SNS topic, such as \"arn:aws:sns:us-east-1:123456789012:NAME\""
        );
    }

    #[test]
    fn datapoints_are_kept_as_long_as_asked_and_no_shorter_than_they_are_needed() {
        let keep =
            |text: &str| read(&format!("[metrics]\n{text}")).map(|config| config.keep.as_secs() / 86_400);
        assert_eq!(keep(""), Ok(90));
        assert_eq!(keep("keep = \"1d\""), Ok(1));
        assert_eq!(keep("kind = \"cloudwatch\""), Ok(14));
        assert_eq!(keep("kind = \"cloudwatch\"\nkeep = \"30d\""), Ok(30));
        assert_eq!(
            keep("kind = \"cloudwatch\"\nkeep = \"13d\"").unwrap_err(),
            "c.toml:3:8: 'keep' must be at least 14d with kind = \"cloudwatch\", which takes what is as old; write that or more"
        );
        assert_eq!(
            keep("period = \"1d\"\nkeep = \"1d\"").unwrap_err(),
            "c.toml:3:8: 'keep' must be at least twice the 'period'; write \"2d\" or more"
        );
        assert!(keep("keep = \"23h\"").is_err());
        assert_eq!(read("[metrics]\nmax_size = \"2GiB\"").unwrap().max_bytes, Some(2 << 30));
        assert!(read("[metrics]\nmax_size = \"1MiB\"").unwrap_err().contains("at least 64MiB"));
    }

    #[test]
    fn everything_wrong_with_the_section_is_said() {
        let text = "[metrics]\nkind = \"cloudwach\"\nnamespace = \"AWS/VPN\"\nperiod = \"7s\"\npublish = [\"Jiter\", \"PingLatency\", \"PingLatency\"]\nperid = 1";
        assert_eq!(
            read(text).unwrap_err(),
            "c.toml:2:8: 'kind' can't be 'cloudwach'; did you mean 'cloudwatch'? known: embedded, cloudwatch\n\
             c.toml:3:13: a namespace must not begin with 'AWS/', which is Amazon's own; write another such as \"Crosswatch\"\n\
             c.toml:4:10: 'period' must be 1s, 5s, 10s, 30s or whole minutes up to 1d, such as \"60s\"\n\
             c.toml:5:12: an entry of 'publish' can't be 'Jiter'; did you mean 'Jitter'? known: TunnelsUp, PingSuccess, PingLatency, CollectionSuccess, CollectionLatency, PipelineDelay, TunnelState, Jitter\n\
             c.toml:5:36: a second entry 'PingLatency', the first is on line 5; leave this one out\n\
             c.toml:6:1: unknown key 'perid' in [metrics]; did you mean 'period'?"
        );
    }
}
