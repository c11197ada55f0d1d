//! Amazon CloudWatch's alarms: which there are, and putting and deleting them.
//!
//! A put overwrites the whole of an alarm but its tags, which are given at its creation alone. Limits: names of 255
//! characters, five actions a state, 100 alarms in a composite; about three puts a second. Composites must name alarms that
//! exist, and an alarm that a composite names can't be deleted. See [`PutMetricAlarm`] and [`PutCompositeAlarm`].
//!
//! [`PutMetricAlarm`]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricAlarm.html
//! [`PutCompositeAlarm`]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutCompositeAlarm.html

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{
    self as sdk, AlarmType, ComparisonOperator, Dimension, StandardUnit, Statistic, Tag,
};

use crate::{Call, Failure, Session};

/// How many alarms are asked for at once: the most.
const PAGE: i32 = 100;

/// A metric alarm. Fields that Crosswatch does not use are told by [`Described::odd`].
#[derive(Clone, Debug, PartialEq)]
pub struct MetricAlarm {
    /// Unique in its region, for composites too.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// ARNs of what is told at ALARM.
    pub alarm_actions: Vec<String>,
    /// ARNs of what is told at OK.
    pub ok_actions: Vec<String>,
    /// The metric's namespace.
    pub namespace: String,
    /// The metric's name.
    pub metric: String,
    /// Its dimensions, name and value.
    pub dimensions: Vec<(String, String)>,
    /// `Average`, `Minimum`, `Maximum`, `Sum`, `SampleCount`, or an extended one such as `p95`.
    pub statistic: String,
    /// In seconds.
    pub period: u32,
    /// `LessThanThreshold`, `GreaterThanThreshold` and others.
    pub comparison: String,
    /// The threshold.
    pub threshold: f64,
    /// How many datapoints must breach.
    pub datapoints: u32,
    /// Of how many periods.
    pub periods: u32,
    /// `missing`, `ignore`, `breaching` or `notBreaching`.
    pub missing: String,
}

/// A composite alarm.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CompositeAlarm {
    /// Unique in its region, for metric alarms too.
    pub name: String,
    /// What it is for.
    pub description: String,
    /// ARNs of what is told at ALARM.
    pub alarm_actions: Vec<String>,
    /// ARNs of what is told at OK.
    pub ok_actions: Vec<String>,
    /// The expression over other alarms' states.
    pub rule: String,
}

/// An alarm that is there.
#[derive(Clone, Debug, PartialEq)]
pub struct Described<T> {
    /// The alarm.
    pub alarm: T,
    /// Its ARN.
    pub arn: String,
    /// Whether it has something that these types can't say: metric math, a unit, actions for missing data, a
    /// suppressor, or its actions are switched off.
    pub odd: bool,
}

/// CloudWatch's alarms in one region.
#[derive(Clone, Debug)]
pub struct Alarms {
    pub(crate) client: Client,
}

impl Alarms {
    /// In the session's region.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        Self { client: Client::new(session.config()) }
    }

    /// A page of the metric alarms whose names begin so, and what to give for the next page.
    ///
    /// # Errors
    /// The call failed.
    pub fn metric_alarms<'a>(
        &'a self,
        prefix: &'a str,
        next: Option<String>,
    ) -> Call<'a, (Vec<Described<MetricAlarm>>, Option<String>)> {
        Box::pin(async move {
            let call =
                self.client.describe_alarms().alarm_types(AlarmType::MetricAlarm).alarm_name_prefix(prefix);
            let answer = call.max_records(PAGE).set_next_token(next).send().await;
            let answer = answer.map_err(|error| Failure::of("cloudwatch:DescribeAlarms", &error))?;
            let alarms = answer.metric_alarms.unwrap_or_default().into_iter().map(metric_alarm).collect();
            Ok((alarms, answer.next_token))
        })
    }

    /// A page of all composite alarms, and what to give for the next page.
    ///
    /// # Errors
    /// The call failed.
    pub fn composite_alarms(
        &self,
        next: Option<String>,
    ) -> Call<'_, (Vec<Described<CompositeAlarm>>, Option<String>)> {
        Box::pin(async move {
            let call = self.client.describe_alarms().alarm_types(AlarmType::CompositeAlarm);
            let answer = call.max_records(PAGE).set_next_token(next).send().await;
            let answer = answer.map_err(|error| Failure::of("cloudwatch:DescribeAlarms", &error))?;
            let alarms =
                answer.composite_alarms.unwrap_or_default().into_iter().map(composite_alarm).collect();
            Ok((alarms, answer.next_token))
        })
    }

    /// An alarm's tags, key and value.
    ///
    /// # Errors
    /// The call failed.
    pub fn tags<'a>(&'a self, arn: &'a str) -> Call<'a, Vec<(String, String)>> {
        Box::pin(async move {
            let answer = self.client.list_tags_for_resource().resource_arn(arn).send().await;
            let answer = answer.map_err(|error| Failure::of("cloudwatch:ListTagsForResource", &error))?;
            let tags = answer.tags.unwrap_or_default().into_iter();
            Ok(tags.map(|tag| (tag.key.unwrap_or_default(), tag.value.unwrap_or_default())).collect())
        })
    }

    /// Makes a metric alarm with this tag, or overwrites one and leaves its tags.
    ///
    /// # Errors
    /// The call failed; it may be repeated.
    pub fn put_metric_alarm<'a>(&'a self, alarm: &'a MetricAlarm, tag: (&'a str, &'a str)) -> Call<'a, ()> {
        Box::pin(async move {
            let dimension =
                |(name, value): &(String, String)| Dimension::builder().name(name).value(value).build();
            let call = self
                .client
                .put_metric_alarm()
                .alarm_name(&alarm.name)
                .alarm_description(&alarm.description)
                .actions_enabled(true)
                .set_alarm_actions(Some(alarm.alarm_actions.clone()))
                .set_ok_actions(Some(alarm.ok_actions.clone()))
                .namespace(&alarm.namespace)
                .metric_name(&alarm.metric)
                .set_dimensions(Some(alarm.dimensions.iter().map(dimension).collect()))
                .period(whole(alarm.period))
                .comparison_operator(ComparisonOperator::from(alarm.comparison.as_str()))
                .threshold(alarm.threshold)
                .datapoints_to_alarm(whole(alarm.datapoints))
                .evaluation_periods(whole(alarm.periods))
                .treat_missing_data(&alarm.missing)
                .tags(tagged(tag));
            let call = match Statistic::try_parse(&alarm.statistic) {
                Ok(statistic) => call.statistic(statistic),
                Err(_) => call.extended_statistic(&alarm.statistic),
            };
            call.send().await.map_err(|error| Failure::of("cloudwatch:PutMetricAlarm", &error))?;
            Ok(())
        })
    }

    /// Makes a composite alarm with this tag, or overwrites one and leaves its tags.
    ///
    /// # Errors
    /// The call failed; it may be repeated. An alarm that the rule names must exist.
    pub fn put_composite_alarm<'a>(
        &'a self,
        alarm: &'a CompositeAlarm,
        tag: (&'a str, &'a str),
    ) -> Call<'a, ()> {
        Box::pin(async move {
            let call = self
                .client
                .put_composite_alarm()
                .alarm_name(&alarm.name)
                .alarm_description(&alarm.description)
                .actions_enabled(true)
                .set_alarm_actions(Some(alarm.alarm_actions.clone()))
                .set_ok_actions(Some(alarm.ok_actions.clone()))
                .alarm_rule(&alarm.rule)
                .tags(tagged(tag));
            call.send().await.map_err(|error| Failure::of("cloudwatch:PutCompositeAlarm", &error))?;
            Ok(())
        })
    }

    /// Deletes an alarm; one that is gone already is no error.
    ///
    /// # Errors
    /// The call failed; it may be repeated. A composite that names the alarm must be deleted first.
    pub fn delete<'a>(&'a self, name: &'a str) -> Call<'a, ()> {
        Box::pin(async move {
            let answer = self.client.delete_alarms().alarm_names(name).send().await;
            match answer.map_err(|error| Failure::of("cloudwatch:DeleteAlarms", &error)) {
                Err(failure) if failure.code == "ResourceNotFound" => Ok(()),
                answer => answer.map(drop),
            }
        })
    }
}

fn metric_alarm(alarm: sdk::MetricAlarm) -> Described<MetricAlarm> {
    let odd = alarm.actions_enabled == Some(false)
        || alarm.metrics.as_ref().is_some_and(|metrics| !metrics.is_empty())
        || alarm.unit.as_ref().is_some_and(|unit| *unit != StandardUnit::None)
        || alarm.insufficient_data_actions.as_ref().is_some_and(|actions| !actions.is_empty())
        || alarm.threshold_metric_id.is_some()
        || alarm.evaluate_low_sample_count_percentile.as_deref().is_some_and(|way| way != "evaluate");
    let dimensions = alarm.dimensions.unwrap_or_default().into_iter();
    let periods = natural(alarm.evaluation_periods);
    let statistic = alarm.statistic.map(|statistic| statistic.as_str().to_owned());
    Described {
        arn: alarm.alarm_arn.unwrap_or_default(),
        odd,
        alarm: MetricAlarm {
            name: alarm.alarm_name.unwrap_or_default(),
            description: alarm.alarm_description.unwrap_or_default(),
            alarm_actions: alarm.alarm_actions.unwrap_or_default(),
            ok_actions: alarm.ok_actions.unwrap_or_default(),
            namespace: alarm.namespace.unwrap_or_default(),
            metric: alarm.metric_name.unwrap_or_default(),
            dimensions: dimensions
                .map(|dimension| (dimension.name.unwrap_or_default(), dimension.value.unwrap_or_default()))
                .collect(),
            statistic: alarm.extended_statistic.or(statistic).unwrap_or_default(),
            period: natural(alarm.period),
            comparison: alarm
                .comparison_operator
                .map(|comparison| comparison.as_str().to_owned())
                .unwrap_or_default(),
            threshold: alarm.threshold.unwrap_or_default(),
            datapoints: alarm.datapoints_to_alarm.map_or(periods, |count| natural(Some(count))),
            periods,
            missing: alarm.treat_missing_data.unwrap_or_else(|| "missing".to_owned()),
        },
    }
}

fn composite_alarm(alarm: sdk::CompositeAlarm) -> Described<CompositeAlarm> {
    Described {
        arn: alarm.alarm_arn.unwrap_or_default(),
        odd: alarm.actions_enabled == Some(false)
            || alarm.insufficient_data_actions.is_some_and(|actions| !actions.is_empty())
            || alarm.actions_suppressor.is_some_and(|suppressor| !suppressor.is_empty()),
        alarm: CompositeAlarm {
            name: alarm.alarm_name.unwrap_or_default(),
            description: alarm.alarm_description.unwrap_or_default(),
            alarm_actions: alarm.alarm_actions.unwrap_or_default(),
            ok_actions: alarm.ok_actions.unwrap_or_default(),
            rule: alarm.alarm_rule.unwrap_or_default(),
        },
    }
}

fn tagged((key, value): (&str, &str)) -> Tag {
    Tag::builder().key(key).value(value).build()
}

fn whole(number: u32) -> i32 {
    i32::try_from(number).unwrap_or(i32::MAX)
}

fn natural(number: Option<i32>) -> u32 {
    number.and_then(|number| u32::try_from(number).ok()).unwrap_or_default()
}
