//! Messages that this version cannot read, in a journal between those it can.

use std::time::Duration;

use crosswatch_shared::observation::{Batch, Body, Observation, Origin, Outcome};
use crosswatch_shared::time::Timestamp;
use crosswatch_shared::wire::encode_batch;
use crosswatch_tests::root::require_root;
use rusqlite::{Connection, params};

use crate::audit::audit;
use crate::world::{BOUND, OUTAGE_RULE, World, number, open, wait_until};

#[test]
fn what_cannot_be_read_goes_to_the_dead_letters_and_nothing_else_is_lost() {
    if !require_root("what_cannot_be_read_goes_to_the_dead_letters_and_nothing_else_is_lost") {
        return;
    }
    let world = World::new([3, 3], "every = \"50ms\", timeout = \"100ms\"", OUTAGE_RULE);
    let program = world.start("run");
    world.wait_for_event_time(Duration::from_secs(1));

    let poison = [
        newer(),
        b"{\"v\":1,\"site\":\"here\",\"observations\":[{\"kind\":".to_vec(),
        vec![0xff, 0, 0x80, b'{'],
    ];
    for payload in &poison {
        put(&world, payload);
    }
    let dead = |file: &str| number(&world.data().join(file), "SELECT count(*) FROM dead");
    wait_until("both have them", || [dead("publisher.db"), dead("alerter.db")] == [3, 3]);

    // Both go on: something is told, and periods are published.
    world.lose(&[2]);
    world.hook.wait_for(1, BOUND).iter().for_each(|message| assert!(message.body.contains("127.0.0.2")));
    world.lose(&[]);
    let _ = world.hook.wait_for(2, BOUND);
    world.wait_for_event_time(Duration::from_secs(5));
    let publisher = program.metric(&world, "crosswatch_publisher_dead_letters_total", "");
    let alerter = program.metric(&world, "crosswatch_alerter_batches_total", "\"dead\"");
    assert_eq!((publisher, alerter), (3.0, 3.0));
    assert_eq!(program.get(&world, "/readyz").status, 200);
    program.stop();
    world.drain();

    for file in ["publisher.db", "alerter.db"] {
        let db = open(&world.data().join(file)).unwrap();
        let mut query = db.prepare("SELECT source, reason, payload FROM dead ORDER BY id").unwrap();
        let letters: Vec<(String, String, Vec<u8>)> = query
            .query_map([], |row| Ok((row.get(0)?, row.get(1)?, row.get(2)?)))
            .unwrap()
            .collect::<rusqlite::Result<_>>()
            .unwrap();
        let payloads: Vec<_> = letters.iter().map(|(_, _, payload)| payload.clone()).collect();
        assert_eq!(payloads, poison, "{file}: byte for byte");
        let sources = letters.iter().all(|(source, ..)| source.starts_with("journal here, entry "));
        assert!(sources, "{file}: {letters:?}");
        assert!(
            letters[0].1.contains("wire version 2") && letters[0].1.contains("upgrade"),
            "{}",
            letters[0].1
        );
        assert!(letters.iter().all(|(_, reason, _)| !reason.is_empty()));
    }
    let audit = audit(&world);
    assert_eq!((audit.holes, audit.dead), (0, [3, 3]));
    let output = world.try_tool("export");
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(said.matches("skipped entry ").count(), 3, "the export says what it left out: {said}");
}

/// A batch as a later version could write it.
fn newer() -> Vec<u8> {
    let outcome = Outcome::Reply { rtt_ms: 1.0 };
    let body = Body::Probe { link: "loop2".into(), probe: "icmp:127.0.0.2".into(), outcome, detail: None };
    let batch = encode_batch(&Batch {
        origin: Origin { site: "here".into(), collector: "c".into(), boot: "b".into() },
        number: 0,
        through: Timestamp::from_secs(1_795_330_801),
        observations: vec![Observation { at: Timestamp::from_secs(1_795_330_800), seq: 0, body }],
    });
    batch.replacen('{', "{\"v\":2,", 1).into_bytes()
}

/// Writes an entry between the collector's own.
fn put(world: &World, payload: &[u8]) {
    let db = Connection::open(world.journal("here")).unwrap();
    db.busy_timeout(BOUND).unwrap();
    // Not one of the collector's batches, of which none may be missing.
    db.execute(
        "INSERT INTO batch (boot, number, written_at, through, first_at, last_at, observations, total, payload)
         SELECT boot, -1, written_at, through, last_at, last_at, 0, total, ?1 FROM batch ORDER BY id DESC LIMIT 1",
        params![payload],
    )
    .unwrap();
}
