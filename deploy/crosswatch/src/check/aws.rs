//! `check --aws`: one harmless call for each permission that the config needs, in each region and account.
//!
//! It is this machine's identity that is tried; each stage calls under its own, so that of a stage only what it needs itself is asked
//! for. Whatever fails, the others are tried too.

mod route;

use std::collections::BTreeSet;
use std::fmt;
use std::io::{self, Write};

use anyhow::Context as _;
use crosswatch_aws::probe::{self, Recipient, Use};
use crosswatch_aws::{Failure, Kind, Session};
use crosswatch_shared::config::aws::region_of;
use crosswatch_shared::config::topology::{QueueKind, SqsQueue};
use tokio::task::JoinSet;

use crate::cli::CallingStage;
use crate::config::Config;

/// Something that the config needs is not there.
#[derive(Debug, thiserror::Error)]
#[error("{0} of what the config needs on AWS: missing, or out of reach")]
pub(crate) struct Lacking(usize);

/// A call to try, in the order in which they are told.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Call {
    Identity,
    DescribeVpnConnections,
    Send(String),
    Receive(String),
    Extend(String),
    Delete(String),
    Depth(String),
    PutMetricData(String),
    DescribeAlarms,
    Sms(String),
    Topic(String),
    Sandbox,
    SpendLimit,
    OptedOut(String),
}

/// Where it is tried, and under which role; `None`: as this machine is set up.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
struct Place {
    region: Option<String>,
    role: Option<String>,
}

/// What came of it.
#[derive(Debug, PartialEq)]
enum Verdict {
    Ok,
    /// What was read is worth knowing.
    Told(String),
    /// It works, but not as wished.
    Warning(String),
    Missing(String),
    Unreachable(String),
}

/// Tries everything and prints a line each; of one stage, what that needs, and of a collector what its site does.
pub(crate) fn run(config: &Config, stage: Option<CallingStage>, site: Option<&str>) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let verdicts = runtime.context("cannot start the runtime")?.block_on(async {
        let session = Session::load().await;
        all(&session, wanted(config, stage, site)).await
    });
    let mut out = io::stdout().lock();
    let mut lacking = 0;
    for ((place, call), verdict) in &verdicts {
        lacking += usize::from(matches!(verdict, Verdict::Missing(_) | Verdict::Unreachable(_)));
        writeln!(out, "{}", line(place, call, verdict))?;
    }
    // Only collectors send beside a link.
    if stage.is_none_or(|stage| stage == CallingStage::Collector) {
        for warning in route::warnings(&config.topology, site) {
            writeln!(out, "warning: {warning}")?;
        }
    }
    drop(out);
    if lacking == 0 { Ok(()) } else { Err(Lacking(lacking).into()) }
}

/// What the config needs, each once. Without a stage: what all of them need together, and the tools.
fn wanted(config: &Config, stage: Option<CallingStage>, site: Option<&str>) -> BTreeSet<(Place, Call)> {
    let mut wanted = BTreeSet::new();
    if stage.is_none_or(|stage| stage == CallingStage::Collector) {
        let site = site.filter(|_| stage.is_some());
        of_collectors(config, site, &mut wanted);
    }
    if let QueueKind::Sqs { publisher, alerter } = &config.topology.queue.kind {
        of_queues(publisher, alerter, stage, &mut wanted);
    }
    if stage != Some(CallingStage::Collector) {
        of_metrics(config, stage, &mut wanted);
    }
    if stage.is_none_or(|stage| matches!(stage, CallingStage::Alerter | CallingStage::SecondAlerter)) {
        of_receivers(config, &mut wanted);
    }
    if !wanted.is_empty() {
        let roles: BTreeSet<Place> =
            wanted.iter().map(|(place, _)| Place { region: None, role: place.role.clone() }).collect();
        // Who it is that is tried, also where everything needs a role of its own.
        wanted.extend(roles.into_iter().chain([Place::default()]).map(|place| (place, Call::Identity)));
    }
    wanted
}

/// The polls of a site, or of all, and their last gasps.
fn of_collectors(config: &Config, site: Option<&str>, wanted: &mut BTreeSet<(Place, Call)>) {
    let topology = &config.topology;
    let here = |name: &str| site.is_none_or(|site| site == name);
    for (_, vpn) in topology.vpns().filter(|(_, vpn)| here(&vpn.site)) {
        let (region, role) = topology.account(vpn);
        let place = Place { region: region.map(str::to_owned), role: role.map(str::to_owned) };
        wanted.insert((place, Call::DescribeVpnConnections));
    }
    let topics = topology.sites.iter().filter(|site| here(&site.name)).filter_map(|site| site.topic.as_ref());
    wanted.extend(topics.map(|topic| (at(region_of(topic)), Call::Topic(topic.clone()))));
}

/// Who sends to which queue, and who reads it.
fn of_queues(
    publisher: &[SqsQueue],
    alerter: &[SqsQueue],
    stage: Option<CallingStage>,
    wanted: &mut BTreeSet<(Place, Call)>,
) {
    let own = |queues: &[SqsQueue]| -> Vec<String> {
        queues.iter().flat_map(|queue| std::iter::once(&queue.url).chain(&queue.standby)).cloned().collect()
    };
    let firsts = || alerter.iter().map(|queue| queue.url.clone()).collect::<Vec<_>>();
    let seconds = || alerter.iter().filter_map(|queue| queue.second.clone()).collect::<Vec<_>>();
    let every = || [own(publisher), own(alerter), seconds()].concat();
    let mut use_of = |urls: Vec<String>, uses: &[fn(String) -> Call]| {
        for url in urls {
            wanted.extend(uses.iter().map(|of| (Place::default(), of(url.clone()))));
        }
    };
    let reading: [fn(String) -> Call; 3] = [Call::Receive, Call::Extend, Call::Delete];
    match stage {
        None => {
            use_of(every(), &reading);
            use_of(every(), &[Call::Send, Call::Depth]);
        }
        Some(CallingStage::Collector) => use_of(every(), &[Call::Send]),
        Some(CallingStage::Publisher) => use_of(own(publisher), &reading),
        // Of two each tells the other what it has paged.
        Some(CallingStage::Alerter) => {
            use_of(own(alerter), &reading);
            use_of(seconds(), &[Call::Send]);
        }
        Some(CallingStage::SecondAlerter) => {
            use_of(seconds(), &reading);
            use_of(firsts(), &[Call::Send]);
        }
    }
}

fn of_metrics(config: &Config, stage: Option<CallingStage>, wanted: &mut BTreeSet<(Place, Call)>) {
    let metrics = &config.metrics;
    if metrics.kind != crosswatch_publisher::config::Kind::CloudWatch {
        return;
    }
    let place = at(metrics.region.as_deref());
    wanted.insert((place.clone(), Call::PutMetricData(metrics.namespace.clone())));
    // Only 'crosswatch alarms' reads them.
    if stage.is_none() {
        wanted.insert((place, Call::DescribeAlarms));
    }
}

fn of_receivers(config: &Config, wanted: &mut BTreeSet<(Place, Call)>) {
    let receivers = &config.alerts.receivers;
    for receiver in receivers {
        let region = receiver.texting.region.as_deref();
        for number in &receiver.sms {
            wanted.extend(
                [Call::Sms(number.clone()), Call::OptedOut(number.clone()), Call::Sandbox, Call::SpendLimit]
                    .map(|call| (at(region), call)),
            );
        }
    }
    let topics = receivers.iter().filter_map(|receiver| receiver.topic.as_ref());
    wanted.extend(topics.map(|topic| (at(region_of(topic)), Call::Topic(topic.clone()))));
}

fn at(region: Option<&str>) -> Place {
    Place { region: region.map(str::to_owned), role: None }
}

/// All at once: one that hangs delays no other.
async fn all(session: &Session, wanted: BTreeSet<(Place, Call)>) -> Vec<((Place, Call), Verdict)> {
    let mut tries = JoinSet::new();
    for (place, call) in wanted {
        let session = session.clone();
        tries.spawn(async move {
            let verdict = of(&session, &place, &call).await;
            ((place, call), verdict)
        });
    }
    let mut verdicts = tries.join_all().await;
    verdicts.sort_by(|((a, of_a), _), ((b, of_b), _)| (of_a, a).cmp(&(of_b, b)));
    verdicts
}

async fn of(session: &Session, place: &Place, call: &Call) -> Verdict {
    let mut session = session.clone();
    if let Some(region) = &place.region {
        session = session.in_region(region);
    }
    if let Some(role) = &place.role {
        session = session.assuming(role, "check").await;
    }
    if session.region().is_none() {
        return Verdict::Missing("no AWS region is known: set AWS_REGION".to_owned());
    }
    let session = &session;
    let done = |answer: Result<(), Failure>| answer.map(|()| Verdict::Ok);
    let answer = match call {
        Call::Identity => probe::identity(session).await.map(Verdict::Told),
        Call::DescribeVpnConnections => done(crosswatch_ec2::may_describe(session).await),
        Call::Send(url) => done(probe::queue(session, url, Use::Send).await),
        Call::Receive(url) => done(probe::queue(session, url, Use::Receive).await),
        Call::Extend(url) => done(probe::queue(session, url, Use::Extend).await),
        Call::Delete(url) => done(probe::queue(session, url, Use::Delete).await),
        Call::Depth(url) => done(probe::queue(session, url, Use::Depth).await),
        Call::PutMetricData(namespace) => done(probe::put_metric_data(session, namespace).await),
        Call::DescribeAlarms => done(probe::describe_alarms(session).await),
        Call::Sms(number) => done(probe::publish(session, Recipient::Number(number)).await),
        Call::Topic(arn) => done(probe::publish(session, Recipient::Topic(arn)).await),
        Call::Sandbox => return sandbox(probe::sms_sandbox(session).await),
        Call::SpendLimit => return spend_limit(probe::sms_spend_limit(session).await),
        Call::OptedOut(number) => return opted_out(probe::opted_out(session, number).await),
    };
    answer.unwrap_or_else(|failure| failed(&failure))
}

/// What a failure means, and the way out.
fn failed(failure: &Failure) -> Verdict {
    let Failure { operation, code, message, .. } = failure;
    match failure.kind {
        Kind::Denied => Verdict::Missing(format!("{code}: {message}; allow {operation}")),
        Kind::Credentials => Verdict::Missing(format!(
            "{code}: {message}; give credentials: a role of the instance, a profile, or AWS_ACCESS_KEY_ID"
        )),
        Kind::Refused => Verdict::Missing(format!("{code}: {message}; correct it in the config, or make it")),
        Kind::Timeout | Kind::Unreachable => Verdict::Unreachable(format!(
            "{code}: {message}; see the route, the security group and the endpoint"
        )),
        Kind::Throttled | Kind::Service => Verdict::Unreachable(format!("{code}: {message}; try again")),
    }
}

/// What only this check reads: nothing else fails without it.
fn unread(failure: &Failure) -> Verdict {
    let Failure { operation, code, .. } = failure;
    Verdict::Warning(format!("not known ({code}); with {operation} allowed it is read here"))
}

fn sandbox(answer: Result<bool, Failure>) -> Verdict {
    match answer {
        Ok(false) => Verdict::Told("out of the sandbox".to_owned()),
        Ok(true) => Verdict::Warning(
            "the account is in the SMS sandbox here: only verified numbers are texted; verify them, or ask AWS to leave it"
                .to_owned(),
        ),
        Err(failure) => unread(&failure),
    }
}

fn spend_limit(answer: Result<Option<f64>, Failure>) -> Verdict {
    match answer {
        Ok(limit) if limit.unwrap_or(1.0) <= 1.0 => Verdict::Warning(format!(
            "the month's limit is {} $, some dozens of texts: beyond it none is delivered; ask AWS to raise it",
            limit.unwrap_or(1.0)
        )),
        Ok(limit) => Verdict::Told(format!("{} $ a month", limit.unwrap_or(1.0))),
        Err(failure) => unread(&failure),
    }
}

fn opted_out(answer: Result<bool, Failure>) -> Verdict {
    match answer {
        Ok(false) => Verdict::Told("not opted out".to_owned()),
        Ok(true) => Verdict::Missing(
            "the number has opted out: SNS does not text it; take it off the list (once in 30 days)"
                .to_owned(),
        ),
        Err(failure) => unread(&failure),
    }
}

fn line(place: &Place, call: &Call, verdict: &Verdict) -> String {
    let (word, why) = match verdict {
        Verdict::Ok => ("ok", ""),
        Verdict::Told(why) => ("ok", why.as_str()),
        Verdict::Warning(why) => ("warning", why.as_str()),
        Verdict::Missing(why) => ("missing", why.as_str()),
        Verdict::Unreachable(why) => ("unreachable", why.as_str()),
    };
    let place = place.to_string();
    let subject: Vec<&str> = [&*place, call.subject()].into_iter().filter(|text| !text.is_empty()).collect();
    let action = call.action();
    let mut line = format!("{word:<11}  {action:<33}  {}", subject.join(" "));
    if !why.is_empty() {
        line = format!("{}: {}", line.trim_end(), why.lines().next().unwrap_or_default());
    }
    line.trim_end().to_owned()
}

impl fmt::Display for Place {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (&self.region, &self.role) {
            (Some(region), Some(role)) => write!(f, "{region} as {role}"),
            (Some(region), None) => f.write_str(region),
            (None, Some(role)) => write!(f, "as {role}"),
            (None, None) => Ok(()),
        }
    }
}

impl Call {
    /// As IAM writes it.
    fn action(&self) -> &'static str {
        match self {
            Self::Identity => "sts:GetCallerIdentity",
            Self::DescribeVpnConnections => "ec2:DescribeVpnConnections",
            Self::Send(_) => "sqs:SendMessage",
            Self::Receive(_) => "sqs:ReceiveMessage",
            Self::Extend(_) => "sqs:ChangeMessageVisibility",
            Self::Delete(_) => "sqs:DeleteMessage",
            Self::Depth(_) => "sqs:GetQueueAttributes",
            Self::PutMetricData(_) => "cloudwatch:PutMetricData",
            Self::DescribeAlarms => "cloudwatch:DescribeAlarms",
            Self::Sms(_) | Self::Topic(_) => "sns:Publish",
            Self::Sandbox => "sns:GetSMSSandboxAccountStatus",
            Self::SpendLimit => "sns:GetSMSAttributes",
            Self::OptedOut(_) => "sns:CheckIfPhoneNumberIsOptedOut",
        }
    }

    /// What it is about.
    fn subject(&self) -> &str {
        match self {
            Self::Send(of) | Self::Receive(of) | Self::Extend(of) | Self::Delete(of) | Self::Depth(of) => of,
            Self::PutMetricData(of) | Self::Sms(of) | Self::Topic(of) | Self::OptedOut(of) => of,
            Self::Identity | Self::DescribeVpnConnections | Self::DescribeAlarms => "",
            Self::Sandbox | Self::SpendLimit => "",
        }
    }
}

#[cfg(test)]
mod tests;
