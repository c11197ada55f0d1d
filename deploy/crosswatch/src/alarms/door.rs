//! CloudWatch, asked and told at a steady pace.

use std::collections::{BTreeMap, HashMap};
use std::time::Duration;

use crosswatch_alarms::alarm::{Alarm, Composite, Measured, Watch};
use crosswatch_alarms::{Changes, Existing, Marks, Place, Plan, diff, suspects};
use crosswatch_aws::alarms::{Alarms, CompositeAlarm, Described, MetricAlarm};
use crosswatch_aws::mutes::MuteRule;
use crosswatch_aws::{Failure, Kind, Session};
use crosswatch_host::retry::Backoff;
use tokio::time::{Instant, sleep, sleep_until};

/// The time between two requests: CloudWatch takes three puts a second.
const PACE: Duration = Duration::from_millis(334);

/// How often a request is begun again when CloudWatch asks for fewer or is in trouble.
const TRIES: u32 = 8;
const FIRST_PAUSE: Duration = Duration::from_secs(1);
const LONGEST_PAUSE: Duration = Duration::from_secs(30);

/// The way to every place's alarms.
pub(crate) struct Door {
    session: Session,
    clients: BTreeMap<Place, Alarms>,
    /// No request before this.
    next: Instant,
}

impl Door {
    pub(crate) fn new(session: Session) -> Self {
        Self { session, clients: BTreeMap::new(), next: Instant::now() }
    }

    /// What has to be done at a place. Tags are asked for only where they decide.
    pub(crate) async fn compare(
        &mut self,
        plan: &Plan,
        place: &Place,
        desired: &[Alarm],
    ) -> Result<Changes, Failure> {
        let client = self.client(place).await;
        let (mut existing, arns) = self.existing(&client, &plan.marks).await?;
        let suspects = suspects(desired, &existing);
        for there in existing.iter_mut().filter(|there| suspects.contains(&there.name)) {
            let arn = arns.get(&there.name).map(String::as_str).unwrap_or_default();
            let tags = self.call(async || client.tags(arn).await).await?;
            let ours = tags.iter().any(|(key, value)| key == plan.marks.key && *value == plan.marks.value);
            there.tagged = Some(ours);
        }
        Ok(diff(desired, &existing, |name| plan.wants(&place.region, name)))
    }

    /// Does it, and tells what failed on standard error: how many were done, and how many failed.
    pub(crate) async fn apply(&mut self, marks: &Marks, place: &Place, changes: &Changes) -> (usize, usize) {
        let client = self.client(place).await;
        let tag = (marks.key, marks.value.as_str());
        let (mut done, mut failed) = (0, 0);
        let mut count = |name: &str, result: Result<(), Failure>| match result {
            Ok(()) => done += 1,
            Err(failure) => {
                eprintln!("{}: {name}: {failure}", told(place));
                failed += 1;
            }
        };
        // Metric alarms before any composite, new or changed, that names them.
        let puts = || changes.create.iter().chain(changes.update.iter().map(|(_, wanted)| wanted));
        for alarm in
            puts().filter(|alarm| !alarm.is_composite()).chain(puts().filter(|alarm| alarm.is_composite()))
        {
            count(&alarm.name, self.put(&client, alarm, tag).await);
        }
        for there in &changes.delete {
            let result = self.call(async || client.delete(&there.name).await).await;
            count(&there.name, result);
        }
        (done, failed)
    }

    /// Makes a mute rule at a place.
    pub(crate) async fn mute(
        &mut self,
        place: &Place,
        rule: &MuteRule,
        tag: (&str, &str),
    ) -> Result<(), Failure> {
        let client = self.client(place).await;
        self.call(async || client.put_mute_rule(rule, tag).await).await
    }

    /// Deletes a mute rule at a place.
    pub(crate) async fn unmute(&mut self, place: &Place, name: &str) -> Result<(), Failure> {
        let client = self.client(place).await;
        self.call(async || client.delete_mute_rule(name).await).await
    }

    async fn put(&mut self, client: &Alarms, alarm: &Alarm, tag: (&str, &str)) -> Result<(), Failure> {
        match sent(alarm) {
            Sent::Metric(alarm) => self.call(async || client.put_metric_alarm(&alarm, tag).await).await,
            Sent::Composite(alarm) => self.call(async || client.put_composite_alarm(&alarm, tag).await).await,
        }
    }

    /// The alarms that may be ours by name, and their ARNs by name.
    async fn existing(
        &mut self,
        client: &Alarms,
        marks: &Marks,
    ) -> Result<(Vec<Existing>, HashMap<String, String>), Failure> {
        let mut existing = Vec::new();
        let mut arns = HashMap::new();
        let mut next = None;
        loop {
            let (page, after) =
                self.call(async || client.metric_alarms(&marks.prefix, next.clone()).await).await?;
            for Described { alarm, arn, odd } in page {
                if marks.is_metric_alarm(&alarm.name) {
                    arns.insert(alarm.name.clone(), arn);
                    existing.push(seen(
                        alarm.name.clone(),
                        false,
                        (!odd).then(|| of_metric(alarm)).flatten(),
                    ));
                }
            }
            next = after;
            if next.is_none() {
                break;
            }
        }
        loop {
            let (page, after) = self.call(async || client.composite_alarms(next.clone()).await).await?;
            for Described { alarm, arn, odd } in page {
                if marks.is_composite(&alarm.name) {
                    arns.insert(alarm.name.clone(), arn);
                    existing.push(seen(alarm.name.clone(), true, (!odd).then(|| of_composite(alarm))));
                }
            }
            next = after;
            if next.is_none() {
                return Ok((existing, arns));
            }
        }
    }

    async fn client(&mut self, place: &Place) -> Alarms {
        if let Some(client) = self.clients.get(place) {
            return client.clone();
        }
        let session = self.session.in_region(&place.region);
        let client = match &place.role {
            Some(role) => Alarms::new(&session.assuming(role, "alarms").await),
            None => Alarms::new(&session),
        };
        self.clients.insert(place.clone(), client.clone());
        client
    }

    /// A request at the pace, begun again while that can help soon.
    async fn call<T>(&mut self, request: impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
        let mut backoff = Backoff::new(FIRST_PAUSE, LONGEST_PAUSE);
        for _ in 1..TRIES {
            match self.paced(&request).await {
                Err(failure) if soon(&failure) => {
                    tracing::info!(%failure, "CloudWatch is asked again");
                    sleep(backoff.pause()).await;
                }
                result => return result,
            }
        }
        self.paced(&request).await
    }

    async fn paced<T>(&mut self, request: &impl AsyncFn() -> Result<T, Failure>) -> Result<T, Failure> {
        sleep_until(self.next).await;
        self.next = Instant::now() + PACE;
        request().await
    }
}

/// Whether the same request may succeed within a minute: nobody grants a permission by then.
fn soon(failure: &Failure) -> bool {
    matches!(failure.kind, Kind::Throttled | Kind::Service | Kind::Timeout)
}

/// A place as errors name it.
pub(crate) fn told(place: &Place) -> String {
    match &place.role {
        Some(role) => format!("{} as {role}", place.region),
        None => place.region.clone(),
    }
}

enum Sent {
    Metric(MetricAlarm),
    Composite(CompositeAlarm),
}

fn sent(alarm: &Alarm) -> Sent {
    let Alarm { name, description, alarm_actions, ok_actions, watch } = alarm.clone();
    match watch {
        Watch::Composite(Composite { rule }) => {
            Sent::Composite(CompositeAlarm { name, description, alarm_actions, ok_actions, rule })
        }
        Watch::Metric(measured) => Sent::Metric(MetricAlarm {
            name,
            description,
            alarm_actions,
            ok_actions,
            namespace: measured.namespace,
            metric: measured.metric,
            dimensions: measured.dimensions,
            statistic: measured.statistic,
            period: measured.period,
            comparison: if measured.below { BELOW } else { ABOVE }.to_owned(),
            threshold: measured.threshold,
            datapoints: measured.m,
            periods: measured.n,
            missing: measured.missing,
        }),
    }
}

const BELOW: &str = "LessThanThreshold";
const ABOVE: &str = "GreaterThanThreshold";

/// `None` for a comparison that none of ours has.
fn of_metric(alarm: MetricAlarm) -> Option<Alarm> {
    let below = match alarm.comparison.as_str() {
        BELOW => true,
        ABOVE => false,
        _ => return None,
    };
    Some(Alarm {
        name: alarm.name,
        description: alarm.description,
        alarm_actions: alarm.alarm_actions,
        ok_actions: alarm.ok_actions,
        watch: Watch::Metric(Measured {
            namespace: alarm.namespace,
            metric: alarm.metric,
            dimensions: alarm.dimensions,
            statistic: alarm.statistic,
            period: alarm.period,
            below,
            threshold: alarm.threshold,
            m: alarm.datapoints,
            n: alarm.periods,
            missing: alarm.missing,
        }),
    })
}

fn of_composite(alarm: CompositeAlarm) -> Alarm {
    let CompositeAlarm { name, description, alarm_actions, ok_actions, rule } = alarm;
    Alarm { name, description, alarm_actions, ok_actions, watch: Watch::Composite(Composite { rule }) }
}

fn seen(name: String, composite: bool, alarm: Option<Alarm>) -> Existing {
    Existing { name, composite, alarm, tagged: None }
}
