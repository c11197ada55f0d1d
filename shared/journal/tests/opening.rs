//! What the journal does with a file or folder that is not as it should be: a clear error, and nothing changed.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::fs;
use std::os::unix::fs::{FileExt, PermissionsExt};
use std::path::Path;

use batches::batch;
use crosswatch_journal::{JournalError, Reader, Writer, bell, file};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire;

const NOW: Timestamp = Timestamp::from_secs(1_795_330_801);

fn begun(folder: &Path, batches: u64) {
    let mut writer = Writer::open(folder, "a").unwrap();
    for number in 0..batches {
        writer.append(&batch(number, 100, 10), NOW).unwrap();
    }
}

/// Opens for both purposes, asserts that both say the same and that the file is as it was.
fn refused(folder: &Path) -> String {
    let path = file(folder, "a");
    let before = fs::read(&path).unwrap();
    let writing = Writer::open(folder, "a").unwrap_err();
    assert!(!writing.is_full(), "trying again does not help: {writing}");
    assert_eq!(fs::read(&path).unwrap(), before, "nothing is changed");
    let reading = Reader::open(&path).unwrap_err();
    assert_eq!(reading.to_string(), writing.to_string());
    assert_eq!(fs::read(&path).unwrap(), before, "nothing is changed");
    let text = writing.to_string();
    assert!(text.contains(path.to_str().unwrap()), "names the file: {text}");
    text
}

#[test]
fn what_was_written_is_there_after_opening_again_with_ids_going_on() {
    let folder = tempfile::tempdir().unwrap();
    begun(folder.path(), 3);
    let mut writer = Writer::open(folder.path(), "a").unwrap();
    assert_eq!(writer.append_all(&[batch(3, 100, 10), batch(4, 100, 10)], NOW).unwrap(), 5);
    let mut reader = Reader::open(&file(folder.path(), "a")).unwrap();
    let entries = reader.after(0, 100, usize::MAX).unwrap();
    assert_eq!(entries.iter().map(|entry| entry.id).collect::<Vec<_>>(), [1, 2, 3, 4, 5]);
    for (number, entry) in entries.iter().enumerate() {
        let message = wire::encode_batch(&batch(number as u64, 100, 10));
        assert_eq!(entry.payload, message.as_bytes(), "the wire form, byte for byte");
        assert_eq!(entry.written_at, NOW);
    }
}

#[test]
fn a_foreign_file_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    fs::write(file(folder.path(), "a"), "the shopping list, longer than a header would be\n".repeat(90))
        .unwrap();
    assert!(refused(folder.path()).contains("this is no journal of Crosswatch"));

    fs::remove_file(file(folder.path(), "a")).unwrap();
    let other = rusqlite::Connection::open(file(folder.path(), "a")).unwrap();
    other.execute_batch("CREATE TABLE list (item TEXT); INSERT INTO list VALUES ('bread')").unwrap();
    drop(other);
    assert!(refused(folder.path()).contains("this is no journal of Crosswatch"));
}

#[test]
fn a_newer_journal_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    begun(folder.path(), 3);
    let newer = rusqlite::Connection::open(file(folder.path(), "a")).unwrap();
    newer.pragma_update(None, "user_version", 7).unwrap();
    drop(newer);
    let text = refused(folder.path());
    assert!(text.contains("has version 7, this program knows up to 2"), "{text}");
    assert!(text.contains("upgrade the program"), "{text}");
}

#[test]
fn a_damaged_journal_is_refused_and_kept() {
    let folder = tempfile::tempdir().unwrap();
    begun(folder.path(), 100);
    let damaged = fs::OpenOptions::new().write(true).open(file(folder.path(), "a")).unwrap();
    damaged.write_all_at(&[0xA5; 3_000], 110).unwrap();
    assert!(refused(folder.path()).contains("is damaged and is left as it is"));

    let length = damaged.metadata().unwrap().len();
    fs::remove_file(file(folder.path(), "a")).unwrap();
    begun(folder.path(), 100);
    let torn = fs::OpenOptions::new().write(true).open(file(folder.path(), "a")).unwrap();
    torn.set_len(length / 2).unwrap();
    assert!(refused(folder.path()).contains("is damaged and is left as it is"));
}

#[test]
fn damage_inside_is_an_error_of_the_read_that_meets_it() {
    let folder = tempfile::tempdir().unwrap();
    begun(folder.path(), 200);
    let path = file(folder.path(), "a");
    let damaged = fs::OpenOptions::new().write(true).open(&path).unwrap();
    let length = damaged.metadata().unwrap().len();
    damaged.write_all_at(&[0xA5; 4_096], length / 2 / 4_096 * 4_096).unwrap();
    let mut reader = Reader::open(&path).unwrap();
    assert_eq!(reader.after(0, 3, usize::MAX).unwrap().len(), 3, "what is sound is read");
    let error = reader.after(0, usize::MAX, usize::MAX).unwrap_err();
    assert!(matches!(error, JournalError::Corrupt { .. }), "{error}");
}

#[test]
fn a_missing_folder_is_named_and_only_the_journals_own_is_made() {
    let parent = tempfile::tempdir().unwrap();
    let error = Writer::open(&parent.path().join("data/journal"), "a").unwrap_err();
    let text = error.to_string();
    assert!(text.contains("data/journal: No such file"), "{text}");
    assert!(!parent.path().join("data").exists());
    Writer::open(&parent.path().join("journal"), "a").unwrap();
}

#[test]
fn a_folder_that_may_not_be_written_is_named() {
    let folder = tempfile::tempdir().unwrap();
    begun(folder.path(), 1);
    let path = file(folder.path(), "a");
    let before = fs::read(&path).unwrap();
    let text = if nix::unistd::geteuid().is_root() {
        // Permissions do not bind root; a read-only mount does, in a mount namespace of this thread alone.
        use nix::mount::{MsFlags, mount};
        nix::sched::unshare(nix::sched::CloneFlags::CLONE_NEWNS).unwrap();
        let none = None::<&str>;
        mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
        let bind = MsFlags::MS_BIND;
        mount(Some(folder.path()), folder.path(), none, bind, none).unwrap();
        mount(none, folder.path(), none, bind | MsFlags::MS_REMOUNT | MsFlags::MS_RDONLY, none).unwrap();
        Writer::open(folder.path(), "a").unwrap_err().to_string()
    } else {
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o500)).unwrap();
        fs::remove_file(bell(folder.path(), "a")).unwrap_err();
        fs::set_permissions(bell(folder.path(), "a"), fs::Permissions::from_mode(0o400)).unwrap();
        let text = Writer::open(folder.path(), "a").unwrap_err().to_string();
        fs::set_permissions(folder.path(), fs::Permissions::from_mode(0o700)).unwrap();
        text
    };
    assert!(text.contains(folder.path().to_str().unwrap()), "{text}");
    assert!(text.contains("the folder must be there and writable"), "{text}");
    assert_eq!(fs::read(&path).unwrap(), before);
}

#[test]
fn a_second_writer_is_told_who_the_first_is() {
    let folder = tempfile::tempdir().unwrap();
    let first = Writer::open(folder.path(), "a").unwrap();
    let text = Writer::open(folder.path(), "a").unwrap_err().to_string();
    let holder = format!("the journal of site 'a' is being written by process {}", std::process::id());
    assert!(text.contains(&holder), "{text}");
    Writer::open(folder.path(), "b").unwrap();
    drop(first);
    Writer::open(folder.path(), "a").unwrap();
}

#[test]
fn a_site_cannot_reach_out_of_the_folder() {
    let folder = tempfile::tempdir().unwrap();
    for site in ["", "..", "../b", "a/b", ".hidden", "a\nb"] {
        let error = Writer::open(folder.path(), site).unwrap_err();
        assert!(matches!(error, JournalError::SiteName { .. }), "{site}: {error}");
    }
    assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 0);
}

#[test]
fn a_reader_waits_for_the_journal_and_follows_it_when_it_is_begun_anew() {
    let folder = tempfile::tempdir().unwrap();
    let mut reader = Reader::open(&file(folder.path(), "a")).unwrap();
    assert_eq!(reader.after(0, 10, usize::MAX).unwrap(), []);
    assert_eq!(reader.identity().unwrap(), None);

    begun(folder.path(), 3);
    assert_eq!(reader.after(0, 10, usize::MAX).unwrap().len(), 3);
    let first = reader.identity().unwrap().unwrap().to_owned();

    for left in fs::read_dir(folder.path()).unwrap() {
        fs::remove_file(left.unwrap().path()).unwrap();
    }
    begun(folder.path(), 1);
    assert_eq!(reader.after(0, 10, usize::MAX).unwrap().len(), 1);
    assert_ne!(reader.identity().unwrap(), Some(first.as_str()));
}
