//! What `top` draws. Pure: what is known is an argument.

use super::{Newest, remember};
use crate::status::{State, Status};

/// How wide a row of round-trip times is.
const SPARK: usize = 24;
/// How many lines incidents take at most; the links matter too.
const INCIDENTS: usize = 6;

/// What text looks like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    /// As any.
    Plain,
    /// It is to be seen.
    Strong,
    /// It need not be.
    Faint,
    /// All is well.
    Good,
    /// It is down.
    Bad,
    /// It fires.
    Fires,
    /// Nothing is known.
    Unknown,
    /// Nothing comes.
    Silent,
}

/// A line, part by part, no wider than the screen.
pub(super) type Line = Vec<(Look, String)>;

/// What is shown, and from where on.
#[derive(Debug, Default)]
pub(super) struct Screen {
    status: Option<Status>,
    newest: Newest,
    first: usize,
    /// An explanation, which is shown instead, and from which of its lines on.
    why: Option<(Vec<String>, usize)>,
    /// Why it cannot be read how things are.
    pub(super) problem: Option<String>,
}

impl Screen {
    pub(super) fn take(&mut self, status: Status) {
        remember(&mut self.newest, self.status.as_ref(), &status);
        self.status = Some(status);
        self.problem = None;
    }

    /// What the first line of the list is about.
    pub(super) fn first_subject(&self) -> Option<String> {
        let (subject, ..) = lines(self.status.as_ref()?).nth(self.first)?;
        Some(subject.to_owned())
    }

    /// Shows this instead, until it goes back.
    pub(super) fn explain(&mut self, words: &str) {
        self.why = Some((words.lines().map(printable).collect(), 0));
    }

    pub(super) fn explains(&self) -> bool {
        self.why.is_some()
    }

    pub(super) fn back(&mut self) {
        self.why = None;
    }

    pub(super) fn scroll(&mut self, by: isize) {
        if let Some((lines, first)) = &mut self.why {
            *first = first.saturating_add_signed(by).min(lines.len().saturating_sub(1));
            return;
        }
        let last = self.status.as_ref().map_or(0, |status| lines(status).count().saturating_sub(1));
        self.first = self.first.saturating_add_signed(by).min(last);
    }
}

/// A line of the list: name, state, what was measured, and whose round-trip times follow.
type Row<'a> = (&'a str, State, String, Option<&'a str>);

/// The links by trouble, each with its probes and VPN connections.
fn lines(status: &Status) -> impl Iterator<Item = Row<'_>> {
    let worst = |link: &crate::status::LinkStatus| {
        let probes = link.probes.iter().map(|of| of.state);
        probes.chain(link.vpns.iter().map(|of| of.state)).map(rank).min().unwrap_or(0)
    };
    let mut links: Vec<_> = status.links.iter().collect();
    links.sort_by_key(|link| worst(link));
    links.into_iter().flat_map(|link| {
        let probes = link.probes.iter().map(|probe| {
            let measured = match (probe.rtt_ms, probe.lost) {
                (Some(rtt_ms), _) => format!("{rtt_ms:.2} ms"),
                (None, Some(lost)) => lost.to_owned(),
                (None, None) => String::new(),
            };
            (probe.subject.as_str(), probe.state, measured, Some(probe.subject.as_str()))
        });
        let vpns = link.vpns.iter().map(|vpn| {
            let tunnels = vpn.up.map_or("not polled".to_owned(), |up| format!("{up}/{} up", vpn.expected));
            (vpn.subject.as_str(), vpn.state, tunnels, None)
        });
        probes.chain(vpns).collect::<Vec<_>>()
    })
}

const fn rank(state: State) -> u8 {
    match state {
        State::Down => 0,
        State::Silent => 1,
        State::Unknown => 2,
        State::Up => 3,
    }
}

/// A state's word and look; told by the word and its sign, too, for who sees no colours.
const fn look(state: State) -> (&'static str, Look) {
    match state {
        State::Up => ("✓ up", Look::Good),
        State::Down => ("✕ DOWN", Look::Bad),
        State::Unknown => ("? unknown", Look::Unknown),
        State::Silent => ("… silent", Look::Silent),
    }
}

/// Round-trip times as bars from the least to the largest of them; a loss is a cross.
fn spark(values: &[Option<f64>], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    let shown = values.get(values.len().saturating_sub(width)..).unwrap_or_default();
    let replies = || shown.iter().flatten().copied();
    let (low, high) = (replies().fold(f64::MAX, f64::min), replies().fold(0.0, f64::max));
    // What differs by less than a tenth is flat.
    let span = (high - low).max(high * 0.1).max(1e-9);
    let bar = |value: &Option<f64>| match value {
        None => '✕',
        Some(value) => BARS.get((((value - low) / span) * 7.0).round() as usize).copied().unwrap_or('█'),
    };
    shown.iter().map(bar).collect()
}

/// Control characters would draw over what is around them.
fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { '?' } else { c }).collect()
}

impl Screen {
    /// Draws it all on so many columns and lines.
    pub(super) fn draw(&self, width: usize, height: usize) -> Vec<Line> {
        let Some(status) = &self.status else {
            let words = self.problem.as_deref().unwrap_or("reading the journals");
            return vec![cut(vec![(Look::Plain, printable(words))], width)];
        };
        if let Some((words, first)) = &self.why {
            let lines = words.iter().skip(*first).flat_map(|line| wrapped(line, width));
            let mut drawn: Vec<Line> = lines.take(height.saturating_sub(1)).collect();
            drawn.resize_with(height.saturating_sub(1), Vec::new);
            drawn.push(vec![(Look::Faint, "q back  ↑↓ scroll".to_owned())]);
            return drawn.into_iter().map(|line| cut(line, width)).collect();
        }
        let mut drawn = vec![head(status)];
        drawn.extend(incidents(status));
        let room = height.saturating_sub(drawn.len() + 1);
        let shown = lines(status).skip(self.first).take(room);
        drawn.extend(shown.map(|row| self.row(&row, width)));
        drawn.resize_with(height.saturating_sub(1), Vec::new);
        let keys =
            self.problem.as_deref().map_or("q quit  ↑↓ scroll  e explain the first".to_owned(), printable);
        drawn.push(vec![(Look::Faint, keys)]);
        drawn.into_iter().map(|line| cut(line, width)).collect()
    }

    fn row(&self, (subject, state, measured, of): &Row<'_>, width: usize) -> Line {
        // Name, state, measured, bars; the name takes what is left.
        let name = width.saturating_sub(10 + 12 + SPARK + 3).max(12);
        let (word, look) = look(*state);
        let bars = of.and_then(|of| self.newest.get(of)).map(|values| spark(values, SPARK));
        vec![
            (Look::Plain, format!("{:<name$} ", shortened(&printable(subject), name))),
            (look, format!("{word:<10}")),
            (Look::Plain, format!(" {measured:>11} {}", bars.unwrap_or_default())),
        ]
    }
}

fn head(status: &Status) -> Line {
    let count = |state| lines(status).filter(|(_, of, ..)| *of == state).count();
    let time = status.at.to_string();
    let words = format!(
        "Crosswatch  {} UTC  {} up, {} down, {} silent, {} unknown",
        time.get(11..19).unwrap_or_default(),
        count(State::Up),
        count(State::Down),
        count(State::Silent),
        count(State::Unknown)
    );
    vec![(Look::Strong, words)]
}

fn incidents(status: &Status) -> Vec<Line> {
    let plain = |words: &str| vec![vec![(Look::Plain, words.to_owned())]];
    let Some(incidents) = &status.incidents else {
        return plain("no alerter has run here: nothing is judged");
    };
    if incidents.is_empty() {
        return plain("no open incidents");
    }
    let mut lines: Vec<Line> = incidents
        .iter()
        .map(|of| {
            vec![
                (Look::Fires, printable(&format!("{} {}", of.verdict, of.place))),
                (Look::Plain, printable(&format!(" {}", of.summary))),
            ]
        })
        .collect();
    if lines.len() > INCIDENTS {
        let left = lines.len() - (INCIDENTS - 1);
        lines.truncate(INCIDENTS - 1);
        lines.push(vec![(Look::Plain, format!("and {left} more incidents"))]);
    }
    lines
}

/// A line of an explanation over several of the screen, at its words; what goes on is set in as far as it begins, and more.
fn wrapped(line: &str, width: usize) -> Vec<Line> {
    let indent = line.chars().take_while(|c| *c == ' ').count();
    let more = (indent + 2).min(width / 2);
    let mut lines = vec![" ".repeat(indent)];
    let mut empty = true;
    for word in line.split_whitespace() {
        let (count, now) = (word.chars().count(), lines.last().map_or(0, |line| line.chars().count()));
        if !empty && now + 1 + count > width {
            lines.push(" ".repeat(more));
            empty = true;
        }
        if let Some(line) = lines.last_mut() {
            if !empty {
                line.push(' ');
            }
            line.push_str(word);
        }
        empty = false;
    }
    lines.into_iter().map(|text| vec![(Look::Plain, text)]).collect()
}

/// A line without what is beyond the screen's edge.
fn cut(line: Line, width: usize) -> Line {
    let mut left = width;
    line.into_iter()
        .map(|(look, text)| {
            let text: String = text.chars().take(left).collect();
            left -= text.chars().count();
            (look, text)
        })
        .filter(|(_, text)| !text.is_empty())
        .collect()
}

/// The end of a name tells more than its beginning.
fn shortened(text: &str, width: usize) -> String {
    let count = text.chars().count();
    if count <= width {
        return text.to_owned();
    }
    std::iter::once('…').chain(text.chars().skip(count - width + 1)).collect()
}

#[cfg(test)]
mod tests {
    use crosswatch_alerter::story::Incident;
    use crosswatch_shared::time::Timestamp;

    use super::*;
    use crate::status::{LinkStatus, ProbeStatus};

    fn probe(subject: &str, state: State, at: i64, rtt_ms: Option<f64>) -> ProbeStatus {
        ProbeStatus {
            subject: subject.to_owned(),
            state,
            since: None,
            since_or_longer: false,
            last_at: Some(Timestamp::from_secs(at)),
            rtt_ms,
            baseline: None,
            lost: rtt_ms.is_none().then_some("timeout"),
            evidence: None,
            firing: Vec::new(),
        }
    }

    fn status(at: i64, down: bool) -> Status {
        let link = |name: &str, probes| LinkStatus {
            link: name.into(),
            between: Vec::new(),
            probes,
            vpns: Vec::new(),
        };
        let (state, rtt) = if down { (State::Down, None) } else { (State::Up, Some(80.0)) };
        let incident = Incident {
            id: "1".to_owned(),
            place: "use1-euw1".to_owned(),
            link: "use1-euw1".to_owned(),
            verdict: "black-hole".to_owned(),
            summary: "2 of 2 tunnels up,\u{1b}[2J 1 of 1 probes lost".to_owned(),
            opened_at: Timestamp::from_secs(at),
            resolved_at: None,
            resolved_reason: None,
            symptoms: Vec::new(),
            muted: None,
        };
        Status {
            at: Timestamp::from_secs(at),
            sites: Vec::new(),
            links: vec![
                link("loopback", vec![probe("loopback/here/icmp:127.0.0.1", State::Up, at, Some(0.04))]),
                link("use1-euw1", vec![probe("use1-euw1/us-east-1/icmp:10.1.0.10", state, at, rtt)]),
            ],
            incidents: Some(if down { vec![incident] } else { Vec::new() }),
            owed: Vec::new(),
            silences: Vec::new(),
            silenced: Vec::new(),
        }
    }

    fn drawn(screen: &Screen) -> Vec<String> {
        let text = |line: Line| line.into_iter().map(|(_, text)| text).collect::<String>();
        let lines: Vec<String> = screen.draw(80, 24).into_iter().map(text).collect();
        assert!(lines.iter().all(|line| line.chars().count() <= 80), "{lines:?}");
        lines.into_iter().map(|line| line.trim_end().to_owned()).collect()
    }

    #[test]
    fn on_80_by_24_what_is_down_comes_first_with_its_losses() {
        let mut screen = Screen::default();
        for (at, down) in [(1, false), (2, false), (2, false), (3, true), (4, true)] {
            screen.take(status(at, down));
        }
        let lines = drawn(&screen);
        assert_eq!(lines[0], "Crosswatch  00:00:04 UTC  1 up, 1 down, 0 silent, 0 unknown");
        assert_eq!(lines[1], "black-hole use1-euw1 2 of 2 tunnels up,?[2J 1 of 1 probes lost");
        assert_eq!(lines[2], "…-euw1/us-east-1/icmp:10.1.0.10 ✕ DOWN         timeout ▁▁✕✕");
        assert_eq!(lines[3], "loopback/here/icmp:127.0.0.1    ✓ up           0.04 ms ▁▁▁▁");
        assert_eq!(lines[23], "q quit  ↑↓ scroll  e explain the first");
    }

    #[test]
    fn scrolling_ends_at_the_last_line_and_begins_at_the_first() {
        let mut screen = Screen::default();
        screen.scroll(5);
        screen.take(status(1, false));
        screen.scroll(5);
        assert_eq!(screen.first, 1);
        assert!(drawn(&screen)[2].starts_with("…"), "{:?}", drawn(&screen));
        screen.scroll(isize::MIN);
        assert_eq!(screen.first, 0);
    }

    #[test]
    fn an_explanation_takes_the_screen_and_gives_it_back() {
        let mut screen = Screen::default();
        screen.take(status(1, true));
        assert_eq!(screen.first_subject().as_deref(), Some("use1-euw1/us-east-1/icmp:10.1.0.10"));
        screen.explain(&format!("first\n    {}\u{1b}[2J", "many words ".repeat(10)));
        let lines = drawn(&screen);
        assert_eq!(lines[0], "first");
        assert!(lines[1].starts_with("    many") && lines[2].starts_with("      "), "{lines:?}");
        assert!(lines[2].ends_with("?[2J") && lines[3].is_empty(), "{lines:?}");
        assert_eq!(lines[23], "q back  ↑↓ scroll");
        screen.scroll(1);
        assert!(drawn(&screen)[0].starts_with("    many"));
        screen.back();
        assert!(drawn(&screen)[0].starts_with("Crosswatch"));
    }

    #[test]
    fn times_that_are_alike_are_flat_and_others_are_not() {
        assert_eq!(spark(&[Some(80.0), Some(80.1), None, Some(80.0)], 10), "▁▁✕▁");
        assert_eq!(spark(&[Some(10.0), Some(20.0), Some(40.0)], 2), "▁█");
        assert_eq!(spark(&[], 10), "");
    }
}
