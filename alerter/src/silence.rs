//! Silence: sites from which nothing comes any more. Pure; the loop says when it read what.
//!
//! A site is quiet while no batch comes from it. (Its event time alone would not do: it stands still for as long as a
//! probe with a long timeout is waited for, while the batches go on.) Quiet time counts only while the alerter itself reads its
//! queue to the end in a steady rhythm: neither a backlog nor a suspended or stalled alerter accuses anybody. After
//! [`SILENT`] routine holds of it a site is silent; one more hold shows whether all are, and then it is told: one
//! site as `site-silent`, all of them at once as one `alerter-blind`, since then the alerter's own sight is in doubt. When the
//! first of them is heard again, the others have as long anew.

use std::time::{Duration, Instant};

use crosswatch_judge::{State, Transition};
use crosswatch_shared::observation::Name;
use crosswatch_shared::time::Timestamp;

/// The built-in rule for one silent site; its subject is the site.
pub(crate) const SITE_SILENT: &str = "site-silent";

/// The built-in rule for all sites silent at once; its subject is [`ALERTER`].
pub(crate) const ALERTER_BLIND: &str = "alerter-blind";

/// The subject of [`ALERTER_BLIND`].
pub(crate) const ALERTER: &str = "alerter";

/// After how many routine holds a quiet site is silent.
pub(crate) const SILENT: u32 = 3;

/// Who is quiet, and who of them was told of.
#[derive(Debug)]
pub(crate) struct Silence {
    hold: Duration,
    sites: Vec<Site>,
    blind: bool,
    /// That was so at the start already, and nobody knows here since when.
    blind_before: bool,
    /// When the queue was last read to its end; `None` when the last read was not.
    drained: Option<Instant>,
}

#[derive(Debug)]
struct Site {
    name: Name,
    event_time: Option<Timestamp>,
    quiet: Duration,
    /// How long it may send nothing as a matter of routine.
    hold: Duration,
    /// How long it may be quiet before it is told of.
    patience: Duration,
    /// Whether its `site-silent` is open.
    told: bool,
    /// It was open at the start already, so that `quiet` is not all of it.
    told_before: bool,
    /// Whether a batch has come from it since the alerter's start.
    heard: bool,
}

impl Silence {
    /// All sites with their event time where known; a site never heard of counts from now. `hold` is how long a
    /// collector may keep routine back.
    #[must_use]
    pub(crate) fn new(hold: Duration, sites: impl IntoIterator<Item = (Name, Option<Timestamp>)>) -> Self {
        let sites = sites
            .into_iter()
            .map(|(name, event_time)| Site {
                name,
                event_time,
                quiet: Duration::ZERO,
                hold,
                patience: hold * (SILENT + 1),
                told: false,
                told_before: false,
                heard: false,
            })
            .collect();
        Self { hold, sites, blind: false, blind_before: false, drained: None }
    }

    /// A site sends more seldom than others: so often, as a matter of routine.
    pub(crate) fn is_slow(&mut self, name: &str, hold: Duration) {
        if let Some(site) = self.sites.iter_mut().find(|site| &*site.name == name) {
            site.hold = site.hold.max(hold);
            site.patience = site.hold * (SILENT + 1);
        }
    }

    /// Takes note of an incident of one of the built-in rules that is open already.
    pub(crate) fn is_open(&mut self, rule: &str, subject: &str) {
        if rule == ALERTER_BLIND {
            self.blind = self.sites.len() > 1;
            self.blind_before = self.blind;
        } else if let Some(site) = self.sites.iter_mut().find(|site| &*site.name == subject) {
            (site.told, site.told_before) = (true, true);
        }
    }

    /// Every subject of the built-in rules, and whether it was told of.
    pub(crate) fn subjects(&self) -> impl Iterator<Item = (&'static str, Name, bool)> {
        let sites = self.sites.iter().map(|site| (SITE_SILENT, site.name.clone(), site.told));
        let all = (self.sites.len() > 1).then(|| (ALERTER_BLIND, ALERTER.into(), self.blind));
        sites.chain(all)
    }

    /// The queue was read at `steady`, to its end or not. What came of it is told next, then it is judged.
    pub(crate) fn read(&mut self, to_its_end: bool, steady: Instant) {
        let last = self.drained.take();
        if !to_its_end {
            return;
        }
        self.drained = Some(steady);
        let step = last.map_or(Duration::ZERO, |last| steady.saturating_duration_since(last));
        // Whoever took longer was not watching meanwhile.
        let step = step.min(self.hold);
        for site in &mut self.sites {
            site.quiet = site.quiet.saturating_add(step);
        }
    }

    /// A batch has come from a site, whose event time is this now.
    pub(crate) fn heard(
        &mut self,
        name: &str,
        event_time: Option<Timestamp>,
        wall: Timestamp,
        out: &mut Vec<Transition>,
    ) {
        let Some(site) = self.sites.iter_mut().find(|site| &*site.name == name) else {
            return;
        };
        let quiet = (!self.blind_before).then_some(site.quiet);
        if site.told {
            out.push(site.transition(State::Resolved, wall));
        }
        site.event_time = event_time;
        site.quiet = Duration::ZERO;
        site.patience = site.hold * (SILENT + 1);
        (site.told, site.told_before) = (false, false);
        site.heard = true;
        if self.blind {
            (self.blind, self.blind_before) = (false, false);
            out.push(blind(State::Resolved, wall, quiet));
            for site in &mut self.sites {
                // What cut all of them off may let go of one sooner than of the next, and a collector that was
                // refused waits before it tries again: the others are given as long as at the start.
                site.patience = site.quiet + site.hold * (SILENT + 1);
            }
        }
    }

    /// Whether each site was heard since the start and is not silent, as a queue tells that is read to its end.
    pub(crate) fn is_fresh(&self) -> bool {
        self.drained.is_some() && self.sites.iter().all(|site| site.heard && site.quiet < site.hold * SILENT)
    }

    /// Tells who is silent now.
    pub(crate) fn judge(&mut self, wall: Timestamp, out: &mut Vec<Transition>) {
        let all = self.sites.len() > 1 && self.sites.iter().all(|site| site.quiet >= site.hold * SILENT);
        for site in &mut self.sites {
            if site.told || site.quiet < site.patience {
                continue;
            }
            if !all {
                site.told = true;
                out.push(site.transition(State::Firing, wall));
            } else if !self.blind {
                self.blind = true;
                out.push(blind(State::Firing, wall, Some(site.quiet)));
            }
        }
    }
}

impl Site {
    fn transition(&self, state: State, at: Timestamp) -> Transition {
        let event_time = match self.event_time {
            Some(at) => format!("its event time stood at {at}"),
            None => "it was not heard of before".to_owned(),
        };
        let quiet = (!self.told_before).then_some(self.quiet);
        let reason = match state {
            State::Firing => format!("nothing{}; {event_time}", span(" for", quiet)),
            _ => format!("heard again{}; {event_time}", span(" after", quiet)),
        };
        transition(state, at, SITE_SILENT, self.name.clone(), quiet, reason)
    }
}

fn blind(state: State, at: Timestamp, quiet: Option<Duration>) -> Transition {
    let reason = match state {
        State::Firing => format!("nothing from any site{}: no rule can be judged", span(" for", quiet)),
        _ => format!("a site is heard again{}", span(" after", quiet)),
    };
    transition(state, at, ALERTER_BLIND, ALERTER.into(), quiet, reason)
}

/// ` for 3.4 s`; nothing where it is not known how long it was.
fn span(word: &str, quiet: Option<Duration>) -> String {
    quiet.map_or_else(String::new, |quiet| format!("{word} {:.1} s", quiet.as_secs_f64()))
}

fn transition(
    state: State,
    at: Timestamp,
    rule: &str,
    subject: Name,
    quiet: Option<Duration>,
    reason: String,
) -> Transition {
    Transition {
        at,
        state,
        rule: rule.into(),
        // Built-in rules come after all of the config's.
        rule_index: usize::MAX,
        subject,
        link: None,
        value: quiet.map(|quiet| quiet.as_secs_f64()),
        reason,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const HOLD: Duration = Duration::from_secs(1);
    const START: i64 = 1_000;

    /// Plays a scenario: words in order, each with its effect.
    ///
    /// `3s` steady reading for three seconds, twice a second; `a` site a advances; `stall60` the alerter stops for a
    /// minute; `behind` a read that leaves more in the queue. Gives what was told, with the second it was told at.
    fn play(sites: &[&str], script: &str) -> String {
        let mut silence = Silence::new(HOLD, sites.iter().map(|&site| (site.into(), None)));
        let (start, mut passed) = (Instant::now(), Duration::ZERO);
        let mut out = Vec::new();
        silence.read(true, start);
        for word in script.split_whitespace() {
            let wall = Timestamp::from_secs(START) + passed;
            if let Some(stall) = word.strip_prefix("stall") {
                passed += Duration::from_secs(stall.parse().unwrap());
                silence.read(true, start + passed);
                silence.judge(Timestamp::from_secs(START) + passed, &mut out);
            } else if word == "behind" {
                silence.read(false, start + passed);
            } else if let Some(seconds) = word.strip_suffix('s') {
                for _ in 0..2 * seconds.parse::<u32>().unwrap() {
                    passed += Duration::from_millis(500);
                    silence.read(true, start + passed);
                    silence.judge(Timestamp::from_secs(START) + passed, &mut out);
                }
            } else {
                silence.heard(word, Some(wall), wall, &mut out);
            }
        }
        let told: Vec<String> = out
            .iter()
            .map(|t| {
                let second = t.at.as_micros() / 1_000_000 - START;
                format!("{second}:{}:{}", t.subject, t.state.word())
            })
            .collect();
        told.join(" ")
    }

    #[test]
    fn scenarios() {
        let (one, two, three): (&[&str], &[&str], &[&str]) = (&["a"], &["a", "b"], &["a", "b", "c"]);
        let cases = [
            (one, "a 3s", "", "silent is told one hold after it begins"),
            (one, "a 5s", "4:a:firing", "a site that falls silent"),
            (one, "5s", "4:a:firing", "a site never heard of counts from the start"),
            (one, "a 3s a 3s a 3s", "", "a site slower than a hold is not silent"),
            (one, "a 60s a 1s", "4:a:firing 60:a:resolved", "it resolves at once"),
            (one, "a 5s a 5s", "4:a:firing 5:a:resolved 9:a:firing", "and may fall silent again"),
            (one, "a stall3600 2s", "", "a suspended alerter counts one hold"),
            (one, "a stall3600 3s", "3603:a:firing", "and goes on counting from there"),
            (one, "a behind stall3600 3s", "", "a backlog counts nothing"),
            (two, "a b 2s b 2s b 1s", "4:a:firing", "one of two"),
            (two, "a b 60s", "4:alerter:firing", "all at once are one page"),
            (two, "a b 60s b 0s", "4:alerter:firing 60:alerter:resolved", "which resolves with the first"),
            (
                two,
                "a b 60s b 3s b 3s b",
                "4:alerter:firing 60:alerter:resolved 64:a:firing",
                "who stays silent then is told of as if it had never been heard",
            ),
            (
                two,
                "a b 60s b 3s b a 1s a b 2s",
                "4:alerter:firing 60:alerter:resolved",
                "who comes back a little later than another is not told of",
            ),
            (
                two,
                "a b 60s b a 1s a b 9s",
                "4:alerter:firing 60:alerter:resolved 65:alerter:firing",
                "and nobody does when all are back",
            ),
            (
                two,
                "a b 2s b 2s 4s",
                "4:a:firing 6:alerter:firing",
                "the last one to fall silent blinds the alerter",
            ),
            (
                two,
                "a b 2s b 6s a 3s a 1s",
                "4:a:firing 6:alerter:firing 8:a:resolved 8:alerter:resolved 12:b:firing",
                "and is told of itself when another comes back",
            ),
            (three, "a b c 1s c 1s c 1s c 1s c", "4:a:firing 4:b:firing", "two of three are two pages"),
        ];
        for (sites, script, told, why) in cases {
            assert_eq!(play(sites, script), told, "{script}: {why}");
        }
    }

    /// A function that polls tunnels once a minute beside a collector.
    #[test]
    fn a_site_that_sends_seldom_is_silent_after_as_many_of_its_own_holds() {
        let mut silence = Silence::new(HOLD, ["a", "b"].map(|site| (site.into(), None)));
        silence.is_slow("b", HOLD * 60);
        let (start, mut out) = (Instant::now(), Vec::new());
        let mut told = Vec::new();
        for second in 0..400_u32 {
            let wall = Timestamp::from_secs(START + i64::from(second));
            silence.read(true, start + HOLD * second);
            silence.heard("a", Some(wall), wall, &mut out);
            if second % 60 == 0 && second <= 120 {
                silence.heard("b", Some(wall), wall, &mut out);
            }
            silence.judge(wall, &mut out);
            told.extend(out.drain(..).map(|of| (second, of.subject.to_string(), of.state)));
        }
        assert_eq!(told, [(120 + 4 * 60, "b".to_owned(), State::Firing)]);
    }

    #[test]
    fn fresh_is_only_who_hears_every_site_while_it_reads_to_the_end() {
        let mut silence = Silence::new(HOLD, ["a", "b"].map(|site| (site.into(), None)));
        let (wall, start, mut out) = (Timestamp::from_secs(START), Instant::now(), Vec::new());
        let mut read = |silence: &mut Silence, second: u32, to_its_end: bool, heard: &[&str]| {
            silence.read(to_its_end, start + HOLD * second);
            heard.iter().for_each(|site| silence.heard(site, Some(wall), wall, &mut out));
            silence.judge(wall, &mut out);
            silence.is_fresh()
        };
        assert!(!read(&mut silence, 0, true, &["a"]), "b was not heard of yet");
        assert!(read(&mut silence, 1, true, &["b"]));
        assert!(!read(&mut silence, 2, false, &["a", "b"]), "there is a backlog");
        assert!(read(&mut silence, 3, true, &["a", "b"]));
        assert!(read(&mut silence, 4, true, &["a"]));
        assert!(read(&mut silence, 5, true, &["a"]));
        assert!(!read(&mut silence, 6, true, &["a"]), "b is silent, though nobody was told yet");
        assert!(read(&mut silence, 7, true, &["b"]));
    }

    #[test]
    fn what_was_open_before_a_restart_is_not_told_again_and_resolves() {
        let wall = Timestamp::from_secs(START);
        let mut silence = Silence::new(HOLD, [("a".into(), Some(wall))]);
        silence.is_open(SITE_SILENT, "a");
        let (start, mut out) = (Instant::now(), Vec::new());
        for second in 0..20 {
            silence.read(true, start + HOLD * second);
            silence.judge(wall + HOLD * second, &mut out);
        }
        assert_eq!(out, []);
        silence.heard("a", Some(wall), wall, &mut out);
        let [end] = &out[..] else { panic!("{out:?}") };
        assert_eq!((end.state, end.value), (State::Resolved, None));
        assert!(
            end.reason.starts_with("heard again; its event time stood at "),
            "for longer than it counted: {end:?}"
        );
        // The next silence is its own.
        for second in 20..30 {
            silence.read(true, start + HOLD * second);
            silence.judge(wall + HOLD * second, &mut out);
        }
        silence.heard("a", Some(wall), wall, &mut out);
        assert!(out[2].reason.starts_with("heard again after "), "{out:?}");
    }

    #[test]
    fn that_nothing_was_heard_before_a_restart_ends_without_a_time_too() {
        let wall = Timestamp::from_secs(START);
        let mut silence = Silence::new(HOLD, ["a", "b"].map(|site| (site.into(), Some(wall))));
        silence.is_open(ALERTER_BLIND, ALERTER);
        let mut out = Vec::new();
        silence.heard("a", Some(wall), wall, &mut out);
        let told: Vec<_> = out.iter().map(|of| (&*of.rule, &*of.reason, of.value)).collect();
        assert_eq!(told, [(ALERTER_BLIND, "a site is heard again", None)]);
    }

    proptest! {
        /// Whatever happened before: what is told alternates, nobody is accused too early, and in the end nobody who
        /// is silent goes untold.
        #[test]
        fn told_in_pairs_never_early_and_always_in_the_end(
            count in 1..4usize,
            steps in proptest::collection::vec((0..6usize, 0..3_000u64), 0..200),
        ) {
            let names: Vec<Name> = ["a", "b", "c"][..count].iter().map(|&name| name.into()).collect();
            let mut silence = Silence::new(HOLD, names.iter().map(|name| (name.clone(), None)));
            let (mut steady, mut wall) = (Instant::now(), Timestamp::from_secs(START));
            let mut heard = vec![wall; count];
            let mut open: Vec<Name> = Vec::new();
            let steps = steps.into_iter().chain(std::iter::repeat_n((4, 500), 12));
            for (what, millis) in steps {
                steady += Duration::from_millis(millis);
                wall = wall + Duration::from_millis(millis);
                let mut out = Vec::new();
                match what {
                    site @ 0..3 if site < count => {
                        silence.heard(&names[site], Some(wall), wall, &mut out);
                        heard[site] = wall;
                    }
                    3 => silence.read(false, steady),
                    _ => {
                        silence.read(true, steady);
                        silence.judge(wall, &mut out);
                    }
                }
                for told in out {
                    match told.state {
                        State::Firing => {
                            prop_assert!(!open.contains(&told.subject));
                            open.push(told.subject.clone());
                            for (name, heard) in names.iter().zip(&heard) {
                                if *name == told.subject {
                                    prop_assert!(wall.since(*heard) >= HOLD * SILENT, "{} accused early", name);
                                }
                            }
                        }
                        _ => {
                            prop_assert!(open.contains(&told.subject));
                            open.retain(|name| *name != told.subject);
                        }
                    }
                }
            }
            let blind = open.iter().any(|name| &**name == ALERTER);
            prop_assert!(blind || names.iter().all(|name| open.contains(name)), "open at the end: {:?}", open);
        }
    }
}
