//! The file of silences, `silences.toml` beside the config: read and validated whole, as the config is.

use std::path::Path;
use std::time::Duration;

use crosswatch_judge::incident;
use crosswatch_judge::mute::{LONGEST, Silence, When};
use crosswatch_shared::config::Problems;
use crosswatch_shared::config::document::{self, Table, Unique, Value};
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::config::values::{self, short};
use crosswatch_shared::time::Timestamp;
use wildmatch::WildMatch;

use crate::config::{Config, RESERVED};

/// The file's name where the config gives none.
pub const FILE: &str = "silences.toml";

const A_TIME: &str = "2026-11-22T07:00:00Z";
const SHORTEST: Duration = Duration::from_secs(60);

/// What silences may name.
#[derive(Clone, Debug)]
pub struct Known {
    links: Vec<String>,
    sites: Vec<String>,
    rules: Vec<String>,
}

impl Known {
    /// All that is configured.
    #[must_use]
    pub fn of(topology: &Topology, config: &Config) -> Self {
        let rules = config.rules.iter().map(|of| of.rule.name.to_string());
        Self {
            links: topology.links.iter().map(|link| link.name.to_string()).collect(),
            sites: topology.sites.iter().map(|site| site.name.to_string()).collect(),
            rules: rules.chain(RESERVED.map(str::to_owned)).collect(),
        }
    }
}

/// Reads the file's text; `file` names it in the problems. What is `known` is checked of silences that may still be at
/// `now`; without it nothing is.
///
/// # Errors
/// Everything that is wrong with it.
pub fn parse(
    text: &[u8],
    file: &Path,
    known: Option<&Known>,
    now: Timestamp,
) -> Result<Vec<Silence>, Problems> {
    document::read(file, text, |root| {
        let mut ids = Unique::new("silence with the id", "give one of them another id");
        let tables = root.sections("silence");
        let all: Vec<Option<Silence>> =
            tables.into_iter().map(|table| take(table, known, now, &mut ids)).collect();
        all.into_iter().collect()
    })
}

fn take(mut table: Table<'_>, known: Option<&Known>, now: Timestamp, ids: &mut Unique) -> Option<Silence> {
    let place = table.place();
    let id = table.maybe("id", |value| {
        let id = value.parsed("3f9a01c7", |text| values::name(text).map(|()| text.to_owned()))?;
        ids.check(value.place(), &id).map(|()| id)
    });
    let names_something = ["link", "subject", "rule", "site"].iter().any(|key| table.has(key));
    let when = take_when(&mut table);
    let is_over = when.as_ref().is_some_and(|when| when.is_over(now));
    let known = known.filter(|_| !is_over);
    let none = [].as_slice();
    let list = |of: fn(&Known) -> &Vec<String>| known.map_or(none, |known| of(known));
    let links = table.or("link", Vec::new(), |value| globs(value, "link", list(|of| &of.links)));
    let rules = table.or("rule", Vec::new(), |value| globs(value, "rule", list(|of| &of.rules)));
    let sites = table.or("site", Vec::new(), |value| globs(value, "site", list(|of| &of.sites)));
    let subjects = table.or("subject", Vec::new(), |value| {
        let globs = globs(value, "subject", none)?;
        // Which subjects there are is known only once they are seen; each begins with its link or its site.
        let first = |glob: &str| glob.split('/').next().unwrap_or_default().to_owned();
        let names = || known.into_iter().flat_map(|of| of.links.iter().chain(&of.sites));
        let lost = globs.iter().find(|glob| {
            known.is_some() && !glob.starts_with('*') && !names().any(|name| matches(&first(glob), name))
        });
        match lost {
            None => Some(globs),
            Some(glob) => value.place().unmatched(format!(
                "no subject matches '{}': it begins with no link and no site of the config",
                short(glob)
            )),
        }
    });
    let why = table.need("why", "\"router swap\"", |value| match value.text()?.trim() {
        "" => value.wrong("'why' says nothing; whoever wonders why nobody was paged reads it"),
        why => Some(why.to_owned()),
    });
    let by = table.maybe("by", |value| value.text().map(str::to_owned));
    table.finish();
    if !names_something {
        return place
            .missing("a silence needs one of link, subject, rule, site; rule = \"*\" silences everything");
    }
    let (links, subjects, rules, sites) = (links?, subjects?, rules?, sites?);
    let (when, why, by) = (when?, why?, by?);
    // Without an id it is told by what it says.
    let said =
        || incident::id(&[&format!("{links:?}{subjects:?}{rules:?}{sites:?}"), &why, &format!("{when:?}")]);
    let id = id?.unwrap_or_else(|| said().chars().take(8).collect());
    Some(Silence { id, links, subjects, rules, sites, when, why, by })
}

fn take_when(table: &mut Table<'_>) -> Option<When> {
    let place = table.place();
    let (once, every) = (table.has("until"), table.has("cron"));
    let from = table.maybe("from", take_time);
    let until = table.maybe("until", |value| take_time(value).map(|until| (value.place(), until)));
    let cron = table.maybe("cron", |value| value.text().map(|cron| (value.place(), cron.to_owned())));
    let zone = table.or("zone", "UTC".to_owned(), |value| value.text().map(str::to_owned));
    let lasts = table.maybe("lasts", |value| value.duration(SHORTEST..=LONGEST));
    let (from, until, cron, zone, lasts) = (from?, until?, cron?, zone?, lasts?);
    match (until, cron) {
        (Some((place, until)), None) => {
            if lasts.is_some() || table.has("zone") {
                return place.wrong("'lasts' and 'zone' are of a 'cron'; a silence with 'until' has 'from' alone");
            }
            match from {
                Some(from) if until <= from => place.wrong("'until' must be after 'from'"),
                _ => Some(When::Once { from, until }),
            }
        }
        (None, Some((place, cron))) => match lasts {
            _ if from.is_some() => place.wrong("'from' is of a silence with 'until'; leave it out beside 'cron'"),
            None => place.missing("'cron' says when it begins; add lasts = \"2h\""),
            Some(lasts) => match When::every(&cron, &zone, lasts) {
                Ok(when) => Some(when),
                Err(problem) => place.wrong(format!("'cron' or 'zone': {problem}")),
            },
        },
        (Some((place, _)), Some(_)) if once && every => {
            place.wrong("a silence has both 'until' and 'cron'; make two of it")
        }
        _ => place.missing(format!(
            "a silence needs an end: until = \"{A_TIME}\"; or, if it recurs, cron = \"0 2 * * SUN\" with lasts = \"2h\""
        )),
    }
}

fn take_time(value: &Value<'_>) -> Option<Timestamp> {
    value.parsed(A_TIME, |text| {
        let wrong =
            |_| format!("'{}' is not a time; write one such as \"{A_TIME}\", with its zone", short(text));
        text.parse().map_err(wrong)
    })
}

/// A glob or a list of them, each of which matches one of `known` unless nothing is.
fn globs(value: &Value<'_>, what: &str, known: &[String]) -> Option<Vec<String>> {
    let one = |value: &Value<'_>| {
        let glob = value.text()?;
        if glob.is_empty() {
            return value.wrong("an empty glob matches nothing; leave it out, or write \"*\"");
        }
        if known.is_empty() || known.iter().any(|name| matches(glob, name)) {
            return Some(glob.to_owned());
        }
        let names: Vec<&str> = known.iter().map(String::as_str).collect();
        let way_out = format!("write one of the config's: {}", short(&names.join(", ")));
        value.place().dangling(what, glob, names.iter().copied(), &way_out)
    };
    if !value.is_array() {
        return one(value).map(|glob| vec![glob]);
    }
    match value.each("[\"use1-euw1\"]", one)? {
        none if none.is_empty() => {
            value.wrong(format!("'{what}' holds no glob; leave it out for every {what}"))
        }
        globs => Some(globs),
    }
}

fn matches(glob: &str, name: &str) -> bool {
    WildMatch::new(glob).matches(name)
}

/// A silence as whoever reads of what it muted is told: `router swap (3f9a01c7)`.
#[must_use]
pub fn named(silence: &Silence) -> String {
    format!("{} ({})", silence.why, silence.id)
}

/// What it covers, in a line: `link use1-euw1, rule ping-*`.
#[must_use]
pub fn covers(silence: &Silence) -> String {
    let lists = [
        ("link", &silence.links),
        ("subject", &silence.subjects),
        ("rule", &silence.rules),
        ("site", &silence.sites),
    ];
    let named = lists.into_iter().filter(|(_, globs)| !globs.is_empty());
    named.map(|(key, globs)| format!("{key} {}", globs.join(" or "))).collect::<Vec<_>>().join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn known() -> Known {
        let names = |of: &[&str]| of.iter().map(ToString::to_string).collect();
        Known {
            links: names(&["use1-euw1"]),
            sites: names(&["us-east-1", "eu-west-1"]),
            rules: names(&["ping-failed", "site-silent"]),
        }
    }

    fn read(text: &str) -> Result<Vec<Silence>, String> {
        let now = Timestamp::from_secs(1_795_330_800);
        let parsed = parse(text.as_bytes(), Path::new("silences.toml"), Some(&known()), now);
        parsed.map_err(|problems| problems.to_string())
    }

    #[test]
    fn each_kind_of_silence_is_read() {
        let text = r#"
            [[silence]]
            id = "swap"
            link = "use1-*"
            from = "2026-11-22T07:00:00Z"
            until = "2026-11-22T09:00:00+01:00"
            why = "router swap"
            by = "ana"

            [[silence]]
            site = ["us-east-1"]
            rule = ["site-silent", "ping-*"]
            subject = "use1-euw1/*"
            cron = "0 2 * * SUN"
            zone = "Europe/Berlin"
            lasts = "2h"
            why = "weekly patches"
        "#;
        let all = read(text).unwrap();
        let [swap, weekly] = all.as_slice() else { panic!("{all:?}") };
        assert_eq!(named(swap), "router swap (swap)");
        let half_past = "2026-11-22T07:30:00Z".parse().unwrap();
        assert_eq!(swap.when.until(half_past), Some("2026-11-22T08:00:00Z".parse().unwrap()));
        assert_eq!(
            weekly.when.until("2026-11-22T01:30:00Z".parse().unwrap()).unwrap().to_string(),
            "2026-11-22T03:00:00.000000Z"
        );
        assert_eq!((weekly.rules.len(), weekly.id.len()), (2, 8));
        assert_eq!(read(text).unwrap()[1].id, weekly.id, "it is the same each time");
    }

    #[test]
    fn what_is_wrong_is_told_with_its_place_and_the_way_out() {
        let cases = [
            ("link = \"use1-euw2\"", "2:8: there is no link 'use1-euw2'; did you mean 'use1-euw1'?"),
            (
                "site = [\"mars\"]",
                "2:9: there is no site 'mars'; write one of the config's: us-east-1, eu-west-1",
            ),
            ("rule = \"ping-fail\"", "2:8: there is no rule 'ping-fail'; did you mean 'ping-failed'?"),
            ("subject = \"nowhere/*\"", "no subject matches 'nowhere/*'"),
            ("lnk = \"use1-euw1\"", "unknown key 'lnk' in a silence; did you mean 'link'?"),
            ("link = 3", "'link' must be text in quotes, not an integer"),
            ("link = []", "'link' holds no glob"),
            ("", "a silence needs one of link, subject, rule, site"),
        ];
        for (line, part) in cases {
            let text = format!("[[silence]]\n{line}\nuntil = \"2026-12-01T00:00:00Z\"\nwhy = \"w\"\n");
            let error = read(&text).unwrap_err();
            assert!(error.contains(part) && error.starts_with("silences.toml:"), "{line}: {error}");
        }
        for (lines, part) in [
            ("", "needs an end: until ="),
            ("until = \"tomorrow\"", "'tomorrow' is not a time; write one such as"),
            (
                "from = \"2026-12-02T00:00:00Z\"\nuntil = \"2026-12-01T00:00:00Z\"",
                "'until' must be after 'from'",
            ),
            (
                "until = \"2026-12-01T00:00:00Z\"\ncron = \"0 2 * * *\"\nlasts = \"1h\"",
                "both 'until' and 'cron'",
            ),
            ("until = \"2026-12-01T00:00:00Z\"\nlasts = \"1h\"", "'lasts' and 'zone' are of a 'cron'"),
            ("cron = \"0 2 * * *\"", "add lasts = \"2h\""),
            ("cron = \"0 2 * * *\"\nlasts = \"8d\"", "'lasts' must be at most 7d"),
            ("cron = \"0 2 * *\"\nlasts = \"1h\"", "five fields"),
            ("cron = \"0 2 * * *\"\nzone = \"Mars/Olympus\"\nlasts = \"1h\"", "Mars/Olympus"),
        ] {
            let error = read(&format!("[[silence]]\nlink = \"*\"\nwhy = \"w\"\n{lines}\n")).unwrap_err();
            assert!(error.contains(part), "{lines}: {error}");
        }
        let two = "[[silence]]\nid = \"a\"\nlink = \"*\"\nwhy = \"w\"\nuntil = \"2026-12-01T00:00:00Z\"\n"
            .repeat(2);
        assert!(read(&two).unwrap_err().contains("a second silence with the id 'a', the first is on line 2"));
        assert!(read("[[silence]\n").is_err());
    }

    #[test]
    fn one_that_is_over_may_name_what_is_gone() {
        let text = "[[silence]]\nlink = \"gone\"\nuntil = \"2026-11-01T00:00:00Z\"\nwhy = \"w\"\n";
        assert_eq!(read(text).unwrap().len(), 1);
    }
}
