//! Explanations of what real journals hold, and of what a real alerter made of them.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic)]

use std::path::{Path, PathBuf};
use std::time::Duration;

use crosswatch_alerter::Alerter;
use crosswatch_alerter::config::Config;
use crosswatch_alerter::edit::Edit;
use crosswatch_alerter::silences::{self, Known};
use crosswatch_explain::{Ask, Basis, ExplainError, Explanation, Kind, explain, words};
use crosswatch_host::health::Health;
use crosswatch_journal::Writer;
use crosswatch_queue::Source;
use crosswatch_shared::config::document;
use crosswatch_shared::config::topology::Topology;
use crosswatch_shared::observation::{Batch, Body, Lost, Name, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

const CONFIG: &str = r#"
[site.east]
[site.west]
[[link]]
name = "l"
between = ["east", "west"]
probe = [
  { from = "east", name = "p", icmp = "10.1.0.10", every = "1s" },
  { from = "west", name = "q", icmp = "10.0.0.10", every = "1s" },
]
[[rule]]
name = "lost"
metric = "ping_ok"
below = 1
breach = "3 of 3"
clear = 5
notify = ["oncall"]
[[rule]]
name = "slow"
metric = "latency_ms"
above = 200
breach = "2 of 3"
[notify.oncall]
command = ["cat"]
"#;

/// How long is waited for what must come.
const BOUND: Duration = Duration::from_secs(60);

fn read(text: &str) -> (Topology, Config) {
    document::read(Path::new("crosswatch.toml"), text.as_bytes(), |root| {
        let topology = Topology::take(root)?;
        let config = Config::take(root, Some(&topology))?;
        Some((topology, config))
    })
    .unwrap_or_else(|problems| panic!("{problems}"))
}

fn second(second: u64) -> Timestamp {
    "2026-11-22T07:00:00Z".parse::<Timestamp>().unwrap() + Duration::from_secs(second)
}

/// A folder with journals, and the config that reads them.
struct Scene {
    folder: tempfile::TempDir,
    topology: Topology,
    config: Config,
}

impl Scene {
    /// Each site sees so much of its probe, a second apart: milliseconds, or nothing for a loss.
    fn new(sites: &[(&str, &str, &[Option<f64>])]) -> Self {
        let (topology, config) = read(CONFIG);
        let scene = Self { folder: tempfile::tempdir().unwrap(), topology, config };
        for (site, probe, seen) in sites {
            let mut writer = Writer::open(&scene.journals(), site).unwrap();
            for (number, rtt_ms) in (0..).zip(*seen) {
                let at = second(number);
                let outcome = match rtt_ms {
                    Some(rtt_ms) => Outcome::Reply { rtt_ms: *rtt_ms },
                    None => Outcome::Lost(Lost::Timeout),
                };
                let body = Body::Probe { link: "l".into(), probe: (*probe).into(), outcome, detail: None };
                let batch = Batch {
                    origin: Origin { site: (*site).into(), collector: "c".into(), boot: "b".into() },
                    number,
                    through: at,
                    observations: vec![Observation { at, seq: number, body }],
                };
                writer.append(&batch, at + Duration::from_millis(200)).unwrap();
            }
        }
        scene
    }

    fn journals(&self) -> PathBuf {
        self.folder.path().join("journal")
    }

    fn file(&self) -> PathBuf {
        self.folder.path().join("alerter.db")
    }

    fn ask(&self, asked: &str, at: Option<Timestamp>) -> Result<Explanation, ExplainError> {
        explain(&Ask {
            asked,
            at,
            now: second(100),
            since: None,
            topology: &self.topology,
            config: &self.config,
            file: &self.file(),
            journal: &|_| self.journals(),
        })
    }

    /// A real alerter runs over the journals until its receiver has accepted so many notifications.
    fn alerted(&self, accepted: usize) {
        self.alerted_with("", "accepted", accepted);
    }

    /// The same with these silences, until so many notifications stand so.
    fn alerted_with(&self, silences: &str, standing: &str, count: usize) {
        let sites: Vec<Name> = self.topology.sites.iter().map(|site| site.name.clone()).collect();
        let source = Source::embedded(self.journals(), sites);
        let part = Health::default().part("alerter");
        let mut registry = Registry::default();
        let mut alerter = Alerter::open(
            None,
            self.config.clone(),
            &self.topology,
            &self.file(),
            source,
            &mut registry,
            part,
        )
        .unwrap();
        let known = Known::of(&self.topology, &self.config);
        let (text, file) = (silences.as_bytes(), Name::from("silences.toml"));
        let all = silences::parse(text, file.as_ref().as_ref(), Some(&known), second(0)).unwrap();
        alerter.take(&Edit::Silences { file, text: text.to_vec(), all }).unwrap().unwrap();
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build().unwrap();
        runtime.block_on(async {
            let stop = CancellationToken::new();
            let task = tokio::spawn(alerter.run(stop.clone()));
            let told = async {
                loop {
                    let explained = self.ask("l", None).unwrap();
                    let told = explained.incidents.iter().flat_map(|of| &of.told);
                    if told.filter(|of| of.standing == standing).count() >= count {
                        break;
                    }
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            };
            tokio::time::timeout(BOUND, told).await.expect("nobody was told");
            stop.cancel();
            task.await.unwrap().unwrap();
        });
    }
}

const UP: Option<f64> = Some(80.0);

/// Ten good seconds, then an outage.
fn outage(lost: usize) -> Vec<Option<f64>> {
    [vec![UP; 10], vec![None; lost]].concat()
}

#[test]
fn an_outage_is_told_from_its_datapoints_to_who_was_told() {
    let scene = Scene::new(&[("east", "p", &outage(4)), ("west", "q", &[UP; 14])]);
    let explained = scene.ask("l/east/p", Some(second(13))).unwrap();
    let id = explained.incidents[0].incident.id.clone();
    assert_eq!(
        words(&explained),
        format!(
            "l/east/p at 2026-11-22T07:00:13.000000Z, judged anew from 28 observations since 2026-11-22T07:00:00.000000Z\n\
             l/east/p\n\
             \x20 lost: FIRING since 2026-11-22T07:00:12.000000Z: 3 of 3 lost\n\
             \x20   fires when 3 of the newest 3 of ping_ok are below 1; over when 5 in a row are not below 1\n\
             \x20   3 of the newest 3 breach; 0 of 5 in a row do not\n\
             \x20   datapoints: 07:00:09.000 reply, 07:00:10.000 lost!, 07:00:11.000 lost!, 07:00:12.000 lost!, 07:00:13.000 lost!\n\
             \x20   it opened incident filtered ({}), which pages oncall\n\
             \x20   2026-11-22T07:00:12.000000Z firing: 3 of 3 lost\n\
             \x20 slow: ok\n\
             \x20   fires when 2 of the newest 3 of latency_ms are above 200 ms; over when fewer than 2 are\n\
             \x20   0 of the newest 3 breach; it takes 2\n\
             \x20   datapoints: 07:00:07.000 80 ms, 07:00:08.000 80 ms, 07:00:09.000 80 ms\n\
             \x20   it pages nobody: the rule has no notify\n\
             incident filtered l ({id}) open since 2026-11-22T07:00:12.000000Z, for 1 s: \
             all probes from east lost, those from west answered\n\
             \x20 lost fired for l/east/p at 2026-11-22T07:00:12.000000Z: 3 of 3 lost, and still does\n\
             \x20 oncall by command, firing, written at 2026-11-22T07:00:12.200000Z: \
             accepted at 2026-11-22T07:00:12.200000Z after 1 try\n",
            &id[..8]
        )
    );
}

#[test]
fn what_the_alerter_did_is_told_from_its_own_file() {
    let scene = Scene::new(&[("east", "p", &outage(4)), ("west", "q", &[UP; 14])]);
    scene.alerted(1);
    let now = scene.ask("l/east/p", None).unwrap();
    assert_eq!((now.kind, &now.basis), (Kind::Subject, &Basis::Alerter));
    let judged = &now.subjects[0].judged[0];
    assert_eq!((&*judged.rule, &*judged.state, judged.breaching), ("lost", "firing", 3));
    let values: Vec<Option<f64>> = judged.datapoints.iter().map(|of| of.value).collect();
    assert_eq!(values, [Some(1.0), Some(0.0), Some(0.0), Some(0.0), Some(0.0)]);
    let incident = &now.incidents[0];
    assert_eq!((incident.incident.opened_at, incident.incident.resolved_at), (second(12), None));
    assert_eq!((&*incident.told[0].receiver, &*incident.told[0].standing), ("oncall", "accepted"));
    assert!(incident.told[0].text.starts_with("FIRING filtered l: "), "{incident:?}");

    // By its id, or the beginning of that; and the same as JSON.
    let id = &incident.incident.id;
    for asked in [&**id, &id[..8]] {
        let by_id = scene.ask(asked, None).unwrap();
        assert_eq!((by_id.kind, &by_id.asked), (Kind::Incident, id));
        assert_eq!(by_id.subjects[0].subject, "l/east/p");
        let json = serde_json::to_string(&by_id).unwrap();
        assert_eq!(serde_json::from_str::<Explanation>(&json).unwrap(), by_id);
    }

    // A moment of the past is judged anew; what was told of it is still what the alerter's file says.
    let before = scene.ask("l/east/p", Some(second(11))).unwrap();
    assert_eq!((&*before.subjects[0].judged[0].state, before.incidents.len()), ("ok", 0));
    let text = words(&before);
    assert!(text.contains("2 of the newest 3 breach; it takes 3"), "{text}");
    assert!(text.contains("it pages oncall when it fires; it does not"), "{text}");
    let then = scene.ask("l/east/p", Some(second(13))).unwrap();
    assert_eq!(then.subjects[0].judged[0].state, "firing");
    assert_eq!(then.incidents[0].told, incident.told);
}

#[test]
fn an_incident_that_is_over_is_told_as_things_were_when_it_opened() {
    let scene = Scene::new(&[("east", "p", &[outage(4), vec![UP; 8]].concat()), ("west", "q", &[UP; 22])]);
    // It lay in the queue for days: a digest tells of it.
    scene.alerted(1);
    let over = scene.ask("l", None).unwrap();
    assert_eq!(over.subjects.iter().find(|of| of.subject == "l/east/p").unwrap().judged[0].state, "ok");
    let id = &over.incidents.iter().find(|of| of.incident.symptoms[0].rule == "lost").unwrap().incident.id;
    let explained = scene.ask(id, None).unwrap();
    assert_eq!(explained.at, second(12));
    assert!(matches!(explained.basis, Basis::History { observations: 26, .. }), "{:?}", explained.basis);
    assert_eq!(explained.subjects[0].judged[0].state, "firing");
    let states: Vec<(&str, &str)> =
        explained.incidents[0].told.iter().map(|of| (&*of.state, &*of.standing)).collect();
    assert_eq!(states, [("firing", "digested"), ("resolved", "digested"), ("resolved", "accepted")]);
    assert!(words(&explained).contains("5 in a row not below 1"), "{}", words(&explained));
}

#[test]
fn what_the_rules_of_today_say_of_a_time_that_nobody_judged_is_told_as_that() {
    let scene = Scene::new(&[("east", "p", &[UP; 10]), ("west", "q", &[UP; 14])]);
    scene.alerted(0);
    // What came after the alerter had ended.
    let scene = Scene { folder: scene.folder, ..Scene::new(&[]) };
    let mut writer = Writer::open(&scene.journals(), "east").unwrap();
    let observations = (10..14).map(|number| Observation {
        at: second(number),
        seq: number,
        body: Body::Probe {
            link: "l".into(),
            probe: "p".into(),
            outcome: Outcome::Lost(Lost::Timeout),
            detail: None,
        },
    });
    let batch = Batch {
        origin: Origin { site: "east".into(), collector: "c".into(), boot: "b".into() },
        number: 10,
        through: second(13),
        observations: observations.collect(),
    };
    writer.append(&batch, second(13)).unwrap();
    let text = words(&scene.ask("l/east/p", Some(second(13))).unwrap());
    assert!(text.contains("the rules were others then, or it was not judging"), "{text}");
    assert!(text.contains("no incident of it is known"), "{text}");
}

#[test]
fn a_site_that_is_not_heard_explains_why_nothing_pages() {
    let scene = Scene::new(&[("east", "p", &[UP; 10]), ("west", "q", &[UP; 60])]);
    let text = words(&scene.ask("l", Some(second(59))).unwrap());
    assert!(text.contains("site east is silent since 2026-11-22T07:00:13"), "{text}");
    assert!(text.contains("site-silent fired for east"), "{text}");
    let text = words(&scene.ask("east", Some(second(59))).unwrap());
    assert!(text.contains("the built-in site-silent watches it"), "{text}");

    let scene = Scene::new(&[("east", "p", &[UP; 10])]);
    let text = words(&scene.ask("l/west/q", Some(second(50))).unwrap());
    assert!(text.contains("site west was never heard of"), "{text}");
    assert!(text.contains("there is no datapoint yet that counts"), "{text}");
    let text = words(&scene.ask("l/east/p", Some(second(50))).unwrap());
    assert!(text.contains("site east is known up to 2026-11-22T07:00:09.000000Z, 41 s before"), "{text}");
    assert!(text.contains("incident alerter-blind alerter"), "{text}");
    let text = words(&scene.ask("l/east/p", Some(second(0) - Duration::from_secs(9))).unwrap());
    assert!(text.contains("the journals hold no observation of that time"), "{text}");
}

#[test]
fn what_a_silence_mutes_is_told_with_until_when_and_by_which() {
    let scene = Scene::new(&[("east", "p", &outage(4)), ("west", "q", &[UP; 14])]);
    let text = |until: &str| {
        let times = format!("from = \"2026-11-01T00:00:00Z\"\nuntil = \"{until}\"\n");
        format!("[[silence]]\nid = \"swap1\"\nlink = \"l\"\n{times}why = \"router swap\"\nby = \"ana\"\n")
    };
    scene.alerted_with(&text("2099-01-01T00:00:00Z"), "muted", 1);
    let explained = scene.ask("l/east/p", None).unwrap();
    let told = words(&explained);
    let until = "until 2099-01-01T00:00:00.000000Z by the silence swap1 of link l: router swap, says ana";
    assert!(told.contains(&format!("    muted {until}; what still fires then pages then\n")), "{told}");
    assert!(told.contains("of which nobody was told: muted by router swap (swap1)\n"), "{told}");
    assert!(
        told.contains("muted by router swap (swap1), told once that is over, if it still fires"),
        "{told}"
    );
    let silence = explained.subjects[0].judged[0].silence.clone().unwrap();
    assert_eq!((&*silence.id, &*silence.why), ("swap1", "router swap"));
    // Of a link what is in order says it in its line.
    let told = words(&scene.ask("l", None).unwrap());
    assert!(
        told.contains(&format!("  lost: ok; 0 of the newest 3 breach; it takes 3; muted {until}\n")),
        "{told}"
    );
}

#[test]
fn a_site_whose_silence_is_muted_tells_nobody_and_says_so() {
    let scene = Scene::new(&[("east", "p", &[UP; 10]), ("west", "q", &[UP; 60])]);
    let until = "2099-01-01T00:00:00Z";
    let silence =
        format!("[[silence]]\nid = \"move\"\nsite = \"east\"\nuntil = \"{until}\"\nwhy = \"it moves\"\n");
    scene.alerted_with(&silence, "accepted", 0);
    let text = words(&scene.ask("l", Some(second(59))).unwrap());
    assert!(
        text.contains("and site-silent is muted until 2099-01-01T00:00:00.000000Z by the silence move of site east: it moves\n"),
        "{text}"
    );
}

#[test]
fn what_there_is_not_is_told_with_the_nearest() {
    let scene = Scene::new(&[("east", "p", &outage(4)), ("west", "q", &[UP; 14])]);
    scene.alerted(1);
    let error = |asked: &str| scene.ask(asked, None).unwrap_err().to_string();
    let nothing = "no link, no subject of a rule, no incident";
    assert_eq!(
        error("l/eats/p"),
        format!("nothing is called 'l/eats/p': {nothing}; the nearest is 'l/east/p'")
    );
    let id = scene.ask("l", None).unwrap().incidents[0].incident.id.clone();
    let mistyped = format!("{}0{}", &id[..10], &id[11..]);
    let (near, told) = (format!("the nearest is '{id}'"), error(&mistyped));
    assert!(mistyped == id || told.ends_with(&near), "{told}");
    let told = error("something-else-altogether");
    assert!(told.ends_with("notifications have an incident's id"), "{told}");
    let told = scene.ask("l", Some(second(200))).unwrap_err().to_string();
    assert!(told.contains("has not come yet"), "{told}");
}

#[test]
fn a_rule_of_the_baseline_says_what_is_usual_or_that_it_is_not_known_yet() {
    let rule = "[[rule]]\nname = \"usual\"\nmetric = \"latency_ms\"\nabove = \"1.5 x baseline\"\nbreach = \"2 of 2\"\n";
    let mut scene = Scene::new(&[]);
    (scene.topology, scene.config) = read(&format!("{CONFIG}{rule}"));
    // A minute of seconds in each ten minutes, so that three hours are short.
    let mut writer = Writer::open(&scene.journals(), "east").unwrap();
    let mut number = 0;
    for start in (0..10_800).step_by(600) {
        let observations = (start..start + 60).map(|at| {
            number += 1;
            let outcome = Outcome::Reply { rtt_ms: 80.0 };
            let body = Body::Probe { link: "l".into(), probe: "p".into(), outcome, detail: None };
            Observation { at: second(at), seq: number, body }
        });
        let batch = Batch {
            origin: Origin { site: "east".into(), collector: "c".into(), boot: "b".into() },
            number: start / 600,
            through: second(start + 59),
            observations: observations.collect(),
        };
        writer.append(&batch, second(start + 60)).unwrap();
    }
    let ask = |at: u64| {
        let asked = Ask {
            asked: "l/east/p",
            at: Some(second(at)),
            now: second(20_000),
            since: None,
            topology: &scene.topology,
            config: &scene.config,
            file: &scene.file(),
            journal: &|_| scene.journals(),
        };
        words(&explain(&asked).unwrap())
    };
    let early = ask(1_830);
    assert!(early.contains("no baseline yet: it takes a whole hour of history, and it began at 2026-11-22T07:00:00.000000Z; until then it does not fire"), "{early}");
    assert!(
        early.contains("fires when 2 of the newest 2 of latency_ms are above 1.5 x baseline;"),
        "{early}"
    );
    let known = ask(10_230);
    assert!(
        known.contains("baseline 80 ms, the median over seven days, since 2026-11-22T07:00:00"),
        "{known}"
    );
    assert!(known.contains("are above 120 ms (1.5 x baseline); over when fewer than 2 are"), "{known}");
}
