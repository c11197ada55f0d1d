use crosswatch_aws::Kind;
use crosswatch_sqs::send::Route;

use super::*;

fn attempt(taken: usize, begun: Instant) -> Attempt {
    Attempt {
        route: Route::First,
        begun,
        took: Duration::ZERO,
        taken,
        bytes: 0,
        billed: 1,
        failure: (taken == 0).then(unreachable),
    }
}

fn unreachable() -> Failure {
    Failure {
        operation: "sqs:SendMessage",
        kind: Kind::Unreachable,
        code: "Unreachable".to_owned(),
        message: String::new(),
    }
}

#[test]
fn it_is_due_once_all_queues_have_failed_for_a_minute_and_once_when_one_works_again() {
    let start = Instant::now();
    let later = |secs| start + Duration::from_secs(secs);
    let reach = Reach::new(2);
    assert_eq!(due(false, &reach.state(), later(999)), None, "nothing is known");
    reach.attempted(0, &attempt(0, start));
    assert_eq!(due(false, &reach.state(), later(999)), None, "the other was not tried yet");
    reach.attempted(1, &attempt(0, later(30)));
    reach.attempted(0, &attempt(0, later(70)));
    assert_eq!(due(false, &reach.state(), later(89)), None);
    assert_eq!(due(false, &reach.state(), later(90)), Some(Say::Cut));
    assert_eq!(due(true, &reach.state(), later(999)), None, "once");
    reach.attempted(1, &attempt(1, later(100)));
    assert_eq!(due(true, &reach.state(), later(100)), Some(Say::Back));
    assert_eq!(due(false, &reach.state(), later(999)), None, "once");
    reach.attempted(1, &attempt(0, later(200)));
    assert_eq!(due(false, &reach.state(), later(259)), None, "a new outage has its own minute");
}

#[test]
fn the_text_is_one_sms_with_what_matters_in_front() {
    let now = Instant::now();
    let state = State::Cut { since: now, code: "Unreachable".to_owned() };
    let at: Timestamp = "2026-11-22T07:00:05Z".parse().unwrap();
    assert_eq!(
        text("us-east-1", Say::Cut, &state, at, now),
        "CUT OFF us-east-1: collector reaches no alerter since 07:00:05Z (Unreachable); it goes on probing"
    );
    let state = State::Cut { since: now, code: "[€]".repeat(90) };
    for say in [Say::Cut, Say::Back] {
        let text = text(&"{ü}x".repeat(60), say, &state, at, now);
        assert!(text.len() <= 160, "{} characters: {text}", text.len());
        assert!(text.chars().all(|c| c.is_ascii_graphic() || c == ' '), "{text}");
        assert!(!text.contains(['[', ']', '{', '}', '|', '~', '^', '\\', '`']), "{text}");
    }
}

/// Refuses twice, then tells what it was given.
struct Heard(std::sync::atomic::AtomicU32, tokio::sync::mpsc::UnboundedSender<String>);

impl Topic for Heard {
    fn publish<'a>(&'a self, subject: &'a str, text: &'a str) -> Publishing<'a> {
        assert!(subject.len() < 100 && subject.is_ascii());
        let refused = self.0.fetch_add(1, std::sync::atomic::Ordering::Relaxed) == 0;
        if !refused {
            self.1.send(text.to_owned()).unwrap();
        }
        Box::pin(async move { if refused { Err(unreachable()) } else { Ok(()) } })
    }
}

#[tokio::test]
async fn it_is_said_once_each_over_restarts_and_again_until_it_is_accepted() {
    let folder = tempfile::tempdir().unwrap();
    let (said, mut hears) = tokio::sync::mpsc::unbounded_channel();
    let start = |reach: &Reach| {
        let topic = Box::new(Heard(std::sync::atomic::AtomicU32::new(0), said.clone()));
        let gasp = LastGasp::new("a".into(), reach.clone(), topic, folder.path());
        let stop = CancellationToken::new();
        (tokio::spawn(gasp.run(stop.clone())), stop)
    };
    let long_ago = Instant::now() - AFTER;
    let reach = Reach::new(1);
    reach.attempted(0, &attempt(0, long_ago));
    let (task, stop) = start(&reach);
    assert!(hears.recv().await.unwrap().starts_with("CUT OFF a: "));
    // It is kept once it was said; a restart must find it.
    while !folder.path().join("last-gasp").exists() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.unwrap();

    // The next process finds the same outage, and is silent; then it is over.
    let reach = Reach::new(1);
    reach.attempted(0, &attempt(0, long_ago));
    let (task, stop) = start(&reach);
    tokio::time::timeout(2 * LOOK, hears.recv()).await.unwrap_err();
    reach.attempted(0, &attempt(1, Instant::now()));
    assert!(hears.recv().await.unwrap().starts_with("BACK a: "));
    while folder.path().join("last-gasp").exists() {
        tokio::task::yield_now().await;
    }
    stop.cancel();
    task.await.unwrap();
}
