//! Sending, against queues that fail in every way they can.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use crosswatch_aws::sqs::Sqs;
use crosswatch_aws::sqs::{BYTES, MESSAGES};
use crosswatch_aws::{Failure, Kind};
use crosswatch_sqs::send::{ANSWER, Attempt, Load, Post, Route, Sender, Sending};
use server::{Gate, Server};
use tokio::time::{Instant, sleep};

#[allow(dead_code, reason = "each test file uses a part")]
mod server;

/// How a queue answers a call.
#[derive(Clone, Copy, Debug)]
enum Answer {
    All,
    /// HTTP 200, but of each second message it says that it was not taken.
    Part,
    /// HTTP 200 without a word of the last message.
    Short,
    /// It takes everything, and its answer is lost.
    Lost,
    Fails(Kind),
    /// It never answers.
    Hangs,
}

/// Answers as told, and then well; refuses what AWS refuses.
#[derive(Default)]
struct Queue {
    answers: Mutex<VecDeque<Answer>>,
    otherwise: Mutex<Option<Answer>>,
    taken: Mutex<Vec<String>>,
}

impl Queue {
    fn that(answers: &[Answer]) -> Arc<Self> {
        Arc::new(Self { answers: Mutex::new(answers.iter().copied().collect()), ..Self::default() })
    }

    /// It answers like this from now on.
    fn becomes(&self, answer: Answer) {
        *self.otherwise.lock().unwrap() = Some(answer);
    }

    fn taken(&self) -> Vec<String> {
        self.taken.lock().unwrap().clone()
    }
}

fn failure(kind: Kind) -> Failure {
    Failure { operation: "sqs:SendMessage", kind, code: format!("{kind:?}"), message: String::new() }
}

impl Post for Queue {
    fn send<'a>(&'a self, bodies: &'a [String], _: Duration) -> Sending<'a> {
        assert!((1..=MESSAGES).contains(&bodies.len()), "{} messages", bodies.len());
        assert!(bodies.iter().map(String::len).sum::<usize>() <= BYTES);
        let answer = self.answers.lock().unwrap().pop_front();
        let answer = answer.or(*self.otherwise.lock().unwrap()).unwrap_or(Answer::All);
        let take = |bodies: &[String]| self.taken.lock().unwrap().extend(bodies.iter().cloned());
        let all = || bodies.iter().map(|_| Ok(()));
        let answer = match answer {
            Answer::All => {
                take(bodies);
                Ok(all().collect())
            }
            Answer::Part => Ok(bodies
                .iter()
                .enumerate()
                .map(|(place, body)| match place % 2 {
                    0 => {
                        take(std::slice::from_ref(body));
                        Ok(())
                    }
                    _ => Err(failure(Kind::Service)),
                })
                .collect()),
            Answer::Short => {
                take(&bodies[..bodies.len() - 1]);
                Ok(all().skip(1).collect())
            }
            Answer::Lost => {
                take(bodies);
                Err(failure(Kind::Timeout))
            }
            Answer::Fails(kind) => Err(failure(kind)),
            Answer::Hangs => return Box::pin(std::future::pending()),
        };
        Box::pin(async { answer })
    }
}

fn bodies(count: usize) -> Vec<String> {
    (0..count).map(|number| format!("message {number}")).collect()
}

async fn deliver(sender: &mut Sender, mut load: Load) -> Vec<Attempt> {
    let mut attempts = Vec::new();
    while !load.is_done() {
        attempts.push(sender.attempt(&mut load).await);
    }
    attempts
}

#[tokio::test]
async fn what_was_not_taken_is_sent_again_entry_by_entry() {
    let queue = Queue::that(&[Answer::Part, Answer::Short, Answer::Fails(Kind::Throttled)]);
    let mut sender = Sender::new(queue.clone(), None);
    let attempts = deliver(&mut sender, Load::new(bodies(5))).await;
    assert_eq!(attempts.iter().map(|attempt| attempt.taken).collect::<Vec<_>>(), [3, 1, 0, 1]);
    let codes: Vec<_> = attempts.iter().map(|one| one.failure.as_ref().map(|of| of.code.as_str())).collect();
    assert_eq!(codes, [Some("Service"), Some("BadAnswer"), Some("Throttled"), None]);
    assert_eq!(queue.taken(), [0, 2, 4, 1, 3].map(|number| format!("message {number}")));
}

#[tokio::test]
async fn what_may_have_been_taken_is_sent_again_as_it_was() {
    let queue = Queue::that(&[Answer::Lost]);
    deliver(&mut Sender::new(queue.clone(), None), Load::new(bodies(2))).await;
    assert_eq!(queue.taken(), [bodies(2), bodies(2)].concat());
}

#[tokio::test]
async fn a_call_takes_ten_messages_and_one_mebibyte() {
    let queue = Queue::that(&[]);
    let mut sender = Sender::new(queue.clone(), None);
    let long = |count| (0..count).map(|_| "x".repeat(BYTES / 4));
    let attempts = deliver(&mut sender, Load::new(bodies(12).into_iter().chain(long(6)))).await;
    let taken: Vec<_> = attempts.iter().map(|attempt| attempt.taken).collect();
    assert_eq!(taken, [10, 5, 3], "{attempts:?}");
    assert_eq!(attempts[1].billed, 13, "three quarters of a mebibyte and a bit");
    assert_eq!(queue.taken().len(), 18);
}

#[tokio::test]
async fn the_standby_gets_what_the_first_cannot_take_and_the_first_is_tried_beside_it() {
    let patience = Duration::from_millis(50);
    let (first, standby) = (Queue::that(&[]), Queue::that(&[Answer::Fails(Kind::Service)]));
    first.becomes(Answer::Hangs);
    let mut sender = Sender::new(first.clone(), Some(standby.clone())).waiting(patience);
    let attempts = deliver(&mut sender, Load::new(bodies(2))).await;
    let routes: Vec<_> = attempts.iter().map(|attempt| attempt.route).collect();
    assert_eq!(routes, [Route::First, Route::Standby, Route::Standby]);
    assert_eq!(attempts[0].failure.as_ref().unwrap().kind, Kind::Timeout);
    assert_eq!(standby.taken(), bodies(2));
    assert!(sender.is_on_standby());

    // The trial hangs, and delays nothing.
    for _ in 0..3 {
        let attempts = deliver(&mut sender, Load::new(bodies(1))).await;
        assert_eq!(attempts[0].route, Route::Standby);
    }
    assert_eq!(first.taken(), Vec::<String>::new());
}

#[tokio::test]
async fn it_goes_back_to_the_first_when_that_takes_a_message_again() {
    let (first, standby) = (Queue::that(&[Answer::Fails(Kind::Unreachable)]), Queue::that(&[]));
    let mut sender = Sender::new(first.clone(), Some(standby.clone())).waiting(Duration::ZERO);
    let mut routes = Vec::new();
    // The trial runs beside the second load, on its own task.
    while routes.last() != Some(&Route::First) || routes.len() < 2 {
        let attempts = deliver(&mut sender, Load::new(bodies(1))).await;
        routes.extend(attempts.iter().map(|attempt| attempt.route));
        tokio::task::yield_now().await;
    }
    assert_eq!(routes[..2], [Route::First, Route::Standby]);
    assert!(!sender.is_on_standby());
    assert!(first.taken().len() >= 2, "the trial's and the load's: {:?}", first.taken());
}

/// Takes what is uploaded in time, at so many bytes a second.
struct Uplink {
    rate: Mutex<usize>,
    taken: Mutex<Vec<String>>,
    /// The bytes of each call.
    calls: Mutex<Vec<usize>>,
}

impl Uplink {
    fn of(rate: usize) -> Arc<Self> {
        Arc::new(Self { rate: Mutex::new(rate), taken: Mutex::default(), calls: Mutex::default() })
    }

    /// The bytes of the calls since this was asked.
    fn calls(&self) -> Vec<usize> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }
}

impl Post for Uplink {
    fn send<'a>(&'a self, bodies: &'a [String], within: Duration) -> Sending<'a> {
        let bytes = bodies.iter().map(String::len).sum();
        self.calls.lock().unwrap().push(bytes);
        let takes = Duration::from_secs(bytes as u64) / u32::try_from(*self.rate.lock().unwrap()).unwrap();
        Box::pin(async move {
            sleep(takes.min(within)).await;
            if takes > within {
                return Err(failure(Kind::Timeout));
            }
            self.taken.lock().unwrap().extend(bodies.iter().cloned());
            Ok(bodies.iter().map(|_| Ok(())).collect())
        })
    }
}

/// Sends it all, in this time.
async fn deliver_within(limit: Duration, sender: &mut Sender, load: Load) -> Vec<Attempt> {
    let begun = Instant::now();
    let attempts = tokio::time::timeout(limit, deliver(sender, load)).await;
    attempts.unwrap_or_else(|_| panic!("not all is sent after {:?}", begun.elapsed()))
}

#[tokio::test(start_paused = true)]
async fn what_a_slow_way_does_not_carry_in_time_goes_in_parts_and_quickly_again_once_the_way_is_wide() {
    let uplink = Uplink::of(20_000);
    let mut sender = Sender::new(uplink.clone(), None);
    let load: Vec<String> = (0..20).map(|_| "x".repeat(100_000)).collect();
    // Two megabytes take 100 s at best.
    deliver_within(Duration::from_secs(200), &mut sender, Load::new(load.clone())).await;
    assert_eq!(*uplink.taken.lock().unwrap(), load);
    let most = *uplink.calls().iter().rev().take(10).max().unwrap();
    assert!(most <= 200_000, "no call is made that is known not to pass: {most}");
    assert!(sender.room() <= 250_000, "{}", sender.room());

    *uplink.rate.lock().unwrap() = 10_000_000;
    deliver(&mut sender, Load::new(load)).await;
    assert_eq!(uplink.calls().into_iter().max(), Some(1_000_000), "all that a call takes");
    assert_eq!(sender.room(), BYTES);
}

#[tokio::test(start_paused = true)]
async fn one_message_that_takes_longer_than_a_call_may_gets_more_time_until_it_passes() {
    let patience = Duration::from_secs(5);
    for standby in [false, true] {
        let (first, other) = (Uplink::of(10_000), Uplink::of(10_000));
        let mut sender = Sender::new(first.clone(), standby.then(|| other.clone() as Arc<dyn Post>));
        sender = sender.waiting(patience);
        let load: Vec<String> = (0..3).map(|_| "x".repeat(1_000_000)).collect();
        // 100 s each at best.
        deliver_within(Duration::from_secs(900), &mut sender, Load::new(load)).await;
        let taken = first.taken.lock().unwrap().len() + other.taken.lock().unwrap().len();
        assert!(taken >= 3, "{taken} with a standby: {standby}");
        assert!(sender.room() <= 500_000, "what is made from now on is smaller");
    }
}

#[tokio::test(start_paused = true)]
async fn small_messages_that_hang_get_no_more_time_than_ever() {
    let queue = Queue::that(&[Answer::Fails(Kind::Timeout); 8]);
    let mut sender = Sender::new(queue, None);
    deliver(&mut sender, Load::new(bodies(2))).await;
    assert_eq!(sender.room(), BYTES);
    let uplink = Uplink::of(1);
    let mut sender = Sender::new(uplink.clone(), None);
    for _ in 0..5 {
        let attempt = sender.attempt(&mut Load::new(bodies(1))).await;
        assert!(attempt.took <= ANSWER, "{attempt:?}");
    }
}

/// A large message that was late says nothing of news: where that hangs, it is to be tried again soon, or elsewhere.
#[tokio::test(start_paused = true)]
async fn a_small_message_that_hangs_gets_no_more_time_since_a_large_one_was_late() {
    let patience = Duration::from_secs(5);
    for standby in [false, true] {
        let (first, other) = (Uplink::of(1), Uplink::of(1));
        let mut sender = Sender::new(first, standby.then_some(other as Arc<dyn Post>)).waiting(patience);
        for _ in 0..5 {
            sender.attempt(&mut Load::new(["x".repeat(BYTES)])).await;
        }
        let attempt = sender.attempt(&mut Load::new(["x".repeat(8 << 10)])).await;
        assert!(attempt.took <= ANSWER, "{attempt:?}");
        let attempt = sender.attempt(&mut Load::new(["x".repeat(BYTES)])).await;
        assert!(attempt.took > 5 * ANSWER, "{attempt:?}");
    }
}

#[tokio::test]
async fn a_real_call_has_the_time_it_is_given_with_its_upload_and_is_made_once() {
    let server = Server::start();
    let url = server.queue("slow");
    let gate = Gate::before(&server);
    gate.slow(Some(400_000));
    let queue = Sqs::new(&gate.session(), &url);
    let body = ["x".repeat(600_000)];
    let failure = queue.send_within(&body, Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Timeout, "{failure}");
    assert!(queue.send_within(&body, Duration::from_secs(60)).await.unwrap()[0].is_ok());
    // Each call made its own; where the machine stalled, the first none.
    let connections = gate.connections();
    assert!(
        (1..=2).contains(&connections),
        "{connections}: the same once more would have been too much again"
    );
}
