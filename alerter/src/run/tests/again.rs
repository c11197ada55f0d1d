//! What was judged live, through edits and a restart, is judged again the same from the journals and the alerter's own file.

use std::collections::{BTreeMap, BTreeSet};

use crosswatch_journal::{Reader, file};
use crosswatch_queue::put_back;
use crosswatch_shared::wire::{Names, decode_batch};

use super::put_back::{lay, losses};
use super::*;
use crate::again::Again;
use crate::judged::{self, Decision, Judged};
use crate::simulation::books::{self, Books};
use crate::simulation::oracle;

#[tokio::test(flavor = "multi_thread")]
async fn what_was_judged_by_several_configs_is_judged_again_the_same() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a", "b"], vec![oncall.receiver("oncall")]);
    let with = |scene: &Scene, of: usize| {
        let mut config = scene.config.clone();
        config.rules[0].rule = rule(of);
        config
    };
    let configs =
        HashMap::from([("four", with(&scene, 4)), ("three", with(&scene, 3)), ("one", with(&scene, 1))]);
    scene.config = configs["four"].clone();
    drop(scene.open().unwrap());
    books::keep(&scene.file()).unwrap();
    let mut alerter = scene.open().unwrap();
    alerter.judges_by("four").unwrap();
    let edits = alerter.edits();
    let stop = CancellationToken::new();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    scene.sees("a", &[true, false, false, false]);
    scene.until(|status| status.sites.iter().any(|of| of.site == "a")).await;
    let config = Box::new(configs["three"].clone());
    let edit = Edit::Config { file: "crosswatch.toml".into(), judged: "three".to_owned(), config };
    edits.tell(edit).await.unwrap();
    assert_eq!(oncall.next_of(RULE).await.reason, "rule changed: 3 of 3 lost");
    // One that was never heard, which only the alerter's own clock tells.
    let (mut silent, mut resolved) = (false, false);
    while !(silent && resolved) {
        scene.sees("a", &[true]);
        tokio::time::sleep(Duration::from_millis(100)).await;
        while let Ok(request) = oncall.requests.try_recv() {
            silent |= request.contains("site-silent");
            resolved |= request.contains(RULE) && request.contains(r#""state":"resolved""#);
        }
    }
    Running { stop, task }.stop().await.unwrap();

    scene.config = configs["one"].clone();
    let mut alerter = scene.open().unwrap();
    alerter.judges_by("one").unwrap();
    alerter.judges_by("one").unwrap();
    let stop = CancellationToken::new();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    scene.sees("b", &[true, false]);
    assert_eq!(oncall.next_of(RULE).await.subject, "b/b/icmp:10.0.0.1");
    Running { stop, task }.stop().await.unwrap();

    let decisions = judged::read(&scene.file()).unwrap();
    let texts = decisions.iter().filter_map(|of| match &of.decision {
        Decision::Config(text) => Some(text.as_str()),
        _ => None,
    });
    assert_eq!(texts.collect::<Vec<_>>(), ["four", "three", "one"]);
    let topology = scene.topology();
    let parse = Box::new(|text: &str| Some((configs.get(text)?.clone(), topology.clone())));
    let again = Again::new(&configs["four"], &topology, decisions, parse).unwrap();
    let rules = comes_to_the_same(&scene, again);
    assert!(rules.contains("site-silent") && rules.contains(RULE), "{rules:?}");
}

/// What the journals of a scene and its alerter's decisions come to is what was judged live; gives the rules that said something.
fn comes_to_the_same(scene: &Scene, mut again: Again<'_>) -> BTreeSet<String> {
    let mut out = Vec::new();
    for site in &scene.sites {
        let mut reader = Reader::open(&file(scene.folder.path(), site)).unwrap();
        for entry in reader.after(0, 1_000, usize::MAX).unwrap() {
            let batch = decode_batch(&entry.payload, &mut Names::default()).unwrap().batch;
            again.take(batch, entry.written_at, &mut out).unwrap();
        }
    }
    assert_eq!(again.end(&mut out).unwrap(), 0);
    let live = Books::read(&scene.file()).unwrap().told;
    assert_eq!(oracle::by_subject(out), live);
    live.into_keys().map(|(rule, _)| rule).collect()
}

/// What a replay puts back to be judged is in no journal that is kept: it stands among what was decided, once, as far as it
/// was new.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_put_back_to_be_judged_is_judged_again_the_same() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a", "b"], vec![oncall.receiver("oncall")]);
    drop(scene.open().unwrap());
    books::keep(&scene.file()).unwrap();
    let alerter = scene.start();
    scene.sees("a", &[true]);
    scene.until(|status| status.sites.iter().any(|of| of.site == "a")).await;
    let mut desk = Writer::open(&put_back::folder(scene.folder.path()), put_back::NAME).unwrap();
    // Two of its three losses; the third comes by a batch afterwards, and decides.
    let mut of_a = losses("a", "of a", 1, clock::now(), true);
    let third = of_a.observations.pop().unwrap();
    lay(&mut desk, &of_a);
    // Of a site that was never heard.
    let of_b = losses("b", "of b", 100, clock::now(), true);
    lay(&mut desk, &of_b);
    assert_eq!(oncall.next_of(RULE).await.link, "b");
    lay(&mut desk, &of_b);
    let (writer, number, seq) = scene.writers.get_mut("a").unwrap();
    let through = third.at + Duration::from_millis(1);
    let batch = Batch { origin: of_a.origin.clone(), number: *number, through, observations: vec![third] };
    writer.append(&batch, through).unwrap();
    (*number, *seq) = (*number + 1, 4);
    assert_eq!(oncall.next_of(RULE).await.link, "l");
    scene.sees("a", &[true]);
    let resolved = oncall.next_of(RULE).await;
    assert_eq!((&*resolved.state, &*resolved.link), ("resolved", "l"));
    alerter.stop().await.unwrap();
    drop(desk);
    std::fs::remove_dir_all(put_back::folder(scene.folder.path())).unwrap();

    let decisions = judged::read(&scene.file()).unwrap();
    let kept = decisions.iter().filter_map(|of| match &of.decision {
        Decision::PutBack(of) => Some(of.clone()),
        _ => None,
    });
    assert_eq!(kept.collect::<Vec<_>>(), [of_a, of_b]);
    let again = Again::new(&scene.config, &scene.topology(), decisions, Box::new(|_| None)).unwrap();
    assert!(comes_to_the_same(&scene, again).contains(RULE));
}

/// The journals are kept for a time; decisions about batches that went with them hold up nothing.
#[test]
fn decisions_about_batches_that_were_pruned_hold_up_nothing() {
    let scene = Scene::new(&["a"], Vec::new());
    let mut config = scene.config.clone();
    config.rules[0].rule = rule(1);
    let begin = Timestamp::from_secs(1_000);
    let places = BTreeMap::from([("a".into(), ("c".into(), "1".into(), 5))]);
    let decision = Decision::Skipped { site: "a".into(), next: 9 };
    let judged = Judged { at: begin, places, decision };
    let mut again = Again::new(&config, &scene.topology(), vec![judged], Box::new(|_| None)).unwrap();
    let later = begin + Duration::from_secs(60);
    let batch = Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "1".into() },
        number: 20,
        through: later,
        observations: vec![Observation {
            at: later,
            seq: 20,
            body: Body::Probe {
                link: "l".into(),
                probe: "icmp:10.0.0.1".into(),
                outcome: Outcome::Lost(Lost::Timeout),
                detail: None,
            },
        }],
    };
    let mut out = Vec::new();
    again.take(batch, later, &mut out).unwrap();
    assert_eq!(out.len(), 1, "{out:?}");
}
