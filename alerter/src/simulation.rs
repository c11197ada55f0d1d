//! The alerter's real loop in a simulated world: queue, clocks, disk and receivers delay, duplicate, reorder, fail and die, at
//! any step, through incident days of many links.
//!
//! A seed decides everything, so that a day can be lived through again. What must hold of each day:
//!
//! - no incident without its page, no page without its incident, each `firing` with its `resolved`, each told once (an
//!   answer that got lost, or a death before its record, may repeat one), and nobody told more than its limit;
//! - what falls into a silence is told to nobody, and once the silence is over what still fires is;
//! - of what an alerter was not there for, what is over is told by one digest and what still fires by one page, once it has
//!   read all of it; and nothing that a fresh batch decides waits for that;
//! - the same transitions as the pure engine's, whatever the order of arrival, as long as it keeps each site's own;
//! - the same final state for any order;
//! - the journals, and what the alerter wrote down of its own decisions, judged once more come to the same transitions.
//!
//! By hand, thousands of days: `CROSSWATCH_SIM_DAYS=5000 cargo test --release -p crosswatch-alerter simulation`, from
//! `CROSSWATCH_SIM_SEED` on.

mod again;
mod behind;
pub(crate) mod books;
mod broker;
mod days;
#[allow(unsafe_code)]
mod disk;
mod duo;
mod fate;
mod hush;
mod life;
pub(crate) mod oracle;
mod orders;
mod quiet;
mod receivers;
mod time;
mod weather;
mod world;

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::panic::catch_unwind;

use crosswatch_judge::{State, SubjectState};

use books::Books;
use days::Day;
use life::Stage;
use oracle::Expected;
pub(crate) use receivers::Receivers;

/// The days that are always lived through.
const FIXED: std::ops::Range<u64> = 0..20;

/// How a day went.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Went {
    lives: usize,
    transitions: usize,
    incidents: usize,
    taken: usize,
    repeats: usize,
    /// Incidents that a silence muted from their beginning to their end.
    silenced: usize,
    /// Pages that were kept back while the alerter was behind.
    behind: usize,
    awake_secs: u64,
    /// Transitions of the day judged once more, and what was decided besides batches.
    again: usize,
    decisions: usize,
    /// Of everything that was said.
    hash: u64,
}

/// Lives through a day: how it went, or all that was wrong.
fn lived(seed: u64) -> Result<Went, Vec<String>> {
    let mut rng = fastrand::Rng::with_seed(seed);
    let day = Day::draw(&mut rng);
    let expected = oracle::judge(&day);
    // In memory where there is some: what the simulation calls safe need not be so on this machine.
    let memory = std::path::Path::new("/dev/shm");
    let folder = if memory.is_dir() { tempfile::tempdir_in(memory) } else { tempfile::tempdir() };
    let folder = folder.expect("a folder for the day");
    let runtime = tokio::runtime::Builder::new_current_thread().enable_time().start_paused(true).build();
    runtime.expect("a runtime").block_on(async {
        let mut stage = Stage::set(rng.u64(..), &day, folder.path());
        stage.play().await;
        let mut wrong = std::mem::take(&mut stage.wrong);
        wrong.extend(stage.receivers.wrong());
        let mut judged_again = (0, 0);
        let books = Books::read(&stage.file()).map_err(|error| vec![error.to_string()])?;
        if wrong.is_empty() {
            compare(&day, &expected, &books, &mut wrong);
            books.check_incidents(&mut wrong);
            quiet::check(&day.world, &books, &stage.broker.pages(), &stage.lives, &mut wrong);
        }
        if wrong.is_empty() {
            let judged = again::compare(&day, &books, folder.path(), &mut wrong);
            judged_again = judged.map_err(|error| vec![error.to_string()])?;
        }
        let silenced = day.hush.check(&day.world, &stage.file(), stage.time.wall(), &mut wrong);
        let silenced = silenced.map_err(|error| vec![error.to_string()])?;
        let behind = behind::check(&stage.file(), &stage.broker.pages(), &stage.lives, &mut wrong);
        let behind = behind.map_err(|error| vec![error.to_string()])?;
        let taken = stage.receivers.taken();
        let repeats = books.check_pages(&day.world.config, &taken, &stage.lives, &mut wrong);
        let mut hasher = DefaultHasher::new();
        for one in &taken {
            (&one.receiver, &one.channel, &one.body, one.at).hash(&mut hasher);
        }
        let went = Went {
            lives: stage.lives.ends.len(),
            transitions: books.told.values().map(Vec::len).sum(),
            incidents: books.incidents(),
            taken: taken.len(),
            repeats,
            silenced,
            behind,
            awake_secs: stage.time.awake().as_secs(),
            again: judged_again.0,
            decisions: judged_again.1,
            hash: hasher.finish(),
        };
        if wrong.is_empty() { Ok(went) } else { Err(wrong) }
    })
}

/// The alerter's transitions and final state against the pure engine's.
fn compare(day: &Day, expected: &Expected, books: &Books, wrong: &mut Vec<String>) {
    if day.world.keeps_order {
        let configured = |rule: &str| day.world.config.rules.iter().any(|of| *of.rule.name == *rule);
        let found = books.told.iter().filter(|(of, _)| configured(&of.0));
        for (of, told) in found {
            if expected.told.get(of) != Some(told) {
                wrong.push(format!("{of:?} told {told:#?}, and not {:#?}", expected.told.get(of)));
            }
        }
        let missing = expected.told.keys().filter(|of| !books.told.contains_key(*of));
        wrong.extend(missing.map(|of| format!("{of:?} told nothing, and not {:#?}", expected.told[of])));
    }
    let decided = |subject: &&SubjectState| day.world.keeps_order || day.decides(subject);
    for subject in expected.subjects.iter().filter(decided) {
        let of = (subject.rule.to_string(), subject.subject.to_string());
        let state = if subject.state == State::Resolved { State::Ok } else { subject.state };
        // A subject that no config names has a row once something was told of it.
        let found = books.states.get(&of).cloned().unwrap_or((State::Ok.word().to_owned(), false));
        if found != (state.word().to_owned(), subject.firing) {
            let told = books.told.get(&of);
            wrong.push(format!("in the end {of:?} is {found:?}, and not {subject:?}; it told {told:#?}"));
        }
    }
}

/// Lives through a day: how it went, or what was wrong and how to see it again.
fn live(seed: u64) -> Result<Went, String> {
    let wrong = match catch_unwind(|| lived(seed)) {
        Ok(Ok(went)) => return Ok(went),
        Ok(Err(wrong)) => wrong,
        Err(_) => vec!["a panic, told above".to_owned()],
    };
    let first: Vec<&str> = wrong.iter().take(5).map(String::as_str).collect();
    Err(format!(
        "day {seed}: {} things are wrong:\n{}\nonce more: CROSSWATCH_SIM_SEED={seed} cargo test -p crosswatch-alerter \
         simulation -- --nocapture\n",
        wrong.len(),
        first.join("\n"),
    ))
}

fn asked_for(name: &str) -> Option<u64> {
    std::env::var(name).ok().map(|text| text.parse().expect("CROSSWATCH_SIM_SEED and _DAYS are numbers"))
}

#[test]
fn through_incident_days_each_page_is_true_arrives_once_and_has_its_end() {
    let (seed, days) = (asked_for("CROSSWATCH_SIM_SEED"), asked_for("CROSSWATCH_SIM_DAYS"));
    let range = match (seed, days) {
        (None, None) => FIXED,
        (seed, days) => seed.unwrap_or(0)..seed.unwrap_or(0) + days.unwrap_or(1),
    };
    let begun = std::time::Instant::now();
    let mut all = Went::default();
    let mut failed = Vec::new();
    for seed in range.clone() {
        let went = match live(seed) {
            Ok(went) => went,
            Err(problem) => {
                println!("{problem}");
                failed.push(seed);
                continue;
            }
        };
        if seed.is_multiple_of(100) || range.end - range.start < 50 {
            println!("day {seed}: {went:?}");
        }
        all.lives += went.lives;
        all.transitions += went.transitions;
        all.incidents += went.incidents;
        all.taken += went.taken;
        all.repeats += went.repeats;
        all.silenced += went.silenced;
        all.behind += went.behind;
        all.awake_secs += went.awake_secs;
        all.again += went.again;
        all.decisions += went.decisions;
    }
    println!("{} days in {:?}: {all:?}", range.end - range.start, begun.elapsed());
    assert!(range != FIXED || all.behind > 0, "nobody was ever behind");
    assert!(failed.is_empty(), "what is wrong with these days is told above: {failed:?}");
}

#[test]
fn a_day_lived_through_again_is_the_same() {
    assert_eq!(live(1).unwrap(), live(1).unwrap());
}
