//! Series: what was seen of a subject, interval after interval, in a short notation.
//!
//! Words stand for one interval each, or for N with `xN` after them. The last word goes on until the case ends.

use std::time::Duration;

use crosswatch_shared::config::values::{nearest, short};
use crosswatch_shared::observation::{Body, Lost, Outcome, Tunnel};

use crate::subject::{Seen, Subject};

/// The longest that a case may last: each second of it is played.
pub(crate) const LONGEST: Duration = Duration::from_hours(24 * 7);

/// How often one word may stand.
const MOST: u32 = 1_000_000;

/// What was seen of a subject.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Series {
    /// As it is written.
    pub(crate) name: String,
    pub(crate) of: Seen,
    runs: Vec<Run>,
}

/// A word, and how often it stands.
#[derive(Clone, Debug, PartialEq)]
struct Run {
    word: Word,
    count: u32,
}

/// What is seen in one interval.
#[derive(Clone, Debug, PartialEq)]
enum Word {
    /// Nothing.
    Nothing,
    /// A reply after so many milliseconds, each by `step` more than the one before.
    Reply {
        first: f64,
        step: f64,
    },
    Lost(Lost),
    /// How many tunnels are up.
    Up(u32),
    Round {
        error: Option<String>,
        took_ms: f64,
    },
    Collector(Collector),
}

/// What a site's collector does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Collector {
    /// It sees and sends.
    Alive,
    /// It does neither; once it is alive again that is a new life.
    Dead,
    /// It sees and keeps, and sends all of it once it can again.
    Cut,
}

const COLLECTOR: [(&str, Collector); 3] =
    [("alive", Collector::Alive), ("dead", Collector::Dead), ("cut", Collector::Cut)];

impl Series {
    /// Reads the notation. Otherwise a sentence that says what to write instead.
    pub(crate) fn parse(name: &str, of: Seen, text: &str) -> Result<Self, String> {
        let mut runs: Vec<Run> = Vec::new();
        // Whether the word before may still be told how often it stands.
        let mut open = false;
        for token in text.split_whitespace() {
            let (word, times) = counted(token);
            let count = times.map(|times| count(token, times)).transpose()?;
            if word.is_empty() {
                match (open, runs.last_mut(), count) {
                    (true, Some(last), Some(count)) => last.count = count,
                    _ => {
                        return Err(format!(
                            "'{token}' follows no word that it could repeat; write 80 x3 or 80x3"
                        ));
                    }
                }
                open = false;
                continue;
            }
            runs.push(Run { word: Word::parse(word, &of.subject)?, count: count.unwrap_or(1) });
            open = count.is_none();
        }
        if runs.is_empty() {
            return Err(format!("a series holds a word at least, such as \"{}\"", example(&of.subject)));
        }
        for Run { word, count } in &runs {
            if let Word::Reply { first, step } = word
                && first + step * f64::from(count - 1) < 0.0
            {
                return Err(format!(
                    "from {first} in {count} steps of {step} a reply would come before its probe"
                ));
            }
        }
        let series = Self { name: name.to_owned(), of, runs };
        match series.length() {
            Some(length) if length <= LONGEST => Ok(series),
            _ => Err("the series lasts longer than 7d, which is the most that is played".to_owned()),
        }
    }

    /// How long it lasts, its last word told once as often as it stands; `None` when that cannot be counted.
    pub(crate) fn length(&self) -> Option<Duration> {
        self.runs
            .iter()
            .try_fold(0_u32, |sum, run| sum.checked_add(run.count))
            .and_then(|count| self.of.every.checked_mul(count))
    }

    /// What was seen in the interval of this number, from 0; `None` for nothing.
    pub(crate) fn body(&self, interval: u64) -> Option<Body> {
        let (word, step) = self.word(interval)?;
        Some(match (&self.of.subject, word) {
            (Subject::Probe { link, probe }, Word::Reply { first, step: by }) => Body::Probe {
                link: link.clone(),
                probe: probe.clone(),
                outcome: Outcome::Reply { rtt_ms: first + by * f64::from(step) },
                detail: None,
            },
            (Subject::Probe { link, probe }, Word::Lost(lost)) => Body::Probe {
                link: link.clone(),
                probe: probe.clone(),
                outcome: Outcome::Lost(*lost),
                detail: None,
            },
            (Subject::Vpn { link, vpn }, Word::Up(up)) => {
                let count = self.most_up().max(2);
                Body::Tunnels {
                    link: link.clone(),
                    vpn: vpn.clone(),
                    tunnels: (0..count).map(|place| tunnel(place, place < *up)).collect(),
                }
            }
            (Subject::Source { source }, Word::Round { error, took_ms }) => Body::Collection {
                source: source.clone(),
                ok: error.is_none(),
                error: error.clone(),
                took_ms: *took_ms,
            },
            _ => return None,
        })
    }

    /// What the collector does in that second; of a series of another kind it is alive.
    pub(crate) fn collector(&self, second: u64) -> Collector {
        match self.word(second) {
            Some((Word::Collector(collector), _)) => *collector,
            _ => Collector::Alive,
        }
    }

    /// The word of an interval, and its place among the repetitions.
    fn word(&self, mut interval: u64) -> Option<(&Word, u32)> {
        for run in &self.runs {
            match interval.checked_sub(u64::from(run.count)) {
                Some(rest) => interval = rest,
                None => return Some((&run.word, u32::try_from(interval).ok()?)),
            }
        }
        // A ramp goes on where it came to.
        self.runs.last().map(|run| (&run.word, run.count - 1))
    }

    fn most_up(&self) -> u32 {
        let up = self.runs.iter().filter_map(|run| match run.word {
            Word::Up(up) => Some(up),
            _ => None,
        });
        up.max().unwrap_or(0)
    }
}

impl Word {
    fn parse(text: &str, of: &Subject) -> Result<Self, String> {
        let word = match of {
            _ if text == "_" => Some(Self::Nothing),
            Subject::Probe { .. } => probe(text),
            Subject::Vpn { .. } => text.parse().ok().filter(|up| *up <= 16).map(Self::Up),
            Subject::Source { .. } => round(text),
            Subject::Collector => {
                COLLECTOR.iter().find(|(word, _)| *word == text).map(|(_, what)| Self::Collector(*what))
            }
        };
        word.ok_or_else(|| refuse(text, of))
    }
}

fn refuse(text: &str, of: &Subject) -> String {
    let losses = || Lost::ALL.map(|lost| format!("lost:{}", lost.word())).join(", ");
    let (what, known) = match of {
        Subject::Probe { .. } => (
            "an outcome of a probe",
            format!("a reply's milliseconds (81.7, or 80+1.5x10, growing), lost, {}", losses()),
        ),
        Subject::Vpn { .. } => ("a count of tunnels up", "0, 1, 2 and so on, up to 16".to_owned()),
        Subject::Source { .. } => {
            ("a round of collecting", "ok, ok:MILLISECONDS, failed, failed:ERROR".to_owned())
        }
        Subject::Collector => {
            let near = nearest(text, COLLECTOR.map(|(word, _)| word));
            let near = near.map(|near| format!("; did you mean '{near}'?")).unwrap_or_default();
            return format!(
                "'{}' is nothing that a collector does{near} known: alive, dead, cut",
                short(text)
            );
        }
    };
    format!("'{}' is not {what}; write {known}, or _ for nothing", short(text))
}

fn example(of: &Subject) -> &'static str {
    match of {
        Subject::Probe { .. } => "80x10 lost:timeout x3",
        Subject::Vpn { .. } => "2x5 1",
        Subject::Source { .. } => "ok x5 failed",
        Subject::Collector => "alive x10 dead",
    }
}

/// The word, and what stands behind an `x` that digits alone follow.
fn counted(token: &str) -> (&str, Option<&str>) {
    match token.rsplit_once('x') {
        Some((word, times)) if !times.is_empty() && times.bytes().all(|byte| byte.is_ascii_digit()) => {
            (word, Some(times))
        }
        _ => (token, None),
    }
}

fn count(token: &str, times: &str) -> Result<u32, String> {
    match times.parse() {
        Ok(count @ 1..=MOST) => Ok(count),
        _ => Err(format!("'{}': a word may stand from 1 to {MOST} times", short(token))),
    }
}

fn probe(text: &str) -> Option<Word> {
    if let Some(lost) = text.strip_prefix("lost") {
        let lost = if lost.is_empty() { Lost::Timeout.word() } else { lost.strip_prefix(':')? };
        return Lost::ALL.into_iter().find(|known| known.word() == lost).map(Word::Lost);
    }
    // A sign that is not the first character begins the step.
    let sign = text.char_indices().skip(1).find(|(_, c)| ['+', '-'].contains(c));
    let (first, step) = sign.map_or((text, "0"), |(at, _)| text.split_at(at));
    let (first, step) = (number(first)?, number(step.strip_prefix('+').unwrap_or(step))?);
    (first >= 0.0).then_some(Word::Reply { first, step })
}

fn round(text: &str) -> Option<Word> {
    let (word, rest) = text.split_once(':').unwrap_or((text, ""));
    match (word, rest) {
        ("ok", "") => Some(Word::Round { error: None, took_ms: 100.0 }),
        ("ok", took) => {
            let took_ms = number(took).filter(|took| *took >= 0.0)?;
            Some(Word::Round { error: None, took_ms })
        }
        ("failed", "") => Some(Word::Round { error: Some("Failed".to_owned()), took_ms: 100.0 }),
        ("failed", error) => Some(Word::Round { error: Some(error.to_owned()), took_ms: 100.0 }),
        _ => None,
    }
}

/// Digits with a sign and a fraction, no more: `inf` and `1e9` are rather mistakes.
fn number(text: &str) -> Option<f64> {
    let plain = text.bytes().all(|byte| byte.is_ascii_digit() || b".-".contains(&byte));
    text.parse().ok().filter(|number: &f64| plain && number.is_finite())
}

fn tunnel(place: u32, up: bool) -> Tunnel {
    Tunnel {
        // From a network for documentation (RFC 5737).
        outside_ip: format!("192.0.2.{}", place + 1),
        up,
        accepted_routes: u32::from(up),
        since: None,
        message: String::new(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(subject: Subject) -> Seen {
        Seen { site: "a".into(), subject, every: Duration::from_secs(1) }
    }

    fn probe() -> Seen {
        of(Subject::Probe { link: "l".into(), probe: "p".into() })
    }

    fn vpn() -> Seen {
        of(Subject::Vpn { link: "l".into(), vpn: "v".into() })
    }

    fn source() -> Seen {
        of(Subject::Source { source: "icmp".into() })
    }

    /// What each interval shows, two more than the series is long.
    fn told(of: Seen, text: &str) -> String {
        let series = Series::parse("s", of, text).unwrap();
        let length = series.length().unwrap().as_secs();
        let told = (0..length + 2).map(|interval| match series.body(interval) {
            None => "_".to_owned(),
            Some(Body::Probe { outcome: Outcome::Reply { rtt_ms }, .. }) => rtt_ms.to_string(),
            Some(Body::Probe { outcome: Outcome::Lost(lost), .. }) => lost.word().to_owned(),
            Some(Body::Tunnels { tunnels, .. }) => {
                format!("{}/{}", tunnels.iter().filter(|tunnel| tunnel.up).count(), tunnels.len())
            }
            Some(Body::Collection { error, took_ms, .. }) => {
                format!("{}:{took_ms}", error.unwrap_or_else(|| "ok".to_owned()))
            }
            Some(Body::Evidence { .. } | Body::Drill { .. }) => unreachable!(),
        });
        told.collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn each_word_stands_for_an_interval_or_for_as_many_as_it_says_and_the_last_goes_on() {
        assert_eq!(told(probe(), "81.7x2 lost:timeout x3 80"), "81.7 81.7 timeout timeout timeout 80 80 80");
        assert_eq!(told(probe(), "lost lost:unreachablex2\n_x2"), "timeout unreachable unreachable _ _ _ _");
        assert_eq!(
            told(probe(), "lost:local lost:refused lost:too-big"),
            "local refused too-big too-big too-big"
        );
        assert_eq!(told(probe(), "80+1.5x3 10-5 x3 0"), "80 81.5 83 10 5 0 0 0 0");
        assert_eq!(told(probe(), "1+1x3"), "1 2 3 3 3", "a ramp ends with its series");
        assert_eq!(told(vpn(), "2x2 1 0"), "2/2 2/2 1/2 0/2 0/2 0/2");
        assert_eq!(told(vpn(), "1 4"), "1/4 4/4 4/4 4/4");
        assert_eq!(
            told(source(), "ok ok:12.5 failed failed:RequestLimitExceeded _"),
            "ok:100 ok:12.5 Failed:100 RequestLimitExceeded:100 _ _ _"
        );
    }

    #[test]
    fn what_is_no_series_says_what_to_write() {
        let cases = [
            (probe(), "", "a series holds a word at least, such as \"80x10 lost:timeout x3\""),
            (probe(), "x3", "'x3' follows no word that it could repeat; write 80 x3 or 80x3"),
            (probe(), "80x3 x3", "'x3' follows no word"),
            (probe(), "80 x3 x3", "'x3' follows no word"),
            (probe(), "80x0", "'80x0': a word may stand from 1 to 1000000 times"),
            (probe(), "80x99999999999", "a word may stand from 1 to 1000000 times"),
            (probe(), "80x1000000", "the series lasts longer than 7d"),
            (probe(), "10-5x4", "from 10 in 4 steps of -5 a reply would come before its probe"),
            (
                probe(),
                "lost:never",
                "'lost:never' is not an outcome of a probe; write a reply's milliseconds",
            ),
            (probe(), "inf", "'inf' is not an outcome"),
            (probe(), "1e3", "'1e3' is not an outcome"),
            (probe(), "-1", "'-1' is not an outcome"),
            (
                vpn(),
                "up",
                "'up' is not a count of tunnels up; write 0, 1, 2 and so on, up to 16, or _ for nothing",
            ),
            (vpn(), "17", "'17' is not a count of tunnels up"),
            (
                source(),
                "okay",
                "'okay' is not a round of collecting; write ok, ok:MILLISECONDS, failed, failed:ERROR",
            ),
            (of(Subject::Collector), "aliv", "did you mean 'alive'? known: alive, dead, cut"),
        ];
        for (of, text, wanted) in cases {
            let error = Series::parse("s", of, text).unwrap_err();
            assert!(error.contains(wanted), "{text}: {error}");
        }
    }
}
