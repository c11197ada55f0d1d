//! Pages are muted by a file of silences, while the alerter runs and over its restarts.

use super::*;
use crate::silences;
use crate::story::{self, Which};

/// What a running alerter is told of its file of silences.
fn silenced(scene: &Scene, text: &str) -> Edit {
    let known = silences::Known::of(&scene.topology(), &scene.config);
    let all = silences::parse(text.as_bytes(), "silences.toml".as_ref(), Some(&known), clock::now());
    Edit::Silences { file: "silences.toml".into(), text: text.as_bytes().to_vec(), all: all.unwrap() }
}

/// A silence of a link or a rule until then.
fn silence(key: &str, glob: &str, until: Timestamp) -> String {
    let id = glob.replace('*', "");
    format!("[[silence]]\nid = \"{id}\"\n{key} = \"{glob}\"\nuntil = \"{until}\"\nwhy = \"swap\"\n")
}

#[tokio::test(flavor = "multi_thread")]
async fn a_silence_mutes_what_begins_in_it_and_what_still_fires_at_its_end_pages() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a", "b", "c"], vec![oncall.receiver("oncall")]);
    let alerter = scene.open().unwrap();
    let (edits, stop) = (alerter.edits(), CancellationToken::new());
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    scene.sees("a", &[false, false, false]);
    let before = oncall.next_of(RULE).await;
    let hour = clock::now() + Duration::from_secs(3_600);
    let all: Vec<String> = ["l", "b", "c"].iter().map(|link| silence("link", link, hour)).collect();
    edits.tell(silenced(&scene, &all.concat())).await.unwrap();

    // Begun before: its end is told. Begun and ended within: nobody is told. Begun within: told once the silence is over.
    scene.sees("a", &[true]);
    scene.sees("b", &[false, false, false]);
    scene.sees("c", &[false, false, false]);
    let resolved = oncall.next_of(RULE).await;
    assert_eq!((&resolved.id, &*resolved.state), (&before.id, "resolved"));
    let muted = |status: &Status| status.incidents.iter().filter(|of| of.muted.is_some()).count();
    let status = scene.until(|status| muted(status) == 2).await;
    assert_eq!(status.incidents[0].muted.as_deref(), Some("swap (b)"));
    assert_eq!(status.subjects.iter().filter(|of| of.state == "firing").count(), 2, "they are judged");
    scene.sees("b", &[true]);
    scene.until(|status| muted(status) == 1).await;
    let active = status::silences(&scene.file(), clock::now()).unwrap();
    assert_eq!(active.iter().map(|of| &*of.covers).collect::<Vec<_>>(), ["link l", "link b", "link c"]);

    // Over a restart that does not read the file the silences are in force.
    Running { stop, task }.stop().await.unwrap();
    let alerter = scene.open().unwrap();
    let (edits, stop) = (alerter.edits(), CancellationToken::new());
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    scene.sees("a", &[false, false, false]);
    scene.until(|status| muted(status) == 2).await;

    // One silence is over by itself, another is taken back.
    let soon = clock::now() + Duration::from_millis(1_500);
    edits.tell(silenced(&scene, &(silence("link", "c", soon) + &silence("link", "b", hour)))).await.unwrap();
    let first = oncall.next_of(RULE).await;
    assert_eq!((&*first.state, &*first.link), ("firing", "l"), "whose silence is gone");
    let second = oncall.next_of(RULE).await;
    assert_eq!((&*second.state, &*second.link), ("firing", "c"), "at the end of its silence");
    assert!(clock::now() >= soon);
    scene.sees("c", &[true]);
    assert_eq!(oncall.next_of(RULE).await.id, second.id);
    let quiet = story::incidents(&scene.file(), Which::Silenced(Timestamp::MIN)).unwrap();
    assert_eq!(
        quiet.iter().map(|of| (&*of.place, of.muted.as_deref())).collect::<Vec<_>>(),
        [("b", Some("swap (b)"))]
    );
    Running { stop, task }.stop().await.unwrap();
    let told: Vec<String> = std::iter::from_fn(|| oncall.requests.try_recv().ok()).collect();
    assert!(told.iter().all(|told| !told.contains("\"link\":\"b\"")), "{told:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn wrong_silences_leave_the_former_in_force_and_are_told_once_over_restarts() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![oncall.receiver("oncall")]);
    let mut alerter = scene.open().unwrap();
    let hour = clock::now() + Duration::from_secs(3_600);
    alerter.take(&silenced(&scene, &silence("rule", "ping-*", hour))).unwrap().unwrap();
    let refused =
        Edit::Refused { file: "silences.toml".into(), why: "line 2: there is no link 'x'".to_owned() };
    alerter.take(&refused).unwrap().unwrap();
    let mut id = None;
    for _ in 0..2 {
        let stop = CancellationToken::new();
        let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
        scene.sees("a", &[true, false, false, false]);
        scene.until(|status| status.incidents.iter().any(|of| of.muted.is_some())).await;
        let told = match id.take() {
            None => oncall.next_of("config-refused").await.id,
            Some(id) => id,
        };
        id = Some(told);
        scene.sees("a", &[true]);
        scene.until(|status| status.incidents.len() == 1 && status.owed.is_empty()).await;
        Running { stop, task }.stop().await.unwrap();
        alerter = scene.open().unwrap();
        alerter.take(&refused).unwrap().unwrap();
    }
    alerter.take(&silenced(&scene, "")).unwrap().unwrap();
    let stop = CancellationToken::new();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    let mended = oncall.next_of("config-refused").await;
    assert_eq!((Some(mended.id), &*mended.state), (id, "resolved"), "told once, and then mended");
    scene.sees("a", &[false, false, false]);
    assert_eq!(oncall.next_of(RULE).await.state, "firing");
    Running { stop, task }.stop().await.unwrap();
}
