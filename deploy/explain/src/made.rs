//! How an explanation is made: from the alerter's file as things are, from the journals as they were.

use std::collections::{BTreeMap, HashMap};
use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_alerter::account::{self, Account};
use crosswatch_alerter::config::Config;
use crosswatch_alerter::status::{self, ActiveSilence};
use crosswatch_alerter::story::{self, Story, Which};
use crosswatch_journal::JournalError;
use crosswatch_judge::baseline::HOURS;
use crosswatch_judge::facts::Facts;
use crosswatch_judge::mute::{Silence, Silences};
use crosswatch_judge::rule::{Metric, Missing, Rule, Side, Statistic, Threshold};
use crosswatch_judge::verdict::{Kind as Verdict, Symptom};
use crosswatch_judge::{Engine, Judgement};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

use crate::asked::{self, Asked, NotKnown};
use crate::explanation::{
    Baseline, Basis, Breach, Datapoint, Explanation, Judged, Kind, Moment, Site, Subject, Transition,
};
use crate::history::{self, Past, Span};

/// The least that is judged before the moment asked for.
const BEFORE: Duration = Duration::from_secs(3_600);

/// Of how many subjects an incident is explained.
const SUBJECTS: usize = 20;

/// How many transitions of a rule and subject are told.
const TRANSITIONS: usize = 10;

/// How many incidents' ids are searched for the nearest.
const IDS: usize = 1_000;

/// What is to be explained, and where it is read from.
#[derive(Clone, Copy)]
pub struct Ask<'a> {
    /// A link, a rule's subject, or an incident's id or the beginning of one.
    pub asked: &'a str,
    /// The moment; `None` for now, and for when it opened of an incident that is over.
    pub at: Option<Timestamp>,
    /// Now.
    pub now: Timestamp,
    /// The moment from which on the past is judged anew; `None`: an hour before, or what the rules look back on.
    pub since: Option<Timestamp>,
    /// Who watches what.
    pub topology: &'a Topology,
    /// What is judged, and who is told.
    pub config: &'a Config,
    /// The alerter's file.
    pub file: &'a Path,
    /// The folder of a site's journal.
    pub journal: &'a dyn Fn(&str) -> PathBuf,
}

/// Why nothing can be explained.
#[derive(Debug, thiserror::Error)]
pub enum ExplainError {
    /// There is nothing of that name.
    #[error(transparent)]
    NotKnown(#[from] NotKnown),
    /// The moment has not come.
    #[error("{at} has not come yet: it is {now}; write an earlier time, or leave it out for now")]
    Future {
        /// The moment.
        at: Timestamp,
        /// Now.
        now: Timestamp,
    },
    /// The alerter's file cannot be read.
    #[error(transparent)]
    Alerter(#[from] crosswatch_alerter::Error),
    /// A journal cannot be read.
    #[error("the journal of site '{site}' cannot be read: {source}")]
    Journal {
        /// The site.
        site: Name,
        /// Why.
        source: JournalError,
    },
}

/// Explains a state.
///
/// # Errors
/// There is nothing of that name, or what is to be read cannot be.
pub fn explain(ask: &Ask<'_>) -> Result<Explanation, ExplainError> {
    if let Some(at) = ask.at.filter(|at| *at > ask.now) {
        return Err(ExplainError::Future { at, now: ask.now });
    }
    match asked::find(ask.asked, ask.topology, &[]) {
        Asked::Incident(_) => not_of_the_config(ask),
        found => of(ask, found),
    }
}

/// What the config does not name: a subject that was seen, or an incident.
fn not_of_the_config(ask: &Ask<'_>) -> Result<Explanation, ExplainError> {
    let may_be = asked::may_be_id(ask.asked);
    // No id begins with a space.
    let which = Which::Id(if may_be { ask.asked } else { " " });
    let account = read(ask, which)?;
    let seen: Vec<String> = account.iter().flat_map(|of| subjects(&of.engine)).collect();
    if let found @ Asked::Subject { .. } = asked::find(ask.asked, ask.topology, &seen) {
        return of(ask, found);
    }
    let mut account = account;
    let mut incidents = account.as_mut().map(|of| std::mem::take(&mut of.incidents)).unwrap_or_default();
    match (incidents.pop(), incidents.pop(), account) {
        (Some(_), Some(_), _) => Err(NotKnown::several(ask.asked).into()),
        (Some(incident), None, Some(account)) => of_incident(ask, incident, account),
        _ => {
            let ids = story::newest_ids(ask.file, IDS)?;
            Err(NotKnown::new(ask.asked, ask.topology, &seen, &ids).into())
        }
    }
}

fn subjects(engine: &Engine) -> Vec<String> {
    let mut names: Vec<String> = engine.subjects().into_iter().map(|of| of.subject.to_string()).collect();
    names.dedup();
    names
}

fn read(ask: &Ask<'_>, which: Which<'_>) -> Result<Option<Account>, ExplainError> {
    let rules = ask.config.rules.iter().map(|of| of.rule.clone()).collect();
    Ok(account::read(ask.file, rules, ask.topology, which)?)
}

/// A link or a subject.
fn of(ask: &Ask<'_>, asked: Asked) -> Result<Explanation, ExplainError> {
    let at = ask.at.unwrap_or(ask.now);
    let (kind, place, link, subject) = match &asked {
        Asked::Link(link) => (Kind::Link, link.as_str(), Some(link.as_str()), None),
        Asked::Subject { subject, link } => {
            let site = subject.split_once('/').map_or(subject.as_str(), |(site, _)| site);
            (Kind::Subject, link.as_deref().unwrap_or(site), link.as_deref(), Some(subject.as_str()))
        }
        Asked::Incident(id) => (Kind::Incident, id.as_str(), None, None),
    };
    let wanted = Wanted::new(ask.topology, link, subject);
    // What of the sites and of the alerter itself is open explains why nothing is judged.
    let beside: Vec<&str> = wanted.sites.iter().map(|site| &**site).chain(["alerter"]).collect();
    let which = Which::Of { place, beside: &beside, subject, at };
    let account = read(ask, which)?;
    match account {
        Some(account) if ask.at.is_none() => Ok(Explanation {
            asked: ask.asked.to_owned(),
            kind,
            at,
            basis: Basis::Alerter,
            sites: sites(&wanted.sites, &account.sites, &Muting::new(ask, &account.silences, at)),
            subjects: wanted.subjects(ask, &account, at),
            incidents: account.incidents,
        }),
        account => {
            let past = history::judge(&wanted.span(ask, at))?;
            let (incidents, silences) = match account {
                Some(account) => (account.incidents, account.silences),
                None => (past.rehearsal.incidents(which)?, Vec::new()),
            };
            wanted.of_past(ask, kind, &past, incidents, &Muting::new(ask, &silences, at))
        }
    }
}

/// An incident: as things are while it is open, else as they were when it opened.
fn of_incident(ask: &Ask<'_>, found: Story, account: Account) -> Result<Explanation, ExplainError> {
    let of = &found.incident;
    let link = ask.topology.links.iter().find(|link| *link.name == *of.place).map(|link| &*link.name);
    let mut wanted = Wanted::new(ask.topology, link, None);
    wanted.names = of.symptoms.iter().map(|symptom| symptom.subject.clone()).collect();
    wanted.names.dedup();
    wanted.names.truncate(SUBJECTS);
    wanted.all_of = None;
    if wanted.sites.is_empty() {
        wanted.sites = ask.topology.sites.iter().map(|site| site.name.clone()).collect();
        wanted.sites.retain(|site| *of.place == **site || &*of.place == "alerter");
    }
    let at = ask.at.or(of.resolved_at.map(|_| of.opened_at));
    let Some(at) = at else {
        return Ok(Explanation {
            asked: of.id.clone(),
            kind: Kind::Incident,
            at: ask.now,
            basis: Basis::Alerter,
            sites: sites(&wanted.sites, &account.sites, &Muting::new(ask, &account.silences, ask.now)),
            subjects: wanted.subjects(ask, &account, ask.now),
            incidents: vec![found],
        });
    };
    let past = history::judge(&wanted.span(ask, at))?;
    let id = of.id.clone();
    let told =
        wanted.of_past(ask, Kind::Incident, &past, vec![found], &Muting::new(ask, &account.silences, at))?;
    Ok(Explanation { asked: id, ..told })
}

/// Which subjects are explained, and who observes them.
struct Wanted<'a> {
    link: Option<&'a str>,
    /// All that is judged of this link, whether the config names it or not.
    all_of: Option<&'a str>,
    /// These, also where no rule covers them.
    names: Vec<String>,
    sites: Vec<Name>,
}

impl<'a> Wanted<'a> {
    fn new(topology: &'a Topology, link: Option<&str>, subject: Option<&str>) -> Self {
        let of = topology.links.iter().find(|of| Some(&*of.name) == link);
        let mut sites: Vec<Name> = of.iter().flat_map(|link| link.between.iter().cloned()).collect();
        if let (None, Some(subject)) = (of, subject) {
            let site = subject.split_once('/').map_or(subject, |(site, _)| site);
            sites = topology.sites.iter().map(|site| site.name.clone()).collect();
            sites.retain(|of| **of == *site || subject == "alerter");
        }
        let all_of = of.filter(|_| subject.is_none()).map(|link| &*link.name);
        let named = all_of.iter().flat_map(|_| of).flat_map(|link| {
            link.probes.iter().map(move |probe| format!("{}/{}/{}", link.name, probe.from, probe.name))
        });
        let names = subject.map(str::to_owned).into_iter().chain(named).collect();
        Self { link: of.map(|link| &*link.name), all_of, names, sites }
    }

    /// The journals and the time to be judged anew.
    fn span<'b>(&self, ask: &Ask<'b>, at: Timestamp) -> Span<'b> {
        let mut topology = ask.topology.clone();
        if let Some(link) = self.link {
            topology.links.retain(|of| *of.name == *link);
        }
        let rules = ask.config.rules.iter().map(|of| &of.rule);
        let before = rules.map(|rule| looks_back(rule, &topology)).max().unwrap_or(BEFORE).max(BEFORE);
        // Whether all sites are silent is seen only where all are read.
        let all = ask.topology.sites.iter().map(|site| &site.name);
        let sites: Vec<&Name> = match self.link {
            Some(_) => self.sites.iter().collect(),
            None => all.collect(),
        };
        let journals = sites.into_iter().map(|site| (site.clone(), (ask.journal)(site))).collect();
        Span {
            topology,
            config: ask.config,
            journals,
            link: self.link.map(Name::from),
            from: ask.since.unwrap_or(at - before),
            to: at,
        }
    }

    fn of_past(
        &self,
        ask: &Ask<'_>,
        kind: Kind,
        past: &Past,
        incidents: Vec<Story>,
        muting: &Muting,
    ) -> Result<Explanation, ExplainError> {
        let subjects = past.rehearsal.subjects()?;
        let known = Known {
            engine: past.rehearsal.engine(),
            subjects: &subjects,
            otherwise: &BTreeMap::new(),
            muting,
        };
        Ok(Explanation {
            asked: ask.asked.to_owned(),
            kind,
            at: muting.at,
            basis: Basis::History { from: past.from, observations: past.observations },
            sites: sites(&self.sites, &past.rehearsal.sites()?, muting),
            subjects: self.of_known(ask.config, &known, &past.transitions),
            incidents,
        })
    }

    fn subjects(&self, ask: &Ask<'_>, account: &Account, at: Timestamp) -> Vec<Subject> {
        let Account { engine, subjects, otherwise, silences, .. } = account;
        let muting = &Muting::new(ask, silences, at);
        self.of_known(ask.config, &Known { engine, subjects, otherwise, muting }, &[])
    }

    fn of_known(
        &self,
        config: &Config,
        known: &Known<'_>,
        transitions: &[crosswatch_judge::Transition],
    ) -> Vec<Subject> {
        let mut subjects: Vec<Subject> = self.names.iter().map(|name| self.subject(name, known)).collect();
        let mut places: HashMap<String, usize> = self.names.iter().cloned().zip(0..).collect();
        let of_link = |name: &str| {
            self.all_of.is_some_and(|link| name.split_once('/').is_some_and(|(first, _)| first == link))
        };
        let judgements = known.engine.judgements(|name| places.contains_key(name) || of_link(name));
        for judgement in judgements {
            let name = &*judgement.subject;
            let of_site = matches!(judgement.rule.metric, Metric::CollectionOk | Metric::CollectionMs);
            // A site may be called as a link is.
            if of_site && !self.names.iter().any(|known| known == name) {
                continue;
            }
            let place = *places.entry(name.to_owned()).or_insert(subjects.len());
            if place == subjects.len() {
                subjects.push(self.subject(name, known));
            }
            if let Some(subject) = subjects.get_mut(place) {
                subject.judged.push(judged(&judgement, config, known, transitions));
            }
        }
        subjects
    }

    fn subject(&self, name: &str, known: &Known<'_>) -> Subject {
        let evidence = self.link.and_then(|link| evidence(known.engine.facts(), link, name));
        Subject { subject: name.to_owned(), evidence, judged: Vec::new() }
    }
}

/// What is known of the rules' state.
struct Known<'a> {
    engine: &'a Engine,
    subjects: &'a [status::Subject],
    otherwise: &'a BTreeMap<String, String>,
    muting: &'a Muting,
}

/// What the silences mute at the moment that is told.
struct Muting {
    silences: Silences,
    at: Timestamp,
}

impl Muting {
    fn new(ask: &Ask<'_>, silences: &[Silence], at: Timestamp) -> Self {
        Self { silences: Silences::new(silences.to_vec(), ask.topology), at }
    }

    /// The silence that a page of a rule for a subject would fall into; without a metric that of a built-in rule.
    fn of(&self, rule: &str, metric: Option<Metric>, subject: &str) -> Option<ActiveSilence> {
        let (rule, subject) = (rule.into(), subject.into());
        let symptom = Symptom { rule, metric, subject, at: self.at, value: None, reason: String::new() };
        ActiveSilence::of(self.silences.muting(&symptom, self.at)?, self.at)
    }
}

/// What was captured of a probe that is lost.
fn evidence(facts: &Facts, link: &str, subject: &str) -> Option<String> {
    let probes = &facts.link(link)?.probes;
    let probe = probes.iter().find(|probe| {
        subject.strip_prefix(link).and_then(|rest| rest.strip_prefix('/')) == Some(&*probe.label())
    })?;
    probe.seen.as_ref()?.lost?;
    Some(probe.looked.as_ref()?.summary.clone())
}

/// How far back a rule looks: twice what it counts, and its deadline; all that a baseline is of.
fn looks_back(rule: &Rule, topology: &Topology) -> Duration {
    if let Threshold::OfBaseline { .. } = rule.threshold {
        return Duration::from_hours(HOURS as u64 + 2);
    }
    let intervals = topology.probes().map(|(_, probe)| probe.every);
    let polls = topology.vpns().map(|(_, vpn)| vpn.every);
    let interval = intervals.chain(polls).max().unwrap_or(Duration::from_secs(60));
    let step = rule.window.map_or(interval, |window| window.period.max(interval));
    let count = u32::try_from(rule.breach.n.max(rule.clear.unwrap_or(1))).unwrap_or(u32::MAX);
    step.saturating_mul(count.saturating_mul(2)) + rule.deadline.unwrap_or(step * 3)
}

fn sites(wanted: &[Name], known: &[status::SiteTime], muting: &Muting) -> Vec<Site> {
    let site = |name: &Name| {
        let of = known.iter().find(|of| *of.site == **name);
        Site {
            site: name.to_string(),
            event_time: of.and_then(|of| of.event_time),
            silent_since: of.and_then(|of| of.silent_since),
            silence: muting.of(Verdict::SiteSilent.word(), None, name),
        }
    };
    wanted.iter().map(site).collect()
}

fn judged(
    judgement: &Judgement,
    config: &Config,
    known: &Known<'_>,
    transitions: &[crosswatch_judge::Transition],
) -> Judged {
    let Judgement { rule, subject, .. } = judgement;
    let said = known.subjects.iter().find(|of| *of.rule == *rule.name && *of.subject == **subject);
    let reason = said.and_then(|of| of.reason.clone());
    let its = transitions.iter().filter(|of| of.rule == rule.name && of.subject == *subject);
    let mut transitions: Vec<Transition> = its
        .map(|of| Transition { at: of.at, state: of.state.word().to_owned(), reason: of.reason.clone() })
        .collect();
    transitions.drain(..transitions.len().saturating_sub(TRANSITIONS));
    let notify = config.rules.iter().find(|of| of.rule.name == rule.name);
    Judged {
        rule: rule.name.to_string(),
        metric: rule.metric.word().to_owned(),
        side: match rule.side {
            Side::Below => "below".to_owned(),
            Side::Above => "above".to_owned(),
        },
        threshold: judgement.limits.map(|limits| limits.threshold),
        clear_threshold: judgement.limits.and_then(|limits| limits.clear),
        baseline: match rule.threshold {
            Threshold::Fixed(_) => None,
            Threshold::OfBaseline { factor, fixed } => Some(Baseline {
                factor,
                fixed,
                value: judgement.usual.and_then(|usual| usual.value),
                since: judgement.usual.and_then(|usual| usual.since),
            }),
        },
        breach: Breach { m: rule.breach.m, n: rule.breach.n },
        clear: rule.clear,
        period_s: rule.window.map(|window| window.period.as_secs_f64()),
        statistic: rule
            .window
            .filter(|_| !rule.metric.needs_period())
            .map(|window| statistic(window.statistic)),
        silence: known.muting.of(&rule.name, Some(rule.metric), subject),
        notify: notify.into_iter().flat_map(|of| &of.notify).map(ToString::to_string).collect(),
        state: judgement.state.word().to_owned(),
        firing: judgement.firing,
        since: judgement.since.map(|at| Moment {
            at,
            value: judgement.value,
            reason: reason.unwrap_or_default(),
        }),
        datapoints: judgement
            .datapoints
            .iter()
            .map(|of| Datapoint { at: of.at, value: of.value, breaches: of.breaches })
            .collect(),
        breaching: judgement.breaching,
        good: judgement.good,
        last_at: judgement.last,
        deadline_s: judgement.deadline.as_secs_f64(),
        missing: match rule.missing {
            Missing::Hold => "hold".to_owned(),
            Missing::Breach => "breach".to_owned(),
            Missing::Ok => "ok".to_owned(),
        },
        otherwise: known.otherwise.get(&*rule.name).cloned(),
        transitions,
    }
}

fn statistic(statistic: Statistic) -> String {
    match statistic {
        Statistic::Average => "average".to_owned(),
        Statistic::Minimum => "minimum".to_owned(),
        Statistic::Maximum => "maximum".to_owned(),
        Statistic::Percentile(of) => format!("p{of}"),
    }
}
