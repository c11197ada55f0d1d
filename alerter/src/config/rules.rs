//! The section `rule`: thresholds, and how often they must breach.

use std::time::Duration;

use crosswatch_judge::rule::{Breach, Metric, Missing, Rule, Statistic, Window};
use crosswatch_shared::config::document::{Table, Unique, Value};
use crosswatch_shared::config::topology::{Topology, VpnSelect};
use crosswatch_shared::config::values::{self, LONGEST, short};
use crosswatch_shared::observation::Name;
use wildmatch::WildMatch;

use super::{ConfiguredRule, RESERVED, threshold};

/// The most datapoints a rule may look back on: each subject keeps that many.
const MOST_DATAPOINTS: usize = 10_000;
const LONGEST_PERIOD: Duration = Duration::from_hours(24);
const SHORTEST: Duration = Duration::from_millis(1);

const STATISTICS: [(&str, Statistic); 7] = [
    ("average", Statistic::Average),
    ("minimum", Statistic::Minimum),
    ("maximum", Statistic::Maximum),
    ("p50", Statistic::Percentile(50)),
    ("p90", Statistic::Percentile(90)),
    ("p95", Statistic::Percentile(95)),
    ("p99", Statistic::Percentile(99)),
];

const MISSING: [(&str, Missing); 3] =
    [("hold", Missing::Hold), ("breach", Missing::Breach), ("ok", Missing::Ok)];

/// Takes the rules, whose `notify` is checked against the names of the receivers.
pub(super) fn take(
    root: &mut Table<'_>,
    receivers: &[String],
    topology: Option<&Topology>,
) -> Vec<ConfiguredRule> {
    let mut names = Unique::new("rule named", "give one of them another name");
    root.sections("rule")
        .into_iter()
        .filter_map(|table| take_rule(table, receivers, topology, &mut names))
        .collect()
}

fn take_rule(
    mut table: Table<'_>,
    receivers: &[String],
    topology: Option<&Topology>,
    names: &mut Unique,
) -> Option<ConfiguredRule> {
    let name = table.need("name", "\"ping-failed\"", |value| take_name(value, names));
    let metric = table.need("metric", "\"ping_ok\"", |value| {
        value.word(&Metric::ALL.map(|metric| (metric.word(), metric)))
    });
    let threshold = threshold::take(&mut table, metric);
    let breach = table.or("breach", Breach { m: 1, n: 1 }, |value| {
        value.parsed("3 of 5", |text| values::m_of_n(text, MOST_DATAPOINTS).map(|(m, n)| Breach { m, n }))
    });
    let clear = table.maybe("clear", |value| {
        let most = i64::try_from(MOST_DATAPOINTS).ok()?;
        usize::try_from(value.integer(1..=most)?).ok()
    });
    let window = take_window(&mut table, metric);
    let deadline = table.maybe("deadline", |value| value.duration(SHORTEST..=LONGEST));
    let missing = table.or("missing", Missing::Hold, |value| value.word(&MISSING));
    let subjects = table.or("subjects", Vec::new(), |value| take_subjects(value, metric, topology));
    let notify = table.or("notify", Vec::new(), |value| take_notify(value, receivers));
    table.finish();
    let (side, threshold, clear_threshold) = threshold?;
    Some(ConfiguredRule {
        rule: Rule {
            name: name?,
            metric: metric?,
            side,
            threshold,
            clear_threshold,
            breach: breach?,
            clear: clear?,
            window: window?,
            deadline: deadline?,
            missing: missing?,
            subjects: subjects?,
        },
        notify: notify?,
    })
}

fn take_name(value: &Value<'_>, names: &mut Unique) -> Option<Name> {
    let name = value.name()?;
    if RESERVED.contains(&&*name) {
        return value.wrong(format!("'{name}' is the name of a built-in rule; write another one"));
    }
    names.check(value.place(), &name)?;
    Some(name)
}

fn take_window(table: &mut Table<'_>, metric: Option<Metric>) -> Option<Option<Window>> {
    let place = table.place();
    let has_period = table.has("period");
    let period = table.maybe("period", |value| value.duration(SHORTEST..=LONGEST_PERIOD));
    let given = table.get("statistic");
    let statistic = match (&given, metric) {
        (None, _) => Some(Statistic::Average),
        (Some(value), Some(metric)) if metric.needs_period() => {
            value.wrong(format!("{} is one number a period already; leave 'statistic' out", metric.word()))
        }
        (Some(value), _) if !has_period => {
            value.wrong("'statistic' is of a period; add period = \"30s\", or leave it out")
        }
        (Some(value), _) => value.word(&STATISTICS),
    };
    if let Some(metric) = metric
        && metric.needs_period()
        && !has_period
    {
        return place.missing(format!(
            "{} exists only for a period; add period = \"30s\" to the rule",
            metric.word()
        ));
    }
    let (period, statistic) = (period?, statistic?);
    Some(period.map(|period| Window { period, statistic }))
}

fn take_notify(value: &Value<'_>, receivers: &[String]) -> Option<Vec<Name>> {
    let mut unique = Unique::new("entry", "leave this one out");
    let names = value.each("[\"oncall\"]", |value| {
        let text = value.text()?;
        if !receivers.iter().any(|receiver| receiver == text) {
            let near = receivers.iter().map(String::as_str);
            let way_out = "add [notify.NAME] with sms, topic, webhook, command or console";
            return value.place().dangling("receiver", text, near, way_out);
        }
        unique.check(value.place(), text)?;
        Some(text.into())
    })?;
    if names.is_empty() {
        return value.wrong(
            "'notify' names nobody; write a receiver, such as [\"oncall\"], or leave it out to tell nobody",
        );
    }
    Some(names)
}

fn take_subjects(
    value: &Value<'_>,
    metric: Option<Metric>,
    topology: Option<&Topology>,
) -> Option<Vec<String>> {
    let subjects = match (metric, topology) {
        (Some(metric), Some(topology)) => known_subjects(metric, topology),
        _ => None,
    };
    let globs = value.each("[\"use1-euw1/*\"]", |value| {
        let glob = value.text()?;
        if glob.is_empty() {
            return value
                .wrong("an empty glob matches nothing; write one such as \"use1-euw1/*\", or leave it out");
        }
        match &subjects {
            Some(subjects) if glob != "*" => check_glob(value, glob, subjects)?,
            _ => {}
        }
        Some(glob.to_owned())
    })?;
    if globs.is_empty() {
        return value.wrong("'subjects' holds no glob; leave it out for every subject of the metric");
    }
    Some(globs)
}

/// A glob that matches nothing is a rule that never fires.
fn check_glob(value: &Value<'_>, glob: &str, subjects: &[String]) -> Option<()> {
    let pattern = WildMatch::new(glob);
    if subjects.iter().any(|subject| pattern.matches(subject)) {
        return Some(());
    }
    let written = short(glob);
    let nearest = subjects.iter().min_by_key(|subject| strsim::osa_distance(&written, subject));
    let way_out = match nearest {
        Some(nearest) => format!("the nearest is '{nearest}'"),
        None => "no link has a probe or VPN connection that it applies to".to_owned(),
    };
    value.place().unmatched(format!("no subject matches '{written}'; {way_out}"))
}

/// The metric's subjects as far as the config names them; `None` when there may be others.
fn known_subjects(metric: Metric, topology: &Topology) -> Option<Vec<String>> {
    match metric {
        Metric::CollectionOk | Metric::CollectionMs => None,
        Metric::TunnelsUp => topology
            .vpns()
            .map(|(link, vpn)| match &vpn.select {
                VpnSelect::Id(id) => Some(format!("{}/{id}", link.name)),
                VpnSelect::Tag(..) => None,
            })
            .chain(
                topology
                    .appliances()
                    .map(|(link, appliance)| Some(format!("{}/{}", link.name, appliance.name))),
            )
            .collect(),
        Metric::PingOk | Metric::LatencyMs | Metric::LossPercent | Metric::JitterMs => Some(
            topology
                .probes()
                .map(|(link, probe)| format!("{}/{}/{}", link.name, probe.from, probe.name))
                .collect(),
        ),
    }
}
