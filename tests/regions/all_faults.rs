//! Each fault of the lab from its beginning to its end, by both ways to a page: its verdict, what the phone is told directly, what
//! CloudWatch's alarms tell, and what the metrics show. Which, stands in `docs/incidents.md`.
//!
//! An alarm takes half a minute, a sign of life that is missed six: the faults are spread over labs, which are up side by side.
//! It is called as it is to come first of the tests of this file, for it takes longest.

use std::fmt::Write as _;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_lab::Site;
use crosswatch_shared::time::Timestamp;
use crosswatch_tests::judged;
use crosswatch_tests::process::laboratory;
use crosswatch_tests::root::require_root;
use serde_json::Value;

use crate::books::{compare, time, wait_for_all_until_now};
use crate::shown::{Episode, WINDOW, assert_nothing_of_the_late, assert_right, shows_by_now};
use crate::table::{Row, Tables, Told};
use crate::world::{LINK, NUMBER, PROBES, VPN, World, now, place};

/// Which faults the lab can make.
const LAB: &str = include_str!("../../docs/lab.md");
/// How many labs the plain faults are dealt to.
const HANDS: usize = 2;
/// Longer than anything takes that is waited for here: a sign of life that is missed tells after five to seven minutes.
const BOUND: Duration = Duration::from_secs(600);
/// What is waited for takes half a minute and more, and many labs are asked.
const PACE: Duration = Duration::from_millis(500);
const MINUTE: Duration = Duration::from_secs(60);
/// What the alarm on AWS's own metric begins with, which makes that every five minutes: it has a topic of its own, and tells that.
const OF_AWS: &str = "Crosswatch VPN ";
/// And those of rules for subjects, which tell nobody.
const OF_RULES: &str = "Crosswatch rule ";

/// The alarms that page.
const PAGING: [&str; 5] = [
    "Crosswatch alerter silent",
    "Crosswatch publisher silent",
    "Crosswatch collector us-east-1 silent",
    "Crosswatch collector eu-west-1 silent",
    BROKEN_OR_SLOW,
];
const BROKEN_OR_SLOW: &str = "use1-euw1 broken or slow (Crosswatch)";
/// There only where a rule is about collecting.
const COLLECTING: &str = "collecting fails or is slow (Crosswatch)";
/// There only where the VPN connection is in a link of its own.
const VPN_BROKEN: &str = "vpn broken (Crosswatch)";

/// Rules for whatever a fault shows, over periods, so that an alarm need not look at whole minutes.
fn over_periods(text: String) -> String {
    with_rules(&text, |_| true)
}

/// With tunnels no loss by chance is tried.
fn without_chance(text: String) -> String {
    with_rules(&text, |name| name != "loss-high")
}

/// Those for a link alone: what a site tells of itself when it is heard again is news of its own.
fn of_links(text: String) -> String {
    with_rules(&text, |name| ["tunnels-down", "ping-failed", "latency-high"].contains(&name))
}

fn with_rules(text: &str, wanted: impl Fn(&str) -> bool) -> String {
    let rules = [
        ("tunnels-down", "tunnels_up", "below = 1", Some("maximum")),
        ("redundancy-lost", "tunnels_up", "below = 2", Some("maximum")),
        ("ping-failed", "ping_ok", "below = 1", Some("maximum")),
        // Twice, for a machine that stands still for seconds loses what was under way.
        ("loss-high", "loss_percent", "above = 25\nbreach = \"2 of 2\"", None),
        // Not large packets: once a minute one may meet tunnels that have just come up.
        ("latency-high", "latency_ms", "above = 200\nsubjects = [\"*.10\", \"*:443\"]", Some("minimum")),
        ("ec2-fails", "collection_ok", "below = 1\nsubjects = [\"*/ec2:*\"]", Some("maximum")),
    ];
    let (head, rest) = text.split_once("\n[[rule]]").unwrap();
    let (_, receivers) = rest.split_once("\n[notify.oncall]\n").unwrap();
    let mut text = head.to_owned();
    for (name, metric, breaches, statistic) in rules.into_iter().filter(|(name, ..)| wanted(name)) {
        let statistic = statistic.map_or_else(String::new, |of| format!("statistic = \"{of}\"\n"));
        let rule =
            format!("name = \"{name}\"\nmetric = \"{metric}\"\n{breaches}\nperiod = \"10s\"\n{statistic}");
        writeln!(text, "\n[[rule]]\n{rule}notify = [\"oncall\"]").unwrap();
    }
    text + "\n[notify.oncall]\n" + receivers
}

/// A lab, with what was told in it so far.
struct Trial {
    world: World,
    /// The alarms that page.
    paging: Vec<&'static str>,
    /// Those of them that by now may have paged, or not.
    at_times: Vec<String>,
    /// How many texts and pages were looked at.
    texts: usize,
    pages: usize,
}

/// What an alarm told: when, its new state and its name.
#[derive(Clone, Debug)]
struct Page {
    at: Timestamp,
    state: String,
    alarm: String,
}

/// A text to the phone, and when it was accepted.
#[derive(Clone, Debug)]
struct Text {
    at: Timestamp,
    text: String,
}

impl Trial {
    /// Waits until all is up in a lab, and makes its alarms.
    fn begin(world: World, subjects: &[&str], rules: &[&'static str]) -> Self {
        world.wait_until_these_are_up(subjects);
        let paging = [&PAGING[..], rules].concat();
        let trial = Self { world, paging, at_times: Vec::new(), texts: 0, pages: 0 };
        // Else the alarms of signs of life would begin by paging.
        trial.wait("signs of life", || trial.is_alive());
        let applied = trial.world.tool_with_aws(&["alarms", "apply"]);
        assert!(applied.ends_with(" done, 0 failed\n"), "{applied}");
        trial
    }

    fn wait(&self, what: &str, mut done: impl FnMut() -> bool) {
        let start = Instant::now();
        while !done() {
            assert!(
                start.elapsed() < BOUND,
                "not within {BOUND:?}: {what}; texts: {:#?}; pages: {:#?}",
                self.texts(),
                self.pages()
            );
            thread::sleep(PACE);
        }
    }

    /// Whether each stage and collector has given a sign of life in a minute that is over.
    fn is_alive(&self) -> bool {
        let signs = [
            ("Heartbeat", "Stage=publisher"),
            ("Heartbeat", "Stage=alerter"),
            ("PipelineDelay", "Site=us-east-1"),
            ("PipelineDelay", "Site=eu-west-1"),
        ];
        let over = now().floor(MINUTE);
        signs.iter().all(|(metric, dimension)| {
            let points = self.world.list(&format!("/datapoints?metric={metric}&dimension={dimension}"));
            points.iter().any(|point| time(&point["at"]) < over)
        })
    }

    fn texts(&self) -> Vec<Text> {
        let messages = self.world.list("/messages");
        let to_phone = messages.iter().filter(|message| message["to"] == NUMBER);
        let text = |message: &Value| message["text"].as_str().unwrap().to_owned();
        to_phone.map(|message| Text { at: time(&message["at"]), text: text(message) }).collect()
    }

    /// What the alarms have told that page for sure.
    fn pages(&self) -> Vec<Page> {
        let is_sure = |page: &Page| !self.at_times.contains(&page.alarm);
        self.all_pages().into_iter().filter(is_sure).collect()
    }

    /// What the alarms have told, but for the first of each: that all is well is told when it is made.
    fn all_pages(&self) -> Vec<Page> {
        let mut unheard = self.paging.clone();
        let messages = self.world.list("/messages");
        let topic = |message: &&Value| message["to"].as_str().unwrap().ends_with(":crosswatch-alarms");
        let of_alarms = messages.iter().filter(|message| message["source"] == "alarm").filter(topic);
        let pages = of_alarms.filter_map(|message| {
            let attribute = |name: &str| message["attributes"][name].as_str().unwrap().to_owned();
            let page =
                Page { at: time(&message["at"]), state: attribute("state"), alarm: attribute("alarm") };
            // The link and what is wrong with it, or who is silent, first.
            assert_eq!(message["text"], format!("{}: \"{}\" in us-east-1", page.state, page.alarm));
            if let Some(place) = unheard.iter().position(|alarm| *alarm == page.alarm) {
                unheard.swap_remove(place);
                assert_eq!(page.state, "OK", "{page:?} before all was well");
                return None;
            }
            Some(page)
        });
        pages.collect()
    }

    /// Waits until so many more texts were accepted, which must be these, in any order; the phone is told nothing else.
    fn wait_for_texts(&mut self, expected: &[(&str, &str)]) -> Vec<Text> {
        let mut new = Vec::new();
        self.wait(&format!("the texts {expected:?}"), || {
            new = self.texts().split_off(self.texts);
            new.len() >= expected.len()
        });
        let mut told: Vec<_> = new.iter().map(|text| place(&text.text)).collect();
        told.sort_unstable();
        assert_eq!(told, expected, "{new:#?}");
        self.texts += new.len();
        new
    }

    /// Waits until each of these alarms has told that it is in this state; none tells anything else.
    fn wait_for_pages(&mut self, state: &str, alarms: &[impl AsRef<str> + std::fmt::Debug]) -> Vec<Page> {
        let mut new = Vec::new();
        self.wait(&format!("{state} of {alarms:?}"), || {
            new = self.pages().split_off(self.pages);
            new.len() >= alarms.len()
        });
        let mut told: Vec<_> = new.iter().map(|page| (&*page.state, &*page.alarm)).collect();
        told.sort_unstable();
        let mut expected: Vec<_> = alarms.iter().map(|alarm| (state, alarm.as_ref())).collect();
        expected.sort_unstable();
        assert_eq!(told, expected, "{new:#?}, by {:#?}", self.changes());
        self.pages += new.len();
        new
    }

    /// The newest changes of all alarms, also of those that tell nobody: what a page that nobody expected came of.
    fn changes(&self) -> Vec<String> {
        let mut changes = Vec::new();
        for alarm in self.world.list("/alarms") {
            let history = alarm["history"].as_array().unwrap().clone();
            changes.extend(history.iter().map(|change| {
                let [at, to, why] = ["at", "to", "reason"].map(|field| change[field].as_str().unwrap());
                format!("{at} {} {to}: {}", alarm["name"].as_str().unwrap(), &why[..why.len().min(100)])
            }));
        }
        changes.sort_unstable();
        changes.split_off(changes.len().saturating_sub(40))
    }

    /// One fault from its beginning to its end.
    fn go_through<'a>(&mut self, row: &'a Row) -> Episode<'a> {
        let Row { faults, told, alarms, .. } = row;
        // Of those nothing was told before.
        assert!(self.pages().iter().all(|page| !row.at_times.contains(&page.alarm)), "{faults:?}");
        self.at_times.extend(row.at_times.iter().cloned());
        let begun = now();
        faults.iter().for_each(|fault| self.make(fault));
        let (mut texts, mut ends) = (Vec::new(), Vec::new());
        let at_once = told.as_ref().filter(|told| !told.verdicts.is_empty());
        if let Some(Told { place, verdicts, .. }) = at_once {
            texts = self.wait_for_texts(&[("FIRING", place)]);
            self.wait(&format!("the verdict {verdicts:?}"), || {
                let incidents = judged::incidents(&self.world.alerter());
                incidents.iter().rfind(|of| of.place == *place).is_some_and(|of| verdicts.contains(&of.kind))
            });
        }
        let pages = self.wait_for_pages("ALARM", alarms);
        self.wait(&format!("the metrics show {faults:?}"), || shows_by_now(&self.world, row, begun));
        if told.is_none() && alarms.is_empty() {
            self.wait("it strikes, and the metrics go on", || self.goes_on_in_spite_of_it(begun));
        }
        assert_nothing_of_the_late(&self.world, row, begun);
        assert_eq!(self.texts().len(), self.texts, "{faults:?}: {:#?}", self.texts());

        let over = now();
        self.world.lab.heal().unwrap();
        let healed = now();
        if let Some(Told { place, verdicts, end }) = told {
            let expected = [("FIRING", &**place), ("RESOLVED", place)];
            let expected = if verdicts.is_empty() { &expected[..] } else { &expected[1..] };
            ends = self.wait_for_texts(expected);
            let text = &ends.last().unwrap().text;
            let is_end = |end: &String| text.starts_with(&format!("RESOLVED {end} {place}: over after "));
            assert!(end.iter().any(is_end), "{faults:?}: {text}");
        }
        let all_clears = self.wait_for_pages("OK", alarms);
        let since = |since: Timestamp, times: Vec<Timestamp>| {
            let mut seconds: Vec<_> = times.iter().map(|at| at.since(since).as_secs()).collect();
            seconds.sort_unstable();
            seconds.dedup();
            seconds.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ")
        };
        let (texts, ends) = ([texts, ends]).map(|of| of.iter().map(|text| text.at).collect()).into();
        let (pages, all_clears) =
            ([pages, all_clears]).map(|of| of.iter().map(|page| page.at).collect()).into();
        println!(
            "| `{}` | {} | {} | {} | {} |",
            faults.join("` and `"),
            since(begun, texts),
            since(begun, pages),
            since(over, ends),
            since(over, all_clears)
        );
        Episode { row, begun, over, healed }
    }

    /// As a user does.
    fn make(&self, fault: &str) {
        let [lab, _] = laboratory();
        let mut command = Command::new(lab);
        command.arg("fault").args(fault.split(' ')).arg("--folder").arg(self.world.lab.folder());
        let said = command.output().unwrap();
        assert!(said.status.success(), "{fault}: {}", String::from_utf8_lossy(&said.stderr));
    }

    /// Requests are refused, and half a minute of both sites was put all the same.
    fn goes_on_in_spite_of_it(&self, begun: Timestamp) -> bool {
        let struck = |fault: &Value| fault["struck"].as_u64() >= Some(10);
        self.world.list("/faults").iter().any(struck)
            && Site::ALL.iter().all(|site| {
                let delays =
                    self.world.list(&format!("/datapoints?metric=PipelineDelay&dimension=Site={site}"));
                delays.iter().any(|point| time(&point["at"]) > begun + 3 * WINDOW)
            })
    }

    /// These faults, one after the other; nothing else was told, and all metrics are right.
    fn go_through_all(mut self, rows: &[&Row]) {
        let episodes: Vec<_> = rows.iter().map(|row| self.go_through(row)).collect();
        let end = wait_for_all_until_now(&self.world, WINDOW);
        assert_right(&self.world, &episodes, end);
        let books = compare(&self.world, WINDOW, end);
        println!("{:?}: {books:?}", rows.iter().map(|row| &row.faults).collect::<Vec<_>>());
        self.assert_nothing_else();
    }

    /// All that was told was looked at, and each alarm told whom it should.
    fn assert_nothing_else(&self) {
        assert_eq!(self.texts().len(), self.texts, "{:#?}", self.texts());
        assert_eq!(self.pages().len(), self.pages, "{:#?}", self.pages());
        for alarm in &self.at_times {
            self.wait(&format!("OK of {alarm}, if it paged"), || {
                self.all_pages()
                    .iter()
                    .rfind(|page| page.alarm == *alarm)
                    .is_none_or(|page| page.state == "OK")
            });
        }
        for alarm in self.world.list("/alarms") {
            assert_eq!(alarm["failed_actions"], Value::Array(Vec::new()), "{alarm}");
            let name = alarm["name"].as_str().unwrap();
            let known = self.paging.contains(&name) || name.starts_with(OF_AWS) || name.starts_with(OF_RULES);
            assert!(known, "an alarm that the test knows nothing of: {name}");
        }
    }
}

/// Both at once, each link with a composite of its own.
fn two_links_break_at_once(mut trial: Trial) {
    let places = ["use1-euw1", "vpn"];
    let alarms = [BROKEN_OR_SLOW, VPN_BROKEN];
    for (state, told) in [("ALARM", "FIRING"), ("OK", "RESOLVED")] {
        match state {
            "ALARM" => ["both-down", "black-hole"].iter().for_each(|fault| trial.make(fault)),
            _ => trial.world.lab.heal().unwrap(),
        }
        trial.wait_for_texts(&places.map(|place| (told, place)));
        trial.wait_for_pages(state, &alarms);
    }
    trial.assert_nothing_else();
}

/// The VPN connection in a link of its own.
fn in_a_link_of_its_own(text: String) -> String {
    let link = "name = \"use1-euw1\"\nbetween = [\"us-east-1\", \"eu-west-1\"]\n";
    let vpn = text.lines().find(|line| line.starts_with("vpn = ")).unwrap();
    let of_vpn = format!("{}{vpn}\n", link.replace("\"use1-euw1\"", "\"vpn\""));
    let text = text.replace(&format!("{vpn}\n"), "");
    over_periods(text.replace(link, &format!("{of_vpn}\n[[link]]\n{link}")))
}

/// Which table a trial is of, and so what its lab is like.
#[derive(Clone, Copy, Debug)]
enum Kind {
    Plain,
    Tunnels,
    Lasting,
    /// Of none: two links.
    Links,
}

/// What is watched besides in a lab with tunnels.
fn with_tunnels() -> [String; 3] {
    let udp = |from: Site| format!("{LINK}/{from}/udp:{}:862", from.other().address());
    let [near, far] = Site::ALL;
    [format!("{}@1300", PROBES[0]), udp(near), udp(far)]
}

#[test]
fn each_fault_is_told_once_by_both_ways_and_so_is_its_end_and_the_metrics_show_it() {
    if !require_root("each_fault_is_told_once_by_both_ways_and_so_is_its_end_and_the_metrics_show_it") {
        return;
    }
    let tables = Tables::read();
    let plain = [&PROBES[..], &[VPN]].concat();
    let more = with_tunnels();
    let tunnels = [&plain[..], &more.each_ref().map(|subject| &**subject)].concat();
    // One lab after the other is made, those whose trials take longest first.
    let mut trials: Vec<(Kind, Vec<&Row>)> = Vec::new();
    trials.extend(tables.lasting.iter().map(|row| (Kind::Lasting, vec![row])));
    trials.push((Kind::Tunnels, tables.tunnels.iter().collect()));
    trials.push((Kind::Links, Vec::new()));
    trials.extend(
        (0..HANDS).map(|hand| (Kind::Plain, tables.plain.iter().skip(hand).step_by(HANDS).collect())),
    );

    let failed = thread::scope(|scope| {
        let trials: Vec<_> = trials
            .iter()
            .map(|(kind, rows)| {
                let (lab, subjects, more): (_, &[_], &[_]) = match kind {
                    Kind::Lasting => (World::probing_each_second(of_links), &plain, &[]),
                    Kind::Tunnels => (World::with_tunnels(without_chance), &tunnels, &[COLLECTING]),
                    Kind::Plain => (World::prepared(over_periods, |_| ()), &plain, &[COLLECTING]),
                    Kind::Links => {
                        (World::prepared(in_a_link_of_its_own, |_| ()), &PROBES, &[COLLECTING, VPN_BROKEN])
                    }
                };
                let run = move || {
                    let trial = Trial::begin(lab, subjects, more);
                    match kind {
                        Kind::Links => two_links_break_at_once(trial),
                        _ => trial.go_through_all(rows),
                    }
                };
                ((kind, rows), scope.spawn(move || catch_unwind(AssertUnwindSafe(run))))
            })
            .collect();
        let results = trials.into_iter().map(|(of, thread)| (of, thread.join().unwrap()));
        let failed = results.filter(|(_, result)| result.is_err());
        let faults = |rows: &Vec<&Row>| -> Vec<_> { rows.iter().map(|row| row.faults.clone()).collect() };
        failed.map(|((kind, rows), _)| (*kind, faults(rows))).collect::<Vec<_>>()
    });
    assert!(failed.is_empty(), "each says above why: {failed:?}");
}

/// What breaks is told of in the lab's document, and what comes of it in that of incidents.
#[test]
fn every_fault_that_the_lab_can_make_is_gone_through() {
    let Tables { plain, tunnels, lasting } = Tables::read();
    let rows = plain.iter().chain(&tunnels).chain(&lasting);
    let tried: Vec<&str> =
        rows.flat_map(|row| &row.faults).filter_map(|fault| fault.split(' ').next()).collect();
    let table = LAB.split("| `lab fault …` |").nth(1).unwrap();
    let cells = table.lines().skip(2).map_while(|line| line.strip_prefix("| ")?.split(" | ").next());
    let mut count = 0;
    for cell in cells {
        let names = cell.split('`').skip(1).step_by(2).map(|fault| fault.split(' ').next().unwrap());
        assert!(names.into_iter().any(|name| tried.contains(&name)), "nobody goes through {cell}");
        count += 1;
    }
    assert!(count > 10);
}
