use std::sync::Mutex;

use crosswatch_host::health::Health;
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::Names;
use tokio::sync::mpsc;

use super::*;
use crate::testing::{BOUND, tables};

/// A queue that answers as it is told, and else takes everything.
struct Queue {
    taken: mpsc::UnboundedSender<String>,
    answers: Mutex<Vec<Vec<Result<(), String>>>>,
}

impl Tells for Queue {
    fn tell<'a>(&'a self, bodies: &'a [String]) -> Telling<'a> {
        Box::pin(async move {
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
