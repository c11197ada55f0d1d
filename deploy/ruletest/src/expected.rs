//! What a case expects: transitions and notifications, each as far as it is written.

use std::time::Duration;

use crosswatch_alerter::config::{Config, RESERVED};
use crosswatch_judge::State;
use crosswatch_shared::config::document::{Table, Value};
use crosswatch_shared::config::values::{self, short};
use crosswatch_shared::observation::Name;

/// An expected transition.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Verdict {
    /// From the case's start.
    pub(crate) at: Duration,
    pub(crate) state: State,
    pub(crate) rule: Name,
    pub(crate) subject: Name,
    /// Compared if it is there; so are the others that may be absent.
    pub(crate) value: Option<f64>,
    pub(crate) reason: Option<String>,
}

/// An expected notification.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Notification {
    /// From the case's start.
    pub(crate) at: Duration,
    /// The receiver.
    pub(crate) to: Name,
    pub(crate) state: State,
    pub(crate) rule: Name,
    pub(crate) subject: Name,
    pub(crate) text: Option<String>,
}

/// What expectations may name.
pub(crate) struct Known<'a> {
    pub(crate) config: &'a Config,
    /// Subjects of the case's series, sites, links and receivers, and the alerter itself.
    pub(crate) subjects: Vec<String>,
    /// How long the case lasts; `None` when that is not known, since something in it is wrong.
    pub(crate) lasts: Option<Duration>,
}

const STATES: [(&str, State); 4] = [
    ("firing", State::Firing),
    ("resolved", State::Resolved),
    ("unknown", State::Unknown),
    ("ok", State::Ok),
];

impl Known<'_> {
    /// Takes the expected transitions, in the order of their times.
    pub(crate) fn transitions(&self, value: &Value<'_>) -> Option<Vec<Verdict>> {
        let mut last = Duration::ZERO;
        value.each("[{ at = \"+3s\", state = \"firing\", rule = \"…\", subject = \"…\" }]", |value| {
            let mut table = value.table("a transition")?;
            let at = table.need("at", "\"+3s\"", |value| self.at(value, &mut last, true));
            let state = table.need("state", "\"firing\"", |value| value.word(&STATES));
            let rule = table.need("rule", "\"ping-failed\"", |value| self.rule(value));
            let subject = table.need("subject", "\"LINK/SITE/PROBE\"", |value| self.subject(value));
            let number = table.maybe("value", Value::number);
            let reason = table.maybe("reason", |value| value.text().map(str::to_owned));
            table.finish();
            Some(Verdict {
                at: at?,
                state: state?,
                rule: rule?,
                subject: subject?,
                value: number?,
                reason: reason?,
            })
        })
    }

    /// Takes the expected notifications, in the order of their times.
    pub(crate) fn notifications(&self, value: &Value<'_>) -> Option<Vec<Notification>> {
        let mut last = Duration::ZERO;
        let example =
            "[{ at = \"+3s\", to = \"oncall\", state = \"firing\", rule = \"…\", subject = \"…\" }]";
        value.each(example, |value| {
            let mut table = value.table("a notification")?;
            // A digest may come long after the case has ended.
            let at = table.need("at", "\"+3s\"", |value| self.at(value, &mut last, false));
            let to = table.need("to", "\"oncall\"", |value| self.receiver(value));
            let state = table.need("state", "\"firing\"", |value| value.word(&STATES[..2]));
            let rule = table.need("rule", "\"ping-failed\"", |value| self.rule(value));
            let subject = table.need("subject", "\"LINK/SITE/PROBE\"", |value| self.subject(value));
            let text = table.maybe("text", |value| value.text().map(str::to_owned));
            table.finish();
            Some(Notification {
                at: at?,
                to: to?,
                state: state?,
                rule: rule?,
                subject: subject?,
                text: text?,
            })
        })
    }

    /// Takes the names of the rules that are compared.
    pub(crate) fn rules(&self, value: &Value<'_>) -> Option<Vec<Name>> {
        let rules = value.each("[\"ping-failed\"]", |value| self.rule(value))?;
        if rules.is_empty() {
            return value.wrong(
                "'rules' names none; write a rule, such as [\"ping-failed\"], or leave it out for all",
            );
        }
        Some(rules)
    }

    fn at(&self, value: &Value<'_>, last: &mut Duration, within: bool) -> Option<Duration> {
        let at = value.parsed("+3s", offset)?;
        if at < *last {
            return value.wrong(format!(
                "+{} comes before the one above, at +{}; write them in the order of their times",
                seconds(at),
                seconds(*last)
            ));
        }
        *last = at;
        match self.lasts {
            Some(lasts) if within && at > lasts => value.wrong(format!(
                "+{} is after the case's end at +{}; make a series longer, or write lasts = \"{}\"",
                seconds(at),
                seconds(lasts),
                seconds(at)
            )),
            _ => Some(at),
        }
    }

    fn rule(&self, value: &Value<'_>) -> Option<Name> {
        let text = value.text()?;
        let of_config = self.config.rules.iter().map(|of| &*of.rule.name);
        let known: Vec<&str> = of_config.chain(RESERVED).collect();
        if known.contains(&text) {
            return Some(text.into());
        }
        let way_out = format!("the config has {}", known.join(", "));
        value.place().dangling("rule", text, known.iter().copied(), &way_out)
    }

    fn subject(&self, value: &Value<'_>) -> Option<Name> {
        let text = value.text()?;
        if self.subjects.iter().any(|known| known == text) {
            return Some(text.into());
        }
        let known = self.subjects.iter().map(String::as_str);
        value.place().dangling("such subject in this case:", text, known, "write a series for it")
    }

    fn receiver(&self, value: &Value<'_>) -> Option<Name> {
        let text = value.text()?;
        let known: Vec<&str> = self.config.receivers.iter().map(|of| &*of.name).collect();
        if known.contains(&text) {
            return Some(text.into());
        }
        let way_out = match known.as_slice() {
            [] => "the config has none".to_owned(),
            known => format!("the config has {}", known.join(", ")),
        };
        value.place().dangling("receiver", text, known.iter().copied(), &way_out)
    }
}

/// Reads `+62s`.
fn offset(text: &str) -> Result<Duration, String> {
    let Some(rest) = text.strip_prefix('+') else {
        return Err(format!(
            "'{}' is not a time from the case's start; write one such as \"+62s\"",
            short(text)
        ));
    };
    match rest {
        "0s" | "0ms" => Ok(Duration::ZERO),
        rest => values::duration(rest),
    }
}

/// Writes a duration as it is compared most easily: in seconds, or in milliseconds where it is not of whole ones.
pub(crate) fn seconds(duration: Duration) -> String {
    match duration.subsec_micros() {
        0 => format!("{}s", duration.as_secs()),
        micros if micros % 1_000 == 0 => format!("{}ms", duration.as_millis()),
        _ => format!("{}us", duration.as_micros()),
    }
}

/// Refuses a case that says nothing of what is to come.
pub(crate) fn needs_something(table: &Table<'_>) -> Option<()> {
    if table.has("transitions") || table.has("notifications") {
        return Some(());
    }
    table.place().missing(
        "the case expects nothing; add transitions = [] or notifications = [], with what is to come, or none",
    )
}
