use std::sync::Mutex;

use crosswatch_host::health::Health;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::Names;
use tokio::sync::mpsc;

use super::*;
use crate::testing::{BOUND, tables};

/// A queue that answers as it is told, and else takes all that SQS would.
struct Queue {
    taken: mpsc::UnboundedSender<String>,
    answers: Mutex<Vec<Vec<Result<(), String>>>>,
}

impl Tells for Queue {
    fn tell<'a>(&'a self, bodies: &'a [String]) -> Telling<'a> {
        Box::pin(async move {
            if bodies.len() > MESSAGES || bodies.iter().map(String::len).sum::<usize>() > BYTES {
                return vec![Err("AWS.SimpleQueueService.BatchRequestTooLong".to_owned()); bodies.len()];
            }
            let answer = self.answers.lock().unwrap().pop();
            let answer = answer.unwrap_or_else(|| vec![Ok(()); bodies.len()]);
            for (body, _) in bodies.iter().zip(&answer).filter(|(_, one)| one.is_ok()) {
                self.taken.send(body.clone()).unwrap();
            }
            answer
        })
    }
}

fn told(number: usize) -> Told {
    Told {
        id: format!("{number}"),
        state: "firing".to_owned(),
        revision: 0,
        receiver: "r".to_owned(),
        channel: "webhook".to_owned(),
        place: "l".to_owned(),
        since: None,
        until: None,
        down: false,
        at: Timestamp::from_secs(1),
        text: String::new(),
        held: None,
    }
}

#[tokio::test]
async fn each_is_told_until_its_queue_took_it_over_a_death_and_under_the_same_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerter.db");
    let file = Connection::open(&path).unwrap();
    tables(&file);
    let write = |numbers: std::ops::Range<usize>| {
        for number in numbers {
            let told = serde_json::to_string(&told(number)).unwrap();
            file.execute("INSERT INTO outbox (told) VALUES (?)", [told]).unwrap();
        }
    };
    write(0..12);
    let (taken, mut came) = mpsc::unbounded_channel();
    // From the last: one call fails, one takes all but the second, one does not answer for all.
    let answers = vec![
        vec![Ok(()); 3],
        std::iter::once(Ok(())).chain([Err("busy".to_owned())]).chain(vec![Ok(()); 8]).collect(),
        vec![Err("out of reach".to_owned())],
    ];
    let queue = Arc::new(Queue { taken, answers: Mutex::new(answers) });
    let peer = Peer { rank: Rank::First, queue };
    let health = Health::default();
    let start = || {
        let teller = Teller::open(&path, &peer, Clock::machine(), &health.part("alerter")).unwrap();
        let (wake, stop) = (Arc::new(Notify::new()), CancellationToken::new());
        let task = tokio::spawn(teller.run(Arc::clone(&wake), stop.clone()));
        (tokio_util::task::AbortOnDropHandle::new(task), wake, stop)
    };
    let mut seen = std::collections::BTreeMap::new();
    let (mut task, ..) = start();
    let mut names = Names::default();
    while seen.len() < 12 {
        let body = tokio::time::timeout(BOUND, came.recv()).await.unwrap().unwrap();
        let decoded = wire::decode_batch(body.as_bytes(), &mut names).unwrap();
        let id = decoded.told[0].id.clone();
        let number = (decoded.batch.origin.boot.clone(), decoded.batch.number);
        assert_eq!(*seen.entry(id).or_insert_with(|| number.clone()), number, "the same message");
        if seen.len() == 5 {
            // A sudden death: what it took may be told again.
            task = start().0;
        }
    }
    let numbers: std::collections::BTreeSet<_> = seen.into_values().collect();
    assert_eq!(numbers.len(), 12);
    drop(task);
    let (task, wake, stop) = start();
    write(12..13);
    wake.notify_one();
    let body = loop {
        let body = tokio::time::timeout(BOUND, came.recv()).await.unwrap().unwrap();
        if body.contains("\"12\"") {
            break body;
        }
    };
    let decoded = wire::decode_batch(body.as_bytes(), &mut names).unwrap();
    assert!(
        !numbers.contains(&(decoded.batch.origin.boot, decoded.batch.number)),
        "no number is given again"
    );
    stop.cancel();
    tokio::time::timeout(BOUND, task).await.unwrap().unwrap();
    let left: i64 = file.query_row("SELECT count(*) FROM outbox", [], |row| row.get(0)).unwrap();
    assert_eq!(left, 0);
}

#[tokio::test]
async fn long_ones_are_told_in_as_many_calls_as_they_need_and_what_fits_none_keeps_nothing_back() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("alerter.db");
    let file = Connection::open(&path).unwrap();
    tables(&file);
    let mut rng = fastrand::Rng::with_seed(1);
    for number in 0..13 {
        // Of letters that cannot be compressed by much: five fit one call.
        let length = if number == 3 { 2 * BYTES } else { 200 << 10 };
        let text = std::iter::repeat_with(|| rng.alphanumeric()).take(length).collect();
        let told = serde_json::to_string(&Told { text, ..told(number) }).unwrap();
        file.execute("INSERT INTO outbox (told) VALUES (?)", [told]).unwrap();
    }
    let (taken, mut came) = mpsc::unbounded_channel();
    let peer = Peer { rank: Rank::First, queue: Arc::new(Queue { taken, answers: Mutex::default() }) };
    let health = Health::default();
    let teller = Teller::open(&path, &peer, Clock::machine(), &health.part("alerter")).unwrap();
    let task = tokio::spawn(teller.run(Arc::default(), CancellationToken::new()));
    let _task = tokio_util::task::AbortOnDropHandle::new(task);
    let (mut seen, mut names) = (Vec::<usize>::new(), Names::default());
    while seen.len() < 12 {
        let body = tokio::time::timeout(BOUND, came.recv()).await.unwrap().unwrap();
        let wire = crosswatch_sqs::body::decode(&body).unwrap();
        seen.push(wire::decode_batch(&wire, &mut names).unwrap().told.remove(0).id.parse().unwrap());
    }
    assert_eq!(seen, (0..13).filter(|number| *number != 3).collect::<Vec<_>>());
}

#[test]
fn a_turn_is_said_before_it_begins_and_again_while_it_lasts_and_waits_until_the_answer_was_heard() {
    let at = Timestamp::from_secs;
    let heard = Heard::default();
    let (turn, says) = Turn::at(None, at(100));
    assert!(says);
    assert_eq!(turn.tells_from(&heard, at(100)), at(100) + LEAD);
    // Deaf at first: it waits, and not for ever.
    assert!(turn.tells_from(&heard, at(115)) > at(115));
    assert!(turn.tells_from(&heard, at(100) + DEAF) <= at(100) + DEAF);
    heard.at(at(101));
    assert!(turn.tells_from(&heard, at(115)) > at(115), "the answer may not have been there by then");
    heard.at(at(103));
    assert!(turn.tells_from(&heard, at(115)) <= at(115));
    assert_eq!(Turn::at(Some(turn), at(101)), (turn, false));
    let (longer, says) = Turn::at(Some(turn), at(104));
    assert!(says);
    assert_eq!(longer.tells_from(&heard, at(104)), at(100) + LEAD, "it is the same turn");
    // The first goes on after a while; from then on it is another turn.
    let (next, says) = Turn::at(Some(longer), at(104) + STILL);
    assert!(says);
    assert_eq!(next.tells_from(&heard, at(104) + STILL), at(104) + STILL + LEAD);
    // So it is for a clock that was set back.
    assert_eq!(Turn::at(Some(longer), at(50)).0.tells_from(&heard, at(50)), at(50) + LEAD);
}
