//! What is put back is what was seen, in messages of whole periods, with all that is not put back counted.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

mod world;

use std::collections::BTreeSet;
use std::time::Duration;

use crosswatch_journal::Reader;
use crosswatch_queue::put_back;
use crosswatch_replay::PutBackOf;
use crosswatch_replay::put_back::{Desk, MOST, Packing};
use crosswatch_replay::source::Piece;
use crosswatch_shared::observation::Observation;
use crosswatch_shared::wire::{Message, Names, PutBack, decode_message};

use world::{at, batches, origin, outcome_of, topology, trouble};

const PERIOD: Duration = Duration::from_secs(60);

fn packed(pieces: &[Piece]) -> (Vec<PutBack>, String) {
    let mut packing = Packing::new(&topology(), PERIOD, true);
    let mut out = Vec::new();
    pieces.iter().for_each(|piece| packing.take(piece, &mut out));
    let counts = packing.end(&mut out);
    (out, PutBackOf(&counts).to_string())
}

fn seqs(all: &[PutBack]) -> Vec<u64> {
    all.iter().flat_map(|of| &of.observations).map(|of| of.seq).collect()
}

#[test]
fn a_period_is_in_one_message_and_in_the_order_of_its_numbers() {
    let pieces: Vec<Piece> =
        batches("a", trouble(150, (0, None), 0)).into_iter().map(|of| Piece::Batch(of, at(0))).collect();
    let (all, told) = packed(&pieces);
    let lengths: Vec<usize> = all.iter().map(|of| of.observations.len()).collect();
    assert_eq!(lengths, [60, 60, 30]);
    assert!(seqs(&all).is_sorted());
    assert!(all.iter().all(|of| of.pages
        && of.observations.iter().all(|one| one.at.floor(PERIOD) == of.observations[0].at.floor(PERIOD))));
    assert_eq!(told, "put back 150 observations\n");
}

#[test]
fn what_is_repeated_foreign_or_a_drill_is_counted_and_left() {
    let row = |seq: u64, link: &str, second: i64| {
        Piece::Row(origin("a"), Observation { at: at(second), seq, body: outcome_of(link, "p", Some(1.0)) })
    };
    let (all, told) =
        packed(&[row(0, "l", 0), row(0, "l", 0), row(1, "other", 1), row(2, "l", 200), row(3, "l", 3)]);
    assert_eq!(seqs(&all), [0, 3, 2], "a straggler of a period that was given out is put back, too");
    assert_eq!(
        told,
        "put back 3 observations\nskipped 1 seen before (same collector, boot and seq)\n\
         skipped 1 that the config lacks: other/a/p (1)\n"
    );
}

#[test]
fn a_period_that_is_too_large_is_in_several_messages() {
    let count = MOST as u64 * 5 / 2;
    let rows: Vec<Piece> = (0..count)
        .map(|seq| {
            let at = at(0) + Duration::from_micros(seq);
            Piece::Row(origin("a"), Observation { at, seq, body: outcome_of("l", "p", Some(1.0)) })
        })
        .collect();
    let (all, _) = packed(&rows);
    assert_eq!(all.iter().map(|of| of.observations.len()).collect::<Vec<_>>(), [MOST, MOST, MOST / 2]);
    assert_eq!(seqs(&all).into_iter().collect::<BTreeSet<_>>().len() as u64, count);
}

/// It is stopped after any message, and begun anew.
#[test]
fn a_desk_keeps_what_was_laid_there_and_lets_go_of_what_all_have_had() {
    let folder = tempfile::tempdir().unwrap();
    let pieces: Vec<Piece> =
        batches("a", trouble(150, (0, None), 0)).into_iter().map(|of| Piece::Batch(of, at(0))).collect();
    let (all, _) = packed(&pieces);
    let read = || {
        let mut reader =
            Reader::open(&crosswatch_journal::file(&put_back::folder(folder.path()), put_back::NAME))
                .unwrap();
        let entries = reader.after(0, 100, usize::MAX).unwrap();
        entries
            .into_iter()
            .map(|entry| match decode_message(&entry.payload, &mut Names::default()).unwrap() {
                Message::PutBack(put_back, 0) => put_back,
                other => panic!("{other:?}"),
            })
            .collect::<Vec<_>>()
    };
    let mut desk = Desk::open(folder.path(), &[], at(0)).unwrap();
    desk.put(&all[..2], at(0)).unwrap();
    let held = Desk::open(folder.path(), &[], at(0)).unwrap_err();
    assert!(held.to_string().contains("one writer at a time"), "{held}");
    drop(desk);
    // A stage that has not begun has had nothing.
    let absent = [folder.path().join("publisher.db")];
    let mut desk = Desk::open(folder.path(), &absent, at(100)).unwrap();
    desk.put(&all, at(100)).unwrap();
    assert_eq!(read(), [&all[..2], &all[..]].concat());
    drop(desk);
    drop(Desk::open(folder.path(), &[], at(200)).unwrap());
    assert_eq!(read(), [], "nobody waits for it");
}
