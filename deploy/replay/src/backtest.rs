//! Backtest: two sets of rules over the same history, and what a reviewer of the change wants to know.
//!
//! What counts is what pages. Incidents of rules that notify nobody are only counted. A page's time is that of the datapoint
//! which decided it: how long the message takes is no matter of rules.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::fmt;
use std::time::Duration;

use crosswatch_judge::incident::{Event, What};
use crosswatch_judge::rule::Rule;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;
use serde::Serialize;

use crate::counts::Counts;
use crate::judging::{Found, Judging};
use crate::print::span;
use crate::source::{Piece, Source, SourceError, each_ahead};

/// Two incidents of a place are of one trouble when no more than this lies between them: a rule that waits longer may begin
/// after another has ended.
pub const NEAR: Duration = Duration::from_secs(60);

/// Rules, and whom each pages.
#[derive(Clone, Debug, Default)]
pub struct Rules {
    /// In the order of the config.
    pub rules: Vec<Rule>,
    /// The receivers of each rule, by its name.
    pub notify: HashMap<Name, Vec<Name>>,
}

/// An incident that is past, or open at the end.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Past {
    /// The link or site.
    pub place: String,
    /// The verdict, as it was gravest.
    pub verdict: String,
    /// What the verdict rested on.
    pub words: String,
    /// The rule that paged first.
    pub rule: String,
    /// What that rule fired for.
    pub subject: String,
    /// When it began.
    pub opened: Timestamp,
    /// When it ended; `None` where it had not.
    pub closed: Option<Timestamp>,
    /// When it paged first; `None` where it paged nobody.
    pub paged: Option<Timestamp>,
    /// How many pages each receiver got, their ends not counted.
    pub pages: BTreeMap<Name, u64>,
}

/// What rules made of a history.
#[derive(Clone, Debug, Default)]
pub struct Judged {
    /// In the order in which they began.
    pub incidents: Vec<Past>,
    /// What was read and what was skipped.
    pub counts: Counts,
}

/// Rules on trial.
#[derive(Debug)]
pub struct Trial {
    judging: Judging,
    books: Books,
    found: Found,
}

/// What became of incidents.
#[derive(Debug)]
struct Books {
    notify: HashMap<Name, Vec<Name>>,
    open: HashMap<String, Past>,
    /// Who was paged for what is down, by the incident's id.
    down: HashMap<String, HashSet<Name>>,
    past: Vec<Past>,
}

impl Trial {
    /// Begins with nothing known.
    #[must_use]
    pub fn new(rules: Rules, topology: &Topology) -> Self {
        let judging = Judging::new(rules.rules, topology).with_incidents();
        let books =
            Books { notify: rules.notify, open: HashMap::new(), down: HashMap::new(), past: Vec::new() };
        Self { judging, books, found: Found::default() }
    }

    /// Judges a piece.
    pub fn take(&mut self, piece: &Piece) {
        self.judging.take(piece, &mut self.found);
        self.books.follow(&mut self.found);
    }

    /// Ends it.
    #[must_use]
    pub fn end(self) -> Judged {
        let Self { judging, mut books, mut found } = self;
        let counts = judging.end(&mut found);
        books.follow(&mut found);
        let Books { open, mut past, .. } = books;
        past.extend(open.into_values());
        past.sort_by(|one, other| (one.opened, &one.place).cmp(&(other.opened, &other.place)));
        Judged { incidents: past, counts }
    }
}

impl Books {
    fn follow(&mut self, found: &mut Found) {
        found.transitions.clear();
        for Event { incident, what, .. } in found.events.drain(..) {
            let open = self.open.entry(incident.id.clone()).or_insert_with(|| Past {
                place: incident.place.name().to_owned(),
                verdict: String::new(),
                words: String::new(),
                rule: String::new(),
                subject: String::new(),
                opened: incident.opened,
                closed: None,
                paged: None,
                pages: BTreeMap::new(),
            });
            open.verdict = incident.verdict.kind.word().to_owned();
            open.words.clone_from(&incident.verdict.words);
            match &what {
                What::Opened(symptom) | What::Joined(symptom) => {
                    for receiver in self.notify.get(&symptom.rule).into_iter().flatten() {
                        if open.paged.is_none() {
                            open.paged = Some(symptom.at);
                            (open.rule, open.subject) =
                                (symptom.rule.to_string(), symptom.subject.to_string());
                        }
                        if !open.pages.contains_key(receiver) {
                            open.pages.insert(receiver.clone(), 1);
                            if incident.verdict.kind.is_down() {
                                self.down.entry(incident.id.clone()).or_default().insert(receiver.clone());
                            }
                        }
                    }
                }
                What::Worse => {
                    let down = self.down.entry(incident.id.clone()).or_default();
                    for (receiver, pages) in &mut open.pages {
                        *pages += u64::from(down.insert(receiver.clone()));
                    }
                }
                What::Closed(ended) => {
                    open.closed = Some(ended.at);
                    self.down.remove(&incident.id);
                    self.past.extend(self.open.remove(&incident.id));
                }
                What::Left(_) | What::Refined => {}
            }
        }
    }
}

/// Lets each of these rules judge all that a source gives. `told` is called now and then with how many observations were
/// taken and how far the source is.
///
/// # Errors
/// The source cannot be read.
pub fn judge(
    source: &mut (dyn Source + Send),
    sets: impl IntoIterator<Item = Rules>,
    topology: &Topology,
    told: impl FnMut(u64, Option<f64>),
) -> Result<Vec<Judged>, SourceError> {
    let mut trials: Vec<Trial> = sets.into_iter().map(|rules| Trial::new(rules, topology)).collect();
    each_ahead(source, &mut trials, Trial::take, told)?;
    Ok(trials.into_iter().map(Trial::end).collect())
}

/// What one side comes to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Side {
    /// Pages in all: each receiver's `firing`, and one more where an incident got worse afterwards.
    pub pages: u64,
    /// Pages of each receiver.
    pub receivers: BTreeMap<Name, u64>,
    /// Incidents that paged somebody.
    pub incidents: u64,
    /// Those, by verdict.
    pub verdicts: BTreeMap<String, u64>,
    /// Incidents that paged nobody.
    pub unpaged: u64,
}

/// An incident that pages now and then, but at another time.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Shift {
    /// By the old rules.
    pub old: Past,
    /// By the new ones.
    pub new: Past,
    /// By how many seconds the new rules page later; negative where they page sooner.
    pub later_s: f64,
}

/// Old rules beside new ones.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Comparison {
    /// Observations judged.
    pub observations: u64,
    /// By the old rules.
    pub old: Side,
    /// By the new ones.
    pub new: Side,
    /// What paged then and would not now.
    pub lost: Vec<Past>,
    /// What pages now and did not then.
    pub gained: Vec<Past>,
    /// What pages sooner or later than it did, in the order in which it began.
    pub shifted: Vec<Shift>,
    /// How many incidents page as they did.
    pub same: u64,
}

/// Compares what two sets of rules made of the same history.
#[must_use]
pub fn compare(old: &Judged, new: &Judged) -> Comparison {
    let paging = |judged: &Judged| -> Vec<Past> {
        judged.incidents.iter().filter(|past| past.paged.is_some()).cloned().collect()
    };
    let (was, is) = (paging(old), paging(new));
    let mut comparison = Comparison {
        observations: new.counts.judged,
        old: side(old),
        new: side(new),
        gained: is.iter().filter(|of| first(of, &was).is_none()).cloned().collect(),
        ..Comparison::default()
    };
    for past in was {
        let Some(now) = first(&past, &is) else {
            comparison.lost.push(past);
            continue;
        };
        let (Some(then), Some(at)) = (past.paged, now.paged) else { continue };
        if then == at {
            comparison.same += 1;
        } else if first(now, std::slice::from_ref(&past)).is_some() {
            let later_s = at.millis_since(then) / 1e3;
            comparison.shifted.push(Shift { old: past, new: now.clone(), later_s });
        }
    }
    comparison
}

/// The first among others that is of the same trouble.
fn first<'a>(past: &Past, others: &'a [Past]) -> Option<&'a Past> {
    others.iter().find(|other| other.place == past.place && meet(span_of(past), span_of(other)))
}

/// From its beginning to its end.
pub(crate) fn span_of(past: &Past) -> (Timestamp, Timestamp) {
    (past.opened, past.closed.unwrap_or(Timestamp::MAX))
}

/// Whether two spans overlap, or nearly.
pub(crate) fn meet(one: (Timestamp, Timestamp), other: (Timestamp, Timestamp)) -> bool {
    one.0 <= other.1 + NEAR && other.0 <= one.1 + NEAR
}

fn side(judged: &Judged) -> Side {
    let mut side = Side::default();
    for past in &judged.incidents {
        if past.paged.is_none() {
            side.unpaged += 1;
            continue;
        }
        side.incidents += 1;
        *side.verdicts.entry(past.verdict.clone()).or_default() += 1;
        for (receiver, pages) in &past.pages {
            side.pages += pages;
            *side.receivers.entry(receiver.clone()).or_default() += pages;
        }
    }
    side
}

/// How many incidents are listed of a kind.
const LISTED: usize = 50;

impl fmt::Display for Comparison {
    /// For people: a table, then what differs.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<28} {:>7} {:>7}", "", "old", "new")?;
        let mut row = |name: &str, old: u64, new: u64| {
            let change = match new.cmp(&old) {
                std::cmp::Ordering::Less => format!("  -{}", old - new),
                std::cmp::Ordering::Equal => String::new(),
                std::cmp::Ordering::Greater => format!("  +{}", new - old),
            };
            writeln!(f, "{name:<28} {old:>7} {new:>7}{change}")
        };
        let each = |old: &BTreeMap<String, u64>, new: &BTreeMap<String, u64>| -> Vec<(String, u64, u64)> {
            let names: std::collections::BTreeSet<_> = old.keys().chain(new.keys()).collect();
            let of = |side: &BTreeMap<String, u64>, name: &String| side.get(name).copied().unwrap_or(0);
            names.into_iter().map(|name| (name.clone(), of(old, name), of(new, name))).collect()
        };
        let named =
            |side: &Side| side.receivers.iter().map(|(name, pages)| (name.to_string(), *pages)).collect();
        row("pages", self.old.pages, self.new.pages)?;
        for (name, old, new) in each(&named(&self.old), &named(&self.new)) {
            row(&format!("  to {name}"), old, new)?;
        }
        row("incidents that page", self.old.incidents, self.new.incidents)?;
        for (name, old, new) in each(&self.old.verdicts, &self.new.verdicts) {
            row(&format!("  {name}"), old, new)?;
        }
        row("incidents that page nobody", self.old.unpaged, self.new.unpaged)?;
        writeln!(f)?;
        for (word, list) in [("lost", &self.lost), ("gained", &self.gained)] {
            for past in list.iter().take(LISTED) {
                writeln!(f, "{word:<7} {past}")?;
            }
            more(f, word, list.len())?;
        }
        for Shift { old, new, later_s } in self.shifted.iter().take(LISTED) {
            let word = if *later_s < 0.0 { "sooner" } else { "later" };
            let by = if old.rule == new.rule { String::new() } else { format!(", by {}", new.rule) };
            writeln!(f, "{word:<7} {old}: {word} by {}{by}", span(later_s.abs()))?;
        }
        more(f, "sooner or later", self.shifted.len())?;
        writeln!(f, "{} as before", self.same)
    }
}

fn more(f: &mut fmt::Formatter<'_>, word: &str, count: usize) -> fmt::Result {
    match count.saturating_sub(LISTED) {
        0 => Ok(()),
        more => writeln!(f, "{more} more {word}"),
    }
}

impl fmt::Display for Past {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { place, verdict, rule, subject, opened, closed, .. } = self;
        let lasted =
            closed.map_or_else(|| "open at the end".to_owned(), |end| span(end.since(*opened).as_secs_f64()));
        write!(f, "{opened} {verdict} {place}, {lasted} ({rule} {subject})")
    }
}
