//! Two regions joined by the WAN alone, which writes down what it does; and what it wrote of the prober's packets.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::PathBuf;
use std::process::{Child, Command};
use std::sync::atomic::{AtomicU32, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crosswatch_lab::wan::{self, Passage, Wan};
use crosswatch_lab::{HOST_PORT, Site};
use nix::sched::{CloneFlags, setns};
use tempfile::TempDir;

/// Against hanging, not a measurement.
pub(crate) const BOUND: Duration = Duration::from_secs(60);

pub(crate) struct World {
    folder: TempDir,
    names: [String; 2],
    forwarder: Child,
}

impl World {
    /// `options` are those of `lab wan` besides where its parts are.
    pub(crate) fn new(options: &[&str]) -> Self {
        static MADE: AtomicU32 = AtomicU32::new(0);
        let stem = format!("cwwan{}-{}", std::process::id(), MADE.fetch_add(1, Ordering::Relaxed));
        let names = ["a", "b"].map(|side| format!("{stem}{side}"));
        for (site, name) in Site::ALL.into_iter().zip(&names) {
            ip(&format!("netns add {name}"));
            ip(&format!("-n {name} link set lo up"));
            ip(&format!("-n {name} tuntap add dev wan mode tun"));
            ip(&format!("-n {name} addr add {}/32 dev wan", site.address()));
            ip(&format!("-n {name} link set wan up"));
            ip(&format!("-n {name} route add {}/32 dev wan src {}", site.other().address(), site.address()));
        }
        let folder = tempfile::tempdir().unwrap();
        let forwarder = Command::new(env!("CARGO_BIN_EXE_lab"))
            .args(["wan", "--region", &names[0], "--region", &names[1], "--socket"])
            .arg(folder.path().join("wan.sock"))
            .arg("--record")
            .arg(folder.path().join("record"))
            .args(options)
            .spawn()
            .unwrap();
        let world = Self { folder, names, forwarder };
        until("a connection over the WAN", || {
            let there = (Site::EuWest1.address(), HOST_PORT).into();
            world.inside(|| std::net::TcpStream::connect_timeout(&there, BOUND).is_ok())
        });
        world
    }

    /// The forwarder's id.
    #[allow(dead_code, reason = "the bench alone asks")]
    pub(crate) fn process(&self) -> u32 {
        self.forwarder.id()
    }

    pub(crate) fn wan(&self) -> Wan {
        Wan::at(self.folder.path().join("wan.sock"))
    }

    /// Runs this in us-east-1, where ping sockets are allowed.
    pub(crate) fn inside<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        thread::scope(|scope| {
            let thread = scope.spawn(|| {
                let name = PathBuf::from("/run/netns").join(&self.names[0]);
                setns(File::open(name).unwrap(), CloneFlags::CLONE_NEWNET).unwrap();
                fs::write("/proc/sys/net/ipv4/ping_group_range", "0 2147483647").unwrap();
                work()
            });
            thread.join().unwrap()
        })
    }

    /// What was handed over of the prober's packets, once nothing is under way any more.
    pub(crate) fn record(&self) -> Record {
        until("the end of what is under way", || {
            let counts = self.wan().report().unwrap().counts;
            counts
                .iter()
                .all(|of| of.taken + of.doubled == of.delivered + of.lost + of.overflowed + of.refused)
        });
        let mut record = Record::default();
        for passage in wan::read(&self.folder.path().join("record")).unwrap() {
            record.add(&passage);
        }
        record
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.forwarder.kill();
        let _ = self.forwarder.wait();
        for name in &self.names {
            let _ = Command::new("ip").args(["netns", "del", name]).output();
        }
    }
}

/// A packet of the prober's: of which probe, its place in the burst, and the number of the sending.
pub(crate) type Mark = (u32, u32, u64);

/// What was handed over, in that order: whose packet it was, and how long it was under way.
#[derive(Debug, Default)]
pub(crate) struct Record {
    pub(crate) requests: Vec<(Mark, Duration)>,
    pub(crate) replies: Vec<(Mark, Duration)>,
}

impl Record {
    fn add(&mut self, passage: &Passage) {
        let bytes = passage.bytes();
        // IPv4 without options, ICMP, an echo or its reply, and what the prober puts into one.
        if bytes.len() < 52 || bytes[0] != 0x45 || bytes[9] != 1 || !matches!(bytes[20], 0 | 8) {
            return;
        }
        let word = |place: usize| u32::from_be_bytes(bytes[place..place + 4].try_into().unwrap());
        let mark = (word(28), word(32), u64::from_be_bytes(bytes[36..44].try_into().unwrap()));
        let of = if bytes[20] == 8 { &mut self.requests } else { &mut self.replies };
        of.push((mark, passage.held()));
    }

    /// How long each packet was under way there and back, where both were handed over once.
    pub(crate) fn round_trips(&self) -> HashMap<Mark, Duration> {
        let single = |of: &[(Mark, Duration)]| {
            let mut seen: HashMap<Mark, (Duration, u32)> = HashMap::new();
            for (mark, held) in of {
                seen.entry(*mark).or_insert((*held, 0)).1 += 1;
            }
            seen.retain(|_, (_, count)| *count == 1);
            seen
        };
        let back = single(&self.replies);
        let there = single(&self.requests).into_iter();
        there.filter_map(|(mark, (held, _))| Some((mark, held + back.get(&mark)?.0))).collect()
    }
}

fn until(what: &str, mut so: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < BOUND, "not within {BOUND:?}: {what}");
    }
}

fn ip(arguments: &str) {
    let out = Command::new("ip").args(arguments.split(' ')).output().unwrap();
    assert!(out.status.success(), "ip {arguments}: {}", String::from_utf8_lossy(&out.stderr));
}
