//! The books: what the journals hold against what was published and what was told, to the last one.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::fs;
use std::time::Duration;

use crosswatch_shared::time::Timestamp;
use crosswatch_tests::judged;
use serde_json::Value;

use crate::world::{SITES, World, number, open, through};

/// How the period of the config and the grace add up: a period that began so long before event time is published.
const CLOSED_AFTER: Duration = Duration::from_secs(1 + 2);

/// What was found to be right.
#[derive(Debug)]
pub(crate) struct Audit {
    /// How many observations the journals hold.
    pub(crate) observations: usize,
    /// How many lives of collectors they are of.
    pub(crate) boots: usize,
    /// How many series and periods were compared.
    pub(crate) datapoints: usize,
    /// How many different notifications came.
    pub(crate) notifications: usize,
    /// How many of them came once more.
    pub(crate) repeated: usize,
    /// How many numbers of observations are missing in all boots together.
    pub(crate) holes: u64,
    /// How many messages the publisher and the alerter could not read.
    pub(crate) dead: [i64; 2],
}

/// Checks everything that is the same whatever happened in between. Nothing may run, and all must be drained.
pub(crate) fn audit(world: &World) -> Audit {
    let rows = rows(world);
    let (boots, holes) = check_journals(world, &rows);
    let datapoints = check_metrics(world, &rows);
    let (notifications, repeated) = check_notifications(world);
    let dead = ["publisher.db", "alerter.db"]
        .map(|file| number(&world.data().join(file), "SELECT count(*) FROM dead"));
    Audit { observations: rows.len(), boots, datapoints, notifications, repeated, holes, dead }
}

/// Every observation, as exported; the file it is in is what the rules are replayed from.
pub(crate) fn rows(world: &World) -> Vec<Value> {
    let text = world.tool("export");
    fs::write(world.folder.path().join("export.jsonl"), &text).unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Entries and batches are dense, no observation came twice, and what the journal took is exported. Gives how many boots
/// there were and how many observations of them never came to the journal.
fn check_journals(world: &World, rows: &[Value]) -> (usize, u64) {
    let (mut taken, mut boots) = (0_i64, 0);
    for site in SITES {
        let db = open(&world.journal(site)).unwrap();
        let mut query = db.prepare(
            "SELECT batch.id, boot.boot, number, observations FROM batch JOIN boot ON boot.id = batch.boot ORDER BY batch.id",
        );
        let query = query.as_mut().unwrap();
        let mut numbers: HashMap<String, i64> = HashMap::new();
        let entries = query
            .query_map([], |row| {
                Ok((
                    row.get::<_, i64>(0)?,
                    row.get::<_, String>(1)?,
                    row.get::<_, i64>(2)?,
                    row.get::<_, i64>(3)?,
                ))
            })
            .unwrap();
        for (place, entry) in (1..).zip(entries) {
            let (id, boot, number, observations) = entry.unwrap();
            assert_eq!(id, place, "the journal of {site} has lost an entry");
            // Not of a collector: put there by a test.
            if number < 0 {
                continue;
            }
            let next = numbers.entry(boot).or_default();
            assert_eq!(number, *next, "the journal of {site}, entry {id}: batches are dense in a boot");
            *next += 1;
            taken += observations;
        }
        boots += numbers.len();
    }
    assert_eq!(rows.len() as i64, taken, "exported is what was taken");

    let mut seqs: HashMap<&str, Vec<u64>> = HashMap::new();
    for row in rows {
        seqs.entry(row["boot"].as_str().unwrap()).or_default().push(row["seq"].as_u64().unwrap());
    }
    let mut holes = 0;
    for (boot, mut seqs) in seqs {
        let count = seqs.len() as u64;
        seqs.sort_unstable();
        seqs.dedup();
        assert_eq!(seqs.len() as u64, count, "boot {boot}: an observation twice");
        holes += seqs.last().unwrap() + 1 - count;
    }
    (boots, holes)
}

/// Each period of each series counts what was observed in it, and no period that is over is missing. Gives how many.
fn check_metrics(world: &World, rows: &[Value]) -> usize {
    let mut observed: BTreeMap<(String, String, String, i64), u64> = BTreeMap::new();
    for row in rows.iter().filter(|row| row["kind"] == "probe" && row["lost"] != "local") {
        let reply = row.get("rtt_ms").is_some();
        let metrics = ["PingSuccess", "PingLatency"].into_iter().take(1 + usize::from(reply));
        for metric in metrics {
            *observed.entry(key(metric, &row["site"], &row["probe"], &row["at"])).or_default() += 1;
        }
    }
    let mut published: BTreeMap<(String, String, String, i64), u64> = BTreeMap::new();
    for metric in ["PingSuccess", "PingLatency"] {
        for line in world.tool(&format!("metrics {metric} --format json")).lines() {
            let point: Value = serde_json::from_str(line).unwrap();
            let of = &point["dimensions"];
            let key = key(metric, &of["Site"], &of["Probe"], &point["start"]);
            *published.entry(key).or_default() += point["count"].as_u64().unwrap();
        }
    }
    let mut wrong = Vec::new();
    for (key, count) in &published {
        if observed.get(key) != Some(count) {
            wrong.push(format!("{key:?}: published {count}, observed {:?}", observed.get(key)));
        }
    }
    let grace = i64::try_from(CLOSED_AFTER.as_micros()).unwrap();
    for key in observed.keys().filter(|key| !published.contains_key(key)) {
        if key.3 + grace < through(&world.journal(&key.1)) {
            wrong.push(format!("{key:?}: not published"));
        }
    }
    assert!(wrong.is_empty(), "{} of {}: {:#?}", wrong.len(), published.len(), &wrong[..wrong.len().min(20)]);
    assert!(!published.is_empty());
    published.len()
}

fn key(metric: &str, site: &Value, probe: &Value, at: &Value) -> (String, String, String, i64) {
    let at: Timestamp = at.as_str().unwrap().parse().unwrap();
    let text = |value: &Value| value.as_str().unwrap().to_owned();
    (metric.to_owned(), text(site), text(probe), at.floor(Duration::from_secs(1)).as_micros())
}

/// What was judged is what the rules say of the export, and each incident of it was told: `firing` before `resolved`, and in
/// the same words where it was told again. Gives how many notifications there were and how many came again.
fn check_notifications(world: &World) -> (usize, usize) {
    let replayed: BTreeSet<_> = world
        .tool("replay --from export.jsonl --format jsonl")
        .lines()
        .map(|line| serde_json::from_str::<Value>(line).unwrap())
        .filter(|transition| transition["state"] == "firing" || transition["state"] == "resolved")
        .map(|transition| {
            ["at", "rule", "subject", "state"].map(|key| transition[key].as_str().unwrap().to_owned())
        })
        .collect();
    let file = world.data().join("alerter.db");
    assert_eq!(judged::transitions(&file), replayed, "what was judged live is what the rules say");

    let messages = world.hook.all();
    let mut told: HashMap<(String, String, u64), String> = HashMap::new();
    let mut came = 0;
    for message in messages.iter().filter(|message| message.accepted) {
        let json = message.json();
        // Judged by the wall clock, so the export does not have it.
        if json["rule"] == "site-silent" || json["rule"] == "alerter-blind" {
            continue;
        }
        let word = |key: &str| json[key].as_str().unwrap().to_owned();
        let (id, state, revision) = (word("id"), word("state"), json["revision"].as_u64().unwrap_or(0));
        let first = (id.clone(), "firing".to_owned(), 0);
        assert!(
            revision + u64::from(state == "resolved") == 0 || told.contains_key(&first),
            "out of order: {json}"
        );
        let first = told.entry((id, state, revision)).or_insert_with(|| message.body.clone());
        assert_eq!(*first, message.body, "told again, in other words");
        came += 1;
    }
    let of_links: Vec<_> =
        judged::incidents(&file).into_iter().filter(|incident| !incident.link.is_empty()).collect();
    for incident in &of_links {
        let states = ["firing", "resolved"].map(|state| (incident.id.clone(), state.to_owned(), 0));
        let is_told = states.map(|state| told.contains_key(&state));
        assert_eq!(is_told, [true, !incident.open], "{incident:?}");
    }
    let ids: BTreeSet<&String> = told.keys().map(|(id, ..)| id).collect();
    assert_eq!(ids.len(), of_links.len(), "told of what is no incident");
    (told.len(), came - told.len())
}
