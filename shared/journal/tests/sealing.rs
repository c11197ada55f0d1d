//! Sealing: old entries become columns and are read as before, and whoever is killed in between loses nothing.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::fs;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use batches::batch;
use crosswatch_journal::{
    Content, Entry, JournalError, Policy, Position, Reader, Sealing, Writer, file, prepare, segments,
};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::encode_batch;
use rusqlite::Connection;

/// Seals all but the newest ten.
const POLICY: Policy = Policy {
    after: Duration::from_secs(60),
    enough: 1,
    longest: Duration::from_hours(1),
    most: 400,
    newest: 10,
};

fn at(secs: i64) -> Timestamp {
    Timestamp::from_secs(secs)
}

/// Long after everything was written.
fn later() -> Timestamp {
    at(1_000_000)
}

/// Batch n, from 0, of ten observations, is made and written in second n; its id is n + 1.
fn append(writer: &mut Writer, batches: std::ops::Range<u64>) {
    for number in batches {
        writer.append(&batch(number, number as i64, 10), at(number as i64)).unwrap();
    }
}

fn begun(folder: &Path, batches: u64) -> Writer {
    let mut writer = Writer::open(folder, "a").unwrap();
    append(&mut writer, 0..batches);
    writer
}

fn seal_all(writer: &mut Writer, folder: &Path) -> u64 {
    let mut batches = 0;
    while let Some(prepared) = prepare(&file(folder, "a"), later(), &[], POLICY).unwrap() {
        batches += writer.seal(&prepared).unwrap().expect("the rows are there").batches;
    }
    batches
}

fn reader(folder: &Path) -> Reader {
    Reader::open(&file(folder, "a")).unwrap()
}

fn all(folder: &Path) -> Vec<Entry> {
    let (mut reader, mut entries) = (reader(folder), Vec::<Entry>::new());
    loop {
        let page = reader.after(entries.last().map_or(0, |entry| entry.id), 7, usize::MAX).unwrap();
        if page.is_empty() {
            return entries;
        }
        entries.extend(page);
    }
}

fn files(folder: &Path) -> Vec<PathBuf> {
    let Ok(files) = fs::read_dir(segments(&file(folder, "a"))) else { return Vec::new() };
    let mut files: Vec<_> = files.map(|entry| entry.unwrap().path()).collect();
    files.sort();
    files
}

#[test]
fn what_was_sealed_is_read_as_before_byte_for_byte() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 200);
    // A newer program's batch, and one that means nothing.
    let db = Connection::open(file(folder.path(), "a")).unwrap();
    for (id, payload) in [(20, r#"{"v":9}"#), (21, "nonsense")] {
        db.execute("UPDATE batch SET payload = ?1 WHERE id = ?2", (payload.as_bytes(), id)).unwrap();
    }
    let before = all(folder.path());
    let range = |since, until| {
        let (mut reader, mut entries) = (reader(folder.path()), Vec::<Entry>::new());
        loop {
            let page = reader.range(at(since), at(until), entries.last(), 9, usize::MAX).unwrap();
            if page.is_empty() {
                // Of what means nothing nobody knows when it was made.
                let known = entries.into_iter().filter(|entry| ![20, 21].contains(&entry.id));
                return known.map(|entry| (entry.id, entry.last_at)).collect::<Vec<_>>();
            }
            entries.extend(page);
        }
    };
    let newest = || {
        let (mut reader, mut ids) = (reader(folder.path()), Vec::new());
        while let page = reader.newest(ids.last().copied(), 30, usize::MAX).unwrap()
            && !page.is_empty()
        {
            ids.extend(page.into_iter().map(|entry| entry.id));
        }
        ids
    };
    let backlog = |id| reader(folder.path()).backlog(id).unwrap();
    let backlogs = || [0, 5, 95, 195, 200].map(backlog);
    let read = (range(0, 1_000_000), range(50, 120), newest(), backlogs());

    assert_eq!(seal_all(&mut writer, folder.path()), 190);
    assert!(files(folder.path()).len() > 3);
    let after = all(folder.path());
    assert_eq!(after.len(), 200);
    for (before, after) in before.iter().zip(&after) {
        assert_eq!((before.id, before.written_at), (after.id, after.written_at));
        assert_eq!(before.payload, after.payload, "entry {}", before.id);
    }
    assert_eq!((range(0, 1_000_000), range(50, 120), newest(), backlogs()), read);

    let stored = reader(folder.path()).stored(at(0), later(), None, 3, usize::MAX).unwrap();
    assert!(matches!(&stored[0].content, Content::Batch(first) if *first == batch(0, 0, 10)), "{stored:?}");
    // And goes on as it was, also when it is opened anew.
    drop(writer);
    let mut writer = Writer::open(folder.path(), "a").unwrap();
    append(&mut writer, 200..210);
    assert_eq!(all(folder.path()).len(), 210);
    assert_eq!(backlog(0).observations, 2_100);
}

#[test]
fn a_reader_misses_nothing_of_what_is_sealed_between_its_pages() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 100);
    let mut reader = reader(folder.path());
    let mut ids = Vec::new();
    let mut next = 100;
    loop {
        let page = reader.after(ids.last().copied().unwrap_or(0), 13, usize::MAX).unwrap();
        if page.is_empty() {
            break;
        }
        ids.extend(page.into_iter().map(|entry| entry.id));
        if next < 400 {
            append(&mut writer, next..next + 20);
            next += 20;
        }
        if let Some(prepared) = prepare(&file(folder.path(), "a"), later(), &[], POLICY).unwrap() {
            writer.seal(&prepared).unwrap();
        }
    }
    assert_eq!(ids, (1..=400).collect::<Vec<_>>());
    assert!(files(folder.path()).len() > 5);
}

#[test]
fn only_what_is_old_and_was_had_by_every_consumer_is_sealed() {
    let folder = tempfile::tempdir().unwrap();
    let _writer = begun(folder.path(), 100);
    let sealed = |now, consumers: &[Position], policy| {
        prepare(&file(folder.path(), "a"), now, consumers, policy).unwrap().is_some()
    };
    let had = |id| [Position { consumer: "alerter".to_owned(), id }];
    assert!(!sealed(at(60), &[], POLICY), "nothing is a minute old");
    assert!(!sealed(later(), &had(0), POLICY), "the alerter has had nothing");
    let many = Policy { enough: 100_000, longest: Duration::from_hours(1_000), ..POLICY };
    assert!(!sealed(later(), &[], many), "too few to fill a segment");
    assert!(sealed(later(), &[], Policy { longest: Duration::from_hours(2), ..many }), "but they are old");
    assert!(sealed(at(70), &had(5), POLICY));
}

/// At each point where a writer can be killed: the file is half written, whole, in its place, and recorded.
#[test]
fn killed_at_any_step_everything_is_there_once_and_nothing_is_left_over() {
    let folder = tempfile::tempdir().unwrap();
    let before = {
        drop(begun(folder.path(), 100));
        all(folder.path())
    };
    let journal = file(folder.path(), "a");
    for step in ["half", "unfinished", "in place", "recorded"] {
        let mut writer = Writer::open(folder.path(), "a").unwrap();
        let prepared = prepare(&journal, later(), &[], POLICY).unwrap().expect("there is more");
        let newest = files(folder.path()).pop().unwrap();
        let unfinished = newest.with_extension("unfinished");
        match step {
            "half" => {
                let bytes = fs::read(&newest).unwrap();
                fs::write(&unfinished, &bytes[..bytes.len() / 2]).unwrap();
                fs::remove_file(&newest).unwrap();
            }
            "unfinished" => fs::rename(&newest, &unfinished).unwrap(),
            "in place" => {}
            _ => drop(writer.seal(&prepared).unwrap().expect("the rows are there")),
        }
        drop((writer, prepared));
        assert_eq!(all(folder.path()), before, "{step}");
        drop(Writer::open(folder.path(), "a").unwrap());
        assert_eq!(all(folder.path()), before, "{step}");
        let left = files(folder.path()).len();
        assert_eq!(left, usize::from(step == "recorded"), "{step}: {:?}", files(folder.path()));
    }
}

const FOLDER: &str = "CROSSWATCH_SEAL_TEST_FOLDER";

/// Appends and seals until it is killed, when started as a child; else nothing.
#[test]
fn child() {
    let Ok(folder) = std::env::var(FOLDER) else { return };
    let folder = Path::new(&folder);
    let mut writer = Writer::open(folder, "a").unwrap();
    let mut sealing = Sealing::new(POLICY);
    let mut next = all(folder).last().map_or(0, |entry| entry.id as u64);
    loop {
        append(&mut writer, next..next + 5);
        next += 5;
        println!("\ndone:{next}");
        sealing.step(&mut writer, later(), &[]).unwrap();
    }
}

/// `kill -9` at random moments of appending and sealing.
#[test]
fn what_was_acknowledged_is_there_once_however_often_a_sealing_writer_is_killed() {
    let folder = tempfile::tempdir().unwrap();
    let mut acknowledged = 0;
    let mut random = 0x5EED_u64;
    for _ in 0..12 {
        random = random.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        let lines = (random >> 33) % 25 + 1;
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child", "--nocapture"])
            .env(FOLDER, folder.path())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap());
        let done =
            said.lines().map_while(Result::ok).filter_map(|line| line.strip_prefix("done:")?.parse().ok());
        let done: Vec<u64> = done.take(lines as usize).collect();
        child.kill().unwrap();
        child.wait().unwrap();
        acknowledged = *done.last().expect("the child did work");
        let there = all(folder.path());
        assert!(there.len() as u64 >= acknowledged, "{} of {acknowledged}", there.len());
        for (number, entry) in there.iter().enumerate() {
            let wanted = encode_batch(&batch(number as u64, number as i64, 10)).into_bytes();
            assert_eq!((entry.id, &entry.payload), (number as i64 + 1, &wanted));
        }
    }
    let recorded: i64 = Connection::open(file(folder.path(), "a"))
        .unwrap()
        .query_row("SELECT count(*) FROM segment", [], |row| row.get(0))
        .unwrap();
    assert!(recorded > 2, "{recorded} segments of {acknowledged} entries");
}

/// With no room for the segment the rows stay, and nothing half written does.
#[test]
fn what_cannot_be_written_stays_as_it_was() {
    let folder = tempfile::tempdir().unwrap();
    let _writer = begun(folder.path(), 100);
    let before = all(folder.path());
    // A folder stands where the file is to go.
    let place = segments(&file(folder.path(), "a")).join(format!("{:020}-{:020}.seg", 1, 40));
    fs::create_dir_all(place.join("in the way")).unwrap();
    let error = prepare(&file(folder.path(), "a"), later(), &[], POLICY).unwrap_err();
    assert!(error.to_string().contains("entries 1 to 40"), "{error}");
    assert_eq!((all(folder.path()), files(folder.path())), (before, vec![place]));
}

#[test]
fn a_segment_that_came_too_late_changes_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 100);
    let prepared = prepare(&file(folder.path(), "a"), later(), &[], POLICY).unwrap().unwrap();
    writer.prune(at(10), Duration::from_secs(1), u64::MAX, &[]).unwrap();
    let before = all(folder.path());
    assert!(before.len() < 100);
    assert_eq!(writer.seal(&prepared).unwrap(), None);
    assert_eq!((all(folder.path()), files(folder.path())), (before, Vec::new()));
}

#[test]
fn segments_go_by_age_and_for_want_of_room_as_rows_do() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 100);
    seal_all(&mut writer, folder.path());
    let count = files(folder.path()).len();
    let alerter = |id| [Position { consumer: "alerter".to_owned(), id }];
    let keep = Duration::from_secs(100);
    let young = writer.prune(at(130), keep, u64::MAX, &[]).unwrap();
    assert_eq!(young.batches, 0, "a segment goes when the last of it is old");
    let had = writer.prune(at(145), keep, u64::MAX, &alerter(39)).unwrap();
    assert_eq!((had.batches, files(folder.path()).len()), (0, count), "the alerter has had 39 of 40");
    let pruned = writer.prune(at(145), keep, u64::MAX, &alerter(40)).unwrap();
    assert_eq!((pruned.batches, pruned.observations, pruned.more), (40, 400, true));
    assert_eq!((files(folder.path()).len(), all(folder.path())[0].id), (count - 1, 41));
    // For want of room: had or not, and whose gap it is is told.
    let bytes = writer.bytes().unwrap();
    let gap = writer.prune(at(145), keep, bytes - 1, &alerter(60)).unwrap();
    assert_eq!((gap.dropped[0].batches, gap.dropped[0].consumer.as_str()), (20, "alerter"), "{gap:?}");
    assert!(writer.bytes().unwrap() < bytes);
}

#[test]
fn a_segment_that_is_damaged_or_gone_is_named_with_what_was_in_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut writer = begun(folder.path(), 100);
    seal_all(&mut writer, folder.path());
    let first = files(folder.path()).remove(0);
    let mut bytes = fs::read(&first).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 1;
    fs::write(&first, bytes).unwrap();
    let told = || reader(folder.path()).after(0, 1, usize::MAX).unwrap_err();
    assert!(matches!(told(), JournalError::Segment { first: 1, last: 40, .. }));
    assert!(told().to_string().contains("damaged: its checksum is another; entries 1 to 40"), "{}", told());
    fs::remove_file(&first).unwrap();
    assert!(!told().is_full() && told().to_string().contains("entries 1 to 40"), "{}", told());
    assert_eq!(reader(folder.path()).after(40, 1, usize::MAX).unwrap()[0].id, 41);
}

/// A journal of a program that sealed nothing is read as it is, and sealed once a newer one writes it.
#[test]
fn an_older_journal_is_read_and_then_sealed() {
    let folder = tempfile::tempdir().unwrap();
    drop(begun(folder.path(), 100));
    let db = Connection::open(file(folder.path(), "a")).unwrap();
    db.execute_batch("DROP TABLE segment; PRAGMA user_version = 1").unwrap();
    let mut reader = reader(folder.path());
    assert_eq!(reader.after(0, 1_000, usize::MAX).unwrap().len(), 100);
    let mut writer = Writer::open(folder.path(), "a").unwrap();
    assert_eq!(seal_all(&mut writer, folder.path()), 90);
    assert_eq!(reader.after(0, 1_000, usize::MAX).unwrap()[0].id, 1);
    assert_eq!(reader.backlog(0).unwrap().batches, 100);
}
