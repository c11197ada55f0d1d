//! The price table: list prices of us-east-1 in US dollars, without free tiers, discounts and taxes.
//!
//! AWS changes prices rarely and SMS often. Whoever brings the table up to date changes the date, too.

/// When the prices were last looked at.
pub const DATE: &str = "2026-11-22";

/// Of which region they are.
pub const REGION: &str = "us-east-1";

/// A price and where it was seen.
#[derive(Clone, Copy, Debug)]
pub struct Price {
    /// In US dollars a unit.
    pub dollars: f64,
    /// The unit.
    pub unit: &'static str,
    /// Where it was read, and when that page was written; or that it is to be confirmed.
    pub source: &'static str,
}

const fn price(dollars: f64, unit: &'static str, source: &'static str) -> Price {
    Price { dollars, unit, source }
}

/// How many hours a month has in AWS's own estimates.
pub const HOURS: f64 = 730.0;

pub(crate) const METRIC: Price =
    price(0.30, "metric and month", "c3x.dev, CloudWatch custom metrics cost; the first 10,000");
pub(crate) const METRIC_REQUEST: Price =
    price(0.01 / 1000.0, "request", "third-party price lists of 2026: 0.01 $ for 1,000 requests");
pub(crate) const ALARM: Price = price(0.10, "alarm and month", "c3x.dev, aws_cloudwatch_metric_alarm");
pub(crate) const HIGH_RESOLUTION_ALARM: Price =
    price(0.30, "alarm and month", "c3x.dev, aws_cloudwatch_metric_alarm");
pub(crate) const COMPOSITE_ALARM: Price =
    price(0.50, "alarm and month", "c3x.dev, aws_cloudwatch_metric_alarm");
pub(crate) const QUEUE_REQUEST: Price =
    price(0.40 / 1_000_000.0, "request of 64 KiB", "cloudburn.io, Amazon SQS pricing, March 2026");
pub(crate) const COLLECTOR_INSTANCE: Price = price(
    0.0042,
    "t4g.nano and hour",
    "egresscost.com, NAT instance at 3.07 $ a month; see aws.amazon.com/ec2/pricing",
);
pub(crate) const CENTRE_INSTANCE: Price =
    price(0.0168, "t4g.small and hour", "four times the nano; to be confirmed at aws.amazon.com/ec2/pricing");
pub(crate) const DISK: Price =
    price(0.08, "GB of gp3 and month", "to be confirmed at aws.amazon.com/ebs/pricing");
pub(crate) const PUBLIC_IPV4: Price =
    price(0.005, "address and hour", "cloudburn.io, AWS NAT Gateway pricing, February 2026");
pub(crate) const NAT_GATEWAY: Price =
    price(0.045, "gateway and hour", "cloudburn.io, AWS NAT Gateway pricing, February 2026");
pub(crate) const ENDPOINT: Price =
    price(0.01, "interface endpoint and hour", "egresscost.com, 7.20 $ for 720 hours in one zone");
pub(crate) const SMS: Price = price(
    0.00645,
    "text to the US",
    "to be confirmed at aws.amazon.com/end-user-messaging/pricing; carrier fees and other countries differ (--sms-price)",
);
pub(crate) const MONITORED_RESOURCE: Price = price(
    0.11,
    "monitored resource and hour",
    "third-party price lists of 2026; see aws.amazon.com/cloudwatch/pricing, Network Monitoring",
);
