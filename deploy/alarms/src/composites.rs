//! Composite alarms: what pages. One for each link, one for collectors and publisher, and one for collecting where
//! rules ask for it; more where the limits of CloudWatch ask for it.

use crosswatch_judge::rule::Metric as Judging;
use crosswatch_shared::config::topology::{Link, Topology, shard};

use crate::alarm::{Alarm, Composite, Watch};
use crate::heartbeats::Heartbeats;
use crate::names::Marks;
use crate::rules::Child;
use crate::{Difference, Input, Mode};

/// The most alarms a composite may name.
const MOST_CHILDREN: usize = 100;

/// The most characters its rule may have.
const MOST_CHARACTERS: usize = 10_240;

/// How composites are made: what they tell, and what they ask besides.
struct Maker<'a> {
    marks: &'a Marks,
    topic: Vec<String>,
    /// The alerter's heartbeat, while which is missing they page; `None`: always.
    only_while: Option<&'a str>,
}

pub(crate) fn alarms(
    input: &Input<'_>,
    marks: &Marks,
    children: &[Child],
    heartbeats: &Heartbeats,
) -> Vec<Alarm> {
    // A link's alerter is the one that reads its queue; what is of no link goes to the first.
    let alerters = &heartbeats.alerters;
    let maker = |place: usize| Maker {
        marks,
        topic: input.topic.map(str::to_owned).into_iter().collect(),
        only_while: alerters.get(place).filter(|_| input.mode == Mode::Backup).map(|alarm| &*alarm.name),
    };
    let mut composites = Vec::new();
    for link in &input.topology.links {
        let of_link: Vec<&Child> =
            children.iter().filter(|child| child.link.as_ref() == Some(&link.name)).collect();
        let fault = fault(&of_link);
        let names = of_link.iter().map(|child| &*child.alarm.name);
        let description = format!("Crosswatch: link {} is {fault}", link.name);
        let maker = maker(shard(&link.name, alerters.len()));
        composites.extend(maker.make(&format!("{}{{}} {fault}", link.name), &description, &[], names));
    }
    let collecting = children.iter().filter(|child| child.link.is_none());
    composites.extend(maker(0).make(
        "collecting{} fails or is slow",
        "Crosswatch: collectors are in trouble, so that links may be in trouble unseen",
        &[],
        collecting.map(|child| &*child.alarm.name),
    ));
    // Otherwise their alarms page by themselves: a composite costs as much as five of them.
    if input.mode == Mode::Backup {
        let publishers: Vec<&str> = heartbeats.publishers.iter().map(|alarm| &*alarm.name).collect();
        composites.extend(maker(0).make(
            "collector or publisher{} silent",
            "Crosswatch: no data of a site, or of none when the publisher is silent; links are not watched by alarms then",
            // The alerter tells of silent collectors, but of the publisher it knows nothing.
            &publishers,
            heartbeats.collectors.iter().map(|alarm| &*alarm.name),
        ));
    }
    composites
}

/// Where alarms of a link look at times of different lengths: those below a minute are over before those of whole minutes know of
/// what was short, so that the composite may page for it, clear, and page again.
pub(crate) fn uneven(topology: &Topology, children: &[Child]) -> Vec<Difference> {
    let of_link = |link: &Link| {
        let of_link = children.iter().filter(|child| child.link.as_ref() == Some(&link.name));
        let periods = of_link.filter_map(|child| match &child.alarm.watch {
            Watch::Metric(measured) => Some(measured.period),
            Watch::Composite(_) => None,
        });
        let (short, long): (Vec<u32>, Vec<u32>) = periods.partition(|period| *period < 60);
        let (short, long) = (short.into_iter().min()?, long.into_iter().max()?);
        let text = format!(
            "it has alarms of {short} s and of {long} s: what lasts shorter than the longer may page twice, once by each"
        );
        Some(Difference::new(format!("link {}", link.name), text))
    };
    topology.links.iter().filter_map(of_link).collect()
}

/// What the rules of a link's alarms tell.
fn fault(children: &[&Child]) -> &'static str {
    let slow = |child: &&Child| matches!(child.judging, Judging::LatencyMs | Judging::JitterMs);
    match (children.iter().all(slow), children.iter().any(slow)) {
        (true, _) => "slow",
        (_, true) => "broken or slow",
        (_, false) => "broken",
    }
}

impl Maker<'_> {
    /// Composites over these alarms, as many as the limits ask for; none over none. `{}` in the name is where a number
    /// stands from the second one on. `always` pages in every mode.
    fn make<'n>(
        &self,
        name: &str,
        description: &str,
        always: &[&str],
        alarms: impl Iterator<Item = &'n str>,
    ) -> Vec<Alarm> {
        let asked = self.only_while.map(state);
        let overhead = asked.as_ref().map_or(0, |asked| asked.len() + " AND ()".len());
        let overhead =
            overhead + always.iter().map(|always| state(always).len() + " OR ()".len()).sum::<usize>();
        let fixed = usize::from(asked.is_some()) + always.len();
        let mut parts: Vec<Vec<String>> = Vec::new();
        let mut length = usize::MAX;
        for alarm in alarms.map(state) {
            let longer = length.saturating_add(alarm.len() + " OR ".len());
            match parts.last_mut() {
                Some(part) if longer <= MOST_CHARACTERS && part.len() + fixed < MOST_CHILDREN => {
                    part.push(alarm);
                    length = longer;
                }
                _ => {
                    length = overhead + alarm.len();
                    parts.push(vec![alarm]);
                }
            }
        }
        let parts = parts.into_iter().enumerate().map(|(index, part)| {
            let mut rule = part.join(" OR ");
            if let Some(asked) = &asked {
                rule = if part.len() > 1 {
                    format!("{asked} AND ({rule})")
                } else {
                    format!("{asked} AND {rule}")
                };
            }
            // One of several parts is enough to tell of it.
            if index == 0 && !always.is_empty() {
                let always: Vec<String> = always.iter().map(|alarm| state(alarm)).collect();
                let always = always.join(" OR ");
                rule = if asked.is_some() {
                    format!("{always} OR ({rule})")
                } else {
                    format!("{always} OR {rule}")
                };
            }
            let number = if index == 0 { String::new() } else { format!(" {}", index + 1) };
            Alarm {
                name: self.marks.composite(&name.replacen("{}", &number, 1)),
                description: description.to_owned(),
                alarm_actions: self.topic.clone(),
                ok_actions: self.topic.clone(),
                watch: Watch::Composite(Composite { rule }),
            }
        });
        parts.collect()
    }
}

fn state(alarm: &str) -> String {
    format!("ALARM(\"{alarm}\")")
}
