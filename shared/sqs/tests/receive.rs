//! What an operator relies on when batches come from SQS: nothing is lost, nothing costs more than it must, and an outage is
//! told as what it is.

#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::panic)]

#[path = "../../queue/tests/batches/mod.rs"]
mod batches;
#[allow(dead_code, reason = "each test file uses a part")]
mod server;

use std::collections::BTreeSet;
use std::time::{Duration, Instant};

use batches::{SCHEMA, applied, apply, batch};
use crosswatch_aws::sqs::Sqs;
use crosswatch_queue::{Consumer, Page, Place, Queue, QueueError, Receipt, Source};
use crosswatch_shared::config::topology::SqsQueue;
use crosswatch_shared::wire;
use crosswatch_sqs::receive::Receiver;
use server::{Gate, Server};

const WAIT: Duration = Duration::from_millis(20);

/// How long a test waits for what must come.
const BOUND: Duration = Duration::from_secs(120);

fn alone(url: &str) -> SqsQueue {
    SqsQueue { url: url.to_owned(), standby: None, second: None }
}

fn receipts(page: &Page) -> Vec<Receipt> {
    page.messages.iter().map(|message| message.receipt.clone()).collect()
}

/// Reads until a page is as wanted; all that came is committed.
async fn until(queue: &mut Receiver, wanted: impl Fn(&Page) -> bool) -> Page {
    let end = Instant::now() + BOUND;
    loop {
        let page = queue.receive(10, WAIT).await.unwrap();
        queue.commit(&receipts(&page)).await.unwrap();
        if wanted(&page) {
            return page;
        }
        assert!(Instant::now() < end, "it never came to this: {page:?}");
    }
}

#[tokio::test]
async fn a_queue_that_is_read_all_the_time_is_polled_once_in_ten_seconds() {
    let server = Server::start();
    let gate = Gate::before(&server);
    let mut queue = Receiver::open(&gate.session(), &alone(&server.queue("q")));
    until(&mut queue, |page| page.empty && page.failing.is_none()).await;
    let (before, begun) = (gate.calls("receivemessage"), Instant::now());
    for _ in 0..100 {
        let page = queue.receive(10, WAIT).await.unwrap();
        assert!(page.empty && page.messages.is_empty(), "{page:?}");
    }
    let polls = u64::try_from(gate.calls("receivemessage") - before).unwrap();
    assert!(polls <= 2 + begun.elapsed().as_secs() / 10, "{polls} polls");
    assert_eq!(gate.calls("deletemessagebatch"), 0);
}

#[tokio::test]
async fn while_nothing_can_be_settled_a_handful_is_held_and_the_rest_stays_in_the_queue() {
    let server = Server::start();
    let url = server.queue("q");
    for number in 0..120 {
        server.send(&url, &wire::encode_batch(&batch("a", "1", number)));
    }
    let mut queue = Receiver::open(&server.session(), &alone(&url));
    let sqs = Sqs::new(&server.session(), &url);
    let mut held = BTreeSet::new();
    let end = Instant::now() + BOUND;
    // As a consumer whose file cannot be written: it gives everything back, again and again.
    while held.len() < 50 {
        let page = queue.receive(500, WAIT).await.unwrap();
        held.extend(page.messages.iter().map(|message| format!("{:?}", message.receipt)));
        queue.extend(&receipts(&page), Duration::ZERO).await.unwrap();
        assert!(Instant::now() < end, "only {} came", held.len());
    }
    for _ in 0..20 {
        let page = queue.receive(500, WAIT).await.unwrap();
        assert_eq!(page.messages.len(), 50, "the same come again, and no more");
    }
    let depth = sqs.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (70, 50));
    // It can be written again.
    let mut numbers = BTreeSet::new();
    while numbers.len() < 120 {
        let page = queue.receive(500, WAIT).await.unwrap();
        for message in &page.messages {
            let decoded = wire::decode_batch(&message.payload, &mut wire::Names::default()).unwrap();
            assert!(numbers.insert(decoded.batch.number), "a committed one does not come again");
        }
        queue.commit(&receipts(&page)).await.unwrap();
        assert!(Instant::now() < end, "only {} came", numbers.len());
    }
    queue.close().await;
    let depth = sqs.depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0), "closing deletes what was committed");
}

#[tokio::test]
async fn who_ends_in_order_leaves_the_rest_to_the_next_at_once() {
    let server = Server::start();
    let url = server.queue("q");
    for number in 0..9 {
        server.send(&url, &wire::encode_batch(&batch("a", "1", number)));
    }
    let mut queue = Receiver::open(&server.session(), &alone(&url));
    let page = loop {
        let page = queue.receive(4, WAIT).await.unwrap();
        if page.messages.len() == 4 {
            break page;
        }
    };
    queue.commit(&receipts(&page)[..1]).await.unwrap();
    queue.close().await;
    let depth = Sqs::new(&server.session(), &url).depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (8, 0));
}

#[tokio::test]
async fn an_outage_is_told_with_the_way_out_and_never_passes_for_an_empty_queue() {
    let server = Server::start();
    let gate = Gate::before(&server);
    let url = server.queue("q");
    let failing = |page: &Page| page.failing.clone().unwrap_or_default();

    gate.refuse("ReceiveMessage", Some((403, "AccessDenied")));
    let mut queue = Receiver::open(&gate.session(), &alone(&url));
    let page = queue.receive(10, Duration::ZERO).await.unwrap();
    assert!(!page.empty && failing(&page).contains("it has not answered yet"), "{page:?}");
    let page = until(&mut queue, |page| failing(page).contains("AccessDenied")).await;
    assert!(!page.empty && failing(&page).contains("allow sqs:ReceiveMessage"), "{page:?}");
    assert!(failing(&page).contains(&url), "{page:?}");

    gate.refuse("ReceiveMessage", None);
    until(&mut queue, |page| page.failing.is_none() && page.empty).await;
    gate.refuse("ReceiveMessage", Some((400, "QueueDoesNotExist")));
    let page = until(&mut queue, |page| page.failing.is_some()).await;
    assert!(!page.empty && failing(&page).contains("make the queue"), "{page:?}");

    gate.refuse("ReceiveMessage", None);
    until(&mut queue, |page| page.failing.is_none() && page.empty).await;
    gate.refuse("DeleteMessageBatch", Some((403, "AccessDenied")));
    server.send(&url, &wire::encode_batch(&batch("a", "1", 0)));
    until(&mut queue, |page| !page.messages.is_empty()).await;
    let page = until(&mut queue, |page| page.failing.is_some()).await;
    assert!(failing(&page).contains("sqs:DeleteMessage"), "{page:?}");
    gate.refuse("DeleteMessageBatch", None);
    until(&mut queue, |page| page.failing.is_none()).await;
}

#[tokio::test]
async fn the_standby_is_read_too_and_only_the_first_queue_says_what_is_empty() {
    let server = Server::start();
    let gate = Gate::before(&server);
    let (url, standby) = (server.queue("the-first"), server.queue("the-standby"));
    let mut queue =
        Receiver::open(&gate.session(), &SqsQueue { url, standby: Some(standby.clone()), second: None });
    until(&mut queue, |page| page.empty && page.failing.is_none()).await;

    gate.refuse("the-standby", Some((403, "AccessDenied")));
    let page = until(&mut queue, |page| page.failing.is_some()).await;
    assert!(page.empty && page.failing.unwrap().contains("the-standby"), "silence is judged on");
    gate.refuse("the-standby", None);
    until(&mut queue, |page| page.failing.is_none()).await;

    gate.refuse("the-first", Some((503, "ServiceUnavailable")));
    until(&mut queue, |page| page.failing.is_some()).await;
    server.send(&standby, &wire::encode_batch(&batch("a", "1", 0)));
    let page = until(&mut queue, |page| !page.messages.is_empty()).await;
    assert!(!page.empty && page.failing.unwrap().contains("the-first"));
}

#[tokio::test]
async fn what_cannot_be_read_is_kept_as_it_came_with_the_reason() {
    let server = Server::start();
    let url = server.queue("q");
    let damaged = ["zstd:!!!", "zstd:aGVsbG8", "hello", "{}"];
    for body in damaged {
        server.send(&url, body);
    }
    server.send(&url, &wire::encode_batch(&batch("a", "1", 0)));
    let folder = tempfile::tempdir().unwrap();
    let (session, queue) = (server.session(), alone(&url));
    let source = Source::new(move |_: &[Place]| Ok(Receiver::open(&session, &queue)));
    let mut consumer = Consumer::open(&folder.path().join("consumer.db"), SCHEMA, source).unwrap();
    let end = Instant::now() + BOUND;
    while consumer.dead_letters(0, 10).unwrap().len() < 4
        || consumer.transaction(|tx| Ok::<_, QueueError>(applied(tx)?)).unwrap().is_empty()
    {
        let received = consumer.receive(10, WAIT).await.unwrap();
        consumer.settle(received, apply).await.unwrap();
        assert!(Instant::now() < end);
    }
    let dead = consumer.dead_letters(0, 10).unwrap();
    let payloads: BTreeSet<_> = dead.iter().map(|letter| letter.payload.clone()).collect();
    assert_eq!(payloads, damaged.map(|body| body.as_bytes().to_vec()).into());
    let reason = |body: &str| &dead.iter().find(|letter| letter.payload == body.as_bytes()).unwrap().reason;
    assert!(reason("zstd:!!!").contains("not base64"), "{}", reason("zstd:!!!"));
    assert!(reason("zstd:aGVsbG8").contains("cannot be decompressed"), "{}", reason("zstd:aGVsbG8"));
    assert!(dead.iter().all(|letter| letter.source.contains(&url)), "{dead:?}");
    consumer.close().await;
    let depth = Sqs::new(&server.session(), &url).depth().await.unwrap();
    assert_eq!((depth.visible, depth.in_flight), (0, 0), "they are not in the queue any more");
}
