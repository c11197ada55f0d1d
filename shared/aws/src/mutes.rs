//! Amazon CloudWatch's alarm mute rules: during their time the alarms that they name are evaluated, and tell nobody.
//!
//! Limits: 100 alarms a rule, all of which must exist; times to the minute; from a minute to 15 days. A put overwrites the
//! whole of a rule. See [`PutAlarmMuteRule`].
//!
//! [`PutAlarmMuteRule`]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutAlarmMuteRule.html

use aws_sdk_cloudwatch::types::{MuteTargets, Rule, Schedule, Tag};
use aws_smithy_types::DateTime;

use crate::Failure;
use crate::alarms::Alarms;

/// A mute rule.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct MuteRule {
    /// Unique among the mute rules of its region.
    pub name: String,
    /// What it is for; 1,024 characters at most.
    pub description: String,
    /// `at(yyyy-MM-ddThh:mm)`, or `cron(…)` with five fields.
    pub expression: String,
    /// How long each time of it lasts, as ISO 8601 writes it.
    pub duration: String,
    /// The zone of the expression, by its IANA name.
    pub zone: String,
    /// The names of the alarms, 1 to 100.
    pub alarms: Vec<String>,
    /// When it is over for good, in seconds since 1970.
    pub expires: Option<i64>,
}

impl Alarms {
    /// Makes a mute rule with this tag, or overwrites one.
    ///
    /// # Errors
    /// The call failed; it may be repeated. Each alarm must exist.
    pub async fn put_mute_rule(&self, rule: &MuteRule, (key, value): (&str, &str)) -> Result<(), Failure> {
        let schedule = Schedule::builder()
            .expression(&rule.expression)
            .duration(&rule.duration)
            .timezone(&rule.zone)
            .build();
        let targets = MuteTargets::builder().set_alarm_names(Some(rule.alarms.clone())).build();
        let call = self
            .client
            .put_alarm_mute_rule()
            .name(&rule.name)
            .description(&rule.description)
            .rule(Rule::builder().schedule(schedule).build())
            .mute_targets(targets)
            .set_expire_date(rule.expires.map(DateTime::from_secs))
            .tags(Tag::builder().key(key).value(value).build());
        call.send().await.map_err(|error| Failure::of("cloudwatch:PutAlarmMuteRule", &error))?;
        Ok(())
    }

    /// Deletes a mute rule; one that is gone already is no error.
    ///
    /// # Errors
    /// The call failed; it may be repeated.
    pub async fn delete_mute_rule(&self, name: &str) -> Result<(), Failure> {
        let answer = self.client.delete_alarm_mute_rule().alarm_mute_rule_name(name).send().await;
        match answer.map_err(|error| Failure::of("cloudwatch:DeleteAlarmMuteRule", &error)) {
            Err(failure) if failure.code.starts_with("ResourceNotFound") => Ok(()),
            answer => answer.map(drop),
        }
    }
}
