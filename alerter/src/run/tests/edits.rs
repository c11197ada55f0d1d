//! The config is edited, while the alerter runs or before it starts.

use super::*;
use crate::config::Secret;

/// What a running alerter is told of its config's file.
fn edited(config: &Config) -> Edit {
    Edit::Config { file: "crosswatch.toml".into(), judged: String::new(), config: Box::new(config.clone()) }
}

#[tokio::test(flavor = "multi_thread")]
async fn rules_and_receivers_are_edited_while_it_runs() {
    let (mut oncall, mut second) = (Endpoint::start([]).await, Endpoint::start([]).await);
    let mut scene = Scene::new(&["a"], vec![oncall.receiver("oncall")]);
    scene.config.rules[0].rule = rule(4);
    let alerter = scene.open().unwrap();
    let edits = alerter.edits();
    let stop = CancellationToken::new();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    scene.sees("a", &[true, false, false, false]);
    let seen = |status: &Status| status.subjects.iter().any(|of| of.rule == RULE) && !status.sites.is_empty();
    scene.until(seen).await;

    // A threshold that three losses breach: those that were seen suffice.
    scene.config.rules[0].rule = rule(3);
    edits.tell(edited(&scene.config)).await.unwrap();
    let firing = oncall.next_of(RULE).await;
    assert_eq!((&*firing.state, &*firing.reason), ("firing", "rule changed: 3 of 3 lost"));

    // Another receiver, and a rule that is on something else: the former is over, and the new one begins.
    scene.config.receivers.push(second.receiver("second"));
    let other =
        ConfiguredRule { rule: Rule { name: "other".into(), ..rule(1) }, notify: vec!["second".into()] };
    scene.config.rules = vec![other];
    edits.tell(edited(&scene.config)).await.unwrap();
    let resolved = oncall.next_of(RULE).await;
    assert_eq!((&*resolved.state, &*resolved.reason), ("resolved", "rule removed"));
    assert_eq!(resolved.id, firing.id);
    scene.sees("a", &[false]);
    assert_eq!(second.next_of("other").await.state, "firing");
    let status = scene.until(|status| status.owed.is_empty()).await;
    assert!(status.subjects.iter().all(|of| of.rule != RULE), "{status:?}");

    // After a restart with the same config nothing has changed.
    Running { stop, task }.stop().await.unwrap();
    let alerter = scene.start();
    scene.sees("a", &[true]);
    assert_eq!(second.next_of("other").await.reason, "not below 1");
    alerter.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_bad_edit_changes_nothing_and_is_told_once_and_mended() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![oncall.receiver("oncall")]);
    let alerter = scene.open().unwrap();
    let edits = alerter.edits();
    let stop = CancellationToken::new();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    let bad = |why: &str| Edit::Refused { file: "crosswatch.toml".into(), why: why.to_owned() };
    edits.tell(bad("line 3: 'below' must be a number")).await.unwrap();
    let first = oncall.next_of("config-refused").await;
    assert_eq!(
        first.text,
        "FIRING config-refused crosswatch.toml: line 3: 'below' must be a number (config-refused)"
    );
    edits.tell(bad("line 4: 'above' must be a number")).await.unwrap();
    let mut both = [oncall.next_of("config-refused").await, oncall.next_of("config-refused").await];
    both.sort_by_key(|told| told.id != first.id);
    let [over, second] = both;
    assert_eq!((&over.id, &*over.state), (&first.id, "resolved"));
    assert!(second.id != first.id && second.reason.starts_with("line 4"), "{second:?}");
    scene.sees("a", &[false, false, false]);
    assert_eq!(oncall.next_of(RULE).await.state, "firing", "the former rules are in force");

    // One whose webhook cannot be used is refused, and changes nothing either.
    let mut unusable = scene.config.clone();
    unusable.rules.clear();
    unusable.receivers[0].webhook = Some(Secret::File("/nowhere/url".into()));
    let why = edits.tell(edited(&unusable)).await.unwrap_err();
    assert!(why.contains("notify.oncall") && why.contains("/nowhere/url"), "{why}");
    scene.sees("a", &[true]);
    assert_eq!(oncall.next_of(RULE).await.state, "resolved", "nor are they now");

    edits.tell(edited(&scene.config)).await.unwrap();
    let mended = oncall.next_of("config-refused").await;
    assert_eq!((&mended.id, &*mended.reason), (&second.id, "it is valid, and in force"));

    // It is mended by a restart, too, which reads the file.
    edits.tell(bad("line 5")).await.unwrap();
    let third = oncall.next_of("config-refused").await;
    scene.until(|status| status.owed.is_empty()).await;
    Running { stop, task }.stop().await.unwrap();
    let alerter = scene.start();
    assert_eq!(oncall.next_of("config-refused").await.id, third.id);
    alerter.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_edit_that_cannot_be_written_is_taken_once_it_can() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![oncall.receiver("oncall")]);
    let mut alerter = scene.open().unwrap();
    let (edits, stop) = (alerter.edits(), CancellationToken::new());
    scene.sees("a", &[false, false, false]);
    alerter.judging.step(&stop).await.unwrap();
    assert_eq!(alerter.judging.memory.subjects().iter().filter(|of| of.firing).count(), 1);
    let other = Connection::open(scene.file()).unwrap();
    let trigger = "CREATE TRIGGER full BEFORE DELETE ON rule BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(trigger).unwrap();
    scene.config.rules.clear();
    let edit = edited(&scene.config);
    let told = AbortOnDropHandle::new(tokio::spawn(async move { edits.tell(edit).await }));
    while alerter.judging.orders.is_empty() {
        tokio::task::yield_now().await;
    }
    for _ in 0..2 {
        let error = alerter.judging.step(&stop).await.unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
        assert_eq!(status::read(&scene.file()).unwrap().unwrap().incidents.len(), 1, "nothing was half done");
    }
    other.execute_batch("DROP TRIGGER full").unwrap();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    told.await.unwrap().unwrap();
    assert_eq!(oncall.next_of(RULE).await.state, "firing");
    assert_eq!(oncall.next_of(RULE).await.reason, "rule removed");
    Running { stop, task }.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rule_that_was_changed_or_removed_ends_its_incidents() {
    let mut endpoint = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall")]);
    for (change, reason) in [(1, "rule changed"), (0, "rule removed")] {
        scene.config.rules[0].rule.metric = Metric::PingOk;
        let alerter = scene.start();
        scene.sees("a", &[false, false, false]);
        let firing = endpoint.next_of(RULE).await;
        assert_eq!(firing.state, "firing");
        scene.until(|status| status.owed.is_empty()).await;
        alerter.stop().await.unwrap();
        if change == 0 {
            scene.config.rules.clear();
        } else {
            scene.config.rules[0].rule.metric = Metric::CollectionOk;
        }
        let alerter = scene.start();
        let resolved = endpoint.next_of(RULE).await;
        assert_eq!((&*resolved.state, &*resolved.reason), ("resolved", reason));
        assert_eq!(resolved.id, firing.id);
        alerter.stop().await.unwrap();
    }
}

/// Another alerter's queue that takes everything.
struct Takes;

impl crate::peer::Tells for Takes {
    fn tell<'a>(&'a self, bodies: &'a [String]) -> crate::peer::Telling<'a> {
        Box::pin(async { vec![Ok(()); bodies.len()] })
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_an_edit_of_before_the_start_ends_waits_for_the_other_alerters_word_as_well() {
    let mut endpoint = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall")]);
    let alerter = scene.start();
    scene.sees("a", &[false, false, false]);
    endpoint.next_of(RULE).await;
    scene.until(|status| status.owed.is_empty()).await;
    alerter.stop().await.unwrap();

    // The other may have been edited first, and have told the end.
    scene.config.rules.clear();
    scene.peer = Some(Peer { rank: Rank::First, queue: Arc::new(Takes) });
    let begun = clock::now();
    let alerter = scene.start();
    let resting = async {
        loop {
            let file = Connection::open(scene.file()).unwrap();
            let resolved: (String, i64) = file
                .query_row(
                    "SELECT standing, next_try FROM notification WHERE state = 'resolved'",
                    [],
                    |row| Ok((row.get(0)?, row.get(1)?)),
                )
                .unwrap();
            assert_eq!(resolved.0, "owed", "it was paged before the queue was read");
            if resolved.1 >= (begun + KEPT).as_micros() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(BOUND, resting).await.expect("it does not rest");
    alerter.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_receiver_was_owed_goes_with_it_and_is_counted() {
    let mut endpoint = Endpoint::start([]).await;
    let mut gone = endpoint.receiver("gone");
    gone.webhook = Some(Secret::Value("http://127.0.0.1:1/".to_owned()));
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall"), gone]);
    let alerter = scene.start();
    scene.sees("a", &[false, false, false]);
    endpoint.next_of(RULE).await;
    scene.until(|status| status.owed.len() == 1).await;
    alerter.stop().await.unwrap();
    scene.config.receivers.pop();
    scene.config.rules[0].notify.pop();
    scene.registry = Registry::default();
    scene.open().unwrap();
    assert_eq!(status::read(&scene.file()).unwrap().unwrap().owed, []);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &scene.registry).unwrap();
    let counted =
        r#"crosswatch_alerter_notifications_total{receiver="gone",channel="webhook",result="abandoned"} 1"#;
    assert!(text.contains(counted), "{text}");
}
