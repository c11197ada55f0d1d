//! The tunnels of a real strongSwan, as Crosswatch asks for them: two charons in two namespaces, two tunnels between them,
//! and pings that go through.
//!
//! They need root; without it each test says so on standard error and checks that this is the reason.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a test's helpers fail by panicking")]

mod underlay;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant, SystemTime};

use crosswatch_ipsec::{CHILD, Detection, Fault, Link, TUNNELS};
use crosswatch_shared::observation::Tunnel;
use crosswatch_shared::time::Timestamp;
use crosswatch_strongswan::{Client, Failure, Kind, PATIENCE, tunnels};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use tokio::time::sleep;
use underlay::Underlay;

/// Nothing here takes longer than some seconds; it is a bound against hanging, not a measurement.
const BOUND: Duration = Duration::from_secs(60);

/// How often to look whether something has come about.
const LOOK: Duration = Duration::from_millis(20);

struct World {
    link: Link,
    underlay: Underlay,
    folder: tempfile::TempDir,
}

impl World {
    /// Both tunnels up; `None` below root, where it has said so.
    fn up() -> Option<Self> {
        let underlay = Underlay::new()?;
        let folder = tempfile::tempdir().unwrap();
        let link = Link::up(folder.path(), underlay.sides(), Detection::default()).unwrap();
        Some(Self { link, underlay, folder })
    }

    async fn near(&self, child: &str) -> Vec<Tunnel> {
        ask(&self.link.near().socket(), child).await.unwrap()
    }

    async fn far(&self, child: &str) -> Vec<Tunnel> {
        ask(&self.link.far().socket(), child).await.unwrap()
    }

    /// Asks the near end until it sees the tunnels up and down like this.
    async fn near_when(&self, up: [bool; 2]) -> Vec<Tunnel> {
        let since = Instant::now();
        loop {
            let seen = self.near(CHILD).await;
            if seen.iter().map(|tunnel| tunnel.up).eq(up) {
                return seen;
            }
            assert!(since.elapsed() < BOUND, "not {up:?}: {seen:?}");
            sleep(LOOK).await;
        }
    }
}

async fn ask(socket: &Path, child: &str) -> Result<Vec<Tunnel>, Failure> {
    tunnels(socket, child, now(), PATIENCE).await
}

fn now() -> Timestamp {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).unwrap();
    Timestamp::from_micros(now.as_micros().try_into().unwrap())
}

/// Address, up, routes, message.
type Row = (String, bool, u32, String);

fn row(outside_ip: &str, up: bool, routes: u32, message: &str) -> Row {
    (outside_ip.to_owned(), up, routes, message.to_owned())
}

fn rows(tunnels: &[Tunnel]) -> Vec<Row> {
    tunnels
        .iter()
        .map(|tunnel| row(&tunnel.outside_ip, tunnel.up, tunnel.accepted_routes, &tunnel.message))
        .collect()
}

#[tokio::test]
async fn both_ends_see_both_tunnels_up() {
    let began = now();
    let Some(world) = World::up() else { return };
    world.underlay.ping();
    let (near, far) = (world.near(CHILD).await, world.far(CHILD).await);
    assert_eq!(
        rows(&near),
        [
            row("198.51.100.1", true, 2, "tunnel-1: IKE ESTABLISHED"),
            row("198.51.100.2", true, 1, "tunnel-2: IKE ESTABLISHED"),
        ]
    );
    assert_eq!(
        rows(&far),
        [
            row("192.0.2.1", true, 1, "tunnel-1: IKE ESTABLISHED"),
            row("192.0.2.1", true, 1, "tunnel-2: IKE ESTABLISHED"),
        ]
    );
    // charon tells ages in whole seconds.
    let second = 1_000_000;
    for tunnel in near.iter().chain(&far) {
        let since = tunnel.since.unwrap().as_micros();
        assert!((began.as_micros() - second..=now().as_micros() + second).contains(&since), "{tunnel:?}");
    }
    // By a glob the same, by another name nothing.
    assert_eq!(rows(&world.near("n?t*").await), rows(&near));
    assert_eq!(world.near("voice").await, []);
    let mut client = Client::connect(&world.link.near().socket(), PATIENCE).await.unwrap();
    let version = client.version().await.unwrap();
    assert_eq!(version.daemon, "charon");
    assert!(version.version.starts_with(|first: char| first.is_ascii_digit()), "{version:?}");
}

#[tokio::test]
async fn a_child_that_is_ended_is_down_and_the_other_tunnel_is_not() {
    let Some(world) = World::up() else { return };
    world.link.near().terminate(TUNNELS[0]).unwrap();
    let down = row("198.51.100.1", false, 0, "tunnel-1: IKE ESTABLISHED, no child SA");
    let up = row("198.51.100.2", true, 1, "tunnel-2: IKE ESTABLISHED");
    let near = world.near(CHILD).await;
    assert_eq!(rows(&near), [down, up]);
    assert_eq!(near[0].since, None);
    let far = world.far(CHILD).await;
    assert_eq!(far.iter().map(|tunnel| tunnel.up).collect::<Vec<_>>(), [false, true]);
    world.underlay.ping();

    world.link.near().initiate(TUNNELS[0]).unwrap();
    assert!(world.near(CHILD).await[0].up);
}

#[tokio::test]
async fn a_killed_peer_is_down_and_comes_back_with_a_new_since() {
    let Some(mut world) = World::up() else { return };
    let before = world.near_when([true, true]).await;
    world.link.ends()[1].kill();
    let down = world.near_when([false, false]).await;
    for tunnel in &down {
        assert_eq!((tunnel.since, tunnel.accepted_routes), (None, 0));
        assert!(
            tunnel.message.ends_with(": IKE CONNECTING") || tunnel.message.ends_with(": no IKE SA"),
            "{tunnel:?}"
        );
    }
    assert!(!world.underlay.passes(56));
    // The near end has it connecting for as long as nobody answers.
    let since = Instant::now();
    while world.near(CHILD).await[0].message != "tunnel-1: IKE CONNECTING" {
        assert!(since.elapsed() < BOUND);
        sleep(LOOK).await;
    }

    // By itself: the near end tries on and on.
    world.link.start(1).unwrap();
    let after = world.near_when([true, true]).await;
    for (before, after) in before.iter().zip(&after) {
        assert!(after.since > before.since, "{before:?} {after:?}");
    }
    world.underlay.ping();
}

#[tokio::test]
async fn rekeying_keeps_a_tunnel_up_and_makes_since_newer() {
    let Some(world) = World::up() else { return };
    let before = world.near(CHILD).await[0].since.unwrap();
    // The age counts in whole seconds: so that a new one is told from the old.
    while now().as_micros() < before.as_micros() + 3_000_000 {
        let near = &world.near(CHILD).await[0];
        let moved = near.since.unwrap().as_micros() - before.as_micros();
        assert!(near.up && moved.abs() < 1_500_000, "{near:?}: it is as old as it is");
        sleep(LOOK).await;
    }
    world.link.near().rekey(TUNNELS[0]).unwrap();
    let since = Instant::now();
    loop {
        let near = world.near(CHILD).await;
        assert_eq!(near.len(), 2, "{near:?}");
        assert!(near.iter().all(|tunnel| tunnel.up), "{near:?}");
        assert_eq!((near[0].accepted_routes, near[1].accepted_routes), (2, 1), "{near:?}");
        if near[0].since.unwrap().as_micros() > before.as_micros() + 1_500_000 {
            break;
        }
        assert!(since.elapsed() < BOUND, "{near:?}");
    }
}

/// charon's answer is no snapshot: asked often enough while IKE SAs are replaced, it has been seen without the new one.
#[tokio::test]
async fn replacing_ike_associations_never_shows_a_tunnel_down() {
    let Some(world) = World::up() else { return };
    for _ in 0..20 {
        world.link.near().rekey_ike(TUNNELS[0]).unwrap();
        world.link.far().rekey_ike(TUNNELS[1]).unwrap();
        for _ in 0..100 {
            let (near, far) = (world.near(CHILD).await, world.far(CHILD).await);
            assert_eq!((near.len(), far.len()), (2, 2), "{near:?} {far:?}");
            assert!(near.iter().chain(&far).all(|tunnel| tunnel.up), "{near:?} {far:?}");
        }
    }
}

#[tokio::test]
async fn a_stopped_daemon_is_not_running() {
    let Some(mut world) = World::up() else { return };
    let socket = world.link.near().socket();
    world.link.ends()[0].kill();
    let failure = ask(&socket, CHILD).await.unwrap_err();
    assert_eq!(failure.kind, Kind::NotRunning, "{failure}");
    // It says goodbye: the other end need not find out.
    world.link.start(0).unwrap();
    world.link.initiate().unwrap();
    world.link.ends()[0].stop().unwrap();
    let far = world.far(CHILD).await;
    assert!(far.iter().all(|tunnel| !tunnel.up && tunnel.message.ends_with(": no IKE SA")), "{far:?}");
    assert!(matches!(ask(&socket, CHILD).await, Err(failure) if failure.kind == Kind::NotRunning));
}

#[tokio::test]
async fn a_daemon_that_hangs_is_a_timeout_and_answers_when_it_goes_on() {
    let Some(world) = World::up() else { return };
    let (socket, pid) = (world.link.near().socket(), world.link.near().pid().unwrap());
    kill(pid, Signal::SIGSTOP).unwrap();
    // Its other threads go on until the one that takes the signal has run.
    assert_eq!(waitpid(pid, Some(WaitPidFlag::WUNTRACED)), Ok(WaitStatus::Stopped(pid, Signal::SIGSTOP)));
    let failure = tunnels(&socket, CHILD, now(), Duration::from_millis(300)).await.unwrap_err();
    assert_eq!(failure.kind, Kind::Timeout, "{failure}");
    kill(pid, Signal::SIGCONT).unwrap();
    assert_eq!(world.near(CHILD).await.len(), 2);
}

/// The charons' own configurations and logs do not have it either.
#[tokio::test]
async fn the_pre_shared_key_is_in_its_file_and_nowhere_else() {
    let Some(world) = World::up() else { return };
    let file = world.link.secret().file();
    assert_eq!(fs::metadata(file).unwrap().permissions().mode() & 0o777, 0o600);
    let text = fs::read_to_string(file).unwrap();
    let key = text.split_once("0x").unwrap().1.split_whitespace().next().unwrap().to_owned();
    assert_eq!(key.len(), 64);
    let bytes: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&key[at..at + 2], 16).unwrap()).collect();

    let mut kept = format!("{:?}{:?}", world.near("*").await, world.far("*").await);
    let mut client = Client::connect(&world.link.near().socket(), PATIENCE).await.unwrap();
    kept.push_str(&format!("{:?}{client:?}", client.version().await.unwrap()));
    assert!(kept.contains("ESTABLISHED") && !kept.contains(&key));

    let mut seen = 0;
    for end in ["near", "far"] {
        for entry in fs::read_dir(world.folder.path().join(end)).unwrap() {
            let path = entry.unwrap().path();
            if path.is_file() {
                let text = fs::read(&path).unwrap();
                let has = |what: &[u8]| text.windows(what.len()).any(|part| part.eq_ignore_ascii_case(what));
                assert!(!has(key.as_bytes()) && !has(&bytes), "{}", path.display());
                seen += 1;
            }
        }
    }
    assert!(seen >= 6, "configurations and logs: {seen}");
    drop(world.link);
    assert!(!world.folder.path().join("secret.conf").exists());
}

#[tokio::test]
async fn the_first_tunnel_is_used_while_it_is_up_and_then_the_second() {
    let Some(world) = World::up() else { return };
    let sent = || TUNNELS.map(|tunnel| world.link.near().sent(tunnel).unwrap());
    world.underlay.ping();
    let first = sent();
    assert!(first[0] > 0 && first[1] == 0, "{first:?}");

    world.link.set([Fault::Cut, Fault::None]).unwrap();
    world.near_when([false, true]).await;
    world.underlay.ping();
    assert!(sent()[1] > 0);

    world.link.set([Fault::Cut; 2]).unwrap();
    world.link.wait_for([false, false]).unwrap();
    world.near_when([false, false]).await;
    assert!(!world.underlay.passes(56));

    world.link.set([Fault::None; 2]).unwrap();
    world.near_when([true, true]).await;
    world.underlay.ping();
    let back = sent();
    assert!(back[0] > 0 && back[1] == 0, "{back:?}");
}

#[tokio::test]
async fn one_way_is_down_and_a_smaller_mtu_is_not() {
    let Some(world) = World::up() else { return };
    assert!(world.underlay.passes(1300));
    world.link.set([Fault::Mtu { largest: 1000 }; 2]).unwrap();
    assert!(!world.underlay.passes(1300), "large packets vanish");
    world.underlay.ping();
    assert!(world.near(CHILD).await.iter().all(|tunnel| tunnel.up), "what is small goes on, IKE too");

    world.link.set([Fault::None, Fault::Mtu { largest: 1000 }]).unwrap();
    assert!(world.underlay.passes(1300), "the first tunnel is whole");

    world.link.set([Fault::OneWay { from: 1 }, Fault::None]).unwrap();
    world.near_when([false, true]).await;
    world.link.set([Fault::OneWay { from: 0 }; 2]).unwrap();
    world.near_when([false, false]).await;
}

/// As the lab does it: who breaks a link is not who made it.
#[tokio::test]
async fn the_link_of_another_process_is_changed_and_stays() {
    let Some(mut world) = World::up() else { return };
    let other = Link::at(world.folder.path(), world.underlay.sides(), Detection::default());
    assert_eq!(other.states().unwrap(), [true, true]);
    other.near().terminate(TUNNELS[1]).unwrap();
    assert_eq!(other.states().unwrap(), [true, false]);
    drop(other);
    world.underlay.ping();

    // Its charon is started by whoever keeps processes, told by it, and by then the tunnels are its own again.
    world.link.ends()[0].kill();
    let mut started = world.link.near().command().spawn().unwrap();
    let mut other = Link::at(world.folder.path(), world.underlay.sides(), Detection::default());
    other.ends()[0].wait_until_it_answers().unwrap();
    other.tell(0).unwrap();
    other.initiate().unwrap();
    drop(other);
    world.near_when([true, true]).await;
    world.underlay.ping();
    started.kill().unwrap();
    started.wait().unwrap();
}
