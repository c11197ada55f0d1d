//! Full disks: the journal's, and that of the consumers' own files.

use std::fs::{self, File};
use std::io::{ErrorKind, Write};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::thread;
use std::time::Duration;

use crosswatch_tests::root::require_root;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use serde_json::Value;

use crate::audit::{audit, rows};
use crate::world::{BOUND, OUTAGE_RULE, Program, World, wait_until};

/// How many observations of a site wait for its journal at most.
const WAITING: u64 = 100_000;

/// Calls a function on a thread where a small disk is mounted on the folder; it goes with the thread.
fn with_small_disk<T: Send>(folder: &Path, bytes: u64, act: impl FnOnce() -> T + Send) -> T {
    thread::scope(|scope| {
        let thread = scope.spawn(|| {
            unshare(CloneFlags::CLONE_NEWNS).unwrap();
            let none = None::<&str>;
            mount(none, "/", none, MsFlags::MS_REC | MsFlags::MS_PRIVATE, none).unwrap();
            let size = format!("size={bytes}");
            mount(Some("tmpfs"), folder, Some("tmpfs"), MsFlags::empty(), Some(&*size)).unwrap();
            act()
        });
        thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
    })
}

/// Fills a disk to its last byte until dropped.
struct Ballast<'a>(&'a Path);

impl<'a> Ballast<'a> {
    fn new(path: &'a Path) -> Self {
        let mut file = File::create(path).unwrap();
        for size in [1 << 16, 1] {
            let bytes = vec![1; size];
            while match file.write_all(&bytes) {
                Ok(()) => true,
                Err(error) if error.kind() == ErrorKind::StorageFull => false,
                Err(error) => panic!("{}: {error}", path.display()),
            } {}
        }
        Self(path)
    }
}

impl Drop for Ballast<'_> {
    fn drop(&mut self) {
        let _ = fs::remove_file(self.0);
    }
}

#[test]
fn on_a_full_disk_probing_goes_on_and_the_gap_is_recorded() {
    if !require_root("on_a_full_disk_probing_goes_on_and_the_gap_is_recorded") {
        return;
    }
    let world = World::new([120, 1], "every = \"10ms\", timeout = \"200ms\"", OUTAGE_RULE);
    let journals = world.data().join("journal");
    fs::create_dir_all(&journals).unwrap();
    with_small_disk(&journals, 64 << 20, || {
        let mut program = world.start("run");
        world.wait_for_event_time(Duration::from_secs(1));
        let ballast_file = journals.join("ballast");
        let ballast = Ballast::new(&ballast_file);
        program.process.wait_for_text("the journal took nothing", BOUND);

        let ready = program.get(&world, "/readyz");
        assert_eq!(ready.status, 503);
        assert!(ready.body.contains("here.db") && ready.body.contains("free the disk"), "{}", ready.body);
        assert_eq!(program.get(&world, "/healthz").status, 200, "it lives");

        let waiting = || program.metric(&world, "crosswatch_collector_spool_observations", "here");
        wait_until("as much waits as may", || waiting() >= WAITING as f64);
        let sent = || program.metric(&world, "crosswatch_collector_probes_sent_total", "here");
        let (sent_then, resident_then) = (sent(), program.process.resident());
        wait_until("probing goes on", || sent() >= sent_then + 20_000.0);
        // What one batch and one look hold besides.
        assert!(waiting() < WAITING as f64 + 15_000.0, "{}", waiting());
        let resident = program.process.resident();
        assert!(resident < resident_then + (8 << 20), "{resident_then} bytes grew to {resident}");

        drop(ballast);
        world.wait_for_event_time(Duration::from_secs(5));
        wait_until("it is ready again", || program.get(&world, "/readyz").status == 200);
        let dropped = program.metric(&world, "crosswatch_collector_dropped_observations_total", "here");
        program.stop();
        world.drain();

        let audit = audit(&world);
        assert!(audit.holes > 0);
        assert_eq!(dropped, audit.holes as f64, "the metric counts what is missing");
        check_gap(&rows(&world), audit.holes);
    });
}

/// The gap is one, it is on record with its size, in one piece or more, and all that came after it is there.
fn check_gap(rows: &[Value], holes: u64) {
    let here: Vec<&Value> = rows.iter().filter(|row| row["site"] == "here").collect();
    let records: Vec<&str> = here
        .iter()
        .filter(|row| row["kind"] == "collection" && row["source"] == "journal" && row["ok"] == false)
        .filter_map(|row| row["error"].as_str())
        .collect();
    let lost = |error: &&str| error.split_once(" observations from ")?.0.parse::<u64>().ok();
    assert_eq!(records.iter().filter_map(lost).sum::<u64>(), holes, "{records:#?}");
    assert!(
        records.iter().any(|error| error.contains("were lost") && error.contains("here.db")),
        "{records:#?}"
    );

    let mut seqs: Vec<u64> = here.iter().map(|row| row["seq"].as_u64().unwrap()).collect();
    seqs.sort_unstable();
    let gaps: Vec<_> = seqs.windows(2).filter(|pair| pair[1] != pair[0] + 1).collect();
    let [gap] = gaps.as_slice() else { panic!("gaps: {gaps:?}") };
    assert_eq!(gap[1] - gap[0] - 1, holes);
    let after = seqs.last().unwrap() + 1 - gap[1];
    assert!(after > WAITING, "the newest {WAITING} and what came since: {after}");
}

#[test]
fn on_a_full_disk_the_consumers_wait_and_lose_nothing() {
    if !require_root("on_a_full_disk_the_consumers_wait_and_lose_nothing") {
        return;
    }
    let world = World::new([3, 3], "every = \"50ms\", timeout = \"100ms\"", OUTAGE_RULE);
    let (data, elsewhere) = (world.data(), world.folder.path().join("journals"));
    fs::create_dir_all(&data).unwrap();
    fs::create_dir(&elsewhere).unwrap();
    with_small_disk(&data, 8 << 20, || {
        symlink(&elsewhere, data.join("journal")).unwrap();
        let mut program = world.start("run");
        world.lose(&[2]);
        wait_for(&world, 2, "firing");

        let ballast_file = data.join("ballast");
        let ballast = Ballast::new(&ballast_file);
        // Each is told of once it has a page to write; which comes first is chance.
        wait_until("both fail", || both_fail(&program, &world));
        program.process.wait_for_text("nothing was published or lost; it is tried again", BOUND);
        world.lose(&[3]);
        world.wait_for_event_time(Duration::from_secs(2));
        assert!(both_fail(&program, &world), "they fail as long as the disk is full");

        drop(ballast);
        wait_for(&world, 3, "firing");
        wait_for(&world, 2, "resolved");
        world.lose(&[]);
        wait_for(&world, 3, "resolved");
        wait_until("all is well", || program.get(&world, "/readyz").status == 200);
        world.wait_for_event_time(Duration::from_secs(5));
        program.stop();
        world.drain();
        let audit = audit(&world);
        assert_eq!((audit.holes, audit.dead), (0, [0, 0]));
    });
}

fn both_fail(program: &Program, world: &World) -> bool {
    let ready = program.get(world, "/readyz").body;
    ["publisher: ", "alerter: "].iter().all(|part| ready.contains(part)) && ready.contains("free the disk")
}

fn wait_for(world: &World, host: u8, state: &str) {
    let address = format!("127.0.0.{host}");
    world.hook.wait_until(BOUND, |messages| {
        let is_it = |json: Value| {
            json["subject"].as_str().is_some_and(|subject| subject.ends_with(&address))
                && json["state"] == state
        };
        messages.iter().any(|message| is_it(message.json())).then_some(())
    });
}
