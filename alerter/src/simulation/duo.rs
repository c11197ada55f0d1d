//! Two alerters through the same day: each the real loop over a queue and a file of its own, both telling the same receivers,
//! and each other. Now and then one of them is killed, at any moment, and comes back soon or after hours.
//!
//! What the receivers took of both together is one page and one end of each incident, whatever either calls it. Twice comes
//! only what one took down with it: it died within seconds of the answer, or did not have it, or what it said of it was in a page
//! of the other's queue that got lost.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use crosswatch_aws::sqs::{BYTES, MESSAGES};
use crosswatch_host::health::Health;
use crosswatch_judge::verdict::Kind;
use crosswatch_queue::Source;
use crosswatch_shared::time::Timestamp;
use prometheus_client::registry::Registry;
use rusqlite::{Connection, OpenFlags};
use serde_json::Value;
use tokio::time::sleep;
use tokio_util::sync::CancellationToken;

use super::asked_for;
use super::books::Waiting;
use super::broker::Broker;
use super::days::Day;
use super::fate::{Fate, Step};
use super::receivers::{Receivers, Taken};
use super::time::Time;
use crate::ledger::Destination;
use crate::notify::World;
use crate::peer::{Peer, Rank, Telling, Tells};
use crate::run::{Alerter, Outside};
use crate::silence::{ALERTER_BLIND, SITE_SILENT};

/// The days that are always lived through.
const FIXED: std::ops::Range<u64> = 2_000..2_004;

/// For so long after each window both go on: what the second waits for is over.
const AFTER: Duration = Duration::from_secs(100);

/// How long before a window the quiet time ends.
const BEFORE: Duration = Duration::from_secs(8);

/// So soon after an answer a death may come before the other was told.
const UNTOLD: Duration = Duration::from_secs(3);

/// How far the clock is set on while something is held back, and how often at most.
const JUMPS: (Duration, usize) = (Duration::from_secs(600), 200);

/// The other's queue, as long as one lives.
struct Line {
    other: Broker,
    fate: Fate,
}

impl Tells for Line {
    fn tell<'a>(&'a self, bodies: &'a [String]) -> Telling<'a> {
        Box::pin(async move {
            self.fate.pass(Step::Queue).await;
            sleep(Duration::from_millis(20)).await;
            self.fate.pass(Step::Queue).await;
            if bodies.len() > MESSAGES || bodies.iter().map(String::len).sum::<usize>() > BYTES {
                return vec![Err("AWS.SimpleQueueService.BatchRequestTooLong".to_owned()); bodies.len()];
            }
            bodies.iter().for_each(|body| self.other.tell(body));
            vec![Ok(()); bodies.len()]
        })
    }
}

/// One of the two.
struct One<'a> {
    day: &'a Day,
    rank: Rank,
    folder: PathBuf,
    own: Broker,
    other: Broker,
    receivers: Receivers,
    time: Time,
    /// When it is killed, and when it is back.
    deaths: Vec<(Timestamp, Timestamp)>,
    /// When each life ended.
    ends: Vec<Timestamp>,
    /// When each life began.
    begins: Vec<Timestamp>,
}

impl One<'_> {
    fn file(&self) -> PathBuf {
        self.folder.join("alerter.db")
    }

    /// What its file has of an incident for one channel of a receiver: how each notification stands, and what the other said.
    fn rows(&self, to: &Destination, is_it: impl Fn(&str) -> bool) -> Vec<String> {
        let file = read(self.file());
        let mut rows = file
            .prepare(
                "SELECT id, id || ' ' || state || ' ' || standing || ' as ' || ifnull(told_as, '') || ' in '
                         || ifnull(digest, '') || ' since ' || created || ' until ' || ifnull(accepted_at, '')
                 FROM notification WHERE receiver = ?1 AND channel = ?2
                 UNION ALL SELECT theirs, theirs || ' is ' || ours FROM alias
                 UNION ALL SELECT id, id || ' said to be ' || state || ' at ' || at || ' in ' || ifnull(digest, '')
                 FROM heard WHERE receiver = ?1 AND channel = ?2",
            )
            .expect("its tables");
        let rows = rows.query_map([&*to.receiver, &*to.channel], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows = rows.expect("rows").map(|row| row.expect("a row"));
        rows.filter(|(id, _): &(String, String)| is_it(id)).map(|(_, row)| row).collect()
    }

    /// By which ids the receiver was told of an incident.
    fn told_as(&self, to: &Destination, id: &str, called: impl Fn(&str) -> String) -> Vec<String> {
        let file = read(self.file());
        let mut rows = file
            .prepare(
                "SELECT id, told_as FROM notification
                 WHERE receiver = ? AND channel = ? AND told_as IS NOT NULL AND state = 'firing'",
            )
            .expect("its tables");
        let rows = rows.query_map([&*to.receiver, &*to.channel], |row| Ok((row.get(0)?, row.get(1)?)));
        let rows = rows.expect("rows").map(|row| row.expect("a row"));
        rows.filter(|(of, _): &(String, String)| called(of) == id).map(|(_, told_as)| told_as).collect()
    }

    /// What its file has of the incidents of these places, and when it lived.
    fn incidents(&self, places: &BTreeSet<String>) -> Vec<String> {
        let file = read(self.file());
        let mut rows = file
            .prepare("SELECT place, id, kind, opened_at, resolved_at FROM incident ORDER BY opened_at")
            .expect("its tables");
        let at =
            |at: Option<i64>| at.map_or_else(|| "on".to_owned(), |at| Timestamp::from_micros(at).to_string());
        let rows = rows.query_map([], |row| {
            let place: String = row.get(0)?;
            let (id, kind): (String, String) = (row.get(1)?, row.get(2)?);
            let said = format!("{place} {id:.8} {kind} {} to {}", at(row.get(3)?), at(row.get(4)?));
            Ok((place, said))
        });
        let rows = rows.expect("rows").map(|row| row.expect("a row"));
        rows.filter(|(place, _)| places.contains(place)).map(|(_, said)| said).collect()
    }

    fn open(&self, fate: &Fate) -> Alerter {
        let (own, whose) = (self.own.clone(), fate.clone());
        let source = Source::new(move |places| Ok(own.open(places, &whose)));
        let queue = Arc::new(Line { other: self.other.clone(), fate: fate.clone() });
        let outside = Outside {
            clock: self.time.clock(),
            world: World::Simulated(self.receivers.clone()),
            peer: Some(Peer { rank: self.rank, queue }),
        };
        let mut topology = self.day.world.topology.clone();
        topology.queue.path.clone_from(&self.folder);
        let part = Health::default().part("alerter");
        let config = self.day.world.config.clone();
        Alerter::open_in(outside, config, &topology, &self.file(), source, &mut Registry::default(), part)
            .expect("nothing is wrong with its disk")
    }

    /// Lives, dies and is back, until it is told to stop.
    async fn live(&mut self, over: CancellationToken) {
        let deaths = std::mem::take(&mut self.deaths);
        for (dies, back) in deaths {
            let fate = Fate::of(None);
            self.begins.push(self.time.now());
            self.receivers.told_by(self.ends.len(), &fate);
            let alerter = self.open(&fate);
            tokio::select! {
                biased;
                ended = alerter.run(CancellationToken::new()) => panic!("it ended: {ended:?}"),
                () = until(&self.time, dies) => {}
            }
            fate.kill();
            self.ends.push(self.time.now());
            until(&self.time, back).await;
        }
        let fate = Fate::of(None);
        self.begins.push(self.time.now());
        self.receivers.told_by(self.ends.len(), &fate);
        self.open(&fate).run(over).await.expect("it ends well");
        self.ends.push(Timestamp::MAX);
    }
}

/// An alerter's file, to be looked into.
fn read(file: impl AsRef<Path>) -> Connection {
    Connection::open_with_flags(file, OpenFlags::SQLITE_OPEN_READ_ONLY).expect("it is there")
}

async fn until(time: &Time, then: Timestamp) {
    // The quiet time is jumped over meanwhile.
    while time.now() < then {
        sleep(then.since(time.now()).min(Duration::from_millis(777))).await;
    }
}

/// When either is away; never both.
fn deaths(rng: &mut fastrand::Rng, day: &Day) -> [Vec<(Timestamp, Timestamp)>; 2] {
    let mut deaths = [Vec::new(), Vec::new()];
    let mut free = day.begin;
    for (index, &(from, to)) in day.windows.iter().enumerate() {
        for _ in 0..rng.u8(..3) {
            let dies = from.max(free) + Duration::from_millis(rng.u64(..50_000));
            if dies > to + Duration::from_secs(60) {
                break;
            }
            let back = match (rng.u8(..4), day.windows.get(index + 1)) {
                // It misses all of the next one.
                (0, Some(next)) => next.1 + Duration::from_secs(rng.u64(..40)),
                _ => dies + Duration::from_millis(rng.u64(200..90_000)),
            };
            deaths[rng.usize(..2)].push((dies, back));
            // Time to read what it missed.
            free = back + Duration::from_secs(45);
        }
    }
    deaths
}

/// How a day went.
#[derive(Debug, Default)]
#[allow(dead_code, reason = "to be read")]
struct Went {
    deaths: usize,
    incidents: usize,
    taken: usize,
    by_second: usize,
    repeats: usize,
    /// Of those because a message was lost, and who had sent it died.
    lost: usize,
    /// What either saw otherwise than the other.
    apart: usize,
    /// Incidents that either called otherwise.
    aliases: usize,
}

fn lived(seed: u64) -> Result<Went, Vec<String>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let day = Day::draw(&mut rng);
    let memory = Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder for the day");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let time = Time::begin(day.begin);
        let brokers = [0, 1].map(|_| Broker::new(rng.u64(..), &time, false, &day.sends));
        let [first, second] = deaths(&mut rng, &day);
        let one = |number: usize, rank: Rank, deaths: Vec<_>, seed: u64| {
            let folder = folder.path().join(number.to_string());
            std::fs::create_dir(&folder).expect("a folder");
            One {
                day: &day,
                rank,
                own: brokers[number].clone(),
                other: brokers[1 - number].clone(),
                receivers: Receivers::new(seed, &time, folder.join("alerter.db")),
                folder,
                time: time.clone(),
                deaths,
                ends: Vec::new(),
                begins: Vec::new(),
            }
        };
        let mut first = one(0, Rank::First, first, rng.u64(..));
        let mut second = one(1, Rank::Second, second, rng.u64(..));
        let (over, files) = (CancellationToken::new(), [first.file(), second.file()]);
        let script = script(&day, &time, &brokers, &files, over.clone());
        let (wrong, (), ()) = tokio::join!(script, first.live(over.clone()), second.live(over.clone()));
        check(&day, [&first, &second], wrong)
    })
}

/// The day passes, and then all is settled.
async fn script(
    day: &Day,
    time: &Time,
    brokers: &[Broker],
    files: &[PathBuf],
    over: CancellationToken,
) -> Vec<String> {
    let mut wrong = Vec::new();
    let waiting = |file: &PathBuf| {
        let waiting = Waiting::read(file).expect("its file can be read");
        let file = read(file);
        let outbox: i64 =
            file.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).expect("likewise");
        (waiting.owed + outbox, waiting.held)
    };
    let owes = || files.iter().any(|file| waiting(file).0 > 0);
    for &(from, to) in &day.windows {
        // No two machines are suspended together with a page in their hands; one that is away may owe for longer.
        let patience = (from - BEFORE).min(time.now() + AFTER);
        while time.now() < patience && files.iter().all(|file| file.exists()) && owes() {
            sleep(Duration::from_secs(1)).await;
        }
        time.suspend_until(from - BEFORE);
        until(time, to + AFTER).await;
    }
    brokers.iter().for_each(Broker::is_over);
    let visible = brokers.iter().filter_map(Broker::all_visible).max();
    until(time, visible.unwrap_or(time.now()) + AFTER).await;
    for jump in 0..=JUMPS.1 {
        let mut patience = 0;
        while owes() && patience < 40 {
            sleep(Duration::from_secs(5)).await;
            patience += 1;
        }
        if files.iter().all(|file| waiting(file) == (0, 0)) {
            break;
        }
        if jump == JUMPS.1 || patience == 40 {
            wrong.push(format!("it does not settle: {:?}", files.iter().map(waiting).collect::<Vec<_>>()));
            break;
        }
        time.suspend_until(time.now() + JUMPS.0);
        sleep(Duration::from_secs(8)).await;
    }
    over.cancel();
    wrong
}

/// What a receiver is told of an incident.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Word {
    Fires,
    /// It is down altogether: at the beginning, or by then.
    Down,
    Ends,
}

/// What was told, as a receiver reads it: the id, and what of it.
type Key = (String, Word);

/// What the receivers took of both against the incidents of both.
fn check(day: &Day, both: [&One<'_>; 2], mut wrong: Vec<String>) -> Result<Went, Vec<String>> {
    let mut went = Went { deaths: both.iter().map(|one| one.ends.len() - 1).sum(), ..Went::default() };
    let mut names: Vec<(String, String)> = Vec::new();
    // Between which times each was, in either's eyes.
    let mut spans: HashMap<String, (i64, i64)> = HashMap::new();
    let mut rules: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for one in both {
        let file = read(one.file());
        let mut aliases = file.prepare("SELECT theirs, ours FROM alias").expect("a table");
        let aliases = aliases.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        for alias in aliases {
            let (theirs, ours): (String, String) = alias.expect("a row");
            went.aliases += 1;
            names.push((theirs, ours));
        }
        let mut incidents = file.prepare("SELECT id, opened_at, resolved_at FROM incident").expect("a table");
        let incidents = incidents.query_map([], |row| {
            let until: Option<i64> = row.get(2)?;
            Ok((row.get::<_, String>(0)?, row.get(1)?, until.unwrap_or(i64::MAX)))
        });
        for incident in incidents.expect("rows") {
            let (id, opened, resolved): (String, i64, i64) = incident.expect("a row");
            let span = spans.entry(id).or_insert((opened, resolved));
            *span = (span.0.min(opened), span.1.max(resolved));
        }
        let mut symptoms = file.prepare("SELECT incident, rule FROM symptom").expect("a table");
        let symptoms = symptoms.query_map([], |row| Ok((row.get(0)?, row.get(1)?))).expect("rows");
        for symptom in symptoms {
            let (incident, rule): (String, String) = symptom.expect("a row");
            rules.entry(incident).or_default().insert(rule);
        }
    }
    // What was over before the other began is another, though it was taken for it.
    names.retain(|(theirs, ours)| match (spans.get(theirs), spans.get(ours)) {
        (Some(theirs), Some(ours)) => theirs.0 <= ours.1 && ours.0 <= theirs.1,
        _ => true,
    });
    // The least of all names that are of one incident.
    let mut called: BTreeMap<String, String> = rules.keys().map(|id| (id.clone(), id.clone())).collect();
    loop {
        let mut same = true;
        for (theirs, ours) in &names {
            let name = |id: &String| called.get(id).unwrap_or(id).clone();
            let least = name(theirs).min(name(ours));
            for id in [theirs, ours] {
                same &= called.insert(id.clone(), least.clone()).as_ref() == Some(&least);
            }
        }
        if same {
            break;
        }
    }
    let called = |id: &str| called.get(id).cloned().unwrap_or_else(|| id.to_owned());
    let incidents: BTreeSet<String> = rules.keys().map(|id| called(id)).collect();
    went.incidents = incidents.len();
    for to in day.world.config.receivers.iter().flat_map(Destination::of) {
        let mut taken: Vec<(usize, Taken)> = Vec::new();
        for (number, one) in both.iter().enumerate() {
            let its = one.receivers.taken().into_iter();
            let its = its.filter(|of| *of.receiver == *to.receiver && *of.channel == *to.channel);
            taken.extend(its.map(|of| (number, of)));
        }
        taken.sort_by_key(|(_, of)| of.at);
        went.taken += taken.len();
        went.by_second += taken.iter().filter(|(number, _)| *number == 1).count();
        let bodies: Vec<Value> =
            taken.iter().map(|(_, of)| serde_json::from_str(&of.body).expect("JSON")).collect();
        let pages = bodies.iter().filter(|of| of["state"] == "firing" && of["held"].is_null());
        let paged: BTreeSet<String> = pages.map(|of| called(of["id"].as_str().unwrap_or_default())).collect();
        let mut digests: HashMap<String, Vec<String>> = HashMap::new();
        let mut told: BTreeMap<Key, Vec<(usize, Taken)>> = BTreeMap::new();
        for ((number, of), body) in taken.iter().zip(&bodies) {
            let mut keys: BTreeSet<Key> = BTreeSet::new();
            says(body, &mut digests, &mut keys, |id| paged.contains(&called(id)));
            for (id, word) in keys {
                told.entry((called(&id), word)).or_default().push((*number, of.clone()));
            }
        }
        let owes = |id: &String| {
            let its = rules.iter().filter(|(of, _)| called(of) == *id).flat_map(|(_, rules)| rules);
            let mut its = its.map(String::as_str);
            its.any(|rule| {
                let mut configured = day.world.config.rules.iter();
                [SITE_SILENT, ALERTER_BLIND].contains(&rule)
                    || configured.any(|of| *of.rule.name == *rule && of.notify.contains(&to.receiver))
            })
        };
        for id in incidents.iter().filter(|id| owes(id)) {
            let is_told = |id: &str| {
                [Word::Fires, Word::Ends].iter().any(|word| told.contains_key(&(called(id), *word)))
            };
            // By one of the other's that lasted for longer.
            let by_another =
                || both.iter().any(|one| one.told_as(&to, id, called).iter().any(|id| is_told(id)));
            if !is_told(id) && !by_another() {
                let rows = both.map(|one| one.rows(&to, |of| called(of) == *id));
                wrong.push(format!(
                    "{} {}: nobody told {id} {:?}: {rows:#?}",
                    to.receiver,
                    to.channel,
                    rules.get(id)
                ));
            }
        }
        for (key, times) in &told {
            for two in times.windows(2) {
                let (number, before) = &two[0];
                let one = both[*number];
                let end = one.ends.get(before.life).copied().unwrap_or(Timestamp::MAX);
                // What is one here may be several there, each with its page; and of silence each has its own end.
                let built_in = |rule: &String| [SITE_SILENT, ALERTER_BLIND].contains(&rule.as_str());
                let silence =
                    rules.iter().filter(|(id, _)| called(id) == key.0).any(|(_, of)| of.iter().any(built_in));
                if *number == two[1].0 || (key.1 == Word::Ends && silence) {
                    went.apart += 1;
                    continue;
                }
                went.repeats += 1;
                // The word of it, or the question that it would have answered, was in a page that got lost, and then it died.
                let died = end <= two[1].1.at;
                let lost = one.other.lost().iter().any(|at| (before.at..two[1].1.at).contains(at));
                went.lost += usize::from(died && lost);
                let untold = before.answered.is_none() || end.since(before.at) <= UNTOLD || (died && lost);
                if !untold {
                    let short = |(number, of): &(usize, Taken)| {
                        let said: Value = serde_json::from_str(&of.body).expect("JSON");
                        let held = said["held"].as_array().into_iter().flatten();
                        let held: Vec<String> = held
                            .map(|of| format!("{:.9} {} {}", of["id"].to_string(), of["state"], of["place"]))
                            .collect();
                        let (id, state, rule) = (said["id"].to_string(), &said["state"], &said["rule"]);
                        format!("{number} in life {} at {}: {id:.9} {state} {rule} {held:?}", of.life, of.at)
                    };
                    let (one, other) = (short(&two[0]), short(&two[1]));
                    let rows = both.map(|one| one.rows(&to, |of| called(of) == key.0));
                    let (receiver, channel) = (&to.receiver, &to.channel);
                    let places: BTreeSet<String> = key_places(&two[0].1, &two[1].1);
                    let incidents = both.map(|one| (&one.begins, &one.ends, one.incidents(&places)));
                    wrong.push(format!(
                        "{receiver} {channel}: twice {key:?}: by {one}, and by {other}: {rows:#?}, {incidents:#?}"
                    ));
                }
            }
        }
    }
    if wrong.is_empty() { Ok(went) } else { Err(wrong) }
}

/// The places that both of these tell of.
fn key_places(one: &Taken, other: &Taken) -> BTreeSet<String> {
    let of = |of: &Taken| -> BTreeSet<String> {
        let said: Value = serde_json::from_str(&of.body).expect("JSON");
        let held = said["held"].as_array().into_iter().flatten();
        held.chain([&said]).filter_map(|of| Some(of["place"].as_str()?.to_owned())).collect()
    };
    &of(one) | &of(other)
}

/// What a notification says of which incidents. The end of a digest is the end of those that no page told.
fn says(
    body: &Value,
    digests: &mut HashMap<String, Vec<String>>,
    keys: &mut BTreeSet<Key>,
    is_paged: impl Fn(&str) -> bool,
) {
    let ends = |digest: String, digests: &HashMap<String, Vec<String>>| {
        let members = digests.get(&digest).into_iter().flatten().filter(|id| !is_paged(id)).cloned();
        members.chain([digest.clone()]).map(|id| (id, Word::Ends)).collect::<Vec<_>>()
    };
    let word = |of: &Value, key: &str| of[key].as_str().unwrap_or_default().to_owned();
    let is_down = |of: &Value| Kind::of_word(&word(of, "verdict")).is_some_and(Kind::is_down);
    let is_digest = |rule: &str| ["at-most", "catch-up"].contains(&rule);
    let id = word(body, "id");
    match body["held"].as_array() {
        Some(held) => {
            let firing = held.iter().filter(|of| of["state"] == "firing").map(|of| word(of, "id"));
            digests.insert(id, firing.collect());
            for of in held {
                if is_digest(&word(of, "rule")) {
                    keys.extend(ends(word(of, "id"), digests));
                } else if of["state"] == "resolved" {
                    keys.insert((word(of, "id"), Word::Ends));
                } else {
                    keys.insert((word(of, "id"), Word::Fires));
                    keys.extend(is_down(of).then(|| (word(of, "id"), Word::Down)));
                }
            }
        }
        None if is_digest(&word(body, "rule")) => keys.extend(ends(id, digests)),
        None if body["state"] == "resolved" => drop(keys.insert((id, Word::Ends))),
        // What refines or is worse is told on its own.
        None => {
            let is_first = body["revision"].as_u64().unwrap_or(0) == 0;
            let pages = is_first || word(body, "text").starts_with("WORSE ");
            keys.extend((pages && is_down(body)).then(|| (id.clone(), Word::Down)));
            keys.extend(is_first.then_some((id, Word::Fires)));
        }
    }
}

#[test]
fn through_incident_days_two_alerters_page_once_whichever_is_killed() {
    let (seed, days) = (asked_for("CROSSWATCH_SIM_SEED"), asked_for("CROSSWATCH_SIM_DAYS"));
    let range = match (seed, days) {
        (None, None) => FIXED,
        (seed, days) => seed.unwrap_or(0)..seed.unwrap_or(0) + days.unwrap_or(1),
    };
    let (begun, mut failed) = (std::time::Instant::now(), Vec::new());
    for seed in range {
        match lived(seed) {
            Ok(went) => println!("day {seed}: {went:?}"),
            Err(wrong) => {
                let first: Vec<&str> = wrong.iter().take(5).map(String::as_str).collect();
                println!("day {seed}: {} things are wrong:\n{}", wrong.len(), first.join("\n"));
                failed.push(seed);
            }
        }
    }
    println!("in {:?}", begun.elapsed());
    assert!(failed.is_empty(), "what is wrong with these days is told above: {failed:?}");
}
