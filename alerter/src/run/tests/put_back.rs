//! What replays put back pages where that is asked for, once, and moves nothing else.

use crosswatch_queue::put_back;
use crosswatch_shared::wire::{PutBack, encode_put_back};

use super::*;

/// Three losses of a site's probe, with numbers from here on, as a replay puts them back.
pub(super) fn losses(site: &str, boot: &str, from: u64, at: Timestamp, pages: bool) -> PutBack {
    let observation = |seq: u64| Observation {
        at: at + Duration::from_millis(seq - from),
        seq,
        body: Body::Probe {
            link: link_of(site).into(),
            probe: "icmp:10.0.0.1".into(),
            outcome: Outcome::Lost(Lost::Timeout),
            detail: None,
        },
    };
    PutBack {
        origin: Origin { site: site.into(), collector: "c".into(), boot: boot.into() },
        pages,
        observations: (from..from + 3).map(observation).collect(),
    }
}

pub(super) fn lay(desk: &mut Writer, of: &PutBack) {
    let PutBack { origin, observations, .. } = of;
    let (origin, observations) = (origin.clone(), observations.clone());
    let entry = Batch { origin, number: 0, through: clock::now(), observations };
    desk.append_texts([(&entry, encode_put_back(of))], clock::now()).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_put_back_pages_only_where_that_is_asked_for_and_once_and_moves_no_event_time() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a", "b", "d"], vec![oncall.receiver("oncall")]);
    let alerter = scene.start();
    scene.sees("a", &[true]);
    scene.sees("d", &[true]);
    let heard = |status: &Status| status.sites.iter().filter(|site| site.event_time.is_some()).count();
    let before = scene.until(|status| heard(status) == 2).await;

    let mut desk = Writer::open(&put_back::folder(scene.folder.path()), put_back::NAME).unwrap();
    // Newer than all that the alerter knows, and not to be judged; of a boot that would come after the living one for all
    // that anybody knows; and to be judged, of a site that was never heard.
    lay(&mut desk, &losses("a", "of a", 100, clock::now(), false));
    lay(&mut desk, &losses("d", "never seen", 0, clock::now(), true));
    let of_b = losses("b", "of b", 100, clock::now(), true);
    lay(&mut desk, &of_b);
    let firing = oncall.next_of(RULE).await;
    assert_eq!((&*firing.state, &*firing.link), ("firing", "b"));
    lay(&mut desk, &of_b);
    // Settled, all of it, since this page comes of what lies behind it.
    let mut of_a = losses("a", "of a", 200, clock::now(), true);
    lay(&mut desk, &of_a);
    let firing = oncall.next_of(RULE).await;
    assert_eq!((&*firing.state, &*firing.link), ("firing", "l"));
    let status = scene.until(|status| status.owed.is_empty()).await;
    let times = |status: &Status| {
        let times = status.sites.iter().map(|site| (site.site.clone(), site.event_time));
        times.collect::<Vec<_>>()
    };
    assert_eq!(times(&status), times(&before), "b was not heard, and a is where it was");
    let of_rule = status.incidents.iter().flat_map(|of| &of.symptoms).filter(|of| of.rule == RULE);
    assert_eq!(of_rule.count(), 2, "{status:?}");

    // What the collector itself sends goes on from there.
    scene.sees("a", &[true]);
    let resolved = oncall.next_of(RULE).await;
    assert_eq!((&*resolved.state, &*resolved.link), ("resolved", "l"));
    alerter.stop().await.unwrap();

    // Another life knows what it had, and does not let what is older than the newest change anything.
    let alerter = scene.start();
    of_a.observations.iter_mut().for_each(|of| of.seq += 50);
    of_a.observations.iter_mut().for_each(|of| of.at = of.at - Duration::from_secs(60));
    lay(&mut desk, &of_a);
    lay(&mut desk, &of_b);
    scene.sees("b", &[true]);
    let resolved = oncall.next_of(RULE).await;
    assert_eq!((&*resolved.state, &*resolved.link), ("resolved", "b"));
    assert!(oncall.requests.is_empty());
    alerter.stop().await.unwrap();
}
