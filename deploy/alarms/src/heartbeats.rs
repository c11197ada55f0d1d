//! Alarms that there is something to judge by: each collector, the publisher and the alerter give a sign of life.
//!
//! A period without any is one that breaches. CloudWatch looks for as many datapoints as an alarm asks for among somewhat
//! more periods than that, and fills in missing ones only when it finds fewer: three of three minutes are in ALARM
//! once about five minutes in a row are empty, and a put that is a minute late, or a restart, changes nothing.

use crosswatch_shared::config::topology::{QueueKind, worker};
use crosswatch_window::Metric;

use crate::alarm::{Alarm, Measured, Watch};
use crate::names::Marks;
use crate::periods;
use crate::{Difference, Input, Mode};

/// How many periods in a row must be empty.
const PERIODS: u32 = 3;

/// The metric of a stage's own sign of life.
const HEARTBEAT: &str = "Heartbeat";

/// A second alerter's `Stage`, beside those of the first.
const SECOND: &str = "second-alerter";

pub(crate) struct Heartbeats {
    /// They page by themselves; one a queue.
    pub(crate) alerters: Vec<Alarm>,
    /// Likewise, of two alerters. No link asks for them: that the first is dead is what the second is for.
    pub(crate) seconds: Vec<Alarm>,
    /// These page by themselves, too, except as a backup: then a composite does for them while the alerter is silent.
    pub(crate) publishers: Vec<Alarm>,
    pub(crate) collectors: Vec<Alarm>,
}

impl Heartbeats {
    pub(crate) fn all(self) -> impl Iterator<Item = Alarm> {
        self.alerters.into_iter().chain(self.seconds).chain(self.publishers).chain(self.collectors)
    }
}

/// How many second alerters give their sign of life where the alarms are. Without a region in the config each puts it where itself is.
fn seconds(input: &Input<'_>) -> usize {
    if input.published.region_is_named { second_alerters(input) } else { 0 }
}

fn second_alerters(input: &Input<'_>) -> usize {
    match &input.topology.queue.kind {
        QueueKind::Embedded => 0,
        QueueKind::Sqs { alerter, .. } => alerter.iter().filter(|queue| queue.second.is_some()).count(),
    }
}

/// That nobody is told of a second alerter that is dead.
pub(crate) fn unseen(input: &Input<'_>) -> Option<Difference> {
    let unseen = second_alerters(input) > seconds(input);
    let text = "no alarm tells that the second alerter is dead: its metrics go to its own region; write region = \"…\", that of \
                alarm_topic, so that both put them there";
    unseen.then(|| Difference::new("[metrics]", text))
}

pub(crate) fn alarms(input: &Input<'_>, marks: &Marks) -> Heartbeats {
    let minute = std::time::Duration::from_secs(60);
    let with_windows = periods::fit(input.published.period.max(minute), input.published.period);
    let make = |name: String, description: String, metric: &str, dimension: (&str, &str), period| Alarm {
        name: marks.metric_alarm(&name),
        description,
        alarm_actions: Vec::new(),
        ok_actions: Vec::new(),
        watch: Watch::Metric(Measured {
            namespace: input.published.namespace.to_owned(),
            metric: metric.to_owned(),
            dimensions: vec![(dimension.0.to_owned(), dimension.1.to_owned())],
            statistic: "SampleCount".to_owned(),
            period,
            below: true,
            threshold: 1.0,
            m: PERIODS,
            n: PERIODS,
            missing: "breaching".to_owned(),
        }),
    };
    let stage = |stage: &str, period| {
        let description = format!("Crosswatch: the {stage} gives no sign of life");
        make(format!("{stage} silent"), description, HEARTBEAT, ("Stage", stage), period)
    };
    let topic: Vec<String> = input.topic.map(str::to_owned).into_iter().collect();
    let paging = |alarm: Alarm| Alarm { alarm_actions: topic.clone(), ok_actions: topic.clone(), ..alarm };
    let paging_in_both = |alarm: Alarm| if input.mode == Mode::Backup { alarm } else { paging(alarm) };
    let (publishers, alerters) = input.topology.queues();
    Heartbeats {
        // Its own put, once a minute, whatever the windows are.
        alerters: (0..alerters).map(|place| paging(stage(&worker("alerter", place), 60))).collect(),
        seconds: (0..seconds(input)).map(|place| paging(stage(&worker(SECOND, place), 60))).collect(),
        publishers: (0..publishers)
            .map(|place| paging_in_both(stage(&worker("publisher", place), with_windows)))
            .collect(),
        collectors: input
            .topology
            .sites
            .iter()
            .map(|site| {
                let description =
                    format!("Crosswatch: nothing of the collector at {} reaches CloudWatch", site.name);
                let name = format!("collector {} silent", site.name);
                paging_in_both(make(
                    name,
                    description,
                    Metric::PipelineDelay.word(),
                    ("Site", &site.name),
                    with_windows,
                ))
            })
            .collect(),
    }
}
