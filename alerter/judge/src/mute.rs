//! Silences: what is not paged for a time, once or again and again. They mute paging, never judging. Pure: the wall clock's
//! time is an argument.

use std::time::Duration;

use crosswatch_shared::config::topology::{Link, Topology};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use rustc_hash::FxHashMap;
use wildmatch::WildMatch;

use crate::crontab::Crontab;
use crate::rule::Metric;
use crate::verdict::{Kind, Symptom};

/// The longest that one time of a recurring silence lasts.
pub const LONGEST: Duration = Duration::from_secs(7 * 24 * 3_600);

/// What is not paged, and when.
#[derive(Clone, Debug)]
pub struct Silence {
    /// Told from the others by it.
    pub id: String,
    /// Globs over links; of each list that is not empty one must match.
    pub links: Vec<String>,
    /// Globs over subjects.
    pub subjects: Vec<String>,
    /// Globs over rules, the built-in ones included.
    pub rules: Vec<String>,
    /// Globs over sites: the site itself, and the links that end there.
    pub sites: Vec<String>,
    /// When.
    pub when: When,
    /// Why, for whoever reads of it.
    pub why: String,
    /// Who wants it.
    pub by: Option<String>,
}

impl Silence {
    /// Whether it mutes anything of a link: whole, or one of its subjects or rules.
    #[must_use]
    pub fn concerns(&self, link: &Link) -> bool {
        let one = |globs: &[String], name: &str| globs.iter().any(|glob| matches(glob, name));
        // A subject's name begins with its link's; which subjects there are is known only once they are seen.
        let of_subject = |glob: &String| {
            glob.starts_with('*') || matches(glob.split('/').next().unwrap_or_default(), &link.name)
        };
        (self.links.is_empty() || one(&self.links, &link.name))
            && (self.sites.is_empty() || link.between.iter().any(|site| one(&self.sites, site)))
            && (self.subjects.is_empty() || self.subjects.iter().any(of_subject))
    }
}

/// When a silence is.
#[derive(Clone, Debug)]
pub enum When {
    /// From one time, `None` for ever before, until another, which is not of it.
    Once {
        /// Its first moment.
        from: Option<Timestamp>,
        /// The first moment after it.
        until: Timestamp,
    },
    /// Each time of a crontab, for so long.
    Every {
        /// Its five fields, as they were written.
        cron: String,
        /// Its time zone.
        zone: String,
        /// The same, read.
        times: Box<Crontab>,
        /// How long each time lasts; at most [`LONGEST`].
        lasts: Duration,
    },
}

impl When {
    /// Each time of a crontab of five fields in an IANA time zone.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn every(cron: &str, zone: &str, lasts: Duration) -> Result<Self, String> {
        let times = Box::new(Crontab::new(cron, zone)?);
        Ok(Self::Every { cron: cron.to_owned(), zone: zone.to_owned(), times, lasts })
    }

    /// When it ends, if it is at `now`; a recurring one that overlaps itself with the last that has begun.
    #[must_use]
    pub fn until(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, until } => {
                (from.is_none_or(|from| from <= now) && now < *until).then_some(*until)
            }
            Self::Every { times, lasts, .. } => {
                // Each time that began after this is still going on.
                let began = times.after(now - *lasts).take_while(|time| *time <= now).last()?;
                Some(began + *lasts)
            }
        }
    }

    /// Its times that are at some time from `from` up to but not including `to`, each from its first moment to the first after it; the
    /// first `most` of them.
    #[must_use]
    pub fn times(&self, from: Timestamp, to: Timestamp, most: usize) -> Vec<(Timestamp, Timestamp)> {
        match self {
            Self::Once { from: begins, until } => {
                let begins = begins.unwrap_or(Timestamp::MIN);
                let is_in = begins < to && *until > from;
                is_in.then_some((begins, *until)).into_iter().take(most).collect()
            }
            Self::Every { times, lasts, .. } => {
                let begins = times.after(from - *lasts).take_while(|time| *time < to);
                begins.take(most).map(|time| (time, time + *lasts)).collect()
            }
        }
    }

    /// When it begins next after `now`; nothing for one that has begun and does not recur.
    #[must_use]
    pub fn next(&self, now: Timestamp) -> Option<Timestamp> {
        match self {
            Self::Once { from, .. } => from.filter(|from| now < *from),
            Self::Every { times, .. } => times.after(now).next(),
        }
    }

    /// Whether it will never be again.
    #[must_use]
    pub fn is_over(&self, now: Timestamp) -> bool {
        matches!(self, Self::Once { until, .. } if *until <= now)
    }
}

/// All silences, and what they need to know of the topology.
#[derive(Clone, Debug, Default)]
pub struct Silences {
    all: Vec<Silence>,
    between: FxHashMap<Name, Vec<Name>>,
}

impl Silences {
    /// Of these links and sites.
    #[must_use]
    pub fn new(all: Vec<Silence>, topology: &Topology) -> Self {
        let between = topology.links.iter().map(|link| (link.name.clone(), link.between.clone())).collect();
        Self { all, between }
    }

    /// Whether there is none, so that nothing is ever muted.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// The silence that a symptom's page falls into at `now`; the first where there are several.
    #[must_use]
    pub fn muting(&self, symptom: &Symptom, now: Timestamp) -> Option<&Silence> {
        if self.all.is_empty() {
            return None;
        }
        let (link, sites) = self.place(symptom);
        let covers = |silence: &&Silence| {
            let one = |globs: &[String], names: &[&str]| {
                globs.is_empty() || globs.iter().any(|glob| names.iter().any(|name| matches(glob, name)))
            };
            one(&silence.links, link.as_slice())
                && one(&silence.subjects, &[&symptom.subject])
                && one(&silence.rules, &[&symptom.rule])
                && one(&silence.sites, &sites)
        };
        self.all.iter().filter(covers).find(|silence| silence.when.until(now).is_some())
    }

    /// The link of a symptom, and the sites that it concerns.
    fn place<'a>(&'a self, symptom: &'a Symptom) -> (Option<&'a str>, Vec<&'a str>) {
        let first = symptom.subject.split_once('/').map_or(&*symptom.subject, |(first, _)| first);
        let is_site = match symptom.metric {
            Some(metric) => matches!(metric, Metric::CollectionOk | Metric::CollectionMs),
            None if *symptom.rule == *Kind::SiteSilent.word() => true,
            None => return (None, Vec::new()),
        };
        if is_site {
            return (None, vec![first]);
        }
        let sites = self.between.get(first).into_iter().flatten().map(|site| &**site).collect();
        (Some(first), sites)
    }
}

fn matches(glob: &str, name: &str) -> bool {
    WildMatch::new(glob).matches(name)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(text: &str) -> Timestamp {
        text.parse().unwrap()
    }

    fn every(cron: &str, zone: &str, hours: u64) -> When {
        When::every(cron, zone, Duration::from_secs(3_600 * hours)).unwrap()
    }

    #[test]
    fn a_silence_concerns_the_links_that_its_globs_may_name() {
        let between: Vec<Name> = ["us-east-1", "eu-west-1"].map(Name::from).to_vec();
        let (vpns, appliances, probes) = (Vec::new(), Vec::new(), Vec::new());
        let link = Link { name: "use1-euw1".into(), between, vpns, appliances, probes };
        let globs = |all: &[&str]| all.iter().map(ToString::to_string).collect::<Vec<_>>();
        let concerns = |links: &[&str], subjects: &[&str], sites: &[&str]| {
            let silence = Silence {
                id: "s".to_owned(),
                links: globs(links),
                subjects: globs(subjects),
                rules: globs(&["ping-*"]),
                sites: globs(sites),
                when: When::Once { from: None, until: Timestamp::MAX },
                why: "swap".to_owned(),
                by: None,
            };
            silence.concerns(&link)
        };
        assert!(concerns(&[], &[], &[]) && concerns(&["use1-*"], &["use1-euw1/*/icmp:*"], &["eu-west-1"]));
        assert!(concerns(&[], &["*/back"], &[]), "it may be one of its subjects");
        assert!(!concerns(&["apne1-*"], &[], &[]) && !concerns(&[], &[], &["ap-south-1"]));
        assert!(!concerns(&["use1-*"], &["use1-aps1/*"], &[]));
    }

    #[test]
    fn the_times_of_a_silence_are_those_at_which_it_is() {
        let weekly = every("0 2 * * SUN", "UTC", 2);
        let times = |from: &str, to: &str| weekly.times(at(from), at(to), 9);
        let sunday = (at("2026-11-22T02:00:00Z"), at("2026-11-22T04:00:00Z"));
        assert_eq!(times("2026-11-22T03:59:59Z", "2026-11-22T05:00:00Z"), [sunday]);
        assert_eq!(times("2026-11-22T01:00:00Z", "2026-11-22T02:00:01Z"), [sunday]);
        assert_eq!(times("2026-11-22T04:00:00Z", "2026-11-29T02:00:00Z"), []);
        assert_eq!(times("2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z").len(), 9);
        let once = When::Once { from: None, until: sunday.1 };
        assert_eq!(once.times(at("2026-11-22T03:00:00Z"), sunday.1, 9), [(Timestamp::MIN, sunday.1)]);
        assert_eq!(once.times(sunday.1, at("2027-01-01T00:00:00Z"), 9), []);
    }

    #[test]
    fn a_recurring_silence_keeps_to_the_clocks_of_its_zone() {
        let weekly = every("0 2 * * SUN", "Europe/Berlin", 2);
        for (now, until) in [
            // Winter: 2 o'clock is 1 UTC.
            ("2026-11-22T00:59:59.999999Z", None),
            ("2026-11-22T01:00:00Z", Some("2026-11-22T03:00:00Z")),
            ("2026-11-22T02:59:59.999999Z", Some("2026-11-22T03:00:00Z")),
            ("2026-11-22T03:00:00Z", None),
            ("2026-11-23T01:30:00Z", None),
            // Summer: 0 UTC.
            ("2026-07-05T00:30:00Z", Some("2026-07-05T02:00:00Z")),
            // There is no 2 o'clock on the day that summer begins, and it is on all the same.
            ("2027-03-28T00:59:59.999999Z", None),
            ("2027-03-28T01:00:00Z", Some("2027-03-28T03:00:00Z")),
            // There are two on the day that it ends, and it lasts as long as ever.
            ("2027-10-31T00:00:00Z", Some("2027-10-31T02:00:00Z")),
            ("2027-10-31T02:00:00Z", None),
        ] {
            assert_eq!(weekly.until(at(now)), until.map(at), "{now}");
        }
    }

    #[test]
    fn a_crontab_says_what_is_wrong_with_it_in_a_line() {
        let hour = Duration::from_secs(3_600);
        for (cron, zone, part) in [
            ("0 2 * *", "UTC", "five fields"),
            ("0 2 * * * SUN", "UTC", "five fields"),
            ("0 25 * * *", "UTC", "25"),
            ("0 2 * * SUN", "Europe/Atlantis", "Europe/Atlantis"),
        ] {
            let error = When::every(cron, zone, hour).unwrap_err();
            assert!(error.contains(part) && !error.contains('\n'), "{error}");
        }
    }

    fn silence(links: &[&str], rules: &[&str], sites: &[&str], subjects: &[&str]) -> Silence {
        let all = |of: &[&str]| of.iter().map(ToString::to_string).collect();
        Silence {
            id: "1".to_owned(),
            links: all(links),
            subjects: all(subjects),
            rules: all(rules),
            sites: all(sites),
            when: When::Once { from: Some(Timestamp::from_secs(100)), until: Timestamp::from_secs(200) },
            why: "because".to_owned(),
            by: None,
        }
    }

    fn symptom(rule: &str, metric: Option<Metric>, subject: &str) -> Symptom {
        let (at, reason) = (Timestamp::from_secs(0), String::new());
        Symptom { rule: rule.into(), metric, subject: subject.into(), at, value: None, reason }
    }

    #[test]
    fn a_silence_covers_what_each_of_its_globs_names_while_it_is() {
        let between = [("use1-euw1".into(), vec!["us-east-1".into(), "eu-west-1".into()])];
        let probe = symptom("ping-failed", Some(Metric::PingOk), "use1-euw1/us-east-1/icmp:10.1.0.10");
        let collection = symptom("blind", Some(Metric::CollectionOk), "eu-west-1/ec2:vpn-status");
        let silent = symptom("site-silent", None, "eu-west-1");
        let blind = symptom("alerter-blind", None, "alerter");
        let of = |silence: Silence, symptom: &Symptom, now: i64| {
            let silences = Silences { all: vec![silence], between: between.clone().into_iter().collect() };
            silences.muting(symptom, Timestamp::from_secs(now)).is_some()
        };
        let link = || silence(&["use1-*"], &[], &[], &[]);
        assert!(of(link(), &probe, 100) && of(link(), &probe, 199));
        assert!(!of(link(), &probe, 99) && !of(link(), &probe, 200));
        assert!(!of(link(), &silent, 150) && !of(link(), &collection, 150), "these are of no link");
        let site = || silence(&[], &[], &["eu-west-1"], &[]);
        assert!([&probe, &collection, &silent].into_iter().all(|symptom| of(site(), symptom, 150)));
        assert!(!of(site(), &blind, 150));
        assert!(of(silence(&[], &["*"], &[], &[]), &blind, 150));
        let both = silence(&["use1-euw1"], &["latency-*"], &[], &[]);
        assert!(!of(both, &probe, 150), "each of them must match");
        assert!(of(silence(&[], &[], &[], &["*/icmp:*"]), &probe, 150));
    }

    proptest! {
        /// One that recurs is at exactly the moments that lie within a time of it.
        #[test]
        fn a_recurring_silence_is_what_its_times_say(
            now in 1_790_000_000_i64..1_800_000_000,
            minute in 0..60_u8,
            hour in 0..24_u8,
            lasts in 1..100_u64,
        ) {
            let (now, lasts) = (Timestamp::from_secs(now), Duration::from_secs(lasts * 1_800));
            let daily = When::every(&format!("{minute} {hour} * * *"), "UTC", lasts).unwrap();
            let day = Duration::from_secs(86_400);
            let of_today = now.floor(day) + Duration::from_secs(u64::from(hour) * 3_600 + u64::from(minute) * 60);
            let times = (0..4).map(|days| of_today - day * days);
            let expected = times.filter(|began| *began <= now && now < *began + lasts).max().map(|at| at + lasts);
            prop_assert_eq!(daily.until(now), expected);
        }
    }
}
