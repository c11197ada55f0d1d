//! Where a replay reads from: in the order of time, whatever else goes on, and never with a silent skip.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::fmt::Write as _;
use std::path::Path;
use std::time::Duration;

use crosswatch_journal::{Policy, Writer, file, prepare, segments};
use crosswatch_judge::Engine;
use crosswatch_judge::rule::Rule;
use crosswatch_replay::source::{File, Journals, Piece, Source, SourceError, Wanted};
use crosswatch_replay::{line, replay, sort};
use crosswatch_shared::observation::{Batch, Observation};
use crosswatch_shared::wire::{PutBack, encode_batch, encode_put_back, encode_row};

use world::{at, batches, journal, lost, origin, outcome_of, topology, trouble};

fn journals(folder: &Path, wanted: Wanted) -> Result<Journals, SourceError> {
    Journals::open(["a", "b"].map(|site| (site.into(), folder.to_owned())), wanted)
}

/// Of link `l`: of the other nothing is seen here.
fn rule() -> Rule {
    Rule { subjects: vec!["l/*".to_owned()], ..lost("lost", 3) }
}

fn lines(source: &mut dyn Source) -> (Vec<String>, String) {
    let replayed = replay(vec![rule()], &topology(), source).unwrap();
    (replayed.transitions.iter().map(line).collect(), replayed.counts.to_string())
}

fn pieces(source: &mut dyn Source) -> Vec<Batch> {
    let mut batches = Vec::new();
    while let Some(piece) = source.next().unwrap() {
        if let Piece::Batch(batch, _) = piece {
            batches.push(batch);
        }
    }
    batches
}

#[test]
fn journals_of_several_sites_come_in_the_order_of_time() {
    let folder = tempfile::tempdir().unwrap();
    // More than a page of each, so that pages of both are read in turn.
    let outcomes = || (0..700).map(|_| Some(1.0));
    for site in ["a", "b"] {
        journal(folder.path(), site, &batches(site, outcomes()));
    }
    let mut source = journals(folder.path(), Wanted::default()).unwrap();
    let read = pieces(&mut source);
    assert_eq!(read.len(), 1_400);
    assert!(read.iter().is_sorted_by_key(|batch| batch.through), "out of order");
    assert_eq!(source.progress(), Some(1.0));
}

/// What is judged of a journal is what the alerter judges of the same batches: event time by their promises.
#[test]
fn a_journal_is_judged_as_its_batches_are_live() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = batches("a", trouble(20, (6, None), 5));
    // Then nothing of the probe, only signs of life, until its deadline has passed.
    seen.extend((31..60).map(|second| Batch {
        origin: origin("a"),
        number: second as u64,
        through: at(second),
        observations: Vec::new(),
    }));
    journal(folder.path(), "a", &seen);

    let mut engine = Engine::new(vec![rule()], &topology());
    let mut live = Vec::new();
    for batch in &seen {
        for observation in &batch.observations {
            engine.observe(&batch.origin, observation, &mut live);
        }
        engine.advance("a", &batch.origin.boot, batch.through, &mut live);
    }
    sort(&mut live);
    let (replayed, counts) = lines(&mut journals(folder.path(), Wanted::default()).unwrap());
    assert_eq!(replayed, live.iter().map(line).collect::<Vec<_>>());
    assert!(replayed.iter().any(|line| line.contains("unknown")), "{replayed:#?}");
    assert_eq!(counts, "judged 31 observations\nthere is no journal of b\n");
}

#[test]
fn a_journal_that_is_written_meanwhile_is_read_to_its_end_without_a_gap() {
    let folder = tempfile::tempdir().unwrap();
    let all = batches("a", (0..900).map(|_| Some(1.0)));
    let (before, after) = all.split_at(300);
    let mut writer = journal(folder.path(), "a", before);
    let mut source = journals(folder.path(), Wanted::default()).unwrap();
    let mut read = Vec::new();
    let mut appended = after.iter();
    while let Some(piece) = source.next().unwrap() {
        if let Piece::Batch(batch, _) = piece {
            read.push(batch);
        }
        // Faster than it is read, as long as there is more.
        for batch in appended.by_ref().take(2) {
            writer.append(batch, batch.through).unwrap();
        }
    }
    assert_eq!(read, all);
}

/// Begun in the middle of a boot, event time moves from its first batch on, also where an entry that follows is older.
#[test]
fn a_range_begins_anywhere_and_leaves_no_gap_behind_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = batches("a", trouble(40, (6, None), 60));
    // Whoever was waited for comes late: two entries whose observations are older than those before them.
    for late in [21, 22] {
        seen[late].observations[0].at = at(15);
    }
    journal(folder.path(), "a", &seen);
    let wanted = Wanted { since: at(20), until: at(60), ..Wanted::default() };
    let (replayed, counts) = lines(&mut journals(folder.path(), wanted).unwrap());
    assert_eq!(replayed.len(), 2, "{replayed:#?}");
    assert!(!counts.contains("gap"), "{counts}");
    assert!(counts.starts_with("judged 38 observations\n"), "{counts}");
    assert!(counts.contains("left out 2 outside of what was asked for"), "{counts}");
}

/// What is promised beyond the end of what is asked for must not make silent what was only left out.
#[test]
fn a_range_that_ends_in_a_batch_makes_nothing_unknown() {
    let mut seen = batches("a", (0..60).map(|_| Some(1.0)));
    let mut last = seen.split_off(20);
    let mut whole = last.remove(0);
    whole.observations.extend(last.iter().flat_map(|batch| batch.observations.clone()));
    whole.through = at(60);
    seen.push(whole);
    let folder = tempfile::tempdir().unwrap();
    journal(folder.path(), "a", &seen);
    let wanted = Wanted { until: at(22), ..Wanted::default() };
    let (replayed, _) = lines(&mut journals(folder.path(), wanted).unwrap());
    assert_eq!(replayed, Vec::<String>::new());
}

/// The other links' probes are not seen, which must not look as if they were silent.
#[test]
fn one_link_alone_says_nothing_of_the_others() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = batches("a", trouble(20, (6, None), 60));
    for batch in &mut seen {
        let Observation { at, seq, .. } = batch.observations[0];
        batch.observations.push(Observation { at, seq: seq + 1_000, body: outcome_of("m", "p", Some(1.0)) });
    }
    journal(folder.path(), "a", &seen);
    let wanted = Wanted { link: Some("l".to_owned()), ..Wanted::default() };
    let narrowed = wanted.narrow(topology());
    let source = &mut journals(folder.path(), wanted).unwrap();
    let replayed = replay(vec![lost("lost", 3)], &narrowed, source).unwrap();
    assert!(replayed.transitions.iter().all(|of| of.subject.starts_with("l/")), "{replayed:#?}");
    assert_eq!(replayed.transitions.len(), 2);
    assert_eq!(replayed.counts.unwanted, 86);
}

fn seal(folder: &Path, writer: &mut Writer) {
    let policy = Policy { after: Duration::ZERO, enough: 1, newest: 10, most: 20, ..Policy::default() };
    while let Some(prepared) = prepare(&file(folder, "a"), at(1_000), &[], policy).unwrap() {
        writer.seal(&prepared).unwrap().expect("the rows are there");
    }
}

#[test]
fn what_was_sealed_is_judged_as_what_was_not() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = journal(folder.path(), "a", &batches("a", trouble(30, (6, None), 64)));
    let ranges = [(0, 1_000), (20, 60), (33, 34), (95, 99)];
    let read = || {
        ranges.map(|(since, until)| {
            let wanted = Wanted { since: at(since), until: at(until), ..Wanted::default() };
            lines(&mut journals(folder.path(), wanted).unwrap())
        })
    };
    let rows = read();
    seal(folder.path(), &mut writer);
    assert_eq!(read(), rows);
    assert_eq!(rows[0].0.len(), 2);
}

/// What is read moves into segments under the reader's hand.
#[test]
fn a_journal_that_is_sealed_meanwhile_is_read_once_and_whole() {
    let folder = tempfile::tempdir().unwrap();
    let all = batches("a", (0..900).map(|_| Some(1.0)));
    let mut writer = journal(folder.path(), "a", &all);
    let mut source = journals(folder.path(), Wanted::default()).unwrap();
    let (mut read, mut at_once) = (Vec::new(), 1);
    while let Some(piece) = source.next().unwrap() {
        if let Piece::Batch(batch, _) = piece {
            read.push(batch);
        }
        if read.len() >= at_once {
            at_once *= 3;
            let policy =
                Policy { after: Duration::ZERO, enough: 1, newest: 10, most: 70, ..Policy::default() };
            for _ in 0..4 {
                if let Some(prepared) = prepare(&file(folder.path(), "a"), at(2_000), &[], policy).unwrap() {
                    writer.seal(&prepared).unwrap();
                }
            }
        }
    }
    assert_eq!(read, all);
}

/// It keeps nothing of its own: what it reads stays as it is, and it begins anew.
#[test]
fn a_replay_that_was_stopped_anywhere_says_the_same_when_it_begins_again() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = journal(folder.path(), "a", &batches("a", trouble(30, (6, None), 64)));
    let whole = lines(&mut journals(folder.path(), Wanted::default()).unwrap());
    assert_eq!(whole.0.len(), 2);
    for stopped in 0..100 {
        if stopped == 50 {
            seal(folder.path(), &mut writer);
        }
        let mut source = journals(folder.path(), Wanted::default()).unwrap();
        for _ in 0..stopped {
            source.next().unwrap();
        }
        drop(source);
        assert_eq!(lines(&mut journals(folder.path(), Wanted::default()).unwrap()), whole, "{stopped}");
    }
}

/// A journal that programs of several versions have written, and that has a batch twice.
#[test]
fn of_a_journal_what_is_of_other_versions_or_repeated_is_counted() {
    let folder = tempfile::tempdir().unwrap();
    let all = batches("a", (0..60).map(|_| Some(1.0)));
    let mut writer = journal(folder.path(), "a", &all[..20]);
    let text = encode_batch(&all[20]);
    let strange = text.replace(r#""observations":["#, r#""observations":[{"kind":"weather","at":5},"#);
    let newer = text.replacen('{', r#"{"v":9,"#, 1);
    let put_back = PutBack { origin: origin("a"), pages: false, observations: all[0].observations.clone() };
    let others = [strange, newer, encode_put_back(&put_back), text[..40].to_owned(), encode_batch(&all[3])];
    for text in others {
        writer.append_texts([(&all[20], text)], at(21)).unwrap();
    }
    for batch in &all[21..] {
        writer.append(batch, batch.through).unwrap();
    }
    let (replayed, counts) = lines(&mut journals(folder.path(), Wanted::default()).unwrap());
    assert_eq!(replayed, Vec::<String>::new());
    assert!(counts.starts_with("judged 60 observations\nskipped 1 seen before"), "{counts}");
    assert!(
        counts.contains("skipped 1 of a kind that this version does not know: in batches (1)"),
        "{counts}"
    );
    assert!(
        counts.contains("skipped 3 that cannot be read: entry 22 of the journal of a: wire version 9"),
        "{counts}"
    );
    assert!(
        counts.contains("entry 23 of the journal of a: a replay put these observations back"),
        "{counts}"
    );
    assert!(counts.contains("entry 24 of the journal of a: EOF"), "{counts}");
}

/// The rest of a journal is as good as it was, and what is lost is told.
#[test]
fn a_damaged_segment_is_left_out_and_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = journal(folder.path(), "a", &batches("a", (0..100).map(|_| Some(1.0))));
    seal(folder.path(), &mut writer);
    let segments = std::fs::read_dir(segments(&file(folder.path(), "a"))).unwrap();
    let mut segments: Vec<_> = segments.map(|entry| entry.unwrap().path()).collect();
    segments.sort();
    std::fs::write(&segments[1], b"CWSG\x01\0\0\0nothing").unwrap();
    let (_, counts) = lines(&mut journals(folder.path(), Wanted::default()).unwrap());
    assert!(counts.starts_with("judged 80 observations\n"), "{counts}");
    assert!(counts.contains("skipped 1 that cannot be read: a segment of the journal of a: "), "{counts}");
    assert!(counts.contains("entries 21 to 40"), "{counts}");
    assert!(counts.contains("1 gaps in the numbers of batches"), "{counts}");
}

#[test]
fn what_is_not_there_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let nothing = journals(folder.path(), Wanted::default()).unwrap_err();
    assert!(nothing.is_wrong_input());
    assert!(nothing.to_string().ends_with("there is no journal of a site of the config here; it has a, b"));
    journal(folder.path(), "a", &batches("a", [Some(1.0)]));
    journal(folder.path(), "elsewhere", &batches("elsewhere", [Some(1.0)]));
    let (_, counts) = lines(&mut journals(folder.path(), Wanted::default()).unwrap());
    assert_eq!(
        counts,
        "judged 1 observations\nskipped 1 journals of sites that the config lacks: elsewhere (1)\n\
         there is no journal of b\n"
    );
}

#[test]
fn a_batch_that_is_missing_holds_event_time_and_is_told() {
    let folder = tempfile::tempdir().unwrap();
    let mut seen = batches("a", (0..100).map(|_| Some(1.0)));
    // Near the end: it is waited for until there is no more.
    seen.remove(90);
    journal(folder.path(), "a", &seen);
    let (replayed, counts) = lines(&mut journals(folder.path(), Wanted::default()).unwrap());
    assert_eq!(replayed, Vec::<String>::new());
    assert_eq!(
        counts,
        "judged 99 observations\nthere is no journal of b\n1 gaps in the numbers of batches were passed over\n"
    );
}

/// A file as a killed writer, a newer program and a repeated export leave it.
#[test]
fn of_a_file_everything_that_is_skipped_is_counted() {
    let mut text = String::new();
    for batch in batches("a", trouble(5, (3, None), 2)) {
        writeln!(text, "{}", encode_row(&batch.origin, &batch.observations[0])).unwrap();
    }
    let again = text.lines().next().unwrap().to_owned();
    let weather = again.replace(r#""kind":"probe""#, r#""kind":"weather""#);
    let foreign = again.replace(r#""link":"l""#, r#""link":"x""#).replace(r#""seq":0"#, r#""seq":900"#);
    write!(text, "\n{again}\n{weather}\n{foreign}\n{}", &again[..50]).unwrap();
    let source = |wanted| File::new(text.as_bytes(), "seen.jsonl", Some(text.len() as u64), wanted);
    let (replayed, counts) = lines(&mut source(Wanted::default()));
    assert_eq!(replayed.len(), 2, "{replayed:#?}");
    assert_eq!(
        counts,
        "judged 10 observations\nskipped 1 seen before (same collector, boot and seq)\n\
         skipped 1 that the config lacks: x/a/p (1)\n\
         skipped 1 of a kind that this version does not know: weather (1)\nskipped a last line that is cut off\n"
    );
    let (replayed, counts) = lines(&mut source(Wanted { until: at(5), ..Wanted::default() }));
    assert!(replayed.is_empty());
    assert!(counts.contains("left out 5 outside of what was asked for"), "{counts}");
}

#[test]
fn a_pace_is_so_many_times_as_fast() {
    let mut pace = crosswatch_replay::pace::Pace::new(10.0);
    let due: Vec<Duration> = batches("a", (0..31).map(|_| Some(1.0)))
        .into_iter()
        .map(|batch| pace.due(&Piece::Batch(batch.clone(), batch.through)))
        .collect();
    assert_eq!((due[0], due[10], due[30]), (Duration::ZERO, Duration::from_secs(1), Duration::from_secs(3)));
}
