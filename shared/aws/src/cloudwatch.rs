//! Amazon CloudWatch: datums put into metrics.
//!
//! Limits, from [PutMetricData] and [MetricDatum]: 1,000 datums and 1 MB a request, 150 distinct values a datum, 30
//! dimensions, finite values within ±2^360, timestamps from two weeks back to two hours ahead. One datum that breaks a limit has
//! the whole request refused. The SDK sends CBOR (rpc-v2-cbor), compressed by gzip from 10 KiB on.
//!
//! A put adds samples to those a metric has for the timestamp: a repetition after a lost answer counts them twice, which
//! leaves average, minimum, maximum and percentiles as they were.
//!
//! [PutMetricData]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_PutMetricData.html
//! [MetricDatum]: https://docs.aws.amazon.com/AmazonCloudWatch/latest/APIReference/API_MetricDatum.html

use std::time::Duration;

use aws_sdk_cloudwatch::Client;
use aws_sdk_cloudwatch::types::{Dimension, MetricDatum, StandardUnit, Statistic};
use aws_smithy_types::DateTime;
use crosswatch_shared::time::Timestamp;

use crate::{Call, Failure, Session};

/// The most datums a request takes.
pub const DATUMS: usize = 1_000;

/// The most bytes a request takes, before compression.
pub const BYTES: usize = 1_000_000;

/// The most distinct values a datum takes.
pub const VALUES: usize = 150;

/// The most dimensions a datum takes.
pub const DIMENSIONS: usize = 30;

/// The greatest magnitude of a value; the least above zero is its inverse.
pub const GREATEST: f64 = f64::from_bits((1023 + 360) << 52);

/// How far back a timestamp may lie.
pub const OLDEST: Duration = Duration::from_hours(14 * 24);

/// What lies further back is shown only hours later, and judged by no alarm.
pub const LATE: Duration = Duration::from_hours(3);

/// How far ahead a timestamp may lie.
pub const AHEAD: Duration = Duration::from_hours(2);

/// How often each stage says that it lives.
pub const HEARTBEAT_PERIOD: Duration = Duration::from_mins(1);

/// Samples of one metric at one time.
#[derive(Clone, Debug, PartialEq)]
pub struct Datum {
    /// The metric's name.
    pub name: String,
    /// Its dimensions: names and values.
    pub dimensions: Vec<(String, String)>,
    /// When it was measured, to the millisecond.
    pub at: Timestamp,
    /// Distinct values, each with how often it occurred.
    pub values: Vec<(f64, u64)>,
    /// What the values are in.
    pub unit: Unit,
    /// How finely CloudWatch keeps it.
    pub resolution: Resolution,
}

/// What values are in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// Thousandths of a second.
    Milliseconds,
    /// How many.
    Count,
    /// A pure number.
    None,
}

/// How finely CloudWatch keeps a metric.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resolution {
    /// By the second.
    Second,
    /// By the minute.
    Minute,
}

impl Datum {
    /// That a stage lives in the minute that holds `now`: `Heartbeat{Stage}` is 1.
    #[must_use]
    pub fn heartbeat(stage: &str, now: Timestamp) -> Self {
        Self {
            name: "Heartbeat".to_owned(),
            dimensions: vec![("Stage".to_owned(), stage.to_owned())],
            at: now.floor(HEARTBEAT_PERIOD),
            values: vec![(1.0, 1)],
            unit: Unit::Count,
            resolution: Resolution::Minute,
        }
    }

    /// How many bytes of a request it takes at most, uncompressed.
    #[must_use]
    pub fn size(&self) -> usize {
        // Field names, lengths and the small fields are 120 bytes; a number is 9.
        let dimensions: usize =
            self.dimensions.iter().map(|(name, value)| 24 + name.len() + value.len()).sum();
        let numbers = if self.all_once() { 1 } else { 2 } * self.values.len();
        128 + self.name.len() + dimensions + 9 * numbers
    }

    /// Counts that are all 1 need not be sent: that is what their absence means.
    fn all_once(&self) -> bool {
        self.values.iter().all(|&(_, count)| count == 1)
    }
}

/// How many bytes a request has besides its datums, at most.
#[must_use]
pub fn request_size(namespace: &str) -> usize {
    64 + namespace.len()
}

/// CloudWatch in one region.
#[derive(Clone, Debug)]
pub struct CloudWatch {
    client: Client,
}

impl CloudWatch {
    /// In the session's region.
    #[must_use]
    pub fn new(session: &Session) -> Self {
        Self { client: Client::new(session.config()) }
    }

    /// Puts up to [`DATUMS`] datums of up to [`BYTES`] together.
    ///
    /// # Errors
    /// The call failed: of a refused request nothing was taken, of any other all may have been.
    pub fn put<'a>(&'a self, namespace: &'a str, datums: &'a [Datum]) -> Call<'a, ()> {
        Box::pin(async move {
            self.client
                .put_metric_data()
                .namespace(namespace)
                .set_metric_data(Some(datums.iter().map(datum).collect()))
                .send()
                .await
                .map_err(|error| Failure::of("cloudwatch:PutMetricData", &error))?;
            Ok(())
        })
    }

    /// How long the oldest message of a queue of SQS in this region has waited, as AWS last published it: a minute or more
    /// ago. `None`: nothing was published within ten minutes, as of a queue that nobody uses.
    ///
    /// # Errors
    /// The call failed.
    ///
    /// Source: <https://docs.aws.amazon.com/AWSSimpleQueueService/latest/SQSDeveloperGuide/sqs-available-cloudwatch-metrics.html>
    pub fn oldest_message<'a>(&'a self, queue: &'a str, now: Timestamp) -> Call<'a, Option<Duration>> {
        Box::pin(async move {
            const OPERATION: &str = "cloudwatch:GetMetricStatistics";
            const LATELY: Duration = Duration::from_mins(10);
            let answer = self
                .client
                .get_metric_statistics()
                .namespace("AWS/SQS")
                .metric_name("ApproximateAgeOfOldestMessage")
                .dimensions(Dimension::builder().name("QueueName").value(queue).build())
                .start_time(time(now - LATELY))
                .end_time(time(now))
                .period(60)
                .statistics(Statistic::Maximum)
                .send()
                .await
                .map_err(|error| Failure::of(OPERATION, &error))?;
            let newest = answer.datapoints().iter().max_by_key(|point| point.timestamp().map(DateTime::secs));
            let age = newest.and_then(aws_sdk_cloudwatch::types::Datapoint::maximum);
            Ok(age.and_then(|secs| Duration::try_from_secs_f64(secs).ok()))
        })
    }
}

fn time(at: Timestamp) -> DateTime {
    DateTime::from_millis(at.as_micros().div_euclid(1_000))
}

fn datum(datum: &Datum) -> MetricDatum {
    let dimension = |(name, value): &(String, String)| Dimension::builder().name(name).value(value).build();
    let dimensions: Vec<_> = datum.dimensions.iter().map(dimension).collect();
    let counts: Vec<f64> = datum.values.iter().map(|&(_, count)| count as f64).collect();
    MetricDatum::builder()
        .metric_name(&datum.name)
        .set_dimensions((!dimensions.is_empty()).then_some(dimensions))
        .timestamp(time(datum.at))
        .set_values(Some(datum.values.iter().map(|&(value, _)| value).collect()))
        .set_counts((!datum.all_once()).then_some(counts))
        .unit(match datum.unit {
            Unit::Milliseconds => StandardUnit::Milliseconds,
            Unit::Count => StandardUnit::Count,
            Unit::None => StandardUnit::None,
        })
        .storage_resolution(match datum.resolution {
            Resolution::Second => 1,
            Resolution::Minute => 60,
        })
        .build()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_heartbeat_is_of_its_minute() {
        let beat = Datum::heartbeat("alerter", Timestamp::from_secs(1_795_330_859));
        assert_eq!(beat.at, Timestamp::from_secs(1_795_330_800));
        assert_eq!(GREATEST, 2_f64.powi(360));
    }
}
