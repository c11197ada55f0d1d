//! The alerter as a whole: a real journal in front of it, a real webhook behind it.

mod again;
mod edits;
mod put_back;
mod silences;

use std::collections::HashMap;
use std::time::Instant;

use crosswatch_host::clock;
use crosswatch_host::health::Health;
use crosswatch_journal::Writer;
use crosswatch_judge::rule::{Breach, Metric, Missing, Side};
use crosswatch_shared::config::topology::{Host, Link, Probe, Queue, QueueKind, Site, Target};
use crosswatch_shared::config::values::Rate;
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Origin, Outcome};

use super::*;
use crate::config::{ConfiguredRule, Receiver};
use crate::status::{self, Status};
use crate::testing::{BOUND, Endpoint};

const RULE: &str = "ping-failed";

/// A folder with the journals of its sites.
struct Scene {
    folder: tempfile::TempDir,
    sites: Vec<Name>,
    writers: HashMap<Name, (Writer, u64, u64)>,
    config: Config,
    kind: QueueKind,
    peer: Option<Peer>,
    registry: Registry,
}

/// An alerter that runs.
struct Running {
    stop: CancellationToken,
    task: AbortOnDropHandle<Result<(), Error>>,
}

impl Scene {
    fn new(sites: &[&str], receivers: Vec<Receiver>) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let sites: Vec<Name> = sites.iter().map(|&site| site.into()).collect();
        let writers = sites
            .iter()
            .map(|site| (site.clone(), (Writer::open(folder.path(), site).unwrap(), 0, 0)))
            .collect();
        let notify = receivers.iter().map(|receiver| receiver.name.clone()).collect();
        let rules = vec![ConfiguredRule { rule: rule(3), notify }];
        Self {
            folder,
            sites,
            writers,
            config: Config { rules, receivers, ..Config::default() },
            kind: QueueKind::Embedded,
            peer: None,
            registry: Registry::default(),
        }
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("alerter.db")
    }

    fn topology(&self) -> Topology {
        let probe = |site: &Name| Probe {
            name: "icmp:10.0.0.1".into(),
            from: site.clone(),
            target: Target::Icmp(Host::Address([10, 0, 0, 1].into())),
            every: Duration::from_secs(1),
            timeout: Duration::from_millis(200),
            burst: 1,
            size: None,
        };
        let link = |site: &Name| Link {
            name: link_of(site).into(),
            between: vec![site.clone()],
            vpns: Vec::new(),
            appliances: Vec::new(),
            probes: vec![probe(site)],
        };
        Topology {
            sites: self
                .sites
                .iter()
                .map(|name| Site { name: name.clone(), region: None, role: None, topic: None })
                .collect(),
            links: self.sites.iter().map(link).collect(),
            queue: Queue {
                path: self.folder.path().to_owned(),
                kind: self.kind.clone(),
                keep: Duration::from_secs(3600),
                max_bytes: 1 << 30,
            },
            listen: None,
        }
    }

    fn open(&mut self) -> Result<Alerter, Error> {
        let folder = self.folder.path();
        let beside = crosswatch_queue::put_back::folder(folder);
        let source = Source::of_stage(folder.to_owned(), self.sites.clone(), beside);
        let part = Health::default().part("alerter");
        let (topology, file) = (self.topology(), self.file());
        let (peer, config) = (self.peer.clone(), self.config.clone());
        Alerter::open(peer, config, &topology, &file, source, &mut self.registry, part)
    }

    fn start(&mut self) -> Running {
        let stop = CancellationToken::new();
        let task = tokio::spawn(self.open().unwrap().run(stop.clone()));
        Running { stop, task: AbortOnDropHandle::new(task) }
    }

    /// A site's collector writes a batch of these outcomes.
    fn sees(&mut self, site: &str, replies: &[bool]) {
        self.saw(site, replies, clock::now());
    }

    /// The same, at this time.
    fn saw(&mut self, site: &str, replies: &[bool], now: Timestamp) {
        let (writer, number, seq) = self.writers.get_mut(site).unwrap();
        let observations = replies.iter().zip(0..).map(|(&reply, place)| Observation {
            at: now + Duration::from_micros(place),
            seq: *seq + place,
            body: Body::Probe {
                link: link_of(site).into(),
                probe: "icmp:10.0.0.1".into(),
                outcome: if reply { Outcome::Reply { rtt_ms: 1.0 } } else { Outcome::Lost(Lost::Timeout) },
                detail: None,
            },
        });
        let batch = Batch {
            // A boot is one site's; by boot and number a batch is known again.
            origin: Origin { site: site.into(), collector: "c".into(), boot: format!("of {site}").into() },
            number: *number,
            through: now + Duration::from_micros(replies.len() as u64),
            observations: observations.collect(),
        };
        *number += 1;
        *seq += replies.len() as u64;
        writer.append(&batch, now).unwrap();
    }

    /// What the file says once it says this.
    async fn until(&self, reached: impl Fn(&Status) -> bool) -> Status {
        let reached = async {
            loop {
                match status::read(&self.file()).unwrap() {
                    Some(status) if reached(&status) => return status,
                    _ => tokio::time::sleep(Duration::from_millis(5)).await,
                }
            }
        };
        tokio::time::timeout(BOUND, reached).await.expect("the file never came to say so")
    }
}

impl Running {
    async fn stop(self) -> Result<(), Error> {
        self.stop.cancel();
        tokio::time::timeout(BOUND, self.task).await.unwrap().unwrap()
    }
}

/// A link a site, so that each has an incident of its own.
fn link_of(site: &str) -> &str {
    if site == "a" { "l" } else { site }
}

fn rule(of: usize) -> Rule {
    Rule {
        name: RULE.into(),
        metric: Metric::PingOk,
        side: Side::Below,
        threshold: 1.0.into(),
        clear_threshold: None,
        breach: Breach { m: of, n: of },
        clear: None,
        window: None,
        deadline: None,
        missing: Missing::Hold,
        subjects: Vec::new(),
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn an_outage_pages_and_its_end_does_too_over_a_restart() {
    let mut endpoint = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall")]);
    let alerter = scene.start();
    scene.sees("a", &[true, false, false]);
    scene.sees("a", &[false]);
    let firing = endpoint.next_of(RULE).await;
    assert_eq!((&*firing.state, &*firing.subject, &*firing.link), ("firing", "l/a/icmp:10.0.0.1", "l"));
    assert_eq!(firing.text, "FIRING link-lost l: the only probe lost (ping-failed)");
    let status = scene.until(|status| status.owed.is_empty()).await;
    assert_eq!(status.incidents[0].id, firing.id);
    let subject = status.subjects.iter().find(|of| of.rule == RULE).unwrap();
    assert_eq!((&*subject.state, subject.value), ("firing", Some(0.0)));
    alerter.stop().await.unwrap();

    let alerter = scene.start();
    scene.sees("a", &[true]);
    let resolved = endpoint.next_of(RULE).await;
    assert_eq!((&*resolved.state, &resolved.id), ("resolved", &firing.id));
    let status = scene.until(|status| status.owed.is_empty()).await;
    assert_eq!(resolved.text.split(" over").next().unwrap(), "RESOLVED link-lost l:");
    assert_eq!(status.incidents, []);
    alerter.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn the_pulse_is_fresh_once_every_site_was_heard_and_until_one_falls_silent() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a", "b"], vec![oncall.receiver("oncall")]);
    let alerter = scene.open().unwrap();
    let pulse = alerter.pulse();
    let stop = CancellationToken::new();
    let running = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    while oncall.requests.is_empty() {
        scene.sees("a", &[true]);
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    assert_eq!(oncall.next_of("site-silent").await.subject, "b", "which was never heard");
    assert!(!pulse.was_fresh(BOUND, Instant::now()));

    while !pulse.was_fresh(BOUND, Instant::now()) {
        scene.sees("a", &[true]);
        scene.sees("b", &[true]);
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    // Nothing more is written. A silence is paged a second after it began, which is as long as nothing was fresh.
    oncall.next_of("alerter-blind").await;
    assert!(!pulse.was_fresh(Duration::from_millis(900), Instant::now()));
    stop.cancel();
    tokio::time::timeout(BOUND, running).await.unwrap().unwrap().unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_site_that_falls_silent_pages_everybody_and_is_heard_again_over_a_restart() {
    let (mut first, mut second) = (Endpoint::start([]).await, Endpoint::start([]).await);
    let mut scene = Scene::new(&["a"], vec![first.receiver("one"), second.receiver("two")]);
    scene.config.rules[0].notify = vec!["one".into()];
    let alerter = scene.start();
    scene.sees("a", &[true]);
    let firing = first.next_of("site-silent").await;
    assert_eq!((&*firing.state, &*firing.subject), ("firing", "a"));
    assert_eq!(second.next_of("site-silent").await.id, firing.id);
    let status = scene.until(|status| status.owed.is_empty()).await;
    assert_eq!(status.sites[0].silent_since, Some(firing.at));
    alerter.stop().await.unwrap();
    let alerter = scene.start();
    scene.sees("a", &[true]);
    let resolved = second.next_of("site-silent").await;
    assert_eq!((resolved.state, resolved.id), ("resolved".to_owned(), firing.id));
    assert!(resolved.reason.starts_with("heard again"), "{}", resolved.reason);
    alerter.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn hours_that_nobody_judged_are_one_digest_and_a_page_for_what_still_burns() {
    let mut oncall = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a", "b"], vec![oncall.receiver("oncall")]);
    let then = clock::now() - Duration::from_secs(3 * 3600);
    // More than is read at once; a flaps all the time, and b is down from the first hour on.
    for second in 0..600_u32 {
        let at = then + Duration::from_secs(10) * second;
        scene.saw("a", if second % 200 == 100 { &[false; 3] } else { &[true] }, at);
        scene.saw("b", if second < 360 { &[true] } else { &[false; 3] }, at);
    }
    let alerter = scene.start();
    let (mut pages, mut digest) = (Vec::new(), None);
    while digest.is_none() {
        let body = oncall.next().await;
        match &*body.rule {
            RULE => pages.push(body),
            "catch-up" => digest = Some(body),
            // Nothing comes of the sites any more.
            _ => {}
        }
    }
    let ([page], Some(digest)) = (pages.as_slice(), digest) else { panic!("{pages:?}") };
    assert_eq!((&*page.state, &*page.place, &*page.rule), ("firing", "b", RULE));
    assert_eq!(page.at, then + Duration::from_secs(3600) + Duration::from_micros(2), "as of then");
    assert_eq!((&*digest.state, digest.value), ("resolved", Some(3.0)));
    let of: Vec<String> = digest.held.unwrap().into_iter().map(|of| of.place + &of.state).collect();
    assert_eq!(of, ["lresolved", "lresolved", "lresolved"]);

    // Now it is the present again.
    scene.sees("b", &[true]);
    let resolved = oncall.next_of(RULE).await;
    assert_eq!((&*resolved.state, &resolved.id), ("resolved", &page.id));
    alerter.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_step_that_cannot_be_written_is_taken_again_as_if_it_were_new() {
    let mut endpoint = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall")]);
    let mut alerter = scene.open().unwrap();
    let stop = CancellationToken::new();
    scene.sees("a", &[false, false, false]);
    let other = Connection::open(scene.file()).unwrap();
    let trigger =
        "CREATE TRIGGER full BEFORE INSERT ON notification BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(trigger).unwrap();
    for _ in 0..3 {
        let error = alerter.judging.step(&stop).await.unwrap_err();
        assert!(error.to_string().contains("no room"), "{error}");
        assert_eq!(status::read(&scene.file()).unwrap().unwrap().incidents, [], "nothing was half done");
    }
    other.execute_batch("DROP TRIGGER full").unwrap();
    let task = AbortOnDropHandle::new(tokio::spawn(alerter.run(stop.clone())));
    assert_eq!(endpoint.next_of(RULE).await.state, "firing");
    scene.sees("a", &[true]);
    assert_eq!(endpoint.next_of(RULE).await.state, "resolved", "the firing was told once");
    Running { stop, task }.stop().await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn state_that_cannot_be_understood_is_an_error_that_says_what_to_do() {
    let endpoint = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall")]);
    let alerter = scene.start();
    scene.sees("a", &[true]);
    scene.until(|status| !status.sites.is_empty()).await;
    alerter.stop().await.unwrap();
    let other = Connection::open(scene.file()).unwrap();
    other.execute("UPDATE engine SET value = x'00'", []).unwrap();
    let error = scene.open().err().unwrap();
    assert!(!error.is_temporary());
    let error = error.to_string();
    assert!(error.contains("alerter.db: the saved state '"), "{error}");
    assert!(error.contains("move it away"), "{error}");
}

#[tokio::test(flavor = "multi_thread")]
async fn many_outages_at_once_stay_within_the_limit() {
    let mut endpoint = Endpoint::start([]).await;
    let mut limited = endpoint.receiver("oncall");
    limited.at_most = Some(Rate { count: 2, per: Duration::from_secs(3600) });
    let sites: Vec<String> = (0..20).map(|number| format!("s{number}")).collect();
    let sites: Vec<&str> = sites.iter().map(String::as_str).collect();
    let mut scene = Scene::new(&sites, vec![limited]);
    for site in &sites {
        scene.sees(site, &[false, false, false]);
    }
    let alerter = scene.start();
    let first = [endpoint.next().await, endpoint.next().await];
    assert!(first.iter().all(|body| body.rule == RULE));
    let digest = endpoint.next().await;
    assert_eq!((&*digest.rule, &*digest.subject, &*digest.state), ("at-most", "oncall", "firing"));
    let told = digest.held.unwrap();
    let lost = told.iter().filter(|held| held.rule == RULE).count();
    assert_eq!(lost, 18, "each of the others is in the digest");
    alerter.stop().await.unwrap();
    assert!(endpoint.requests.is_empty());
}

#[tokio::test(flavor = "multi_thread")]
async fn over_sqs_what_came_is_kept_once_before_it_is_judged_and_pruned() {
    let mut endpoint = Endpoint::start([]).await;
    let mut scene = Scene::new(&["a"], vec![endpoint.receiver("oncall")]);
    scene.kind = QueueKind::Sqs { publisher: Vec::new(), alerter: Vec::new() };
    let history = crosswatch_journal::file(&crate::history::folder(scene.folder.path()), "a");
    let numbers = || {
        let mut reader = crosswatch_journal::Reader::open(&history).unwrap();
        let entries = reader.after(0, 1_000, usize::MAX).unwrap();
        let number = |payload: &[u8]| {
            crosswatch_shared::wire::decode_batch(payload, &mut Default::default()).unwrap().batch.number
        };
        entries.iter().map(|entry| number(&entry.payload)).collect::<Vec<_>>()
    };
    let stop = CancellationToken::new();
    let mut alerter = scene.open().unwrap();
    scene.sees("a", &[true]);
    scene.sees("a", &[false, false, false]);
    let other = Connection::open(scene.file()).unwrap();
    let trigger =
        "CREATE TRIGGER full BEFORE INSERT ON notification BEGIN SELECT RAISE(ABORT, 'no room'); END";
    other.execute_batch(trigger).unwrap();
    for _ in 0..2 {
        alerter.judging.step(&stop).await.unwrap_err();
        assert_eq!(numbers(), [0, 1], "kept although it could not be judged");
    }
    // As after a crash between the two.
    drop(alerter);
    other.execute_batch("DROP TRIGGER full").unwrap();
    scene.sees("a", &[true]);
    let mut alerter = scene.open().unwrap();
    alerter.judging.step(&stop).await.unwrap();
    assert_eq!(numbers(), [0, 1, 2], "each once");

    let history = alerter.judging.history.as_mut().unwrap();
    let later = Instant::now() + Duration::from_secs(7_200);
    history.prune(Instant::now(), clock::now() + Duration::from_secs(7_200));
    assert_eq!(numbers().len(), 3, "not due yet");
    history.prune(later, clock::now() + Duration::from_secs(7_200));
    assert_eq!(numbers(), [0; 0]);
    let running =
        Running { stop: stop.clone(), task: AbortOnDropHandle::new(tokio::spawn(alerter.run(stop))) };
    assert_eq!(endpoint.next_of(RULE).await.state, "firing");
    running.stop().await.unwrap();
}

/// A collector observes a drill that was asked for so long ago.
fn drills(scene: &mut Scene, id: &str, rule: Option<&str>, ago: Duration) {
    let (writer, number, seq) = scene.writers.get_mut("a").unwrap();
    let now = clock::now();
    let body = Body::Drill { id: id.into(), rule: rule.map(Into::into) };
    let batch = Batch {
        origin: Origin { site: "a".into(), collector: "c".into(), boot: "of a".into() },
        number: *number,
        through: now,
        observations: vec![Observation { at: now - ago, seq: *seq, body }],
    };
    (*number, *seq) = (*number + 1, *seq + 1);
    writer.append(&batch, now).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn a_drill_is_told_from_firing_to_resolved_and_leaves_no_other_trace() {
    let (mut oncall, mut desk) = (Endpoint::start([]).await, Endpoint::start([]).await);
    let mut scene = Scene::new(&["a"], vec![oncall.receiver("oncall"), desk.receiver("desk")]);
    scene.config.rules[0].notify = vec!["oncall".into()];
    scene.config.receivers[0].at_most = Some(Rate { count: 1, per: Duration::from_secs(3600) });
    let alerter = scene.start();
    scene.sees("a", &[true]);
    // One from yesterday, one whose id is not a drill's, and one for a rule that there is not, tell nobody.
    drills(&mut scene, "drill-0", None, Duration::from_secs(601));
    drills(&mut scene, "7a1f", None, Duration::ZERO);
    drills(&mut scene, "drill-00", Some("another"), Duration::ZERO);
    drills(&mut scene, "drill-1", Some(RULE), Duration::ZERO);
    for state in ["firing", "resolved"] {
        let told = oncall.next_of(RULE).await;
        assert_eq!((&*told.id, &*told.state, told.drill), ("drill-1", state, true));
        let word = state.to_uppercase();
        assert_eq!(told.text, format!("DRILL {word} {RULE} a: nothing is broken, this is a test page"));
    }
    drills(&mut scene, "drill-2", None, Duration::ZERO);
    for endpoint in [&mut oncall, &mut desk] {
        for state in ["firing", "resolved"] {
            let told = endpoint.next_of("drill").await;
            assert_eq!((&*told.id, &*told.state), ("drill-2", state));
        }
    }
    let status = scene.until(|status| status.owed.is_empty()).await;
    assert_eq!(status.incidents, []);
    let subject = status.subjects.iter().find(|of| of.rule == RULE).unwrap();
    assert_eq!((&*subject.state, subject.since), ("ok", None));
    // The one page of the hour that the limit leaves is still there.
    scene.sees("a", &[false, false, false]);
    let page = oncall.next_of(RULE).await;
    assert_eq!((&*page.state, page.drill), ("firing", false));
    assert!(page.text.starts_with("FIRING link-lost l"), "{}", page.text);
    alerter.stop().await.unwrap();
}
