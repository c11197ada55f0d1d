use std::collections::{BTreeMap, BTreeSet};

use crosswatch_shared::observation::Outcome;
use crosswatch_shared::wire::encode_batch;
use proptest::prelude::*;

use super::*;

const ALL: Share = Share { index: 0, of: 1 };

fn origin(boot: u64) -> Origin {
    Origin { site: "a".into(), collector: "c".into(), boot: boot.to_string().as_str().into() }
}

fn seen(seq: u64, at: i64) -> Observation {
    // Every fifth is of no link.
    let body = match seq % 5 {
        4 => Body::Collection { source: "icmp".into(), ok: true, error: None, took_ms: 0.0 },
        link => Body::Probe {
            link: format!("link-{link}").as_str().into(),
            probe: "p".into(),
            outcome: Outcome::Reply { rtt_ms: 1.0 },
            detail: None,
        },
    };
    Observation { at: Timestamp::from_micros(at), seq, body }
}

/// A journal of boots, each with batches of so many observations, whose times go up and down a little within what was
/// promised.
fn journal(boots: &[Vec<(usize, i64)>]) -> Vec<Batch> {
    let mut entries = Vec::new();
    for (boot, batches) in boots.iter().enumerate() {
        let (mut seq, mut through) = (0, 0);
        for (number, &(count, step)) in batches.iter().enumerate() {
            let observations = (0..count).map(|place| {
                // Not before what was promised, and in no order.
                let observation = seen(seq, through + (place as i64 * 7 + step) % 13);
                seq += 1;
                observation
            });
            let observations: Vec<_> = observations.collect();
            through += step;
            entries.push(Batch {
                origin: origin(boot as u64),
                number: number as u64,
                through: Timestamp::from_micros(through),
                observations,
            });
        }
    }
    entries
}

/// What a receiver makes of messages that come again and again.
#[derive(Default)]
struct Receiver {
    messages: BTreeMap<(String, u64), String>,
    promised: BTreeMap<String, Timestamp>,
    observed: BTreeSet<(String, u64)>,
}

impl Receiver {
    fn receive(&mut self, batch: &Batch) {
        let boot = batch.origin.boot.to_string();
        let text = encode_batch(batch);
        if let Some(before) = self.messages.get(&(boot.clone(), batch.number)) {
            assert_eq!(*before, text, "another message under the same number");
            return;
        }
        let promised = self.promised.entry(boot.clone()).or_insert(Timestamp::MIN);
        for one in &batch.observations {
            assert!(one.at >= *promised, "{} after {promised} was promised", one.at);
            assert!(self.observed.insert((boot.clone(), one.seq)), "twice");
        }
        *promised = (*promised).max(batch.through);
        self.messages.insert((boot, batch.number), text);
    }
}

/// What the file holds, and how far the journal is done with.
#[derive(Clone, Default)]
struct File {
    position: usize,
    pieces: Vec<Piece>,
    numbers: Numbers,
}

proptest! {
    /// Stopped at every step, for each of several queues: each observation comes exactly once, under dense numbers, with
    /// true promises, and nothing is ever different under the same number.
    #[test]
    fn each_is_received_once_and_promises_are_true_however_often_it_is_stopped(
        boots in prop::collection::vec(prop::collection::vec((0_usize..40, 0_i64..30), 0..8), 1..4),
        turns in prop::collection::vec((1_usize..5, 0_u8..5, 0_usize..9), 1..60),
        queues in 1_usize..4, longest in 1_usize..50,
    ) {
        let journal = journal(&boots);
        let short = |batch: &Batch| (batch.observations.len() <= longest).then(|| encode_batch(batch));
        let mut observed = BTreeSet::new();
        for index in 0..queues {
            let share = Share { index, of: queues };
            let (mut file, mut receiver) = (File::default(), Receiver::default());
            let rest = std::iter::repeat_n((3, 9, 0), journal.len() + 1);
            for (count, stop, sent) in turns.iter().copied().chain(rest) {
                let texts: Vec<Batch> = if file.pieces.is_empty() {
                    let entries = &journal[file.position..(file.position + count).min(journal.len())];
                    let packed = pack(entries, &file.numbers, share, short);
                    if entries.is_empty() || stop == 0 {
                        continue; // Stopped before anything was written down.
                    }
                    file.pieces = packed.iter().map(|(piece, _)| piece.clone()).collect();
                    let texts = packed.into_iter().map(|(_, text)| text);
                    texts.map(|text| read(&text)).collect()
                } else {
                    let rest = &journal[file.position..];
                    let own: Vec<_> =
                        rest.iter().take_while(|entry| is_of(&file.pieces, entry)).cloned().collect();
                    prop_assert!(is_last_of(&file.pieces, own.last().unwrap()));
                    file.pieces.iter().map(|piece| again(&own, piece)).collect()
                };
                if stop == 1 {
                    continue; // Written down, and nothing sent.
                }
                let some = if stop == 2 { sent % (texts.len() + 1) } else { texts.len() };
                for text in &texts[..some] {
                    receiver.receive(text);
                }
                if stop <= 3 {
                    continue; // Sent in part, or whole, and not recorded.
                }
                let of = |entry: &&Batch| is_of(&file.pieces, entry);
                file.position += journal[file.position..].iter().take_while(of).count();
                for piece in file.pieces.drain(..) {
                    file.numbers.done(&piece.origin, piece.number);
                }
            }
            prop_assert_eq!(file.position, journal.len());
            for boot in 0..boots.len() {
                let of_boot = receiver.messages.keys().filter(|(of, _)| *of == boot.to_string());
                let numbers: Vec<u64> = of_boot.map(|(_, number)| *number).collect();
                prop_assert_eq!(&numbers, &(0..numbers.len() as u64).collect::<Vec<_>>());
            }
            for one in receiver.observed {
                prop_assert!(observed.insert(one), "in two queues");
            }
        }
        let wanted: usize = boots.iter().flatten().map(|(count, _)| count).sum();
        prop_assert_eq!(observed.len(), wanted);
    }
}

fn read(text: &str) -> Batch {
    use crosswatch_shared::wire::{Names, decode_batch};
    decode_batch(text.as_bytes(), &mut Names::default()).unwrap().batch
}

#[test]
fn a_link_goes_to_one_queue_and_what_is_of_none_to_the_first() {
    let shares = [0, 1, 2].map(|index| Share { index, of: 3 });
    for seq in 0..5 {
        let one = seen(seq, 0);
        let owners: Vec<_> = shares.iter().filter(|share| share.has(&one)).map(|share| share.index).collect();
        assert_eq!(owners.len(), 1);
        if seq == 4 {
            assert_eq!(owners, [0]);
        }
    }
}

#[test]
fn what_has_no_observations_is_a_sign_of_life_nevertheless() {
    let entries = journal(&[vec![(0, 5), (0, 5)]]);
    let packed = pack(&entries, &Numbers::default(), ALL, |batch| Some(encode_batch(batch)));
    assert_eq!(packed.len(), 1, "{packed:?}");
    let piece = &packed[0].0;
    assert_eq!((piece.number, piece.through, piece.seqs), (0, Timestamp::from_micros(10), None));
}

#[test]
fn of_what_the_journal_dropped_the_rest_goes_under_the_number_it_had() {
    let entries = journal(&[vec![(3, 20), (3, 20)]]);
    let packed = pack(&entries, &Numbers::default(), ALL, |batch| Some(encode_batch(batch)));
    let piece = &packed[0].0;
    let left = again(&entries[1..], piece);
    assert_eq!((left.number, left.through), (0, Timestamp::from_micros(40)));
    assert_eq!(left.observations.iter().map(|one| one.seq).collect::<Vec<_>>(), [3, 4, 5]);
    assert_eq!(again(&[], piece).observations, []);
}

#[test]
fn where_messages_must_be_small_each_observation_is_encoded_a_few_times_only() {
    let entries = journal(&[vec![(2 * MOST, 20)]]);
    let encoded = std::cell::Cell::new(0);
    let packed = pack(&entries, &Numbers::default(), ALL, |batch| {
        let count = batch.observations.len();
        encoded.set(encoded.get() + count);
        (count <= 300).then(String::new)
    });
    assert!(packed.len() <= 400, "{}", packed.len());
    assert!(encoded.get() <= 10 * MOST, "{}", encoded.get());
}

#[test]
fn what_is_too_long_is_halved_and_promises_no_more_than_what_is_behind_allows() {
    let entries = journal(&[vec![(4, 20)]]);
    let short = |batch: &Batch| (batch.observations.len() <= 2).then(|| encode_batch(batch));
    let pieces: Vec<_> =
        pack(&entries, &Numbers::default(), ALL, short).into_iter().map(|(piece, _)| piece).collect();
    let spans: Vec<_> = pieces.iter().map(|piece| (piece.number, piece.seqs)).collect();
    assert_eq!(spans, [(0, Some((0, 1))), (1, Some((2, 3)))]);
    let behind = entries[0].observations[2..].iter().map(|one| one.at).min().unwrap();
    assert_eq!(pieces[0].through, behind);
    assert_eq!(pieces[1].through, Timestamp::from_micros(20));
}
