//! CloudWatch's rates: a token bucket for each account, region and operation.
//!
//! From CloudWatch's service quotas: three requests a second for what changes alarms, nine for `DescribeAlarms`, 500
//! for `PutMetricData`. A bucket holds the tokens of one second.

use std::collections::HashMap;
use std::time::Instant;

use crate::call::Call;

#[derive(Debug, Default)]
pub(crate) struct Buckets(HashMap<(String, String, String), (f64, Instant)>);

impl Buckets {
    /// Whether the call may go on.
    pub(crate) fn take(&mut self, call: &Call, now: Instant) -> bool {
        let rate = match call.operation.as_str() {
            "PutMetricAlarm" | "PutCompositeAlarm" | "DeleteAlarms" | "SetAlarmState" => 3.0,
            "DescribeAlarms" => 9.0,
            "PutMetricData" => 500.0,
            _ => return true,
        };
        let key = (call.account.clone(), call.region.clone(), call.operation.clone());
        let (tokens, filled) = self.0.entry(key).or_insert((rate, now));
        *tokens = (*tokens + now.duration_since(*filled).as_secs_f64() * rate).min(rate);
        *filled = now;
        if *tokens < 1.0 {
            return false;
        }
        *tokens -= 1.0;
        true
    }
}
