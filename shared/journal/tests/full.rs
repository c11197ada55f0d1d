//! A full disk: what was appended before stays, and appending works again once there is room.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod batches;

use std::fs;

use batches::batch;
use crosswatch_journal::{Reader, Writer, file};
use crosswatch_shared::time::Timestamp;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};

/// Mounting takes root; whoever is not is told so.
#[test]
fn the_writer_goes_on_when_a_full_disk_has_room_again() {
    if !nix::unistd::geteuid().is_root() {
        eprintln!("NOT RUN: only root can mount a small disk to fill");
        return;
    }
    let folder = tempfile::tempdir().unwrap();
    // In a mount namespace of this thread alone, which goes with it.
    unshare(CloneFlags::CLONE_NEWNS).unwrap();
    let none = None::<&str>;
    mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
    mount(Some("tmpfs"), folder.path(), Some("tmpfs"), MsFlags::empty(), Some("size=4m")).unwrap();

    let mut writer = Writer::open(folder.path(), "a").unwrap();
    let mut reader = Reader::open(&file(folder.path(), "a")).unwrap();
    let now = Timestamp::from_secs(1_795_330_801);
    fs::write(folder.path().join("ballast"), vec![1; 1 << 20]).unwrap();
    let mut written = 0;
    let error = loop {
        match writer.append(&batch(written, 100, 100), now) {
            Ok(id) => written = id as u64,
            Err(error) => break error,
        }
        assert!(written < 10_000, "the disk never got full");
    };
    assert!(error.is_full(), "{error}");
    let text = error.to_string();
    assert!(text.contains("a.db: ") && text.contains("free the disk"), "{text}");
    for _ in 0..3 {
        assert!(writer.append(&batch(written, 100, 100), now).unwrap_err().is_full());
    }
    let there = reader.after(0, usize::MAX, usize::MAX).unwrap();
    assert_eq!(there.len() as u64, written, "all that was acknowledged, nothing more");

    fs::remove_file(folder.path().join("ballast")).unwrap();
    assert_eq!(writer.append(&batch(written, 100, 100), now).unwrap() as u64, written + 1);
    drop(writer);
    let mut writer = Writer::open(folder.path(), "a").unwrap();
    assert_eq!(writer.append(&batch(written, 100, 100), now).unwrap() as u64, written + 2);
    assert_eq!(reader.after(0, usize::MAX, usize::MAX).unwrap().len() as u64, written + 2);
}
